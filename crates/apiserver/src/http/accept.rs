//! Which form of an answer a client can read.

use http::{HeaderMap, header};

use crate::status::Status;

/// How objects are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// As they are.
    Whole,
    /// `meta.k8s.io` Table, of version `v1` or `v1beta1`.
    Table(&'static str),
    /// `meta.k8s.io` PartialObjectMetadata, of version `v1` or `v1beta1`.
    Metadata(&'static str),
}

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Media {
    pub(crate) shape: Shape,
    pub(crate) yaml: bool,
}

/// One entry of an `Accept` header.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Entry<'a> {
    mime: &'a str,
    parameters: &'a str,
    quality: f32,
}

const OFFERED: [&str; 2] = ["application/json", "application/yaml"];

impl Media {
    pub(crate) const JSON: Media = Media { shape: Shape::Whole, yaml: false };

    /// The first form of the `Accept` header that this server can write. Protobuf and CBOR are passed over: clients
    /// that ask for them name JSON after it.
    ///
    /// # Errors
    /// 406 when there is none.
    pub(crate) fn negotiate(headers: &HeaderMap) -> Result<Self, Status> {
        let entries = entries(headers);
        if entries.is_empty() {
            return Ok(Media::JSON);
        }
        entries.iter().find_map(Entry::media).ok_or_else(|| Status::not_acceptable(&OFFERED))
    }

    /// The `Content-Type` of the answer.
    pub(crate) fn content_type(self) -> &'static str {
        if self.yaml { "application/yaml" } else { "application/json" }
    }
}

/// Whether the `Accept` header names a media type with all these parameters.
pub(crate) fn lists(headers: &HeaderMap, mime: &str, parameters: &[(&str, &str)]) -> bool {
    entries(headers).iter().any(|e| e.mime == mime && parameters.iter().all(|(n, v)| e.parameter(n) == Some(v)))
}

impl<'a> Entry<'a> {
    fn parameter(&self, name: &str) -> Option<&'a str> {
        let pairs = self.parameters.split(';').filter_map(|p| p.trim().split_once('='));
        pairs.into_iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    fn media(&self) -> Option<Media> {
        let yaml = match self.mime {
            "application/json" | "application/*" | "*/*" => false,
            "application/yaml" | "text/yaml" => true,
            _ => return None,
        };
        let version = || match (self.parameter("g"), self.parameter("v")) {
            (Some("meta.k8s.io"), Some("v1")) => Some("meta.k8s.io/v1"),
            (Some("meta.k8s.io"), Some("v1beta1")) => Some("meta.k8s.io/v1beta1"),
            _ => None,
        };
        let shape = match self.parameter("as") {
            None => Shape::Whole,
            Some("Table") => Shape::Table(version()?),
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") => Shape::Metadata(version()?),
            Some(_) => return None,
        };
        Some(Media { shape, yaml })
    }
}

/// The entries, the most wanted first.
fn entries(headers: &HeaderMap) -> Vec<Entry<'_>> {
    let values = headers.get_all(header::ACCEPT).into_iter().filter_map(|v| v.to_str().ok());
    let mut entries: Vec<Entry<'_>> = values.flat_map(|v| v.split(',')).filter_map(entry).collect();
    entries.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    entries
}

fn entry(text: &str) -> Option<Entry<'_>> {
    let (mime, parameters) = text.split_once(';').unwrap_or((text, ""));
    let mime = mime.trim();
    let entry = Entry { mime, parameters, quality: 1.0 };
    let quality = entry.parameter("q").and_then(|q| q.parse().ok()).unwrap_or(1.0);
    (!mime.is_empty()).then_some(Entry { quality, ..entry })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn negotiate(accept: &str) -> Result<Media, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        Media::negotiate(&headers).map_err(|status| status.code)
    }

    #[test]
    fn the_first_form_that_can_be_had_is_taken() {
        let table = Media { shape: Shape::Table("meta.k8s.io/v1"), yaml: false };
        let cases = [
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                Ok(table),
            ),
            ("application/vnd.kubernetes.protobuf,application/json", Ok(Media::JSON)),
            ("application/vnd.kubernetes.protobuf, */*", Ok(Media::JSON)),
            (
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                Ok(Media { shape: Shape::Metadata("meta.k8s.io/v1"), yaml: false }),
            ),
            ("application/yaml", Ok(Media { shape: Shape::Whole, yaml: true })),
            ("application/yaml;q=0.5, application/json", Ok(Media::JSON)),
            ("application/vnd.kubernetes.protobuf", Err(406)),
            ("application/json;as=Table;v=v7;g=meta.k8s.io", Err(406)),
        ];
        for (accept, expected) in cases {
            assert_eq!(negotiate(accept), expected, "{accept}");
        }
    }
}
