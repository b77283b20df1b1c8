//! Lock sheets: what is signed, what is refused, and what proves that a hub signed twice.
#![allow(clippy::unwrap_used)]

use bitcoin::consensus::{deserialize, serialize};
use bitcoin::secp256k1::{All, Secp256k1};
use bitcoin::{Network, XOnlyPublicKey};
use lock::equivocation::NoProof;
use lock::pool::NoCouncil;
use lock::seed::NoKeys;
use lock::sheet::{BadSheet, Unchecked};
use lock::{Accusation, Council, LockSheet, Pool, Promise, Seed};

fn pool() -> (Pool, Secp256k1<All>) {
    let secp = Secp256k1::new();
    let key = Seed::from_bytes([1; 32]);
    let any = Pool::new(Network::Bitcoin, Council::new(1, vec![lock_nums()], 10).unwrap());
    let member = key.identity(&any, &secp).unwrap().x_only_public_key().0;
    (Pool::new(Network::Bitcoin, Council::new(1, vec![member], Pool::RECOVERY).unwrap()), secp)
}

fn lock_nums() -> XOnlyPublicKey {
    XOnlyPublicKey::from_slice(&lock::output::NUMS).unwrap()
}

fn sheet(seed: u8, period: u32) -> LockSheet {
    let (pool, secp) = pool();
    Seed::from_bytes([seed; 32]).sheet(&pool, period, &secp).unwrap()
}

/// Checks bytes as a sheet.
fn check(bytes: &[u8]) -> Result<LockSheet, BadSheet> {
    let (pool, secp) = pool();
    deserialize::<Unchecked>(bytes).unwrap().check(&pool, &secp)
}

#[test]
fn a_sheet_survives_the_wire_and_is_the_same_after_a_restore() {
    let sheet = sheet(7, 446);
    let bytes = serialize(&sheet);
    assert_eq!(bytes.len(), 32 + 4 + 32 + 2 + 2_016 * 32 + 64);
    assert_eq!(check(&bytes).unwrap(), sheet);
    assert_eq!(self::sheet(7, 446), sheet);
}

#[test]
fn it_holds_the_lock_of_each_height_of_its_period_and_no_other() {
    let (pool, secp) = pool();
    let seed = Seed::from_bytes([7; 32]);
    let hub_id = seed.identity(&pool, &secp).unwrap().x_only_public_key().0;
    let sheet = sheet(7, 446);
    let (first, last) = (446 * 2_016, 447 * 2_016 - 1);
    for height in [first, first + 1, last] {
        let key = seed.key(&pool, &hub_id, height);
        let lock = sheet.lock(height).unwrap();
        assert!(lock.is_opened_by(&key));
        let proof = sheet.proof(height).unwrap();
        assert_eq!(sheet.promise().height_of(&pool, lock, &proof), Some(height));
        assert_eq!(sheet.promise().height_of(&pool, sheet.lock(first + 7).unwrap(), &proof), None);
    }
    assert_eq!((sheet.lock(first - 1), sheet.lock(last + 1)), (None, None));
    assert_eq!((sheet.proof(first - 1), sheet.proof(last + 1)), (None, None));
}

#[test]
fn any_changed_bit_makes_it_another_hubs_or_nobodys() {
    let sheet = sheet(7, 446);
    let bytes = serialize(&sheet);
    let (hub_id, locks, signature) = (0..32, 70..70 + 2_016 * 32, bytes.len() - 64..bytes.len());
    for at in [32, 36, 40, locks.start, locks.start + 31, locks.end - 1, signature.start, signature.end - 1] {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        if let Ok(unchecked) = deserialize::<Unchecked>(&changed) {
            let (pool, secp) = pool();
            let error = unchecked.check(&pool, &secp).unwrap_err();
            assert_eq!(error, BadSheet::Signature(sheet.promise().hub_id), "byte {at}");
        }
    }
    let mut other = bytes;
    other[hub_id].copy_from_slice(&serialize(&self::sheet(8, 446))[..32]);
    assert!(matches!(check(&other), Err(BadSheet::Signature(_))));
}

#[test]
fn a_sheet_signed_for_another_network_is_not_valid_here() {
    let (pool, secp) = pool();
    let signet = Pool { magic: Network::Signet.magic().to_bytes(), ..pool };
    let sheet = Seed::from_bytes([7; 32]).sheet(&signet, 446, &secp).unwrap();
    assert!(matches!(check(&serialize(&sheet)), Err(BadSheet::Signature(_))));
    let bytes = serialize(&sheet);
    assert!(deserialize::<Unchecked>(&bytes).unwrap().check(&signet, &secp).is_ok());
}

#[test]
fn a_sheet_of_another_length_or_beyond_all_heights_is_refused_by_name() {
    let (pool, secp) = pool();
    let short = Pool { period: 10, ..pool.clone() };
    let ten = Seed::from_bytes([7; 32]).sheet(&short, 3, &secp).unwrap();
    assert_eq!(check(&serialize(&ten)).unwrap_err(), BadSheet::Length { has: 10, needed: 2_016 });

    let beyond = u32::MAX / 2_016;
    assert_eq!(
        Seed::from_bytes([7; 32]).sheet(&pool, beyond, &secp).unwrap_err(),
        NoKeys::NoSuchPeriod(beyond)
    );
    assert!(Seed::from_bytes([7; 32]).sheet(&pool, beyond - 1, &secp).is_ok());
    let mut bytes = serialize(&sheet(7, 446));
    bytes[32..36].copy_from_slice(&beyond.to_le_bytes());
    assert_eq!(check(&bytes).unwrap_err(), BadSheet::NoSuchPeriod(beyond));
}

