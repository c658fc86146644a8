//! Any octets on the control socket, from either side.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::control::run(input));
