//! Which node of a segment leads it.

use std::net::IpAddr;

use crate::Node;

/// Index of the leader among the nodes of one segment, sorted by name: the first that volunteers and has a public
/// endpoint, else the first that volunteers, else the first with a public endpoint, else the first.
///
/// A node that all others report as unreachable is passed over, unless that goes for every one of them.
pub(super) fn find(nodes: &[&Node]) -> usize {
    let reachable: Vec<usize> = (0..nodes.len()).filter(|i| !given_up(*i, nodes)).collect();
    let candidates = if reachable.is_empty() { (0..nodes.len()).collect() } else { reachable };
    let rank = |i: &usize| (!nodes[*i].leader, !has_public_endpoint(nodes[*i]));
    candidates.into_iter().min_by_key(rank).unwrap_or(0)
}

fn given_up(i: usize, nodes: &[&Node]) -> bool {
    let mut others = nodes.iter().enumerate().filter(|(j, _)| *j != i).peekable();
    others.peek().is_some() && others.all(|(_, other)| other.unreachable.contains(&nodes[i].name))
}

fn has_public_endpoint(node: &Node) -> bool {
    node.endpoint.as_ref().and_then(|endpoint| endpoint.ip()).is_some_and(is_public)
}

/// Kilo's idea of public, which decides on leaders: where nodes of both programs share a location, all must come to
/// the same one. So only `fd00::/16` is private in IPv6, not all of RFC 4193.
fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => !ip.is_private(),
        IpAddr::V6(ip) => ip.segments()[0] != 0xfd00,
    }
}
