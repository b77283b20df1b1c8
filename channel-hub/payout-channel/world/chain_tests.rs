//! The simulated chain and its mempool, rule by rule.

use bitcoin::absolute::LockTime;
use bitcoin::key::TapTweak as _;
use bitcoin::secp256k1::{All, Keypair, Message, Secp256k1, SecretKey};
use bitcoin::sighash::{Prevouts, SighashCache, TapSighashType};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};

use super::chain::{Chain, SUBSIDY, Tx};
use super::consensus::Wrong;
use super::mempool::{Mempool, Refusal};

/// A chain, a mempool and one wallet's key.
struct Scene {
    secp: Secp256k1<All>,
    key: Keypair,
    chain: Chain,
    mempool: Mempool,
}

const COIN: Amount = Amount::from_sat(1_000_000);

impl Scene {
    /// The wallet has `coins` coins.
    fn new(coins: usize) -> Self {
        let secp = Secp256k1::new();
        let key = Keypair::from_secret_key(&secp, &SecretKey::from_slice(&[5; 32]).unwrap());
        let output = TxOut { value: COIN, script_pubkey: script(&secp, &key) };
        Self { chain: Chain::new(1_000, vec![output; coins]), mempool: Mempool::default(), secp, key }
    }

    fn granted(&self, n: u32) -> OutPoint {
        *self.chain.coins().map(|(outpoint, _)| outpoint).find(|outpoint| outpoint.vout == n).unwrap()
    }

    /// Spends coins of the wallet into `outputs` equal outputs.
    fn spend(
        &self,
        coins: &[(OutPoint, Amount)],
        change: impl Fn(&mut Transaction),
        outputs: u64,
        fee: u64,
    ) -> Tx {
        let input = |(outpoint, _): &(OutPoint, Amount)| TxIn {
            previous_output: *outpoint,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::new(),
        };
        let total: u64 = coins.iter().map(|(_, value)| value.to_sat()).sum();
        let value = Amount::from_sat((total - fee) / outputs);
        let output = TxOut { value, script_pubkey: script(&self.secp, &self.key) };
        let mut body = Transaction {
            version: Version(3),
            lock_time: LockTime::ZERO,
            input: coins.iter().map(input).collect(),
            output: (0..outputs).map(|_| output.clone()).collect(),
        };
        change(&mut body);
        let script_pubkey = script(&self.secp, &self.key);
        let spent: Vec<TxOut> = coins
            .iter()
            .map(|(_, value)| TxOut { value: *value, script_pubkey: script_pubkey.clone() })
            .collect();
        for n in 0..coins.len() {
            let hash = SighashCache::new(&body)
                .taproot_key_spend_signature_hash(n, &Prevouts::All(&spent), TapSighashType::Default)
                .unwrap();
            let tweaked = self.key.tap_tweak(&self.secp, None).to_keypair();
            let signature = self.secp.sign_schnorr_no_aux_rand(&Message::from(hash), &tweaked);
            body.input[n].witness = Witness::from_slice(&[signature.as_ref()]);
        }
        Tx::new(body)
    }

    fn accept(&mut self, tx: &Tx) -> Result<(), Refusal> {
        self.mempool.accept(&self.chain, tx)
    }

    fn mine(&mut self, feerate: u64) -> usize {
        let taken = self.mempool.take(&self.chain, feerate);
        let block = self.chain.connect(Vec::new(), taken);
        self.mempool.connected(block);
        let count = block.transactions.len();
        self.chain.check_sum();
        count
    }

    fn reorganise(&mut self, depth: usize) {
        let gone: Vec<_> = (0..depth).map(|_| self.chain.disconnect().unwrap()).collect();
        for _ in 0..=depth {
            self.chain.connect(Vec::new(), Vec::new());
        }
        self.mempool.reorganised(&self.chain, &gone);
        self.chain.check_sum();
    }
}

fn script(secp: &Secp256k1<All>, key: &Keypair) -> ScriptBuf {
    ScriptBuf::new_p2tr(secp, key.x_only_public_key().0, None)
}

fn as_is(_: &mut Transaction) {}

