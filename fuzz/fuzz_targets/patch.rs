//! Objects and patches of them, two JSON documents: JSON, merge, strategic-merge and server-side-apply patches.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tombolo_apiserver::patch::fuzz(bytes));
