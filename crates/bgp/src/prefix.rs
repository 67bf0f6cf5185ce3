//! Prefixes as the tables hold them, and as they are written in messages (RFC 4271, section 4.3; RFC 7911, section 3).

use std::fmt::Debug;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::Family;

/// A prefix of one family.
pub trait Prefix: Copy + Eq + Ord + Hash + Debug + Send + 'static {
    /// Which.
    const FAMILY: Family;
    /// The greatest length.
    const BITS: u8;

    /// Of a length and the bytes that follow it; what is beyond the length is cleared.
    fn of(length: u8, bytes: &[u8]) -> Self;
    /// Of a length that it can have, and bytes that begin with the address; `None` if they end before it does.
    #[inline]
    fn begin(length: u8, rest: &[u8]) -> Option<Self> {
        rest.get(..bytes(length)).map(|address| Self::of(length, address))
    }
    /// Its length in bits.
    fn length(self) -> u8;
    /// Its address, in the first bytes.
    fn octets(self) -> [u8; 16];

    /// As others write it.
    fn net(self) -> IpNet;
    /// Of a network, if it is of this family.
    fn of_net(net: IpNet) -> Option<Self>;
}

/// An IPv4 prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct V4 {
    address: u32,
    length: u8,
}

/// An IPv6 prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct V6 {
    // In two halves, which need no padding to 16 bytes.
    address: [u64; 2],
    length: u8,
}

impl Prefix for V4 {
    const FAMILY: Family = Family::Ipv4;
    const BITS: u8 = 32;

    #[inline]
    fn of(length: u8, bytes: &[u8]) -> Self {
        let mut octets = [0; 4];
        octets[..bytes.len()].copy_from_slice(bytes);
        let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
        Self { address: u32::from_be_bytes(octets) & mask, length }
    }

    #[inline]
    fn begin(length: u8, rest: &[u8]) -> Option<Self> {
        // Nearly always more follows: then all four octets are read at once.
        let Some(octets) = rest.first_chunk::<4>() else {
            return rest.get(..bytes(length)).map(|address| Self::of(length, address));
        };
        let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
        Some(Self { address: u32::from_be_bytes(*octets) & mask, length })
    }

    #[inline]
    fn length(self) -> u8 {
        self.length
    }

    #[inline]
    fn octets(self) -> [u8; 16] {
        let mut octets = [0; 16];
        octets[..4].copy_from_slice(&self.address.to_be_bytes());
        octets
    }

    fn net(self) -> IpNet {
        IpNet::new_assert(IpAddr::V4(Ipv4Addr::from_bits(self.address)), self.length)
    }

    fn of_net(net: IpNet) -> Option<Self> {
        match net.trunc() {
            IpNet::V4(net) => Some(Self { address: net.addr().to_bits(), length: net.prefix_len() }),
            IpNet::V6(_) => None,
        }
    }
}

impl Prefix for V6 {
    const FAMILY: Family = Family::Ipv6;
    const BITS: u8 = 128;

    #[inline]
    fn of(length: u8, bytes: &[u8]) -> Self {
        let mut octets = [0; 16];
        octets[..bytes.len()].copy_from_slice(bytes);
        let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
        Self { address: halves(u128::from_be_bytes(octets) & mask), length }
    }

    #[inline]
    fn length(self) -> u8 {
        self.length
    }

    #[inline]
    fn octets(self) -> [u8; 16] {
        (u128::from(self.address[0]) << 64 | u128::from(self.address[1])).to_be_bytes()
    }

    fn net(self) -> IpNet {
        IpNet::new_assert(IpAddr::V6(Ipv6Addr::from(self.octets())), self.length)
    }

    fn of_net(net: IpNet) -> Option<Self> {
        match net.trunc() {
            IpNet::V6(net) => Some(Self { address: halves(net.addr().to_bits()), length: net.prefix_len() }),
            IpNet::V4(_) => None,
        }
    }
}

#[allow(clippy::cast_possible_truncation)]
fn halves(bits: u128) -> [u64; 2] {
    [(bits >> 64) as u64, bits as u64]
}

/// A field of prefixes that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A prefix is longer than an address.
    #[error("a prefix has a length of {0} bits")]
    Length(u8),
    /// The field ends within a prefix.
    #[error("the field ends within a prefix")]
    Short,
}

/// Bytes that a prefix of this length takes after its length.
#[inline]
pub fn bytes(length: u8) -> usize {
    usize::from(length).div_ceil(8)
}

/// Reads the whole field and says how many prefixes it has.
///
/// # Errors
/// What of it cannot be read.
pub fn check<P: Prefix>(mut field: &[u8], add_path: bool) -> Result<usize, Malformed> {
    let before = if add_path { 4 } else { 0 };
    let mut count = 0;
    while !field.is_empty() {
        let Some(&length) = field.get(before) else { return Err(Malformed::Short) };
        if length > P::BITS {
            return Err(Malformed::Length(length));
        }
        field = field.get(before + 1 + bytes(length)..).ok_or(Malformed::Short)?;
        count += 1;
    }
    Ok(count)
}

/// The prefixes of a field, with their path identifiers (0 where there are none). Ends where the field cannot be read:
/// [`check`] it before.
pub fn read<P: Prefix>(field: &[u8], add_path: bool) -> impl Iterator<Item = (u32, P)> {
    let mut rest = field;
    std::iter::from_fn(move || {
        let id = if add_path {
            let (id, after) = rest.split_first_chunk::<4>()?;
            rest = after;
            u32::from_be_bytes(*id)
        } else {
            0
        };
        let (&length, after) = rest.split_first()?;
        if length > P::BITS {
            return None;
        }
        let prefix = P::begin(length, after)?;
        rest = &after[bytes(length)..];
        Some((id, prefix))
    })
}

/// Bytes that a prefix takes in a field.
#[inline]
pub fn size<P: Prefix>(prefix: P, add_path: bool) -> usize {
    bytes(prefix.length()) + if add_path { 5 } else { 1 }
}

/// Appends a prefix to a field, with a path identifier if there is one.
#[inline]
pub fn write<P: Prefix>(out: &mut Vec<u8>, id: Option<u32>, prefix: P) {
    if let Some(id) = id {
        out.extend_from_slice(&id.to_be_bytes());
    }
    out.push(prefix.length());
    out.extend_from_slice(&prefix.octets()[..bytes(prefix.length())]);
}
