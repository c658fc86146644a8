//! Any packets on the CNI socket.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::cni::run(input));
