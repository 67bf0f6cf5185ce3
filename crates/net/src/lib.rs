//! The plain vocabulary of a node's network: WireGuard configuration, links, addresses, routes and rules
