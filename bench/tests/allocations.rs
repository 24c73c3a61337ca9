//! What one request may allocate. A test program of its own: the counting allocator reaches only it.

use spangate_bench::{kernels::Kernel, samples::Sample};

/// Scenario: requests of 32, 512 and 8192 spans in one resource, inspected and rewritten.
/// Guarantees: inspecting allocates nothing, and rewriting as often and as much for many spans as for few.
#[test]
fn allocations_do_not_grow_with_spans() {
    let counted = |kernel: Kernel, sample: &str| {
        let counted = allocation_counter::measure(kernel.ready(&Sample::named(sample)));
        (counted.count_total, counted.bytes_total)
    };
    for sample in ["spans_1", "spans_512", "spans_64x8"] {
        assert_eq!(counted(Kernel::Inspect, sample), (0, 0), "{sample}");
    }
    let few = counted(Kernel::Job, "spans_32");
    for sample in ["spans_512", "spans_8192"] {
        assert_eq!(counted(Kernel::Job, sample).0, few.0, "{sample}");
        // Heads of messages get a byte or two longer with what they hold.
        assert!(counted(Kernel::Job, sample).1 <= few.1 + 16, "{sample}");
    }
}
