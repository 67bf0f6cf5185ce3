//! NOTIFICATION (RFC 4271, section 4.5): why a connection ends.
//!
//! ```text
//! 1 octet   error code
//! 1 octet   error subcode
//! n octets  data
//! ```

use std::fmt;

use super::header::{Kind, write};

/// Error codes.
pub mod message {
    /// Message Header Error.
    pub const HEADER: u8 = 1;
    /// OPEN Message Error.
    pub const OPEN: u8 = 2;
    /// UPDATE Message Error.
    pub const UPDATE: u8 = 3;
    /// Hold Timer Expired.
    pub const HOLD_TIMER: u8 = 4;
    /// Finite State Machine Error.
    pub const FSM: u8 = 5;
    /// Cease.
    pub const CEASE: u8 = 6;
    /// ROUTE-REFRESH Message Error (RFC 7313).
    pub const ROUTE_REFRESH: u8 = 7;
}

/// Subcodes of the Message Header Error (RFC 4271, section 6.1).
pub mod header {
    /// Connection Not Synchronized: the marker is not all ones.
    pub const NOT_SYNCHRONIZED: u8 = 1;
    /// Bad Message Length; the data is the length.
    pub const BAD_LENGTH: u8 = 2;
    /// Bad Message Type; the data is the type.
    pub const BAD_TYPE: u8 = 3;
}

/// Subcodes of the OPEN Message Error (RFC 4271, section 6.2).
pub mod open {
    /// Unspecific.
    pub const UNSPECIFIC: u8 = 0;
    /// Unsupported Version Number; the data is the greatest that is supported, 16 bits.
    pub const UNSUPPORTED_VERSION: u8 = 1;
    /// Bad Peer AS.
    pub const BAD_PEER_AS: u8 = 2;
    /// Bad BGP Identifier.
    pub const BAD_IDENTIFIER: u8 = 3;
    /// Unsupported Optional Parameter.
    pub const UNSUPPORTED_PARAMETER: u8 = 4;
    /// Authentication Failure; no longer in use.
    pub const AUTHENTICATION: u8 = 5;
    /// Unacceptable Hold Time.
    pub const HOLD_TIME: u8 = 6;
    /// Unsupported Capability (RFC 5492); the data has the capabilities that are missed.
    pub const UNSUPPORTED_CAPABILITY: u8 = 7;
    /// Role Mismatch (RFC 9234).
    pub const ROLE_MISMATCH: u8 = 11;
}

/// Subcodes of the UPDATE Message Error (RFC 4271, section 6.3).
pub mod update {
    /// Malformed Attribute List.
    pub const MALFORMED_LIST: u8 = 1;
    /// Unrecognized Well-known Attribute.
    pub const UNRECOGNIZED: u8 = 2;
    /// Missing Well-known Attribute; the data is its type.
    pub const MISSING: u8 = 3;
    /// Attribute Flags Error.
    pub const FLAGS: u8 = 4;
    /// Attribute Length Error.
    pub const LENGTH: u8 = 5;
    /// Invalid ORIGIN Attribute.
    pub const ORIGIN: u8 = 6;
    /// AS Routing Loop; no longer in use.
    pub const AS_LOOP: u8 = 7;
    /// Invalid NEXT_HOP Attribute.
    pub const NEXT_HOP: u8 = 8;
    /// Optional Attribute Error.
    pub const OPTIONAL: u8 = 9;
    /// Invalid Network Field.
    pub const NETWORK: u8 = 10;
    /// Malformed AS_PATH.
    pub const AS_PATH: u8 = 11;
}

/// Subcodes of the Finite State Machine Error (RFC 6608).
pub mod fsm {
    /// Unspecified.
    pub const UNSPECIFIED: u8 = 0;
    /// Unexpected message in OpenSent; the data is its type.
    pub const OPEN_SENT: u8 = 1;
    /// Unexpected message in OpenConfirm; the data is its type.
    pub const OPEN_CONFIRM: u8 = 2;
    /// Unexpected message in Established; the data is its type.
    pub const ESTABLISHED: u8 = 3;
}

/// Subcodes of Cease (RFC 4486 and later).
pub mod cease {
    /// Maximum Number of Prefixes Reached.
    pub const MAX_PREFIXES: u8 = 1;
    /// Administrative Shutdown; the data may have words (RFC 9003).
    pub const SHUTDOWN: u8 = 2;
    /// Peer De-configured.
    pub const DECONFIGURED: u8 = 3;
    /// Administrative Reset; the data may have words (RFC 9003).
    pub const RESET: u8 = 4;
    /// Connection Rejected.
    pub const REJECTED: u8 = 5;
    /// Other Configuration Change.
    pub const CONFIGURATION: u8 = 6;
    /// Connection Collision Resolution.
    pub const COLLISION: u8 = 7;
    /// Out of Resources.
    pub const RESOURCES: u8 = 8;
    /// Hard Reset (RFC 8538); the data is another notification, without header.
    pub const HARD_RESET: u8 = 9;
    /// BFD Down (RFC 9384).
    pub const BFD_DOWN: u8 = 10;
}

