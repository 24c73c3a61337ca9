//! How many gzip members or zstd frames a body may have, and that no more than these are ever read.

use super::{super::*, CAPS, foreign_gzip, packed};

/// A skippable frame.
///
/// Source: RFC 8878, section 3.1.2.
fn skippable(content: &[u8]) -> Vec<u8> {
    let len = u32::try_from(content.len()).unwrap();
    [&0x184D_2A50_u32.to_le_bytes(), &len.to_le_bytes(), content].concat()
}

/// Members and frames, and what they hold.
fn parts() -> Vec<(Encoding, Vec<u8>, &'static [u8])> {
    let one = |encoding, content: &'static [u8]| (encoding, packed(encoding, content).to_vec(), content);
    vec![
        one(Encoding::Gzip, b""),
        one(Encoding::Gzip, b"span"),
        (Encoding::Gzip, foreign_gzip(b""), b""),
        one(Encoding::Zstd, b""),
        one(Encoding::Zstd, b"span"),
        (Encoding::Zstd, skippable(b""), b""),
        (Encoding::Zstd, skippable(b"span"), b""),
    ]
}

/// Reads a source until it ends; what it read in all, or why it stopped.
fn drain(source: &mut impl Source) -> Result<Vec<u8>, InflateError> {
    let mut out = Vec::with_capacity(64 << 10);
    while source.read(&mut out)? > 0 {}
    Ok(out)
}

/// Scenario: bodies of 1,024 members or frames and of one more, empty, short and skippable.
/// Guarantees: the first are read to the end, the others are refused for their number, and the
/// thread's contexts work on afterwards.
#[test]
fn at_the_bound() {
    for (encoding, part, content) in parts() {
        let most = Bytes::from(part.repeat(MOST_PARTS));
        let expected = content.repeat(MOST_PARTS);
        assert_eq!(inflate(encoding, &most, CAPS).unwrap(), expected, "{encoding:?} {part:x?}");
        let more = Bytes::from(part.repeat(MOST_PARTS + 1));
        assert_eq!(inflate(encoding, &more, CAPS), Err(InflateError::TooManyParts), "{encoding:?} {part:x?}");
        assert_eq!(inflate(encoding, &most, CAPS).unwrap(), expected, "{encoding:?} {part:x?}");
    }
}

/// Scenario: 1,024 frames of which every second one is skippable, and the same with one more of either kind.
/// Guarantees: both kinds count alike.
#[test]
fn kinds_count_together() {
    let frame = packed(Encoding::Zstd, b"x");
    let most = [&skippable(b"")[..], &frame].concat().repeat(MOST_PARTS / 2);
    assert_eq!(inflate(Encoding::Zstd, &most.clone().into(), CAPS).unwrap(), "x".repeat(MOST_PARTS / 2));
    for last in [&skippable(b"")[..], &frame] {
        let more = Bytes::from([&most, last].concat());
        assert_eq!(inflate(Encoding::Zstd, &more, CAPS), Err(InflateError::TooManyParts));
    }
}

/// Scenario: 4 MiB of members or frames.
/// Guarantees: nothing behind the first 1,024 is read, so that a refusal costs the same however long
/// the body is.
#[test]
fn the_rest_is_not_read() {
    for (encoding, part, _) in parts() {
        let body = part.repeat((4 << 20) / part.len());
        let (outcome, taken) = if encoding == Encoding::Zstd {
            let mut frames = zstd::Frames::new(&body);
            (drain(&mut frames), frames.body.pos())
        } else {
            let mut members = gzip::Members::new(&body);
            (drain(&mut members), body.len() - members.rest.len())
        };
        assert_eq!(outcome, Err(InflateError::TooManyParts), "{encoding:?} {part:x?}");
        assert_eq!(taken, MOST_PARTS * part.len(), "{encoding:?} {part:x?}");
    }
}
