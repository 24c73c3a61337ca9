//! Any bytes as a compressed body, or as what a body is made of. Four bytes of options come first:
//! encoding and how the body is made, longest output, ratio, repetitions.

use std::io::{self, Read};

use bytes::Bytes;
use flate2::bufread::{GzDecoder, MultiGzDecoder};
use spangate::otlp::compression::{Encoding, InflateCaps, InflateError, deflate, inflate};

use super::within;

/// Output that no ratio is asked of.
const RATIO_FREE: usize = 64 << 10;
/// Beside the output: what a thread keeps to work with, and the output's last growth.
const AT_ALL: usize = 256 << 10;
/// Longest content that a body is made of.
const LONGEST: usize = 128 << 10;

const ZSTD: u8 = 1;
const MADE: u8 = 2;
const TWICE: u8 = 4;
const PADDED: u8 = 8;

/// Most gzip members or zstd frames in one body.
const MOST_PARTS: usize = 1_024;
/// Compressed bytes that may give nothing.
const SLACK: usize = 64 << 10;

pub(crate) fn hold(data: &[u8]) {
    let Some((&[choice, size, ratio, times], rest)) = data.split_first_chunk() else { return };
    let encoding = if choice & ZSTD == 0 { Encoding::Gzip } else { Encoding::Zstd };
    let caps = InflateCaps {
        max_size: (1_usize << (size & 0x1F).min(18)).saturating_sub(usize::from(size >> 5)),
        max_ratio: if ratio == u8::MAX { u32::MAX } else { ratio.into() },
    };
    if choice & MADE == 0 {
        drop(held_to_caps(encoding, &Bytes::copy_from_slice(rest), caps));
        return;
    }
    let content = rest.repeat((1 + usize::from(times) * 64).min(1 + LONGEST / (1 + rest.len())));
    let (before, after) = content.split_at(content.len() / (1 + usize::from(choice >> 4)));
    let pieces = [before, after].map(Bytes::copy_from_slice);
    // Empty members or frames in front: from none to twice as many as a body may have.
    let padding = if choice & PADDED == 0 { 0 } else { usize::from(times) * 8 };
    let mut body = deflate(encoding, &[]).concat().repeat(padding);
    body.extend(deflate(encoding, &pieces).concat());
    let mut expected = content;
    if choice & TWICE != 0 {
        body.extend_from_within(..);
        expected.extend_from_within(..);
    }
    let body = Bytes::from(body);
    let inflated = held_to_caps(encoding, &body, caps);
    let parts = (padding + 1) * if choice & TWICE == 0 { 1 } else { 2 };
    if parts > MOST_PARTS {
        assert!(inflated.is_err_and(|error| error != InflateError::Corrupt));
    } else if expected.len() <= longest(&body, caps) {
        assert_eq!(inflated.expect("what was made here"), expected);
    } else {
        assert!(matches!(inflated, Err(InflateError::TooLarge | InflateError::Ratio)), "{inflated:?}");
    }
}

fn longest(body: &Bytes, caps: InflateCaps) -> usize {
    let ratio = usize::try_from(caps.max_ratio).expect("64 bits");
    caps.max_size.min(body.len().saturating_mul(ratio).max(RATIO_FREE))
}

fn held_to_caps(encoding: Encoding, body: &Bytes, caps: InflateCaps) -> Result<Bytes, InflateError> {
    let longest = longest(body, caps);
    let inflated = within(AT_ALL + 2 * longest, || inflate(encoding, body, caps));
    assert_eq!(inflated, inflate(encoding, body, caps), "a body left something behind");
    match (&inflated, streamed(encoding, body, longest)) {
        (Ok(inflated), streamed) => {
            assert!(inflated.len() <= longest);
            assert_eq!(streamed.as_deref(), Some(&inflated[..]), "another reader reads another body");
        }
        (Err(InflateError::Corrupt), streamed) => {
            assert!(streamed.is_none_or(|out| body.is_empty() || out.len() > longest));
        }
        (Err(InflateError::Empty), _) => assert!(encoding == Encoding::Gzip && body.len() > SLACK),
        (Err(InflateError::TooManyParts), _) => assert!(parts(encoding, body) > MOST_PARTS),
        (Err(InflateError::TooLarge | InflateError::Ratio), streamed) => {
            assert!(streamed.is_none_or(|out| out.len() > longest));
        }
    }
    inflated
}

/// The body as the decoders' own streams read it, up to one byte past the longest; `None` where they fail.
fn streamed(encoding: Encoding, body: &Bytes, longest: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let most = longest as u64 + 1;
    let read = if encoding == Encoding::Gzip {
        MultiGzDecoder::new(&body[..]).take(most).read_to_end(&mut out)
    } else {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(&body[..]).expect("a context");
        decoder.window_log_max(23).expect("a window of 8 MiB");
        decoder.take(most).read_to_end(&mut out)
    };
    read.is_ok().then_some(out)
}

/// The gzip members or zstd frames that a body is made of, as far as they can be read, and one that cannot.
fn parts(encoding: Encoding, body: &Bytes) -> usize {
    let mut rest = &body[..];
    let mut parts = 0;
    while !rest.is_empty() {
        parts += 1;
        if encoding == Encoding::Gzip {
            let mut member = GzDecoder::new(rest);
            if io::copy(&mut member, &mut io::sink()).is_err() {
                break;
            }
            rest = member.into_inner();
        } else {
            let Ok(len) = zstd::zstd_safe::find_frame_compressed_size(rest) else { break };
            rest = &rest[len..];
        }
    }
    parts
}
