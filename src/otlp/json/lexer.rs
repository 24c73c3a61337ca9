//! RFC 8259 taken strictly, pulled token by token: what is not JSON to every reader is not JSON here.
//! It bounds the depth of everything that it walks through, known or skipped.
//!
//! A lexer is a place in a document and is copied freely: one that nobody else can see stays in
//! registers, so a caller hands on the place and takes it back.

use std::borrow::Cow;

use super::fault::Fault;

/// Most arrays and objects inside one another. The deepest attribute of an event takes 12 of them to
/// get to, and each of its 32 levels of values at most 4 more.
pub(super) const MAX_DEPTH: u32 = 160;

/// What a value is, by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Object,
    Array,
    String,
    Number,
    True,
    False,
    Null,
}

/// A document and how far it has been read.
#[derive(Clone, Copy)]
pub(super) struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text: text.as_bytes(), at: 0 }
    }

    /// The same document, read as far as [`Self::place`] said.
    #[inline]
    pub(super) fn moved_to(self, at: usize) -> Self {
        Self { at, ..self }
    }

    /// How far it has been read, in bytes.
    #[inline]
    pub(super) fn place(&self) -> usize {
        self.at
    }

    /// A fault where reading has come to.
    pub(super) fn fault(&self, why: &'static str) -> Fault {
        Fault::new(why, self.at)
    }

    /// What the next value is; nothing of it is read.
    pub(super) fn token(&mut self) -> Result<Token, Fault> {
        match self.next_byte() {
            Some(b'{') => Ok(Token::Object),
            Some(b'[') => Ok(Token::Array),
            Some(b'"') => Ok(Token::String),
            Some(b'-' | b'0'..=b'9') => Ok(Token::Number),
            Some(b't') => Ok(Token::True),
            Some(b'f') => Ok(Token::False),
            Some(b'n') => Ok(Token::Null),
            _ => Err(self.fault("expected a JSON value")),
        }
    }

    /// Whether an object has another member, whose key comes next. `first` is true before the first one.
    #[inline]
    pub(super) fn member(&mut self, first: &mut bool) -> Result<bool, Fault> {
        self.goes_on(b'}', first)
    }

    /// Whether an array has another element, which comes next. `first` is true before the first one.
    #[inline]
    pub(super) fn element(&mut self, first: &mut bool) -> Result<bool, Fault> {
        self.goes_on(b']', first)
    }

    /// Reads a string. It is copied only to resolve escapes, and is UTF-8 as the document is.
    pub(super) fn string(&mut self) -> Result<Cow<'a, [u8]>, Fault> {
        self.expect(b'"', "expected a string")?;
        let plain = self.plain();
        if self.byte() == Some(b'"') {
            self.advance(1);
            return Ok(Cow::Borrowed(plain));
        }
        let mut text = plain.to_vec();
        self.rest_of_string(&mut text)?;
        Ok(Cow::Owned(text))
    }

    /// Reads a string and appends what it says.
    pub(super) fn string_into(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.expect(b'"', "expected a string")?;
        self.rest_of_string(out)
    }

    fn rest_of_string(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        loop {
            out.extend_from_slice(self.plain());
            match self.byte() {
                Some(b'"') => {
                    self.advance(1);
                    return Ok(());
                }
                Some(b'\\') => {
                    let escaped = self.escape()?;
                    out.extend_from_slice(escaped.encode_utf8(&mut [0; 4]).as_bytes());
                }
                Some(_) => return Err(self.fault("control characters in a string are written as escapes")),
                None => return Err(self.fault("a string without an end")),
            }
        }
    }

    /// Reads a number as it is written.
    pub(super) fn number(&mut self) -> Result<&'a [u8], Fault> {
        self.next_byte();
        let rest = self.rest();
        let len = number_len(rest).ok_or_else(|| self.fault("expected a number"))?;
        self.advance(len);
        Ok(rest.get(..len).unwrap_or_default())
    }

    /// Reads `true`, `false` or `null`.
    pub(super) fn literal(&mut self, literal: &'static str) -> Result<(), Fault> {
        self.next_byte();
        if !self.rest().starts_with(literal.as_bytes()) {
            return Err(self.fault("expected a JSON value"));
        }
        self.advance(literal.len());
        Ok(())
    }

    /// Reads a value that nobody wants, as strictly as any other. `depth` is how many arrays and
    /// objects it stands in.
    pub(super) fn skip(&mut self, depth: u32) -> Result<(), Fault> {
        let mut first = true;
        match self.token()? {
            Token::Object => {
                let depth = self.open(b'{', "expected an object", depth)?;
                while self.member(&mut first)? {
                    self.string()?;
                    self.colon()?;
                    self.skip(depth)?;
                }
                Ok(())
            }
            Token::Array => {
                let depth = self.open(b'[', "expected an array", depth)?;
                while self.element(&mut first)? {
                    self.skip(depth)?;
                }
                Ok(())
            }
            Token::String => self.string().map(drop),
            Token::Number => self.number().map(drop),
            Token::True => self.literal("true"),
            Token::False => self.literal("false"),
            Token::Null => self.literal("null"),
        }
    }

    /// Checks that nothing follows.
    pub(super) fn end(&mut self) -> Result<(), Fault> {
        match self.next_byte() {
            None => Ok(()),
            Some(_) => Err(self.fault("something follows the document")),
        }
    }

    /// Enters an object or array that stands in `depth` others; gives the depth of what is in it.
    #[inline]
    pub(super) fn open(&mut self, bracket: u8, why: &'static str, depth: u32) -> Result<u32, Fault> {
        self.expect(bracket, why)?;
        if depth < MAX_DEPTH { Ok(depth.saturating_add(1)) } else { Err(self.fault("nested too deeply")) }
    }

    /// What stands between a key and its value.
    #[inline]
    pub(super) fn colon(&mut self) -> Result<(), Fault> {
        self.expect(b':', "expected a colon")
    }

    /// Between two members: whether there is another one, with exactly one comma before it.
    #[inline]
    fn goes_on(&mut self, bracket: u8, first: &mut bool) -> Result<bool, Fault> {
        let first = std::mem::replace(first, false);
        match self.next_byte() {
            Some(b',') if !first => self.advance(1),
            Some(next) if next == bracket => {
                self.advance(1);
                return Ok(false);
            }
            _ if first => {}
            _ => return Err(self.fault("expected a comma or the end of the object or array")),
        }
        Ok(true)
    }

    #[inline]
    fn expect(&mut self, byte: u8, why: &'static str) -> Result<(), Fault> {
        if self.next_byte() != Some(byte) {
            return Err(self.fault(why));
        }
        self.advance(1);
        Ok(())
    }

    /// The bytes up to a quote, a backslash or a control character.
    fn plain(&mut self) -> &'a [u8] {
        let rest = self.rest();
        let plain = rest.get(..plain_len(rest)).unwrap_or_default();
        self.advance(plain.len());
        plain
    }

    fn escape(&mut self) -> Result<char, Fault> {
        self.advance(1);
        let letter = self.byte();
        self.advance(1);
        Ok(match letter {
            Some(letter @ (b'"' | b'\\' | b'/')) => char::from(letter),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => return Err(self.fault("an unknown escape")),
        })
    }

    /// After `\u`: four digits, or two times four for what lies past U+FFFF. Half of such a pair is
    /// nothing that UTF-8 could say.
    fn unicode_escape(&mut self) -> Result<char, Fault> {
        const LONE: &str = "a lone surrogate";
        let unit = self.four_digits()?;
        let second = match unit {
            0xd800..0xdc00 if self.rest().starts_with(b"\\u") => {
                self.advance(2);
                Some(self.four_digits()?)
            }
            _ => None,
        };
        let mut decoded = char::decode_utf16([unit].into_iter().chain(second));
        match (decoded.next(), decoded.next()) {
            (Some(Ok(character)), None) => Ok(character),
            _ => Err(self.fault(LONE)),
        }
    }

    fn four_digits(&mut self) -> Result<u16, Fault> {
        let digits = self.rest().first_chunk::<4>();
        let unit = digits.and_then(|digits| {
            digits.iter().try_fold(0_u16, |unit, &digit| {
                let digit = u16::try_from(char::from(digit).to_digit(16)?).ok()?;
                Some(unit << 4 | digit)
            })
        });
        let unit = unit.ok_or_else(|| self.fault("expected four hex digits"))?;
        self.advance(4);
        Ok(unit)
    }

    /// What has not been read.
    #[inline]
    pub(super) fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The next `N` bytes, if there are so many; nothing of them is read.
    #[inline]
    pub(super) fn window<const N: usize>(&self) -> Option<&'a [u8; N]> {
        self.text.get(self.at..)?.first_chunk()
    }

    #[inline]
    fn byte(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// The next byte that is not white space.
    #[inline]
    pub(super) fn next_byte(&mut self) -> Option<u8> {
        let byte = self.byte();
        if byte.is_none_or(|byte| byte > b' ') {
            return byte;
        }
        self.at = past_white_space(self.text, self.at);
        self.byte()
    }

    /// Goes on so many bytes; past the end there is nothing to read, so that no sum needs checking.
    #[inline]
    pub(super) fn advance(&mut self, bytes: usize) {
        self.at = self.at.wrapping_add(bytes);
    }
}

