//! What is up to those who run the server, or who write a Service.

use super::*;

#[test]
fn addresses_of_our_own_networks_have_no_names_elsewhere() {
    let own = ["10.96.0.0/12", "fd00::/16"].map(|network| network.parse().unwrap());
    let zones = cluster().with_own_networks(own.into());
    for (name, reply) in [
        ("9.9.96.10.in-addr.arpa", Reply::Send),
        ("99.10.in-addr.arpa", Reply::Send),
        ("9.9.112.10.in-addr.arpa", Reply::Forward),
        // A part of it may have names elsewhere.
        ("11.in-addr.arpa", Reply::Forward),
        ("x.9.9.96.10.in-addr.arpa", Reply::Forward),
        ("9.0.0.0.0.0.d.f.ip6.arpa", Reply::Send),
        ("1.0.d.f.ip6.arpa", Reply::Forward),
    ] {
        let (seen, out) = ask(&zones, &query(name, PTR), Transport::Udp);
        assert_eq!((seen, read(&out).metadata.response_code), (reply, ResponseCode::NXDomain), "{name}");
    }
}

fn pod(name: &str, phase: &str, ips: &[&str]) -> core::Pod {
    let ips: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
    serde_json::from_value(json!({
        "metadata": {"namespace": "ns", "name": name}, "status": {"phase": phase, "podIPs": ips},
    }))
    .unwrap()
}

#[test]
fn names_of_pods_can_be_those_of_pods_only() {
    let mut zones = Zones::cluster("cluster.local", 7).unwrap().without_guessed_pods();
    zones.loaded();
    let code = |zones: &Zones, name: &str| told(zones, name, A).metadata.response_code;
    assert_eq!(code(&zones, "10-0-0-1.ns.pod.cluster.local"), ResponseCode::NXDomain);

    let mut catalog = Catalog::new("cluster.local").unwrap().with_pods("cluster.local").unwrap();
    let name = |zones: &Zones, name: &str| answers(&told(zones, name, A));
    zones.apply(catalog.apply_pod(&pod("a", "Running", &["10.0.0.1", "fd00::1"])));
    assert_eq!(name(&zones, "10-0-0-1.ns.pod.cluster.local"), ["10.0.0.1"]);
    assert_eq!(answers(&told(&zones, "fd00--1.ns.pod.cluster.local", AAAA)), ["fd00::1"]);
    assert_eq!(code(&zones, "10-0-0-1.other.pod.cluster.local"), ResponseCode::NXDomain);
    assert_eq!(code(&zones, "10-0-0-2.ns.pod.cluster.local"), ResponseCode::NXDomain);

    // Two in the network of their node: the address stays as long as one of them.
    zones.apply(catalog.apply_pod(&pod("b", "Running", &["10.0.0.1"])));
    zones.apply(catalog.apply_pod(&pod("a", "Succeeded", &["10.0.0.1", "fd00::1"])));
    assert_eq!(name(&zones, "10-0-0-1.ns.pod.cluster.local"), ["10.0.0.1"]);
    assert_eq!(code(&zones, "fd00--1.ns.pod.cluster.local"), ResponseCode::NXDomain);
    zones.apply(catalog.retain_pods(&std::collections::HashSet::new()));
    assert_eq!(code(&zones, "10-0-0-1.ns.pod.cluster.local"), ResponseCode::NXDomain);
    assert_eq!(code(&zones, "pod.cluster.local"), ResponseCode::NXDomain);
}

#[test]
fn a_service_may_want_endpoints_that_are_not_ready() {
    for (spec, annotations, expected) in [
        (json!({"clusterIP": "None"}), json!({}), vec![]),
        (json!({"clusterIP": "None", "publishNotReadyAddresses": true}), json!({}), vec!["10.0.0.1"]),
        (
            json!({"clusterIP": "None"}),
            json!({"service.alpha.kubernetes.io/tolerate-unready-endpoints": "true"}),
            vec!["10.0.0.1"],
        ),
    ] {
        let mut zones = Zones::cluster("cluster.local", 7).unwrap();
        let mut catalog = Catalog::new("cluster.local").unwrap();
        let mut object = service("db", spec);
        object.metadata.annotations = serde_json::from_value(annotations).unwrap();
        let endpoints = json!([{"addresses": ["10.0.0.1"], "conditions": {"ready": false}}]);
        zones.apply(catalog.apply_service(&object));
        zones.apply(catalog.apply_slice(&slice("db", "db", json!([]), endpoints)));
        zones.loaded();
        assert_eq!(answers(&told(&zones, "db.ns.svc.cluster.local", A)), expected);
    }
}

#[test]
fn the_end_of_a_chain_of_aliases_says_why_there_is_no_more() {
    let zones = cluster();
    for (name, record_type, code) in [
        ("in.ns.svc.cluster.local", AAAA, ResponseCode::NoError),
        ("dead.ns.svc.cluster.local", A, ResponseCode::NXDomain),
    ] {
        let message = told(&zones, name, record_type);
        assert_eq!(message.metadata.response_code, code, "{name}");
        assert_eq!((message.answers.len(), message.authorities.len()), (1, 1), "{name}");
        assert_eq!(message.authorities[0].name.to_string(), "cluster.local.");
    }
}
