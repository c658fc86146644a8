//! Any octets as notifications of the kernel.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::netlink::run(input));
