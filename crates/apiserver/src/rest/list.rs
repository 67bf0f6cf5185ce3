//! Lists, whole or in pages.

use std::sync::Arc;

use axum::response::Response;
use serde_json::Value;

use super::call::Call;
use super::pages::{self, Token};
use super::watch;
use crate::http::{ListOptions, VersionMatch};
use crate::object;
use crate::status::Status;
use crate::store::List;

pub(super) fn list(call: &Call) -> Result<Response, Status> {
    let options = call.list_options()?;
    if options.watch {
        return watch::stream(call, options);
    }
    let token = Token::parse(&options.continue_token)?;
    let mut list = snapshot(call, &options, token.as_ref())?;
    if let Some(token) = &token {
        list.items.retain(|o| (object::namespace(o), object::name(o)) > (&*token.namespace, &*token.name));
    }
    list.items.retain(|o| options.matches(call, o));
    let (items, meta) = pages::cut(list, &options);
    call.present_list(&items, meta)
}

/// The objects that the list is of, selectors aside.
fn snapshot(call: &Call, options: &ListOptions, token: Option<&Token>) -> Result<List, Status> {
    let store = &call.server.store;
    let (storage, namespace) = (&call.resource.storage, call.path.namespace.as_deref());
    if let Some(token) = token {
        return store.list_at(storage, namespace, token.revision).map_err(|_| pages::expired());
    }
    let asked = options.resource_version.unwrap_or(0);
    let exact = match options.version_match {
        Some(VersionMatch::Exact) => true,
        Some(VersionMatch::NotOlderThan) => false,
        // What a list in pages meant before there was `resourceVersionMatch`.
        None => asked > 0 && options.limit > 0,
    };
    if exact || asked > store.revision() {
        return store.list_at(storage, namespace, asked);
    }
    Ok(store.list(storage, namespace))
}

impl Call {
    pub(super) fn list_options(&self) -> Result<ListOptions, Status> {
        let custom = self.resource.custom.as_ref();
        let fields = custom.and_then(|c| c.version.get("selectableFields")).and_then(Value::as_array);
        let paths = fields.into_iter().flatten().filter_map(|f| f["jsonPath"].as_str());
        let paths: Vec<&str> = paths.map(|p| p.trim_start_matches('.')).collect();
        let mut options = self.query.list_options(self.group(), &self.resource.kind, &paths)?;
        options.watch |= self.path.watch;
        Ok(options)
    }
}

impl ListOptions {
    /// Whether the selectors take a stored object.
    pub(super) fn matches(&self, call: &Call, stored: &Arc<Value>) -> bool {
        if !self.labels.matches(stored) {
            return false;
        }
        self.fields.is_empty() || self.fields.matches(&crate::convert::to_served(&call.resource, stored))
    }
}
