//! The ports of an import, and which of them an endpoint serves.

use std::collections::HashSet;

use tombolo_proxy::Protocol;

use crate::model::{Import, Service, ServicePort, SlicePort};

/// The ports of Services in their order of precedence.
pub(super) fn union<'a>(services: impl Iterator<Item = &'a Service>) -> Vec<ServicePort> {
    let mut ports: Vec<ServicePort> = Vec::new();
    let (mut names, mut numbers) = (HashSet::new(), HashSet::new());
    for port in services.flat_map(|service| &service.ports) {
        let number = (port.protocol, port.port);
        if !names.contains(&port.name) && !numbers.contains(&number) {
            names.insert(port.name.clone());
            numbers.insert(number);
            ports.push(port.clone());
        }
    }
    if ports.len() > 1 {
        for port in ports.iter_mut().filter(|port| port.name.is_empty()) {
            port.name = free_name(port.protocol, port.port, &names);
        }
    }
    ports
}

fn free_name(protocol: Protocol, port: u16, names: &HashSet<String>) -> String {
    let first = format!("{protocol}-{port}");
    let others = (2..).map(|n: usize| format!("{first}-{n}"));
    let mut all = std::iter::once(first.clone()).chain(others);
    all.find(|name| !names.contains(name)).unwrap_or_default()
}

/// The ports of a slice of `service`, under the names that they have in the import.
///
/// A port of the slice belongs to the Service's port of its name, that one to the import's of the same protocol and
/// number.
pub(super) fn of_import(ports: &[SlicePort], service: &Service, import: &Import) -> Vec<SlicePort> {
    let renamed = |port: &SlicePort| {
        let own = service.ports.iter().find(|own| own.name == port.name)?;
        let merged = import.ports.iter().find(|p| (p.protocol, p.port) == (own.protocol, own.port))?;
        Some(SlicePort { name: merged.name.clone(), app_protocol: merged.app_protocol.clone(), ..port.clone() })
    };
    ports.iter().filter_map(renamed).collect()
}
