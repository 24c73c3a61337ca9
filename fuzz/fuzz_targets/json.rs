//! Any document as OTLP/JSON.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| spangate_fuzz::json(data));
