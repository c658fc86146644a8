//! Any events as the life of an EVPN engine.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::engine::run(input));
