//! States of payout channels: what a hub signs and a hasher checks, on one core.

use std::hint::black_box;
use std::time::Instant;

use anyhow::Context as _;
use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash as _;
use bitcoin::secp256k1::{All, Keypair, Secp256k1, SecretKey};
use bitcoin::transaction::Version;
use bitcoin::{Amount, BlockHash, Network, OutPoint, Transaction, Txid, XOnlyPublicKey};
use lock::{Council, Pool, Seed};
use payout_channel::hub::{Credit, PayoutChannel};
use payout_channel::keys::{ChannelSeed, public};
use payout_channel::message::{Message, Price};
use payout_channel::terms::Scheme;
use payout_channel::watcher::{Block, Tx};
use payout_channel::{Cap, ClaimTemplate, HubSigner, Params, SignedState, Terms, Watcher};

use super::alone::Alone;
use super::experiment::Values;
use super::results::Name;

/// What a hub does with each credit: the account, the rules on both sides of the signer, the claim's hash, the signature.
pub(super) const SIGN: Alone =
    Alone { names: &[Name::at_least("state_signatures_per_s", "1/s", 40_000.0)], run: sign };

/// What a hasher does with each state before it may count.
pub(super) const VERIFY: Alone =
    Alone { names: &[Name::at_least("state_verifications_per_s", "1/s", 25_000.0)], run: verify };

/// The next height's states for 10,000 payout channels, each with a lock that no state had before.
pub(super) const ROLL: Alone = Alone { names: &[Name::at_most("height_roll_s_10000", "s", 1.0)], run: roll };

const TIP: u32 = 900_000;

fn sign(seconds: f64) -> anyhow::Result<Values> {
    let mut hub = Hub::new(1_000)?;
    let height = hub.chain.tip() + 1;
    hub.roll(height)?;
    let (begin, mut count) = (Instant::now(), 0_u32);
    while begin.elapsed().as_secs_f64() < seconds {
        for channel in &mut hub.channels {
            let credit = Credit { height, amount: Amount::from_sat(1), ..Credit::default() };
            let credited = channel.credit(credit, &hub.chain, &mut hub.signer)?;
            black_box(credited.save(&mut Nowhere)?);
            count += 1;
        }
    }
    let rate = f64::from(count) / begin.elapsed().as_secs_f64();
    Ok(Values::from([("state_signatures_per_s".to_owned(), rate)]))
}

fn verify(seconds: f64) -> anyhow::Result<Values> {
    let mut hub = Hub::new(1_000)?;
    let height = hub.chain.tip() + 1;
    let messages = hub.roll(height)?;
    let checked: Vec<(ClaimTemplate, SignedState)> = hub
        .channels
        .iter()
        .zip(messages)
        .map(|(channel, message)| {
            let mut template = ClaimTemplate::new(channel.funded_terms().context("funded")?, &hub.secp)?;
            template.learn(height, hub.signer.lock(height), &hub.secp)?;
            Ok((template, message.signed().context("a state")?.clone()))
        })
        .collect::<anyhow::Result<_>>()?;
    let (begin, mut count) = (Instant::now(), 0_u32);
    while begin.elapsed().as_secs_f64() < seconds {
        for (template, signed) in &checked {
            template.verify(signed, &hub.secp)?;
            count += 1;
        }
    }
    let rate = f64::from(count) / begin.elapsed().as_secs_f64();
    Ok(Values::from([("state_verifications_per_s".to_owned(), rate)]))
}

fn roll(_: f64) -> anyhow::Result<Values> {
    let mut hub = Hub::new(10_000)?;
    let height = hub.chain.tip() + 1;
    hub.roll(height)?;
    let begin = Instant::now();
    black_box(hub.roll(height + 1)?);
    Ok(Values::from([("height_roll_s_10000".to_owned(), begin.elapsed().as_secs_f64())]))
}

/// Takes every event and keeps none: what a store costs is measured elsewhere.
struct Nowhere;

impl<E> payout_channel::Store<E> for Nowhere {
    type Error = std::convert::Infallible;

    fn append(&mut self, event: &E) -> Result<(), Self::Error> {
        black_box(event);
        Ok(())
    }

