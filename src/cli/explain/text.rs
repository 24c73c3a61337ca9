//! An explanation for people: one topic a line, in the order of the request line. It leaves out nothing
//! but what the verdict makes pointless.

use std::io::{self, Write};

use serde::Serialize;

use super::explanation::{Admitted, Explanation, Outcome, SenderGets};

/// Writes all of it.
pub(super) fn write(explanation: &Explanation, out: &mut impl Write) -> io::Result<()> {
    let Explanation { configuration, tokens, asked, why, hint, sender_gets, kept, admitted, .. } =
        explanation;
    let mut line = |name: &str, text: &str| writeln!(out, "{name:<14}  {text}");
    line("configuration", configuration)?;
    let parts =
        if tokens.job_token_in_parts == Some(true) { ", in parts as a JWT" } else { ", in one piece" };
    for (name, bytes, parts) in [
        ("runner token", tokens.runner_token_bytes, ""),
        ("job token", tokens.job_token_bytes, parts),
        ("bearer token", tokens.bearer_token_bytes, ""),
    ] {
        if let Some(bytes) = bytes {
            line(name, &format!("{bytes} bytes{parts}"))?;
        }
    }
    if let Some(digest) = &tokens.digest {
        line(
            "credentials",
            &format!("{digest} (a digest of this run; the gateway's log has another for the same tokens)"),
        )?;
    }
    match asked {
        Some(asked) => {
            line("asked", &asked.whom)?;
            let id = asked.correlation_id.as_ref().map(|id| format!("; X-Request-Id {id}"));
            line("answered", &format!("in {} ms{}", asked.took_ms, id.unwrap_or_default()))?;
        }
        None => line("asked", "nobody")?,
    }
    let verdict = match explanation.verdict {
        Outcome::Allow => "ALLOW",
        Outcome::Deny => "DENY",
        Outcome::Undetermined => "UNDETERMINED",
    };
    line("verdict", &format!("{verdict}: {why}"))?;
    if !hint.is_empty() {
        line("look at", hint)?;
    }
    line("sender gets", &sender_gets.as_ref().map_or_else(|| "the collector's answer".into(), refusal))?;
    line("kept", &kept.sentence)?;
    match admitted {
        Some(admitted) => write_admitted(admitted, out),
        None => Ok(()),
    }
}

fn refusal(gets: &SenderGets) -> String {
    let SenderGets { http_status, grpc_code, outcome, message, retries } = gets;
    let then =
        if *retries { "it tries again" } else { "a runner sends nothing more for the rest of this job" };
    format!("HTTP {http_status}, gRPC {grpc_code} ({outcome}): \"{message}\"; {then}")
}

fn write_admitted(admitted: &Admitted, out: &mut impl Write) -> io::Result<()> {
    let Admitted {
        trace_id,
        trace_gate,
        attributes,
        protected_keys,
        protected_prefixes,
        also_strip,
        limits,
        ..
    } = admitted;
    match trace_id {
        Some(id) => writeln!(
            out,
            "{:<14}  {id}: every span must have it (traces.trace_id: {})",
            "trace",
            word(trace_gate)
        ),
        None => writeln!(out, "{:<14}  any: the authority names none", "trace"),
    }?;

    writeln!(out, "\nwritten of the sender (attributes.mode: {})", word(&admitted.mode))?;
    let width = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0);
    let keys = width(&mut attributes.iter().map(|attribute| attribute.key.len()));
    for attribute in attributes {
        writeln!(out, "  {:<keys$}  = {}  ({})", attribute.key, attribute.value, attribute.from)?;
    }

    let nothing = if protected_keys.is_empty() { ": nothing" } else { "" };
    writeln!(out, "\ntaken from the sender, in resources{}{nothing}", places(also_strip))?;
    for key in protected_keys {
        writeln!(out, "  {key}")?;
    }
    for prefix in protected_prefixes {
        writeln!(out, "  {prefix}*")?;
    }

    writeln!(out, "\nlimits")?;
    let names = width(&mut limits.iter().map(|line| line.limit.len()));
    for line in limits {
        writeln!(out, "  {:<names$}  {}, of {} ({})", line.limit, line.amount, line.of, word(&line.mode))?;
    }
    Ok(())
}

fn places(also_strip: &[impl Serialize]) -> String {
    let words: Vec<_> = also_strip.iter().map(word).collect();
    if words.is_empty() { String::new() } else { format!(", {}", words.join(", ")) }
}

/// A setting as it is written in the configuration.
fn word(setting: &impl Serialize) -> String {
    let value = serde_json::to_value(setting).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}
