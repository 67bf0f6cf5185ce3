//! What Kubernetes' own validation asks for in the built-in kinds, as far as a missing field goes. (What a kind's rules
//! say beyond that is the strategy's: immutable fields, names, ranges.)

use serde_json::{Map, Value};

use super::error::FieldError;
use super::validate::join;

/// The fields that must be there and not empty.
pub(crate) fn missing((group, _, kind): (&str, &str, &str), object: &Value) -> Vec<FieldError> {
    let mut check = Check { errors: Vec::new() };
    let Some(root) = object.as_object() else { return check.errors };
    match (group, kind) {
        ("", "Pod") => check.within(root, "spec", "", |check, spec, path| check.pod_spec(spec, path)),
        ("", "Service") => check.within(root, "spec", "", Check::service_spec),
        ("", "Node" | "Namespace" | "ConfigMap" | "Secret" | "ServiceAccount" | "Endpoints") => {}
        ("apps", "Deployment" | "DaemonSet" | "ReplicaSet") => {
            check.within(root, "spec", "", |check, spec, path| {
                check.required(spec, path, "selector");
                let template = |check: &mut Check, template: &Map<String, Value>, path: &str| {
                    check.within(template, "spec", path, Check::pod_spec);
                };
                check.within(spec, "template", path, template);
            });
        }
        ("discovery.k8s.io", "EndpointSlice") => {
            check.required(root, "", "addressType");
            check.each(root, "endpoints", "", |check, endpoint, path| check.required(endpoint, path, "addresses"));
        }
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            check.within(root, "roleRef", "", |check, role, path| {
                check.required(role, path, "kind");
                check.required(role, path, "name");
            });
            check.each(root, "subjects", "", |check, subject, path| {
                check.required(subject, path, "kind");
                check.required(subject, path, "name");
            });
        }
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => {
            check.each(root, "rules", "", |check, rule, path| check.required(rule, path, "verbs"));
        }
        _ => {}
    }
    check.errors
}

struct Check {
    errors: Vec<FieldError>,
}

type Object = Map<String, Value>;

impl Check {
    fn pod_spec(&mut self, spec: &Object, path: &str) {
        self.required(spec, path, "containers");
        for list in ["initContainers", "containers"] {
            self.each(spec, list, path, Check::container);
        }
        self.each(spec, "volumes", path, |check, volume, path| check.required(volume, path, "name"));
        self.each(spec, "hostAliases", path, |check, alias, path| check.required(alias, path, "ip"));
        self.each(spec, "imagePullSecrets", path, |check, secret, path| check.required(secret, path, "name"));
    }

    fn container(&mut self, container: &Object, path: &str) {
        self.required(container, path, "name");
        self.required(container, path, "image");
        self.each(container, "env", path, |check, variable, path| check.required(variable, path, "name"));
        self.each(container, "ports", path, |check, port, path| check.required(port, path, "containerPort"));
        self.each(container, "volumeMounts", path, |check, mount, path| {
            check.required(mount, path, "name");
            check.required(mount, path, "mountPath");
        });
    }

    fn service_spec(&mut self, spec: &Object, path: &str) {
        let several = spec.get("ports").and_then(Value::as_array).is_some_and(|ports| ports.len() > 1);
        self.each(spec, "ports", path, |check, port, path| {
            if several {
                check.required(port, path, "name");
            }
            if port.get("port").is_none() {
                let detail = "must be between 1 and 65535, inclusive";
                check.errors.push(FieldError::invalid(&join(path, "port"), &Value::from(0), detail));
            }
        });
    }

    fn required(&mut self, object: &Object, path: &str, field: &str) {
        let empty = match object.get(field) {
            None | Some(Value::Null) => true,
            Some(Value::String(text)) => text.is_empty(),
            Some(Value::Array(items)) => items.is_empty(),
            Some(_) => false,
        };
        if empty {
            self.errors.push(FieldError::required(&join(path, field), ""));
        }
    }

    fn within(&mut self, object: &Object, field: &str, path: &str, mut check: impl FnMut(&mut Self, &Object, &str)) {
        static EMPTY: std::sync::LazyLock<Object> = std::sync::LazyLock::new(Object::new);
        let inner = object.get(field).and_then(Value::as_object).unwrap_or(&EMPTY);
        check(self, inner, &join(path, field));
    }

    fn each(&mut self, object: &Object, field: &str, path: &str, mut check: impl FnMut(&mut Self, &Object, &str)) {
        let items = object.get(field).and_then(Value::as_array).into_iter().flatten();
        for (index, item) in items.enumerate() {
            if let Some(item) = item.as_object() {
                check(self, item, &format!("{}[{index}]", join(path, field)));
            }
        }
    }
}
