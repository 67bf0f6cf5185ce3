//! What neighbours announce, into the tables.

use std::time::Instant;

use super::peer::{PerFamily, index};
use super::{QUIET, Router, of_family};
use crate::Family;
use crate::config::{MaxPrefixes, Origin, Policy, Role, Verdict};
use crate::export::encode;
use crate::prefix::{self, Prefix};
use crate::rib::path::{Refusal, State};
use crate::rib::table::Inserted;
use crate::rib::{AttributeId, SourceId, Store, Table};
use crate::session::{ConnId, PeerKind};
use crate::update::attributes::{Context, Multiprotocol, NextHop, Reader, attribute, flag, iter, kind, put};
use crate::update::{Update, invalid_network_field};
use crate::wire::Notification;
use crate::wire::notification::{cease, message};

/// A part of an UPDATE: prefixes of a family.
#[derive(Debug, Clone, Copy)]
struct Part<'a> {
    family: Family,
    nlri: &'a [u8],
    add_path: bool,
}

impl Router {
    /// An UPDATE came.
    pub(super) fn update(&mut self, now: Instant, id: SourceId, conn: ConnId, body: &[u8]) {
        let Some(peer) = self.peers[id as usize].as_mut() else { return };
        let mut actions = Vec::new();
        if !peer.session.update(now, conn, &mut actions) {
            actions.into_iter().for_each(|action| self.act(now, id, action));
            return;
        }
        let mut reader = std::mem::take(&mut self.reader);
        let taken = self.take_update(now, id, body, &mut reader);
        self.reader = reader;
        match taken {
            Ok(()) => self.check_limit(now, id, conn),
            Err(notification) => self.drive(now, id, |session, out| session.fail(now, conn, notification, out)),
        }
    }

    fn take_update(
        &mut self,
        now: Instant,
        id: SourceId,
        body: &[u8],
        reader: &mut Reader,
    ) -> Result<(), Notification> {
        let Some(peer) = self.peers[id as usize].as_ref() else { return Ok(()) };
        let Some(up) = peer.up.as_ref() else { return Ok(()) };
        let negotiated = &*up.negotiated;
        let external = negotiated.kind == PeerKind::External;
        let from_server = peer.neighbor.role == Some(Role::RouteServerClient);
        let context = Context {
            four_octet: negotiated.four_octet,
            external,
            first_as: (external && !from_server).then_some(negotiated.remote_asn),
        };
        let update = Update::split(body)?;
        let found = reader.read(update.attributes, !update.nlri.is_empty(), context)?;
        if let Some(family) = end_of_rib(&update, found.unreach, found.reach.is_some()) {
            self.end_of_rib(id, family);
            return Ok(());
        }
        // What was not agreed on is passed over (RFC 4760, section 7).
        let part = |family: Option<Family>, nlri| {
            let family = family.filter(|family| negotiated.families.contains(family))?;
            Some(Part { family, nlri, add_path: negotiated.add_path_receive.contains(&family) })
        };
        let withdrawn =
            [part(Some(Family::Ipv4), update.withdrawn), found.unreach.and_then(|mp| part(mp.family, mp.nlri))];
        let reached = [
            part(Some(Family::Ipv4), update.nlri).map(|part| (part, found.next_hop)),
            found.reach.and_then(|(mp, hop)| Some((part(mp.family, mp.nlri)?, hop))),
        ];
        // All is read before any is taken.
        let parts = withdrawn.iter().flatten().chain(reached.iter().flatten().map(|(part, _)| part));
        parts.copied().try_for_each(check)?;
        for part in withdrawn.into_iter().flatten() {
            self.withdraw(id, part);
        }
        for (part, hop) in reached.into_iter().flatten().filter(|(part, _)| !part.nlri.is_empty()) {
            match (found.flaw, hop) {
                (None, Some(hop)) => self.announce(id, part, hop, &mut reader.canonical),
                _ => self.withdraw(id, part),
            }
        }
        if let Some(flaw) = found.flaw {
            self.note_flaw(now, id, &format!("{flaw}; its routes are taken as withdrawn (RFC 7606)"));
        } else if let Some(kind) = found.discarded {
            self.note_flaw(
                now,
                id,
                &format!("attribute {kind} is malformed or has no place here, and is left out (RFC 7606)"),
            );
        }
        Ok(())
    }

