//! What this side says in its OPEN, whether the neighbour's is acceptable, and what follows from both.

use std::cmp::Ordering;
use std::time::Duration;

use super::{Direction, Local, Negotiated, PeerKind, PeerRestart, Reason};
use crate::Family;
use crate::config::{Neighbor, Role};
use crate::wire::notification::open as subcode;
use crate::wire::open::{AS_TRANS, VERSION};
use crate::wire::{Capability, Notification, Open};

const UNICAST: u8 = 1;
const RECEIVE: u8 = 1;
const SEND: u8 = 2;

fn local_asn(local: &Local, neighbor: &Neighbor) -> u32 {
    neighbor.local_asn.unwrap_or(local.asn)
}

/// The own OPEN.
pub(super) fn own_open(local: &Local, neighbor: &Neighbor) -> Open {
    let asn = local_asn(local, neighbor);
    let families = &neighbor.families;
    let mut capabilities: Vec<Capability> =
        families.iter().map(|family| Capability::Multiprotocol { afi: family.afi(), safi: UNICAST }).collect();
    capabilities.extend([Capability::RouteRefresh, Capability::EnhancedRefresh, Capability::FourOctetAs(asn)]);
    if neighbor.extended_messages {
        capabilities.push(Capability::ExtendedMessage);
    }
    // Roles are for external sessions (RFC 9234, section 4.1).
    if let Some(role) = neighbor.role.filter(|_| neighbor.remote_asn != Some(asn)) {
        capabilities.push(Capability::Role(role.to_wire()));
    }
    let mode = own_mode(neighbor);
    if mode != 0 {
        capabilities.push(Capability::AddPath(families.iter().map(|f| (f.afi(), UNICAST, mode)).collect()));
    }
    if let Some(graceful) = &local.graceful_restart {
        let forwarding = graceful.preserves_forwarding;
        capabilities.push(Capability::GracefulRestart {
            restarting: graceful.restarting,
            notification: true,
            time: graceful.restart_time.as_secs().min(0x0fff) as u16,
            families: families.iter().map(|f| (f.afi(), UNICAST, forwarding)).collect(),
        });
        if let Some(time) = graceful.long_lived {
            let time = time.as_secs().min(0x00ff_ffff) as u32;
            let families = families.iter().map(|f| (f.afi(), UNICAST, forwarding, time)).collect();
            capabilities.push(Capability::LongLivedGracefulRestart(families));
        }
    } else {
        // Without families it keeps nothing and asks for nothing, but the neighbour's End-of-RIB: FRR sends it to nobody
        // else, and before it answers no ROUTE-REFRESH.
        let (restarting, notification, time) = (false, false, 0);
        let families = Vec::new();
        capabilities.push(Capability::GracefulRestart { restarting, notification, time, families });
    }
    Open { version: VERSION, asn, hold_time: hold_time(neighbor), router_id: local.router_id, capabilities }
}

/// In seconds; 1 and 2 are nobody's (RFC 4271, section 4.2).
fn hold_time(neighbor: &Neighbor) -> u16 {
    match neighbor.hold_time.as_secs() {
        0 if neighbor.hold_time.is_zero() => 0,
        seconds => seconds.clamp(3, 65535) as u16,
    }
}

fn own_mode(neighbor: &Neighbor) -> u8 {
    let receive = if neighbor.add_path.receive { RECEIVE } else { 0 };
    receive | if neighbor.add_path.send > 1 { SEND } else { 0 }
}

/// What two OPENs make of a session.
///
/// # Errors
/// Why the neighbour's is refused, and what it is told.
pub(super) fn negotiate(
    local: &Local,
    neighbor: &Neighbor,
    direction: Direction,
    open: &Open,
) -> Result<Negotiated, Reason> {
    let local_asn = local_asn(local, neighbor);
    let kind = if open.asn == local_asn { PeerKind::Internal } else { PeerKind::External };
    check_identity(local, neighbor, kind, open)?;
    let remote_role = check_role(neighbor, kind, open)?;
    let families = common_families(neighbor, open)?;

    let has = |wanted: &Capability| open.capabilities.contains(wanted);
    let common = |afi: u16, safi: u8| Family::from_wire(afi, safi).filter(|family| families.contains(family));
    let mode = own_mode(neighbor);
    let (mut add_path_receive, mut add_path_send) = (Vec::new(), Vec::new());
    let (mut graceful, mut long_lived) = (None, Vec::new());
    // Of several of a kind the last counts (RFC 4724, section 3; RFC 7911, section 4).
    for capability in &open.capabilities {
        match capability {
            Capability::AddPath(entries) => {
                for &(afi, safi, theirs) in entries {
                    let Some(family) = common(afi, safi) else { continue };
                    add_path_receive.retain(|f| *f != family);
                    add_path_send.retain(|f| *f != family);
                    if mode & RECEIVE != 0 && theirs & SEND != 0 {
                        add_path_receive.push(family);
                    }
                    if mode & SEND != 0 && theirs & RECEIVE != 0 {
                        add_path_send.push(family);
                    }
                }
            }
            Capability::GracefulRestart { restarting, notification, time, families } => {
                let families =
                    families.iter().filter_map(|&(afi, safi, f)| common(afi, safi).map(|family| (family, f)));
                graceful = local.graceful_restart.as_ref().map(|_| PeerRestart {
                    time: Duration::from_secs(u64::from(*time)),
                    restarting: *restarting,
                    notification: *notification,
                    families: families.collect(),
                });
            }
            Capability::LongLivedGracefulRestart(entries) => {
                let entries = entries.iter().filter_map(|&(afi, safi, forwarding, time)| {
                    Some((common(afi, safi)?, forwarding, Duration::from_secs(u64::from(time))))
                });
                long_lived = entries.collect();
            }
            _ => {}
        }
    }
    // Alone it means nothing (RFC 9494, section 4.1).
    if graceful.is_none() || local.graceful_restart.as_ref().is_none_or(|own| own.long_lived.is_none()) {
        long_lived.clear();
    }
    Ok(Negotiated {
        remote_asn: open.asn,
        local_asn,
        remote_id: open.router_id,
        kind,
        direction,
        hold_time: Duration::from_secs(u64::from(hold_time(neighbor).min(open.hold_time))),
        four_octet: open.capabilities.iter().any(|c| matches!(c, Capability::FourOctetAs(_))),
        add_path_receive,
        add_path_send,
        extended: neighbor.extended_messages && has(&Capability::ExtendedMessage),
        extended_receive: neighbor.extended_messages,
        refresh: has(&Capability::RouteRefresh),
        enhanced_refresh: has(&Capability::EnhancedRefresh),
        graceful,
        long_lived,
        remote_role,
        families,
    })
}

