//! The cluster's controller: the resources that it looks after, and what runs it.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::json;
use tombolo_api::about::{self, ClusterProperty, ClusterPropertySpec};
use tombolo_api::mcs;

use crate::plan::{ClusterPlan, Plan};
use crate::state::StateDir;

/// The namespace that it runs in.
pub const NAMESPACE: &str = "tombolo-system";
/// The name of its Deployment.
pub const NAME: &str = "tombolo-controller";
/// Services with this label are mirrored: all others could as well be, but a lab is for looking at one thing at a time.
pub const IMPORT_SELECTOR: &str = "mirror=true";
/// Where it answers `/readyz` and `/metrics`.
const PORT: u16 = 8080;

/// The resources of `multicluster.x-k8s.io` and `about.k8s.io`.
///
/// # Errors
/// None, as long as their versions go together.
pub fn definitions() -> anyhow::Result<[CustomResourceDefinition; 3]> {
    Ok([mcs::service_exports_crd()?, mcs::service_imports_crd()?, about::crd()])
}

/// What says which cluster of the ClusterSet it is: its name.
pub fn identity(cluster: ClusterPlan<'_>) -> ClusterProperty {
    ClusterProperty::new(about::CLUSTER_ID, ClusterPropertySpec { value: cluster.name() })
}

/// The Namespace `tombolo-system` and the Deployment `tombolo-controller` in it.
///
/// # Errors
/// None, as long as these types take what is written here.
pub fn objects(plan: &Plan, cluster: ClusterPlan<'_>, state: &StateDir) -> serde_json::Result<(Namespace, Deployment)> {
    let labels = json!({"app.kubernetes.io/name": NAME});
    let mut command = vec![state.program().display().to_string(), "controller".to_owned()];
    let mut flag = |name: &str, value: String| command.push(format!("--{name}={value}"));
    flag("kubeconfig", state.inner_kubeconfig(&cluster.name()).display().to_string());
    for other in plan.all_clusters().filter(|other| other.number != cluster.number) {
        let name = other.name();
        flag("source", format!("{name}={}", state.source_kubeconfig(&name).display()));
    }
    flag("import-selector", IMPORT_SELECTOR.to_owned());
    flag("own-namespace", NAMESPACE.to_owned());
    flag("listen", format!("[::]:{PORT}"));
    if plan.clusterset_cidr {
        let networks: Vec<String> = plan.clusterset_cidrs().iter().map(ToString::to_string).collect();
        flag("clusterset-cidr", networks.join(","));
    }
    let deployment = json!({
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "terminationGracePeriodSeconds": 5,
                    // It must not wait for names that are answered by what it writes.
                    "dnsPolicy": "Default",
                    "containers": [{
                        "name": "controller",
                        "image": "tombolo",
                        "command": command,
                        "ports": [{"name": "http", "containerPort": PORT}],
                        "readinessProbe": {"httpGet": {"path": "/readyz", "port": PORT}, "periodSeconds": 5},
                    }],
                },
            },
        },
    });
    let namespace = json!({"metadata": {"name": NAMESPACE}});
    Ok((serde_json::from_value(namespace)?, serde_json::from_value(deployment)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::plan::tests::plan;
    use crate::plan::{Family, Underlay};

    fn command(plan: &Plan) -> String {
        let (_, deployment) = objects(plan, plan.cluster(2), &StateDir::new("lab")).unwrap();
        let pod = deployment.spec.template.spec.unwrap();
        pod.containers[0].command.clone().unwrap().join(" ")
    }

    #[test]
    fn the_other_clusters_are_the_sources() {
        let mut plan = plan(Underlay::Routed, Family::Dual);
        plan.clusters = 3;
        let words = command(&plan);
        assert!(words.contains(" --source=cluster1=/run/tombolo-lab/lab/cluster1.source.kubeconfig "), "{words}");
        assert!(words.contains(" --source=cluster3=/run/tombolo-lab/lab/cluster3.source.kubeconfig "), "{words}");
        assert_eq!(words.matches("--source=").count(), 2, "{words}");
        assert!(!words.contains("clusterset-cidr"), "{words}");
    }

    #[test]
    fn imports_can_have_addresses_of_their_own() {
        let mut plan = plan(Underlay::Routed, Family::Dual);
        plan.clusterset_cidr = true;
        let words = command(&plan);
        assert!(words.ends_with(" --clusterset-cidr=10.255.0.0/16,fdff::/112"), "{words}");
    }

    #[test]
    fn a_cluster_is_known_by_its_name() {
        let plan = plan(Underlay::Flat, Family::Ipv4);
        let property = identity(plan.cluster(2));
        assert_eq!(property.metadata.name.as_deref(), Some("cluster.clusterset.k8s.io"));
        assert_eq!(property.spec.value, "cluster2");
    }
}
