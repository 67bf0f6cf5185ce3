//! What people ask: neighbours, and routes.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::export::told;
use super::peer::{Peer, index};
use super::{Rib, Router};
use crate::prefix::Prefix;
use crate::rib::{AttributeId, LOCAL, Path, SourceId, decision};
use crate::session::PeerKind;
use crate::update::as_path;
use crate::wire::Kind;
use crate::{Community, Family, LargeCommunity};

/// A neighbour, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NeighborStatus {
    /// Its address.
    pub address: IpAddr,
    /// What the configuration calls it.
    pub description: String,
    /// Its AS: the one that it says, else the one that is expected.
    pub asn: Option<u32>,
    /// The own AS towards it.
    pub local_asn: u32,
    /// Its BGP identifier.
    pub router_id: Option<Ipv4Addr>,
    /// `internal` or `external`, once that is known.
    pub kind: Option<String>,
    /// Whether it is a client of this reflector.
    pub route_reflector_client: bool,
    /// Whether it came by itself, out of a range.
    pub dynamic: bool,
    /// The state of its session, as RFC 4271 calls it.
    pub state: String,
    /// For how many seconds.
    pub seconds: u64,
    /// The own address of the session.
    pub local_address: Option<IpAddr>,
    /// The hold time in seconds that was agreed on.
    pub hold_time: Option<u64>,
    /// What is exchanged.
    pub families: Vec<FamilyStatus>,
    /// What else was agreed on.
    pub capabilities: Vec<String>,
    /// Messages received and sent, by kind.
    pub messages: Messages,
    /// Messages with flaws, whose routes were taken as withdrawn (RFC 7606).
    pub flawed_updates: u64,
    /// The last such flaw.
    pub last_flaw: Option<String>,
    /// Why the session does not come up, or ended just now.
    pub last_error: Option<String>,
    /// Why the last established session ended.
    pub last_end: Option<String>,
    /// Whether its routes are kept while it restarts.
    pub restarting: bool,
    /// Bytes that wait to be sent.
    pub queued_bytes: usize,
    /// Whether it reads so slowly that it is only told what is different when it reads again.
    pub catching_up: bool,
}

/// A family that is exchanged with a neighbour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FamilyStatus {
    /// Which.
    pub family: Family,
    /// How many prefixes it announced.
    pub received: u32,
    /// How many of these are taken.
    pub accepted: u32,
    /// How many it was told.
    pub sent: usize,
    /// Whether it has told all it has (End-of-RIB).
    pub complete: bool,
}

/// Counters of messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Messages {
    /// UPDATEs that came.
    pub updates_received: u64,
    /// UPDATEs that went.
    pub updates_sent: u64,
    /// All others that came.
    pub others_received: u64,
    /// All others that went.
    pub others_sent: u64,
}

/// A path to a prefix, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// To where.
    pub prefix: IpNet,
    /// Its identifier (RFC 7911), where there are several.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path_id: Option<u32>,
    /// Over which next hop; none is the speaker itself.
    pub next_hop: Option<IpAddr>,
    /// Who announced it; none is the speaker itself.
    pub from: Option<IpAddr>,
    /// Whether it is the best to its prefix.
    pub best: bool,
    /// Whether it is kept although its neighbour is gone.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub stale: bool,
    /// `LOCAL_PREF`.
    pub local_pref: u32,
    /// `MULTI_EXIT_DISC`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub med: Option<u32>,
    /// The AS path.
    pub as_path: String,
    /// `igp`, `egp` or `incomplete`.
    pub origin: String,
    /// Communities.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub communities: Vec<Community>,
    /// Large communities.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub large_communities: Vec<String>,
    /// Who brought it into the AS, on reflected routes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub originator: Option<Ipv4Addr>,
    /// The reflectors' clusters that it came through.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub cluster_list: Vec<Ipv4Addr>,
    /// Why it is not used.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub refused: Option<String>,
}

impl Router {
    /// All neighbours.
    pub fn neighbors(&self, now: Instant) -> Vec<NeighborStatus> {
        self.by_address.values().filter_map(|id| self.peer(*id)).map(|peer| self.neighbor(peer, now)).collect()
    }

    /// All routes: each path to each prefix.
    pub fn all_routes(&self) -> Vec<Route> {
        let mut routes = self.routes_of(&self.v4, |_| true);
        routes.extend(self.routes_of(&self.v6, |_| true));
        routes.sort_by_key(|route| (route.prefix, !route.best, route.from));
        routes
    }

