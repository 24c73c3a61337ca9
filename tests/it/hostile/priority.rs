//! Who goes first at the processors while figures are taken (sched(7)): the good sender, the authority and the collector,
//! then the gateway, then everything else of the machine, then the attacker. A thread that is woken so is at work at once
//! and waits for no tick of the scheduler: what is left of a delay is the gateway's own. It never does anything in a
//! short run, and goes on without where the kernel does not let it.

use std::{
    process::Command,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{figures::LONGEST_WAIT, scene::is_full};

/// The policies, as chrt(1) calls them.
#[derive(Clone, Copy)]
enum Policy {
    /// `SCHED_RR`, at a priority: runs before all that has none, and before lower ones.
    RoundRobin(u32),
    /// `SCHED_IDLE`: runs when nobody else wants to.
    Idle,
}

/// The good sender's is the higher one: what it measures must not wait for the gateway's next piece of work.
const GOOD: Policy = Policy::RoundRobin(30);
const GATEWAY: Policy = Policy::RoundRobin(20);

/// Puts all threads that this process has by now above those of the gateway's, and those above the rest of the machine.
/// Threads that are started later are as the thread that starts them.
pub(super) fn prefer_good(gateway: u32) {
    if is_full() {
        let allowed = set(GOOD, &["--all-tasks"], &std::process::id().to_string())
            && set(GATEWAY, &["--all-tasks"], &gateway.to_string());
        note(allowed, "the good sender and the gateway run like anybody else");
    }
}

/// This thread alone gets what the gateway's have: it stands where the gateway stood.
pub(super) fn stand_as_gateway() {
    if is_full() {
        note(set(GATEWAY, &[], &thread()), "a sink runs like anybody else");
    }
}

/// This thread alone, and those that it starts, leave the processors to whoever else wants them. A real attacker has
/// processors of its own: the figures are not to show that it took this machine's.
pub(super) fn stand_back() {
    if is_full() {
        note(set(Policy::Idle, &[], &thread()), "the attacker takes what the good sender needs");
    }
}

fn thread() -> String {
    let thread = std::fs::read_link("/proc/thread-self").unwrap();
    thread.file_name().unwrap().to_str().unwrap().to_owned()
}

/// Whether it was allowed.
fn set(policy: Policy, options: &[&str], id: &str) -> bool {
    let (name, priority) = match policy {
        Policy::RoundRobin(priority) => ("--rr", priority),
        Policy::Idle => ("--idle", 0),
    };
    let mut chrt = Command::new("chrt");
    chrt.args(options).args([name, "--pid", &priority.to_string(), id]);
    chrt.output().is_ok_and(|output| output.status.success())
}

/// Whether everybody stands where they should: latencies are the gateway's.
pub(super) fn are_set() -> bool {
    is_full() && !MISSED.load(Ordering::Relaxed)
}

static MISSED: AtomicBool = AtomicBool::new(false);

fn note(allowed: bool, what: &str) {
    static SAID: Once = Once::new();
    if !allowed {
        MISSED.store(true, Ordering::Relaxed);
        SAID.call_once(|| {
            eprintln!(
                "PRIORITIES NOT SET (chrt of util-linux, and root): {what}. The latencies are the scheduler's too, and are \
                 not held to {LONGEST_WAIT} times the quiet ones"
            );
        });
    }
}
