#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| boxoffice::server::fuzz::templates(bytes));
