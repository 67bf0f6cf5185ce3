//! Two devices over a network that loses, doubles, delays and reorders.

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::tests::world::{MS, SECOND, World};

/// How bad the network is.
#[derive(Debug, Clone)]
struct Weather {
    seed: u64,
    /// Of a hundred datagrams.
    lost: u32,
    doubled: u32,
    /// The longest that one takes.
    delay: Duration,
    /// How long it lasts.
    lasts: Duration,
    /// How often each device sends a packet meanwhile; none sends nothing.
    every: [Option<Duration>; 2],
    keepalive: Option<u16>,
}

fn weather() -> impl Strategy<Value = Weather> {
    let every = || proptest::option::weighted(0.8, (100u64..20_000).prop_map(Duration::from_millis));
    let how = (any::<u64>(), 0u32..95, 0u32..50, 21u64..4000);
    (how, 1u64..900, every(), every(), proptest::option::of(1u16..60)).prop_map(
        |((seed, lost, doubled, delay), lasts, one, other, keepalive)| Weather {
            seed,
            lost,
            doubled,
            delay: Duration::from_millis(delay),
            lasts: Duration::from_secs(lasts),
            every: [one, other],
            keepalive,
        },
    )
}

/// Packets that are told apart, and what was received of them.
struct Traffic {
    world: World,
    sent: [u64; 2],
}

impl Traffic {
    fn new(keepalive: Option<u16>) -> Self {
        Self { world: World::pair_with(keepalive), sent: [0; 2] }
    }

    fn storm(&mut self, weather: &Weather) {
        let (mut rng, Weather { lost, doubled, delay, .. }) = (StdRng::seed_from_u64(weather.seed), weather.clone());
        self.world.fate = Box::new(move |_| {
            let copies = 1 + usize::from(rng.random_ratio(doubled, 100));
            (0..copies)
                .filter(|_| !rng.random_ratio(lost, 100))
                .collect::<Vec<_>>()
                .into_iter()
                .map(|_| rng.random_range(MS..=delay))
                .collect()
        });
        self.send(weather.lasts, weather.every);
    }

    /// Each device sends as often as it does, for a while.
    fn send(&mut self, time: Duration, every: [Option<Duration>; 2]) {
        let end = self.world.since + time;
        let mut next = every.map(|every| every.map(|_| self.world.since));
        loop {
            let due = (0..2).filter_map(|who| next[who].map(|at| (at, who))).min().filter(|(at, _)| *at < end);
            let Some((at, who)) = due else { return self.world.run_until(end) };
            self.world.run_until(at);
            self.send_one(who);
            next[who] = every[who].map(|every| at + every);
        }
    }

    fn send_one(&mut self, who: usize) {
        let packet = [self.sent[who].to_be_bytes(); 2].concat();
        self.sent[who] += 1;
        self.world.send(who, &packet);
    }

    /// The numbers of the packets that one received.
    fn received(&self, who: usize) -> Vec<u64> {
        let number = |packet: &Vec<u8>| u64::from_be_bytes(packet[..8].try_into().unwrap());
        self.world.devices[who].received.iter().map(number).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn after_the_storm_everything_arrives_and_nothing_ever_arrives_twice(weather in weather()) {
        let mut traffic = Traffic::new(weather.keepalive);
        traffic.storm(&weather);
        traffic.world.heal();
        // What is late is over, and one of the two has noticed.
        traffic.send(SETTLING, [Some(SECOND); 2]);
        let settled = traffic.sent;
        traffic.send(10 * SECOND, [Some(SECOND); 2]);
        traffic.world.run(SECOND);
        for who in 0..2 {
            let received = traffic.received(who);
            let different: HashSet<u64> = received.iter().copied().collect();
            prop_assert_eq!(different.len(), received.len(), "none was received twice");
            for number in settled[1 - who]..traffic.sent[1 - who] {
                prop_assert!(different.contains(&number), "{} was not received by {}", number, who);
            }
            prop_assert!(traffic.world.devices[who].sessions.len() <= 3);
        }
    }
}

/// Data that gets no answer begins a handshake after 15 s, and an initiation that gets none is repeated after 5 s.
const SETTLING: Duration = Duration::from_secs(25);
