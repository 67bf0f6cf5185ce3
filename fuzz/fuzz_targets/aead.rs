//! Encryption of our own against ring's: key, counter and text as they come.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tombolo_aead::fuzz(bytes));
