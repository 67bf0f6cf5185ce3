//! What holds for every cluster.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;
use tombolo_bgp::config::Verdict;
use tombolo_routing::{Enable, Flags};

use super::given::{Cluster, Outcome, node_object};

const ANNOTATIONS: [&str; 16] = [
    "node.asn",
    "node.bgp.communities",
    "node.bgp.customimportreject",
    "path-prepend.as",
    "path-prepend.repeat-n",
    "peers",
    "peer.ips",
    "peer.asns",
    "peer.ports",
    "peer.passwords",
    "peer.localips",
    "rr.server",
    "rr.client",
    "bgp-local-addresses",
    "pod-cidr",
    "pod-cidrs",
];

/// Text that is nearly right, and text that is anything.
fn value() -> impl Strategy<Value = String> {
    let near = select(vec![
        "64512",
        "0",
        "42",
        "0x2a",
        "65000,65001",
        "192.0.2.7",
        "192.0.2.7,192.0.2.8",
        "192.168.0.2",
        "fd00::9",
        "10.0.0.0/8",
        "fd00::/8,10.41.2.0/24",
        "eA==",
        "eA==,",
        ",",
        "179",
        "no-export,1:2,1:2:3",
        "[]",
        "[{remoteip: 192.0.2.7, remoteasn: 1}]",
        "[{remoteip: fd00::7, remoteasn: 1, bfd: {enabled: true}}]",
        "- remoteip: 192.168.0.1\n  remoteasn: 5",
        "0.0.0.0/0",
    ])
    .prop_map(str::to_owned);
    let glued =
        vec(select("0123456789abcx.:,/[]{}-&*!|>'\" \n#%@remoteipasnlocalport".chars().collect::<Vec<_>>()), 0..40)
            .prop_map(String::from_iter);
    prop_oneof![4 => near, 2 => glued, 1 => any::<String>()]
}

fn annotations() -> impl Strategy<Value = Vec<(usize, &'static str, String)>> {
    vec((1..=4_usize, select(ANNOTATIONS.to_vec()), value()), 0..8)
}

fn flags() -> impl Strategy<Value = Flags> {
    (any::<[bool; 8]>(), select(vec![Enable::Auto, Enable::On])).prop_map(|(on, enable)| Flags {
        enable,
        advertise_cluster_ip: on[0],
        advertise_external_ip: on[1],
        advertise_pod_cidr: on[2],
        nodes_full_mesh: on[3],
        enable_ibgp: on[4],
        override_nexthop: on[5],
        accept_default_route: on[6],
        bgp_graceful_restart: on[7],
        ..Cluster::new().flags
    })
}

fn service(n: usize, on: &[&str], local: bool) -> impl FnOnce(Cluster) -> Cluster {
    let spec = json!({
        "clusterIP": format!("10.96.0.{n}"),
        "externalIPs": [format!("198.51.100.{n}")],
        "externalTrafficPolicy": if local { "Local" } else { "Cluster" },
    });
    let on: Vec<String> = on.iter().map(|node| (*node).to_owned()).collect();
    move |cluster| {
        let on: Vec<&str> = on.iter().map(String::as_str).collect();
        cluster.named(&format!("s{n}"), spec, json!({}), &on)
    }
}

fn clusters() -> impl Strategy<Value = Cluster> {
    let families = vec(select(vec![&["v4"][..], &["v6"], &["v4", "v6"], &["v6", "v4"]]), 4);
    let services = vec((select(vec![&["n1"][..], &["n2", "n3"], &[]]), any::<bool>()), 0..4);
    (flags(), families, annotations(), services).prop_map(|(flags, families, annotations, services)| {
        let mut cluster = Cluster::new();
        cluster.flags = flags;
        cluster.nodes = families.iter().enumerate().map(|(i, families)| node_object(i + 1, families)).collect();
        let cluster = annotations.iter().fold(cluster, |cluster, (n, name, value)| cluster.annotate(*n, name, value));
        services.iter().enumerate().fold(cluster, |cluster, (i, (on, local))| service(i + 1, on, *local)(cluster))
    })
}