fn outputs(tx: &Tx) -> Vec<(OutPoint, Amount)> {
    tx.body.output.iter().enumerate().map(|(n, output)| (tx.outpoint(n), output.value)).collect()
}

#[test]
fn a_reorganisation_gives_back_what_was_spent_and_its_transactions_wait_again() {
    let mut scene = Scene::new(1);
    let coin = (scene.granted(0), COIN);
    let parent = scene.spend(&[coin], as_is, 1, 500);
    scene.accept(&parent).unwrap();
    assert_eq!(scene.mine(0), 1);
    let child = scene.spend(&outputs(&parent), as_is, 1, 500);
    scene.accept(&child).unwrap();
    assert_eq!(scene.mine(0), 1);
    assert!(scene.chain.coin(&child.outpoint(0)).is_some());
    scene.reorganise(2);
    assert!(scene.chain.coin(&coin.0).is_some() && scene.chain.coin(&child.outpoint(0)).is_none());
    assert_eq!(scene.mine(0), 2, "both wait again");
    assert!(scene.chain.coin(&child.outpoint(0)).is_some());
}

#[test]
fn a_coinbase_waits_for_its_hundredth_block() {
    let mut scene = Scene::new(0);
    let output = TxOut { value: SUBSIDY, script_pubkey: script(&scene.secp, &scene.key) };
    let coinbase = scene.chain.connect(vec![output], Vec::new()).coinbase.clone().unwrap();
    let spend = scene.spend(&outputs(&coinbase), as_is, 1, 500);
    for deep in 1..100 {
        assert_eq!(scene.accept(&spend), Err(Wrong::Immature(deep).into()));
        scene.mine(0);
    }
    scene.accept(&spend).unwrap();
    assert_eq!(scene.mine(0), 1);
}

#[test]
fn locks_open_at_their_height_and_not_before() {
    let mut scene = Scene::new(2);
    scene.mine(0);
    let height = scene.chain.height();
    let (one, other) = ((scene.granted(0), COIN), (scene.granted(1), COIN));
    let absolute = scene.spend(&[one], |body| body.lock_time = LockTime::from_consensus(height + 2), 1, 500);
    let relative = scene.spend(&[other], |body| body.input[0].sequence = Sequence::from_height(4), 1, 500);
    for _ in 0..2 {
        assert_eq!(scene.accept(&absolute), Err(Wrong::Locked(height + 2).into()));
        scene.mine(0);
    }
    scene.accept(&absolute).unwrap();
    // The coin is of the block before the first one.
    assert_eq!(scene.chain.height(), height + 2);
    scene.accept(&relative).unwrap();
    assert_eq!(scene.mine(0), 2);
    let child =
        scene.spend(&outputs(&absolute), |body| body.input[0].sequence = Sequence::from_height(2), 1, 500);
    assert_eq!(scene.accept(&child), Err(Wrong::Young { needed: 2, has: 1 }.into()));
}

#[test]
fn a_wrong_signature_is_refused_by_core_and_a_right_one_is_judged_once() {
    let mut scene = Scene::new(1);
    let coin = (scene.granted(0), COIN);
    let tx = scene.spend(&[coin], as_is, 1, 500);
    let mut forged = (*tx.body).clone();
    forged.output[0].value -= Amount::from_sat(1);
    assert_eq!(scene.accept(&Tx::new(forged)), Err(Wrong::Script(0).into()));
    let mut forged = (*tx.body).clone();
    forged.input[0].witness = Witness::from_slice(&[[7; 64]]);
    assert_eq!(scene.accept(&tx), Ok(()));
    scene.mempool = Mempool::default();
    assert_eq!(
        scene.accept(&Tx::new(forged)),
        Err(Wrong::Script(0).into()),
        "another witness is another judgement"
    );
}

