//! The cluster's DNS: what runs it, and whether it answers.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use serde_json::json;

use crate::plan::{ClusterPlan, Family, Plan};
use crate::state::StateDir;

/// The name that is asked for to see whether DNS answers.
const NAME: &str = "kube-dns.kube-system.svc.cluster.local";
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;

/// The Deployment `tombolo-dns` and the Service `kube-dns`, both in `kube-system`.
///
/// # Errors
/// None, as long as these types take what is written here.
pub fn objects(plan: &Plan, cluster: ClusterPlan<'_>, state: &StateDir) -> serde_json::Result<(Deployment, Service)> {
    let labels = json!({"k8s-app": "kube-dns"});
    let kubeconfig = state.inner_kubeconfig(&cluster.name());
    let deployment = json!({
        "metadata": {"name": "tombolo-dns", "namespace": "kube-system", "labels": labels},
        "spec": {
            "replicas": plan.nodes.min(2),
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "terminationGracePeriodSeconds": 5,
                    "dnsPolicy": "Default",
                    "containers": [{
                        "name": "dns",
                        "image": "tombolo",
                        // No name server of the outside can be reached from a lab's networks.
                        "command": [
                            state.program(), "dns", "--kubeconfig", kubeconfig, "--forward", "none",
                            "--ready-listen", "[::]:8181",
                        ],
                        "ports": [
                            {"name": "dns", "containerPort": 53, "protocol": "UDP"},
                            {"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"},
                        ],
                        "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8181}, "periodSeconds": 5},
                    }],
                },
            },
        },
    });
    let addresses = cluster.dns_addresses();
    let families: Vec<_> = addresses.iter().map(|ip| if ip.is_ipv4() { "IPv4" } else { "IPv6" }).collect();
    let service = json!({
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": labels},
        "spec": {
            "selector": labels,
            "clusterIP": addresses.first(),
            "clusterIPs": addresses,
            "ipFamilies": families,
            "ipFamilyPolicy": if plan.family == Family::Dual { "RequireDualStack" } else { "SingleStack" },
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
            ],
        },
    });
    Ok((serde_json::from_value(deployment)?, serde_json::from_value(service)?))
}

/// Asks a name server for the address of its own Service, which has one of each family. Blocks up to the timeout.
///
/// # Errors
/// No answer, or another than an address.
pub fn ask(server: IpAddr, timeout: Duration) -> io::Result<()> {
    let local: SocketAddr = if server.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(local)?;
    socket.set_read_timeout(Some(timeout))?;
    socket.connect((server, 53))?;
    let id = rand::random();
    socket.send(&query(id, NAME, if server.is_ipv4() { TYPE_A } else { TYPE_AAAA }))?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer)?;
    if is_answer(id, &answer[..length]) {
        Ok(())
    } else {
        Err(io::Error::other(format!("{server} does not know {NAME}")))
    }
}

/// A query for one name (RFC 1035, section 4.1), recursion desired.
fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap_or(0));
        message.extend(label.bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend(1u16.to_be_bytes());
    message
}

/// Whether the message is a response to this query, without error and with an answer in it.
fn is_answer(id: u16, message: &[u8]) -> bool {
    let Some((header, _)) = message.split_at_checked(12) else { return false };
    let response = header[2] & 0x80 != 0;
    let no_error = header[3] & 0x0f == 0;
    header[..2] == id.to_be_bytes() && response && no_error && header[6..8] != [0, 0]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::plan::Underlay;
    use crate::plan::tests::plan;

    #[test]
    fn a_query_is_as_the_standard_says() {
        let message = query(0x1234, "a.bc", TYPE_A);
        let expected = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 2, b'b', b'c', 0, 0, 1, 0, 1];
        assert_eq!(message, expected);
    }

    #[test]
    fn only_an_address_is_an_answer() {
        let header = |flags: [u8; 2], answers: u8| [0x12, 0x34, flags[0], flags[1], 0, 1, 0, answers, 0, 0, 0, 0];
        assert!(is_answer(0x1234, &header([0x81, 0x80], 1)));
        assert!(!is_answer(0x1235, &header([0x81, 0x80], 1)), "another's");
        assert!(!is_answer(0x1234, &header([0x01, 0x80], 1)), "a query");
        assert!(!is_answer(0x1234, &header([0x81, 0x83], 1)), "no such name");
        assert!(!is_answer(0x1234, &header([0x81, 0x80], 0)), "no data");
        assert!(!is_answer(0x1234, &[0x12]), "too short");
    }

    #[test]
    fn the_service_has_the_tenth_address_of_each_family() {
        let plan = plan(Underlay::Routed, Family::Dual);
        let (deployment, service) = objects(&plan, plan.cluster(1), &StateDir::new("lab")).unwrap();
        assert_eq!(service.spec.unwrap().cluster_ips.unwrap(), ["10.101.0.10", "fd64:1::a"]);
        assert_eq!(deployment.spec.replicas, Some(2));
    }
}
