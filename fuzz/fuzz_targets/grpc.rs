//! The frame around the message of a gRPC call.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| spangate_fuzz::grpc(data));
