//! Who may do what.

use http::Method;

use crate::http::Route;
use crate::rest::User;
use crate::status::{Details, Status};

/// What a request asks for, as `authorization.k8s.io` describes it.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    /// Who asks.
    pub user: &'a User,
    /// Such as `list`; for a path that stands for no object the method in lower case.
    pub verb: &'a str,
    /// What is asked for, if it is objects.
    pub resource: Option<ResourceAttributes<'a>>,
    /// The path.
    pub path: &'a str,
}

/// The objects that a request asks for. Fields are empty where the request does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResourceAttributes<'a> {
    /// The API group.
    pub group: &'a str,
    /// The version.
    pub version: &'a str,
    /// The plural name.
    pub resource: &'a str,
    /// Such as `status`.
    pub subresource: &'a str,
    /// The namespace.
    pub namespace: &'a str,
    /// The object's name.
    pub name: &'a str,
}

/// Decides on each request.
pub trait Authorizer: Send + Sync {
    /// Lets a request pass.
    ///
    /// # Errors
    /// What it is answered by instead: mostly [`Attributes::forbidden`].
    fn authorize(&self, attributes: &Attributes<'_>) -> Result<(), Status>;
}

impl<'a> Attributes<'a> {
    pub(crate) fn new(user: &'a User, method: &Method, path: &'a str, route: &'a Route, watch: bool) -> Self {
        let Route::Resource(asked) = route else {
            let verb = match *method {
                Method::GET => "get",
                Method::HEAD => "head",
                Method::POST => "post",
                Method::PUT => "put",
                Method::PATCH => "patch",
                Method::DELETE => "delete",
                _ => "other",
            };
            return Attributes { user, verb, resource: None, path };
        };
        let named = asked.name.is_some();
        let verb = match *method {
            Method::GET | Method::HEAD if watch || asked.watch => "watch",
            Method::GET | Method::HEAD if named => "get",
            Method::GET | Method::HEAD => "list",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE if named => "delete",
            Method::DELETE => "deletecollection",
            _ => "other",
        };
        let resource = ResourceAttributes {
            group: &asked.group,
            version: &asked.version,
            resource: &asked.resource,
            subresource: asked.subresource.as_deref().unwrap_or(""),
            namespace: asked.namespace.as_deref().unwrap_or(""),
            name: asked.name.as_deref().unwrap_or(""),
        };
        Attributes { user, verb, resource: Some(resource), path }
    }

    /// 403 in the words of kube-apiserver, with a reason after them (which may be empty).
    pub fn forbidden(&self, reason: &str) -> Status {
        let (user, verb) = (&self.user.name, self.verb);
        let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        let Some(asked) = &self.resource else {
            let message = format!("forbidden: User {user:?} cannot {verb} path {:?}{reason}", self.path);
            return Status::new(403, "Forbidden", message).with_details(Details::default());
        };
        let resource = match asked.subresource {
            "" => asked.resource.to_owned(),
            below => format!("{}/{below}", asked.resource),
        };
        let scope = match asked.namespace {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace {namespace:?}"),
        };
        let why =
            format!("User {user:?} cannot {verb} resource {resource:?} in API group {:?} {scope}{reason}", asked.group);
        match asked.name {
            "" => {
                let qualified = if asked.group.is_empty() { "" } else { "." };
                let message = format!("{}{qualified}{} is forbidden: {why}", asked.resource, asked.group);
                let details = Details::of(asked.group, asked.resource, "");
                Status::new(403, "Forbidden", message).with_details(details)
            }
            name => Status::forbidden(asked.group, asked.resource, name, &why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::route;

    #[test]
    fn a_refusal_has_the_words_of_kube_apiserver() {
        let user = User { name: "paris".into(), groups: Vec::new(), uid: String::new() };
        let cases = [
            (
                Method::GET,
                "/api/v1/secrets",
                r#"secrets is forbidden: User "paris" cannot list resource "secrets" in API group "" at the cluster scope"#,
            ),
            (
                Method::DELETE,
                "/apis/apps/v1/namespaces/n/deployments/web",
                r#"deployments.apps "web" is forbidden: User "paris" cannot delete resource "deployments" in API group "apps" in the namespace "n""#,
            ),
            (Method::POST, "/metrics", r#"forbidden: User "paris" cannot post path "/metrics""#),
        ];
        for (method, path, expected) in cases {
            let route = route(path);
            let status = Attributes::new(&user, &method, path, &route, false).forbidden("");
            assert_eq!((status.code, status.message.as_str()), (403, expected), "{path}");
        }
    }
}
