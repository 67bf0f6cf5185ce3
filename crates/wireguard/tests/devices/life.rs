//! A device that ends, and one that has nothing to do.

use std::time::{Duration, Instant};

use crate::support::{A, B, Pair, Setup};
use crate::traffic::transfer;

#[test]
fn traffic_flows_again_after_a_restart() {
    restarts("ours");
}

#[test]
fn traffic_flows_again_after_a_restart_with_wireguard_go() {
    restarts("go");
}

/// `kill -9` of ours, once the end that knows where the other is and once the other; it speaks first afterwards.
fn restarts(other: &'static str) {
    for kinds in [["ours", other], [other, "ours"]] {
        let mut pair = Pair::build(Setup::cable(kinds));
        pair.connect(false);
        let end = kinds.iter().rposition(|kind| *kind == "ours").unwrap();
        let (own, to, config) = match end {
            0 => (A, B, pair.config_a("192.0.2.2:51821")),
            _ => (B, A, pair.config_b() + "Endpoint = 192.0.2.1:51820\n"),
        };
        let began = Instant::now();
        let node = if end == 0 { &mut pair.a } else { &mut pair.b };
        node.restart();
        node.up(own);
        node.wg_file("setconf", &config);
        let configured = began.elapsed();
        node.ping(to[0], &["-c", "1"]);
        println!("{kinds:?}: configured {configured:.0?} and answered {:.0?} after the kill", began.elapsed());
        transfer(&pair.a, &pair.b, B[1], 1 << 18);
        transfer(&pair.b, &pair.a, A[0], 1 << 18);
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
