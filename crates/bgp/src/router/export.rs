//! What has changed, out to neighbours and into the routes that packets take.

use std::sync::Arc;

use super::peer::{CatchUp, Ending, Feed, Peer, index};
use super::{Connection, Rib, RouteChange, Router, mark, of_family};
use crate::Family;
use crate::config::Origin;
use crate::export::queue::LIMIT;
use crate::export::{Burst, Context, Group, View, encode};
use crate::prefix::{self, Prefix, V4, V6};
use crate::rib::table::Bits;
use crate::rib::{Slot, SourceId, Table, decision};
use crate::session::{ConnId, PeerKind};
use crate::update::Update;
use crate::update::attributes::{iter, kind};
use crate::wire::{HEADER, Kind, MAX, MAX_EXTENDED, RouteRefresh, Subtype};

/// A neighbour that has less than this to read is told more of what it has to catch up with.
const LOW: usize = if cfg!(test) { 1 << 7 } else { 256 << 10 };
/// How many slots it is told of at a time.
const STRIDE: usize = if cfg!(test) { 2 } else { 4096 };

impl Router {
    /// Whether a [`Router::flush`] has anything to do.
    pub fn has_changes(&self) -> bool {
        self.deferral.is_none() && (self.v4.table.has_changed() || self.v6.table.has_changed())
    }

    /// Whether nothing is told yet, because this speaker restarts (RFC 4724, section 4.1).
    pub fn is_deferring(&self) -> bool {
        self.deferral.is_some()
    }

    /// Tells all neighbours what has changed.
    pub fn flush(&mut self) {
        if !self.has_changes() {
            return;
        }
        self.tidy();
        self.epoch += 1;
        self.flush_family(Family::Ipv4);
        self.flush_family(Family::Ipv6);
        self.store.collect();
    }

    /// Gives back the memory of prefixes that are gone, and that nobody has to be told of any more.
    pub fn tidy(&mut self) {
        for family in Family::ALL {
            let oldest = oldest_epoch(&self.peers, &self.connections, family);
            of_family!(self, family, rib => tidy(rib, oldest));
        }
    }

    fn flush_family(&mut self, family: Family) {
        let cluster_id = self.config.cluster_id.unwrap_or(self.config.router_id);
        let context = Context { store: &self.store, sources: &self.sources, cluster_id };
        let deliver = Delivery {
            family,
            epoch: self.epoch,
            peers: &mut self.peers,
            connections: &mut self.connections,
            ready: &mut self.ready,
        };
        let installing = self.installs.then_some((&mut self.routes, self.config.multipath));
        of_family!(self, family, rib => flush(rib, context, deliver, installing));
    }

    /// Brings more into a connection's queue, if its neighbour has to catch up and reads on.
    pub fn refill(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get(conn.0 as usize).and_then(Option::as_ref) else { return };
        if connection.queue.len() >= LOW || self.deferral.is_some() {
            return;
        }
        let id = connection.peer;
        for family in Family::ALL {
            self.catch_up(id, conn, family);
        }
    }

    fn catch_up(&mut self, id: SourceId, conn: ConnId, family: Family) {
        let cluster_id = self.config.cluster_id.unwrap_or(self.config.router_id);
        let context = Context { store: &self.store, sources: &self.sources, cluster_id };
        let Some(peer) = self.peers[id as usize].as_mut().filter(|p| p.up.as_ref().is_some_and(|up| up.conn == conn))
        else {
            return;
        };
        let Some(connection) = self.connections[conn.0 as usize].as_mut() else { return };
        let Some(feed) = peer.families[index(family)].feed.as_mut() else { return };
        while let Some(catch_up) = feed.catch_up.as_mut() {
            if connection.queue.len() >= LOW {
                return;
            }
            let (slots, next) = catch_up.slots.take(catch_up.at, STRIDE);
            let mut burst = Burst::default();
            of_family!(self, family, rib => {
                if let Some(group) = rib.groups[feed.group].as_mut() {
                    group.tell(id, &rib.table, &slots, context, &mut burst);
                }
            });
            peer.session.count_updates_sent(burst.segments.iter().map(|s| s.updates).sum());
            connection.queue.push_own(burst.bytes, self.epoch);
            mark(&mut self.ready, conn, connection);
            match next {
                Some(at) => catch_up.at = at,
                // What changed meanwhile may be before where it is.
                None if !catch_up.slots.is_empty() => catch_up.at = 0,
                None => {
                    match catch_up.ending {
                        Ending::Nothing => {}
                        Ending::EndOfRib => connection.queue.push_own(Burst::end_of_rib(family), self.epoch),
                        Ending::EndOfRefresh => connection.queue.push_own(marker(family, Subtype::End), self.epoch),
                    }
                    feed.catch_up = None;
                }
            }
        }
    }

