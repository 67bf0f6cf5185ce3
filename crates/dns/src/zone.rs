//! The records, by origin and name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hashbrown::HashMap;
use ipnet::IpNet;

use crate::TTL;
use crate::catalog::Diff;
use crate::name::{Name, NameError, labels, parent};
use crate::record::{Data, Record, RecordSet};
use crate::reverse::network;

/// The zones of the addresses' names.
const REVERSE: [&str; 2] = ["in-addr.arpa", "ip6.arpa"];

/// The zones of a server. A name belongs to the one with the longest origin that ends it.
#[derive(Debug, Default)]
pub struct Zones {
    zones: Vec<Zone>,
    /// Networks whose addresses have the names that we know, and no others.
    own: Vec<IpNet>,
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
    /// It exists, with these records.
    Records(&'a [RecordSet]),
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
    sets: Vec<RecordSet>,
    children: u32,
    /// It exists for its own sake, by [`Data::Empty`].
    is_kept: bool,
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
        for reverse in REVERSE {
            let mut zone = Zone::new(Name::parse(reverse)?, serial)?;
            zone.falls_through = true;
            zones.add(zone);
        }
        Ok(zones)
    }

    /// Adds the zone of a cluster set. It loads by itself: [`Zones::loaded_below`].
    ///
    /// # Errors
    /// `domain` is not a domain name, or leaves no room for the names below it.
    pub fn with_clusterset(mut self, domain: &str, serial: u32) -> Result<Self, NameError> {
        let origin = Name::parse(domain)?;
        let mut zone = Zone::new(origin.clone(), serial)?;
        zone.insert(Record { owner: origin.child("dns-version")?, data: Data::Txt("1.0.0".into()) });
        self.add(zone);
        Ok(self)
    }

    /// Makes no names of addresses: a pod has one only by a record.
    pub fn without_guessed_pods(mut self) -> Self {
        for zone in &mut self.zones {
            zone.pods = None;
        }
        self
    }

    /// An address of these networks that has no name here has none elsewhere.
    pub fn with_own_networks(mut self, networks: Vec<IpNet>) -> Self {
        self.own = networks;
        self
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

    /// The same for one zone.
    pub fn loaded_below(&mut self, origin: &Name) {
        if let Some(zone) = self.zones.iter_mut().find(|zone| zone.origin == *origin) {
            zone.is_loaded = true;
        }
    }

    /// The same for the names of addresses.
    pub fn reverse_loaded(&mut self) {
        for zone in self.zones.iter_mut().filter(|zone| zone.falls_through) {
            zone.is_loaded = true;
        }
    }

    /// Whether all zones are complete.
    pub fn is_loaded(&self) -> bool {
        self.loading().next().is_none()
    }

    /// The origins of the zones that are not complete.
    pub fn loading(&self) -> impl Iterator<Item = &Name> {
        self.zones.iter().filter(|zone| !zone.is_loaded).map(|zone| &zone.origin)
    }

    /// How many names exist below each origin.
    pub fn sizes(&self) -> impl Iterator<Item = (&Name, usize)> {
        self.zones.iter().map(|zone| (&zone.origin, zone.len()))
    }

    /// Whether an address' name that is not there is nowhere else either.
    pub(crate) fn is_own(&self, name: &[u8]) -> bool {
        !self.own.is_empty() && network(name).is_some_and(|asked| self.own.iter().any(|own| own.contains(&asked)))
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

    /// All names with their records in wire format, whether they are kept, and the number of names
    /// below them.
    #[cfg(test)]
    pub(crate) fn contents(&self) -> std::collections::BTreeMap<Name, (Vec<Vec<u8>>, bool, u32)> {
        let nodes = self.zones.iter().flat_map(|zone| &zone.nodes);
        let content = nodes.map(|(name, node)| {
            let mut records: Vec<_> = node.sets.iter().flat_map(RecordSet::records).map(<[u8]>::to_vec).collect();
            records.sort();
            (name.clone(), (records, node.is_kept, node.children))
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
        if !self.nodes.contains_key(&record.owner) {
            self.make_parents(record.owner.as_bytes(), suffix);
        }
        let node = self.nodes.entry(record.owner).or_default();
        if node.insert(&record.data) {
            self.bump();
        }
    }

    /// Removes a record, if it is there.
    pub fn remove(&mut self, record: &Record) {
        let Some(suffix) = self.suffix(record.owner.as_bytes()) else {
            return;
        };
        let Some(node) = self.nodes.get_mut(record.owner.as_bytes()) else {
            return;
        };
        if node.remove(&record.data) {
            self.prune(record.owner.as_bytes(), suffix);
            self.bump();
        }
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
            return Found::Records(&node.sets);
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

    pub(crate) fn origin(&self) -> &Name {
        &self.origin
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
            let node = Node { children: 1, ..Node::default() };
            self.nodes.insert(Name::from_wire(above), node);
            at = above;
        }
    }

    /// Removes `name` when nothing is left of it, and then the names above it likewise.
    fn prune(&mut self, name: &[u8], suffix: usize) {
        let mut at = name;
        loop {
            match self.nodes.get(at) {
                Some(node) if node.is_empty() => {
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

impl Node {
    fn is_empty(&self) -> bool {
        self.sets.is_empty() && self.children == 0 && !self.is_kept
    }

    /// Whether that changed anything.
    fn insert(&mut self, data: &Data) -> bool {
        let Some(record_type) = data.record_type() else {
            return !std::mem::replace(&mut self.is_kept, true);
        };
        if let Some(set) = self.sets.iter_mut().find(|set| set.record_type() == record_type) {
            return set.insert(data);
        }
        self.sets.reserve_exact(1);
        self.sets.extend(RecordSet::new(data));
        true
    }

    /// Whether that changed anything.
    fn remove(&mut self, data: &Data) -> bool {
        let Some(record_type) = data.record_type() else {
            return std::mem::replace(&mut self.is_kept, false);
        };
        let Some(at) = self.sets.iter().position(|set| set.record_type() == record_type) else {
            return false;
        };
        let is_changed = self.sets[at].remove(data);
        if self.sets[at].count() == 0 {
            self.sets.remove(at);
        }
        is_changed
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
