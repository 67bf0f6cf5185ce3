//! External peers, as flags and annotations name them.

mod yaml;

use std::net::IpAddr;
use std::time::Duration;

use tombolo_bgp::config::{Bfd, PORT, Password};

use crate::parse::{self, Problem};

pub(crate) use yaml::from_yaml;

/// An external peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Where it is.
    pub address: IpAddr,
    /// Its autonomous system; the own one makes it an internal neighbour, such as a reflector beside the cluster.
    pub asn: u32,
    /// Its port.
    pub port: u16,
    /// The own address towards it; `None` is the node's first one of that family.
    pub local_address: Option<IpAddr>,
    /// The key of TCP MD5 signatures (RFC 2385).
    pub password: Option<Password>,
    /// Forwarding detection with it.
    pub bfd: PeerBfd,
}

/// Whether a peer is watched by BFD (RFC 5880).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerBfd {
    /// As the flags say.
    AsFlags,
    /// It is not.
    Off,
    /// With these timers.
    On(Bfd),
}

/// The only port of BFD over one hop (RFC 5881, section 4).
pub(crate) const BFD_PORT: u32 = 3784;

/// The timers of BFD, from milliseconds.
pub(crate) fn bfd(transmit: u64, receive: u64, multiplier: u64) -> Result<Bfd, (&'static str, u64, String)> {
    let interval = |which: &'static str, millis: u64| match millis {
        // Microseconds have 32 bits in the packet.
        1..=4_294_967 => Ok(Duration::from_millis(millis)),
        _ => Err((which, millis, "it is no interval; write milliseconds from 1 to 4294967".to_owned())),
    };
    Ok(Bfd {
        transmit: interval("desired_min_tx_interval", transmit)?,
        receive: interval("required_min_rx_interval", receive)?,
        multiplier: u8::try_from(multiplier).ok().filter(|n| *n != 0).ok_or_else(|| {
            ("detection_multiplier", multiplier, "it is no count of packets; write one from 1 to 255".to_owned())
        })?,
    })
}

/// The most peers that lists may name.
const MOST_PEERS: usize = 1024;

/// Lists whose places belong together: of flags, or of the annotations `peer.*`.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    pub ips: Vec<String>,
    pub asns: Vec<String>,
    pub ports: Vec<String>,
    pub passwords: Vec<String>,
    pub local_ips: Vec<String>,
}

/// What the lists are called, to say which is wrong.
pub(crate) struct Names {
    pub ips: &'static str,
    pub asns: &'static str,
    pub ports: &'static str,
    pub passwords: &'static str,
    pub local_ips: &'static str,
}

/// The peers that lists name, or none where the lists do not go together. A peer with something wrong is left out:
/// without its password, its port or its address it would be another one.
pub(crate) fn from_lists(lists: &Lists, names: &Names, problems: &mut Vec<Problem>) -> Option<Vec<Peer>> {
    let count = lists.ips.len();
    if count == 0 {
        for (name, list) in [
            (names.asns, &lists.asns),
            (names.ports, &lists.ports),
            (names.passwords, &lists.passwords),
            (names.local_ips, &lists.local_ips),
        ] {
            if !list.is_empty() {
                let shown = if name == names.passwords { hidden(list) } else { list.join(",") };
                problems.push(Problem::new(name, shown, format!("there are no addresses to it; write {}", names.ips)));
            }
        }
        return None;
    }
    let before = problems.len();
    if count > MOST_PEERS {
        let reason = format!("there are {count} addresses, and {MOST_PEERS} is the most; write fewer");
        problems.push(Problem::new(names.ips, "…", reason));
    }
    if lists.asns.len() != count {
        let reason = format!(
            "{} and {}; write one AS number for each address, in {} and {}",
            counted(count, "address", "addresses"),
            counted(lists.asns.len(), "AS number", "AS numbers"),
            names.ips,
            names.asns,
        );
        problems.push(Problem::new(names.asns, lists.asns.join(","), reason));
    }
    for (name, list, one, many) in [
        (names.ports, &lists.ports, "port", "ports"),
        (names.passwords, &lists.passwords, "password", "passwords"),
        (names.local_ips, &lists.local_ips, "local address", "local addresses"),
    ] {
        if !list.is_empty() && list.len() != count {
            let reason = format!(
                "{} and {}; write none or one for each address, with nothing between the commas where a peer needs \
                 none",
                counted(count, "address", "addresses"),
                counted(list.len(), one, many),
            );
            let shown = if name == names.passwords { hidden(list) } else { list.join(",") };
            problems.push(Problem::new(name, shown, reason));
        }
    }
    if problems.len() > before {
        return None;
    }
    let mut peers: Vec<Peer> = Vec::new();
    for (i, (ip, asn)) in lists.ips.iter().zip(&lists.asns).enumerate() {
        let mut reader = Reader { problems: &mut *problems, place: format!("[{i}]"), sound: true };
        let address = reader.read(names.ips, ip, parse::host);
        let asn = reader.read(names.asns, asn, parse::asn);
        let port = reader.optional(names.ports, &lists.ports, i, parse::port);
        let local = reader.optional(names.local_ips, &lists.local_ips, i, parse::host);
        let password = reader.password(names.passwords, &lists.passwords, i);
        let (Some(address), Some(asn), true) = (address, asn, reader.sound) else { continue };
        let peer =
            Peer { address, asn, port: port.unwrap_or(PORT), local_address: local, password, bfd: PeerBfd::AsFlags };
        add(&mut peers, peer, &format!("{}[{i}]", names.ips), problems);
    }
    Some(peers)
}

/// Adds a peer that goes with the ones before.
fn add(peers: &mut Vec<Peer>, peer: Peer, field: &str, problems: &mut Vec<Problem>) {
    let address = peer.address;
    if let Some(local) = peer.local_address.filter(|local| local.is_ipv4() != address.is_ipv4()) {
        let reason =
            format!("its local address {local} is of the other family; write one that can send to {address}, or none");
        problems.push(Problem::new(field, address.to_string(), reason));
    } else if peers.iter().any(|p| p.address == address) {
        problems.push(Problem::new(field, address.to_string(), "it is there already; write each peer once"));
    } else {
        peers.push(peer);
    }
}

struct Reader<'a> {
    problems: &'a mut Vec<Problem>,
    place: String,
    sound: bool,
}

impl Reader<'_> {
    fn read<T>(&mut self, name: &str, text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        match parse(text) {
            Ok(value) => Some(value),
            Err(reason) => {
                self.fail(name, text, &reason);
                None
            }
        }
    }

    fn optional<T>(
        &mut self,
        name: &str,
        list: &[String],
        i: usize,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = list.get(i).filter(|text| !text.is_empty())?;
        self.read(name, text, parse)
    }

    fn password(&mut self, name: &str, list: &[String], i: usize) -> Option<Password> {
        let text = list.get(i).filter(|text| !text.is_empty())?;
        parse::password(text).map_err(|reason| self.fail(name, "…", &reason)).ok()
    }

    fn fail(&mut self, name: &str, value: &str, reason: &str) {
        self.sound = false;
        let reason = format!("{reason}; the peer is left out");
        self.problems.push(Problem::new(format!("{name}{}", self.place), value, reason));
    }
}

/// Passwords are not repeated.
fn hidden(list: &[String]) -> String {
    vec!["…"; list.len()].join(",")
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("there {} {count} {}", if count == 1 { "is" } else { "are" }, if count == 1 { one } else { many })
}
