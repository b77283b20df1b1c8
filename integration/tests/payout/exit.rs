//! A hasher leaves by force: the claim and its child as a package, pendings before and after the keys are out.

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::script::PushBytesBuf;
use bitcoin::{OutPoint, ScriptBuf, Transaction, TxOut};
use payout_channel::transactions::exit;
use payout_channel::transactions::{Coin, Way};
use serde_json::json;

use crate::stage::{Channel, Stage, rate, sat};

/// Pendings of the heights from 1 on.
fn pendings(count: u32) -> Vec<(u32, u64)> {
    (1..=count).map(|height| (height, 10_000 + u64::from(height))).collect()
}

fn all(count: u32) -> Vec<u32> {
    (1..=count).collect()
}

#[tokio::test]
async fn a_claim_and_its_child_go_in_as_a_package_and_pay_to_the_satoshi() {
    let (stage, channel) = Stage::with_channel(&[]).await;
    let signed = stage.state(&channel, 9, 700_000, &pendings(3));
    let claim = stage.claim_of(&channel, &signed);
    let child = stage.child(&channel, &signed, &all(2), rate(20));
    let verdict = stage.node.package(&[&claim, &child]).await;
    assert_eq!(verdict.message, "success", "{}", verdict.whole);
    assert!(stage.node.confirms(&claim).await);
    let block = stage.node.tip().await;
    assert!(block.txdata.contains(&child));
    // What the hasher gets is S, two pendings and what is left of the hub's reserve, less the fees.
    let reserve = channel.template.funded().terms.reserve();
    let paid: bitcoin::Amount = child.output.iter().map(|output| output.value).sum();
    let both = (claim.vsize() + child.vsize()) as u64;
    assert_eq!(paid, sat(700_000 + 10_001 + 10_002) + reserve - sat(20 * both));
}

#[tokio::test]
async fn a_package_goes_in_where_the_claim_alone_pays_less_than_the_node_relays() {
    let (stage, channel) = Stage::with_channel(&["-minrelaytxfee=0.00005"]).await;
    leaves_as_a_package(&stage, &channel).await;
}

#[tokio::test]
async fn a_package_goes_in_while_a_full_mempools_minimum_is_above_what_the_claim_pays() {
    let (stage, channel) = Stage::with_channel(&["-maxmempool=5"]).await;
    fill(&stage).await;
    assert!(stage.node.minimum().await > 1_000, "{}", stage.node.minimum().await);
    leaves_as_a_package(&stage, &channel).await;
}

/// The claim alone is refused; with its child it is in the next block.
async fn leaves_as_a_package(stage: &Stage, channel: &Channel) {
    let signed = stage.state(channel, 9, 700_000, &pendings(3));
    let claim = stage.claim_of(channel, &signed);
    stage.node.refuses(&claim, "min").await;
    let child = stage.child(channel, &signed, &[2], rate(60));
    let verdict = stage.node.package(&[&claim, &child]).await;
    assert_eq!(verdict.message, "success", "{}", verdict.whole);
    assert!(stage.node.confirms(&claim).await);
    assert!(stage.node.tip().await.txdata.contains(&child));
}

/// Large transactions, each of a coin of its own, that pay more and more until the node drops the cheapest.
async fn fill(stage: &Stage) {
    let key = stage.council[0];
    let script = stage.nobody();
    let confirmed = stage.node.height().await;
    stage.node.mine_to(&script, 80).await;
    stage.node.mine(100).await;
    let heavy = ScriptBuf::new_op_return(PushBytesBuf::try_from(vec![7; 90_000]).unwrap());
    for (at, height) in (1_u64..).zip(confirmed + 1..=confirmed + 80) {
        let hash = stage.node.rpc.block_hash(height).await.unwrap();
        let coinbase = stage.node.rpc.block(&hash).await.unwrap().txdata.remove(0);
        let value = coinbase.output[0].value;
        let outpoint = OutPoint::new(coinbase.compute_txid(), 0);
        let sequence = bitcoin::Sequence::ENABLE_RBF_NO_LOCKTIME;
        let coin = Coin { outpoint, value, sequence, way: Way::KeyOnly, key };
        let burden = TxOut { value: sat(0), script_pubkey: heavy.clone() };
        let transaction = heavy_spend(stage, &coin, burden, 2 + at / 8);
        let _: Result<String, _> =
            stage.node.rpc.call("sendrawtransaction", json!([serialize_hex(&transaction), 0, 1])).await;
        if stage.node.minimum().await > 2_000 {
            return;
        }
    }
}

