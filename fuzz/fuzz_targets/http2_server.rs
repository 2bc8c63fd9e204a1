//! `RUSTC_BOOTSTRAP=1 cargo fuzz run http2_server`
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| switchyard_fuzz::http2_server(input));