/// Subcodes of the ROUTE-REFRESH Message Error (RFC 7313).
pub mod route_refresh {
    /// Invalid Message Length; the data is the whole message.
    pub const LENGTH: u8 = 1;
}

/// Why a connection ends.
///
/// `Display` speaks of one that was received; [`Notification::sent`] of one that this side sends.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Notification {
    /// What kind of error, one of [`message`].
    pub code: u8,
    /// Which error.
    pub subcode: u8,
    /// More on it; its form depends on the error.
    pub data: Vec<u8>,
}

impl Notification {
    /// Of its parts.
    pub fn new(code: u8, subcode: u8, data: impl Into<Vec<u8>>) -> Self {
        Self { code, subcode, data: data.into() }
    }

    /// An OPEN Message Error with a subcode of [`open`].
    pub fn open(subcode: u8, data: impl Into<Vec<u8>>) -> Self {
        Self::new(message::OPEN, subcode, data)
    }

    /// An UPDATE Message Error with a subcode of [`update`].
    pub fn update(subcode: u8, data: impl Into<Vec<u8>>) -> Self {
        Self::new(message::UPDATE, subcode, data)
    }

    /// Cease with a subcode of [`cease`].
    pub fn cease(subcode: u8) -> Self {
        Self::new(message::CEASE, subcode, [])
    }

    /// Hold Timer Expired.
    pub fn hold_timer() -> Self {
        Self::new(message::HOLD_TIMER, 0, [])
    }

    /// Finite State Machine Error with a subcode of [`fsm`], for a message that was not due.
    pub fn unexpected(subcode: u8, kind: Kind) -> Self {
        Self::new(message::FSM, subcode, [kind as u8])
    }

    /// Cease, Administrative Shutdown with words for the people at the other end (RFC 9003); what is over 255 bytes of
    /// them is left off, at the border of a character.
    pub fn shutdown(words: Option<&str>) -> Self {
        Self::new(message::CEASE, cease::SHUTDOWN, communication(words))
    }

    /// Cease, Administrative Reset with words (RFC 9003), as [`Notification::shutdown`].
    pub fn reset(words: Option<&str>) -> Self {
        Self::new(message::CEASE, cease::RESET, communication(words))
    }

    /// The same as a Hard Reset (RFC 8538, section 3): routes are not kept. A Hard Reset stays as it is.
    #[must_use]
    pub fn hard(self) -> Self {
        if self.is_hard_reset() {
            return self;
        }
        let mut data = vec![self.code, self.subcode];
        data.extend_from_slice(&self.data);
        Self::new(message::CEASE, cease::HARD_RESET, data)
    }

    /// Whether it is a Hard Reset (RFC 8538).
    pub fn is_hard_reset(&self) -> bool {
        (self.code, self.subcode) == (message::CEASE, cease::HARD_RESET)
    }

    /// What a Hard Reset is for.
    pub fn inner(&self) -> Option<Self> {
        match self.data[..] {
            [code, subcode, ref data @ ..] if self.is_hard_reset() => Some(Self::new(code, subcode, data)),
            _ => None,
        }
    }

    /// The words of an administrative shutdown or reset (RFC 9003), made safe for a terminal and a log: control
    /// characters are escaped, and what is no UTF-8 is replaced.
    pub fn words(&self) -> Option<String> {
        if let Some(inner) = self.inner() {
            // A Hard Reset in a Hard Reset is nobody's; it is not followed further.
            return if inner.is_hard_reset() { None } else { inner.words() };
        }
        if self.code != message::CEASE || !matches!(self.subcode, cease::SHUTDOWN | cease::RESET) {
            return None;
        }
        let (&length, text) = self.data.split_first()?;
        let text = String::from_utf8_lossy(text.get(..usize::from(length))?);
        (!text.is_empty()).then(|| text.chars().fold(String::new(), |words, c| words + &printable(c)))
    }

    /// Reads the body of a message.
    ///
    /// # Errors
    /// A body without code and subcode: Bad Message Length, though there is nobody left to tell.
    pub fn parse(body: &[u8]) -> Result<Self, Self> {
        match body {
            [code, subcode, data @ ..] => Ok(Self::new(*code, *subcode, data)),
            _ => Err(Self::new(message::HEADER, header::BAD_LENGTH, ((body.len() + 19) as u16).to_be_bytes())),
        }
    }

