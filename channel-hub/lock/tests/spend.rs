//! Every way to spend script_B, right and wrong, judged by Bitcoin Core's own consensus code.
#![allow(clippy::unwrap_used)]

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash as _;
use bitcoin::secp256k1::{All, Keypair, Message, Secp256k1, SecretKey};
use bitcoin::sighash::{Prevouts, SighashCache, TapSighashType};
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, OutPoint, ScriptBuf, Sequence, TapLeafHash, Transaction, TxIn, TxOut, Txid, Witness, consensus,
    taproot,
};
use lock::{Council, Key, LockedOutput, Pool, Seed};

/// The coinbase output of one height, and everybody's keys.
struct Scene {
    secp: Secp256k1<All>,
    pool: Pool,
    claim: Keypair,
    council: Vec<Keypair>,
    key: Key,
    output: LockedOutput,
}

const HEIGHT: u32 = 900_000;
const VALUE: Amount = Amount::from_sat(312_500_000);

fn keypair(secp: &Secp256k1<All>, byte: u8) -> Keypair {
    Keypair::from_secret_key(secp, &SecretKey::from_slice(&[byte; 32]).unwrap())
}

impl Scene {
    fn new() -> Self {
        let secp = Secp256k1::new();
        let council: Vec<_> = (1..=5).map(|byte| keypair(&secp, byte)).collect();
        let keys = council.iter().map(|key| key.x_only_public_key().0).collect();
        let pool = Pool::new(bitcoin::Network::Bitcoin, Council::new(3, keys, Pool::RECOVERY).unwrap());
        let seed = Seed::from_bytes([7; 32]);
        let hub_id = seed.identity(&pool, &secp).unwrap().x_only_public_key().0;
        let claim = seed.claim_key(&pool, &hub_id, pool.period_of(HEIGHT), &secp).unwrap();
        let key = seed.key(&pool, &hub_id, HEIGHT);
        let output = LockedOutput::new(&claim.x_only_public_key().0, key.lock(), &pool.council, &secp);
        Self { secp, pool, claim, council, key, output }
    }

    fn spent(&self) -> TxOut {
        TxOut { value: VALUE, script_pubkey: self.output.script_pubkey() }
    }

    /// A transaction that spends the output, with this sequence.
    fn spending(&self, sequence: Sequence) -> Transaction {
        Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![TxIn {
                previous_output: OutPoint::new(Txid::from_byte_array([9; 32]), 0),
                script_sig: ScriptBuf::new(),
                sequence,
                witness: Witness::new(),
            }],
            output: vec![TxOut {
                value: VALUE - Amount::from_sat(200),
                script_pubkey: ScriptBuf::new_op_return([]),
            }],
        }
    }

    fn sign(&self, by: &Keypair, leaf: TapLeafHash, transaction: &Transaction) -> taproot::Signature {
        let sighash = SighashCache::new(transaction)
            .taproot_script_spend_signature_hash(
                0,
                &Prevouts::All(&[self.spent()]),
                leaf,
                TapSighashType::Default,
            )
            .unwrap();
        let signature = self.secp.sign_schnorr_no_aux_rand(&Message::from(sighash), by);
        taproot::Signature { signature, sighash_type: TapSighashType::Default }
    }

    /// What Bitcoin Core's consensus says to the transaction with this witness.
    fn core_accepts(&self, transaction: &Transaction, witness: Witness) -> bool {
        let mut transaction = transaction.clone();
        transaction.input[0].witness = witness;
        let spent = self.spent();
        let script = spent.script_pubkey.as_bytes();
        let spent_outputs = [bitcoinconsensus::Utxo {
            script_pubkey: script.as_ptr(),
            script_pubkey_len: u32::try_from(script.len()).unwrap(),
            value: i64::try_from(spent.value.to_sat()).unwrap(),
        }];
        bitcoinconsensus::verify_with_flags(
            script,
            spent.value.to_sat(),
            &consensus::serialize(&transaction),
            Some(&spent_outputs),
            0,
            bitcoinconsensus::VERIFY_ALL_PRE_TAPROOT | bitcoinconsensus::VERIFY_TAPROOT,
        )
        .is_ok()
    }

    fn claim(&self) -> (Transaction, taproot::Signature) {
        let transaction = self.spending(Sequence::ENABLE_RBF_NO_LOCKTIME);
        let signature = self.sign(&self.claim, self.output.claim_leaf(), &transaction);
        (transaction, signature)
    }

    /// The council's spend after so many blocks, signed by those of its members.
    fn recovery(&self, sequence: Sequence, signers: &[usize]) -> (Transaction, Witness) {
        let transaction = self.spending(sequence);
        let leaf = self.output.recovery_leaf();
        let signatures: Vec<_> = (0..self.council.len())
            .map(|at| signers.contains(&at).then(|| self.sign(&self.council[at], leaf, &transaction)))
            .collect();
        let witness = self.output.recovery_witness(&signatures);
        (transaction, witness)
    }
}

