//! How durations ("250ms", "5s"), sizes ("4KiB", "16MiB") and networks ("10.0.0.0/8") are written in the configuration.
//! It decides spelling only, never a bound.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A number of bytes, written as `512`, `4KiB`, `16MiB` or `1GiB`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl ByteSize {
    /// The number as a `usize`, at most the largest one.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (digits, unit) = SIZES
            .iter()
            .find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)))
            .unwrap_or((text, 1));
        digits
            .trim_end()
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(unit))
            .map(Self)
            .ok_or_else(|| format!("\"{text}\" is no size: write 512, \"4KiB\", \"16MiB\" or \"1GiB\""))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fitting = SIZES.iter().find_map(|(name, unit)| {
            let whole = self.0.checked_div(*unit)?;
            (whole > 0 && self.0.checked_rem(*unit) == Some(0)).then_some((whole, *name))
        });
        match fitting {
            Some((number, "B")) => write!(f, "{number}"),
            Some((number, unit)) => write!(f, "{number}{unit}"),
            None => write!(f, "{}", self.0),
        }
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A number of bytes, or as many as the memory of the process suggests; written `auto`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ShareOfMemory {
    /// Found out at start.
    #[default]
    Auto,
    /// As written.
    Fixed(ByteSize),
}

impl<'de> Deserialize<'de> for ShareOfMemory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "auto" {
            return Ok(Self::Auto);
        }
        text.parse()
            .map(Self::Fixed)
            .map_err(|problem: String| D::Error::custom(format!("{problem}, or auto")))
    }
}

impl Serialize for ShareOfMemory {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Fixed(size) => size.serialize(serializer),
        }
    }
}

/// A network as `10.0.0.0/8` or `2001:db8::/32`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

impl Network {
    /// Whether an address lies in it. An IPv4 address in its IPv6-mapped form is the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        match network {
            Ok(IpNet::V6(network)) if network.addr().to_ipv4_mapped().is_some() => {
                Err(format!("\"{text}\" is IPv4 written as IPv6: write the IPv4 network"))
            }
            Ok(network) => Ok(Self(network)),
            Err(_) => Err(format!(
                "\"{text}\" is no network: write \"10.0.0.0/8\", \"2001:db8::/32\" or one address"
            )),
        }
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// Durations as `250ms`, `5s`, `2m` or `1h`.
pub mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

    /// Reads one.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }

    /// Writes one in the largest unit that is exact.
    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&render(*value))
    }

    /// Reads a duration; the error says how one is written.
    pub fn parse(text: &str) -> Result<Duration, String> {
        UNITS
            .iter()
            .find_map(|(name, millis)| {
                let number = text.strip_suffix(name)?.parse::<u64>().ok()?;
                number.checked_mul(*millis).map(Duration::from_millis)
            })
            .ok_or_else(|| format!("\"{text}\" is no duration: write \"250ms\", \"5s\", \"2m\" or \"1h\""))
    }

    /// Writes a duration in the largest unit that is exact.
    #[must_use]
    pub fn render(value: Duration) -> String {
        let millis = value.as_millis();
        UNITS
            .iter()
            .rev()
            .find(|(_, unit)| millis > 0 && millis.checked_rem(u128::from(*unit)) == Some(0))
            .map_or_else(
                || format!("{millis}ms"),
                |(name, unit)| format!("{}{name}", millis.checked_div(u128::from(*unit)).unwrap_or(0)),
            )
    }
}

/// An IP address with its port, as `0.0.0.0:4318` or `[::]:4318`.
pub mod address {
    use std::net::SocketAddr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    /// Reads one.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| {
            D::Error::custom(format!(
                "\"{text}\" is no address: write IP and port, such as \"0.0.0.0:4318\" or \"[::]:4318\""
            ))
        })
    }

    /// Writes one.
    pub fn serialize<S: Serializer>(value: &SocketAddr, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }
}
