//! The definition of the Peer resource for the API server.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

use super::Peer;

/// The CustomResourceDefinition `peers.kilo.squat.ai`.
///
/// Its schema accepts every Peer that Kilo's agent accepts, and refuses at the door what Kilo's agent would refuse
/// without a word later.
pub fn crd() -> CustomResourceDefinition {
    Peer::crd()
}

/// [`crd`] as the YAML manifest in `deploy/crds/`.
///
/// # Errors
/// Where the definition cannot be written as YAML.
pub fn crd_yaml() -> Result<String, serde_yaml_ng::Error> {
    serde_yaml_ng::to_string(&crd())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;

    fn manifest() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/crds/peers.kilo.squat.ai.yaml")
    }

    fn schema() -> Value {
        let crd = serde_json::to_value(crd()).unwrap();
        crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
    }

    /// `TOMBOLO_WRITE_CRDS=1 cargo test -p tombolo-api` writes the file anew.
    #[test]
    fn the_manifest_is_the_definition() {
        let yaml = crd_yaml().unwrap();
        if std::env::var_os("TOMBOLO_WRITE_CRDS").is_some() {
            fs::create_dir_all(manifest().parent().unwrap()).unwrap();
            fs::write(manifest(), &yaml).unwrap();
        }
        assert_eq!(fs::read_to_string(manifest()).unwrap(), yaml);
    }

    #[test]
    fn the_names_are_kilos() {
        let crd = serde_json::to_value(crd()).unwrap();
        assert_eq!(crd["metadata"]["name"], "peers.kilo.squat.ai");
        assert_eq!(crd["spec"]["scope"], "Cluster");
        assert_eq!(crd["spec"]["versions"][0]["name"], "v1alpha1");
        assert_eq!(crd["spec"]["versions"][0]["subresources"], json!({"status": {}}));
    }

    #[test]
    fn the_schema_has_kilos_fields_and_says_what_they_must_be() {
        let spec = schema()["properties"]["spec"].clone();
        assert_eq!(spec["required"], json!(["allowedIPs", "publicKey"]));
        let fields: Vec<&String> = spec["properties"].as_object().unwrap().keys().collect();
        assert_eq!(fields, ["allowedIPs", "endpoint", "persistentKeepalive", "presharedKey", "publicKey"]);
        let ips = &spec["properties"]["allowedIPs"];
        assert_eq!((&ips["minItems"], &ips["type"]), (&json!(1), &json!("array")));
        assert!(ips["items"]["pattern"].is_string() && ips["items"]["maxLength"].is_number());
        assert!(ips["x-kubernetes-validations"][0]["rule"].as_str().unwrap().contains("isCIDR"));
        let endpoint = &spec["properties"]["endpoint"]["properties"];
        assert_eq!((&endpoint["port"]["minimum"], &endpoint["port"]["maximum"]), (&json!(1.0), &json!(65535.0)));
        assert_eq!(endpoint["dnsOrIP"]["x-kubernetes-validations"].as_array().unwrap().len(), 1);
        assert!(spec["properties"]["publicKey"]["pattern"].is_string());
    }

    #[test]
    fn kilos_objects_are_read_and_written_back() {
        for spec in [
            json!({"allowedIPs": ["10.5.0.1/32"], "publicKey": "XuwNxBmqgze/cl8Cb9qceMHLHGQu6v+dbhES83eD6UI="}),
            json!({
                "allowedIPs": ["10.6.0.0/24"], "endpoint": {"dnsOrIP": {"dns": "vpn.example.com"}, "port": 51820},
                "persistentKeepalive": 10_000_000_000_i64,
                "presharedKey": "XuwNxBmqgze/cl8Cb9qceMHLHGQu6v+dbhES83eD6UI=",
                "publicKey": "XuwNxBmqgze/cl8Cb9qceMHLHGQu6v+dbhES83eD6UI=",
            }),
        ] {
            let object = json!({"apiVersion": "kilo.squat.ai/v1alpha1", "kind": "Peer", "metadata": {"name": "p"}, "spec": spec});
            let peer: Peer = serde_json::from_value(object.clone()).unwrap();
            assert_eq!(serde_json::to_value(&peer).unwrap(), object);
        }
    }
}