/// The witness with its item replaced.
fn with(witness: &Witness, at: usize, item: &[u8]) -> Witness {
    let mut items = witness.to_vec();
    items[at] = item.to_vec();
    Witness::from_slice(&items)
}

#[test]
fn the_hub_spends_with_its_key_and_the_preimage_at_once() {
    let scene = Scene::new();
    let (transaction, signature) = scene.claim();
    assert!(scene.core_accepts(&transaction, scene.output.claim_witness(&signature, &scene.key)));
}

#[test]
fn the_hub_cannot_spend_with_a_wrong_preimage_or_one_of_another_length_that_hashes_right() {
    let scene = Scene::new();
    let (transaction, signature) = scene.claim();
    let wrong = Key::from_bytes([1; 32]);
    assert!(!scene.core_accepts(&transaction, scene.output.claim_witness(&signature, &wrong)));

    // Preimages of other lengths, each under a lock that is its true hash.
    for length in [0, 1, 31, 33, 64, 520] {
        let preimage = vec![3; length];
        let lock = lock::Lock::from_bytes(bitcoin::hashes::sha256::Hash::hash(&preimage).to_byte_array());
        let claim_key = scene.claim.x_only_public_key().0;
        let output = LockedOutput::new(&claim_key, lock, &scene.pool.council, &scene.secp);
        let odd = Scene { output, ..Scene::new() };
        let (transaction, signature) = odd.claim();
        let witness = odd.output.claim_witness(&signature, &scene.key);
        assert!(!odd.core_accepts(&transaction, with(&witness, 0, &preimage)), "{length} bytes");
    }
}

#[test]
fn nobody_else_spends_with_the_preimage_not_even_the_council() {
    let scene = Scene::new();
    let (transaction, _) = scene.claim();
    for stranger in [keypair(&scene.secp, 99), scene.council[0]] {
        let signature = scene.sign(&stranger, scene.output.claim_leaf(), &transaction);
        assert!(!scene.core_accepts(&transaction, scene.output.claim_witness(&signature, &scene.key)));
    }
}

#[test]
fn a_claim_signed_for_another_amount_leaf_or_transaction_is_refused() {
    let scene = Scene::new();
    let (transaction, signature) = scene.claim();
    let mut other = transaction.clone();
    other.output[0].value -= Amount::from_sat(1);
    assert!(!scene.core_accepts(&other, scene.output.claim_witness(&signature, &scene.key)));
    let wrong_leaf = scene.sign(&scene.claim, scene.output.recovery_leaf(), &transaction);
    assert!(!scene.core_accepts(&transaction, scene.output.claim_witness(&wrong_leaf, &scene.key)));
    let empty = with(&scene.output.claim_witness(&signature, &scene.key), 1, &[]);
    assert!(!scene.core_accepts(&transaction, empty));
}

