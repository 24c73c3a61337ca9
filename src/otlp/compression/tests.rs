//! Inflation against bodies that are honest, cut, padded or made to explode.

use std::io::Write;

use ::zstd::zstd_safe::{CCtx, CParameter};
use flate2::Compression;

use super::*;

mod blocks;
mod gzip_members;
mod parts;

const CAPS: InflateCaps = InflateCaps { max_size: 16 << 20, max_ratio: 200 };
const COMPRESSED: [Encoding; 2] = [Encoding::Gzip, Encoding::Zstd];

/// Bytes that hardly compress (a linear congruence; the same on every run).
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
    .take(len)
    .collect()
}

fn joined(pieces: &[Bytes]) -> Bytes {
    pieces.concat().into()
}

fn packed(encoding: Encoding, body: &[u8]) -> Bytes {
    joined(&deflate(encoding, &[Bytes::copy_from_slice(body)]))
}

/// A gzip member from another encoder than the one under test, with every optional header field.
fn foreign_gzip(body: &[u8]) -> Vec<u8> {
    let mut writer = flate2::GzBuilder::new()
        .filename("spans.pb")
        .comment("a comment")
        .extra(vec![1, 2, 3])
        .mtime(1)
        .write(Vec::new(), Compression::best());
    writer.write_all(body).unwrap();
    writer.finish().unwrap()
}

/// Scenario: bodies of many lengths, given in one piece, in many, in empty ones.
/// Guarantees: what was deflated inflates to the same bytes, also with contexts used before.
#[test]
fn round_trips() {
    let noisy = noise(300_000);
    let even = b"resource_spans scope_spans ".repeat(9_000);
    for encoding in [Encoding::Identity, Encoding::Gzip, Encoding::Zstd] {
        for body in [&noisy, &even] {
            for len in [0, 1, 511, 512, 513, 65_536, 131_073, body.len()] {
                let body = Bytes::copy_from_slice(&body[..len.min(body.len())]);
                for size in [1 << 20, 70_001, 1_000] {
                    let mut pieces: Vec<Bytes> =
                        body.chunks(size).map(|piece| body.slice_ref(piece)).collect();
                    pieces.insert(pieces.len() / 2, Bytes::new());
                    let wire = joined(&deflate(encoding, &pieces));
                    let caps = InflateCaps { max_ratio: u32::MAX, ..CAPS };
                    assert_eq!(inflate(encoding, &wire, caps).unwrap(), body, "{encoding:?} {len} {size}");
                }
            }
        }
    }
}

/// Scenario: a body without encoding, at the cap and past it.
/// Guarantees: it is given back without a copy, and never when it is longer than allowed.
#[test]
fn identity_is_the_same_bytes() {
    let body = Bytes::from(noise(1_000));
    let same = inflate(Encoding::Identity, &body, InflateCaps { max_size: 1_000, max_ratio: 1 }).unwrap();
    assert_eq!(same.as_ptr(), body.as_ptr());
    let caps = InflateCaps { max_size: 999, max_ratio: 1 };
    assert_eq!(inflate(Encoding::Identity, &body, caps), Err(InflateError::TooLarge));
}

/// Scenario: 10 MB of zeros, in ten gzip members and in one zstd frame.
/// Guarantees: a bomb is refused by ratio, or by size where that is the nearer cap.
#[test]
fn bombs_are_refused() {
    let member = foreign_gzip(&vec![0; 1_000_000]);
    let bombs = [
        (Encoding::Gzip, Bytes::from(member.repeat(10))),
        (Encoding::Zstd, packed(Encoding::Zstd, &vec![0; 10_000_000])),
    ];
    for (encoding, bomb) in bombs {
        assert!(bomb.len() < 20_000, "{encoding:?} {}", bomb.len());
        assert_eq!(inflate(encoding, &bomb, CAPS), Err(InflateError::Ratio), "{encoding:?}");
        let caps = InflateCaps { max_size: 1 << 20, max_ratio: u32::MAX };
        assert_eq!(inflate(encoding, &bomb, caps), Err(InflateError::TooLarge), "{encoding:?}");
    }
}

