//! A fuzzer's input as a case of the judge: three bytes of options, then the body.

use spangate::otlp::signal::Signal;

use super::judge::{Case, Outcome, hold as judge};

/// Bits of the first byte: two for the signal, then these.
const STRIP_SCOPE: u8 = 4;
const STRIP_ITEMS: u8 = 8;

pub(crate) fn hold(data: &[u8]) {
    let Some((&[choice, size, budget], body)) = data.split_first_chunk() else { return };
    let case = Case {
        signal: Signal::ALL[usize::from(choice & 3)],
        body: body.to_vec(),
        strip_scope: choice & STRIP_SCOPE != 0,
        strip_items: choice & STRIP_ITEMS != 0,
        max_item_size: if size == u8::MAX { usize::MAX } else { usize::from(size) * 4 },
        budget: if budget == u8::MAX { u64::MAX } else { budget.into() },
        exact: false,
    };
    if let Outcome::Accepted(found) = judge(&case) {
        assert!(found.items >= found.oversize);
    }
}
