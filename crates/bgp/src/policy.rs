//! Which statement of a policy decides on a route.

use ipnet::IpNet;

use crate::config::{Origin, Policy, Statement};
use crate::rib::Attributes;

impl Policy {
    /// The first statement that matches, with its place.
    pub fn first_match(&self, net: IpNet, origin: Origin, attributes: &Attributes) -> Option<(usize, &Statement)> {
        self.statements.iter().enumerate().find(|(_, statement)| statement.matches(net, origin, attributes))
    }

    /// Whether it takes all, unchanged.
    pub fn is_trivial(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a statement changes something on routes.
    pub fn changes(&self) -> bool {
        self.statements.iter().any(|s| !s.set.is_empty())
    }
}

impl Statement {
    fn matches(&self, net: IpNet, origin: Origin, attributes: &Attributes) -> bool {
        let of_origin = self.origin.is_none_or(|o| o == origin);
        let tagged = self.tag.is_none_or(|t| origin == Origin::Local && attributes.tag == t);
        let inside = || self.prefixes.as_ref().is_none_or(|list| list.iter().any(|p| p.matches(net)));
        let marked = || self.communities.is_empty() || attributes.communities().any(|c| self.communities.contains(&c));
        of_origin && tagged && inside() && marked()
    }
}
