//! What goes over the network: four messages, told apart by their first four bytes (whitepaper, section 5.4).
//!
//! Numbers are little-endian. A message of another type or length is no message.

/// The length of a data message's header.
pub const HEADER: usize = 16;
/// The length of the authentication tag at a data message's end.
pub const TAG: usize = 16;
/// What a data message is longer than its plaintext.
pub const OVERHEAD: usize = HEADER + TAG;

/// The length of an [`Initiation`].
pub const INITIATION: usize = 148;
/// The length of a [`Response`].
pub const RESPONSE: usize = 92;
/// The length of a [`CookieReply`].
pub const COOKIE_REPLY: usize = 64;

const TYPE_INITIATION: u32 = 1;
const TYPE_RESPONSE: u32 = 2;
const TYPE_COOKIE_REPLY: u32 = 3;
const TYPE_DATA: u32 = 4;

/// The length of the two codes at the end of a handshake message.
const CODES: usize = 32;

/// A message of the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// Type 1.
    Initiation(Initiation<'a>),
    /// Type 2.
    Response(Response<'a>),
    /// Type 3.
    CookieReply(CookieReply<'a>),
}

/// The first message of a handshake.
///
/// ```text
///  0        1        2        3
/// +--------+--------+--------+--------+
/// |    1   |        reserved: 0       |  0
/// +--------+--------+--------+--------+
/// |          sender's index           |  4
/// +--------+--------+--------+--------+
/// |        ephemeral key (32)         |  8
/// +--------+--------+--------+--------+
/// |     static key, sealed (48)       |  40
/// +--------+--------+--------+--------+
/// |      timestamp, sealed (28)       |  88
/// +--------+--------+--------+--------+
/// |            mac1 (16)              |  116
/// +--------+--------+--------+--------+
/// |            mac2 (16)              |  132
/// +--------+--------+--------+--------+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Initiation<'a>(&'a [u8; INITIATION]);

/// The answer to an [`Initiation`].
///
/// ```text
///  0        1        2        3
/// +--------+--------+--------+--------+
/// |    2   |        reserved: 0       |  0
/// +--------+--------+--------+--------+
/// |          sender's index           |  4
/// +--------+--------+--------+--------+
/// |         receiver's index          |  8
/// +--------+--------+--------+--------+
/// |        ephemeral key (32)         |  12
/// +--------+--------+--------+--------+
/// |       nothing, sealed (16)        |  44
/// +--------+--------+--------+--------+
/// |            mac1 (16)              |  60
/// +--------+--------+--------+--------+
/// |            mac2 (16)              |  76
/// +--------+--------+--------+--------+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response<'a>(&'a [u8; RESPONSE]);

/// What a device under load answers a handshake message with.
///
/// ```text
///  0        1        2        3
/// +--------+--------+--------+--------+
/// |    3   |        reserved: 0       |  0
/// +--------+--------+--------+--------+
/// |         receiver's index          |  4
/// +--------+--------+--------+--------+
/// |            nonce (24)             |  8
/// +--------+--------+--------+--------+
/// |       cookie, sealed (32)         |  32
/// +--------+--------+--------+--------+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CookieReply<'a>(&'a [u8; COOKIE_REPLY]);

/// Writes a data message's header.
///
/// ```text
///  0        1        2        3
/// +--------+--------+--------+--------+
/// |    4   |        reserved: 0       |  0
/// +--------+--------+--------+--------+
/// |         receiver's index          |  4
/// +--------+--------+--------+--------+
/// |            counter (8)            |  8
/// +--------+--------+--------+--------+
/// |    padded packet, sealed (≥ 16)   |  16
/// +--------+--------+--------+--------+
/// ```
pub(crate) fn write_data_header(header: &mut [u8; HEADER], receiver: u32, counter: u64) {
    header[..4].copy_from_slice(&TYPE_DATA.to_le_bytes());
    header[4..8].copy_from_slice(&receiver.to_le_bytes());
    header[8..].copy_from_slice(&counter.to_le_bytes());
}

/// The receiver's index in a data message; `None` when it is none, or shorter than one can be.
pub fn receiver_index(message: &[u8]) -> Option<u32> {
    (message.len() >= OVERHEAD && word(message, 0) == TYPE_DATA).then(|| word(message, 4))
}

/// The counter in a data message that [`receiver_index`] found to be one.
pub(crate) fn counter(message: &[u8]) -> u64 {
    u64::from(word(message, 8)) | u64::from(word(message, 12)) << 32
}

/// The length to which a packet is padded: the next multiple of 16, but not beyond the MTU, and never less than it is.
pub fn padded(len: usize, mtu: usize) -> usize {
    len.next_multiple_of(16).min(mtu).max(len)
}

impl<'a> Message<'a> {
    /// Reads the bytes of one datagram.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() < 4 {
            return None;
        }
        match word(bytes, 0) {
            TYPE_INITIATION => bytes.try_into().ok().map(|bytes| Self::Initiation(Initiation(bytes))),
            TYPE_RESPONSE => bytes.try_into().ok().map(|bytes| Self::Response(Response(bytes))),
            TYPE_COOKIE_REPLY => bytes.try_into().ok().map(|bytes| Self::CookieReply(CookieReply(bytes))),
            _ => None,
        }
    }
}

impl<'a> Initiation<'a> {
    pub(crate) const NOISE: std::ops::Range<usize> = 8..INITIATION - CODES;

