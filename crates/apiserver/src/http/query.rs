//! Query parameters: `metav1.ListOptions` and the options of writes.

use std::time::Duration;

use super::path::decode;
use crate::selectors::{FieldSelector, LabelSelector};
use crate::status::{Cause, Status};

/// The parameters of a request, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

/// `resourceVersionMatch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VersionMatch {
    Exact,
    NotOlderThan,
}

/// How to list or watch.
#[derive(Debug, Clone)]
pub(crate) struct ListOptions {
    pub(crate) labels: LabelSelector,
    pub(crate) fields: FieldSelector,
    /// `None` where it isn't set, which asks for the most recent.
    pub(crate) resource_version: Option<u64>,
    pub(crate) version_match: Option<VersionMatch>,
    pub(crate) limit: usize,
    pub(crate) continue_token: String,
    pub(crate) watch: bool,
    pub(crate) bookmarks: bool,
    pub(crate) initial_events: Option<bool>,
    pub(crate) timeout: Option<Duration>,
}

impl Query {
    /// Reads what follows the `?`.
    pub(crate) fn parse(text: &str) -> Result<Self, Status> {
        let pair = |part: &str| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let decode = |text: &str| decode(&text.replace('+', " "));
            Some((decode(name)?, decode(value)?))
        };
        let pairs: Option<Vec<_>> = text.split('&').filter(|part| !part.is_empty()).map(pair).collect();
        pairs.map(Query).ok_or_else(|| Status::bad_request("the query is not percent-encoded UTF-8"))
    }

    /// The first value of a parameter, or `""`.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }

    /// All values of a parameter, in order.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Whether a parameter is there and isn't `false` or `0`, as apimachinery reads booleans.
    pub(crate) fn flag(&self, name: &str) -> bool {
        let Some((_, value)) = self.0.iter().find(|(n, _)| n == name) else { return false };
        !matches!(value.to_ascii_lowercase().as_str(), "false" | "0")
    }

    /// Whether nothing is to be stored (`dryRun=All`).
    pub(crate) fn dry_run(&self) -> Result<bool, Status> {
        let mut values = self.0.iter().filter(|(n, v)| n == "dryRun" && !v.is_empty());
        match values.find(|(_, value)| value != "All") {
            None => Ok(self.0.iter().any(|(n, v)| n == "dryRun" && v == "All")),
            Some((_, value)) => {
                let cause = Cause::not_supported("dryRun", &value.as_str().into(), &["All"]);
                Err(Status::invalid("meta.k8s.io", "CreateOptions", "", vec![cause]))
            }
        }
    }

    /// The list options, for objects of a kind.
    pub(crate) fn list_options(&self, group: &str, kind: &str, selectable: &[&str]) -> Result<ListOptions, Status> {
        let labels = LabelSelector::parse(self.get("labelSelector")).map_err(|e| Status::bad_request(e.0))?;
        let fields = FieldSelector::parse(self.get("fieldSelector"), group, kind, selectable)
            .map_err(|e| Status::bad_request(e.0))?;
        let resource_version = match self.get("resourceVersion") {
            "" => None,
            text => Some(text.parse().map_err(|_| {
                let cause = Cause::invalid(
                    "resourceVersion",
                    &text.into(),
                    format!("strconv.ParseUint: parsing {text:?}: invalid syntax"),
                );
                Status::invalid("meta.k8s.io", "ListOptions", "", vec![cause])
            })?),
        };
        let version_match = match self.get("resourceVersionMatch") {
            "" => None,
            "Exact" => Some(VersionMatch::Exact),
            "NotOlderThan" => Some(VersionMatch::NotOlderThan),
            other => {
                let cause = Cause::not_supported("resourceVersionMatch", &other.into(), &["Exact", "NotOlderThan", ""]);
                return Err(Status::invalid("meta.k8s.io", "ListOptions", "", vec![cause]));
            }
        };
        let options = ListOptions {
            labels,
            fields,
            resource_version,
            version_match,
            limit: self.number("limit")?.unwrap_or(0) as usize,
            continue_token: self.get("continue").to_owned(),
            watch: self.flag("watch"),
            bookmarks: self.flag("allowWatchBookmarks"),
            initial_events: (!self.get("sendInitialEvents").is_empty()).then(|| self.flag("sendInitialEvents")),
            timeout: self.number("timeoutSeconds")?.map(Duration::from_secs),
        };
        options.check()?;
        Ok(options)
    }

    /// A parameter that is a whole number and not negative.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Status> {
        match self.get(name) {
            "" => Ok(None),
            text => {
                let number: i64 = text
                    .parse()
                    .map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))?;
                Ok(Some(number.max(0).unsigned_abs()))
            }
        }
    }
}

impl ListOptions {
    /// The rules of `ValidateListOptions`.
    fn check(&self) -> Result<(), Status> {
        let refuse = |field: &str, detail: &str| {
            Err(Status::invalid("meta.k8s.io", "ListOptions", "", vec![Cause::forbidden(field, detail)]))
        };
        if self.watch {
            return match (self.version_match, self.initial_events) {
                (Some(_), None) => refuse(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                ),
                (None, Some(_)) => refuse(
                    "resourceVersionMatch",
                    "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                ),
                _ => Ok(()),
            };
        }
        if self.initial_events.is_some() {
            return refuse("sendInitialEvents", "sendInitialEvents is forbidden for list");
        }
        match self.version_match {
            Some(_) if !self.continue_token.is_empty() => {
                refuse("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided")
            }
            Some(_) if self.resource_version.is_none() => {
                refuse("resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided")
            }
            Some(VersionMatch::Exact) if self.resource_version == Some(0) => {
                refuse("resourceVersionMatch", "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"")
            }
            _ if !self.continue_token.is_empty() && self.resource_version.is_some_and(|v| v != 0) => {
                Err(Status::bad_request("specifying resource version is not allowed when using continue"))
            }
            _ => Ok(()),
        }
    }
}
