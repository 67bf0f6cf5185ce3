//! What is not of links and routes: probes, nftables, settings, flows, capabilities.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tombolo_host::probe::{Prober, Settings, Target as Probed};
use tombolo_host::{NftError, Sysctls, capabilities, conntrack, nft};

use crate::common::{Namespace, eventually};

#[test]
fn the_prober_sees_a_neighbour_answer_fall_silent_and_come_back() {
    let (near, far) = (Namespace::new(), Namespace::new());
    near.join(&far, &["10.1.0.1/24", "fd01::1/64"], &["10.1.0.2/24", "fd01::2/64"]);
    near.run(async || {
        let prober = Prober::new(Settings { interval: Duration::from_millis(50), threshold: 3 }).unwrap();
        let target = |id, address: &str, source: Option<&str>| Probed {
            id,
            address: address.parse().unwrap(),
            source: source.map(|s| s.parse().unwrap()),
            mark: Some(0x1107),
            device: source.map(|_| "eth0".into()),
        };
        let targets = vec![
            target(1, "10.1.0.2", None),
            target(2, "fd01::2", None),
            target(3, "10.1.0.2", Some("10.1.0.1")),
            target(4, "fd01::2", Some("fd01::1")),
            target(5, "10.1.0.99", None),
        ];
        prober.set_targets(targets);
        let are = |answering: bool| (1..=4).all(|id| prober.state(id).unwrap().answering == Some(answering));
        eventually("all answer", async || are(true)).await;
        let mut changes = prober.changes();
        changes.mark_unchanged();
        far.ip("link set eth0 down");
        eventually("all are silent", async || are(false)).await;
        assert!(changes.has_changed().unwrap());
        far.ip("link set eth0 up");
        far.ip("address replace fd01::2/64 dev eth0 nodad");
        eventually("all answer again", async || are(true)).await;
        eventually("the absent one is silent", async || prober.state(5).unwrap().answering == Some(false)).await;
        assert_eq!(prober.state(5).unwrap().last_reply, None);
    });
}

#[test]
fn nftables_transactions_and_their_complaints() {
    let namespace = Namespace::new();
    namespace.run(async || {
        nft::run("table inet trial { chain c { accept\n }\n }\n").await.unwrap();
        assert!(nft::table_exists("inet", "trial").await.unwrap());
        assert!(!nft::table_exists("ip", "trial").await.unwrap());
        assert!(nft::list_table("inet", "trial").await.unwrap().contains("\"chain\""));
        let error = nft::run("add table inet other\nadd rule inet trial nowhere accept\n").await.unwrap_err();
        let NftError::Rejected { line: Some((2, _)), message } = &error else { panic!("{error}") };
        assert!(message.contains("No such file or directory"), "{message}");
        assert!(!nft::table_exists("inet", "other").await.unwrap(), "a refused transaction does nothing");
        nft::delete_table("inet", "trial").await.unwrap();
        nft::delete_table("inet", "trial").await.unwrap();
        assert!(!nft::table_exists("inet", "trial").await.unwrap());
    });
}

#[test]
fn settings_are_set_recorded_and_put_back() {
    let (namespace, folder) = (Namespace::new(), tempfile::tempdir().unwrap());
    let record = folder.path().join("settings");
    namespace.run(async || {
        let (forward, ports) = ("net.ipv4.ip_forward", "net/ipv4/ip_local_port_range");
        let before = [Sysctls::read(forward).unwrap(), Sysctls::read(ports).unwrap()];
        let wanted = if before[0] == "1" { "0" } else { "1" };
        Sysctls::set(&[(forward, wanted), (ports, "40000 50000")], &record).unwrap();
        Sysctls::set(&[(forward, wanted), (ports, "40000 50000")], &record).unwrap();
        assert_eq!(Sysctls::read(forward).unwrap(), wanted);
        assert_eq!(Sysctls::read(ports).unwrap(), "40000\t50000");
        Sysctls::restore(&record).unwrap();
        assert_eq!([Sysctls::read(forward).unwrap(), Sysctls::read(ports).unwrap()], before);
        assert!(!record.exists());
        Sysctls::set(&[(forward, wanted)], &record).unwrap();
        std::fs::write("/proc/sys/net/ipv4/ip_forward", &before[0]).unwrap();
        Sysctls::restore(&record).unwrap();
        assert_eq!(Sysctls::read(forward).unwrap(), before[0], "what somebody changed since is theirs");
    });
}

