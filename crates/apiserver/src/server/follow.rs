//! What the server itself keeps up to date with the store, whoever writes to it.

use std::sync::Arc;

use super::{Shared, bootstrap, definitions};
use crate::object;
use crate::store::{Event, EventKind, Subscription};

/// Follows every event until the server is shut down.
pub(super) async fn run(shared: Arc<Shared>, mut events: Subscription) {
    definitions::resume(&shared);
    loop {
        let event = tokio::select! {
            () = shared.shutdown.cancelled() => return,
            event = events.next() => event,
        };
        let Some(event) = event else { return };
        if event.gvr.is("", "services") {
            service(&shared, &event);
        } else {
            definitions::handle(&shared, &event);
        }
    }
}

/// Keeps the addresses of Services in step with the store.
fn service(shared: &Shared, event: &Event) {
    shared.settle_addresses(&event.object);
    if event.kind == EventKind::Deleted
        && (object::namespace(&event.object), object::name(&event.object)) == ("default", "kubernetes")
    {
        bootstrap::own_service(shared);
    }
}
