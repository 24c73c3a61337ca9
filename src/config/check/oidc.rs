//! What the keys of OpenID providers must mean together. Stricter than the rest where a mistake would let
//! strangers in: a token says who signed it, not that its sender is one of ours. Pure.

use std::collections::BTreeSet;

use crate::config::{
    AttributesMode, Authentication, Config,
    oidc::{ClaimPath, KeyOrigin, OidcProvider},
    url::http_url,
};

use super::{Problems, is_set};

/// More providers than this could take the metrics past 2,000 series.
pub const MAX_PROVIDERS: usize = 16;

/// Longest `issuer`, which is a label of metrics.
const MAX_ISSUER: usize = 256;

/// Longest key of an attribute.
const MAX_KEY: usize = 255;

/// Issuers that mint tokens for anybody, whatever audience they ask for, and the claims of which at least one says whose
/// they are.
const OPEN_TO_ALL: &[(&str, &[&str])] = &[
    ("https://accounts.google.com", GOOGLE),
    ("accounts.google.com", GOOGLE),
    (
        "https://gitlab.com",
        &["project_id", "project_path", "namespace_id", "namespace_path", "user_id", "sub"],
    ),
    (
        "https://token.actions.githubusercontent.com",
        &["repository", "repository_id", "repository_owner", "repository_owner_id", "enterprise_id", "sub"],
    ),
];

const GOOGLE: &[&str] =
    &["google.compute_engine.project_id", "google.compute_engine.project_number", "email", "sub"];

pub(super) fn oidc(config: &Config, problems: &mut Problems) {
    let providers = &config.oidc.providers;
    let listener =
        config.listeners.iter().position(|listener| listener.authentication.contains(&Authentication::Oidc));
    match listener {
        Some(index) if providers.is_empty() => problems.add(
            &[&format!("listeners.{index}.authentication"), "oidc.providers"],
            "has oidc, and oidc.providers is empty: name the OpenID provider whose tokens are taken",
        ),
        None if !providers.is_empty() => problems.add(
            &["oidc.providers", "listeners"],
            "has no use: add oidc to listeners[].authentication, or leave the providers out",
        ),
        _ => {}
    }
    problems.unless(
        providers.len() <= MAX_PROVIDERS,
        &["oidc.providers"],
        format!("at most {MAX_PROVIDERS} providers, so that the metrics stay small"),
    );
    let mut issuers = BTreeSet::new();
    for (index, provider) in providers.iter().enumerate() {
        let place = Place(index);
        let issuer = place.field("issuer");
        problems.unless(issuers.insert(&provider.issuer), &[&issuer], "another provider has this issuer");
        who(provider, place, problems);
        keys(provider, place, problems);
        claims(provider, place, config.attributes.mode, problems);
    }
}

#[derive(Clone, Copy)]
struct Place(usize);

impl Place {
    fn field(self, key: &str) -> String {
        format!("oidc.providers.{}.{key}", self.0)
    }
}

/// Whose tokens, and for whom.
fn who(provider: &OidcProvider, place: Place, problems: &mut Problems) {
    let issuer = &provider.issuer;
    let is_sound =
        (1..=MAX_ISSUER).contains(&issuer.len()) && issuer.bytes().all(|byte| byte.is_ascii_graphic());
    problems.unless(
        is_sound,
        &[&place.field("issuer")],
        "must be the `iss` of the provider's tokens, such as \"https://gitlab.example.com\"",
    );
    problems.unless(
        !provider.audiences.is_empty() && provider.audiences.iter().all(|audience| !audience.is_empty()),
        &[&place.field("audiences")],
        "must name the audience that tokens for this gateway are made for: without one, a token for any other service would pass",
    );
    let open = OPEN_TO_ALL.iter().find(|(open, _)| open == issuer);
    if let Some((_, owners)) = open
        && !provider.require.keys().any(|name| is_any_of(name, owners))
    {
        problems.add(
            &[&place.field("require"), &place.field("issuer")],
            format!(
                "this issuer gives tokens for any audience to anybody: require at least one of {}",
                owners.join(", ")
            ),
        );
    }
}

/// Whether the name is a way to one of these claims, however it is written.
fn is_any_of(name: &str, owners: &[&str]) -> bool {
    let path = ClaimPath::parse(name);
    path.is_ok() && owners.iter().any(|owner| ClaimPath::parse(owner) == path)
}

/// Where keys come from, and what they may be used for.
fn keys(provider: &OidcProvider, place: Place, problems: &mut Problems) {
    let set: Vec<_> = [
        ("jwks_url", !provider.jwks_url.is_empty()),
        ("discovery", !provider.discovery.is_empty()),
        ("keys_file", is_set(&provider.keys_file)),
    ]
    .into_iter()
    .filter(|(_, is_set)| *is_set)
    .map(|(key, _)| place.field(key))
    .collect();
    if let [first, second, ..] = &set[..] {
        problems.add(&[second, first], format!("{first} is set too: keys come from one place only"));
    }
    let url = match provider.key_origin() {
        KeyOrigin::File(_) => None,
        KeyOrigin::Jwks(url) => Some(("jwks_url", url)),
        KeyOrigin::Discovery(url) if provider.discovery.is_empty() => Some(("issuer", url)),
        KeyOrigin::Discovery(url) => Some(("discovery", url)),
    };
    if let Some((key, url)) = &url
        && let Err(problem) = http_url(url)
    {
        let hint = if *key == "issuer" { "; or set jwks_url or keys_file" } else { "" };
        problems.add(&[&place.field(key)], format!("{problem}{hint}"));
    }
    problems.unless(
        !is_set(&provider.ca_file) || url.is_some_and(|(_, url)| url.starts_with("https://")),
        &[&place.field("ca_file")],
        "has no use where no https:// URL is fetched",
    );
    problems.unless(
        !provider.algorithms.is_empty(),
        &[&place.field("algorithms")],
        "at least one algorithm is needed",
    );
}

/// What claims must say, and where they go.
fn claims(provider: &OidcProvider, place: Place, mode: AttributesMode, problems: &mut Problems) {
    let mut path = |key: &str, name: &str| {
        if let Err(problem) = ClaimPath::parse(name) {
            problems.add(&[&place.field(key)], problem);
        }
    };
    provider.require.keys().for_each(|name| path("require", name));
    provider.facts.values().for_each(|name| path("facts", name));
    provider.attributes.keys().for_each(|name| path("attributes", name));
    if !provider.trace_id_claim.is_empty() {
        path("trace_id_claim", &provider.trace_id_claim);
    }
    for (name, values) in &provider.require {
        problems.unless(
            !values.is_empty(),
            &[&place.field("require")],
            format!("{name}: at least one value is needed; an empty list would refuse every token"),
        );
    }
    let attributes = place.field("attributes");
    for (name, key) in &provider.attributes {
        problems.unless(
            (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()),
            &[&attributes],
            format!("{name}: must give the key of an attribute, such as \"gcp.project.id\""),
        );
    }
    problems.unless(
        provider.attributes.is_empty() || mode == AttributesMode::Inject,
        &[&attributes, "attributes.mode"],
        "needs attributes.mode: inject; a transparent body is not changed",
    );
}
