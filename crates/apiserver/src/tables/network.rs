//! Services, Endpoints and EndpointSlices.

use serde_json::Value;
use time::OffsetDateTime;

use super::{AGE, Cells, Column, NAME, age_of, columns, int_at, labels_text, list_at, name, or, or_none};
use crate::object::{self, str_at};

/// So many addresses or ports are listed before `+ N more...`.
const LISTED: usize = 3;

pub(super) fn service() -> (Vec<Column>, Cells) {
    let columns = columns(&[
        NAME,
        ("Type", "string", 0, "How the service is reached."),
        ("Cluster-IP", "string", 0, "The service's address within the cluster."),
        ("External-IP", "string", 0, "The service's addresses outside the cluster."),
        ("Port(s)", "string", 0, "Ports, node ports and protocols."),
        AGE,
        ("Selector", "string", 1, "Labels of the pods that serve."),
    ]);
    (columns, service_cells)
}

pub(super) fn endpoints() -> (Vec<Column>, Cells) {
    let columns = columns(&[NAME, ("Endpoints", "string", 0, "Addresses and ports that serve."), AGE]);
    (columns, |object, now| vec![name(object), endpoints_text(object).into(), age_of(object, now)])
}

pub(super) fn endpoint_slice() -> (Vec<Column>, Cells) {
    let columns = columns(&[
        NAME,
        ("AddressType", "string", 0, "IPv4, IPv6 or FQDN."),
        ("Ports", "string", 0, "Ports of every endpoint of the slice."),
        ("Endpoints", "string", 0, "Addresses of the slice."),
        AGE,
    ]);
    (columns, slice_cells)
}

fn service_cells(service: &Value, now: OffsetDateTime) -> Vec<Value> {
    let kind = str_at(service, &["spec", "type"]);
    vec![
        name(service),
        kind.into(),
        or_none(cluster_ip(service)),
        external_ip(service, kind),
        or_none(&service_ports(service)),
        age_of(service, now),
        labels_text(object::at(service, &["spec", "selector"])),
    ]
}

fn cluster_ip(service: &Value) -> &str {
    let first = list_at(service, &["spec", "clusterIPs"]).first().and_then(Value::as_str);
    first.unwrap_or_else(|| str_at(service, &["spec", "clusterIP"]))
}

fn external_ip(service: &Value, kind: &str) -> Value {
    let external_ips = list_at(service, &["spec", "externalIPs"]).iter().filter_map(Value::as_str);
    match kind {
        "LoadBalancer" => {
            let mut addresses: Vec<&str> = Vec::new();
            for ingress in list_at(service, &["status", "loadBalancer", "ingress"]) {
                match str_at(ingress, &["ip"]) {
                    "" => addresses.push(str_at(ingress, &["hostname"])),
                    ip => addresses.push(ip),
                }
            }
            addresses.extend(external_ips);
            addresses.retain(|address| !address.is_empty());
            or(&addresses.join(","), "<pending>")
        }
        "ExternalName" => str_at(service, &["spec", "externalName"]).into(),
        _ => or_none(&external_ips.collect::<Vec<_>>().join(",")),
    }
}

fn service_ports(service: &Value) -> String {
    let text = |port: &Value| {
        let protocol = str_at(port, &["protocol"]);
        match int_at(port, &["nodePort"]) {
            0 => format!("{}/{protocol}", int_at(port, &["port"])),
            node_port => format!("{}:{node_port}/{protocol}", int_at(port, &["port"])),
        }
    };
    list_at(service, &["spec", "ports"]).iter().map(text).collect::<Vec<_>>().join(",")
}

fn endpoints_text(endpoints: &Value) -> String {
    let mut listed = Vec::new();
    for subset in list_at(endpoints, &["subsets"]) {
        let addresses = list_at(subset, &["addresses"]).iter().map(|address| str_at(address, &["ip"]));
        let ports = list_at(subset, &["ports"]);
        if ports.is_empty() {
            listed.extend(addresses.map(str::to_owned));
            continue;
        }
        for port in ports {
            let port = int_at(port, &["port"]);
            let joined = |ip: &str| if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") };
            listed.extend(addresses.clone().map(joined));
        }
    }
    shortened(&listed, "<none>")
}

fn slice_cells(slice: &Value, now: OffsetDateTime) -> Vec<Value> {
    let port = |port: &Value| match port.get("port").and_then(Value::as_i64) {
        Some(number) => number.to_string(),
        None => "*".to_owned(),
    };
    let ports: Vec<String> = list_at(slice, &["ports"]).iter().map(port).collect();
    let endpoints = list_at(slice, &["endpoints"]).iter();
    let addresses = endpoints.flat_map(|endpoint| list_at(endpoint, &["addresses"]));
    let addresses: Vec<String> = addresses.filter_map(Value::as_str).map(str::to_owned).collect();
    vec![
        name(slice),
        str_at(slice, &["addressType"]).into(),
        shortened(&ports, "<unset>").into(),
        shortened(&addresses, "<unset>").into(),
        age_of(slice, now),
    ]
}

/// The first few of a list and how many more there are.
fn shortened(list: &[String], none: &str) -> String {
    match list.len() {
        0 => none.to_owned(),
        length if length > LISTED => format!("{} + {} more...", list[..LISTED].join(","), length - LISTED),
        _ => list.join(","),
    }
}
