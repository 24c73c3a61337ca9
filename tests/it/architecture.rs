//! The import order of the crate, as its map in src/lib.rs gives it: a module uses only modules
//! that stand before it. Reads source text; test code is exempt.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Scenario: every `crate::` and `super::` path in src/, nested use groups included.
/// Guarantees: dependencies between modules run one way, in the total order that the map in src/lib.rs promises.
#[test]
fn modules_import_only_what_stands_before_them() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let order = order(&fs::read_to_string(source.join("lib.rs")).unwrap());
    assert!(order.len() > 10, "no order in src/lib.rs: {order:?}");
    let mut violations = Vec::new();
    for file in files(&source) {
        let path = file.strip_prefix(&source).unwrap();
        let module = module(path);
        if module[0] == "lib" || module.iter().any(|part| part == "tests") {
            continue;
        }
        let Some(place) = order.iter().position(|name| *name == module[0]) else {
            violations.push(format!("{} is not in the order", path.display()));
            continue;
        };
        let text = fs::read_to_string(&file).unwrap();
        for used in imports(&text, module.len()) {
            match order.iter().position(|name| *name == used) {
                Some(other) if other <= place => {}
                Some(_) => violations.push(format!("{} uses {used}, which stands after it", path.display())),
                None => violations.push(format!("{} uses {used}, which is not in the order", path.display())),
            }
        }
    }
    assert!(violations.is_empty(), "{violations:#?}");
}

/// The order in the map: the line of the docs that starts with `otlp` and ends with `main`.
fn order(map: &str) -> Vec<String> {
    map.lines()
        .filter_map(|line| line.strip_prefix("//!"))
        .map(|line| line.trim().trim_matches('`').replace('|', " "))
        .map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .find(|words| {
            words.first().is_some_and(|word| word == "otlp")
                && words.last().is_some_and(|word| word == "main")
        })
        .unwrap_or_default()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

/// The module path of a file: `proxy/body.rs` is `proxy`, `body`; `proxy/mod.rs` is `proxy`.
fn module(path: &Path) -> Vec<String> {
    let stem = path.with_extension("");
    stem.iter().map(|part| part.to_str().unwrap().to_owned()).filter(|part| part != "mod").collect()
}

/// The top-level modules that a file names, in code that is not test code. `depth` is the number
/// of parts of the file's own module path: as many `super::` lead to the crate's root.
fn imports(text: &str, depth: usize) -> Vec<String> {
    let code = without_tests(&without_comments_and_strings(text));
    let mut used = Vec::new();
    for root in ["crate::".to_owned(), "super::".repeat(depth)] {
        for (at, _) in code.match_indices(&root) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
                continue;
            }
            heads(&code[at + root.len()..], &mut used);
        }
    }
    used.sort();
    used.dedup();
    used
}

/// The first name of a path, or of every path in a group.
fn heads(path: &str, into: &mut Vec<String>) {
    let path = path.trim_start();
    let Some(group) = path.strip_prefix('{') else {
        let name: String = path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        // Only modules have lower-case names here; a macro or item at the root would be a mistake of its own.
        into.extend((!name.is_empty()).then_some(name));
        return;
    };
    let (mut level, mut start) = (0_usize, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => level += 1,
            '}' if level == 0 => return heads_of_part(&group[start..at], into),
            '}' => level -= 1,
            ',' if level == 0 => {
                heads_of_part(&group[start..at], into);
                start = at + 1;
            }
            _ => {}
        }
    }
}

fn heads_of_part(part: &str, into: &mut Vec<String>) {
    if !part.trim().is_empty() {
        heads(part, into);
    }
}

/// Blanks comments and the insides of string literals, so that only code is read.
fn without_comments_and_strings(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if first == '"' {
            string_end(rest)
        } else if rest.starts_with("'\"'") {
            3
        } else if let Some(end) = raw_string_end(rest) {
            end
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        code.push(' ');
        rest = &rest[skipped..];
    }
    code
}

fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn raw_string_end(text: &str) -> Option<usize> {
    let after = text.strip_prefix('r').or_else(|| text.strip_prefix("br"))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    after[hashes..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let body = text.len() - after.len() + hashes + 1;
    text[body..].find(&close).map(|end| body + end + close.len())
}

/// Takes away every item under `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        kept.push_str(&rest[..at]);
        let item = &rest[at..];
        let end = match (item.find('{'), item.find(';')) {
            (Some(open), semicolon) if semicolon.is_none_or(|semicolon| open < semicolon) => {
                open + block_end(&item[open..])
            }
            (_, Some(semicolon)) => semicolon + 1,
            _ => item.len(),
        };
        rest = &item[end..];
    }
    kept.push_str(rest);
    kept
}

fn block_end(block: &str) -> usize {
    let mut level = 0_usize;
    for (at, c) in block.char_indices() {
        match c {
            '{' => level += 1,
            '}' if level == 1 => return at + 1,
            '}' => level -= 1,
            _ => {}
        }
    }
    block.len()
}

/// Scenario: source text with nested groups, comments, strings, test code and `super` paths.
/// Guarantees: the reader above sees every import that the compiler would, and nothing else.
#[test]
fn imports_are_read_as_the_compiler_reads_them() {
    let text = r##"
        //! crate::comment
        use crate::{cache::{self, verdict::Cached}, otlp, validate::{Question, Verdict}};
        use super::super::limit::Limit;
        pub(in crate::proxy) fn f() { crate::metrics::g("crate::string", r#"crate::raw"#, '"'); }
        use other_crate::tls;
        macro_rules! m { () => { $crate::signal }; }
        #[cfg(test)]
        mod tests { use crate::app; fn f() { {} } }
        fn g() -> crate::telemetry::X {}
        #[cfg(test)]
        use crate::cli;
    "##;
    let expected = ["cache", "limit", "metrics", "otlp", "proxy", "telemetry", "validate"];
    assert_eq!(imports(text, 2), expected);
    assert_eq!(order("//! `otlp a | b main`\n"), ["otlp", "a", "b", "main"]);
}
