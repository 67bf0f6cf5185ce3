//! Agreeing with the client on how the streams are carried.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::websocket::Kind;
use crate::status::Status;

static STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const SPDY: &str = "SPDY/3.1";
/// The only version over SPDY: every client since Kubernetes 1.4 knows it.
const SPDY_PROTOCOL: &str = "v4.channel.k8s.io";

/// What client and server agreed on.
#[derive(Debug)]
pub(super) struct Upgrade {
    pub(super) protocol: Protocol,
    headers: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    WebSocket(Kind),
    Spdy,
}

impl Upgrade {
    /// Chooses by the request's headers.
    pub(super) fn negotiate(headers: &HeaderMap) -> Result<Self, Status> {
        let wanted = headers.get(header::UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !list(headers, &header::CONNECTION).any(|word| word.eq_ignore_ascii_case("upgrade")) {
            return Err(Status::bad_request("you must request an upgrade of the connection to WebSocket or SPDY/3.1"));
        }
        if wanted.eq_ignore_ascii_case("websocket") {
            return websocket(headers);
        }
        if wanted.eq_ignore_ascii_case(SPDY) {
            return spdy(headers);
        }
        Err(Status::bad_request(format!(
            "the connection cannot be upgraded to {wanted:?}; streams are carried by WebSocket and SPDY/3.1"
        )))
    }

    /// The answer after which the streams begin.
    pub(super) fn response(&self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        response.headers_mut().extend(self.headers.iter().cloned());
        response
    }
}

fn websocket(headers: &HeaderMap) -> Result<Upgrade, Status> {
    let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY) else {
        return Err(Status::bad_request("the header Sec-WebSocket-Key is missing"));
    };
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Status::bad_request("the version of WebSocket is not 13"));
    }
    let offered = || list(headers, &header::SEC_WEBSOCKET_PROTOCOL);
    let Some(kind) = Kind::ALL.into_iter().find(|kind| offered().any(|name| name == kind.name())) else {
        let (offered, known) = (offered().collect::<Vec<_>>().join(", "), Kind::ALL.map(Kind::name).join(", "));
        return Err(Status::bad_request(format!(
            "none of the WebSocket subprotocols {offered:?} is known; known are {known}"
        )));
    };
    let accept = accept_key(key.as_bytes())?;
    let headers = vec![
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_ACCEPT, accept),
        (header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(kind.name())),
    ];
    Ok(Upgrade { protocol: Protocol::WebSocket(kind), headers })
}

fn accept_key(key: &[u8]) -> Result<HeaderValue, Status> {
    let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key);
    HeaderValue::from_str(&accept).map_err(|_| Status::bad_request("the header Sec-WebSocket-Key is wrong"))
}

fn spdy(headers: &HeaderMap) -> Result<Upgrade, Status> {
    let mut offered = list(headers, &STREAM_PROTOCOL);
    if !offered.any(|name| name == SPDY_PROTOCOL) {
        let offered = list(headers, &STREAM_PROTOCOL).collect::<Vec<_>>().join(", ");
        return Err(Status::new(
            403,
            "Forbidden",
            format!("none of the stream protocols {offered:?} is known; known is {SPDY_PROTOCOL}"),
        ));
    }
    let headers = vec![
        (header::UPGRADE, HeaderValue::from_static(SPDY)),
        (STREAM_PROTOCOL.clone(), HeaderValue::from_static(SPDY_PROTOCOL)),
    ];
    Ok(Upgrade { protocol: Protocol::Spdy, headers })
}

/// The words of a header that may be given several times, or with commas.
fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let parse = |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        let mut headers = HeaderMap::new();
        for (name, value) in lines.iter().map(parse) {
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn the_best_common_protocol_is_chosen() {
        let websocket = |protocols| {
            headers(&[
                ("connection", "keep-alive, Upgrade"),
                ("upgrade", "websocket"),
                ("sec-websocket-version", "13"),
                ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ("sec-websocket-protocol", protocols),
            ])
        };
        let upgrade = Upgrade::negotiate(&websocket("v4.channel.k8s.io, v5.channel.k8s.io")).unwrap();
        assert_eq!(upgrade.protocol, Protocol::WebSocket(Kind::V5));
        // The example of RFC 6455, section 1.3.
        assert_eq!(upgrade.response().headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let upgrade = Upgrade::negotiate(&websocket("v4.channel.k8s.io")).unwrap();
        assert_eq!(upgrade.response().headers()["sec-websocket-protocol"], "v4.channel.k8s.io");
        assert_eq!(Upgrade::negotiate(&websocket("chat")).unwrap_err().code, 400);
    }

    #[test]
    fn old_clients_get_spdy() {
        let upgrade = Upgrade::negotiate(&headers(&[
            ("connection", "Upgrade"),
            ("upgrade", "SPDY/3.1"),
            ("x-stream-protocol-version", "v4.channel.k8s.io"),
            ("x-stream-protocol-version", "v3.channel.k8s.io"),
        ]))
        .unwrap();
        assert_eq!(upgrade.protocol, Protocol::Spdy);
        assert_eq!(upgrade.response().status(), 101);
        assert_eq!(Upgrade::negotiate(&headers(&[("upgrade", "SPDY/3.1")])).unwrap_err().code, 400);
        assert_eq!(
            Upgrade::negotiate(&headers(&[("connection", "Upgrade"), ("upgrade", "SPDY/3.1")])).unwrap_err().code,
            403
        );
    }
}
