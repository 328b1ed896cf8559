#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pilotfish_fuzz::runtime_socket(bytes));
