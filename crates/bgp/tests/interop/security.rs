//! TCP MD5 signatures (RFC 2385), TTL security (RFC 5082), peers with two-octet AS numbers (RFC 6793), and flaws that
//! do not end a session (RFC 7606).

use tombolo_bgp::config::{Neighbor, Password, Ttl};

use super::bird::Bird;
use super::exabgp::Exabgp;
use super::frr::Frr;
use super::gobgp::Gobgp;
use super::harness::*;

const RIGHT: &str = "correct-horse";

fn guarded(password: &str) -> Neighbor {
    Neighbor { password: Some(Password(password.to_owned())), ..neighbor(AS) }
}

fn all_guarded(lab: &Lab, v6: bool) -> (Bird<'_>, Frr<'_>, Gobgp<'_>, Exabgp<'_>) {
    let of = |n, session| Plan { session, v6, ..Plan::new(n) };
    (
        Bird::start(lab, &of(2, "password \"correct-horse\";")),
        Frr::start(lab, &of(3, " neighbor PEER password correct-horse")),
        Gobgp::start(lab, &of(4, "    auth-password = \"correct-horse\"")),
        Exabgp::start(lab, &of(5, "  md5-password \"correct-horse\";")),
    )
}

#[test]
fn the_right_password_of_both_lets_in() {
    for v6 in [false, true] {
        let lab = Lab::new();
        let address = |n| Plan { v6, ..Plan::new(n) }.addresses().0;
        let config = [2, 3, 4, 5].into_iter().fold(ours(AS), |config, n| with(config, address(n), guarded(RIGHT)));
        let us = lab.start(config);
        let (bird, frr, gobgp, exabgp) = all_guarded(&lab, v6);
        for n in [2, 3, 4, 5] {
            us.until_up(address(n));
        }
        bird.until_route(&prefix4(1), |_| true);
        frr.until_route(&prefix4(1), |_| true);
        gobgp.until_route(&prefix4(1), |_| true);
        exabgp.until_route(&prefix4(1), |_| true);
    }
}

#[test]
fn a_wrong_or_missing_password_is_said() {
    let lab = Lab::new();
    let config = [2, 3].into_iter().fold(ours(AS), |config, n| with(config, v4(n), guarded("wrong")));
    let us = lab.start([4, 5].into_iter().fold(config, |config, n| with(config, v4(n), neighbor(AS))));
    let _them = all_guarded(&lab, false);
    for n in [2, 3, 4] {
        let words = us.until_down(v4(n), "password");
        assert!(words.contains("peer-router-passwords"), "{words}");
    }
    // ExaBGP does not listen: nobody answers, and what it sends the kernel drops.
    us.until("no session", v4(5), |s| s.state != "Established" && s.last_error.is_some());
    assert_eq!(us.ups_and_downs(), (0, 0));
}

#[test]
fn ttl_security_of_both_lets_in_and_who_sends_less_stays_out() {
    let lab = Lab::new();
    let secure = |asn| Neighbor { ttl: Ttl::Security { hops: 1 }, ..neighbor(asn) };
    let config = [2, 3, 4, 5].into_iter().fold(ours(AS), |config, n| with(config, v4(n), secure(64600 + u32::from(n))));
    let us = lab.start(with(config, v6(2), secure(64602)));
    let other = format!(
        "protocol bgp y {{ local {} port 179 as 64602; strict bind yes; neighbor {} as {AS}; ttl security on; \
         connect delay time 1; connect retry time 1; ipv6 {{ import all; export all; }}; }}",
        v6(2),
        v6(1)
    );
    let plan = |n: u8, session| Plan { asn: 64600 + u32::from(n), session, ..Plan::new(n) };
    let _bird = Bird::start(&lab, &Plan { more: &other, ..plan(2, "ttl security on;") });
    let _frr = Frr::start(&lab, &plan(3, " neighbor PEER ttl-security hops 1"));
    let _exabgp = Exabgp::start(&lab, &plan(5, "  outgoing-ttl 255; incoming-ttl 255;"));
    // Its TTL is 1, as RFC 4271 wants it of external sessions.
    let _gobgp = Gobgp::start(&lab, &plan(4, ""));
    for address in [v4(2), v6(2), v4(3), v4(5)] {
        us.until_up(address);
    }
    // It is heard until the session would need its OPEN.
    us.until("it stays out", v4(4), |s| s.state == "OpenSent" || s.last_error.is_some());
    assert_eq!(us.ups_and_downs(), (4, 0));
}

