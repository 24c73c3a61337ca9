//! The claims of a job token, readable only after a 200 for exactly these bytes: no signature is
//! checked, because the authority just vouched for them. It never judges a token; whatever is odd
//! is simply absent, and a legacy token has no claims at all.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::Value;

use super::Claims;

/// What a job token says of its job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenClaims {
    /// The id in `sub`.
    pub job_id: Option<u64>,
    /// `p`
    pub project_id: Option<u64>,
    /// `g`: the group or user namespace.
    pub namespace_id: Option<u64>,
    /// `o`
    pub organization_id: Option<u64>,
    /// `c`
    pub cell_id: Option<u64>,
    /// `exp`, in Unix seconds.
    pub expires_at: Option<u64>,
}

#[derive(Deserialize)]
struct Payload {
    sub: Option<Value>,
    p: Option<Value>,
    g: Option<Value>,
    o: Option<Value>,
    c: Option<Value>,
    exp: Option<Value>,
}

/// Reads a job token's payload; nothing for a token that is no JWT.
///
/// Source: GitLab's `Ci::JobToken::Jwt`: `sub` is the job's global id, the routing claims are in
/// base36, and the instance's own prefix stands before the JWT. Hence the header is never decoded, and
/// the parts are counted from the end: a prefix may hold anything that a token may hold.
#[must_use]
pub fn read(token: &[u8]) -> TokenClaims {
    payload(token).map_or_else(TokenClaims::default, |payload| TokenClaims {
        job_id: payload.sub.as_ref().and_then(job_id),
        project_id: payload.p.as_ref().and_then(base36),
        namespace_id: payload.g.as_ref().and_then(base36),
        organization_id: payload.o.as_ref().and_then(base36),
        cell_id: payload.c.as_ref().and_then(base36),
        expires_at: payload.exp.as_ref().and_then(Value::as_u64),
    })
}

/// Bounded by the longest job token, which [`super::credentials`] enforces.
fn payload(token: &[u8]) -> Option<Payload> {
    let mut parts = token.rsplitn(3, |byte| *byte == b'.');
    let (signature, payload, header) = (parts.next()?, parts.next()?, parts.next()?);
    if signature.is_empty() || header.is_empty() {
        return None;
    }
    let json = URL_SAFE_NO_PAD.decode(payload).ok()?;
    // A list would be read as a struct, too, its members by position.
    json.starts_with(b"{").then(|| serde_json::from_slice(&json).ok()).flatten()
}

fn job_id(sub: &Value) -> Option<u64> {
    let digits = sub.as_str()?.strip_prefix("gid://gitlab/Ci::Build/")?;
    number(digits, 10)
}

fn base36(value: &Value) -> Option<u64> {
    number(value.as_str()?, 36)
}

/// A positive id that a signed 64-bit column can hold; no sign, no upper case, no leading zero,
/// because GitLab writes none.
fn number(digits: &str, radix: u32) -> Option<u64> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase());
    let id = u64::from_str_radix(digits, radix).ok()?;
    (plain && !digits.starts_with('0') && i64::try_from(id).is_ok()).then_some(id)
}

