//! The multi-cluster DNS specification 1.0 as a table, and in any order of events.

use tombolo_api::mcs::v1alpha1::ServiceImport;

use super::*;

fn import(name: &str, spec: Value) -> ServiceImport {
    serde_json::from_value(json!({
        "apiVersion": "multicluster.x-k8s.io/v1alpha1", "kind": "ServiceImport",
        "metadata": {"namespace": "ns", "name": name}, "spec": spec,
    }))
    .unwrap()
}

/// A slice of an import, from `cluster`, and of a Service where one is named.
fn imported(
    name: &str,
    import: &str,
    cluster: &str,
    service: Option<&str>,
    endpoints: Value,
) -> discovery::EndpointSlice {
    let ports = json!([{"name": "sql", "port": 5432}]);
    let mut slice = slice(name, "", ports, endpoints);
    let labels = slice.metadata.labels.as_mut().unwrap();
    labels.clear();
    labels.insert("multicluster.kubernetes.io/service-name".to_owned(), import.to_owned());
    if !cluster.is_empty() {
        labels.insert("multicluster.kubernetes.io/source-cluster".to_owned(), cluster.to_owned());
    }
    labels.extend(service.map(|name| ("kubernetes.io/service-name".to_owned(), name.to_owned())));
    slice
}

fn catalog() -> Catalog {
    Catalog::new("cluster.local").unwrap().with_clusterset("clusterset.local").unwrap()
}

fn empty() -> Zones {
    Zones::cluster("cluster.local", 7).unwrap().with_clusterset("clusterset.local", 7).unwrap()
}

/// A cluster that imports a service of each kind.
fn clusterset() -> Zones {
    let (mut zones, mut catalog) = (empty(), catalog());
    let ports = json!([{"name": "http", "port": 80}, {"name": "dns", "protocol": "UDP", "port": 53}, {"port": 1}]);
    let imports = [
        import("web", json!({"type": "ClusterSetIP", "ips": ["10.43.0.1", "fd00:43::1"], "ports": ports})),
        import("v6", json!({"type": "ClusterSetIP", "ips": ["fd00:43::2"], "ports": []})),
        import("derived", json!({"type": "ClusterSetIP", "ips": ["10.96.0.7"], "ports": []})),
        import("unassigned", json!({"type": "ClusterSetIP", "ports": [{"port": 80}]})),
        import("db", json!({"type": "Headless", "ports": [{"name": "sql", "port": 5432}]})),
        import("idle", json!({"type": "Headless", "ports": []})),
        import("no-ports", json!({"type": "Headless", "ports": []})),
    ];
    let hosts = |first: u8| {
        json!([
            {"addresses": [format!("10.{first}.0.1")], "hostname": "db-0"},
            {"addresses": [format!("10.{first}.0.2")]},
            {"addresses": [format!("10.{first}.0.3")], "hostname": "db-2", "conditions": {"ready": false}},
        ])
    };
    let twins = json!([
        {"addresses": ["fd00::1"]},
        {"addresses": ["fd00::2"], "hostname": "twin"}, {"addresses": ["fd00::3"], "hostname": "twin"},
    ]);
    let mut portless = imported("no-ports", "no-ports", "east", None, json!([{"addresses": ["10.9.0.20"]}]));
    portless.ports = None;
    let slices = [
        imported("db-east", "db", "east", None, hosts(1)),
        imported("db-west", "db", "west", None, hosts(2)),
        imported("db-six", "db", "East", None, twins),
        imported("idle", "idle", "east", None, json!([{"addresses": ["10.1.0.9"], "conditions": {"ready": false}}])),
        portless,
        // Endpoints behind an address have no names.
        imported("web-east", "web", "east", None, json!([{"addresses": ["10.1.0.4"], "hostname": "web-0"}])),
        imported("derived", "derived", "east", Some("derived-abc"), json!([{"addresses": ["10.1.0.5"]}])),
        // The same pod by both ways, in the cluster that exports it.
        slice("own", "own", json!([]), json!([{"addresses": ["10.1.0.1"], "hostname": "db-0"}])),
    ];
    let services = [
        service("derived-abc", json!({"clusterIP": "10.96.0.7", "ports": [{"name": "sql", "port": 5432}]})),
        service("own", json!({"clusterIP": "None"})),
    ];
    for import in &imports {
        zones.apply(catalog.apply_import(import));
    }
    for slice in &slices {
        let diff = catalog.apply_slice(slice);
        assert_eq!(diff.refused, [""; 0]);
        zones.apply(diff);
    }
    for service in &services {
        zones.apply(catalog.apply_service(service));
    }
    zones.loaded();
    zones
}