#[test]
fn the_council_spends_after_its_delay_and_not_one_block_before() {
    let scene = Scene::new();
    let due = LockedOutput::recovery_sequence(&scene.pool.council);
    assert_eq!(due, Sequence::from_height(1_008));
    let (transaction, witness) = scene.recovery(due, &[0, 2, 4]);
    assert!(scene.core_accepts(&transaction, witness));
    for early in
        [Sequence::from_height(1_007), Sequence::ZERO, Sequence::MAX, Sequence::ENABLE_RBF_NO_LOCKTIME]
    {
        let (transaction, witness) = scene.recovery(early, &[0, 2, 4]);
        assert!(!scene.core_accepts(&transaction, witness), "{early}");
    }
    let (mut old, _) = scene.recovery(due, &[]);
    old.version = Version::ONE;
    let leaf = scene.output.recovery_leaf();
    let signatures: Vec<_> =
        (0..5).map(|at| (at < 3).then(|| scene.sign(&scene.council[at], leaf, &old))).collect();
    assert!(!scene.core_accepts(&old, scene.output.recovery_witness(&signatures)), "BIP68 needs version 2");
}

#[test]
fn any_k_of_the_council_spend_and_no_fewer_and_no_more() {
    let scene = Scene::new();
    let due = LockedOutput::recovery_sequence(&scene.pool.council);
    for set in 0_u8..32 {
        let signers: Vec<usize> = (0..5).filter(|at| set >> at & 1 == 1).collect();
        let (transaction, witness) = scene.recovery(due, &signers);
        assert_eq!(scene.core_accepts(&transaction, witness), signers.len() == 3, "{signers:?}");
    }
}

#[test]
fn one_member_cannot_sign_in_anothers_place() {
    let scene = Scene::new();
    let due = LockedOutput::recovery_sequence(&scene.pool.council);
    let transaction = scene.spending(due);
    let leaf = scene.output.recovery_leaf();
    let own = scene.sign(&scene.council[0], leaf, &transaction);
    let second = scene.sign(&scene.council[1], leaf, &transaction);
    let witness = scene.output.recovery_witness(&[Some(own), Some(second), Some(own), None, None]);
    assert!(!scene.core_accepts(&transaction, witness));
    let witness = scene.output.recovery_witness(&[Some(second), Some(own), Some(own), None, None]);
    assert!(!scene.core_accepts(&transaction, witness));
}

#[test]
fn there_is_no_key_path() {
    let scene = Scene::new();
    let transaction = scene.spending(Sequence::ENABLE_RBF_NO_LOCKTIME);
    for by in [scene.claim, scene.council[0]] {
        let sighash = SighashCache::new(&transaction)
            .taproot_key_spend_signature_hash(0, &Prevouts::All(&[scene.spent()]), TapSighashType::Default)
            .unwrap();
        let signature = scene.secp.sign_schnorr_no_aux_rand(&Message::from(sighash), &by);
        assert!(!scene.core_accepts(&transaction, Witness::from_slice(&[signature.as_ref()])));
    }
}

#[test]
fn the_leaves_are_the_miniscripts_of_the_design() {
    let scene = Scene::new();
    let (transaction, signature) = scene.claim();
    let claim = scene.output.claim_witness(&signature, &scene.key).to_vec();
    let recovery = scene.output.recovery_witness(&[None; 5]).to_vec();
    let keys: Vec<String> = scene.pool.council.keys().iter().map(ToString::to_string).collect();
    let lock = bitcoin::hashes::sha256::Hash::from_byte_array(scene.key.lock().to_bytes());
    let descriptor = format!(
        "tr({},{{and_v(v:pk({}),sha256({lock})),and_v(v:multi_a(3,{}),older(1008))}})",
        bitcoin::XOnlyPublicKey::from_slice(&lock::output::NUMS).unwrap(),
        scene.claim.x_only_public_key().0,
        keys.join(","),
    );
    let tree: miniscript::descriptor::Tr<bitcoin::XOnlyPublicKey> = descriptor.parse().unwrap();
    assert_eq!(tree.script_pubkey(), scene.output.script_pubkey());
    let scripts: Vec<Vec<u8>> = tree.leaves().map(|leaf| leaf.compute_script().as_bytes().to_vec()).collect();
    assert_eq!(scripts, [claim[2].clone(), recovery[5].clone()]);
    assert_eq!(transaction.input.len(), 1);
}