    /// An initiation without its Noise part and its codes.
    pub(crate) fn blank(sender: u32) -> [u8; INITIATION] {
        let mut bytes = [0; INITIATION];
        bytes[..4].copy_from_slice(&TYPE_INITIATION.to_le_bytes());
        bytes[4..8].copy_from_slice(&sender.to_le_bytes());
        bytes
    }

    /// The index by which the sender wants to be answered.
    pub fn sender(self) -> u32 {
        word(self.0, 4)
    }

    /// The part that is a Noise message.
    pub(crate) fn noise(self) -> &'a [u8] {
        &self.0[Self::NOISE]
    }
}

impl<'a> Response<'a> {
    pub(crate) const NOISE: std::ops::Range<usize> = 12..RESPONSE - CODES;

    /// A response without its Noise part and its codes.
    pub(crate) fn blank(sender: u32, receiver: u32) -> [u8; RESPONSE] {
        let mut bytes = [0; RESPONSE];
        bytes[..4].copy_from_slice(&TYPE_RESPONSE.to_le_bytes());
        bytes[4..8].copy_from_slice(&sender.to_le_bytes());
        bytes[8..12].copy_from_slice(&receiver.to_le_bytes());
        bytes
    }

    /// The index by which the sender wants to be answered.
    pub fn sender(self) -> u32 {
        word(self.0, 4)
    }

    /// The index that the initiation gave.
    pub fn receiver(self) -> u32 {
        word(self.0, 8)
    }

    /// The part that is a Noise message.
    pub(crate) fn noise(self) -> &'a [u8] {
        &self.0[Self::NOISE]
    }
}

impl<'a> CookieReply<'a> {
    /// A reply's bytes.
    pub(crate) fn bytes(receiver: u32, nonce: &[u8; 24], sealed: &[u8; 32]) -> [u8; COOKIE_REPLY] {
        let mut bytes = [0; COOKIE_REPLY];
        bytes[..4].copy_from_slice(&TYPE_COOKIE_REPLY.to_le_bytes());
        bytes[4..8].copy_from_slice(&receiver.to_le_bytes());
        bytes[8..32].copy_from_slice(nonce);
        bytes[32..].copy_from_slice(sealed);
        bytes
    }

    /// The sender's index in the message that is answered.
    pub fn receiver(self) -> u32 {
        word(self.0, 4)
    }

    pub(crate) fn nonce(self) -> &'a [u8] {
        &self.0[8..32]
    }

    /// Cookie and tag.
    pub(crate) fn sealed(self) -> &'a [u8] {
        &self.0[32..]
    }
}

/// A handshake message's parts, as its two codes see it.
pub(crate) struct Coded<'a> {
    /// What `mac1` is of.
    pub(crate) body: &'a [u8],
    /// The first code.
    pub(crate) mac1: &'a [u8],
    /// The second code, of the body and the first.
    pub(crate) mac2: &'a [u8],
}

/// Splits an initiation or a response.
pub(crate) fn coded(message: &[u8]) -> Coded<'_> {
    let (body, codes) = message.split_at(message.len().saturating_sub(CODES));
    let (mac1, mac2) = codes.split_at(codes.len() / 2);
    Coded { body, mac1, mac2 }
}

/// Writes the codes of an initiation or a response.
pub(crate) fn write_codes(message: &mut [u8], mac1: &[u8; 16], mac2: &[u8; 16]) {
    let at = message.len() - CODES;
    message[at..at + 16].copy_from_slice(mac1);
    message[at + 16..].copy_from_slice(mac2);
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn messages_are_told_by_type_and_length() {
        let initiation = Initiation::blank(7);
        let Some(Message::Initiation(read)) = Message::parse(&initiation) else { panic!("an initiation") };
        assert_eq!(read.sender(), 7);
        assert_eq!(read.noise().len(), 108);
        let response = Response::blank(1, 2);
        let Some(Message::Response(read)) = Message::parse(&response) else { panic!("a response") };
        assert_eq!((read.sender(), read.receiver(), read.noise().len()), (1, 2, 48));
        let cookie = CookieReply::bytes(9, &[1; 24], &[2; 32]);
        let Some(Message::CookieReply(read)) = Message::parse(&cookie) else { panic!("a cookie") };
        assert_eq!((read.receiver(), read.nonce(), read.sealed()), (9, &[1; 24][..], &[2; 32][..]));
        for message in [&initiation[..], &response, &cookie] {
            assert_eq!(Message::parse(&message[..message.len() - 1]), None, "one byte short");
            assert_eq!(Message::parse(&[message, &[0]].concat()), None, "one byte long");
            let mut reserved = message.to_vec();
            reserved[2] = 1;
            assert_eq!(Message::parse(&reserved), None, "what is reserved is zero");
        }
        assert_eq!(Message::parse(&[]), None);
    }

    #[test]
    fn a_data_message_has_room_for_header_and_tag() {
        let mut header = [0; HEADER];
        write_data_header(&mut header, 0x0403_0201, u64::MAX - 1);
        let message = [&header[..], &[0; TAG]].concat();
        assert_eq!(receiver_index(&message), Some(0x0403_0201));
        assert_eq!(counter(&message), u64::MAX - 1);
        assert_eq!(receiver_index(&message[..OVERHEAD - 1]), None);
        assert_eq!(receiver_index(&Initiation::blank(1)), None);
    }

    #[test]
    fn packets_are_padded_up_to_the_mtu() {
        for (len, mtu, expected) in
            [(0, 1420, 0), (1, 1420, 16), (16, 1420, 16), (1409, 1420, 1420), (1420, 1420, 1420), (1500, 1420, 1500)]
        {
            assert_eq!(padded(len, mtu), expected, "{len} of {mtu}");
        }
    }
}
