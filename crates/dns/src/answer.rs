//! From the bytes of a query to the bytes of its response.

use std::net::IpAddr;

use crate::message::{CLASS_IN, Malformed, Query, Rcode, RecordType};
use crate::name::Name;
use crate::record::{Data, RecordSet};
use crate::writer::{SoaOwner, Writer, bare_error};
use crate::zone::{Found, Zone, Zones};

/// How many aliases are followed.
const MAX_ALIASES: usize = 8;

/// How a query came, which says how long the response may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// In a datagram: 512 bytes, or what the client takes by EDNS, up to 1232.
    Udp,
    /// Over a connection: 65535 bytes.
    Tcp,
}

/// What is to be done about a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Send what was written.
    Send,
    /// Send nothing.
    Silence,
    /// It is not for any of the zones. What was written says so (REFUSED, or NXDOMAIN for an
    /// address without a name), in case there is nobody to ask.
    Forward,
    /// What was written ends with an alias for this name, which is not in any of the zones: the
    /// records of the name belong behind it, if there is somebody to ask.
    Follow(Name),
}

/// Writes the response to `packet` into `out`, which is emptied first. Any bytes are welcome: this
/// is where the network's come in.
///
/// `recursion_available` says whether [`Reply::Forward`] will be followed.
pub fn answer(
    packet: &[u8],
    zones: &Zones,
    transport: Transport,
    recursion_available: bool,
    out: &mut Vec<u8>,
) -> Reply {
    let query = match Query::parse(packet) {
        Ok(query) => query,
        Err(Malformed::Silent) => return Reply::Silence,
        Err(Malformed::Told { id, flags, rcode }) => {
            bare_error(id, flags, rcode, out);
            return Reply::Send;
        }
    };
    let limit = match transport {
        Transport::Udp => query.udp_limit(),
        Transport::Tcp => usize::from(u16::MAX),
    };
    let mut writer = Writer::new(&query, recursion_available, limit, out);
    let reply = reply(&query, zones, &mut writer);
    writer.finish();
    reply
}

/// Writes a response without records.
pub(crate) fn refuse(query: &Query<'_>, recursion_available: bool, rcode: Rcode, out: &mut Vec<u8>) {
    let limit = query.udp_limit();
    let mut writer = Writer::new(query, recursion_available, limit, out);
    writer.rcode(rcode);
    writer.finish();
}

fn reply(query: &Query<'_>, zones: &Zones, writer: &mut Writer<'_>) -> Reply {
    if query.edns.is_some_and(|edns| edns.version != 0) {
        writer.rcode(Rcode::BadVers);
        return Reply::Send;
    }
    let is_transfer = [RecordType::AXFR, RecordType::IXFR].contains(&query.record_type);
    if query.class != CLASS_IN || is_transfer {
        writer.rcode(Rcode::Refused);
        return Reply::Send;
    }
    let Some(zone) = zones.of(query.name()) else {
        writer.rcode(Rcode::Refused);
        return Reply::Forward;
    };
    from_zone(query, zone, zones, writer)
}

fn from_zone(query: &Query<'_>, zone: &Zone, zones: &Zones, writer: &mut Writer<'_>) -> Reply {
    if !zone.is_loaded() {
        writer.rcode(Rcode::ServFail);
        return Reply::Send;
    }
    writer.authoritative();
    match zone.find(query.name()) {
        Found::Records(sets) => from_records(query, sets, zone, zones, writer),
        Found::Pod(address) => {
            if !write_address(None, address, query, writer) {
                no_data(query, zone, writer);
            }
            Reply::Send
        }
        Found::Apex => {
            let is_answer = [RecordType::SOA, RecordType::ANY].contains(&query.record_type);
            let suffix = zone.suffix(query.name()).unwrap_or_default();
            writer.soa(SoaOwner::Question(suffix), zone.soa(), is_answer);
            Reply::Send
        }
        Found::Nothing => {
            writer.rcode(Rcode::NxDomain);
            no_data(query, zone, writer);
            if zone.falls_through() && !zones.is_own(query.name()) {
                return Reply::Forward;
            }
            Reply::Send
        }
    }
}

fn from_records(query: &Query<'_>, sets: &[RecordSet], zone: &Zone, zones: &Zones, writer: &mut Writer<'_>) -> Reply {
    if let Some(alias) = alias(sets, query.record_type) {
        writer.answers(None, alias, 0);
        return follow(query, alias, zones, writer);
    }
    if !write_wanted(None, sets, query, writer) {
        no_data(query, zone, writer);
    }
    Reply::Send
}

/// Says of which zone's SOA record the negative answer is (RFC 2308 section 3).
fn no_data(query: &Query<'_>, zone: &Zone, writer: &mut Writer<'_>) {
    let suffix = zone.suffix(query.name()).unwrap_or_default();
    writer.soa(SoaOwner::Question(suffix), zone.soa(), false);
}

/// Goes on with the names that aliases stand for, as long as they are ours.
fn follow(query: &Query<'_>, alias_set: &RecordSet, zones: &Zones, writer: &mut Writer<'_>) -> Reply {
    let mut target = alias_set.target().unwrap_or_default();
    for _ in 0..MAX_ALIASES {
        let Some(zone) = zones.of(target) else {
            return Reply::Follow(Name::from_wire(target));
        };
        if !zone.is_loaded() {
            writer.rcode(Rcode::ServFail);
            return Reply::Send;
        }
        let is_answered = match zone.find(target) {
            Found::Records(sets) => match alias(sets, query.record_type) {
                Some(next) => {
                    writer.answers(Some(target), next, 0);
                    target = next.target().unwrap_or_default();
                    continue;
                }
                None => write_wanted(Some(target), sets, query, writer),
            },
            Found::Pod(address) => write_address(Some(target), address, query, writer),
            Found::Apex => false,
            Found::Nothing => {
                if zone.falls_through() && !zones.is_own(target) {
                    return Reply::Follow(Name::from_wire(target));
                }
                // RFC 6604: the code is that of the last name.
                writer.rcode(Rcode::NxDomain);
                false
            }
        };
        if !is_answered {
            writer.soa(SoaOwner::Name(zone.origin()), zone.soa(), false);
        }
        return Reply::Send;
    }
    writer.rcode(Rcode::ServFail);
    Reply::Send
}

fn alias(sets: &[RecordSet], wanted: RecordType) -> Option<&RecordSet> {
    if [RecordType::CNAME, RecordType::ANY].contains(&wanted) {
        return None;
    }
    sets.iter().find(|set| set.record_type() == RecordType::CNAME)
}

/// Writes the records of the wanted type, beginning with another one each time, since most clients
/// take the first. Whether there were any.
fn write_wanted(owner: Option<&[u8]>, sets: &[RecordSet], query: &Query<'_>, writer: &mut Writer<'_>) -> bool {
    let wanted = match query.record_type {
        // One type is enough for who asks for all of them (RFC 8482 section 4.1).
        RecordType::ANY => sets.first(),
        wanted => sets.iter().find(|set| set.record_type() == wanted),
    };
    let Some(set) = wanted else {
        return false;
    };
    let first = if set.count() > 1 { query.id % set.count() } else { 0 };
    writer.answers(owner, set, first);
    true
}

/// Writes the record of an address, if it is of the wanted type. Whether it was.
fn write_address(owner: Option<&[u8]>, address: IpAddr, query: &Query<'_>, writer: &mut Writer<'_>) -> bool {
    let Some(set) = RecordSet::new(&Data::address(address)) else {
        return false;
    };
    write_wanted(owner, std::slice::from_ref(&set), query, writer)
}
