//! Every way to spend the outputs of a payout channel, right and wrong, judged by Bitcoin Core's own consensus code.
#![allow(clippy::unwrap_used)]

mod scene;

use bitcoin::absolute::LockTime;
use bitcoin::hashes::{Hash as _, sha256};
use bitcoin::sighash::{Prevouts, SighashCache, TapSighashType};
use bitcoin::transaction::Version;
use bitcoin::{Amount, FeeRate, OutPoint, ScriptBuf, Sequence, Transaction, TxOut, Witness};
use lock::{Key, Lock, LockedOutput};
use payout_channel::transactions::close::{self, Close};
use payout_channel::transactions::coinbase::{self, WonOutput};
use payout_channel::transactions::{CannotPay, Coin, Way, exit, refund};
use payout_channel::{Output, SignedState, fee, script};
use scene::{B, E, Scene, core_accepts, sat, with};

fn rate(sat_per_vb: u64) -> FeeRate {
    FeeRate::from_sat_per_vb(sat_per_vb).unwrap()
}

#[test]
fn a_claim_is_valid_and_pays_one_satoshi_a_virtual_byte() {
    let scene = Scene::new();
    for (settled, pendings) in [
        (0, vec![]),
        (5_000, vec![(B, 100_000)]),
        (5_000, (B..B + 24).map(|height| (height, 3_000)).collect()),
        (1_000_000, vec![]),
        (900_000, vec![(B, 100_000)]),
    ] {
        let signed = scene.sign(settled, &pendings);
        let claim = scene.template.signed(&signed, &scene.hasher.funding, &scene.secp).unwrap();
        assert!(core_accepts(&claim, &[scene.funding()]));
        let paid: Amount = claim.output.iter().map(|output| output.value).sum();
        let amounts = scene.template.amounts(&signed.state).unwrap();
        assert_eq!(paid + amounts.fee, scene.funding().value, "to the satoshi");
        assert_eq!(amounts.fee.to_sat(), claim.vsize() as u64);
        assert_eq!(claim.version, Version(3));
        assert!(claim.output.iter().all(|output| output.value >= fee::DUST));
    }
}

#[test]
fn dust_folds_into_the_remainder_and_a_remainder_of_dust_into_the_fee() {
    let scene = Scene::new();
    let capacity = scene.terms.capacity.to_sat();
    let dust = scene.template.amounts(&scene.sign(1_000, &[(B, 329), (B + 1, 330)]).state).unwrap();
    assert_eq!(dust.pendings.len(), 1);
    assert_eq!(dust.remainder, Some(sat(capacity - 1_000 - 330)));
    let full = scene.template.amounts(&scene.sign(capacity - 329, &[]).state).unwrap();
    assert_eq!((full.remainder, full.fee), (None, fee::claim_fee(1) + sat(329)));
    let claim = scene.template.unsigned(&scene.sign(capacity - 329, &[]).state).unwrap();
    assert_eq!(claim.output.len(), 1);
}

#[test]
fn the_prepared_sighash_is_bip341s() {
    let scene = Scene::new();
    for pendings in [vec![], vec![(B, 400)], vec![(B, 400), (B + 1, 100), (B + 5, 9_999)]] {
        let state = scene.sign(77, &pendings).state;
        let unsigned = scene.template.unsigned(&state).unwrap();
        let expected = SighashCache::new(&unsigned)
            .taproot_script_spend_signature_hash(
                0,
                &Prevouts::All(&[scene.funding()]),
                scene.template.funding().leaf_hash(script::CLOSE),
                TapSighashType::Default,
            )
            .unwrap();
        assert_eq!(scene.template.sighash(&state).unwrap(), expected);
    }
}

#[test]
fn a_claim_commits_to_amounts_number_and_settled_heights() {
    let scene = Scene::new();
    let signed = scene.sign(5_000, &[(B, 100_000)]);
    let claim = scene.template.signed(&signed, &scene.hasher.funding, &scene.secp).unwrap();
    assert_eq!(
        payout_channel::claim::committed(&claim),
        Some((signed.state.number, signed.state.settled_to))
    );
    let changes: [fn(&mut Transaction); 5] = [
        |claim| claim.output[0].value += sat(1),
        |claim| claim.output[1].script_pubkey = claim.output[0].script_pubkey.clone(),
        |claim| claim.lock_time = LockTime::from_consensus(claim.lock_time.to_consensus_u32() + 1),
        |claim| claim.input[0].sequence.0 += 1,
        |claim| drop(claim.output.pop()),
    ];
    for change in changes {
        let mut other = claim.clone();
        change(&mut other);
        assert!(!core_accepts(&other, &[scene.funding()]));
    }
    let mut amount = scene.funding();
    amount.value += sat(1);
    assert!(!core_accepts(&claim, &[amount]));
    for change in [
        SignedState {
            state: payout_channel::State { settled: sat(5_001), ..signed.state.clone() },
            ..signed.clone()
        },
        SignedState {
            state: payout_channel::State { settled_to: 1, ..signed.state.clone() },
            ..signed.clone()
        },
        SignedState { state: payout_channel::State { number: 8, ..signed.state.clone() }, ..signed },
    ] {
        assert!(scene.template.verify(&change, &scene.secp).is_err());
    }
    assert!(scene.template.verify(&signed, &scene.secp).is_ok());
}

