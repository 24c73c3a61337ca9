//! `spangate explain --bearer-token-file` beside a gateway with the same provider.

use clap::Parser as _;
use serde_json::{Value, json};
use spangate::{
    cli::{
        args::{Cli, Command},
        explain,
    },
    config::{Authentication, Config, Fact, OidcProvider},
};

use super::{Files, attributes};
use crate::support::{
    client::{Export, Form},
    issuer::Issuer,
    job::Job,
    spans,
    tokens::{Key, gitlab_claims},
    world::{World, unlimited},
};

fn bearer(config: &mut Config, issuer: &Issuer) {
    unlimited(config);
    config.gitlab.url = String::new();
    config.listeners[0].authentication = vec![Authentication::Oidc];
    config.oidc.providers = vec![OidcProvider {
        issuer: issuer.url(),
        audiences: vec!["us".into()],
        require: [("runner_environment".to_owned(), vec!["self-hosted".to_owned()])].into(),
        facts: [(Fact::JobId, "job_id".to_owned())].into(),
        attributes: [("runner_environment".to_owned(), "gitlab.runner.environment".to_owned())].into(),
        service_name: "of-a-bearer".into(),
        ..OidcProvider::default()
    }];
}

async fn explained(files: &Files, token: &str) -> (u8, Value) {
    files.write("bearer", &format!("{token}\n"));
    let path = |name: &str| files.path(name).display().to_string();
    let (config, bearer) = (path("config"), path("bearer"));
    let line = ["spangate", "explain", "--config", &config, "--bearer-token-file", &bearer, "--json"];
    let Command::Explain(args) = Cli::try_parse_from(line).unwrap().command else { panic!("{line:?}") };
    let (mut out, mut errors) = (Vec::new(), Vec::new());
    let code = explain::run_to(&args, &mut out, &mut errors).await;
    let [out, errors] = [out, errors].map(|bytes| String::from_utf8(bytes).unwrap());
    for part in token.split('.').filter(|part| part.len() > 8) {
        assert!(!out.contains(part) && !errors.contains(part), "a part of the token in {out}{errors}");
    }
    (code, serde_json::from_str(&out).unwrap_or(Value::String(errors)))
}

/// Scenario: a good token, ones that fail a check each, and a provider that is down, all also sent to a gateway.
/// Guarantees: exit codes 0, 1 and 2, status and outcome as the gateway's sender gets them, the check that failed by name; what is
/// written is what the collector got, each attribute with its claim; no part of a token is printed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bearer_token_is_explained() {
    let (key, other) = (Key::p256("k1"), Key::p256("k2"));
    let issuer = Issuer::start(&[&key]).await;
    let world = World::with(|config| bearer(config, &issuer)).await;
    let files = Files::new(&world.config, &Job::new(1));
    let claims = |change: &dyn Fn(&mut Value)| {
        let mut claims = gitlab_claims(&issuer.url(), "us");
        change(&mut claims);
        claims
    };
    let send = async |token: &str| {
        let export = Export::new(Form::Protobuf, &spans::export(&Job::new(1), 1));
        world.send(&export.header("authorization", format!("Bearer {token}"))).await
    };

    let good = key.token(&claims(&|_| {}));
    let (code, said) = explained(&files, &good).await;
    assert_eq!((code, &said["verdict"]), (0, &json!("allow")), "{said:#}");
    assert_eq!(send(&good).await.status, 200);
    let arrived = world.collector.received()[0].request();
    let written = &arrived.resource_spans[0].resource.as_ref().unwrap().attributes;
    let told = attributes(&said);
    let claim = |name: &str| format!("claim {name}");
    for (attribute, value, from) in [
        (spans::int("ci.job.id", 302), json!(302), claim("job_id")),
        (
            spans::text("gitlab.runner.environment", "self-hosted"),
            json!("self-hosted"),
            claim("runner_environment"),
        ),
        (
            spans::text("service.name", "of-a-bearer"),
            json!("of-a-bearer"),
            "oidc.providers[].service_name".into(),
        ),
    ] {
        assert!(written.contains(&attribute), "{written:?}");
        assert!(told.contains(&(attribute.key, value, from)), "{said:#}");
    }
    assert!(said["kept"]["sentence"].as_str().unwrap().contains("by cache.max_ttl"), "{said:#}");
    assert_eq!(said["tokens"]["bearer_token_bytes"], json!(good.len()));

    let (stranger, forged) = (other.token(&claims(&|_| {})), {
        let (head, _) = good.rsplit_once('.').unwrap();
        let signature = other.token(&claims(&|_| {}));
        format!("{head}.{}", signature.rsplit_once('.').unwrap().1)
    });
    for (token, why) in [
        (key.token(&claims(&|claims| claims["aud"] = json!("them"))), "its aud has none"),
        (
            key.token(&claims(&|claims| claims["iss"] = json!("https://other"))),
            "its iss is that of no provider",
        ),
        (key.token(&claims(&|claims| claims["exp"] = json!(1_000))), "it has expired"),
        (
            key.token(&claims(&|claims| claims["runner_environment"] = json!("gitlab-hosted"))),
            "a claim in the provider's `require`",
        ),
        (stranger, "its key is none of the provider's"),
        (forged, "its signature does not fit"),
        ("only.two".into(), "it is not three parts"),
    ] {
        let (code, said) = explained(&files, &token).await;
        assert!(code == 1 && said["why"].as_str().unwrap().contains(why), "{why}: {said:#}");
        assert_eq!(said["sender_gets"]["http_status"], send(&token).await.status, "{why}: {said:#}");
        assert!(said["hint"] != "" && said["admitted"].is_null(), "{said:#}");
    }

    issuer.is_down();
    let (code, said) = explained(&files, &good).await;
    assert_eq!((code, &said["sender_gets"]["http_status"]), (2, &json!(503)), "{said:#}");
    assert!(said["hint"].as_str().unwrap().contains("ca_file"), "{said:#}");

    let mut pairs_only = world.config.clone();
    pairs_only.gitlab.url = "http://127.0.0.1:9".into();
    pairs_only.oidc.providers.clear();
    pairs_only.listeners[0].authentication = vec![Authentication::Gitlab];
    let (code, said) = explained(&Files::new(&pairs_only, &Job::new(1)), &good).await;
    assert!(code == 64 && said.as_str().unwrap().contains("set oidc.providers"), "{said:#}");
}
