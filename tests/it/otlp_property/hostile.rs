//! Requests that no encoder would write: messages split and repeated, scalars doubled, unknown
//! fields, needless bytes in varints, and, more rarely, what breaks the format or the protocol.

mod shapes;

use spangate::otlp::signal::Signal;

use self::shapes::{Field, Shape};
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

    /// A whole request.
    pub(super) fn request(&mut self, signal: Signal) -> Vec<u8> {
        // A dictionary of the empty string alone, which must be the first one where there are strings.
        let zeroth: &[u8] =
            if signal == Signal::Profiles && !self.once_in(8) { &[0x12, 2, 0x2A, 0] } else { &[] };
        [zeroth.to_vec(), self.fields(4, &[], shapes::of(signal))].concat()
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
            _ if self.once_in(700) => u64::from(self.below(8)),
            Wire::Varint => 0,
            Wire::Fixed64 => 1,
            Wire::Len => 2,
            Wire::Fixed32 => 5,
        };
        let high = if self.once_in(1000) { 1 << 32 } else { 0 };
        self.varint(high | (u64::from(number) << 3) | wire)
    }

    fn len(&mut self, number: u32, content: &[u8]) -> Vec<u8> {
        let mut length = content.len() as u64;
        if self.once_in(700) {
            length = [length + 1, length.saturating_sub(1), u64::MAX, 1 << 31][usize::from(self.below(4))];
        }
        [self.tag(number, Wire::Len), self.varint(length), content.to_vec()].concat()
    }

    fn scalar(&mut self, number: u32, wire: Wire) -> Vec<u8> {
        if let Wire::Len = wire {
            return self.len(number, b"bytes");
        }
        [self.tag(number, wire), self.number(wire)].concat()
    }

    fn number(&mut self, wire: Wire) -> Vec<u8> {
        match wire {
            Wire::Varint => {
                let value = [0, 1, 5, u64::MAX, 1 << 32][usize::from(self.below(5))];
                self.varint(value)
            }
            Wire::Fixed64 | Wire::Len => vec![self.byte(); 8],
            Wire::Fixed32 => vec![self.byte(); 4],
        }
    }

    /// A repeated number: one alone, or any count of them packed, now and then cut short.
    fn numbers(&mut self, number: u32, wire: Wire) -> Vec<u8> {
        if self.below(3) == 2 {
            return self.scalar(number, wire);
        }
        let mut packed = Vec::new();
        for _ in 0..self.below(5) {
            packed.extend(self.number(wire));
        }
        if self.once_in(100) {
            packed.pop();
        }
        if self.once_in(300) {
            packed.push(0x80);
        }
        self.len(number, &packed)
    }

    /// An index into a table of about ten entries: every reader cuts it to 32 bits.
    fn index(&mut self) -> u64 {
        match self.below(16) {
            0 => u64::MAX,
            1 => 1 << 32,
            2 => (1 << 32) | 1,
            3 => 1 << 31,
            near => u64::from(near - 4),
        }
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
            if self.once_in(2500) {
                out.extend(
                    [&[0x0B, 0x0C][..], &[0x00], &[0xC2, 0x3E, 0x00], &[0x80]][usize::from(self.below(4))],
                );
            }
        }
        out
    }

    /// A message by its shape: one of the fields `first`, if there are any, then up to `most` others.
    fn fields(&mut self, most: u8, first: &[Field], others: &[Field]) -> Vec<u8> {
        let mut out = if first.is_empty() { Vec::new() } else { self.one_of(first) };
        out.extend(self.message(most, |dice| dice.one_of(others)));
        out
    }

    /// One field, by weight.
    fn one_of(&mut self, fields: &[Field]) -> Vec<u8> {
        let total = fields.iter().map(|Field(_, weight, _)| weight).sum();
        let mut at = self.below(total);
        for &Field(number, weight, ref shape) in fields {
            if at < weight {
                return self.field(number, shape);
            }
            at -= weight;
        }
        Vec::new()
    }

    fn field(&mut self, number: u32, shape: &Shape) -> Vec<u8> {
        let content = match shape {
            Shape::Varint => return self.scalar(number, Wire::Varint),
            Shape::Fixed64 => return self.scalar(number, Wire::Fixed64),
            Shape::Fixed32 => return self.scalar(number, Wire::Fixed32),
            Shape::Varints => return self.numbers(number, Wire::Varint),
            Shape::Fixed64s => return self.numbers(number, Wire::Fixed64),
            Shape::Index => {
                let value = self.index();
                return [self.tag(number, Wire::Varint), self.varint(value)].concat();
            }
            Shape::Text => self.text(),
            Shape::Key => self.key(),
            Shape::TraceId => self.id(16),
            Shape::SpanId => self.id(8),
            Shape::KeyValue => self.key_value(),
            Shape::Value => self.any_value(0),
            Shape::Message(most, fields) => self.fields(*most, &[], fields),
            Shape::Begun(first, most, fields) => self.fields(*most, first, fields),
        };
        self.len(number, &content)
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
        match self.below(12) {
            0..8 => TRACE[..right].to_vec(),
            8 => Vec::new(),
            9 => vec![0; right],
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
        let deeper = match self.below(16) {
            0..4 if nesting > 0 => 8,
            // About the deepest that is accepted, or that prost reads.
            4 => 24 + u32::from(self.below(12)),
            _ => 1,
        };
        let lists = self.below(3);
        self.message(most, |dice| match dice.below(8) {
            _ if deep => {
                let mut inner = dice.any_value(nesting + deeper);
                for _ in 0..deeper {
                    let list = lists == 1 || lists == 2 && dice.below(2) == 1;
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
            let (number, shape) = match if most == 2 { next } else { dice.below(4) } {
                2 => (2, Shape::Value),
                3 => (3, Shape::Index),
                _ => (1, Shape::Key),
            };
            dice.field(number, &shape)
        })
    }
}
