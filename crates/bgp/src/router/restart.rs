//! Sessions come and go, and what becomes of their routes: graceful restart (RFC 4724, RFC 8538) and what lasts longer
//! (RFC 9494).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::peer::{Restart, Up, index};
use super::{Action, Router, of_family};
use crate::config::Origin;
use crate::rib::SourceId;
use crate::session::{ConnId, Down, Negotiated, PeerKind};
use crate::update::attributes::{attribute, flag, kind};
use crate::wire::notification::cease;
use crate::wire::{Notification, RouteRefresh, Subtype};
use crate::{Community, Family};

impl Router {
    pub(super) fn session_up(&mut self, now: Instant, id: SourceId, conn: ConnId, negotiated: Box<Negotiated>) {
        let local = match self.connections.get(conn.0 as usize).and_then(Option::as_ref) {
            Some(connection) => connection.local,
            None => return,
        };
        let source = &mut self.sources[id as usize];
        source.origin = match negotiated.kind {
            PeerKind::Internal => Origin::Internal,
            PeerKind::External => Origin::External,
        };
        source.router_id = negotiated.remote_id;
        let Some(peer) = self.peers[id as usize].as_mut() else { return };
        source.client = peer.neighbor.route_reflector_client && negotiated.kind == PeerKind::Internal;
        peer.last_failure = None;
        self.actions.push(Action::Up {
            peer: peer.address,
            asn: negotiated.remote_asn,
            router_id: negotiated.remote_id,
        });
        // Whose forwarding did not last has nothing left that could be kept.
        let kept = |family: Family| {
            let graceful = negotiated.graceful.iter().flat_map(|g| &g.families).any(|(f, kept)| *f == family && *kept);
            graceful || negotiated.long_lived.iter().any(|(f, kept, _)| *f == family && *kept)
        };
        let lost: Vec<Family> =
            Family::ALL.into_iter().filter(|f| !kept(*f) || !negotiated.families.contains(f)).collect();
        let stays = self.config.graceful_restart.as_ref().map_or(Duration::ZERO, |g| g.deferral_time);
        if let Some(restart) = &mut peer.restart {
            // Its End-of-RIB ends this; if that never comes, time does.
            restart.until = restart.until.max(now + stays);
        }
        for family in Family::ALL {
            peer.family(family).complete = false;
        }
        let families = negotiated.families.clone();
        let waits = negotiated.graceful.as_ref().is_some_and(|g| !g.restarting);
        let address = peer.address;
        peer.up = Some(Up { conn, negotiated, local });
        if !waits {
            // Who does not know End-of-RIB, or restarts itself, is not waited for.
            self.wait_no_more(address);
        }
        lost.into_iter().for_each(|family| self.purge_stale(id, family));
        families.into_iter().for_each(|family| self.join(id, family));
    }

    pub(super) fn session_down(&mut self, now: Instant, id: SourceId, down: &Down) {
        for family in Family::ALL {
            self.leave(id, family);
        }
        let Some(peer) = self.peers[id as usize].as_mut() else { return };
        let Some(up) = peer.up.take() else { return };
        let why = down.why.to_string();
        peer.last_end = Some(why.clone());
        self.actions.push(Action::Down { peer: peer.address, why });
        let graceful = up.negotiated.graceful.as_ref().filter(|_| down.keeps_routes && peer.held_down.is_none());
        let kept: Vec<Family> = graceful.iter().flat_map(|g| &g.families).map(|(family, _)| *family).collect();
        let lost: Vec<Family> = Family::ALL.into_iter().filter(|family| !kept.contains(family)).collect();
        if let Some(graceful) = graceful {
            let own = self.config.graceful_restart.as_ref().and_then(|g| g.long_lived);
            let long_lived_times = up
                .negotiated
                .long_lived
                .iter()
                .filter_map(|(family, _, time)| Some((*family, (*time).min(own?))))
                .collect();
            peer.restart = Some(Restart { until: now + graceful.time, long_lived: false, long_lived_times });
        }
        // What was stale before and not confirmed since is not kept twice.
        kept.iter().for_each(|family| self.purge_stale(id, *family));
        for family in kept {
            of_family!(self, family, rib => rib.table.make_stale(id));
        }
        self.forget(id, &lost);
    }

    /// Takes all routes of a neighbour out.
    pub(super) fn forget(&mut self, id: SourceId, families: &[Family]) {
        for &family in families {
            let store = &mut self.store;
            let all = self.peers[id as usize].as_ref().is_none_or(|p| p.families[index(family)].received > 0);
            if !all {
                continue;
            }
            of_family!(self, family, rib => rib.table.purge(store, |path| path.source == id));
            if let Some(peer) = self.peers[id as usize].as_mut() {
                peer.family(family).received = 0;
                peer.family(family).accepted = 0;
            }
        }
    }

    /// Takes those routes out that a neighbour did not confirm.
    pub(super) fn purge_stale(&mut self, id: SourceId, family: Family) {
        let store = &mut self.store;
        let some = self.peers[id as usize].as_ref().is_some_and(|p| p.families[index(family)].received > 0);
        if !some {
            return;
        }
        let (all, eligible) = of_family!(self, family, rib => {
            rib.table.purge(store, |path| path.source == id && path.state.stale())
        });
        if let Some(peer) = self.peers[id as usize].as_mut() {
            peer.family(family).received -= all;
            peer.family(family).accepted -= eligible;
        }
    }

