//! How many handshakes a source may ask for when the device is under load (whitepaper, section 5.4.7).

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// What one handshake costs: 20 a second.
const COST: Duration = Duration::from_millis(50);
/// What a source can save up: five at once.
const MOST: Duration = Duration::from_millis(250);
/// How many sources are kept in mind.
const SOURCES: usize = 8192;

/// A token bucket for each source.
#[derive(Default)]
pub(crate) struct Limiter {
    buckets: HashMap<Source, Bucket>,
}

/// An IPv4 address, or the network of 64 bits that an IPv6 host has to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    V4([u8; 4]),
    V6([u8; 8]),
}

struct Bucket {
    /// Time saved up.
    tokens: Duration,
    updated: Instant,
}

impl Limiter {
    /// Whether a handshake that comes from there is to be worked on, which it then is.
    pub(crate) fn allow(&mut self, from: IpAddr, now: Instant) -> bool {
        let source = Source::of(from);
        if self.buckets.len() >= SOURCES && !self.buckets.contains_key(&source) {
            self.buckets.retain(|_, bucket| bucket.filled(now) < MOST);
            if self.buckets.len() >= SOURCES {
                return false;
            }
        }
        let bucket = self.buckets.entry(source).or_insert(Bucket { tokens: MOST, updated: now });
        bucket.tokens = bucket.filled(now);
        bucket.updated = now;
        let Some(rest) = bucket.tokens.checked_sub(COST) else { return false };
        bucket.tokens = rest;
        true
    }
}

impl Bucket {
    fn filled(&self, now: Instant) -> Duration {
        (self.tokens + now.saturating_duration_since(self.updated)).min(MOST)
    }
}

impl Source {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::Ipv4Addr;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_source_may_ask_five_times_at_once_and_then_twenty_times_a_second() {
        let (mut limiter, start) = (Limiter::default(), Instant::now());
        let allowed = |limiter: &mut Limiter, at| (0..100).filter(|_| limiter.allow(ip("192.0.2.1"), at)).count();
        assert_eq!(allowed(&mut limiter, start), 5);
        assert_eq!(allowed(&mut limiter, start + Duration::from_millis(49)), 0);
        assert_eq!(allowed(&mut limiter, start + Duration::from_millis(50)), 1);
        let second = (1..=100).map(|tick| start + Duration::from_millis(50 + 10 * tick));
        assert_eq!(second.map(|at| allowed(&mut limiter, at)).sum::<usize>(), 20);
        assert_eq!(allowed(&mut limiter, start + Duration::from_secs(60)), 5, "no more than five are saved up");
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_an_ipv6_network() {
        let (mut limiter, now) = (Limiter::default(), Instant::now());
        for _ in 0..5 {
            assert!(limiter.allow(ip("192.0.2.1"), now) && limiter.allow(ip("2001:db8::1"), now));
        }
        assert!(!limiter.allow(ip("::ffff:192.0.2.1"), now), "the same address");
        assert!(limiter.allow(ip("192.0.2.2"), now), "another");
        assert!(!limiter.allow(ip("2001:db8::ffff:1"), now), "the same network");
        assert!(limiter.allow(ip("2001:db8:0:1::1"), now), "another");
    }

    #[test]
    fn the_table_is_bounded_and_is_swept() {
        let (mut limiter, now) = (Limiter::default(), Instant::now());
        for number in 0..SOURCES as u32 {
            assert!(limiter.allow(Ipv4Addr::from(number).into(), now));
        }
        assert!(!limiter.allow(ip("192.0.2.1"), now), "there is no room");
        assert!(limiter.allow(Ipv4Addr::from(3).into(), now), "who is known may still ask");
        assert!(limiter.allow(ip("192.0.2.1"), now + MOST), "the others' buckets are full, so they are forgotten");
        assert_eq!(limiter.buckets.len(), 1);
    }
}
