//! How much memory the process may use, and which part of it bodies get. It reads what the kernel tells and takes the lowest
//! limit that it finds; it never fails a start.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use crate::config::{Intake, ShareOfMemory};

/// Bodies get this part of the memory: what a body is inflated and rewritten into, its sender's connection and the verdicts
/// of all jobs want theirs too.
const PART: u64 = 4;

/// Less would not hold the bodies of a few senders, whatever the limit.
const LEAST: u64 = 64 << 20;

/// More is of no use: it would take a collector that is slow for longer than any request may take.
const MOST: u64 = 1 << 30;

/// The budget for body bytes, at least one longest body.
pub(super) fn in_flight_bytes(intake: &Intake) -> u64 {
    match intake.max_in_flight_bytes {
        ShareOfMemory::Fixed(size) => size.0,
        ShareOfMemory::Auto => share(limit(Path::new("/"))).max(intake.max_inflated_size.0),
    }
}

/// Tells the operator which budget was found.
pub(super) fn tell(intake: &Intake, bytes: u64) {
    if intake.max_in_flight_bytes == ShareOfMemory::Auto {
        let memory = limit(Path::new("/"));
        tracing::info!(
            max_in_flight_bytes = bytes,
            memory,
            "memory for bodies: a quarter of what the process may use"
        );
    }
}

fn share(memory: Option<u64>) -> u64 {
    // Unknown: a machine that tells nothing is none to be bold on.
    memory.map_or(LEAST, |memory| (memory / PART).clamp(LEAST, MOST))
}

/// The lowest limit on the memory of this process: of its cgroup (version 2 or 1) and of each above it, and the
/// machine's memory. `root`: where `/proc` and `/sys` are.
fn limit(root: &Path) -> Option<u64> {
    let cgroups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let of_cgroups = cgroups.lines().filter_map(|line| {
        // `hierarchy-ID:controller-list:cgroup-path` (cgroups(7)); version 2 has no controllers.
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let (mounts, file) = if controllers.is_empty() {
            (&["sys/fs/cgroup", "sys/fs/cgroup/unified"][..], "memory.max")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            (&["sys/fs/cgroup/memory"][..], "memory.limit_in_bytes")
        } else {
            return None;
        };
        mounts.iter().filter_map(|mount| lowest(&root.join(mount), path, file)).min()
    });
    of_cgroups.chain(machine(root)).min()
}

/// The lowest value of `file` in the directory of a cgroup and in those above it, up to the mount. Directories that are
/// not there are passed over: in a container the path may be the host's.
fn lowest(mount: &Path, path: &str, file: &str) -> Option<u64> {
    // Nothing but plain names: outside its own namespace a cgroup is written with `..`.
    let names = Path::new(path).components().filter(|part| matches!(part, Component::Normal(_)));
    let directory: PathBuf =
        std::iter::once(mount.as_os_str()).chain(names.map(Component::as_os_str)).collect();
    directory
        .ancestors()
        .take_while(|directory| directory.starts_with(mount))
        // `max` is no number, and no limit.
        .filter_map(|directory| fs::read_to_string(directory.join(file)).ok()?.trim().parse::<u64>().ok())
        .min()
}

fn machine(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    rest.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1 << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A system with these files.
    fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    /// Scenario: both versions of cgroups, limits at several levels and at none, a container that sees the host's path.
    /// Guarantees: the lowest limit that holds for the process is found, the machine's memory at the most.
    #[test]
    fn the_lowest_limit_holds() {
        let machine = ("proc/meminfo", "MemTotal:       8388608 kB\nMemFree:  1 kB\n");
        let v2 = ("proc/self/cgroup", "0::/pods/a\n");
        let v1 = ("proc/self/cgroup", "12:cpu,cpuacct:/a\n5:memory:/pods/a\n1:name=systemd:/a\n");
        let gib = 1 << 30;
        for (files, expected) in [
            (vec![], None),
            (vec![machine], Some(8 * gib)),
            (vec![machine, v2], Some(8 * gib)),
            (vec![machine, v2, ("sys/fs/cgroup/pods/a/memory.max", "1073741824\n")], Some(gib)),
            (
                vec![
                    machine,
                    v2,
                    ("sys/fs/cgroup/pods/a/memory.max", "max\n"),
                    ("sys/fs/cgroup/pods/memory.max", "2147483648\n"),
                ],
                Some(2 * gib),
            ),
            (vec![machine, v2, ("sys/fs/cgroup/memory.max", "1073741824\n")], Some(gib)),
            (vec![machine, v2, ("sys/fs/cgroup/other/memory.max", "1\n")], Some(8 * gib)),
            (vec![machine, ("proc/self/cgroup", "0::/../../b\n"), ("memory.max", "1\n")], Some(8 * gib)),
            (vec![v2, ("sys/fs/cgroup/unified/pods/memory.max", "1073741824\n")], Some(gib)),
            (
                vec![
                    machine,
                    v1,
                    ("sys/fs/cgroup/memory/pods/a/memory.limit_in_bytes", "9223372036854771712\n"),
                ],
                Some(8 * gib),
            ),
            (vec![machine, v1, ("sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n")], Some(gib)),
            (vec![machine, ("proc/self/cgroup", "garbage\n::\n\n")], Some(8 * gib)),
        ] {
            assert_eq!(limit(system(&files).path()), expected, "{files:?}");
        }
    }

    /// Scenario: memory from nothing to plenty, a size that is written, a longest body that is longer than the share.
    /// Guarantees: a quarter within its bounds; what is written holds; one longest body always fits.
    #[test]
    fn bodies_get_a_quarter() {
        for (memory, expected) in
            [(None, LEAST), (Some(0), LEAST), (Some(1 << 30), 256 << 20), (Some(1 << 40), MOST)]
        {
            assert_eq!(share(memory), expected, "{memory:?}");
        }
        let size = |bytes| crate::config::units::ByteSize(bytes);
        let fixed = Intake { max_in_flight_bytes: ShareOfMemory::Fixed(size(7)), ..Intake::default() };
        assert_eq!(in_flight_bytes(&fixed), 7);
        let long = Intake { max_inflated_size: size(3 << 30), ..Intake::default() };
        assert_eq!(in_flight_bytes(&long), 3 << 30);
        assert!((LEAST..=MOST).contains(&in_flight_bytes(&Intake::default())));
    }
}
