//! Packets built field by field, and cut by building each segment anew.

use tombolo_offload::{
    F_NEEDS_CSUM, GSO_ECN, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, Segmenter, VirtioHeader, checksum as fast,
};

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;
pub const URG: u8 = 0x20;
pub const ECE: u8 = 0x40;
pub const CWR: u8 = 0x80;

/// The one's complement sum of big-endian words, word by word (RFC 1071, section 1).
pub fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// What the field of a checksum over `bytes`, in which it is zero, gets.
pub fn checksum(bytes: &[u8]) -> [u8; 2] {
    (!sum(bytes)).to_be_bytes()
}

/// The headers and the payload of a packet. What one kind of packet has not is left out of it.
#[derive(Clone, Debug)]
pub struct Spec {
    pub v6: bool,
    pub tcp: bool,
    /// The last byte of the source.
    pub host: u8,
    /// Type of service or traffic class.
    pub tos: u8,
    pub ttl: u8,
    pub label: u32,
    pub df: bool,
    pub id: u16,
    /// IPv4 options, or one IPv6 extension header (of destination options, its first byte filled in).
    pub ip_options: Vec<u8>,
    pub ports: (u16, u16),
    pub sequence: u32,
    pub acknowledgement: u32,
    pub flags: u8,
    pub window: u16,
    pub urgent: u16,
    pub options: Vec<u8>,
    /// UDP without a checksum.
    pub unsummed: bool,
    pub payload: Vec<u8>,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            v6: false,
            tcp: true,
            host: 1,
            tos: 0,
            ttl: 64,
            label: 0x12345,
            df: true,
            id: 0xfffe,
            ip_options: Vec::new(),
            ports: (40000, 443),
            sequence: u32::MAX - 2000,
            acknowledgement: 77,
            flags: ACK,
            window: 501,
            urgent: 0,
            options: vec![1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8],
            unsummed: false,
            payload: Vec::new(),
        }
    }
}

impl Spec {
    pub fn addresses(&self) -> Vec<u8> {
        if self.v6 {
            let mut source = [0xfd, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0];
            let mut destination = source;
            (source[15], destination[15]) = (self.host, 200);
            [source, destination].concat()
        } else {
            vec![10, 1, 0, self.host, 10, 2, 0, 200]
        }
    }

    fn protocol(&self) -> u8 {
        if self.tcp { 6 } else { 17 }
    }

    pub fn ip_len(&self) -> usize {
        self.ip_options.len() + if self.v6 { 40 } else { 20 }
    }

    pub fn header_len(&self) -> usize {
        self.ip_len() + if self.tcp { 20 + self.options.len() } else { 8 }
    }

    fn field(&self) -> usize {
        if self.tcp { 16 } else { 6 }
    }

    fn ip(&self, len: usize) -> Vec<u8> {
        let mut ip = Vec::new();
        if self.v6 {
            ip.extend((6 << 28 | u32::from(self.tos) << 20 | self.label).to_be_bytes());
            ip.extend(((self.ip_options.len() + len) as u16).to_be_bytes());
            ip.push(if self.ip_options.is_empty() { self.protocol() } else { 60 });
            ip.push(self.ttl);
            ip.extend(self.addresses());
            ip.extend(&self.ip_options);
            if let Some(next) = ip.get_mut(40) {
                *next = self.protocol();
            }
        } else {
            ip.extend([0x45 + (self.ip_options.len() / 4) as u8, self.tos]);
            ip.extend(((self.ip_len() + len) as u16).to_be_bytes());
            ip.extend(self.id.to_be_bytes());
            ip.extend([u8::from(self.df) << 6, 0, self.ttl, self.protocol(), 0, 0]);
            ip.extend(self.addresses());
            ip.extend(&self.ip_options);
            let sum = checksum(&ip);
            ip[10..12].copy_from_slice(&sum);
        }
        ip
    }

