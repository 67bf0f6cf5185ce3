//! Joins independent Kubernetes clusters into one network.

fn main() {}
