//! What costs tens of microseconds: signatures, their checks, and tweaks. All of it is a pure function of its arguments.
//!
//! The suite in `world/` plays a million traces, in which the same few keys sign much the same states; so in this crate's own
//! tests and its fuzz target, and only there, results are remembered.

use bitcoin::XOnlyPublicKey;
use bitcoin::key::{TapTweak as _, TweakedPublicKey};
use bitcoin::secp256k1::schnorr::Signature;
use bitcoin::secp256k1::{Keypair, Message, Parity, Secp256k1, Signing, Verification};
use bitcoin::taproot::TapNodeHash;
use std::fmt;
use std::sync::OnceLock;

/// BIP340, without auxiliary randomness.
pub(crate) fn sign<C: Signing>(secp: &Secp256k1<C>, message: &Message, key: &Keypair) -> Signature {
    let compute = || secp.sign_schnorr_no_aux_rand(message, key);
    #[cfg(any(test, feature = "world"))]
    let compute = || memory::signed(message, key, compute);
    compute()
}

/// A key that signs states, as [`StateSigner`] wants it. Made with its payout channel; what a signature needs of it is computed with
/// the first.
#[derive(Clone)]
pub(crate) struct StateKey {
    key: Keypair,
    prepared: OnceLock<secp256k1_states::Keypair>,
}

impl StateKey {
    pub(crate) fn new(key: Keypair) -> Self {
        Self { key, prepared: OnceLock::new() }
    }
}

impl fmt::Debug for StateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StateKey(secret)")
    }
}

/// Makes the same signatures as [`sign`] in less time, by a newer libsecp256k1 (docs/decisions/0011).
#[derive(Clone)]
pub(crate) struct StateSigner(secp256k1_states::Secp256k1<secp256k1_states::SignOnly>);

impl StateSigner {
    pub(crate) fn new() -> Self {
        Self(secp256k1_states::Secp256k1::signing_only())
    }

    /// BIP340, without auxiliary randomness.
    pub(crate) fn sign(&self, message: &Message, key: &StateKey) -> Signature {
        let compute = || {
            let prepared = key.prepared.get_or_init(|| self.prepare(&key.key));
            let signature = self.0.sign_schnorr_no_aux_rand(message.as_ref(), prepared).to_byte_array();
            Signature::from_slice(&signature).unwrap_or_else(|_| unreachable!("64 bytes"))
        };
        #[cfg(any(test, feature = "world"))]
        let compute = || memory::signed(message, &key.key, compute);
        compute()
    }

    fn prepare(&self, key: &Keypair) -> secp256k1_states::Keypair {
        secp256k1_states::Keypair::from_seckey_byte_array(&self.0, key.secret_bytes())
            .unwrap_or_else(|_| unreachable!("the same scalar"))
    }
}

