//! Address families, and communities: the small vocabulary that all parts share.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An address family with unicast routes (RFC 4760).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// AFI 1, SAFI 1.
    Ipv4,
    /// AFI 2, SAFI 1.
    Ipv6,
}

impl Family {
    /// All that are known.
    pub const ALL: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    /// Of an AFI and a SAFI, if it is one of ours.
    pub fn from_wire(afi: u16, safi: u8) -> Option<Self> {
        match (afi, safi) {
            (1, 1) => Some(Self::Ipv4),
            (2, 1) => Some(Self::Ipv6),
            _ => None,
        }
    }

    /// The address family identifier. The SAFI is 1, unicast.
    pub fn afi(self) -> u16 {
        match self {
            Self::Ipv4 => 1,
            Self::Ipv6 => 2,
        }
    }

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "ipv4-unicast",
            Self::Ipv6 => "ipv6-unicast",
        })
    }
}

/// A community (RFC 1997), written `64512:100`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Community(pub u32);

impl Community {
    /// `NO_EXPORT`: not beyond the own autonomous system.
    pub const NO_EXPORT: Self = Self(0xffff_ff01);
    /// `NO_ADVERTISE`: to nobody.
    pub const NO_ADVERTISE: Self = Self(0xffff_ff02);
    /// `NO_EXPORT_SUBCONFED`: to no external neighbour.
    pub const NO_EXPORT_SUBCONFED: Self = Self(0xffff_ff03);
    /// `LLGR_STALE` (RFC 9494): a last resort.
    pub const LLGR_STALE: Self = Self(0xffff_0006);
    /// `NO_LLGR` (RFC 9494): not to be kept for long.
    pub const NO_LLGR: Self = Self(0xffff_0007);
    /// `GRACEFUL_SHUTDOWN` (RFC 8326): the least preferred.
    pub const GRACEFUL_SHUTDOWN: Self = Self(0xffff_0000);
}

const NAMED: [(&str, Community); 6] = [
    ("no-export", Community::NO_EXPORT),
    ("no-advertise", Community::NO_ADVERTISE),
    ("no-export-subconfed", Community::NO_EXPORT_SUBCONFED),
    ("llgr-stale", Community::LLGR_STALE),
    ("no-llgr", Community::NO_LLGR),
    ("graceful-shutdown", Community::GRACEFUL_SHUTDOWN),
];

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMED.iter().find(|(_, c)| c == self) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "{}:{}", self.0 >> 16, self.0 & 0xffff),
        }
    }
}

/// What is wrong with a community's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no community; write it as AS:NUMBER (64512:100), as one number, or by its name (no-export)")]
pub struct NoCommunity(String);

impl FromStr for Community {
    type Err = NoCommunity;

    /// # Errors
    /// Something else than `AS:NUMBER` (16 bits each), a number of 32 bits, or a well-known name.
    fn from_str(text: &str) -> Result<Self, NoCommunity> {
        let wrong = || NoCommunity(text.to_owned());
        if let Some((_, known)) = NAMED.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
            return Ok(*known);
        }
        match text.split_once(':') {
            Some((high, low)) => {
                let (high, low): (u16, u16) = (high.parse().map_err(|_| wrong())?, low.parse().map_err(|_| wrong())?);
                Ok(Self(u32::from(high) << 16 | u32::from(low)))
            }
            None => text.parse().map(Self).map_err(|_| wrong()),
        }
    }
}

/// A large community (RFC 8092), written `64512:1:2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LargeCommunity {
    /// Who defines its meaning: an autonomous system.
    pub global: u32,
    /// What it defines.
    pub local: (u32, u32),
}

impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.global, self.local.0, self.local.1)
    }
}

/// What is wrong with a large community's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no large community; write it as AS:NUMBER:NUMBER (64512:1:2)")]
pub struct NoLargeCommunity(String);

impl FromStr for LargeCommunity {
    type Err = NoLargeCommunity;

    /// # Errors
    /// Something else than three numbers of 32 bits with colons between.
    fn from_str(text: &str) -> Result<Self, NoLargeCommunity> {
        let wrong = || NoLargeCommunity(text.to_owned());
        let parts: Vec<u32> = text.split(':').map(str::parse).collect::<Result<_, _>>().map_err(|_| wrong())?;
        match parts[..] {
            [global, a, b] => Ok(Self { global, local: (a, b) }),
            _ => Err(wrong()),
        }
    }
}

/// Written as people write it.
macro_rules! text_in_serde {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
text_in_serde!(Community);
text_in_serde!(LargeCommunity);
