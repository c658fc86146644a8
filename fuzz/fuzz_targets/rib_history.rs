//! Any steps as the life of a RIB with seven peers.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::rib::run(input));
