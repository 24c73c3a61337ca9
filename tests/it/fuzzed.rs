//! The fuzz targets without a fuzzer: every input in fuzz/corpus and fuzz/regressions is held to
//! the property of its target. The properties stand in this folder once, for both.

mod cache_control;
mod credentials;
mod grpc;
mod inflate;
mod json;
mod response;
pub(crate) mod service;
mod signals;
mod wire;

use std::{
    fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
};

use crate::otlp_property;

/// Panics on an input that it does not hold for.
type Property = fn(&[u8]);

/// Every target and its property.
const TARGETS: [(&str, Property); 9] = [
    ("cache_control", cache_control::hold),
    ("credentials", credentials::hold),
    ("grpc", grpc::hold),
    ("inflate", inflate::hold),
    ("json", json::hold),
    ("response", response::hold),
    ("rewrite", otlp_property::fuzzed::hold),
    ("service", service::hold),
    ("wire", wire::hold),
];

/// Most files in one corpus, and most bytes in all of them: every clone has them, and every test run reads them.
const MOST_FILES: usize = 60;
const MOST_BYTES: u64 = 24 << 10;

/// Under the fuzzer this measures; here memory is not looked at.
fn within<T>(_most: usize, work: impl FnOnce() -> T) -> T {
    work()
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The files of a folder, in the order of their names; none where there is no folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Scenario: every committed input of every fuzz target, those that once broke something included, and none at all.
/// Guarantees: the target's property holds for each, so that a regression is found without a fuzzer.
#[test]
fn committed_inputs_hold() {
    let mut broken = Vec::new();
    for (target, hold) in TARGETS {
        // No fuzzer keeps the empty input.
        hold(b"");
        for folder in ["corpus", "regressions"] {
            for file in files(&fuzz().join(folder).join(target)) {
                let input = fs::read(&file).unwrap();
                if catch_unwind(|| hold(&input)).is_err() {
                    broken.push(file);
                }
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// Scenario: the folders of fuzz/ beside the table above.
/// Guarantees: no target is left out of the replay, none has an empty corpus, and none a large one.
#[test]
fn every_target_has_a_small_corpus() {
    let stems = |folder: &str| -> Vec<String> {
        let files = files(&fuzz().join(folder));
        files.iter().map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
    };
    let names = TARGETS.map(|(target, _)| target);
    assert_eq!(stems("fuzz_targets"), names);
    assert_eq!(stems("corpus"), names);
    assert!(stems("regressions").iter().all(|name| names.contains(&name.as_str())));
    for target in names {
        let files = files(&fuzz().join("corpus").join(target));
        let bytes: u64 = files.iter().map(|file| file.metadata().unwrap().len()).sum();
        assert!((1..=MOST_FILES).contains(&files.len()), "{target}: {} files", files.len());
        assert!(bytes <= MOST_BYTES, "{target}: {bytes} bytes");
    }
}
