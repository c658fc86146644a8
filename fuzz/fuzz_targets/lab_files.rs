//! Any octets as the files of a lab.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::lab::run(input));
