//! What log shippers and people rely on.

use std::{
    io,
    sync::{Arc, Mutex},
    time::{Duration, Instant, UNIX_EPOCH},
};

use http::HeaderValue;
use serde_json::{Value, json};
use tracing_subscriber::fmt::MakeWriter;

use super::{RateCap, correlation_id, line::Timestamp, subscriber};
use crate::config::{Log, LogFormat, LogLevel};

/// Keeps what is written.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<Vec<u8>>>>);

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().push(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Sink {
    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().drain(..).map(|line| String::from_utf8(line).unwrap()).collect()
    }
}

fn log(level: LogLevel) -> Log {
    Log { format: LogFormat::Json, level }
}

/// Scenario: an event inside two spans, with values of every kind and a peer's control characters.
/// Guarantees: one line of JSON with LabKit's names, the inner value of a name twice given, everything escaped.
#[test]
fn an_event_is_one_json_object() {
    let sink = Sink::default();
    let (subscriber, _handle) = subscriber(&log(LogLevel::Info), sink.clone());
    tracing::subscriber::with_default(subscriber, || {
        let request = tracing::info_span!(
            "request",
            correlation_id = "abc",
            listener = "outer",
            status = tracing::field::Empty
        );
        let _request = request.enter();
        request.record("status", 7);
        let _inner = tracing::info_span!("inner", listener = "runners").entered();
        let error = io::Error::other("no \"route\"\nto host");
        tracing::warn!(
            http_status_code = 503_u16,
            duration_s = 0.25,
            error_message = &error as &(dyn std::error::Error + 'static),
            severity = "forged",
            timestamp = "forged",
            yes = true,
            odd = f64::NAN,
            debugged = ?Some("x\u{1b}[31m"),
            "asked in vain\n{{\"severity\":\"error\"}}"
        );
    });
    let lines = sink.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0].matches('\n').count(), 1);
    let mut line: Value = serde_json::from_str(&lines[0]).expect("JSON");
    let timestamp = line.as_object_mut().unwrap().remove("timestamp").unwrap();
    assert_eq!(timestamp.as_str().unwrap().len(), "2026-01-02T03:04:05.678Z".len());
    assert_eq!(
        line,
        json!({
            "severity": "warn",
            "message": "asked in vain\n{\"severity\":\"error\"}",
            "service_name": "spangate",
            "correlation_id": "abc",
            "listener": "runners",
            "status": 7,
            "http_status_code": 503,
            "duration_s": 0.25,
            "error_message": "no \"route\"\nto host",
            "yes": true,
            "odd": null,
            "debugged": "Some(\"x\\u{1b}[31m\")",
        })
    );
    assert!(lines[0].starts_with("{\"timestamp\":"), "the time first, for people: {}", lines[0]);
}

/// Scenario: events of ours and of a library, at each level, before and after the level changes.
/// Guarantees: the level holds at once after a change; a library's events below a warning are never written.
#[test]
fn the_level_can_change_and_libraries_stay_quiet() {
    let sink = Sink::default();
    let (subscriber, handle) = subscriber(&log(LogLevel::Info), sink.clone());
    let all = || {
        tracing::error!("own error");
        tracing::warn!("own warn");
        tracing::info!("own info");
        tracing::debug!("own debug");
        tracing::trace!("own trace");
        tracing::warn!(target: "h2::codec", "library warn");
        tracing::info!(target: "h2::codec", "library info");
        tracing::debug!(target: "h2::codec", "library debug");
        tracing::debug!(target: "spangate::proxy::gateway", "own module debug");
    };
    let messages = || -> Vec<String> {
        let messages = sink.lines().into_iter().map(|line| {
            let line: Value = serde_json::from_str(&line).unwrap();
            line["message"].as_str().unwrap().to_owned()
        });
        messages.collect()
    };
    tracing::subscriber::with_default(subscriber, || {
        all();
        assert_eq!(messages(), ["own error", "own warn", "own info", "library warn"]);
        handle.apply(&log(LogLevel::Debug)).unwrap();
        all();
        let debug = messages();
        assert_eq!(
            debug,
            ["own error", "own warn", "own info", "own debug", "library warn", "own module debug"]
        );
        handle.apply(&log(LogLevel::Error)).unwrap();
        all();
        assert_eq!(messages(), ["own error"]);
    });
    assert!(handle.apply(&log(LogLevel::Info)).is_err(), "the log is gone");
}

