//! The answer to an apply that would change what others have set.

use std::collections::BTreeMap;

use super::fields::FieldSet;
use super::managers::{Manager, Operation};
use crate::status::{Cause, Details, Status};

/// Fields of one manager that an apply would change.
#[derive(Debug)]
pub(super) struct Conflict {
    pub(super) manager: Manager,
    pub(super) fields: FieldSet,
}

/// 409 with a cause a field, in kube-apiserver's words.
pub(super) fn status(conflicts: &[Conflict]) -> Status {
    let mut causes = Vec::new();
    let mut by_manager: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for conflict in conflicts {
        let manager = shown(&conflict.manager);
        for path in conflict.fields.paths() {
            causes.push(Cause::new("FieldManagerConflict", path.clone(), format!("conflict with {manager}")));
            by_manager.entry(manager.clone()).or_default().push(path);
        }
    }

    let message = match causes.as_slice() {
        [one] => format!("Apply failed with 1 conflict: {}: {}", one.message, one.field),
        many => {
            let lines: Vec<String> = by_manager
                .iter()
                .flat_map(|(manager, paths)| {
                    let head = format!("conflicts with {manager}:");
                    std::iter::once(head).chain(paths.iter().map(|path| format!("- {path}")))
                })
                .collect();
            format!("Apply failed with {} conflicts: {}", many.len(), lines.join("\n"))
        }
    };
    Status::new(409, "Conflict", message).with_details(Details { causes, ..Details::default() })
}

fn shown(manager: &Manager) -> String {
    let mut text = format!("{:?}", manager.name);
    if !manager.subresource.is_empty() {
        text.push_str(&format!(" with subresource {:?}", manager.subresource));
    }
    if manager.operation == Operation::Update {
        text.push_str(&format!(" using {}", manager.api_version));
        if let Some(time) = &manager.time {
            text.push_str(&format!(" at {time}"));
        }
    }
    text
}
