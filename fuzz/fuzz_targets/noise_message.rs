//! WireGuard's messages: handshakes, cookies and data, as anybody can send them.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tombolo_noise::fuzz(bytes));