/// Where the white space ends that begins at `at`; indentation is passed over eight spaces at a time.
#[inline(never)]
fn past_white_space(text: &[u8], at: usize) -> usize {
    let mut rest = text.get(at..).unwrap_or_default();
    loop {
        if let Some((indentation, after)) = rest.split_first_chunk::<8>()
            && *indentation == [b' '; 8]
        {
            rest = after;
        } else if let Some((b' ' | b'\t' | b'\n' | b'\r', after)) = rest.split_first() {
            rest = after;
        } else {
            return text.len().saturating_sub(rest.len());
        }
    }
}

/// How many bytes stand before a quote, a backslash or a control character.
fn plain_len(text: &[u8]) -> usize {
    let (chunks, _) = text.as_chunks::<16>();
    let whole = chunks.iter().take_while(|chunk| first_stop(chunk).is_none()).count().saturating_mul(16);
    let rest = text.get(whole..).unwrap_or_default();
    let len = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)).unwrap_or(rest.len());
    whole.saturating_add(len)
}

/// How many bytes stand before the first at which a string cannot just go on, if there is one.
#[inline]
pub(super) fn first_stop(chunk: &[u8; 16]) -> Option<u8> {
    let (halves, _) = chunk.as_chunks::<8>();
    let [low, high] = halves else { return None };
    let (low, high) = (stops(*low), stops(*high));
    if low | high == 0 {
        return None;
    }
    let bits = if low == 0 { high.trailing_zeros().wrapping_add(64) } else { low.trailing_zeros() };
    u8::try_from(bits >> 3).ok()
}

