//! Whose request it is: the connection's own address, or the one that a trusted hop forwards for. It believes nobody who is
//! not configured, and what it cannot read it leaves out: then the hop itself is the client.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::Network;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Most entries of `X-Forwarded-For` that are looked at: each of them but the last is a hop of the operator's own.
const MOST_ENTRIES: usize = 32;

/// The load balancers and proxies that are believed about a sender's address.
#[derive(Clone, Debug, Default)]
pub struct Hops(Arc<[Network]>);

impl From<&[Network]> for Hops {
    fn from(networks: &[Network]) -> Self {
        Self(networks.into())
    }
}

impl Hops {
    /// Whether an address is one of theirs.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// The sender of a request that came in from `peer`: if that is a hop, the last address in `X-Forwarded-For` that is none.
    ///
    /// Each hop appends the address that it was asked from, so that the last entry is the peer's own word; further ones
    /// are believed only as far as those behind them are hops too. If all are hops, the first of them is the sender.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        if self.0.is_empty() || !self.trusts(peer) {
            return peer;
        }
        self.forwarded(headers).unwrap_or(peer)
    }

    /// `None` where nothing is said, or nothing that can be read.
    fn forwarded(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let lines: Vec<&HeaderValue> = headers.get_all(FORWARDED_FOR).iter().collect();
        let mut entries = lines.iter().rev().flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
        let mut found = None;
        for entry in entries.by_ref().take(MOST_ENTRIES) {
            let address = entry_address(entry)?;
            found = Some(address);
            if !self.trusts(address) {
                return found;
            }
        }
        // A chain that does not end is no chain of hops.
        found.filter(|_| entries.next().is_none())
    }
}

/// An address as proxies write it: bare, with a port, or in brackets. Anything else (`unknown`, nothing) is none.
fn entry_address(entry: &[u8]) -> Option<IpAddr> {
    /// The longest address with brackets and port.
    const LONGEST: usize = 64;

    if entry.len() > LONGEST {
        return None;
    }
    let text = std::str::from_utf8(entry).ok()?.trim_matches([' ', '\t']);
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address = bare
        .map_or_else(|| text.parse(), |text| text.parse().map(IpAddr::V6))
        .or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()))
        .ok()?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PEER: &str = "10.0.0.1";

    fn hops() -> Hops {
        let networks = ["10.0.0.0/8", "2001:db8::/32"].map(|text| text.parse().unwrap());
        Hops::from(&networks[..])
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn client(peer: &str, lines: &[&str]) -> IpAddr {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        hops().client(ip(peer), &headers)
    }

    /// Scenario: chains of one and more hops, written in every usual way, over one line and several.
    /// Guarantees: the client is the last address that is not a hop's; what stands before it is never looked at.
    #[test]
    fn the_last_stranger_is_the_client() {
        for (lines, expected) in [
            (&["192.0.2.9"][..], "192.0.2.9"),
            (&["192.0.2.9:4711"], "192.0.2.9"),
            (&["[2001:db9::7]:4711"], "2001:db9::7"),
            (&["[2001:db9::7]"], "2001:db9::7"),
            (&["2001:db9::7"], "2001:db9::7"),
            (&["::ffff:192.0.2.9"], "192.0.2.9"),
            (&["198.51.100.1, 192.0.2.9"], "192.0.2.9"),
            (&["garbage, 192.0.2.9, 10.9.9.9,2001:db8::1"], "192.0.2.9"),
            (&["198.51.100.1", "192.0.2.9, 10.9.9.9", " 10.8.8.8 "], "192.0.2.9"),
            (&["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
        ] {
            assert_eq!(client(PEER, lines), ip(expected), "{lines:?}");
            assert_eq!(client("::ffff:10.0.0.1", lines), ip(expected), "{lines:?}");
        }
    }

    /// Scenario: a header from a peer that is no hop, no header, garbage where the client should stand, endless chains.
    /// Guarantees: the client is the peer itself.
    #[test]
    fn nobody_else_is_believed() {
        assert_eq!(client("192.0.2.1", &["198.51.100.1"]), ip("192.0.2.1"));
        assert_eq!(Hops::default().client(ip(PEER), &HeaderMap::new()), ip(PEER));
        let endless = vec!["10.1.1.1"; 10_000].join(",");
        let stranger_first = format!("192.0.2.9,{endless}");
        for lines in [
            &[][..],
            &[""],
            &["unknown"],
            &["192.0.2.9, "],
            &["192.0.2.9, garbage"],
            &["192.0.2.9, [10.1.1.1]"],
            &["192.0.2.9, 10.1.1.1.1, 10.1.1.1"],
            &["192.0.2.9", "10.1.1.1:99999"],
            &[&endless],
            &[&stranger_first],
        ] {
            assert_eq!(client(PEER, lines), ip(PEER), "{lines:?}");
        }
    }

    proptest! {
        /// Scenario: any bytes in any number of lines, from a hop and from a stranger.
        /// Guarantees: a stranger is always itself; from a hop the client is the hop or an address that the header holds.
        #[test]
        fn no_header_makes_up_an_address(lines in prop::collection::vec("[ -~]{0,40}|[0-9a-f.:,\\[\\] ]{0,40}", 0..5)) {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            prop_assert_eq!(client("192.0.2.1", &lines), ip("192.0.2.1"));
            let found = client(PEER, &lines);
            let holds = lines.join(",").split(',').any(|entry| entry_address(entry.as_bytes()) == Some(found));
            prop_assert!(found == ip(PEER) || holds, "{}", found);
        }
    }
}