#[test]
fn udp_flows_to_an_address_are_forgotten_and_others_kept() {
    let (near, far) = (Namespace::new(), Namespace::new());
    near.join(&far, &["10.1.0.1/24", "fd01::1/64"], &["10.1.0.2/24", "fd01::2/64"]);
    near.run(async || {
        nft::run("table inet trial {\n chain o { type filter hook output priority 0; ct state new accept\n }\n}\n")
            .await
            .unwrap();
        for (from, to) in [("0.0.0.0:0", "10.1.0.2"), ("[::]:0", "[fd01::2]")] {
            let socket = std::net::UdpSocket::bind(from).unwrap();
            for port in [5353, 5454] {
                socket.send_to(b"x", format!("{to}:{port}")).unwrap();
            }
        }
        let to = async |ports: &[u16], replier: Option<&str>| {
            let replier: Option<IpAddr> = replier.map(|ip| ip.parse().unwrap());
            let is_stale =
                |to: SocketAddr, from| ports.contains(&to.port()) && replier.is_none_or(|replier| replier == from);
            conntrack::forget_udp(is_stale).await.unwrap()
        };
        assert_eq!(to(&[5353], Some("10.1.0.9")).await, 0);
        assert_eq!(to(&[5353], Some("fd01::2")).await, 1);
        assert_eq!(to(&[5353], None).await, 1);
        assert_eq!(to(&[5353], None).await, 0);
        assert_eq!(to(&[5454], None).await, 2);
    });
}

#[test]
fn attempts_that_nobody_answers_are_told_from_connections() {
    let (near, far) = (Namespace::new(), Namespace::new());
    near.join(&far, &["10.1.0.1/24"], &["10.1.0.2/24"]);
    far.run(async || {
        nft::run("table inet deaf {\n chain i { type filter hook input priority 0; tcp dport 81 drop\n }\n}\n")
            .await
            .unwrap();
    });
    let listener = far.enter(|_| std::net::TcpListener::bind("10.1.0.2:80").unwrap());
    near.run(async || {
        nft::run("table inet trial {\n chain o { type filter hook output priority 0; ct state new accept\n }\n}\n")
            .await
            .unwrap();
        let _connection = tokio::net::TcpStream::connect("10.1.0.2:80").await.unwrap();
        let attempt = tokio::spawn(tokio::net::TcpStream::connect("10.1.0.2:81"));
        let deadline = Instant::now() + Duration::from_secs(10);
        while conntrack::forget(|flow| flow.destination.port() == 81 && !flow.is_answered).await.unwrap() == 0 {
            assert!(Instant::now() < deadline, "no attempt was seen");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        attempt.abort();
        let to_listener = |flow: &conntrack::Flow| flow.protocol == 6 && flow.destination.port() == 80;
        assert_eq!(conntrack::forget(|flow| to_listener(flow) && !flow.is_answered).await.unwrap(), 0);
        assert_eq!(conntrack::forget(|flow| to_listener(flow) && flow.is_answered).await.unwrap(), 1);
    });
    drop(listener);
}

#[test]
fn what_this_machine_has_is_found_and_nothing_is_left() {
    let namespace = Namespace::new();
    let before = namespace.ip("-o link show");
    let findings = namespace.run(async || capabilities::check().await);
    let ok = |what: &str| findings.iter().find(|f| f.what == what).unwrap().ok;
    for what in
        ["CAP_NET_ADMIN", "CAP_NET_RAW", "the program nft", "nftables NAT in the kernel", "policy routing", "VXLAN"]
    {
        assert!(ok(what), "{what}: {findings:?}");
    }
    let made = std::process::Command::new("ip")
        .args(["-n", &namespace.0, "link", "add", "wg0", "type", "wireguard"])
        .output()
        .unwrap()
        .status
        .success();
    assert_eq!(ok("WireGuard in the kernel"), made);
    assert_eq!(findings.iter().find(|f| f.what == "/dev/net/tun").unwrap().needed, !made);
    if made {
        namespace.ip("link delete wg0");
    }
    assert_eq!(namespace.ip("-o link show"), before);
}
