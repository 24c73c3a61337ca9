//! `${env:NAME}`, `${env:NAME:-default}` and `${file:/path}` in values, `$$` for a dollar sign. It
//! works on scalars after YAML was read, so what is put in can never become a key or a section.

use std::path::Path;

use super::tree::{Node, Value};

/// Where replacements come from.
pub(super) struct Sources<'a> {
    pub(super) variable: &'a dyn Fn(&str) -> Option<String>,
    pub(super) file: &'a dyn Fn(&Path) -> std::io::Result<String>,
}

/// Replaces in every value below `node`; `report` gets the dotted name, the node and the problem.
pub(super) fn substitute(
    node: &mut Node,
    sources: &Sources<'_>,
    report: &mut impl FnMut(String, &Node, String),
) {
    walk(node, &mut Vec::new(), sources, report);
}

fn walk(
    node: &mut Node,
    path: &mut Vec<String>,
    sources: &Sources<'_>,
    report: &mut impl FnMut(String, &Node, String),
) {
    let replaced = match &mut node.value {
        Value::Absent => return,
        Value::Scalar(text) => replace(text, sources).map(|new| *text = new),
        Value::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                path.push(index.to_string());
                walk(item, path, sources, report);
                path.pop();
            }
            return;
        }
        Value::Map(entries) => {
            for (key, entry) in entries {
                path.push(key.clone());
                walk(entry, path, sources, report);
                path.pop();
            }
            return;
        }
    };
    if let Err(problem) = replaced {
        report(path.join("."), node, problem);
        node.spoiled = true;
    }
}

fn replace(text: &str, sources: &Sources<'_>) -> Result<String, String> {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        if let Some(escaped) = after.strip_prefix('$') {
            result.push('$');
            rest = escaped;
        } else if let Some(opened) = after.strip_prefix('{') {
            let (inside, behind) =
                opened.split_once('}').ok_or("\"${\" without \"}\": write \"$$\" for a dollar sign")?;
            result.push_str(&lookup(inside, sources)?);
            rest = behind;
        } else {
            result.push('$');
            rest = after;
        }
    }
    result.push_str(rest);
    Ok(result)
}

fn lookup(inside: &str, sources: &Sources<'_>) -> Result<String, String> {
    if let Some(name) = inside.strip_prefix("env:") {
        let (name, default) = match name.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (name, None),
        };
        (sources.variable)(name)
            .or_else(|| default.map(str::to_owned))
            .ok_or_else(|| format!("the environment variable {name} is not set"))
    } else if let Some(path) = inside.strip_prefix("file:") {
        let text = (sources.file)(Path::new(path)).map_err(|error| format!("{path}: {error}"))?;
        // Editors and `echo` end files with a line break that nobody means.
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    } else {
        Err(format!("\"${{{inside}}}\" is not known: write \"${{env:NAME}}\" or \"${{file:/path}}\""))
    }
}
