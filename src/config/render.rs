//! The configuration as text: defaults with a comment per key, the effective values, a Markdown
//! reference. All of it comes from the table beside the structs, so no key can be forgotten.

use std::fmt::Write as _;

use serde_json::Value;

use super::{
    Config,
    settings::{Key, Settings},
};

/// Every key with its default and its meaning, as YAML that reads back as [`Config::default`].
#[must_use]
pub fn default_yaml() -> String {
    let mut out = String::from(
        "# Every key of Spangate with its default; made by `spangate config default`.\n\
         # To be set: gitlab.url (or fixed.file), and collector.endpoints unless the collector has this machine's\n\
         # port 4318 to itself. Durations: 250ms, 5s, 2m, 1h. Sizes: 512, 4KiB, 16MiB.\n\
         # Values may hold ${env:NAME}, ${env:NAME:-default} and ${file:/path}; $$ stands for a dollar sign.\n",
    );
    section(&mut out, Config::KEYS, &values(&Config::default()), 0, Style::Explained);
    out
}

/// The values of `config`, as YAML without comments. It holds no secrets, only the paths of their files;
/// a user name or password in a URL is masked.
#[must_use]
pub fn effective_yaml(config: &Config) -> String {
    let mut out = String::new();
    section(&mut out, Config::KEYS, &values(config), 0, Style::Bare);
    out
}

/// The reference of all keys, as Markdown.
#[must_use]
pub fn reference() -> String {
    let mut out = String::from(
        "# Configuration reference\n\n\
         Made by `spangate config reference`; `spangate config default` prints the same keys as YAML.\n\n\
         - One YAML file, named by `--config` or `SPANGATE_CONFIG`. A key without a value has its default.\n\
         - Unknown keys are mistakes; all mistakes are reported at once (`spangate check`).\n\
         - `SPANGATE_GITLAB__URL=...` overrides `gitlab.url`, `SPANGATE_LISTENERS__0__ADDRESS=...` the address of\n  \
           the first listener; `--set gitlab.url=...` overrides both. A value that begins with `[`, `{` or a\n  \
           quote is read as YAML, any other as plain text.\n\
         - `${env:NAME}`, `${env:NAME:-default}` and `${file:/path}` are replaced in values; `$$` is a dollar sign.\n\
         - Durations: `250ms`, `5s`, `2m`, `1h`. Sizes: `512`, `4KiB`, `16MiB`, `1GiB`.\n",
    );
    tables(&mut out, "", Config::KEYS, &values(&Config::default()));
    out
}

fn values(config: &Config) -> Value {
    serde_json::to_value(config).unwrap_or_default()
}

#[derive(Clone, Copy, PartialEq)]
enum Style {
    Explained,
    Bare,
}

fn section(out: &mut String, keys: &[Key], values: &Value, indent: usize, style: Style) {
    for key in keys {
        let pad = " ".repeat(indent);
        let value = values.get(key.name).unwrap_or(&Value::Null);
        if style == Style::Explained {
            if indent == 0 {
                out.push('\n');
            }
            for line in key.doc {
                line_out(out, &format!("{pad}# {}", line.trim()));
            }
        }
        let name = key.name;
        let deeper = indent.saturating_add(2);
        match (key.inner, value) {
            (None, _) => line_out(out, &format!("{pad}{name}: {}", flow(value, style))),
            (Some(inner), Value::Null) => {
                // Absent by default: shown, but commented out.
                if style == Style::Explained {
                    let mut text = String::new();
                    section(&mut text, inner.keys, &(inner.default)(), 2, style);
                    line_out(out, &format!("{pad}# {name}:"));
                    for line in text.lines() {
                        line_out(out, &format!("{pad}# {line}"));
                    }
                }
            }
            // Empty by default: one element is shown, but commented out.
            (Some(inner), Value::Array(items)) if items.is_empty() => {
                line_out(out, &format!("{pad}{name}: []"));
                if style == Style::Explained {
                    let mut text = String::new();
                    let one = serde_json::json!({ name: [(inner.default)()] });
                    section(&mut text, std::slice::from_ref(key), &one, 2, style);
                    for line in text.lines().skip(key.doc.len()) {
                        line_out(out, &format!("{pad}# {}", line.strip_prefix("  ").unwrap_or(line)));
                    }
                }
            }
            (Some(inner), Value::Array(items)) => {
                line_out(out, &format!("{pad}{name}:"));
                for item in items {
                    let mut text = String::new();
                    section(&mut text, inner.keys, item, deeper.saturating_add(2), style);
                    // The dash stands before the first key; comments above it line up with the dash.
                    let mut dash = "- ";
                    for line in text.lines() {
                        match line.trim_start() {
                            comment if !dash.is_empty() && comment.starts_with('#') => {
                                line_out(out, &format!("{pad}  {comment}"));
                            }
                            first if !dash.is_empty() => {
                                line_out(out, &format!("{pad}  {dash}{first}"));
                                dash = "";
                            }
                            _ => line_out(out, line),
                        }
                    }
                }
            }
            (Some(inner), _) => {
                line_out(out, &format!("{pad}{name}:"));
                section(out, inner.keys, value, deeper, style);
            }
        }
    }
}

