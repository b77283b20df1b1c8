//! The size of our coinbase, beside what firmware can hold.

use bitcoin::consensus::encode::serialize;
use bitcoin::{Amount, ScriptBuf, TxOut};
use mining::coinbase::{CoinbaseTag, MAX_TAG};
use mining::job::Recipe;
use mining::{EXTRANONCE_SIZE, Job};
use stratum_core::template_distribution_sv2::NewTemplateOwned;

/// NerdMiner keeps coinbase and its end in 512 characters of hex (docs/firmware.md): the least of all that is known.
const LEAST: usize = 255;

#[test]
fn the_largest_coinbase_of_our_hub_fits_all_firmware() {
    let value = 5_000_000_000;
    let taproot = ScriptBuf::from_bytes([&[0x51, 0x20][..], &[9; 32]].concat());
    let commitment = [&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed][..], &[7; 32]].concat();
    let commitment = TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(commitment) };
    let template = NewTemplateOwned {
        template_id: 1,
        future_template: true,
        version: 0x2000_0000,
        coinbase_tx_version: 2,
        coinbase_prefix: vec![4, 0xff, 0xff, 0xff, 0x7f].try_into().unwrap(),
        coinbase_tx_input_sequence: 0xffff_fffe,
        coinbase_tx_value_remaining: value,
        coinbase_tx_outputs_count: 1,
        coinbase_tx_outputs: serialize(&commitment).try_into().unwrap(),
        coinbase_tx_locktime: 0,
        merkle_path: Vec::new().try_into().unwrap(),
    };
    let outputs = [TxOut { value: Amount::from_sat(value), script_pubkey: taproot }];
    let tag = CoinbaseTag::new(vec![b'x'; MAX_TAG]).unwrap();
    let recipe = Recipe { outputs: &outputs, tag: &tag, version_rolling: true };
    let job = Job::new(1, 0, &template, &recipe, None).unwrap();
    let size = job.coinbase().prefix().len() + EXTRANONCE_SIZE + job.coinbase().suffix().len();
    assert!((200..=LEAST).contains(&size), "{size} bytes");
}
