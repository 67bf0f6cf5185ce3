//! The paths and operations of the served kinds, apart from how a version of OpenAPI writes them.

use crate::schema::ServedKind;

/// A query parameter.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    /// `string`, `boolean` or `integer`.
    pub(super) kind: &'static str,
    pub(super) description: &'static str,
}

/// One operation of one path.
pub(super) struct Operation {
    /// `get`, `post`, …
    pub(super) method: &'static str,
    /// `x-kubernetes-action`.
    pub(super) action: &'static str,
    /// Such as `createCoreV1NamespacedPod`.
    pub(super) id: String,
    pub(super) parameters: Vec<&'static Parameter>,
    /// The definition of the body, if there is one.
    pub(super) body: Option<String>,
    /// The media types of the body.
    pub(super) consumes: &'static [&'static str],
    /// The definition of what is answered.
    pub(super) answer: String,
}

/// One path of a kind.
pub(super) struct Path {
    pub(super) path: String,
    /// The parameters in the path: `namespace`, `name`.
    pub(super) parameters: Vec<&'static str>,
    pub(super) operations: Vec<Operation>,
}

macro_rules! parameters {
    ($($ident:ident = $name:literal, $kind:literal, $description:literal;)*) => {
        $(static $ident: Parameter = Parameter { name: $name, kind: $kind, description: $description };)*
    };
}

parameters! {
    PRETTY = "pretty", "string", "If 'true', the output is pretty-printed.";
    DRY_RUN = "dryRun", "string", "'All': go through all stages of the request, and don't store what comes of it.";
    FIELD_MANAGER = "fieldManager", "string", "The name of who makes the change; at most 128 printable characters.";
    FIELD_VALIDATION = "fieldValidation", "string", "What to do on unknown or duplicate fields: Ignore, Warn or Strict.";
    FORCE = "force", "boolean", "For apply patches: take over the fields that are in conflict.";
    CONTINUE = "continue", "string", "Where to go on with a list that was answered in part.";
    FIELD_SELECTOR = "fieldSelector", "string", "Restricts the objects by their fields.";
    LABEL_SELECTOR = "labelSelector", "string", "Restricts the objects by their labels.";
    LIMIT = "limit", "integer", "The most objects to answer at once.";
    RESOURCE_VERSION = "resourceVersion", "string", "The resource version that the answer must not be older than.";
    RESOURCE_VERSION_MATCH = "resourceVersionMatch", "string", "How resourceVersion is applied: Exact or NotOlderThan.";
    TIMEOUT_SECONDS = "timeoutSeconds", "integer", "How long a list or watch may take.";
    WATCH = "watch", "boolean", "Answer changes as they happen instead of a list.";
    ALLOW_BOOKMARKS = "allowWatchBookmarks", "boolean", "Answer bookmarks while nothing changes.";
    SEND_INITIAL = "sendInitialEvents", "boolean", "Begin a watch with the objects that there are.";
    GRACE_PERIOD = "gracePeriodSeconds", "integer", "How long the object may take to end; 0 is at once.";
    PROPAGATION = "propagationPolicy", "string", "What happens to dependents: Orphan, Background or Foreground.";
    ORPHAN = "orphanDependents", "boolean", "Superseded by propagationPolicy.";
}

const ANY: &[&str] = &["*/*"];
const PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
const CUSTOM_PATCHES: &[&str] =
    &["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];

const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
pub(super) const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";

/// The paths of a kind.
pub(super) fn of(kind: &ServedKind) -> Vec<Path> {
    let scope = if kind.namespaced { "/namespaces/{namespace}" } else { "" };
    let collection = format!("/{}{scope}/{}", kind.group_path(), kind.plural);
    let in_path: Vec<&str> = if kind.namespaced { vec!["namespace"] } else { Vec::new() };
    let in_item: Vec<&str> = std::iter::once("name").chain(in_path.iter().copied()).collect();
    let make = Make { kind };
    if !kind.stored {
        return vec![Path { path: collection, parameters: in_path, operations: vec![make.create()] }];
    }

    let item = format!("{collection}/{{name}}");
    let mut paths = vec![
        Path {
            path: collection,
            parameters: in_path,
            operations: vec![make.list(false), make.create(), make.delete_collection()],
        },
        Path {
            path: item.clone(),
            parameters: in_item.clone(),
            operations: vec![make.get(""), make.replace(""), make.delete(), make.patch("")],
        },
    ];
    if kind.status {
        let operations = vec![make.get("Status"), make.replace("Status"), make.patch("Status")];
        paths.push(Path { path: format!("{item}/status"), parameters: in_item, operations });
    }
    if kind.namespaced {
        let path = format!("/{}/{}", kind.group_path(), kind.plural);
        paths.push(Path { path, parameters: Vec::new(), operations: vec![make.list(true)] });
    }
    paths
}

struct Make<'a> {
    kind: &'a ServedKind,
}

