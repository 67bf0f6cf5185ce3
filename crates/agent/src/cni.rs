//! The CNI configuration list that gives pods their addresses: `bridge`, `host-local` and `portmap`.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use serde_json::{Value, json};

/// The bridge that the node's pods are on, by the name that Kilo's manifests give it.
pub const BRIDGE: &str = "kube-bridge";

/// Brings the file at `path` to the node's pod CIDRs. A file that is there keeps all but its ranges, as with Kilo.
/// Returns whether it was written.
///
/// # Errors
/// The file cannot be written. One that does not parse is replaced.
pub fn ensure(path: &Path, subnets: &[IpNet], mtu: u32, data_dir: Option<&Path>) -> Result<bool> {
    let present = std::fs::read_to_string(path).ok();
    let parsed = present.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
    let wanted =
        parsed.as_ref().and_then(|list| with_ranges(list, subnets)).unwrap_or_else(|| new_list(subnets, mtu, data_dir));
    if parsed.as_ref() == Some(&wanted) {
        return Ok(false);
    }
    write(path, &wanted).with_context(|| format!("cannot write the CNI configuration {}", path.display()))?;
    Ok(true)
}

/// Written aside and renamed: a container runtime that looks in between sees the old or the new one.
fn write(path: &Path, list: &Value) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let aside = path.with_extension("new");
    let mut file = std::fs::File::create(&aside)?;
    writeln!(file, "{list:#}")?;
    file.sync_all()?;
    std::fs::rename(&aside, path)
}

fn with_ranges(list: &Value, subnets: &[IpNet]) -> Option<Value> {
    let mut list = list.clone();
    let plugins = list.get_mut("plugins")?.as_array_mut()?;
    let ipam = plugins.iter_mut().find_map(|plugin| plugin.get_mut("ipam")?.as_object_mut())?;
    ipam.insert("ranges".into(), ranges(subnets));
    Some(list)
}

fn ranges(subnets: &[IpNet]) -> Value {
    subnets.iter().map(|subnet| json!([{ "subnet": subnet.to_string() }])).collect()
}

fn new_list(subnets: &[IpNet], mtu: u32, data_dir: Option<&Path>) -> Value {
    let mut ipam = json!({ "type": "host-local", "ranges": ranges(subnets) });
    if let Some(folder) = data_dir {
        ipam["dataDir"] = json!(folder);
    }
    json!({
        "cniVersion": "0.4.0",
        "name": "kilo",
        "plugins": [
            {
                "name": "kubernetes",
                "type": "bridge",
                "bridge": BRIDGE,
                "isDefaultGateway": true,
                "forceAddress": true,
                "hairpinMode": true,
                "mtu": mtu,
                "ipam": ipam,
            },
            { "type": "portmap", "snat": true, "capabilities": { "portMappings": true } },
        ],
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn subnets(nets: &[&str]) -> Vec<IpNet> {
        nets.iter().map(|n| n.parse().unwrap()).collect()
    }

    #[test]
    fn a_list_is_made_once_and_its_ranges_follow() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("net.d/10-kilo.conflist");
        assert!(ensure(&path, &subnets(&["10.1.0.0/24"]), 1420, None).unwrap());
        assert!(!ensure(&path, &subnets(&["10.1.0.0/24"]), 1420, None).unwrap());
        assert!(ensure(&path, &subnets(&["10.1.0.0/24", "fd00::/64"]), 1420, None).unwrap());
        let list: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let ranges = &list["plugins"][0]["ipam"]["ranges"];
        assert_eq!(ranges, &json!([[{ "subnet": "10.1.0.0/24" }], [{ "subnet": "fd00::/64" }]]));
    }

    #[test]
    fn what_somebody_wrote_stays_but_for_the_ranges() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("10-kilo.conflist");
        let theirs =
            json!({ "name": "mine", "plugins": [{ "type": "bridge", "mtu": 9000, "ipam": { "type": "host-local" } }] });
        std::fs::write(&path, theirs.to_string()).unwrap();
        assert!(ensure(&path, &subnets(&["10.1.0.0/24"]), 1420, None).unwrap());
        let list: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(list["name"], "mine");
        assert_eq!(list["plugins"][0]["mtu"], 9000);
    }

    #[test]
    fn half_a_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("10-kilo.conflist");
        std::fs::write(&path, "{\"plugins\": [").unwrap();
        assert!(ensure(&path, &subnets(&["10.1.0.0/24"]), 1420, None).unwrap());
        assert!(serde_json::from_str::<Value>(&std::fs::read_to_string(&path).unwrap()).is_ok());
    }
}