    /// A session came up: what it is to be told of a family, and when.
    pub(super) fn join(&mut self, id: SourceId, family: Family) {
        let Some(view) = self.view(id, family) else { return };
        let (group, slots) = self.group(family, view);
        of_family!(self, family, rib => {
            if let Some(group) = rib.groups[group].as_mut() {
                group.members.push(id);
            }
        });
        let Some(peer) = self.peers[id as usize].as_mut() else { return };
        let ending = Ending::EndOfRib;
        peer.family(family).feed = Some(Feed { group, catch_up: Some(CatchUp { slots, at: 0, ending }) });
        self.wake(id);
    }

    /// A session is down, or is to be told otherwise.
    pub(super) fn leave(&mut self, id: SourceId, family: Family) {
        let Some(peer) = self.peers[id as usize].as_mut() else { return };
        let Some(feed) = peer.family(family).feed.take() else { return };
        of_family!(self, family, rib => {
            let place = &mut rib.groups[feed.group];
            if let Some(group) = place {
                group.members.retain(|member| *member != id);
                if group.members.is_empty() {
                    *place = None;
                }
            }
        });
    }

    /// What a neighbour is to be told may have become another: it is told anew what differs. With `all`, everything.
    pub(super) fn regroup(&mut self, id: SourceId, all: bool) {
        for family in Family::ALL {
            let Some(view) = self.view(id, family) else { continue };
            let Some(feed) = self.peer(id).and_then(|p| p.families[index(family)].feed.as_ref()) else { continue };
            let before = feed.group;
            let same = of_family!(self, family, rib => rib.groups[before].as_ref().is_some_and(|g| g.view == view));
            if same && !all {
                continue;
            }
            // Both what it was told and what it is to be told.
            let mut slots = of_family!(self, family, rib => {
                rib.groups[before].as_ref().map(Group::all).unwrap_or_default()
            });
            let ending = match self.peer(id).and_then(|p| p.families[index(family)].feed.as_ref()) {
                Some(Feed { catch_up: Some(CatchUp { slots: left, ending, .. }), .. }) => {
                    slots.merge(left);
                    *ending
                }
                _ => Ending::Nothing,
            };
            self.leave(id, family);
            let (group, now) = self.group(family, view);
            slots.merge(&now);
            of_family!(self, family, rib => {
                if let Some(group) = rib.groups[group].as_mut() {
                    group.members.push(id);
                }
            });
            if let Some(peer) = self.peers[id as usize].as_mut() {
                peer.family(family).feed = Some(Feed { group, catch_up: Some(CatchUp { slots, at: 0, ending }) });
            }
        }
        self.wake(id);
    }

    /// A neighbour asks to be told all again (RFC 2918, RFC 7313), or begins or ends to tell all again.
    pub(super) fn refresh(&mut self, id: SourceId, refresh: RouteRefresh) {
        let Some(family) = Family::from_wire(refresh.afi, refresh.safi) else { return };
        match refresh.subtype {
            Subtype::Normal => self.tell_again(id, family),
            Subtype::Begin => of_family!(self, family, rib => rib.table.make_stale(id)),
            Subtype::End => {
                self.tap_stale(id, family);
                self.purge_stale(id, family);
            }
        }
    }

    fn tell_again(&mut self, id: SourceId, family: Family) {
        let Some(peer) = self.peers[id as usize].as_mut() else { return };
        let Some((conn, enhanced)) = peer.up.as_ref().map(|up| (up.conn, up.negotiated.enhanced_refresh)) else {
            return;
        };
        let Some(feed) = peer.families[index(family)].feed.as_mut() else { return };
        let mut slots = of_family!(self, family, rib => {
            rib.groups[feed.group].as_ref().map(Group::all).unwrap_or_default()
        });
        let mut ending = if enhanced { Ending::EndOfRefresh } else { Ending::Nothing };
        if let Some(before) = &feed.catch_up {
            slots.merge(&before.slots);
            if before.ending == Ending::EndOfRib {
                // It has not been told all once: that comes first, and is all.
                ending = Ending::EndOfRib;
            }
        }
        // One that is under way begins anew, all its routes still between its begin and its end.
        let under_way = feed.catch_up.as_ref().is_some_and(|before| before.ending == Ending::EndOfRefresh);
        feed.catch_up = Some(CatchUp { slots, at: 0, ending });
        if ending == Ending::EndOfRefresh && !under_way {
            self.send(conn, marker(family, Subtype::Begin));
        }
        self.wake(id);
    }

    pub(super) fn wake(&mut self, id: SourceId) {
        let Some(conn) = self.peer(id).and_then(|p| p.up.as_ref()).map(|up| up.conn) else { return };
        if let Some(connection) = self.connections[conn.0 as usize].as_mut() {
            mark(&mut self.ready, conn, connection);
        }
    }

