//! A tree into typed structs, all mistakes at once: serde stops at the first one, so the value that
//! caused it is marked and the reading starts again without it. It decides how a scalar becomes a
//! number or a choice; it never looks at what the values mean together.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor, value::StrDeserializer},
    forward_to_deserialize_any,
};

use super::tree::{Node, Value};

/// Reports past this many help nobody.
const MAX_REPORTS: usize = 100;

/// Reads `tree`, calling `report` with the dotted name, the node and the problem of every value that
/// can't be read. What could not be read has its default in the result.
pub(super) fn read<T>(tree: &mut Node, mut report: impl FnMut(String, &Node, String)) -> T
where
    T: for<'de> Deserialize<'de> + Default,
{
    let mut reports = 0_usize;
    while reports < MAX_REPORTS {
        let fault = match T::deserialize(&*tree) {
            Ok(value) => return value,
            Err(fault) => fault,
        };
        let mut node = &mut *tree;
        let mut name = Vec::new();
        for index in fault.path.iter().rev() {
            if let Some((part, _)) = node.child(*index) {
                name.push(part);
            }
            match node.child_mut(*index) {
                Some(child) => node = child,
                None => return T::default(),
            }
        }
        match fault.problem {
            Problem::Absent => node.left_out = true,
            Problem::Wrong(problem) => {
                report(name.join("."), node, problem);
                node.spoiled = true;
                reports = reports.saturating_add(1);
            }
        }
        if fault.path.is_empty() {
            return T::default();
        }
    }
    T::default()
}

/// What serde stopped at.
#[derive(Debug)]
pub(super) struct Fault {
    problem: Problem,
    /// Indices from the value up to the root.
    path: Vec<usize>,
}

#[derive(Debug)]
enum Problem {
    /// A known key without a value: no mistake, its default holds.
    Absent,
    Wrong(String),
}

impl Fault {
    fn new(problem: impl Into<String>) -> Self {
        Self { problem: Problem::Wrong(problem.into()), path: Vec::new() }
    }

    fn below(mut self, index: usize) -> Self {
        self.path.push(index);
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem {
            Problem::Absent => f.write_str("no value"),
            Problem::Wrong(problem) => f.write_str(problem),
        }
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new(match closest(field, expected) {
            Some(near) => format!("unknown key; did you mean \"{near}\"?"),
            None => format!("unknown key; known here: {}", expected.join(", ")),
        })
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let choices = expected.join(", ");
        Self::new(match closest(variant, expected) {
            Some(near) => {
                format!("\"{variant}\" is none of: {choices}; did you mean \"{near}\"?")
            }
            None => format!("\"{variant}\" is none of: {choices}"),
        })
    }
}

/// The known word that `word` is most likely a slip of: same letters in another spelling of words, or
/// at most two edits (one in three letters) away.
pub(super) fn closest(word: &str, known: &[&'static str]) -> Option<&'static str> {
    let plain = |text: &str| text.to_lowercase().replace(['-', '_', '.'], "");
    let word = plain(word);
    known
        .iter()
        .map(|candidate| (distance(&word, &plain(candidate)), *candidate))
        .filter(|(edits, candidate)| *edits <= candidate.len().div_ceil(3).min(2))
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// Letters to insert, remove or replace to make `right` from `left`.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.chars().count()).collect();
    for (done, a) in left.chars().enumerate() {
        let mut diagonal = done;
        let mut before = done.saturating_add(1);
        for (cell, b) in row.iter_mut().zip(std::iter::once(None).chain(right.chars().map(Some))) {
            let Some(b) = b else {
                *cell = before;
                continue;
            };
            let replaced = diagonal.saturating_add(usize::from(a != b));
            diagonal = *cell;
            before = replaced.min(before.saturating_add(1)).min(diagonal.saturating_add(1));
            *cell = before;
        }
    }
    row.last().copied().unwrap_or_default()
}

macro_rules! whole_number {
    ($($method:ident $visit:ident $number:ty;)+) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            let wrong = || Fault::new(format!("must be a whole number from {} to {}", <$number>::MIN, <$number>::MAX));
            match &self.value {
                Value::Scalar(text) => visitor.$visit(text.parse::<$number>().map_err(|_| wrong())?),
                _ => Err(wrong()),
            }
        }
    )+};
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Absent => visitor.visit_unit(),
            Value::Scalar(text) => visitor.visit_borrowed_str(text),
            Value::List(_) => self.deserialize_seq(visitor),
            Value::Map(_) => self.deserialize_map(visitor),
        }
    }

    whole_number! {
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Scalar(text) if text == "true" => visitor.visit_bool(true),
            Value::Scalar(text) if text == "false" => visitor.visit_bool(false),
            _ => Err(Fault::new("must be true or false")),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Scalar(text) => {
                visitor.visit_f64(text.parse().map_err(|_| Fault::new("must be a number, such as 0.1"))?)
            }
            _ => Err(Fault::new("must be a number, such as 0.1")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Scalar(text) => visitor.visit_borrowed_str(text),
            Value::Absent => Err(Fault::new("is empty: write a value, or \"\" for an empty one")),
            Value::List(_) | Value::Map(_) => Err(Fault::new("must be one value, not a list or a section")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            Value::Absent => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.value {
            Value::List(items) => visitor.visit_seq(Items { items, next: 0 }),
            _ => Err(Fault::new("must be a list, such as [a, b]")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Map(entries) => visitor.visit_map(Entries { entries, next: 0 }),
            Value::Absent => visitor.visit_map(Entries { entries: &[], next: 0 }),
            _ => Err(Fault::new("must be a section with keys of its own, indented below it")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Scalar(text) => {
                let text: StrDeserializer<'_, Fault> = text.as_str().into_deserializer();
                visitor.visit_enum(text)
            }
            _ => Err(Fault::new(format!("must be one of: {}", variants.join(", ")))),
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u128 f32 char bytes byte_buf unit unit_struct newtype_struct tuple
        tuple_struct identifier ignored_any
    }
}

struct Items<'de> {
    items: &'de [Node],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        while let Some(node) = self.items.get(self.next) {
            let index = self.next;
            self.next = index.saturating_add(1);
            if !node.spoiled {
                return seed.deserialize(node).map(Some).map_err(|fault| fault.below(index));
            }
        }
        Ok(None)
    }
}

struct Entries<'de> {
    entries: &'de [(String, Node)],
    /// The entry after the one whose key was read last.
    next: usize,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        while let Some((key, node)) = self.entries.get(self.next) {
            let index = self.next;
            self.next = index.saturating_add(1);
            if node.spoiled || node.left_out {
                continue;
            }
            let key: StrDeserializer<'_, Fault> = key.as_str().into_deserializer();
            let read = seed.deserialize(key).map_err(|fault| fault.below(index))?;
            return Ok(Some(read));
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let index = self.next.saturating_sub(1);
        let Some((_, node)) = self.entries.get(index) else {
            return Err(Fault::new("a key without a value"));
        };
        if matches!(node.value, Value::Absent) {
            return Err(Fault { problem: Problem::Absent, path: vec![index] });
        }
        seed.deserialize(node).map_err(|fault| fault.below(index))
    }
}
