//! The defaults of the built-in kinds, as kube-apiserver's own `SetDefaults_…` set them.

use serde_json::{Map, Value, json};

type Object = Map<String, Value>;

/// Sets what is not set.
pub(crate) fn set((group, _, kind): (&str, &str, &str), object: &mut Value) {
    let Value::Object(object) = object else { return };
    match (group, kind) {
        ("", "Pod") => with(object, "spec", pod_spec),
        ("", "Service") => with(object, "spec", service_spec),
        ("", "Endpoints") => each(object, "subsets", |subset| each(subset, "ports", tcp)),
        ("", "Secret") => default(object, "type", "Opaque"),
        ("discovery.k8s.io", "EndpointSlice") => each(object, "ports", |port| {
            tcp(port);
            default(port, "name", "");
        }),
        ("apps", "Deployment") => with(object, "spec", deployment_spec),
        ("apps", "DaemonSet") => with(object, "spec", daemon_set_spec),
        ("apps", "ReplicaSet") => with(object, "spec", |spec| {
            default(spec, "replicas", 1);
            template(spec);
        }),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => binding(object),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => with(object, "spec", custom_resource_definition),
        _ => {}
    }
}

fn pod_spec(spec: &mut Object) {
    default(spec, "restartPolicy", "Always");
    default(spec, "terminationGracePeriodSeconds", 30);
    default(spec, "dnsPolicy", "ClusterFirst");
    default(spec, "securityContext", json!({}));
    default(spec, "schedulerName", "default-scheduler");
    if spec.get("serviceAccountName").is_none()
        && let Some(account) = spec.get("serviceAccount").cloned()
    {
        spec.insert("serviceAccountName".to_owned(), account);
    }
    let host_network = spec.get("hostNetwork") == Some(&Value::Bool(true));
    for list in ["initContainers", "containers"] {
        each(spec, list, |container| self::container(container, host_network));
    }
    each(spec, "volumes", volume);
    default(spec, "enableServiceLinks", true);
}

fn container(container: &mut Object, host_network: bool) {
    default(container, "resources", json!({}));
    default(container, "terminationMessagePath", "/dev/termination-log");
    default(container, "terminationMessagePolicy", "File");
    if let Some(image) = container.get("image").and_then(Value::as_str) {
        let policy = if is_latest(image) { "Always" } else { "IfNotPresent" };
        default(container, "imagePullPolicy", policy);
    }
    each(container, "ports", |port| {
        tcp(port);
        if host_network && let Some(number) = port.get("containerPort").cloned() {
            default(port, "hostPort", number);
        }
    });
    each(container, "env", |variable| {
        with(variable, "valueFrom", |source| with(source, "fieldRef", |field| default(field, "apiVersion", "v1")));
    });
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        with(container, probe, |probe| {
            default(probe, "timeoutSeconds", 1);
            default(probe, "periodSeconds", 10);
            default(probe, "successThreshold", 1);
            default(probe, "failureThreshold", 3);
            with(probe, "httpGet", http_get);
            with(probe, "grpc", |grpc| default(grpc, "service", ""));
        });
    }
    with(container, "lifecycle", |lifecycle| {
        for hook in ["postStart", "preStop"] {
            with(lifecycle, hook, |hook| with(hook, "httpGet", http_get));
        }
    });
    with(container, "resources", |resources| {
        if let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() {
            let requests = resources.entry("requests").or_insert_with(|| json!({}));
            if let Some(requests) = requests.as_object_mut() {
                for (name, limit) in limits {
                    requests.entry(name).or_insert(limit);
                }
            }
        }
    });
}

