//! What is there from the start.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Shared;
use crate::resources::Gvr;

/// Makes the namespaces and the Service that every cluster has, where they are missing.
pub(super) fn objects(shared: &Shared) {
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        ensure(
            shared,
            &Gvr::new("", "v1", "namespaces"),
            &json!({
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
                "spec": {"finalizers": ["kubernetes"]},
                "status": {"phase": "Active"},
            }),
        );
    }
    own_service(shared);
}

/// The Service `default/kubernetes`, by which pods find the API server; it is there again when somebody deletes it.
pub(super) fn own_service(shared: &Shared) {
    let (Some(advertised), Some(address)) = (shared.advertise, shared.services.first_address()) else { return };
    let (port, ip) = (advertised.port(), advertised.ip());
    let family = |ip: std::net::IpAddr| if ip.is_ipv4() { "IPv4" } else { "IPv6" };
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    let services = Gvr::new("", "v1", "services");
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {
            "clusterIP": address,
            "clusterIPs": [address],
            "internalTrafficPolicy": "Cluster",
            "ipFamilies": [family(address)],
            "ipFamilyPolicy": "SingleStack",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}],
            "sessionAffinity": "None",
            "type": "ClusterIP",
        },
        "status": {"loadBalancer": {}},
    });
    shared.services.note(&service);
    ensure(shared, &services, &service);
    let skip_mirror = json!({"endpointslice.kubernetes.io/skip-mirror": "true"});
    replace(
        shared,
        &Gvr::new("", "v1", "endpoints"),
        &json!({
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": {"name": "kubernetes", "namespace": "default", "labels": skip_mirror},
            "subsets": [{"addresses": [{"ip": ip}], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}],
        }),
    );
    replace(
        shared,
        &Gvr::new("discovery.k8s.io", "v1", "endpointslices"),
        &json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}},
            "addressType": family(ip),
            "endpoints": [{"addresses": [ip], "conditions": {"ready": true}}],
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        }),
    );
}

/// Starts the controllers.
pub(super) fn controllers(shared: &Arc<Shared>, root_ca: String) {
    let shutdown = shared.shutdown.clone();
    let run = crate::controllers::run(shared.store.clone(), root_ca, async move { shutdown.cancelled().await });
    tokio::spawn(run);
}

fn ensure(shared: &Shared, gvr: &Gvr, object: &Value) {
    // One that is there already is what is wanted.
    let _ = shared.store.create(gvr, object.clone());
}

/// Makes an object, or brings one of a start before up to date.
fn replace(shared: &Shared, gvr: &Gvr, object: &Value) {
    let (namespace, name) = (crate::object::namespace(object), crate::object::name(object));
    if shared.store.create(gvr, object.clone()).is_ok() {
        return;
    }
    let updated = shared.store.modify(gvr, namespace, name, |known| {
        for (field, value) in object.as_object().into_iter().flatten().filter(|(field, _)| *field != "metadata") {
            known[field.as_str()] = value.clone();
        }
        Ok(true)
    });
    if let Err(error) = updated {
        tracing::error!(%error, "the endpoints of default/kubernetes are not up to date");
    }
}