#[test]
fn neither_side_publishes_a_claim_alone() {
    let scene = Scene::new();
    let signed = scene.sign(5_000, &[]);
    let by = |first: &[u8], second: &[u8]| {
        let mut claim = scene.template.unsigned(&signed.state).unwrap();
        claim.input[0].witness = scene.template.funding().witness(script::CLOSE, &[first, second]);
        core_accepts(&claim, &[scene.funding()])
    };
    let hub = signed.signature;
    let hasher = scene.template.sign(&signed.state, &scene.hasher.funding, &scene.secp).unwrap();
    assert!(by(hub.as_ref(), hasher.as_ref()));
    assert!(!by(hasher.as_ref(), hub.as_ref()));
    assert!(!by(hub.as_ref(), hub.as_ref()));
    assert!(!by(hasher.as_ref(), hasher.as_ref()));
    assert!(!by(hub.as_ref(), &[]));
    assert!(!by(&[], hasher.as_ref()));
}

#[test]
fn a_child_makes_the_package_pay_what_is_asked_and_takes_up_to_eight_pendings() {
    let scene = Scene::new();
    let pendings: Vec<(u32, u64)> = (B..B + 10).map(|height| (height, 50_000)).collect();
    let signed = scene.sign(5_000, &pendings);
    let claim = scene.template.signed(&signed, &scene.hasher.funding, &scene.secp).unwrap();
    let amounts = scene.template.amounts(&signed.state).unwrap();
    let key = |height| Some(scene.key(height));
    let (first, won) = exit::coins(&claim, &amounts, &scene.template, &scene.hasher, key, &scene.secp);
    assert_eq!(won.len(), 10);
    for (count, size) in [(0, 111), (1, 212), (8, 916), (10, 916)] {
        let to = ScriptBuf::from_bytes([&[0x51, 0x20][..], &[1; 32]].concat());
        let child =
            exit::child(&claim, amounts.fee, &first, &won[..count], to, rate(7), &scene.secp).unwrap();
        let spent: Vec<TxOut> = claim.output[..child.input.len()].to_vec();
        assert!(core_accepts(&child, &spent));
        assert!(child.vsize().abs_diff(size) <= 3 && child.vsize() <= 1_000, "{count}: {}", child.vsize());
        let fee = spent.iter().map(|output| output.value).sum::<Amount>() - child.output[0].value;
        assert_eq!((fee + amounts.fee).to_sat(), 7 * (child.vsize() + claim.vsize()) as u64);
    }
    let nothing = exit::child(&claim, amounts.fee, &first, &[], ScriptBuf::new(), rate(200), &scene.secp);
    assert!(matches!(nothing, Err(CannotPay { .. })));
}

/// A coin of a pending, and the transaction that spends it.
fn pending_spend(scene: &Scene, coin: Coin) -> bool {
    let spent = coin.output(&scene.secp);
    let sweep = exit::sweep(&[coin], scene.elsewhere(), rate(1), &scene.secp).unwrap();
    core_accepts(&sweep, &[spent])
}

fn pending_coin(scene: &Scene, lock: Lock, key: Key) -> Coin {
    let output = scene.terms.pending_output(B, lock, &scene.secp);
    Coin {
        outpoint: OutPoint::new(bitcoin::Txid::from_byte_array([3; 32]), 1),
        value: sat(50_000),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        way: Way::Preimage(output, script::WON, key),
        key: scene.hasher.pending,
    }
}

