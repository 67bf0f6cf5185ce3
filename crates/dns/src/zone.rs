//! The records, by origin and name.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::TTL;
use crate::catalog::Diff;
use crate::message::RecordType;
use crate::name::{Name, NameError, labels, parent};

/// The data of one record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Data {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// Where a service is: port and host (RFC 2782). Priority is 0, weight 100.
    Srv {
        /// The port.
        port: u16,
        /// The host's name.
        target: Name,
    },
    /// The name of an address.
    Ptr(Name),
    /// The name that this one stands for.
    Cname(Name),
    /// Text of at most 255 bytes.
    Txt(Box<str>),
}

/// A record of one of the zones.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Record {
    /// The name.
    pub owner: Name,
    /// The data.
    pub data: Data,
}

/// The zones of a server. A name belongs to the one with the longest origin that ends it.
#[derive(Debug, Default)]
pub struct Zones {
    zones: Vec<Zone>,
}

/// All names below one origin.
#[derive(Debug)]
pub struct Zone {
    origin: Name,
    /// The suffix below which a pod's name is made of its address.
    pods: Option<Name>,
    nodes: HashMap<Name, Node>,
    soa: Vec<u8>,
    serial: u32,
    is_loaded: bool,
    falls_through: bool,
}

/// What a zone says of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// It exists, with these records of all types.
    Records(&'a [Data]),
    /// It is made of an address.
    Pod(IpAddr),
    /// It is the origin itself.
    Apex,
    /// It does not exist.
    Nothing,
}

/// A name with its records. It also exists, without any, while it has names below it.
#[derive(Debug, Default)]
struct Node {
    records: Vec<Data>,
    children: u32,
}

impl Zones {
    /// The zones of a cluster: its domain, and the addresses' names, which are passed on to a
    /// forwarder where the cluster has no name for the address. Names get SERVFAIL until
    /// [`Zones::loaded`].
    ///
    /// # Errors
    /// `domain` is not a domain name, or leaves no room for the names below it.
    pub fn cluster(domain: &str, serial: u32) -> Result<Self, NameError> {
        let origin = Name::parse(domain)?;
        let mut domain_zone = Zone::new(origin.clone(), serial)?;
        domain_zone.pods = Some(origin.child("pod")?);
        domain_zone.insert(Record { owner: origin.child("dns-version")?, data: Data::Txt("1.1.0".into()) });
        let mut zones = Self::default();
        zones.add(domain_zone);
        for reverse in ["in-addr.arpa", "ip6.arpa"] {
            let mut zone = Zone::new(Name::parse(reverse)?, serial)?;
            zone.falls_through = true;
            zones.add(zone);
        }
        Ok(zones)
    }

    /// Adds a zone.
    pub fn add(&mut self, zone: Zone) {
        self.zones.push(zone);
        self.zones.sort_by_key(|zone| std::cmp::Reverse(zone.origin.as_bytes().len()));
    }

    /// All that is to be known is known: names that are not there do not exist.
    pub fn loaded(&mut self) {
        for zone in &mut self.zones {
            zone.is_loaded = true;
        }
    }

    /// Whether all zones are complete.
    pub fn is_loaded(&self) -> bool {
        self.zones.iter().all(|zone| zone.is_loaded)
    }

    /// Takes out and puts in what changed. Records outside all zones are ignored.
    pub fn apply(&mut self, diff: Diff) {
        for record in diff.removed {
            if let Some(zone) = self.of_mut(record.owner.as_bytes()) {
                zone.remove(&record);
            }
        }
        for record in diff.added {
            if let Some(zone) = self.of_mut(record.owner.as_bytes()) {
                zone.insert(record);
            }
        }
    }

    /// The zone that a name (in wire format and lower case) belongs to.
    pub(crate) fn of(&self, name: &[u8]) -> Option<&Zone> {
        self.zones.iter().find(|zone| zone.suffix(name).is_some())
    }

    /// All names with their records and the number of names below them.
    #[cfg(test)]
    pub(crate) fn contents(&self) -> std::collections::BTreeMap<Name, (Vec<Data>, u32)> {
        let nodes = self.zones.iter().flat_map(|zone| &zone.nodes);
        let content = nodes.map(|(name, node)| {
            let mut records = node.records.clone();
            records.sort();
            (name.clone(), (records, node.children))
        });
        content.collect()
    }

    fn of_mut(&mut self, name: &[u8]) -> Option<&mut Zone> {
        self.zones.iter_mut().find(|zone| zone.suffix(name).is_some())
    }
}

impl Zone {
    /// An empty zone that is still loading.
    ///
    /// # Errors
    /// The origin leaves no room for the names in its SOA record.
    pub fn new(origin: Name, serial: u32) -> Result<Self, NameError> {
        let mut zone = Self {
            soa: soa(&origin)?,
            origin,
            pods: None,
            nodes: HashMap::new(),
            serial,
            is_loaded: false,
            falls_through: false,
        };
        zone.bump();
        Ok(zone)
    }

    /// Adds a record; twice the same is once.
    pub fn insert(&mut self, record: Record) {
        let Some(suffix) = self.suffix(record.owner.as_bytes()) else {
            return;
        };
        if let Some(node) = self.nodes.get_mut(&record.owner) {
            if !node.records.contains(&record.data) {
                node.records.push(record.data);
                self.bump();
            }
            return;
        }
        self.make_parents(record.owner.as_bytes(), suffix);
        self.nodes.insert(record.owner, Node { records: vec![record.data], children: 0 });
        self.bump();
    }

