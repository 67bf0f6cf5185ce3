//! A neighbour as the test plays it: it writes and reads messages by itself.

use std::net::Ipv6Addr;

use super::*;
use crate::wire::{Capability, Open};

/// A route as a message has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Told {
    pub(super) path: Vec<u32>,
    pub(super) hop: IpAddr,
    pub(super) local_pref: Option<u32>,
    pub(super) med: Option<u32>,
    pub(super) communities: Vec<u32>,
    pub(super) originator: Option<Ipv4Addr>,
    pub(super) clusters: Vec<Ipv4Addr>,
}

#[derive(Debug, Clone)]
pub(super) struct Mate {
    pub(super) address: Ipv4Addr,
    pub(super) asn: u32,
    pub(super) client: bool,
    pub(super) add_path: bool,
    pub(super) capabilities: Vec<Capability>,
    pub(super) conn: Option<ConnId>,
    /// What it was told.
    pub(super) view: BTreeMap<(IpNet, u32), Told>,
    /// Families of which it was told that this was all.
    pub(super) ends: Vec<Family>,
    /// Messages that are no UPDATE, KEEPALIVE or OPEN.
    pub(super) others: Vec<Vec<u8>>,
    /// What it sent that the router has not yet taken.
    pub(super) unread: Vec<u8>,
    pub(super) inbox: Vec<u8>,
}

impl Mate {
    pub(super) fn new(number: u8, asn: u32) -> Self {
        Self {
            address: Ipv4Addr::new(10, 0, 0, number),
            asn,
            client: false,
            add_path: false,
            capabilities: vec![Capability::RouteRefresh, Capability::EnhancedRefresh],
            conn: None,
            view: BTreeMap::new(),
            ends: Vec::new(),
            others: Vec::new(),
            unread: Vec::new(),
            inbox: Vec::new(),
        }
    }

    pub(super) fn internal(number: u8) -> Self {
        Self::new(number, ASN)
    }

    pub(super) fn client(number: u8) -> Self {
        Self { client: true, ..Self::internal(number) }
    }

    pub(super) fn is_external(&self) -> bool {
        self.asn != ASN
    }

    pub(super) fn begin(&mut self, conn: ConnId) {
        self.end();
        self.conn = Some(conn);
    }

    pub(super) fn end(&mut self) -> Option<ConnId> {
        self.view.clear();
        self.ends.clear();
        self.others.clear();
        self.unread.clear();
        self.inbox.clear();
        self.conn.take()
    }

    pub(super) fn hello(&self) -> Vec<u8> {
        let mut capabilities = self.capabilities.clone();
        capabilities.extend(Family::ALL.map(|f| Capability::Multiprotocol { afi: f.afi(), safi: 1 }));
        capabilities.push(Capability::FourOctetAs(self.asn));
        if self.add_path {
            capabilities.push(Capability::AddPath(vec![(1, 1, 1), (2, 1, 1)]));
        }
        let open = Open { version: 4, asn: self.asn, hold_time: 0, router_id: self.address, capabilities };
        let mut bytes = open.to_bytes();
        bytes.extend_from_slice(&wire::keepalive());
        bytes
    }

