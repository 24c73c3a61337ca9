//! The shape of credentials, one rule a test.

use super::*;

fn names() -> HeaderNames {
    HeaderNames::from_config(&config::Gitlab::default()).unwrap()
}

fn parse_with(digester: &Digester, lines: &[(&str, &str)]) -> Result<Credentials, CredentialError> {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    }
    Credentials::from_headers(&headers, &names(), Accepts::PAIR, digester)
}

fn parse(lines: &[(&str, &str)]) -> Result<Credentials, CredentialError> {
    parse_with(&Digester::random(), lines)
}

fn error(lines: &[(&str, &str)]) -> CredentialError {
    parse(lines).unwrap_err()
}

/// Scenario: a routable runner token and a signed job token, under header names in any case.
/// Guarantees: both are kept byte for byte, for the authority.
#[test]
fn a_pair_is_read() {
    let job = "glcbt-64_eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln-_=";
    let pair = parse(&[("RUNNER-token", "t1_glrt-abc.01.0w1x2y3z"), ("Job-Token", job)]).unwrap();
    let Pair { runner_token, job_token } = pair.pair().unwrap();
    assert_eq!((runner_token, job_token), (&b"t1_glrt-abc.01.0w1x2y3z"[..], job.as_bytes()));
    assert!(pair.bearer().is_none());
}

/// Scenario: every combination of headers that is no token pair.
/// Guarantees: each gets its own error, and two kinds or a repeated header are never silently resolved.
#[test]
fn what_is_no_pair_is_told_apart() {
    let (runner, job) = (("Runner-Token", "r"), ("Job-Token", "j"));
    let bearer = ("Authorization", "bEARER abc");
    let basic = ("Authorization", "Basic abc");
    // A proxy on the way may have added it; it is no credential of ours.
    assert!(parse(&[runner, job, basic]).is_ok());
    for (lines, expected) in [
        (&[][..], CredentialError::Missing(Accepts::PAIR)),
        (&[basic], CredentialError::Missing(Accepts::PAIR)),
        (&[("Authorization", "abc")], CredentialError::Missing(Accepts::PAIR)),
        (&[("Authorization", "Bearerabc")], CredentialError::Missing(Accepts::PAIR)),
        (&[runner], CredentialError::HalfPair),
        (&[job], CredentialError::HalfPair),
        (&[runner, job, bearer], CredentialError::Ambiguous),
        (&[runner, basic], CredentialError::HalfPair),
        (&[runner, bearer], CredentialError::Ambiguous),
        (&[bearer], CredentialError::BearerNotAccepted),
        (&[("Authorization", "Bearer")], CredentialError::BearerNotAccepted),
        (&[runner, runner, job], CredentialError::Repeated),
        (&[runner, job, job], CredentialError::Repeated),
        (&[bearer, bearer], CredentialError::Repeated),
        (&[runner, job, basic, basic], CredentialError::Repeated),
    ] {
        assert_eq!(error(lines), expected, "{lines:?}");
    }
}

/// Scenario: tokens at and past the bounds of length and charset.
/// Guarantees: 1 to 512 and 1 to 4096 bytes of `A-Za-z0-9_.=-` pass, everything else is refused before any call.
#[test]
fn shape_is_bounded() {
    for (runner, job, good) in
        [(1, 1, true), (512, 4096, true), (513, 1, false), (1, 4097, false), (0, 1, false), (1, 0, false)]
    {
        let lines = [("Runner-Token", "r".repeat(runner)), ("Job-Token", "j".repeat(job))];
        let lines = lines.each_ref().map(|(name, value)| (*name, value.as_str()));
        assert_eq!(
            parse(&lines).map(drop).err(),
            (!good).then_some(CredentialError::BadShape),
            "{runner} {job}"
        );
    }
    for byte in 0x20_u8..=0xff {
        let Ok(value) = HeaderValue::from_bytes(&[b'a', byte, b'z']) else { continue };
        let mut headers = HeaderMap::new();
        headers.insert("runner-token", HeaderValue::from_static("r"));
        headers.insert("job-token", value);
        let good = byte.is_ascii_alphanumeric() || b"_.=-".contains(&byte);
        let parsed = Credentials::from_headers(&headers, &names(), Accepts::PAIR, &Digester::random());
        assert_eq!(parsed.is_ok(), good, "{byte:#x}");
    }
}

