//! Node annotations of Tombolo's own, where Kilo's have no room. Kilo ignores them.

/// All internal addresses of a node, as CIDRs separated by commas: `10.0.0.1/24,fd00::1/64`.
///
/// [`INTERNAL_IP`](crate::kilo::INTERNAL_IP) holds one address, which is not enough for dual-stack.
pub const INTERNAL_IPS: &str = "tombolo.io/internal-ips";

/// All WireGuard addresses of a leader, as CIDRs separated by commas: `10.4.0.1/16,fd04::1/64`.
///
/// [`WIREGUARD_IP`](crate::kilo::WIREGUARD_IP) holds one address, which is not enough for dual-stack.
pub const WIREGUARD_IPS: &str = "tombolo.io/wireguard-ips";

/// Names of the nodes of the same location that the annotated node cannot reach, separated by commas.
///
/// A node that all others of its location list here does not lead it.
pub const UNREACHABLE: &str = "tombolo.io/unreachable";
