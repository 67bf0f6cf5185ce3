//! What a client of exec and attach sends over SPDY: frames and their compressed headers.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tombolo_apiserver::exec::fuzz(bytes));