/// BIP340.
pub(crate) fn verify<C: Verification>(
    secp: &Secp256k1<C>,
    signature: &Signature,
    message: &Message,
    key: &XOnlyPublicKey,
) -> bool {
    let compute = || secp.verify_schnorr(signature, message, key).is_ok();
    #[cfg(any(test, feature = "world"))]
    let compute = || {
        let of = (*signature.as_ref(), *message.as_ref(), *key);
        memory::VERIFIED.with(|known| memory::get(known, of, || quick::made(&of) || compute()))
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
    #[cfg(any(test, feature = "world"))]
    let compute = || memory::TWEAKED.with(|known| memory::get(known, (internal, root), compute));
    compute()
}

/// BIP86's output key.
pub(crate) fn tweak_key_only<C: Verification>(
    secp: &Secp256k1<C>,
    internal: XOnlyPublicKey,
) -> TweakedPublicKey {
    let compute = || internal.tap_tweak(secp, None).0;
    #[cfg(any(test, feature = "world"))]
    let compute = || memory::KEY_ONLY.with(|known| memory::get(known, internal, compute));
    compute()
}

/// What signs for [`tweak_key_only`].
pub(crate) fn tweak_keypair<C: Verification>(secp: &Secp256k1<C>, key: &Keypair) -> Keypair {
    let compute = || key.tap_tweak(secp, None).to_keypair();
    #[cfg(any(test, feature = "world"))]
    let compute = || memory::PAIRS.with(|known| memory::get(known, key.secret_bytes(), compute));
    compute()
}

/// BIP327's aggregate of two keys; `compute` gives it.
pub(crate) fn aggregate<E>(
    keys: (XOnlyPublicKey, XOnlyPublicKey),
    compute: impl FnOnce() -> Result<XOnlyPublicKey, E>,
) -> Result<XOnlyPublicKey, E> {
    #[cfg(any(test, feature = "world"))]
    let compute = || memory::AGGREGATES.with(|known| memory::get_good(known, keys, compute));
    let _ = keys;
    compute()
}

/// The keys of a name below a secret key; `compute` gives them.
pub(crate) fn children<const N: usize, E>(
    below: ([u8; 32], [u8; 32]),
    compute: impl FnOnce() -> Result<[Keypair; N], E>,
) -> Result<[Keypair; N], E> {
    #[cfg(any(test, feature = "world"))]
    let compute = || {
        let all = || compute().map(|keys| keys.to_vec());
        let known = memory::CHILDREN.with(|known| memory::get_good(known, (below, N), all))?;
        Ok(std::array::from_fn(|role| known[role]))
    };
    let _ = below;
    compute()
}

/// Signatures of the suite: BIP340 with one nonce for all, which would give a key away, and takes no curve operation. What it made
/// is checked by libsecp256k1 in one of sixteen cases only, and by Bitcoin Core's consensus code wherever it is published.
#[cfg(any(test, feature = "world"))]
pub(crate) mod quick {
    use bitcoin::XOnlyPublicKey;
    use bitcoin::hashes::{Hash as _, HashEngine as _, sha256, sha256t_hash_newtype};
    use bitcoin::secp256k1::schnorr::Signature;
    use bitcoin::secp256k1::{Keypair, Message, Parity, Scalar, Secp256k1, SecretKey};
    use std::cell::{Cell, OnceCell, RefCell};
    use std::collections::HashSet;

    sha256t_hash_newtype! {
        struct ChallengeTag = hash_str("BIP0340/challenge");
        #[hash_newtype(forward)]
        struct Challenge(_);
    }

    /// Signature, message, key.
    type Of = ([u8; 64], [u8; 32], XOnlyPublicKey);

    const MOST: usize = 500_000;

    thread_local! {
        static ON: Cell<bool> = const { Cell::new(false) };
        static NONCE: OnceCell<(SecretKey, [u8; 32])> = const { OnceCell::new() };
        static MADE: RefCell<HashSet<Of>> = RefCell::default();
    }

    /// From now on in this thread.
    pub(crate) fn turn_on() {
        ON.set(true);
    }

    pub(super) fn sign(message: &Message, key: &Keypair) -> Option<Signature> {
        if !ON.get() {
            return None;
        }
        let (nonce, point) = NONCE.with(|nonce| *nonce.get_or_init(new_nonce));
        let (public, parity) = key.x_only_public_key();
        let mut engine = Challenge::engine();
        engine.input(&point);
        engine.input(&public.serialize());
        engine.input(message.as_ref());
        let challenge = Scalar::from_be_bytes(Challenge::from_engine(engine).to_byte_array()).ok()?;
        let secret = even(SecretKey::from_keypair(key), parity);
        let answer = secret.mul_tweak(&challenge).ok()?.add_tweak(&Scalar::from(nonce)).ok()?;
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&point);
        bytes[32..].copy_from_slice(&answer.secret_bytes());
        MADE.with_borrow_mut(|made| {
            if made.len() >= MOST {
                made.clear();
            }
            made.insert((bytes, *message.as_ref(), public))
        });
        Signature::from_slice(&bytes).ok()
    }

    /// Whether it was made here, and is not one of those that are checked all the same.
    pub(super) fn made(of: &Of) -> bool {
        !of.0[63].is_multiple_of(16) && MADE.with_borrow(|made| made.contains(of))
    }

    fn new_nonce() -> (SecretKey, [u8; 32]) {
        let secp = Secp256k1::new();
        let hash = sha256::Hash::hash(b"sluice/no-nonce-for-money").to_byte_array();
        let pair = SecretKey::from_slice(&hash).unwrap_or_else(|_| unreachable!("a scalar")).keypair(&secp);
        let (point, parity) = pair.x_only_public_key();
        (even(SecretKey::from_keypair(&pair), parity), point.serialize())
    }

    fn even(secret: SecretKey, parity: Parity) -> SecretKey {
        if parity == Parity::Odd { secret.negate() } else { secret }
    }
}

