//! The real binary as a child: configuration in a file of its own, addresses from its "listening"
//! log lines, everything that it writes kept. Killed by its own pid when dropped.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read},
    net::SocketAddr,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use spangate::config::Config;
use tempfile::TempDir;

use super::client::PATIENCE;

const FILE: &str = "spangate.yaml";

/// A running `spangate run`.
#[derive(Debug)]
pub(crate) struct Spangate {
    child: Child,
    output: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
    addresses: BTreeMap<String, SocketAddr>,
    directory: TempDir,
}

impl Spangate {
    /// Starts it and waits until every listener and the admin listener are bound.
    pub(crate) async fn start(config: &Config) -> Self {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join(FILE);
        // JSON is YAML; every key is written out, so the file means the same whatever the defaults are.
        std::fs::write(&file, serde_json::to_string_pretty(config).unwrap()).unwrap();
        let mut child = command()
            .arg("run")
            .arg("--config")
            .arg(&file)
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = Arc::new(Mutex::new(String::new()));
        let readers =
            vec![keep(child.stdout.take().unwrap(), &output), keep(child.stderr.take().unwrap(), &output)];
        let mut this = Self { child, output, readers, addresses: BTreeMap::new(), directory };
        let until = Instant::now() + PATIENCE;
        while this.addresses.len() <= config.listeners.len() {
            let ended = this.child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended with {ended:?}:\n{}", this.output());
            assert!(Instant::now() < until, "it never listened:\n{}", this.output());
            tokio::time::sleep(Duration::from_millis(10)).await;
            this.addresses = bound(&this.output());
        }
        this
    }

    /// Where runners push to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses["runners"]
    }

    /// The admin listener.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.addresses["admin"]
    }

    /// The listener of this name.
    pub(crate) fn listener(&self, name: &str) -> SocketAddr {
        self.addresses[name]
    }

    /// Its process id, under which the kernel tells what it uses.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything that it wrote so far, both streams.
    pub(crate) fn output(&self) -> String {
        self.output.lock().unwrap().clone()
    }

    /// Sends it SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends it a signal, by its own pid.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success(), "kill -s {name}");
    }

    /// Puts another text into its configuration file, in one step.
    pub(crate) fn rewrite(&self, text: &str) {
        let new = self.directory.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.directory.path().join(FILE)).unwrap();
    }

    /// Waits for its end; `None` if it still runs after `limit`.
    pub(crate) async fn ended(&mut self, limit: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                for reader in self.readers.drain(..) {
                    reader.join().unwrap();
                }
                return Some(status);
            }
            if Instant::now() >= until {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Spangate {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Names another build than the tests' own, so that figures can be taken of a release build.
const BINARY: &str = "SPANGATE_HOSTILE_BINARY";

/// The real binary, with nothing of what the developer's own shell overrides.
fn command() -> Command {
    let binary = std::env::var_os(BINARY).unwrap_or_else(|| env!("CARGO_BIN_EXE_spangate").into());
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SPANGATE_")) {
        command.env_remove(name);
    }
    command
}

/// Runs a command that ends by itself: its exit code, stdout and stderr.
pub(crate) async fn run(arguments: &[String]) -> (i32, String, String) {
    let mut command = command();
    command.args(arguments).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn keep(stream: impl Read + Send + 'static, output: &Arc<Mutex<String>>) -> JoinHandle<()> {
    let output = Arc::clone(output);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut output = output.lock().unwrap();
            output.push_str(&line);
            output.push('\n');
        }
    })
}

/// The addresses in the "listening" lines.
fn bound(output: &str) -> BTreeMap<String, SocketAddr> {
    output
        .lines()
        .filter_map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            (line["message"] == "listening").then_some(())?;
            Some((line["listener"].as_str()?.to_owned(), line["address"].as_str()?.parse().ok()?))
        })
        .collect()
}

/// Scenario: a log with other lines around the two that name addresses.
/// Guarantees: a test learns the ports from exactly those.
#[test]
fn addresses_are_read_from_the_log() {
    let log = concat!(
        "plain text\n",
        r#"{"severity":"info","message":"listening","listener":"runners","address":"127.0.0.1:4001"}"#,
        "\n",
        r#"{"severity":"info","message":"started","listener":"x","address":"127.0.0.1:1"}"#,
        "\n",
        r#"{"severity":"info","message":"listening","listener":"admin","address":"127.0.0.1:4002"}"#,
        "\n",
    );
    let addresses = bound(log);
    assert_eq!(addresses.len(), 2);
    assert_eq!(addresses["runners"].port(), 4001);
    assert_eq!(addresses["admin"].port(), 4002);
}
