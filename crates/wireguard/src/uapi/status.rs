//! The lines of the answer to `get=1`.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tombolo_net::wireguard::{DeviceStatus, Key, Peer, PeerStatus};

use super::set::canonical;
use super::{Hex, UapiError, key, number, pairs};

/// The lines of a device, without the `errno` that ends the answer.
pub fn render_status(status: &DeviceStatus) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = write_status(&mut text, status);
    text
}

/// Reads the lines of a device. Keys that are not known are left out: devices add their own.
pub fn parse_status(text: &str) -> Result<DeviceStatus, UapiError> {
    let mut status = DeviceStatus::default();
    let mut handshake = Duration::ZERO;
    for pair in pairs(text) {
        let (line, name, value) = pair?;
        if name == "public_key" {
            let peer = Peer::new(key(line, value)?);
            status.peers.push(PeerStatus { peer, last_handshake: None, rx_bytes: 0, tx_bytes: 0 });
            handshake = Duration::ZERO;
            continue;
        }
        let Some(peer) = status.peers.last_mut() else {
            match name {
                "private_key" => status.private_key = some_key(key(line, value)?),
                "listen_port" => status.listen_port = number(line, value)?,
                "fwmark" => status.fwmark = number(line, value)?,
                _ => {}
            }
            continue;
        };
        match name {
            "preshared_key" => peer.peer.preshared_key = some_key(key(line, value)?),
            "endpoint" => peer.peer.endpoint = Some(endpoint(line, value)?),
            "persistent_keepalive_interval" => {
                peer.peer.persistent_keepalive = Some(number(line, value)?).filter(|seconds| *seconds != 0);
            }
            "allowed_ip" => {
                let ip = value.parse().map_err(|_| UapiError::new(line, "an allowed IP is ADDRESS/LENGTH"))?;
                peer.peer.allowed_ips.push(ip);
            }
            "rx_bytes" => peer.rx_bytes = number(line, value)?,
            "tx_bytes" => peer.tx_bytes = number(line, value)?,
            "last_handshake_time_sec" => {
                handshake = Duration::new(number(line, value)?, handshake.subsec_nanos());
                peer.last_handshake = time(handshake);
            }
            "last_handshake_time_nsec" => {
                let nanos: u32 = number(line, value)?;
                if nanos >= 1_000_000_000 {
                    return Err(UapiError::new(line, "a second has 1000000000 nanoseconds"));
                }
                handshake = Duration::new(handshake.as_secs(), nanos);
                peer.last_handshake = time(handshake);
            }
            _ => {}
        }
    }
    Ok(status)
}

fn write_status(text: &mut String, status: &DeviceStatus) -> std::fmt::Result {
    if let Some(key) = &status.private_key {
        writeln!(text, "private_key={}", Hex(key))?;
    }
    if status.listen_port != 0 {
        writeln!(text, "listen_port={}", status.listen_port)?;
    }
    if status.fwmark != 0 {
        writeln!(text, "fwmark={}", status.fwmark)?;
    }
    for PeerStatus { peer, last_handshake, rx_bytes, tx_bytes } in &status.peers {
        writeln!(text, "public_key={}", Hex(&peer.public_key))?;
        writeln!(text, "preshared_key={}", Hex(&peer.preshared_key.unwrap_or_default()))?;
        writeln!(text, "protocol_version=1")?;
        if let Some(endpoint) = peer.endpoint {
            writeln!(text, "endpoint={endpoint}")?;
        }
        let handshake = last_handshake.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        writeln!(text, "last_handshake_time_sec={}", handshake.as_secs())?;
        writeln!(text, "last_handshake_time_nsec={}", handshake.subsec_nanos())?;
        writeln!(text, "tx_bytes={tx_bytes}")?;
        writeln!(text, "rx_bytes={rx_bytes}")?;
        writeln!(text, "persistent_keepalive_interval={}", peer.persistent_keepalive.unwrap_or(0))?;
        for ip in &peer.allowed_ips {
            writeln!(text, "allowed_ip={ip}")?;
        }
    }
    Ok(())
}

fn some_key(key: Key) -> Option<Key> {
    (!key.is_zero()).then_some(key)
}