/// What a speaker may count on.
fn sound(outcome: &Outcome) -> Result<(), TestCaseError> {
    let Some(config) = &outcome.plan.config else { return Ok(()) };
    prop_assert!(config.asn != 0 && !config.router_id.is_unspecified());
    for (address, neighbor) in &config.neighbors {
        prop_assert!(!config.addresses.contains(address), "a neighbour of itself");
        let local = neighbor.local_address.unwrap();
        prop_assert_eq!(local.is_ipv4(), address.is_ipv4());
        prop_assert!(!neighbor.families.is_empty() && neighbor.port != 0);
        prop_assert!(neighbor.export.default == Verdict::Reject || config.cluster_id.is_some());
        prop_assert!(neighbor.import.statements.iter().all(|s| s.prefixes.as_ref().is_some_and(|p| !p.is_empty())));
    }
    for (net, route) in &config.routes {
        prop_assert_eq!(*net, net.trunc());
        prop_assert_eq!(route.next_hop.unwrap().is_ipv4(), net.addr().is_ipv4());
        prop_assert!((1..=4).contains(&route.tag));
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_annotation_leads_to_a_sound_plan_and_refusals_in_words(cluster in clusters()) {
        for name in ["n1", "n2"] {
            let outcome = cluster.plan_of(name);
            sound(&outcome)?;
            prop_assert_eq!(&outcome, &cluster.plan_of(name));
        }
        let (_, refusals) = cluster.read();
        for refusal in &refusals {
            prop_assert!(refusal.object.starts_with("Node/") && !refusal.field.is_empty() && !refusal.reason.is_empty());
        }
    }

    #[test]
    fn the_order_of_the_objects_does_not_matter(cluster in clusters(), seed in any::<prop::sample::Index>()) {
        let mut turned = cluster.clone();
        for list in [&mut turned.nodes, &mut turned.services, &mut turned.slices] {
            if !list.is_empty() {
                let by = seed.index(list.len());
                list.rotate_left(by);
                list.reverse();
            }
        }
        prop_assert_eq!(cluster.plan(), turned.plan());
    }

    /// Sessions in the cluster are planned by both sides, or by none.
    #[test]
    fn nodes_agree_on_their_sessions(cluster in clusters()) {
        let outcomes: Vec<Outcome> = (1..=4).map(|n| cluster.plan_of(&format!("n{n}"))).collect();
        let spoken = outcomes.iter().filter(|outcome| outcome.plan.config.is_some()).count();
        prop_assert!(spoken == 0 || spoken == 4);
        let configs: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.plan.config.as_ref()).collect();
        for config in &configs {
            for (address, neighbor) in config.neighbors.iter().filter(|(_, n)| n.description.starts_with("node ")) {
                let other = configs.iter().find(|other| other.addresses.contains(address)).unwrap();
                let back = &other.neighbors[&neighbor.local_address.unwrap()];
                prop_assert_eq!(back.remote_asn, Some(config.asn));
                if back.description.starts_with("node ") {
                    prop_assert_eq!(back.local_address, Some(*address));
                    prop_assert_eq!(&back.families, &neighbor.families);
                }
                prop_assert!(!(back.route_reflector_client && neighbor.route_reflector_client));
            }
        }
    }

    /// One wrong element of a list changes nothing but that it is refused.
    #[test]
    fn refusing_one_leaves_the_rest(
        cluster in clusters(),
        name in select(vec!["node.bgp.communities", "node.bgp.customimportreject", "bgp-local-addresses", "pod-cidrs"]),
        wrong in "[a-z]{3,8}!",
    ) {
        let good = match name {
            "node.bgp.communities" => "64512:1",
            "bgp-local-addresses" => "172.20.0.1",
            _ => "172.20.0.0/16",
        };
        let plain = cluster.clone().annotate(1, name, good).plan();
        let spoilt = cluster.annotate(1, name, &format!("{wrong},{good}")).plan();
        prop_assert_eq!(&plain.plan, &spoilt.plan);
        prop_assert_eq!(plain.refused.len() + 1, spoilt.refused.len());
    }

    /// One wrong peer of a list changes nothing but that it is refused.
    #[test]
    fn refusing_one_peer_leaves_the_others(cluster in clusters(), wrong in "[a-z]{3,8}!") {
        let good = "{remoteip: 192.0.2.7, remoteasn: 65000}";
        let plain = cluster.clone().annotate(1, "peers", &format!("[{good}]")).plan();
        let list = format!("[{good}, {{remoteip: '{wrong}', remoteasn: 65000}}]");
        let spoilt = cluster.annotate(1, "peers", &list).plan();
        prop_assert_eq!(&plain.plan, &spoilt.plan);
        prop_assert_eq!(plain.refused.len() + 1, spoilt.refused.len());
    }
}
