//! Golden vectors, computed by tests/vectors.py from PROTOCOL.md and the BIPs: no code of this crate had a part in them.

use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hex::{DisplayHex as _, FromHex as _};
use bitcoin::{Amount, CompactTarget, ScriptBuf, Target, XOnlyPublicKey};
use lock::{Council, Pool};
use serde_json::Value;
use sharechain::params::Retarget;
use sharechain::split::{Payee, split};
use sharechain::{Body, Chain, Params, Recipient, Share, Work, difficulty};
use std::sync::Arc;

use crate::miner::{SECP, params};

fn vectors() -> Value {
    serde_json::from_str(include_str!("../vectors.json")).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn hex(value: &Value) -> Vec<u8> {
    Vec::from_hex(value.as_str().unwrap()).unwrap()
}

fn number(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

fn byte(value: &Value) -> u8 {
    u8::try_from(number(value)).unwrap()
}

fn bits(value: &Value) -> CompactTarget {
    CompactTarget::from_consensus(number(value))
}

fn work(value: &Value) -> Work {
    Work::new(value.as_str().unwrap().parse().unwrap())
}

fn sat(value: &Value) -> Amount {
    Amount::from_sat(value.as_u64().unwrap())
}

fn retarget(value: &Value) -> Retarget {
    [Retarget::Period, Retarget::Any, Retarget::Least][usize::from(byte(value))]
}

fn network(p: &Value) -> Params {
    let council = &p["council"];
    let keys = list(&council["keys"]).iter().map(|key| XOnlyPublicKey::from_slice(&hex(key)).unwrap());
    let delay = u16::try_from(number(&council["delay"])).unwrap();
    let council = Council::new(byte(&council["needed"]), keys.collect(), delay).unwrap();
    Params {
        locks: Pool { magic: hex(&p["magic"]).try_into().unwrap(), period: number(&p["period"]), council },
        genesis_time: number(&p["genesis_time"]),
        anchor: bits(&p["anchor"]),
        easiest: bits(&p["easiest"]),
        interval: number(&p["interval"]),
        half_life: number(&p["half_life"]),
        window_blocks: number(&p["window_blocks"]),
        window_shares: number(&p["window_shares"]),
        lag: number(&p["lag"]),
        max_uncles: byte(&p["max_uncles"]),
        uncle_depth: number(&p["uncle_depth"]),
        max_outputs: byte(&p["max_outputs"]),
        limit: sat(&p["limit"]),
        keep_limit: sat(&p["keep_limit"]),
        sheet_gap: number(&p["sheet_gap"]),
        sheet_reach: number(&p["sheet_reach"]),
        halving: number(&p["halving"]),
        retarget: retarget(&p["retarget"]),
        ..params()
    }
}

#[test]
fn share_targets_are_as_the_second_implementation_says() {
    let vectors = vectors();
    let vectors = list(&vectors["asert"]);
    assert!(vectors.len() > 200);
    for vector in vectors {
        let at = |place: usize| number(&vector[place]);
        let params = Params {
            anchor: bits(&vector[0]),
            easiest: bits(&vector[1]),
            interval: at(2),
            half_life: at(3),
            retarget: retarget(&vector[4]),
            ..params()
        };
        let network = Target::from_compact(bits(&vector[7]));
        let required = difficulty::required(&params, at(5), at(6), network);
        assert_eq!(required, bits(&vector[8]), "{vector}");
    }
}

#[test]
fn splits_are_as_the_second_implementation_says() {
    let vectors = vectors();
    let vectors = list(&vectors["splits"]);
    assert!(vectors.iter().any(|vector| list(&vector["outputs"]).is_empty()));
    let limits =
        Params { limit: Amount::from_sat(100_000), keep_limit: Amount::from_sat(80_000), ..params() };
    for vector in vectors {
        let script = |payee: &Value| ScriptBuf::from_bytes(hex(&payee[1]));
        let payees = list(&vector["payees"]).iter().map(|payee| Payee {
            recipient: Arc::new(Recipient::Script(script(payee))),
            weight: work(&payee[0]),
            script: script(payee),
        });
        let kept: Vec<ScriptBuf> =
            list(&vector["payees"]).iter().filter(|payee| payee[2] == true).map(script).collect();
        let outputs =
            split(&limits, sat(&vector["value"]), payees.collect(), |payee| kept.contains(&payee.script));
        let outputs = outputs.iter().map(|payout| (payout.output.value, payout.output.script_pubkey.clone()));
        let expected = list(&vector["outputs"]).iter().map(|output| (sat(&output[0]), script(output)));
        assert_eq!(outputs.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    }
}

#[test]
fn whole_chains_of_the_second_implementation_are_valid_to_the_last_byte() {
    let vectors = vectors();
    assert_eq!(list(&vectors["chains"]).len(), 4);
    let (mut uncles, mut sheets, mut forks, mut paid_hubs) = (0, 0, 0, 0);
    for vector in list(&vectors["chains"]) {
        let mut chain = Chain::new(network(&vector["params"]));
        assert_eq!(chain.tip().to_bytes().to_lower_hex_string(), vector["genesis"]);
        for expected in list(&vector["shares"]) {
            let bytes = hex(&expected["bytes"]);
            let share: Share = deserialize(&bytes).unwrap();
            assert_eq!(serialize(&share), bytes);
            let data = &share.data;
            assert_eq!(serialize(data).to_lower_hex_string(), expected["data"]);
            assert_eq!(data.commitment().to_lower_hex_string(), expected["commitment"]);
            assert_eq!(
                (data.bits, data.total_work),
                (bits(&expected["bits"]), work(&expected["total_work"]))
            );
            uncles += data.uncles.len();
            sheets += usize::from(data.promise.is_some());
            let body: Body = deserialize(&hex(&expected["body"])).unwrap();
            assert_eq!(serialize(&body), hex(&expected["body"]));
            let checked = share.check(chain.params(), &SECP).unwrap();
            assert_eq!(checked.block_height(), number(&expected["block_height"]));
            assert_eq!(checked.value(), sat(&expected["value"]));
            let full = checked.with_body(body, chain.params()).unwrap();
            let id = chain.insert(&full).unwrap().added;
            assert_eq!(id.to_bytes().to_lower_hex_string(), expected["id"]);
            assert_eq!(chain.tip() == id, expected["is_tip"] == true);
            forks += usize::from(expected["is_tip"] == false);
            compare_window(&mut chain, &id, &expected["window"]);
            paid_hubs += compare_outputs(full.checked().share(), &expected["outputs"]);
        }
    }
    assert!(
        uncles > 10 && sheets > 10 && forks > 10 && paid_hubs > 30,
        "{uncles} {sheets} {forks} {paid_hubs}"
    );
}

fn compare_window(chain: &mut Chain, id: &sharechain::ShareId, expected: &Value) {
    let window = chain.window(id).unwrap();
    assert_eq!((window.shares, window.work), (number(&expected["shares"]), work(&expected["work"])));
    let weights = window.weights.iter().map(|credit| (serialize(&*credit.recipient), credit.weight));
    let expected = list(&expected["weights"]).iter().map(|weight| (hex(&weight[0]), work(&weight[1])));
    assert_eq!(weights.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}

/// How many of the outputs are taproot: hubs' for the most part.
fn compare_outputs(share: &Share, expected: &Value) -> usize {
    let outputs = &share.coinbase.output;
    let paying =
        outputs[..outputs.len() - 2].iter().map(|output| (output.value, output.script_pubkey.to_bytes()));
    let expected: Vec<_> = list(expected).iter().map(|output| (sat(&output[0]), hex(&output[1]))).collect();
    assert_eq!(paying.collect::<Vec<_>>(), expected);
    expected.iter().filter(|(_, script)| script.starts_with(&[0x51, 0x20])).count()
}

#[test]
fn the_worked_example_of_the_protocol_is_the_first_vector() {
    let text = include_str!("../../PROTOCOL.md");
    let example = text.split("## Worked examples").nth(1).unwrap();
    let block = example.split("```").nth(1).unwrap();
    let bytes: String = block.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let vectors = vectors();
    let (chain, asert) = (&vectors["chains"][0], list(&vectors["asert"]));
    assert_eq!(bytes, chain["shares"][0]["bytes"].as_str().unwrap());
    for value in [&chain["genesis"], &chain["shares"][0]["id"], &chain["shares"][0]["commitment"]] {
        assert!(example.contains(value.as_str().unwrap()));
    }
    let rows = example.lines().filter(|line| line.starts_with("| ") && line.contains('`'));
    let known = rows.filter(|row| {
        let cells: Vec<String> = row.split('|').map(|cell| cell.trim().replace([',', '`'], "")).collect();
        asert.iter().any(|vector| {
            let hex = |place: usize| format!("{:08x}", number(&vector[place]));
            let says = [number(&vector[5]).to_string(), number(&vector[6]).to_string(), hex(7), hex(8)];
            vector[0] == 0x1b00_ffff && cells[1..5] == says
        })
    });
    assert_eq!(known.count(), 6);
}
