//! Control packets (RFC 5880, section 4).

use std::fmt;

use thiserror::Error;

/// Octets of a control packet without authentication.
pub const LENGTH: usize = 24;

const VERSION: u8 = 1;

const POLL: u8 = 0x20;
const FINAL: u8 = 0x10;
const CONTROL_PLANE_INDEPENDENT: u8 = 0x08;
const AUTHENTICATED: u8 = 0x04;
const DEMAND: u8 = 0x02;
const MULTIPOINT: u8 = 0x01;

/// How a system sees a session (RFC 5880, section 4.1, `Sta`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Held down by its system's wish.
    AdminDown,
    /// The other system is not heard.
    Down,
    /// The other system is heard, but it has not said that it hears this one.
    Init,
    /// Packets pass both ways.
    Up,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AdminDown => "AdminDown",
            Self::Down => "Down",
            Self::Init => "Init",
            Self::Up => "Up",
        })
    }
}

/// Why a session last changed its state: a code of five bits (RFC 5880, section 4.1, `Diag`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Diagnostic(u8);

impl Diagnostic {
    /// Nothing has happened.
    pub const NONE: Self = Self(0);
    /// Nothing came for the detection time.
    pub const TIME_EXPIRED: Self = Self(1);
    /// The other system said that its side is down.
    pub const NEIGHBOR_DOWN: Self = Self(3);
    /// Somebody wants the session down.
    pub const ADMINISTRATIVELY_DOWN: Self = Self(7);

    /// The lower five bits.
    pub fn from_bits(bits: u8) -> Self {
        Self(bits & 0x1f)
    }

    /// The code, less than 32.
    pub fn bits(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            0 => "no diagnostic",
            1 => "control detection time expired",
            2 => "echo function failed",
            3 => "neighbor signaled session down",
            4 => "forwarding plane reset",
            5 => "path down",
            6 => "concatenated path down",
            7 => "administratively down",
            8 => "reverse concatenated path down",
            other => return write!(f, "diagnostic {other}"),
        })
    }
}

impl fmt::Debug for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Diagnostic({}: {self})", self.0)
    }
}

/// A control packet without an authentication section.
///
/// ```text
///  0                   1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |Vers |  Diag   |Sta|P|F|C|A|D|M|  Detect Mult  |    Length     |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |                       My Discriminator                        |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |                      Your Discriminator                       |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |                    Desired Min TX Interval                    |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |                   Required Min RX Interval                    |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |                 Required Min Echo RX Interval                 |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// ```
///
/// All numbers are big-endian, all intervals in microseconds. `A` and `M` are never set, and Required Min Echo RX
/// Interval is written as zero (no echoes are answered) and not read (none are sent).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Why the sender's state is what it is.
    pub diagnostic: Diagnostic,
    /// The sender's state.
    pub state: State,
    /// The sender wants an answer with `final_` set.
    pub poll: bool,
    /// This is the answer to a poll.
    pub final_: bool,
    /// The sender's detection goes on while its control plane is down.
    pub control_plane_independent: bool,
    /// The sender wants no periodic packets while both sides are up.
    pub demand: bool,
    /// How many of the sender's packets must be missing for the path to be down; not zero.
    pub multiplier: u8,
    /// The sender's number for the session; not zero.
    pub my_discriminator: u32,
    /// The receiver's number for the session as the sender knows it; zero when it does not.
    pub your_discriminator: u32,
    /// How often the sender would like to send, at most.
    pub desired_min_tx: u32,
    /// How often the sender can be sent to, at most; zero wants no periodic packets.
    pub required_min_rx: u32,
}

/// Why a packet is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Of another version.
    #[error("the version is {0}, not 1")]
    Version(u8),
    /// Shorter than a packet must be.
    #[error("{0} octets are too few for a control packet")]
    Short(usize),
    /// Its length field can't be true.
    #[error("the length field says {said}, the packet has {got} octets")]
    Length {
        /// The field.
        said: u8,
        /// The octets that came.
        got: usize,
    },
    /// A multiplier of zero.
    #[error("the detection multiplier is zero")]
    Multiplier,
    /// The multipoint bit, which RFC 5880 keeps clear.
    #[error("the multipoint bit is set")]
    Multipoint,
    /// No number for the session.
    #[error("the sender's discriminator is zero")]
    MyDiscriminator,
    /// The number of another session.
    #[error("discriminator {0} is not of this session")]
    YourDiscriminator(u32),
    /// No number of the receiver in a state in which the sender must know it.
    #[error("the receiver's discriminator is zero in state {0}")]
    Unanswered(State),
    /// An authentication section that is well formed; nothing authenticates here.
    #[error("it is authenticated ({0}), which is not supported: configure the peer without authentication")]
    Authenticated(Authentication),
    /// An authentication section that is not well formed.
    #[error("the authentication section (type {kind}, {length} octets) is malformed")]
    MalformedAuthentication {
        /// Auth Type.
        kind: u8,
        /// Auth Len.
        length: u8,
    },
}

