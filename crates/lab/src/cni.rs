//! Running CNI plugins (Container Network Interface 1.0.0, sections 3 to 5) as a kubelet's container runtime does: the
//! configuration list of the node, each plugin with the result of the one before.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::process::Stdio;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::io::AsyncWriteExt;

use crate::requirements::CNI_DIR;
use crate::spawn::Sandbox;

/// The name of a pod's link.
const LINK: &str = "eth0";

/// Why a pod has no network.
#[derive(Debug, thiserror::Error)]
pub enum CniError {
    /// The agent has not written its configuration yet.
    #[error("there is no CNI configuration in {0}: the agent writes it when it is ready")]
    NoConfiguration(String),
    /// The configuration does not parse.
    #[error("the CNI configuration {file} is not usable: {why}")]
    Configuration {
        /// The file.
        file: String,
        /// What is wrong.
        why: String,
    },
    /// A plugin did not start.
    #[error("the CNI plugin {plugin} did not run: {source}")]
    Run {
        /// Its type.
        plugin: String,
        /// Why.
        source: io::Error,
    },
    /// A plugin said no.
    #[error("the CNI plugin {plugin} failed at {command}: {message}")]
    Plugin {
        /// Its type.
        plugin: String,
        /// `ADD` or `DEL`.
        command: &'static str,
        /// What it said.
        message: String,
    },
}

/// A network configuration list (section 1).
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfList {
    cni_version: String,
    name: String,
    plugins: Vec<Map<String, Value>>,
}

/// Which pod a plugin is run for.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// The network namespace of the node.
    pub node_namespace: String,
    /// The network namespace of the pod.
    pub pod_namespace: String,
    /// What names the pod to the plugins.
    pub container_id: String,
    /// The pod's namespace in Kubernetes and its name.
    pub pod: (String, String),
    /// What the runtime offers to plugins that declare the capability, such as `portMappings`.
    pub capabilities: Map<String, Value>,
}

impl ConfList {
    /// Reads the first configuration list of a folder, in the order of names, as runtimes do.
    ///
    /// # Errors
    /// There is none, or it doesn't parse.
    pub fn load(dir: &Path) -> Result<Self, CniError> {
        let mut files: Vec<_> =
            std::fs::read_dir(dir).map(|entries| entries.flatten().map(|e| e.path()).collect()).unwrap_or_default();
        files.retain(|file| file.extension().is_some_and(|e| e == "conflist"));
        files.sort();
        let Some(file) = files.first() else {
            return Err(CniError::NoConfiguration(dir.display().to_string()));
        };
        let wrong = |why: String| CniError::Configuration { file: file.display().to_string(), why };
        let list: Self = std::fs::read(file)
            .map_err(|e| wrong(e.to_string()))
            .and_then(|text| serde_json::from_slice(&text).map_err(|e| wrong(e.to_string())))?;
        if list.plugins.is_empty() { Err(wrong("it lists no plugin".into())) } else { Ok(list) }
    }

    /// Attaches a pod: runs `ADD` of each plugin and returns the last one's result.
    ///
    /// # Errors
    /// The plugin that failed. What those before it did is undone.
    pub async fn add(&self, attachment: &Attachment) -> Result<Value, CniError> {
        let mut result = None;
        for index in 0..self.plugins.len() {
            match self.run("ADD", index, attachment, result.as_ref()).await {
                Ok(value) => result = value.or(result),
                Err(error) => {
                    // The first failure is the one to tell.
                    let _ = self.delete(attachment, result.as_ref()).await;
                    return Err(error);
                }
            }
        }
        Ok(result.unwrap_or(Value::Null))
    }

    /// Detaches a pod: runs `DEL` of each plugin, the last first, with the result that [`add`](Self::add) gave.
    ///
    /// # Errors
    /// The first plugin that failed; the others are run all the same.
    pub async fn delete(&self, attachment: &Attachment, result: Option<&Value>) -> Result<(), CniError> {
        let mut outcome = Ok(());
        for index in (0..self.plugins.len()).rev() {
            let deleted = self.run("DEL", index, attachment, result).await;
            outcome = outcome.and(deleted.map(|_| ()));
        }
        outcome
    }

    async fn run(
        &self,
        command: &'static str,
        index: usize,
        attachment: &Attachment,
        previous: Option<&Value>,
    ) -> Result<Option<Value>, CniError> {
        let (plugin, request) = self.request(index, &attachment.capabilities, previous);
        let failed = |source| CniError::Run { plugin: plugin.clone(), source };
        let output = execute(command, &plugin, &request, attachment).await.map_err(failed)?;
        if output.status.success() {
            return Ok(serde_json::from_slice(&output.stdout).ok());
        }
        let message = error_message(&output.stdout, &output.stderr);
        Err(CniError::Plugin { plugin, command, message })
    }

    /// A plugin's type, and its configuration as it is handed to it (section 4, "Deriving execution configuration").
    fn request(&self, index: usize, capabilities: &Map<String, Value>, previous: Option<&Value>) -> (String, Value) {
        let mut config = self.plugins[index].clone();
        let plugin = config.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        config.insert("cniVersion".into(), json!(self.cni_version));
        config.insert("name".into(), json!(self.name));
        let declared = config.remove("capabilities").unwrap_or_default();
        let offered: Map<String, Value> = capabilities
            .iter()
            .filter(|(name, _)| declared.get(name.as_str()) == Some(&Value::Bool(true)))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if !offered.is_empty() {
            config.insert("runtimeConfig".into(), Value::Object(offered));
        }
        if let Some(previous) = previous {
            config.insert("prevResult".into(), previous.clone());
        }
        (plugin, Value::Object(config))
    }
}

