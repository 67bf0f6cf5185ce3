//! Control packets of bidirectional forwarding detection.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tombolo_bfd::fuzz(bytes));
