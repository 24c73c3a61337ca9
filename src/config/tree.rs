//! A configuration as a tree of plain text with the place where each value came from, before any of
//! it has a type. It knows nothing of keys and their meaning.

use std::sync::Arc;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A line of the file, from 1.
    Line(usize),
    /// An environment variable.
    Environment(Arc<str>),
    /// A `--set` flag.
    Flag,
}

/// A value with its origin.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) origin: Origin,
    /// Already reported as a mistake: readers pass over it, so that each mistake is reported once.
    pub(super) spoiled: bool,
    /// Known to be without a value: readers pass over it, so that its default holds.
    pub(super) left_out: bool,
}

/// What a value is made of; scalars get their type from the field that they are read into.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Nothing written, or `null`: the default holds.
    Absent,
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    pub(super) fn new(value: Value, origin: Origin) -> Self {
        Self { value, origin, spoiled: false, left_out: false }
    }

    /// The child at `index` of a list or map, with its part of the dotted name.
    pub(super) fn child(&self, index: usize) -> Option<(String, &Self)> {
        match &self.value {
            Value::List(items) => Some((index.to_string(), items.get(index)?)),
            Value::Map(entries) => entries.get(index).map(|(key, node)| (key.clone(), node)),
            Value::Absent | Value::Scalar(_) => None,
        }
    }

    pub(super) fn child_mut(&mut self, index: usize) -> Option<&mut Self> {
        match &mut self.value {
            Value::List(items) => items.get_mut(index),
            Value::Map(entries) => entries.get_mut(index).map(|(_, node)| node),
            Value::Absent | Value::Scalar(_) => None,
        }
    }

    /// The child called `part` in a dotted name: a key, or an index.
    fn named(&self, part: &str) -> Option<&Self> {
        match &self.value {
            Value::List(items) => items.get(part.parse::<usize>().ok()?),
            Value::Map(entries) => entries.iter().find(|(key, _)| key == part).map(|(_, node)| node),
            Value::Absent | Value::Scalar(_) => None,
        }
    }

    /// Where the dotted name `field` was written: the value itself, or else what would hold it.
    pub(super) fn origin_of(&self, field: &str) -> &Origin {
        let mut node = self;
        for part in field.split('.') {
            let Some(child) = node.named(part) else { break };
            node = child;
        }
        &node.origin
    }

    /// Whether something at, above or below the dotted name `field` was already reported.
    pub(super) fn is_spoiled(&self, field: &str) -> bool {
        let mut node = self;
        for part in field.split('.') {
            if node.spoiled {
                return true;
            }
            let Some(child) = node.named(part) else { return false };
            node = child;
        }
        node.any_spoiled()
    }

    fn any_spoiled(&self) -> bool {
        self.spoiled
            || match &self.value {
                Value::List(items) => items.iter().any(Self::any_spoiled),
                Value::Map(entries) => entries.iter().any(|(_, node)| node.any_spoiled()),
                Value::Absent | Value::Scalar(_) => false,
            }
    }

    /// Puts `value` at the dotted name `field`, making the maps and the next list element on the way.
    ///
    /// # Errors
    /// A sentence when the way leads through a scalar or past the end of a list.
    pub(super) fn set(&mut self, field: &str, value: Self) -> Result<(), String> {
        let mut node = self;
        for part in field.split('.') {
            if part.is_empty() {
                return Err("a part of the key is empty: write keys as \"gitlab.url\"".into());
            }
            if matches!(node.value, Value::Absent) {
                node.value = match part.parse::<usize>() {
                    Ok(0) => Value::List(Vec::new()),
                    Ok(_) => return Err(no_such_element(0)),
                    Err(_) => Value::Map(Vec::new()),
                };
            }
            // A section made or changed on the way keeps its own origin; only the value gets the new one.
            let fresh = Self::new(Value::Absent, value.origin.clone());
            node = match &mut node.value {
                Value::Map(entries) => {
                    let at = entries.iter().position(|(key, _)| key == part).unwrap_or(entries.len());
                    if at == entries.len() {
                        entries.push((part.to_owned(), fresh));
                    }
                    entries.get_mut(at).map(|(_, node)| node)
                }
                Value::List(items) => {
                    let length = items.len();
                    match part.parse::<usize>() {
                        Ok(at) if at <= length => {
                            if at == length {
                                items.push(fresh);
                            }
                            items.get_mut(at)
                        }
                        Ok(_) => return Err(no_such_element(length)),
                        Err(_) => {
                            return Err(format!(
                                "\"{part}\" stands where the index of a list element belongs"
                            ));
                        }
                    }
                }
                Value::Scalar(_) | Value::Absent => None,
            }
            .ok_or_else(|| format!("\"{part}\" stands below a plain value"))?;
        }
        *node = value;
        Ok(())
    }
}

fn no_such_element(length: usize) -> String {
    format!("there is no such element; the next new one is {length}")
}