#[test]
fn names_are_those_of_the_specification() {
    let zones = clusterset();
    let all = ["10.1.0.1", "10.1.0.2", "10.2.0.1", "10.2.0.2"];
    let sql = [
        "0 100 5432 10-1-0-2.east.db.ns.svc.clusterset.local.",
        "0 100 5432 10-2-0-2.west.db.ns.svc.clusterset.local.",
        "0 100 5432 db-0.east.db.ns.svc.clusterset.local.",
        "0 100 5432 db-0.west.db.ns.svc.clusterset.local.",
        "0 100 5432 fd00--1.east.db.ns.svc.clusterset.local.",
        "0 100 5432 twin.east.db.ns.svc.clusterset.local.",
    ];
    let cases: &[(&str, u16, &[&str])] = &[
        ("dns-version.clusterset.local", TXT, &["1.0.0"]),
        ("dns-version.cluster.local", TXT, &["1.1.0"]),
        ("web.ns.svc.clusterset.local", A, &["10.43.0.1"]),
        ("Web.NS.svc.ClusterSet.Local", A, &["10.43.0.1"]),
        ("web.ns.svc.clusterset.local", AAAA, &["fd00:43::1"]),
        ("v6.ns.svc.clusterset.local", AAAA, &["fd00:43::2"]),
        ("_http._tcp.web.ns.svc.clusterset.local", SRV, &["0 100 80 web.ns.svc.clusterset.local."]),
        ("_dns._udp.web.ns.svc.clusterset.local", SRV, &["0 100 53 web.ns.svc.clusterset.local."]),
        ("1.0.43.10.in-addr.arpa", PTR, &["web.ns.svc.clusterset.local."]),
        ("db.ns.svc.clusterset.local", A, &all),
        ("db.ns.svc.clusterset.local", AAAA, &["fd00::1", "fd00::2", "fd00::3"]),
        ("db-0.east.db.ns.svc.clusterset.local", A, &["10.1.0.1"]),
        ("db-0.west.db.ns.svc.clusterset.local", A, &["10.2.0.1"]),
        ("DB-0.EAST.db.ns.svc.clusterset.local", A, &["10.1.0.1"]),
        ("10-2-0-2.west.db.ns.svc.clusterset.local", A, &["10.2.0.2"]),
        ("twin.east.db.ns.svc.clusterset.local", AAAA, &["fd00::2", "fd00::3"]),
        ("no-ports.ns.svc.clusterset.local", A, &["10.9.0.20"]),
        ("10-9-0-20.east.no-ports.ns.svc.clusterset.local", A, &["10.9.0.20"]),
        ("_sql._tcp.db.ns.svc.clusterset.local", SRV, &sql),
        ("1.0.2.10.in-addr.arpa", PTR, &["db-0.west.db.ns.svc.clusterset.local."]),
        ("2.0.1.10.in-addr.arpa", PTR, &["10-1-0-2.east.db.ns.svc.clusterset.local."]),
        // Section 2.3.3 and 2.4.3: no more names for an address that has one in the cluster.
        ("7.0.96.10.in-addr.arpa", PTR, &["derived-abc.ns.svc.cluster.local."]),
        ("1.0.1.10.in-addr.arpa", PTR, &["db-0.own.ns.svc.cluster.local."]),
        ("derived.ns.svc.clusterset.local", A, &["10.96.0.7"]),
        ("derived-abc.ns.svc.cluster.local", A, &["10.96.0.7"]),
    ];
    for (name, record_type, expected) in cases {
        let message = told(&zones, name, *record_type);
        let seen = (message.metadata.response_code, message.metadata.authoritative);
        assert_eq!(seen, (ResponseCode::NoError, true), "{name} {record_type}");
        assert_eq!(answers(&message), *expected, "{name} {record_type}");
    }
}

