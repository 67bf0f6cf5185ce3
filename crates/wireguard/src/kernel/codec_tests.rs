#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::kernel::netlink::read_answer;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: String = hex.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

/// The answer to `wg show wg0` for a device with one peer, its messages written out by hand after linux/wireguard.h
/// (little endian): the peer's allowed IPs go on in the second message.
const DUMP_ANSWER: [&str; 2] = [
    "00 01 0000
     0800 0100 07000000  0800 0200 77673000
     2400 0300 0101010101010101010101010101010101010101010101010101010101010101
     2400 0400 0909090909090909090909090909090909090909090909090909090909090909
     0600 0600 6cca 0000  0800 0700 53040000
     d800 0880
      d400 0080
       2400 0100 0202020202020202020202020202020202020202020202020202020202020202
       2400 0200 0000000000000000000000000000000000000000000000000000000000000000
       1400 0600 00f1536500000000 0500000000000000
       0600 0500 1900 0000
       0c00 0800 9400000000000000
       0c00 0700 5c00000000000000
       0800 0a00 01000000
       2000 0400 0a00 ca6c 00000000 20010db8000000000000000000000001 00000000
       2000 0980  1c00 0080  0500 0300 08000000  0600 0100 0200 0000  0800 0200 0a000000",
    "00 01 0000
     6000 0880
      5c00 0080
       2400 0100 0202020202020202020202020202020202020202020202020202020202020202
       3400 0980
        2800 0080  0600 0100 0a00 0000  1400 0200 fd000000000000000000000000000000  0500 0300 08000000",
];

#[test]
#[cfg(target_endian = "little")]
fn a_dump_is_a_status_and_a_peer_goes_on_in_the_next_message() {
    let bodies: Vec<Vec<u8>> = DUMP_ANSWER.iter().map(|hex| fixed(bytes(hex))).collect();
    let status = read_status(&bodies);
    assert_eq!((status.private_key, status.listen_port, status.fwmark), (Some(Key([1; 32])), 51820, 1107));
    let [peer] = &status.peers[..] else { panic!("{status:?}") };
    assert_eq!(
        peer,
        &PeerStatus {
            peer: Peer {
                public_key: Key([2; 32]),
                preshared_key: None,
                endpoint: Some("[2001:db8::1]:51820".parse().unwrap()),
                persistent_keepalive: Some(25),
                allowed_ips: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
            },
            last_handshake: Some(UNIX_EPOCH + Duration::new(1_700_000_000, 5)),
            rx_bytes: 92,
            tx_bytes: 148,
        }
    );
}

/// The lengths of the list of peers and of the peer, which run to the message's end, counted instead of typed.
fn fixed(mut body: Vec<u8>) -> Vec<u8> {
    let peers = body.windows(2).position(|w| w == [0x08, 0x80]).unwrap() - 2;
    for at in [peers, peers + 4] {
        let length = u16::try_from(body.len() - at).unwrap();
        body[at..at + 2].copy_from_slice(&length.to_le_bytes());
    }
    let ips = body.windows(2).position(|w| w == [0x09, 0x80]).unwrap() - 2;
    let length = u16::try_from(body.len() - ips).unwrap();
    body[ips..ips + 2].copy_from_slice(&length.to_le_bytes());
    body
}

#[test]
#[cfg(target_endian = "little")]
fn changes_are_the_bytes_that_the_kernel_takes() {
    let changes = [
        Change::PrivateKey(Key([1; 32])),
        Change::ListenPort(51820),
        Change::Fwmark(1107),
        Change::RemovePeer(Key([3; 32])),
        Change::SetPeer(PeerChange {
            public_key: Key([2; 32]),
            update_only: false,
            preshared_key: None,
            endpoint: Some("192.0.2.1:51820".parse().unwrap()),
            persistent_keepalive: Some(25),
            allowed_ips: Some(vec!["10.0.0.0/8".parse().unwrap()]),
        }),
    ];
    let [message] = &set_device(0x1c, "wg0", &changes)[..] else { panic!("one message") };
    let expected = bytes(
        "0c010000 1c00 0500 00000000 00000000  01 01 0000  0800 0200 77673000
         2400 0300 0101010101010101010101010101010101010101010101010101010101010101
         0600 0600 6cca 0000  0800 0700 53040000
         a000 0880
          3000 0080
           2400 0100 0303030303030303030303030303030303030303030303030303030303030303
           0800 0300 05000000
          6c00 0080
           2400 0100 0202020202020202020202020202020202020202020202020202020202020202
           0800 0300 02000000
           1400 0400 0200 ca6c c0000201 0000000000000000
           0600 0500 1900 0000
           2000 0980
            1c00 0080  0600 0100 0200 0000  0800 0200 0a000000  0500 0300 08000000",
    );
    let mut finished = message.clone().finish();
    let length = u32::try_from(expected.len()).unwrap();
    assert_eq!(finished[..4], length.to_le_bytes());
    finished[..4].copy_from_slice(&expected[..4]);
    assert_eq!(finished, expected);
}

#[test]
fn no_changes_are_no_messages() {
    assert_eq!(set_device(1, "wg0", &[]), []);
}

#[test]
fn a_long_list_is_split_and_comes_back_whole() {
    let ips: Vec<IpNet> = (0..3000_u32).map(|n| IpNet::new(Ipv4Addr::from(n << 8).into(), 24).unwrap()).collect();
    let peer = |n: u8, ips: &[IpNet]| {
        Change::SetPeer(PeerChange {
            public_key: Key([n; 32]),
            update_only: false,
            preshared_key: None,
            endpoint: None,
            persistent_keepalive: None,
            allowed_ips: Some(ips.to_vec()),
        })
    };
    let messages = set_device(1, "wg0", &[Change::ListenPort(1), peer(1, &ips), peer(2, &[])]);
    assert!(messages.len() > 5, "{}", messages.len());
    let bodies: Vec<Vec<u8>> = messages
        .into_iter()
        .map(|m| {
            let bytes = m.finish();
            assert!(bytes.len() <= FULL + 200);
            read_answer(&bytes).bodies.remove(0)
        })
        .collect();
    let status = read_status(&bodies);
    assert_eq!(status.listen_port, 1);
    assert_eq!(status.peers.len(), 2);
    assert_eq!(status.peers[0].peer.allowed_ips, ips);
}

#[test]
fn device_attributes_after_peers_begin_a_new_message() {
    let messages = set_device(1, "wg0", &[Change::RemovePeer(Key([1; 32])), Change::ListenPort(9)]);
    assert_eq!(messages.len(), 2);
}

proptest! {
    #[test]
    fn no_bytes_panic(bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..120), 0..3)) {
        let _ = read_status(&bodies);
    }

    #[test]
    fn endpoints_come_back(ip in any::<IpAddr>(), port in any::<u16>()) {
        let addr = SocketAddr::new(ip, port);
        prop_assert_eq!(read_sockaddr(&sockaddr(addr)), Some(addr));
    }
}
