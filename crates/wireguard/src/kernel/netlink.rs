//! Netlink messages as bytes: written into a growing buffer, read without copying (netlink(7)). All integers are of
//! the machine's own byte order unless said otherwise.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

/// `NLM_F_REQUEST`.
pub(crate) const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`.
pub(crate) const ACK: u16 = 0x4;
/// `NLM_F_DUMP`.
pub(crate) const DUMP: u16 = 0x300;
/// `NLM_F_EXCL`.
pub(crate) const EXCL: u16 = 0x200;
/// `NLM_F_CREATE`.
pub(crate) const CREATE: u16 = 0x400;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLA_F_NESTED: u16 = 0x8000;
const NLA_TYPE_MASK: u16 = 0x3fff;
const HEADER: usize = 16;

/// A request that is being written:
///
/// ```text
/// | length: u32 | type: u16 | flags: u16 | sequence: u32 | port: u32 | family's header | attributes … |
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A message of a type with flags and the header of its family.
    pub(crate) fn new(kind: u16, flags: u16, family_header: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(family_header);
        Self { bytes }
    }

    /// Adds an attribute.
    pub(crate) fn put(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Adds a text attribute, ended by a zero.
    pub(crate) fn put_str(&mut self, kind: u16, text: &str) {
        self.put(kind, &[text.as_bytes(), &[0]].concat());
    }

    /// Begins a nested attribute; [`Message::end`] with what this gives closes it.
    pub(crate) fn begin(&mut self, kind: u16) -> usize {
        let at = self.bytes.len();
        self.put(kind | NLA_F_NESTED, &[]);
        at
    }

    /// Ends the nested attribute that began at `at`.
    pub(crate) fn end(&mut self, at: usize) {
        let length = u16::try_from(self.bytes.len() - at).unwrap_or(u16::MAX);
        self.bytes[at..at + 2].copy_from_slice(&length.to_ne_bytes());
    }

    /// Bytes so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The whole message with its length filled in.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes
    }
}

/// The attributes in `bytes` as type (without flags) and value; what is cut short ends them.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & NLA_TYPE_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The integer at the start of an attribute's value, if it is long enough.
pub(crate) fn u16_of(value: &[u8]) -> Option<u16> {
    u16_at(value, 0)
}

/// The integer at the start of an attribute's value, if it is long enough.
pub(crate) fn u32_of(value: &[u8]) -> Option<u32> {
    value.get(..4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// The integer at the start of an attribute's value, if it is long enough.
pub(crate) fn u64_of(value: &[u8]) -> Option<u64> {
    value.get(..8)?.try_into().ok().map(u64::from_ne_bytes)
}

/// The text of an attribute, without the zero that ends it.
pub(crate) fn text_of(value: &[u8]) -> String {
    String::from_utf8_lossy(value.split(|c| *c == 0).next().unwrap_or_default()).into_owned()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

/// What one datagram of the kernel's says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The messages' bodies: family's header and attributes.
    pub(crate) bodies: Vec<Vec<u8>>,
    /// The end was said: by a `DONE`, by an acknowledgement, or by an error (its errno).
    pub(crate) end: Option<i32>,
}

/// Reads the messages in a datagram that answers a request.
pub(crate) fn read_answer(bytes: &[u8]) -> Answer {
    let mut answer = Answer::default();
    for (kind, body) in messages(bytes) {
        if kind == NLMSG_ERROR || kind == NLMSG_DONE {
            let errno = body.get(..4).and_then(|b| b.try_into().ok()).map_or(0, i32::from_ne_bytes);
            answer.end = Some(errno.saturating_abs());
            break;
        }
        answer.bodies.push(body.to_vec());
    }
    answer
}

/// The messages in a datagram as type and body; what is cut short ends them.
pub(crate) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_of(bytes)?).ok()?;
        let kind = u16_at(bytes, 4)?;
        let body = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

/// A netlink socket. The kernel answers a request before `send` returns, so that waiting for it blocks nobody.
pub(crate) struct Socket(OwnedFd);

impl Socket {
    /// Opens one of the protocol, in the calling thread's network namespace.
    pub(crate) fn open(protocol: SockProtocol) -> io::Result<Self> {
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(5))?;
        Ok(Self(fd))
    }

    /// Sends a request and gives the bodies of the answer's messages; the kernel's error becomes ours.
    pub(crate) fn request(&self, message: Message) -> io::Result<Vec<Vec<u8>>> {
        send(self.0.as_raw_fd(), &message.finish(), MsgFlags::empty())?;
        let mut bodies = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let length = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let answer = read_answer(&buffer[..length]);
            bodies.extend(answer.bodies);
            match answer.end {
                Some(0) => return Ok(bodies),
                Some(errno) => return Err(io::Error::from_raw_os_error(errno)),
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn attributes_are_padded_and_nested() {
        let mut message = Message::new(7, REQUEST | ACK, &[1, 2, 3, 4]);
        message.put(1, &[9]);
        let nest = message.begin(2);
        message.put_str(3, "wg0");
        message.end(nest);
        let bytes = message.finish();
        let expected = if cfg!(target_endian = "little") {
            vec![
                40, 0, 0, 0, 7, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 0, 1, 0, 9, 0, 0, 0, 12, 0, 2, 0x80, 8,
                0, 3, 0, b'w', b'g', b'0', 0,
            ]
        } else {
            vec![
                0, 0, 0, 40, 0, 7, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 0, 5, 0, 1, 9, 0, 0, 0, 0, 12, 0x80, 2, 0,
                8, 0, 3, b'w', b'g', b'0', 0,
            ]
        };
        assert_eq!(bytes, expected);
        let read: Vec<_> = attributes(&bytes[20..]).collect();
        assert_eq!(read[0], (1, &[9][..]));
        assert_eq!(attributes(read[1].1).map(|(k, v)| (k, text_of(v))).collect::<Vec<_>>(), [(3, "wg0".to_owned())]);
    }

    #[test]
    fn an_error_ends_an_answer() {
        let mut error = Message::new(NLMSG_ERROR, 0, &(-19_i32).to_ne_bytes()).finish();
        error.extend(Message::new(9, 0, &[]).finish());
        assert_eq!(read_answer(&error), Answer { bodies: vec![], end: Some(19) });
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_answer(&bytes);
            let _ = attributes(&bytes).count();
        }
    }
}
