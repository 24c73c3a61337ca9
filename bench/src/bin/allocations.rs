//! How often and how much one request allocates in each kernel, as a table in Markdown:
//! `bench/kernel` runs it. It is a program of its own because the counting allocator that it links
//! would spoil every figure of time.

use std::{fmt::Write as _, io::Write as _};

use anyhow::Context as _;
use spangate_bench::{kernels::Kernel, samples::Sample};

/// Those whose memory all comes from Rust's allocator; Zstandard's library has its own.
const COUNTED: [Kernel; 6] =
    [Kernel::Inspect, Kernel::Rewrite, Kernel::Job, Kernel::Prost, Kernel::Json, Kernel::Serde];

fn main() -> anyhow::Result<()> {
    std::io::stdout().write_all(report()?.as_bytes()).context("the report can't be told")
}

fn report() -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    writeln!(
        out,
        "Allocations of one request: count, bytes in all, most bytes at once (growing one counts as a new one).\n"
    )?;
    write!(out, "| sample | body, bytes |")?;
    for kernel in COUNTED {
        write!(out, " {} |", kernel.name())?;
    }
    writeln!(out, "\n|---|---|{}", "---|".repeat(COUNTED.len()))?;
    for sample in Sample::all() {
        write!(out, "| {} | {} |", sample.name, sample.body.len())?;
        for kernel in COUNTED {
            if kernel.is_measured_on(&sample) {
                let run = kernel.ready(&sample);
                let counted = allocation_counter::measure(run);
                write!(out, " {}; {}; {} |", counted.count_total, counted.bytes_total, counted.bytes_max)?;
            } else {
                write!(out, " |")?;
            }
        }
        writeln!(out)?;
    }
    Ok(out)
}
