//! The server as `dig` sees it, and two servers that ask each other.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::process::Command;
use tombolo_dns::forward::Forwarder;
use tombolo_dns::server::{Server, Shared};
use tombolo_dns::{Catalog, Data, Diff, Name, Record, Zone, Zones, ready};

fn cluster() -> Zones {
    let mut zones = Zones::cluster("cluster.local", 1).unwrap();
    let mut catalog = Catalog::new("cluster.local").unwrap();
    let services = [
        ("web", json!({"clusterIPs": ["10.96.0.1", "fd00:96::1"], "ports": [{"name": "http", "port": 80}]})),
        ("many", json!({"clusterIP": "None"})),
        ("out", json!({"type": "ExternalName", "externalName": "alias.example.org"})),
        ("gone", json!({"type": "ExternalName", "externalName": "no.example.org"})),
    ];
    for (name, spec) in services {
        let object = json!({"metadata": {"namespace": "default", "name": name}, "spec": spec});
        zones.apply(catalog.apply_service(&serde_json::from_value(object).unwrap()));
    }
    let endpoints: Vec<_> = (0..200).map(|i| json!({"addresses": [format!("10.0.0.{i}")]})).collect();
    let slice = json!({
        "metadata": {"namespace": "default", "name": "many-1", "labels": {"kubernetes.io/service-name": "many"}},
        "addressType": "IPv4", "ports": [], "endpoints": endpoints,
    });
    zones.apply(catalog.apply_slice(&serde_json::from_value(slice).unwrap()));
    zones.loaded();
    zones
}

/// Somebody else's zone.
fn elsewhere() -> Zones {
    let origin = Name::parse("example.org").unwrap();
    let www = origin.child("www").unwrap();
    let record = |name: &str, data| Record { owner: origin.child(name).unwrap(), data };
    let mut added = vec![record("www", Data::A([192, 0, 2, 1].into())), record("alias", Data::Cname(www))];
    added.extend((0..200).map(|i| record("many", Data::A([192, 0, 2, i].into()))));
    let mut zones = Zones::default();
    zones.add(Zone::new(origin, 1).unwrap());
    zones.apply(Diff { added, ..Diff::default() });
    zones.loaded();
    zones
}

/// A server on a free port of the loopback.
async fn start(zones: Zones, upstreams: Vec<SocketAddr>) -> (SocketAddr, Arc<Shared>) {
    start_at("127.0.0.1:0", zones, upstreams).await
}

async fn start_at(listen: &str, zones: Zones, upstreams: Vec<SocketAddr>) -> (SocketAddr, Arc<Shared>) {
    serve(listen, zones, Forwarder::new(upstreams)).await
}

async fn serve(listen: &str, zones: Zones, forwarder: Option<Forwarder>) -> (SocketAddr, Arc<Shared>) {
    let shared = Shared::new(zones, forwarder);
    let listen = [listen.parse().unwrap()];
    let server = Server::bind(&listen, 1, Arc::clone(&shared)).await.unwrap();
    let address = server.addresses()[0];
    tokio::spawn(server.run());
    (address, shared)
}

async fn dig(server: SocketAddr, words: &str) -> String {
    let output = Command::new("dig")
        .args([format!("@{}", server.ip()), "-p".to_owned(), server.port().to_string()])
        .args(["+tries=1", "+time=5"])
        .args(words.split(' '))
        .output()
        .await
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "dig {words}: {text}");
    // What dig could not make sense of it says in a line of its own.
    for complaint in ["malformed", "parser reports", "extra bytes"] {
        assert!(!text.contains(complaint), "dig {words}: {text}");
    }
    text
}

#[tokio::test]
async fn dig_reads_the_answers_over_udp_and_tcp() {
    let (server, _) = start(cluster(), vec![]).await;
    let cases = [
        ("web.default.svc.cluster.local A", "10.96.0.1\n"),
        ("web.default.svc.cluster.local AAAA", "fd00:96::1\n"),
        ("_http._tcp.web.default.svc.cluster.local SRV", "0 100 80 web.default.svc.cluster.local.\n"),
        ("dns-version.cluster.local TXT", "\"1.1.0\"\n"),
        ("-x 10.96.0.1", "web.default.svc.cluster.local.\n"),
        ("-x fd00:96::1", "web.default.svc.cluster.local.\n"),
        ("10-0-0-7.default.pod.cluster.local A", "10.0.0.7\n"),
        ("no.default.svc.cluster.local A", ""),
    ];
    for (question, answer) in cases {
        for way in ["+notcp", "+tcp", "+noedns", "+bufsize=4096", "+nocookie"] {
            assert_eq!(dig(server, &format!("+short {way} {question}")).await, answer, "{way} {question}");
        }
    }
    let absent = dig(server, "no.default.svc.cluster.local A").await;
    assert!(absent.contains("status: NXDOMAIN") && absent.contains("flags: qr aa rd;"), "{absent}");
    let other = dig(server, "www.example.org A").await;
    assert!(other.contains("status: REFUSED"), "{other}");
}

