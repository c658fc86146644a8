//! Any events and octets as a session.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::session::run(input));
