//! What a person reads about a lab.

use std::fmt::Write as _;

use crate::control::{NodeStatus, ReflectorStatus, Status};
use crate::plan::{Family, REFLECTOR_ASN, Underlay};
use crate::state::StateDir;

/// What runs where, one line a node.
pub fn status(status: &Status) -> String {
    let plan = &status.plan;
    let underlay = match plan.underlay {
        Underlay::Routed => "routed",
        Underlay::Flat => "flat",
        Underlay::Nat => "nat",
    };
    let family = match plan.family {
        Family::Ipv4 => "ipv4",
        Family::Ipv6 => "ipv6",
        Family::Dual => "dual",
    };
    let mut text = format!(
        "lab {}: {underlay} underlay, {family}, mesh granularity {}, supervisor {}\n",
        plan.name, plan.mesh_granularity, status.pid
    );
    for cluster in &status.clusters {
        let _ = writeln!(
            text,
            "\n{}  pods {}  services {}  API {}",
            cluster.name,
            cluster.pod_cidrs.join(","),
            cluster.service_cidrs.join(","),
            cluster.api.first().map_or("", String::as_str)
        );
        let rows: Vec<[String; 5]> = cluster.nodes.iter().map(row).collect();
        text += &table([["NODE", "ADDRESSES", "LOCATION", "AGENT", "NAMESPACE"].map(String::from)].iter().chain(&rows));
    }
    if let Some(reflector) = &status.reflector {
        text += &self::reflector(reflector);
    }
    text
}

fn reflector(status: &ReflectorStatus) -> String {
    let pids: Vec<String> = status.processes.iter().filter_map(|p| p.pid).map(|pid| pid.to_string()).collect();
    let state = match (pids.is_empty(), status.listens) {
        (true, _) => "stopped".to_owned(),
        (false, true) => format!("listens ({})", pids.join(", ")),
        (false, false) => format!("does not listen ({})", pids.join(", ")),
    };
    format!(
        "\nreflector  {}  AS {REFLECTOR_ASN}  at {}  announces {}  {state}  {}\n  {}\n",
        status.program.name(),
        status.addresses.join(","),
        status.networks.join(","),
        status.namespace,
        status.look
    )
}

/// How to use a lab that was just brought up.
pub fn guide(status: &Status) -> String {
    let name = &status.plan.name;
    let option = if name == "lab" { String::new() } else { format!(" --name {name}") };
    let state = StateDir::new(name);
    let mut text = String::from("Try:\n");
    let _ = writeln!(text, "  export PATH={}:$PATH", state.bin().display());
    for (index, cluster) in status.clusters.iter().enumerate() {
        let number = index + 1;
        let _ = writeln!(text, "  export KUBECONFIG{number}={}", cluster.kubeconfig);
        let _ = writeln!(text, "  export SERVICECIDR{number}={}", cluster.service_cidrs.join(","));
    }
    text += "  kubectl --kubeconfig $KUBECONFIG1 get nodes,pods -A -o wide\n";
    text += "  kubectl --kubeconfig $KUBECONFIG1 create deployment web --image tombolo/web\n";
    if status.clusters.len() > 1 && status.reflector.is_none() {
        text += "Join the clusters, and the other way round with 1 and 2 exchanged:\n";
        text += "  for n in $(kubectl --kubeconfig $KUBECONFIG1 get no -o name | cut -d/ -f2); do\n";
        text +=
            "    kgctl --kubeconfig $KUBECONFIG1 showconf node $n --as-peer -o yaml --allowed-ips $SERVICECIDR1 |\n";
        text += "      kubectl --kubeconfig $KUBECONFIG2 apply -f -\n";
        text += "  done\n";
    }
    if let Some(reflector) = &status.reflector {
        let _ = writeln!(text, "The clusters know of each other by BGP:");
        let _ = writeln!(text, "  {}", reflector.look);
        let _ = writeln!(text, "  tombolo lab node{option} cluster1/n1 -- tombolo bgp neighbors");
        let _ = writeln!(text, "  tombolo lab node{option} cluster1/n1 -- ip route");
    }
    let _ = writeln!(text, "Look inside:  tombolo lab exec{option} cluster1/POD -- ip route");
    let _ = writeln!(text, "              tombolo lab node{option} cluster1/n1 -- wg");
    let _ = writeln!(text, "Remove it:    tombolo lab down{option}");
    text
}

