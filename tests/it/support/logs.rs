//! Everything that is logged on one thread, at the finest level, as text. For tests on a
//! current-thread runtime; the canary test watches the real process instead.

use std::{
    cell::RefCell,
    io,
    sync::{Arc, Mutex, OnceLock},
};

use tracing_subscriber::{
    filter::dynamic_filter_fn,
    fmt::{self, MakeWriter},
    layer::{Layer as _, SubscriberExt as _},
};

thread_local! {
    /// Where this thread's lines go; nowhere on threads that don't capture.
    static CAPTURE: RefCell<Option<Buffer>> = const { RefCell::new(None) };
}

/// Captures until dropped.
pub(crate) struct Captured(Buffer);

impl Captured {
    /// Starts to capture what this thread logs.
    pub(crate) fn start() -> Self {
        // One subscriber for the whole binary, because scoped ones race in tracing's cache of callsites
        // when tests run side by side; it is asleep on every other thread.
        static GLOBAL: OnceLock<()> = OnceLock::new();
        GLOBAL.get_or_init(|| {
            let awake = dynamic_filter_fn(|_, _| CAPTURE.with_borrow(Option::is_some));
            let lines = fmt::layer().with_ansi(false).with_writer(ThisThread).with_filter(awake);
            tracing::subscriber::set_global_default(tracing_subscriber::registry().with(lines)).unwrap();
        });
        let text = Buffer::default();
        CAPTURE.set(Some(text.clone()));
        Self(text)
    }

    /// All lines so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.0.lock().unwrap().clone()).unwrap()
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        CAPTURE.set(None);
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

/// Finds the buffer of the thread that logs.
struct ThisThread;

impl<'a> MakeWriter<'a> for ThisThread {
    type Writer = Buffer;

    fn make_writer(&'a self) -> Buffer {
        CAPTURE.with_borrow(Clone::clone).unwrap_or_default()
    }
}

/// Scenario: a line at trace level, while the capture lasts and after it.
/// Guarantees: it is captured with its fields, so that "not in the log" means something, and the next test starts anew.
#[test]
fn lines_are_captured() {
    let captured = Captured::start();
    tracing::trace!(token = "abc", "seen");
    assert!(captured.text().contains("token=\"abc\""), "{}", captured.text());
    drop(captured);
    tracing::trace!(token = "def", "nobody listens");
    assert!(Captured::start().text().is_empty());
}