    fn withdraw(&mut self, id: SourceId, part: Part<'_>) {
        let Some(peer) = self.peers[id as usize].as_mut() else { return };
        let counts = &mut peer.families[index(part.family)];
        of_family!(self, part.family, rib => withdraw(&mut rib.table, &mut self.store, id, part, counts));
    }

    fn announce(&mut self, id: SourceId, part: Part<'_>, hop: NextHop, canonical: &mut Vec<u8>) {
        let Some(peer) = self.peers[id as usize].as_mut() else { return };
        let Some(up) = peer.up.as_ref() else { return };
        let external = up.negotiated.kind == PeerKind::External;
        let leak = external && mark_leaks(canonical, peer.neighbor.role, up.negotiated.remote_asn);
        let attributes = self.store.intern(canonical, hop, 0);
        let stored = self.store.get(attributes);
        let own_asn = up.negotiated.local_asn;
        let cluster_id = self.config.cluster_id.unwrap_or(self.config.router_id);
        let local = up.local;
        let own_address = |address| address == local || self.config.addresses.contains(&address);
        let refusal = if leak {
            Some(Refusal::LEAK)
        } else if crate::update::as_path::contains(stored.as_path(), own_asn) {
            Some(Refusal::AS_LOOP)
        } else if stored.originator == Some(self.config.router_id) {
            Some(Refusal::ORIGINATOR_LOOP)
        } else if stored.cluster_length > 0 && stored.cluster_list().any(|id| id == cluster_id) {
            Some(Refusal::CLUSTER_LOOP)
        } else if encode::address(hop).is_some_and(own_address) {
            Some(Refusal::OWN_NEXT_HOP)
        } else if external && peer.neighbor.require_policy && peer.neighbor.import.is_trivial() {
            Some(Refusal::NO_POLICY)
        } else {
            None
        };
        let importer = Importer {
            source: id,
            origin: if external { Origin::External } else { Origin::Internal },
            policy: Some(&peer.neighbor.import).filter(|policy| refusal.is_none() && !policy.is_trivial()),
            state: State::new(refusal),
            attributes,
        };
        let counts = &mut peer.families[index(part.family)];
        of_family!(self, part.family, rib => importer.announce(&mut rib.table, &mut self.store, part, counts));
        self.store.unused(attributes);
    }

    fn check_limit(&mut self, now: Instant, id: SourceId, conn: ConnId) {
        let Some(peer) = self.peers[id as usize].as_mut() else { return };
        let Some(MaxPrefixes { limit, restart_after }) = peer.neighbor.max_prefixes else { return };
        if peer.prefixes() <= limit || peer.up.is_none() {
            return;
        }
        peer.held_down = Some(restart_after.map(|after| now + after));
        let family = if peer.families[0].received > limit { Family::Ipv4 } else { Family::Ipv6 };
        let mut data = family.afi().to_be_bytes().to_vec();
        data.push(1);
        data.extend_from_slice(&limit.to_be_bytes());
        let notification = Notification::new(message::CEASE, cease::MAX_PREFIXES, data);
        self.drive(now, id, |session, out| session.fail(now, conn, notification, out));
        self.drive(now, id, |session, out| session.stop(now, Some("too many prefixes".to_owned()), out));
    }

    fn note_flaw(&mut self, now: Instant, id: SourceId, words: &str) {
        let Some(peer) = self.peers[id as usize].as_mut() else { return };
        peer.flawed += 1;
        let quiet = peer.last_flaw.as_ref().is_some_and(|(at, _)| now.duration_since(*at) < QUIET);
        if !quiet {
            tracing::warn!(peer = %peer.address, flawed = peer.flawed, "an UPDATE has a flaw: {words}");
            peer.last_flaw = Some((now, words.to_owned()));
        }
    }
}

/// How routes of a message come into a table.
struct Importer<'a> {
    source: SourceId,
    origin: Origin,
    policy: Option<&'a Policy>,
    state: State,
    attributes: AttributeId,
}