#[test]
fn a_sheet_that_uses_a_lock_twice_is_refused() {
    let mut bytes = serialize(&sheet(7, 446));
    bytes.copy_within(70..102, 70 + 5 * 32);
    let first = 446 * 2_016;
    assert_eq!(check(&bytes).unwrap_err(), BadSheet::SameLock(first, first + 5));
}

#[test]
fn a_count_of_locks_that_do_not_come_is_an_error_and_takes_no_memory() {
    let mut bytes = serialize(&sheet(7, 446))[..72].to_vec();
    bytes[68..70].copy_from_slice(&[0xff, 0xff]);
    assert!(deserialize::<Unchecked>(&bytes).is_err());
}

/// A promise for a period with other locks, signed by the same hub: what a hub that cheats would sign.
fn second_promise() -> (Promise, Promise, Pool, Secp256k1<All>) {
    use bitcoin::secp256k1::Message;
    let (pool, secp) = pool();
    let seed = Seed::from_bytes([7; 32]);
    let honest = *sheet(7, 446).promise();
    let mut other = Promise { root: sheet(8, 446).promise().root, ..honest };
    let message = Message::from_digest(other.signed_hash(&pool));
    other.signature = secp.sign_schnorr_no_aux_rand(&message, &seed.identity(&pool, &secp).unwrap());
    (honest, other, pool, secp)
}

#[test]
fn two_signed_promises_for_one_period_prove_it_in_either_order_with_one_encoding() {
    let (honest, other, pool, secp) = second_promise();
    let proof = Accusation::new(honest, other).check(&pool, &secp).unwrap();
    assert_eq!((proof.hub_id(), proof.period()), (honest.hub_id, 446));
    let bytes = serialize(proof.accusation());
    assert_eq!(bytes.len(), Accusation::SIZE);
    assert_eq!(bytes, serialize(&Accusation::new(other, honest)));
    assert_eq!(deserialize::<Accusation>(&bytes).unwrap().check(&pool, &secp).unwrap(), proof);
    let turned = Accusation { first: proof.accusation().second, second: proof.accusation().first };
    assert_eq!(turned.check(&pool, &secp).unwrap_err(), NoProof::Order);
}

#[test]
fn a_claim_key_that_differs_proves_it_too() {
    use bitcoin::secp256k1::Message;
    let (honest, _, pool, secp) = second_promise();
    let seed = Seed::from_bytes([7; 32]);
    let mut other = Promise { claim_key: lock_nums(), ..honest };
    let message = Message::from_digest(other.signed_hash(&pool));
    other.signature = secp.sign_schnorr_no_aux_rand(&message, &seed.identity(&pool, &secp).unwrap());
    assert!(Accusation::new(honest, other).check(&pool, &secp).is_ok());
}

#[test]
fn what_proves_nothing_is_refused_by_name() {
    use bitcoin::secp256k1::Message;
    let (honest, other, pool, secp) = second_promise();
    let check = |one, other| Accusation::new(one, other).check(&pool, &secp).unwrap_err();

    let identity = Seed::from_bytes([7; 32]).identity(&pool, &secp).unwrap();
    let message = Message::from_digest(honest.signed_hash(&pool));
    let again =
        Promise { signature: secp.sign_schnorr_with_aux_rand(&message, &identity, &[5; 32]), ..honest };
    assert_ne!(again.signature, honest.signature);
    again.verify(&pool, &secp).unwrap();
    assert_eq!(check(honest, again), NoProof::SameSheet);

    assert_eq!(check(honest, *sheet(8, 446).promise()), NoProof::TwoHubs);
    let periods = check(honest, *sheet(7, 447).promise());
    assert!(matches!(periods, NoProof::TwoPeriods(446, 447) | NoProof::TwoPeriods(447, 446)));
    let forged = Promise { signature: honest.signature, ..other };
    assert_eq!(check(honest, forged), NoProof::Unsigned(BadSheet::Signature(honest.hub_id)));
}

#[test]
fn councils_that_cannot_work_are_refused_by_name() {
    let keys: Vec<_> = (1..=17).map(sheet_key).collect();
    let council = |needed, count: usize, delay| Council::new(needed, keys[..count].to_vec(), delay);
    assert_eq!(council(1, 0, 10).unwrap_err(), NoCouncil::Keys(0));
    assert_eq!(council(1, 17, 10).unwrap_err(), NoCouncil::Keys(17));
    assert_eq!(council(0, 3, 10).unwrap_err(), NoCouncil::Needed { needed: 0, keys: 3 });
    assert_eq!(council(4, 3, 10).unwrap_err(), NoCouncil::Needed { needed: 4, keys: 3 });
    assert_eq!(council(2, 3, 0).unwrap_err(), NoCouncil::NoDelay);
    let twice = vec![keys[0], keys[1], keys[0]];
    assert_eq!(Council::new(2, twice, 10).unwrap_err(), NoCouncil::Twice(keys[0]));
    assert!(council(16, 16, u16::MAX).is_ok());
}

fn sheet_key(byte: u8) -> XOnlyPublicKey {
    let (pool, secp) = pool();
    Seed::from_bytes([byte; 32]).identity(&pool, &secp).unwrap().x_only_public_key().0
}

#[test]
fn secrets_are_not_shown() {
    let (pool, secp) = pool();
    let seed = Seed::from_bytes([7; 32]);
    let hub_id = seed.identity(&pool, &secp).unwrap().x_only_public_key().0;
    let key = seed.key(&pool, &hub_id, 1);
    let shown = format!("{seed:?} {key:?}");
    let listed = format!("{:?}", key.to_bytes());
    assert!(!shown.contains("7, 7, 7") && !shown.contains(&listed[1..20]), "{shown}");
}
