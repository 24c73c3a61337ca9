//! Any bytes as the body of a gRPC call.

use bytes::Bytes;
use spangate::proxy::grpc::{GrpcFrameError, PREFIX, deframe, frame};

use super::within;

/// The first frame of some bytes, said once more: flag, message, rest.
fn split(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[flag, a, b, c, d], rest) = bytes.split_first_chunk::<PREFIX>()?;
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
    let (message, rest) = rest.split_at_checked(length)?;
    (flag <= 1).then_some((flag, message, rest))
}

pub(crate) fn hold(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    let taken = within(64, || deframe(&body));
    match (split(data), taken) {
        (Some((flag, message, [])), taken) => {
            assert_eq!(taken, Ok((flag == 1, Bytes::copy_from_slice(message))));
            let head = frame(flag == 1, message.len()).expect("a message that was framed");
            assert_eq!([&head[..], message].concat(), data);
        }
        (Some((_, _, rest)), taken) => {
            let second = split(rest).is_some();
            assert_eq!(taken, Err(if second { GrpcFrameError::Second } else { GrpcFrameError::Long }));
        }
        (None, taken) => {
            let error = match data {
                [] => GrpcFrameError::Missing,
                [2..=255, _, _, _, _, ..] => GrpcFrameError::Flag,
                _ => GrpcFrameError::Short,
            };
            assert_eq!(taken, Err(error));
        }
    }
}
