//! Services and EndpointSlices to an nftables ruleset: pure
