//! The server's paths.

/// What a path stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// `/`
    Root,
    /// `/healthz`, `/livez`, `/readyz`, with what is below them.
    Health,
    /// `/version`
    Version,
    /// `/api`
    CoreVersions,
    /// `/apis`
    Groups,
    /// `/apis/GROUP`
    Group(String),
    /// `/api/v1` or `/apis/GROUP/VERSION`
    Resources(String, String),
    /// `/openapi/v2`
    OpenApiV2,
    /// `/openapi/v3`, or what is below it.
    OpenApiV3(String),
    /// Objects.
    Resource(ResourcePath),
    /// Nothing.
    Unknown,
}

/// `/apis/GROUP/VERSION[/namespaces/NAMESPACE]/RESOURCE[/NAME[/SUBRESOURCE]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ResourcePath {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: Option<String>,
    pub(crate) resource: String,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
    /// Whether it is one of the old paths below `watch/`.
    pub(crate) watch: bool,
}

/// Reads a path. Percent-encoding is undone a segment at a time.
pub(crate) fn route(path: &str) -> Route {
    let segments: Option<Vec<String>> = path.split('/').filter(|s| !s.is_empty()).map(decode).collect();
    let Some(segments) = segments else { return Route::Unknown };
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    match parts.as_slice() {
        [] => Route::Root,
        ["healthz" | "livez" | "readyz", ..] => Route::Health,
        ["version"] => Route::Version,
        ["api"] => Route::CoreVersions,
        ["apis"] => Route::Groups,
        ["openapi", "v2"] => Route::OpenApiV2,
        ["openapi", "v3", rest @ ..] => Route::OpenApiV3(rest.join("/")),
        ["api", version] => Route::Resources(String::new(), (*version).to_owned()),
        ["apis", group] => Route::Group((*group).to_owned()),
        ["apis", group, version] => Route::Resources((*group).to_owned(), (*version).to_owned()),
        ["api", version, rest @ ..] => resource("", version, rest),
        ["apis", group, version, rest @ ..] => resource(group, version, rest),
        _ => Route::Unknown,
    }
}

fn resource(group: &str, version: &str, rest: &[&str]) -> Route {
    let (watch, rest) = match rest {
        ["watch", rest @ ..] if !rest.is_empty() => (true, rest),
        rest => (false, rest),
    };
    let (namespace, rest) = match rest {
        // The namespaces themselves, and their own subresources.
        ["namespaces"] | ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => (None, rest),
        ["namespaces", namespace, rest @ ..] => (Some((*namespace).to_owned()), rest),
        rest => (None, rest),
    };
    let (resource, name, subresource) = match rest {
        [resource] => (resource, None, None),
        [resource, name] => (resource, Some(*name), None),
        [resource, name, subresource] => (resource, Some(*name), Some(*subresource)),
        _ => return Route::Unknown,
    };
    Route::Resource(ResourcePath {
        group: group.to_owned(),
        version: version.to_owned(),
        namespace,
        resource: (*resource).to_owned(),
        name: name.map(str::to_owned),
        subresource: subresource.map(str::to_owned),
        watch,
    })
}

/// Undoes percent-encoding; `None` where it is no UTF-8 or broken.
pub(super) fn decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_as_kube_apiserver_reads_them() {
        let path = |group: &str, version: &str, namespace: Option<&str>, resource: &str| ResourcePath {
            group: group.into(),
            version: version.into(),
            namespace: namespace.map(Into::into),
            resource: resource.into(),
            ..ResourcePath::default()
        };
        let cases = [
            ("/", Route::Root),
            ("/livez/ping", Route::Health),
            ("/api/", Route::CoreVersions),
            ("/apis/apps", Route::Group("apps".into())),
            ("/api/v1", Route::Resources("".into(), "v1".into())),
            ("/openapi/v3/apis/apps/v1", Route::OpenApiV3("apis/apps/v1".into())),
            ("/api/v1/pods", Route::Resource(path("", "v1", None, "pods"))),
            (
                "/apis/apps/v1/namespaces/a%2Db/deployments",
                Route::Resource(path("apps", "v1", Some("a-b"), "deployments")),
            ),
            (
                "/api/v1/namespaces/x/finalize",
                Route::Resource(ResourcePath {
                    name: Some("x".into()),
                    subresource: Some("finalize".into()),
                    ..path("", "v1", None, "namespaces")
                }),
            ),
            (
                "/api/v1/watch/namespaces/x/pods",
                Route::Resource(ResourcePath { watch: true, ..path("", "v1", Some("x"), "pods") }),
            ),
            ("/api/v1/pods/%ff", Route::Unknown),
            ("/nothing", Route::Unknown),
        ];
        for (text, expected) in cases {
            assert_eq!(route(text), expected, "{text}");
        }
    }
}
