//! Any header lines (`name: value`) as the credentials of a request, and the tokens in them: the job token, and the
//! bearer token as a JWT whose parts nobody has vouched for.

use std::sync::OnceLock;

use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use spangate::validate::{
    credentials::{Accepts, CredentialError, Credentials, Digester, HeaderNames, Kind},
    job_token,
    oidc::token::Token,
};

use super::within;

/// Two tokens of the greatest length, each copied once, and as much again; or one bearer token.
const MOST: usize = 4 * (512 + 4096);

const BOTH: Accepts = Accepts { pair: true, bearer: true };

/// A value of this length is no word that a message has by itself.
const LONGER_THAN_WORDS: usize = 20;

pub(crate) fn hold(data: &[u8]) {
    static DIGESTER: OnceLock<Digester> = OnceLock::new();
    let digester = DIGESTER.get_or_init(Digester::random);
    let names = HeaderNames {
        runner_token: HeaderName::from_static("runner-token"),
        job_token: HeaderName::from_static("job-token"),
    };
    claims(data);
    jwt(data);
    let headers = headers(data);
    bearer(&headers, &names, digester);
    let read = within(MOST, || Credentials::from_headers(&headers, &names, Accepts::PAIR, digester));
    let expected = expected(&headers, &names);
    match read {
        Err(error) => {
            assert_eq!(Err(error), expected);
            silent(&format!("{error} {error:?}"), &headers);
        }
        Ok(credentials) => {
            let (runner, job) = expected.expect("credentials that should be refused");
            // All that is shown is of a fixed form, and so can't depend on the tokens.
            let digest = credentials.digest().to_string();
            assert!(digest.len() == 9 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{digest}");
            let shown = format!("{credentials:?}");
            assert_eq!(shown, format!("Credentials {{ digest: {digest}, .. }}"));
            silent(&shown, &headers);
            same_pair_same_digest(&credentials, (runner, job), &names, digester);
            claims(job);
        }
    }
}

/// Where bearer tokens are taken too, the same headers carry a pair, a bearer token, or what no pair would be either.
fn bearer(headers: &HeaderMap, names: &HeaderNames, digester: &Digester) {
    let read = within(MOST, || Credentials::from_headers(headers, names, BOTH, digester));
    let wanted = match expected(headers, names) {
        Err(CredentialError::BearerNotAccepted) => {
            let value = headers[AUTHORIZATION].as_bytes();
            let token = value.get(7..).unwrap_or_default().trim_ascii_start();
            let fits = (1..=8192).contains(&token.len()) && token.iter().all(|byte| is_token(*byte));
            if fits { Ok(Some(token)) } else { Err(CredentialError::BadShape) }
        }
        Err(CredentialError::Missing(_)) => Err(CredentialError::Missing(BOTH)),
        other => other.map(|_| None),
    };
    match (read, wanted) {
        (Err(error), wanted) => {
            assert_eq!(Err(error), wanted);
            silent(&format!("{error} {error:?}"), headers);
        }
        (Ok(credentials), wanted) => {
            let token = wanted.expect("credentials that should be refused");
            assert_eq!(credentials.kind(), if token.is_some() { Kind::Bearer } else { Kind::Pair });
            silent(&format!("{credentials:?}"), headers);
            token.into_iter().for_each(jwt);
        }
    }
}

fn is_token(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'=' | b'-')
}

/// A token that can be taken apart is three parts of base64url with two objects in front, says nothing about where
/// to find its own key, and every reader finds the same in it.
fn jwt(token: &[u8]) {
    // The worst is a tree of tiny objects, each of which is a node for eleven.
    let read = within((16 << 10) + 200 * token.len(), || Token::read(token));
    let Ok(read) = read.inspect_err(|refusal| assert!(refusal.to_string().len() > 10)) else { return };
    let parts: Vec<_> = token.split(|byte| *byte == b'.').collect();
    let [header, payload, signature] = parts[..] else { panic!("{} parts", parts.len()) };
    assert_eq!(read.message, [header, b".", payload].concat());
    assert_eq!(base64url(signature).as_deref(), Some(&read.signature[..]));
    let object = |part: &[u8]| -> serde_json::Map<String, serde_json::Value> {
        serde_json::from_slice(&base64url(part).expect("base64url")).expect("an object")
    };
    let header = object(header);
    assert_eq!(object(payload), read.claims);
    for name in ["jwk", "jku", "x5u", "x5c", "crit", "b64", "cty"] {
        assert!(!header.contains_key(name), "{name}");
    }
    let named = header["alg"].as_str().expect("an algorithm");
    assert!(named == format!("{:?}", read.algorithm) || named == "Ed25519", "{named}");
    assert!(!named.starts_with("HS") && named != "none");
    assert_eq!(header.get("kid").and_then(|id| id.as_str()), read.key_id.as_deref());
    assert_eq!(format!("{read:?}"), format!("Token {{ algorithm: {:?}, .. }}", read.algorithm));
}