fn volume(volume: &mut Object) {
    if volume.keys().all(|key| key == "name") {
        volume.insert("emptyDir".to_owned(), json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        with(volume, source, |source| default(source, "defaultMode", 0o644));
    }
    with(volume, "hostPath", |source| default(source, "type", ""));
    with(volume, "projected", |projected| {
        each(projected, "sources", |source| {
            with(source, "serviceAccountToken", |token| default(token, "expirationSeconds", 3600));
        });
    });
}

fn http_get(get: &mut Object) {
    default(get, "path", "/");
    default(get, "scheme", "HTTP");
}

fn service_spec(spec: &mut Object) {
    default(spec, "sessionAffinity", "None");
    default(spec, "type", "ClusterIP");
    let kind = spec.get("type").and_then(Value::as_str).unwrap_or("").to_owned();
    each(spec, "ports", |port| {
        tcp(port);
        let unset = matches!(port.get("targetPort"), None | Some(Value::Null))
            || port.get("targetPort").is_some_and(|target| *target == json!(0) || *target == json!(""));
        if unset && let Some(number) = port.get("port").cloned() {
            port.insert("targetPort".to_owned(), number);
        }
    });
    if spec.get("sessionAffinity") == Some(&json!("ClientIP")) {
        let config = spec.entry("sessionAffinityConfig").or_insert_with(|| json!({}));
        if let Some(config) = config.as_object_mut() {
            default(config, "clientIP", json!({}));
            with(config, "clientIP", |client| default(client, "timeoutSeconds", 10800));
        }
    }
    if kind != "ExternalName" {
        default(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "NodePort" || kind == "LoadBalancer" {
        default(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        default(spec, "allocateLoadBalancerNodePorts", true);
    }
}

fn deployment_spec(spec: &mut Object) {
    default(spec, "replicas", 1);
    default(spec, "revisionHistoryLimit", 10);
    default(spec, "progressDeadlineSeconds", 600);
    let strategy = spec.entry("strategy").or_insert_with(|| json!({}));
    if let Some(strategy) = strategy.as_object_mut() {
        default(strategy, "type", "RollingUpdate");
        if strategy.get("type") == Some(&json!("RollingUpdate")) {
            default(strategy, "rollingUpdate", json!({}));
            with(strategy, "rollingUpdate", |rolling| {
                default(rolling, "maxUnavailable", "25%");
                default(rolling, "maxSurge", "25%");
            });
        }
    }
    template(spec);
}

fn daemon_set_spec(spec: &mut Object) {
    default(spec, "revisionHistoryLimit", 10);
    let strategy = spec.entry("updateStrategy").or_insert_with(|| json!({}));
    if let Some(strategy) = strategy.as_object_mut() {
        default(strategy, "type", "RollingUpdate");
        if strategy.get("type") == Some(&json!("RollingUpdate")) {
            default(strategy, "rollingUpdate", json!({}));
            with(strategy, "rollingUpdate", |rolling| {
                default(rolling, "maxUnavailable", 1);
                default(rolling, "maxSurge", 0);
            });
        }
    }
    template(spec);
}

fn template(spec: &mut Object) {
    with(spec, "template", |template| with(template, "spec", pod_spec));
}

fn binding(object: &mut Object) {
    const GROUP: &str = "rbac.authorization.k8s.io";
    with(object, "roleRef", |role| default(role, "apiGroup", GROUP));
    each(object, "subjects", |subject| {
        if matches!(subject.get("kind").and_then(Value::as_str), Some("User" | "Group")) {
            default(subject, "apiGroup", GROUP);
        }
    });
}

fn custom_resource_definition(spec: &mut Object) {
    with(spec, "names", |names| {
        let kind = names.get("kind").and_then(Value::as_str).unwrap_or("").to_owned();
        if !kind.is_empty() {
            default(names, "singular", kind.to_lowercase());
            default(names, "listKind", format!("{kind}List"));
        }
    });
    default(spec, "conversion", json!({"strategy": "None"}));
}

fn tcp(port: &mut Object) {
    default(port, "protocol", "TCP");
}

/// Whether an image has the tag `latest`, by name or by default.
fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let name = image.rsplit('/').next().unwrap_or(image);
    name.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

fn default(object: &mut Object, field: &str, value: impl Into<Value>) {
    let unset = match object.get(field) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(_) => false,
    };
    if unset {
        object.insert(field.to_owned(), value.into());
    }
}

fn with(object: &mut Object, field: &str, set: impl FnOnce(&mut Object)) {
    if let Some(Value::Object(inner)) = object.get_mut(field) {
        set(inner);
    }
}

fn each(object: &mut Object, field: &str, mut set: impl FnMut(&mut Object)) {
    let items = object.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten();
    items.filter_map(Value::as_object_mut).for_each(&mut set);
}
