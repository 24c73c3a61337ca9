//! What the kernel knows of this process, read from /proc when somebody scrapes. Where a file or a
//! field is missing (another system), its metric is left out; it never fails a scrape.

use std::{fmt, fs};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

use super::table::{self, Row};

/// `USER_HZ`, the unit of times in /proc: 100 on every architecture that Rust's Linux targets have.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug)]
pub(super) struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        if let Some(start) = start_seconds(&stat) {
            put(&mut encoder, &table::PROCESS_START, &ConstGauge::new(start))?;
        }
        if let Some(cpu) = cpu_seconds(&stat) {
            put(&mut encoder, &table::PROCESS_CPU, &ConstCounter::new(cpu))?;
        }
        if let Some(bytes) = resident_bytes() {
            put(&mut encoder, &table::PROCESS_MEMORY, &ConstGauge::new(bytes))?;
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            // One of them is the directory that is being read.
            let open = i64::try_from(entries.count()).unwrap_or(i64::MAX).saturating_sub(1);
            put(&mut encoder, &table::PROCESS_FDS, &ConstGauge::new(open))?;
        }
        if let Some(most) = max_fds() {
            put(&mut encoder, &table::PROCESS_MAX_FDS, &ConstGauge::new(most))?;
        }
        Ok(())
    }
}

fn put(encoder: &mut DescriptorEncoder<'_>, row: &Row, metric: &impl EncodeMetric) -> fmt::Result {
    metric.encode(encoder.encode_descriptor(row.registered(), row.help, None, metric.metric_type())?)
}

/// The numbered field of /proc/self/stat, from 1, as proc(5) counts them.
fn field(stat: &str, number: usize) -> Option<f64> {
    // The second field is the program's name in parentheses, which may hold spaces.
    let (_, behind_name) = stat.rsplit_once(')')?;
    behind_name.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((field(stat, 14)? + field(stat, 15)?) / TICKS_PER_SECOND)
}

fn start_seconds(stat: &str) -> Option<f64> {
    let boot: f64 = labelled(&fs::read_to_string("/proc/stat").ok()?, "btime")?.parse().ok()?;
    Some(boot + field(stat, 22)? / TICKS_PER_SECOND)
}

fn resident_bytes() -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    labelled(&status, "VmRSS:")?.parse::<i64>().ok()?.checked_mul(1024)
}

fn max_fds() -> Option<i64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    labelled(&limits, "Max open files")?.parse().ok()
}

/// The first word behind `label` at the beginning of a line.
fn labelled<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(label))?.split_ascii_whitespace().next()
}