#[test]
fn a_pending_opens_for_its_hasher_with_the_key_of_its_height_and_nobody_else() {
    let scene = Scene::new();
    let coin = pending_coin(&scene, scene.lock(B), scene.key(B));
    assert!(pending_spend(&scene, coin.clone()));
    for stranger in [scene.hub.refund, scene.hub.funding, scene.hasher.settled] {
        assert!(!pending_spend(&scene, Coin { key: stranger, ..coin.clone() }));
    }
    let wrong = pending_coin(&scene, scene.lock(B), scene.key(B + 1));
    assert!(!pending_spend(&scene, wrong));
}

#[test]
fn a_pending_does_not_open_with_a_preimage_of_another_length_that_hashes_right() {
    let scene = Scene::new();
    for length in [0, 1, 31, 33, 64, 520] {
        let preimage = vec![3; length];
        let lock = Lock::from_bytes(sha256::Hash::hash(&preimage).to_byte_array());
        let coin = pending_coin(&scene, lock, scene.key(B));
        let spent = coin.output(&scene.secp);
        let mut sweep = exit::sweep(&[coin], scene.elsewhere(), rate(1), &scene.secp).unwrap();
        sweep.input[0].witness = with(&sweep.input[0].witness, 0, &preimage);
        assert!(!core_accepts(&sweep, &[spent]), "{length} bytes");
    }
}

#[test]
fn outputs_cannot_be_changed_under_a_signature() {
    let scene = Scene::new();
    let coin = pending_coin(&scene, scene.lock(B), scene.key(B));
    let spent = coin.output(&scene.secp);
    let mut sweep = exit::sweep(&[coin], scene.elsewhere(), rate(1), &scene.secp).unwrap();
    assert!(core_accepts(&sweep, std::slice::from_ref(&spent)));
    sweep.output[0].script_pubkey = spent.script_pubkey.clone();
    assert!(!core_accepts(&sweep, &[spent]));
}

/// The hub's refunds of a confirmed claim, with the outputs that they spend.
fn refunds(scene: &Scene) -> (Transaction, Vec<refund::Refund>) {
    let signed = scene.sign(5_000, &[(B, 100_000), (E, 50_000)]);
    let claim = scene.template.signed(&signed, &scene.hasher.funding, &scene.secp).unwrap();
    let amounts = scene.template.amounts(&signed.state).unwrap();
    let refunds = refund::of_claim(&claim, &amounts, &scene.template, &scene.hub, &scene.secp);
    (claim, refunds)
}

/// Signs anew after the change.
fn refunded(scene: &Scene, refund: &refund::Refund, spent: &TxOut) -> bool {
    let sweep = refund::sweep(std::slice::from_ref(refund), scene.elsewhere(), rate(1), &scene.secp).unwrap();
    core_accepts(&sweep, std::slice::from_ref(spent))
}

#[test]
fn the_hub_takes_back_pendings_at_their_height_and_not_one_block_before() {
    let scene = Scene::new();
    let (claim, refunds) = refunds(&scene);
    assert_eq!(refunds.len(), 3);
    for (refund, height) in refunds.iter().zip([B.max(E - 4_032) + 4_032, E + 4_032]) {
        let spent = &claim.output[refund.coin.outpoint.vout as usize];
        assert_eq!(refund.height, height);
        assert!(refunded(&scene, refund, spent));
        let early = refund::Refund { height: refund.height - 1, coin: refund.coin.clone() };
        assert!(!refunded(&scene, &early, spent), "one block early");
        for sequence in [Sequence::ZERO, Sequence::ENABLE_RBF_NO_LOCKTIME, Sequence::MAX] {
            let coin = Coin { sequence, ..refund.coin.clone() };
            assert!(!refunded(&scene, &refund::Refund { coin, ..*refund }, spent), "unconfirmed: {sequence}");
        }
        let coin = Coin { key: scene.hasher.pending, ..refund.coin.clone() };
        assert!(!refunded(&scene, &refund::Refund { coin, ..*refund }, spent), "by another");
    }
}

#[test]
fn the_remainder_waits_for_one_confirmation() {
    let scene = Scene::new();
    let (claim, refunds) = refunds(&scene);
    let rest = &refunds[2];
    let spent = claim.output.last().unwrap();
    assert_eq!(rest.height, 0);
    assert!(refunded(&scene, rest, spent));
    for sequence in [Sequence::ZERO, Sequence::ENABLE_RBF_NO_LOCKTIME] {
        let coin = Coin { sequence, ..rest.coin.clone() };
        assert!(!refunded(&scene, &refund::Refund { coin, ..*rest }, spent));
    }
    let coin = Coin { key: scene.hasher.settled, ..rest.coin.clone() };
    assert!(!refunded(&scene, &refund::Refund { coin, ..*rest }, spent));
}

