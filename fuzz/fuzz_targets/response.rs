//! Any answer of a collector.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| spangate_fuzz::response(data));