/// Scenario: the text format, chosen while running, with a value that holds a line break.
/// Guarantees: one line for people; nobody can forge a second one.
#[test]
fn text_for_people() {
    let sink = Sink::default();
    let (subscriber, handle) = subscriber(&log(LogLevel::Info), sink.clone());
    tracing::subscriber::with_default(subscriber, || {
        handle.apply(&Log { format: LogFormat::Text, level: LogLevel::Info }).unwrap();
        tracing::info!(listener = "a\nb", count = 3, "started\nERROR forged");
    });
    let lines = sink.lines();
    assert_eq!(lines.len(), 1);
    let (_, rest) = lines[0].split_once(' ').unwrap();
    assert_eq!(rest, "info  started\\nERROR forged listener=\"a\\nb\" count=3\n");
}

/// Scenario: known moments, leap days and ends of centuries among them.
/// Guarantees: the calendar agrees with httpdate's on every day of 300 years.
#[test]
fn timestamps_are_rfc_3339() {
    for (seconds, millis, text) in [
        (0, 0, "1970-01-01T00:00:00.000Z"),
        (951_782_399, 999, "2000-02-28T23:59:59.999Z"),
        (951_868_799, 1, "2000-02-29T23:59:59.001Z"),
        (1_709_164_800, 0, "2024-02-29T00:00:00.000Z"),
        (4_107_542_400, 0, "2100-03-01T00:00:00.000Z"),
        (253_402_300_799, 0, "9999-12-31T23:59:59.000Z"),
    ] {
        assert_eq!(Timestamp(Duration::from_secs(seconds) + Duration::from_millis(millis)).to_string(), text);
    }
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    for day in 0..110_000_u64 {
        let time = Duration::from_secs(day * 86_400 + 3_723);
        let other = httpdate::fmt_http_date(UNIX_EPOCH + time);
        let words: Vec<_> = other.split(' ').collect();
        let month = months.iter().position(|name| *name == words[2]).unwrap() + 1;
        let expected = format!("{}-{month:02}-{}T{}.000Z", words[3], words[1], words[4]);
        assert_eq!(Timestamp(time).to_string(), expected);
    }
}

/// Scenario: a burst of refusals for one reason, one for another, then a second later.
/// Guarantees: so many lines a second for each reason, and the number left out is told once.
#[test]
fn lines_are_capped_by_reason() {
    let cap = RateCap::new(2);
    let start = Instant::now();
    let at = |millis| start + Duration::from_millis(millis);
    assert_eq!(cap.allow_at("a", at(0)), Some(0));
    assert_eq!(cap.allow_at("a", at(1)), Some(0));
    for _ in 0..5 {
        assert_eq!(cap.allow_at("a", at(2)), None);
    }
    assert_eq!(cap.allow_at("b", at(3)), Some(0));
    assert_eq!(cap.allow_at("a", at(1000)), Some(5));
    assert_eq!(cap.allow_at("a", at(1001)), Some(0));
    assert_eq!(cap.allow_at("a", at(1002)), None);
    assert_eq!(RateCap::new(0).allow("a"), None);
    let names: Vec<&'static str> = (0..200).map(|n| &*Box::leak(format!("r{n}").into_boxed_str())).collect();
    let passed = names.iter().filter(|name| cap.allow_at(name, at(1500)).is_some()).count();
    assert!(passed <= 64, "{passed}");
}

/// Scenario: inbound request ids, sane and not.
/// Guarantees: a sane one is kept, anything else is replaced by a fresh one that is sane itself; no
/// two fresh ones are the same.
#[test]
fn correlation_ids() {
    let given = |text: &[u8]| correlation_id(Some(&HeaderValue::from_bytes(text).unwrap()));
    assert_eq!(&*given(b"01JAB.c-d_9"), "01JAB.c-d_9");
    assert_eq!(&*given(&[b'a'; 128]), "a".repeat(128));
    let fresh = correlation_id(None);
    let many: std::collections::HashSet<_> = (0..10_000).map(|_| correlation_id(None)).collect();
    assert_eq!(many.len(), 10_000);
    for bad in [&b""[..], &[b'a'; 129], b"a b", b"a\"b", b"glrt-x\xffy", b"{}"] {
        let made = given(bad);
        assert_eq!(made.len(), 32);
        assert_ne!(made, fresh);
        assert_eq!(correlation_id(Some(&HeaderValue::from_str(&made).unwrap())), made);
    }
}