/// The high bit of each byte at which a string cannot just go on. What follows the first of them is
/// not to be relied on: the differences of all bytes are taken at once, and borrow from the next.
#[inline]
fn stops(bytes: [u8; 8]) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let bytes = u64::from_le_bytes(bytes);
    let quote = (bytes ^ (0x22 * EACH)).wrapping_sub(EACH);
    let backslash = (bytes ^ (0x5c * EACH)).wrapping_sub(EACH);
    let control = bytes.wrapping_sub(0x20 * EACH);
    (quote | backslash | control) & !bytes & (0x80 * EACH)
}

/// Whether a string holds exactly one JSON number.
pub(super) fn is_number(text: &[u8]) -> bool {
    number_len(text) == Some(text.len())
}

/// The length of the number that `bytes` begin with.
fn number_len(bytes: &[u8]) -> Option<usize> {
    let unsigned = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let mut rest = match unsigned.strip_prefix(b"0") {
        Some(rest) => rest,
        None => digits(unsigned)?,
    };
    if let Some(fraction) = rest.strip_prefix(b".") {
        rest = digits(fraction)?;
    }
    if let Some((b'e' | b'E', exponent)) = rest.split_first() {
        rest = digits(match exponent.split_first() {
            Some((b'+' | b'-', exponent)) => exponent,
            _ => exponent,
        })?;
    }
    bytes.len().checked_sub(rest.len())
}

/// What follows at least one digit.
fn digits(bytes: &[u8]) -> Option<&[u8]> {
    let len = bytes.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(bytes.len());
    if len == 0 { None } else { bytes.get(len..) }
}
