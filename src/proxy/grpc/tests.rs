//! The frame around a message, against every way to get it wrong.

use bytes::Bytes;

use super::{GrpcFrameError, PREFIX, deframe, frame};

fn framed(flag: u8, length: u32, message: &[u8]) -> Bytes {
    let mut bytes = vec![flag];
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(message);
    bytes.into()
}

/// Scenario: one message, compressed or not, empty or not.
/// Guarantees: the flag and the message come back, and the message is a slice of the body, not a copy.
#[test]
fn one_message_is_taken_out() {
    for (flag, message) in [(0, &b"spans"[..]), (1, b"gzip"), (0, b"")] {
        let body = framed(flag, u32::try_from(message.len()).unwrap(), message);
        let (compressed, found) = deframe(&body).unwrap();
        assert_eq!((compressed, &found[..]), (flag == 1, message));
        if !message.is_empty() {
            assert_eq!(found.as_ptr(), body[PREFIX..].as_ptr());
        }
    }
}

/// Scenario: bodies that are not exactly one message.
/// Guarantees: each is refused, and a second message is told from stray bytes.
#[test]
fn anything_else_is_refused() {
    let two = [&framed(0, 1, b"a")[..], &framed(0, 1, b"b")].concat();
    for (body, error) in [
        (Bytes::new(), GrpcFrameError::Missing),
        (Bytes::from_static(&[0, 0, 0, 0]), GrpcFrameError::Short),
        (framed(0, 4, b"abc"), GrpcFrameError::Short),
        (framed(0, u32::MAX, b"abc"), GrpcFrameError::Short),
        (framed(2, 3, b"abc"), GrpcFrameError::Flag),
        (framed(0, 2, b"abc"), GrpcFrameError::Long),
        (framed(0, 1, b"a\x00\x00\x00\x00\x09tail"), GrpcFrameError::Long),
        (Bytes::from(two), GrpcFrameError::Second),
    ] {
        assert_eq!(deframe(&body), Err(error), "{body:?}");
    }
}

/// Scenario: a frame is made for a message and read back; another is asked for 4 GiB.
/// Guarantees: what `frame` writes `deframe` reads, and a length that does not fit is an error, not a wrong length.
#[test]
fn a_frame_is_read_back() {
    let message = [7_u8; 300];
    let body = Bytes::from([&frame(true, message.len()).unwrap()[..], &message].concat());
    assert_eq!(deframe(&body), Ok((true, Bytes::from(message.to_vec()))));
    assert_eq!(frame(false, 1 << 32), Err(GrpcFrameError::TooLong));
}
