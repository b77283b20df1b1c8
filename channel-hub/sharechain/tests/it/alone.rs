//! Rules that a share can be checked for alone. Each test breaks one and sees its name.

use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, CompactTarget, OutPoint, ScriptBuf, Target, TxIn, TxOut, Txid};
use lock::sheet::BadSheet;
use sharechain::{BadBody, BadShare, Body, Chain, Recipient, Share};

use crate::miner::{
    Making, SECP, candidate, chain, checked, extend, full, hub, owes, params, script, sheet, solved,
};

fn making() -> Making {
    Making::on_tip(&mut chain(5), script(1))
}

/// Of a hub that publishes the sheet of its block's period.
fn publishing() -> Making {
    let mut chain = chain(5);
    let tip = chain.tip();
    Making::new(&mut chain, &sharechain::Candidate { sheet: Some(sheet(7, 0)), ..candidate(tip, hub(7)) })
}

fn verdict(share: Share) -> Result<(), BadShare> {
    share.check(&params(), &SECP).map(|_| ())
}

/// The share that a change before its making gives.
fn with(change: impl FnOnce(&mut Making)) -> Result<(), BadShare> {
    let mut making = making();
    change(&mut making);
    verdict(making.share())
}

/// The share that a change to its finished parts gives, solved again.
fn finished_with(change: impl FnOnce(&mut Share)) -> Result<(), BadShare> {
    let mut share = making().share();
    change(&mut share);
    verdict(solved(share))
}

#[test]
fn a_share_as_it_should_be_is_valid_alone() {
    assert_eq!(with(|_| ()), Ok(()));
    assert_eq!(finished_with(|_| ()), Ok(()));
    assert_eq!(verdict(publishing().share()), Ok(()));
}

#[test]
fn a_hash_above_the_stated_target_is_no_work() {
    let mut share = making().share();
    while Target::from_compact(share.data.bits).is_met_by(share.header.block_hash()) {
        share.header.nonce += 1;
    }
    assert_eq!(verdict(share), Err(BadShare::NoWork));
}

#[test]
fn a_share_target_of_zero_or_below_or_in_a_longer_form_is_none() {
    for bits in [0, 0x2080_0001, 0x2100_7fff, 0x2300_0001, 0xff12_3456] {
        let mut share = making().share();
        share.data.bits = CompactTarget::from_consensus(bits);
        assert_eq!(verdict(share), Err(BadShare::ShareBits(bits)));
    }
}

#[test]
fn a_block_target_of_zero_or_below_or_in_a_longer_form_is_none() {
    for bits in [0, 0x2080_0001, 0x2100_7fff] {
        let broken = finished_with(|share| share.header.bits = CompactTarget::from_consensus(bits));
        assert_eq!(broken, Err(BadShare::NetworkBits(bits)));
    }
}

#[test]
fn a_block_that_is_easier_than_any_share_is_no_block_of_this_network() {
    let bits = 0x2100_ffff;
    let broken = finished_with(|share| share.header.bits = CompactTarget::from_consensus(bits));
    assert_eq!(broken, Err(BadShare::EasyNetwork(bits)));
}

#[test]
fn other_versions_are_unknown() {
    assert_eq!(with(|making| making.data.version = 0), Err(BadShare::Version(0)));
    assert_eq!(with(|making| making.data.version = 2), Err(BadShare::Version(2)));
}

#[test]
fn more_uncles_than_the_network_allows_are_too_many() {
    let ids = |count| (0..count).map(|n| sharechain::ShareId::from_bytes([n; 32])).collect();
    assert_eq!(with(|making| making.data.uncles = ids(3)), Ok(()));
    assert_eq!(with(|making| making.data.uncles = ids(4)), Err(BadShare::TooManyUncles(4)));
}

#[test]
fn uncles_that_do_not_ascend_have_a_second_encoding_and_are_refused() {
    let id = |n| sharechain::ShareId::from_bytes([n; 32]);
    assert_eq!(with(|making| making.data.uncles = vec![id(2), id(1)]), Err(BadShare::UncleOrder));
    assert_eq!(with(|making| making.data.uncles = vec![id(1), id(1)]), Err(BadShare::UncleOrder));
}

