//! The messages of OTLP as a hostile sender sees them: which field holds what, and how often it is
//! written. It knows nothing of the code under test.

use spangate::otlp::signal::Signal;

/// Number, weight, content.
pub(super) struct Field(pub(super) u32, pub(super) u8, pub(super) Shape);

/// What a field holds.
pub(super) enum Shape {
    Varint,
    Fixed32,
    Fixed64,
    /// Packed or not.
    Varints,
    /// Packed or not.
    Fixed64s,
    /// Into a table of the dictionary.
    Index,
    Text,
    Key,
    TraceId,
    SpanId,
    KeyValue,
    Value,
    /// At most so many of these fields.
    Message(u8, &'static [Field]),
    /// One of the first fields, then at most so many of the others.
    Begun(&'static [Field], u8, &'static [Field]),
}

use Shape::{
    Begun, Fixed32, Fixed64, Fixed64s, Index, Key, KeyValue, Message, SpanId, Text, TraceId, Value, Varint,
    Varints,
};

/// `ExportXServiceRequest`
pub(super) fn of(signal: Signal) -> &'static [Field] {
    match signal {
        Signal::Traces => TRACES_REQUEST,
        Signal::Metrics => METRICS_REQUEST,
        Signal::Logs => LOGS_REQUEST,
        Signal::Profiles => PROFILES_REQUEST,
    }
}

static TRACES_REQUEST: &[Field] = &[Field(1, 1, Message(6, SPANS))];
static METRICS_REQUEST: &[Field] = &[Field(1, 1, Message(6, METRICS))];
static LOGS_REQUEST: &[Field] = &[Field(1, 1, Message(6, LOGS))];
static PROFILES_REQUEST: &[Field] =
    &[Field(1, 3, Message(6, PROFILES)), Field(2, 2, Message(12, DICTIONARY))];

/// `ResourceX` around a `ScopeX`.
macro_rules! entry {
    ($item:expr) => {
        &[
            Field(1, 3, Message(5, RESOURCE)),
            Field(2, 3, Message(5, &[Field(1, 1, Message(4, SCOPE)), Field(2, 4, $item), Field(3, 1, Text)])),
            Field(3, 1, Text),
        ]
    };
}

static SPANS: &[Field] = entry!(Begun(&[Field(1, 1, TraceId)], 7, SPAN));
static METRICS: &[Field] = entry!(Begun(DATA, 4, METRIC));
static LOGS: &[Field] = entry!(Message(7, LOG_RECORD));
static PROFILES: &[Field] = entry!(Message(7, PROFILE));

static RESOURCE: &[Field] =
    &[Field(1, 4, KeyValue), Field(2, 1, Varint), Field(3, 1, Message(5, ENTITY_REF))];
static ENTITY_REF: &[Field] = &[Field(1, 1, Key), Field(2, 1, Key), Field(3, 1, Key), Field(4, 1, Key)];
static SCOPE: &[Field] = &[Field(1, 1, Text), Field(2, 1, Text), Field(3, 2, KeyValue), Field(4, 1, Varint)];

static SPAN: &[Field] = &[
    Field(1, 1, TraceId),
    Field(2, 2, SpanId),
    Field(3, 1, Text),
    Field(4, 1, SpanId),
    Field(5, 2, Text),
    Field(6, 1, Varint),
    Field(7, 1, Fixed64),
    Field(8, 1, Fixed64),
    Field(9, 5, KeyValue),
    Field(10, 1, Varint),
    Field(11, 1, Message(4, EVENT)),
    Field(12, 1, Varint),
    Field(13, 1, Message(4, LINK)),
    Field(14, 1, Varint),
    Field(15, 1, Message(3, &[Field(2, 1, Text), Field(3, 1, Varint)])),
    Field(16, 1, Fixed32),
];
static EVENT: &[Field] =
    &[Field(1, 1, Fixed64), Field(2, 1, Text), Field(3, 3, KeyValue), Field(4, 1, Varint)];
static LINK: &[Field] = &[
    Field(1, 1, TraceId),
    Field(2, 1, SpanId),
    Field(3, 1, Text),
    Field(4, 1, KeyValue),
    Field(5, 1, Varint),
    Field(6, 1, Fixed32),
];

static LOG_RECORD: &[Field] = &[
    Field(1, 1, Fixed64),
    Field(2, 1, Varint),
    Field(3, 1, Text),
    Field(5, 4, Value),
    Field(6, 5, KeyValue),
    Field(7, 1, Varint),
    Field(8, 1, Fixed32),
    Field(9, 3, TraceId),
    Field(10, 1, SpanId),
    Field(11, 1, Fixed64),
    Field(12, 1, Text),
];

