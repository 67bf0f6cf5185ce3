//! Which routes a neighbour is told, and with which next hop.

use std::net::IpAddr;

use crate::config::{self, Origin, Policy, Role, Set, Verdict};
use crate::prefix::Prefix;
use crate::rib::{Attributes, Source};
use crate::update::attributes::{NextHop, kind};
use crate::{Community, Family};

/// All that makes a difference to what a neighbour is told of a family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Whether it is in another AS.
    pub external: bool,
    /// Whether it is a client of this reflector.
    pub client: bool,
    /// The own AS towards it.
    pub local_asn: u32,
    /// Whether AS numbers have four octets in its messages.
    pub four_octet: bool,
    /// The greatest message it takes.
    pub max_message: usize,
    /// How many paths a prefix it is told; 0 is one without an identifier.
    pub add_path: u16,
    /// What next hop it is told.
    pub next_hop: config::NextHop,
    /// The own address of the family towards it.
    pub own_address: Option<IpAddr>,
    /// Its export policy.
    pub policy: Policy,
    /// The own role towards it.
    pub role: Option<Role>,
    /// Whether it is told nothing, for want of a policy (RFC 8212).
    pub silent: bool,
    /// Whether it knows stale routes that are kept for long (RFC 9494).
    pub long_lived: bool,
}

/// Which statement of the export policy took a route.
pub type Statement = u16;

/// No statement did, but the policy's default.
pub const BY_DEFAULT: Statement = u16::MAX;

impl View {
    /// Whether a route is told, and by which statement of the policy.
    pub fn takes<P: Prefix>(&self, prefix: P, source: &Source, attributes: &Attributes) -> Option<Statement> {
        (self.passes(source, attributes) && self.hop::<P>(source, attributes).is_some()).then_some(())?;
        self.judge(prefix, source, attributes)
    }

    /// What the statement changes.
    pub fn set(&self, statement: Statement) -> Option<&Set> {
        self.policy.statements.get(usize::from(statement)).map(|s| &s.set).filter(|set| !set.is_empty())
    }

    /// The next hop that a route is told with; none is one that cannot be told, because an IPv4 route has no place for
    /// an IPv6 next hop (RFC 8950 is not spoken).
    pub fn hop<P: Prefix>(&self, source: &Source, attributes: &Attributes) -> Option<NextHop> {
        self.choose_hop(P::FAMILY, source, attributes)
            .filter(|hop| P::FAMILY == Family::Ipv6 || matches!(hop, NextHop::V4(_)))
    }

    fn choose_hop(&self, family: Family, source: &Source, attributes: &Attributes) -> Option<NextHop> {
        let own = || self.own_address.map(hop);
        let reflected = source.origin == Origin::Internal && !self.external;
        match (self.next_hop, attributes.next_hop) {
            (config::NextHop::Address(address), _) if !reflected && Family::of(address) == family => Some(hop(address)),
            (_, NextHop::Own) => own(),
            (config::NextHop::OwnAddress, _) if !reflected => own(),
            (config::NextHop::Standard | config::NextHop::Address(_), _) if self.external => own(),
            // The link-local half is for those on the same link (RFC 2545, section 3), who may be others.
            (_, NextHop::V6(address, _)) => Some(NextHop::V6(address, None)),
            (_, next_hop) => Some(next_hop),
        }
    }

    fn passes(&self, source: &Source, attributes: &Attributes) -> bool {
        if self.silent {
            return false;
        }
        // RFC 4456, section 6: what an internal neighbour announced goes to clients, or is a client's.
        if source.origin == Origin::Internal && !self.external && !self.client && !source.client {
            return false;
        }
        if attributes.well_known.any() && !self.passes_communities(attributes) {
            return false;
        }
        // RFC 9234, section 5: what is only for customers is told to nobody else.
        let to_customer = matches!(self.role, None | Some(Role::Provider | Role::RouteServer));
        to_customer || attributes.get(kind::ONLY_TO_CUSTOMER).is_none()
    }

    fn passes_communities(&self, attributes: &Attributes) -> bool {
        let has = |community| attributes.well_known.has(community);
        let beyond = self.external && (has(Community::NO_EXPORT) || has(Community::NO_EXPORT_SUBCONFED));
        // RFC 9494, section 4.3.
        let stale = has(Community::LLGR_STALE) && !self.long_lived;
        !(has(Community::NO_ADVERTISE) || beyond || stale)
    }

    fn judge<P: Prefix>(&self, prefix: P, source: &Source, attributes: &Attributes) -> Option<Statement> {
        if self.policy.statements.is_empty() {
            return (self.policy.default == Verdict::Accept).then_some(BY_DEFAULT);
        }
        let found = self.policy.first_match(prefix.net(), source.origin, attributes);
        let (verdict, statement) = match found {
            Some((index, statement)) => (statement.verdict, Statement::try_from(index).unwrap_or(BY_DEFAULT)),
            None => (self.policy.default, BY_DEFAULT),
        };
        (verdict == Verdict::Accept).then_some(statement)
    }
}

fn hop(address: IpAddr) -> NextHop {
    match address {
        IpAddr::V4(address) => NextHop::V4(address),
        IpAddr::V6(address) => NextHop::V6(address, None),
    }
}