#[test]
fn a_script_that_no_wallet_spends_from_is_no_recipient() {
    let anchor = vec![0x51, 0x02, 0x4e, 0x73];
    for bytes in [vec![], vec![0x51], vec![0x6a, 0x01, 0x00], vec![0x52; 34], anchor] {
        let odd = Recipient::Script(ScriptBuf::from_bytes(bytes));
        assert_eq!(with(|making| making.data.recipient = odd.clone()), Err(BadShare::Recipient));
    }
}

#[test]
fn a_hub_says_what_it_owes_and_a_script_owes_nothing() {
    let mut making = publishing();
    making.data.pendings = None;
    assert_eq!(verdict(making.share()), Err(BadShare::NoPendings));
    assert_eq!(with(|making| making.data.pendings = Some(owes(0))), Err(BadShare::PendingsOfNobody));
}

#[test]
fn a_coinbase_has_one_input_that_spends_nothing_and_a_script_of_2_to_100_bytes() {
    let broken = Err(BadShare::NoCoinbase);
    assert_eq!(finished_with(|share| share.coinbase.input.push(TxIn::default())), broken);
    assert_eq!(finished_with(|share| share.coinbase.input.clear()), broken);
    let spent = OutPoint::new(Txid::all_zeros(), 7);
    assert_eq!(finished_with(|share| share.coinbase.input[0].previous_output = spent), broken);
    let script = |length: usize| ScriptBuf::from_bytes([vec![0x51], vec![0; length - 1]].concat());
    assert_eq!(finished_with(|share| share.coinbase.input[0].script_sig = script(1)), broken);
    assert_eq!(finished_with(|share| share.coinbase.input[0].script_sig = script(101)), broken);
    assert_eq!(finished_with(|share| share.coinbase.input[0].script_sig = script(100)), Ok(()));
}

#[test]
fn a_coinbase_that_is_not_under_the_merkle_root_is_not_in_the_block() {
    let mut share = making().share();
    share.branch.reverse();
    assert_eq!(verdict(share), Err(BadShare::MerkleRoot));
    let mut share = making().share();
    share.coinbase.lock_time = bitcoin::absolute::LockTime::from_consensus(5);
    assert_eq!(verdict(share), Err(BadShare::MerkleRoot));
}

#[test]
fn the_coinbase_begins_with_the_height_in_its_shortest_form() {
    let begin = |bytes: &[u8]| {
        finished_with(|share| share.coinbase.input[0].script_sig = ScriptBuf::from_bytes(bytes.to_vec()))
    };
    let broken = Err(BadShare::BlockHeight);
    assert_eq!(begin(&[0x51, 0x00]), Ok(()));
    assert_eq!(begin(&[0x01, 0x11, 0x00]), Ok(()), "17");
    assert_eq!(begin(&[0x01, 0x10]), broken, "16 has an opcode");
    assert_eq!(begin(&[0x02, 0x11, 0x00]), broken, "17 in two bytes");
    assert_eq!(begin(&[0x01, 0x91]), broken, "below zero");
    assert_eq!(begin(&[0x00, 0x00]), broken, "zero");
    assert_eq!(begin(&[0x76, 0x76]), broken, "no push");
    assert_eq!(begin(&[0x05, 0, 0, 0, 0, 1]), broken, "beyond 32 bits");
    assert_eq!(begin(&[0x03, 0x01]), broken, "cut short");
}

#[test]
fn the_last_output_is_the_witness_commitment() {
    let broken = Err(BadShare::WitnessCommitment);
    assert_eq!(with(|making| making.last.value = Amount::from_sat(1)), broken);
    let changed = |change: fn(&mut Vec<u8>)| {
        with(|making| {
            let mut bytes = making.last.script_pubkey.to_bytes();
            change(&mut bytes);
            making.last.script_pubkey = ScriptBuf::from_bytes(bytes);
        })
    };
    assert_eq!(changed(|bytes| bytes[2] ^= 1), broken);
    assert_eq!(changed(|bytes| bytes.truncate(37)), broken);
    assert_eq!(changed(|bytes| bytes.extend([4, 0xec, 0xc7, 0xda, 0xa2])), Ok(()), "a signet's solution");
    assert_eq!(finished_with(|share| share.coinbase.output.truncate(1)), broken);
}

