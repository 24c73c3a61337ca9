//! A field's name as it stands in a document, between quotes, made ready by the compiler to be
//! compared in one go. It knows one spelling; any other is for somebody slower to recognise.

/// The bytes of a document that a name is compared with.
pub(in crate::otlp) const WINDOW: usize = 32;

/// A name between quotes.
#[derive(Clone, Copy, Debug)]
pub(in crate::otlp) struct Key {
    bytes: [u128; 2],
    /// All bits of the bytes that are the name's.
    mask: [u128; 2],
    /// Quotes included; 0 for a name that is too long to be compared in this way.
    len: usize,
}

impl Key {
    /// The key that this name is.
    #[expect(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "evaluated by the compiler alone"
    )]
    pub(in crate::otlp) const fn of(name: &str) -> Self {
        let name = name.as_bytes();
        let (mut bytes, mut mask) = ([0_u8; WINDOW], [0_u8; WINDOW]);
        let len = name.len() + 2;
        if len > WINDOW {
            return Self { bytes: [0; 2], mask: [0; 2], len: 0 };
        }
        let mut place = 0;
        while place < len {
            bytes[place] = if place == 0 || place == len - 1 { b'"' } else { name[place - 1] };
            mask[place] = 0xff;
            place += 1;
        }
        Self { bytes: halves(&bytes), mask: halves(&mask), len }
    }

    /// Whether the document goes on with this key.
    #[inline]
    pub(in crate::otlp) fn is(&self, window: &[u8; WINDOW]) -> bool {
        let window = halves(window);
        let [low, high] = self.bytes;
        let [low_mask, high_mask] = self.mask;
        let [low_seen, high_seen] = window;
        ((low ^ low_seen) & low_mask) | ((high ^ high_seen) & high_mask) == 0 && self.len != 0
    }

    /// Its length, quotes included.
    #[inline]
    pub(in crate::otlp) fn len(&self) -> usize {
        self.len
    }
}

#[expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "within a fixed length")]
const fn halves(bytes: &[u8; WINDOW]) -> [u128; 2] {
    let (mut low, mut high) = ([0; 16], [0; 16]);
    let mut place = 0;
    while place < 16 {
        low[place] = bytes[place];
        high[place] = bytes[place + 16];
        place += 1;
    }
    [u128::from_le_bytes(low), u128::from_le_bytes(high)]
}
