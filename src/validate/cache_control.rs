//! How long an answer may be kept, by its `Cache-Control`. It decides nothing but the numbers; in
//! every doubt the answer is "not at all", because a verdict kept too long outlives its job.

use std::time::Duration;

use http::{HeaderMap, header};

/// Whether an answer may be used past its `max-age`, by its own word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stale {
    /// How long it may be used while it is asked for anew; zero where the header says nothing.
    pub while_revalidate: Duration,
    /// How long it may be used while no new one can be had; `None`: the header leaves that to us.
    pub if_error: Option<Duration>,
}

impl Stale {
    /// Past its end the answer is of no use.
    pub const NEVER: Self = Self { while_revalidate: Duration::ZERO, if_error: Some(Duration::ZERO) };
}

/// `max-age`, or `None` when the answer may not be kept: no or zero `max-age`, `no-store`,
/// `no-cache`, the same bound twice, a quoted or overflowing number, or a header that can't be read.
///
/// Source: RFC 9111 section 5.2; stricter where it leaves a choice. `s-maxage` is for shared caches
/// of responses, which this is not.
#[must_use]
pub fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let mut seconds = None;
    for directive in directives(headers) {
        let directive = directive?;
        if directive.is(&["no-store", "no-cache"]) {
            return None;
        }
        if directive.is(&["max-age"]) && seconds.replace(directive.seconds()?).is_some() {
            return None;
        }
    }
    seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs)
}

/// Whether the answer as a whole is for its receiver alone. The gateway does not ask; a shared cache
/// on the way would.
pub(crate) fn is_private(headers: &HeaderMap) -> bool {
    directives(headers)
        .flatten()
        .any(|directive| directive.name.eq_ignore_ascii_case("private") && directive.value.is_none())
}

/// What the header says of the time past `max-age`. A bound that comes twice or can't be read is
/// zero; `must-revalidate`, `proxy-revalidate` and a header that can't be read mean [`Stale::NEVER`].
///
/// Source: RFC 5861; RFC 9111 sections 5.2.2.2 and 5.2.2.8.
#[must_use]
pub fn stale(headers: &HeaderMap) -> Stale {
    let (mut while_revalidate, mut if_error) = (None, None);
    for directive in directives(headers) {
        let Some(directive) = directive else { return Stale::NEVER };
        if directive.is(&["must-revalidate", "proxy-revalidate", "no-cache", "no-store"]) {
            return Stale::NEVER;
        }
        let bound = if directive.is(&["stale-while-revalidate"]) {
            &mut while_revalidate
        } else if directive.is(&["stale-if-error"]) {
            &mut if_error
        } else {
            continue;
        };
        let told = directive.seconds().filter(|_| bound.is_none());
        *bound = Some(Duration::from_secs(told.unwrap_or(0)));
    }
    Stale { while_revalidate: while_revalidate.unwrap_or_default(), if_error }
}

/// All directives of all lines; `None` for what can't be read.
fn directives(headers: &HeaderMap) -> impl Iterator<Item = Option<Directive<'_>>> {
    // A line that is no text reads as a lone quote, which is no directive either.
    let lines = headers.get_all(header::CACHE_CONTROL).into_iter();
    lines.flat_map(|line| Directives(line.to_str().unwrap_or("\"")))
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

impl Directive<'_> {
    fn is(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.name.eq_ignore_ascii_case(name))
    }

    /// Its argument as seconds; `None` where there is none, where it is quoted and where it is no number.
    fn seconds(&self) -> Option<u64> {
        match self.value {
            Some(Argument::Token(digits)) => decimal(digits),
            _ => None,
        }
    }
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

    use super::Stale;

    fn headers(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CACHE_CONTROL, HeaderValue::from_str(line).unwrap());
        }
        headers
    }

    fn max_age(lines: &[&str]) -> Option<Duration> {
        super::max_age(&headers(lines))
    }

    fn stale(lines: &[&str]) -> Stale {
        super::stale(&headers(lines))
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

    /// Scenario: headers that name one, both or none of the bounds past `max-age`.
    /// Guarantees: each is read by itself; what is not said stays open for errors, and is nothing while asking anew.
    #[test]
    fn the_time_past_the_end_is_read() {
        let bounds = |revalidate, error: Option<u64>| Stale {
            while_revalidate: Duration::from_secs(revalidate),
            if_error: error.map(Duration::from_secs),
        };
        assert_eq!(bounds(0, None), Stale::default());
        for (lines, wanted) in [
            (&["private, max-age=60"][..], bounds(0, None)),
            (&["max-age=60, stale-while-revalidate=5"], bounds(5, None)),
            (&["max-age=60, Stale-If-Error=20"], bounds(0, Some(20))),
            (&["stale-if-error=0, max-age=60"], bounds(0, Some(0))),
            (&["stale-if-error=20", "max-age=60, stale-while-revalidate=5"], bounds(5, Some(20))),
            (&["x=\"must-revalidate, stale-if-error=1\", stale-if-error=20"], bounds(0, Some(20))),
        ] {
            assert_eq!(stale(lines), wanted, "{lines:?}");
        }
    }

    /// Scenario: bounds that can't be read or come twice, and headers that forbid any use past the end.
    /// Guarantees: the doubtful bound is zero and the other one stays; a refusal, or a header in doubt, leaves neither.
    #[test]
    fn doubt_means_not_past_the_end() {
        for value in ["", "=", "=x", "=\"20\"", "=-1", "=1.5", "=99999999999", "=20, stale-if-error=20"] {
            let line = format!("max-age=60, stale-while-revalidate=5, stale-if-error{value}");
            let read = stale(&[&line]);
            assert_eq!(read.if_error, Some(Duration::ZERO), "{line}");
            // A lone "=" is no directive, and leaves the whole header in doubt.
            let other = Duration::from_secs(if value == "=" { 0 } else { 5 });
            assert_eq!(read.while_revalidate, other, "{line}");
        }
        let thrice = ["stale-while-revalidate=5"; 3].join(",");
        assert_eq!(stale(&[&thrice]).while_revalidate, Duration::ZERO);
        for refusal in
            ["must-revalidate", "Proxy-Revalidate", "must-revalidate=x", "no-cache", "no-store", "\"", "a="]
        {
            for lines in [
                [refusal, "max-age=60, stale-while-revalidate=5, stale-if-error=20"],
                ["max-age=60, stale-while-revalidate=5, stale-if-error=20", refusal],
            ] {
                assert_eq!(stale(&lines), Stale::NEVER, "{lines:?}");
            }
        }
        let unreadable = HeaderValue::from_bytes(b"stale-if-error=20, \xff").unwrap();
        assert_eq!(super::stale(&HeaderMap::from_iter([(CACHE_CONTROL, unreadable)])), Stale::NEVER);
    }
}
