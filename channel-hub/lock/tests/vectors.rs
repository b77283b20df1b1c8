//! Golden vectors, computed by tests/vectors.py from PROTOCOL.md and the BIPs: no code of this crate had a part in them.
#![allow(clippy::unwrap_used)]

use bitcoin::XOnlyPublicKey;
use bitcoin::consensus::serialize;
use bitcoin::hashes::{Hash as _, sha256};
use bitcoin::hex::{DisplayHex as _, FromHex as _};
use bitcoin::secp256k1::Secp256k1;
use lock::{Council, LockedOutput, Pool, Seed};
use serde_json::Value;

fn hex(value: &Value) -> Vec<u8> {
    Vec::from_hex(value.as_str().unwrap()).unwrap()
}

fn number(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

fn council(vector: &Value) -> Council {
    let keys =
        vector["keys"].as_array().unwrap().iter().map(|key| XOnlyPublicKey::from_slice(&hex(key)).unwrap());
    let needed = u8::try_from(number(&vector["needed"])).unwrap();
    Council::new(needed, keys.collect(), u16::try_from(number(&vector["delay"])).unwrap()).unwrap()
}

#[test]
fn everything_is_as_the_second_implementation_says() {
    let vectors: Vec<Value> = serde_json::from_str(include_str!("vectors.json")).unwrap();
    assert_eq!(vectors.len(), 5);
    let secp = Secp256k1::new();
    for vector in &vectors {
        let pool = Pool {
            magic: hex(&vector["magic"]).try_into().unwrap(),
            period: number(&vector["period_length"]),
            council: council(&vector["council"]),
        };
        let seed = Seed::from_bytes(hex(&vector["seed"]).try_into().unwrap());
        let sheet = seed.sheet(&pool, number(&vector["period"]), &secp).unwrap();
        let promise = sheet.promise();
        assert_eq!(promise.hub_id.serialize().to_vec(), hex(&vector["hub_id"]));
        assert_eq!(promise.claim_key.serialize().to_vec(), hex(&vector["claim_key"]));
        assert_eq!(promise.root.to_bytes().to_vec(), hex(&vector["root"]));
        assert_eq!(promise.signed_hash(&pool).to_vec(), hex(&vector["signed_hash"]));
        assert_eq!(promise.signature.as_ref().to_vec(), hex(&vector["signature"]));
        assert_eq!(serialize(promise), hex(&vector["promise"]));
        let bytes = serialize(&sheet);
        assert_eq!(sha256::Hash::hash(&bytes).to_byte_array().to_vec(), hex(&vector["sheet_sha256"]));
        for expected in vector["heights"].as_array().unwrap() {
            let height = number(&expected["height"]);
            let key = seed.key(&pool, &promise.hub_id, height);
            let lock = sheet.lock(height).unwrap();
            assert_eq!(key.to_bytes().to_vec(), hex(&expected["key"]));
            assert_eq!(lock.to_bytes().to_vec(), hex(&expected["lock"]));
            let output = LockedOutput::new(&promise.claim_key, lock, &pool.council, &secp);
            assert_eq!(output.script_pubkey().as_bytes().to_lower_hex_string(), expected["script_pubkey"]);
            let recovery = output.recovery_witness(&vec![None; pool.council.keys().len()]);
            let script = recovery.nth(pool.council.keys().len()).unwrap();
            assert_eq!(script.to_lower_hex_string(), expected["recovery_script"]);
        }
    }
}
