//! What a request asks for, before anybody acts on it: path, query, media types, body.

mod accept;
mod body;
mod path;
mod query;

pub(crate) use accept::{Media, Shape, lists};
pub(crate) use body::{PatchKind, decode, patch_kind, read};
pub(crate) use path::{ResourcePath, Route, route};
pub(crate) use query::{ListOptions, Query, VersionMatch};
