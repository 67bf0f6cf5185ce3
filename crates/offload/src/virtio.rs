//! The header before each packet of a TUN with `IFF_VNET_HDR`.

/// Flag: the checksum at `csum_start + csum_offset` covers the pseudo-header only; the rest is the device's to add.
pub const F_NEEDS_CSUM: u8 = 1;
/// Flag: the checksum was verified.
pub const F_DATA_VALID: u8 = 2;

/// One packet, as it is.
pub const GSO_NONE: u8 = 0;
/// TCP over IPv4, to be cut.
pub const GSO_TCPV4: u8 = 1;
/// UDP over IPv4, to be cut into IP fragments: never offered by us, refused.
pub const GSO_UDP: u8 = 3;
/// TCP over IPv6, to be cut.
pub const GSO_TCPV6: u8 = 4;
/// UDP over IPv4 or IPv6, to be cut into datagrams (Linux 6.2).
pub const GSO_UDP_L4: u8 = 5;
/// Beside a TCP type: the first segment has CWR set, the others not.
pub const GSO_ECN: u8 = 0x80;

/// `struct virtio_net_hdr` (linux/virtio_net.h; VIRTIO 1.2, section 5.1.6), in native byte order as a TUN has it.
///
/// ```text
///      0       1       2       4       6       8      10
///      ┌───────┬───────┬───────┬───────┬───────┬───────┐
///      │ flags │  gso  │ hdr   │ gso   │ csum  │ csum  │
///      │       │  type │  len  │  size │ start │offset │
///      └───────┴───────┴───────┴───────┴───────┴───────┘
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct VirtioHeader {
    /// [`F_NEEDS_CSUM`], [`F_DATA_VALID`].
    pub flags: u8,
    /// [`GSO_NONE`], or how to cut, with [`GSO_ECN`] or without.
    pub gso_type: u8,
    /// Bytes of the IP and transport headers: a hint, wrong for some forwarded packets.
    pub hdr_len: u16,
    /// Bytes of payload in each segment but the last.
    pub gso_size: u16,
    /// Where the checksum begins, which is where the transport header does.
    pub csum_start: u16,
    /// Where the checksum is stored, from `csum_start`.
    pub csum_offset: u16,
}

impl VirtioHeader {
    /// Bytes that it takes.
    pub const LEN: usize = 10;

    /// That of a packet that is written as it is.
    pub const NONE: Self =
        Self { flags: 0, gso_type: GSO_NONE, hdr_len: 0, gso_size: 0, csum_start: 0, csum_offset: 0 };

    /// That at the start of `bytes`, if they are long enough.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::LEN] = bytes.first_chunk()?;
        let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Some(Self {
            flags: bytes[0],
            gso_type: bytes[1],
            hdr_len: word(2),
            gso_size: word(4),
            csum_start: word(6),
            csum_offset: word(8),
        })
    }

    /// Writes it.
    pub fn write(&self, out: &mut [u8; Self::LEN]) {
        out[0] = self.flags;
        out[1] = self.gso_type;
        out[2..4].copy_from_slice(&self.hdr_len.to_ne_bytes());
        out[4..6].copy_from_slice(&self.gso_size.to_ne_bytes());
        out[6..8].copy_from_slice(&self.csum_start.to_ne_bytes());
        out[8..10].copy_from_slice(&self.csum_offset.to_ne_bytes());
    }
}
