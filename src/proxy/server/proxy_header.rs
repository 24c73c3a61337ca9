//! The PROXY header that a trusted hop puts before a connection's own bytes, versions 1 and 2. It reads the header and not a
//! byte more, and decides what address it names; never whether its sender is believed.
//!
//! Source: `HAProxy`, "The PROXY protocol", sections 2.1 and 2.2.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::config::ProxyProtocol;

/// What version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// What version 1 begins with.
const WORD: &[u8] = b"PROXY ";

/// Longest line of version 1, its end included.
const MAX_LINE: usize = 107;

/// Longest header of version 2, extensions included: what the specification asks receivers to take at least.
const MAX_BINARY: usize = 536;

/// Signature, version and command, family, and length of the rest.
const FIXED: usize = 16;

/// Why a connection has no usable PROXY header.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyError {
    /// The peer left before it said anything, which is its right: many checks of health do no more.
    #[error("the connection ended before its first byte")]
    Left,
    /// The connection broke off.
    #[error("the connection ended before its PROXY header did")]
    Io(#[from] io::Error),
    /// Nothing like a header, or one of a version that is not configured.
    #[error("the connection of a trusted hop has no PROXY header of a version that is configured")]
    Missing,
    /// A header that breaks its own rules or is too long.
    #[error("the PROXY header is malformed")]
    Malformed,
}

/// Reads a header: the address that the hop forwards for; `None` if it speaks for itself (`LOCAL`, `UNKNOWN`).
///
/// # Errors
/// See [`ProxyError`].
pub(super) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    version: ProxyProtocol,
) -> Result<Option<SocketAddr>, ProxyError> {
    let takes = |one| version == one || version == ProxyProtocol::Any;
    // Both versions are longer than this.
    let mut start = [0; SIGNATURE.len()];
    let (first, rest) = start.split_at_mut(1);
    if stream.read(first).await? == 0 {
        return Err(ProxyError::Left);
    }
    stream.read_exact(rest).await?;
    if start == SIGNATURE && takes(ProxyProtocol::V2) {
        let mut header = Vec::with_capacity(MAX_BINARY);
        header.extend_from_slice(&start);
        more(stream, &mut header, FIXED).await?;
        let Some([.., high, low]) = header.first_chunk::<FIXED>() else { return Err(ProxyError::Malformed) };
        let whole = FIXED.saturating_add(u16::from_be_bytes([*high, *low]).into());
        if whole > MAX_BINARY {
            return Err(ProxyError::Malformed);
        }
        more(stream, &mut header, whole).await?;
        binary(&header)
    } else if start.starts_with(WORD) && takes(ProxyProtocol::V1) {
        let mut header = Vec::with_capacity(MAX_LINE);
        header.extend_from_slice(&start);
        // Byte by byte: what follows belongs to somebody else, and the line says its end only there.
        while header.last() != Some(&b'\n') {
            let next = header.len().saturating_add(1);
            if next > MAX_LINE {
                return Err(ProxyError::Malformed);
            }
            more(stream, &mut header, next).await?;
        }
        line(&header)
    } else {
        Err(ProxyError::Missing)
    }
}

/// Reads until the header has this length.
async fn more(stream: &mut (impl AsyncRead + Unpin), header: &mut Vec<u8>, length: usize) -> io::Result<()> {
    let mut missing = length.saturating_sub(header.len());
    while missing > 0 {
        let read = (&mut *stream).take(missing as u64).read_buf(header).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        missing = missing.saturating_sub(read);
    }
    Ok(())
}

/// Version 1: `PROXY TCP4 192.0.2.9 192.0.2.1 4711 443\r\n`.
fn line(header: &[u8]) -> Result<Option<SocketAddr>, ProxyError> {
    let inside = header.strip_prefix(WORD).and_then(|rest| rest.strip_suffix(b"\r\n"));
    let text = inside.and_then(|text| std::str::from_utf8(text).ok()).ok_or(ProxyError::Malformed)?;
    match text.split_once(' ') {
        Some(("TCP4", rest)) => source::<Ipv4Addr>(rest).map(Some),
        Some(("TCP6", rest)) => source::<Ipv6Addr>(rest).map(Some),
        // Whatever stands behind it is to be ignored.
        Some(("UNKNOWN", _)) => return Ok(None),
        _ if text == "UNKNOWN" => return Ok(None),
        _ => None,
    }
    .ok_or(ProxyError::Malformed)
}

/// Two addresses of one family and two ports, of which the first ones count.
fn source<A: FromStr + Into<IpAddr>>(text: &str) -> Option<SocketAddr> {
    let mut words = text.split(' ');
    let mut address = || words.next()?.parse::<A>().ok();
    let (source, _) = (address()?, address()?);
    let (port, _) = (port(words.next()?)?, port(words.next()?)?);
    words.next().is_none().then(|| SocketAddr::new(source.into(), port))
}

/// Digits alone: `parse` would take a sign.
fn port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if digits && text.len() <= 5 { text.parse().ok() } else { None }
}

/// Version 2, of the length that it declares. Extensions behind the addresses are passed over.
fn binary(header: &[u8]) -> Result<Option<SocketAddr>, ProxyError> {
    let (fixed, rest) = header.split_first_chunk::<FIXED>().ok_or(ProxyError::Malformed)?;
    let [.., command, family, _, _] = fixed;
    match (command, family) {
        // LOCAL, for health checks, and a PROXY that names no family: the connection's own address.
        (0x20, _) | (0x21, 0x00) => return Ok(None),
        // TCP over IPv4, over IPv6.
        (0x21, 0x11) => source_of::<4>(rest).map(|(ip, port)| SocketAddr::from((ip, port))),
        (0x21, 0x21) => source_of::<16>(rest).map(|(ip, port)| SocketAddr::from((ip, port))),
        _ => None,
    }
    .map(Some)
    .ok_or(ProxyError::Malformed)
}

/// Two addresses and two ports, of which the first ones count.
fn source_of<const N: usize>(rest: &[u8]) -> Option<([u8; N], u16)> {
    let (source, rest) = rest.split_first_chunk()?;
    let (_, ports) = rest.split_first_chunk::<N>()?;
    let [high, low, _, _] = ports.first_chunk::<4>()?;
    Some((*source, u16::from_be_bytes([*high, *low])))
}

#[cfg(test)]
mod tests;
