//! What a speaker is told: itself, its neighbours, its policy and the routes that it originates.
//!
//! A [`Config`] is whole: to change anything, make the next one and hand it over
//! (`Router::configure`); the difference is applied, and sessions that it does not concern
//! stay up.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{Community, Family, LargeCommunity};

/// The TCP port of BGP (RFC 4271, section 4).
pub const PORT: u16 = 179;

/// A whole configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The own autonomous system.
    pub asn: u32,
    /// The BGP identifier (RFC 6286: any number but 0 that is unique in the autonomous system).
    pub router_id: Ipv4Addr,
    /// The identifier of the reflector's cluster (RFC 4456); `None` is the router ID.
    pub cluster_id: Option<Ipv4Addr>,
    /// The own addresses: the next hops of own routes of the family that a session's transport is not.
    pub addresses: Vec<IpAddr>,
    /// Where connections are taken. Empty: none are.
    pub listen: Vec<SocketAddr>,
    /// The neighbours, by address.
    pub neighbors: BTreeMap<IpAddr, Neighbor>,
    /// Neighbours that come by themselves out of a range; the longest prefix that has the address counts.
    pub ranges: Vec<Range>,
    /// The routes that this speaker originates.
    pub routes: BTreeMap<IpNet, Origination>,
    /// Up to how many equal paths a route of the local table has. 1 is no multipath.
    pub multipath: usize,
    /// Graceful restart (RFC 4724), for all sessions.
    pub graceful_restart: Option<GracefulRestart>,
}

/// A route that this speaker originates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origination {
    /// The next hop; `None` is the local address of each session.
    pub next_hop: Option<IpAddr>,
    /// Communities on the route (RFC 1997).
    pub communities: Vec<Community>,
    /// Large communities on the route (RFC 8092).
    pub large_communities: Vec<LargeCommunity>,
    /// `LOCAL_PREF`; 100 when not given.
    pub local_pref: Option<u32>,
    /// `MULTI_EXIT_DISC`.
    pub med: Option<u32>,
    /// What [`Statement::tag`] sees: tells kinds of own routes apart in policy (pods, service addresses).
    pub tag: u32,
}

/// Neighbours that connect by themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// Who may.
    pub prefix: IpNet,
    /// How many at a time.
    pub limit: usize,
    /// What each is. [`Neighbor::passive`] is taken as set.
    pub neighbor: Neighbor,
}

/// A neighbour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbor {
    /// A name for people: in logs and in `tombolo bgp neighbors`.
    pub description: String,
    /// Its autonomous system; `None` takes any.
    pub remote_asn: Option<u32>,
    /// The own autonomous system towards it; `None` is [`Config::asn`].
    pub local_asn: Option<u32>,
    /// Its port.
    pub port: u16,
    /// The own address of the session; `None` leaves the choice to the kernel.
    pub local_address: Option<IpAddr>,
    /// Never connect, only be connected to.
    pub passive: bool,
    /// Do not start a session; an established one is ended with Cease, Administrative Shutdown and these words
    /// (RFC 9003).
    pub shutdown: Option<String>,
    /// The key of TCP MD5 signatures (RFC 2385).
    pub password: Option<Password>,
    /// How far away it may be.
    pub ttl: Ttl,
    /// The hold time to propose; zero, or three seconds at least. Keepalives are sent at a third of the agreed one.
    pub hold_time: Duration,
    /// How long to wait before connecting again, the first time; longer each time, up to a minute.
    pub connect_retry: Duration,
    /// Which routes are exchanged, over whatever transport.
    pub families: Vec<Family>,
    /// Whether it is a client of this route reflector (RFC 4456).
    pub route_reflector_client: bool,
    /// What next hop it is told.
    pub next_hop: NextHop,
    /// Several paths a prefix (RFC 7911).
    pub add_path: AddPath,
    /// Whether to offer messages of up to 65,535 bytes (RFC 8654).
    pub extended_messages: bool,
    /// The own role (RFC 9234); only for external neighbours.
    pub role: Option<Role>,
    /// Whether a neighbour that does not tell its role is refused.
    pub strict_role: bool,
    /// With an external neighbour, exchange nothing that no policy statement takes (RFC 8212).
    pub require_policy: bool,
    /// Which of its routes are taken.
    pub import: Policy,
    /// Which routes it gets.
    pub export: Policy,
    /// How many prefixes it may announce, of all families together.
    pub max_prefixes: Option<MaxPrefixes>,
    /// Bidirectional forwarding detection (RFC 5880).
    pub bfd: Option<Bfd>,
}

impl Default for Neighbor {
    fn default() -> Self {
        Self {
            description: String::new(),
            remote_asn: None,
            local_asn: None,
            port: PORT,
            local_address: None,
            passive: false,
            shutdown: None,
            password: None,
            ttl: Ttl::Default,
            hold_time: Duration::from_secs(90),
            connect_retry: Duration::from_secs(1),
            families: vec![Family::Ipv4],
            route_reflector_client: false,
            next_hop: NextHop::Standard,
            add_path: AddPath::default(),
            extended_messages: true,
            role: None,
            strict_role: false,
            require_policy: false,
            import: Policy::default(),
            export: Policy::default(),
            max_prefixes: None,
            bfd: None,
        }
    }
}

