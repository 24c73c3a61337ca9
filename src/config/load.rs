//! From a file, the environment and flags to a checked configuration, or to every mistake at once.
//! Precedence: file, then `SPANGATE_*` variables, then `--set`. It opens the configuration file and
//! what `${file:}` names, nothing else.

use std::{
    collections::BTreeSet,
    fmt::{self, Write as _},
    fs,
    io::Read as _,
    path::Path,
    sync::Arc,
};

use super::{
    Config,
    read::read,
    substitute::{Sources, substitute},
    tree::{Node, Origin, Value},
    yaml,
};

/// Longer than any sane configuration; a wrong file (an image, a log) is refused before it is parsed.
const MAX_FILE_SIZE: u64 = 1 << 20;

/// The beginning of the variables that override keys.
const PREFIX: &str = "SPANGATE_";

/// One mistake and where to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The file, the environment variable, or `--set`.
    pub source: String,
    /// The line in the file, from 1.
    pub line: Option<usize>,
    /// The dotted name of the key, such as `gitlab.url`; empty for the file as a whole.
    pub field: String,
    /// What is wrong and what to do.
    pub problem: String,
}

/// Always one line: keys and values that hold line breaks are shown with them escaped.
impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = format!("{}:", self.source);
        if let Some(number) = self.line {
            write!(line, "{number}:")?;
        }
        if !self.field.is_empty() {
            write!(line, " {}:", self.field)?;
        }
        write!(line, " {}", self.problem)?;
        line.chars().try_for_each(|c| {
            if c.is_control() { write!(f, "{}", c.escape_default()) } else { f.write_char(c) }
        })
    }
}

/// Every mistake of a configuration; one a line when displayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            write!(f, "{}{mistake}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

impl Config {
    /// Reads and checks the file at `path`.
    ///
    /// `env` answers `${env:NAME}`. Each override is a name and a value: `SPANGATE_GITLAB__URL` (see
    /// [`environment_overrides`]) or `gitlab.url` as with `--set`; variables stand behind flags
    /// whatever their order, and of two with the same name the later one holds.
    ///
    /// # Errors
    /// Every mistake with its place; an unreadable file is a mistake too.
    pub fn load(
        path: &Path,
        env: &dyn Fn(&str) -> Option<String>,
        overrides: &[(String, String)],
    ) -> Result<Self, Mistakes> {
        let name = path.display().to_string();
        let text = read_text(path).map_err(|problem| {
            Mistakes(vec![Mistake { source: name.clone(), line: None, field: String::new(), problem }])
        })?;
        Self::from_text(&text, &name, env, overrides)
    }

    /// Checks a configuration given as text; `source_name` is what mistakes call it.
    ///
    /// # Errors
    /// Every mistake with its place.
    pub fn from_yaml(
        text: &str,
        source_name: &str,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Mistakes> {
        Self::from_text(text, source_name, env, &[])
    }

    /// As [`Config::from_yaml`], with overrides as in [`Config::load`].
    ///
    /// # Errors
    /// Every mistake with its place.
    pub fn from_text(
        text: &str,
        source_name: &str,
        env: &dyn Fn(&str) -> Option<String>,
        overrides: &[(String, String)],
    ) -> Result<Self, Mistakes> {
        let (config, mut mistakes, tree) = assemble(text, source_name, env, overrides);
        for problem in config.check() {
            // A check over values that could not even be read would only repeat the mistake.
            if let Some(field) = problem.fields.first()
                && !problem.fields.iter().any(|field| tree.is_spoiled(field))
            {
                mistakes.add(tree.origin_of(field), field.clone(), problem.text);
            }
        }
        if mistakes.found.is_empty() { Ok(config) } else { Err(mistakes.finish()) }
    }

    /// What the text says, checked only for form: a missing `gitlab.url` passes.
    #[cfg(test)]
    pub(super) fn unchecked(text: &str) -> Result<Self, Mistakes> {
        let (config, mistakes, _) = assemble(text, "test.yaml", &|_| None, &[]);
        if mistakes.found.is_empty() { Ok(config) } else { Err(mistakes.finish()) }
    }
}

fn assemble<'a>(
    text: &str,
    source_name: &'a str,
    env: &dyn Fn(&str) -> Option<String>,
    overrides: &[(String, String)],
) -> (Config, Collected<'a>, Node) {
    let mut mistakes = Collected { file: source_name, found: Vec::new() };
    let (mut tree, flaws) = yaml::parse(text);
    for flaw in flaws {
        mistakes.add(&Origin::Line(flaw.line), flaw.field, flaw.problem);
    }
    let (variables, set): (Vec<_>, Vec<_>) = overrides.iter().partition(|(name, _)| name.starts_with(PREFIX));
    for (name, value) in variables.into_iter().chain(set) {
        let (field, origin) = match name.strip_prefix(PREFIX) {
            Some(key) => {
                (key.to_lowercase().replace("__", "."), Origin::Environment(Arc::from(name.as_str())))
            }
            None => (name.clone(), Origin::Flag),
        };
        let placed = override_value(value, &origin).and_then(|node| tree.set(&field, node));
        if let Err(problem) = placed {
            mistakes.add(&origin, field, problem);
        }
    }
    let sources = Sources { variable: env, file: &|path| read_text(path).map_err(std::io::Error::other) };
    substitute(&mut tree, &sources, &mut |field, node, problem| mistakes.add(&node.origin, field, problem));
    let config = read(&mut tree, |field, node, problem| mistakes.add(&node.origin, field, problem));
    (config, mistakes, tree)
}

