//! Tokens from files, for the commands that ask in a sender's place. It decides how much of a file is
//! read; no error text ever holds a byte of it.

use std::{fs::File, io::Read as _, path::Path};

use anyhow::Context as _;
use http::{HeaderMap, HeaderValue, header};
use zeroize::Zeroizing;

use crate::validate::credentials::HeaderNames;

/// Longer than the longest token and a line break.
const MAX_FILE: u64 = 8 << 10;

/// The content of a token's file without the line break at its end; wiped when dropped.
///
/// # Errors
/// The file can't be read, is empty or too long.
pub(super) fn read(path: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let name = path.display();
    let file = File::open(path).with_context(|| format!("{name}: cannot be read"))?;
    let limit = MAX_FILE.saturating_add(1);
    // The whole size at once: growing would leave copies behind that nobody wipes.
    let mut token = Zeroizing::new(Vec::with_capacity(usize::try_from(limit)?));
    let length =
        file.take(limit).read_to_end(&mut token).with_context(|| format!("{name}: cannot be read"))?;
    anyhow::ensure!(
        u64::try_from(length)? <= MAX_FILE,
        "{name}: is longer than {MAX_FILE} bytes: is it the file of a token?"
    );
    while token.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        token.pop();
    }
    anyhow::ensure!(!token.is_empty(), "{name}: is empty: write the token into it");
    Ok(token)
}

/// A pair as it stands in a request's head; `None` for bytes that no header can carry.
pub(super) fn headers(names: &HeaderNames, runner_token: &[u8], job_token: &[u8]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, token) in [(&names.runner_token, runner_token), (&names.job_token, job_token)] {
        let mut value = HeaderValue::from_bytes(token).ok()?;
        value.set_sensitive(true);
        headers.insert(name.clone(), value);
    }
    Some(headers)
}

/// A bearer token as it stands in a request's head; `None` for bytes that no header can carry.
pub(super) fn bearer_header(token: &[u8]) -> Option<HeaderMap> {
    let value = Zeroizing::new([b"Bearer ", token].concat());
    let mut value = HeaderValue::from_bytes(&value).ok()?;
    value.set_sensitive(true);
    Some(HeaderMap::from_iter([(header::AUTHORIZATION, value)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: a token as editors, `printf` and other systems write it; files that hold none.
    /// Guarantees: line breaks at the end are no part of it, anything else is; the rest is refused with the file's name
    /// and without its content.
    #[test]
    fn only_the_end_of_a_line_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let read_of = |content: &[u8]| {
            std::fs::write(&path, content).unwrap();
            read(&path).map(|token| token.to_vec()).map_err(|error| format!("{error:#}"))
        };
        for (content, token) in
            [("canary", "canary"), ("canary\n", "canary"), ("canary\r\n", "canary"), (" a b \n\n", " a b ")]
        {
            assert_eq!(read_of(content.as_bytes()).unwrap(), token.as_bytes());
        }
        assert_eq!(read_of(&[b'a'; 8192]).unwrap().len(), 8192);
        for (content, told) in
            [("", "is empty"), ("\n\r\n", "is empty"), (&*"canary".repeat(2000), "is longer than 8192")]
        {
            let error = read_of(content.as_bytes()).unwrap_err();
            assert!(
                error.contains(told) && error.contains("token: ") && !error.contains("canary"),
                "{error}"
            );
        }
        std::fs::remove_file(&path).unwrap();
        assert!(format!("{:#}", read(&path).unwrap_err()).contains("token: cannot be read: "));
    }
}
