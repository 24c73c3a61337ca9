//! What the scanner does with a field, worked out from the rows by the compiler, and found by the
//! tag alone: one look says both, what a field is and that its wire type is its own. It never
//! reads a byte of a request.

use super::{FIXED32, Id, Kind, LEN, Label, Row, Table, VARINT};

/// What the scanner has to do with a field; made from its row. One byte, so that a table of them
/// stays in the processor's nearest cache; the message a field holds is told by `Table::inner`.
#[derive(Clone, Copy, Debug)]
pub(in super::super) enum Look {
    /// No field has this number and wire type.
    Unknown,
    Varint,
    Fixed32,
    Fixed64,
    /// A string: UTF-8.
    Text,
    Bytes,
    /// [`Id::OwnTrace`], and so on.
    OwnTrace,
    SetTrace,
    OtherTrace,
    SpanId,
    ProfileId,
    KeyValue,
    /// The one `AnyValue` of what holds it.
    Value,
    /// One of many `AnyValue`s.
    Element,
    /// Packed varints.
    Varints,
    /// Packed numbers of eight bytes.
    Fixed64s,
    /// A place in the dictionary that is a member of a `oneof`.
    IndexMember,
    /// A message that is a member of a `oneof`.
    MessageMember,
    Message,
    Entry,
    Item,
}

impl Look {
    /// What is left to do where only the trace gate's ids are looked for.
    const fn brief(self, inner: &Table) -> Self {
        match self {
            Self::Message | Self::MessageMember if inner.gated => Self::Message,
            Self::IndexMember => Self::Varint,
            Self::Unknown
            | Self::Varint
            | Self::Fixed32
            | Self::Fixed64
            | Self::OwnTrace
            | Self::SetTrace
            | Self::OtherTrace
            | Self::SpanId
            | Self::ProfileId
            | Self::Entry
            | Self::Item => self,
            _ => Self::Bytes,
        }
    }
}

impl Row {
    const fn look(&self) -> Look {
        match (self.kind, self.label) {
            (Kind::Index, Label::Member) => Look::IndexMember,
            (Kind::Message(_), Label::Member) => Look::MessageMember,
            (Kind::AnyValue, Label::Repeated) => Look::Element,
            (Kind::AnyValue, _) => Look::Value,
            (Kind::Message(_), _) => Look::Message,
            (Kind::Entry(_), _) => Look::Entry,
            (Kind::Item(_), _) => Look::Item,
            (Kind::KeyValue, _) => Look::KeyValue,
            (Kind::String, _) => Look::Text,
            (Kind::Bytes, _) => Look::Bytes,
            (Kind::Id(id), _) => match id {
                Id::OwnTrace => Look::OwnTrace,
                Id::SetTrace => Look::SetTrace,
                Id::OtherTrace => Look::OtherTrace,
                Id::Span => Look::SpanId,
                Id::Profile => Look::ProfileId,
            },
            (Kind::Legacy(_), _) => Look::Unknown,
            (kind, _) => match kind.wire() {
                VARINT => Look::Varint,
                FIXED32 => Look::Fixed32,
                _ => Look::Fixed64,
            },
        }
    }
}

/// Most field numbers, and 0: all that OTLP uses but for `Kind::Legacy`.
pub(super) const NUMBERS: usize = 17;

/// What to do, by the tag: one look says both, what the field is and that its wire type is its own.
#[derive(Debug)]
pub(super) struct Looks {
    /// By a tag's first byte; [`Look::Unknown`] where more bytes follow it.
    first: [Look; 256],
    /// By the whole tag.
    tags: [Look; NUMBERS << 3],
}

#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "evaluated by the compiler alone, which refuses a number that has no place"
)]
impl Looks {
    pub(super) const fn new(rows: &[Row], inners: &[&'static Table; NUMBERS], brief: bool) -> Self {
        let mut tags = [Look::Unknown; NUMBERS << 3];
        let mut at = 0;
        while at < rows.len() {
            let row = &rows[at];
            at += 1;
            if matches!(row.kind, Kind::Legacy(_)) {
                continue;
            }
            tags[(row.number << 3 | row.kind.wire()) as usize] = row.look();
            if matches!(row.label, Label::Packed) {
                tags[(row.number << 3 | LEN) as usize] = match row.kind.wire() {
                    VARINT => Look::Varints,
                    _ => Look::Fixed64s,
                };
            }
        }
        let mut first = [Look::Unknown; 256];
        at = 0;
        while at < tags.len() {
            if brief {
                tags[at] = tags[at].brief(inners[at >> 3]);
            }
            if at < 0x80 {
                first[at] = tags[at];
            }
            at += 1;
        }
        Self { first, tags }
    }
}

impl Looks {
    /// Those of a message without fields.
    pub(super) const NONE: Self = Self { first: [Look::Unknown; 256], tags: [Look::Unknown; NUMBERS << 3] };

    /// By a tag's first byte.
    #[expect(clippy::indexing_slicing, reason = "there is a place for each byte")]
    #[inline]
    pub(super) const fn first(&self, byte: u8) -> Look {
        self.first[byte as usize]
    }

    /// By a whole tag.
    #[inline]
    pub(super) fn of(&self, tag: u32) -> Look {
        self.tags.get(tag as usize).copied().unwrap_or(Look::Unknown)
    }
}