static METRIC: &[Field] = &[
    Field(1, 6, Text),
    Field(2, 4, Text),
    Field(3, 4, Text),
    Field(12, 8, KeyValue),
    // A second kind of data, which is never accepted.
    Field(5, 1, Message(3, NUMBERS)),
    Field(10, 1, Message(3, EXPONENTIALS)),
];
static DATA: &[Field] = &[
    Field(5, 1, Message(3, NUMBERS)),
    Field(7, 1, Message(4, NUMBERS)),
    Field(9, 1, Message(4, HISTOGRAMS)),
    Field(10, 1, Message(4, EXPONENTIALS)),
    Field(11, 1, Message(3, SUMMARIES)),
];
/// `Gauge`, to which fields 2 and 3 are unknown, and `Sum`.
static NUMBERS: &[Field] = &[Field(1, 6, Message(6, NUMBER)), Field(2, 1, Varint), Field(3, 1, Varint)];
static HISTOGRAMS: &[Field] = &[Field(1, 3, Message(8, HISTOGRAM)), Field(2, 1, Varint)];
static EXPONENTIALS: &[Field] = &[Field(1, 3, Message(8, EXPONENTIAL)), Field(2, 1, Varint)];
static SUMMARIES: &[Field] = &[Field(1, 3, Message(6, SUMMARY))];
static NUMBER: &[Field] = &[
    Field(2, 1, Fixed64),
    Field(3, 1, Fixed64),
    Field(4, 1, Fixed64),
    Field(5, 3, Begun(&[Field(5, 1, TraceId)], 4, EXEMPLAR)),
    Field(6, 1, Fixed64),
    Field(7, 4, KeyValue),
    Field(8, 1, Varint),
];
static HISTOGRAM: &[Field] = &[
    Field(2, 1, Fixed64),
    Field(3, 1, Fixed64),
    Field(4, 1, Fixed64),
    Field(5, 1, Fixed64),
    Field(6, 3, Fixed64s),
    Field(7, 3, Fixed64s),
    Field(8, 3, Begun(&[Field(5, 1, TraceId)], 4, EXEMPLAR)),
    Field(9, 4, KeyValue),
    Field(10, 1, Varint),
    Field(11, 1, Fixed64),
    Field(12, 1, Fixed64),
];
static EXPONENTIAL: &[Field] = &[
    Field(1, 4, KeyValue),
    Field(2, 1, Fixed64),
    Field(3, 1, Fixed64),
    Field(4, 1, Fixed64),
    Field(5, 1, Fixed64),
    Field(6, 1, Varint),
    Field(7, 1, Fixed64),
    Field(8, 2, Message(3, BUCKETS)),
    Field(9, 2, Message(3, BUCKETS)),
    Field(10, 1, Varint),
    Field(11, 3, Begun(&[Field(5, 1, TraceId)], 4, EXEMPLAR)),
    Field(12, 1, Fixed64),
    Field(13, 1, Fixed64),
    Field(14, 1, Fixed64),
];
static BUCKETS: &[Field] = &[Field(1, 1, Varint), Field(2, 3, Varints)];
static SUMMARY: &[Field] = &[
    Field(2, 1, Fixed64),
    Field(3, 1, Fixed64),
    Field(4, 1, Fixed64),
    Field(5, 1, Fixed64),
    Field(6, 2, Message(3, &[Field(1, 1, Fixed64), Field(2, 1, Fixed64)])),
    Field(7, 4, KeyValue),
    Field(8, 1, Varint),
];
static EXEMPLAR: &[Field] = &[
    Field(2, 1, Fixed64),
    Field(3, 1, Fixed64),
    Field(4, 1, SpanId),
    Field(5, 3, TraceId),
    Field(6, 1, Fixed64),
    Field(7, 3, KeyValue),
];

static PROFILE: &[Field] = &[
    Field(1, 1, Message(3, VALUE_TYPE)),
    Field(2, 3, Message(6, SAMPLE)),
    Field(3, 1, Fixed64),
    Field(4, 1, Varint),
    Field(5, 1, Message(3, VALUE_TYPE)),
    Field(6, 1, Varint),
    Field(7, 1, TraceId),
    Field(8, 1, Varint),
    Field(9, 1, Text),
    Field(10, 1, Text),
    Field(11, 2, Varints),
];
static VALUE_TYPE: &[Field] = &[Field(1, 1, Index), Field(2, 1, Index)];
static SAMPLE: &[Field] = &[
    Field(1, 1, Index),
    Field(2, 2, Varints),
    Field(3, 1, Index),
    Field(4, 2, Varints),
    Field(5, 2, Fixed64s),
];

/// `ProfilesDictionary`
static DICTIONARY: &[Field] = &[
    Field(1, 1, Message(4, MAPPING)),
    Field(2, 1, Message(4, LOCATION)),
    Field(3, 1, Message(4, FUNCTION)),
    Field(4, 2, Begun(&[Field(1, 1, TraceId)], 3, &[Field(1, 1, TraceId), Field(2, 1, SpanId)])),
    Field(5, 8, Key),
    Field(
        6,
        4,
        Begun(&[Field(1, 1, Index)], 2, &[Field(1, 1, Index), Field(2, 3, Value), Field(3, 1, Index)]),
    ),
    Field(7, 1, Message(2, &[Field(1, 1, Varints)])),
];
static MAPPING: &[Field] = &[
    Field(1, 1, Varint),
    Field(2, 1, Varint),
    Field(3, 1, Varint),
    Field(4, 1, Index),
    Field(5, 2, Varints),
];
static LOCATION: &[Field] = &[
    Field(1, 1, Index),
    Field(2, 1, Varint),
    Field(3, 2, Message(3, &[Field(1, 1, Index), Field(2, 1, Varint), Field(3, 1, Varint)])),
    Field(4, 1, Varints),
];
static FUNCTION: &[Field] =
    &[Field(1, 1, Index), Field(2, 1, Index), Field(3, 1, Index), Field(4, 1, Varint)];
