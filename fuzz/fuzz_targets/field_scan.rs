//! `RUSTC_BOOTSTRAP=1 cargo fuzz run field_scan`
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| switchyard_fuzz::field_scan(input));
