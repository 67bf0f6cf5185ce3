//! Objects as people write them.

use serde_json::{Value, json};

use crate::harness::Cluster;

/// A Service with the port `http` 80 and no selector; `more` is merged into its `spec`.
pub fn service(namespace: &str, name: &str, more: Value) -> Value {
    let mut spec = json!({"ports": [{"name": "http", "port": 80, "targetPort": 8080}]});
    merge(&mut spec, more);
    json!({"kind": "Service", "metadata": {"namespace": namespace, "name": name}, "spec": spec})
}

/// The slice `NAME-x` of a Service, with the port `http` 8080.
pub fn slice(namespace: &str, service: &str, addresses: &[&str]) -> Value {
    let is_v6 = addresses.iter().any(|address| address.contains(':'));
    let endpoints: Vec<Value> =
        addresses.iter().map(|address| json!({"addresses": [address], "conditions": {"ready": true}})).collect();
    json!({
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": namespace,
            "name": format!("{service}-{}", if is_v6 { "x6" } else { "x" }),
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": if is_v6 { "IPv6" } else { "IPv4" },
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints,
    })
}

pub fn export(namespace: &str, name: &str) -> Value {
    json!({"kind": "ServiceExport", "metadata": {"namespace": namespace, "name": name}})
}

/// A Service with endpoints.
pub async fn serve(cluster: &Cluster, namespace: &str, name: &str, addresses: &[&str]) {
    cluster.put(service(namespace, name, json!({}))).await;
    cluster.put(slice(namespace, name, addresses)).await;
}

/// A Service with endpoints that is exported.
pub async fn serve_all(cluster: &Cluster, namespace: &str, name: &str, addresses: &[&str]) {
    serve(cluster, namespace, name, addresses).await;
    cluster.put(export(namespace, name)).await;
}

fn merge(object: &mut Value, more: Value) {
    let (Value::Object(object), Value::Object(more)) = (object, more) else { return };
    for (name, value) in more {
        if value.is_null() {
            object.remove(&name);
        } else {
            object.insert(name, value);
        }
    }
}