#[test]
fn what_is_not_there_is_told_from_what_has_no_such_record() {
    let zones = clusterset();
    let (none, nothing) = (ResponseCode::NXDomain, ResponseCode::NoError);
    for (name, record_type, code) in [
        ("no.ns.svc.clusterset.local", A, none),
        ("web.no.svc.clusterset.local", A, none),
        ("pod.clusterset.local", A, none),
        ("10-1-0-1.ns.pod.clusterset.local", A, none),
        // No ready endpoint (section 2.4.1).
        ("idle.ns.svc.clusterset.local", A, none),
        ("db-2.east.db.ns.svc.clusterset.local", A, none),
        ("db-0.north.db.ns.svc.clusterset.local", A, none),
        ("db-0.db.ns.svc.clusterset.local", A, none),
        // No way to a single cluster's endpoints (sections 2.3.4 and 2.4.4).
        ("east.web.ns.svc.clusterset.local", A, none),
        ("web-0.east.web.ns.svc.clusterset.local", A, none),
        ("_sql._tcp.east.db.ns.svc.clusterset.local", SRV, none),
        ("east.db.ns.svc.clusterset.local", A, nothing),
        ("v6.ns.svc.clusterset.local", A, nothing),
        ("web.ns.svc.clusterset.local", TXT, nothing),
        ("unassigned.ns.svc.clusterset.local", A, nothing),
        ("unassigned.ns.svc.clusterset.local", AAAA, nothing),
        ("_tcp.web.ns.svc.clusterset.local", A, nothing),
        ("ns.svc.clusterset.local", A, nothing),
        ("svc.clusterset.local", A, nothing),
        ("clusterset.local", A, nothing),
    ] {
        let message = told(&zones, name, record_type);
        assert_eq!(message.metadata.response_code, code, "{name} {record_type}");
        assert_eq!(answers(&message), [""; 0], "{name} {record_type}");
        let [soa] = message.authorities.as_slice() else {
            panic!("{name} {record_type}: {:?}", message.authorities);
        };
        assert_eq!((soa.name.to_string().as_str(), soa.ttl), ("clusterset.local.", crate::TTL));
    }
    // Names of addresses that nobody here has are for others.
    let (reply, _) = ask(&zones, &query("9.0.1.10.in-addr.arpa", PTR), Transport::Udp);
    assert_eq!(reply, Reply::Forward);
}

#[test]
fn an_address_gets_its_other_name_when_the_first_goes() {
    let (mut zones, mut catalog) = (empty(), catalog());
    zones.loaded();
    let web = import("web", json!({"type": "ClusterSetIP", "ips": ["10.96.0.7"], "ports": []}));
    let derived = service("derived", json!({"clusterIP": "10.96.0.7"}));
    let name = |zones: &Zones| answers(&told(zones, "7.0.96.10.in-addr.arpa", PTR));
    zones.apply(catalog.apply_import(&web));
    assert_eq!(name(&zones), ["web.ns.svc.clusterset.local."]);
    zones.apply(catalog.apply_service(&derived));
    assert_eq!(name(&zones), ["derived.ns.svc.cluster.local."]);
    zones.apply(catalog.delete_service(&key("derived")));
    assert_eq!(name(&zones), ["web.ns.svc.clusterset.local."]);
    zones.apply(catalog.delete_import(&key("web")));
    assert_eq!(name(&zones), [""; 0]);
}

#[test]
fn what_no_name_can_be_made_of_is_said_once_and_harms_nothing_else() {
    let mut catalog = catalog();
    let web = import("web", json!({"type": "ClusterSetIP", "ips": ["10.43.0.1", "x"], "ports": []}));
    let diff = catalog.apply_import(&web);
    assert_eq!(diff.refused, ["ServiceImport ns/web: spec.ips has \"x\", which is not an IP address"]);
    assert_eq!(diff.added.len(), 3, "{diff:?}");
    assert_eq!(catalog.apply_import(&web), crate::Diff::default());

    let label = "a".repeat(63);
    catalog.apply_import(&import("db", json!({"type": "Headless", "ports": []})));
    let endpoints = json!([{"addresses": ["10.0.0.1"], "hostname": "a.b..c"}, {"addresses": ["10.0.0.2"]}]);
    for (cluster, sentence) in [
        ("", "EndpointSlice ns/db: its endpoints have no names, since it has no label "),
        ("a..b", "EndpointSlice ns/db: its endpoints have no names: \"\" is not a label"),
    ] {
        let diff = catalog.apply_slice(&imported("db", "db", cluster, None, endpoints.clone()));
        assert!(diff.refused[0].starts_with(sentence), "{:?}", diff.refused);
        let addresses: Vec<_> = diff.added.iter().filter(|record| matches!(record.data, Data::A(_))).collect();
        assert!(cluster.is_empty() == (addresses.len() == 2), "{diff:?}");
    }
    let long = json!([{"addresses": ["10.0.0.1"], "hostname": label.repeat(2)}, {"addresses": ["10.0.0.2"]}]);
    let diff = catalog.apply_slice(&imported("db", "db", "a.b", None, long));
    assert!(diff.refused[0].starts_with("ServiceImport ns/db: no name can be made for part of it: "), "{diff:?}");
    let own = Name::parse("10-0-0-2.a.b.db.ns.svc.clusterset.local").unwrap();
    assert!(diff.added.iter().any(|record| record.owner == own), "{diff:?}");
}

