//! Any header lines (`name: value`) as the credentials of a request, and the job token in them.

use std::sync::OnceLock;

use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use spangate::validate::{
    credentials::{Accepts, CredentialError, Credentials, Digester, HeaderNames},
    job_token,
};

use super::within;

/// Two tokens of the greatest length, each copied once, and as much again.
const MOST: usize = 4 * (512 + 4096);

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
    let headers = headers(data);
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
        ([], []) => Err(CredentialError::Missing),
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
