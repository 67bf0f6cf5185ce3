//! A whole router that two neighbours, and time, do anything to: it never panics, it counts what it has, and what waits
//! to be sent has a bound.

#![no_main]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use tombolo_bgp::config::{AddPath, GracefulRestart, MaxPrefixes, Neighbor, Origination};
use tombolo_bgp::export::queue::LIMIT;
use tombolo_bgp::session::ConnId;
use tombolo_bgp::wire::{self, Capability, Kind, Open};
use tombolo_bgp::{Action, Config, Family, Router};

const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);

fuzz_target!(|input: &[u8]| {
    let mut input = Input(input);
    let mut play = Play::new(input.u8());
    while !input.0.is_empty() {
        play.event(&mut input);
        play.check();
    }
});

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn u8(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

struct Play {
    router: Router,
    now: Instant,
    conns: Vec<(usize, ConnId, Vec<u8>)>,
}

fn address(who: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, 1 + who as u8)
}

fn asn(who: usize) -> u32 {
    if who == 0 { 64512 } else { 65001 }
}

impl Play {
    fn new(bits: u8) -> Self {
        let bit = |n: u8| bits & 1 << n != 0;
        let neighbor = |who: usize| Neighbor {
            remote_asn: Some(asn(who)),
            passive: bit(0),
            families: Family::ALL.to_vec(),
            route_reflector_client: bit(1),
            add_path: AddPath { receive: bit(2), send: if bit(3) { 3 } else { 0 } },
            max_prefixes: bit(4)
                .then_some(MaxPrefixes { limit: 3, restart_after: bit(5).then_some(Duration::from_secs(60)) }),
            ..Neighbor::default()
        };
        let config = Config {
            asn: 64512,
            router_id: OWN,
            cluster_id: None,
            addresses: vec![OWN.into(), "fd00::fe".parse().unwrap()],
            listen: Vec::new(),
            neighbors: (0..2).map(|who| (address(who).into(), neighbor(who))).collect(),
            ranges: Vec::new(),
            routes: BTreeMap::new(),
            multipath: 2,
            graceful_restart: bit(6).then(|| GracefulRestart {
                restart_time: Duration::from_secs(120),
                deferral_time: Duration::from_secs(60),
                preserves_forwarding: true,
                restarting: bit(7),
                returning: Default::default(),
                long_lived: Some(Duration::from_secs(600)),
            }),
        };
        let now = Instant::now();
        let mut play = Self { router: Router::new(config, true, 1, now), now, conns: Vec::new() };
        play.act();
        play
    }

    fn event(&mut self, input: &mut Input<'_>) {
        let what = input.u8();
        let who = usize::from(what >> 7);
        match what & 0x0f {
            0 => self.accept(who),
            1 | 2 => {
                self.accept(who);
                if let Some(at) = self.conns.iter().rposition(|(of, ..)| *of == who) {
                    let mut hello = hello(who, what & 0x10 != 0).to_bytes();
                    hello.extend_from_slice(&wire::keepalive());
                    self.say(at, &hello);
                }
            }
            3 | 4 => self.say_to(who, |out| wire::write(out, Kind::Update, |out| route(input, what, who, out))),
            5 => {
                let kind = Kind::ALL[usize::from(input.u8()) % Kind::ALL.len()];
                let length = usize::from(input.u8());
                self.say_to(who, |out| wire::write(out, kind, |out| out.extend_from_slice(input.take(length))));
            }
            6 => {
                let length = usize::from(input.u8());
                self.say_to(who, |out| out.extend_from_slice(input.take(length)));
            }
            7 => {
                if let Some(at) = self.conns.iter().position(|(of, ..)| *of == who) {
                    let (_, conn, _) = self.conns.remove(at);
                    self.router.closed(self.now, conn, "lost".to_owned());
                }
            }
            8 => {
                self.now += Duration::from_secs(u64::from(input.u8()));
                self.router.tick(self.now);
            }
            9 => self.hear(who, usize::from(input.u8()) * 16),
            10 => {
                let mut config = self.router.config().clone();
                let net = format!("10.7.{}.0/24", input.u8() % 4).parse().unwrap();
                if config.routes.remove(&net).is_none() {
                    config.routes.insert(net, Origination::default());
                }
                self.router.configure(self.now, config);
            }
            11 => {
                let mut config = self.router.config().clone();
                let neighbor = config.neighbors.remove(&address(who).into());
                if what & 0x10 != 0 {
                    self.router.configure(self.now, config.clone());
                }
                let mut neighbor = neighbor.unwrap_or_default();
                neighbor.route_reflector_client ^= what & 0x20 != 0;
                neighbor.shutdown = (what & 0x40 != 0).then(|| "words".to_owned());
                config.neighbors.insert(address(who).into(), neighbor);
                self.router.configure(self.now, config);
            }
            12 => drop(self.router.reset(self.now, address(who).into())),
            13 => self.router.path_down(self.now, address(who).into()),
            _ => self.router.flush(),
        }
        self.act();
    }

