//! The kernels of a request's way and what stands beside them, each as a closure that does it once:
//! one list for the wall-clock benches, the instruction gate and the reports. Under what rules a
//! kernel runs is decided here, as the gateway's default configuration has it.

use std::{hint::black_box, io::Write as _, sync::Arc};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use spangate_otlp::otlp::{
    TraceId,
    compression::{self, Encoding, InflateCaps},
    inspect::{Depth, Inspection, Rules, inspect},
    json,
    rewrite::{Policy, ProtectedKeys, Rewritten, SharedKeys, Stamp, Value, rewrite},
    signal::Signal,
};

use crate::{
    payload::{self, RESOURCE_ATTRIBUTES, SPAN_ATTRIBUTES},
    peers,
    samples::Sample,
};

/// Something that is done to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// The strict pass, all checks on.
    Inspect,
    /// The rewriting of a request that was inspected.
    Rewrite,
    /// Both, as the gateway does them.
    Job,
    /// The strict pass without the checks inside of items: [`Depth::Structure`].
    InspectStructure,
    /// Both, at that depth.
    JobStructure,
    /// The body copied once into memory that is there already: what looking at bytes can't be cheaper than.
    Memcpy,
    /// Decode, edit and encode through structs: [`peers::edit`].
    Prost,
    /// OTLP/JSON to protobuf by the gateway's decoder.
    Json,
    /// The same by [`peers::from_json`].
    Serde,
    /// Gzip, as exporters send it (level 6), inflated.
    GzipIn,
    /// Zstandard, as exporters send it (level 3), inflated.
    ZstdIn,
    /// The rewritten pieces deflated by gzip at the gateway's level.
    GzipOut,
    /// The rewritten pieces deflated by Zstandard at the gateway's level.
    ZstdOut,
}

impl Kernel {
    /// Every kernel, in the order of the tables.
    pub const ALL: &'static [Self] = &[
        Self::Inspect,
        Self::Rewrite,
        Self::Job,
        Self::InspectStructure,
        Self::JobStructure,
        Self::Memcpy,
        Self::Prost,
        Self::Json,
        Self::Serde,
        Self::GzipIn,
        Self::ZstdIn,
        Self::GzipOut,
        Self::ZstdOut,
    ];

    /// Its name in every table and bench.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Inspect => "inspect",
            Self::Rewrite => "rewrite",
            Self::Job => "job",
            Self::InspectStructure => "inspect_structure",
            Self::JobStructure => "job_structure",
            Self::Memcpy => "memcpy",
            Self::Prost => "prost",
            Self::Json => "json",
            Self::Serde => "serde",
            Self::GzipIn => "gzip_in",
            Self::ZstdIn => "zstd_in",
            Self::GzipOut => "gzip_out",
            Self::ZstdOut => "zstd_out",
        }
    }

    /// Whether it is measured on `sample`: the slow ones are on typical sizes only.
    #[must_use]
    pub fn is_measured_on(self, sample: &Sample) -> bool {
        match self {
            Self::Json | Self::Serde | Self::GzipIn | Self::ZstdIn | Self::GzipOut | Self::ZstdOut => {
                sample.every_way
            }
            _ => true,
        }
    }

    /// The kernel on `sample`, prepared: each call does it once and drops what came out, as the gateway does
    /// in the end. It has run once, so that contexts kept from body to body are there.
    ///
    /// # Panics
    /// Never: the samples are good requests.
    #[must_use]
    pub fn ready(self, sample: &Sample) -> Box<dyn FnMut()> {
        let Sample { signal, body, .. } = sample.clone();
        let depth = match self {
            Self::InspectStructure | Self::JobStructure => Depth::Structure,
            _ => Depth::Full,
        };
        let job = Job::new(sample, depth);
        let mut run: Box<dyn FnMut()> = match self {
            Self::Inspect | Self::InspectStructure => Box::new(move || {
                black_box(job.inspect());
            }),
            Self::Rewrite => Box::new(move || drop(black_box(job.rewrite()))),
            Self::Job | Self::JobStructure => Box::new(move || drop(black_box(job.whole()))),
            Self::Memcpy => {
                let mut copy = vec![0; body.len()];
                Box::new(move || black_box(&mut copy[..]).copy_from_slice(black_box(&body)))
            }
            Self::Prost => {
                let (edit, editor) = (sample.edit, peers::Editor::default());
                Box::new(move || drop(black_box(edit(&editor, black_box(&body)))))
            }
            Self::Json => {
                let document = (sample.to_json)(&body);
                Box::new(move || {
                    drop(black_box(json::to_protobuf(signal, black_box(&document)).expect("good JSON")));
                })
            }
            Self::Serde => {
                let (from_json, document) = (sample.from_json, (sample.to_json)(&body));
                Box::new(move || drop(black_box(from_json(black_box(&document)))))
            }
            Self::GzipIn => inflation(Encoding::Gzip, gzip(&body)),
            Self::ZstdIn => inflation(Encoding::Zstd, zstd(&body)),
            Self::GzipOut => deflation(Encoding::Gzip, job.whole().pieces),
            Self::ZstdOut => deflation(Encoding::Zstd, job.whole().pieces),
        };
        run();
        run
    }
}

