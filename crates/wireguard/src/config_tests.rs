#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const A: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const B: &str = "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=";
const ZERO: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn refused(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn a_file_as_people_write_it_is_read() {
    let text = format!(
        "# a comment\r\n[interface]\nPRIVATEKEY={A} # secret\nlistenport = 51820\nFwMark = 0x453\n\
         Address = 10.0.0.1/24, fd00::1/64\nPostUp = iptables -A FORWARD -i %i -j ACCEPT\n\n\
         [PEER]\nPublicKey = {B}\nAllowedIPs = 10.0.0.2, 10.1.2.3/16\nallowedips=fd00::/8,\nAllowedIPs =\n\
         Endpoint = VPN.example.com:51820\nPersistentKeepalive = 25\n"
    );
    let config = parse(&text).unwrap();
    assert_eq!(config.private_key, Some(Key([1; 32])));
    assert_eq!((config.listen_port, config.fwmark), (Some(51820), Some(0x453)));
    assert_eq!(config.quick.iter().map(|q| q.key).collect::<Vec<_>>(), ["Address", "PostUp"]);
    assert_eq!(config.quick[1].value, "iptables -A FORWARD -i %i -j ACCEPT");
    let [peer] = &config.peers[..] else { panic!("{config:?}") };
    let ips: Vec<String> = peer.allowed_ips.iter().map(ToString::to_string).collect();
    assert_eq!(ips, ["10.0.0.2/32", "10.1.0.0/16", "fd00::/8"]);
    assert_eq!(peer.endpoint.as_ref().unwrap().to_string(), "vpn.example.com:51820");
    assert_eq!(peer.persistent_keepalive, Some(25));
}

#[test]
fn none_and_off_are_nothing() {
    let text = format!(
        "[Interface]\nPrivateKey = (none)\nFwMark = off\n[Peer]\nPublicKey = {A}\nPresharedKey = {ZERO}\n\
         AllowedIPs = (none)\nEndpoint = (none)\nPersistentKeepalive = OFF\n"
    );
    let config = parse(&text).unwrap();
    assert_eq!((config.private_key, config.fwmark), (None, Some(0)));
    assert_eq!(config.peers, [PeerConfig { public_key: Key([1; 32]), ..PeerConfig::new() }]);
}

#[test]
fn an_empty_file_is_an_empty_device() {
    assert_eq!(parse("").unwrap().device(|_| unreachable!()).unwrap(), Device::default());
}

#[test]
fn errors_name_line_key_and_reason() {
    let peer = format!("[Peer]\nPublicKey = {A}\n");
    for (text, expected) in [
        ("ListenPort = 1".to_owned(), "line 1: ListenPort: it comes before the first section"),
        ("[Interface]\nListenPort".to_owned(), "line 2: a line is a [Section] or KEY = VALUE"),
        ("\n[Server]".to_owned(), "line 2: [Server] is no section"),
        ("[Interface]\nListenPort = 65536".to_owned(), "line 2: ListenPort: \"65536\" is no port"),
        ("[Interface]\nPrivateKey = secret".to_owned(), "line 2: PrivateKey: no key of 32 bytes"),
        ("[Interface]\nFwMark = 0x100000000".to_owned(), "line 2: FwMark: \"0x100000000\" is neither off"),
        ("[Interface]\nPublicKey = x".to_owned(), "line 2: PublicKey: no key of [Interface]"),
        ("[Peer]\nEndpoint = 192.0.2.1:1\n[Interface]".to_owned(), "line 1: PublicKey: the [Peer] that begins here"),
        (format!("{peer}MTU = 1"), "line 3: MTU: no key of [Peer]"),
        (format!("{peer}AllowedIPs = 10.0.0.0/8, x"), "line 3: AllowedIPs: \"x\" is neither an address"),
        (format!("{peer}AllowedIPs = 10.0.0.0/33"), "line 3: AllowedIPs: \"10.0.0.0/33\" is neither"),
        (format!("{peer}Endpoint = 192.0.2.1"), "line 3: Endpoint: \"192.0.2.1\" is not an endpoint"),
        (format!("{peer}PersistentKeepalive = 1.5"), "line 3: PersistentKeepalive: \"1.5\" is neither off"),
        (format!("{peer}{peer}"), "is there already, at line 1"),
        (format!("[Peer]\nPublicKey = {ZERO}"), "line 2: PublicKey: a peer's public key is not zero"),
    ] {
        let error = refused(&text);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn an_error_does_not_show_a_secret() {
    assert!(!refused("[Interface]\nPrivateKey = secret").contains("secret"));
}

#[test]
fn bytes_that_are_no_text_are_refused_at_their_line() {
    assert_eq!(parse_bytes(b"[Interface]\n\xff").unwrap_err().line, 2);
}

#[test]
fn names_are_resolved_by_who_asks() {
    let config = parse(&format!("[Peer]\nPublicKey = {A}\nEndpoint = a.example:7\n")).unwrap();
    let device = config.device(|e| Ok(SocketAddr::new("2001:db8::1".parse().unwrap(), e.port))).unwrap();
    assert_eq!(device.peers[0].endpoint, Some("[2001:db8::1]:7".parse().unwrap()));
    let error = config.device(|_| Err("no such name".to_owned())).unwrap_err().to_string();
    assert!(error.contains("a.example:7") && error.contains("no such name"), "{error}");
}

#[test]
fn a_device_is_written_as_wg_showconf_does() {
    let text = format!(
        "[Interface]\nListenPort = 51820\nFwMark = 0x453\nPrivateKey = {A}\n\n[Peer]\nPublicKey = {B}\n\
         AllowedIPs = 10.0.0.0/8, fd00::/8\nEndpoint = [2001:db8::1]:51820\nPersistentKeepalive = 25\n"
    );
    let device = parse(&text).unwrap().device(|_| unreachable!()).unwrap();
    assert_eq!(render(&device), text);
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        private_key in any::<Option<[u8; 32]>>(),
        listen_port in any::<Option<u16>>(),
        fwmark in any::<Option<u32>>(),
        peers in prop::collection::btree_map(any::<[u8; 32]>(), (
            any::<Option<[u8; 32]>>(),
            any::<Option<u16>>(),
            prop::option::of((any::<IpAddr>(), 1..=u16::MAX)),
            prop::collection::btree_set((any::<IpAddr>(), 0..=32_u8), 0..4),
        ), 0..4),
    ) {
        let key = |bytes: Option<[u8; 32]>| bytes.map(Key).filter(|key| !key.is_zero());
        let peers = peers.into_iter().filter(|(k, _)| *k != [0; 32]).map(|(k, (preshared, keepalive, at, ips))| {
            let mut allowed_ips: Vec<IpNet> =
                ips.into_iter().map(|(ip, bits)| IpNet::new(ip, bits).unwrap().trunc()).collect();
            allowed_ips.sort();
            allowed_ips.dedup();
            Peer {
                public_key: Key(k),
                preshared_key: key(preshared),
                endpoint: at.map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port)),
                persistent_keepalive: keepalive.filter(|s| *s != 0),
                allowed_ips,
            }
        });
        let device = Device { private_key: key(private_key), listen_port, fwmark, peers: peers.collect() };
        let read = parse(&render(&device)).unwrap().device(|_| unreachable!()).unwrap();
        prop_assert_eq!(read, device);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_bytes(&bytes);
    }

    #[test]
    fn no_text_panics(text in "(\\[(interface|peer)\\]\n|(PublicKey|AllowedIPs|Endpoint|FwMark) ?= ?[ -~]{0,20}\n){0,8}") {
        let _ = parse(&text);
    }
}
