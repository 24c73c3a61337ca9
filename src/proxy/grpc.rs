//! The frame around a gRPC message: five bytes, a flag and a length. One message a call, as unary methods have it.
//! It never inflates and never looks into a message.

#[cfg(test)]
mod tests;

use bytes::Bytes;

/// Bytes before each message.
///
/// Source: gRPC over HTTP/2, "Length-Prefixed-Message".
pub const PREFIX: usize = 5;

/// Why a body is not exactly one framed message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrpcFrameError {
    /// Nothing at all.
    #[error("the call carries no message")]
    Missing,
    /// A flag other than 0 and 1.
    #[error("the compressed flag is neither 0 nor 1")]
    Flag,
    /// The header or the message is cut short.
    #[error("the message is shorter than its frame says")]
    Short,
    /// Bytes follow that are no whole second message.
    #[error("bytes follow the message")]
    Long,
    /// A whole second message follows.
    #[error("the call carries more than one message")]
    Second,
    /// A message that is too long to be framed.
    #[error("the message is longer than a gRPC frame can say")]
    TooLong,
}

/// Takes the one message out of a call's body, without copying it. The flag says whether it is compressed.
///
/// # Errors
/// See [`GrpcFrameError`].
pub fn deframe(bytes: &Bytes) -> Result<(bool, Bytes), GrpcFrameError> {
    if bytes.is_empty() {
        return Err(GrpcFrameError::Missing);
    }
    let (compressed, length) = header(bytes)?;
    let end = length.checked_add(PREFIX).ok_or(GrpcFrameError::Short)?;
    let rest = bytes.get(end..).ok_or(GrpcFrameError::Short)?;
    if rest.is_empty() {
        return Ok((compressed, bytes.slice(PREFIX..end)));
    }
    let second = header(rest).is_ok_and(|(_, length)| rest.len().saturating_sub(PREFIX) >= length);
    Err(if second { GrpcFrameError::Second } else { GrpcFrameError::Long })
}

fn header(bytes: &[u8]) -> Result<(bool, usize), GrpcFrameError> {
    let (&[flag, a, b, c, d], _) = bytes.split_first_chunk::<PREFIX>().ok_or(GrpcFrameError::Short)?;
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).map_err(|_| GrpcFrameError::Short)?;
    match flag {
        0 => Ok((false, length)),
        1 => Ok((true, length)),
        _ => Err(GrpcFrameError::Flag),
    }
}

/// The five bytes that go before a message of `length` bytes.
///
/// # Errors
/// [`GrpcFrameError::TooLong`] for 4 GiB and more.
pub fn frame(compressed: bool, length: usize) -> Result<[u8; PREFIX], GrpcFrameError> {
    let [a, b, c, d] = u32::try_from(length).map_err(|_| GrpcFrameError::TooLong)?.to_be_bytes();
    Ok([u8::from(compressed), a, b, c, d])
}
