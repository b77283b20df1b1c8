//! The tree of a height's pendings, alone: what a hub builds before each of its shares.

use std::hint::black_box;
use std::time::Instant;

use anyhow::Context;
use bitcoin::key::{Keypair, Secp256k1};
use bitcoin::secp256k1::SecretKey;
use bitcoin::{Amount, XOnlyPublicKey};
use payout_channel::pending_root::{Secret, Tree};

use super::alone::Alone;
use super::experiment::Values;
use super::results::Name;

/// The root of 10,000 leaves, from payees and amounts on.
pub(super) const ROOT: Alone =
    Alone { names: &[Name::at_most("pending_root_ms_10000", "ms", 10.0)], run: root };

const LEAVES: u32 = 10_000;

fn root(seconds: f64) -> anyhow::Result<Values> {
    let pendings = (1..=LEAVES).map(pending).collect::<anyhow::Result<Vec<_>>>()?;
    let (begin, mut count) = (Instant::now(), 0_u32);
    while begin.elapsed().as_secs_f64() < seconds {
        let secret = Secret::from_bytes([count.to_le_bytes()[0]; 32]);
        let tree = Tree::new(&secret, count, black_box(&pendings).iter().copied())?;
        black_box(tree.root());
        count += 1;
    }
    let each = begin.elapsed().as_secs_f64() * 1e3 / f64::from(count);
    Ok(Values::from([("pending_root_ms_10000".to_owned(), each)]))
}

fn pending(number: u32) -> anyhow::Result<(XOnlyPublicKey, Amount)> {
    let mut secret = [0; 32];
    secret[28..].copy_from_slice(&number.to_be_bytes());
    let secret = SecretKey::from_slice(&secret).context("no secret key")?;
    let payee = Keypair::from_secret_key(&Secp256k1::signing_only(), &secret).x_only_public_key().0;
    Ok((payee, Amount::from_sat(1_000 + u64::from(number))))
}
