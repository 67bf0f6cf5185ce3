//! The header that all messages share (RFC 4271, section 4.1).
//!
//! ```text
//! 16 octets   marker, all ones
//!  2 octets   length of the message with this header
//!  1 octet    type
//! ```

use super::Notification;
use super::notification::{header, message};

/// Length of the header.
pub const HEADER: usize = 19;
/// The longest message (RFC 4271).
pub const MAX: usize = 4096;
/// The longest message where both sides have said so (RFC 8654). Never an OPEN or a KEEPALIVE.
pub const MAX_EXTENDED: usize = 65535;

const MARKER: [u8; 16] = [0xff; 16];

/// The type of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Who is there, and what it can do.
    Open = 1,
    /// Routes.
    Update = 2,
    /// What went wrong; the connection ends with it.
    Notification = 3,
    /// Still there.
    Keepalive = 4,
    /// Asks for all routes again (RFC 2918).
    RouteRefresh = 5,
}

impl Kind {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Open, Self::Update, Self::Notification, Self::Keepalive, Self::RouteRefresh];

    #[inline]
    fn from_wire(kind: u8) -> Option<Self> {
        Some(match kind {
            1 => Self::Open,
            2 => Self::Update,
            3 => Self::Notification,
            4 => Self::Keepalive,
            5 => Self::RouteRefresh,
            _ => return None,
        })
    }

    /// The shortest and the longest message of this type.
    #[inline]
    fn bounds(self, extended: bool) -> (usize, usize) {
        let max = if extended { MAX_EXTENDED } else { MAX };
        match self {
            Self::Open => (HEADER + 10, MAX),
            Self::Update => (HEADER + 4, max),
            Self::Notification => (HEADER + 2, max),
            Self::Keepalive => (HEADER, HEADER),
            // RFC 7313 has an error of its own for a wrong length.
            Self::RouteRefresh => (HEADER, max),
        }
    }
}

/// A message as it lies in a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its type.
    pub kind: Kind,
    /// What follows the header.
    pub body: &'a [u8],
    /// How much of the buffer it takes, header and body.
    pub len: usize,
}

/// The first message in `buf`, or `None` while it is not whole. `extended` allows up to 65,535 bytes: whether this side
/// has offered that (RFC 8654, section 4).
///
/// # Errors
/// A Message Header Error (RFC 4271, section 6.1); seen as soon as the header is there.
#[inline]
pub fn next(buf: &[u8], extended: bool) -> Result<Option<Message<'_>>, Notification> {
    let Some(head) = buf.first_chunk::<HEADER>() else { return Ok(None) };
    let [marker @ .., high, low, kind] = head;
    if *marker != MARKER {
        return Err(not_synchronized());
    }
    let length = [*high, *low];
    let len = usize::from(u16::from_be_bytes(length));
    let Some(kind) = Kind::from_wire(*kind) else {
        let in_range = (HEADER..=if extended { MAX_EXTENDED } else { MAX }).contains(&len);
        return Err(if in_range { bad_type(*kind) } else { bad_length(length) });
    };
    let (min, max) = kind.bounds(extended);
    if len < min || len > max {
        return Err(bad_length(length));
    }
    Ok(buf.get(HEADER..len).map(|body| Message { kind, body, len }))
}

#[cold]
fn not_synchronized() -> Notification {
    Notification::new(message::HEADER, header::NOT_SYNCHRONIZED, [])
}

#[cold]
fn bad_length(length: [u8; 2]) -> Notification {
    Notification::new(message::HEADER, header::BAD_LENGTH, length)
}

#[cold]
fn bad_type(kind: u8) -> Notification {
    Notification::new(message::HEADER, header::BAD_TYPE, [kind])
}

/// Appends a message to `out`; `body` appends what follows the header. It must keep to the length that the neighbour
/// takes.
#[inline]
pub fn write(out: &mut Vec<u8>, kind: Kind, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&MARKER);
    out.extend_from_slice(&[0, 0, kind as u8]);
    body(out);
    let len = out.len() - start;
    debug_assert!(len <= MAX_EXTENDED, "a message of {len} bytes");
    out[start + 16..start + 18].copy_from_slice(&(len as u16).to_be_bytes());
}

/// A KEEPALIVE.
pub const fn keepalive() -> [u8; HEADER] {
    let mut message = [0xff; HEADER];
    message[16] = 0;
    message[17] = HEADER as u8;
    message[18] = Kind::Keepalive as u8;
    message
}
