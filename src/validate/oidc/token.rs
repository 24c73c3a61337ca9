//! A JWT in compact form, taken apart as strictly as the standards allow: what two readers could read in two
//! ways is refused, and so is a token that wants to choose how it is checked. Nothing here is proven: it
//! decides form only, and what it reads serves to find the key, and to refuse.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use crate::config::SignatureAlgorithm;

use super::Refusal;

/// Longest key id, in bytes. Providers use thumbprints of 43, Google 40 hex digits.
const MAX_KEY_ID: usize = 256;

/// Members of a header by which a token would bring its own key (RFC 7515, sections 4.1.2 to 4.1.6).
const OWN_KEY: [&str; 4] = ["jwk", "jku", "x5u", "x5c"];

/// Types that a bearer token may declare (RFC 7519, section 5.1; RFC 9068, section 2.1). A logout token or a
/// security event of the same provider is signed by the same key and proves nothing of the kind.
const TYPES: [&str; 3] = ["jwt", "at+jwt", "application/at+jwt"];

/// A token's parts, unproven.
pub struct Token<'t> {
    /// By which it wants to be checked.
    pub algorithm: SignatureAlgorithm,
    /// The key that it names.
    pub key_id: Option<String>,
    /// What it says.
    pub claims: Map<String, Value>,
    /// What is signed: header and payload as they came.
    pub message: &'t [u8],
    /// The last part, decoded.
    pub signature: Vec<u8>,
}

impl<'t> Token<'t> {
    /// Takes a token apart. Its length is bounded where credentials are read.
    ///
    /// # Errors
    /// The [`Refusal`] that says what is wrong with its form.
    pub fn read(token: &'t [u8]) -> Result<Self, Refusal> {
        let mut dots = token.iter().enumerate().filter_map(|(at, byte)| (*byte == b'.').then_some(at));
        let (Some(first), Some(second), None) = (dots.next(), dots.next(), dots.next()) else {
            return Err(Refusal::Parts);
        };
        let (message, signature) = token.split_at_checked(second).ok_or(Refusal::Parts)?;
        let (header, payload) = message.split_at_checked(first).ok_or(Refusal::Parts)?;
        let header = object(&part(header)?).ok_or(Refusal::Json)?;
        let (algorithm, key_id) = read_header(&header)?;
        Ok(Self {
            algorithm,
            key_id,
            claims: object(&part(behind_dot(payload))?).ok_or(Refusal::Json)?,
            message,
            signature: part(behind_dot(signature))?,
        })
    }

    /// A claim that is a text.
    pub(in crate::validate) fn text(&self, name: &str) -> Option<&str> {
        self.claims.get(name)?.as_str()
    }
}

/// Claims tell of people and machines: they are for attributes, not for logs.
impl fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

fn behind_dot(part: &[u8]) -> &[u8] {
    part.split_first().map_or(part, |(_, rest)| rest)
}

/// Base64url without padding, whitespace or stray bits (RFC 7515, section 2); an empty part is none.
fn part(text: &[u8]) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| !bytes.is_empty()).ok_or(Refusal::Parts)
}

fn read_header(header: &Map<String, Value>) -> Result<(SignatureAlgorithm, Option<String>), Refusal> {
    if OWN_KEY.iter().any(|name| header.contains_key(*name)) {
        return Err(Refusal::OwnKey);
    }
    // `b64` may only come with `crit` (RFC 7797, section 6): neither is known here.
    if header.contains_key("crit") || header.contains_key("b64") {
        return Err(Refusal::Critical);
    }
    let algorithm =
        header.get("alg").and_then(Value::as_str).and_then(algorithm).ok_or(Refusal::Algorithm)?;
    let lower = |name: &str| match header.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.to_ascii_lowercase())),
        Some(_) => Err(Refusal::Type),
    };
    let is_foreign = |kind: String| !TYPES.contains(&kind.as_str());
    // A content type says that another token is inside (RFC 7519, section 5.2).
    if lower("typ")?.is_some_and(is_foreign) || lower("cty")?.is_some() {
        return Err(Refusal::Type);
    }
    let key_id = match header.get("kid") {
        None => None,
        Some(Value::String(id)) if is_key_id(id) => Some(id.clone()),
        Some(_) => return Err(Refusal::KeyId),
    };
    Ok((algorithm, key_id))
}

/// The algorithm of this name; `None` for `none`, for shared secrets and for what is not known.
pub(in crate::validate) fn algorithm(name: &str) -> Option<SignatureAlgorithm> {
    Some(match name {
        "RS256" => SignatureAlgorithm::RS256,
        "RS384" => SignatureAlgorithm::RS384,
        "RS512" => SignatureAlgorithm::RS512,
        "PS256" => SignatureAlgorithm::PS256,
        "PS384" => SignatureAlgorithm::PS384,
        "PS512" => SignatureAlgorithm::PS512,
        "ES256" => SignatureAlgorithm::ES256,
        "ES384" => SignatureAlgorithm::ES384,
        "ES512" => SignatureAlgorithm::ES512,
        // RFC 9864 gives the one curve of EdDSA that is in use a name of its own.
        "EdDSA" | "Ed25519" => SignatureAlgorithm::EdDSA,
        _ => return None,
    })
}

pub(in crate::validate) fn is_key_id(id: &str) -> bool {
    (1..=MAX_KEY_ID).contains(&id.len()) && !id.contains(char::is_control)
}

/// A JSON object in which no object, at any depth, has a key twice. serde's own recursion limit bounds its depth.
pub(in crate::validate) fn object(json: &[u8]) -> Option<Map<String, Value>> {
    match serde_json::from_slice(json).ok()? {
        Unique(Value::Object(members)) => Some(members),
        Unique(_) => None,
    }
}

/// A JSON value. serde's own `Value` keeps the last of two equal keys, where another reader keeps the first.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Strict).map(Self)
    }
}

struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Strict)? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(Strict)?;
            if members.insert(key, value).is_some() {
                return Err(de::Error::custom("a key twice"));
            }
        }
        Ok(members.into())
    }
}
