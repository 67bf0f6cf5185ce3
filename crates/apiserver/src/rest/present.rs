//! Writing answers in the form that the client asked for.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

use super::call::Call;
use crate::convert::to_served;
use crate::http::{Media, Shape};
use crate::object;
use crate::status::Status;
use crate::tables::{self, IncludeObject, Printer, TableOptions};

/// The metadata of a list.
#[derive(Debug, Clone, Default)]
pub(super) struct ListMeta {
    pub(super) revision: u64,
    pub(super) continue_token: String,
    pub(super) remaining: Option<usize>,
}

/// An answer in JSON.
pub(crate) fn json_response(code: u16, value: &Value) -> Response {
    bytes_response(code, "application/json", serde_json::to_vec(value).unwrap_or_default())
}

impl Call {
    /// Answers with a stored object.
    pub(super) fn present(&self, code: u16, stored: &Arc<Value>) -> Result<Response, Status> {
        let object = to_served(&self.resource, stored);
        let meta = json!({"resourceVersion": object::resource_version(&object)});
        match self.media.shape {
            Shape::Whole => Ok(self.write(code, &object)),
            Shape::Metadata(version) => Ok(self.write(code, &partial(&object, version))),
            Shape::Table(_) => {
                let options = self.table_options(true)?;
                Ok(self.write(code, &tables::render(&self.printer(), &[object], meta, &options)))
            }
        }
    }

    /// Answers with a list of stored objects.
    pub(super) fn present_list(&self, stored: &[Arc<Value>], meta: ListMeta) -> Result<Response, Status> {
        let items: Vec<Arc<Value>> = stored.iter().map(|o| to_served(&self.resource, o)).collect();
        let meta = meta.to_value();
        match self.media.shape {
            Shape::Table(_) => {
                let options = self.table_options(true)?;
                Ok(self.write(200, &tables::render(&self.printer(), &items, meta, &options)))
            }
            Shape::Metadata(version) => {
                let items: Vec<Value> = items.iter().map(|o| partial(o, version)).collect();
                Ok(self.write(200, &list_of("PartialObjectMetadataList", version, meta, items)))
            }
            Shape::Whole if self.media.yaml => {
                let items = items.iter().map(|o| Value::clone(o)).collect();
                let version = self.resource.gvr.api_version();
                Ok(self.write(200, &list_of(&self.resource.list_kind, &version, meta, items)))
            }
            Shape::Whole => Ok(bytes_response(200, "application/json", self.list_bytes(&items, &meta))),
        }
    }

    /// Answers with any object.
    pub(super) fn write(&self, code: u16, value: &Value) -> Response {
        write(self.media, code, value)
    }

    /// The columns of the resource.
    pub(super) fn printer(&self) -> Printer {
        match &self.resource.custom {
            None => Printer::builtin(self.group(), &self.resource.kind),
            Some(custom) => Printer::custom(custom.version.get("additionalPrinterColumns")),
        }
    }

    pub(super) fn table_options(&self, headers: bool) -> Result<TableOptions<'static>, Status> {
        let include_object = IncludeObject::parse(self.query.get("includeObject")).map_err(Status::bad_request)?;
        let Shape::Table(api_version) = self.media.shape else { return Ok(TableOptions::default()) };
        Ok(TableOptions { include_object, headers, api_version, ..TableOptions::default() })
    }

    /// The list, written item by item, so that no second copy of the objects is made.
    fn list_bytes(&self, items: &[Arc<Value>], meta: &Value) -> Vec<u8> {
        let head =
            json!({"kind": &*self.resource.list_kind, "apiVersion": self.resource.gvr.api_version(), "metadata": meta});
        let mut bytes = head.to_string().into_bytes();
        bytes.pop();
        bytes.extend_from_slice(b",\"items\":[");
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                bytes.push(b',');
            }
            // Writing to memory does not fail.
            let _ = serde_json::to_writer(&mut bytes, &**item);
        }
        bytes.extend_from_slice(b"]}");
        bytes
    }
}

impl ListMeta {
    fn to_value(&self) -> Value {
        let mut meta = Map::new();
        meta.insert("resourceVersion".into(), self.revision.to_string().into());
        if !self.continue_token.is_empty() {
            meta.insert("continue".into(), self.continue_token.as_str().into());
        }
        if let Some(remaining) = self.remaining {
            meta.insert("remainingItemCount".into(), remaining.into());
        }
        Value::Object(meta)
    }
}

/// A `PartialObjectMetadata`.
pub(super) fn partial(object: &Value, version: &str) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": version, "metadata": object["metadata"]})
}

fn list_of(kind: &str, version: &str, meta: Value, items: Vec<Value>) -> Value {
    json!({"kind": kind, "apiVersion": version, "metadata": meta, "items": items})
}

fn write(media: Media, code: u16, value: &Value) -> Response {
    let bytes = if media.yaml {
        serde_yaml_ng::to_string(value).unwrap_or_default().into_bytes()
    } else {
        serde_json::to_vec(value).unwrap_or_default()
    };
    bytes_response(code, media.content_type(), bytes)
}

fn bytes_response(code: u16, content_type: &'static str, bytes: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}
