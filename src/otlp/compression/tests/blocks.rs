//! What a gzip body may take without giving anything: bodies that are all code tables and no content.

use std::io::Write as _;

use super::{super::*, CAPS, foreign_gzip, noise};

/// Writes numbers bit by bit, the lowest bit first (RFC 1951, section 3.1.1).
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: usize,
}

impl Bits {
    fn put(&mut self, value: u32, bits: usize) {
        for bit in 0..bits {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let last = self.bytes.last_mut().unwrap();
            *last |= u8::from(value >> bit & 1 == 1) << (self.used % 8);
            self.used = self.used.saturating_add(1);
        }
    }

    /// A block with codes of its own, of which the only symbol is its end: 92 bits (RFC 1951, section 3.2.7).
    fn empty_block(&mut self, is_last: bool) {
        self.put(is_last.into(), 1);
        self.put(2, 2);
        // 257 literal codes, 1 distance code, 18 lengths of the codes in which those are written.
        self.put(0, 5);
        self.put(0, 5);
        self.put(14, 4);
        for place in 0..18 {
            // One bit for "138 zeros", two for "zero" and for "one".
            self.put(
                match place {
                    2 => 1,
                    3 | 17 => 2,
                    _ => 0,
                },
                3,
            );
        }
        for zeros_but_11 in [127, 107] {
            self.put(0, 1);
            self.put(zeros_but_11, 7);
        }
        self.put(0b11, 2);
        self.put(0b01, 2);
        self.put(0, 1);
    }
}

/// A gzip member of nothing, in so many blocks.
fn member(blocks: usize) -> Vec<u8> {
    let mut bits = Bits::default();
    for block in 1..=blocks {
        bits.empty_block(block == blocks);
    }
    [&[0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 3][..], &bits.bytes, &[0; 8]].concat()
}

fn read(body: Vec<u8>) -> Result<Bytes, InflateError> {
    inflate(Encoding::Gzip, &body.into(), CAPS)
}

/// Scenario: members of empty blocks: of one, of as many bytes as may give nothing, of a little more, and of 4 MiB.
/// Guarantees: the first are read; the others are refused, and what follows the part in which that shows is not looked at.
#[test]
fn empty_blocks_are_bounded() {
    assert_eq!(read(member(1)).unwrap(), "");
    assert_eq!(read(member((gzip::SLACK - 100) * 8 / 92)).unwrap(), "");
    assert_eq!(read(member((gzip::SLACK + 100) * 8 / 92)), Err(InflateError::Empty));
    let long = member((4 << 20) * 8 / 92);
    assert!(long.len() > 4_000_000);
    let mut members = gzip::Members::new(&long);
    let outcome = members.read(&mut Vec::with_capacity(1 << 10));
    assert_eq!(outcome, Err(InflateError::Empty));
    let taken = long.len() - members.rest.len();
    assert!(taken < 2 * gzip::SLACK, "{taken} bytes were read");
}

/// Scenario: the same over many members, then behind a member of much content.
/// Guarantees: the bound is on the whole body, and no content in front of it buys more.
#[test]
fn members_share_the_bound() {
    let part = member(gzip::SLACK / 10 * 8 / 92);
    assert_eq!(read(part.repeat(9)).unwrap(), "");
    assert_eq!(read(part.repeat(12)), Err(InflateError::Empty));
    let content = foreign_gzip(&noise(3_000_000));
    assert_eq!(read([content.clone(), part.repeat(9)].concat()).unwrap().len(), 3_000_000);
    assert_eq!(read([content, part.repeat(12)].concat()), Err(InflateError::Empty));
}

/// Scenario: honest bodies, noisy and even, flushed after every 4 KiB; and members cut off within a block.
/// Guarantees: each is read, and what is cut off is corrupt.
#[test]
fn honest_bodies_are_read() {
    for level in [0, 1, 6, 9] {
        for body in [noise(3_000_000), b"span ".repeat(100_000)] {
            let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
            for part in body.chunks(4_096) {
                writer.write_all(part).unwrap();
                writer.flush().unwrap();
            }
            let wire = writer.finish().unwrap();
            let caps = InflateCaps { max_ratio: u32::MAX, ..CAPS };
            assert_eq!(inflate(Encoding::Gzip, &wire.into(), caps).unwrap(), body, "{level}");
        }
    }
    let whole = [member(20), foreign_gzip(b"")].concat();
    for len in 1..whole.len() - 1 {
        let is_first = len == member(20).len();
        assert_eq!(read(whole[..len].to_vec()).is_ok(), is_first, "{len}");
    }
}
