//! One provider as configured: what its tokens must say, and what they tell of their sender. It holds no token
//! and knows no key; whether a signature is good is decided beside it.

use std::sync::Arc;

use serde_json::Value;

use crate::{
    config::{AttributeSet, ClaimPath, Fact, OidcProvider, SignatureAlgorithm},
    otlp::{TraceId, rewrite::ProtectedKeys},
    validate::{
        Claims, Identity, IdentityPolicy, answer,
        attributes::{Verified, protected_keys, protected_prefixes},
        credentials::Digester,
        identity::Bearer,
        jwks::KeySource,
    },
};

use super::{Refusal, token::Token};

/// What is wrong with a provider: the key to mend, and why.
type Problem = (&'static str, String);

/// An OpenID provider.
pub(super) struct Provider {
    pub(super) keys: Arc<KeySource>,
    audiences: Vec<String>,
    algorithms: Vec<SignatureAlgorithm>,
    required: Vec<(ClaimPath, Vec<String>)>,
    facts: Vec<(Fact, ClaimPath)>,
    attributes: Vec<(ClaimPath, Box<str>)>,
    trace_id: Option<ClaimPath>,
    service_name: Option<Box<str>>,
}

impl Provider {
    /// A provider whose keys come from `keys`. The attributes of `sets` are the gateway's own: no claim fills them but
    /// as a fact.
    ///
    /// # Errors
    /// Every mistake.
    pub(super) fn new(
        config: &OidcProvider,
        sets: &[AttributeSet],
        keys: Arc<KeySource>,
    ) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut path = |key: &'static str, name: &str| {
            ClaimPath::parse(name).map_err(|problem| problems.push((key, problem))).ok()
        };
        let required = config.require.iter();
        let required =
            required.filter_map(|(name, values)| Some((path("require", name)?, values.clone()))).collect();
        let facts =
            config.facts.iter().filter_map(|(fact, name)| Some((*fact, path("facts", name)?))).collect();
        let attributes: Vec<(ClaimPath, Box<str>)> = config
            .attributes
            .iter()
            .filter_map(|(name, key)| Some((path("attributes", name)?, key.as_str().into())))
            .collect();
        let trace_id = Some(config.trace_id_claim.as_str())
            .filter(|name| !name.is_empty())
            .and_then(|name| path("trace_id_claim", name));
        let own = ProtectedKeys::new(protected_keys(sets), protected_prefixes(sets));
        for (index, (_, key)) in attributes.iter().enumerate() {
            let is_same = |(_, other): &(ClaimPath, Box<str>)| {
                ProtectedKeys::new([&**other], []).contains(key.as_bytes())
            };
            let problem = if own.contains(key.as_bytes()) {
                "is written by the gateway itself: use `facts`"
            } else if attributes.iter().take(index).any(is_same) {
                "is written from two claims: give each its own key"
            } else {
                continue;
            };
            problems.push(("attributes", format!("\"{key}\" {problem}")));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self {
            keys,
            audiences: config.audiences.clone(),
            algorithms: config.algorithms.clone(),
            required,
            facts,
            attributes,
            trace_id,
            service_name: Some(config.service_name.as_str()).filter(|name| !name.is_empty()).map(Box::from),
        })
    }

    pub(super) fn issuer(&self) -> &str {
        self.keys.issuer()
    }

    /// Tells the operator of what is sound in some places only, and which these are nobody else knows: some issuers
    /// are the operator's own, and an audience is enough; some networks are closed.
    pub(super) fn warn(&self) {
        if self.keys.is_in_clear_text() {
            tracing::warn!(
                issuer = self.issuer(),
                "the keys of this OpenID provider are fetched over http://: whoever is on the way can sign tokens in its name"
            );
        }
        if self.required.is_empty() {
            tracing::warn!(
                issuer = self.issuer(),
                "this OpenID provider has no `require`: whoever it gives a token for the audience may send telemetry"
            );
        }
    }

    /// What the provider says of all its tokens: algorithm, audience, times, a subject. `now` in Unix seconds;
    /// gives the moment at which the token ends.
    pub(super) fn refuse_early(&self, token: &Token<'_>, now: u64, leeway: u64) -> Result<u64, Refusal> {
        if !self.algorithms.contains(&token.algorithm) {
            return Err(Refusal::UnlistedAlgorithm);
        }
        let is_ours = |audience: &Value| {
            audience.as_str().is_some_and(|audience| self.audiences.iter().any(|ours| ours == audience))
        };
        let is_meant = match token.claims.get("aud") {
            Some(Value::Array(list)) => list.iter().any(is_ours),
            Some(one) => is_ours(one),
            None => false,
        };
        if !is_meant {
            return Err(Refusal::Audience);
        }
        if token.text("sub").is_none_or(str::is_empty) {
            return Err(Refusal::Subject);
        }
        let expires_at = token.claims.get("exp").and_then(seconds).ok_or(Refusal::Times)?;
        let not_before = token.claims.get("nbf").map(|nbf| seconds(nbf).ok_or(Refusal::Times)).transpose()?;
        if expires_at.saturating_add(leeway) <= now {
            return Err(Refusal::Expired);
        }
        if not_before.is_some_and(|nbf| nbf > now.saturating_add(leeway)) {
            return Err(Refusal::Early);
        }
        Ok(expires_at)
    }

    /// Who the sender is, and whether it may send. Only after the signature was found good.
    pub(super) fn identify(
        &self,
        token: &Token<'_>,
        policy: &IdentityPolicy,
        digester: &Digester,
    ) -> Result<Identity, Refusal> {
        let allows = |(path, values): &(ClaimPath, Vec<String>)| {
            path.find(&token.claims)
                .is_some_and(|value| values.iter().any(|allowed| is_named(value, allowed)))
        };
        if !self.required.iter().all(allows) {
            return Err(Refusal::Required);
        }
        let trace_id = self.trace_id.as_ref().map(|path| {
            let hex = path.find(&token.claims).and_then(Value::as_str);
            hex.and_then(TraceId::from_lower_hex).ok_or(Refusal::TraceId)
        });
        let mut claims = Claims::default();
        for (fact, path) in &self.facts {
            if let Some(value) = path.find(&token.claims) {
                tell(&mut claims, *fact, value.clone());
            }
        }
        let attributes = self.attributes.iter();
        let attributes =
            attributes.filter_map(|(path, key)| Some((&**key, verified(path.find(&token.claims)?)?)));
        Ok(policy.identify_bearer(
            digester,
            Bearer {
                issuer: self.issuer(),
                subject: token.text("sub").unwrap_or_default(),
                trace_id: trace_id.transpose()?,
                claims,
                is_job: !self.facts.is_empty(),
                service_name: self.service_name.as_deref(),
                attributes: attributes.collect(),
            },
        ))
    }
}