    /// Appends the message to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        write(out, Kind::Notification, |out| {
            out.extend_from_slice(&[self.code, self.subcode]);
            // Within 4096 bytes, whatever was put in.
            out.extend_from_slice(&self.data[..self.data.len().min(super::MAX - super::HEADER - 2)]);
        });
    }

    /// The standards' names alone: `Open Message Error, Bad Peer AS`.
    pub fn names(&self) -> String {
        let code = CODES.iter().find(|row| row.0 == self.code).map_or("unknown error", |row| row.1);
        match TEXTS.iter().find(|row| (row.0, row.1) == (self.code, self.subcode)) {
            Some((_, _, name, _, _)) if !name.is_empty() => format!("{code}, {name}"),
            Some(_) => code.to_owned(),
            None => format!("{code}, subcode {}", self.subcode),
        }
    }

    /// Speaks of it as of one that this side sends.
    pub fn sent(&self) -> impl fmt::Display + '_ {
        Sent(self)
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>, sent: bool) -> fmt::Result {
        let row = TEXTS.iter().find(|row| (row.0, row.1) == (self.code, self.subcode));
        let code = CODES.iter().find(|row| row.0 == self.code);
        match (row, code) {
            (Some((_, _, name, theirs, ours)), Some((_, kind))) => {
                f.write_str(if sent { ours } else { theirs })?;
                if name.is_empty() { write!(f, " ({kind})") } else { write!(f, " ({kind}, {name})") }?;
            }
            (None, Some((_, kind))) if self.subcode == 0 => write!(f, "an error that it does not name ({kind})")?,
            (None, Some((_, kind))) => write!(f, "an unknown error ({kind}, subcode {})", self.subcode)?,
            (_, None) => write!(f, "an unknown error (code {}, subcode {})", self.code, self.subcode)?,
        }
        if let Some(inner) = self.inner().filter(|inner| !inner.is_hard_reset()) {
            f.write_str(": ")?;
            return inner.describe(f, sent);
        }
        if let Some(words) = self.words() {
            return write!(f, ": \"{words}\"");
        }
        if !self.data.is_empty() {
            f.write_str(", data")?;
            self.data.iter().take(32).try_for_each(|byte| write!(f, " {byte:02x}"))?;
            if self.data.len() > 32 {
                write!(f, " … ({} bytes)", self.data.len())?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f, false)
    }
}

struct Sent<'a>(&'a Notification);

impl fmt::Display for Sent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.describe(f, true)
    }
}

fn printable(c: char) -> String {
    // Marks that turn the direction of text would let a neighbour write over the rest of a line.
    let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if c.is_control() || turns { c.escape_default().to_string() } else { c.to_string() }
}

fn communication(words: Option<&str>) -> Vec<u8> {
    let Some(words) = words.filter(|words| !words.is_empty()) else { return Vec::new() };
    let words = &words[..words.floor_char_boundary(255)];
    let mut data = vec![words.len() as u8];
    data.extend_from_slice(words.as_bytes());
    data
}

const CODES: [(u8, &str); 7] = [
    (message::HEADER, "Message Header Error"),
    (message::OPEN, "Open Message Error"),
    (message::UPDATE, "Update Message Error"),
    (message::HOLD_TIMER, "Hold Timer Expired"),
    (message::FSM, "Finite State Machine Error"),
    (message::CEASE, "Cease"),
    (message::ROUTE_REFRESH, "Route-Refresh Message Error"),
];

