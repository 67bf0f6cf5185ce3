//! Capabilities (RFC 5492): what a speaker can do, in its OPEN.
//!
//! ```text
//! 1 octet   code
//! 1 octet   length of the value
//! n octets  value
//! ```

use std::fmt;

use super::Reader;
use crate::config::Role;

/// A capability. Those that are read elsewhere in this crate have their parts; all others are kept as they are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Capability {
    /// Routes of a family (RFC 4760).
    Multiprotocol {
        /// The address family identifier.
        afi: u16,
        /// The subsequent one.
        safi: u8,
    },
    /// ROUTE-REFRESH (RFC 2918).
    RouteRefresh,
    /// Next hops of another family (RFC 8950): family (AFI, SAFI) of routes and AFI of their next hops.
    ExtendedNextHop(Vec<(u16, u16, u16)>),
    /// Messages of up to 65,535 bytes (RFC 8654).
    ExtendedMessage,
    /// The role (RFC 9234) as on the wire; see [`Role::from_wire`].
    Role(u8),
    /// Graceful restart (RFC 4724).
    GracefulRestart {
        /// The R bit: it has restarted, and does not wait for others' End-of-RIB.
        restarting: bool,
        /// The N bit (RFC 8538): a NOTIFICATION that is no Hard Reset does not drop routes.
        notification: bool,
        /// For how long routes shall be kept, in seconds, 12 bits.
        time: u16,
        /// AFI, SAFI, and the F bit: whether its forwarding went on.
        families: Vec<(u16, u8, bool)>,
    },
    /// AS numbers of 32 bits, with the own (RFC 6793).
    FourOctetAs(u32),
    /// Several paths a prefix (RFC 7911): AFI, SAFI, and 1 to receive, 2 to send, 3 for both.
    AddPath(Vec<(u16, u8, u8)>),
    /// Begin and end of a refresh (RFC 7313).
    EnhancedRefresh,
    /// Long-lived graceful restart (RFC 9494): AFI, SAFI, the F bit, seconds (24 bits).
    LongLivedGracefulRestart(Vec<(u16, u8, bool, u32)>),
    /// One whose value is not what its standard says. It is ignored.
    Malformed {
        /// Which.
        code: u8,
        /// Its value.
        value: Vec<u8>,
    },
    /// Any other.
    Unknown {
        /// Which.
        code: u8,
        /// Its value.
        value: Vec<u8>,
    },
}

use Capability as C;

/// A 12-bit number in the first two octets of the graceful restart capability.
const TIME: u16 = 0x0fff;
const RESTARTING: u16 = 0x8000;
const NOTIFICATION: u16 = 0x4000;
const FORWARDING: u8 = 0x80;

impl Capability {
    /// Its code.
    pub fn code(&self) -> u8 {
        match self {
            C::Multiprotocol { .. } => 1,
            C::RouteRefresh => 2,
            C::ExtendedNextHop(_) => 5,
            C::ExtendedMessage => 6,
            C::Role(_) => 9,
            C::GracefulRestart { .. } => 64,
            C::FourOctetAs(_) => 65,
            C::AddPath(_) => 69,
            C::EnhancedRefresh => 70,
            C::LongLivedGracefulRestart(_) => 71,
            C::Malformed { code, .. } | C::Unknown { code, .. } => *code,
        }
    }

    /// Of a code and a value.
    pub fn parse(code: u8, value: &[u8]) -> Self {
        known(code, value).unwrap_or_else(|| C::Malformed { code, value: value.to_vec() })
    }

    /// Appends code, length and value. Of lists that do not fit into 255 octets the rest is left off.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut value = Vec::new();
        match self {
            C::Multiprotocol { afi, safi } => {
                value.extend_from_slice(&afi.to_be_bytes());
                value.extend_from_slice(&[0, *safi]);
            }
            C::RouteRefresh | C::ExtendedMessage | C::EnhancedRefresh => {}
            C::ExtendedNextHop(families) => {
                for (afi, safi, next_hop) in families.iter().take(42) {
                    [afi, safi, next_hop].iter().for_each(|part| value.extend_from_slice(&part.to_be_bytes()));
                }
            }
            C::Role(role) => value.push(*role),
            C::GracefulRestart { restarting, notification, time, families } => {
                let flags = if *restarting { RESTARTING } else { 0 } | if *notification { NOTIFICATION } else { 0 };
                value.extend_from_slice(&(flags | time.min(&TIME)).to_be_bytes());
                for (afi, safi, forwarding) in families.iter().take(63) {
                    value.extend_from_slice(&afi.to_be_bytes());
                    value.extend_from_slice(&[*safi, if *forwarding { FORWARDING } else { 0 }]);
                }
            }
            C::FourOctetAs(asn) => value.extend_from_slice(&asn.to_be_bytes()),
            C::AddPath(families) => {
                for (afi, safi, mode) in families.iter().take(63) {
                    value.extend_from_slice(&afi.to_be_bytes());
                    value.extend_from_slice(&[*safi, *mode]);
                }
            }
            C::LongLivedGracefulRestart(families) => {
                for (afi, safi, forwarding, time) in families.iter().take(36) {
                    value.extend_from_slice(&afi.to_be_bytes());
                    value.extend_from_slice(&[*safi, if *forwarding { FORWARDING } else { 0 }]);
                    value.extend_from_slice(&(*time).min(0x00ff_ffff).to_be_bytes()[1..]);
                }
            }
            C::Malformed { value: raw, .. } | C::Unknown { value: raw, .. } => {
                value.extend_from_slice(&raw[..raw.len().min(255)]);
            }
        }
        out.extend_from_slice(&[self.code(), value.len() as u8]);
        out.extend_from_slice(&value);
    }
}

