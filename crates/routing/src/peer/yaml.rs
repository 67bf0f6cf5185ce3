//! The annotation `kube-router.io/peers`.

use serde_yaml_ng::{Mapping, Value};
use tombolo_bgp::config::{Bfd, PORT};

use super::{BFD_PORT, Peer, PeerBfd, add, bfd};
use crate::parse::{self, Problem};

/// The most bytes that the annotation may have: room for some 400 peers.
const LONGEST: usize = 16_384;

/// The peers in a YAML list of objects; none where the text is no list. An object with something wrong is left out.
pub(crate) fn from_yaml(text: &str, name: &str, problems: &mut Vec<Problem>) -> Option<Vec<Peer>> {
    let next = "write a list of objects with remoteip and remoteasn: [{remoteip: 192.0.2.1, remoteasn: 65000}]";
    // A parser's time grows with the square of some texts' length, and every agent reads every node's annotation.
    if text.len() > LONGEST {
        let reason = format!("it has {} bytes and may have {LONGEST}; {next}", text.len());
        problems.push(Problem::new(name, "…", reason));
        return None;
    }
    // A few bytes of aliases stand for gigabytes. Nothing that a peer has needs this sign.
    if text.contains('&') {
        problems.push(Problem::new(name, "…", format!("there is an anchor (&) in it, and none is taken; {next}")));
        return None;
    }
    // The text itself may hold passwords, and so may what the parser quotes.
    let list = match serde_yaml_ng::from_str::<Value>(text) {
        Ok(Value::Sequence(list)) => list,
        Ok(_) => {
            problems.push(Problem::new(name, "…", format!("it is no list; {next}")));
            return None;
        }
        Err(error) => {
            let at = error.location().map(|l| format!(" (line {}, column {})", l.line(), l.column()));
            problems.push(Problem::new(name, "…", format!("it is no YAML{}; {next}", at.unwrap_or_default())));
            return None;
        }
    };
    let mut peers = Vec::new();
    for (i, item) in list.iter().enumerate() {
        let field = format!("{name}[{i}]");
        let Value::Mapping(object) = item else {
            problems.push(Problem::new(field, "…", format!("it is no object; {next}")));
            continue;
        };
        let mut reader = Reader { field: &field, problems: &mut *problems, sound: true };
        let peer = reader.peer(object);
        if reader.sound
            && let Some(peer) = peer
        {
            add(&mut peers, peer, &format!("{field}.remoteip"), problems);
        }
    }
    Some(peers)
}

struct Reader<'a> {
    field: &'a str,
    problems: &'a mut Vec<Problem>,
    sound: bool,
}

impl Reader<'_> {
    fn peer(&mut self, object: &Mapping) -> Option<Peer> {
        self.unknown("", object, &["remoteip", "remoteasn", "localip", "password", "port", "bfd"]);
        let address = self.required(object, "remoteip", parse::host);
        let asn = self.required(object, "remoteasn", parse::asn);
        let local_address = self.optional(object, "localip", parse::host);
        let port = self.optional(object, "port", parse::port).unwrap_or(PORT);
        let password = match text(object, "password") {
            None => None,
            Some(text) => match parse::password(&text) {
                Ok(password) => Some(password).filter(|password| !password.0.is_empty()),
                Err(reason) => {
                    self.fail(".password", "…", &reason);
                    None
                }
            },
        };
        let bfd = self.bfd(object);
        Some(Peer { address: address?, asn: asn?, port, local_address, password, bfd })
    }

    fn bfd(&mut self, object: &Mapping) -> PeerBfd {
        let object = match object.get("bfd") {
            None | Some(Value::Null) => return PeerBfd::AsFlags,
            Some(Value::Mapping(object)) => object,
            Some(_) => {
                self.fail(".bfd", "…", "it is no object; write {enabled: true}");
                return PeerBfd::Off;
            }
        };
        let known = ["enabled", "port", "desired_min_tx_interval", "required_min_rx_interval", "detection_multiplier"];
        self.unknown(".bfd", object, &known);
        let enabled = match object.get("enabled") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(enabled)) => *enabled,
            Some(_) => {
                self.fail(".bfd.enabled", "…", "it is neither true nor false; write one of them");
                false
            }
        };
        let mut number = |key: &str, default: u64| match text(object, key) {
            None => default,
            Some(text) => parse::number(&text).unwrap_or_else(|| {
                self.fail(&format!(".bfd.{key}"), &text, "it is no number; write one");
                default
            }),
        };
        let port = number("port", u64::from(BFD_PORT));
        let timers = (
            number("desired_min_tx_interval", 1000),
            number("required_min_rx_interval", 1000),
            number("detection_multiplier", 3),
        );
        if port != u64::from(BFD_PORT) {
            let reason = format!("BFD over one hop has the port {BFD_PORT} (RFC 5881); leave port out");
            self.fail(".bfd.port", &port.to_string(), &reason);
        }
        let timers: Option<Bfd> = match bfd(timers.0, timers.1, timers.2) {
            Ok(timers) => Some(timers),
            Err((key, value, reason)) => {
                self.fail(&format!(".bfd.{key}"), &value.to_string(), &reason);
                None
            }
        };
        timers.filter(|_| enabled).map_or(PeerBfd::Off, PeerBfd::On)
    }

    fn required<T>(&mut self, object: &Mapping, key: &str, parse: fn(&str) -> Result<T, String>) -> Option<T> {
        if text(object, key).is_none() {
            self.fail(&format!(".{key}"), "", "it is not given, and a peer needs it; write it");
            return None;
        }
        self.optional(object, key, parse)
    }

    fn optional<T>(&mut self, object: &Mapping, key: &str, parse: fn(&str) -> Result<T, String>) -> Option<T> {
        let text = text(object, key)?;
        parse(&text).map_err(|reason| self.fail(&format!(".{key}"), &text, &reason)).ok()
    }

    /// A key that is not known may be a slip, but does not make the rest wrong.
    fn unknown(&mut self, within: &str, object: &Mapping, known: &[&str]) {
        for key in object.keys() {
            let key = scalar(key);
            if !key.as_deref().is_some_and(|key| known.contains(&key)) {
                let reason = format!("it is not known and has no effect; write one of {}", known.join(", "));
                let key = key.unwrap_or_else(|| "…".to_owned());
                self.problems.push(Problem::new(format!("{}{within}", self.field), key, reason));
            }
        }
    }

    fn fail(&mut self, key: &str, value: &str, reason: &str) {
        self.sound = false;
        let reason = format!("{reason}; the peer is left out");
        self.problems.push(Problem::new(format!("{}{key}", self.field), value, reason));
    }
}

/// The value of a key as text; an empty one is not given.
fn text(object: &Mapping, key: &str) -> Option<String> {
    match object.get(key)? {
        Value::Null => None,
        // What is neither text nor number is wrong, and no parser takes this for right.
        value => Some(scalar(value).unwrap_or_else(|| "…".to_owned())).filter(|text| !text.is_empty()),
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        _ => None,
    }
}
