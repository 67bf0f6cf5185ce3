//! Several controllers of one cluster, of which one writes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tombolo_controller::Options;

use crate::harness::{Cluster, Controller, OWN, options, soon};
use crate::objects::serve;

fn named(cluster: &Cluster, identity: &str) -> Options {
    Options { identity: Some(identity.to_owned()), ..options(&[cluster]) }
}

fn holder(cluster: &Cluster) -> Option<String> {
    let lease = cluster.get("Lease", OWN, "tombolo-controller")?;
    lease["spec"]["holderIdentity"].as_str().map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_writes_and_the_other_takes_over() {
    let (east, here) = (Cluster::new("east").await, Cluster::new("here").await);
    let a = Controller::run(&here, named(&east, "a")).await;
    soon("a leads".to_owned(), || (holder(&here)? == "a").then_some(())).await;
    let b = Controller::run(&here, named(&east, "b")).await;
    serve(&east, "shop", "web", &["10.1.0.1"]).await;
    here.wait_addresses("shop", "web", &["10.1.0.1"]).await;
    assert_eq!(holder(&here).as_deref(), Some("a"));

    // SIGTERM: it is given back, and the other one has it soon.
    a.stop().await;
    let spec = here.get("Lease", OWN, "tombolo-controller").unwrap()["spec"].clone();
    assert_ne!(spec["holderIdentity"], "a", "given back");
    serve(&east, "shop", "second", &["10.1.0.2"]).await;
    here.wait_addresses("shop", "second", &["10.1.0.2"]).await;
    assert_eq!(holder(&here).as_deref(), Some("b"));

    // SIGKILL: nobody writes until the Lease is over.
    b.kill().await;
    let c = Controller::run(&here, named(&east, "c")).await;
    serve(&east, "shop", "third", &["10.1.0.3"]).await;
    soon("c has seen it, and may not write".to_owned(), || {
        assert!(here.get("Service", "shop", "third").is_none() || holder(&here).as_deref() == Some("c"));
        (holder(&here).as_deref() == Some("c")).then_some(())
    })
    .await;
    here.wait_addresses("shop", "third", &["10.1.0.3"]).await;
    c.stop().await;
}

/// A number of `/metrics`.
async fn metric(address: SocketAddr, name: &str) -> Option<i64> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

async fn wait_metric(address: SocketAddr, name: &str, is_so: impl Fn(i64) -> bool) {
    let end = Instant::now() + Duration::from_secs(45);
    while !metric(address, name).await.is_some_and(&is_so) {
        assert!(Instant::now() < end, "{name}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_loses_the_lease_to_another_stops_writing() {
    let (east, here) = (Cluster::new("east").await, Cluster::new("here").await);
    let listen = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let a = Controller::run(&here, Options { listen: Some(listen), ..named(&east, "a") }).await;
    serve(&east, "shop", "web", &["10.1.0.1"]).await;
    here.wait_addresses("shop", "web", &["10.1.0.1"]).await;
    // Another one has taken it, as after a pause of ours, and keeps it.
    let taken = json!({"spec": {"holderIdentity": "z", "leaseDurationSeconds": 3600}});
    here.patch("Lease", OWN, "tombolo-controller", taken).await;
    wait_metric(listen, "tombolo_controller_leader", |leads| leads == 0).await;
    serve(&east, "shop", "second", &["10.1.0.2"]).await;
    // It has heard of it, and leaves it to the other one.
    wait_metric(listen, "tombolo_controller_waiting", |waiting| waiting > 0).await;
    assert!(here.get("Service", "shop", "second").is_none());
    a.stop().await;
    assert_eq!(holder(&here).as_deref(), Some("z"), "what is another's is not given back");
}