impl Importer<'_> {
    fn announce<P: Prefix>(&self, table: &mut Table<P>, store: &mut Store, part: Part<'_>, counts: &mut PerFamily) {
        // The attributes that a statement of the policy made of those of the message.
        let mut changed: Option<(usize, AttributeId)> = None;
        for (path_id, prefix) in prefix::read::<P>(part.nlri, part.add_path) {
            let (mut state, mut attributes) = (self.state, self.attributes);
            if let Some(policy) = self.policy {
                let found = policy.first_match(prefix.net(), self.origin, store.get(attributes));
                let verdict = found.map_or(policy.default, |(_, statement)| statement.verdict);
                match found {
                    _ if verdict == Verdict::Reject => {
                        let reason = found.map_or(Refusal::POLICY_DEFAULT, |(index, _)| Refusal::statement(index));
                        state = State::new(Some(reason));
                    }
                    Some((index, statement)) if !statement.set.is_empty() => {
                        attributes = match changed {
                            Some((same, attributes)) if same == index => attributes,
                            _ => {
                                let before = store.get(attributes);
                                let (bytes, hop) = (encode::changed(before, &statement.set), before.next_hop);
                                store.intern(&bytes, hop, 0)
                            }
                        };
                        changed = Some((index, attributes));
                    }
                    _ => {}
                }
            }
            match table.insert(prefix, self.source, path_id, attributes, state, store) {
                Inserted::Same => {}
                Inserted::New => {
                    counts.received += 1;
                    counts.accepted += u32::from(state.eligible());
                }
                Inserted::Replaced { was_eligible } => {
                    counts.accepted = counts.accepted + u32::from(state.eligible()) - u32::from(was_eligible);
                }
            }
        }
    }
}

fn withdraw<P: Prefix>(
    table: &mut Table<P>,
    store: &mut Store,
    source: SourceId,
    part: Part<'_>,
    counts: &mut PerFamily,
) {
    for (path_id, prefix) in prefix::read::<P>(part.nlri, part.add_path) {
        if let Some(was_eligible) = table.withdraw(prefix, source, path_id, store) {
            counts.received -= 1;
            counts.accepted -= u32::from(was_eligible);
        }
    }
}

/// Whether a message is nothing but an End-of-RIB marker (RFC 4724, section 2).
fn end_of_rib(update: &Update<'_>, unreach: Option<Multiprotocol<'_>>, reaches: bool) -> Option<Family> {
    if !update.withdrawn.is_empty() || !update.nlri.is_empty() || reaches {
        return None;
    }
    match unreach {
        None => update.attributes.is_empty().then_some(Family::Ipv4),
        Some(mp) if mp.nlri.is_empty() => mp.family,
        Some(_) => None,
    }
}

fn check(part: Part<'_>) -> Result<(), Notification> {
    let checked = match part.family {
        Family::Ipv4 => prefix::check::<prefix::V4>(part.nlri, part.add_path),
        Family::Ipv6 => prefix::check::<prefix::V6>(part.nlri, part.add_path),
    };
    checked.map(|_| ()).map_err(|_| invalid_network_field())
}

/// Marks what comes from a provider, a peer or a route server, and says whether a route leaks (RFC 9234, section 5).
fn mark_leaks(canonical: &mut Vec<u8>, role: Option<Role>, remote_asn: u32) -> bool {
    let present = attribute(canonical, kind::ONLY_TO_CUSTOMER).map(<[u8]>::to_vec);
    match (role, present) {
        (None, _) | (Some(Role::Provider | Role::RouteServer), None) => false,
        (Some(Role::Provider | Role::RouteServer), Some(_)) => true,
        (Some(Role::Peer), Some(value)) => value != remote_asn.to_be_bytes(),
        (Some(_), Some(_)) => false,
        (Some(_), None) => {
            replace(canonical, flag::OPTIONAL | flag::TRANSITIVE, kind::ONLY_TO_CUSTOMER, &remote_asn.to_be_bytes());
            false
        }
    }
}

/// Puts an attribute at its place among the others, in place of the one of its type.
pub(super) fn replace(canonical: &mut Vec<u8>, flags: u8, kind: u8, value: &[u8]) {
    let mut out = Vec::with_capacity(canonical.len() + value.len() + 4);
    let mut due = Some(value);
    for (present_flags, present, bytes) in iter(canonical) {
        if present >= kind
            && let Some(value) = due.take()
        {
            put(&mut out, flags, kind, value);
        }
        if present != kind {
            put(&mut out, present_flags, present, bytes);
        }
    }
    if let Some(value) = due {
        put(&mut out, flags, kind, value);
    }
    *canonical = out;
}