    /// The group of a view, and the slots that its members were told of.
    fn group(&mut self, family: Family, view: View) -> (usize, Bits) {
        let cluster_id = self.config.cluster_id.unwrap_or(self.config.router_id);
        let context = Context { store: &self.store, sources: &self.sources, cluster_id };
        of_family!(self, family, rib => rib.group(view, context))
    }

    fn view(&self, id: SourceId, family: Family) -> Option<View> {
        let peer = self.peer(id)?;
        let up = peer.up.as_ref()?;
        let negotiated = &*up.negotiated;
        if !negotiated.families.contains(&family) {
            return None;
        }
        let neighbor = &peer.neighbor;
        let external = negotiated.kind == PeerKind::External;
        let of_family = |address: &std::net::IpAddr| Family::of(*address) == family;
        let own_address = Some(up.local).filter(of_family);
        let own_address = own_address.or_else(|| self.config.addresses.iter().copied().find(of_family));
        Some(View {
            external,
            client: neighbor.route_reflector_client,
            local_asn: negotiated.local_asn,
            four_octet: negotiated.four_octet,
            max_message: if negotiated.extended { MAX_EXTENDED } else { MAX },
            add_path: if negotiated.add_path_send.contains(&family) { neighbor.add_path.send } else { 0 },
            next_hop: neighbor.next_hop,
            own_address,
            policy: neighbor.export.clone(),
            role: neighbor.role.filter(|_| external),
            silent: external && neighbor.require_policy && neighbor.export.is_trivial(),
            long_lived: negotiated.long_lived.iter().any(|(f, ..)| *f == family),
        })
    }
}

impl<P: Prefix> Rib<P> {
    fn group(&mut self, view: View, context: Context<'_>) -> (usize, Bits) {
        let found = self.groups.iter().position(|g| g.as_ref().is_some_and(|g| g.view == view));
        if let Some((place, group)) = found.and_then(|place| Some((place, self.groups[place].as_ref()?))) {
            return (place, group.all());
        }
        let mut group = Group::new(view);
        group.adopt(&self.table, context);
        let slots = group.all();
        let place = self.groups.iter().position(Option::is_none).unwrap_or_else(|| {
            self.groups.push(None);
            self.groups.len() - 1
        });
        self.groups[place] = Some(group);
        (place, slots)
    }
}

/// Where messages for groups go.
struct Delivery<'a> {
    family: Family,
    epoch: u64,
    peers: &'a mut [Option<Peer>],
    connections: &'a mut [Option<Connection>],
    ready: &'a mut Vec<ConnId>,
}

fn flush<P: Prefix>(
    rib: &mut Rib<P>,
    context: Context<'_>,
    mut delivery: Delivery<'_>,
    installing: Option<(&mut Vec<RouteChange>, usize)>,
) {
    let changed = rib.table.take_changed();
    for group in rib.groups.iter_mut().flatten() {
        let mut burst = Burst::default();
        group.update(&rib.table, &changed, context, &mut burst);
        delivery.deliver(group, &rib.table, burst, &changed);
    }
    if let Some((routes, multipath)) = installing {
        routes.extend(changed.iter().map(|slot| route(&rib.table, *slot, context, multipath)));
    }
    let epoch = delivery.epoch;
    rib.leaving.extend(changed.iter().filter(|slot| rib.table.paths(**slot).is_empty()).map(|slot| (epoch, *slot)));
    rib.table.recycle(changed);
}

/// A slot is given up when nobody has its prefix before it any more: what waits in a queue may yet have to be looked up
/// in the table.
fn tidy<P: Prefix>(rib: &mut Rib<P>, oldest: u64) {
    while let Some((_, slot)) = rib.leaving.front().copied().filter(|(left, _)| *left < oldest) {
        rib.leaving.pop_front();
        rib.table.free(slot);
    }
}

impl Delivery<'_> {
    fn deliver<P: Prefix>(&mut self, group: &Group<P>, table: &Table<P>, burst: Burst, changed: &[Slot]) {
        let Burst { bytes, segments, .. } = burst;
        let bytes = Arc::new(bytes);
        for &member in &group.members {
            let Some(peer) = self.peers[member as usize].as_mut() else { continue };
            let Some(conn) = peer.up.as_ref().map(|up| up.conn) else { continue };
            let Some(feed) = peer.families[index(self.family)].feed.as_mut() else { continue };
            if let Some(catch_up) = &mut feed.catch_up {
                changed.iter().for_each(|slot| {
                    catch_up.slots.set(*slot);
                });
                continue;
            }
            let Some(connection) = self.connections[conn.0 as usize].as_mut() else { continue };
            let mut start = 0;
            for segment in &segments {
                if segment.audience.includes(member) {
                    connection.queue.push(&bytes, start, segment.end, self.epoch);
                    peer.session.count_updates_sent(segment.updates);
                }
                start = segment.end;
            }
            if connection.queue.is_empty() {
                continue;
            }
            if connection.queue.len() > LIMIT {
                detach(peer, connection, self.family, table, group.view.add_path > 0);
            }
            mark(self.ready, conn, connection);
        }
    }
}

