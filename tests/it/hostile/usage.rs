//! What a process uses, as the kernel tells it in /proc: memory, CPU time, descriptors, threads.

use std::{fs, time::Duration};

/// `USER_HZ`, the unit of times in /proc: 100 on every architecture that Rust's Linux targets have.
const TICKS_PER_SECOND: u64 = 100;

/// A process by its id.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage(pub(super) u32);

impl Usage {
    /// Resident memory in bytes.
    pub(super) fn memory(self) -> u64 {
        self.status("VmRSS:") * 1024
    }

    /// Threads.
    pub(super) fn threads(self) -> u64 {
        self.status("Threads:")
    }

    /// User and system time so far, to 10 ms.
    pub(super) fn cpu(self) -> Duration {
        let stat = self.read("stat");
        // The second field is the program's name in parentheses, which may hold spaces.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
    }

    /// Open file descriptors.
    pub(super) fn descriptors(self) -> usize {
        fs::read_dir(self.path("fd")).unwrap().count()
    }

    fn status(self, label: &str) -> u64 {
        let status = self.read("status");
        let line = status.lines().find_map(|line| line.strip_prefix(label)).unwrap();
        line.split_ascii_whitespace().next().unwrap().parse().unwrap()
    }

    fn read(self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap_or_else(|error| panic!("process {}: {error}", self.0))
    }

    fn path(self, file: &str) -> String {
        format!("/proc/{}/{file}", self.0)
    }
}

/// Scenario: this process takes 64 MiB, works for a while and opens a file.
/// Guarantees: memory, CPU time and descriptors are seen to grow.
#[test]
fn usage_is_seen() {
    let usage = Usage(std::process::id());
    let (memory, cpu) = (usage.memory(), usage.cpu());
    let mut block = vec![1_u8; 64 << 20];
    assert!(usage.memory() >= memory + (32 << 20), "{memory}, then {}", usage.memory());
    while usage.cpu() < cpu + Duration::from_millis(20) {
        for byte in &mut block {
            *byte = byte.wrapping_mul(3);
        }
    }
    assert!(usage.descriptors() >= 3 && usage.threads() >= 1);
}
