//! An endpoint asked as the gateway asks and, on purpose, as it never does: for the kit that proves an
//! endpoint of others. Questions and answers are written and read by the gateway's own code, so that the two
//! can't part. It never decides what an answer should have been.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header::CONTENT_TYPE};
use reqwest::{Client, Request, Url};
use tokio::time::Instant;

use crate::config;

use super::{
    BuildError, Denial, Undetermined,
    answer::{self, Head, Positive},
    credentials::HeaderNames,
    gitlab::{self, ALPN, X_FORWARDED_FOR, X_REQUEST_ID},
    signer::{Signer, unix_seconds},
};

/// How long ago a signature was made that must have ended, in seconds.
const LONG_AGO: u64 = 3600;

/// An endpoint and how it is asked.
pub(crate) struct Probe {
    client: Client,
    http1: Client,
    url: Url,
    names: HeaderNames,
    /// The right one, and one that signs as somebody else.
    signers: Option<[Signer; 2]>,
}

/// One question; the default is the gateway's own, without tokens.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask<'a> {
    pub(crate) runner_token: Option<&'a [u8]>,
    pub(crate) job_token: Option<&'a [u8]>,
    pub(crate) signature: Signature,
    pub(crate) form: Form,
    /// `X-Request-Id`
    pub(crate) correlation_id: String,
}

/// What is odd about a question but for its tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Form {
    #[default]
    Usual,
    /// GET, without a body.
    Get,
    /// A body with fields that nobody knows.
    UnknownFields,
    /// Without an offer of HTTP/2.
    Http1,
}

/// How a question is signed, where there is a secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Signature {
    #[default]
    Good,
    Missing,
    WrongKey,
    Expired,
    /// `alg: none`, which a verifier that believes the header lets in.
    Unsigned,
    OtherIssuer,
}

/// One answer, read to its end or to the gateway's bound.
pub(crate) struct Heard {
    pub(crate) status: StatusCode,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    /// The error says why it could not be read.
    pub(crate) body: Result<Vec<u8>, Undetermined>,
    /// From the question to the end of the answer.
    pub(crate) took: Duration,
    signed_at: Option<u64>,
}

/// What the gateway makes of an answer.
#[derive(Debug)]
pub(crate) enum Word {
    Allow(Box<Positive>),
    Deny(Denial),
}

impl Probe {
    /// As the gateway would be set up with these keys.
    ///
    /// # Errors
    /// [`BuildError`] names the key or the file to mend.
    pub(crate) fn new(config: &config::Gitlab) -> Result<Self, BuildError> {
        let stranger = config::Gitlab { secret_issuer: "spangate-conform-stranger".into(), ..config.clone() };
        let signers = [Signer::from_config(config)?, Signer::from_config(&stranger)?];
        let [Some(signer), Some(stranger)] = signers else { return Self::with(config, None) };
        Self::with(config, Some([signer, stranger]))
    }

    fn with(config: &config::Gitlab, signers: Option<[Signer; 2]>) -> Result<Self, BuildError> {
        Ok(Self {
            client: gitlab::client(config, ALPN)?,
            http1: gitlab::client(config, &[b"http/1.1"])?,
            url: gitlab::endpoint(config)?,
            names: HeaderNames::from_config(config)?,
            signers,
        })
    }

    /// The URL that is asked.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// The headers that carry the tokens.
    pub(crate) fn names(&self) -> &HeaderNames {
        &self.names
    }

    /// Whether questions can be signed.
    pub(crate) fn signs(&self) -> bool {
        self.signers.is_some()
    }

    /// Asks once; nothing is tried again.
    ///
    /// # Errors
    /// [`Undetermined`] when no answer came.
    pub(crate) async fn ask(&self, ask: &Ask<'_>) -> Result<Heard, Undetermined> {
        let now = unix_seconds();
        let unwritable = || Undetermined::Unreachable("the question could not be written".into());
        let request = self.request(ask, now).ok_or_else(unwritable)?;
        let client = if ask.form == Form::Http1 { &self.http1 } else { &self.client };
        let started = Instant::now();
        let response =
            client.execute(request).await.map_err(|error| gitlab::Failure::transport(error).trouble)?;
        let (status, version, headers) = (response.status(), response.version(), response.headers().clone());
        let body = gitlab::read(response).await.map_err(|failure| failure.trouble);
        let is_signed = self.signs() && ask.signature == Signature::Good;
        Ok(Heard {
            status,
            version,
            headers,
            body,
            took: started.elapsed(),
            signed_at: is_signed.then_some(now),
        })
    }

