//! MuSig2's key aggregation (BIP327), without signing: the funding's internal key, which only both sides together have.
//!
//! The crate `musig2` would bring a third version of secp256k1 (docs/decisions/0002); this is BIP327's `KeyAgg` on the
//! one that `bitcoin` uses, checked against the BIP's vectors.

use bitcoin::hashes::{Hash as _, HashEngine as _, sha256t_hash_newtype};
use bitcoin::secp256k1::{PublicKey, Scalar, Secp256k1, Verification};
use bitcoin::{XOnlyPublicKey, key::Parity};

sha256t_hash_newtype! {
    struct ListTag = hash_str("KeyAgg list");
    #[hash_newtype(forward)]
    struct List(_);
    struct CoefficientTag = hash_str("KeyAgg coefficient");
    #[hash_newtype(forward)]
    struct Coefficient(_);
}

/// Why keys have no aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAggregate {
    /// No keys.
    #[error("no keys to aggregate")]
    Empty,
    /// Their sum is the point at infinity, or a coefficient is no scalar: never by chance.
    #[error("these keys have no aggregate")]
    Impossible,
}

/// BIP327's `KeyAgg` of keys in this order.
///
/// # Errors
/// See [`NoAggregate`].
pub fn aggregate<C: Verification>(
    keys: &[PublicKey],
    secp: &Secp256k1<C>,
) -> Result<XOnlyPublicKey, NoAggregate> {
    let first = keys.first().ok_or(NoAggregate::Empty)?;
    let second = keys.iter().find(|key| *key != first);
    let mut engine = List::engine();
    keys.iter().for_each(|key| engine.input(&key.serialize()));
    let list = List::from_engine(engine).to_byte_array();
    let weighted = keys.iter().map(|key| match Some(key) == second {
        true => Ok(*key),
        false => key.mul_tweak(secp, &coefficient(&list, key)?).map_err(|_| NoAggregate::Impossible),
    });
    let weighted = weighted.collect::<Result<Vec<_>, _>>()?;
    let sum = PublicKey::combine_keys(&weighted.iter().collect::<Vec<_>>());
    Ok(sum.map_err(|_| NoAggregate::Impossible)?.x_only_public_key().0)
}

/// [`aggregate`] of two x-only keys, taken with even y.
///
/// # Errors
/// See [`NoAggregate`].
pub fn aggregate_two<C: Verification>(
    one: &XOnlyPublicKey,
    other: &XOnlyPublicKey,
    secp: &Secp256k1<C>,
) -> Result<XOnlyPublicKey, NoAggregate> {
    crate::curve::aggregate((*one, *other), || {
        aggregate(&[one.public_key(Parity::Even), other.public_key(Parity::Even)], secp)
    })
}

fn coefficient(list: &[u8; 32], key: &PublicKey) -> Result<Scalar, NoAggregate> {
    let mut engine = Coefficient::engine();
    engine.input(list);
    engine.input(&key.serialize());
    // BIP327 reduces modulo the order; a hash above it comes once in 2^128.
    Scalar::from_be_bytes(Coefficient::from_engine(engine).to_byte_array())
        .map_err(|_| NoAggregate::Impossible)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const KEYS: [&str; 3] = [
        "02f9308a019258c31049344f85f89d5229b531c845836f99b08601f113bce036f9",
        "03dff1d77f2a671c5f36183726db2341be58feae1da2deced843240f7b502ba659",
        "023590a94e768f8e1815c2f24b4d80a8e3149316c3518ce7b7ad338368d038ca66",
    ];

    /// BIP327's key_agg_vectors.json, the valid ones.
    #[test]
    fn keys_aggregate_as_bip327_says() {
        let secp = Secp256k1::verification_only();
        let cases: [(&[usize], &str); 4] = [
            (&[0, 1, 2], "90539eede565f5d054f32cc0c220126889ed1e5d193baf15aef344fe59d4610c"),
            (&[2, 1, 0], "6204de8b083426dc6eaf9502d27024d53fc826bf7d2012148a0575435df54b2b"),
            (&[0, 0, 0], "b436e3bad62b8cd409969a224731c193d051162d8c5ae8b109306127da3aa935"),
            (&[0, 0, 1, 1], "69bc22bfa5d106306e48a20679de1d7389386124d07571d0d872686028c26a3e"),
        ];
        for (places, expected) in cases {
            let keys: Vec<PublicKey> = places.iter().map(|at| KEYS[*at].parse().unwrap()).collect();
            assert_eq!(aggregate(&keys, &secp).unwrap().to_string(), expected);
        }
        assert_eq!(aggregate(&[], &secp), Err(NoAggregate::Empty));
    }
}
