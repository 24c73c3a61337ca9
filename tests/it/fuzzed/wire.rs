//! Any bytes as a protobuf request. The first byte chooses the signal and the longest item.

use std::sync::Arc;

use bytes::Bytes;
use spangate::otlp::{
    TraceId,
    inspect::{Depth, Inspection, Rules, inspect},
    rewrite::{Policy, ProtectedKeys, Stamp, Value, rewrite},
};

use super::{signals, within};

/// Most memory of a rewrite for each byte of the body, and for each resource beside its stamp.
const FOR_A_BYTE: usize = 10;
const FOR_A_RESOURCE: usize = 512;
const AT_ALL: usize = 16 << 10;

pub(crate) fn hold(data: &[u8]) {
    let Some((&choice, body)) = data.split_first() else { return };
    let signal = signals::of(choice);
    let max_item_size = [usize::MAX, 512, 64, 0][usize::from(choice >> 2 & 3)];
    let trace_id = TraceId::from_lower_hex(&"ab".repeat(16));
    let rules = Rules { trace_id, max_item_size, refuse_unknown: false, depth: Depth::Full };

    let verdict = within(0, || inspect(signal, body, &rules));
    assert_eq!(verdict, inspect(signal, body, &rules), "two readings of the same bytes");
    let strict = inspect(signal, body, &Rules { refuse_unknown: true, ..rules });
    let Ok(found) = verdict else {
        assert!(strict.is_err(), "strict rules accept what lenient ones refuse");
        return;
    };
    assert_eq!(strict.ok(), (found.unknown_fields == 0).then_some(found));
    // The dictionary of profiles counts as one more item.
    assert!(found.oversize.max(found.foreign) <= found.items + 1);

    let open = Rules { trace_id: None, max_item_size: usize::MAX, refuse_unknown: false, depth: Depth::Full };
    let all = Inspection { oversize: 0, foreign: 0, ..found };
    assert_eq!(inspect(signal, body, &open), Ok(all), "the structure depends on the rules");
    let counted = signals::count(signal, body).expect("prost refuses what was accepted");
    assert_eq!(counted, Inspection { unknown_fields: 0, ..all });

    let policy = Policy {
        protected: Arc::new(ProtectedKeys::new(["ci.job.id", "service.name"], ["gitlab."])),
        strip_scope: choice & 0x40 != 0,
        strip_items: choice & 0x80 != 0,
        max_item_size,
    };
    let stamp = Stamp::new([("ci.job.id", Value::Int(42)), ("service.name", Value::String("runner"))]);
    let resources = usize::try_from(found.resources).expect("at most 1,000");
    let most = AT_ALL + FOR_A_BYTE * body.len() + (FOR_A_RESOURCE + stamp.encoded().len()) * resources;
    let body = Bytes::copy_from_slice(body);
    let leaves = within(most, || rewrite(signal, &body, &policy, &stamp, u64::MAX));
    assert!(leaves.is_ok(), "what was accepted is not rewritten");
}
