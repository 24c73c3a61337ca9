//! Heads and trailers of gzip members, and flate2's own reader as the judge of what a body is.

use std::io::{Read, Write};

use flate2::{Compression, GzBuilder, read::MultiGzDecoder};
use proptest::{collection::vec, prelude::*, sample::Index};

use super::{super::*, CAPS, noise};

/// The flag that a checksum of the head follows.
const HEAD_CRC: u8 = 2;

fn read(wire: &[u8]) -> Result<Bytes, InflateError> {
    inflate(Encoding::Gzip, &Bytes::copy_from_slice(wire), CAPS)
}

/// A member with the optional fields that the bits of `fields` name: extra, name, comment.
fn member(fields: u8, level: u32, body: &[u8]) -> Vec<u8> {
    let mut builder = GzBuilder::new().mtime(7).operating_system(3);
    if fields & 1 != 0 {
        builder = builder.extra(vec![0, 8, 255]);
    }
    if fields & 2 != 0 {
        builder = builder.filename("spans.pb");
    }
    if fields & 4 != 0 {
        builder = builder.comment("");
    }
    let mut writer = builder.write(Vec::new(), Compression::new(level));
    writer.write_all(body).unwrap();
    writer.finish().unwrap()
}

/// The same with a checksum of its head, and the length of that head.
fn with_head_crc(fields: u8, body: &[u8]) -> (Vec<u8>, usize) {
    let plain = member(fields, 6, body);
    let data = member(0, 6, body).split_off(10);
    let mut member = plain.strip_suffix(&data[..]).unwrap().to_vec();
    member[3] |= HEAD_CRC;
    let crc = crc32fast::hash(&member).to_le_bytes();
    member.extend_from_slice(&crc[..2]);
    let head = member.len();
    member.extend(data);
    (member, head)
}

/// Scenario: heads with every set of optional fields, with and without a checksum of their own.
/// Guarantees: all are read; a wrong checksum, a reserved flag, another method or magic are not.
#[test]
fn heads() {
    let body = noise(100);
    for fields in 0..8 {
        assert_eq!(read(&member(fields, 6, &body)).unwrap(), body, "{fields}");
        let (good, head) = with_head_crc(fields, &body);
        assert_eq!(read(&good).unwrap(), body, "{fields}");
        for at in head - 2..head {
            let mut wrong = good.clone();
            wrong[at] ^= 0x80;
            assert_eq!(read(&wrong), Err(InflateError::Corrupt), "{fields}");
        }
    }
    for (at, bit) in [(0, 1), (1, 1), (2, 1), (3, 0x20), (3, 0x40), (3, 0x80)] {
        let mut wrong = member(0, 6, &body);
        wrong[at] ^= bit;
        assert_eq!(read(&wrong), Err(InflateError::Corrupt), "byte {at}, bit {bit}");
    }
}

/// Scenario: members with all optional fields, cut at every byte, and a name that never ends.
/// Guarantees: no beginning of a member passes for one, as the first member or behind another.
#[test]
fn cut_heads() {
    let (whole, _) = with_head_crc(7, b"body");
    for len in 1..whole.len() {
        assert_eq!(read(&whole[..len]), Err(InflateError::Corrupt), "{len}");
        let behind = [&whole, &whole[..len]].concat();
        assert_eq!(read(&behind), Err(InflateError::Corrupt), "{len} behind another");
    }
    let mut endless = vec![0x1F, 0x8B, 8, 8, 0, 0, 0, 0, 0, 3];
    endless.resize(70_000, b'a');
    assert_eq!(read(&endless), Err(InflateError::Corrupt));
}

/// Scenario: a wrong bit in each byte of a trailer, of the first or of the last of two members.
/// Guarantees: checksum and length are checked in both.
#[test]
fn trailers() {
    let member = member(0, 6, b"body");
    let twice = member.repeat(2);
    assert_eq!(read(&twice).unwrap(), "bodybody");
    for end in [member.len(), twice.len()] {
        for at in end - 8..end {
            let mut wrong = twice.clone();
            wrong[at] ^= 4;
            assert_eq!(read(&wrong), Err(InflateError::Corrupt), "{at}");
        }
    }
}

/// Scenario: a long member with a short one behind it, which alone declares a length.
/// Guarantees: the buffer grows as needed, and no byte is lost or changed where it does.
#[test]
fn buffers_grow() {
    let long = noise(1_500_000);
    let wire = [member(0, 0, &long), member(0, 9, b"end")].concat();
    assert_eq!(read(&wire).unwrap(), [&long[..], b"end"].concat());
}

proptest! {
    /// Scenario: members of several levels and heads, some with bytes changed, cut off or put in.
    /// Guarantees: whatever passes is what flate2's own reader makes of it, whatever that refuses is
    /// refused, and unharmed bodies pass.
    #[test]
    fn flate2_agrees(
        members in vec((0_u8..8, 0_u32..10, vec(any::<(u8, u8)>(), 0..40), 0_usize..400), 1..4),
        harm in vec((any::<Index>(), any::<u8>(), 0..3), 0..3),
    ) {
        let mut wire = Vec::new();
        let mut body = Vec::new();
        for (fields, level, runs, noisy) in members {
            let mut part: Vec<u8> =
                runs.into_iter().flat_map(|(byte, times)| vec![byte; times.into()]).collect();
            part.extend(noise(noisy));
            wire.extend(member(fields, level, &part));
            body.extend(part);
        }
        let harmed = !harm.is_empty();
        for (at, byte, how) in harm {
            let at = at.index(wire.len().saturating_add(1));
            match how {
                0 if at < wire.len() => wire[at] = byte,
                1 => wire.truncate(at),
                _ => wire.insert(at, byte),
            }
        }
        let mut judged = Vec::new();
        let judgement = MultiGzDecoder::new(&wire[..]).read_to_end(&mut judged);
        match read(&wire) {
            Ok(ours) => {
                prop_assert!(judgement.is_ok(), "{judgement:?}");
                prop_assert_eq!(&ours, &judged);
                prop_assert!(harmed || ours == body);
            }
            Err(error) => prop_assert!(harmed, "{error}"),
        }
    }
}