/// A `NumericDate` (RFC 7519, section 2), which may have a fraction, in whole seconds.
fn seconds(value: &Value) -> Option<u64> {
    /// Past any date that is meant, and exact as a float.
    const FAR: f64 = 1e15;

    value.as_u64().or_else(|| {
        let seconds = value.as_f64().filter(|seconds| (0.0..FAR).contains(seconds))?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "within the bounds above"
        )]
        Some(seconds as u64)
    })
}

/// Whether a claim has the value that is written so. Lists and objects are no values.
fn is_named(value: &Value, text: &str) -> bool {
    match value {
        Value::String(own) => own == text,
        Value::Number(number) => number.to_string() == text,
        Value::Bool(own) => text == if *own { "true" } else { "false" },
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

/// A claim as an attribute: a whole number stays one, anything else becomes text; lists and objects are left out.
fn verified(value: &Value) -> Option<Verified<'static>> {
    match value {
        Value::Bool(own) => Some(Verified::Text(own.to_string().into())),
        Value::Number(number) if number.is_i64() => number.as_i64().map(Verified::Int),
        other => answer::text(Some(other.clone())).map(|text| Verified::Text(text.into())),
    }
}

/// A fact that is odd is absent, as with an authority's answer.
fn tell(claims: &mut Claims, fact: Fact, value: Value) {
    let (id, text) = (|value| answer::id(Some(value)), |value| answer::text(Some(value)));
    match fact {
        Fact::JobId => claims.job_id = id(value),
        Fact::PipelineId => claims.pipeline_id = id(value),
        Fact::PipelineSource => claims.pipeline_source = text(value),
        Fact::RootPipelineId => claims.root_pipeline_id = id(value),
        Fact::ProjectId => claims.project_id = id(value),
        Fact::ProjectPath => claims.project_path = text(value),
        Fact::NamespaceId => claims.namespace_id = id(value),
        Fact::RootNamespaceId => claims.root_namespace_id = id(value),
        Fact::OrganizationId => claims.organization_id = id(value),
        Fact::CellId => claims.cell_id = id(value),
        Fact::RunnerId => claims.runner_id = id(value),
        Fact::RunnerType => claims.runner_type = text(value),
        Fact::RunnerManagerSystemXid => claims.runner_manager_system_xid = text(value),
    }
}