#[test]
fn the_hub_takes_back_the_funding_at_its_expiry_and_not_one_block_before() {
    let scene = Scene::new();
    let refund = refund::funding(&scene.funded, &scene.hub, &scene.secp).unwrap();
    assert_eq!(refund.height, E);
    assert!(refunded(&scene, &refund, &scene.funding()));
    let early = refund::Refund { height: E - 1, coin: refund.coin.clone() };
    assert!(!refunded(&scene, &early, &scene.funding()));
    let final_ = Coin { sequence: Sequence::MAX, ..refund.coin.clone() };
    assert!(!refunded(&scene, &refund::Refund { coin: final_, ..refund }, &scene.funding()));
    let other = Coin { key: scene.hasher.funding, ..refund.coin.clone() };
    assert!(!refunded(&scene, &refund::Refund { coin: other, ..refund }, &scene.funding()));
}

#[test]
fn a_cooperative_close_takes_both_and_adds_up_whatever_the_fee() {
    let scene = Scene::new();
    let funding = scene.funding();
    for (owed, fee) in [(600_000, 154), (600_000, 5_000), (0, 300), (1_000_000, 2_000), (400, 100)] {
        let close = Close { owed: sat(owed), to: scene.elsewhere(), fee: sat(fee) };
        let hubs = close::sign(&scene.funded, &close, &scene.hub.funding, &scene.secp).unwrap();
        let signed = close::signed(&scene.funded, &close, &hubs, &scene.hasher.funding, &scene.secp).unwrap();
        assert!(core_accepts(&signed, std::slice::from_ref(&funding)));
        let hubs_part = sat(fee).min(scene.terms.reserve());
        let expected = sat(owed) - (sat(fee) - hubs_part);
        let paid = signed.output.iter().find(|output| output.script_pubkey == scene.elsewhere());
        assert_eq!(paid.map_or(Amount::ZERO, |output| output.value), expected);
        let by_hasher_alone = close::signed(
            &scene.funded,
            &close,
            &scene.own_close(&close),
            &scene.hasher.funding,
            &scene.secp,
        );
        assert_eq!(by_hasher_alone, Err(close::NoClose::Signature));
    }
    let size = close::unsigned(
        &scene.funded,
        &Close { owed: sat(9_999), to: scene.elsewhere(), fee: sat(1) },
        &scene.secp,
    );
    assert_eq!(size.unwrap().output.len(), 2);
}

#[test]
fn transactions_have_the_sizes_that_protocol_md_gives() {
    let scene = Scene::new();
    let (secp, to) = (&scene.secp, scene.elsewhere());
    let agreed = Close { owed: sat(5_000), to: to.clone(), fee: sat(300) };
    let hubs = close::sign(&scene.funded, &agreed, &scene.hub.funding, secp).unwrap();
    let closed = close::signed(&scene.funded, &agreed, &hubs, &scene.hasher.funding, secp).unwrap();
    assert_eq!((closed.vsize() as u64, closed.output.len()), (close::SIZE, 2));
    let coin = pending_coin(&scene, scene.lock(B), scene.key(B));
    let back = |refund: &refund::Refund| {
        refund::sweep(std::slice::from_ref(refund), to.clone(), rate(1), secp).unwrap().vsize()
    };
    let (funding, (_, of_claim)) = (refund::funding(&scene.funded, &scene.hub, secp), refunds(&scene));
    let won = [(scene.won(), scene.key(B), scene.claim_key)];
    let claimed =
        |fundings: &[TxOut]| coinbase::claim(&won, fundings, to.clone(), rate(1), secp).unwrap().vsize();
    let sizes = [
        closed.vsize(),
        exit::sweep(&[coin], to.clone(), rate(1), secp).unwrap().vsize(),
        back(&funding.unwrap()),
        back(&of_claim[0]),
        back(&of_claim[2]),
        claimed(&[]),
        claimed(&[scene.funding()]) - claimed(&[]),
    ];
    assert_eq!(sizes, [204, 155, 138, 139, 129, 155, 43]);
}

#[test]
fn nobody_spends_the_funding_by_the_key_path_alone() {
    let scene = Scene::new();
    let mut claim = scene.template.unsigned(&scene.sign(0, &[]).state).unwrap();
    let sighash = SighashCache::new(&claim)
        .taproot_key_spend_signature_hash(0, &Prevouts::All(&[scene.funding()]), TapSighashType::Default)
        .unwrap();
    for key in [scene.hub.funding, scene.hasher.funding, scene.hub.refund] {
        let signature = scene.secp.sign_schnorr_no_aux_rand(&sighash.into(), &key);
        claim.input[0].witness = Witness::from_slice(&[signature.as_ref()]);
        assert!(!core_accepts(&claim, &[scene.funding()]));
    }
}

