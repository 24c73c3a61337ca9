//! The Collector's side as a child process: builds it with Go, streams cases to it (the form stands
//! in tests/interop/pdata/stream.go) and reads its verdicts. It knows nothing of OTLP.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::Mutex,
    thread::JoinHandle,
};

use serde::Deserialize;

/// One case as it goes to the judge.
pub(super) struct Frame<'a> {
    pub(super) signal: u8,
    pub(super) flags: u8,
    pub(super) max_item_size: u64,
    pub(super) budget: u64,
    pub(super) came_in: &'a [u8],
    pub(super) left: &'a [u8],
}

/// What the judge says of one batch.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Report {
    pub(super) batch: u64,
    pub(super) cases: u64,
    pub(super) accepted: u64,
    /// Refused, though the Collector would have read them.
    pub(super) stricter: u64,
    /// Accepted, and left for the Collector to refuse.
    pub(super) left: u64,
    pub(super) failures: Vec<Failure>,
}

/// A case in which something does not hold.
#[derive(Debug, Deserialize)]
pub(super) struct Failure {
    pub(super) case: usize,
    pub(super) why: String,
}

/// Builds the judge; the error says why this machine can't.
pub(super) fn build(source: &Path) -> Result<PathBuf, String> {
    let binary = Path::new(env!("CARGO_TARGET_TMPDIR")).join("spangate-pdata-judge");
    let arguments = [OsStr::new("build"), OsStr::new("-o"), binary.as_os_str(), OsStr::new(".")];
    let built = Command::new("go")
        .args(arguments)
        .current_dir(source)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("Go is not installed ({error}); see tests/interop/pdata/README.md"))?;
    if built.status.success() {
        return Ok(binary);
    }
    Err(format!("`go build` failed in {}:\n{}", source.display(), String::from_utf8_lossy(&built.stderr)))
}

/// A running judge.
pub(super) struct Judge {
    child: Child,
    stdin: Mutex<ChildStdin>,
    reports: JoinHandle<Vec<Report>>,
}

impl Judge {
    /// Starts one; `on_report` is called with each report as it comes.
    pub(super) fn start(
        binary: &Path,
        settings: &serde_json::Value,
        on_report: impl Fn(&Report) + Send + 'static,
    ) -> Self {
        let mut child = Command::new(binary)
            .arg("judge")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the judge starts");
        let mut stdin = child.stdin.take().expect("its input");
        writeln!(stdin, "{settings}").expect("it takes the settings");
        let stdout = child.stdout.take().expect("its output");
        // Read all the time, or both sides would wait for the other to read.
        let reports = std::thread::spawn(move || {
            let lines = BufReader::new(stdout).lines();
            let reports = lines.map(|line| {
                let report = serde_json::from_str(&line.expect("a line")).expect("a report");
                on_report(&report);
                report
            });
            reports.collect()
        });
        Self { child, stdin: Mutex::new(stdin), reports }
    }

    /// Sends a batch; it waits only while the judge has more than it can hold.
    pub(super) fn send<'a>(&self, batch: u64, frames: impl IntoIterator<Item = Frame<'a>>) {
        let mut content = batch.to_le_bytes().to_vec();
        for frame in frames {
            content.extend([frame.signal, frame.flags]);
            content.extend(frame.max_item_size.to_le_bytes());
            content.extend(frame.budget.to_le_bytes());
            for bytes in [frame.came_in, frame.left] {
                content.extend(length(bytes));
                content.extend(bytes);
            }
        }
        let mut stdin = self.stdin.lock().expect("no sender failed");
        stdin.write_all(&length(&content)).expect("the judge reads");
        stdin.write_all(&content).expect("the judge reads");
    }

    /// All reports, once the judge has seen that nothing more comes.
    pub(super) fn end(mut self) -> Vec<Report> {
        drop(self.stdin);
        let reports = self.reports.join().expect("the reports are read");
        assert!(self.child.wait().expect("it ends").success(), "the judge failed");
        reports
    }
}

fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).expect("a batch below 4 GiB").to_le_bytes()
}
