//! Generated files under docs/ and config/ are what the code says today.

use std::{fs, path::Path};

/// Compares a generated file with `text`, or writes it when `SPANGATE_REGENERATE` is set.
fn same(path: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("SPANGATE_REGENERATE").is_some() {
        let written = file.parent().map(fs::create_dir_all).transpose().and_then(|_| fs::write(&file, text));
        assert!(written.is_ok(), "{path}: {written:?}");
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        found == text,
        "{path} is stale: write it again with `SPANGATE_REGENERATE=1 cargo test --test it docs`"
    );
}

/// Scenario: the shipped example is compared with `spangate config default`.
/// Guarantees: it shows every key with its real default.
#[test]
fn the_example_configuration_is_current() {
    same("config/spangate.example.yaml", &spangate::config::render::default_yaml());
}

/// Scenario: the reference is compared with `spangate config reference`.
/// Guarantees: operators read about the keys that exist.
#[test]
fn the_configuration_reference_is_current() {
    same("docs/configuration.md", &spangate::config::render::reference());
}

/// Scenario: the list of attributes is compared with the table that they are written from.
/// Guarantees: operators read about the attributes that exist.
#[test]
fn the_list_of_attributes_is_current() {
    same("docs/attributes.md", &spangate::validate::attributes::reference());
}

/// Scenario: the list of metrics is compared with the table that the registry is filled from.
/// Guarantees: operators read about the metrics that exist.
#[test]
fn the_list_of_metrics_is_current() {
    same("docs/metrics.md", &spangate::metrics::reference());
}

/// Scenario: the picture of the request line in README.md is compared with the one in src/lib.rs.
/// Guarantees: both readers see the same line.
#[test]
fn both_pictures_of_the_line_are_the_same() {
    let picture = |path: &str| -> Vec<String> {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        text.lines()
            .map(|line| line.strip_prefix("//!").map_or(line, |line| line.strip_prefix(' ').unwrap_or(line)))
            .skip_while(|line| !line.starts_with("accept, whose it is"))
            .take_while(|line| !line.starts_with("```"))
            .map(str::to_owned)
            .collect()
    };
    let shown = picture("README.md");
    assert_eq!(shown.len(), 13, "{shown:#?}");
    assert_eq!(shown, picture("src/lib.rs"));
}
