#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pilotfish_fuzz::import(bytes, &|_| None));