impl Make<'_> {
    fn list(&self, all: bool) -> Operation {
        let id = if all { self.id_of("list", "", "ForAllNamespaces") } else { self.id("list", "") };
        let parameters = vec![
            &PRETTY,
            &ALLOW_BOOKMARKS,
            &CONTINUE,
            &FIELD_SELECTOR,
            &LABEL_SELECTOR,
            &LIMIT,
            &RESOURCE_VERSION,
            &RESOURCE_VERSION_MATCH,
            &SEND_INITIAL,
            &TIMEOUT_SECONDS,
            &WATCH,
        ];
        let answer = self.kind.list_definition();
        Operation { method: "get", action: "list", id, parameters, body: None, consumes: ANY, answer }
    }

    fn create(&self) -> Operation {
        self.write("post", "post", "create", "", vec![&PRETTY, &DRY_RUN, &FIELD_MANAGER, &FIELD_VALIDATION])
    }

    fn replace(&self, subresource: &str) -> Operation {
        let parameters = vec![&PRETTY, &DRY_RUN, &FIELD_MANAGER, &FIELD_VALIDATION];
        self.write("put", "put", "replace", subresource, parameters)
    }

    fn patch(&self, subresource: &str) -> Operation {
        let parameters = vec![&PRETTY, &DRY_RUN, &FIELD_MANAGER, &FIELD_VALIDATION, &FORCE];
        let builtin = self.kind.definition.starts_with("io.k8s.");
        Operation {
            body: Some(PATCH.to_owned()),
            consumes: if builtin { PATCHES } else { CUSTOM_PATCHES },
            ..self.write("patch", "patch", "patch", subresource, parameters)
        }
    }

    fn get(&self, subresource: &str) -> Operation {
        let parameters = vec![&PRETTY, &RESOURCE_VERSION];
        Operation { body: None, ..self.write("get", "get", "read", subresource, parameters) }
    }

    fn delete(&self) -> Operation {
        let parameters = vec![&PRETTY, &DRY_RUN, &GRACE_PERIOD, &ORPHAN, &PROPAGATION];
        Operation {
            body: Some(DELETE_OPTIONS.to_owned()),
            answer: STATUS.to_owned(),
            ..self.write("delete", "delete", "delete", "", parameters)
        }
    }

    fn delete_collection(&self) -> Operation {
        let parameters =
            vec![&PRETTY, &DRY_RUN, &FIELD_SELECTOR, &LABEL_SELECTOR, &GRACE_PERIOD, &ORPHAN, &PROPAGATION];
        Operation {
            id: self.id("deleteCollection", ""),
            body: Some(DELETE_OPTIONS.to_owned()),
            answer: STATUS.to_owned(),
            ..self.write("delete", "deletecollection", "delete", "", parameters)
        }
    }

    fn write(
        &self,
        method: &'static str,
        action: &'static str,
        verb: &str,
        subresource: &str,
        parameters: Vec<&'static Parameter>,
    ) -> Operation {
        let definition = self.kind.definition.clone();
        Operation {
            method,
            action,
            id: self.id(verb, subresource),
            parameters,
            body: Some(definition.clone()),
            consumes: ANY,
            answer: definition,
        }
    }

    fn id(&self, verb: &str, subresource: &str) -> String {
        let scope = if self.kind.namespaced { "Namespaced" } else { "" };
        self.id_of(verb, scope, subresource)
    }

    fn id_of(&self, verb: &str, scope: &str, end: &str) -> String {
        let group = if self.kind.group.is_empty() { "core" } else { &self.kind.group };
        let group: String = group.trim_end_matches(".k8s.io").split(['.', '-']).map(capitalized).collect();
        format!("{verb}{group}{}{scope}{}{end}", capitalized(&self.kind.version), self.kind.kind)
    }
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}
