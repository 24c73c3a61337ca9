//! PROXY headers, good, forged and broken, byte by byte.

use proptest::prelude::*;

use super::*;

/// What was read of some bytes, and how many of them were taken.
fn read_all(bytes: &[u8], version: ProxyProtocol) -> (Result<Option<SocketAddr>, ProxyError>, usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut stream = bytes;
    let result = runtime.block_on(read(&mut stream, version));
    let taken = bytes.len().saturating_sub(stream.len());
    (result, taken)
}

fn address(bytes: &[u8], version: ProxyProtocol) -> Result<Option<SocketAddr>, ProxyError> {
    read_all(bytes, version).0
}

/// A header of version 2 that declares `length`.
fn v2(command: u8, family: u8, length: u16, rest: &[u8]) -> Vec<u8> {
    [&SIGNATURE[..], &[command, family], &length.to_be_bytes(), rest].concat()
}

fn v4_addresses() -> Vec<u8> {
    [&[192, 0, 2, 9][..], &[10, 0, 0, 1], &4711_u16.to_be_bytes(), &443_u16.to_be_bytes()].concat()
}

fn v6_addresses() -> Vec<u8> {
    let source: Ipv6Addr = "2001:db8::7".parse().unwrap();
    [&source.octets()[..], &[0; 16], &4711_u16.to_be_bytes(), &443_u16.to_be_bytes()].concat()
}

/// Scenario: every form of both versions, with and without extensions, with bytes of the connection behind it.
/// Guarantees: the source is found, hops that speak for themselves are told apart, and what follows is left unread.
#[test]
fn good_headers() {
    let extended = [v4_addresses(), vec![4, 0, 100], vec![0; 100]].concat();
    let long = [v4_addresses(), vec![0; 508]].concat();
    let four = Some("192.0.2.9:4711".parse().unwrap());
    let six = Some("[2001:db8::7]:4711".parse().unwrap());
    let v1 = |text: &str| text.as_bytes().to_vec();
    for (header, version, expected) in [
        (v1("PROXY TCP4 192.0.2.9 10.0.0.1 4711 443\r\n"), ProxyProtocol::V1, four),
        (v1("PROXY TCP6 2001:db8::7 ::1 4711 443\r\n"), ProxyProtocol::V1, six),
        (v1("PROXY UNKNOWN\r\n"), ProxyProtocol::V1, None),
        (v1("PROXY UNKNOWN ff:: ff:: 1 garbage\r\n"), ProxyProtocol::V1, None),
        (v2(0x21, 0x11, 12, &v4_addresses()), ProxyProtocol::V2, four),
        (v2(0x21, 0x11, 115, &extended), ProxyProtocol::V2, four),
        (v2(0x21, 0x11, 520, &long), ProxyProtocol::V2, four),
        (v2(0x21, 0x21, 36, &v6_addresses()), ProxyProtocol::V2, six),
        (v2(0x20, 0x00, 0, &[]), ProxyProtocol::V2, None),
        (v2(0x20, 0x11, 12, &v4_addresses()), ProxyProtocol::V2, None),
        (v2(0x21, 0x00, 3, &[1, 2, 3]), ProxyProtocol::V2, None),
    ] {
        for version in [version, ProxyProtocol::Any] {
            let (result, taken) = read_all(&[&header[..], b"GET / HTTP/1.1\r\n"].concat(), version);
            assert_eq!(result.unwrap(), expected, "{header:x?}");
            assert_eq!(taken, header.len(), "{header:x?}");
        }
    }
}

