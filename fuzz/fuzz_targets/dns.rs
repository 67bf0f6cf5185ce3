//! DNS messages, as the server gets them from anybody.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde_json::json;
use tombolo_dns::{Catalog, Name, Reply, Transport, Zones, answer};

static ZONES: LazyLock<Zones> = LazyLock::new(|| {
    let mut zones = Zones::cluster("cluster.local", 1).expect("a domain");
    let mut catalog = Catalog::new("cluster.local").expect("a domain");
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
    }
    let Ok(text) = str::from_utf8(packet) else { return };
    if let Ok(name) = Name::parse(text) {
        assert!(name.as_bytes().len() <= 255 && name.as_bytes().ends_with(&[0]));
    }
});
