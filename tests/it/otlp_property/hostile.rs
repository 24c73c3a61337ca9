//! Requests that no encoder would write: messages split and repeated, scalars doubled, unknown
//! fields, needless bytes in varints, and, more rarely, what breaks the format or the protocol.

use super::{judge::TRACE, messages::NAMES};

/// Turns entropy into decisions. When it is used up every decision is the plainest one, so that
/// proptest makes a failing body smaller by giving less of it.
pub(super) struct Dice<'a> {
    entropy: std::slice::Iter<'a, u8>,
}

/// How a field's value is written.
#[derive(Clone, Copy)]
enum Wire {
    Varint,
    Fixed64,
    Len,
    Fixed32,
}

impl<'a> Dice<'a> {
    pub(super) fn new(entropy: &'a [u8]) -> Self {
        Self { entropy: entropy.iter() }
    }

    fn byte(&mut self) -> u8 {
        self.entropy.next().copied().unwrap_or(0)
    }

    fn below(&mut self, bound: u8) -> u8 {
        self.byte() % bound
    }

    /// True once in so many throws, and never without entropy.
    fn once_in(&mut self, throws: u16) -> bool {
        u16::from_be_bytes([self.byte(), self.byte()]) % throws == throws - 1
    }

    fn varint(&mut self, mut value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        while value >= 0x80 {
            out.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        out.push(value.to_le_bytes()[0]);
        if self.once_in(12) {
            // Up to ten bytes are legal.
            let legal = 10 - out.len();
            let more = usize::from(self.below(10)).min(legal + usize::from(self.once_in(20)));
            for _ in 0..more {
                if let Some(last) = out.last_mut() {
                    *last |= 0x80;
                }
                out.push(0);
            }
        }
        out
    }

    fn tag(&mut self, number: u32, wire: Wire) -> Vec<u8> {
        let wire = match wire {
            _ if self.once_in(400) => u64::from(self.below(8)),
            Wire::Varint => 0,
            Wire::Fixed64 => 1,
            Wire::Len => 2,
            Wire::Fixed32 => 5,
        };
        let high = if self.once_in(600) { 1 << 32 } else { 0 };
        self.varint(high | (u64::from(number) << 3) | wire)
    }

    fn len(&mut self, number: u32, content: &[u8]) -> Vec<u8> {
        let mut length = content.len() as u64;
        if self.once_in(400) {
            length = [length + 1, length.saturating_sub(1), u64::MAX, 1 << 31][usize::from(self.below(4))];
        }
        [self.tag(number, Wire::Len), self.varint(length), content.to_vec()].concat()
    }

    fn scalar(&mut self, number: u32, wire: Wire) -> Vec<u8> {
        let value = match wire {
            Wire::Varint => {
                let value = [0, 1, 5, u64::MAX, 1 << 32][usize::from(self.below(5))];
                self.varint(value)
            }
            Wire::Fixed64 => vec![self.byte(); 8],
            Wire::Fixed32 => vec![self.byte(); 4],
            Wire::Len => return self.len(number, b"bytes"),
        };
        [self.tag(number, wire), value].concat()
    }

    fn unknown(&mut self) -> Vec<u8> {
        let number = [99, 17, 1001, (1 << 29) - 1][usize::from(self.below(4))];
        let wire = [Wire::Varint, Wire::Len, Wire::Fixed32, Wire::Fixed64][usize::from(self.below(4))];
        self.scalar(number, wire)
    }

    /// Up to `most` fields in any order and number, with something unknown or broken among them.
    fn message(&mut self, most: u8, mut field: impl FnMut(&mut Self) -> Vec<u8>) -> Vec<u8> {
        let mut out = Vec::new();
        for _ in 0..self.below(most + 1) {
            out.extend(field(self));
            if self.once_in(20) {
                out.extend(self.unknown());
            }
            if self.once_in(1500) {
                out.extend(
                    [&[0x0B, 0x0C][..], &[0x00], &[0xC2, 0x3E, 0x00], &[0x80]][usize::from(self.below(4))],
                );
            }
        }
        out
    }

    fn text(&mut self) -> Vec<u8> {
        match self.below(16) {
            0..8 => b"text".to_vec(),
            8..11 => Vec::new(),
            11..13 => "näme".into(),
            13 | 14 => vec![b'x'; 150],
            _ if self.once_in(10) => vec![0xC3, 0x28],
            _ => b"other".to_vec(),
        }
    }

    fn id(&mut self, right: usize) -> Vec<u8> {
        match self.below(10) {
            0..8 => TRACE[..right].to_vec(),
            8 => Vec::new(),
            _ if self.once_in(8) => vec![1; right - 1],
            _ => vec![9; right],
        }
    }

    fn key(&mut self) -> Vec<u8> {
        NAMES[usize::from(self.below(16))].into()
    }

    fn any_value(&mut self, nesting: u32) -> Vec<u8> {
        let most = if self.once_in(6) { 3 } else { 1 };
        let deep = nesting < 40 && self.below(5) == 4;
        let deeper = if nesting > 0 && self.once_in(3) { 8 } else { 1 };
        self.message(most, |dice| match dice.below(8) {
            _ if deep => {
                let mut inner = dice.any_value(nesting + deeper);
                for _ in 0..deeper {
                    let list = dice.below(2) == 1;
                    let value = if list { [&b"\x0A\x01k"[..], &dice.len(2, &inner)].concat() } else { inner };
                    let element = dice.len(1, &value);
                    inner = dice.len(if list { 6 } else { 5 }, &element);
                }
                inner
            }
            2 => dice.scalar(2, Wire::Varint),
            3 => dice.scalar(3, Wire::Varint),
            4 => dice.scalar(4, Wire::Fixed64),
            5 => dice.len(7, &[0xFF, 0x00]),
            6 => dice.scalar(8, Wire::Varint),
            _ => {
                let text = dice.text();
                dice.len(1, &text)
            }
        })
    }

    fn key_value(&mut self) -> Vec<u8> {
        let most = if self.once_in(4) { 5 } else { 2 };
        let mut next = 0;
        self.message(most, |dice| {
            next += 1;
            match if most == 2 { next } else { dice.below(4) } {
                2 => {
                    let value = dice.any_value(0);
                    dice.len(2, &value)
                }
                3 => dice.scalar(3, Wire::Varint),
                _ => {
                    let key = dice.key();
                    dice.len(1, &key)
                }
            }
        })
    }

    fn nested(&mut self, number: u32, message: impl FnOnce(&mut Self) -> Vec<u8>) -> Vec<u8> {
        let content = message(self);
        self.len(number, &content)
    }

    fn resource(&mut self) -> Vec<u8> {
        self.message(5, |dice| match dice.below(6) {
            4 => dice.scalar(2, Wire::Varint),
            5 => dice.nested(3, |dice| {
                dice.message(5, |dice| {
                    let number = 1 + u32::from(dice.below(4));
                    dice.nested(number, Self::key)
                })
            }),
            _ => dice.nested(1, Self::key_value),
        })
    }

    fn scope(&mut self) -> Vec<u8> {
        self.message(4, |dice| match dice.below(5) {
            0 => dice.nested(1, Self::text),
            1 => dice.nested(2, Self::text),
            2 => dice.scalar(4, Wire::Varint),
            _ => dice.nested(3, Self::key_value),
        })
    }

    fn event_or_link(&mut self, link: bool) -> Vec<u8> {
        self.message(4, |dice| match (dice.below(6), link) {
            (0, false) => dice.scalar(1, Wire::Fixed64),
            (1, false) => dice.nested(2, Self::text),
            (2, false) => dice.scalar(4, Wire::Varint),
            (_, false) => dice.nested(3, Self::key_value),
            (0, true) => dice.nested(1, |dice| dice.id(16)),
            (1, true) => dice.nested(2, |dice| dice.id(8)),
            (2, true) => dice.nested(3, Self::text),
            (3, true) => dice.scalar(5, Wire::Varint),
            (4, true) => dice.scalar(6, Wire::Fixed32),
            (_, true) => dice.nested(4, Self::key_value),
        })
    }

    fn span(&mut self) -> Vec<u8> {
        let first = self.nested(1, |dice| dice.id(16));
        let rest = self.message(7, |dice| match dice.below(20) {
            0 => dice.nested(1, |dice| dice.id(16)),
            1 | 2 => dice.nested(2, |dice| dice.id(8)),
            3 => dice.nested(3, Self::text),
            4 => dice.nested(4, |dice| dice.id(8)),
            5 | 6 => dice.nested(5, Self::text),
            7 => dice.scalar(6, Wire::Varint),
            8 => dice.scalar(7, Wire::Fixed64),
            9 => dice.scalar(8, Wire::Fixed64),
            10 => dice.scalar(16, Wire::Fixed32),
            11 => dice.nested(11, |dice| dice.event_or_link(false)),
            12 => dice.nested(13, |dice| dice.event_or_link(true)),
            13 => dice.nested(15, |dice| [dice.nested(2, Self::text), dice.scalar(3, Wire::Varint)].concat()),
            14 => dice.scalar(12, Wire::Varint),
            _ => dice.nested(9, Self::key_value),
        });
        [first, rest].concat()
    }

    fn scope_spans(&mut self) -> Vec<u8> {
        self.message(5, |dice| match dice.below(6) {
            0 => dice.nested(1, Self::scope),
            1 => dice.nested(3, Self::text),
            _ => dice.nested(2, Self::span),
        })
    }

    /// A whole request.
    pub(super) fn request(&mut self) -> Vec<u8> {
        self.message(3, |dice| {
            dice.nested(1, |dice| {
                dice.message(6, |dice| match dice.below(6) {
                    0..3 => dice.nested(1, Self::resource),
                    3 => dice.nested(3, Self::text),
                    _ => dice.nested(2, Self::scope_spans),
                })
            })
        })
    }
}
