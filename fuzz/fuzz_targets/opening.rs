//! See `tern_fuzz::opening`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tern_fuzz::opening(data));
