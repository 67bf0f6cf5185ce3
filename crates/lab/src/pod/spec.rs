//! What a container runs and sees, out of its Pod: command, environment, name resolution. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, EnvVar, Pod};
use serde_json::{Map, Value, json};

/// The image of the built-in web server.
pub const WEB_IMAGE: &str = "tombolo/web";
/// The image of the built-in program that does nothing until it is told to end.
pub const PAUSE_IMAGE: &str = "tombolo/pause";

/// What a container learns about where it is.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// The node's name.
    pub node: String,
    /// The node's addresses.
    pub host_ips: Vec<IpAddr>,
    /// The pod's addresses.
    pub pod_ips: Vec<IpAddr>,
    /// The address of the Service `kubernetes`.
    pub kubernetes: Option<IpAddr>,
    /// The addresses of the cluster's DNS.
    pub dns: Vec<IpAddr>,
    /// The `tombolo` program, which the built-in images run.
    pub program: String,
}

/// A container cannot be made (`CreateContainerConfigError`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Neither a command nor an image that the lab knows.
    #[error(
        "the lab has no images: give the container {0:?} a `command` of this machine, or the image {WEB_IMAGE} or \
         {PAUSE_IMAGE} (it has {1:?})"
    )]
    Image(String, String),
    /// Something of Kubernetes that the lab does not do.
    #[error("the lab does not do {0}: leave it out")]
    Unsupported(String),
    /// A reference to a field that there is not.
    #[error("the environment variable {0} takes its value from the field {1:?}, which the lab does not know")]
    Field(String, String),
}

/// What to run: `command` and `args` of the container, or what its built-in image runs; `$(VAR)` is expanded.
///
/// # Errors
/// The lab has no such image.
pub fn command(container: &Container, env: &[(String, String)], program: &str) -> Result<Vec<String>, SpecError> {
    let image = container.image.as_deref().unwrap_or_default();
    let given = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let mut words: Vec<String> = given(&container.command).iter().map(|word| expand(word, env)).collect();
    if words.is_empty() {
        words = builtin(image, program).ok_or_else(|| SpecError::Image(container.name.clone(), image.to_owned()))?;
    }
    words.extend(given(&container.args).iter().map(|word| expand(word, env)));
    Ok(words)
}

fn builtin(image: &str, program: &str) -> Option<Vec<String>> {
    let words: &[&str] = match image.split([':', '@']).next()? {
        WEB_IMAGE => &["lab", "web"],
        PAUSE_IMAGE => return Some(["sleep", "infinity"].map(String::from).to_vec()),
        _ => return None,
    };
    Some(std::iter::once(&program).chain(words).map(ToString::to_string).collect())
}

