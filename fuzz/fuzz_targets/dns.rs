//! DNS messages, as the server gets them from anybody.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde_json::json;
use tombolo_dns::{Catalog, Name, Reply, Transport, Zones, answer};

static ZONES: LazyLock<Zones> = LazyLock::new(|| {
    let zones = Zones::cluster("cluster.local", 1).and_then(|zones| zones.with_clusterset("clusterset.local", 1));
    let mut zones = zones.expect("domains").with_own_networks(vec!["10.42.0.0/16".parse().expect("a network")]);
    let catalog = Catalog::new("cluster.local").and_then(|catalog| catalog.with_clusterset("clusterset.local"));
    let mut catalog = catalog.expect("domains");
    for (name, address) in [("web", "10.43.0.10"), ("web6", "fd43::10")] {
        let service = json!({
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"clusterIP": address, "clusterIPs": [address], "ports": [{"name": "http", "port": 80}]},
        });
        zones.apply(catalog.apply_service(&serde_json::from_value(service).expect("a Service")));
    }
    let external = json!({
        "metadata": {"name": "out", "namespace": "default"},
        "spec": {"type": "ExternalName", "externalName": "example.com"},
    });
    zones.apply(catalog.apply_service(&serde_json::from_value(external).expect("a Service")));
    let import = json!({
        "metadata": {"name": "db", "namespace": "default"},
        "spec": {"type": "Headless", "ports": [{"name": "sql", "port": 5432}]},
    });
    zones.apply(catalog.apply_import(&serde_json::from_value(import).expect("a ServiceImport")));
    // More than fits into a datagram.
    let endpoints: Vec<_> = (0..200).map(|i| json!({"addresses": [format!("10.42.0.{i}")]})).collect();
    let slice = json!({
        "metadata": {"name": "db", "namespace": "default", "labels": {
            "multicluster.kubernetes.io/service-name": "db", "multicluster.kubernetes.io/source-cluster": "east",
        }},
        "addressType": "IPv4", "ports": [{"name": "sql", "port": 5432}], "endpoints": endpoints,
    });
    zones.apply(catalog.apply_slice(&serde_json::from_value(slice).expect("an EndpointSlice")));
    zones.loaded();
    zones
});

fuzz_target!(|packet: &[u8]| {
    let mut response = Vec::new();
    for (transport, limit) in [(Transport::Udp, 1232), (Transport::Tcp, 65535)] {
        let reply = answer(packet, &ZONES, transport, true, &mut response);
        if reply == Reply::Silence {
            continue;
        }
        assert!((12..=limit).contains(&response.len()), "{} bytes", response.len());
        assert_eq!(response[..2], packet[..2], "the number is the query's");
        assert_ne!(response[2] & 0x80, 0, "a response says that it is one");
        // What we say is a response: two servers never talk to each other for ever.
        let mut again = Vec::new();
        assert_eq!(answer(&response, &ZONES, transport, true, &mut again), Reply::Silence);
    }
    let Ok(text) = str::from_utf8(packet) else { return };
    if let Ok(name) = Name::parse(text) {
        assert!(name.as_bytes().len() <= 255 && name.as_bytes().ends_with(&[0]));
    }
});
