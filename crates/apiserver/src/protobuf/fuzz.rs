//! The entry point for fuzzing: bytes in, an object out, or a reason.

use serde_json::Value;

use super::{MAGIC, decode, deeper_than, message, table};

/// Reads `bytes` as a body with and without its prefix, and as each message of the table. Panics where a law does not
/// hold; anything else is fine.
///
/// A cargo-fuzz target is `fuzz_target!(|data: &[u8]| tombolo_apiserver::protobuf::fuzz(data));`.
pub fn fuzz(bytes: &[u8]) {
    for body in [bytes, &[MAGIC, bytes].concat()] {
        let Ok(object) = decode(body) else { continue };
        assert!(object["kind"].is_string() && object["apiVersion"].is_string(), "an object says what it is");
        assert!(!deeper_than(&object, message::MAX_DEPTH), "an object has a bounded depth");
        assert!(serde_json::from_str::<Value>(&object.to_string()).is_ok(), "an object can be stored and read again");
    }
    for fields in table::names().filter_map(table::message) {
        let _ = message::decode(fields, bytes);
    }
}