    fn transport(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(self.ports.0.to_be_bytes());
        out.extend(self.ports.1.to_be_bytes());
        if self.tcp {
            out.extend(self.sequence.to_be_bytes());
            out.extend(self.acknowledgement.to_be_bytes());
            out.extend([((5 + self.options.len() / 4) << 4) as u8, self.flags]);
            out.extend(self.window.to_be_bytes());
            out.extend([0, 0]);
            out.extend(self.urgent.to_be_bytes());
            out.extend(&self.options);
        } else {
            out.extend(((8 + self.payload.len()) as u16).to_be_bytes());
            out.extend([0, 0]);
        }
        out.extend(&self.payload);
        out
    }

    fn pseudo(&self, len: usize) -> Vec<u8> {
        let mut pseudo = self.addresses();
        pseudo.extend([0, self.protocol()]);
        pseudo.extend((len as u16).to_be_bytes());
        pseudo
    }

    /// The packet, right in all its checksums.
    pub fn bytes(&self) -> Vec<u8> {
        let mut transport = self.transport();
        if self.tcp || !self.unsummed {
            let sum = checksum(&[self.pseudo(transport.len()), transport.clone()].concat());
            let sum = if !self.tcp && sum == [0, 0] { [0xff, 0xff] } else { sum };
            transport[self.field()..self.field() + 2].copy_from_slice(&sum);
        }
        [self.ip(transport.len()), transport].concat()
    }

    /// The packet as a TUN gives it, its checksum partial.
    pub fn partial(&self) -> Vec<u8> {
        let mut transport = self.transport();
        let sum = sum(&self.pseudo(transport.len())).to_be_bytes();
        transport[self.field()..self.field() + 2].copy_from_slice(&sum);
        [self.ip(transport.len()), transport].concat()
    }

    /// The header with which it is to be cut.
    pub fn header(&self, size: usize) -> VirtioHeader {
        let gso_type = match (self.tcp, self.v6) {
            (true, false) => GSO_TCPV4,
            (true, true) => GSO_TCPV6,
            (false, _) => GSO_UDP_L4,
        };
        VirtioHeader {
            flags: F_NEEDS_CSUM,
            gso_type: gso_type | if self.tcp && self.flags & CWR != 0 { GSO_ECN } else { 0 },
            hdr_len: self.header_len() as u16,
            gso_size: size as u16,
            csum_start: self.ip_len() as u16,
            csum_offset: self.field() as u16,
        }
    }

    /// What it is cut into.
    pub fn segments(&self, size: usize) -> Vec<Self> {
        let count = self.payload.len().div_ceil(size).max(1);
        let segment = |i: usize| {
            let (start, end) = (i * size, ((i + 1) * size).min(self.payload.len()));
            let mut segment = Self { payload: self.payload[start..end].to_vec(), ..self.clone() };
            segment.id = self.id.wrapping_add(i as u16);
            segment.sequence = self.sequence.wrapping_add(start as u32);
            segment.flags &= if i == 0 { 0xff } else { !CWR } & if i + 1 == count { 0xff } else { !(FIN | PSH) };
            segment
        };
        (0..count).map(segment).collect()
    }
}

/// Bytes that are nothing in particular.
pub fn filler(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_ne_bytes()
    };
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| next()).collect();
    bytes.truncate(len);
    bytes
}

/// All that a packet is cut into, by the crate.
pub fn cut(header: VirtioHeader, packet: &[u8]) -> Vec<Vec<u8>> {
    let segmenter = Segmenter::new(header, packet).unwrap();
    let one = |i| {
        let mut out = vec![0xee; segmenter.segment_len(i)];
        segmenter.write(i, &mut out);
        out
    };
    (0..segmenter.count()).map(one).collect()
}

/// The IPv4 header checksum, and that of TCP or UDP behind an IP header of `ip` bytes, are right.
pub fn right(packet: &[u8], ip: usize) -> bool {
    let v4 = packet[0] >> 4 == 4;
    let (addresses, protocol) = if v4 { (&packet[12..20], packet[9]) } else { (&packet[8..40], packet[6]) };
    let mut pseudo = [addresses, &[0, protocol]].concat();
    pseudo.extend(((packet.len() - ip) as u16).to_be_bytes());
    pseudo.extend(&packet[ip..]);
    (!v4 || sum(&packet[..ip]) == 0xffff) && sum(&pseudo) == 0xffff && fast::fold(fast::sum(&pseudo)) == 0xffff
}