fn endpoint(line: &str, value: &str) -> Result<SocketAddr, UapiError> {
    let addr = value.parse().map_err(|_| UapiError::new(line, "an endpoint is ADDRESS:PORT or [IPV6]:PORT"))?;
    Ok(canonical(addr))
}

/// Zero stands for "never".
fn time(since_epoch: Duration) -> Option<SystemTime> {
    if since_epoch.is_zero() { None } else { UNIX_EPOCH.checked_add(since_epoch) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    /// As wireguard-go answers (keys changed).
    const ANSWER: &str = "private_key=0101010101010101010101010101010101010101010101010101010101010101\n\
        listen_port=51820\nfwmark=1107\n\
        public_key=0202020202020202020202020202020202020202020202020202020202020202\n\
        preshared_key=0000000000000000000000000000000000000000000000000000000000000000\n\
        protocol_version=1\nendpoint=[2001:db8::1%2]:51820\n\
        last_handshake_time_sec=1700000000\nlast_handshake_time_nsec=5\ntx_bytes=148\nrx_bytes=92\n\
        persistent_keepalive_interval=0\nallowed_ip=10.0.0.0/8\nallowed_ip=fd00::/8\n\
        public_key=0303030303030303030303030303030303030303030303030303030303030303\n\
        preshared_key=0404040404040404040404040404040404040404040404040404040404040404\n\
        last_handshake_time_sec=0\nlast_handshake_time_nsec=0\nsome_later_key=1\n";

    #[test]
    fn an_answer_of_wireguard_go_is_read() {
        let status = parse_status(ANSWER).unwrap();
        assert_eq!((status.private_key, status.listen_port, status.fwmark), (Some(Key([1; 32])), 51820, 1107));
        let [first, second] = &status.peers[..] else { panic!("{status:?}") };
        assert_eq!(first.peer.preshared_key, None);
        assert_eq!(first.peer.persistent_keepalive, None);
        assert_eq!(first.last_handshake, Some(UNIX_EPOCH + Duration::new(1_700_000_000, 5)));
        assert_eq!((first.tx_bytes, first.rx_bytes), (148, 92));
        assert_eq!(first.peer.allowed_ips, ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        assert_eq!((second.peer.preshared_key, second.last_handshake), (Some(Key([4; 32])), None));
    }

    #[test]
    fn answers_that_are_none_say_why() {
        for text in ["public_key=1\n", "private_key\n", "listen_port=x\n", "fwmark=-1\n"] {
            assert!(parse_status(text).is_err(), "{text}");
        }
        let peer = format!("public_key={}\n", "02".repeat(32));
        for line in ["endpoint=x", "allowed_ip=10.0.0.0", "last_handshake_time_nsec=1000000000", "rx_bytes=-1"] {
            assert!(parse_status(&format!("{peer}{line}\n")).is_err(), "{line}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            private in any::<Option<[u8; 32]>>(),
            listen_port in any::<u16>(),
            fwmark in any::<u32>(),
            peers in prop::collection::vec(
                (any::<[u8; 32]>(), any::<Option<u16>>(), any::<(u32, u64, u64)>(),
                 any::<Option<std::net::SocketAddrV6>>()), 0..4),
        ) {
            let status = DeviceStatus {
                private_key: private.map(Key).filter(|key| !key.is_zero()),
                listen_port,
                fwmark,
                peers: peers.into_iter().map(|(key, keepalive, (at, rx_bytes, tx_bytes), endpoint)| PeerStatus {
                    peer: Peer {
                        persistent_keepalive: keepalive.filter(|s| *s != 0),
                        endpoint: endpoint.map(|e| canonical(SocketAddr::new((*e.ip()).into(), e.port()))),
                        allowed_ips: vec!["::/0".parse().unwrap()],
                        ..Peer::new(Key(key))
                    },
                    last_handshake: time(Duration::from_secs(at.into())),
                    rx_bytes,
                    tx_bytes,
                }).collect(),
            };
            prop_assert_eq!(parse_status(&render_status(&status)), Ok(status));
        }

        #[test]
        fn no_text_panics(text in "[ -~\n]{0,300}") {
            let _ = parse_status(&text);
        }
    }
}
