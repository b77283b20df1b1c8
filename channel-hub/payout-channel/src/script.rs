//! The outputs of a payout channel (DESIGN.md §6):
//!
//! ```text
//! funding    tr(MuSig2(Hf,Mf), { and_v(v:pk(Mf),pk(Hf)), and_v(v:pk(Hr),after(E)) })
//! settled    tr(Ms)
//! pending    tr(NUMS, { and_v(v:pk(Mp),sha256(h_B)), and_v(v:pk(Hr),and_v(v:after(T),older(1))) })   T = max(E, B+4032)
//! remainder  tr(NUMS, and_v(v:pk(Hr),older(1)))
//! ```

use bitcoin::key::{Parity, TweakedPublicKey};
use bitcoin::opcodes::all::{
    OP_CHECKSIG, OP_CHECKSIGVERIFY, OP_CLTV, OP_CSV, OP_EQUAL, OP_EQUALVERIFY, OP_SHA256, OP_SIZE, OP_VERIFY,
};
use bitcoin::script::Builder;
use bitcoin::secp256k1::{Secp256k1, Verification};
use bitcoin::taproot::{ControlBlock, LeafVersion, TapLeafHash, TapNodeHash, TaprootMerkleBranch};
use bitcoin::{ScriptBuf, Witness, XOnlyPublicKey};
use lock::{Lock, output::NUMS};
use std::sync::OnceLock;

use crate::aggregate::{NoAggregate, aggregate_two};
use crate::curve;

/// Leaf of the funding that claims and cooperative closes use.
pub const CLOSE: usize = 0;
/// Leaf of the funding by which the hub takes back the rest at E.
pub const EXPIRED: usize = 1;
/// Leaf of a pending by which the hasher takes it with X_B.
pub const WON: usize = 0;
/// Leaf of a pending by which the hub takes it back.
pub const NOT_WON: usize = 1;
/// The only leaf of a remainder.
pub const REST: usize = 0;

/// A taproot output with one or two leaves: its script, and what it takes to spend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    internal: XOnlyPublicKey,
    leaves: Vec<ScriptBuf>,
    key: TweakedPublicKey,
    parity: Parity,
}

impl Output {
    /// The output that the hub pays into. `expiry` is E, a block height.
    ///
    /// # Errors
    /// The two funding keys have no aggregate: never by chance.
    pub fn funding<C: Verification>(
        hub: &XOnlyPublicKey,
        hasher: &XOnlyPublicKey,
        refund: &XOnlyPublicKey,
        expiry: u32,
        secp: &Secp256k1<C>,
    ) -> Result<Self, NoAggregate> {
        let close = Builder::new()
            .push_x_only_key(hasher)
            .push_opcode(OP_CHECKSIGVERIFY)
            .push_x_only_key(hub)
            .push_opcode(OP_CHECKSIG);
        let expired = Builder::new()
            .push_x_only_key(refund)
            .push_opcode(OP_CHECKSIGVERIFY)
            .push_int(i64::from(expiry))
            .push_opcode(OP_CLTV);
        let leaves = vec![close.into_script(), expired.into_script()];
        Ok(Self::new(aggregate_two(hub, hasher, secp)?, leaves, secp))
    }

    /// What a hasher is owed if height B is won. The hub takes it back from the height `refund_height` on.
    pub fn pending<C: Verification>(
        hasher: &XOnlyPublicKey,
        lock: Lock,
        refund: &XOnlyPublicKey,
        refund_height: u32,
        secp: &Secp256k1<C>,
    ) -> Self {
        let won = Builder::new()
            .push_x_only_key(hasher)
            .push_opcode(OP_CHECKSIGVERIFY)
            .push_opcode(OP_SIZE)
            .push_int(32)
            .push_opcode(OP_EQUALVERIFY)
            .push_opcode(OP_SHA256)
            .push_slice(lock.to_bytes())
            .push_opcode(OP_EQUAL);
        // older(1) keeps the hub from attaching a child to the unconfirmed claim even after T: it could pin it.
        let not_won = Builder::new()
            .push_x_only_key(refund)
            .push_opcode(OP_CHECKSIGVERIFY)
            .push_int(i64::from(refund_height))
            .push_opcode(OP_CLTV)
            .push_opcode(OP_VERIFY)
            .push_int(1)
            .push_opcode(OP_CSV);
        Self::new(nums(), vec![won.into_script(), not_won.into_script()], secp)
    }

    /// The hub's rest of a claim. It waits for a confirmation, so that the hub cannot pin the claim with a child.
    pub fn remainder<C: Verification>(refund: &XOnlyPublicKey, secp: &Secp256k1<C>) -> Self {
        let rest = Builder::new()
            .push_x_only_key(refund)
            .push_opcode(OP_CHECKSIGVERIFY)
            .push_int(1)
            .push_opcode(OP_CSV);
        Self::new(nums(), vec![rest.into_script()], secp)
    }

    fn new<C: Verification>(internal: XOnlyPublicKey, leaves: Vec<ScriptBuf>, secp: &Secp256k1<C>) -> Self {
        let root = match leaves.as_slice() {
            [one] => node(one),
            [one, other] => TapNodeHash::from_node_hashes(node(one), node(other)),
            _ => unreachable!("an output has one leaf or two"),
        };
        let (key, parity) = curve::tweak(secp, internal, root);
        Self { internal, leaves, key, parity }
    }

    /// 34 bytes, so that an output of a transaction is 43.
    pub fn script_pubkey(&self) -> ScriptBuf {
        ScriptBuf::new_p2tr_tweaked(self.key)
    }

    /// What a signature for that leaf commits to, beside the transaction (BIP341).
    pub fn leaf_hash(&self, leaf: usize) -> TapLeafHash {
        TapLeafHash::from_script(&self.leaves[leaf], LeafVersion::TapScript)
    }

    /// A leaf's script.
    pub fn leaf(&self, leaf: usize) -> &ScriptBuf {
        &self.leaves[leaf]
    }

    /// The witness that spends by that leaf; `items` are what its script takes, the bottom of the stack first.
    pub fn witness(&self, leaf: usize, items: &[&[u8]]) -> Witness {
        let mut witness = Witness::from_slice(items);
        let others = self.leaves.iter().enumerate().filter(|(place, _)| *place != leaf);
        let branch: Vec<TapNodeHash> = others.map(|(_, script)| node(script)).collect();
        let branch = TaprootMerkleBranch::try_from(branch).unwrap_or_else(|_| unreachable!("one at most"));
        let control = ControlBlock {
            leaf_version: LeafVersion::TapScript,
            output_key_parity: self.parity,
            internal_key: self.internal,
            merkle_branch: branch,
        };
        witness.push(self.leaves[leaf].as_bytes());
        witness.push(control.serialize());
        witness
    }
}

/// `tr(key)` without a script (BIP86): the settled output, and where the hub's rest goes.
pub fn key_only<C: Verification>(key: &XOnlyPublicKey, secp: &Secp256k1<C>) -> ScriptBuf {
    ScriptBuf::new_p2tr_tweaked(curve::tweak_key_only(secp, *key))
}

fn node(script: &ScriptBuf) -> TapNodeHash {
    TapNodeHash::from_script(script, LeafVersion::TapScript)
}

/// Parsed once: to find its y takes a square root.
fn nums() -> XOnlyPublicKey {
    static POINT: OnceLock<XOnlyPublicKey> = OnceLock::new();
    *POINT.get_or_init(|| {
        XOnlyPublicKey::from_slice(&NUMS).unwrap_or_else(|_| unreachable!("a point of the curve"))
    })
}
