//! A router among neighbours that are played by the test, with a hand-turned clock.

#![allow(clippy::unwrap_used)]

mod mate;
mod rules;
mod scenarios;
mod views;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use mate::{Mate, Told};

use super::*;
use crate::Family;
use crate::config::{AddPath, GracefulRestart};
use crate::config::{Origination, Range};
use crate::update::attributes::put;

const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);
const OWN6: &str = "fd00::fe";
const ASN: u32 = 64512;

/// The router, and who is around it.
struct Stage {
    router: Router,
    now: Instant,
    mates: Vec<Mate>,
    actions: Vec<Action>,
}

fn config() -> Config {
    Config {
        asn: ASN,
        router_id: OWN,
        cluster_id: None,
        addresses: vec![OWN.into(), OWN6.parse().unwrap()],
        listen: Vec::new(),
        neighbors: BTreeMap::new(),
        ranges: Vec::new(),
        routes: BTreeMap::new(),
        multipath: 1,
        graceful_restart: None,
    }
}

fn neighbor(mate: &Mate) -> Neighbor {
    Neighbor {
        remote_asn: Some(mate.asn),
        passive: true,
        hold_time: Duration::ZERO,
        families: Family::ALL.to_vec(),
        route_reflector_client: mate.client,
        add_path: AddPath { receive: false, send: if mate.add_path { 2 } else { 0 } },
        ..Neighbor::default()
    }
}

fn graceful() -> GracefulRestart {
    GracefulRestart {
        restart_time: Duration::from_secs(120),
        deferral_time: Duration::from_secs(60),
        preserves_forwarding: true,
        restarting: false,
        long_lived: Some(Duration::from_secs(3600)),
        returning: BTreeSet::new(),
    }
}

impl Stage {
    fn new(mates: Vec<Mate>, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config();
        config.neighbors = mates.iter().map(|mate| (mate.address.into(), neighbor(mate))).collect();
        change(&mut config);
        let now = Instant::now();
        Self { router: Router::new(config, true, 1, now), now, mates, actions: Vec::new() }
    }

    /// All sessions up, and all told.
    fn up(mates: Vec<Mate>, change: impl FnOnce(&mut Config)) -> Self {
        let mut stage = Self::new(mates, change);
        (0..stage.mates.len()).for_each(|who| stage.connect(who));
        stage.settle();
        stage
    }

    fn connect(&mut self, who: usize) {
        let mate = &mut self.mates[who];
        let remote = SocketAddr::new(mate.address.into(), 40000);
        let Ok(conn) = self.router.accept(self.now, remote, OWN.into()) else { return };
        mate.begin(conn);
        let hello = mate.hello();
        self.say(who, &hello);
    }

    /// A neighbour sends bytes.
    fn say(&mut self, who: usize, bytes: &[u8]) {
        let Some(conn) = self.mates[who].conn else { return };
        let mut outbox = std::mem::take(&mut self.mates[who].unread);
        outbox.extend_from_slice(bytes);
        let used = self.router.receive(self.now, conn, &outbox);
        outbox.drain(..used);
        self.mates[who].unread = outbox;
        self.act();
    }

    /// A neighbour reads so many bytes at most. Returns whether there were any.
    fn hear(&mut self, who: usize, most: usize) -> bool {
        let Some(conn) = self.mates[who].conn else { return false };
        self.router.refill(conn);
        let Some(queue) = self.router.queue(conn) else { return false };
        let (slices, count) = queue.slices::<8>();
        let mut bytes: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
        bytes.truncate(most);
        queue.advance(bytes.len());
        self.mates[who].hear(&bytes);
        !bytes.is_empty()
    }

    /// A neighbour's connection breaks.
    fn lose(&mut self, who: usize) {
        if let Some(conn) = self.mates[who].end() {
            self.router.closed(self.now, conn, "lost".to_owned());
        }
        self.act();
    }

    fn act(&mut self) {
        for action in self.router.take_actions() {
            if let Action::Close(conn) = action {
                let who = self.mates.iter().position(|mate| mate.conn == Some(conn));
                if let Some(who) = who {
                    while self.hear(who, usize::MAX) {}
                    self.mates[who].end();
                }
                self.router.closed(self.now, conn, String::new());
            }
            self.actions.push(action);
        }
    }

    /// Until nobody has anything to say.
    fn settle(&mut self) {
        loop {
            self.router.flush();
            let any = (0..self.mates.len()).filter(|who| self.hear(*who, usize::MAX)).count();
            self.act();
            if any == 0 && !self.router.has_changes() {
                return;
            }
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.router.tick(self.now);
        self.act();
        self.settle();
    }

    fn configure(&mut self, change: impl FnOnce(&mut Config)) {
        let mut config = self.router.config().clone();
        change(&mut config);
        self.router.configure(self.now, config);
        self.act();
        self.settle();
    }

    fn told(&self, who: usize, net: &str) -> Option<&Told> {
        let net: IpNet = net.parse().unwrap();
        let mut all = self.mates[who].view.iter().filter(|((n, _), _)| *n == net).map(|(_, told)| told);
        let first = all.next();
        assert!(all.next().is_none(), "{net} twice");
        first
    }

    fn announce(&mut self, who: usize, net: &str, path: &[u32]) {
        let route = Told { path: path.to_vec(), ..self.mates[who].route(net.parse().unwrap()) };
        let update = mate::update(net.parse().unwrap(), &route);
        self.say(who, &update);
    }

    /// What the router counts is what it has.
    fn check_counts(&self) {
        for status in self.router.neighbors(self.now) {
            let received = self.router.received(status.address).unwrap();
            let advertised = self.router.advertised(status.address).unwrap();
            for family in &status.families {
                let of = |net: &IpNet| Family::of(net.addr()) == family.family;
                let all: Vec<_> = received.iter().filter(|r| of(&r.prefix)).collect();
                assert_eq!(family.received as usize, all.len());
                assert_eq!(family.accepted as usize, all.iter().filter(|r| r.refused.is_none()).count());
                assert_eq!(family.sent, advertised.iter().filter(|r| of(&r.prefix)).count());
            }
        }
    }
}