/// The types of authentication sections (RFC 5880, sections 4.2 to 4.4).
///
/// ```text
///  0                   1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |   Auth Type   |   Auth Len    |  Auth Key ID  |   Password…   |  1: Auth Len 4 to 19
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |   Auth Type   |   Auth Len    |  Auth Key ID  |   Reserved    |  2, 3: Auth Len 24; 4, 5: Auth Len 28
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |                        Sequence Number                        |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |                     Key or digest…                            |
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authentication {
    /// A password in the clear.
    SimplePassword,
    /// An MD5 digest, the sequence number now and then increased.
    KeyedMd5,
    /// An MD5 digest, the sequence number increased with every packet.
    MeticulousMd5,
    /// A SHA-1 digest, the sequence number now and then increased.
    KeyedSha1,
    /// A SHA-1 digest, the sequence number increased with every packet.
    MeticulousSha1,
}

impl fmt::Display for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SimplePassword => "simple password",
            Self::KeyedMd5 => "keyed MD5",
            Self::MeticulousMd5 => "meticulous keyed MD5",
            Self::KeyedSha1 => "keyed SHA1",
            Self::MeticulousSha1 => "meticulous keyed SHA1",
        })
    }
}

impl Packet {
    /// Reads the payload of a datagram, with all checks of RFC 5880, section 6.8.6, that need no session.
    ///
    /// # Errors
    /// The first check that fails, in the section's order.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let Some(header) = bytes.first_chunk::<LENGTH>() else { return Err(Refusal::Short(bytes.len())) };
        let [first, flags, multiplier, length, ..] = *header;
        if first >> 5 != VERSION {
            return Err(Refusal::Version(first >> 5));
        }
        let authenticated = flags & AUTHENTICATED != 0;
        let least = if authenticated { LENGTH + 2 } else { LENGTH };
        let Some(section) = bytes.get(LENGTH..usize::from(length)).filter(|_| usize::from(length) >= least) else {
            return Err(Refusal::Length { said: length, got: bytes.len() });
        };
        if multiplier == 0 {
            return Err(Refusal::Multiplier);
        }
        if flags & MULTIPOINT != 0 {
            return Err(Refusal::Multipoint);
        }
        let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let packet = Self {
            diagnostic: Diagnostic::from_bits(first),
            state: [State::AdminDown, State::Down, State::Init, State::Up][usize::from(flags >> 6)],
            poll: flags & POLL != 0,
            final_: flags & FINAL != 0,
            control_plane_independent: flags & CONTROL_PLANE_INDEPENDENT != 0,
            demand: flags & DEMAND != 0,
            multiplier,
            my_discriminator: number(4),
            your_discriminator: number(8),
            desired_min_tx: number(12),
            required_min_rx: number(16),
        };
        if packet.my_discriminator == 0 {
            return Err(Refusal::MyDiscriminator);
        }
        if packet.your_discriminator == 0 && packet.state > State::Down {
            return Err(Refusal::Unanswered(packet.state));
        }
        if authenticated {
            return Err(authentication(section));
        }
        Ok(packet)
    }

    /// The payload of the datagram.
    pub fn to_bytes(&self) -> [u8; LENGTH] {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let mut bytes = [0; LENGTH];
        bytes[0] = VERSION << 5 | self.diagnostic.bits();
        bytes[1] = (self.state as u8) << 6
            | flag(self.poll, POLL)
            | flag(self.final_, FINAL)
            | flag(self.control_plane_independent, CONTROL_PLANE_INDEPENDENT)
            | flag(self.demand, DEMAND);
        bytes[2] = self.multiplier;
        bytes[3] = LENGTH as u8;
        let numbers =
            [self.my_discriminator, self.your_discriminator, self.desired_min_tx, self.required_min_rx].into_iter();
        for (place, number) in bytes[4..].chunks_exact_mut(4).zip(numbers) {
            place.copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }
}

/// Says why an authentication section is refused: it always is.
fn authentication(section: &[u8]) -> Refusal {
    let (kind, length) = (section[0], section[1]);
    let authentication = match (kind, length) {
        (1, 4..=19) => Authentication::SimplePassword,
        (2, 24) => Authentication::KeyedMd5,
        (3, 24) => Authentication::MeticulousMd5,
        (4, 28) => Authentication::KeyedSha1,
        (5, 28) => Authentication::MeticulousSha1,
        _ => return Refusal::MalformedAuthentication { kind, length },
    };
    if usize::from(length) != section.len() {
        return Refusal::MalformedAuthentication { kind, length };
    }
    Refusal::Authenticated(authentication)
}

#[cfg(test)]
mod tests;