fn refused(words: String, subcode: u8, data: Vec<u8>) -> Reason {
    Reason::Refused { words, notification: Notification::open(subcode, data) }
}

/// AS number and router ID.
fn check_identity(local: &Local, neighbor: &Neighbor, kind: PeerKind, open: &Open) -> Result<(), Reason> {
    if let Some(expected) = neighbor.remote_asn.filter(|expected| *expected != open.asn) {
        let words = format!(
            "the neighbour says it is AS {}, {expected} was expected; correct one of the two \
             (peer-router-asns / node.asn)",
            open.asn
        );
        return Err(refused(words, subcode::BAD_PEER_AS, Vec::new()));
    }
    let four = open.capabilities.iter().any(|c| matches!(c, Capability::FourOctetAs(_)));
    if !four && open.asn == u32::from(AS_TRANS) {
        let words = format!("the neighbour says it is AS {AS_TRANS}, which is nobody's");
        return Err(refused(words, subcode::BAD_PEER_AS, Vec::new()));
    }
    // Another AS may use the same number (RFC 6286, section 2.1).
    if kind == PeerKind::Internal && open.router_id == local.router_id {
        let words = format!(
            "the neighbour has our own router ID, {}; give one of the two another (router-id), or do not let a \
             speaker peer with itself",
            open.router_id
        );
        return Err(refused(words, subcode::BAD_IDENTIFIER, Vec::new()));
    }
    Ok(())
}

/// The neighbour's role, if it fits to the own one (RFC 9234, section 4.2).
fn check_role(neighbor: &Neighbor, kind: PeerKind, open: &Open) -> Result<Option<Role>, Reason> {
    if kind == PeerKind::Internal {
        return Ok(None);
    }
    let mut roles = open.capabilities.iter().filter_map(|capability| match capability {
        Capability::Role(role) => Some(*role),
        _ => None,
    });
    let first = roles.next();
    let Some(own) = neighbor.role else { return Ok(first.and_then(Role::from_wire)) };
    let mismatch = |words: String| Err(refused(words, subcode::ROLE_MISMATCH, Vec::new()));
    let Some(number) = first else {
        if neighbor.strict_role {
            return mismatch(format!("the neighbour does not tell its role, and ours, {own}, is strict"));
        }
        return Ok(None);
    };
    if roles.any(|role| role != number) {
        return mismatch("the neighbour says that it has several roles".to_owned());
    }
    match Role::from_wire(number) {
        Some(role) if role == own.counterpart() => Ok(Some(role)),
        Some(role) => {
            mismatch(format!("the neighbour's role is {role} and ours is {own}; it must be {}", own.counterpart()))
        }
        None => mismatch(format!("the neighbour has a role that is unknown here, number {number}")),
    }
}

fn common_families(neighbor: &Neighbor, open: &Open) -> Result<Vec<Family>, Reason> {
    let mut theirs: Vec<(u16, u8)> = Vec::new();
    for capability in &open.capabilities {
        if let Capability::Multiprotocol { afi, safi } = capability {
            theirs.push((*afi, *safi));
        }
    }
    if theirs.is_empty() {
        // Before multiprotocol there was IPv4.
        theirs.push((1, UNICAST));
    }
    let ours = &neighbor.families;
    let families: Vec<Family> =
        ours.iter().copied().filter(|family| theirs.contains(&(family.afi(), UNICAST))).collect();
    if !families.is_empty() {
        return Ok(families);
    }
    let name = |&(afi, safi): &(u16, u8)| match Family::from_wire(afi, safi) {
        Some(family) => family.to_string(),
        None => format!("AFI {afi} SAFI {safi}"),
    };
    let words = format!(
        "no address family in common: the neighbour has {}, this side has {}",
        theirs.iter().take(8).map(name).collect::<Vec<_>>().join(", "),
        ours.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    );
    let mut data = Vec::new();
    for family in ours {
        Capability::Multiprotocol { afi: family.afi(), safi: UNICAST }.encode(&mut data);
    }
    Err(refused(words, subcode::UNSUPPORTED_CAPABILITY, data))
}

/// Whether a connection is the one that stays when there are two (RFC 4271, section 6.8; RFC 6286, section 2.3): that
/// of the side with the greater router ID, or AS number.
pub(super) fn stays(local: &Local, neighbor: &Neighbor, direction: Direction, open: &Open) -> bool {
    let own = (u32::from(local.router_id), local_asn(local, neighbor));
    let ours_stays = own.cmp(&(u32::from(open.router_id), open.asn)) == Ordering::Greater;
    ours_stays == (direction == Direction::Outgoing)
}
