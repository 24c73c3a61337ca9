//! Why a document was refused: what was expected, and where. It never shows what the sender sent.

/// Why a document was refused.
#[derive(Debug)]
pub(super) struct Fault(Box<Details>);

/// In a box, so that results stay small where nothing is wrong.
#[derive(Debug)]
struct Details {
    why: &'static str,
    at: usize,
    /// From the innermost outwards, as it is put together on the way out.
    path: Vec<Step>,
}

/// One step of the way to a fault.
#[derive(Debug)]
pub(super) enum Step {
    /// A known field, by its own name rather than by the sender's spelling of it.
    Field(&'static str),
    /// An element of an array.
    Element(usize),
}

impl Fault {
    /// A fault at a byte of the document.
    #[cold]
    pub(super) fn new(why: &'static str, at: usize) -> Self {
        Self(Box::new(Details { why, at, path: Vec::new() }))
    }

    /// The same fault, seen from one level further out.
    #[cold]
    pub(super) fn inside(mut self, step: Step) -> Self {
        self.0.path.push(step);
        self
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Details { why, at, path } = &*self.0;
        for (place, step) in path.iter().rev().enumerate() {
            match step {
                Step::Field(name) if place == 0 => f.write_str(name)?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Element(index) => write!(f, "[{index}]")?,
            }
        }
        let colon = if path.is_empty() { "" } else { ": " };
        write!(f, "{colon}{why} (at byte {at})")
    }
}