    fn accept(&mut self, who: usize) {
        if self.conns.len() > 8 {
            return;
        }
        let remote = SocketAddr::new(address(who).into(), 40000);
        if let Ok(conn) = self.router.accept(self.now, remote, OWN.into()) {
            self.conns.push((who, conn, Vec::new()));
            self.act();
        }
    }

    fn say_to(&mut self, who: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = Vec::new();
        write(&mut bytes);
        if let Some(at) = self.conns.iter().rposition(|(of, ..)| *of == who) {
            self.say(at, &bytes);
        }
    }

    fn say(&mut self, at: usize, bytes: &[u8]) {
        let (_, conn, rest) = &mut self.conns[at];
        rest.extend_from_slice(bytes);
        let used = self.router.receive(self.now, *conn, rest);
        assert!(used <= rest.len());
        rest.drain(..used);
        self.act();
    }

    fn hear(&mut self, who: usize, most: usize) {
        for (_, conn, _) in self.conns.iter().filter(|(of, ..)| *of == who) {
            self.router.refill(*conn);
            let Some(queue) = self.router.queue(*conn) else { continue };
            let sent = queue.len().min(most);
            queue.advance(sent);
        }
    }

    fn act(&mut self) {
        for action in self.router.take_actions() {
            match action {
                Action::Connect(to) => {
                    let who = usize::from(IpAddr::from(address(1)) == to.remote.ip());
                    if self.conns.len() > 8 {
                        self.router.connect_failed(self.now, to.peer, "enough".to_owned());
                    } else if let Some(conn) = self.router.connected(self.now, to.peer, to.remote.ip(), OWN.into()) {
                        self.conns.push((who, conn, Vec::new()));
                    }
                }
                Action::Close(conn) => {
                    self.conns.retain(|(_, other, _)| *other != conn);
                    self.router.closed(self.now, conn, String::new());
                }
                _ => {}
            }
        }
        drop((self.router.take_ready(), self.router.take_routes()));
    }

    fn check(&mut self) {
        for status in self.router.neighbors(self.now) {
            let received = self.router.received(status.address).unwrap();
            let advertised = self.router.advertised(status.address).unwrap();
            for family in &status.families {
                let of = |net: &ipnet::IpNet| Family::of(net.addr()) == family.family;
                let all: Vec<_> = received.iter().filter(|r| of(&r.prefix)).collect();
                assert_eq!(family.received as usize, all.len());
                assert_eq!(family.accepted as usize, all.iter().filter(|r| r.refused.is_none()).count());
                assert_eq!(family.sent, advertised.iter().filter(|r| of(&r.prefix)).count());
            }
            assert!(status.queued_bytes <= LIMIT + (1 << 20), "{} bytes wait", status.queued_bytes);
        }
    }
}

fn hello(who: usize, four_octet: bool) -> Open {
    let families = vec![(1, 1, true), (2, 1, true)];
    let mut capabilities = vec![
        Capability::Multiprotocol { afi: 1, safi: 1 },
        Capability::Multiprotocol { afi: 2, safi: 1 },
        Capability::RouteRefresh,
        Capability::EnhancedRefresh,
        Capability::AddPath(vec![(1, 1, 3), (2, 1, 3)]),
        Capability::GracefulRestart { restarting: false, notification: true, time: 100, families },
        Capability::LongLivedGracefulRestart(vec![(1, 1, true, 300), (2, 1, true, 300)]),
    ];
    if four_octet {
        capabilities.push(Capability::FourOctetAs(asn(who)));
    }
    Open { version: 4, asn: asn(who), hold_time: 90, router_id: address(who), capabilities }
}

/// The body of an UPDATE that may be taken.
fn route(input: &mut Input<'_>, what: u8, who: usize, out: &mut Vec<u8>) {
    let net =
        [&[0, 0, 0, input.u8() % 3][..if what & 0x20 == 0 { 0 } else { 4 }], &[24, 10, 9, input.u8() % 4]].concat();
    if what & 0x10 != 0 {
        out.extend_from_slice(&[0, net.len() as u8]);
        out.extend_from_slice(&net);
        return out.extend_from_slice(&[0, 0]);
    }
    let asn = asn(who).to_be_bytes();
    let path: &[u8] = match (who, what & 0x40) {
        (0, _) => &[],
        (_, 0) => &[2, 1, asn[0], asn[1], asn[2], asn[3]],
        _ => &[2, 1, asn[2], asn[3]],
    };
    let mut attributes = vec![0x40, 1, 1, 0, 0x40, 2, path.len() as u8];
    attributes.extend_from_slice(path);
    attributes.extend_from_slice(&[0x40, 3, 4, 10, 0, 0, 1, 0x40, 5, 4, 0, 0, 0, input.u8()]);
    if input.u8() & 1 != 0 {
        attributes.extend_from_slice(&[0xc0, 8, 4]);
        attributes.extend_from_slice(&[0xff, 0xff, [0, 0xff][usize::from(input.u8() & 1)], input.u8() % 8]);
    }
    out.extend_from_slice(&[0, 0, 0, attributes.len() as u8]);
    out.extend_from_slice(&attributes);
    out.extend_from_slice(&net);
}
