//! What a hub can try against a hasher that leaves: to pin its claim, to be faster, to take it back.

use payout_channel::transactions::refund;

use crate::stage::{E, REFUND, Stage, rate, sat};

#[tokio::test]
async fn a_hub_cannot_attach_anything_to_an_unconfirmed_claim() {
    let (stage, channel) = Stage::with_channel(&[]).await;
    let signed = stage.state(&channel, 9, 700_000, &[(1, 10_000), (2, 20_000)]);
    let claim = stage.claim_of(&channel, &signed);
    let amounts = channel.template.amounts(&signed.state).unwrap();
    let refunds = refund::of_claim(&claim, &amounts, &channel.template, &channel.hub, &stage.secp);
    // After E and T, when even the pendings are the hub's but for their one block of waiting.
    stage.node.mine_up_to(2 + REFUND).await;
    stage.node.accepts(&claim).await;
    for refund in &refunds {
        let mut child =
            refund::sweep(std::slice::from_ref(refund), stage.nobody(), rate(3), &stage.secp).unwrap();
        stage.node.refuses(&child, "non-BIP68-final").await;
        // Nor as a version 3 transaction, nor by signing for no delay.
        child.version = bitcoin::transaction::Version(3);
        stage.node.refuses(&child, "non-BIP68-final").await;
        let mut hasty = refund.clone();
        hasty.coin.sequence = bitcoin::Sequence::ZERO;
        let hasty = refund::sweep(&[hasty], stage.nobody(), rate(3), &stage.secp).unwrap();
        assert!(stage.node.refusal(&hasty).await.is_some());
    }
}

#[tokio::test]
async fn a_hub_that_pays_more_replaces_an_unconfirmed_claim_at_e_and_not_before() {
    let (stage, channel) = Stage::with_channel(&[]).await;
    let signed = stage.state(&channel, 9, 700_000, &[]);
    let claim = stage.claim_of(&channel, &signed);
    let funding = refund::funding(channel.template.funded(), &channel.hub, &stage.secp).unwrap();
    let back = refund::sweep(&[funding], stage.nobody(), rate(50), &stage.secp).unwrap();
    stage.node.mine_up_to(E - 1).await;
    stage.node.accepts(&claim).await;
    stage.node.refuses(&back, "non-final").await;
    assert!(stage.node.confirms(&claim).await, "so a hasher that closes before E is first");
    stage.node.refuses(&back, "missing-inputs").await;

    // One that waits until E races: this is why it closes by E − 432.
    let (stage, channel) = Stage::with_channel(&[]).await;
    let claim = stage.claim_of(&channel, &stage.state(&channel, 9, 700_000, &[]));
    stage.node.mine_up_to(E).await;
    stage.node.accepts(&claim).await;
    stage.node.accepts(&back).await;
    assert!(!stage.node.waits(&claim).await);
}

#[tokio::test]
async fn a_hasher_raises_its_fee_by_a_better_child_as_often_as_it_likes() {
    let (stage, channel) = Stage::with_channel(&[]).await;
    let signed = stage.state(&channel, 9, 700_000, &[(1, 10_000), (2, 20_000)]);
    let claim = stage.claim_of(&channel, &signed);
    let mut before = None;
    for satoshi in [2, 10, 60] {
        let child = stage.child(&channel, &signed, &[1, 2], rate(satoshi));
        let verdict = stage.node.package(&[&claim, &child]).await;
        assert_eq!(verdict.message, "success", "{satoshi}: {}", verdict.whole);
        if let Some(before) = before.replace(child) {
            assert!(!stage.node.waits(&before).await);
        }
    }
    assert!(stage.node.confirms(&before.unwrap()).await);
}

#[tokio::test]
async fn a_hub_with_the_hashers_old_close_signature_has_none_for_another() {
    let (stage, channel) = Stage::with_channel(&[]).await;
    let old = stage.state(&channel, 3, 400_000, &[(1, 10_000)]);
    let last = stage.state(&channel, 9, 700_000, &[(2, 20_000)]);
    // A hub that signs in the hasher's place, with every key it has.
    for key in [channel.hub.funding, channel.hub.refund, stage.claim_key] {
        for signed in [&old, &last] {
            let forged = channel.template.signed(signed, &key, &stage.secp).unwrap();
            stage.node.refuses(&forged, "script-verify-flag-failed").await;
        }
    }
    assert_eq!(old.state.settled, sat(400_000));
}

#[tokio::test]
async fn two_claims_in_a_race_pay_one_of_them_and_the_better_paid_child_decides() {
    let (stage, channel) = Stage::with_channel(&[]).await;
    let old = stage.state(&channel, 3, 400_000, &[(1, 10_000)]);
    let last = stage.state(&channel, 9, 700_000, &[(1, 10_000)]);
    let (old_claim, last_claim) = (stage.claim_of(&channel, &old), stage.claim_of(&channel, &last));
    stage.node.package(&[&old_claim, &stage.child(&channel, &old, &[1], rate(5))]).await;
    assert!(stage.node.waits(&old_claim).await);
    let verdict = stage.node.package(&[&last_claim, &stage.child(&channel, &last, &[1], rate(50))]).await;
    assert_eq!(verdict.message, "success", "{}", verdict.whole);
    assert!(!stage.node.waits(&old_claim).await);
    assert!(stage.node.confirms(&last_claim).await);
}