#[cfg(any(test, feature = "world"))]
mod memory {
    use super::{Keypair, Message, Parity, Signature, TapNodeHash, TweakedPublicKey, XOnlyPublicKey};
    use std::cell::RefCell;
    use std::collections::HashMap;
    use std::hash::Hash;

    /// Results by arguments; forgotten all at once when they are many.
    pub(super) type Memory<A, R> = RefCell<HashMap<A, R>>;

    /// A secret key, a name below it, and how many keys.
    type Children = (([u8; 32], [u8; 32]), usize);

    const MOST: usize = 500_000;

    thread_local! {
        pub(super) static SIGNED: Memory<([u8; 32], [u8; 32]), Signature> = RefCell::default();
        pub(super) static VERIFIED: Memory<([u8; 64], [u8; 32], XOnlyPublicKey), bool> = RefCell::default();
        pub(super) static KEY_ONLY: Memory<XOnlyPublicKey, TweakedPublicKey> = RefCell::default();
        pub(super) static PAIRS: Memory<[u8; 32], Keypair> = RefCell::default();
        pub(super) static AGGREGATES: Memory<(XOnlyPublicKey, XOnlyPublicKey), XOnlyPublicKey> = RefCell::default();
        pub(super) static CHILDREN: Memory<Children, Vec<Keypair>> = RefCell::default();
        pub(super) static TWEAKED: Memory<(XOnlyPublicKey, TapNodeHash), (TweakedPublicKey, Parity)> = RefCell::default();
    }

    /// A signature that is remembered, or quick, or computed.
    pub(super) fn signed(message: &Message, key: &Keypair, compute: impl FnOnce() -> Signature) -> Signature {
        SIGNED.with(|known| {
            get(known, (key.secret_bytes(), *message.as_ref()), || {
                super::quick::sign(message, key).unwrap_or_else(compute)
            })
        })
    }

    pub(super) fn get<A: Eq + Hash, R: Clone>(
        memory: &Memory<A, R>,
        of: A,
        compute: impl FnOnce() -> R,
    ) -> R {
        let good = get_good(memory, of, || Ok::<R, std::convert::Infallible>(compute()));
        good.unwrap_or_else(|never| match never {})
    }

    pub(super) fn get_good<A: Eq + Hash, R: Clone, E>(
        memory: &Memory<A, R>,
        of: A,
        compute: impl FnOnce() -> Result<R, E>,
    ) -> Result<R, E> {
        if let Some(known) = memory.borrow().get(&of) {
            return Ok(known.clone());
        }
        let result = compute()?;
        let mut memory = memory.borrow_mut();
        if memory.len() >= MOST {
            memory.clear();
        }
        memory.insert(of, result.clone());
        Ok(result)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use bitcoin::secp256k1::SecretKey;

    #[test]
    fn states_are_signed_as_everything_else_is() {
        let (secp, states) = (Secp256k1::new(), StateSigner::new());
        for number in 1..=64 {
            let key = Keypair::from_secret_key(&secp, &SecretKey::from_slice(&[number; 32]).unwrap());
            let message = Message::from_digest([!number; 32]);
            let prepared = states.prepare(&key);
            let of_states = states.0.sign_schnorr_no_aux_rand(message.as_ref(), &prepared).to_byte_array();
            assert_eq!(of_states, *secp.sign_schnorr_no_aux_rand(&message, &key).as_ref());
        }
    }
}