#[test]
fn each_zone_loads_by_itself() {
    let mut zones = empty();
    let code = |zones: &Zones, name: &str| told(zones, name, A).metadata.response_code;
    assert_eq!(zones.loading().count(), 4);
    zones.loaded_below(&Name::parse("cluster.local").unwrap());
    assert_eq!(code(&zones, "web.ns.svc.cluster.local"), ResponseCode::NXDomain);
    assert_eq!(code(&zones, "web.ns.svc.clusterset.local"), ResponseCode::ServFail);
    assert_eq!(code(&zones, "1.0.0.10.in-addr.arpa"), ResponseCode::ServFail);
    zones.loaded_below(&Name::parse("clusterset.local").unwrap());
    assert_eq!(code(&zones, "web.ns.svc.clusterset.local"), ResponseCode::NXDomain);
    zones.reverse_loaded();
    assert_eq!(zones.loading().count(), 0);
}

#[derive(Debug, Clone)]
enum Event {
    Import(&'static str, bool, bool),
    NoImport(&'static str),
    Service(&'static str, bool),
    NoService(&'static str),
    Slice(&'static str, &'static str, Option<&'static str>, Vec<(&'static str, bool)>),
    NoSlice(&'static str),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let name = || prop::sample::select(vec!["a", "b"]);
    let slice_name = || prop::sample::select(vec!["x", "y", "z"]);
    let hosts = prop::sample::select(vec!["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    let endpoints = prop::collection::vec((hosts, any::<bool>()), 0..3);
    let event = prop_oneof![
        (name(), any::<bool>(), any::<bool>()).prop_map(|(name, headless, ip)| Event::Import(name, headless, ip)),
        name().prop_map(Event::NoImport),
        (name(), any::<bool>()).prop_map(|(name, headless)| Event::Service(name, headless)),
        name().prop_map(Event::NoService),
        (slice_name(), name(), prop::option::of(name()), endpoints)
            .prop_map(|(slice, import, service, endpoints)| Event::Slice(slice, import, service, endpoints)),
        slice_name().prop_map(Event::NoSlice),
    ];
    prop::collection::vec(event, 0..24)
}

#[derive(Default)]
struct Present {
    imports: BTreeMap<&'static str, ServiceImport>,
    services: BTreeMap<&'static str, core::Service>,
    slices: BTreeMap<&'static str, discovery::EndpointSlice>,
}

impl Present {
    fn take(&mut self, event: Event, catalog: &mut Catalog) -> crate::Diff {
        match event {
            Event::Import(name, headless, ip) => {
                let kind = if headless { "Headless" } else { "ClusterSetIP" };
                // The address of an import may be a Service's or an endpoint's, too.
                let ips = if ip { json!(["10.0.0.1"]) } else { json!([]) };
                let object = import(name, json!({"type": kind, "ips": ips, "ports": [{"name": "http", "port": 80}]}));
                let diff = catalog.apply_import(&object);
                self.imports.insert(name, object);
                diff
            }
            Event::NoImport(name) => {
                self.imports.remove(name);
                catalog.delete_import(&key(name))
            }
            Event::Service(name, headless) => {
                let object = service(name, json!({"clusterIP": if headless { "None" } else { "10.0.0.1" }}));
                let diff = catalog.apply_service(&object);
                self.services.insert(name, object);
                diff
            }
            Event::NoService(name) => {
                self.services.remove(name);
                catalog.delete_service(&key(name))
            }
            Event::Slice(name, import, service, endpoints) => {
                let endpoints: Vec<Value> = endpoints
                    .iter()
                    .map(|(address, is_ready)| json!({"addresses": [address], "conditions": {"ready": is_ready}}))
                    .collect();
                let object = imported(name, import, "east", service, json!(endpoints));
                let diff = catalog.apply_slice(&object);
                self.slices.insert(name, object);
                diff
            }
            Event::NoSlice(name) => {
                self.slices.remove(name);
                catalog.delete_slice(&key(name))
            }
        }
    }

    fn zones(&self) -> Zones {
        let (mut zones, mut catalog) = (empty(), catalog());
        for service in self.services.values() {
            zones.apply(catalog.apply_service(service));
        }
        for slice in self.slices.values() {
            zones.apply(catalog.apply_slice(slice));
        }
        for import in self.imports.values() {
            zones.apply(catalog.apply_import(import));
        }
        zones
    }
}

proptest! {
    #[test]
    fn whatever_the_order_of_events_the_zones_are_those_of_the_objects(events in events()) {
        let (mut zones, mut catalog, mut present) = (empty(), catalog(), Present::default());
        for event in events {
            zones.apply(present.take(event, &mut catalog));
            prop_assert_eq!(zones.contents(), present.zones().contents());
        }
    }
}