    fn request(&self, ask: &Ask<'_>, now: u64) -> Option<Request> {
        let mut request = gitlab::blank(self.url.clone());
        match ask.form {
            Form::Usual | Form::Http1 => {}
            Form::Get => {
                *request.method_mut() = Method::GET;
                *request.body_mut() = None;
                request.headers_mut().remove(CONTENT_TYPE);
            }
            Form::UnknownFields => {
                *request.body_mut() = Some(r#"{"spangate_conform":{"nested":[1,"two",null]}}"#.into());
            }
        }
        let headers = request.headers_mut();
        let tokens = [(&self.names.runner_token, ask.runner_token), (&self.names.job_token, ask.job_token)];
        for (name, token) in tokens {
            if let Some(token) = token {
                headers.insert(name.clone(), gitlab::secret(token)?);
            }
        }
        headers.insert(X_REQUEST_ID, HeaderValue::from_str(&ask.correlation_id).ok()?);
        headers.insert(X_FORWARDED_FOR, HeaderValue::from_static("127.0.0.1"));
        if let Some((name, value)) = self.signature(ask.signature, now) {
            headers.insert(name, value?);
        }
        Some(request)
    }

    /// The header to add; its value is `None` if it can't be made.
    fn signature(&self, kind: Signature, now: u64) -> Option<(HeaderName, Option<HeaderValue>)> {
        let [signer, stranger] = self.signers.as_ref()?;
        let value = match kind {
            Signature::Missing => return None,
            Signature::Good => signer.sign(now),
            Signature::Expired => signer.sign(now.saturating_sub(LONG_AGO)),
            Signature::OtherIssuer => stranger.sign(now),
            Signature::WrongKey => signer.sign(now).and_then(|jwt| forged(&jwt, None)),
            Signature::Unsigned => {
                signer.sign(now).and_then(|jwt| forged(&jwt, Some(r#"{"alg":"none","typ":"JWT"}"#)))
            }
        };
        Some((signer.header().clone(), value))
    }
}

/// A JWT with the claims of `jwt`: under another header and unsigned, or with a signature of other bytes.
fn forged(jwt: &HeaderValue, header: Option<&str>) -> Option<HeaderValue> {
    let (signed, signature) = jwt.to_str().ok()?.rsplit_once('.')?;
    let (own_header, claims) = signed.split_once('.')?;
    let text = if let Some(header) = header {
        format!("{}.{claims}.", URL_SAFE_NO_PAD.encode(header))
    } else {
        let bytes: Vec<_> = URL_SAFE_NO_PAD.decode(signature).ok()?.iter().map(|byte| byte ^ 0x55).collect();
        format!("{own_header}.{claims}.{}", URL_SAFE_NO_PAD.encode(bytes))
    };
    gitlab::secret(text.as_bytes())
}

impl Heard {
    /// What the gateway makes of it.
    ///
    /// # Errors
    /// [`Undetermined`] for what is no word about the tokens.
    pub(crate) fn word(&self) -> Result<Word, Undetermined> {
        match answer::head(self.status, &self.headers, self.signed_at)? {
            Head::Denied(denial) => Ok(Word::Deny(denial)),
            Head::Positive => {
                let body = self.body.as_ref().map_err(Clone::clone)?;
                answer::positive(&self.headers, body).map(|positive| Word::Allow(Box::new(positive)))
            }
        }
    }

    /// Whether the body is a JSON object with each field that is read once.
    pub(crate) fn is_object(&self) -> bool {
        self.body.as_ref().is_ok_and(|body| answer::is_object(body))
    }

    /// Optional fields that the gateway takes for absent because of their form.
    pub(crate) fn unreadable_fields(&self) -> Vec<&'static str> {
        self.body.as_ref().map_or_else(|_| Vec::new(), |body| answer::unreadable(body))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use base64::engine::general_purpose::STANDARD;

    use super::*;

    /// Scenario: one question signed in every way, as it would leave.
    /// Guarantees: only the good signature verifies; the forged ones keep the claims of a good one, so that a verifier
    /// has to look at the signature; tokens and signatures are kept out of `Debug`.
    #[tokio::test]
    async fn only_the_good_signature_verifies() {
        use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};

        let folder = tempfile::tempdir().unwrap();
        let secret_file = folder.path().join("secret");
        fs::write(&secret_file, STANDARD.encode([7; 32])).unwrap();
        let config = config::Gitlab {
            url: "https://gitlab.example.com".into(),
            secret_file,
            ..config::Gitlab::default()
        };
        let probe = Probe::new(&config).unwrap();
        let now = unix_seconds();
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&[&config.secret_audience]);
        validation.set_issuer(&[&config.secret_issuer]);
        validation.set_required_spec_claims(&["iss", "aud", "exp"]);
        let key = DecodingKey::from_secret(&[7; 32]);
        for kind in [
            Signature::Good,
            Signature::WrongKey,
            Signature::Expired,
            Signature::Unsigned,
            Signature::OtherIssuer,
        ] {
            let ask = Ask { runner_token: Some(b"canary"), signature: kind, ..Ask::default() };
            let request = probe.request(&ask, now).unwrap();
            assert!(!format!("{request:?}").contains("canary"), "{request:?}");
            let value = &request.headers()[config.secret_header.to_lowercase()];
            assert!(value.is_sensitive(), "{kind:?}");
            let jwt = value.to_str().unwrap();
            let verdict = decode::<serde_json::Value>(jwt, &key, &validation);
            assert_eq!(verdict.is_ok(), kind == Signature::Good, "{kind:?}: {verdict:?}");
            let payload = URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1).unwrap()).unwrap();
            let claims: serde_json::Value = serde_json::from_slice(&payload).unwrap();
            let ended = claims["exp"].as_u64().unwrap() < now;
            assert_eq!(ended, kind == Signature::Expired, "{kind:?}: {claims}");
        }
        let missing = Ask { signature: Signature::Missing, ..Ask::default() };
        assert!(!probe.request(&missing, now).unwrap().headers().contains_key(&config.secret_header));
    }
}
