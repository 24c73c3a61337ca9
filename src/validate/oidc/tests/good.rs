//! What good tokens of real providers become, and who among their bearers may send.

use super::{
    tokens::{after, google_claims},
    *,
};
use crate::{
    config::Fact,
    otlp::rewrite::{Stamp, Value as Attribute},
};

fn require(claims: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
    let owned = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
    claims.iter().map(|(name, values)| ((*name).to_owned(), owned(values))).collect()
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect()
}

fn identity(allowed: &Allowed) -> &Identity {
    &allowed.identity
}

/// Scenario: a GitLab CI ID token, its claims mapped to facts.
/// Guarantees: the job's attributes come out as of a token pair, the trace is left open, and the job's limits hold.
#[test]
fn a_gitlab_ci_id_token() {
    let world = World::of(Key::rsa("kewiQq9jiC84CvSsJYOB-N6A8WFLSV20Mb-y7IlWDSQ"), |provider| {
        provider.require = require(&[("namespace_path", &["other", "my-group"])]);
        provider.facts = [
            (Fact::JobId, "job_id"),
            (Fact::PipelineId, "pipeline_id"),
            (Fact::PipelineSource, "pipeline_source"),
            (Fact::ProjectId, "project_id"),
            (Fact::ProjectPath, "project_path"),
            (Fact::NamespaceId, "namespace_id"),
            (Fact::RunnerId, "runner_id"),
            (Fact::RunnerType, "not_there"),
        ]
        .map(|(fact, name)| (fact, name.to_owned()))
        .into();
        provider.attributes =
            map(&[("runner_environment", "gitlab.runner.environment"), ("ref_protected", "x.protected")]);
    });
    let allowed = world.allows(&world.key.token(&gitlab_claims(ISSUER, AUDIENCE)));
    let identity = identity(&allowed);
    let expected = crate::validate::Claims {
        job_id: Some(302),
        pipeline_id: Some(574),
        pipeline_source: Some("push".into()),
        project_id: Some(20),
        project_path: Some("my-group/my-project".into()),
        namespace_id: Some(72),
        runner_id: Some(1),
        ..crate::validate::Claims::default()
    };
    assert_eq!(identity.claims(), Some(&expected));
    assert_eq!(identity.trace_id(), None);
    assert!(identity.job_key().is_some());
    let stamp = Stamp::new([
        ("ci.job.id", Attribute::Int(302)),
        ("ci.project.id", Attribute::Int(20)),
        ("ci.pipeline.id", Attribute::Int(574)),
        ("ci.pipeline.source", Attribute::String("push")),
        ("ci.runner.id", Attribute::Int(1)),
        ("service.name", Attribute::String("of-all")),
        ("x.protected", Attribute::String("false")),
        ("gitlab.runner.environment", Attribute::String("self-hosted")),
    ]);
    assert_eq!(identity.stamp(), &stamp);
    let left = allowed.max_age.unwrap().as_secs();
    assert!((3590..=3600).contains(&left), "{left}");
}

/// Scenario: an identity token of a machine of Google's, in the format `full`, of our project and of others.
/// Guarantees: ours alone is taken: it is no job, and has the service name and the attributes of its provider.
#[test]
fn a_google_identity_token() {
    let world = World::of(Key::rsa("5aaff47c21d06e266ccee1f6ab4aac58ef4ea8f1"), |provider| {
        provider.issuer = "https://accounts.google.com".into();
        provider.require = require(&[
            ("google.compute_engine.project_id", &["my-project"]),
            ("google.compute_engine.project_number", &["739419398126"]),
            ("email_verified", &["true"]),
        ]);
        provider.attributes = map(&[
            ("google.compute_engine.project_id", "cloud.account.id"),
            ("/google/compute_engine/instance_name", "host.name"),
            ("google.compute_engine.project_number", "gcp.project.number"),
            ("google.compute_engine.license_id", "gcp.licenses"),
        ]);
        provider.service_name = "hosted-runner".into();
    });
    let mut claims = google_claims(AUDIENCE);
    let allowed = world.allows(&world.key.token(&claims));
    let stamp = Stamp::new([
        ("service.name", Attribute::String("hosted-runner")),
        ("host.name", Attribute::String("runner-7")),
        ("cloud.account.id", Attribute::String("my-project")),
        ("gcp.project.number", Attribute::Int(739_419_398_126)),
    ]);
    assert_eq!(identity(&allowed).stamp(), &stamp);
    assert_eq!((identity(&allowed).job_key(), identity(&allowed).trace_id()), (None, None));
    claims["google"]["compute_engine"]["project_id"] = json!("evil-project");
    world.refuses(&world.key.token(&claims), Refusal::Required);
}

/// Scenario: required claims that are missing, of another value, of another type, or in a list.
/// Guarantees: 403, and only under a good signature; numbers and truth values match what they are written like.
#[test]
fn required_claims_not_met() {
    let world = World::of(Key::p256("k1"), |provider| {
        provider.require = require(&[("project_path", &["my-group/my-project", "7", "true"])]);
    });
    for met in [json!("my-group/my-project"), json!("7"), json!(7), json!(true)] {
        world.allows(&world.key.token(&claims("project_path", met)));
    }
    for unmet in [
        Value::Null,
        json!("my-group/my-project2"),
        json!("My-group/my-project"),
        json!(""),
        json!(7.5),
        json!(false),
        json!(["my-group/my-project"]),
        json!({ "my-group/my-project": 1 }),
    ] {
        let claims = claims("project_path", unmet);
        world.refuses(&world.key.token(&claims), Refusal::Required);
        world.refuses(&Key::p256("k1").token(&claims), Refusal::Signature);
    }
    assert_eq!(Refusal::Required.denial(), Denial::Forbidden);
}