/// Scenario: no header, headers of the other version, and headers that break a rule or declare a wrong length.
/// Guarantees: none of them names an address, and none makes more than the longest header be read.
#[test]
fn bad_headers() {
    let endless = [b"PROXY TCP4 ", &[b'1'; 1000][..]].concat();
    let v1 = |text: &str| text.as_bytes().to_vec();
    for bad in [
        v1("GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        v1("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00".to_vec(),
        endless,
        v1("PROXY TCP4 192.0.2.9 10.0.0.1 4711 443\n"),
        v1("PROXY TCP4 192.0.2.9 10.0.0.1 4711\r\n"),
        v1("PROXY TCP4 192.0.2.9 10.0.0.1 4711 443 1\r\n"),
        v1("PROXY TCP4  192.0.2.9 10.0.0.1 4711 443\r\n"),
        v1("PROXY TCP4 192.0.2.9 10.0.0.1 +471 443\r\n"),
        v1("PROXY TCP4 192.0.2.9 10.0.0.1 65536 443\r\n"),
        v1("PROXY TCP4 192.0.2.256 10.0.0.1 4711 443\r\n"),
        v1("PROXY TCP4 2001:db8::7 ::1 4711 443\r\n"),
        v1("PROXY TCP6 192.0.2.9 10.0.0.1 4711 443\r\n"),
        v1("PROXY UDP4 192.0.2.9 10.0.0.1 4711 443\r\n"),
        v1("proxy TCP4 192.0.2.9 10.0.0.1 4711 443\r\n"),
        v2(0x21, 0x11, 11, &v4_addresses()),
        v2(0x21, 0x11, 13, &v4_addresses()),
        v2(0x21, 0x11, 0, &[]),
        v2(0x21, 0x21, 12, &v4_addresses()),
        v2(0x21, 0x11, 521, &[0; 521]),
        v2(0x21, 0x11, u16::MAX, &vec![0; 70_000]),
        v2(0x11, 0x11, 12, &v4_addresses()),
        v2(0x22, 0x11, 12, &v4_addresses()),
        v2(0x21, 0x12, 12, &v4_addresses()),
        v2(0x21, 0x31, 216, &[0; 216]),
    ] {
        let (result, taken) = read_all(&bad, ProxyProtocol::Any);
        assert!(result.is_err(), "{bad:x?}: {result:?}");
        assert!(taken <= MAX_BINARY, "{taken} of {bad:x?}");
    }
    let text = b"PROXY TCP4 192.0.2.9 10.0.0.1 4711 443\r\n";
    assert!(matches!(address(text, ProxyProtocol::V2), Err(ProxyError::Missing)));
    let bytes = v2(0x21, 0x11, 12, &v4_addresses());
    assert!(matches!(address(&bytes, ProxyProtocol::V1), Err(ProxyError::Missing)));
}

/// Scenario: good headers cut off at every byte.
/// Guarantees: no beginning of a header passes for one.
#[test]
fn cut_headers() {
    let lines = [&b"PROXY TCP4 192.0.2.9 10.0.0.1 4711 443\r\n"[..], b"PROXY UNKNOWN\r\n"];
    let bytes = [v2(0x21, 0x21, 36, &v6_addresses()), v2(0x20, 0, 0, &[])];
    for header in lines.into_iter().chain(bytes.iter().map(Vec::as_slice)) {
        for length in 0..header.len() {
            assert!(address(&header[..length], ProxyProtocol::Any).is_err(), "{length} of {header:x?}");
        }
    }
}

proptest! {
    /// Scenario: any bytes, bare and behind the beginnings of both versions.
    /// Guarantees: reading ends, takes no more than the longest header, and finds the same whatever follows.
    #[test]
    fn any_bytes(
        start in prop::sample::select(vec![
            &b""[..], b"PROXY ", b"PROXY TCP4 1.2.3.4 5.6.7.8 ", b"\r\n\r\n\0\r\nQUIT\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00",
        ]),
        rest in prop::collection::vec(any::<u8>(), 0..700),
    ) {
        let bytes = [start, &rest].concat();
        let (result, taken) = read_all(&bytes, ProxyProtocol::Any);
        prop_assert!(taken <= MAX_BINARY);
        if let Ok(found) = result {
            let (alone, all) = read_all(&bytes[..taken], ProxyProtocol::Any);
            prop_assert_eq!((alone.unwrap(), all), (found, taken));
        }
    }

    /// Scenario: any source address and port, written in both versions.
    /// Guarantees: exactly they are read.
    #[test]
    fn addresses_come_back(source in any::<SocketAddr>(), port in any::<u16>()) {
        let (word, ip, family) = match source.ip() {
            IpAddr::V4(ip) => ("TCP4", ip.octets().to_vec(), 0x11),
            IpAddr::V6(ip) => ("TCP6", ip.octets().to_vec(), 0x21),
        };
        let plain = SocketAddr::new(source.ip(), source.port());
        let text = format!("PROXY {word} {0} {0} {1} {port}\r\n", source.ip(), source.port());
        prop_assert_eq!(address(text.as_bytes(), ProxyProtocol::V1).unwrap(), Some(plain));
        let ports = [source.port().to_be_bytes(), port.to_be_bytes()].concat();
        let rest = [&ip[..], &ip, &ports].concat();
        let bytes = v2(0x21, family, u16::try_from(rest.len()).unwrap(), &rest);
        prop_assert_eq!(address(&bytes, ProxyProtocol::V2).unwrap(), Some(plain));
    }
}
