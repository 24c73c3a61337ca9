//! Credentials in any headers, and the claims of any job token.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| spangate_fuzz::credentials(data));
