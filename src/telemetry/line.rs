//! An event as one line: the fields of its spans, from the outermost in, then its own. It escapes
//! whatever a peer could have put into a value; it never decides what is worth a line.

use std::{
    fmt::{self, Write as _},
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use serde_json::Value;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer,
    fmt::MakeWriter,
    layer::Context,
    registry::{LookupSpan, Scope},
};

/// Names that only this file gives, so that no field can pretend to be another line.
const OWN: [&str; 3] = ["timestamp", "severity", "service_name"];

pub(super) struct LineLayer<W> {
    make_writer: W,
    text: Arc<AtomicBool>,
}

impl<W> LineLayer<W> {
    pub(super) fn new(make_writer: W, text: Arc<AtomicBool>) -> Self {
        Self { make_writer, text }
    }
}

impl<S, W> Layer<S> for LineLayer<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in context.event_scope(event).into_iter().flat_map(Scope::from_root) {
            if let Some(outer) = span.extensions().get::<Fields>() {
                for (name, value) in &outer.0 {
                    fields.put(name, value.clone());
                }
            }
        }
        event.record(&mut fields);
        let now = UNIX_EPOCH.elapsed().unwrap_or_default();
        let level = event.metadata().level();
        let line = if self.text.load(Ordering::Relaxed) {
            text_line(now, *level, &fields)
        } else {
            json_line(now, *level, &fields)
        };
        // A log that can't be written must not stop the gateway, and there is nowhere to say so.
        let _lost = self.make_writer.make_writer_for(event.metadata()).write_all(line.as_bytes());
    }
}

/// Fields in the order in which they came; the last value of a name holds.
#[derive(Debug, Default)]
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn put(&mut self, name: &'static str, value: Value) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    fn message(&self) -> Option<&Value> {
        self.0.iter().find(|(name, _)| *name == "message").map(|(_, value)| value)
    }

    fn others(&self) -> impl Iterator<Item = &(&'static str, Value)> {
        self.0.iter().filter(|(name, _)| *name != "message" && !OWN.contains(name))
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), Value::from(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), Value::from(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field.name(), Value::from(value.to_string()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field.name(), Value::from(format!("{value:?}")));
    }
}

fn json_line(now: Duration, level: Level, fields: &Fields) -> String {
    let mut line = String::with_capacity(256);
    let empty = Value::from("");
    let message = fields.message().unwrap_or(&empty);
    // Writing into a String can't fail.
    let _infallible = write!(
        line,
        "{{\"timestamp\":\"{}\",\"severity\":\"{}\",\"message\":{message},\"service_name\":\"spangate\"",
        Timestamp(now),
        severity(level),
    );
    for (name, value) in fields.others() {
        // Field names come from the program's source, but may hold a quote all the same.
        let _infallible = write!(line, ",{}:{value}", Value::from(*name));
    }
    line.push_str("}\n");
    line
}

fn text_line(now: Duration, level: Level, fields: &Fields) -> String {
    let mut line = format!("{} {:<5} ", Timestamp(now), severity(level));
    // Escaped, so that a peer's line break can't forge a line of its own.
    if let Some(message) = fields.message() {
        let _infallible = write!(line, "{}", message.as_str().unwrap_or_default().escape_debug());
    }
    for (name, value) in fields.others() {
        let _infallible = write!(line, " {name}={value}");
    }
    line.push('\n');
    line
}

fn severity(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// A time since 1970 as RFC 3339 in UTC, with milliseconds.
pub(super) struct Timestamp(pub(super) Duration);

impl fmt::Display for Timestamp {
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "bounded: a u64 of seconds is 213,503,982,334,601 days"
    )]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0.as_secs() / 86_400, self.0.as_secs() % 86_400);
        // The Gregorian calendar repeats every 400 years (146,097 days); years are counted from March
        // on, so that the leap day is the last one. 719,468 days lie between 1 March 0000 and 1970.
        let day = days + 719_468;
        let (era, day) = (day / 146_097, day % 146_097);
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let (month, early) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        write!(
            f,
            "{:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
            era * 400 + year + early,
            second / 3_600,
            second / 60 % 60,
            second % 60,
            self.0.subsec_millis(),
        )
    }
}
