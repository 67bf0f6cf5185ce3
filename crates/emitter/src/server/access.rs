//! What an admitted cluster may ask for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tombolo_apiserver::status::Details;
use tombolo_apiserver::{Attributes, Authorizer, Status};

use crate::EmittedKind;

/// When to ask again for what is not there yet, in seconds.
const AGAIN: u32 = 2;

/// Reading what is emitted, once all of it is there; discovery at any time; nothing else.
#[derive(Debug)]
pub(super) struct ReadOnly {
    ready: Arc<AtomicBool>,
}

impl ReadOnly {
    pub(super) fn new(ready: Arc<AtomicBool>) -> Self {
        ReadOnly { ready }
    }
}

impl Authorizer for ReadOnly {
    fn authorize(&self, asked: &Attributes<'_>) -> Result<(), Status> {
        let Some(resource) = &asked.resource else {
            let reads = matches!(asked.verb, "get" | "head");
            let discovery = ["/", "/api", "/apis", "/version"].contains(&asked.path)
                || ["/api/", "/apis/", "/openapi/"].iter().any(|below| asked.path.starts_with(below));
            return if reads && discovery { Ok(()) } else { Err(asked.forbidden("")) };
        };
        let emitted = |kind: EmittedKind| kind.resource() == (resource.group, resource.resource);
        let reads = matches!(asked.verb, "get" | "list" | "watch") && resource.subresource.is_empty();
        if !reads || !EmittedKind::ALL.into_iter().any(emitted) {
            return Err(asked.forbidden("an emitter lets exported services be read, and nothing else"));
        }
        match self.ready.load(Ordering::Acquire) {
            true => Ok(()),
            false => Err(unready()),
        }
    }
}

/// An empty list would be taken for "all gone".
pub(super) fn unready() -> Status {
    let message = "the emitter has just started and does not know yet all that its cluster exports; ask again";
    let details = Details { retry_after_seconds: AGAIN, ..Details::default() };
    Status::new(503, "ServiceUnavailable", message).with_details(details)
}