#[tokio::test]
async fn an_answer_too_long_for_a_datagram_comes_over_tcp() {
    let (server, _) = start(cluster(), vec![]).await;
    let cut = dig(server, "+ignore many.default.svc.cluster.local A").await;
    assert!(cut.contains("flags: qr aa tc rd;"), "{cut}");
    let whole = dig(server, "+short many.default.svc.cluster.local A").await;
    assert_eq!(whole.lines().count(), 200);
}

#[tokio::test]
async fn other_names_are_asked_for_elsewhere() {
    let (upstream, _) = start(elsewhere(), vec![]).await;
    // The first name server is not there: nobody listens at a port that was just given back.
    let gone = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (server, _) = start(cluster(), vec![gone, upstream]).await;
    let cases = [
        ("www.example.org A", "192.0.2.1\n"),
        ("alias.example.org A", "www.example.org.\n192.0.2.1\n"),
        ("out.default.svc.cluster.local A", "alias.example.org.\nwww.example.org.\n192.0.2.1\n"),
        ("web.default.svc.cluster.local A", "10.96.0.1\n"),
    ];
    // The second time out of the cache.
    for _ in 0..2 {
        for (question, answer) in cases {
            for way in ["+notcp", "+tcp"] {
                assert_eq!(dig(server, &format!("+short {way} {question}")).await, answer, "{way} {question}");
            }
        }
    }
    let many = dig(server, "+short many.example.org A").await;
    assert_eq!(many.lines().count(), 200);
    for (question, status) in [
        ("no.example.org A", "NXDOMAIN"),
        ("gone.default.svc.cluster.local A", "NXDOMAIN"),
        ("elsewhere.invalid A", "REFUSED"),
        // An address without a name here: the other server does not know either.
        ("-x 192.0.2.77", "REFUSED"),
    ] {
        let text = dig(server, question).await;
        assert!(text.contains(&format!("status: {status}")), "{question}: {text}");
    }
}

#[tokio::test]
async fn when_nobody_answers_the_server_says_so() {
    let gone = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (server, _) = start(cluster(), vec![gone]).await;
    for question in ["www.example.org A", "out.default.svc.cluster.local A"] {
        let text = dig(server, question).await;
        assert!(text.contains("status: SERVFAIL"), "{question}: {text}");
    }
}

#[tokio::test]
async fn others_are_asked_only_for_the_networks_named() {
    let (upstream, _) = start(elsewhere(), vec![]).await;
    let stranger = Forwarder::new(vec![upstream]).map(|forwarder| forwarder.allowing(vec![]));
    let (server, _) = serve("127.0.0.1:0", cluster(), stranger).await;
    for way in ["+notcp", "+tcp"] {
        let refused = dig(server, &format!("{way} www.example.org A")).await;
        assert!(refused.contains("status: REFUSED") && refused.contains("flags: qr rd;"), "{refused}");
        // The alias is ours to tell, what it stands for is not.
        let alias = dig(server, &format!("+short {way} out.default.svc.cluster.local A")).await;
        assert_eq!(alias, "alias.example.org.\n");
        assert_eq!(dig(server, &format!("+short {way} web.default.svc.cluster.local A")).await, "10.96.0.1\n");
    }
    // Whoever does not want others to be asked is not helped either.
    let (server, _) = start(cluster(), vec![upstream]).await;
    let unasked = dig(server, "+norec www.example.org A").await;
    assert!(unasked.contains("status: REFUSED"), "{unasked}");
}

