//! The messages of OTLP as tables, one row a field: its number, its JSON name, how often it comes
//! and what it holds. Scanner, rewriter and JSON decoder all follow these rows and hold no code per
//! message; a new field is a new row. It never reads a byte.
//!
//! Source of every row: opentelemetry-proto 1.10 (the `.proto` files named in each table's module).

mod common;
mod key;
mod logs;
mod look;
mod metrics;
mod profiles;
mod traces;

use super::signal::Signal;

use look::{Looks, NUMBERS};

pub(super) use common::{ANY_VALUE, ENTITY_REF, KEY_VALUE, RESOURCE, SCOPE};
pub(super) use key::{Key, WINDOW};
pub(super) use look::Look;

/// Deepest nesting of `AnyValue` in `AnyValue` (arrays and lists), the outermost one counted.
pub(super) const MAX_NESTING: u32 = 32;

/// Every reader cuts an int32 down to its 32 bits.
pub(super) const INT32: u64 = 0xFFFF_FFFF;

/// Most `ResourceX` entries in one request. It bounds what the stamp can add to a request.
pub(super) const MAX_RESOURCES: u64 = 1_000;

/// Fields that have one number in every signal, and those that the rewriter looks for by number.
pub(super) mod number {
    /// `ExportXServiceRequest.resource_x`
    pub(in super::super) const ENTRIES: u32 = 1;
    /// `ExportProfilesServiceRequest.dictionary`
    pub(in super::super) const DICTIONARY: u32 = 2;
    /// `ProfilesDictionary.string_table`
    pub(in super::super) const STRING_TABLE: u32 = 5;
    /// `ProfilesDictionary.attribute_table`
    pub(in super::super) const ATTRIBUTE_TABLE: u32 = 6;
    /// `KeyValueAndUnit.key_strindex`
    pub(in super::super) const UNIT_KEY_STRINDEX: u32 = 1;
    /// `ResourceX.resource`
    pub(in super::super) const RESOURCE: u32 = 1;
    /// `ResourceX.scope_x`
    pub(in super::super) const SCOPES: u32 = 2;
    /// `Resource.attributes`
    pub(in super::super) const RESOURCE_ATTRIBUTES: u32 = 1;
    /// `Resource.entity_refs`
    pub(in super::super) const ENTITY_REFS: u32 = 3;
    /// `EntityRef.id_keys`
    pub(in super::super) const ID_KEYS: u32 = 3;
    /// `EntityRef.description_keys`
    pub(in super::super) const DESCRIPTION_KEYS: u32 = 4;
    /// `ScopeX.scope`
    pub(in super::super) const SCOPE: u32 = 1;
    /// `InstrumentationScope.attributes`
    pub(in super::super) const SCOPE_ATTRIBUTES: u32 = 3;
    /// `ScopeX.spans`, `.log_records`, `.metrics`, `.profiles`
    pub(in super::super) const ITEMS: u32 = 2;
    /// `KeyValue.key`
    pub(in super::super) const KEY: u32 = 1;
    /// `KeyValue.value`
    pub(in super::super) const VALUE: u32 = 2;
    /// `KeyValue.key_strindex`
    pub(in super::super) const KEY_STRINDEX: u32 = 3;
    /// `AnyValue.array_value`
    pub(in super::super) const ARRAY_VALUE: u32 = 5;
    /// `AnyValue.kvlist_value`
    pub(in super::super) const KVLIST_VALUE: u32 = 6;
    /// `AnyValue.string_value_strindex`
    pub(in super::super) const STRING_VALUE_STRINDEX: u32 = 8;
    /// `ArrayValue.values`, `KeyValueList.values`
    pub(in super::super) const VALUES: u32 = 1;
    /// `AnyValue.string_value`
    pub(in super::super) const STRING_VALUE: u32 = 1;
}

/// An id of fixed length; an empty one is the same as none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Id {
    /// The trace of the item itself, which every item must have: 16 bytes.
    OwnTrace,
    /// A trace that what holds it belongs to, where it is set: 16 bytes.
    SetTrace,
    /// A trace that is only pointed to: 16 bytes.
    OtherTrace,
    /// 8 bytes.
    Span,
    /// 16 bytes.
    Profile,
}

impl Id {
    /// Its length in bytes, if it is not empty.
    pub(super) const fn len(self) -> usize {
        match self {
            Self::Span => 8,
            _ => 16,
        }
    }

    /// Whether the trace gate looks at it.
    pub(super) const fn is_gated(self) -> bool {
        matches!(self, Self::OwnTrace | Self::SetTrace)
    }
}