/// RFC 4648, section 5, without padding and without stray bits, said once more.
fn base64url(text: &[u8]) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0_u32);
    for letter in text {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        (held, bits) = (held << 6 | u32::from(value), bits + 6);
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 0xff).ok()?);
        }
        held &= (1 << bits) - 1;
    }
    (bits < 6 && held == 0).then_some(bytes)
}

fn headers(data: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n').take(64) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

/// The rules, said once more: which pair the headers carry, or what is wrong with them.
fn expected<'h>(
    headers: &'h HeaderMap,
    names: &HeaderNames,
) -> Result<(&'h [u8], &'h [u8]), CredentialError> {
    let values =
        |name: &HeaderName| headers.get_all(name).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
    let (runner, job) = (values(&names.runner_token), values(&names.job_token));
    let authorization = values(&AUTHORIZATION);
    if [&runner, &job, &authorization].iter().any(|values| values.len() > 1) {
        return Err(CredentialError::Repeated);
    }
    let bearer = authorization.first().is_some_and(|value| {
        let value = value.to_ascii_lowercase();
        value == b"bearer" || value.starts_with(b"bearer ")
    });
    let token = |token: &[u8], longest: usize| {
        let text = std::str::from_utf8(token).unwrap_or("!");
        !text.is_empty()
            && text.len() <= longest
            && text.chars().all(|c| matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '.' | '=' | '-'))
    };
    match (&runner[..], &job[..]) {
        ([], []) if bearer => Err(CredentialError::BearerNotAccepted),
        ([], []) => Err(CredentialError::Missing(Accepts::PAIR)),
        _ if bearer => Err(CredentialError::Ambiguous),
        ([], _) | (_, []) => Err(CredentialError::HalfPair),
        ([runner, ..], [job, ..]) if token(runner, 512) && token(job, 4096) => Ok((runner, job)),
        _ => Err(CredentialError::BadShape),
    }
}

/// No value of a header stands in `text`, but for what is short enough to stand there by chance.
fn silent(text: &str, headers: &HeaderMap) {
    let values = headers.values().filter_map(|value| value.to_str().ok());
    let mut words = values.flat_map(str::split_whitespace).filter(|word| word.len() >= LONGER_THAN_WORDS);
    assert!(!words.any(|word| text.contains(word)), "{text}");
}

fn same_pair_same_digest(
    credentials: &Credentials,
    (runner, job): (&[u8], &[u8]),
    names: &HeaderNames,
    digester: &Digester,
) {
    let of = |runner: &[u8], job: &[u8]| {
        let mut headers = HeaderMap::new();
        headers.insert("x-other", HeaderValue::from_static("1"));
        headers.insert(&names.job_token, HeaderValue::from_bytes(job).expect("it was a value"));
        headers.insert(&names.runner_token, HeaderValue::from_bytes(runner).expect("it was a value"));
        Credentials::from_headers(&headers, names, Accepts::PAIR, digester).ok()
    };
    let same = of(runner, job).expect("the same pair");
    assert_eq!((same.digest(), same.runner_key()), (credentials.digest(), credentials.runner_key()));
    // A byte moved from one token to the other makes another pair.
    if let Some((first, rest)) = job.split_first()
        && let Some(moved) = of(&[runner, &[*first]].concat(), rest)
    {
        assert_ne!(moved.digest(), credentials.digest());
        assert_ne!(moved.runner_key(), credentials.runner_key());
    }
}

/// What a job token says of itself is of a kind that an attribute can hold, or is absent.
fn claims(token: &[u8]) {
    let claims = within((16 << 10) + 10 * token.len(), || job_token::read(token));
    let ids = [claims.job_id, claims.project_id, claims.namespace_id, claims.organization_id, claims.cell_id];
    assert!(ids.iter().flatten().all(|id| (1..=i64::MAX.cast_unsigned()).contains(id)), "{claims:?}");
    assert_eq!(claims, job_token::read(token));
}
