//! UPDATEs changed element by element through a reflector: what comes out is what the strictest reader takes.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|input: &[u8]| fuzz::reflect::run(input));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    if seed.is_multiple_of(8) {
        return fuzzer_mutate(data, size, max_size);
    }
    let changed = fuzz::reflect::mutate(data.get(..size).unwrap_or_default(), max_size, seed);
    fuzz::mutate::fill(data, &changed)
});
