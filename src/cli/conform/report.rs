//! What the checks found, told line by line as it is found, or at the end as one JSON object. It counts;
//! it never judges.

use std::{io::Write, time::Duration};

use serde::Serialize;

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Outcome {
    #[serde(rename = "ok")]
    Ok,
    /// The gateway can live with it, its operator may not want to.
    #[serde(rename = "warn")]
    Warn,
    #[serde(rename = "FAIL")]
    Fail,
    /// Not asked.
    #[serde(rename = "skip")]
    Skip,
}

/// One check's result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) check: &'static str,
    pub(super) outcome: Outcome,
    /// What was seen; never a token, nor text of an answer.
    pub(super) seen: String,
    /// What to mend.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) mend: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    took_ms: Option<u128>,
}

impl Finding {
    pub(super) fn ok(check: &'static str, seen: impl Into<String>) -> Self {
        Self { check, outcome: Outcome::Ok, seen: seen.into(), mend: "", took_ms: None }
    }

    pub(super) fn skip(check: &'static str, why: impl Into<String>) -> Self {
        Self { outcome: Outcome::Skip, ..Self::ok(check, why) }
    }

    pub(super) fn warn(check: &'static str, seen: impl Into<String>, mend: &'static str) -> Self {
        Self { outcome: Outcome::Warn, mend, ..Self::ok(check, seen) }
    }

    pub(super) fn fail(check: &'static str, seen: impl Into<String>, mend: &'static str) -> Self {
        Self { outcome: Outcome::Fail, mend, ..Self::ok(check, seen) }
    }

    /// The same, found by an answer that took so long.
    pub(super) fn after(self, took: Duration) -> Self {
        Self { took_ms: Some(took.as_millis()), ..self }
    }
}

/// All results so far.
pub(super) struct Report<'a> {
    out: &'a mut dyn Write,
    as_json: bool,
    url: String,
    findings: Vec<Finding>,
}

#[derive(Serialize)]
struct Summary<'a> {
    url: &'a str,
    checks: &'a [Finding],
    ok: usize,
    warn: usize,
    failed: usize,
    skipped: usize,
}

impl<'a> Report<'a> {
    pub(super) fn new(out: &'a mut dyn Write, as_json: bool, url: &str) -> Self {
        Self { out, as_json, url: url.to_owned(), findings: Vec::new() }
    }

    /// A line that is no result.
    pub(super) fn note(&mut self, text: &str) {
        if !self.as_json {
            self.write(text);
        }
    }

    pub(super) fn tell(&mut self, finding: Finding) {
        self.note(&line(&finding));
        self.findings.push(finding);
    }

    /// A closed pipe does not change the verdict.
    fn write(&mut self, line: &str) {
        let _ignored = writeln!(self.out, "{line}").and_then(|()| self.out.flush());
    }

    /// Ends with the summary; gives the number of failed checks.
    pub(super) fn finish(mut self) -> usize {
        let count = |outcome| self.findings.iter().filter(|finding| finding.outcome == outcome).count();
        let summary = Summary {
            url: &self.url,
            checks: &self.findings,
            ok: count(Outcome::Ok),
            warn: count(Outcome::Warn),
            failed: count(Outcome::Fail),
            skipped: count(Outcome::Skip),
        };
        let failed = summary.failed;
        let text = if self.as_json {
            serde_json::to_string_pretty(&summary).unwrap_or_default()
        } else {
            let Summary { ok, warn, skipped, .. } = summary;
            let keeps = if failed == 0 { "keeps" } else { "breaks" };
            format!(
                "\nthe endpoint {keeps} the contract: {ok} ok, {warn} warn, {failed} FAIL, {skipped} skipped"
            )
        };
        self.write(&text);
        failed
    }
}

fn line(finding: &Finding) -> String {
    let outcome = match finding.outcome {
        Outcome::Ok => "ok",
        Outcome::Warn => "warn",
        Outcome::Fail => "FAIL",
        Outcome::Skip => "skip",
    };
    let Finding { check, seen, mend, took_ms, .. } = finding;
    let took = took_ms.map(|took| format!(" ({took} ms)")).unwrap_or_default();
    let arrow = if mend.is_empty() { "" } else { " -> " };
    format!("{outcome:<4}  {check:<22}  {seen}{took}{arrow}{mend}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: one result of each kind, as text and as JSON.
    /// Guarantees: one line each with what was seen and what to mend, the counts, and the number of failures.
    #[test]
    fn results_are_told_and_counted() {
        let told = |as_json| {
            let mut out = Vec::new();
            let mut report = Report::new(&mut out, as_json, "https://x/auth");
            report.note("begin");
            report.tell(Finding::ok("a", "200").after(Duration::from_millis(12)));
            report.tell(Finding::warn("b", "none", "send it"));
            report.tell(Finding::fail("c", "500", "mend it"));
            report.tell(Finding::skip("d", "no secret"));
            assert_eq!(report.finish(), 1);
            String::from_utf8(out).unwrap()
        };
        let column = |name| format!("{name:<22}");
        let expected = format!(
            "begin\nok    {}  200 (12 ms)\nwarn  {}  none -> send it\nFAIL  {}  500 -> mend it\nskip  {}  no secret\n\n\
             the endpoint breaks the contract: 1 ok, 1 warn, 1 FAIL, 1 skipped\n",
            column("a"),
            column("b"),
            column("c"),
            column("d")
        );
        assert_eq!(told(false), expected);
        let json: serde_json::Value = serde_json::from_str(&told(true)).unwrap();
        assert_eq!(
            json["checks"][0],
            serde_json::json!({"check": "a", "outcome": "ok", "seen": "200", "took_ms": 12})
        );
        assert_eq!(
            json["checks"][2],
            serde_json::json!({"check": "c", "outcome": "FAIL", "seen": "500", "mend": "mend it"})
        );
        assert_eq!(
            (&json["url"], &json["failed"], &json["skipped"]),
            (&"https://x/auth".into(), &1.into(), &1.into())
        );
    }
}
