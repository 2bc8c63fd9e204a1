//! `RUSTC_BOOTSTRAP=1 cargo fuzz run hpack`
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| switchyard_fuzz::hpack(input));
