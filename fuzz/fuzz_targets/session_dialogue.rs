//! Any network between two speakers.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::dialogue::run(input));