#[test]
fn two_octet_neighbours_take_and_tell_paths_with_four_octets() {
    let lab = Lab::new();
    let config = with(ours(AS), v4(2), neighbor(64602));
    let us = lab.start(with(with(config, v4(5), neighbor(64605)), v4(3), neighbor(BIG_AS)));
    let bird = Bird::start(&lab, &Plan { asn: 64602, session: "enable as4 no;", ..Plan::new(2) });
    let session = "  capability { asn4 disable; }";
    let exabgp = Exabgp::start(&lab, &Plan { asn: 64605, session, ..Plan::new(5) });
    let frr = Frr::start(&lab, &Plan { asn: BIG_AS, ..Plan::new(3) });
    for n in [2, 5] {
        let status = us.until_up(v4(n));
        assert!(!status.capabilities.iter().any(|c| c == "four-octet-as"), "{status:?}");
    }
    us.until_up(v4(3));
    // The number that has no room in the path is in a second one, AS4_PATH.
    for them in [&bird as &dyn Peer, &exabgp] {
        until("the path is whole", || {
            let all = them.routes();
            let path = all.iter().find(|route| route.prefix == prefix4(3)).map(|route| route.as_path.clone());
            if path == Some(format!("{AS} {BIG_AS}")) { Ok(()) } else { Err(format!("{all:#?}")) }
        });
    }
    // What they told goes on.
    assert_eq!(frr.until_route(&prefix4(2), |_| true).as_path, format!("{AS} 64602"));
    assert_eq!(frr.until_route(&prefix6(5), |_| true).as_path, format!("{AS} 64605"));
    assert_eq!(us.neighbor(v4(2)).unwrap().flawed_updates, 0);
}

#[test]
fn malformed_attributes_of_exabgp_withdraw_the_route_and_no_more() {
    let lab = Lab::new();
    let us = lab.start(with(ours(AS), v4(5), neighbor(AS)));
    let exabgp = Exabgp::start(&lab, &Plan::new(5));
    us.until_up(v4(5));
    let hop = v4(5);
    for (n, malformed) in [
        // Attribute, flags, value: communities of three bytes, an originator of five, a cluster list of two.
        "[ 0x08 0xc0 0x010203 ]",
        "[ 0x09 0x80 0x0102030405 ]",
        "[ 0x0a 0x80 0x0102 ]",
        "[ 0x20 0xc0 0x010203 ]",
    ]
    .into_iter()
    .enumerate()
    {
        let prefix = format!("198.51.{n}.0/24");
        exabgp.say(&format!("announce route {prefix} next-hop {hop}"));
        us.until_route(v4(5), &prefix, |route| route.refused.is_none());
        exabgp.say(&format!("announce route {prefix} next-hop {hop} attribute {malformed}"));
        us.until_gone(v4(5), &prefix);
        let status = us.until("the flaw is counted", v4(5), |s| s.flawed_updates > n as u64);
        assert!(status.last_flaw.unwrap().contains("RFC 7606"));
    }
    assert_eq!(us.ups_and_downs(), (1, 0));
    us.until_route(v4(5), &prefix4(5), |_| true);
    exabgp.say(&format!("announce route 198.51.0.0/24 next-hop {hop}"));
    us.until_route(v4(5), "198.51.0.0/24", |_| true);
}