    /// A neighbour has told all it has of a family.
    pub(super) fn end_of_rib(&mut self, id: SourceId, family: Family) {
        let Some(peer) = self.peers[id as usize].as_mut() else { return };
        peer.family(family).complete = true;
        let Some(up) = &peer.up else { return };
        let all = up.negotiated.families.iter().all(|f| peer.families[index(*f)].complete);
        let address = peer.address;
        if all {
            peer.restart = None;
            self.wait_no_more(address);
        }
        self.purge_stale(id, family);
    }

    /// A restarting speaker does not wait for a neighbour's routes any longer.
    fn wait_no_more(&mut self, address: IpAddr) {
        if let Some(deferral) = &mut self.deferral {
            deferral.waiting.remove(&address);
        }
        self.end_deferral();
    }

    pub(super) fn tick_deferral(&mut self, now: Instant) {
        let up: BTreeSet<IpAddr> = self.peers().filter(|p| p.up.is_some()).map(|p| p.address).collect();
        let Some(deferral) = &mut self.deferral else { return };
        if deferral.patience <= now {
            deferral.waiting.retain(|address| up.contains(address));
            deferral.patience = deferral.until;
        }
        if deferral.until <= now {
            deferral.waiting.clear();
        }
        self.end_deferral();
    }

    fn end_deferral(&mut self) {
        if self.deferral.as_ref().is_some_and(|deferral| deferral.waiting.is_empty()) {
            self.deferral = None;
            tracing::info!("the neighbours have told their routes again; the restart is over");
            // All that is known is told before it is said that this was all.
            self.flush();
            let all: Vec<SourceId> = self.peers().map(|p| p.id).collect();
            all.into_iter().for_each(|id| self.wake(id));
        }
    }

    pub(super) fn tick_restart(&mut self, now: Instant, id: SourceId) {
        let Some(peer) = self.peers[id as usize].as_mut() else { return };
        let Some(restart) = peer.restart.take_if(|restart| restart.until <= now) else { return };
        let longest = restart.long_lived_times.iter().map(|(_, time)| *time).max().unwrap_or_default();
        if restart.long_lived || longest.is_zero() || peer.up.is_some() {
            Family::ALL.into_iter().for_each(|family| self.purge_stale(id, family));
            return self.drop_if_idle(now, id);
        }
        tracing::info!(peer = %peer.address, seconds = longest.as_secs(), "the neighbour is not back; its routes become a last resort (RFC 9494)");
        let times = restart.long_lived_times.clone();
        peer.restart = Some(Restart { until: now + longest, long_lived: true, ..restart });
        for family in Family::ALL {
            if times.iter().any(|(f, time)| *f == family && !time.is_zero()) {
                self.make_last_resort(id, family);
            } else {
                self.purge_stale(id, family);
            }
        }
    }

    /// Asks a neighbour for all its routes: they are to be judged anew. Without the capability only a new session does it.
    pub(super) fn ask_again(&mut self, now: Instant, id: SourceId) {
        let Some(up) = self.peer(id).and_then(|p| p.up.as_ref()) else { return };
        let (conn, families, able) = (up.conn, up.negotiated.families.clone(), up.negotiated.refresh);
        if !able {
            let notification = Notification::cease(cease::CONFIGURATION);
            return self.drive(now, id, |session, out| session.fail(now, conn, notification, out));
        }
        for family in families {
            let mut bytes = Vec::new();
            RouteRefresh { afi: family.afi(), safi: 1, subtype: Subtype::Normal }.encode(&mut bytes);
            self.send(conn, bytes);
        }
    }

    fn make_last_resort(&mut self, id: SourceId, family: Family) {
        let (store, no_llgr) = (&mut self.store, Community::NO_LLGR);
        let (all, eligible) = of_family!(self, family, rib => {
            let refused: std::collections::HashSet<_> = rib
                .table
                .iter()
                .flat_map(|(_, _, paths)| paths)
                .filter(|path| path.source == id && store.get(path.attributes).well_known.has(no_llgr))
                .map(|path| path.attributes)
                .collect();
            rib.table.purge(store, |path| path.source == id && path.state.stale() && refused.contains(&path.attributes))
        });
        if let Some(peer) = self.peers[id as usize].as_mut() {
            peer.family(family).received -= all;
            peer.family(family).accepted -= eligible;
        }
        let store = &mut self.store;
        of_family!(self, family, rib => rib.table.change_stale(id, store, |store, attributes| {
            let before = store.get(attributes);
            let (mut bytes, hop) = (before.bytes.to_vec(), before.next_hop);
            let mut communities = attribute(&bytes, kind::COMMUNITIES).unwrap_or_default().to_vec();
            communities.extend_from_slice(&Community::LLGR_STALE.0.to_be_bytes());
            super::import::replace(&mut bytes, flag::OPTIONAL | flag::TRANSITIVE, kind::COMMUNITIES, &communities);
            let changed = store.intern(&bytes, hop, 0);
            store.unused(changed);
            changed
        }));
    }
}