/// The overrides among the process's variables: all that begin with `SPANGATE_` except
/// `SPANGATE_CONFIG` and the variables that Kubernetes sets for a service named `spangate...`.
pub fn environment_overrides(variables: impl Iterator<Item = (String, String)>) -> Vec<(String, String)> {
    variables
        .filter(|(name, _)| name.starts_with(PREFIX) && name != "SPANGATE_CONFIG" && !is_service_link(name))
        .collect()
}

/// Kubernetes tells each pod the services of its namespace by variables: a service `spangate` gives
/// `SPANGATE_SERVICE_HOST`, `SPANGATE_SERVICE_PORT`, `SPANGATE_SERVICE_PORT_OTLP`, `SPANGATE_PORT`,
/// `SPANGATE_PORT_4318_TCP`, `SPANGATE_PORT_4318_TCP_ADDR` and so on. No key looks like these.
fn is_service_link(name: &str) -> bool {
    if name.contains("__") {
        return false;
    }
    let port = name
        .split_once("_PORT_")
        .is_some_and(|(_, rest)| rest.split('_').next().is_some_and(|number| number.parse::<u16>().is_ok()));
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || name.ends_with("_PORT")
        || port
}

/// Plain text as it is, so that `#` or `: ` need no quotes; a list, a section or a quoted text as YAML.
fn override_value(text: &str, origin: &Origin) -> Result<Node, String> {
    if !text.trim_start().starts_with(['[', '{', '"', '\'']) {
        return Ok(Node::new(Value::Scalar(text.to_owned()), origin.clone()));
    }
    let (mut node, flaws) = yaml::parse(text);
    if let Some(flaw) = flaws.into_iter().next() {
        return Err(flaw.problem);
    }
    adopt(&mut node, origin);
    Ok(node)
}

fn adopt(node: &mut Node, origin: &Origin) {
    node.origin = origin.clone();
    let mut index = 0_usize;
    while let Some(child) = node.child_mut(index) {
        adopt(child, origin);
        index = index.saturating_add(1);
    }
}

fn read_text(path: &Path) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    let mut text = String::new();
    let file = fs::File::open(path).map_err(unreadable)?;
    file.take(MAX_FILE_SIZE.saturating_add(1)).read_to_string(&mut text).map_err(unreadable)?;
    if u64::try_from(text.len()).is_ok_and(|length| length > MAX_FILE_SIZE) {
        return Err("longer than 1MiB: is this the right file?".into());
    }
    Ok(text)
}

/// Mistakes as they are found.
struct Collected<'a> {
    file: &'a str,
    found: Vec<Mistake>,
}

impl Collected<'_> {
    fn add(&mut self, origin: &Origin, field: String, problem: String) {
        let (source, line) = match origin {
            Origin::Line(line) => (self.file.to_owned(), Some(*line)),
            Origin::Environment(name) => (name.to_string(), None),
            Origin::Flag => ("--set".to_owned(), None),
        };
        self.found.push(Mistake { source, line, field, problem });
    }

    /// In the order of the file, then what came from outside; each once.
    fn finish(self) -> Mistakes {
        let mut seen = BTreeSet::new();
        let mut found = self.found;
        found.sort_by_key(|mistake| mistake.line.unwrap_or(usize::MAX));
        found.retain(|mistake| seen.insert(mistake.to_string()));
        Mistakes(found)
    }
}
