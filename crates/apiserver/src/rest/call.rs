//! One request for objects.

use std::sync::Arc;

use axum::body::Body;
use http::{HeaderMap, Method, Request, header};
use serde_json::Value;

use crate::http::{Media, Query, ResourcePath, read};
use crate::server::Shared;
use crate::status::{Cause, Status};
use crate::{Resource, object};

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Such as `system:serviceaccount:default:default`.
    pub name: String,
    /// Such as `system:masters`.
    pub groups: Vec<String>,
    /// The user's UID, or empty.
    pub uid: String,
}

/// A request for objects, with what is known of it before its body.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) server: Arc<Shared>,
    pub(crate) user: User,
    pub(crate) resource: Arc<Resource>,
    pub(crate) path: ResourcePath,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) media: Media,
}

/// What to do with fields that the schema does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

impl Call {
    pub(crate) fn new(
        server: &Arc<Shared>,
        user: User,
        resource: Arc<Resource>,
        path: ResourcePath,
        query: Query,
        request: &Request<Body>,
    ) -> Result<Self, Status> {
        let headers = request.headers().clone();
        // What is streamed is negotiated by its own protocol.
        let media = match path.subresource.as_deref() {
            Some("log" | "exec" | "attach") => Media::JSON,
            _ => Media::negotiate(&headers)?,
        };
        Ok(Call { server: server.clone(), user, resource, path, query, headers, media })
    }

    /// 405 where the resource cannot do what the method asks for.
    pub(crate) fn check_verb(&self, method: &Method) -> Result<(), Status> {
        let named = self.path.name.is_some();
        let verb = match *method {
            Method::GET | Method::HEAD if named => "get",
            Method::GET | Method::HEAD => "list",
            Method::POST if !named => "create",
            Method::PUT if named => "update",
            Method::PATCH if named => "patch",
            Method::DELETE if named => "delete",
            Method::DELETE => "deletecollection",
            _ => return Err(Status::method_not_allowed()),
        };
        let across = self.resource.namespaced && self.path.namespace.is_none();
        // Only lists and reviews reach across namespaces.
        if !self.resource.verbs.contains(&verb) || (across && !matches!(verb, "list")) {
            return Err(Status::method_not_allowed());
        }
        Ok(())
    }

    /// The namespace of the path; `""` for cluster-scoped objects.
    pub(crate) fn namespace(&self) -> &str {
        self.path.namespace.as_deref().unwrap_or("")
    }

    /// The name of the path, or `""`.
    pub(crate) fn name(&self) -> &str {
        self.path.name.as_deref().unwrap_or("")
    }

    pub(crate) fn group(&self) -> &str {
        &self.resource.gvr.group
    }

    /// Group, version and kind.
    pub(crate) fn gvk(&self) -> (&str, &str, &str) {
        (&self.resource.gvr.group, &self.resource.gvr.version, &self.resource.kind)
    }

    pub(crate) fn not_found(&self) -> Status {
        Status::not_found(self.group(), &self.resource.gvr.resource, self.name())
    }

    /// The object of the path, as it is stored.
    pub(crate) fn stored(&self) -> Result<Arc<Value>, Status> {
        let found = self.server.store.get(&self.resource.storage, self.namespace(), self.name());
        found.ok_or_else(|| self.not_found())
    }

    pub(crate) fn invalid(&self, name: &str, causes: Vec<Cause>) -> Status {
        Status::invalid(self.group(), &self.resource.kind, name, causes)
    }

    /// Who the write is recorded for: `fieldManager`, or the program's name out of `User-Agent`.
    pub(crate) fn manager(&self) -> String {
        let given = self.query.get("fieldManager");
        if !given.is_empty() {
            return given.to_owned();
        }
        let agent = self.headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or("");
        let program = agent.split('/').next().unwrap_or("").trim();
        if program.is_empty() { "unknown".to_owned() } else { program.chars().take(128).collect() }
    }

    /// What to do with unknown fields; `default` where the client doesn't say.
    pub(crate) fn field_validation(&self) -> Result<FieldValidation, Status> {
        match self.query.get("fieldValidation") {
            "" | "Warn" => Ok(FieldValidation::Warn),
            "Ignore" => Ok(FieldValidation::Ignore),
            "Strict" => Ok(FieldValidation::Strict),
            other => {
                let supported = ["Ignore", "Strict", "Warn"];
                let cause = Cause::not_supported("fieldValidation", &other.into(), &supported);
                Err(Status::invalid("meta.k8s.io", "CreateOptions", "", vec![cause]))
            }
        }
    }

    /// Reads the body as an object of the resource: its kind and namespace are filled in, or checked.
    pub(crate) async fn object(&self, request: Request<Body>) -> Result<Value, Status> {
        let bytes = read(request.into_body()).await?;
        let mut object = crate::http::decode(&self.headers, &bytes)?;
        self.settle(&mut object)?;
        Ok(object)
    }

    /// Fills in, or checks, the kind and the namespace of an object for this path.
    pub(crate) fn settle(&self, object: &mut Value) -> Result<(), Status> {
        self.settle_kind(object)?;
        if !object.get("metadata").is_none_or(|m| m.is_object() || m.is_null()) {
            return Err(Status::bad_request("metadata is not an object"));
        }
        let namespace = object::namespace(object);
        let wanted = self.namespace();
        if !namespace.is_empty() && namespace != wanted {
            return Err(Status::bad_request(if self.resource.namespaced {
                format!(
                    "the namespace of the provided object does not match the namespace sent on the request ({namespace} is not {wanted})"
                )
            } else {
                "namespace should not be set on a cluster-scoped object".to_owned()
            }));
        }
        if self.resource.namespaced && namespace.is_empty() {
            object::set_meta(object, "namespace", wanted.into());
        }
        object::metadata_mut(object);
        Ok(())
    }

    fn settle_kind(&self, object: &mut Value) -> Result<(), Status> {
        let (expected_version, expected_kind) = (self.resource.gvr.api_version(), &*self.resource.kind);
        let (version, kind) = (object::api_version(object), object::kind(object));
        if self.resource.custom.is_some() && kind.is_empty() {
            return Err(Status::bad_request(format!("Object 'Kind' is missing in '{object}'")));
        }
        if !version.is_empty() && version != expected_version {
            return Err(Status::bad_request(format!(
                "the API version in the data ({version}) does not match the expected API version ({expected_version})"
            )));
        }
        if !kind.is_empty() && kind != expected_kind {
            return Err(Status::bad_request(format!(
                "{kind} in version {version:?} cannot be handled as a {expected_kind}: the kind in the data is {kind}, the path wants {expected_kind}"
            )));
        }
        if (version.is_empty() || kind.is_empty())
            && let Some(map) = object.as_object_mut()
        {
            map.insert("apiVersion".to_owned(), expected_version.into());
            map.insert("kind".to_owned(), expected_kind.into());
        }
        Ok(())
    }
}
