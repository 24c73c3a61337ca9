//! RFC 8259 taken strictly, pulled token by token: what is not JSON to every reader is not JSON here.
//! It bounds the depth of everything that it walks through, known or skipped, and never shows what
//! the sender sent: a fault says what was expected, and where.

use std::borrow::Cow;

/// Most arrays and objects inside one another. The deepest attribute of an event takes 12 of them to
/// get to, and each of its 32 levels of values at most 4 more.
const MAX_DEPTH: u32 = 160;

/// Why a document was refused.
#[derive(Debug)]
pub(super) struct Fault {
    why: &'static str,
    at: usize,
    /// From the innermost outwards, as it is put together on the way out.
    path: Vec<Step>,
}

/// One step of the way to a fault.
#[derive(Debug)]
pub(super) enum Step {
    /// A known field, by its own name rather than by the sender's spelling of it.
    Field(&'static str),
    /// An element of an array.
    Element(usize),
}

impl Fault {
    /// The same fault, seen from one level further out.
    pub(super) fn inside(mut self, step: Step) -> Self {
        self.path.push(step);
        self
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (place, step) in self.path.iter().rev().enumerate() {
            match step {
                Step::Field(name) if place == 0 => f.write_str(name)?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Element(index) => write!(f, "[{index}]")?,
            }
        }
        let colon = if self.path.is_empty() { "" } else { ": " };
        write!(f, "{colon}{} (at byte {})", self.why, self.at)
    }
}

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
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    depth: u32,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    /// A fault where reading has come to.
    pub(super) fn fault(&self, why: &'static str) -> Fault {
        Fault { why, at: self.at, path: Vec::new() }
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

    /// Enters an object; [`Self::key`] is to be called until it says that the object has ended.
    pub(super) fn open_object(&mut self) -> Result<(), Fault> {
        self.open(b'{', "expected an object")
    }

    /// Enters an array; [`Self::element`] is to be called until it says that the array has ended.
    pub(super) fn open_array(&mut self) -> Result<(), Fault> {
        self.open(b'[', "expected an array")
    }

    /// Reads the next key of an object; its value comes next. `first` is true before the first one.
    pub(super) fn key(&mut self, first: &mut bool) -> Result<Option<Cow<'a, str>>, Fault> {
        if !self.goes_on(b'}', first)? {
            return Ok(None);
        }
        let key = self.string()?;
        self.expect(b':', "expected a colon")?;
        Ok(Some(key))
    }

    /// Whether an array has another element, which comes next. `first` is true before the first one.
    pub(super) fn element(&mut self, first: &mut bool) -> Result<bool, Fault> {
        self.goes_on(b']', first)
    }

    /// Reads a string; escapes are resolved, and only then is anything copied.
    pub(super) fn string(&mut self) -> Result<Cow<'a, str>, Fault> {
        self.expect(b'"', "expected a string")?;
        let mut unescaped: Option<String> = None;
        loop {
            let plain = self.plain();
            if let Some(text) = &mut unescaped {
                text.push_str(plain);
            }
            match self.byte() {
                Some(b'"') => {
                    self.advance(1);
                    return Ok(unescaped.map_or(Cow::Borrowed(plain), Cow::Owned));
                }
                Some(b'\\') => {
                    let escaped = self.escape()?;
                    unescaped.get_or_insert_with(|| plain.to_owned()).push(escaped);
                }
                Some(_) => return Err(self.fault("control characters in a string are written as escapes")),
                None => return Err(self.fault("a string without an end")),
            }
        }
    }

    /// Reads a number as it is written.
    pub(super) fn number(&mut self) -> Result<&'a str, Fault> {
        self.next_byte();
        let len = number_len(self.rest().as_bytes()).ok_or_else(|| self.fault("expected a number"))?;
        let number = self.rest().get(..len).unwrap_or_default();
        self.advance(len);
        Ok(number)
    }

    /// Reads `true`, `false` or `null`.
    pub(super) fn literal(&mut self, literal: &'static str) -> Result<(), Fault> {
        self.next_byte();
        if !self.rest().starts_with(literal) {
            return Err(self.fault("expected a JSON value"));
        }
        self.advance(literal.len());
        Ok(())
    }

    /// Reads a value that nobody wants, as strictly as any other.
    pub(super) fn skip(&mut self) -> Result<(), Fault> {
        let mut first = true;
        match self.token()? {
            Token::Object => {
                self.open_object()?;
                while self.key(&mut first)?.is_some() {
                    self.skip()?;
                }
                Ok(())
            }
            Token::Array => {
                self.open_array()?;
                while self.element(&mut first)? {
                    self.skip()?;
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

    fn open(&mut self, bracket: u8, why: &'static str) -> Result<(), Fault> {
        self.expect(bracket, why)?;
        self.depth = self.depth.saturating_add(1);
        if self.depth > MAX_DEPTH { Err(self.fault("nested too deeply")) } else { Ok(()) }
    }

    /// Between two members: whether there is another one, with exactly one comma before it.
    fn goes_on(&mut self, bracket: u8, first: &mut bool) -> Result<bool, Fault> {
        let next = self.next_byte();
        if next == Some(bracket) {
            self.advance(1);
            self.depth = self.depth.saturating_sub(1);
            return Ok(false);
        }
        if !std::mem::replace(first, false) {
            self.expect(b',', "expected a comma or the end of the object or array")?;
        }
        Ok(true)
    }

    fn expect(&mut self, byte: u8, why: &'static str) -> Result<(), Fault> {
        if self.next_byte() != Some(byte) {
            return Err(self.fault(why));
        }
        self.advance(1);
        Ok(())
    }

    /// The bytes up to a quote, a backslash or a control character.
    fn plain(&mut self) -> &'a str {
        let rest = self.rest();
        let len = rest.bytes().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f));
        let plain = rest.get(..len.unwrap_or(rest.len())).unwrap_or_default();
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
            0xd800..0xdc00 if self.rest().starts_with("\\u") => {
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
        let digits = self.rest().get(..4).filter(|digits| digits.bytes().all(|d| d.is_ascii_hexdigit()));
        let unit = digits.and_then(|digits| u16::from_str_radix(digits, 16).ok());
        let unit = unit.ok_or_else(|| self.fault("expected four hex digits"))?;
        self.advance(4);
        Ok(unit)
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The next byte that is not white space.
    fn next_byte(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.byte() {
            self.advance(1);
        }
        self.byte()
    }

    fn advance(&mut self, bytes: usize) {
        self.at = self.at.saturating_add(bytes);
    }
}

/// Whether a string holds exactly one JSON number.
pub(super) fn is_number(text: &str) -> bool {
    number_len(text.as_bytes()) == Some(text.len())
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
