//! See `tern_fuzz::brain`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tern_fuzz::brain(data));
