//! What is particular to a bearer token: which check it failed, which claim each attribute comes from. The
//! attributes are read from what would be written, so that the two can't differ. It prints no claim but those.

use opentelemetry_proto::tonic::{common::v1::any_value::Value as AnyValue, resource::v1::Resource};
use prost::Message as _;
use serde_json::Value;

use crate::{
    app::Asker,
    config::{Config, Fact, OidcProvider},
    validate::{Claims, Identity, oidc::Refusal},
};

use super::explanation::Attribute;

/// What to look at for a token that was refused so.
pub(super) fn hint(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Issuer => "oidc.providers[].issuer must be the token's iss to the letter",
        Refusal::UnlistedAlgorithm => "the provider's algorithms",
        Refusal::Audience => "the provider's audiences, and the audience that the sender asks a token for",
        Refusal::Expired | Refusal::Early | Refusal::Times => {
            "a new token; and the clock of this machine: 30 s are allowed"
        }
        Refusal::UnknownKey | Refusal::Signature => {
            "is it this provider's own? After a change of its keys, does its JWKS have the new one?"
        }
        Refusal::Required => "the provider's require, and what the token says there",
        Refusal::TraceId => "the provider's trace_id_claim: 32 lower-case hex digits, not all zero",
        Refusal::Parts
        | Refusal::Json
        | Refusal::Algorithm
        | Refusal::OwnKey
        | Refusal::Critical
        | Refusal::KeyId
        | Refusal::Type
        | Refusal::Subject => {
            "is it an ID token or an access token of the provider, all of it, and its file?"
        }
    }
}

/// The provider of an issuer, as configured.
pub(super) fn provider<'c>(config: &'c Config, issuer: Option<&str>) -> Option<&'c OidcProvider> {
    config.oidc.providers.iter().find(|provider| Some(provider.issuer.as_str()) == issuer)
}

/// What is written of the sender, each with the claim or the key that it comes from.
pub(super) fn attributes(asker: &Asker, identity: &Identity, provider: &OidcProvider) -> Vec<Attribute> {
    let facts = asker.identity.show(identity.claims().unwrap_or(&Claims::default()));
    let from = |key: &str| {
        if let Some((claim, _)) = provider.attributes.iter().find(|(_, own)| *own == key) {
            return format!("claim {claim}");
        }
        if key == "service.name" && !provider.service_name.is_empty() {
            return "oidc.providers[].service_name".to_owned();
        }
        let from = facts.iter().find(|shown| shown.key == key).map(|shown| shown.from.replace('`', ""));
        let from = from.unwrap_or_default();
        let claim = provider.facts.iter().find(|(fact, _)| name(**fact) == from);
        claim.map_or(from, |(_, claim)| format!("claim {claim}"))
    };
    let stamp = Resource::decode(identity.stamp().encoded()).unwrap_or_default();
    let shown = stamp.attributes.into_iter().map(|attribute| Attribute {
        from: from(&attribute.key),
        value: match attribute.value.and_then(|any| any.value) {
            Some(AnyValue::IntValue(number)) => number.into(),
            Some(AnyValue::StringValue(text)) => text.into(),
            _ => Value::Null,
        },
        key: attribute.key,
    });
    shown.collect()
}

/// As the configuration and the fields of GitLab's answer call it.
fn name(fact: Fact) -> String {
    let name = serde_json::to_value(fact).unwrap_or_default();
    name.as_str().unwrap_or_default().to_owned()
}
