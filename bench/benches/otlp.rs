//! Wall time of every kernel on every sample, by criterion: `cargo bench --bench otlp [FILTER]`.
//! It compares with the run before and gates nothing; time is too noisy for that.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use spangate_bench::{
    kernels::{self, Kernel},
    samples::Sample,
};

fn requests(criterion: &mut Criterion) {
    let samples = Sample::all();
    for kernel in Kernel::ALL {
        let mut group = criterion.benchmark_group(kernel.name());
        for sample in samples.iter().filter(|sample| kernel.is_measured_on(sample)) {
            group.throughput(Throughput::Elements(u64::from(sample.items)));
            let mut run = kernel.ready(sample);
            group.bench_function(BenchmarkId::from_parameter(sample.name), |bencher| bencher.iter(&mut run));
        }
        group.finish();
    }
}

fn protected_keys(criterion: &mut Criterion) {
    let (mut run, keys) = kernels::protected_keys();
    let mut group = criterion.benchmark_group("protected_keys");
    group.throughput(Throughput::Elements(u64::from(keys)));
    group.bench_function("contains", |bencher| bencher.iter(&mut run));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(30);
    targets = requests, protected_keys
}
criterion_main!(benches);
