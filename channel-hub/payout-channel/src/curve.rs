//! What costs tens of microseconds: signatures, their checks, and tweaks. All of it is a pure function of its arguments.
//!
//! The suite in `world/` plays a million traces, in which the same few keys sign much the same states; so in this crate's own
//! tests, and only there, results are remembered. Nothing is taken for valid that libsecp256k1 did not find valid.

use bitcoin::XOnlyPublicKey;
use bitcoin::key::{TapTweak as _, TweakedPublicKey};
use bitcoin::secp256k1::schnorr::Signature;
use bitcoin::secp256k1::{Keypair, Message, Parity, Secp256k1, Signing, Verification};
use bitcoin::taproot::TapNodeHash;

/// BIP340, without auxiliary randomness.
pub(crate) fn sign<C: Signing>(secp: &Secp256k1<C>, message: &Message, key: &Keypair) -> Signature {
    let compute = || secp.sign_schnorr_no_aux_rand(message, key);
    #[cfg(test)]
    let compute =
        || memory::SIGNED.with(|known| memory::get(known, (key.secret_bytes(), *message.as_ref()), compute));
    compute()
}

/// BIP340.
pub(crate) fn verify<C: Verification>(
    secp: &Secp256k1<C>,
    signature: &Signature,
    message: &Message,
    key: &XOnlyPublicKey,
) -> bool {
    let compute = || secp.verify_schnorr(signature, message, key).is_ok();
    #[cfg(test)]
    let compute = || {
        let of = (*signature.as_ref(), *message.as_ref(), *key);
        memory::VERIFIED.with(|known| memory::get(known, of, compute))
    };
    compute()
}

/// BIP341's output key.
pub(crate) fn tweak<C: Verification>(
    secp: &Secp256k1<C>,
    internal: XOnlyPublicKey,
    root: TapNodeHash,
) -> (TweakedPublicKey, Parity) {
    let compute = || internal.tap_tweak(secp, Some(root));
    #[cfg(test)]
    let compute = || memory::TWEAKED.with(|known| memory::get(known, (internal, root), compute));
    compute()
}

#[cfg(test)]
mod memory {
    use super::{Parity, Signature, TapNodeHash, TweakedPublicKey, XOnlyPublicKey};
    use std::cell::RefCell;
    use std::collections::HashMap;
    use std::hash::Hash;

    /// Results by arguments; forgotten all at once when they are many.
    pub(super) type Memory<A, R> = RefCell<HashMap<A, R>>;

    const MOST: usize = 500_000;

    thread_local! {
        pub(super) static SIGNED: Memory<([u8; 32], [u8; 32]), Signature> = RefCell::default();
        pub(super) static VERIFIED: Memory<([u8; 64], [u8; 32], XOnlyPublicKey), bool> = RefCell::default();
        pub(super) static TWEAKED: Memory<(XOnlyPublicKey, TapNodeHash), (TweakedPublicKey, Parity)> = RefCell::default();
    }

    pub(super) fn get<A: Eq + Hash, R: Copy>(memory: &Memory<A, R>, of: A, compute: impl FnOnce() -> R) -> R {
        if let Some(known) = memory.borrow().get(&of) {
            return *known;
        }
        let result = compute();
        let mut memory = memory.borrow_mut();
        if memory.len() >= MOST {
            memory.clear();
        }
        memory.insert(of, result);
        result
    }
}