    /// Removes a record, if it is there.
    pub fn remove(&mut self, record: &Record) {
        let Some(suffix) = self.suffix(record.owner.as_bytes()) else {
            return;
        };
        let Some(node) = self.nodes.get_mut(&record.owner) else {
            return;
        };
        let before = node.records.len();
        node.records.retain(|data| *data != record.data);
        if node.records.len() == before {
            return;
        }
        node.records.shrink_to_fit();
        self.prune(record.owner.as_bytes(), suffix);
        self.bump();
    }

    /// How many names exist below the origin.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no name below the origin.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Where in `name` the origin begins, if it ends it.
    pub(crate) fn suffix(&self, name: &[u8]) -> Option<usize> {
        let origin = self.origin.as_bytes();
        let start = name.len().checked_sub(origin.len())?;
        if name[start..] != *origin {
            return None;
        }
        // The same bytes may also be the end of a longer label.
        let mut at = 0;
        while at < start {
            at += usize::from(name[at]) + 1;
        }
        (at == start).then_some(start)
    }

    pub(crate) fn find(&self, name: &[u8]) -> Found<'_> {
        if let Some(node) = self.nodes.get(name) {
            return Found::Records(&node.records);
        }
        if name == self.origin.as_bytes() {
            return Found::Apex;
        }
        self.find_pod(name).unwrap_or(Found::Nothing)
    }

    pub(crate) fn is_loaded(&self) -> bool {
        self.is_loaded
    }

    pub(crate) fn falls_through(&self) -> bool {
        self.falls_through
    }

    /// The data of the SOA record.
    pub(crate) fn soa(&self) -> &[u8] {
        &self.soa
    }

    /// `<address with dashes>.<namespace>.pod.<origin>`, and the names above it.
    fn find_pod(&self, name: &[u8]) -> Option<Found<'_>> {
        let pods = self.pods.as_ref()?.as_bytes();
        let above = name.len().checked_sub(pods.len())?;
        if name[above..] != *pods {
            return None;
        }
        let mut labels = labels(name);
        let (first, second) = (labels.next()?, labels.next()?);
        let (one, two) = (first.len() + 1, first.len() + second.len() + 2);
        if above == 0 || above == one {
            return Some(Found::Records(&[]));
        }
        if above != two {
            return None;
        }
        dashed_address(first).map(Found::Pod)
    }

    /// Makes the names between `name` and the origin, which counts nobody.
    fn make_parents(&mut self, name: &[u8], suffix: usize) {
        let mut at = name;
        while let Some(above) = parent(at) {
            if name.len() - above.len() >= suffix {
                return;
            }
            if let Some(node) = self.nodes.get_mut(above) {
                node.children += 1;
                return;
            }
            let node = Node { records: Vec::new(), children: 1 };
            self.nodes.insert(Name::from_wire(above), node);
            at = above;
        }
    }

    /// Removes `name` when nothing is left of it, and then the names above it likewise.
    fn prune(&mut self, name: &[u8], suffix: usize) {
        let mut at = name;
        loop {
            match self.nodes.get(at) {
                Some(node) if node.records.is_empty() && node.children == 0 => {
                    self.nodes.remove(at);
                }
                _ => return,
            }
            let Some(above) = parent(at) else { return };
            if name.len() - above.len() >= suffix {
                return;
            }
            if let Some(node) = self.nodes.get_mut(above) {
                node.children -= 1;
            }
            at = above;
        }
    }

    fn bump(&mut self) {
        self.serial = self.serial.wrapping_add(1);
        let at = self.soa.len() - 20;
        self.soa[at..at + 4].copy_from_slice(&self.serial.to_be_bytes());
    }
}

impl Data {
    /// The type of the record.
    pub fn record_type(&self) -> RecordType {
        match self {
            Self::A(_) => RecordType::A,
            Self::Aaaa(_) => RecordType::AAAA,
            Self::Srv { .. } => RecordType::SRV,
            Self::Ptr(_) => RecordType::PTR,
            Self::Cname(_) => RecordType::CNAME,
            Self::Txt(_) => RecordType::TXT,
        }
    }

    /// The record of an address.
    pub fn address(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::A(v4),
            IpAddr::V6(v6) => Self::Aaaa(v6),
        }
    }

    /// Appends the data in wire format.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::A(address) => out.extend_from_slice(&address.octets()),
            Self::Aaaa(address) => out.extend_from_slice(&address.octets()),
            Self::Srv { port, target } => {
                out.extend_from_slice(&[0, 0, 0, 100]);
                out.extend_from_slice(&port.to_be_bytes());
                out.extend_from_slice(target.as_bytes());
            }
            Self::Ptr(name) | Self::Cname(name) => out.extend_from_slice(name.as_bytes()),
            Self::Txt(text) => {
                let text = &text.as_bytes()[..text.len().min(255)];
                out.push(text.len() as u8);
                out.extend_from_slice(text);
            }
        }
    }
}

/// `10-0-0-1` or `fd00--1`: an address with dashes for its dots or colons.
fn dashed_address(label: &[u8]) -> Option<IpAddr> {
    let label = std::str::from_utf8(label).ok()?;
    if let Ok(v4) = label.replace('-', ".").parse::<Ipv4Addr>() {
        return Some(v4.into());
    }
    let v6: Ipv6Addr = label.replace('-', ":").parse().ok()?;
    Some(v6.into())
}

/// The data of an SOA record with serial 0, which is at 20 bytes from the end.
fn soa(origin: &Name) -> Result<Vec<u8>, NameError> {
    let mut soa = Vec::new();
    soa.extend_from_slice(origin.child("dns")?.child("ns")?.as_bytes());
    soa.extend_from_slice(origin.child("hostmaster")?.as_bytes());
    // Serial, refresh, retry, expire, and for how long a negative answer may be kept.
    for number in [0, 7200, 1800, 86_400, TTL] {
        soa.extend_from_slice(&number.to_be_bytes());
    }
    Ok(soa)
}