/// The keys of one span's worth of attributes asked for: each one of the payload, and each protected one.
/// Gives the closure and how many keys one call of it asks for.
///
/// # Panics
/// Never: they are a few.
#[must_use]
pub fn protected_keys() -> (Box<dyn FnMut()>, u32) {
    let protected = protected();
    let senders = RESOURCE_ATTRIBUTES.iter().chain(&SPAN_ATTRIBUTES).map(|(key, _)| *key);
    let keys: Vec<&str> = senders.chain(VERIFIED.iter().map(|(key, _)| *key)).collect();
    let count = keys.len().try_into().expect("a few keys");
    let run = move || {
        for key in &keys {
            black_box(protected.contains(black_box(key.as_bytes())));
        }
    };
    (Box::new(run), count)
}

/// A verdict's attributes: the eight that are always on, in the order in which the gateway stamps them.
pub const VERIFIED: [(&str, Value<'static>); 8] = [
    ("ci.job.id", Value::Int(7_000_000_001)),
    ("ci.project.id", Value::Int(278_964)),
    ("ci.pipeline.id", Value::Int(1_234_567_890)),
    ("ci.pipeline.source", Value::String("push")),
    ("ci.runner.id", Value::Int(12_270_831)),
    ("ci.runner_manager.system_xid", Value::String("s_0123456789ab")),
    ("ci.runner.type", Value::String("instance_type")),
    ("service.name", Value::String("gitlab-ci-runner")),
];

/// The keys that the default configuration protects.
#[must_use]
pub fn protected() -> ProtectedKeys {
    ProtectedKeys::new(VERIFIED.iter().map(|(key, _)| *key), [])
}

/// The gateway's work on one request, under one set of rules.
#[derive(Debug)]
pub struct Job {
    sample: Sample,
    rules: Rules,
    policy: Policy,
    stamp: Stamp,
}

impl Job {
    /// The work under the default configuration, but for the depth.
    ///
    /// # Panics
    /// Never: the payload's trace id is one.
    #[must_use]
    pub fn new(sample: &Sample, depth: Depth) -> Self {
        // As in the gateway: only spans have a limit of their own.
        let max_item_size = if sample.signal == Signal::Traces { 4 << 10 } else { usize::MAX };
        Self {
            sample: sample.clone(),
            rules: Rules {
                trace_id: Some(TraceId::from_lower_hex(payload::TRACE_ID).expect("a trace id")),
                max_item_size,
                refuse_unknown: false,
                depth,
            },
            policy: Policy {
                protected: Arc::new(protected()),
                strip_scope: false,
                strip_items: false,
                max_item_size,
            },
            stamp: Stamp::with_keys(&SharedKeys::new(VERIFIED.map(|(key, _)| key)), VERIFIED),
        }
    }

    /// The strict pass.
    ///
    /// # Panics
    /// On a request that is not well formed.
    #[must_use]
    pub fn inspect(&self) -> Inspection {
        inspect(self.sample.signal, black_box(&self.sample.body), &self.rules).expect("a good request")
    }

    /// The rewriting, with a budget that all items fit in.
    ///
    /// # Panics
    /// On a request that is not well formed.
    #[must_use]
    pub fn rewrite(&self) -> Rewritten {
        let Sample { signal, items, body, .. } = &self.sample;
        rewrite(*signal, black_box(body), &self.policy, &self.stamp, u64::from(*items))
            .expect("a good request")
    }

    /// Both.
    #[must_use]
    pub fn whole(&self) -> Rewritten {
        black_box(self.inspect());
        self.rewrite()
    }
}

/// The default caps.
const CAPS: InflateCaps = InflateCaps { max_size: 16 << 20, max_ratio: 200 };

fn inflation(encoding: Encoding, body: Bytes) -> Box<dyn FnMut()> {
    Box::new(move || {
        drop(black_box(compression::inflate(encoding, black_box(&body), CAPS).expect("a good body")));
    })
}

fn deflation(encoding: Encoding, pieces: Vec<Bytes>) -> Box<dyn FnMut()> {
    Box::new(move || drop(black_box(compression::deflate(encoding, black_box(&pieces)))))
}

fn gzip(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(body).and_then(|()| encoder.finish()).expect("memory takes all").into()
}

fn zstd(body: &[u8]) -> Bytes {
    zstd::bulk::compress(body, 3).expect("memory takes all").into()
}

#[cfg(test)]
mod tests;
