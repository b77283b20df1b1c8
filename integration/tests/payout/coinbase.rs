//! The hub's coinbase output: its claim, which funds payout channels, and the council's sweep.

use bitcoin::{Amount, Sequence, TxOut, transaction::Version};
use payout_channel::keys::public;
use payout_channel::pending_root::{Candidate, Secret, Tree};
use payout_channel::transactions::coinbase;

use crate::stage::{COUNCIL, Stage, WON, rate, sat, with};

const SCRIPT: &str = "script-verify-flag-failed";
const EARLY: &str = "non-BIP68-final";

#[tokio::test]
async fn the_hub_claims_a_coinbase_after_exactly_100_blocks_and_funds_payout_channels_with_it() {
    let stage = Stage::new(&[]).await;
    let (channels, claim) = stage.claim_funding(50);
    stage.node.mine_up_to(WON + 98).await;
    stage.node.refuses(&claim, "bad-txns-premature-spend-of-coinbase").await;
    stage.node.mine(1).await;
    stage.node.accepts(&claim).await;
    assert!(stage.node.confirms(&claim).await);
    assert_eq!(stage.node.height().await, WON + 100);
    // 112 vB for the claim and its rest, and 43 for each payout channel.
    assert!((43 * 50..43 * 50 + 160).contains(&claim.vsize()), "{}", claim.vsize());
    for (place, channel) in channels.iter().enumerate() {
        let funded = channel.template.funded();
        assert_eq!(claim.output[place], funded.terms.funding(&stage.secp).unwrap());
        let state = stage.state(channel, 1, 5_000, &[]);
        stage.node.accepts(&stage.claim_of(channel, &state)).await;
    }
}

#[tokio::test]
async fn a_claim_takes_the_right_key_of_32_bytes_and_the_right_signature() {
    let stage = Stage::new(&[]).await;
    let (_, claim) = stage.claim_funding(1);
    stage.node.mine_up_to(WON + 99).await;
    for wrong in [vec![1; 32], stage.key(WON + 1).to_bytes().to_vec(), vec![], vec![1; 31], vec![1; 33]] {
        stage.node.refuses(&with(&claim, 0, 0, &wrong), SCRIPT).await;
    }
    let mut longer = stage.key(WON).to_bytes().to_vec();
    longer.push(0);
    stage.node.refuses(&with(&claim, 0, 0, &longer), SCRIPT).await;
    let signature = claim.input[0].witness.nth(1).unwrap().to_vec();
    let mut flipped = signature.clone();
    flipped[40] ^= 1;
    stage.node.refuses(&with(&claim, 0, 1, &flipped), SCRIPT).await;
    let mut less = claim.clone();
    less.output[0].value -= sat(1);
    stage.node.refuses(&less, SCRIPT).await;
    let mut elsewhere = claim.clone();
    elsewhere.output[0].script_pubkey = stage.nobody();
    stage.node.refuses(&elsewhere, SCRIPT).await;
    // A member of the council who has seen the key.
    let won = (stage.won.clone(), stage.key(WON), stage.council[0]);
    let stranger = coinbase::claim(&[won], &[], stage.nobody(), rate(2), &stage.secp).unwrap();
    stage.node.refuses(&stranger, SCRIPT).await;
    stage.node.accepts(&claim).await;
}

/// What the council repays for two hashers of three that come.
fn repayments(stage: &Stage) -> Vec<TxOut> {
    let secret = Secret::from_bytes([6; 32]);
    let payees = [9, 10, 11].map(|byte| {
        let key = bitcoin::secp256k1::SecretKey::from_slice(&[byte; 32]).unwrap();
        public(&bitcoin::secp256k1::Keypair::from_secret_key(&stage.secp, &key))
    });
    let tree = Tree::new(&secret, WON, payees.map(|payee| (payee, Amount::ONE_BTC))).unwrap();
    let counts = Candidate::that_counts([Candidate { height: WON, root: tree.root() }], WON).unwrap();
    let claims: Vec<_> = payees[..2].iter().map(|payee| tree.prove(&secret, payee).unwrap()).collect();
    let available = stage.won.value - sat(2_000);
    let repaid = counts.repay(&claims, available, sat(330), stage.key(WON).lock(), None).unwrap();
    assert_eq!(repaid.rest, available - Amount::ONE_BTC * 2);
    let rest = TxOut { value: repaid.rest, script_pubkey: stage.nobody() };
    repaid.outputs.into_iter().chain([rest]).collect()
}

#[tokio::test]
async fn the_council_sweeps_when_its_delay_is_over_and_not_one_block_before_and_repays_what_the_root_proves()
{
    let stage = Stage::new(&[]).await;
    let sweep = stage.sweep(repayments(&stage), &[0, 2]);
    stage.node.mine_up_to(WON + u32::from(COUNCIL) - 2).await;
    stage.node.refuses(&sweep, EARLY).await;
    let mut impatient = coinbase::council_sweep(&stage.won, &stage.pool.council, repayments(&stage));
    for sequence in [Sequence::from_height(COUNCIL - 1), Sequence::ZERO, Sequence::MAX] {
        impatient.input[0].sequence = sequence;
        stage.node.refuses(&stage.council_signs(impatient.clone(), &[0, 2]), SCRIPT).await;
    }
    stage.node.mine(1).await;
    for members in [vec![], vec![1], vec![0, 1, 2]] {
        stage.node.refuses(&stage.sweep(repayments(&stage), &members), SCRIPT).await;
    }
    let mut old = coinbase::council_sweep(&stage.won, &stage.pool.council, repayments(&stage));
    old.version = Version::ONE;
    stage.node.refuses(&stage.council_signs(old, &[0, 2]), SCRIPT).await;
    let mut changed = sweep.clone();
    changed.output[0].value += sat(1);
    stage.node.refuses(&changed, SCRIPT).await;
    stage.node.accepts(&sweep).await;
    assert!(stage.node.confirms(&sweep).await);
    assert_eq!(stage.node.height().await, WON + u32::from(COUNCIL));
}

#[tokio::test]
async fn a_hub_that_comes_late_can_still_claim_until_the_sweep_is_in_a_block_and_not_after() {
    let stage = Stage::new(&[]).await;
    let (_, claim) = stage.claim_funding(1);
    let sweep = stage.sweep(repayments(&stage), &[1, 2]);
    stage.node.mine_up_to(WON + u32::from(COUNCIL) - 1).await;
    stage.node.accepts(&sweep).await;
    assert!(stage.node.confirms(&sweep).await);
    stage.node.refuses(&claim, "missing-inputs").await;
}