/// Scenario: claims in objects, with dots and slashes in their names.
/// Guarantees: each can be named, by a JSON Pointer where dots would mislead.
#[test]
fn claims_with_dots_and_slashes() {
    let odd = json!({ "namespace": "ci", "a/b": "c", "~": "t" });
    for (path, value) in [
        ("/kubernetes.io/namespace", "ci"),
        ("/kubernetes.io/a~1b", "c"),
        ("/kubernetes.io/~0", "t"),
        ("project_path", "my-group/my-project"),
    ] {
        let world = World::of(Key::p256("k1"), |provider| provider.require = require(&[(path, &[value])]));
        world.allows(&world.key.token(&claims("kubernetes.io", odd.clone())));
    }
    let world = World::of(Key::p256("k1"), |provider| {
        provider.require = require(&[("kubernetes.io.namespace", &["ci"])]);
    });
    world.refuses(&world.key.token(&claims("kubernetes.io", odd)), Refusal::Required);
}

/// Scenario: a provider whose tokens name their trace: well, badly and not at all.
/// Guarantees: the trace becomes the gate's; a token that names none is not let past the gate.
#[test]
fn a_claim_that_names_the_trace() {
    let world = World::of(Key::p256("k1"), |provider| provider.trace_id_claim = "trace".into());
    let allowed = world.allows(&world.key.token(&claims("trace", json!("000000000000000000000000001e240a"))));
    let shown = identity(&allowed).trace_id().unwrap().to_string();
    assert_eq!(shown, "000000000000000000000000001e240a");
    for odd in [Value::Null, json!("1e240a"), json!("00000000000000000000000000000000"), json!(7)] {
        world.refuses(&world.key.token(&claims("trace", odd)), Refusal::TraceId);
    }
}

/// Scenario: two tokens of one subject, one of another, and the same subject and job at another issuer.
/// Guarantees: limits follow the subject and the job of one issuer, not the token.
#[test]
fn keys_for_limits_follow_the_subject() {
    let fact = |provider: &mut OidcProvider| {
        provider.facts = [(Fact::JobId, "job_id".to_owned())].into();
    };
    let key = Key::p256("k1");
    let second = OidcProvider { issuer: "https://second.example.com".into(), ..provider(fact) };
    let set = jwks(&[&key]);
    let world = World::with(key, vec![(provider(fact), set.clone()), (second, set)]);
    let keys = |claims: Value| {
        let allowed = world.allows(&world.key.token(&claims));
        (identity(&allowed).runner_key(), identity(&allowed).job_key())
    };
    let base = keys(claims("x", json!(1)));
    assert_eq!(base, keys(claims("exp", json!(after(600)))));
    assert_ne!(base.0, keys(claims("sub", json!("another"))).0);
    assert_ne!(base.1, keys(claims("job_id", json!("303"))).1);
    let elsewhere = keys(claims("iss", json!("https://second.example.com")));
    assert!(base.0 != elsewhere.0 && base.1 != elsewhere.1);
    assert_eq!(keys(claims("job_id", Value::Null)).1, None);
}

/// Scenario: attributes that are the gateway's own, or that two claims would fill, and files that hold no keys.
/// Guarantees: all mistakes at once, each with the provider's key to mend.
#[test]
fn mistakes_are_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let keys_file = folder.path().join("keys");
    std::fs::write(&keys_file, jwks(&[&Key::p256("k1")]).to_string()).unwrap();
    let good = OidcProvider { keys_file, ..provider(|_| {}) };
    let pairs =
        map(&[("a", "ci.job.id"), ("b", "x.y"), ("c", "X-Y"), ("d", "CI_JOB_ID"), ("e", "vcs.owner.name")]);
    let config = config::Oidc {
        providers: vec![
            OidcProvider { attributes: pairs, ..good.clone() },
            OidcProvider { keys_file: "/absent/keys".into(), ..good.clone() },
            OidcProvider { keys_file: folder.path().join("keys2"), ..good },
        ],
    };
    std::fs::write(folder.path().join("keys2"), r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#).unwrap();
    let (policy, digester) = (IdentityPolicy::new("x"), Arc::new(Digester::random()));
    let built = Oidc::new(&config, &[AttributeSet::Vcs], policy, digester, Arc::new(Metrics::new()), None);
    let told: Vec<_> = built.unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 6, "{told:#?}");
    for (told, start) in told.iter().zip([
        "oidc.providers.0.attributes: \"ci.job.id\" is written by the gateway itself",
        "oidc.providers.0.attributes: \"X-Y\" is written from two claims",
        "oidc.providers.0.attributes: \"CI_JOB_ID\" is written by the gateway itself",
    ]) {
        assert!(told.starts_with(start), "{told}");
    }
    assert!(told[4].contains("oidc.providers.1.keys_file: /absent/keys: cannot be read"), "{told:#?}");
    assert!(told[5].contains("keys2: the JWKS has no public key"), "{told:#?}");
}

/// Scenario: a validator, a token and refusals are printed.
/// Guarantees: nothing of a token shows.
#[test]
fn nothing_of_a_token_is_printed() {
    let world = World::of(Key::p256("k1"), |_| {});
    let token = world.key.token(&claims("email", json!("canary@example.com")));
    let read = Token::read(token.as_bytes()).unwrap();
    let shown = format!("{:?} {read:?} {:?}", world.oidc, world.allows(&token));
    assert!(shown.contains(ISSUER) && !shown.contains("canary") && !shown.contains("eyJ"), "{shown}");
}