/// Fills what the authority did not say from what the token says.
///
/// The authority wins: it looked these very bytes up in its database now, while the payload is what
/// was true when the token was made. If the two name different jobs or projects, nothing is taken from
/// the token: an identity mixed from two stories would be nobody's.
pub(in crate::validate) fn complete(claims: &mut Claims, token: &TokenClaims) {
    let contradicts = |told: Option<u64>, read: Option<u64>| matches!((told, read), (Some(told), Some(read)) if told != read);
    if contradicts(claims.job_id, token.job_id) || contradicts(claims.project_id, token.project_id) {
        return;
    }
    claims.job_id = claims.job_id.or(token.job_id);
    claims.project_id = claims.project_id.or(token.project_id);
    claims.namespace_id = claims.namespace_id.or(token.namespace_id);
    claims.organization_id = claims.organization_id.or(token.organization_id);
    claims.cell_id = claims.cell_id.or(token.cell_id);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(payload: &str) -> Vec<u8> {
        format!("glcbt-eyJhbGciOiJSUzI1NiJ9.{}.c2ln", URL_SAFE_NO_PAD.encode(payload)).into_bytes()
    }

    /// Scenario: a job token as GitLab makes it, behind prefixes with and without a dot.
    /// Guarantees: the job, the routing claims in base36 and the expiry are read.
    #[test]
    fn claims_are_read() {
        let payload = r#"{"iss":"x","sub":"gid://gitlab/Ci::Build/123456789","p":"zz","g":"a1","o":"1","c":"2s","u":"7","exp":1900000000}"#;
        let expected = TokenClaims {
            job_id: Some(123_456_789),
            project_id: Some(35 * 36 + 35),
            namespace_id: Some(361),
            organization_id: Some(1),
            cell_id: Some(100),
            expires_at: Some(1_900_000_000),
        };
        assert_eq!(read(&token(payload)), expected);
        let prefixed = [b"my.corp-".as_slice(), &token(payload)].concat();
        assert_eq!(read(&prefixed), expected);
    }

    /// Scenario: legacy tokens and payloads that are no JSON object.
    /// Guarantees: no claims, and no error.
    #[test]
    fn what_is_no_jwt_has_no_claims() {
        let list = token(r#"["gid://gitlab/Ci::Build/1","1","1","1","1",1]"#);
        let twice = token(r#"{"sub":"gid://gitlab/Ci::Build/1","sub":"gid://gitlab/Ci::Build/2"}"#);
        for legacy in [
            b"glcbt-64_abcdefgh".as_slice(),
            b"t1_abc.01.0w1x2y3z4",
            b"..",
            b"a.b",
            b"a.!.c",
            b".eyJleHAiOjF9.c",
            b"a.eyJleHAiOjF9.",
            &list,
            &twice,
            &token("null"),
            &token(""),
            &token("{\"exp\":1"),
        ] {
            assert_eq!(read(legacy), TokenClaims::default(), "{}", String::from_utf8_lossy(legacy));
        }
    }

    /// Scenario: claims of the wrong type, form or size beside a good one.
    /// Guarantees: the odd ones are absent, the good one stays.
    #[test]
    fn odd_claims_are_absent() {
        for odd in [
            r#""sub":"gid://gitlab/Ci::Pipeline/1""#,
            r#""sub":"gid://gitlab/Ci::Build/""#,
            r#""sub":"gid://gitlab/Ci::Build/+1""#,
            r#""sub":"gid://gitlab/Ci::Build/1?x""#,
            r#""sub":"gid://gitlab/Ci::Build/9223372036854775808""#,
            r#""sub":"job_1""#,
            r#""sub":1"#,
            r#""g":7"#,
            r#""g":"""#,
            r#""g":"0""#,
            r#""g":"ZZ""#,
            r#""g":"-1""#,
            r#""g":"zzzzzzzzzzzzzz""#,
            r#""g":null"#,
            r#""exp":"1900000000""#,
            r#""exp":-1"#,
            r#""exp":1.5"#,
            r#""exp":{"a":[1]}"#,
        ] {
            let claims = read(&token(&format!(r#"{{"p":"a",{odd}}}"#)));
            assert_eq!(claims, TokenClaims { project_id: Some(10), ..TokenClaims::default() }, "{odd}");
        }
    }

    /// Scenario: an authority that says little, and one that contradicts the token.
    /// Guarantees: gaps are filled; the authority's word stays; on a contradiction nothing of the token is taken.
    #[test]
    fn the_authority_wins() {
        let token = TokenClaims {
            job_id: Some(1),
            project_id: Some(2),
            namespace_id: Some(3),
            organization_id: Some(4),
            cell_id: Some(5),
            expires_at: Some(6),
        };
        let mut empty = Claims::default();
        complete(&mut empty, &token);
        assert_eq!(
            empty,
            Claims {
                job_id: Some(1),
                project_id: Some(2),
                namespace_id: Some(3),
                organization_id: Some(4),
                cell_id: Some(5),
                ..Claims::default()
            }
        );
        let agreeing = Claims { job_id: Some(1), namespace_id: Some(30), ..Claims::default() };
        let mut completed = agreeing.clone();
        complete(&mut completed, &token);
        assert_eq!(
            (completed.job_id, completed.project_id, completed.namespace_id),
            (Some(1), Some(2), Some(30))
        );
        for told in [
            Claims { job_id: Some(10), ..Claims::default() },
            Claims { project_id: Some(20), ..Claims::default() },
        ] {
            let mut kept = told.clone();
            complete(&mut kept, &token);
            assert_eq!(kept, told);
        }
    }
}