fn line_out(out: &mut String, line: &str) {
    out.push_str(line.trim_end());
    out.push('\n');
}

/// A value on one line.
fn flow(value: &Value, style: Style) -> String {
    match value {
        Value::String(text) => scalar(&if style == Style::Bare { masked(text) } else { text.clone() }),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| flow(item, style)).collect();
            format!("[{}]", items.join(", "))
        }
        // Keys are no values: dollar signs in them stand for themselves.
        Value::Object(entries) if !entries.is_empty() => {
            let entry = |(key, value): (&String, &Value)| {
                format!("{}: {}", Value::from(key.as_str()), flow(value, style))
            };
            let entries: Vec<_> = entries.iter().map(entry).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        other => other.to_string(),
    }
}

/// Plain where no reader could take it for a number, a null or YAML syntax, else quoted.
fn scalar(text: &str) -> String {
    let text = text.replace('$', "$$");
    let plain = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_.:@+-".contains(&byte))
        && !text.ends_with(':')
        && !matches!(
            text.to_ascii_lowercase().as_str(),
            "null" | "true" | "false" | "yes" | "no" | "on" | "y" | "n"
        );
    let measured = text.starts_with(|first: char| first.is_ascii_digit())
        && text.ends_with(|last: char| last.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if plain || measured { text } else { Value::String(text).to_string() }
}

/// A URL without its user name and password.
fn masked(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, behind) = rest.split_at_checked(end).unwrap_or((rest, ""));
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://***@{host}{behind}"),
        None => text.to_owned(),
    }
}

fn tables(out: &mut String, path: &str, keys: &[Key], values: &Value) {
    let (sections, leaves): (Vec<&Key>, Vec<&Key>) = keys.iter().partition(|key| key.inner.is_some());
    if !leaves.is_empty() {
        out.push_str("\n| key | default | meaning |\n|---|---|---|\n");
        for key in leaves {
            let default = flow(values.get(key.name).unwrap_or(&Value::Null), Style::Explained);
            let _infallible = writeln!(
                out,
                "| `{path}{}` | `{default}` | {} |",
                key.name,
                sentence(key).replace('|', "\\|")
            );
        }
    }
    for key in sections {
        let Some(inner) = key.inner else { continue };
        let value = values.get(key.name).unwrap_or(&Value::Null);
        let (suffix, defaults) = match value {
            Value::Array(items) => ("[]", items.first().cloned().unwrap_or_else(inner.default)),
            Value::Null => ("", (inner.default)()),
            value => ("", value.clone()),
        };
        let _infallible = write!(out, "\n## `{path}{}{suffix}`\n\n{}\n", key.name, sentence(key));
        tables(out, &format!("{path}{}{suffix}.", key.name), inner.keys, &defaults);
    }
}

fn sentence(key: &Key) -> String {
    key.doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}