#[test]
fn the_last_output_but_one_commits_to_the_share_data_and_to_every_byte_of_it() {
    let broken = Err(BadShare::Commitment);
    let commitment = |share: &Share| share.coinbase.output.len() - 2;
    let burnt = finished_with(|share| {
        let at = commitment(share);
        share.coinbase.output[at].value = Amount::from_sat(1);
    });
    assert_eq!(burnt, broken);
    let moved = finished_with(|share| {
        let at = commitment(share);
        let output = share.coinbase.output.remove(at);
        share.coinbase.output.insert(0, output);
    });
    assert_eq!(moved, broken);
    let mut share = making().share();
    share.data.height += 1;
    assert_eq!(verdict(share), broken);
    // Every byte: whatever else still decodes is another share data, and not what the coinbase commits to.
    let share = publishing().share();
    let bytes = serialize(&share.data);
    for at in 0..bytes.len() {
        let mut other = bytes.clone();
        other[at] ^= 1;
        let Ok(data) = deserialize(&other) else { continue };
        assert!(verdict(Share { data, ..share.clone() }).is_err(), "byte {at}");
    }
}

#[test]
fn a_coinbase_pays_the_subsidy_at_least_and_never_more_than_all_money() {
    let pay = |sat: u64| with(|making| making.payouts[0].value = Amount::from_sat(sat));
    let others = making().payouts[1..].iter().map(|output| output.value.to_sat()).sum::<u64>();
    let subsidy = params().subsidy(1);
    assert_eq!(subsidy, Amount::from_sat(5_000_000_000));
    assert_eq!(pay(5_000_000_000 - others), Ok(()));
    let paid = Amount::from_sat(4_999_999_999);
    assert_eq!(pay(4_999_999_999 - others), Err(BadShare::BelowSubsidy { paid, subsidy }));
    assert_eq!(pay(Amount::MAX_MONEY.to_sat() - others), Ok(()));
    assert_eq!(pay(Amount::MAX_MONEY.to_sat() - others + 1), Err(BadShare::TooMuch));
    let overflowing = TxOut { value: Amount::from_sat(u64::MAX), ..making().payouts[0].clone() };
    assert_eq!(with(|making| making.payouts.push(overflowing)), Err(BadShare::TooMuch));
}

#[test]
fn the_subsidy_halves_as_bitcoins() {
    let params = sharechain::Params { halving: 210_000, ..params() };
    let sat = |height| params.subsidy(height).to_sat();
    assert_eq!([sat(0), sat(209_999), sat(210_000)], [5_000_000_000, 5_000_000_000, 2_500_000_000]);
    assert_eq!([sat(840_000), sat(33 * 210_000 - 1), sat(33 * 210_000)], [312_500_000, 1, 0]);
    assert_eq!(sat(u32::MAX), 0);
}

#[test]
fn only_the_recipient_publishes_a_sheet() {
    let mut making = publishing();
    making.data.recipient = hub(8);
    assert_eq!(verdict(making.share()), Err(BadShare::SheetOfOther));
    (making.data.recipient, making.data.pendings) = (script(1), None);
    assert_eq!(verdict(making.share()), Err(BadShare::SheetOfOther));
}

#[test]
fn a_sheet_is_for_the_blocks_period_or_the_next() {
    let of = |block_height, period| {
        let mut making = publishing();
        making.block_height = block_height;
        making.data.promise = Some(*sheet(7, period).promise());
        verdict(making.share())
    };
    assert_eq!([of(8, 1), of(15, 1), of(8, 2), of(15, 2)], [Ok(()); 4]);
    assert_eq!(of(8, 0), Err(BadShare::SheetPeriod { stated: 0, own: 1 }));
    assert_eq!(of(15, 3), Err(BadShare::SheetPeriod { stated: 3, own: 1 }));
}

#[test]
fn a_sheet_is_signed_by_its_hub() {
    let mut making = publishing();
    let mut promise = *sheet(7, 0).promise();
    promise.signature = sheet(7, 1).promise().signature;
    making.data.promise = Some(promise);
    assert_eq!(verdict(making.share()), Err(BadShare::Sheet(BadSheet::Signature(promise.hub_id))));
}

#[test]
fn a_sheet_for_heights_beyond_32_bits_is_none() {
    let mut making = publishing();
    let mut promise = *sheet(7, 0).promise();
    promise.period = u32::MAX / 8 + 1;
    making.data.promise = Some(promise);
    making.block_height = u32::MAX;
    assert_eq!(verdict(making.share()), Err(BadShare::Sheet(BadSheet::NoSuchPeriod(promise.period))));
}