    /// A route of its own.
    pub(super) fn route(&self, net: IpNet) -> Told {
        let hop = match net {
            IpNet::V4(_) => self.address.into(),
            IpNet::V6(_) => Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(self.address.octets()[3])).into(),
        };
        Told {
            path: if self.is_external() { vec![self.asn] } else { Vec::new() },
            hop,
            local_pref: (!self.is_external()).then_some(100),
            med: None,
            communities: Vec::new(),
            originator: None,
            clusters: Vec::new(),
        }
    }

    pub(super) fn hear(&mut self, bytes: &[u8]) {
        self.inbox.extend_from_slice(bytes);
        while self.inbox.len() >= 19 {
            let length = usize::from(self.inbox[16]) << 8 | usize::from(self.inbox[17]);
            if self.inbox.len() < length {
                return;
            }
            let message: Vec<u8> = self.inbox.drain(..length).collect();
            match message[18] {
                1 | 4 => {}
                2 => self.read(&message[19..]),
                _ => self.others.push(message),
            }
        }
    }

    fn read(&mut self, body: &[u8]) {
        let (withdrawn, rest) = field(body);
        let (attributes, nlri) = field(rest);
        let mut route = self.route("0.0.0.0/0".parse().unwrap());
        (route.local_pref, route.path) = (None, Vec::new());
        let (mut gone, mut here) = (self.nets(withdrawn, 4), self.nets(nlri, 4));
        let mut rest = attributes;
        let mut mp_end = false;
        while !rest.is_empty() {
            let (head, length) = if rest[0] & 16 == 0 {
                (3, usize::from(rest[2]))
            } else {
                (4, usize::from(rest[2]) << 8 | usize::from(rest[3]))
            };
            let (kind, value) = (rest[1], &rest[head..head + length]);
            rest = &rest[head + length..];
            match kind {
                2 => {
                    let mut path = value;
                    while !path.is_empty() {
                        let count = usize::from(path[1]);
                        route.path.extend(path[2..2 + 4 * count].chunks(4).map(number));
                        path = &path[2 + 4 * count..];
                    }
                }
                3 => route.hop = Ipv4Addr::from_bits(number(value)).into(),
                4 => route.med = Some(number(value)),
                5 => route.local_pref = Some(number(value)),
                8 => route.communities = value.chunks(4).map(number).collect(),
                9 => route.originator = Some(Ipv4Addr::from_bits(number(value))),
                10 => route.clusters = value.chunks(4).map(|id| Ipv4Addr::from_bits(number(id))).collect(),
                14 => {
                    let hop: [u8; 16] = value[4..20].try_into().unwrap();
                    route.hop = Ipv6Addr::from(hop).into();
                    here.extend(self.nets(&value[5 + usize::from(value[3])..], 16));
                }
                15 => {
                    gone.extend(self.nets(&value[3..], 16));
                    mp_end = value.len() == 3;
                }
                _ => {}
            }
        }
        match (body, mp_end) {
            ([0, 0, 0, 0], _) => self.ends.push(Family::Ipv4),
            (_, true) => self.ends.push(Family::Ipv6),
            _ => {}
        }
        gone.iter().for_each(|key| drop(self.view.remove(key)));
        self.view.extend(here.into_iter().map(|key| (key, route.clone())));
    }

    fn nets(&self, mut bytes: &[u8], size: usize) -> Vec<(IpNet, u32)> {
        let mut nets = Vec::new();
        while !bytes.is_empty() {
            let id = if self.add_path { number(&bytes[..4]) } else { 0 };
            bytes = if self.add_path { &bytes[4..] } else { bytes };
            let length = usize::from(bytes[0]).div_ceil(8);
            let mut octets = [0; 16];
            octets[..length].copy_from_slice(&bytes[1..=length]);
            let address: IpAddr = if size == 4 { Ipv4Addr::from_bits(number(&octets)).into() } else { octets.into() };
            nets.push((IpNet::new(address, bytes[0]).unwrap(), id));
            bytes = &bytes[1 + length..];
        }
        nets
    }
}

fn field(bytes: &[u8]) -> (&[u8], &[u8]) {
    bytes[2..].split_at(usize::from(bytes[0]) << 8 | usize::from(bytes[1]))
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().unwrap())
}

fn message(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    wire::write(&mut out, Kind::Update, |out| {
        for field in [withdrawn, attributes] {
            out.extend_from_slice(&u16::try_from(field.len()).unwrap().to_be_bytes());
            out.extend_from_slice(field);
        }
        out.extend_from_slice(nlri);
    });
    out
}

fn prefix(net: IpNet) -> Vec<u8> {
    let mut out = vec![net.prefix_len()];
    let octets = match net.addr() {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    };
    out.extend_from_slice(&octets[..usize::from(net.prefix_len()).div_ceil(8)]);
    out
}

/// An UPDATE that announces a route.
pub(super) fn update(net: IpNet, route: &Told) -> Vec<u8> {
    let mut path = Vec::new();
    if !route.path.is_empty() {
        path.extend_from_slice(&[2, u8::try_from(route.path.len()).unwrap()]);
        path.extend(route.path.iter().flat_map(|asn| asn.to_be_bytes()));
    }
    let mut attributes = Vec::new();
    put(&mut attributes, 0x40, 1, &[0]);
    put(&mut attributes, 0x40, 2, &path);
    if let IpAddr::V4(hop) = route.hop {
        put(&mut attributes, 0x40, 3, &hop.octets());
    }
    route.med.inspect(|med| put(&mut attributes, 0x80, 4, &med.to_be_bytes()));
    route.local_pref.inspect(|pref| put(&mut attributes, 0x40, 5, &pref.to_be_bytes()));
    if !route.communities.is_empty() {
        let list: Vec<u8> = route.communities.iter().flat_map(|c| c.to_be_bytes()).collect();
        put(&mut attributes, 0xc0, 8, &list);
    }
    route.originator.inspect(|id| put(&mut attributes, 0x80, 9, &id.octets()));
    if !route.clusters.is_empty() {
        let list: Vec<u8> = route.clusters.iter().flat_map(|id| id.octets()).collect();
        put(&mut attributes, 0x80, 10, &list);
    }
    match route.hop {
        IpAddr::V4(_) => message(&[], &attributes, &prefix(net)),
        IpAddr::V6(hop) => {
            let value = [&[0, 2, 1, 16][..], &hop.octets(), &[0], &prefix(net)].concat();
            put(&mut attributes, 0x80, 14, &value);
            message(&[], &attributes, &[])
        }
    }
}

/// An UPDATE that withdraws a route.
pub(super) fn withdrawal(net: IpNet) -> Vec<u8> {
    if net.addr().is_ipv4() {
        return message(&prefix(net), &[], &[]);
    }
    let mut attributes = Vec::new();
    put(&mut attributes, 0x80, 15, &[&[0, 2, 1][..], &prefix(net)].concat());
    message(&[], &attributes, &[])
}

/// An End-of-RIB marker.
pub(super) fn end_of_rib(family: Family) -> Vec<u8> {
    crate::export::Burst::end_of_rib(family)
}
