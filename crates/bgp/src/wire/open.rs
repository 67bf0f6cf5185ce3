//! OPEN (RFC 4271, section 4.2): who is there, and what it can do.
//!
//! ```text
//! 1 octet   version, 4
//! 2 octets  AS number, or AS_TRANS
//! 2 octets  hold time, seconds
//! 4 octets  BGP identifier
//! 1 octet   length of the optional parameters
//! n octets  optional parameters: type, length, value
//! ```
//!
//! With a first parameter of type 255, two octets of length follow that type, and all parameters after it have two
//! octets of length, too (RFC 9072).

use std::net::Ipv4Addr;

use super::header::{HEADER, Kind, MAX, write};
use super::notification::{header, message, open};
use super::{Capability, Notification, Reader};

/// The version of BGP.
pub const VERSION: u8 = 4;
/// Stands in two octets for an AS number that needs four (RFC 6793).
pub const AS_TRANS: u16 = 23456;

const PARAMETER_CAPABILITIES: u8 = 2;
const EXTENDED: u8 = 255;

/// An OPEN message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The version, 4.
    pub version: u8,
    /// The AS number: that of the four-octet capability where there is one.
    pub asn: u32,
    /// The hold time that is proposed, in seconds; 0 is none.
    pub hold_time: u16,
    /// The BGP identifier.
    pub router_id: Ipv4Addr,
    /// The capabilities, in order.
    pub capabilities: Vec<Capability>,
}

impl Open {
    /// Reads the body of a message.
    ///
    /// # Errors
    /// An OPEN Message Error (RFC 4271, section 6.2): another version, AS 0 (RFC 7607) or AS_TRANS, a hold time of 1 or
    /// 2 s, identifier 0, an optional parameter that is no capabilities, or lengths that do not fit.
    pub fn parse(body: &[u8]) -> Result<Self, Notification> {
        let too_short = || {
            let length = u16::try_from(body.len() + HEADER).unwrap_or(u16::MAX);
            Notification::new(message::HEADER, header::BAD_LENGTH, length.to_be_bytes())
        };
        let (&[version, a, b, c, d, i, j, k, l, length], parameters) =
            body.split_first_chunk().ok_or_else(too_short)?;
        if version != VERSION {
            return Err(Notification::open(open::UNSUPPORTED_VERSION, [0, VERSION]));
        }
        let capabilities = read_parameters(length, parameters)?;
        let four = capabilities.iter().find_map(|capability| match capability {
            Capability::FourOctetAs(asn) => Some(*asn),
            _ => None,
        });
        let two = u16::from_be_bytes([a, b]);
        let asn = four.unwrap_or(u32::from(two));
        if asn == 0 || two == 0 || asn == u32::from(AS_TRANS) {
            return Err(Notification::open(open::BAD_PEER_AS, []));
        }
        let hold_time = u16::from_be_bytes([c, d]);
        if matches!(hold_time, 1 | 2) {
            return Err(Notification::open(open::HOLD_TIME, [c, d]));
        }
        let router_id = Ipv4Addr::new(i, j, k, l);
        if router_id.is_unspecified() {
            return Err(Notification::open(open::BAD_IDENTIFIER, []));
        }
        Ok(Self { version, asn, hold_time, router_id, capabilities })
    }

    /// Appends the message to `out`. Capabilities that would take it over 4096 bytes are left off.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut all = Vec::new();
        for capability in &self.capabilities {
            let before = all.len();
            capability.encode(&mut all);
            // The header, the fixed part, and what RFC 9072 adds.
            if HEADER + 10 + 3 + 3 + all.len() > MAX {
                all.truncate(before);
            }
        }
        write(out, Kind::Open, |out| {
            out.push(self.version);
            out.extend_from_slice(&u16::try_from(self.asn).unwrap_or(AS_TRANS).to_be_bytes());
            out.extend_from_slice(&self.hold_time.to_be_bytes());
            out.extend_from_slice(&self.router_id.octets());
            match all.len() {
                0 => out.push(0),
                // One parameter with all of them is read by everybody.
                length @ 1..=253 => out.extend_from_slice(&[length as u8 + 2, PARAMETER_CAPABILITIES, length as u8]),
                length => {
                    out.extend_from_slice(&[EXTENDED, EXTENDED]);
                    out.extend_from_slice(&(length as u16 + 3).to_be_bytes());
                    out.push(PARAMETER_CAPABILITIES);
                    out.extend_from_slice(&(length as u16).to_be_bytes());
                }
            }
            out.extend_from_slice(&all);
        });
    }

    /// The message.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }
}

fn malformed() -> Notification {
    Notification::open(open::UNSPECIFIC, [])
}

fn read_parameters(length: u8, bytes: &[u8]) -> Result<Vec<Capability>, Notification> {
    let mut reader = Reader(bytes);
    // The length itself means nothing in the extended form, but that it is not 0 (RFC 9072, section 2).
    let extended = length != 0 && bytes.first() == Some(&EXTENDED);
    let announced = if extended {
        reader.u8();
        usize::from(reader.u16().ok_or_else(malformed)?)
    } else {
        usize::from(length)
    };
    if announced != reader.0.len() {
        return Err(malformed());
    }
    let mut capabilities = Vec::new();
    while let Some(kind) = reader.u8() {
        let length = if extended { reader.u16().map(usize::from) } else { reader.u8().map(usize::from) };
        let value = length.and_then(|length| reader.take(length)).ok_or_else(malformed)?;
        if kind != PARAMETER_CAPABILITIES {
            return Err(Notification::open(open::UNSUPPORTED_PARAMETER, []));
        }
        read_capabilities(value, &mut capabilities)?;
    }
    Ok(capabilities)
}

fn read_capabilities(bytes: &[u8], capabilities: &mut Vec<Capability>) -> Result<(), Notification> {
    let mut reader = Reader(bytes);
    while !reader.is_empty() {
        let code = reader.u8().ok_or_else(malformed)?;
        let length = reader.u8().ok_or_else(malformed)?;
        let value = reader.take(usize::from(length)).ok_or_else(malformed)?;
        let capability = Capability::parse(code, value);
        // Any other can be ignored; here the two sides would read AS paths differently.
        if matches!(capability, Capability::Malformed { code: 65, .. }) {
            return Err(malformed());
        }
        capabilities.push(capability);
    }
    Ok(())
}