    fn commit(&mut self, _: payout_channel::Durability) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// A hub with open payout channels.
struct Hub {
    secp: Secp256k1<All>,
    signer: HubSigner<Nowhere>,
    chain: Watcher,
    channels: Vec<PayoutChannel>,
}

impl Hub {
    fn new(count: u32) -> anyhow::Result<Self> {
        let secp = Secp256k1::new();
        let member = Keypair::from_secret_key(&secp, &SecretKey::from_slice(&[1; 32])?);
        let pool = Pool::new(Network::Bitcoin, Council::new(1, vec![public(&member)], 1_008)?);
        let (locks, seed) = (Seed::from_bytes([7; 32]), ChannelSeed::new(&[8; 32], Network::Bitcoin, &secp)?);
        let hub_id = public(&locks.identity(&pool, &secp)?);
        let signer = HubSigner::new(pool.clone(), Params::PUBLIC, locks, seed, TIP, Nowhere)?;
        let mut hub = Self { secp, signer, chain: Watcher::new(TIP, 10), channels: Vec::new() };
        let fundings =
            (0..count).map(|index| hub.open(index, hub_id, &pool)).collect::<anyhow::Result<Vec<_>>>()?;
        hub.confirm(&fundings)?;
        Ok(hub)
    }

    /// Offers and funds one; the transaction that funds it.
    fn open(
        &mut self,
        index: u32,
        hub_id: XOnlyPublicKey,
        pool: &Pool,
    ) -> anyhow::Result<(Txid, Transaction)> {
        let mut seed = [9; 32];
        seed[..4].copy_from_slice(&index.to_le_bytes());
        let seed = ChannelSeed::new(&seed, Network::Bitcoin, &self.secp)?;
        let keys = seed.hasher(0, &self.secp)?;
        let terms = Terms {
            magic: pool.magic,
            hub_id,
            hasher_id: public(&seed.identity(&self.secp)?),
            hub_funding: hub_id,
            hub_refund: hub_id,
            hasher_funding: public(&keys.funding),
            hasher_pending: public(&keys.pending),
            hasher_settled: public(&keys.settled),
            capacity: Amount::from_sat(1_000_000_000),
            expiry: TIP + Params::PUBLIC.life,
            refund: Params::PUBLIC.refund,
            max_pendings: Params::PUBLIC.max_pendings,
            fee_ppm: 10_000,
            scheme: Scheme::Pplns,
        };
        let terms = self.signer.with_keys(terms)?;
        let output = terms.funding(&self.secp)?;
        let (mut channel, offer) = PayoutChannel::accept(Params::PUBLIC, terms, &self.secp)?;
        offer.save(&mut Nowhere)?;
        let (version, lock_time) = (Version::TWO, LockTime::ZERO);
        let funding = Transaction { version, lock_time, input: Vec::new(), output: vec![output.clone()] };
        let txid = funding.compute_txid();
        let outpoint = OutPoint::new(txid, 0);
        channel.funded::<std::convert::Infallible>(outpoint)?.save(&mut Nowhere)?;
        self.signer.open(channel.funded_terms().context("funded")?)?;
        self.chain.watch(channel.id(), outpoint, output);
        self.channels.push(channel);
        Ok((txid, funding))
    }

    fn confirm(&mut self, fundings: &[(Txid, Transaction)]) -> anyhow::Result<()> {
        let txs: Vec<Tx<'_>> = fundings.iter().map(|(txid, body)| Tx { txid: *txid, body }).collect();
        for number in 0..Params::PUBLIC.confirmations {
            let transactions = if number == 0 { txs.as_slice() } else { &[] };
            let (height, hash) = (self.chain.tip() + 1, BlockHash::all_zeros());
            self.chain.connected(&Block { height, hash, coinbase: None, transactions })?;
        }
        for channel in &mut self.channels {
            channel.opened::<std::convert::Infallible>(&self.chain)?.save(&mut Nowhere)?;
        }
        Ok(())
    }

    fn roll(&mut self, height: u32) -> anyhow::Result<Vec<Message>> {
        self.signer.cap(height, Cap { pendings: Amount::MAX_MONEY, at_once: Amount::MAX_MONEY })?;
        let mut messages = Vec::with_capacity(self.channels.len());
        for channel in &mut self.channels {
            let (base, price) = (Amount::from_sat(5_000), Price::default());
            let next = channel.next_height(height, base, price, &self.chain, &mut self.signer)?;
            messages.push(next.save(&mut Nowhere)?);
        }
        Ok(messages)
    }
}