/// The addresses in a result of `ADD` (section 5), in its order.
pub fn addresses(result: &Value) -> Vec<IpAddr> {
    let ips = result.get("ips").and_then(Value::as_array).into_iter().flatten();
    let nets = ips.filter_map(|ip| ip.get("address")?.as_str()?.parse::<IpNet>().ok());
    nets.map(|net| net.addr()).collect()
}

async fn execute(
    command: &str,
    plugin: &str,
    request: &Value,
    attachment: &Attachment,
) -> io::Result<std::process::Output> {
    if plugin.is_empty() || plugin.contains('/') {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a plugin's type is the name of a program"));
    }
    let mut program = Sandbox::network(&attachment.node_namespace)?.command(Path::new(CNI_DIR).join(plugin));
    let (namespace, name) = &attachment.pod;
    let id = &attachment.container_id;
    program
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", id)
        .env("CNI_NETNS", crate::netns::path(&attachment.pod_namespace))
        .env("CNI_IFNAME", LINK)
        .env("CNI_PATH", CNI_DIR)
        .env(
            "CNI_ARGS",
            format!(
                "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};K8S_POD_INFRA_CONTAINER_ID={id}"
            ),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = tokio::process::Command::from(program).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A plugin that does not read its configuration says why on standard output.
        let _ = stdin.write_all(request.to_string().as_bytes()).await;
    }
    child.wait_with_output().await
}

/// A plugin fails with a JSON object on standard output (section 5, "Error"); some only write to standard error.
fn error_message(stdout: &[u8], stderr: &[u8]) -> String {
    let error: Value = serde_json::from_slice(stdout).unwrap_or_default();
    let field = |name| error.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    match (field("msg"), field("details")) {
        (Some(message), Some(details)) => format!("{message}: {details}"),
        (Some(message), None) => message.to_owned(),
        _ => String::from_utf8_lossy(if stdout.is_empty() { stderr } else { stdout }).trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn list() -> ConfList {
        serde_json::from_value(json!({
            "cniVersion": "0.4.0",
            "name": "kilo",
            "plugins": [
                {"type": "bridge", "bridge": "kube-bridge", "ipam": {"type": "host-local"}},
                {"type": "portmap", "snat": true, "capabilities": {"portMappings": true, "bandwidth": false}},
            ],
        }))
        .unwrap()
    }

    #[test]
    fn each_plugin_gets_the_name_the_result_before_it_and_only_what_it_declares() {
        let offered = json!({"portMappings": [{"hostPort": 80}], "bandwidth": {}});
        let offered = offered.as_object().unwrap();
        let (plugin, request) = list().request(0, offered, None);
        assert_eq!(plugin, "bridge");
        assert_eq!(
            request,
            json!({"type": "bridge", "bridge": "kube-bridge", "ipam": {"type": "host-local"},
                   "cniVersion": "0.4.0", "name": "kilo"})
        );
        let previous = json!({"ips": []});
        let (plugin, request) = list().request(1, offered, Some(&previous));
        assert_eq!(plugin, "portmap");
        assert_eq!(
            request,
            json!({"type": "portmap", "snat": true, "cniVersion": "0.4.0", "name": "kilo",
                   "runtimeConfig": {"portMappings": [{"hostPort": 80}]}, "prevResult": {"ips": []}})
        );
    }

    #[test]
    fn addresses_are_taken_in_their_order() {
        let result = json!({"ips": [{"version": "4", "address": "10.41.1.2/24"}, {"address": "fd40:1::2/64"}]});
        assert_eq!(addresses(&result), ["10.41.1.2", "fd40:1::2"].map(|a| a.parse::<IpAddr>().unwrap()));
        assert!(addresses(&Value::Null).is_empty());
    }

    #[test]
    fn the_first_list_by_name_is_taken() {
        let dir = std::env::temp_dir().join(format!("tombolo-cni-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        assert!(matches!(ConfList::load(&dir), Err(CniError::NoConfiguration(_))));
        for (file, name) in [("20-b.conflist", "b"), ("10-a.conflist", "a"), ("00-notes.txt", "c")] {
            let text = json!({"cniVersion": "1.0.0", "name": name, "plugins": [{"type": "bridge"}]});
            std::fs::write(dir.join(file), text.to_string()).unwrap();
        }
        assert_eq!(ConfList::load(&dir).unwrap().name, "a");
        std::fs::write(dir.join("00-broken.conflist"), "{").unwrap();
        let error = ConfList::load(&dir).unwrap_err().to_string();
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(error.contains("00-broken.conflist"), "{error}");
    }

    #[test]
    fn what_a_plugin_says_is_told() {
        assert_eq!(error_message(br#"{"code": 7, "msg": "no", "details": "range full"}"#, b""), "no: range full");
        assert_eq!(error_message(b"", b"panic\n"), "panic");
    }
}
