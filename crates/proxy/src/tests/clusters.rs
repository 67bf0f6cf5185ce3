//! Services of several clusters. This one is `east`.

use super::*;
use crate::{ClusterChoice, Import};

fn of(cluster: &str, address: &str, conditions: &str) -> Endpoint {
    Endpoint { cluster: Some(cluster.to_owned()), ..endpoint(address, conditions, Some("n1")) }
}

fn choice(prefers_local: bool, weights: &[(&str, u32)]) -> Option<ClusterChoice> {
    let weights = weights.iter().map(|(cluster, weight)| ((*cluster).to_owned(), *weight)).collect();
    Some(ClusterChoice { prefers_local, weights })
}

fn import(clusters: Option<ClusterChoice>) -> Import {
    Import { service: Service { clusters, ..service() }, derived: None }
}

fn imported(clusters: Option<ClusterChoice>, endpoints: Vec<Endpoint>) -> Compiler {
    let mut compiler = Compiler::new(node());
    compiler.set_import(&web(), Some(import(clusters)));
    compiler.set_slice("default/web-1", slice(Owner::Import(web()), endpoints));
    compiler.flush();
    compiler
}

/// The endpoints that are used, and the rule that chooses by shares, if any.
fn used(compiler: &Compiler) -> (Vec<String>, Option<String>) {
    let endpoints = compiler.tables().sets["endpoints4"].elements.values();
    let endpoints = endpoints.filter_map(|e| e.value.as_ref()).map(|v| v.to_string().replace(" . 8080", ""));
    let rule = compiler.tables().chains.get("import-svc4/default/web/tcp/80");
    (endpoints.collect(), rule.map(|chain| chain.rules.join("; ")))
}

const E1: &str = "10.1.0.2";
const E2: &str = "10.1.0.3";
const W1: &str = "10.9.0.2";
const W2: &str = "10.9.0.3";
const W3: &str = "10.9.0.4";
const S1: &str = "10.8.0.2";

#[test]
fn a_clusterset_ip_is_served_by_the_endpoints_of_all_clusters() {
    let compiler = imported(None, vec![of("east", E1, "rs"), of("west", W1, "rs")]);
    assert_eq!(elements(&compiler, "service-ips4"), ["tcp . 10.96.0.1 . 80 : goto pick4/2"]);
    assert_eq!(used(&compiler), (vec![E1.into(), W1.into()], None));
    // Those of other clusters are other nodes' endpoints, whatever their nodes are called.
    assert_eq!(elements(&compiler, "local-endpoints4"), [E1]);
    assert_eq!(elements(&compiler, "cluster-ips4"), ["10.96.0.1"]);
}

#[test]
fn local_endpoints_come_first_as_long_as_one_can_be_used() {
    let cases = [
        (vec![of("east", E1, "rs"), of("east", E2, "rs"), of("west", W1, "rs")], vec![E1, E2]),
        (vec![of("east", E1, ""), of("west", W1, "rs")], vec![W1]),
        // Ready elsewhere is better than going away here.
        (vec![of("east", E1, "st"), of("west", W1, "rs")], vec![W1]),
        (vec![of("east", E1, "st"), of("west", W1, "st")], vec![E1]),
        (vec![of("west", W1, "rs"), of("south", S1, "rs")], vec![S1, W1]),
    ];
    for (endpoints, chosen) in cases {
        let compiler = imported(choice(true, &[]), endpoints);
        assert_eq!(used(&compiler).0, chosen);
    }
}

#[test]
fn endpoints_that_do_not_answer_are_left_out_as_long_as_there_are_others() {
    let silent = |nets: &[&str]| Node { silent_networks: nets.iter().map(|n| n.parse().unwrap()).collect(), ..node() };
    let endpoints = vec![of("east", E1, "rs"), of("west", W1, "rs"), of("south", S1, "rs")];
    let mut compiler = imported(choice(false, &[("east", 0)]), endpoints);
    assert_eq!(used(&compiler).0, [S1, W1]);
    compiler.set_node(silent(&["10.9.0.0/24"]));
    compiler.flush();
    assert_eq!(used(&compiler).0, [S1]);
    compiler.set_node(silent(&["10.9.0.0/24", "10.8.0.2/32"]));
    compiler.flush();
    assert_eq!(used(&compiler).0, [E1], "one of weight 0 that answers is better than one that does not");
    compiler.set_node(silent(&["10.0.0.0/8"]));
    compiler.flush();
    assert_eq!(used(&compiler).0, [S1, W1], "where nobody answers all are tried");
    compiler.set_node(node());
    assert!(compiler.flush().script.is_empty(), "nothing changes for those who are used");
    compiler.set_slice("default/web-1", slice(Owner::Import(web()), vec![of("east", E1, "st"), of("west", W1, "rs")]));
    compiler.set_node(silent(&["10.9.0.0/24"]));
    compiler.flush();
    assert_eq!(used(&compiler).0, [W1], "one that ends is no other");
}

