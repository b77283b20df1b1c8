//! The keys of either side of a payout channel: BIP32 from one seed, hardened, fresh for each payout channel.
//!
//! ```text
//! m/5043'/coin'/0'                    the hasher's identity, the same for all its payout channels
//! m/5043'/coin'/1'/index'/role'       the hasher's keys of one payout channel
//! m/5043'/coin'/2'/d1'/…/d8'/role'    the hub's, d being a hash of all the rest of the terms
//! ```
//!
//! coin is 0 on mainnet and 1 elsewhere (SLIP-44). So what Hf signs is signed for these terms and no others, and no two payout channels
//! have a hub's key in common, whatever the hub forgot (docs/decisions/0008).

use bitcoin::bip32::{ChildNumber, Xpriv};
use bitcoin::secp256k1::{Keypair, Secp256k1, Signing};
use bitcoin::{NetworkKind, XOnlyPublicKey};
use std::fmt;

use crate::terms::Terms;

/// BIP43's purpose: the number of the extension.
const PURPOSE: u32 = 5_043;

/// Why a seed gives no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoKeys {
    /// BIP32 refuses it; one seed in 2^127.
    #[error("this seed gives an impossible key; make another seed")]
    Impossible,
    /// 2^31 payout channels from one seed.
    #[error("no payout channel {0}: a seed has 2,147,483,648")]
    Index(u32),
}

/// One side's seed for payout channels. Not shown by `Debug`.
#[derive(Clone)]
pub struct ChannelSeed {
    account: Xpriv,
}

/// The hub's keys of one payout channel.
#[derive(Clone)]
pub struct HubKeys {
    /// Hf: signs states and closes.
    pub funding: Keypair,
    /// Hr: takes back what is left.
    pub refund: Keypair,
}

/// The hasher's keys of one payout channel.
#[derive(Clone)]
pub struct HasherKeys {
    /// Mf: signs claims, closes and requests.
    pub funding: Keypair,
    /// Mp: takes pendings.
    pub pending: Keypair,
    /// Ms: owns what is settled.
    pub settled: Keypair,
}

impl ChannelSeed {
    /// From 16 to 64 bytes of a good random generator.
    ///
    /// # Errors
    /// See [`NoKeys`].
    pub fn new<C: Signing>(
        seed: &[u8],
        network: impl Into<NetworkKind>,
        secp: &Secp256k1<C>,
    ) -> Result<Self, NoKeys> {
        let network = network.into();
        let coin = u32::from(network != NetworkKind::Main);
        let master = Xpriv::new_master(network, seed).map_err(|_| NoKeys::Impossible)?;
        Ok(Self { account: derive(&master, &[PURPOSE, coin], secp)? })
    }

    /// A hasher's lasting identity: one key over all its payout channels with a hub (R7).
    ///
    /// # Errors
    /// See [`NoKeys`].
    pub fn identity<C: Signing>(&self, secp: &Secp256k1<C>) -> Result<Keypair, NoKeys> {
        Ok(derive(&self.account, &[0], secp)?.to_keypair(secp))
    }

    /// The hub's keys of a payout channel by these terms, whatever hub keys stand in them.
    ///
    /// # Errors
    /// See [`NoKeys`].
    pub fn hub<C: Signing>(&self, terms: &Terms, secp: &Secp256k1<C>) -> Result<HubKeys, NoKeys> {
        let digest = terms.digest_for_hub_keys();
        let [funding, refund] = self.channel(digest, &hub_path(&digest), secp)?;
        Ok(HubKeys { funding, refund })
    }

    /// The hasher's keys of its payout channel number `index`.
    ///
    /// # Errors
    /// See [`NoKeys`].
    pub fn hasher<C: Signing>(&self, index: u32, secp: &Secp256k1<C>) -> Result<HasherKeys, NoKeys> {
        let mut name = [0; 32];
        name[..4].copy_from_slice(&index.to_le_bytes());
        let [funding, pending, settled] = self.channel(name, &[1, index], secp)?;
        Ok(HasherKeys { funding, pending, settled })
    }

    /// Roles 0 to N − 1 of a payout channel. `name` stands for the path.
    fn channel<const N: usize, C: Signing>(
        &self,
        name: [u8; 32],
        path: &[u32],
        secp: &Secp256k1<C>,
    ) -> Result<[Keypair; N], NoKeys> {
        crate::curve::children((self.account.private_key.secret_bytes(), name), || {
            let channel = derive(&self.account, path, secp)?;
            let mut keys = [self.account.to_keypair(secp); N];
            for (role, key) in (0..).zip(&mut keys) {
                *key = derive(&channel, &[role], secp)?.to_keypair(secp);
            }
            Ok(keys)
        })
    }
}

