//! One object.

use axum::response::Response;

use super::call::Call;
use crate::status::Status;

pub(super) fn get(call: &Call) -> Result<Response, Status> {
    let stored = call.stored()?;
    if let Some(asked) = call.query.number("resourceVersion")? {
        // Fails when it asks for what is still to come.
        let present = call.server.store.revision();
        if asked > present {
            call.server.store.list_at(&call.resource.storage, None, asked)?;
        }
    }
    call.present(200, &stored)
}