/// Scenario: zeros that end exactly at a cap, or one byte past it.
/// Guarantees: both caps are met to the byte, and the first 64 KiB are free of any ratio.
#[test]
fn caps_are_exact() {
    let zeros = vec![0; 200_000];
    for encoding in COMPRESSED {
        let wire = packed(encoding, &zeros);
        let caps = InflateCaps { max_size: zeros.len(), max_ratio: u32::MAX };
        assert_eq!(inflate(encoding, &wire, caps).unwrap(), zeros, "{encoding:?}");
        let caps = InflateCaps { max_size: zeros.len() - 1, max_ratio: u32::MAX };
        assert_eq!(inflate(encoding, &wire, caps), Err(InflateError::TooLarge), "{encoding:?}");
        let caps = InflateCaps { max_size: 1 << 20, max_ratio: 1 };
        let free = packed(encoding, &zeros[..RATIO_FREE]);
        assert_eq!(inflate(encoding, &free, caps).unwrap().len(), RATIO_FREE, "{encoding:?}");
        let past = packed(encoding, &zeros[..=RATIO_FREE]);
        assert_eq!(inflate(encoding, &past, caps), Err(InflateError::Ratio), "{encoding:?}");
    }
}

/// A source without an end that remembers the longest buffer it was offered.
struct Endless<'a> {
    longest: &'a mut usize,
    given: &'a mut usize,
}

impl Source for Endless<'_> {
    fn read(&mut self, out: &mut Vec<u8>) -> Result<usize, InflateError> {
        let room = out.capacity().saturating_sub(out.len());
        assert!(room > 0, "nothing can be read into a full buffer");
        *self.longest = out.capacity().max(*self.longest);
        *self.given = self.given.saturating_add(room);
        out.resize(out.capacity(), 0);
        Ok(room)
    }
}

/// Scenario: a body that declares 4 GiB and never ends.
/// Guarantees: no buffer is longer than the cap and one byte, the declared length counts only up to
/// 1 MiB, and reading stops one byte past the cap.
#[test]
fn buffers_stay_within_the_cap() {
    for max_size in [0, 1, 700, LARGEST_GUESS, 3 << 20] {
        let (mut longest, mut given) = (0, 0);
        let source = Endless { longest: &mut longest, given: &mut given };
        let caps = InflateCaps { max_size, max_ratio: u32::MAX };
        assert_eq!(gather(source, u32::MAX as usize, 1 << 20, caps), Err(InflateError::TooLarge));
        assert_eq!((longest, given), (max_size + 1, max_size + 1));
    }
}

/// Scenario: an honest small body cut at every byte.
/// Guarantees: no beginning of a body passes for the whole.
#[test]
fn truncation_is_noticed_everywhere() {
    let body = noise(700);
    let mut multi = foreign_gzip(&body).repeat(2);
    multi.truncate(multi.len() - 1);
    assert_eq!(inflate(Encoding::Gzip, &multi.into(), CAPS), Err(InflateError::Corrupt));
    for encoding in COMPRESSED {
        let wire = packed(encoding, &body);
        for len in 0..wire.len() {
            assert_eq!(
                inflate(encoding, &wire.slice(..len), CAPS),
                Err(InflateError::Corrupt),
                "{encoding:?} {len}"
            );
        }
        assert_eq!(inflate(encoding, &wire, CAPS).unwrap(), body);
    }
}

/// Scenario: bytes after the end of a body: zeros, text, the beginning of another member.
/// Guarantees: they are refused, for the next reader may make something else of them.
#[test]
fn trailing_bytes_are_refused() {
    for encoding in COMPRESSED {
        let wire = packed(encoding, b"body");
        for tail in [&b"\0"[..], b"\0\0\0\0\0\0\0\0", b"x", b"\x1f\x8b", &wire[..5]] {
            let padded = joined(&[wire.clone(), Bytes::copy_from_slice(tail)]);
            assert_eq!(inflate(encoding, &padded, CAPS), Err(InflateError::Corrupt), "{encoding:?}");
        }
    }
}

/// Scenario: several members or frames, empty and skippable ones among them, other encoders' too.
/// Guarantees: they inflate to their concatenation.
#[test]
fn members_and_frames_are_joined() {
    let (one, two) = (noise(3_000), b"two".repeat(400));
    let expected = [&one[..], &two[..]].concat();
    for encoding in COMPRESSED {
        let parts = [packed(encoding, &one), packed(encoding, b""), packed(encoding, &two)];
        assert_eq!(inflate(encoding, &joined(&parts), CAPS).unwrap(), expected, "{encoding:?}");
    }
    let wire = [foreign_gzip(&one), foreign_gzip(&two)].concat();
    assert_eq!(inflate(Encoding::Gzip, &wire.into(), CAPS).unwrap(), expected);
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3], &packed(Encoding::Zstd, &one)[..]];
    assert_eq!(inflate(Encoding::Zstd, &skippable.concat().into(), CAPS).unwrap(), one);
}

