//! Service names as prost reads them; changed field by field.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| spangate_fuzz::service(data));

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    spangate_fuzz::mutate::protobuf(1, data, size, max_size, seed)
});