#[test]
fn a_coinbase_claim_also_funds_payout_channels_and_only_the_true_key_opens_it() {
    let scene = Scene::new();
    let won = scene.won();
    let spent = [TxOut { value: won.value, script_pubkey: won.output.script_pubkey() }];
    let fundings = [scene.funding(), scene.funding()];
    let claim = |key, claim_key| {
        let won = [(won.clone(), key, claim_key)];
        coinbase::claim(&won, &fundings, scene.elsewhere(), rate(3), &scene.secp).unwrap()
    };
    let good = claim(scene.key(B), scene.claim_key);
    assert!(core_accepts(&good, &spent));
    assert_eq!(good.output[..2], fundings);
    let paid: Amount = good.output.iter().map(|output| output.value).sum();
    assert_eq!((won.value - paid).to_sat(), 3 * good.vsize() as u64);
    assert!(!core_accepts(&claim(scene.key(B + 1), scene.claim_key), &spent));
    assert!(!core_accepts(&claim(scene.key(B), scene.hub.funding), &spent));
    let many = vec![scene.funding(); 400];
    let poor = coinbase::claim(
        &[(won.clone(), scene.key(B), scene.claim_key)],
        &many,
        scene.elsewhere(),
        rate(1),
        &scene.secp,
    );
    assert!(poor.is_err(), "400 fundings are more than the coinbase holds");
}

#[test]
fn the_council_sweeps_after_its_delay_with_enough_signatures() {
    let scene = Scene::new();
    let won: WonOutput = scene.won();
    let spent = [TxOut { value: won.value, script_pubkey: won.output.script_pubkey() }];
    let outputs = vec![TxOut { value: sat(1_000), script_pubkey: scene.elsewhere() }];
    let sweep = |delay: u32, signers: &[usize]| {
        let mut sweep = coinbase::council_sweep(&won, &scene.pool.council, outputs.clone());
        sweep.input[0].sequence = Sequence(delay);
        let signatures: Vec<_> = (0..3)
            .map(|at| {
                signers
                    .contains(&at)
                    .then(|| coinbase::council_sign(&sweep, &won, &scene.council[at], &scene.secp))
            })
            .collect();
        core_accepts(&coinbase::council_signed(sweep, &won, &signatures), &spent)
    };
    let due = LockedOutput::recovery_sequence(&scene.pool.council).0;
    assert!(sweep(due, &[0, 2]));
    assert!(!sweep(due - 1, &[0, 2]));
    assert!(!sweep(due, &[0]));
}

#[test]
fn the_outputs_are_the_miniscripts_of_the_design() {
    let scene = Scene::new();
    let terms = &scene.terms;
    let hash = sha256::Hash::from_byte_array(scene.lock(B).to_bytes());
    let internal =
        payout_channel::aggregate::aggregate_two(&terms.hub_funding, &terms.hasher_funding, &scene.secp)
            .unwrap();
    let nums = bitcoin::XOnlyPublicKey::from_slice(&lock::output::NUMS).unwrap();
    let cases = [
        (
            format!(
                "tr({internal},{{and_v(v:pk({}),pk({})),and_v(v:pk({}),after({E}))}})",
                terms.hasher_funding, terms.hub_funding, terms.hub_refund
            ),
            scene.template.funding().script_pubkey(),
        ),
        (
            format!(
                "tr({nums},{{and_v(v:pk({}),sha256({hash})),and_v(v:pk({}),and_v(v:after({}),older(1)))}})",
                terms.hasher_pending,
                terms.hub_refund,
                terms.refund_height(B)
            ),
            terms.pending_output(B, scene.lock(B), &scene.secp).script_pubkey(),
        ),
        (
            format!("tr({nums},and_v(v:pk({}),older(1)))", terms.hub_refund),
            Output::remainder(&terms.hub_refund, &scene.secp).script_pubkey(),
        ),
        (format!("tr({})", terms.hasher_settled), script::key_only(&terms.hasher_settled, &scene.secp)),
    ];
    for (descriptor, expected) in cases {
        let tree: miniscript::descriptor::Tr<bitcoin::XOnlyPublicKey> = descriptor.parse().unwrap();
        assert_eq!(tree.script_pubkey(), expected, "{descriptor}");
    }
}