/// 2, then the digest's eight words without the lowest bit of each.
fn hub_path(digest: &[u8; 32]) -> [u32; 9] {
    let mut path = [2; 9];
    for (step, word) in path[1..].iter_mut().zip(digest.chunks_exact(4)) {
        *step = word.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)) >> 1;
    }
    path
}

fn derive<C: Signing>(from: &Xpriv, path: &[u32], secp: &Secp256k1<C>) -> Result<Xpriv, NoKeys> {
    let hardened = |index: &u32| ChildNumber::from_hardened_idx(*index).map_err(|_| NoKeys::Index(*index));
    let path = path.iter().map(hardened).collect::<Result<Vec<_>, _>>()?;
    from.derive_priv(secp, &path).map_err(|_| NoKeys::Impossible)
}

/// The public half.
pub fn public(key: &Keypair) -> XOnlyPublicKey {
    key.x_only_public_key().0
}

impl fmt::Debug for ChannelSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChannelSeed(secret)")
    }
}

impl fmt::Debug for HubKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HubKeys(secret)")
    }
}

impl fmt::Debug for HasherKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HasherKeys(secret)")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::terms::Scheme;
    use bitcoin::{Amount, Network};

    fn terms(seed: &ChannelSeed) -> Terms {
        let secp = Secp256k1::new();
        let (keys, id) = (seed.hasher(0, &secp).unwrap(), public(&seed.identity(&secp).unwrap()));
        Terms {
            magic: [1; 4],
            hub_id: id,
            hasher_id: id,
            hub_funding: id,
            hub_refund: id,
            hasher_funding: public(&keys.funding),
            hasher_pending: public(&keys.pending),
            hasher_settled: public(&keys.settled),
            capacity: Amount::from_sat(1_000),
            expiry: 1,
            refund: 2,
            max_pendings: 3,
            fee_ppm: 4,
            scheme: Scheme::Pplns,
        }
    }

    #[test]
    fn every_role_index_side_and_network_has_a_key_of_its_own() {
        let secp = Secp256k1::new();
        let mut all = Vec::new();
        for network in [Network::Bitcoin, Network::Regtest] {
            let seed = ChannelSeed::new(&[7; 32], network, &secp).unwrap();
            all.push(public(&seed.identity(&secp).unwrap()));
            for index in 0..3 {
                let keys = seed.hasher(index, &secp).unwrap();
                all.extend([keys.funding, keys.pending, keys.settled].map(|key| public(&key)));
            }
            let keys = seed.hub(&terms(&seed), &secp).unwrap();
            all.extend([keys.funding, keys.refund].map(|key| public(&key)));
        }
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn the_hubs_keys_are_others_if_anything_else_in_the_terms_is_another() {
        let secp = Secp256k1::new();
        let seed = ChannelSeed::new(&[7; 32], Network::Bitcoin, &secp).unwrap();
        let terms = terms(&seed);
        let other = public(&seed.hasher(1, &secp).unwrap().funding);
        let hub = |terms: &Terms| seed.hub(terms, &secp).unwrap().funding;
        let own = hub(&terms);
        let complete = terms.clone().with_hub_keys(&seed.hub(&terms, &secp).unwrap());
        assert_eq!(hub(&complete), own, "whatever hub keys stand there");
        let changed: [fn(&mut Terms, XOnlyPublicKey); 12] = [
            |terms, _| terms.magic = [2; 4],
            |terms, other| terms.hub_id = other,
            |terms, other| terms.hasher_id = other,
            |terms, other| terms.hasher_funding = other,
            |terms, other| terms.hasher_pending = other,
            |terms, other| terms.hasher_settled = other,
            |terms, _| terms.capacity = Amount::from_sat(1_001),
            |terms, _| terms.expiry = 9,
            |terms, _| terms.refund = 9,
            |terms, _| terms.max_pendings = 9,
            |terms, _| terms.fee_ppm = 9,
            |terms, _| terms.scheme = Scheme::Pps,
        ];
        for (field, change) in changed.iter().enumerate() {
            let mut terms = terms.clone();
            change(&mut terms, other);
            assert_ne!(hub(&terms), own, "field {field}");
        }
    }

    #[test]
    fn a_seed_gives_the_same_keys_again_and_shows_none() {
        let secp = Secp256k1::new();
        let seed = ChannelSeed::new(&[7; 32], Network::Bitcoin, &secp).unwrap();
        let again = ChannelSeed::new(&[7; 32], Network::Bitcoin, &secp).unwrap();
        let terms = terms(&seed);
        let (one, other) = (seed.hub(&terms, &secp).unwrap(), again.hub(&terms, &secp).unwrap());
        assert_eq!((one.funding, one.refund), (other.funding, other.refund));
        assert_eq!(format!("{seed:?} {one:?}"), "ChannelSeed(secret) HubKeys(secret)");
        assert_eq!(seed.hasher(1 << 31, &secp).unwrap_err(), NoKeys::Index(1 << 31));
    }
}
