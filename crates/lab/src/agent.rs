//! A node's agent: what it is started with, and whether it is ready.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::daemon::Daemon;
use crate::netns;
use crate::plan::{Interconnect, NodePlan, Plan, REFLECTOR_ASN};
use crate::pod::probe;
use crate::spawn::Sandbox;
use crate::state::StateDir;

/// Where the agent answers `/readyz`, in its node's namespace.
pub const LISTEN: &str = "127.0.0.1:1107";
/// Where WireGuard's control sockets are looked for by `wg`.
pub const WIREGUARD_DIR: &str = "/run/wireguard";
/// Which socket `tombolo bgp` asks at.
pub const BGP_SOCKET: &str = "TOMBOLO_BGP_SOCKET";

/// The agent of a node of the plan.
pub fn of(plan: &Plan, node: NodePlan<'_>, state: &StateDir) -> Daemon {
    let dir = state.node(&node.name());
    let join = |nets: Vec<ipnet::IpNet>| nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let path = |path: PathBuf| path.display().to_string();
    let mut words = vec![path(state.program()), "agent".to_owned()];
    let mut flag = |name: &str, value: String| words.extend([format!("--{name}"), value]);
    flag("kubeconfig", path(state.inner_kubeconfig(&node.cluster.name())));
    flag("hostname", node.name());
    flag("subnet", join(node.cluster.wireguard_cidrs()));
    flag("service-cidr", join(node.cluster.service_cidrs()));
    flag("mesh-granularity", plan.mesh_granularity.clone());
    flag("port", node.wireguard_port().to_string());
    flag("state-dir", path(dir.agent_state()));
    flag("cni-path", path(dir.cni_conflist()));
    flag("cni-data-dir", path(dir.cni_data()));
    flag("wireguard-socket-dir", path(dir.wireguard()));
    flag("listen", LISTEN.to_owned());
    let told = plan.agent_args.iter().any(|arg| arg.starts_with("--peer-router-ips"));
    if let (Interconnect::Bgp(_), false) = (&plan.interconnect, told) {
        // As kube-router's users write them: one AS for each address.
        let addresses: Vec<String> = plan.reflector_addresses().iter().map(|net| net.addr().to_string()).collect();
        let asns = vec![REFLECTOR_ASN.to_string(); addresses.len()];
        words.push(format!("--peer-router-ips={}", addresses.join(",")));
        words.push(format!("--peer-router-asns={}", asns.join(",")));
        words.push("--advertise-cluster-ip".to_owned());
    }
    words.extend(plan.agent_args.iter().cloned());
    let wireguard = Path::new(WIREGUARD_DIR);
    Daemon {
        what: "an agent",
        namespace: node.namespace(),
        words,
        env: vec![(BGP_SOCKET, path(dir.bgp_socket()))],
        log: dir.agent_log(),
        mounts: if wireguard.is_dir() { vec![(dir.wireguard(), wireguard.to_owned())] } else { Vec::new() },
        then: Vec::new(),
    }
}

/// Whether the `/readyz` of the agent in this namespace says that it is ready.
pub async fn is_ready(namespace: &str) -> bool {
    let ask = || {
        let address = LISTEN.parse().map_err(io::Error::other)?;
        probe::get(address, "/readyz", &[], Duration::from_secs(1))
    };
    netns::enter_async(namespace.to_owned(), ask).await.is_ok_and(|code| code == 200)
}

/// A sandbox for programs of a node: its network, and `wg` finds the node's WireGuard interfaces.
///
/// # Errors
/// There is no such namespace.
pub fn in_node(namespace: &str, wireguard: &Path) -> io::Result<Sandbox> {
    let sandbox = Sandbox::network(namespace)?;
    let target = Path::new(WIREGUARD_DIR);
    if target.is_dir() { sandbox.bind(wireguard, target) } else { Ok(sandbox) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::plan::tests::plan;
    use crate::plan::{Family, Underlay};

    #[test]
    fn an_agent_is_told_everything_that_is_not_the_same_for_all() {
        let mut plan = plan(Underlay::Routed, Family::Dual);
        plan.agent_args = vec!["--log-level=debug".into()];
        let agent = of(&plan, plan.cluster(1).node(2), &StateDir::new("lab"));
        let words = agent.words.join(" ");
        for part in [
            "/run/tombolo-lab/lab/bin/tombolo agent --kubeconfig /run/tombolo-lab/lab/cluster1.inner.kubeconfig ",
            "--hostname c1-n2 --subnet 10.161.0.0/16,fda0:1::/64 --service-cidr 10.101.0.0/16,fd64:1::/112 ",
            "--cni-path /run/tombolo-lab/lab/nodes/c1-n2/cni/net.d/10-tombolo.conflist ",
            " --log-level=debug",
        ] {
            assert!(words.contains(part), "{part} in {words}");
        }
    }

    #[test]
    fn an_agent_is_told_of_the_reflector_by_kube_routers_flags() {
        let mut plan = plan(Underlay::Flat, Family::Dual);
        let words = |plan: &Plan| of(plan, plan.cluster(1).node(1), &StateDir::new("lab")).words.join(" ");
        assert!(!words(&plan).contains("--peer-router"));
        plan.interconnect = Interconnect::Bgp(crate::plan::Reflector::Frr);
        let flags = "--peer-router-ips=172.18.0.2,fd12::2 --peer-router-asns=64512,64512 --advertise-cluster-ip";
        assert!(words(&plan).ends_with(flags), "{}", words(&plan));
        // Who says otherwise is not told twice.
        plan.agent_args = vec!["--peer-router-ips=192.0.2.1".into()];
        assert!(!words(&plan).contains("172.18.0.2,"), "{}", words(&plan));
    }
}
