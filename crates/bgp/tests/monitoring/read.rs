//! Readers of MRT and BMP, written after the RFCs and with nothing of the crate.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    pub fn take(&mut self, n: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(n);
        self.0 = tail;
        head
    }
    pub fn u8(&mut self) -> u8 {
        self.take(1)[0]
    }
    pub fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take(2).try_into().unwrap())
    }
    pub fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().unwrap())
    }
    pub fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.take(8).try_into().unwrap())
    }
    pub fn v4(&mut self) -> Ipv4Addr {
        self.u32().into()
    }
    pub fn v6(&mut self) -> Ipv6Addr {
        Ipv6Addr::from(<[u8; 16]>::try_from(self.take(16)).unwrap())
    }
    pub fn address(&mut self, v6: bool) -> IpAddr {
        if v6 { self.v6().into() } else { self.v4().into() }
    }
    pub fn prefix(&mut self, v6: bool) -> IpNet {
        let length = self.u8();
        let mut octets = [0; 16];
        let taken = self.take(usize::from(length).div_ceil(8));
        octets[..taken.len()].copy_from_slice(taken);
        let mut octets = Bytes(&octets);
        IpNet::new(octets.address(v6), length).unwrap()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub peer: u16,
    pub originated: u32,
    pub path_id: Option<u32>,
    pub attributes: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub asn: u32,
    pub local_asn: u32,
    pub address: IpAddr,
    pub local_address: IpAddr,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mrt {
    Index { collector: Ipv4Addr, view: Vec<u8>, peers: Vec<(Ipv4Addr, IpAddr, u32)> },
    Rib { sequence: u32, prefix: IpNet, entries: Vec<Entry> },
    Message { add_path: bool, four: bool, session: Session, message: Vec<u8> },
    State { four: bool, session: Session, from: u16, to: u16 },
}

/// The records of a file, with their times.
pub fn mrt(file: &[u8]) -> Vec<(u32, Mrt)> {
    let mut file = Bytes(file);
    let mut records = Vec::new();
    while !file.0.is_empty() {
        let (at, kind, subtype, length) = (file.u32(), file.u16(), file.u16(), file.u32());
        let mut body = Bytes(file.take(length as usize));
        let record = match (kind, subtype) {
            (13, 1) => index(&mut body),
            (13, 2) => rib(&mut body, false, false),
            (13, 4) => rib(&mut body, true, false),
            (13, 8) => rib(&mut body, false, true),
            (13, 10) => rib(&mut body, true, true),
            (16, 0 | 5) => {
                let four = subtype == 5;
                let session = session(&mut body, four);
                Mrt::State { four, session, from: body.u16(), to: body.u16() }
            }
            (16, 1 | 4 | 8 | 9) => {
                let four = matches!(subtype, 4 | 9);
                let session = session(&mut body, four);
                let message = std::mem::take(&mut body.0).to_vec();
                Mrt::Message { add_path: subtype > 7, four, session, message }
            }
            other => panic!("a record of type {other:?}"),
        };
        assert!(body.0.is_empty(), "{} bytes too many in {record:?}", body.0.len());
        records.push((at, record));
    }
    records
}

fn index(body: &mut Bytes<'_>) -> Mrt {
    let collector = body.v4();
    let length = body.u16();
    let view = body.take(length.into()).to_vec();
    let peers = (0..body.u16()).map(|_| {
        let kind = body.u8();
        let (id, address) = (body.v4(), body.address(kind & 1 != 0));
        let asn = if kind & 2 != 0 { body.u32() } else { body.u16().into() };
        (id, address, asn)
    });
    Mrt::Index { collector, view, peers: peers.collect() }
}

fn rib(body: &mut Bytes<'_>, v6: bool, add_path: bool) -> Mrt {
    let (sequence, prefix) = (body.u32(), body.prefix(v6));
    let entries = (0..body.u16()).map(|_| {
        let (peer, originated) = (body.u16(), body.u32());
        let path_id = add_path.then(|| body.u32());
        let length = body.u16();
        Entry { peer, originated, path_id, attributes: body.take(length.into()).to_vec() }
    });
    Mrt::Rib { sequence, prefix, entries: entries.collect() }
}

fn session(body: &mut Bytes<'_>, four: bool) -> Session {
    let mut asn = || if four { body.u32() } else { body.u16().into() };
    let (asn, local_asn) = (asn(), asn());
    body.u16();
    let v6 = body.u16() == 2;
    Session { asn, local_asn, address: body.address(v6), local_address: body.address(v6) }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub v6: bool,
    pub two_octets: bool,
    pub address: IpAddr,
    pub asn: u32,
    pub router_id: Ipv4Addr,
    pub at: (u32, u32),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bmp {
    Routes(Peer, Vec<u8>),
    Statistics(Peer, Vec<(u16, Vec<u8>)>),
    Down(Peer, u8, Vec<u8>),
    Up { peer: Peer, local: IpAddr, ports: (u16, u16), opens: [Vec<u8>; 2] },
    Initiation(Vec<(u16, String)>),
    Termination(Vec<(u16, Vec<u8>)>),
}

/// The next message of a stream.
pub fn bmp(stream: &mut impl Read) -> io::Result<Bmp> {
    let mut header = [0; 6];
    stream.read_exact(&mut header)?;
    let [version, length @ .., kind] = header;
    assert_eq!(version, 3);
    let mut body = vec![0; u32::from_be_bytes(length) as usize - 6];
    stream.read_exact(&mut body)?;
    let mut body = Bytes(&body);
    let message = match kind {
        0 => Bmp::Routes(peer(&mut body), message(&mut body)),
        1 => {
            let peer = peer(&mut body);
            let count = body.u32();
            let found = information(&mut body);
            assert_eq!(found.len(), count as usize);
            Bmp::Statistics(peer, found)
        }
        2 => Bmp::Down(peer(&mut body), body.u8(), std::mem::take(&mut body.0).to_vec()),
        3 => {
            let peer = peer(&mut body);
            let local = address(&mut body, peer.v6);
            let ports = (body.u16(), body.u16());
            Bmp::Up { peer, local, ports, opens: [message(&mut body), message(&mut body)] }
        }
        4 => {
            let text = |(kind, value)| (kind, String::from_utf8(value).unwrap());
            Bmp::Initiation(information(&mut body).into_iter().map(text).collect())
        }
        5 => Bmp::Termination(information(&mut body)),
        other => panic!("a message of type {other}"),
    };
    assert!(body.0.is_empty(), "{} bytes too many in {message:?}", body.0.len());
    Ok(message)
}

fn peer(body: &mut Bytes<'_>) -> Peer {
    assert_eq!(body.u8(), 0, "a global instance peer");
    let flags = body.u8();
    assert_eq!(flags & !0xa0, 0, "before policy, and in");
    assert_eq!(body.u64(), 0, "no distinguisher");
    let v6 = flags & 0x80 != 0;
    Peer {
        v6,
        two_octets: flags & 0x20 != 0,
        address: address(body, v6),
        asn: body.u32(),
        router_id: body.v4(),
        at: (body.u32(), body.u32()),
    }
}

fn address(body: &mut Bytes<'_>, v6: bool) -> IpAddr {
    if v6 {
        return body.v6().into();
    }
    assert_eq!(body.take(12), [0; 12]);
    body.v4().into()
}

/// A BGP message.
fn message(body: &mut Bytes<'_>) -> Vec<u8> {
    let length = u16::from_be_bytes(body.0[16..18].try_into().unwrap());
    body.take(length.into()).to_vec()
}

fn information(body: &mut Bytes<'_>) -> Vec<(u16, Vec<u8>)> {
    let mut all = Vec::new();
    while !body.0.is_empty() {
        let (kind, length) = (body.u16(), body.u16());
        all.push((kind, body.take(length.into()).to_vec()));
    }
    all
}

/// An UPDATE: what it withdraws, what it announces, and its attributes by their types.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Update {
    pub withdrawn: Vec<(Option<u32>, IpNet)>,
    pub announced: Vec<(Option<u32>, IpNet)>,
    pub attributes: Vec<(u8, Vec<u8>)>,
}

impl Update {
    pub fn get(&self, kind: u8) -> Option<&[u8]> {
        self.attributes.iter().find(|(k, _)| *k == kind).map(|(_, value)| &**value)
    }
}

/// Reads an UPDATE, a message with its header.
pub fn update(message: &[u8], add_path: bool) -> Update {
    let mut bytes = Bytes(message);
    assert_eq!(bytes.take(16), [0xff; 16]);
    assert_eq!(usize::from(bytes.u16()), message.len());
    assert_eq!(bytes.u8(), 2);
    let length = bytes.u16();
    let withdrawn = Bytes(bytes.take(length.into()));
    let length = bytes.u16();
    let mut update = Update { attributes: attributes(bytes.take(length.into())), ..Update::default() };
    update.withdrawn = prefixes(withdrawn, false, add_path);
    update.announced = prefixes(bytes, false, add_path);
    for (kind, value) in update.attributes.clone() {
        let mut value = Bytes(&value);
        match kind {
            14 => {
                assert_eq!((value.u16(), value.u8()), (2, 1));
                let length = value.u8();
                value.take(usize::from(length) + 1);
                update.announced.extend(prefixes(value, true, add_path));
            }
            15 => {
                assert_eq!((value.u16(), value.u8()), (2, 1));
                update.withdrawn.extend(prefixes(value, true, add_path));
            }
            _ => {}
        }
    }
    update
}

pub fn attributes(field: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut field = Bytes(field);
    let mut all = Vec::new();
    while !field.0.is_empty() {
        let (flags, kind) = (field.u8(), field.u8());
        let length = if flags & 0x10 != 0 { field.u16() } else { field.u8().into() };
        all.push((kind, field.take(length.into()).to_vec()));
    }
    all
}

fn prefixes(mut field: Bytes<'_>, v6: bool, add_path: bool) -> Vec<(Option<u32>, IpNet)> {
    let mut all = Vec::new();
    while !field.0.is_empty() {
        let id = add_path.then(|| field.u32());
        all.push((id, field.prefix(v6)));
    }
    all
}
