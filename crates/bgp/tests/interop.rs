//! This speaker with those of others, from Debian: BIRD 2.0.12, FRR 8.4, GoBGP 3.10 and ExaBGP 4.2.
//!
//! What is tested with whom (both: each side in each role), and what the other side lacks:
//!
//! | | BIRD | FRR | GoBGP | ExaBGP |
//! | --- | --- | --- | --- | --- |
//! | IPv4 and IPv6, over both, iBGP and eBGP | both | both | both | both |
//! | communities: plain, large, extended | both | both | both | both |
//! | two-octet AS numbers | both | only new sessions | only new sessions | both |
//! | refresh | both | both, after an End-of-RIB | we ask; it never does | it asks; asked, it ends the session |
//! | enhanced refresh | both | both | has none | has none that works |
//! | reflection | both | both | both | it is our client; it reflects nothing |
//! | several paths | both | both | both | both |
//! | extended messages | both | we tell | has none | both |
//! | graceful restart | both | both | both | keeps no routes |
//! | long-lived | both | has none | we restart | has none |
//! | TCP MD5 | both | both | both | it connects |
//! | TTL security | both families | IPv4 | has it not: stays out | IPv4 |
//! | roles | both | both | has none: refused | has none |
//! | shutdown with words | both | both | both | takes the words for a broken message |
//! | too many prefixes, wrong AS, hold time | both | both | both | both |
//! | flawed attributes | | | | it tells them |
#![allow(clippy::unwrap_used)]

#[path = "interop/basics.rs"]
mod basics;
#[path = "interop/bird.rs"]
mod bird;
#[path = "interop/exabgp.rs"]
mod exabgp;
#[path = "interop/frr.rs"]
mod frr;
#[path = "interop/gobgp.rs"]
mod gobgp;
#[path = "interop/harness.rs"]
mod harness;
#[path = "interop/long.rs"]
mod long;
#[path = "interop/reflection.rs"]
mod reflection;
#[path = "interop/refresh.rs"]
mod refresh;
#[path = "interop/restart.rs"]
mod restart;
#[path = "interop/security.rs"]
mod security;
#[path = "interop/words.rs"]
mod words;