#[tokio::test]
async fn what_others_say_is_never_longer_than_a_datagram_may_be() {
    let (upstream, _) = start(elsewhere(), vec![]).await;
    let (server, _) = start(cluster(), vec![upstream]).await;
    // Others sent it in parts, over TCP; and again out of the cache.
    for _ in 0..2 {
        let cut = dig(server, "+ignore +bufsize=4096 many.example.org A").await;
        assert!(cut.contains("flags: qr tc rd ra;") && cut.contains("udp: 1232"), "{cut}");
        assert_eq!(dig(server, "+short +tcp many.example.org A").await.lines().count(), 200);
    }
}

#[tokio::test]
async fn many_threads_share_a_port_and_each_answer_comes_from_the_address_asked() {
    let shared = Shared::new(cluster(), None);
    let any = [SocketAddr::from(([0, 0, 0, 0], 0)), SocketAddr::from(([0; 8], 0))];
    let server = Server::bind(&any, 3, Arc::clone(&shared)).await.unwrap();
    let addresses = server.addresses();
    let running = tokio::spawn(server.run());
    let places = [("127.0.0.1", 0), ("127.9.8.7", 0), ("::1", 1)];
    for _ in 0..8 {
        for (ip, at) in places {
            let server = SocketAddr::new(ip.parse().unwrap(), addresses[at].port());
            assert_eq!(dig(server, "+short web.default.svc.cluster.local A").await, "10.96.0.1\n");
        }
    }
    // Dropped, it leaves its ports to others.
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    // Until it runs, a program that another test starts has the sockets, too.
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Err(error) = Server::bind(&addresses, 1, Arc::clone(&shared)).await {
        assert!(Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn responses_are_counted() {
    let (upstream, _) = start(elsewhere(), vec![]).await;
    let (server, shared) = start(cluster(), vec![upstream]).await;
    for question in ["web.default.svc.cluster.local A", "no.default.svc.cluster.local A", "+tcp cluster.local SOA"] {
        dig(server, question).await;
    }
    for _ in 0..2 {
        dig(server, "www.example.org A").await;
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let probes = listener.local_addr().unwrap();
    tokio::spawn(ready::serve(listener, shared));
    let deadline = Instant::now() + Duration::from_secs(10);
    // A thread counts after it has sent.
    let expected = [
        r#"tombolo_dns_responses_total{transport="udp",rcode="NOERROR"} 3"#,
        r#"tombolo_dns_responses_total{transport="udp",rcode="NXDOMAIN"} 1"#,
        r#"tombolo_dns_responses_total{transport="tcp",rcode="NOERROR"} 1"#,
        "tombolo_dns_forwarded_total 1",
        "tombolo_dns_cache_hits_total 1",
        r#"tombolo_dns_names{zone="cluster.local."} "#,
        "# EOF",
    ];
    loop {
        let text = get(probes, "/metrics").await;
        let missing: Vec<_> = expected.iter().filter(|line| !text.contains(*line)).collect();
        if missing.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "{missing:?} in {text}");
    }
}

#[tokio::test]
async fn readiness_follows_the_zones() {
    let (server, shared) = start(Zones::cluster("cluster.local", 1).unwrap(), vec![]).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let probes = listener.local_addr().unwrap();
    tokio::spawn(ready::serve(listener, Arc::clone(&shared)));
    let loading = dig(server, "web.default.svc.cluster.local A").await;
    assert!(loading.contains("status: SERVFAIL"), "{loading}");
    assert!(get(probes, "/readyz").await.starts_with("HTTP/1.1 503 "));
    assert!(get(probes, "/healthz").await.starts_with("HTTP/1.1 200 "));
    shared.write(|zones| *zones = cluster());
    assert!(get(probes, "/readyz").await.starts_with("HTTP/1.1 200 "));
    assert_eq!(dig(server, "+short web.default.svc.cluster.local A").await, "10.96.0.1\n");
}

#[tokio::test]
async fn both_families_are_served_at_one_port() {
    let (server, shared) = start_at("[::1]:0", cluster(), vec![]).await;
    assert_eq!(dig(server, "+short web.default.svc.cluster.local A").await, "10.96.0.1\n");
    let both = [SocketAddr::from(([127, 0, 0, 1], 0)), SocketAddr::from(([0; 8], 0))];
    assert_eq!(Server::bind(&both, 2, shared).await.unwrap().addresses().len(), 2);
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let (server, shared) = start(cluster(), vec![]).await;
    let error = Server::bind(&[server], 1, shared).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("can't listen on {server} for DNS: ")), "{error}");
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    response
}
