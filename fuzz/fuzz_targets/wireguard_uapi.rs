//! The userspace protocol of WireGuard: requests as a device reads them, answers as a client does.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tombolo_wireguard::uapi::{self, Request};

fuzz_target!(|text: &str| {
    if let Ok(request) = Request::parse(text) {
        let written = request.to_string();
        assert_eq!(Request::parse(&written).as_ref(), Ok(&request), "what is written is read as it was:\n{written}");
    }
    let _ = uapi::split_answer(text);
    if let Ok(status) = uapi::parse_status(text) {
        let written = uapi::render_status(&status);
        assert_eq!(uapi::parse_status(&written).as_ref(), Ok(&status), "what is written is read as it was:\n{written}");
    }
});