    /// What a neighbour announced, the refused routes included.
    ///
    /// # Errors
    /// There is no such neighbour.
    pub fn received(&self, address: IpAddr) -> Result<Vec<Route>, String> {
        let id = self.id_of(address)?;
        let mut routes = self.routes_of(&self.v4, |path| path.source == id);
        routes.extend(self.routes_of(&self.v6, |path| path.source == id));
        routes.sort_by_key(|route| (route.prefix, route.path_id));
        Ok(routes)
    }

    /// What a neighbour was told.
    ///
    /// # Errors
    /// There is no such neighbour.
    pub fn advertised(&self, address: IpAddr) -> Result<Vec<Route>, String> {
        let id = self.id_of(address)?;
        let mut routes = self.told_of(&self.v4, id);
        routes.extend(self.told_of(&self.v6, id));
        routes.sort_by_key(|route| (route.prefix, route.path_id));
        Ok(routes)
    }

    /// How many prefixes and paths there are, and how many sets of attributes.
    pub fn sizes(&self) -> (usize, usize, usize) {
        let prefixes = self.v4.table.len() + self.v6.table.len();
        (prefixes, self.v4.table.path_count() + self.v6.table.path_count(), self.store.len())
    }

    fn id_of(&self, address: IpAddr) -> Result<SourceId, String> {
        self.by_address.get(&address).copied().ok_or_else(|| {
            let known: Vec<String> = self.by_address.keys().map(ToString::to_string).collect();
            let known =
                if known.is_empty() { "there are none".to_owned() } else { format!("there are {}", known.join(", ")) };
            format!("there is no neighbour {address}; {known}")
        })
    }

    fn neighbor(&self, peer: &Peer, now: Instant) -> NeighborStatus {
        let negotiated = peer.up.as_ref().map(|up| &*up.negotiated);
        let connection = peer.up.as_ref().and_then(|up| self.connections.get(up.conn.0 as usize)?.as_ref());
        let families = match negotiated {
            Some(negotiated) => negotiated.families.clone(),
            None => peer.neighbor.families.clone(),
        };
        let held_down = peer.held_down.map(|until| match until {
            Some(until) => {
                format!("too many prefixes; it may come again in {} s", until.saturating_duration_since(now).as_secs())
            }
            None => "too many prefixes; it may come again after `tombolo bgp reset`".to_owned(),
        });
        let (came, went) = (peer.session.messages_received(), peer.session.messages_sent());
        let updates = (came.of(Kind::Update), went.of(Kind::Update));
        NeighborStatus {
            address: peer.address,
            description: peer.neighbor.description.clone(),
            asn: negotiated.map(|n| n.remote_asn).or(peer.neighbor.remote_asn),
            local_asn: peer.neighbor.local_asn.unwrap_or(self.config.asn),
            router_id: negotiated.map(|n| n.remote_id),
            kind: negotiated.map(|n| match n.kind {
                PeerKind::Internal => "internal".to_owned(),
                PeerKind::External => "external".to_owned(),
            }),
            route_reflector_client: peer.neighbor.route_reflector_client,
            dynamic: peer.dynamic,
            state: peer.session.state().to_string(),
            seconds: now.saturating_duration_since(peer.session.since()).as_secs(),
            local_address: peer.up.as_ref().map(|up| up.local).or(peer.neighbor.local_address),
            hold_time: negotiated.map(|n| n.hold_time.as_secs()),
            families: families
                .into_iter()
                .map(|family| {
                    let kept = &peer.families[index(family)];
                    FamilyStatus {
                        family,
                        received: kept.received,
                        accepted: kept.accepted,
                        sent: told(self, peer.id, family),
                        complete: kept.complete,
                    }
                })
                .collect(),
            capabilities: negotiated.map(capabilities).unwrap_or_default(),
            messages: Messages {
                updates_received: updates.0,
                updates_sent: updates.1,
                others_received: came.total() - updates.0,
                others_sent: went.total() - updates.1,
            },
            flawed_updates: peer.flawed,
            last_flaw: peer.last_flaw.as_ref().map(|(_, words)| words.clone()),
            last_error: held_down.or_else(|| peer.session.last_error().map(ToString::to_string)),
            last_end: peer.last_end.clone(),
            restarting: peer.restart.is_some(),
            queued_bytes: connection.map_or(0, |c| c.queue.len()),
            catching_up: peer.families.iter().any(|f| f.feed.as_ref().is_some_and(|feed| feed.catch_up.is_some())),
        }
    }

