//! `limit` and `continue`: the pages of one list, all of the same resource version.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::present::ListMeta;
use crate::http::ListOptions;
use crate::object;
use crate::status::Status;
use crate::store::List;

/// A place in a list; what `continue` carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Token {
    #[serde(rename = "v")]
    api: String,
    #[serde(rename = "rv")]
    pub(super) revision: u64,
    /// The last object of the page before.
    #[serde(rename = "ns")]
    pub(super) namespace: String,
    #[serde(rename = "start")]
    pub(super) name: String,
}

impl Token {
    /// Reads `continue`; an empty one is none.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, Status> {
        if text.is_empty() {
            return Ok(None);
        }
        let token = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let token: Option<Token> = token.filter(|token: &Token| token.api == "meta.k8s.io/v1");
        token.map(Some).ok_or_else(|| Status::bad_request("continue key is not valid: it was not made by this server"))
    }

    fn write(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }
}

/// The first page of what is left of a list.
pub(super) fn cut(mut list: List, options: &ListOptions) -> (Vec<Arc<Value>>, ListMeta) {
    let mut meta = ListMeta { revision: list.revision, ..ListMeta::default() };
    if options.limit == 0 || list.items.len() <= options.limit {
        return (list.items, meta);
    }
    // Behind a selector a real server doesn't know how many are left.
    let known = options.labels.is_empty() && options.fields.is_empty();
    meta.remaining = known.then_some(list.items.len() - options.limit);
    list.items.truncate(options.limit);
    if let Some(last) = list.items.last() {
        let token = Token {
            api: "meta.k8s.io/v1".into(),
            revision: list.revision,
            namespace: object::namespace(last).into(),
            name: object::name(last).into(),
        };
        meta.continue_token = token.write();
    }
    (list.items, meta)
}

/// 410 for a page of a list that is too old.
pub(super) fn expired() -> Status {
    Status::expired(
        "The provided continue parameter is too old to display a consistent list result. You must start a new list without the continue parameter.",
    )
}