/// What a field holds, as the `.proto` file says it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Bool,
    Int32,
    Int64,
    Uint32,
    Uint64,
    /// Zigzag on the wire.
    Sint32,
    Fixed32,
    Fixed64,
    Sfixed64,
    Double,
    /// The names and their numbers.
    Enum(&'static [(&'static str, i32)]),
    String,
    Bytes,
    Id(Id),
    /// A place in the dictionary of a profile; no other signal has one.
    Index,
    KeyValue,
    AnyValue,
    Message(&'static Table),
    /// One of the `ResourceX`.
    Entry(&'static Table),
    /// A span, a metric, a log record, a profile.
    Item(&'static Table),
    /// A field that OTLP removed and that the Collector still reads: refused, with what to use.
    Legacy(&'static str),
}

/// How often a field comes, and when JSON's default values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
    /// Once; a default value says as much as no value.
    Plain,
    /// Once, and a default value says more than no value.
    Optional,
    /// Any number of times.
    Repeated,
    /// Any number of scalars, usually in one length-delimited field. Readers take both forms.
    Packed,
    /// One of the message's one `oneof`; a default value says more than no value.
    Member,
}

/// A field.
#[derive(Debug)]
pub(super) struct Row {
    /// The field's number.
    pub(super) number: u32,
    /// The lowerCamelCase name; the name in the .proto file, in `snake_case`, is known from it.
    pub(super) name: &'static str,
    /// The same, to be looked for in a document.
    pub(super) key: Key,
    /// How often it comes.
    pub(super) label: Label,
    /// What it holds.
    pub(super) kind: Kind,
}

/// Wire types as they stand in the low bits of a tag.
const VARINT: u32 = 0;
const FIXED64: u32 = 1;
pub(super) const LEN: u32 = 2;
const FIXED32: u32 = 5;

impl Kind {
    /// The wire type of one value.
    const fn wire(self) -> u32 {
        match self {
            Self::Bool
            | Self::Int32
            | Self::Int64
            | Self::Uint32
            | Self::Uint64
            | Self::Sint32
            | Self::Enum(_)
            | Self::Index => VARINT,
            Self::Fixed32 => FIXED32,
            Self::Fixed64 | Self::Sfixed64 | Self::Double => FIXED64,
            _ => LEN,
        }
    }
}

/// The messages that fields hold, by their numbers; [`NOTHING`] where a field holds none.
#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "evaluated by the compiler alone, which refuses a number that has no place"
)]
const fn inners(rows: &[Row]) -> [&'static Table; NUMBERS] {
    let mut inners = [&NOTHING; NUMBERS];
    let mut at = 0;
    while at < rows.len() {
        if let Kind::Message(table) | Kind::Entry(table) | Kind::Item(table) = rows[at].kind {
            inners[rows[at].number as usize] = table;
        }
        at += 1;
    }
    inners
}

/// One message.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "five answers that have nothing to do with one another")]
pub(super) struct Table {
    /// All its fields.
    pub(super) rows: &'static [Row],
    /// For every string, value and message in it.
    full: Looks,
    /// For the trace gate's ids alone.
    brief: Looks,
    inners: [&'static Table; NUMBERS],
    /// Whether a field that is not known is an offence: the message stands outside the items, so
    /// that such a field could mean something for all of them to a newer reader.
    pub(super) frame: bool,
    /// Whether its attributes, and those of the messages in it, are the item's own claims.
    pub(super) claims: bool,
    /// Whether it can hold itself.
    pub(super) nests: bool,
    /// Levels of [`MAX_NESTING`] that values in it have less, because the message itself stands
    /// deeper in a request than others do.
    pub(super) levels: u32,
    /// Whether it or a message in it has an id that the trace gate looks at.
    pub(super) gated: bool,
    /// Whether it must have a trace id of its own.
    pub(super) owns_trace: bool,
}

#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "evaluated by the compiler alone"
)]
impl Table {
    pub(super) const fn new(rows: &'static [Row]) -> Self {
        let (mut gated, mut owns_trace, mut at) = (false, false, 0);
        while at < rows.len() {
            gated |= match rows[at].kind {
                Kind::Id(id) => id.is_gated(),
                Kind::Message(table) | Kind::Entry(table) | Kind::Item(table) => table.gated,
                _ => false,
            };
            owns_trace |= matches!(rows[at].kind, Kind::Id(Id::OwnTrace));
            at += 1;
        }
        let inners = inners(rows);
        Self {
            rows,
            full: Looks::new(rows, &inners, false),
            brief: Looks::new(rows, &inners, true),
            inners,
            frame: false,
            claims: false,
            nests: false,
            levels: 0,
            gated,
            owns_trace,
        }
    }

