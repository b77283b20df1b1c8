#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| payout_channel_world::world::run(data));
