//! Any octets as BGP messages, in every context a session can have.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::message::run(input));