/// Scenario: equal pairs, pairs whose bytes only differ in where they are cut, and another process.
/// Guarantees: digests and keys are equal for equal input alone, and mean nothing under another key.
#[test]
fn digests_keep_parts_and_processes_apart() {
    let digester = Digester::random();
    let pair = |runner, job| test_support::pair(&digester, runner, job);
    assert_eq!(pair("ab", "c").digest(), pair("ab", "c").digest());
    assert_ne!(pair("ab", "c").digest(), pair("a", "bc").digest());
    assert_ne!(pair("ab", "c").digest(), pair("c", "ab").digest());
    assert_ne!(pair("a", "b").digest(), test_support::pair(&Digester::random(), "a", "b").digest());

    assert_eq!(pair("a", "b").runner_key(), pair("a", "c").runner_key());
    assert_ne!(pair("a", "b").runner_key(), pair("b", "b").runner_key());
    assert_ne!(pair("a", "b").runner_key(), digester.key(&[b"a"]), "purposes are kept apart");
    assert_eq!(digester.key(&[b"x", b"y"]), digester.key(&[b"x", b"y"]));
    assert_ne!(digester.key(&[b"xy"]), digester.key(&[b"x", b"y"]));
    assert_ne!(digester.key(&[b"", b"x"]), digester.key(&[b"x", b""]));
    assert_ne!(digester.key(&[b"x"]), Digester::random().key(&[b"x"]));
}

/// Scenario: everything that can be printed of a credential, and every error.
/// Guarantees: the log-safe form is 9 hex digits of the digest, and no token shows anywhere.
#[test]
fn no_output_holds_a_token() {
    let digester = Digester::random();
    let pair = test_support::pair(&digester, "canary-runner", "canary-job");
    let shown = pair.digest().to_string();
    assert_eq!(shown.len(), 9);
    assert!(shown.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)), "{shown}");
    let whole = pair.digest().as_bytes().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    assert!(whole.starts_with(&shown));
    let bad = parse_with(&digester, &[("Runner-Token", "canary runner"), ("Job-Token", "canary-job")]);
    let bad = bad.unwrap_err();
    let printed = format!("{pair:?} {pair:#?} {:?} {digester:?} {bad} {bad:?}", pair.digest());
    assert!(printed.contains(&shown));
    assert!(!printed.contains("canary"), "{printed}");
}

/// Scenario: header names in the configuration that can't carry a token.
/// Guarantees: each is refused with the key to mend.
#[test]
fn header_names_are_checked() {
    for (runner, job, key) in [
        ("Runner Token", "Job-Token", "gitlab.runner_token_header"),
        ("", "Job-Token", "gitlab.runner_token_header"),
        ("Runner-Token", "authorization", "gitlab.job_token_header"),
        ("X-Token", "x-token", "gitlab.job_token_header"),
    ] {
        let config = config::Gitlab {
            runner_token_header: runner.into(),
            job_token_header: job.into(),
            ..config::Gitlab::default()
        };
        let told = HeaderNames::from_config(&config).unwrap_err().to_string();
        assert!(told.starts_with(key), "{told}");
    }
}

/// Scenario: bearer tokens where they are taken: in any case of the scheme, behind several spaces, none, two words, of a
/// shape that no JWT has, too long, beside a token of a pair; and a pair where only bearer tokens are taken.
/// Guarantees: the token is kept byte for byte, its digest is no pair's, and each mistake has its own error.
#[test]
fn a_bearer_token_is_read_where_it_is_taken() {
    let digester = Digester::random();
    let read = |lines: &[(&str, &str)], accepts| {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        Credentials::from_headers(&headers, &names(), accepts, &digester)
    };
    let (both, bearer) = (Accepts { pair: true, bearer: true }, Accepts { pair: false, bearer: true });
    for (accepts, value) in [(both, "bEARER  a.b-_.c="), (bearer, "Bearer a.b-_.c=")] {
        let token = read(&[("Authorization", value)], accepts).unwrap();
        assert_eq!(token.bearer(), Some(&b"a.b-_.c="[..]));
        assert!(token.pair().is_none());
        assert_ne!(token.digest(), test_support::bearer(&digester, "a.b-_.c").digest());
        assert_eq!(token.digest(), test_support::bearer(&digester, "a.b-_.c=").digest());
        assert!(!format!("{token:?}").contains("a.b"));
    }
    let long = format!("Bearer {}", "a".repeat(MAX_BEARER_TOKEN + 1));
    for value in ["Bearer", "Bearer ", "Bearer a b", "Bearer a,b", "Bearer a\tb", &long] {
        assert_eq!(
            read(&[("Authorization", value)], both).unwrap_err(),
            CredentialError::BadShape,
            "{value}"
        );
    }
    let (runner, job) = (("Runner-Token", "r"), ("Job-Token", "j"));
    let token = ("Authorization", "Bearer a.b.c");
    assert_eq!(read(&[runner, job, token], both).unwrap_err(), CredentialError::Ambiguous);
    assert_eq!(read(&[job, token], bearer).unwrap_err(), CredentialError::Ambiguous);
    assert_eq!(read(&[token, token], both).unwrap_err(), CredentialError::Repeated);
    assert_eq!(read(&[runner, job], bearer).unwrap_err(), CredentialError::PairNotAccepted);
    assert_eq!(read(&[runner], bearer).unwrap_err(), CredentialError::HalfPair);
    assert!(read(&[runner, job], both).unwrap().pair().is_some());
}