/// A TCP MD5 key. Shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// How far away a neighbour may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ttl {
    /// Internal neighbours anywhere, external ones on the own link (packets are sent with a TTL of 1).
    #[default]
    Default,
    /// This TTL on what is sent.
    Multihop(u8),
    /// The generalized TTL security mechanism (RFC 5082): what is sent has 255, and what comes from further away than
    /// so many hops (1 is the own link) is dropped by the kernel.
    Security {
        /// How many hops.
        hops: u8,
    },
}

/// What next hop a neighbour is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextHop {
    /// RFC 4271, section 5.1.3: own routes with the own address; to internal neighbours else unchanged; to external
    /// ones the own address.
    Standard,
    /// The own address of the session, on all but reflected routes.
    OwnAddress,
    /// Never changed, but for own routes without one.
    Unchanged,
    /// This one, on the routes of its family.
    Address(IpAddr),
}

/// Several paths a prefix (RFC 7911).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AddPath {
    /// Take several.
    pub receive: bool,
    /// Send up to so many; 0 and 1 send one, without a path identifier.
    pub send: u16,
}

/// A role of RFC 9234.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The neighbour is a customer.
    Provider,
    /// A route server of an exchange point.
    RouteServer,
    /// The neighbour is a route server.
    RouteServerClient,
    /// The neighbour is a provider.
    Customer,
    /// Both are peers.
    Peer,
}

/// Graceful restart (RFC 4724), and what lasts longer (RFC 9494).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GracefulRestart {
    /// How long neighbours shall wait for the session to come back; 4095 s at most.
    pub restart_time: Duration,
    /// How long to wait for the neighbours' End-of-RIB after a start, before routes are chosen and told.
    pub deferral_time: Duration,
    /// Whether forwarding goes on while this speaker is away (the F bit).
    pub preserves_forwarding: bool,
    /// Whether this is a start after which that holds (the R bit).
    pub restarting: bool,
    /// Whose routes are waited for then, beside those of [`Config::neighbors`]: who came by itself before the restart.
    pub returning: BTreeSet<IpAddr>,
    /// How long routes are kept, as a last resort, after the restart time; `None` is not at all.
    pub long_lived: Option<Duration>,
}

/// How many prefixes a neighbour may announce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPrefixes {
    /// So many.
    pub limit: u32,
    /// After how long a session that was ended for it may come again; `None` is after a person looked.
    pub restart_after: Option<Duration>,
}

/// Bidirectional forwarding detection (RFC 5880).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bfd {
    /// How often to send at most.
    pub transmit: Duration,
    /// How often to be sent to at most.
    pub receive: Duration,
    /// After how many missing packets the path is down.
    pub multiplier: u8,
}

/// An ordered list: the first statement that matches decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// In order.
    pub statements: Vec<Statement>,
    /// What is done with the rest.
    pub default: Verdict,
}

impl Default for Policy {
    /// Takes all.
    fn default() -> Self {
        Self { statements: Vec::new(), default: Verdict::Accept }
    }
}

/// A statement of a policy. What is not given matches everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Why, for people: a route that is refused is shown with these words.
    pub reason: String,
    /// One of these has the prefix.
    pub prefixes: Option<Vec<PrefixMatch>>,
    /// Where the route is from.
    pub origin: Option<Origin>,
    /// The [`Origination::tag`] of an own route.
    pub tag: Option<u32>,
    /// One of these communities is on the route.
    pub communities: Vec<Community>,
    /// What is done with the route.
    pub verdict: Verdict,
    /// What is changed on it when it is accepted.
    pub set: Set,
}

impl Statement {
    /// Matches all, changes nothing.
    pub fn new(reason: impl Into<String>, verdict: Verdict) -> Self {
        Self {
            reason: reason.into(),
            prefixes: None,
            origin: None,
            tag: None,
            communities: Vec::new(),
            verdict,
            set: Set::default(),
        }
    }
}

/// Taken or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Taken.
    Accept,
    /// Not taken.
    Reject,
}

/// Where a route is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// From this speaker.
    Local,
    /// From an internal neighbour.
    Internal,
    /// From an external neighbour.
    External,
}

/// Prefixes inside `net` whose length is from `min` to `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PrefixMatch {
    /// The network that has them.
    pub net: IpNet,
    /// Least length.
    pub min: u8,
    /// Greatest length.
    pub max: u8,
}

impl PrefixMatch {
    /// Only `net` itself.
    pub fn exactly(net: IpNet) -> Self {
        Self { net: net.trunc(), min: net.prefix_len(), max: net.prefix_len() }
    }

    /// `net` and everything in it.
    pub fn within(net: IpNet) -> Self {
        Self { net: net.trunc(), min: net.prefix_len(), max: net.max_prefix_len() }
    }

    /// Whether `prefix` is one of them.
    pub fn matches(&self, prefix: IpNet) -> bool {
        (self.min..=self.max).contains(&prefix.prefix_len()) && self.net.contains(&prefix)
    }
}

/// What a policy statement changes on a route.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Set {
    /// Adds communities.
    pub communities: Vec<Community>,
    /// Adds large communities.
    pub large_communities: Vec<LargeCommunity>,
    /// Puts an AS before the path, so many times.
    pub prepend: Option<(u32, u8)>,
    /// Sets `LOCAL_PREF`.
    pub local_pref: Option<u32>,
    /// Sets `MULTI_EXIT_DISC`.
    pub med: Option<u32>,
}

impl Set {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
