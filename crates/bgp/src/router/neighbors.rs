//! Neighbours come, change and go.

use std::net::IpAddr;
use std::time::Instant;

use super::Router;
use super::peer::{Peer, PerFamily};
use crate::Family;
use crate::config::{Neighbor, Origin, Range};
use crate::rib::{Source, SourceId};
use crate::session::Session;
use crate::wire::Notification;
use crate::wire::notification::cease;

impl Router {
    pub(super) fn neighbor_of(&self, address: IpAddr) -> Option<&Neighbor> {
        let dynamic = self.by_address.get(&address).and_then(|id| self.peer(*id)).is_some_and(|p| p.dynamic);
        let own = self.config.neighbors.get(&address);
        if dynamic && own.is_some() {
            // What came by itself was now given by name: it begins anew as that.
            return None;
        }
        own.or_else(|| self.range_of(address).filter(|_| dynamic).map(|range| &range.neighbor))
    }

    pub(super) fn range_of(&self, address: IpAddr) -> Option<&Range> {
        let having = self.config.ranges.iter().filter(|range| range.prefix.contains(&address));
        having.max_by_key(|range| range.prefix.prefix_len())
    }

    pub(super) fn add_peer(&mut self, now: Instant, address: IpAddr, neighbor: Neighbor, dynamic: bool) {
        // Until all is told that the one before left, its number is its own.
        let told = !self.v4.table.has_changed() && !self.v6.table.has_changed();
        let unused = if told { self.unused_ids.pop() } else { None };
        let id = unused.unwrap_or_else(|| SourceId::try_from(self.peers.len()).unwrap_or(SourceId::MAX));
        let source = Source {
            origin: if self.is_external(&neighbor) { Origin::External } else { Origin::Internal },
            client: neighbor.route_reflector_client,
            router_id: std::net::Ipv4Addr::UNSPECIFIED,
            address,
        };
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let peer = Peer {
            id,
            address,
            session: Session::new(self.local(), &neighbor, address, self.seed, now),
            neighbor,
            dynamic,
            up: None,
            families: <[PerFamily; 2]>::default(),
            restart: None,
            flawed: 0,
            last_flaw: None,
            last_end: None,
            last_failure: None,
            held_down: None,
        };
        let at = id as usize;
        if at == self.peers.len() {
            self.peers.push(Some(peer));
            self.sources.push(source);
        } else {
            self.peers[at] = Some(peer);
            self.sources[at] = source;
        }
        self.by_address.insert(address, id);
        self.drive(now, id, |session, out| session.start(now, out));
    }

    pub(super) fn change_peer(&mut self, now: Instant, id: SourceId, neighbor: &Neighbor, whole: bool) {
        let local = self.local();
        let Some(peer) = self.peers[id as usize].as_mut() else { return };
        let passive = peer.dynamic || neighbor.passive;
        let before = std::mem::replace(&mut peer.neighbor, Neighbor { passive, ..neighbor.clone() });
        let neighbor = peer.neighbor.clone();
        if !whole && before == neighbor {
            return;
        }
        self.drive(now, id, |session, out| session.reconfigure(now, local, &neighbor, out));
        self.sources[id as usize].client = neighbor.route_reflector_client;
        if self.peer(id).is_none_or(|p| p.up.is_none()) {
            return;
        }
        if before.import != neighbor.import || before.require_policy != neighbor.require_policy {
            self.ask_again(now, id);
        }
        let client_changed = before.route_reflector_client != neighbor.route_reflector_client;
        if client_changed {
            // Others are told more of its routes now, or less (RFC 4456, section 6).
            self.v4.table.touch_source(id);
            self.v6.table.touch_source(id);
        }
        self.regroup(id, client_changed);
    }

    pub(super) fn remove_peer(&mut self, now: Instant, id: SourceId, why: Notification) {
        if let Some(conn) = self.peer(id).and_then(|p| p.up.as_ref()).map(|up| up.conn) {
            self.drive(now, id, |session, out| session.fail(now, conn, why, out));
        }
        self.drive(now, id, |session, out| session.stop(now, None, out));
        self.forget(id, &Family::ALL);
        if let Some(peer) = self.peers[id as usize].take() {
            self.by_address.remove(&peer.address);
        }
        self.unused_ids.push(id);
    }

    /// A neighbour out of a range goes with its last connection, unless its routes are still kept.
    pub(super) fn drop_if_idle(&mut self, now: Instant, id: SourceId) {
        let idle = self.peer(id).is_some_and(|p| p.dynamic && p.restart.is_none() && p.held_down.is_none())
            && !self.connections.iter().flatten().any(|c| c.peer == id);
        if idle {
            self.remove_peer(now, id, Notification::cease(cease::DECONFIGURED));
        }
    }

    pub(super) fn tick_held_down(&mut self, now: Instant, id: SourceId) {
        let Some(peer) = self.peers[id as usize].as_mut() else { return };
        if peer.held_down.flatten().is_some_and(|until| until <= now) {
            peer.held_down = None;
            self.drive(now, id, |session, out| session.start(now, out));
            self.drop_if_idle(now, id);
        }
    }

    pub(super) fn is_external(&self, neighbor: &Neighbor) -> bool {
        let own = neighbor.local_asn.unwrap_or(self.config.asn);
        neighbor.remote_asn.is_some_and(|asn| asn != own)
    }
}