fn row(node: &NodeStatus) -> [String; 5] {
    let mut agent = match (node.agent.pid, node.ready) {
        (None, _) => "stopped".to_owned(),
        (Some(pid), true) => format!("ready ({pid})"),
        (Some(pid), false) => format!("not ready ({pid})"),
    };
    if node.agent.restarts > 0 {
        let _ = write!(agent, ", {} restarts", node.agent.restarts);
    }
    if node.cut {
        agent += ", cut off";
    }
    [node.name.clone(), node.addresses.join(","), node.location.clone(), agent, node.namespace.clone()]
}

/// Columns as wide as their widest cell.
fn table<'a>(rows: impl Iterator<Item = &'a [String; 5]> + Clone) -> String {
    let mut widths = [0; 5];
    for row in rows.clone() {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        let _ = writeln!(text, "  {}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::control::ClusterStatus;
    use crate::daemon::DaemonState;
    use crate::plan::Reflector;
    use crate::plan::tests::plan;

    #[test]
    fn a_lab_is_told_in_a_line_a_node() {
        let node = |name: &str, ready, cut| NodeStatus {
            name: name.into(),
            namespace: format!("tl-lab-{name}"),
            addresses: vec!["172.18.1.11".into()],
            location: "cluster1".into(),
            cut,
            agent: DaemonState { pid: Some(7), restarts: u32::from(cut) },
            ready,
            log: String::new(),
        };
        let cluster = ClusterStatus {
            name: "cluster1".into(),
            kubeconfig: "/k".into(),
            api: vec!["https://127.0.0.1:1".into()],
            pod_cidrs: vec!["10.41.0.0/16".into()],
            service_cidrs: vec!["10.101.0.0/16".into()],
            nodes: vec![node("c1-n1", true, false), node("c1-n2", false, true)],
        };
        let status =
            Status { plan: plan(Underlay::Routed, Family::Ipv4), pid: 1, clusters: vec![cluster], reflector: None };
        assert_eq!(
            super::status(&status),
            "lab lab: routed underlay, ipv4, mesh granularity location, supervisor 1\n\n\
             cluster1  pods 10.41.0.0/16  services 10.101.0.0/16  API https://127.0.0.1:1\n  \
               NODE   ADDRESSES    LOCATION  AGENT                               NAMESPACE\n  \
               c1-n1  172.18.1.11  cluster1  ready (7)                           tl-lab-c1-n1\n  \
               c1-n2  172.18.1.11  cluster1  not ready (7), 1 restarts, cut off  tl-lab-c1-n2\n"
        );
        assert!(guide(&status).contains("export KUBECONFIG1=/k\n"));
        assert!(!guide(&status).contains("KUBECONFIG2"), "there is no second cluster to join");
    }

    #[test]
    fn a_reflector_is_told_with_how_to_look_at_it() {
        let process = |pid| DaemonState { pid, restarts: 0 };
        let mut status = ReflectorStatus {
            program: Reflector::Frr,
            namespace: "tl-lab-reflector".into(),
            addresses: vec!["172.18.0.2".into()],
            networks: vec!["1.0.0.2/32".into()],
            processes: vec![process(Some(7)), process(Some(8))],
            listens: true,
            log: String::new(),
            look: "vtysh".into(),
        };
        assert_eq!(
            reflector(&status),
            "\nreflector  frr  AS 64512  at 172.18.0.2  announces 1.0.0.2/32  listens (7, 8)  tl-lab-reflector\n  \
             vtysh\n"
        );
        status.processes = vec![process(None), process(None)];
        status.listens = false;
        assert!(reflector(&status).contains("  stopped  "));
    }
}
