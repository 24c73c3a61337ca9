//! Everything that is logged on one thread, at the finest level, as text. For tests on a
//! current-thread runtime; the canary test watches the real process instead.

use std::{
    io,
    sync::{Arc, Mutex},
};

use tracing::{level_filters::LevelFilter, subscriber::DefaultGuard};
use tracing_subscriber::fmt::MakeWriter;

/// Captures until dropped.
pub(crate) struct Captured {
    text: Buffer,
    _guard: DefaultGuard,
}

impl Captured {
    /// Starts to capture what this thread logs.
    pub(crate) fn start() -> Self {
        let text = Buffer::default();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_max_level(LevelFilter::TRACE)
            .with_writer(text.clone())
            .finish();
        Self { text, _guard: tracing::subscriber::set_default(subscriber) }
    }

    /// All lines so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.text.0.lock().unwrap().clone()).unwrap()
    }
}

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Buffer {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Scenario: a line at trace level, before and after the capture ends.
/// Guarantees: it is captured with its fields while the capture lasts, so that "not in the log" means something.
#[test]
fn lines_are_captured() {
    let captured = Captured::start();
    tracing::trace!(token = "abc", "seen");
    assert!(captured.text().contains("\"token\":\"abc\""), "{}", captured.text());
}
