//! Wall time of the kernels beside one another in one run, as tables in Markdown: `bench/kernel`
//! runs it. Every round measures everything once and ratios are taken within a round, so that a
//! machine that slows down spoils both sides alike. It holds nothing to a limit.

use std::{collections::HashMap, fmt::Write as _, io::Write as _, time::Instant};

use anyhow::{Context as _, bail, ensure};
use spangate_bench::{
    kernels::{self, Kernel},
    samples::Sample,
};

/// How long a kernel runs in one round at least, in seconds.
const TURN: f64 = 0.02;

const LEAST_ROUNDS: usize = 7;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rounds = match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => LEAST_ROUNDS,
        ["--rounds", rounds] => rounds.parse().context("--rounds takes a number")?,
        _ => bail!("usage: kernel [--rounds N]"),
    };
    ensure!(rounds >= LEAST_ROUNDS, "fewer than {LEAST_ROUNDS} rounds say nothing of their range");
    let report = Figures::take(rounds).report()?;
    std::io::stdout().write_all(report.as_bytes()).context("the report can't be told")
}

/// A kernel on a sample.
type Subject = (Kernel, &'static str);

struct Figures {
    rounds: usize,
    samples: Vec<Sample>,
    /// Nanoseconds of one call, one for each round.
    calls: HashMap<Subject, Vec<f64>>,
    /// Nanoseconds of one key, one for each round.
    key: Vec<f64>,
}

impl Figures {
    fn take(rounds: usize) -> Self {
        let samples = Sample::all();
        let mut subjects: Vec<(Subject, Timed)> = Vec::new();
        for sample in &samples {
            for kernel in Kernel::ALL.iter().filter(|kernel| kernel.is_measured_on(sample)) {
                subjects.push(((*kernel, sample.name), Timed::new(kernel.ready(sample))));
            }
        }
        let (run, keys) = kernels::protected_keys();
        let mut protected = Timed::new(run);
        let (mut calls, mut key) = (HashMap::<_, Vec<_>>::new(), Vec::new());
        for round in 0..rounds {
            // Whoever stands behind a heavy neighbour finds cold caches: take turns.
            if round % 2 == 1 {
                subjects.reverse();
            }
            for (subject, timed) in &mut subjects {
                calls.entry(*subject).or_default().push(timed.turn());
            }
            key.push(protected.turn() / f64::from(keys));
            if round % 2 == 1 {
                subjects.reverse();
            }
        }
        Self { rounds, samples, calls, key }
    }

    fn report(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        let rounds = self.rounds;
        writeln!(out, "{rounds} rounds, interleaved; median (range); ratios within a round.\n")?;
        writeln!(
            out,
            "| ns/item | memcpy | inspect | rewrite | job | job, structure | prost | job x memcpy | job x prost |"
        )?;
        writeln!(out, "|---|---|---|---|---|---|---|---|---|")?;
        for sample in &self.samples {
            write!(out, "| {} |", sample.name)?;
            let columns = [
                Kernel::Memcpy,
                Kernel::Inspect,
                Kernel::Rewrite,
                Kernel::Job,
                Kernel::JobStructure,
                Kernel::Prost,
            ];
            for kernel in columns {
                write!(out, " {} |", self.per_item(kernel, sample))?;
            }
            for other in [Kernel::Memcpy, Kernel::Prost] {
                write!(out, " {} |", self.ratio(Kernel::Job, other, sample))?;
            }
            writeln!(out)?;
        }
        writeln!(
            out,
            "\n| ns/item | JSON in | by serde | x serde | gzip in | zstd in | gzip out | zstd out |"
        )?;
        writeln!(out, "|---|---|---|---|---|---|---|---|")?;
        for sample in self.samples.iter().filter(|sample| sample.every_way) {
            write!(out, "| {} |", sample.name)?;
            for kernel in [Kernel::Json, Kernel::Serde] {
                write!(out, " {} |", self.per_item(kernel, sample))?;
            }
            write!(out, " {} |", self.ratio(Kernel::Json, Kernel::Serde, sample))?;
            for kernel in [Kernel::GzipIn, Kernel::ZstdIn, Kernel::GzipOut, Kernel::ZstdOut] {
                write!(out, " {} |", self.per_item(kernel, sample))?;
            }
            writeln!(out)?;
        }
        writeln!(out, "\nOne key against the protected ones: {} ns.", middle(&self.key))?;
        Ok(out)
    }

    fn per_item(&self, kernel: Kernel, sample: &Sample) -> String {
        let calls = &self.calls[&(kernel, sample.name)];
        middle(&calls.iter().map(|call| call / f64::from(sample.items)).collect::<Vec<_>>())
    }

    fn ratio(&self, kernel: Kernel, other: Kernel, sample: &Sample) -> String {
        let [ours, theirs] = [kernel, other].map(|kernel| &self.calls[&(kernel, sample.name)]);
        middle(&ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect::<Vec<_>>())
    }
}

/// A closure and how often it is called in a turn.
struct Timed {
    run: Box<dyn FnMut()>,
    calls: u32,
}

impl Timed {
    fn new(run: Box<dyn FnMut()>) -> Self {
        let mut timed = Self { run, calls: 1 };
        while timed.seconds() < TURN && timed.calls < 1 << 24 {
            timed.calls *= 2;
        }
        timed
    }

    /// Nanoseconds of one call, over one turn.
    fn turn(&mut self) -> f64 {
        // The first calls find another kernel's data in the caches.
        for _ in 0..self.calls / 8 {
            (self.run)();
        }
        self.seconds() * 1e9 / f64::from(self.calls)
    }

    fn seconds(&mut self) -> f64 {
        let start = Instant::now();
        for _ in 0..self.calls {
            (self.run)();
        }
        start.elapsed().as_secs_f64()
    }
}

/// The median and the range, with as many digits as they carry.
fn middle(values: &[f64]) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let digits = |value: f64| match value {
        value if value < 1.0 => format!("{value:.3}"),
        value if value < 10.0 => format!("{value:.2}"),
        value if value < 100.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    };
    let [low, median, high] =
        [0, sorted.len() / 2, sorted.len().saturating_sub(1)].map(|place| digits(sorted[place]));
    format!("{median} ({low}-{high})")
}

#[cfg(test)]
mod tests {
    use super::middle;

    /// Scenario: rounds out of order, one of them an outlier.
    /// Guarantees: the middle one is told, with the least and the greatest as its range.
    #[test]
    fn the_median_and_the_range() {
        assert_eq!(middle(&[12.0, 250.0, 9.5]), "12.0 (9.50-250)");
        assert_eq!(middle(&[0.25]), "0.250 (0.250-0.250)");
    }
}
