//! How long an answer may be kept, by any `Cache-Control`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| spangate_fuzz::cache_control(data));
