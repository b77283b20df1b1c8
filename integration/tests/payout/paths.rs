//! Every script path of a payout channel's outputs, right and wrong.

use bitcoin::secp256k1::Keypair;
use bitcoin::{Amount, ScriptBuf, Transaction};
use payout_channel::keys::HubKeys;
use payout_channel::transactions::close::{self, Close};
use payout_channel::transactions::exit;
use payout_channel::transactions::refund::{self, Refund};

use crate::stage::{CAPACITY, Channel, E, REFUND, Stage, rate, sat, with};

const SCRIPT: &str = "script-verify-flag-failed";

fn refund_of(stage: &Stage, refund: &Refund) -> Transaction {
    refund::sweep(std::slice::from_ref(refund), stage.nobody(), rate(3), &stage.secp).unwrap()
}

#[tokio::test]
async fn a_claim_takes_both_signatures_and_is_exactly_what_was_signed() {
    let (stage, channel) = Stage::with_channel(&[]).await;
    let signed = stage.state(&channel, 9, 700_000, &[(1, 10_000), (2, 20_000)]);
    let claim = stage.claim_of(&channel, &signed);
    let own = claim.input[0].witness.nth(1).unwrap().to_vec();
    let hubs = claim.input[0].witness.nth(0).unwrap().to_vec();
    for forged in [
        with(&claim, 0, 0, &own),
        with(&claim, 0, 1, &hubs),
        with(&claim, 0, 0, &[]),
        with(&claim, 0, 1, &[]),
    ] {
        stage.node.refuses(&forged, SCRIPT).await;
    }
    // The hub has no signature by Mf, and the hasher none by Hf for anything else.
    for (place, amount) in [(0, sat(1)), (1, sat(1)), (2, sat(1))] {
        let mut changed = claim.clone();
        changed.output[place].value -= amount;
        stage.node.refuses(&changed, SCRIPT).await;
    }
    let mut elsewhere = claim.clone();
    elsewhere.output[1].script_pubkey = stage.nobody();
    stage.node.refuses(&elsewhere, SCRIPT).await;
    let mut fewer = claim.clone();
    fewer.output.remove(1);
    stage.node.refuses(&fewer, SCRIPT).await;
    let mut renumbered = claim.clone();
    renumbered.input[0].sequence.0 += 1;
    stage.node.refuses(&renumbered, SCRIPT).await;
    stage.node.accepts(&claim).await;
}

#[tokio::test]
async fn a_funding_comes_back_to_the_hub_at_e_and_not_one_block_before() {
    let (stage, channel) = Stage::with_channel(&[]).await;
    let refund = refund::funding(channel.template.funded(), &channel.hub, &stage.secp).unwrap();
    let transaction = refund_of(&stage, &refund);
    stage.node.mine_up_to(E - 1).await;
    stage.node.refuses(&transaction, "non-final").await;
    let early = Refund { height: E - 1, ..refund.clone() };
    stage.node.refuses(&refund_of(&stage, &early), SCRIPT).await;
    let mut final_ = refund.clone();
    final_.coin.sequence = bitcoin::Sequence::MAX;
    stage.node.refuses(&refund_of(&stage, &final_), SCRIPT).await;
    stage.node.mine(1).await;
    stage.node.refuses(&refund_of(&stage, &by(&refund, channel.hasher.funding)), SCRIPT).await;
    stage.node.refuses(&refund_of(&stage, &by(&refund, channel.hub.funding)), SCRIPT).await;
    stage.node.accepts(&transaction).await;
    assert!(stage.node.confirms(&transaction).await);
    assert_eq!(stage.node.height().await, E + 1);
}

fn by(refund: &Refund, key: Keypair) -> Refund {
    let mut refund = refund.clone();
    refund.coin.key = key;
    refund
}

/// A claim in a block, with pendings of heights 1 and 9; the hub's outputs of it, the remainder last.
async fn claimed(stage: &Stage, channel: &Channel, keys: &HubKeys) -> (Transaction, Vec<Refund>) {
    let signed = stage.state(channel, 9, 700_000, &[(1, 10_000), (9, 20_000)]);
    let claim = stage.claim_of(channel, &signed);
    let amounts = channel.template.amounts(&signed.state).unwrap();
    let refunds = refund::of_claim(&claim, &amounts, &channel.template, keys, &stage.secp);
    assert_eq!(refunds.len(), 3);
    stage.node.accepts(&claim).await;
    (claim, refunds)
}

