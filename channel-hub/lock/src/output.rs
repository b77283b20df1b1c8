//! script_B: the hub's coinbase output at height B, and the witnesses that spend it (DESIGN.md §5).
//!
//! ```text
//! tr(NUMS, { and_v(v:pk(Hc),sha256(h_B)),              by the hub, which reveals X_B; the fragment demands 32 bytes
//!            and_v(v:multi_a(k,K1..Kn),older(1008)) })  by the council, when the hub is gone
//! ```

use bitcoin::key::TapTweak as _;
use bitcoin::opcodes::all::{
    OP_CHECKSIG, OP_CHECKSIGADD, OP_CHECKSIGVERIFY, OP_CSV, OP_EQUAL, OP_EQUALVERIFY, OP_NUMEQUALVERIFY,
    OP_SHA256, OP_SIZE,
};
use bitcoin::script::Builder;
use bitcoin::secp256k1::{Secp256k1, Verification};
use bitcoin::taproot::{ControlBlock, LeafVersion, TapLeafHash, TapNodeHash, TaprootMerkleBranch};
use bitcoin::{
    ScriptBuf, Sequence, Witness, XOnlyPublicKey, key::TweakedPublicKey, secp256k1::Parity, taproot,
};

use crate::key::{Key, Lock};
use crate::pool::Council;

/// BIP341's point of which nobody knows the discrete logarithm: no key path.
pub const NUMS: [u8; 32] = [
    0x50, 0x92, 0x9b, 0x74, 0xc1, 0xa0, 0x49, 0x54, 0xb7, 0x8b, 0x4b, 0x60, 0x35, 0xe9, 0x7a, 0x5e, 0x07,
    0x8a, 0x5a, 0x0f, 0x28, 0xec, 0x96, 0xd5, 0x47, 0xbf, 0xee, 0x9a, 0xce, 0x80, 0x3a, 0xc0,
];

/// A hub's coinbase output at one height: its script, and what it takes to spend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockedOutput {
    claim: ScriptBuf,
    recovery: ScriptBuf,
    key: TweakedPublicKey,
    parity: Parity,
}

impl LockedOutput {
    /// For the hub that claims with `claim_key` by revealing the key of `lock`.
    pub fn new<C: Verification>(
        claim_key: &XOnlyPublicKey,
        lock: Lock,
        council: &Council,
        secp: &Secp256k1<C>,
    ) -> Self {
        let (claim, recovery) = (claim_script(claim_key, lock), recovery_script(council));
        let root = TapNodeHash::from_node_hashes(node(&claim), node(&recovery));
        let (key, parity) = nums().tap_tweak(secp, Some(root));
        Self { claim, recovery, key, parity }
    }

    /// script_B: 34 bytes, so that an output of the coinbase is 43.
    pub fn script_pubkey(&self) -> ScriptBuf {
        ScriptBuf::new_p2tr_tweaked(self.key)
    }

    /// What the hub's signature commits to, beside the transaction (BIP341).
    pub fn claim_leaf(&self) -> TapLeafHash {
        leaf(&self.claim)
    }

    /// What the council's signatures commit to, beside the transaction (BIP341).
    pub fn recovery_leaf(&self) -> TapLeafHash {
        leaf(&self.recovery)
    }

    /// Spends by the hub. Publishes the key: every pending of that height can be taken from then on.
    pub fn claim_witness(&self, signature: &taproot::Signature, key: &Key) -> Witness {
        let mut witness = Witness::new();
        witness.push(key.to_bytes());
        witness.push(signature.to_vec());
        self.close(witness, &self.claim, &self.recovery)
    }

    /// Spends by the council; one signature or none for each of its keys, in their order. The input's sequence must be
    /// [`Self::recovery_sequence`] at least.
    pub fn recovery_witness(&self, signatures: &[Option<taproot::Signature>]) -> Witness {
        let mut witness = Witness::new();
        for signature in signatures.iter().rev() {
            witness.push(signature.map(|signature| signature.to_vec()).unwrap_or_default());
        }
        self.close(witness, &self.recovery, &self.claim)
    }

    /// Lowest sequence of an input that the council spends (BIP68).
    pub fn recovery_sequence(council: &Council) -> Sequence {
        Sequence::from_height(council.delay().value())
    }

    fn close(&self, mut witness: Witness, script: &ScriptBuf, other: &ScriptBuf) -> Witness {
        let control = ControlBlock {
            leaf_version: LeafVersion::TapScript,
            output_key_parity: self.parity,
            internal_key: nums(),
            merkle_branch: TaprootMerkleBranch::from([node(other)]),
        };
        witness.push(script.as_bytes());
        witness.push(control.serialize());
        witness
    }
}

/// `and_v(v:pk(Hc),sha256(h_B))`
fn claim_script(claim_key: &XOnlyPublicKey, lock: Lock) -> ScriptBuf {
    Builder::new()
        .push_x_only_key(claim_key)
        .push_opcode(OP_CHECKSIGVERIFY)
        .push_opcode(OP_SIZE)
        .push_int(32)
        .push_opcode(OP_EQUALVERIFY)
        .push_opcode(OP_SHA256)
        .push_slice(lock.to_bytes())
        .push_opcode(OP_EQUAL)
        .into_script()
}

/// `and_v(v:multi_a(k,K1..Kn),older(delay))`
fn recovery_script(council: &Council) -> ScriptBuf {
    let keys =
        council.keys().iter().zip(std::iter::once(OP_CHECKSIG).chain(std::iter::repeat(OP_CHECKSIGADD)));
    keys.fold(Builder::new(), |script, (key, check)| script.push_x_only_key(key).push_opcode(check))
        .push_int(i64::from(council.needed()))
        .push_opcode(OP_NUMEQUALVERIFY)
        .push_int(i64::from(council.delay().value()))
        .push_opcode(OP_CSV)
        .into_script()
}

fn leaf(script: &ScriptBuf) -> TapLeafHash {
    TapLeafHash::from_script(script, LeafVersion::TapScript)
}

fn node(script: &ScriptBuf) -> TapNodeHash {
    TapNodeHash::from_script(script, LeafVersion::TapScript)
}

fn nums() -> XOnlyPublicKey {
    XOnlyPublicKey::from_slice(&NUMS).unwrap_or_else(|_| unreachable!("a point of the curve"))
}
