//! The token that proves an operator who wants to change something. It decides one thing, whether a
//! request shows it, and never what the request may do. Only a digest of it is held in memory.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{Digest, SHA256, digest},
};
use http::{HeaderMap, header::AUTHORIZATION};

/// Shortest token in bytes: what `openssl rand -hex 16` prints, 128 bits.
const MIN: usize = 32;
/// Longest token in bytes.
const MAX: usize = 512;

/// An operator's token.
pub struct Token {
    digest: Digest,
}

/// Why a file holds no token; the texts quote nothing of it.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file can't be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// What is in it could not be shown in a header, or could be guessed.
    #[error("must hold one token of 32 to 512 letters, digits and -._~+/= (openssl rand -hex 32 makes one)")]
    NoToken,
}

impl Token {
    /// Reads the token; white space around it is not part of it.
    ///
    /// # Errors
    /// [`TokenError`] for a file that can't be read or holds no token.
    pub fn load(path: &Path) -> Result<Self, TokenError> {
        /// From this length on a file holds something else than a token and white space around it.
        const MAX_FILE: u64 = 1024;

        let mut content = Vec::new();
        let read = File::open(path)?.take(MAX_FILE).read_to_end(&mut content)?;
        if read as u64 == MAX_FILE {
            return Err(TokenError::NoToken);
        }
        let token = content.trim_ascii();
        // RFC 6750 section 2.1, "b64token".
        let fits = (MIN..=MAX).contains(&token.len())
            && token.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte));
        if fits { Ok(Self { digest: digest(&SHA256, token) }) } else { Err(TokenError::NoToken) }
    }

    /// Whether a request shows the token: in one `Authorization` header with the scheme Bearer (compared
    /// without regard to case). How long that takes tells nothing of the token, nor of its length.
    #[must_use]
    pub fn is_shown(&self, headers: &HeaderMap) -> bool {
        /// With the space that ends it.
        const SCHEME: &[u8] = b"Bearer ";

        let mut values = headers.get_all(AUTHORIZATION).into_iter();
        let (Some(value), None) = (values.next(), values.next()) else { return false };
        let Some((scheme, shown)) = value.as_bytes().split_at_checked(SCHEME.len()) else { return false };
        let shown = shown.trim_ascii();
        scheme.eq_ignore_ascii_case(SCHEME)
            && shown.len() <= MAX
            && verify_slices_are_equal(digest(&SHA256, shown).as_ref(), self.digest.as_ref()).is_ok()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use http::HeaderValue;

    use super::*;

    const TOKEN: &str = "canary-0123456789.abcdefghijklmnopqrstuvwxyz~+/=";

    fn load(content: &[u8]) -> Result<Token, TokenError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        Token::load(file.path())
    }

    fn shows(values: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        load(TOKEN.as_bytes()).unwrap().is_shown(&headers)
    }

    /// Scenario: files with a token at both ends of its length and with white space around it; files with less, more or
    /// other than a token, and one that is not there.
    /// Guarantees: only the former are taken, and no error and no output quotes what is in a file.
    #[test]
    fn a_file_holds_one_token() {
        for good in ["t".repeat(32), "t".repeat(512), format!(" {TOKEN}\r\n")] {
            assert!(load(good.as_bytes()).is_ok(), "{good}");
        }
        let long = "canary".repeat(100);
        let two = format!("{TOKEN}\n{TOKEN}");
        let padded = format!("{TOKEN}{}{TOKEN}", " ".repeat(2_000));
        let endless = format!("{}{TOKEN}", " ".repeat(5_000));
        for bad in [
            "",
            "canary-too-short-by-1-of-32-byt",
            &long,
            &two,
            &padded,
            &endless,
            "canary\u{e9}-0123456789-0123456789-0123",
        ] {
            let error = load(bad.as_bytes()).unwrap_err();
            assert!(matches!(error, TokenError::NoToken), "{bad}");
            assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
        }
        assert!(matches!(Token::load(Path::new("/nonexistent/token")), Err(TokenError::Unreadable(_))));
        assert_eq!(format!("{:?}", load(TOKEN.as_bytes()).unwrap()), "Token");
    }

    /// Scenario: the token in a header, and everything that is nearly that.
    /// Guarantees: exactly the token in exactly one header with the scheme Bearer counts.
    #[test]
    fn a_request_shows_it_or_not() {
        assert!(shows(&[&format!("Bearer {TOKEN}")]));
        assert!(shows(&[&format!("bEARER   {TOKEN} ")]));
        let long = format!("Bearer {}", "x".repeat(20_000));
        for shown in [
            "",
            "Bearer",
            "Bearer ",
            TOKEN,
            &format!("Basic {TOKEN}"),
            &format!("Bearer{TOKEN}"),
            &format!("Bearer {TOKEN}x"),
            &format!("Bearer {}", TOKEN.trim_start_matches('c')),
            &format!("Bearer {}", TOKEN.to_uppercase()),
            &format!("Bearer {TOKEN}, Bearer {TOKEN}"),
            &long,
        ] {
            assert!(!shows(&[shown]), "{shown}");
        }
        let right = format!("Bearer {TOKEN}");
        assert!(!shows(&[]) && !shows(&[&right, &right]) && !shows(&[&right, "Bearer x"]));
    }
}
