//! What operators rely on: defaults that read back, every mistake at once with its place, overrides.

mod checks;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use super::{
    Authentication, Config, Mistakes, Mode,
    load::environment_overrides,
    read::closest,
    render,
    settings::{Key, Settings},
    units::ByteSize,
};

const GOOD: &str = "\
gitlab: { url: https://gitlab.example.com }
collector: { endpoints: [http://collector:4318] }
";

fn no_env(_: &str) -> Option<String> {
    None
}

fn load(text: &str) -> Result<Config, Mistakes> {
    Config::from_yaml(text, "t.yaml", &no_env)
}

fn with(overrides: &[(&str, &str)]) -> Result<Config, Mistakes> {
    let overrides: Vec<_> = overrides.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    Config::from_text(GOOD, "t.yaml", &no_env, &overrides)
}

/// The mistakes of `text`, one a line.
fn mistakes(text: &str) -> String {
    load(text).expect_err("there are mistakes").to_string()
}

/// Scenario: an empty file and one that holds nothing but comments.
/// Guarantees: the only complaints are that nobody knows the tokens and that the default collector is
/// the default listener itself, which is there.
#[test]
fn an_empty_file_lacks_only_authority_and_collector() {
    for text in ["", "# nothing\n", "---\n", "gitlab:\nlisteners:\n"] {
        let mistakes = load(text).expect_err("no authority").0;
        assert_eq!(mistakes.len(), 2, "{mistakes:?}");
        assert_eq!(mistakes[0].field, "gitlab.url");
        assert!(mistakes[0].problem.contains("set gitlab.url"), "{mistakes:?}");
        assert_eq!(mistakes[1].field, "collector.endpoints.0");
        assert!(mistakes[1].problem.contains("own listeners.0"), "{mistakes:?}");
    }
    let config = load(GOOD).expect("valid");
    assert_eq!(config.listeners[0].address, SocketAddr::from(([0, 0, 0, 0], 4318)));
    assert_eq!(config.listeners[0].authentication, [Authentication::Gitlab]);
}

/// Scenario: the generated default YAML is read.
/// Guarantees: it gives exactly the defaults of the code, and needs nothing but the authority.
#[test]
fn the_default_yaml_reads_back() {
    let text = render::default_yaml();
    assert_eq!(Config::unchecked(&text).expect("reads"), Config::default());
    let set = text
        .replace("  url: \"\"\n", "  url: https://gitlab.example.com\n")
        .replace("//127.0.0.1:4318", "//collector:4318");
    assert!(load(&set).is_ok());
}

/// Scenario: a configuration with every kind of value is printed as it holds and read again.
/// Guarantees: nothing changes on the way, dollar signs and odd characters included; no password shows.
#[test]
fn the_effective_yaml_reads_back() {
    let text = "
listeners:
  - { name: a, address: '[::1]:4318', tls: { cert_file: /c.pem, key_file: \"/k y.pem\", min_version: 1.3 } }
  - { name: b, address: 127.0.0.1:0 }
  - name: c
    address: 127.0.0.1:0
    authentication: [mtls]
    service_names: [x, y]
    clients: [{ san: spiffe://example.org/x, service_names: [x] }, { san: y.example.org }]
    tls: { cert_file: /c.pem, key_file: /k.pem, client_ca_file: /ca.pem }
  - { name: d, address: 10.0.0.1:1, authentication: [none], service_names: [z], i_know_the_network_is_closed: true }
gitlab: { url: http://localhost:8080/gitlab }
collector: { endpoints: [http://c:1] }
attributes: { protected: { keys: ['$$key', 'yes', '12', 'a: b', '# c'], prefixes: [team.] } }
cache: { refresh_ahead: 0.25 }
";
    let config = load(text).expect("valid");
    assert_eq!(config.attributes.protected.keys, ["$key", "yes", "12", "a: b", "# c"]);
    assert_eq!(load(&render::effective_yaml(&config)).expect("reads back"), config);
    let mut config = config;
    config.gitlab.url = "https://user:hunter2@gitlab.example.com/x@y".into();
    let shown = render::effective_yaml(&config);
    assert!(shown.contains("https://***@gitlab.example.com/x@y") && !shown.contains("hunter2"), "{shown}");
}

/// Scenario: a file with a mistake of each kind.
/// Guarantees: all are reported, in the order of the file, each with its own line and dotted name, and
/// a value that can't be read causes no second complaint.
#[test]
fn every_mistake_is_reported_with_its_line() {
    let text = "\
listeners:
  - name: a
    adress: 0.0.0.0:1
  - name: a
    address: localhost:4318
    signals: [traces, metrcs]
gitlab:
  url: https://gitlab.example.com
  timeout: 5
  max_queue: many
cache: 7
traces: { max_span_size: 4KB, trace_id: shadw }
intake:
  deadline: 4s
  deadline: 5s
  max_streams: -1
oicd: {}
shutdown: { delay: 30s }
collector: { endpoints: [http://c:1] }
";
    let found = mistakes(text);
    let expected = [
        "t.yaml:3: listeners.0.adress: unknown key; did you mean \"address\"?",
        "t.yaml:4: listeners.1.name: another listener has this name",
        "t.yaml:5: listeners.1.address: \"localhost:4318\" is no address",
        "t.yaml:6: listeners.1.signals.1: \"metrcs\" is none of: traces",
        "t.yaml:9: gitlab.timeout: \"5\" is no duration",
        "t.yaml:10: gitlab.max_queue: must be a whole number",
        "t.yaml:11: cache: must be a section",
        "t.yaml:12: traces.max_span_size: \"4KB\" is no size",
        "t.yaml:12: traces.trace_id: \"shadw\" is none of: enforce, shadow, off; did you mean \"shadow\"?",
        "t.yaml:15: intake.deadline: set twice, first in line 14",
        "t.yaml:16: intake.max_streams: must be a whole number",
        "t.yaml:17: oicd: unknown key; did you mean \"oidc\"?",
        "t.yaml:18: shutdown.deadline: must be longer than shutdown.delay (30s)",
    ];
    for (line, start) in found.lines().zip(expected) {
        assert!(line.starts_with(start), "{line}\nbegins not with\n{start}");
    }
    assert_eq!(found.lines().count(), expected.len(), "{found}");
}

/// Scenario: text that is no YAML, or YAML that a configuration has no use for.
/// Guarantees: one clear sentence with the line; no panic and no bomb.
#[test]
fn odd_yaml_is_refused() {
    let cases = [
        ("gitlab: {\n  url: x\n", "not valid YAML"),
        ("gitlab: &a { url: x }\nfixed: *a\n", "t.yaml:2: fixed: aliases"),
        ("gitlab: !x { url: x }\n", "t.yaml:1: gitlab: tags"),
        ("gitlab: {}\n---\nfixed: {}\n", "t.yaml:2: a second document"),
        ("- a\n", "t.yaml:1: must be a section"),
        ("just text\n", "t.yaml:1: must be a section"),
        ("? [a]\n: b\n", "t.yaml:1: a key must be plain text"),
        ("listeners: {}\n", "t.yaml:1: listeners: must be a list"),
        ("gitlab: { url: [a] }\n", "t.yaml:1: gitlab.url: must be one value"),
        ("log: { level: [] }\n", "t.yaml:1: log.level: must be one of: error, warn"),
        ("collector: { endpoints: [~] }\n", "t.yaml:1: collector.endpoints.0: is empty"),
    ];
    for (text, start) in cases {
        let found = mistakes(text);
        assert!(found.lines().any(|line| line.contains(start)), "{text}: {found}");
    }
    let deep = format!("gitlab: {}", "[".repeat(200));
    assert!(!mistakes(&deep).is_empty());
    let many = (0..5000).map(|index| format!("unknown{index}: 1")).collect::<Vec<_>>().join("\n");
    assert!(load(&many).expect_err("unknown keys").0.len() <= 102);
}

/// Scenario: values with replacements, known and unknown, in values, lists and keys.
/// Guarantees: they are replaced after YAML was read, never in keys; what is missing is a mistake with its line.
#[test]
fn replacements() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("name");
    std::fs::write(&file, "from-file\n").expect("written");
    let env = |name: &str| match name {
        "URL" => Some("https://gitlab.example.com/root".to_owned()),
        "QUEUE" => Some("7".to_owned()),
        "EVIL" => Some("x\nadmin: { address: 0.0.0.0:1 }".to_owned()),
        _ => None,
    };
    let text = format!(
        "collector: {{ endpoints: [http://c:1] }}\ngitlab: {{ url: \"${{env:URL}}\", max_queue: '${{env:QUEUE}}', secret_issuer: '${{env:EVIL}}' }}\n\
         attributes:\n  service_name: a-${{file:{}}}-$$x-$y-${{env:NONE:-default}}\n",
        file.display()
    );
    let config = Config::from_yaml(&text, "t.yaml", &env).expect("valid");
    assert_eq!(config.gitlab.url, "https://gitlab.example.com/root");
    assert_eq!(config.gitlab.max_queue, 7);
    assert_eq!(config.attributes.service_name, "a-from-file-$x-$y-default");
    assert_eq!(config.admin, Config::default().admin);

    let text = "gitlab:\n  url: ${env:MISSING}\n  auth_path: ${file:/no/such/file}\nfixed:\n  file: ${HOME}\n\
                log:\n  level: ${env:X\n${env:KEY}: 1\ncollector: { endpoints: [http://c:1] }\n";
    let found = mistakes(text);
    let expected = [
        "t.yaml:2: gitlab.url: the environment variable MISSING is not set",
        "t.yaml:3: gitlab.auth_path: /no/such/file: cannot be read",
        "t.yaml:5: fixed.file: \"${HOME}\" is not known: write \"${env:NAME}\"",
        "t.yaml:7: log.level: \"${\" without \"}\"",
        "t.yaml:8: ${env:KEY}: unknown key",
    ];
    for (line, start) in found.lines().zip(expected) {
        assert!(line.starts_with(start), "{line}\nbegins not with\n{start}");
    }
    assert_eq!(found.lines().count(), expected.len(), "{found}");
}

/// Scenario: the same key in the file, in a variable and in a flag; list elements; new sections.
/// Guarantees: flags win over variables, variables over the file; the rest of the file stays.
#[test]
fn overrides_and_their_order() {
    let config = with(&[
        ("gitlab.url", "https://flag.example.com"),
        ("SPANGATE_GITLAB__URL", "https://variable.example.com"),
        ("SPANGATE_GITLAB__MAX_QUEUE", "9"),
        ("SPANGATE_LISTENERS__0__ADDRESS", "127.0.0.1:1"),
        ("listeners.1.name", "second"),
        ("collector.endpoints", "[\"http://a:1\", http://b:2]"),
        ("collector.endpoints.2", "http://c:3"),
        ("attributes.service_name", "a # b: c"),
        ("limits.per_job", "{ mode: shadow, burst: 3s }"),
        ("gitlab.secret_file", ""),
    ])
    .expect("valid");
    assert_eq!(config.gitlab.url, "https://flag.example.com");
    assert_eq!(config.gitlab.max_queue, 9);
    assert_eq!(config.listeners[0].address, SocketAddr::from(([127, 0, 0, 1], 1)));
    assert_eq!(config.listeners[0].name, "runners");
    assert_eq!(config.listeners[1].name, "second");
    assert_eq!(config.collector.endpoints, ["http://a:1", "http://b:2", "http://c:3"]);
    assert_eq!(config.attributes.service_name, "a # b: c");
    assert_eq!(
        (config.limits.per_job.mode, config.limits.per_job.burst),
        (Mode::Shadow, Duration::from_secs(3))
    );
    assert_eq!(config.gitlab.secret_file, PathBuf::new());
    let found = with(&[
        ("SPANGATE_GITLB__URL", "x"),
        ("SPANGATE_GITLAB__TIMEOUT", "long"),
        ("listeners.5.name", "x"),
        ("listeners.x", "y"),
        ("gitlab.url.x", "y"),
        ("gitlab..x", "y"),
        ("log", "{"),
    ])
    .expect_err("mistakes")
    .to_string();
    for start in [
        "SPANGATE_GITLB__URL: gitlb: unknown key; did you mean \"gitlab\"?",
        "SPANGATE_GITLAB__TIMEOUT: gitlab.timeout: \"long\" is no duration",
        "--set: listeners.5.name: there is no such element; the next new one is 0",
        "--set: gitlab.url.x: \"x\" stands below a plain value",
        "--set: gitlab..x: a part of the key is empty",
        "--set: log: not valid YAML",
    ] {
        assert!(found.lines().any(|line| line.starts_with(start)), "{start}\nis not in\n{found}");
    }
}

/// Scenario: the process's variables, with those that Kubernetes sets for services called spangate.
/// Guarantees: only overrides are taken, so a service's name never stops the start.
#[test]
fn kubernetes_service_variables_are_no_overrides() {
    let variables = [
        "PATH",
        "SPANGATE_CONFIG",
        "SPANGATE_SERVICE_HOST",
        "SPANGATE_SERVICE_PORT",
        "SPANGATE_SERVICE_PORT_OTLP_HTTP",
        "SPANGATE_PORT",
        "SPANGATE_PORT_4318_TCP",
        "SPANGATE_PORT_4318_TCP_ADDR",
        "SPANGATE_ADMIN_SERVICE_HOST",
        "SPANGATE_ADMIN_PORT_8151_TCP_PROTO",
        "SPANGATE_GITLAB__URL",
        "SPANGATE_TYPO",
    ];
    let taken = environment_overrides(variables.iter().map(|name| ((*name).to_owned(), String::new())));
    let names: Vec<_> = taken.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["SPANGATE_GITLAB__URL", "SPANGATE_TYPO"]);
}

/// Scenario: a file that is not there, one that is far too long, one that is not text.
/// Guarantees: each is one mistake that names the file.
#[test]
fn unreadable_files() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("f.yaml");
    let load = || Config::load(&path, &no_env, &[]).expect_err("refused").0;
    assert!(load()[0].problem.contains("cannot be read"));
    std::fs::write(&path, "#".repeat(2 << 20)).expect("written");
    assert!(load()[0].problem.contains("longer than 1MiB"));
    std::fs::write(&path, [0xff, 0xfe, 0x00]).expect("written");
    assert_eq!(load()[0].source, path.display().to_string());
    std::fs::write(&path, GOOD).expect("written");
    assert!(Config::load(&path, &no_env, &[]).is_ok());
}

/// Scenario: every key of the table, compared with the serialised defaults.
/// Guarantees: table and structs name the same keys, every key has a meaning, choices are listed in it.
#[test]
fn the_table_of_keys_is_whole() {
    fn walk(keys: &[Key], values: &serde_json::Value, count: &mut usize) {
        let map = values.as_object().expect("a section");
        assert_eq!(keys.len(), map.len(), "{keys:?}");
        for key in keys {
            *count += 1;
            let value = map.get(key.name).unwrap_or_else(|| panic!("{} is no field", key.name));
            assert!(!key.doc.concat().trim().is_empty(), "{}", key.name);
            if let Some(inner) = key.inner {
                let value = if value.is_object() { value.clone() } else { (inner.default)() };
                walk(inner.keys, &value, count);
            }
        }
    }
    let mut count = 0;
    let values = serde_json::to_value(Config::default()).expect("JSON");
    walk(Config::KEYS, &values, &mut count);
    assert!(count > 70, "{count}");
    let docs: BTreeMap<_, _> = render::reference()
        .lines()
        .filter_map(|line| {
            let mut cells = line.split('|').skip(1).map(|cell| cell.trim().to_owned());
            Some((cells.next()?, cells.nth(1)?))
        })
        .collect();
    for (key, choices) in [
        ("`listeners[].authentication`", &["gitlab", "mtls", "none"][..]),
        ("`traces.trace_id`", &["enforce", "shadow", "off"]),
        ("`log.level`", &["error", "warn", "info", "debug"]),
        ("`log.format`", &["json", "text"]),
        ("`attributes.mode`", &["inject", "transparent"]),
        ("`attributes.sets`", &["cicd", "vcs", "gitlab"]),
        ("`attributes.also_strip`", &["scope", "span"]),
        ("`collector.protocol`", &["http", "grpc"]),
        ("`collector.compression`", &["none", "gzip", "zstd"]),
        ("`listeners[].tls.min_version`", &["1.2", "1.3"]),
    ] {
        for choice in choices {
            assert!(docs[key].contains(choice), "{key} does not tell of {choice}");
        }
    }
}

/// Scenario: slips of the finger and foreign spellings.
/// Guarantees: the near word is offered, and nothing when no word is near.
#[test]
fn suggestions() {
    let known = ["timeout", "max_queue", "url", "auth_path"];
    for (word, near) in [
        ("timout", Some("timeout")),
        ("maxQueue", Some("max_queue")),
        ("max-queue", Some("max_queue")),
        ("URL", Some("url")),
        ("urls", Some("url")),
        ("authpaht", Some("auth_path")),
        ("host", None),
        ("", None),
    ] {
        assert_eq!(closest(word, &known), near, "{word}");
    }
}

/// Scenario: sizes and durations as people write them.
/// Guarantees: what is written back reads as the same value; what is no size or duration is refused.
#[test]
fn units_read_back() {
    for size in [0, 1, 512, 4096, 1 << 20, 3 << 30, u64::MAX] {
        assert_eq!(ByteSize(size).to_string().parse(), Ok(ByteSize(size)));
    }
    for millis in [0, 1, 250, 1000, 90_000, 7_200_000] {
        let time = Duration::from_millis(millis);
        assert_eq!(super::units::duration::parse(&super::units::duration::render(time)), Ok(time));
    }
    for text in ["", "s", "-1s", "1 week", "99999999999999999999s", "1.5s"] {
        assert!(super::units::duration::parse(text).is_err(), "{text}");
    }
    for text in ["", "KiB", "-1", "4kb", "99999999999GiB"] {
        assert!(text.parse::<ByteSize>().is_err(), "{text}");
    }
}

proptest::proptest! {
    /// Scenario: any text at all, and text made of what YAML and replacements are made of.
    /// Guarantees: mistakes or a configuration, never a panic; each mistake is one line.
    #[test]
    fn no_text_makes_it_panic(
        text in "\\PC{0,60}",
        yaml in "(gitlab|listeners|cache|log|0|-|:|: |\n|  |\\[|\\]|\\{|\\}|,|\\$|\\$\\{env:|\"|'|#|&a|\\*a|!t|\\||>|\\?){0,40}",
        key in "(gitlab|listeners|url|0|7|\\.|){0,6}",
    ) {
        for text in [&text, &yaml] {
            if let Err(mistakes) = load(text) {
                let lines = mistakes.to_string().lines().count();
                proptest::prop_assert!(!mistakes.0.is_empty() && lines == mistakes.0.len());
            }
            let _verdict = with(&[(&key, text)]);
        }
    }
}