#[test]
fn a_body_holds_the_announced_locks_and_nothing_else() {
    let share = checked(publishing().share());
    let join = |locks: Vec<lock::Lock>| share.clone().with_body(Body { locks }, &params()).map(|_| ());
    let locks = sheet(7, 0).locks().to_vec();
    assert_eq!(join(locks.clone()), Ok(()));
    assert_eq!(join(vec![]), Err(BadBody::Presence { announced: true, locks: 0 }));
    assert_eq!(join(locks[1..].to_vec()), Err(BadBody::OtherLocks));
    assert_eq!(join(sheet(7, 1).locks().to_vec()), Err(BadBody::OtherLocks));
    let bare = checked(making().share());
    let with_locks = bare.with_body(Body { locks }, &params());
    assert_eq!(with_locks.unwrap_err(), BadBody::Presence { announced: false, locks: 8 });
}

#[test]
fn a_share_that_announces_one_lock_for_two_heights_is_invalid() {
    let mut making = publishing();
    let locks = vec![sheet(7, 0).locks()[0]; 8];
    let signer = lock::Seed::from_bytes([7; 32]).identity(&params().locks, &SECP).unwrap();
    let mut promise = *sheet(7, 0).promise();
    promise.root = lock::Root::of(0, &locks);
    let digest = bitcoin::secp256k1::Message::from_digest(promise.signed_hash(&params().locks));
    promise.signature = SECP.sign_schnorr_no_aux_rand(&digest, &signer);
    making.data.promise = Some(promise);
    let joined = checked(making.share()).with_body(Body { locks }, &params());
    assert_eq!(joined.unwrap_err(), BadBody::SameLock(0, 1));
}

#[test]
fn a_share_survives_the_wire_in_one_form_only() {
    let mut chain = Chain::new(params());
    for name in 0..12 {
        extend(&mut chain, script(name));
    }
    for share in [Making::on_tip(&mut chain, script(1)).share(), publishing().share()] {
        let bytes = serialize(&share);
        assert!(bytes.len() <= sharechain::share::MAX_SHARE);
        assert_eq!(deserialize::<Share>(&bytes).unwrap(), share);
        assert!(deserialize::<Share>(&[&bytes[..], &[0]].concat()).is_err(), "a byte more");
        for length in 0..bytes.len() {
            assert!(deserialize::<Share>(&bytes[..length]).is_err(), "cut at {length}");
        }
        for (at, bit) in (0..bytes.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut other = bytes.clone();
            other[at] ^= 1 << bit;
            let Ok(decoded) = deserialize::<Share>(&other) else { continue };
            assert_eq!(serialize(&decoded), other, "byte {at}, bit {bit}: a second encoding");
        }
    }
}

#[test]
fn counts_beyond_their_bounds_are_refused_before_memory_is_taken() {
    let share = publishing().share();
    let data = serialize(&share.data);
    let with_uncles =
        |count: u8| [&data[..33], &[count], &vec![0; usize::from(count) * 32][..], &data[34..]].concat();
    assert!(deserialize::<sharechain::ShareData>(&with_uncles(8)).is_ok());
    assert!(deserialize::<sharechain::ShareData>(&with_uncles(9)).is_err());
    assert!(deserialize::<Recipient>(&[&[1, 34][..], &[0; 34]].concat()).is_ok());
    assert!(deserialize::<Recipient>(&[&[1, 35][..], &[0; 35]].concat()).is_err());
    assert!(deserialize::<Body>(&[0xff, 0xff]).is_err());
    let with_branch = |count: usize| Share { branch: vec![share.branch[0]; count], ..share.clone() };
    assert!(deserialize::<Share>(&serialize(&with_branch(16))).is_ok());
    let mut bytes = serialize(&with_branch(16));
    let at = bytes.len() - 16 * 32 - 1;
    bytes[at] = 17;
    bytes.extend([0; 32]);
    assert!(deserialize::<Share>(&bytes).is_err());
}

#[test]
fn a_known_sheet_joins_a_share_only_if_the_share_announces_it() {
    let share = checked(publishing().share());
    assert!(share.clone().with_sheet(Some(sheet(7, 0))).is_ok());
    assert_eq!(share.clone().with_sheet(Some(sheet(7, 1))).unwrap_err(), BadBody::OtherLocks);
    assert_eq!(share.with_sheet(None).unwrap_err(), BadBody::Presence { announced: true, locks: 0 });
    let joined = full(publishing().share(), Some(sheet(7, 0)));
    assert_eq!(joined.body().locks, sheet(7, 0).locks());
}
