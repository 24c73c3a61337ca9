//! How long an answer may be kept, by its `Cache-Control`. It decides nothing but the number; in
//! every doubt the answer is "not at all", because a verdict kept too long outlives its job.

use std::time::Duration;

use http::{HeaderMap, header};

/// `max-age`, or `None` when the answer may not be kept: no or zero `max-age`, `no-store`,
/// `no-cache`, the same bound twice, a quoted or overflowing number, or a header that can't be read.
///
/// Source: RFC 9111 section 5.2; stricter where it leaves a choice. `s-maxage` is for shared caches
/// of responses, which this is not.
#[must_use]
pub fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let mut seconds = None;
    for line in headers.get_all(header::CACHE_CONTROL) {
        for directive in Directives(line.to_str().ok()?) {
            let Directive { name, value } = directive?;
            if ["no-store", "no-cache"].iter().any(|refusal| name.eq_ignore_ascii_case(refusal)) {
                return None;
            }
            if name.eq_ignore_ascii_case("max-age") {
                let Some(Argument::Token(digits)) = value else { return None };
                if seconds.replace(decimal(digits)?).is_some() {
                    return None;
                }
            }
        }
    }
    seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs)
}

/// Whether the answer as a whole is for its receiver alone. The gateway does not ask; a shared cache
/// on the way would.
pub(crate) fn is_private(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|line| line.to_str().ok());
    lines
        .flat_map(Directives)
        .flatten()
        .any(|directive| directive.name.eq_ignore_ascii_case("private") && directive.value.is_none())
}

/// A number in decimal digits only: no sign, no space.
fn decimal(digits: &str) -> Option<u64> {
    // The largest that RFC 9111 wants understood is 2^31; longer ones are a mistake, not a wish.
    let fits = (1..=10).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    fits.then(|| digits.parse().ok()).flatten()
}

struct Directive<'a> {
    name: &'a str,
    value: Option<Argument<'a>>,
}

enum Argument<'a> {
    Token(&'a str),
    Quoted,
}

/// The directives of one header line; `None` for what can't be read, after which it ends.
struct Directives<'a>(&'a str);

impl<'a> Iterator for Directives<'a> {
    type Item = Option<Directive<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        // Empty list elements are legal (RFC 9110 section 5.6.1).
        self.0 = self.0.trim_start_matches([' ', '\t', ',']);
        if self.0.is_empty() {
            return None;
        }
        let read = directive(self.0);
        self.0 = read.as_ref().map_or("", |(_, rest)| rest);
        Some(read.map(|(directive, _)| directive))
    }
}

fn directive(text: &str) -> Option<(Directive<'_>, &str)> {
    let (name, rest) = token(text)?;
    let (value, rest) = match rest.strip_prefix('=') {
        None => (None, rest),
        Some(rest) => {
            if let Some(quoted) = rest.strip_prefix('"') {
                (Some(Argument::Quoted), after_quoted(quoted)?)
            } else {
                let (value, rest) = token(rest)?;
                (Some(Argument::Token(value)), rest)
            }
        }
    };
    let rest = rest.trim_start_matches([' ', '\t']);
    (rest.is_empty() || rest.starts_with(',')).then_some((Directive { name, value }, rest))
}

/// A token (RFC 9110 section 5.6.2) and what follows it.
fn token(text: &str) -> Option<(&str, &str)> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let end = text.find(|c| !is_token(c)).unwrap_or(text.len());
    text.split_at_checked(end).filter(|(token, _)| !token.is_empty())
}

/// What follows the closing quote of a quoted string.
fn after_quoted(text: &str) -> Option<&str> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return text.get(at.checked_add(1)?..),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, HeaderValue, header::CACHE_CONTROL};

    fn max_age(lines: &[&str]) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CACHE_CONTROL, HeaderValue::from_str(line).unwrap());
        }
        super::max_age(&headers)
    }

    /// Scenario: headers that name one clear bound, in the spellings that HTTP allows.
    /// Guarantees: the bound is read, whatever stands beside it.
    #[test]
    fn a_clear_bound_is_read() {
        for lines in [
            &["max-age=60"][..],
            &["private, max-age=60"],
            &["MAX-AGE=60,must-revalidate"],
            &["private", "max-age=60"],
            &[" , private,,\tmax-age=60 , "],
            &["private=\"x-a, no-store, \\\" max-age=5\", max-age=60"],
            &["max-age=0000000060"],
            &["s-maxage=5, max-age=60, unheard-of=1"],
        ] {
            assert_eq!(max_age(lines), Some(Duration::from_mins(1)), "{lines:?}");
        }
    }

    /// Scenario: answers for one receiver in the spellings that HTTP allows, and answers for any.
    /// Guarantees: `private` is found beside other directives and not in a word, a quoted text or a list of fields.
    #[test]
    fn private_answers_are_told() {
        for (line, private) in [
            ("private, max-age=60", true),
            ("max-age=60 , Private", true),
            ("max-age=60", false),
            ("public, max-age=60", false),
            ("privately, max-age=60", false),
            ("x=\"private\", max-age=60", false),
            ("private=\"set-cookie\", max-age=60", false),
        ] {
            let headers = HeaderMap::from_iter([(CACHE_CONTROL, HeaderValue::from_static(line))]);
            assert_eq!(super::is_private(&headers), private, "{line}");
        }
    }

    /// Scenario: no bound, a bound of zero, a refusal, or a header in doubt.
    /// Guarantees: the answer may not be kept.
    #[test]
    fn doubt_means_not_kept() {
        for lines in [
            &[][..],
            &[""],
            &["private"],
            &["max-age=0"],
            &["max-age"],
            &["max-age="],
            &["max-age=\"60\""],
            &["max-age=-1"],
            &["max-age=+60"],
            &["max-age= 60"],
            &["max-age =60"],
            &["max-age=60.5"],
            &["max-age=60s"],
            &["max-age=60 60"],
            &["max-age=60;private"],
            &["max-age=99999999999"],
            &["max-age=18446744073709551616"],
            &["max-age=60, max-age=60"],
            &["max-age=60", "max-age=30"],
            &["max-age=60, no-store"],
            &["no-cache, max-age=60"],
            &["no-cache=\"set-cookie\", max-age=60"],
            &["No-Store, max-age=60"],
            &["private=\"open, max-age=60"],
            &["max-age=60, private=\"open\\\""],
            &["=60, max-age=60"],
        ] {
            assert_eq!(max_age(lines), None, "{lines:?}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, HeaderValue::from_bytes(b"max-age=60, \xff").unwrap());
        assert_eq!(super::max_age(&headers), None);
    }
}