/// A neighbour reads too slowly: what waits for it is given up, and noted as what it has to catch up with.
fn detach<P: Prefix>(peer: &mut Peer, connection: &mut Connection, family: Family, table: &Table<P>, add_path: bool) {
    let mut slots = Bits::default();
    let before = connection.queue.len();
    connection.queue.prune(|message| {
        let is_update = message.get(18) == Some(&(Kind::Update as u8));
        is_update && note_prefixes(&message[HEADER..], table, add_path, &mut slots)
    });
    let Some(feed) = peer.families[index(family)].feed.as_mut() else { return };
    tracing::debug!(peer = %peer.address, bytes = before, "reads slowly; it is told what is different when it reads again");
    feed.catch_up = Some(CatchUp { slots, at: 0, ending: Ending::Nothing });
}

/// Notes the slots that one of our UPDATE messages is about; `false` if it is about another family, or about none.
fn note_prefixes<P: Prefix>(body: &[u8], table: &Table<P>, add_path: bool, slots: &mut Bits) -> bool {
    let Ok(update) = Update::split(body) else { return false };
    let mut noted = false;
    let mut note = |field: &[u8]| {
        for (_, prefix) in prefix::read::<P>(field, add_path) {
            noted = true;
            table.find(prefix).map(|slot| slots.set(slot));
        }
    };
    match P::FAMILY {
        Family::Ipv4 => {
            note(update.withdrawn);
            note(update.nlri);
        }
        Family::Ipv6 => {
            for (_, attribute, value) in iter(update.attributes) {
                match attribute {
                    kind::MP_UNREACH_NLRI => note(value.get(3..).unwrap_or_default()),
                    kind::MP_REACH_NLRI => {
                        let hop = value.get(3).map_or(0, |length| usize::from(*length));
                        note(value.get(5 + hop..).unwrap_or_default());
                    }
                    _ => {}
                }
            }
        }
    }
    noted
}

/// Where packets for a slot's prefix are to go. An own route is not for the speaker to install.
fn route<P: Prefix>(table: &Table<P>, slot: Slot, context: Context<'_>, multipath: usize) -> RouteChange {
    let paths = table.paths(slot);
    let chosen = decision::multipath(paths, context.sources, context.store, multipath.max(1));
    let own = |i: &usize| context.sources[paths[*i].source as usize].origin == Origin::Local;
    let mut next_hops: Vec<_> = if chosen.iter().any(own) {
        Vec::new()
    } else {
        chosen.iter().filter_map(|i| encode::address(context.store.get(paths[*i].attributes).next_hop)).collect()
    };
    next_hops.sort_unstable();
    next_hops.dedup();
    RouteChange { net: table.prefix(slot).net(), next_hops }
}

/// The epoch of the oldest bytes that wait for anybody. 0 while somebody has to catch up.
fn oldest_epoch(peers: &[Option<Peer>], connections: &[Option<Connection>], family: Family) -> u64 {
    let feeds = peers.iter().flatten().filter_map(|p| p.families[index(family)].feed.as_ref());
    if feeds.into_iter().any(|feed| feed.catch_up.is_some()) {
        return 0;
    }
    connections.iter().flatten().filter_map(|c| c.queue.oldest()).min().unwrap_or(u64::MAX)
}

/// A marker of an enhanced route refresh (RFC 7313).
fn marker(family: Family, subtype: Subtype) -> Vec<u8> {
    let mut bytes = Vec::new();
    RouteRefresh { afi: family.afi(), safi: 1, subtype }.encode(&mut bytes);
    bytes
}

/// How many routes of a family a neighbour was told.
pub(super) fn told(router: &Router, id: SourceId, family: Family) -> usize {
    let Some(feed) = router.peer(id).and_then(|p| p.families[index(family)].feed.as_ref()) else { return 0 };
    fn of<P: Prefix>(rib: &Rib<P>, group: usize, id: SourceId) -> usize {
        rib.groups[group].as_ref().map_or(0, |group| group.told_to(id))
    }
    match family {
        Family::Ipv4 => of::<V4>(&router.v4, feed.group, id),
        Family::Ipv6 => of::<V6>(&router.v6, feed.group, id),
    }
}