/// Scenario: empty bodies, bodies of the other encoding, of none, with a broken checksum.
/// Guarantees: they are corrupt, and the thread's contexts work on afterwards.
#[test]
fn wrong_bodies_are_corrupt() {
    let body = noise(2_000);
    let mut broken = packed(Encoding::Gzip, &body).to_vec();
    let at = broken.len() - 6;
    broken[at] ^= 1;
    assert_eq!(inflate(Encoding::Gzip, &broken.into(), CAPS), Err(InflateError::Corrupt));
    for (encoding, other) in [(Encoding::Gzip, Encoding::Zstd), (Encoding::Zstd, Encoding::Gzip)] {
        for wrong in [Bytes::new(), packed(other, &body), body.clone().into(), vec![0; 64].into()] {
            assert_eq!(inflate(encoding, &wrong, CAPS), Err(InflateError::Corrupt), "{encoding:?}");
        }
        assert_eq!(inflate(encoding, &packed(encoding, &body), CAPS).unwrap(), body);
    }
}

/// Scenario: a zstd frame that asks for a window of 16 MiB, and one that asks for 8 MiB.
/// Guarantees: the first is refused before any window is set up, the second read, and the thread
/// keeps neither window.
#[test]
fn zstd_windows_are_capped() {
    // No declared size, window exponent in the second byte, one raw last block of one byte.
    let frame = |log: u8| vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, (log - 10) << 3, 0x09, 0, 0, b'x'];
    assert_eq!(inflate(Encoding::Zstd, &frame(24).into(), CAPS), Err(InflateError::Corrupt));
    assert_eq!(inflate(Encoding::Zstd, &frame(23).into(), CAPS).unwrap(), "x");
    let kept = zstd::IN.take().map_or(0, |context| context.sizeof());
    assert!(kept <= zstd::CONTEXT_KEPT, "{kept}");
}

/// Scenario: zstd frames with a checksum that holds, one that does not, and a dictionary that nobody has.
/// Guarantees: only the first is read.
#[test]
fn zstd_checksums_and_dictionaries() {
    let body = noise(2_000);
    let mut context = CCtx::create();
    context.set_parameter(CParameter::ChecksumFlag(true)).unwrap();
    let mut good = Vec::with_capacity(3_000);
    context.compress2(&mut good, &body).unwrap();
    assert_eq!(inflate(Encoding::Zstd, &good.clone().into(), CAPS).unwrap(), body);
    for at in good.len() - 4..good.len() {
        let mut broken = good.clone();
        broken[at] ^= 1;
        assert_eq!(inflate(Encoding::Zstd, &broken.into(), CAPS), Err(InflateError::Corrupt), "{at}");
    }
    // Descriptor: dictionary id of one byte; one raw last block of one byte.
    let frame = |dictionary| vec![0x28, 0xb5, 0x2f, 0xfd, 0x01, 0, dictionary, 0x09, 0, 0, b'x'];
    assert_eq!(inflate(Encoding::Zstd, &frame(0).into(), CAPS).unwrap(), "x");
    assert_eq!(inflate(Encoding::Zstd, &frame(7).into(), CAPS), Err(InflateError::Corrupt));
}

/// Scenario: a long body compressed and inflated with zstd.
/// Guarantees: what the thread keeps for the next body is bounded, both ways.
#[test]
fn zstd_contexts_stay_small() {
    let wire = packed(Encoding::Zstd, &noise(4 << 20));
    inflate(Encoding::Zstd, &wire, CAPS).unwrap();
    let (input, output) = (zstd::IN.take().unwrap().sizeof(), zstd::OUT.take().unwrap().sizeof());
    assert!(input <= zstd::CONTEXT_KEPT && output <= zstd::CONTEXT_KEPT, "{input} {output}");
}

/// Scenario: encodings as header values.
/// Guarantees: one token is read in any case; lists, parameters and unknown ones are not.
#[test]
fn tokens() {
    assert_eq!(Encoding::from_token(" GZIP "), Some(Encoding::Gzip));
    for encoding in [Encoding::Identity, Encoding::Gzip, Encoding::Zstd] {
        assert_eq!(Encoding::from_token(encoding.token()), Some(encoding));
    }
    for bad in ["", "gzip, zstd", "gzip;q=1", "none", "deflate", "x-gzip"] {
        assert_eq!(Encoding::from_token(bad), None, "{bad}");
    }
}
