//! Any text as the configuration file of either daemon.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::config::run(input));
