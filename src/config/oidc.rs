//! Keys of OpenID providers, whose tokens are taken as bearer tokens. It decides defaults, spelling and
//! how a claim is named; what the keys mean together is checked beside it, and no token is seen here.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::settings::settings;

settings! {
    /// OpenID providers, for listeners whose `authentication` has `oidc`.
    pub struct Oidc {
        /// Whose bearer tokens are taken; at most 16. config/examples has two that are worked out: the identity
        /// tokens of Google's machines, and GitLab CI's own `id_tokens`.
        providers: Vec<OidcProvider> = Vec::new(), holds OidcProvider;
    }

    /// One OpenID provider. A claim is named by its way into the token: `google.compute_engine.project_id`, or as JSON
    /// Pointer (RFC 6901) where a name has dots: `/kubernetes.io/namespace`.
    pub struct OidcProvider {
        /// `iss` of its tokens, to the letter.
        issuer: String = String::new();
        /// Whom a token must be meant for: one of these must stand in its `aud`.
        audiences: Vec<String> = Vec::new();
        /// URL of its keys (a JWKS); empty: the discovery document says where they are.
        jwks_url: String = String::new();
        /// URL of its discovery document; empty: `/.well-known/openid-configuration` below `issuer`.
        discovery: String = String::new();
        /// File with its keys (a JWKS), in place of both URLs; read at the start and on SIGHUP.
        keys_file: PathBuf = PathBuf::new();
        /// PEM file with the CA certificates that the provider's certificate is checked against; empty: the system's.
        ca_file: PathBuf = PathBuf::new();
        /// Signature algorithms that are taken: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA.
        algorithms: Vec<SignatureAlgorithm> = vec![SignatureAlgorithm::RS256, SignatureAlgorithm::ES256, SignatureAlgorithm::EdDSA];
        /// Claims that a token must have, each with the values that are allowed: `{ project_path: [group/project] }`. Numbers
        /// and true or false are compared by their digits or their name.
        require: BTreeMap<String, Vec<String>> = BTreeMap::new();
        /// Which claim tells which fact of a CI job: `{ job_id: job_id, project_path: project_path }`. Facts: `job_id`, `pipeline_id`,
        /// `pipeline_source`, `root_pipeline_id`, `project_id`, `project_path`, `namespace_id`, `root_namespace_id`, `organization_id`,
        /// `cell_id`, `runner_id`, `runner_type`, `runner_manager_system_xid`.
        facts: BTreeMap<Fact, String> = BTreeMap::new();
        /// The claim that holds the trace which everything must belong to, in 32 lower-case hex digits; empty: any trace.
        trace_id_claim: String = String::new();
        /// Which claim is written into which resource attribute: `{ email: gcp.service_account }`. No sender may set these keys.
        attributes: BTreeMap<String, String> = BTreeMap::new();
        /// The `service.name` that its senders get; empty: `attributes.service_name`.
        service_name: String = String::new();
    }
}

/// Where discovery documents stand below an issuer (OpenID Connect Discovery 1.0, section 4).
const WELL_KNOWN: &str = "/.well-known/openid-configuration";

/// Where a provider's keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyOrigin {
    /// A JWKS behind a URL.
    Jwks(String),
    /// A discovery document behind a URL.
    Discovery(String),
    /// A JWKS in a file.
    File(PathBuf),
}

impl Oidc {
    /// The resource attributes that providers fill: no sender may set them.
    pub fn attribute_keys(&self) -> impl Iterator<Item = &str> {
        self.providers.iter().flat_map(|provider| provider.attributes.values()).map(String::as_str)
    }

    /// The files with keys, and those with the CAs over which keys come.
    #[must_use]
    pub fn key_files(&self) -> Vec<PathBuf> {
        let files = self.providers.iter().flat_map(|provider| [&provider.keys_file, &provider.ca_file]);
        files.cloned().collect()
    }
}

impl OidcProvider {
    /// Where the keys come from; of several that are set, which is a mistake, the first.
    #[must_use]
    pub fn key_origin(&self) -> KeyOrigin {
        if !self.keys_file.as_os_str().is_empty() {
            KeyOrigin::File(self.keys_file.clone())
        } else if !self.jwks_url.is_empty() {
            KeyOrigin::Jwks(self.jwks_url.clone())
        } else if self.discovery.is_empty() {
            KeyOrigin::Discovery(format!("{}{WELL_KNOWN}", self.issuer.trim_end_matches('/')))
        } else {
            KeyOrigin::Discovery(self.discovery.clone())
        }
    }
}

/// A signature algorithm (RFC 7518, RFC 8037). None with a shared secret: who can check such a signature can
/// make it, and a public key would pass for the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[expect(missing_docs, reason = "these are the names of the registry of JOSE")]
pub enum SignatureAlgorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    ES512,
    EdDSA,
}

/// A fact about a CI job that a claim can tell; what an authority's answer calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "`validate::Claims` says what each is")]
pub enum Fact {
    JobId,
    PipelineId,
    PipelineSource,
    RootPipelineId,
    ProjectId,
    ProjectPath,
    NamespaceId,
    RootNamespaceId,
    OrganizationId,
    CellId,
    RunnerId,
    RunnerType,
    RunnerManagerSystemXid,
}

/// The way to a claim: the names of objects within objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPath(Vec<String>);

impl ClaimPath {
    /// Reads `a.b`, or the JSON Pointer `/a/b` (in which `~1` is a slash and `~0` a tilde).
    ///
    /// # Errors
    /// A sentence that says how a claim is named.
    pub fn parse(text: &str) -> Result<Self, String> {
        let names: Vec<String> = match text.strip_prefix('/') {
            Some(pointer) => {
                pointer.split('/').map(|name| name.replace("~1", "/").replace("~0", "~")).collect()
            }
            None => text.split('.').map(str::to_owned).collect(),
        };
        if names.iter().any(String::is_empty) {
            return Err(format!(
                "\"{text}\" names no claim: write \"google.compute_engine.project_id\", or \"/kubernetes.io/namespace\" where a name has dots"
            ));
        }
        Ok(Self(names))
    }

    /// The claim, if a token has it.
    #[must_use]
    pub fn find<'c>(&self, claims: &'c Map<String, Value>) -> Option<&'c Value> {
        let (first, rest) = self.0.split_first()?;
        rest.iter().try_fold(claims.get(first)?, |value, name| value.as_object()?.get(name))
    }
}
