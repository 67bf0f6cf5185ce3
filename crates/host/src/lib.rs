//! Links, addresses, routes, rules and nftables of the host: observe, compare, apply, clean up
