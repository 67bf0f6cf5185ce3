//! Field selectors (`status.phase!=Running,metadata.name=a`): which fields a kind can be selected by, and what they hold.

use serde_json::Value;

use super::SelectorError;

/// A field selector: every term must hold. The default selects everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSelector {
    terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    field: String,
    equal: bool,
    value: String,
}

impl FieldSelector {
    /// Reads the text of a `fieldSelector` query parameter for objects of one kind. `selectable` are further fields that
    /// a CustomResourceDefinition offers (`selectableFields`, as paths without the leading dot).
    ///
    /// # Errors
    /// The text is not a selector, or the kind cannot be selected by one of the fields.
    pub fn parse(text: &str, group: &str, kind: &str, selectable: &[&str]) -> Result<Self, SelectorError> {
        let mut terms = Vec::new();
        for part in split_terms(text) {
            if part.is_empty() {
                continue;
            }
            let Some((field, equal, value)) = split_term(part) else {
                return Err(SelectorError(format!("invalid selector: '{text}'; can't understand '{part}'")));
            };
            if !is_supported(group, kind, field) && !selectable.contains(&field) {
                return Err(SelectorError(refusal(group, kind, field)));
            }
            terms.push(Term { field: field.to_owned(), equal, value: unescape(value)? });
        }
        Ok(Self { terms })
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The name, where the selector asks for one object by `metadata.name=NAME`: such a list is a get.
    pub fn name(&self) -> Option<&str> {
        self.equals("metadata.name")
    }

    /// The value that the selector asks `field` to have, if it asks for exactly one.
    pub fn equals(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|term| term.equal && term.field == field).map(|term| term.value.as_str())
    }

    /// Whether the object satisfies every term. A field that is not there is the empty string.
    pub fn matches(&self, object: &Value) -> bool {
        self.terms.iter().all(|term| (field_value(object, &term.field) == term.value) == term.equal)
    }
}

/// Splits at commas, except those after a backslash.
fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (index, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    let at = term.char_indices().find(|(index, c)| *c == '=' || term[*index..].starts_with("!="))?.0;
    let (field, rest) = term.split_at(at);
    let (equal, value) = match (rest.strip_prefix("!="), rest.strip_prefix("==")) {
        (Some(value), _) => (false, value),
        (_, Some(value)) => (true, value),
        _ => (true, rest.strip_prefix('=')?),
    };
    Some((field, equal, value))
}

/// Removes the backslashes before `,`, `=` and `\`; no other character is escaped.
fn unescape(value: &str) -> Result<String, SelectorError> {
    let mut plain = String::with_capacity(value.len());
    let mut escaped = false;
    for c in value.chars() {
        match c {
            '\\' | ',' | '=' if escaped => {
                plain.push(c);
                escaped = false;
            }
            _ if escaped => {
                return Err(SelectorError(format!("invalid field selector: invalid escape sequence: \\{c}")));
            }
            '\\' => escaped = true,
            '=' => return Err(SelectorError(format!("invalid field selector: unescaped character in {value:?}: ="))),
            _ => plain.push(c),
        }
    }
    if escaped {
        return Err(SelectorError("invalid field selector: invalid escape sequence: \\".into()));
    }
    Ok(plain)
}

const POD: &[&str] = &[
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.podIPs",
    "status.nominatedNodeName",
];
const EVENT: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];
const REGARDING: &[&str] = &[
    "regarding.kind",
    "regarding.namespace",
    "regarding.name",
    "regarding.uid",
    "regarding.apiVersion",
    "regarding.resourceVersion",
    "regarding.fieldPath",
    "reason",
    "reportingController",
    "type",
];

/// The fields of a kind beside `metadata.name` and `metadata.namespace`; `None` where the kind names no others.
fn own_fields(group: &str, kind: &str) -> Option<&'static [&'static str]> {
    Some(match (group, kind) {
        ("", "Pod") => POD,
        ("", "Event") => EVENT,
        ("events.k8s.io", "Event") => REGARDING,
        ("", "Node") => &["spec.unschedulable"],
        ("", "Namespace") => &["status.phase"],
        ("", "Secret") => &["type"],
        ("", "Service") => &["spec.clusterIP", "spec.type"],
        ("", "ReplicationController") | ("apps", "ReplicaSet") => &["status.replicas"],
        ("batch", "Job") => &["status.successful"],
        ("certificates.k8s.io", "CertificateSigningRequest") => &["spec.signerName"],
        _ => return None,
    })
}

