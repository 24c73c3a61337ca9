//! What the gateway knows of OTLP: signals, the wire format, the rules for what may pass, the
//! answers. Pure functions over bytes; it never does I/O and never sees a credential.

pub mod compression;
pub mod inspect;
pub mod json;
pub mod rewrite;
mod schema;
pub mod service;
pub mod signal;
pub mod status;
#[cfg(test)]
mod testkit;
pub mod wire;

/// A trace id: 16 bytes, never all zero where it is expected of a verdict.
///
/// Source: OTLP `trace.proto`, `Span.trace_id`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

impl TraceId {
    /// Reads 32 lower-case hex digits that are not all zero; anything else is `None`.
    ///
    /// Lower case only, because the authority's contract says so and a second spelling of one id
    /// would be a second cache of truth.
    #[must_use]
    pub fn from_lower_hex(text: &str) -> Option<Self> {
        let digits: &[u8; 32] = text.as_bytes().try_into().ok()?;
        let mut id = [0_u8; 16];
        let (pairs, _) = digits.as_chunks::<2>();
        for (byte, &[high, low]) in id.iter_mut().zip(pairs) {
            *byte = (lower_hex(high)? << 4) | lower_hex(low)?;
        }
        (id != [0; 16]).then_some(Self(id))
    }

    /// The 16 bytes as a span carries them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

fn lower_hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => digit.checked_sub(b'0'),
        b'a'..=b'f' => digit.checked_sub(b'a')?.checked_add(10),
        _ => None,
    }
}

impl std::fmt::Display for TraceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for TraceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::TraceId;

    /// Scenario: the shapes that an authority might answer with.
    /// Guarantees: only 32 lower-case hex digits, not all zero, make a trace id, and it prints as it came.
    #[test]
    fn trace_id_is_strict() {
        let good = "000000000000000000000000001e240a";
        assert_eq!(TraceId::from_lower_hex(good).unwrap().to_string(), good);
        for bad in [
            "",
            "00000000000000000000000000000000",
            "000000000000000000000000001E240A",
            "000000000000000000000000001e240",
            "000000000000000000000000001e240ag",
            "00000000000000000000000000 e240a",
            "0x0000000000000000000000001e240a",
        ] {
            assert_eq!(TraceId::from_lower_hex(bad), None, "{bad}");
        }
    }
}