#[tokio::test]
async fn a_pending_takes_the_right_key_of_32_bytes_and_the_hashers_signature() {
    let (stage, channel) = Stage::with_channel(&[]).await;
    let signed = stage.state(&channel, 9, 700_000, &[(1, 10_000), (9, 20_000)]);
    claimed(&stage, &channel, &channel.hub).await;
    stage.node.mine(1).await;
    let (_, _, coins) = stage.coins(&channel, &signed.state, &[1, 9]);
    let taken = exit::sweep(&coins, stage.nobody(), rate(3), &stage.secp).unwrap();
    let other = stage.key(3).to_bytes().to_vec();
    for wrong in [other, stage.key(9).to_bytes().to_vec(), vec![], vec![5; 31], vec![5; 33]] {
        stage.node.refuses(&with(&taken, 0, 0, &wrong), SCRIPT).await;
    }
    let mut longer = stage.key(1).to_bytes().to_vec();
    longer.push(0);
    stage.node.refuses(&with(&taken, 0, 0, &longer), SCRIPT).await;
    for thief in [channel.hub.refund, channel.hub.funding, channel.hasher.settled, stage.council[0]] {
        let mut stolen = coins.clone();
        stolen.iter_mut().for_each(|coin| coin.key = thief);
        let stolen = exit::sweep(&stolen, stage.nobody(), rate(3), &stage.secp).unwrap();
        stage.node.refuses(&stolen, SCRIPT).await;
    }
    let mut changed = taken.clone();
    changed.output[0].value -= sat(1);
    stage.node.refuses(&changed, SCRIPT).await;
    stage.node.accepts(&taken).await;
}

#[tokio::test]
async fn pendings_come_back_to_the_hub_at_their_height_and_not_one_block_before() {
    let (stage, channel) = Stage::with_channel(&[]).await;
    let (claim, refunds) = claimed(&stage, &channel, &channel.hub).await;
    assert!(stage.node.confirms(&claim).await);
    for (at, height) in [(0, 1 + REFUND), (1, 9 + REFUND)] {
        let refund = &refunds[at];
        assert_eq!(refund.height, height);
        let transaction = refund_of(&stage, refund);
        stage.node.mine_up_to(height - 1).await;
        stage.node.refuses(&transaction, "non-final").await;
        let early = Refund { height: height - 1, ..refund.clone() };
        stage.node.refuses(&refund_of(&stage, &early), SCRIPT).await;
        stage.node.mine(1).await;
        let mut hasty = refund.clone();
        hasty.coin.sequence = bitcoin::Sequence::ZERO;
        stage.node.refuses(&refund_of(&stage, &hasty), SCRIPT).await;
        stage.node.refuses(&refund_of(&stage, &by(refund, channel.hasher.pending)), SCRIPT).await;
        stage.node.accepts(&transaction).await;
        assert!(stage.node.confirms(&transaction).await);
    }
}

#[tokio::test]
async fn the_remainder_comes_back_to_the_hub_a_block_after_the_claim() {
    let (stage, channel) = Stage::with_channel(&[]).await;
    let (claim, refunds) = claimed(&stage, &channel, &channel.hub).await;
    let rest = refund_of(&stage, &refunds[2]);
    assert!(stage.node.confirms(&claim).await);
    stage.node.refuses(&refund_of(&stage, &by(&refunds[2], channel.hasher.settled)), SCRIPT).await;
    let mut hasty = refunds[2].clone();
    hasty.coin.sequence = bitcoin::Sequence::ZERO;
    stage.node.refuses(&refund_of(&stage, &hasty), SCRIPT).await;
    stage.node.accepts(&rest).await;
    assert!(stage.node.confirms(&rest).await);
}

#[tokio::test]
async fn a_cooperative_close_pays_what_both_signed_at_once() {
    let (stage, channel) = Stage::with_channel(&[]).await;
    let to = ScriptBuf::from_bytes([&[0x51, 0x20][..], &stage.key(40).to_bytes()].concat());
    let close = Close { owed: sat(730_000), to: stage.nobody(), fee: sat(close::SIZE * 2) };
    let funded = channel.template.funded();
    let hubs = close::sign(funded, &close, &channel.hub.funding, &stage.secp).unwrap();
    let closed = close::signed(funded, &close, &hubs, &channel.hasher.funding, &stage.secp).unwrap();
    let mut elsewhere = closed.clone();
    elsewhere.output[0].script_pubkey = to;
    stage.node.refuses(&elsewhere, SCRIPT).await;
    let own = closed.input[0].witness.nth(1).unwrap().to_vec();
    stage.node.refuses(&with(&closed, 0, 0, &own), SCRIPT).await;
    stage.node.accepts(&closed).await;
    assert!(stage.node.confirms(&closed).await);
    let paid: Amount = closed.output.iter().map(|output| output.value).sum();
    assert_eq!(closed.output[0].value, sat(730_000));
    assert_eq!(paid, CAPACITY + funded.terms.reserve() - sat(close::SIZE * 2));
}