/// `None`: the value is not what the standard of this code says.
fn known(code: u8, value: &[u8]) -> Option<Capability> {
    let flag = |ours: Capability| value.is_empty().then_some(ours);
    Some(match code {
        1 => {
            let &[a, b, _, safi] = value else { return None };
            C::Multiprotocol { afi: u16::from_be_bytes([a, b]), safi }
        }
        2 => return flag(C::RouteRefresh),
        5 => C::ExtendedNextHop(list(value, |&[a, b, c, d, e, f]| {
            Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]), u16::from_be_bytes([e, f])))
        })?),
        6 => return flag(C::ExtendedMessage),
        9 => {
            let &[role] = value else { return None };
            C::Role(role)
        }
        64 => {
            let mut reader = Reader(value);
            let head = reader.u16()?;
            C::GracefulRestart {
                restarting: head & RESTARTING != 0,
                notification: head & NOTIFICATION != 0,
                time: head & TIME,
                families: list(reader.0, |&[a, b, safi, flags]| {
                    Some((u16::from_be_bytes([a, b]), safi, flags & FORWARDING != 0))
                })?,
            }
        }
        65 => C::FourOctetAs(u32::from_be_bytes(value.try_into().ok()?)),
        // Any other mode makes the whole capability one that is not understood (RFC 7911, section 4).
        69 => C::AddPath(list(value, |&[a, b, safi, mode]| {
            (1..=3).contains(&mode).then_some((u16::from_be_bytes([a, b]), safi, mode))
        })?),
        70 => return flag(C::EnhancedRefresh),
        71 => C::LongLivedGracefulRestart(list(value, |&[a, b, safi, flags, x, y, z]| {
            let time = u32::from_be_bytes([0, x, y, z]);
            Some((u16::from_be_bytes([a, b]), safi, flags & FORWARDING != 0, time))
        })?),
        _ => C::Unknown { code, value: value.to_vec() },
    })
}

/// All of a value as entries of `N` octets.
fn list<const N: usize, T>(value: &[u8], entry: impl Fn(&[u8; N]) -> Option<T>) -> Option<Vec<T>> {
    let (entries, rest) = value.as_chunks::<N>();
    rest.is_empty().then(|| entries.iter().map(entry).collect())?
}

/// As `tombolo bgp neighbors` and logs name it.
impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            C::Multiprotocol { afi, safi } => match crate::Family::from_wire(*afi, *safi) {
                Some(family) => write!(f, "multiprotocol {family}"),
                None => write!(f, "multiprotocol {afi}/{safi}"),
            },
            C::RouteRefresh => f.write_str("route-refresh"),
            C::ExtendedNextHop(_) => f.write_str("extended-next-hop"),
            C::ExtendedMessage => f.write_str("extended-message"),
            C::Role(role) => match Role::from_wire(*role) {
                Some(role) => write!(f, "role {role}"),
                None => write!(f, "role {role}"),
            },
            C::GracefulRestart { restarting, time, .. } => {
                write!(f, "graceful-restart {time}s{}", if *restarting { " restarting" } else { "" })
            }
            C::FourOctetAs(asn) => write!(f, "four-octet-as {asn}"),
            C::AddPath(_) => f.write_str("add-path"),
            C::EnhancedRefresh => f.write_str("enhanced-route-refresh"),
            C::LongLivedGracefulRestart(_) => f.write_str("long-lived-graceful-restart"),
            C::Malformed { code, value } => {
                write!(f, "code {code} ignored: its {} octets are not what the standard says", value.len())
            }
            C::Unknown { code, .. } => write!(f, "code {code}"),
        }
    }
}

impl Role {
    /// Its number (RFC 9234, section 4.1).
    pub fn to_wire(self) -> u8 {
        match self {
            Self::Provider => 0,
            Self::RouteServer => 1,
            Self::RouteServerClient => 2,
            Self::Customer => 3,
            Self::Peer => 4,
        }
    }

    /// Of its number, if it has one.
    pub fn from_wire(role: u8) -> Option<Self> {
        [Self::Provider, Self::RouteServer, Self::RouteServerClient, Self::Customer, Self::Peer]
            .into_iter()
            .find(|r| r.to_wire() == role)
    }

    /// The only role that the other side can have (RFC 9234, section 4.2).
    #[must_use]
    pub fn counterpart(self) -> Self {
        match self {
            Self::Provider => Self::Customer,
            Self::Customer => Self::Provider,
            Self::RouteServer => Self::RouteServerClient,
            Self::RouteServerClient => Self::RouteServer,
            Self::Peer => Self::Peer,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Provider => "provider",
            Self::RouteServer => "route-server",
            Self::RouteServerClient => "route-server-client",
            Self::Customer => "customer",
            Self::Peer => "peer",
        })
    }
}
