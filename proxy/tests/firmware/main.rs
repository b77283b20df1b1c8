//! What firmware says, line by line, played against a session: see docs/firmware.md for whose it is and how we know.
#![allow(unreachable_pub, clippy::unwrap_used, missing_docs)]

mod coinbase;
mod play;
mod pool;

use play::play;

macro_rules! exchanges {
    ($($name:ident: $file:literal,)*) => {
        $(#[test]
        fn $name() {
            play(include_str!(concat!("exchanges/", $file)));
        })*

        #[test]
        fn every_exchange_is_played() {
            let all = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/firmware/exchanges")).unwrap();
            let mut there: Vec<_> = all.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
            let mut played = vec![$($file.to_owned()),*];
            there.sort();
            played.sort();
            assert_eq!(there, played);
        }
    };
}

exchanges! {
    cgminer_configures_subscribes_and_authorises: "cgminer.txt",
    cgminer_comes_back_with_its_session_id: "cgminer-resumes.txt",
    avalon_fills_four_bytes_of_extranonce2_and_cuts_names: "avalon.txt",
    stock_antminers_ask_for_three_extensions: "antminer.txt",
    bmminer_of_bitmain_names_how_many_versions_it_rolls_and_waits_for_nothing: "bmminer.txt",
    bmminer_of_braiins_rolls_the_two_lowest_bits_of_a_mask: "bmminer-braiins.txt",
    braiins_os_says_where_it_connects_and_an_empty_password: "braiins-os.txt",
    whatsminer_sends_a_session_id_that_is_no_hex: "whatsminer.txt",
    esp_miner_suggests_a_difficulty_after_it_is_authorised: "esp-miner.txt",
    esp_miner_stops_rolling_where_the_upstream_lets_nobody: "esp-miner-no-rolling.txt",
    esp_miner_probes_whether_its_pool_is_back: "esp-miner-probe.txt",
    nerdqaxe_says_all_at_once_and_subscribes_first: "nerdqaxe.txt",
    nerdminer_writes_short_nonces_and_difficulties_below_one: "nerdminer.txt",
    nerdminer_fills_four_bytes_of_extranonce2_at_a_pool_that_leaves_eight_for_all: "nerdminer-at-a-pool.txt",
    cpuminer_hands_in_every_share_under_the_same_id: "cpuminer.txt",
    cpuminer_multi_wants_set_extranonce: "cpuminer-multi.txt",
    bfgminer_suggests_a_target_before_it_subscribes: "bfgminer.txt",
    nicehash_gets_no_difficulty_below_what_pools_set_for_it: "nicehash.txt",
    mujina_waits_for_each_answer: "mujina.txt",
    odd_forms_that_are_taken: "odd-forms.txt",
}
