//! What the demo prints: the table, the span trees, the lines to try. Plain text of at most 110
//! columns; it decides how things look, never whether they are right.

use std::fmt::Write as _;

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, common::v1::KeyValue, trace::v1::Span,
};

use super::{exports::Row, judge, spans};

/// Longest line of the table, in columns.
pub(super) const WIDTH: usize = 110;

/// The widths of the table's columns; with two spaces between them they fill `WIDTH`.
const COLUMNS: [usize; 8] = [2, 36, 8, 11, 18, 5, 9, 7];

/// Most spans of one export that are shown one by one.
const MOST_SPANS: usize = 20;

/// Colours, where the reader's terminal wants them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint {
    /// Whether escape sequences are written at all.
    pub(super) on: bool,
}

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    fn bad(self, text: &str) -> String {
        self.with("31", text)
    }

    fn struck(self, text: &str) -> String {
        self.with("31;9", text)
    }
}

/// One line a row, with the gateway's own sentence under each answer that has one.
pub(super) fn table(rows: &[Row], paint: Paint) -> String {
    let head = ["#", "export", "form", "sent", "answered", "asked", "arrived", "design"];
    let mut out = format!("{}\n", paint.bold(&line(&head.map(str::to_owned))));
    for (row, number) in rows.iter().zip(1_usize..) {
        let as_designed = row.differences.is_empty();
        let arrived: usize = row.arrived.iter().map(|export| spans::all(export).count()).sum();
        let sent = if row.requests > 1 {
            count(row.requests, "request")
        } else {
            count(spans::all(&row.sent).count(), "span")
        };
        let text = line(&[
            number.to_string(),
            row.what.to_owned(),
            row.form.label().to_owned(),
            sent,
            answered(row),
            row.asked.to_string(),
            if arrived == 0 { "nothing".to_owned() } else { count(arrived, "span") },
            if as_designed { "ok".to_owned() } else { "DIFFERS".to_owned() },
        ]);
        out.push_str(&if as_designed { paint.good(&text) } else { paint.bad(&text) });
        out.push('\n');
        if !row.reply.message.is_empty() {
            let message = cut(&format!("    {:?}", row.reply.message), WIDTH);
            let _written = writeln!(out, "{}", paint.dim(&message));
        }
    }
    out.push_str("asked: questions that the authority got; arrived: what the collector received\n");
    out
}

/// One sentence for each point in which a row is not as designed.
pub(super) fn differences(rows: &[Row], paint: Paint) -> String {
    let mut out = String::new();
    for (row, number) in rows.iter().zip(1_usize..) {
        for difference in &row.differences {
            let text = format!("row {number} ({}) differs: {difference}", row.what);
            let _written = writeln!(out, "{}", paint.bad(&text));
        }
    }
    out
}

/// The rows that are meant to be seen in full: what became of each attribute, and the span tree.
pub(super) fn trees(rows: &[Row], paint: Paint) -> String {
    let mut out = String::new();
    for (row, number) in rows.iter().zip(1_usize..).filter(|(row, _)| row.in_full) {
        let _written = writeln!(out, "{}", paint.bold(&format!("{number}  {}, as it arrived", row.what)));
        for export in &row.arrived {
            out.push_str(&attributes(spans::resource_attributes(&row.sent), export, paint));
            out.push_str(&span_tree(export, paint));
        }
        if row.arrived.is_empty() {
            out.push_str("   nothing\n");
        }
        out.push('\n');
    }
    out
}

/// An export that arrived later, of which only the collector's side is known.
pub(super) fn arrival(export: &ExportTraceServiceRequest, paint: Paint) -> String {
    let heading = format!("the collector received {}", count(spans::all(export).count(), "span"));
    let mut out = format!("{}\n", paint.bold(&heading));
    for attribute in spans::resource_attributes(export) {
        let _written = writeln!(out, "     {}", cut(&judge::shown(attribute), WIDTH.saturating_sub(5)));
    }
    out.push_str(&span_tree(export, paint));
    out
}

/// The resource's attributes: kept (` `), struck out (`-`), written by the gateway (`+`).
fn attributes(sent: &[KeyValue], export: &ExportTraceServiceRequest, paint: Paint) -> String {
    let arrived = spans::resource_attributes(export);
    let mut out = String::new();
    let mut put = |mark: &str, attribute: &KeyValue, note: &str, style: fn(Paint, &str) -> String| {
        let text = cut(&judge::shown(attribute), WIDTH.saturating_sub(40));
        let padding = " ".repeat(48_usize.saturating_sub(text.chars().count()));
        let line = format!("   {mark} {}{padding} {}", style(paint, &text), paint.dim(note));
        out.push_str(line.trim_end());
        out.push('\n');
    };
    for attribute in sent {
        if arrived.contains(attribute) {
            put(" ", attribute, "", |_, text| text.to_owned());
        } else {
            put("-", attribute, "struck out: only the gateway may say this", Paint::struck);
        }
    }
    for attribute in arrived.iter().filter(|attribute| !sent.contains(attribute)) {
        let note =
            if attribute.key == "service.name" { "set by the gateway" } else { "verified by the authority" };
        put("+", attribute, note, Paint::good);
    }
    out
}

fn span_tree(export: &ExportTraceServiceRequest, paint: Paint) -> String {
    let all: Vec<&Span> = spans::all(export).collect();
    let mut out = String::new();
    if let Some(first) = all.first() {
        let _written = writeln!(out, "   trace {}", spans::hex(&first.trace_id));
    }
    let is_root = |span: &Span| !all.iter().any(|other| other.span_id == span.parent_span_id);
    let shown: Vec<&Span> = all.iter().copied().take(MOST_SPANS).collect();
    for root in shown.iter().filter(|span| is_root(span)) {
        out.push_str(&span_line("   ", root, paint));
        let children: Vec<_> = shown.iter().filter(|child| child.parent_span_id == root.span_id).collect();
        for (child, left) in children.iter().zip((0..children.len()).rev()) {
            let branch = if left == 0 { "   └─ " } else { "   ├─ " };
            out.push_str(&span_line(branch, child, paint));
        }
    }
    if let Some(more) = all.len().checked_sub(MOST_SPANS).filter(|more| *more > 0) {
        let _written = writeln!(out, "   and {} more", count(more, "span"));
    }
    out
}

fn span_line(branch: &str, span: &Span, paint: Paint) -> String {
    let length = span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano);
    let seconds = std::time::Duration::from_nanos(length).as_secs_f64();
    let attributes: Vec<String> = span.attributes.iter().map(judge::shown).collect();
    let head = format!("{branch}{} {seconds:.2}s  ", span.name);
    let room = WIDTH.saturating_sub(head.chars().count());
    format!("{head}{}", paint.dim(&cut(&attributes.join(", "), room))).trim_end().to_owned() + "\n"
}

fn answered(row: &Row) -> String {
    let reply = &row.reply;
    match (reply.retry_after, reply.rejected) {
        (Some(seconds), _) => format!("{}, retry in {seconds} s", reply.status),
        (None, 0) => reply.status.to_string(),
        (None, rejected) => format!("{}, {rejected} rejected", reply.status),
    }
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

fn line(cells: &[String; 8]) -> String {
    let mut out = String::new();
    for (cell, width) in cells.iter().zip(COLUMNS) {
        let _written = write!(out, "{:width$}  ", cut(cell, width));
    }
    out.trim_end().to_owned()
}

/// At most `width` characters, control characters made harmless, three dots where something is left out.
fn cut(text: &str, width: usize) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().count() <= width {
        return text;
    }
    text.chars().take(width.saturating_sub(3)).chain("...".chars()).collect()
}
