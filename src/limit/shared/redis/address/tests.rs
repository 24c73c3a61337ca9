//! Files with addresses: what is taken, what is refused, and that nothing of one is ever shown.

use super::*;
use crate::config::StoreType;

/// What becomes of this text under a topology: a way, or the error's text.
fn way_of(text: &str, topology: Topology, ca: Option<&str>) -> Result<Way, String> {
    let folder = tempfile::tempdir().unwrap();
    let url_file = folder.path().join("urls");
    fs::write(&url_file, text).unwrap();
    let mut config = Store { r#type: StoreType::Redis, url_file, topology, ..Store::default() };
    if let Some(ca) = ca {
        config.ca_file = folder.path().join("ca.pem");
        fs::write(&config.ca_file, ca).unwrap();
    }
    way(&config).map_err(|error| error.to_string())
}

/// Scenario: the forms that docs/operating.md names, for each topology, with comments and blank lines.
/// Guarantees: each is taken as what it is.
#[test]
fn good_addresses_are_taken() {
    let ca = rcgen::generate_simple_self_signed(vec!["redis".to_owned()]).unwrap().cert.pem();
    let tls = Some(ca.as_str());
    for (text, topology, ca) in [
        ("redis://redis:6379/0", Topology::Single, None),
        ("# ours\n\nredis://user:p%40ss@redis:6379/3\n", Topology::Single, None),
        ("rediss://:secret@redis", Topology::Single, None),
        ("rediss://:secret@redis", Topology::Single, tls),
        ("valkey://[::1]:6379", Topology::Single, None),
        ("redis://:a@one:1\nredis://:a@two:2", Topology::Cluster, None),
        ("rediss://:a@one:1\nrediss://:a@two:2", Topology::Cluster, tls),
        ("redis://user:a@main/2\nredis://:b@one:26379\nredis://:b@two:26379", Topology::Sentinel, None),
        ("rediss://user:a@main\nredis://one:26379", Topology::Sentinel, tls),
        ("rediss://user:a@main\nrediss://one:26379", Topology::Sentinel, tls),
    ] {
        let way = way_of(text, topology, ca).unwrap_or_else(|error| panic!("{text}: {error}"));
        let fits = matches!(
            (way, topology),
            (Way::Single(_), Topology::Single)
                | (Way::Cluster(_), Topology::Cluster)
                | (Way::Sentinels(_), Topology::Sentinel)
        );
        assert!(fits, "{text}");
    }
}

/// Scenario: no address, another scheme, too many, one that trusts any certificate, mixed ones, files for another
/// layout, CA files that have no use or no certificate; each with a password in it.
/// Guarantees: each is refused with the key, the file and what to do, and no password is quoted.
#[test]
fn mistakes_are_named_and_passwords_are_not() {
    let many = "redis://:hunter2@one:1\n".repeat(17);
    for (text, topology, ca, wanted) in [
        ("\n# redis://:hunter2@redis\n", Topology::Single, None, "holds no address"),
        ("https://:hunter2@redis", Topology::Single, None, "line 1 is no address"),
        ("redis://:hunter2@redis:6379/0\nhunter2", Topology::Single, None, "line 2 is no address"),
        ("redis://:hunter2@redis:99999/0", Topology::Single, None, "line 1 is no address"),
        ("redis://:hunter2@redis/x", Topology::Single, None, "line 1 is no address"),
        ("redis://:hunter2@a\nredis://:hunter2@b", Topology::Single, None, "holds several addresses"),
        (&many, Topology::Cluster, None, "more than 16"),
        ("rediss://:hunter2@redis/#insecure", Topology::Single, None, "would believe any certificate"),
        ("redis://:hunter2@a\nredis://:hunter3@b", Topology::Cluster, None, "can't be used"),
        ("redis://:hunter2@main", Topology::Sentinel, None, "needs two lines"),
        ("redis://:hunter2@redis", Topology::Single, Some("x"), "limits.store.ca_file"),
        ("rediss://:hunter2@redis", Topology::Single, Some("hunter2"), "no certificate"),
    ] {
        let error = way_of(text, topology, ca).map(drop).unwrap_err();
        assert!(error.contains(wanted), "{text}: {error}");
        assert!(error.starts_with("limits.store.") && !error.contains("hunter"), "{error}");
    }
}
