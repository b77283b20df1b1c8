#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::sharechain::run(data));