    const fn frame(rows: &'static [Row]) -> Self {
        Self { frame: true, ..Self::new(rows) }
    }

    const fn claims(rows: &'static [Row]) -> Self {
        Self { claims: true, ..Self::new(rows) }
    }
}

impl Table {
    /// What to do with a field whose tag begins with this byte, if that is its whole tag.
    #[inline]
    pub(super) fn first_look<const BRIEF: bool>(&self, tag: u8) -> Look {
        self.looks::<BRIEF>().first(tag)
    }

    /// What to do with a field of this tag.
    #[inline]
    pub(super) fn look<const BRIEF: bool>(&self, tag: u32) -> Look {
        self.looks::<BRIEF>().of(tag)
    }

    #[inline]
    const fn looks<const BRIEF: bool>(&self) -> &Looks {
        if BRIEF { &self.brief } else { &self.full }
    }

    /// The message that a field of this tag holds.
    #[inline]
    pub(super) fn inner(&self, tag: u32) -> &'static Self {
        self.inners.get((tag >> 3) as usize).copied().unwrap_or(&NOTHING)
    }

    /// The row of a field.
    pub(super) fn row(&self, number: u32) -> Option<&'static Row> {
        self.rows.iter().find(|row| row.number == number)
    }

    /// The field that a key of JSON names, by either of its names, and its place among the rows.
    pub(super) fn named(&self, key: &[u8]) -> Option<(usize, &'static Row)> {
        self.rows.iter().enumerate().find(|(_, row)| {
            let name = row.name.as_bytes();
            name.first() == key.first() && (key == name || is_snake_case_of(key, name))
        })
    }

    /// Whether the field is known.
    pub(super) fn knows(&self, number: u32) -> bool {
        self.row(number).is_some()
    }

    /// Whether the field is refused outright.
    pub(super) fn is_legacy(&self, number: u32) -> bool {
        self.row(number).is_some_and(|row| matches!(row.kind, Kind::Legacy(_)))
    }
}

fn is_snake_case_of(key: &[u8], name: &[u8]) -> bool {
    let mut key = key.iter();
    let same = name.iter().all(|byte| {
        (!byte.is_ascii_uppercase() || key.next() == Some(&b'_'))
            && key.next() == Some(&byte.to_ascii_lowercase())
    });
    same && key.next().is_none()
}

/// A message without fields, where there is none.
static NOTHING: Table = Table {
    rows: &[],
    full: Looks::NONE,
    brief: Looks::NONE,
    inners: [&NOTHING; NUMBERS],
    frame: false,
    claims: false,
    nests: false,
    levels: 0,
    gated: false,
    owns_trace: false,
};

/// What is particular to one signal.
#[derive(Debug)]
pub(super) struct Schema {
    /// `ExportXServiceRequest`
    pub(super) request: &'static Table,
    /// `ResourceX`
    pub(super) entry: &'static Table,
    /// `ScopeX`
    pub(super) scopes: &'static Table,
    /// One item.
    pub(super) item: &'static Table,
}

/// The tables of a signal.
pub(super) const fn of(signal: Signal) -> &'static Schema {
    match signal {
        Signal::Traces => &traces::SCHEMA,
        Signal::Metrics => &metrics::SCHEMA,
        Signal::Logs => &logs::SCHEMA,
        Signal::Profiles => &profiles::SCHEMA,
    }
}

const fn row(number: u32, name: &'static str, label: Label, kind: Kind) -> Row {
    Row { number, name, key: Key::of(name), label, kind }
}

pub(super) const fn one(number: u32, name: &'static str, kind: Kind) -> Row {
    row(number, name, Label::Plain, kind)
}

const fn optional(number: u32, name: &'static str, kind: Kind) -> Row {
    row(number, name, Label::Optional, kind)
}

pub(super) const fn many(number: u32, name: &'static str, kind: Kind) -> Row {
    row(number, name, Label::Repeated, kind)
}

pub(super) const fn packed(number: u32, name: &'static str, kind: Kind) -> Row {
    row(number, name, Label::Packed, kind)
}

pub(super) const fn member(number: u32, name: &'static str, kind: Kind) -> Row {
    row(number, name, Label::Member, kind)
}

#[cfg(test)]
mod tests;
