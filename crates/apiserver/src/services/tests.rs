#![allow(clippy::unwrap_used)]

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

fn services(cidrs: &[&str]) -> Services {
    let cidrs: Vec<IpNet> = cidrs.iter().map(|c| c.parse().unwrap()).collect();
    Services::new(&cidrs)
}

fn service(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec})
}

/// Claims for a new Service and keeps the claim.
fn take(services: &Services, name: &str, spec: Value) -> Result<Value, String> {
    let mut service = service(name, spec);
    let claim = services.claim(None, &mut service).map_err(|causes| causes[0].to_string())?;
    claim.keep();
    Ok(service)
}

#[test]
fn families_follow_the_policy_and_the_networks() {
    let dual = ["10.96.0.0/24", "fd00::/112"];
    let cases = [
        (&dual[..], json!({}), json!(["IPv4"])),
        (&dual[..], json!({"ipFamilyPolicy": "PreferDualStack"}), json!(["IPv4", "IPv6"])),
        (&dual[..1], json!({"ipFamilyPolicy": "PreferDualStack"}), json!(["IPv4"])),
        (&dual[..], json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"]}), json!(["IPv6", "IPv4"])),
        (&dual[..], json!({"ipFamilies": ["IPv6"]}), json!(["IPv6"])),
        (&dual[..], json!({"clusterIP": "fd00::7"}), json!(["IPv6"])),
        (&["fd00::/112"], json!({}), json!(["IPv6"])),
    ];
    for (cidrs, spec, families) in cases {
        let given = take(&services(cidrs), "s", spec.clone()).unwrap();
        assert_eq!(given["spec"]["ipFamilies"], families, "{spec} of {cidrs:?}");
        let addresses = addresses_of(&given);
        let found: Vec<&str> = addresses.iter().take(addresses.len() - 1).map(|ip| family_of(*ip)).collect();
        assert_eq!(json!(found), families, "{spec} of {cidrs:?}");
    }
}

#[test]
fn what_cannot_be_given_is_refused() {
    let one = services(&["10.96.0.0/29"]);
    take(&one, "first", json!({"clusterIP": "10.96.0.3"})).unwrap();
    let cases = [
        (json!({"clusterIP": "10.97.0.1"}), "does not match the current range"),
        (json!({"clusterIP": "10.96.0.7"}), "does not match the current range"),
        (json!({"clusterIP": "10.96.0.3"}), "already allocated"),
        (json!({"clusterIP": "nonsense"}), "must be a valid IP address"),
        (json!({"clusterIP": "fd00::1"}), "not configured on this cluster"),
        (json!({"clusterIP": "10.96.0.4", "clusterIPs": ["10.96.0.5"]}), "first value must match"),
        (json!({"ipFamilyPolicy": "RequireDualStack"}), "not configured for dual-stack"),
        (json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]}), "not in the valid range"),
    ];
    for (spec, reason) in cases {
        let refused = take(&one, "second", spec.clone()).unwrap_err();
        assert!(refused.contains(reason), "{spec}: {refused}");
    }
}

#[test]
fn headless_and_external_services_take_nothing() {
    let one = services(&["10.96.0.0/29"]);
    let headless = take(&one, "a", json!({"clusterIP": "None"})).unwrap();
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    let external = take(&one, "b", json!({"type": "ExternalName", "externalName": "example.com"})).unwrap();
    assert_eq!(external["spec"].get("clusterIP"), None);
    assert!(one.lock().addresses.is_empty());
}

#[test]
fn a_claim_that_is_not_kept_is_returned() {
    let one = services(&["10.96.0.0/29"]);
    let mut wanted = service("a", json!({"type": "NodePort", "ports": [{"port": 80}]}));
    drop(one.claim(None, &mut wanted).ok().unwrap());
    assert!(one.lock().addresses.is_empty() && one.lock().ports.is_empty());
}

#[test]
fn an_address_stays_and_a_node_port_goes_with_the_type() {
    let one = services(&["10.96.0.0/24"]);
    let old = take(&one, "a", json!({"type": "NodePort", "ports": [{"port": 80}]})).unwrap();
    assert_eq!(one.lock().ports.len(), 1);
    let mut new = old.clone();
    new["spec"]["type"] = "ClusterIP".into();
    one.claim(Some(&old), &mut new).ok().unwrap().keep();
    assert_eq!((&new["spec"]["clusterIP"], one.lock().ports.len()), (&old["spec"]["clusterIP"], 0));
    let mut moved = new.clone();
    moved["spec"]["clusterIP"] = "10.96.0.200".into();
    moved["spec"]["clusterIPs"] = json!(["10.96.0.200"]);
    assert!(one.claim(Some(&new), &mut moved).is_err());
    one.release(&new);
    assert!(one.lock().addresses.is_empty());
}

#[test]
fn a_full_network_says_so() {
    let one = services(&["10.96.0.0/29"]);
    for i in 0..5 {
        take(&one, &format!("s{i}"), json!({})).unwrap();
    }
    assert!(take(&one, "last", json!({})).unwrap_err().contains("range is full"));
}

proptest! {
    #[test]
    fn no_two_services_share_an_address(prefix in 20u8..29, count in 1usize..40, v6 in any::<bool>()) {
        let cidr = if v6 { format!("fd00::/{}", prefix + 96) } else { format!("10.96.0.0/{prefix}") };
        let one = services(&[&cidr]);
        let net: IpNet = cidr.parse().unwrap();
        let mut seen = HashSet::new();
        for i in 0..count {
            let Ok(given) = take(&one, &format!("s{i}"), json!({})) else { break };
            let address: IpAddr = given["spec"]["clusterIP"].as_str().unwrap().parse().unwrap();
            prop_assert!(net.contains(&address) && address != net.network());
            prop_assert!(Some(address) != one.first_address(), "that one is the API server's");
            prop_assert!(seen.insert(address));
        }
    }
}
