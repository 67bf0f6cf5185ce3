//! Configuration files of wg(8) and wg-quick(8).

#![no_main]

use libfuzzer_sys::fuzz_target;
use tombolo_wireguard::config;

fuzz_target!(|bytes: &[u8]| {
    let read = match config::parse_bytes(bytes) {
        Ok(read) => read,
        Err(error) => {
            assert!(error.line <= bytes.iter().filter(|c| **c == b'\n').count() + 1, "{error}");
            return;
        }
    };
    let written = read.to_string();
    assert_eq!(config::parse(&written).as_ref(), Ok(&read), "what is written is read as it was:\n{written}");
});
