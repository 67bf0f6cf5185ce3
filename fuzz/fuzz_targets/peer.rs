//! Peer objects as the API server sends them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tombolo_mesh::peer;

fuzz_target!(|bytes: &[u8]| {
    let Ok(object) = serde_json::from_slice(bytes) else { return };
    match peer::from_json(object) {
        Ok((peer, refusals)) => {
            assert!(!peer.public_key.is_zero(), "a peer has a key");
            assert!(refusals.iter().all(|r| !r.field.is_empty() && !r.reason.is_empty()), "{refusals:?}");
        }
        Err(refusal) => assert!(!refusal.to_string().is_empty()),
    }
});
