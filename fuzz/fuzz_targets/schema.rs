//! Schemas of custom resources and objects that they are for, two JSON documents.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tombolo_apiserver::schema::fuzz(bytes));