    fn routes_of<P: Prefix>(&self, rib: &Rib<P>, wanted: impl Fn(&Path) -> bool) -> Vec<Route> {
        let mut routes = Vec::new();
        for (_, prefix, paths) in rib.table.iter().filter(|(_, _, paths)| paths.iter().any(&wanted)) {
            let best = decision::best(paths, &self.sources, &self.store);
            for (index, path) in paths.iter().enumerate().filter(|(_, path)| wanted(path)) {
                let mut route = self.route(prefix.net(), path.attributes, path.source);
                route.path_id = Some(path.received_id).filter(|id| *id != 0);
                route.best = best == Some(index);
                route.stale = path.state.stale();
                route.refused = path.state.refusal().map(|refusal| {
                    let statement = refusal.of_statement().zip(self.peer(path.source));
                    let said = statement.and_then(|(index, peer)| peer.neighbor.import.statements.get(index));
                    said.map_or_else(|| refusal.words().to_owned(), |statement| statement.reason.clone())
                });
                routes.push(route);
            }
        }
        routes
    }

    fn told_of<P: Prefix>(&self, rib: &Rib<P>, id: SourceId) -> Vec<Route> {
        let Some(peer) = self.peer(id) else { return Vec::new() };
        let Some(feed) = peer.families[index(P::FAMILY)].feed.as_ref() else { return Vec::new() };
        let Some(group) = rib.groups[feed.group].as_ref() else { return Vec::new() };
        let told = group.told(id, &rib.table);
        told.map(|(prefix, path_id, attributes, source)| {
            let mut route = self.route(prefix.net(), attributes, source);
            let hop = group.view.hop::<P>(&self.sources[source as usize], self.store.get(attributes));
            route.next_hop = hop.and_then(crate::export::encode::address);
            route.path_id = Some(u32::from(path_id)).filter(|id| *id != 0);
            route.best = true;
            route
        })
        .collect()
    }

    fn route(&self, prefix: IpNet, attributes: AttributeId, source: SourceId) -> Route {
        let attributes = self.store.get(attributes);
        Route {
            prefix,
            path_id: None,
            next_hop: crate::export::encode::address(attributes.next_hop),
            from: (source != LOCAL).then(|| self.sources[source as usize].address),
            best: false,
            stale: false,
            local_pref: attributes.local_pref,
            med: attributes.get(crate::update::attributes::kind::MULTI_EXIT_DISC).map(|_| attributes.med),
            as_path: as_path::text(attributes.as_path()),
            origin: ["igp", "egp", "incomplete"]
                .get(usize::from(attributes.origin))
                .unwrap_or(&"incomplete")
                .to_string(),
            communities: attributes.communities().collect(),
            large_communities: attributes.large_communities().map(|c: LargeCommunity| c.to_string()).collect(),
            originator: attributes.originator,
            cluster_list: attributes.cluster_list().collect(),
            refused: None,
        }
    }
}

fn capabilities(negotiated: &crate::session::Negotiated) -> Vec<String> {
    let list = |families: &[Family]| families.iter().map(ToString::to_string).collect::<Vec<_>>().join("+");
    let mut all = Vec::new();
    let mut add = |is: bool, words: String| {
        if is {
            all.push(words);
        }
    };
    add(negotiated.four_octet, "four-octet-as".to_owned());
    add(negotiated.refresh, "route-refresh".to_owned());
    add(negotiated.enhanced_refresh, "enhanced-route-refresh".to_owned());
    add(negotiated.extended, "extended-messages".to_owned());
    add(negotiated.graceful.is_some(), "graceful-restart".to_owned());
    add(!negotiated.long_lived.is_empty(), "long-lived-graceful-restart".to_owned());
    add(!negotiated.add_path_receive.is_empty(), format!("add-path-receive({})", list(&negotiated.add_path_receive)));
    add(!negotiated.add_path_send.is_empty(), format!("add-path-send({})", list(&negotiated.add_path_send)));
    if let Some(role) = negotiated.remote_role {
        all.push(format!("role({role})"));
    }
    all
}
