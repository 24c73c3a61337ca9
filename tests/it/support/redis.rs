//! A real Redis server as a child, for whoever tests what is shared through one: a free port on loopback, nothing
//! on disk but its own folder, killed by its own pid when dropped. It decides nothing about keys.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// Below the range that systems take ports for outgoing connections from, so that nobody is given ours meanwhile.
const PORTS: std::ops::Range<u16> = 21_000..31_000;

/// A running server.
#[derive(Debug)]
pub(crate) struct Redis {
    child: Child,
    port: u16,
    file: Option<PathBuf>,
    arguments: Vec<String>,
    folder: TempDir,
}

impl Redis {
    /// Starts one; `None`, loudly, where none is installed. In CI that fails: there it must be.
    pub(crate) fn start(arguments: &[&str]) -> Option<Self> {
        Self::start_with(None, arguments)
    }

    /// The same with a configuration file, which it may write to.
    pub(crate) fn start_with(file: Option<&Path>, arguments: &[&str]) -> Option<Self> {
        if Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_err() {
            assert!(
                std::env::var_os("CI").is_none(),
                "redis-server is missing: apt-get install redis-server"
            );
            eprintln!("\n!!! NOT TESTED: redis-server is not installed (apt-get install redis-server)\n");
            return None;
        }
        let arguments: Vec<_> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        for _ in 0..20 {
            let (port, folder) = (free_port(), TempDir::new().unwrap());
            let (file, arguments) = (file.map(Path::to_owned), arguments.clone());
            let child = spawn(port, file.as_deref(), &arguments, folder.path());
            let mut this = Self { child, port, file, arguments, folder };
            if this.answers() {
                return Some(this);
            }
        }
        panic!("redis-server does not start on any of 20 ports");
    }

    /// Its port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// `redis://127.0.0.1:PORT/0`
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Sends it a signal, by its own pid: STOP and CONT, for one.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success(), "kill -s {name}");
    }

    /// Kills it; its memory is lost.
    pub(crate) fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Starts it again where it was, empty.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.child = spawn(self.port, self.file.as_deref(), &self.arguments, self.folder.path());
        assert!(self.answers(), "it does not start again on its own port");
    }

    /// One inline command over a connection of its own; the raw answer.
    pub(crate) fn ask(&self, command: &str) -> String {
        self.try_ask(command).unwrap()
    }

    /// The same of one that may cut its clients off: on promotion it does.
    pub(crate) fn try_ask(&self, command: &str) -> std::io::Result<String> {
        try_ask(self.port, command)
    }

    /// Whether it serves; false when it has ended.
    fn answers(&mut self) -> bool {
        let until = Instant::now() + Duration::from_secs(10);
        // With a password it says NOAUTH; what speaks TLS only takes the connection and says nothing.
        let encrypted = self.arguments.iter().any(|argument| argument == "--tls-port");
        while Instant::now() < until {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            let there = if encrypted {
                TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok()
            } else {
                ping(self.port).is_ok_and(|bytes| bytes > 0)
            };
            if there {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(port: u16, file: Option<&Path>, arguments: &[String], folder: &Path) -> Child {
    let mut command = Command::new("redis-server");
    command.args(file);
    if arguments.iter().any(|argument| argument == "--tls-port") {
        // It stands for the port, whatever comes after it.
        command.args(["--port", "0", "--tls-port", &port.to_string()]);
    } else {
        command.args(["--port", &port.to_string()]);
    }
    command
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"])
        .arg(folder)
        .args(arguments.iter().filter(|argument| *argument != "--tls-port"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// How many bytes a first answer has.
fn ping(port: u16) -> std::io::Result<usize> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"PING\r\n")?;
    stream.read(&mut [0; 64])
}

fn try_ask(port: u16, command: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes())?;
    let (mut answer, mut buffer) = (String::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut buffer)?;
        answer += &String::from_utf8_lossy(buffer.get(..read).unwrap_or_default());
        // A sentinel says this in place of an end.
        if read == 0 || answer.contains("unknown command 'QUIT'") {
            return Ok(answer);
        }
    }
}

/// Tests of several processes run side by side: each begins at a place of its own.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let span = PORTS.end - PORTS.start;
    let start = u16::try_from(std::process::id() % u32::from(span)).unwrap();
    loop {
        let offset = (start + NEXT.fetch_add(7, Ordering::Relaxed) % span) % span;
        let port = PORTS.start + offset;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
