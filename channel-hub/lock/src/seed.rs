//! A hub's secrets, all from one seed, so that a restored backup promises the same as before.

use bitcoin::XOnlyPublicKey;
use bitcoin::hashes::{Hash as _, HashEngine as _, Hmac, HmacEngine, sha256};
use bitcoin::secp256k1::{Keypair, Message, Secp256k1, SecretKey, Signing, Verification};
use std::fmt;

use crate::key::Key;
use crate::pool::Pool;
use crate::sheet::{LockSheet, Promise};

/// 32 secret bytes. Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Seed([u8; 32]);

/// Why a seed makes no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoKeys {
    /// The derived number is 0 or not below the order of the curve; one seed in 2^127.
    #[error("this seed gives an impossible secret key; make another seed")]
    Impossible,
    /// Its heights would not fit 32 bits.
    #[error("period {0} is beyond all block heights")]
    NoSuchPeriod(u32),
}

impl Seed {
    /// From 32 bytes of a good random generator.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key whose x-only form is hub_id: HMAC-SHA256(seed, "sluice/hub" ‖ magic).
    ///
    /// # Errors
    /// See [`NoKeys`].
    pub fn identity<C: Signing>(&self, pool: &Pool, secp: &Secp256k1<C>) -> Result<Keypair, NoKeys> {
        keypair(self.derive(&[b"sluice/hub", &pool.magic]), secp)
    }

    /// The claim key Hc of a period: HMAC-SHA256(seed, "sluice/claim" ‖ magic ‖ hub_id ‖ period).
    ///
    /// # Errors
    /// See [`NoKeys`].
    pub fn claim_key<C: Signing>(
        &self,
        pool: &Pool,
        hub_id: &XOnlyPublicKey,
        period: u32,
        secp: &Secp256k1<C>,
    ) -> Result<Keypair, NoKeys> {
        let parts: [&[u8]; 4] = [b"sluice/claim", &pool.magic, &hub_id.serialize(), &period.to_le_bytes()];
        keypair(self.derive(&parts), secp)
    }

    /// X_B: HMAC-SHA256(seed, "sluice/lock" ‖ magic ‖ hub_id ‖ B) (DESIGN.md §6, R5).
    pub fn key(&self, pool: &Pool, hub_id: &XOnlyPublicKey, height: u32) -> Key {
        let parts: [&[u8]; 4] = [b"sluice/lock", &pool.magic, &hub_id.serialize(), &height.to_le_bytes()];
        Key::from_bytes(self.derive(&parts))
    }

    /// The sheet of a period: always the same one.
    ///
    /// # Errors
    /// See [`NoKeys`].
    pub fn sheet<C: Signing + Verification>(
        &self,
        pool: &Pool,
        period: u32,
        secp: &Secp256k1<C>,
    ) -> Result<LockSheet, NoKeys> {
        let first = pool.first_height(period).filter(|_| pool.has_period(period));
        let first = first.ok_or(NoKeys::NoSuchPeriod(period))?;
        let identity = self.identity(pool, secp)?;
        let hub_id = identity.x_only_public_key().0;
        let claim_key = self.claim_key(pool, &hub_id, period, secp)?.x_only_public_key().0;
        let locks = (first..=first + (pool.period - 1)).map(|height| self.key(pool, &hub_id, height).lock());
        Ok(LockSheet::sign(pool, hub_id, period, claim_key, locks.collect(), |promise: &Promise| {
            let message = Message::from_digest(promise.signed_hash(pool));
            secp.sign_schnorr_no_aux_rand(&message, &identity)
        }))
    }

    fn derive(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut engine = HmacEngine::<sha256::Hash>::new(&self.0);
        parts.iter().for_each(|part| engine.input(part));
        Hmac::from_engine(engine).to_byte_array()
    }
}

fn keypair<C: Signing>(secret: [u8; 32], secp: &Secp256k1<C>) -> Result<Keypair, NoKeys> {
    let secret = SecretKey::from_slice(&secret).map_err(|_| NoKeys::Impossible)?;
    Ok(Keypair::from_secret_key(secp, &secret))
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(secret)")
    }
}