/// The environment of a container: where it is, then its own variables, each of which may refer to those before it.
///
/// # Errors
/// A variable that takes its value from where the lab can't get it.
pub fn environment(pod: &Pod, container: &Container, place: &Place) -> Result<Vec<(String, String)>, SpecError> {
    if container.env_from.as_ref().is_some_and(|list| !list.is_empty()) {
        return Err(SpecError::Unsupported("envFrom".into()));
    }
    let mut env = vec![
        ("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
        ("HOSTNAME".to_owned(), hostname(pod, place)),
        ("POD_NAME".to_owned(), pod.metadata.name.clone().unwrap_or_default()),
        ("NODE_NAME".to_owned(), place.node.clone()),
    ];
    if let Some(address) = place.kubernetes {
        env.push(("KUBERNETES_SERVICE_HOST".to_owned(), address.to_string()));
        env.push(("KUBERNETES_SERVICE_PORT".to_owned(), "443".to_owned()));
    }
    for variable in container.env.iter().flatten() {
        let value = variable_value(variable, pod, place, &env)?;
        env.retain(|(name, _)| *name != variable.name);
        env.push((variable.name.clone(), value));
    }
    Ok(env)
}

fn variable_value(variable: &EnvVar, pod: &Pod, place: &Place, env: &[(String, String)]) -> Result<String, SpecError> {
    let Some(source) = &variable.value_from else {
        return Ok(expand(variable.value.as_deref().unwrap_or_default(), env));
    };
    let Some(reference) = &source.field_ref else {
        return Err(SpecError::Unsupported(format!("valueFrom other than fieldRef (variable {})", variable.name)));
    };
    field(&reference.field_path, pod, place)
        .ok_or_else(|| SpecError::Field(variable.name.clone(), reference.field_path.clone()))
}

/// The fields of the downward API.
fn field(path: &str, pod: &Pod, place: &Place) -> Option<String> {
    let list = |addresses: &[IpAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let first = |addresses: &[IpAddr]| addresses.first().map(ToString::to_string);
    let of = |text: &Option<String>| Some(text.clone().unwrap_or_default());
    let keyed = |map: &Option<BTreeMap<String, String>>, key: &str| {
        Some(map.as_ref().and_then(|m| m.get(key).cloned()).unwrap_or_default())
    };
    match path {
        "metadata.name" => of(&pod.metadata.name),
        "metadata.namespace" => of(&pod.metadata.namespace),
        "metadata.uid" => of(&pod.metadata.uid),
        "spec.nodeName" => Some(place.node.clone()),
        "spec.serviceAccountName" => of(&pod.spec.as_ref()?.service_account_name),
        "status.hostIP" => first(&place.host_ips),
        "status.hostIPs" => Some(list(&place.host_ips)),
        "status.podIP" => first(&place.pod_ips),
        "status.podIPs" => Some(list(&place.pod_ips)),
        _ => {
            let key = |prefix| path.strip_prefix(prefix).and_then(|rest: &str| rest.strip_suffix("']"));
            if let Some(label) = key("metadata.labels['") {
                return keyed(&pod.metadata.labels, label);
            }
            keyed(&pod.metadata.annotations, key("metadata.annotations['")?)
        }
    }
}

/// Replaces `$(NAME)` by the variable's value; `$$` is a `$`, and a name that is not set stays as it is written.
pub fn expand(text: &str, env: &[(String, String)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let reference = rest.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        let Some((name, after)) = reference else {
            out.push('$');
            continue;
        };
        match env.iter().rev().find(|(known, _)| known == name) {
            Some((_, value)) => out.push_str(value),
            None => {
                let _ = write!(out, "$({name})");
            }
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The pod's host name.
pub fn hostname(pod: &Pod, place: &Place) -> String {
    let Some(spec) = &pod.spec else { return String::new() };
    if spec.host_network == Some(true) {
        return place.node.clone();
    }
    let name = spec.hostname.as_ref().or(pod.metadata.name.as_ref());
    // The kernel takes 64 bytes; a kubelet cuts at 63.
    name.map(|n| n.chars().take(63).collect::<String>().trim_end_matches(['-', '.']).to_owned()).unwrap_or_default()
}

/// The pod's `/etc/resolv.conf`: the cluster's DNS, or the machine's (`machine`) where the policy says so.
pub fn resolv_conf(pod: &Pod, place: &Place, machine: &str) -> String {
    let spec = pod.spec.clone().unwrap_or_default();
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let host_network = spec.host_network == Some(true);
    let own = spec.dns_config.unwrap_or_default();
    let mut servers: Vec<String> = Vec::new();
    let mut searches: Vec<String> = Vec::new();
    let mut options: Vec<String> = Vec::new();
    match policy {
        "None" => {}
        "ClusterFirst" if !host_network => cluster_dns(pod, place, &mut servers, &mut searches, &mut options),
        "ClusterFirstWithHostNet" => cluster_dns(pod, place, &mut servers, &mut searches, &mut options),
        _ => return machine.to_owned(),
    }
    servers.extend(own.nameservers.unwrap_or_default());
    searches.extend(own.searches.unwrap_or_default());
    options.extend(own.options.unwrap_or_default().into_iter().filter_map(|option| {
        match (option.name, option.value) {
            (Some(name), Some(value)) => Some(format!("{name}:{value}")),
            (name, _) => name,
        }
    }));
    let mut text = String::new();
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    for (word, list) in [("search", searches), ("options", options)] {
        if !list.is_empty() {
            let _ = writeln!(text, "{word} {}", list.join(" "));
        }
    }
    text
}

fn cluster_dns(
    pod: &Pod,
    place: &Place,
    servers: &mut Vec<String>,
    searches: &mut Vec<String>,
    options: &mut Vec<String>,
) {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    servers.extend(place.dns.iter().map(ToString::to_string));
    searches.extend([format!("{namespace}.svc.cluster.local"), "svc.cluster.local".into(), "cluster.local".into()]);
    options.push("ndots:5".into());
}

/// The pod's `/etc/hosts`.
pub fn hosts(pod: &Pod, place: &Place) -> String {
    let mut text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    let name = hostname(pod, place);
    for address in &place.pod_ips {
        let _ = writeln!(text, "{address}\t{name}");
    }
    let aliases = pod.spec.as_ref().and_then(|spec| spec.host_aliases.as_ref());
    for alias in aliases.into_iter().flatten() {
        let _ = writeln!(text, "{}\t{}", alias.ip, alias.hostnames.clone().unwrap_or_default().join("\t"));
    }
    text
}

/// What the pod asks of plugins that can do it: `portMappings`, for ports with a `hostPort`.
pub fn capabilities(pod: &Pod) -> Map<String, Value> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    let mappings: Vec<Value> = ports
        .filter_map(|port| {
            let protocol = port.protocol.as_deref().unwrap_or("TCP").to_lowercase();
            let mut mapping =
                json!({"hostPort": port.host_port?, "containerPort": port.container_port, "protocol": protocol});
            if let Some(ip) = port.host_ip.as_ref().filter(|ip| !ip.is_empty()) {
                mapping["hostIP"] = json!(ip);
            }
            Some(mapping)
        })
        .collect();
    if mappings.is_empty() { Map::new() } else { Map::from_iter([("portMappings".to_owned(), Value::Array(mappings))]) }
}

/// Checks that the lab can do all that matters of the pod.
///
/// # Errors
/// The first thing that it can't.
pub fn check(pod: &Pod) -> Result<(), SpecError> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    if spec.init_containers.as_ref().is_some_and(|list| !list.is_empty()) {
        return Err(SpecError::Unsupported("initContainers".into()));
    }
    let mounts = spec.containers.iter().flat_map(|c| c.volume_mounts.iter().flatten());
    // What a real API server adds to every pod is not something that was asked for.
    match mounts.into_iter().find(|m| m.mount_path != "/var/run/secrets/kubernetes.io/serviceaccount") {
        Some(mount) => Err(SpecError::Unsupported(format!("volumeMounts ({})", mount.mount_path))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn pod(spec: Value) -> Pod {
        let metadata = json!({"name": "web-0", "namespace": "shop", "labels": {"app": "web"}});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    fn place() -> Place {
        Place {
            node: "c1-n1".into(),
            host_ips: vec!["172.18.1.11".parse().unwrap()],
            pod_ips: vec!["10.41.1.2".parse().unwrap(), "fd40:1:0:1::2".parse().unwrap()],
            kubernetes: Some("10.101.0.1".parse().unwrap()),
            dns: vec!["10.101.0.10".parse().unwrap()],
            program: "/lab/tombolo".into(),
        }
    }

    #[test]
    fn variables_are_expanded_as_kubernetes_does() {
        let env = [("A".to_owned(), "1".to_owned()), ("B".to_owned(), "$(A)".to_owned())];
        for (text, expected) in [
            ("$(A)", "1"),
            ("x$(A)y$(B)z", "x1y$(A)z"),
            ("$$(A)", "$(A)"),
            ("$(C)", "$(C)"),
            ("$(A", "$(A"),
            ("$", "$"),
            ("$A", "$A"),
            ("$$$(A)", "$1"),
            ("", ""),
        ] {
            assert_eq!(expand(text, &env), expected, "{text}");
        }
    }

    #[test]
    fn a_command_is_the_containers_or_the_built_in_images() {
        let run = |container: Value| {
            let container: Container = serde_json::from_value(container).unwrap();
            command(&container, &[("PORT".into(), "81".into())], "/lab/tombolo")
        };
        let web = json!({"name": "c", "image": "tombolo/web:1", "args": ["--port", "$(PORT)"]});
        assert_eq!(run(web).unwrap(), ["/lab/tombolo", "lab", "web", "--port", "81"]);
        let own = json!({"name": "c", "image": "any", "command": ["echo"], "args": ["a b"]});
        assert_eq!(run(own).unwrap(), ["echo", "a b"]);
        let unknown = json!({"name": "c", "image": "nginx"});
        assert_eq!(run(unknown), Err(SpecError::Image("c".into(), "nginx".into())));
    }

    #[test]
    fn the_environment_says_where_the_container_is() {
        let pod = pod(json!({"containers": [{"name": "c", "env": [
            {"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "URL", "value": "http://$(IPS)/$(ME)"},
            {"name": "IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}},
        ]}]}));
        let env = environment(&pod, &pod.spec.as_ref().unwrap().containers[0], &place()).unwrap();
        let value = |name: &str| env.iter().find(|(n, _)| n == name).unwrap().1.as_str();
        assert_eq!(value("HOSTNAME"), "web-0");
        assert_eq!(value("KUBERNETES_SERVICE_HOST"), "10.101.0.1");
        assert_eq!(value("APP"), "web");
        assert_eq!(value("URL"), "http://$(IPS)/web-0");
        assert_eq!(value("IPS"), "10.41.1.2,fd40:1:0:1::2");
    }

    #[test]
    fn a_field_that_there_is_not_is_named() {
        let pod = pod(json!({"containers": [{"name": "c", "env": [
            {"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "spec.colour"}}}]}]}));
        let error = environment(&pod, &pod.spec.as_ref().unwrap().containers[0], &place()).unwrap_err();
        assert_eq!(error, SpecError::Field("X".into(), "spec.colour".into()));
    }

    #[test]
    fn names_are_looked_up_in_the_cluster_first() {
        let cluster = "nameserver 10.101.0.10\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\n\
                       options ndots:5\n";
        let machine = "nameserver 9.9.9.9\n";
        for (spec, expected) in [
            (json!({"containers": []}), cluster),
            (json!({"containers": [], "dnsPolicy": "Default"}), machine),
            (json!({"containers": [], "hostNetwork": true}), machine),
            (json!({"containers": [], "hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}), cluster),
            (
                json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {"nameservers": ["::1"], "options":
                [{"name": "timeout", "value": "1"}, {"name": "rotate"}]}}),
                "nameserver ::1\noptions timeout:1 rotate\n",
            ),
        ] {
            assert_eq!(resolv_conf(&pod(spec), &place(), machine), expected);
        }
    }

    #[test]
    fn a_pod_finds_its_own_name() {
        assert!(hosts(&pod(json!({"containers": []})), &place()).ends_with("10.41.1.2\tweb-0\nfd40:1:0:1::2\tweb-0\n"));
    }

    #[test]
    fn host_ports_are_asked_for_and_other_ports_not() {
        let pod = pod(json!({"containers": [{"name": "c", "ports": [
            {"containerPort": 80}, {"containerPort": 53, "hostPort": 5353, "protocol": "UDP"}]}]}));
        let expected = json!([{"hostPort": 5353, "containerPort": 53, "protocol": "udp"}]);
        assert_eq!(capabilities(&pod).get("portMappings"), Some(&expected));
    }

    proptest! {
        #[test]
        fn what_has_no_dollar_stays(text in "[^$]*") {
            prop_assert_eq!(expand(&text, &[("A".into(), "1".into())]), text);
        }

        #[test]
        fn expansion_never_fails(text in ".*") {
            expand(&text, &[("A".into(), "1".into())]);
        }
    }
}
