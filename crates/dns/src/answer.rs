//! From the bytes of a query to the bytes of its response.

use crate::TTL;
use crate::message::{CLASS_IN, Malformed, Query, Rcode, RecordType, Writer, bare_error};
use crate::name::Name;
use crate::zone::{Data, Found, Zone, Zones};

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
    let suffix = zone.suffix(query.name()).unwrap_or_default();
    match zone.find(query.name()) {
        Found::Records(records) => from_records(query, records, zone, zones, writer),
        Found::Pod(address) => {
            let data = Data::address(address);
            if is_wanted(&data, query.record_type) {
                writer.answer(None, &data, TTL);
            } else {
                writer.soa(suffix, zone.soa(), TTL, false);
            }
            Reply::Send
        }
        Found::Apex => {
            let is_answer = [RecordType::SOA, RecordType::ANY].contains(&query.record_type);
            writer.soa(suffix, zone.soa(), TTL, is_answer);
            Reply::Send
        }
        Found::Nothing => {
            writer.rcode(Rcode::NxDomain);
            writer.soa(suffix, zone.soa(), TTL, false);
            if zone.falls_through() {
                return Reply::Forward;
            }
            Reply::Send
        }
    }
}

fn from_records(query: &Query<'_>, records: &[Data], zone: &Zone, zones: &Zones, writer: &mut Writer<'_>) -> Reply {
    if let Some(target) = alias(records, query.record_type) {
        writer.answer(None, &Data::Cname(target.clone()), TTL);
        return follow(query, target, zones, writer);
    }
    if !write_wanted(None, records, query, writer) {
        let suffix = zone.suffix(query.name()).unwrap_or_default();
        writer.soa(suffix, zone.soa(), TTL, false);
    }
    Reply::Send
}

/// Goes on with the names that aliases stand for, as long as they are ours.
fn follow(query: &Query<'_>, target: &Name, zones: &Zones, writer: &mut Writer<'_>) -> Reply {
    let mut target = target;
    for _ in 0..MAX_ALIASES {
        let Some(zone) = zones.of(target.as_bytes()) else {
            return Reply::Follow(target.clone());
        };
        let owner = target.as_bytes();
        match zone.find(owner) {
            Found::Records(records) => match alias(records, query.record_type) {
                Some(next) => {
                    writer.answer(Some(owner), &Data::Cname(next.clone()), TTL);
                    target = next;
                }
                None => {
                    write_wanted(Some(owner), records, query, writer);
                    return Reply::Send;
                }
            },
            Found::Pod(address) => {
                let data = Data::address(address);
                if is_wanted(&data, query.record_type) {
                    writer.answer(Some(owner), &data, TTL);
                }
                return Reply::Send;
            }
            Found::Apex => return Reply::Send,
            Found::Nothing => {
                // RFC 6604: the code is that of the last name.
                writer.rcode(Rcode::NxDomain);
                return Reply::Send;
            }
        }
    }
    writer.rcode(Rcode::ServFail);
    Reply::Send
}

fn alias(records: &[Data], wanted: RecordType) -> Option<&Name> {
    if [RecordType::CNAME, RecordType::ANY].contains(&wanted) {
        return None;
    }
    records.iter().find_map(|data| match data {
        Data::Cname(target) => Some(target),
        _ => None,
    })
}

/// Writes the records of the wanted type, beginning with another one each time, since most clients
/// take the first. Whether there were any.
fn write_wanted(owner: Option<&[u8]>, records: &[Data], query: &Query<'_>, writer: &mut Writer<'_>) -> bool {
    // One type is enough for who asks for all of them (RFC 8482).
    let wanted = match (query.record_type, records.first()) {
        (RecordType::ANY, Some(first)) => first.record_type(),
        (wanted, _) => wanted,
    };
    let of_type = || records.iter().filter(|data| data.record_type() == wanted);
    let count = of_type().count();
    if count == 0 {
        return false;
    }
    let first = usize::from(query.id) % count;
    for data in of_type().cycle().skip(first).take(count) {
        if !writer.answer(owner, data, TTL) {
            break;
        }
    }
    true
}

fn is_wanted(data: &Data, wanted: RecordType) -> bool {
    [RecordType::ANY, data.record_type()].contains(&wanted)
}
