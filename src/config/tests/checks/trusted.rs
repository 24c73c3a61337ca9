//! Listeners for GitLab's own services: what is refused at start.

use super::{GOOD, load};

fn mistakes(listener: &str) -> Vec<String> {
    let text = format!("{GOOD}listeners:\n  - {{ {listener} }}\n");
    match load(&text) {
        Ok(_) => Vec::new(),
        Err(mistakes) => mistakes.0.into_iter().map(|mistake| mistake.field).collect(),
    }
}

const MTLS: &str = "authentication: [mtls], service_names: [gitlab-ci-rails, gitlab-ci-job-router], \
                    tls: { cert_file: a, key_file: b, client_ca_file: c }";

/// Scenario: listeners with mtls and with none that say all that they must, and one with tokens as ever.
/// Guarantees: they are accepted, names of every form among them.
#[test]
fn whole_listeners_are_accepted() {
    for listener in [
        &format!("{MTLS}, clients: [{{ san: spiffe://example.org/rails }}]"),
        &format!(
            "{MTLS}, clients: [{{ san: Rails.gitlab.svc, service_names: [gitlab-ci-rails] }}, {{ san: 'urn:x' }}]"
        ),
        "authentication: [none], service_names: [a], address: '127.0.0.1:4319'",
        "authentication: [none], service_names: [a], address: '[::1]:4319'",
        "authentication: [none], service_names: [a], address: '[::ffff:127.0.0.1]:4319'",
        "authentication: [none], service_names: [a], address: '10.0.0.1:4319', i_know_the_network_is_closed: true",
        "authentication: [gitlab], i_know_the_network_is_closed: false",
    ] {
        assert_eq!(mistakes(listener), [""; 0], "{listener}");
    }
}

/// Scenario: what each kind lacks, what has no use, and names that no client has.
/// Guarantees: each is refused, under the key to mend.
#[test]
fn half_listeners_are_refused() {
    let mtls = |clients: &str| format!("{MTLS}, clients: [{clients}]");
    let good = "clients: [{ san: a.b }], service_names: [x]";
    let files = "cert_file: a, key_file: b";
    for (listener, key) in [
        (format!("authentication: [mtls], {good}"), "tls"),
        (format!("authentication: [mtls], {good}, tls: {{ {files} }}"), "tls.client_ca_file"),
        (MTLS.to_owned(), "clients"),
        (format!("{MTLS}, clients: []"), "clients"),
        (
            format!(
                "authentication: [mtls], clients: [{{ san: a.b }}], tls: {{ {files}, client_ca_file: c }}"
            ),
            "service_names",
        ),
        (
            format!("authentication: [mtls, gitlab], {good}, tls: {{ {files}, client_ca_file: c }}"),
            "authentication",
        ),
        (
            "authentication: [none, gitlab], service_names: [x], address: '127.0.0.1:1'".to_owned(),
            "authentication",
        ),
        ("authentication: [none], service_names: [x], address: '0.0.0.0:1'".to_owned(), "authentication"),
        ("authentication: [none], service_names: [x], address: '10.0.0.1:1'".to_owned(), "authentication"),
        ("authentication: [none], address: '127.0.0.1:1'".to_owned(), "service_names"),
        (format!("authentication: [none], address: '127.0.0.1:1', {good}"), "clients"),
        ("authentication: [gitlab], service_names: [x]".to_owned(), "service_names"),
        ("authentication: [gitlab], clients: [{ san: a.b }]".to_owned(), "clients"),
        (
            "authentication: [gitlab], i_know_the_network_is_closed: true".to_owned(),
            "i_know_the_network_is_closed",
        ),
        (format!("authentication: [gitlab], tls: {{ {files}, client_ca_file: c }}"), "tls.client_ca_file"),
        (mtls("{ san: '' }"), "clients.0.san"),
        (mtls("{ }"), "clients.0.san"),
        (mtls("{ san: '*.example.org' }"), "clients.0.san"),
        (mtls("{ san: 'spiffe://example.org/*' }"), "clients.0.san"),
        (mtls("{ san: 'spiffe://exa mple.org/' }"), "clients.0.san"),
        (mtls("{ san: 10.0.0.1 }"), "clients.0.san"),
        (mtls("{ san: '2001:db8::1' }"), "clients.0.san"),
        (mtls("{ san: 'a..b' }"), "clients.0.san"),
        (mtls("{ san: 'a.b.' }"), "clients.0.san"),
        (mtls("{ san: a.b }, { san: A.B }"), "clients.1.san"),
        (mtls("{ san: a.b, service_names: [else] }"), "clients.0.service_names.0"),
        ("authentication: [none], address: '127.0.0.1:1', service_names: ['']".to_owned(), "service_names.0"),
        (
            "authentication: [none], address: '127.0.0.1:1', service_names: [a, a]".to_owned(),
            "service_names.1",
        ),
    ] {
        assert_eq!(mistakes(&listener), [format!("listeners.0.{key}")], "{listener}");
    }
    let flag = "i_know_the_network_is_closed: yes";
    assert_eq!(mistakes(flag), ["listeners.0.i_know_the_network_is_closed"]);
}

/// Scenario: a listener with one mistake in each of its keys.
/// Guarantees: all are told at once.
#[test]
fn all_mistakes_at_once() {
    let found = mistakes(
        "authentication: [mtls, none], address: '0.0.0.0:1', clients: [{ san: '*' }], tls: { cert_file: a, key_file: b }",
    );
    let keys = ["authentication", "authentication", "service_names", "tls.client_ca_file", "clients.0.san"];
    let mut expected: Vec<_> = keys.iter().map(|key| format!("listeners.0.{key}")).collect();
    let mut found = found;
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}
