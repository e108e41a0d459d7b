#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| boxoffice::testing::fuzz::event_codec(bytes));