#[test]
fn weights_are_shares_of_clusters_and_nought_is_the_last_resort() {
    let rule = |ranges: &str, total: u32| {
        Some(format!("meta l4proto tcp dnat ip to numgen random mod {total} map {{ {ranges} }}"))
    };
    let east_and_west = || vec![of("east", E1, "rs"), of("west", W1, "rs"), of("west", W2, "rs")];
    let cases = [
        // Two endpoints of west share its three quarters.
        (
            choice(false, &[("west", 3)]),
            east_and_west(),
            (vec![], rule(&format!("0-1 : {E1} . 8080, 2-4 : {W1} . 8080, 5-7 : {W2} . 8080"), 8)),
        ),
        // Equal shares need no chain of their own.
        (choice(false, &[("west", 2)]), east_and_west(), (vec![E1, W1, W2], None)),
        (choice(false, &[("west", 0)]), east_and_west(), (vec![E1], None)),
        (choice(false, &[("west", 0)]), vec![of("east", E1, ""), of("west", W1, "rs")], (vec![W1], None)),
        (
            choice(false, &[("west", 0), ("east", 0)]),
            east_and_west(),
            (vec![], rule(&format!("0-1 : {E1} . 8080, 2 : {W1} . 8080, 3 : {W2} . 8080"), 4)),
        ),
        // With a preference, weights order what comes after.
        (choice(true, &[("west", 3)]), east_and_west(), (vec![E1], None)),
        (choice(true, &[("east", 0)]), east_and_west(), (vec![W1, W2], None)),
        (
            choice(true, &[("west", 2), ("south", 1)]),
            vec![of("west", W1, "rs"), of("south", S1, "rs")],
            (vec![], rule(&format!("0 : {S1} . 8080, 1-2 : {W1} . 8080"), 3)),
        ),
    ];
    for (choice, endpoints, (slots, rule)) in cases {
        let compiler = imported(choice.clone(), endpoints);
        let slots: Vec<String> = slots.into_iter().map(ToOwned::to_owned).collect();
        assert_eq!(used(&compiler), (slots, rule), "{choice:?}");
    }
}

#[test]
fn shares_stay_near_the_weights_however_the_numbers_of_endpoints_divide() {
    let mut endpoints = Vec::new();
    for (cluster, net, count) in [("east", 1, 97), ("west", 9, 101), ("south", 8, 103)] {
        endpoints.extend((1..=count).map(|i| of(cluster, &format!("10.{net}.0.{i}"), "rs")));
    }
    let all: Vec<&Endpoint> = endpoints.iter().collect();
    let choice = choice(false, &[("east", 1), ("west", 2), ("south", 5)]);
    let choices = crate::choice::anywhere(&all, &node(), choice.as_ref());
    let total: u32 = choices.values().sum();
    for (net, weight) in [(1, 1.0), (9, 2.0), (8, 5.0)] {
        let of_cluster = choices.iter().filter(|(e, _)| e.to_string().starts_with(&format!("10.{net}.")));
        let share: u32 = of_cluster.map(|(_, share)| share).sum();
        let share = f64::from(share) / f64::from(total);
        assert!((share - weight / 8.0).abs() < 0.01, "{net}: {share}");
    }
}

#[test]
fn a_derived_service_serves_its_addresses_itself_with_the_choice_of_its_import() {
    let derived = ServiceKey::new("default", "derived-0123456789");
    let mut compiler = Compiler::new(node());
    let import = Import { derived: Some(derived.name.clone()), ..import(choice(true, &[])) };
    compiler.set_import(&web(), Some(import.clone()));
    let owners = vec![Owner::Service(derived.clone()), Owner::Import(web())];
    let endpoints = vec![of("east", E1, "rs"), of("west", W1, "rs")];
    compiler.set_slice("default/web-1", Some(Slice { owners, endpoints }));
    compiler.flush();
    let comment = |compiler: &Compiler| {
        let element = compiler.tables().sets["service-ips4"].elements.values().next().cloned();
        element.and_then(|element| element.comment).map(|comment| comment.to_string())
    };
    assert_eq!(comment(&compiler).as_deref(), Some("ServiceImport default/web"));
    // The derived Service comes: it has the address, and nothing is refused.
    compiler.set_service(&derived, Some(service()));
    compiler.flush();
    assert_eq!(comment(&compiler).as_deref(), Some("default/derived-0123456789"));
    assert_eq!((used(&compiler).0, refused(&compiler)), (vec![E1.to_owned()], vec![]));
    // Its own annotation comes before the import's.
    compiler.set_service(&derived, Some(Service { clusters: choice(false, &[("east", 0)]), ..service() }));
    compiler.flush();
    assert_eq!(used(&compiler).0, [W1]);
    compiler.set_service(&derived, Some(service()));
    compiler.set_import(&web(), Some(Import { service: Service { clusters: None, ..service() }, ..import }));
    compiler.flush();
    assert_eq!(used(&compiler).0, [E1, W1]);
}

#[test]
fn a_service_of_this_cluster_keeps_its_address_from_an_import() {
    let mut compiler = imported(None, vec![of("west", W3, "rs")]);
    let other = ServiceKey::new("zoo", "other");
    compiler.set_service(&other, Some(service()));
    compiler.flush();
    assert_eq!(elements(&compiler, "service-ips4"), [""; 0]);
    let words = "ServiceImport default/web: spec.ips: tcp . 10.96.0.1 . 80 is already served for Service zoo/other";
    assert_eq!(refused(&compiler), [words]);
}