fn is_supported(group: &str, kind: &str, field: &str) -> bool {
    matches!(field, "metadata.name" | "metadata.namespace")
        || own_fields(group, kind).is_some_and(|fields| fields.contains(&field))
}

fn refusal(group: &str, kind: &str, field: &str) -> String {
    // Groups without a dot and those of Kubernetes itself fall back to the two fields of every object; the resources
    // of a CustomResourceDefinition, and the kinds that name fields of their own, answer as the latter do.
    let custom = group.contains('.') && !group.ends_with(".k8s.io");
    if custom || own_fields(group, kind).is_some() {
        return format!("field label not supported: {field}");
    }
    format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
}

fn field_value(object: &Value, field: &str) -> String {
    let value = match field {
        "source" => at(object, "source.component").or_else(|| at(object, "reportingComponent")),
        "status.podIPs" => at(object, "status.podIP"),
        // The two forms of an Event are one object, stored in the form in which it was written.
        _ => at(object, field).or_else(|| match field.strip_prefix("regarding.") {
            Some(rest) => at(object, &format!("involvedObject.{rest}")),
            None => at(object, &field.replacen("involvedObject.", "regarding.", 1)),
        }),
    };
    match (value, field) {
        (Some(Value::String(text)), _) => text.clone(),
        (Some(Value::Null) | None, "spec.unschedulable" | "spec.hostNetwork") => "false".into(),
        (Some(Value::Null) | None, "status.replicas" | "status.successful") => "0".into(),
        (Some(Value::Null) | None, _) => String::new(),
        (Some(other), _) => other.to_string(),
    }
}

fn at<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(object, |value, key| value.get(key))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn selects_by_fields() {
        let pod = json!({
            "metadata": {"name": "a", "namespace": "default"},
            "spec": {"nodeName": "n1"},
            "status": {"phase": "Running", "podIP": "10.0.0.1"},
        });
        let event = json!({"involvedObject": {"kind": "Pod", "name": "a"}, "type": "Warning", "reason": "Failed", "source": {"component": "kubelet"}});
        let node = json!({"metadata": {"name": "n"}, "spec": {}});
        let table = [
            ("Pod", &pod, "metadata.name=a", true),
            ("Pod", &pod, "metadata.name==a,metadata.namespace=default", true),
            ("Pod", &pod, "metadata.name!=a", false),
            ("Pod", &pod, "spec.nodeName=n1,status.phase!=Failed", true),
            ("Pod", &pod, "spec.nodeName=", false),
            ("Pod", &pod, "spec.hostNetwork=false", true),
            ("Pod", &pod, "", true),
            ("Event", &event, "involvedObject.kind=Pod,involvedObject.name=a,type=Warning", true),
            ("Event", &event, "reason=Killing", false),
            ("Event", &event, "source=kubelet", true),
            ("Event", &event, "involvedObject.uid=", true),
            ("Node", &node, "spec.unschedulable=false", true),
        ];
        for (kind, object, text, expected) in table {
            let selector = FieldSelector::parse(text, "", kind, &[]).unwrap();
            assert_eq!(selector.matches(object), expected, "{kind} {text}");
        }
    }

    #[test]
    fn refuses_in_the_words_of_kube_apiserver() {
        let table = [
            ("", "Pod", "spec.foo=bar", "field label not supported: spec.foo"),
            (
                "",
                "ConfigMap",
                "data.a=b",
                "\"data.a\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
            ),
            ("kilo.squat.ai", "Peer", "spec.a=b", "field label not supported: spec.a"),
            ("", "Pod", "nonsense", "invalid selector: 'nonsense'; can't understand 'nonsense'"),
        ];
        for (group, kind, text, expected) in table {
            assert_eq!(FieldSelector::parse(text, group, kind, &[]).unwrap_err().to_string(), expected);
        }
        assert!(FieldSelector::parse("spec.color=red", "example.com", "Shirt", &["spec.color"]).is_ok());
    }

    #[test]
    fn values_may_be_escaped() {
        let selector = FieldSelector::parse(r"metadata.name=a\,b\=c", "", "Pod", &[]).unwrap();
        assert_eq!(selector.name(), Some("a,b=c"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-z=!,.\\\\]{0,24}|\\PC{0,16}") {
            let _ = FieldSelector::parse(&text, "", "Pod", &[]).map(|selector| selector.matches(&json!({})));
        }
    }
}
