//! Bodies of requests in Kubernetes' protobuf.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tombolo_apiserver::protobuf::fuzz(bytes));
