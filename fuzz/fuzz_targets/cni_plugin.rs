//! Any environment, standard input and IPAM result for the CNI plugin.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::plugin::run(input));
