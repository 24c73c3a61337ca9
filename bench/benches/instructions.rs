//! Instructions of every kernel of ours on every sample, counted by callgrind: what `bench/gate`
//! holds against `bench/baseline.json`. What other libraries need is not gated, so it is not here.

use gungraun::{Callgrind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main};
use spangate_bench::{
    kernels::{self, Kernel},
    samples::Sample,
};

/// A kernel that has run once, kept for ever: freeing it is none of the request's cost.
type Run = &'static mut dyn FnMut();

fn ready(kernel: Kernel, sample: &str) -> Run {
    Box::leak(kernel.ready(&Sample::named(sample)))
}

fn protected() -> Run {
    let (mut run, _) = kernels::protected_keys();
    run();
    Box::leak(run)
}

#[library_benchmark]
#[bench::spans_1(ready(Kernel::Inspect, "spans_1"))]
#[bench::spans_32(ready(Kernel::Inspect, "spans_32"))]
#[bench::spans_512(ready(Kernel::Inspect, "spans_512"))]
#[bench::spans_8192(ready(Kernel::Inspect, "spans_8192"))]
#[bench::spans_64x8(ready(Kernel::Inspect, "spans_64x8"))]
#[bench::metrics_64(ready(Kernel::Inspect, "metrics_64"))]
#[bench::logs_512(ready(Kernel::Inspect, "logs_512"))]
#[bench::profiles_8(ready(Kernel::Inspect, "profiles_8"))]
fn inspect(run: Run) {
    run();
}

#[library_benchmark]
#[bench::spans_1(ready(Kernel::Rewrite, "spans_1"))]
#[bench::spans_32(ready(Kernel::Rewrite, "spans_32"))]
#[bench::spans_512(ready(Kernel::Rewrite, "spans_512"))]
#[bench::spans_8192(ready(Kernel::Rewrite, "spans_8192"))]
#[bench::spans_64x8(ready(Kernel::Rewrite, "spans_64x8"))]
#[bench::metrics_64(ready(Kernel::Rewrite, "metrics_64"))]
#[bench::logs_512(ready(Kernel::Rewrite, "logs_512"))]
#[bench::profiles_8(ready(Kernel::Rewrite, "profiles_8"))]
fn rewrite(run: Run) {
    run();
}

#[library_benchmark]
#[bench::spans_1(ready(Kernel::Job, "spans_1"))]
#[bench::spans_32(ready(Kernel::Job, "spans_32"))]
#[bench::spans_512(ready(Kernel::Job, "spans_512"))]
#[bench::spans_8192(ready(Kernel::Job, "spans_8192"))]
#[bench::spans_64x8(ready(Kernel::Job, "spans_64x8"))]
#[bench::metrics_64(ready(Kernel::Job, "metrics_64"))]
#[bench::logs_512(ready(Kernel::Job, "logs_512"))]
#[bench::profiles_8(ready(Kernel::Job, "profiles_8"))]
fn job(run: Run) {
    run();
}

#[library_benchmark]
#[bench::spans_1(ready(Kernel::JobStructure, "spans_1"))]
#[bench::spans_32(ready(Kernel::JobStructure, "spans_32"))]
#[bench::spans_512(ready(Kernel::JobStructure, "spans_512"))]
#[bench::spans_8192(ready(Kernel::JobStructure, "spans_8192"))]
#[bench::spans_64x8(ready(Kernel::JobStructure, "spans_64x8"))]
#[bench::metrics_64(ready(Kernel::JobStructure, "metrics_64"))]
#[bench::logs_512(ready(Kernel::JobStructure, "logs_512"))]
#[bench::profiles_8(ready(Kernel::JobStructure, "profiles_8"))]
fn job_structure(run: Run) {
    run();
}

#[library_benchmark]
#[bench::spans_32(ready(Kernel::Json, "spans_32"))]
#[bench::spans_512(ready(Kernel::Json, "spans_512"))]
fn json(run: Run) {
    run();
}

#[library_benchmark]
#[bench::spans_32(ready(Kernel::GzipIn, "spans_32"))]
#[bench::spans_512(ready(Kernel::GzipIn, "spans_512"))]
fn gzip_in(run: Run) {
    run();
}

#[library_benchmark]
#[bench::spans_32(ready(Kernel::ZstdIn, "spans_32"))]
#[bench::spans_512(ready(Kernel::ZstdIn, "spans_512"))]
fn zstd_in(run: Run) {
    run();
}

#[library_benchmark]
#[bench::spans_32(ready(Kernel::GzipOut, "spans_32"))]
#[bench::spans_512(ready(Kernel::GzipOut, "spans_512"))]
fn gzip_out(run: Run) {
    run();
}

#[library_benchmark]
#[bench::spans_32(ready(Kernel::ZstdOut, "spans_32"))]
#[bench::spans_512(ready(Kernel::ZstdOut, "spans_512"))]
fn zstd_out(run: Run) {
    run();
}

#[library_benchmark]
#[bench::contains(protected())]
fn protected_keys(run: Run) {
    run();
}

library_benchmark_group!(
    name = otlp,
    benchmarks =
        [inspect, rewrite, job, job_structure, json, gzip_in, zstd_in, gzip_out, zstd_out, protected_keys]
);

// The simulated caches would take most of the time and say nothing about another machine.
main!(
    config = LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["--cache-sim=no"])),
    library_benchmark_groups = otlp
);
