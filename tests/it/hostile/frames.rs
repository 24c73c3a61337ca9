//! HTTP/2 frames and header blocks as bytes, good and bad ones alike, and the reading of what comes back. It holds
//! no rule of the protocol: what a caller asks for is written.

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Source: RFC 9113, section 3.4.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames. Source: RFC 9113, section 6.
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

/// Flags.
pub(super) const END_STREAM: u8 = 1;
pub(super) const ACK: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;

const HEAD: usize = 9;

/// One frame.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = Vec::with_capacity(HEAD + payload.len());
    frame.extend_from_slice(&length[1..]);
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// What every client says first.
pub(super) fn hello() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

/// The number of the `n`th stream of a client.
pub(super) fn stream(n: u32) -> u32 {
    2 * n + 1
}

/// A header block (HPACK, RFC 7541) without Huffman codes.
#[derive(Clone, Debug, Default)]
pub(super) struct Block(pub(super) Vec<u8>);

impl Block {
    /// The pseudo headers of a POST to `path`.
    pub(super) fn post(path: &str) -> Self {
        // Of the static table: 3 is `:method POST`, 6 `:scheme http`, 4 the name `:path`, 1 `:authority`.
        let mut block = Self::default().indexed(3).indexed(6);
        block.0.push(4);
        block.text(path);
        block.0.push(1);
        block.text("gateway");
        block
    }

    /// A field that is in a table.
    pub(super) fn indexed(mut self, index: usize) -> Self {
        self.integer(0x80, 7, index);
        self
    }

    /// A field that no table keeps.
    pub(super) fn literal(mut self, name: &str, value: &str) -> Self {
        self.0.push(0);
        self.text(name);
        self.text(value);
        self
    }

    /// A field that goes into the dynamic table, as its number 62.
    pub(super) fn insert(mut self, name: &str, value: &str) -> Self {
        self.0.push(0x40);
        self.text(name);
        self.text(value);
        self
    }

    fn text(&mut self, text: &str) {
        self.integer(0, 7, text.len());
        self.0.extend_from_slice(text.as_bytes());
    }

    fn integer(&mut self, first: u8, bits: u32, value: usize) {
        let most = (1_usize << bits) - 1;
        if value < most {
            self.0.push(first | u8::try_from(value).unwrap());
            return;
        }
        self.0.push(first | u8::try_from(most).unwrap());
        let mut rest = value - most;
        while rest >= 0x80 {
            self.0.push(0x80 | u8::try_from(rest & 0x7f).unwrap());
            rest >>= 7;
        }
        self.0.push(u8::try_from(rest).unwrap());
    }
}

/// The head of a frame that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Head {
    /// Whether the peer says with it that a stream is over.
    pub(super) fn ends(self, stream: u32) -> bool {
        let is_last = matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0;
        self.stream == stream && (is_last || self.kind == RST_STREAM)
    }
}

/// Takes frames off a stream of bytes.
#[derive(Debug, Default)]
pub(super) struct Frames(BytesMut);

impl Frames {
    /// The next frame with its payload; `None` at the end.
    pub(super) async fn next(&mut self, from: &mut (impl AsyncRead + Unpin)) -> Option<(Head, Vec<u8>)> {
        loop {
            if self.0.len() >= HEAD {
                let length =
                    usize::try_from(u32::from_be_bytes([0, self.0[0], self.0[1], self.0[2]])).unwrap();
                if self.0.len() >= HEAD + length {
                    let stream = u32::from_be_bytes(self.0[5..HEAD].try_into().unwrap());
                    let head = Head { kind: self.0[3], flags: self.0[4], stream };
                    self.0.advance(HEAD);
                    return Some((head, self.0.split_to(length).to_vec()));
                }
            }
            if matches!(from.read_buf(&mut self.0).await, Ok(0) | Err(_)) {
                return None;
            }
        }
    }
}

/// Scenario: the examples of RFC 7541 (C.1.2, C.2.1) and a frame that is read back from two pieces.
/// Guarantees: what the attacks write is what they mean to.
#[tokio::test]
async fn frames_are_what_they_say() {
    let mut block = Block::default();
    block.integer(0, 5, 1337);
    assert_eq!(block.0, [31, 154, 10]);
    let block = Block::default().insert("custom-key", "custom-header").indexed(2);
    assert_eq!(block.0, b"\x40\x0acustom-key\x0dcustom-header\x82");
    let bytes = frame(DATA, END_STREAM, stream(1), b"abc");
    assert_eq!(bytes, b"\0\0\x03\0\x01\0\0\0\x03abc");
    let (first, second) = bytes.split_at(5);
    let mut halves = AsyncReadExt::chain(first, second);
    let (head, payload) = Frames::default().next(&mut halves).await.unwrap();
    assert_eq!((head, payload.as_slice()), (Head { kind: DATA, flags: END_STREAM, stream: 3 }, &b"abc"[..]));
    assert!(head.ends(3) && !head.ends(1));
    assert!(Frames::default().next(&mut &bytes[..8]).await.is_none());
}
