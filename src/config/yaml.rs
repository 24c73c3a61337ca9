//! YAML text into a tree with line numbers. It refuses what a configuration has no use for (aliases,
//! tags, second documents) and keys that come twice; it gives no scalar a type.

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use super::tree::{Node, Origin, Value};

/// Deeper than any section stands.
const MAX_DEPTH: usize = 16;

/// Something wrong in the text, and where.
#[derive(Debug)]
pub(super) struct Flaw {
    pub(super) line: usize,
    /// The dotted name, empty for the text as a whole.
    pub(super) field: String,
    pub(super) problem: String,
}

/// Reads `text`. The tree holds all that could be read; a syntax error leaves it empty, because
/// what follows one can't be trusted to stand where it seems to.
pub(super) fn parse(text: &str) -> (Node, Vec<Flaw>) {
    let mut reader = Reader { events: Parser::new_from_str(text), flaws: Vec::new(), path: Vec::new() };
    let root = match reader.document() {
        Ok(root) => root,
        Err(Stop::Syntax(error)) => {
            let line = error.marker().line();
            reader.flaws.push(Flaw {
                line,
                field: String::new(),
                problem: format!("not valid YAML: {}", error.info()),
            });
            None
        }
        Err(Stop::Reported) => None,
    };
    (root.unwrap_or_else(|| Node::new(Value::Absent, Origin::Line(1))), reader.flaws)
}

/// Why reading ended early.
enum Stop {
    Syntax(ScanError),
    /// A flaw was noted that makes the rest unreadable.
    Reported,
}

impl From<ScanError> for Stop {
    fn from(error: ScanError) -> Self {
        Self::Syntax(error)
    }
}

struct Reader<'a, I: Iterator<Item = Result<(Event<'a>, Span), ScanError>>> {
    events: I,
    flaws: Vec<Flaw>,
    path: Vec<String>,
}

impl<'a, I: Iterator<Item = Result<(Event<'a>, Span), ScanError>>> Reader<'a, I> {
    fn next(&mut self) -> Result<Option<(Event<'a>, usize)>, Stop> {
        Ok(self.events.next().transpose()?.map(|(event, span)| (event, span.start.line())))
    }

    fn flaw(&mut self, line: usize, problem: impl Into<String>) {
        self.flaws.push(Flaw { line, field: self.path.join("."), problem: problem.into() });
    }

    fn document(&mut self) -> Result<Option<Node>, Stop> {
        let mut root = None;
        while let Some((event, line)) = self.next()? {
            match event {
                Event::DocumentStart(..) if root.is_some() => {
                    self.flaw(line, "a second document starts here: a configuration is one document");
                    return Ok(root);
                }
                Event::StreamStart | Event::StreamEnd | Event::DocumentStart(..) | Event::DocumentEnd => {}
                event => root = Some(self.node(event, line)?),
            }
        }
        Ok(root)
    }

    fn node(&mut self, event: Event<'a>, line: usize) -> Result<Node, Stop> {
        if self.path.len() > MAX_DEPTH {
            self.flaw(line, "nested deeper than any key of the configuration");
            return Err(Stop::Reported);
        }
        let tagged = match &event {
            Event::Scalar(_, _, _, tag)
            | Event::SequenceStart(_, _, tag)
            | Event::MappingStart(_, _, tag) => tag.is_some(),
            _ => false,
        };
        if tagged {
            self.flaw(line, "tags (\"!name\") are not used here: write the value alone");
        }
        let value = match event {
            Event::Scalar(text, style, ..) => scalar(&text, style),
            Event::SequenceStart(..) => self.list()?,
            Event::MappingStart(..) => self.map()?,
            _ => {
                self.flaw(line, "aliases (\"*name\") are not used here: write the value out");
                Value::Absent
            }
        };
        Ok(Node { spoiled: tagged, ..Node::new(value, Origin::Line(line)) })
    }

    fn list(&mut self) -> Result<Value, Stop> {
        let mut items = Vec::new();
        while let Some((event, line)) = self.next()? {
            if matches!(event, Event::SequenceEnd) {
                break;
            }
            self.path.push(items.len().to_string());
            items.push(self.node(event, line)?);
            self.path.pop();
        }
        Ok(Value::List(items))
    }

    fn map(&mut self) -> Result<Value, Stop> {
        let mut entries: Vec<(String, Node)> = Vec::new();
        while let Some((event, line)) = self.next()? {
            let key = match event {
                Event::MappingEnd => break,
                Event::Scalar(text, ..) => text.into_owned(),
                _ => {
                    self.flaw(line, "a key must be plain text");
                    return Err(Stop::Reported);
                }
            };
            let Some((event, value_line)) = self.next()? else { break };
            self.path.push(key);
            let mut node = self.node(event, value_line)?;
            // An entry is found by the line of its key: a section's value starts a line below.
            node.origin = Origin::Line(line);
            let first = entries.iter().find(|(known, _)| Some(known) == self.path.last());
            if let Some(Origin::Line(first)) = first.map(|(_, node)| node.origin.clone()) {
                self.flaw(line, format!("set twice, first in line {first}"));
            } else if let Some(key) = self.path.last() {
                entries.push((key.clone(), node));
            }
            self.path.pop();
        }
        Ok(Value::Map(entries))
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style == ScalarStyle::Plain && matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        Value::Absent
    } else {
        Value::Scalar(text.to_owned())
    }
}