#[test]
fn a_child_pays_for_a_parent_below_the_minimum_and_only_together() {
    let mut scene = Scene::new(1);
    scene.mempool.set_floor(5_000);
    let coin = (scene.granted(0), COIN);
    let parent = scene.spend(&[coin], as_is, 1, 150);
    let poor = scene.spend(&outputs(&parent), as_is, 1, 150);
    let child = scene.spend(&outputs(&parent), as_is, 1, 2_000);
    assert!(matches!(scene.accept(&parent), Err(Refusal::Fee { .. })));
    assert!(matches!(scene.mempool.accept_package(&scene.chain, &parent, &poor), Err(Refusal::Fee { .. })));
    scene.mempool.accept_package(&scene.chain, &parent, &child).unwrap();
    assert_eq!(scene.mine(20_000), 0, "the block is full of better ones");
    scene.mempool.set_floor(20_000);
    assert!(scene.mempool.waiting().is_empty(), "and the mempool too");
    scene.mempool.set_floor(1_000);
    scene.mempool.accept_package(&scene.chain, &parent, &child).unwrap();
    assert_eq!(scene.mine(5_000), 2);
}

#[test]
fn truc_allows_one_parent_and_one_small_child_and_a_richer_child_takes_its_siblings_place() {
    let mut scene = Scene::new(20);
    let coin = (scene.granted(0), COIN);
    let parent = scene.spend(&[coin], as_is, 2, 500);
    scene.accept(&parent).unwrap();
    let [one, other] = outputs(&parent)[..] else { panic!() };
    let version_two = scene.spend(&[one], |body| body.version = Version::TWO, 1, 500);
    assert!(matches!(scene.accept(&version_two), Err(Refusal::Truc(_))));
    let child = scene.spend(&[one], as_is, 1, 500);
    scene.accept(&child).unwrap();
    let grandchild = scene.spend(&outputs(&child), as_is, 1, 500);
    assert!(matches!(scene.accept(&grandchild), Err(Refusal::Truc(_))));
    let poor_sibling = scene.spend(&[other], as_is, 1, 500);
    assert!(matches!(scene.accept(&poor_sibling), Err(Refusal::Fee { .. })));
    let sibling = scene.spend(&[other], as_is, 1, 1_000);
    scene.accept(&sibling).unwrap();
    assert!(scene.mempool.has(&sibling.txid) && !scene.mempool.has(&child.txid));
    let many: Vec<_> = (1..20).map(|n| (scene.granted(n), COIN)).chain([one]).collect();
    let large = scene.spend(&many, as_is, 1, 50_000);
    assert!(matches!(scene.accept(&large), Err(Refusal::Truc(_))));
}

#[test]
fn a_replacement_pays_more_in_all_and_by_the_byte_and_takes_the_children_with_it() {
    let mut scene = Scene::new(2);
    let (one, other) = ((scene.granted(0), COIN), (scene.granted(1), COIN));
    let first = scene.spend(&[one], as_is, 1, 500);
    scene.accept(&first).unwrap();
    let child = scene.spend(&outputs(&first), as_is, 1, 500);
    scene.accept(&child).unwrap();
    assert!(matches!(scene.accept(&scene.spend(&[one], as_is, 1, 1_000)), Err(Refusal::Fee { .. })));
    let larger = scene.spend(&[one, other], as_is, 30, 2_000);
    assert!(matches!(scene.accept(&larger), Err(Refusal::Fee { .. })), "more in all, less by the byte");
    let better = scene.spend(&[one], as_is, 1, 1_100);
    scene.accept(&better).unwrap();
    assert_eq!(scene.mempool.waiting().len(), 1);
    assert_eq!(scene.mine(0), 1);
    assert_eq!(scene.accept(&first), Err(Refusal::Missing));
}

#[test]
fn dust_is_not_relayed_and_a_block_drops_what_it_contradicts() {
    let mut scene = Scene::new(1);
    let coin = (scene.granted(0), COIN);
    let dust = scene.spend(&[coin], as_is, 1, COIN.to_sat() - 329);
    assert_eq!(scene.accept(&dust), Err(Refusal::Dust));
    let (waits, mined) = (scene.spend(&[coin], as_is, 1, 500), scene.spend(&[coin], as_is, 1, 600));
    scene.accept(&waits).unwrap();
    let child = scene.spend(&outputs(&waits), as_is, 1, 500);
    scene.accept(&child).unwrap();
    let block = scene.chain.connect(Vec::new(), vec![mined]).clone();
    scene.mempool.connected(&block);
    assert!(scene.mempool.waiting().is_empty());
}