/// Spends a coin to where it came from, with one more output that makes it heavy.
fn heavy_spend(stage: &Stage, coin: &Coin, burden: TxOut, satoshi: u64) -> Transaction {
    let size = 90_200 * satoshi;
    let rest = TxOut { value: coin.value - sat(size), script_pubkey: stage.nobody() };
    sign(stage, coin, vec![burden, rest])
}

fn sign(stage: &Stage, coin: &Coin, output: Vec<TxOut>) -> Transaction {
    use bitcoin::key::TapTweak as _;
    use bitcoin::sighash::{Prevouts, SighashCache, TapSighashType};
    let input =
        bitcoin::TxIn { previous_output: coin.outpoint, sequence: coin.sequence, ..Default::default() };
    let mut transaction = Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: vec![input],
        output,
    };
    let spent = [coin.output(&stage.secp)];
    let sighash = SighashCache::new(&transaction)
        .taproot_key_spend_signature_hash(0, &Prevouts::All(&spent), TapSighashType::Default)
        .unwrap();
    let key = coin.key.tap_tweak(&stage.secp, None).to_keypair();
    let signature = stage.secp.sign_schnorr_no_aux_rand(&sighash.into(), &key);
    transaction.input[0].witness = bitcoin::Witness::from_slice(&[signature.as_ref()]);
    transaction
}

#[tokio::test]
async fn eight_pendings_fit_a_child_and_the_rest_follow_the_confirmation() {
    let (stage, channel) = Stage::with_channel(&[]).await;
    let signed = stage.state(&channel, 9, 700_000, &pendings(24));
    let claim = stage.claim_of(&channel, &signed);
    let child = stage.child(&channel, &signed, &all(24), rate(5));
    assert_eq!(child.input.len(), 1 + exit::MOST_IN_CHILD);
    assert!(child.vsize() <= 1_000, "{}", child.vsize());
    let (_, first, coins) = stage.coins(&channel, &signed.state, &all(24));
    let too_large =
        exit::sweep(&[&[first][..], &coins[..9]].concat(), stage.nobody(), rate(5), &stage.secp).unwrap();
    let too_large = Transaction { version: bitcoin::transaction::Version(3), ..too_large };
    assert!(too_large.vsize() > 1_000, "{}", too_large.vsize());

    let verdict = stage.node.package(&[&claim, &child]).await;
    assert_eq!(verdict.message, "success", "{}", verdict.whole);
    let others = exit::sweep(&coins[8..], stage.nobody(), rate(5), &stage.secp).unwrap();
    stage.node.refuses(&others, "TRUC-violation").await;
    assert!(stage.node.confirms(&claim).await);
    stage.node.accepts(&others).await;
    assert!(stage.node.confirms(&others).await);
    assert_eq!(others.input.len(), 16);
}

#[tokio::test]
async fn a_pending_is_taken_after_the_key_is_out_however_long_the_claim_has_been_there() {
    let (stage, channel) = Stage::with_channel(&[]).await;
    let signed = stage.state(&channel, 9, 700_000, &pendings(2));
    let claim = stage.claim_of(&channel, &signed);
    stage.node.accepts(&claim).await;
    assert!(stage.node.confirms(&claim).await);
    stage.node.mine(40).await;
    // X_1 is out, X_2 is not.
    let (_, _, coins) = stage.coins(&channel, &signed.state, &[1]);
    let taken = exit::sweep(&coins, stage.nobody(), rate(3), &stage.secp).unwrap();
    stage.node.accepts(&taken).await;
    assert!(stage.node.confirms(&taken).await);
    assert_eq!(taken.output[0].value, sat(10_001 - 3 * taken.vsize() as u64));
}

#[tokio::test]
async fn an_old_state_goes_in_as_well_as_the_last_one_and_only_one_of_them() {
    let (stage, channel) = Stage::with_channel(&[]).await;
    let old = stage.claim_of(&channel, &stage.state(&channel, 3, 400_000, &pendings(1)));
    let last = stage.claim_of(&channel, &stage.state(&channel, 9, 700_000, &pendings(2)));
    assert_eq!(stage.node.refusal(&old).await, None);
    stage.node.accepts(&last).await;
    assert!(stage.node.confirms(&last).await);
    stage.node.refuses(&old, "missing-inputs").await;
}