/// Code, subcode, the standard's name, what it means when the neighbour says it, and when this side says it.
type Text = (u8, u8, &'static str, &'static str, &'static str);

#[rustfmt::skip]
const TEXTS: [Text; 41] = [
    (1, 1, "Connection Not Synchronized", "the neighbour lost track of where our messages begin",
        "the neighbour's bytes are no BGP message"),
    (1, 2, "Bad Message Length", "the neighbour found a message of ours too short or too long",
        "a message of the neighbour is too short or too long"),
    (1, 3, "Bad Message Type", "the neighbour does not know a type of message that we sent",
        "the neighbour sent a message of an unknown type"),
    (2, 0, "Unspecific", "the neighbour refused our OPEN and does not say why", "the neighbour's OPEN is malformed"),
    (2, 1, "Unsupported Version Number", "the neighbour speaks another version of BGP",
        "the neighbour speaks another version of BGP"),
    (2, 2, "Bad Peer AS", "the neighbour refused our AS number", "the neighbour's AS number is not the expected one"),
    (2, 3, "Bad BGP Identifier", "the neighbour refused our router ID",
        "the neighbour's router ID is 0 or the same as ours"),
    (2, 4, "Unsupported Optional Parameter", "the neighbour does not know a parameter of our OPEN",
        "the neighbour's OPEN has a parameter that is unknown here"),
    (2, 5, "Authentication Failure", "the neighbour refused our authentication",
        "the neighbour's authentication is refused"),
    (2, 6, "Unacceptable Hold Time", "the neighbour refused our hold time",
        "the neighbour's hold time is 1 or 2 s, or not acceptable"),
    (2, 7, "Unsupported Capability", "the neighbour misses a capability in our OPEN",
        "the neighbour lacks a capability that is needed"),
    (2, 11, "Role Mismatch", "the neighbour says that its role and ours do not fit together",
        "the neighbour's role and ours do not fit together"),
    (3, 1, "Malformed Attribute List", "the neighbour could not read the attributes of an update of ours",
        "the attributes of an update cannot be read"),
    (3, 2, "Unrecognized Well-known Attribute", "the neighbour does not know a mandatory attribute that we sent",
        "an update has a mandatory attribute that is unknown here"),
    (3, 3, "Missing Well-known Attribute", "the neighbour misses a mandatory attribute in an update of ours",
        "an update lacks a mandatory attribute"),
    (3, 4, "Attribute Flags Error", "the neighbour found wrong flags on an attribute that we sent",
        "an attribute of an update has wrong flags"),
    (3, 5, "Attribute Length Error", "the neighbour found a wrong length on an attribute that we sent",
        "an attribute of an update has a wrong length"),
    (3, 6, "Invalid ORIGIN Attribute", "the neighbour refused an ORIGIN that we sent",
        "an update has an unknown ORIGIN"),
    (3, 7, "AS Routing Loop", "the neighbour found its own AS in a path that we sent", "an update came around"),
    (3, 8, "Invalid NEXT_HOP Attribute", "the neighbour refused a next hop that we sent",
        "an update has an impossible next hop"),
    (3, 9, "Optional Attribute Error", "the neighbour found an error in an optional attribute that we sent",
        "an optional attribute of an update cannot be read"),
    (3, 10, "Invalid Network Field", "the neighbour could not read a prefix that we sent",
        "a prefix in an update cannot be read"),
    (3, 11, "Malformed AS_PATH", "the neighbour could not read an AS path that we sent",
        "an AS path in an update cannot be read"),
    (4, 0, "", "the neighbour heard nothing from us for its hold time",
        "nothing was heard from the neighbour for the hold time"),
    (5, 0, "Unspecified Error", "the neighbour got a message from us that was not due",
        "the neighbour sent a message that was not due"),
    (5, 1, "Receive Unexpected Message in OpenSent State", "the neighbour got something else than our OPEN first",
        "the neighbour sent something else than its OPEN first"),
    (5, 2, "Receive Unexpected Message in OpenConfirm State",
        "the neighbour got something else than a KEEPALIVE after our OPEN",
        "the neighbour sent something else than a KEEPALIVE after its OPEN"),
    (5, 3, "Receive Unexpected Message in Established State",
        "the neighbour got a message from us that is not due in a session",
        "the neighbour sent a message that is not due in a session"),
    (6, 0, "", "the neighbour ended the session and does not say why", "the session was ended"),
    (6, 1, "Maximum Number of Prefixes Reached", "we announced more prefixes than the neighbour takes",
        "the neighbour announced more prefixes than are taken"),
    (6, 2, "Administrative Shutdown", "somebody shut the session down at the neighbour",
        "the session was shut down here"),
    (6, 3, "Peer De-configured", "the neighbour does not have us in its configuration any more",
        "the neighbour was taken out of the configuration here"),
    (6, 4, "Administrative Reset", "somebody reset the session at the neighbour", "the session was reset here"),
    (6, 5, "Connection Rejected", "the neighbour does not take our connection; it may not know us",
        "the neighbour's connection is not taken"),
    (6, 6, "Other Configuration Change", "the neighbour's configuration changed; it will come again",
        "the configuration changed here; the session comes again"),
    (6, 7, "Connection Collision Resolution", "both sides connected at once; the other connection is used",
        "both sides connected at once; the other connection is used"),
    (6, 8, "Out of Resources", "the neighbour is short of memory or other resources",
        "this speaker is short of memory or other resources"),
    (6, 9, "Hard Reset", "the neighbour ended the session and drops our routes",
        "the session was ended, and routes are not kept"),
    (6, 10, "BFD Down", "the neighbour's BFD says that the path to us is down",
        "BFD says that the path to the neighbour is down"),
    (7, 0, "Reserved", "the neighbour refused a route refresh of ours", "a route refresh of the neighbour is refused"),
    (7, 1, "Invalid Message Length", "the neighbour found a wrong length on a route refresh of ours",
        "a route refresh of the neighbour has a wrong length"),
];
