//! A device that ends, and one that has nothing to do.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::{A, B, Node, Pair, Setup};
use crate::traffic::{datagrams, transfer};

#[test]
fn traffic_flows_again_after_a_restart() {
    restarts("ours");
}

#[test]
fn traffic_flows_again_after_a_restart_with_wireguard_go() {
    restarts("go");
}

/// `kill -9` of ours, once the end that knows where the other is and once the other, while it is sent packets; it speaks
/// first afterwards.
fn restarts(other: &'static str) {
    for (end, kinds) in [["ours", other], [other, "ours"]].into_iter().enumerate() {
        let mut pair = Pair::build(Setup::cable(kinds));
        pair.connect(false);
        let (own, to, config) = match end {
            0 => (A, B, pair.config_a("192.0.2.2:51821")),
            _ => (B, A, pair.config_b() + "Endpoint = 192.0.2.1:51820\n"),
        };
        let (node, other) = if end == 0 { (&mut pair.a, &pair.b) } else { (&mut pair.b, &pair.a) };
        let began = Instant::now();
        let mut configured = Duration::ZERO;
        while_sent(other, own[0], || {
            node.restart();
            node.up(own);
            node.wg_file("setconf", &config);
            configured = began.elapsed();
            node.ping(to[0], &["-c", "1"]);
        });
        println!("{kinds:?}: configured {configured:.0?} and answered {:.0?} after the kill", began.elapsed());
        transfer(&pair.a, &pair.b, B[1], 1 << 18);
        transfer(&pair.b, &pair.a, A[0], 1 << 18);
    }
}

/// Does it while a node sends a packet to an address every millisecond.
fn while_sent(from: &Node, address: &str, what: impl FnOnce()) {
    let is_over = AtomicBool::new(false);
    let socket = from.within(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    std::thread::scope(|scope| {
        let sends = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                // Nobody answers, and nobody has to listen.
                let _ = socket.send_to(b"is anybody there?", (address, 7));
                let _ = socket.recv(&mut [0; 10]);
            }
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(what));
        is_over.store(true, Ordering::Relaxed);
        sends.join().unwrap();
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// The cable is pulled while packets are sent, the interface is taken down, and its MTU is changed: the device stays.
#[test]
fn what_goes_down_comes_up_again() {
    let pair = Pair::new("ours");
    pair.connect(false);
    let (a, b) = (&pair.a, &pair.b);
    for end in [a, b] {
        while_sent(a, B[0], || {
            end.ip(&["link", "set", "v0", "down"]);
            let said = a.namespace.command("ping", &["-c", "1", "-W", "0.2", B[0]]).output().unwrap();
            assert!(!said.status.success(), "there is no cable");
            end.ip(&["link", "set", "v0", "up"]);
            a.ping(B[0], &[]);
        });
        while_sent(a, B[0], || {
            end.ip(&["link", "set", &end.iface, "down"]);
            end.ip(&["link", "set", &end.iface, "up"]);
            a.ping(B[0], &[]);
            b.ping(A[0], &[]);
        });
        for mtu in [1280, 1500] {
            end.ip(&["link", "set", &end.iface, "mtu", &mtu.to_string()]);
            transfer(a, b, B[0], 1 << 18);
            transfer(b, a, A[0], 1 << 18);
            assert!(datagrams(a, b, B[0], mtu, 200) > 150);
            assert!(datagrams(b, a, A[0], mtu, 200) > 150);
        }
    }
}

#[test]
fn an_idle_device_takes_no_time() {
    let pair = Pair::new("ours");
    pair.connect(false);
    transfer(&pair.a, &pair.b, B[0], 1 << 20);
    let ticks = || [&pair.a, &pair.b].map(|node| ticks(node.pid()));
    let (mut since, mut at) = (Instant::now(), ticks());
    let deadline = since + Duration::from_secs(30);
    while since.elapsed() < Duration::from_secs(3) {
        let now = ticks();
        if now.iter().zip(&at).any(|(now, at)| now - at > 1) {
            (since, at) = (Instant::now(), now);
        }
        assert!(Instant::now() < deadline, "the devices are never idle: {at:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What the process took of the processors, in hundredths of a second.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    let times = rest.split(' ').skip(11).take(2);
    times.map(|time| time.parse::<u64>().unwrap()).sum()
}
