//! The store of limits: what is refused at start.

use super::{GOOD, load};

fn mistakes(store: &str) -> Vec<String> {
    match load(&format!("{GOOD}limits: {{ store: {{ {store} }} }}\n")) {
        Ok(_) => Vec::new(),
        Err(mistakes) => mistakes.0.into_iter().map(|mistake| mistake.field).collect(),
    }
}

/// Scenario: no store; one with all that it needs, in each layout; halves; keys without a use; prefixes that would break keys.
/// Guarantees: each mistake is found, under the key to mend, and nothing else.
#[test]
fn stores_are_whole_or_refused() {
    let none: [&str; 0] = [];
    let whole = "type: redis, url_file: /u, secret_file: /s";
    for (store, wanted) in [
        ("", &none[..]),
        ("type: local", &none),
        (whole, &none),
        (&format!("{whole}, topology: cluster, key_prefix: 'a.b:c_D-9', ca_file: /c"), &none),
        (&format!("{whole}, topology: sentinel"), &none),
        ("type: redis", &["limits.store.url_file", "limits.store.secret_file"]),
        ("type: redis, url_file: /u", &["limits.store.secret_file"]),
        ("url_file: /u, secret_file: /s", &["limits.store.url_file", "limits.store.secret_file"]),
        ("ca_file: /c", &["limits.store.ca_file"]),
        ("topology: cluster", &["limits.store.topology"]),
        ("type: memcached", &["limits.store.type"]),
        (&format!("{whole}, key_prefix: ''"), &["limits.store.key_prefix"]),
        (&format!("{whole}, key_prefix: 'a{{b}}'"), &["limits.store.key_prefix"]),
        (&format!("{whole}, key_prefix: {}", "x".repeat(65)), &["limits.store.key_prefix"]),
    ] {
        assert_eq!(mistakes(store), wanted, "{store}");
    }
}
