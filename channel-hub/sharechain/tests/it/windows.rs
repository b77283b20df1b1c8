//! The window that rolls from share to share against the plain walk, written here from PROTOCOL.md on nothing but shares.

use bitcoin::{Target, consensus::deserialize};
use sharechain::params::Retarget;
use sharechain::{Chain, Params, Recipient, Share, ShareId, Work};
use std::collections::{BTreeMap, HashMap};

use crate::miner::{Making, candidate, chain, extend, extend_by, extend_from, params, script};
use crate::random::{Random, Tree, random_params};

/// Shares by id, as any node could have them.
pub(crate) struct Plain {
    params: Params,
    shares: HashMap<ShareId, Share>,
}

impl Plain {
    pub(crate) fn new(params: &Params, shares: impl IntoIterator<Item = Share>) -> Self {
        let shares = shares.into_iter().map(|share| (share.id(), share)).collect();
        Self { params: params.clone(), shares }
    }

    /// Length, work and weights of a share's window.
    pub(crate) fn window(&self, id: &ShareId) -> (u32, u128, BTreeMap<Recipient, u128>) {
        let mut weights: BTreeMap<Recipient, u128> = BTreeMap::new();
        let (mut length, mut work, mut at) = (0, 0, *id);
        let Some(head) = self.shares.get(id) else { return (0, 0, weights) };
        let needed = match self.params.retarget {
            Retarget::Least => u128::MAX,
            _ => u128::from(self.params.window_blocks) * hashes(head.header.bits),
        };
        while let Some(share) = self.shares.get(&at) {
            let own = hashes(share.data.bits);
            *weights.entry(share.data.recipient.clone()).or_default() += own;
            work += own;
            for uncle in &share.data.uncles {
                let uncle = &self.shares[uncle];
                let of_uncle = hashes(uncle.data.bits);
                *weights.entry(share.data.recipient.clone()).or_default() += of_uncle / 10;
                *weights.entry(uncle.data.recipient.clone()).or_default() += of_uncle - of_uncle / 10;
                work += of_uncle;
            }
            length += 1;
            if work >= needed || length == self.params.window_shares {
                break;
            }
            at = share.data.parent;
        }
        (length, work, weights)
    }
}

fn hashes(bits: bitcoin::CompactTarget) -> u128 {
    Work::of(Target::from_compact(bits)).hashes()
}

pub(crate) fn compare(chain: &mut Chain, plain: &Plain, id: &ShareId) {
    let window = chain.window(id).unwrap();
    let (length, work, weights) = plain.window(id);
    assert_eq!((window.shares, window.work.hashes()), (length, work));
    let mut ranked: Vec<(Recipient, u128)> = weights.into_iter().collect();
    ranked.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    let has = window.weights.iter().map(|credit| ((*credit.recipient).clone(), credit.weight.hashes()));
    assert_eq!(has.collect::<Vec<_>>(), ranked);
    let sum: u128 = window.weights.iter().map(|credit| credit.weight.hashes()).sum();
    assert_eq!(sum, work, "nothing is lost and nothing comes from nowhere");
    for credit in &window.weights {
        assert_eq!(chain.weight(id, &credit.recipient), Some(credit.weight));
    }
}

#[test]
fn the_rolling_window_is_the_plain_walks_at_every_share_of_random_trees_in_any_order() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let params = random_params(&mut random);
        let forks = 2 + random.below(8);
        let mut tree = Tree::grow(&mut random, params.clone(), 50, forks);
        let plain = Plain::new(&params, tree.shares.iter().map(|share| share.checked().share().clone()));
        let mut ids: Vec<ShareId> = tree.shares.iter().map(|share| share.checked().id()).collect();
        for _ in 0..2 {
            random.shuffle(&mut ids);
            ids.iter().for_each(|id| compare(&mut tree.chain, &plain, id));
        }
    }
}

#[test]
fn a_window_ends_where_its_work_reaches_three_blocks_or_at_its_greatest_length() {
    let mut chain = chain(60);
    let tip = chain.tip();
    let window = chain.window(&tip).unwrap();
    assert_eq!((window.shares, window.work.hashes()), (20, 40), "3 blocks of 13 hashes, 2 hashes a share");
    let mut harder = candidate(tip, script(1));
    harder.block.bits = bitcoin::CompactTarget::from_consensus(0x2001_0000);
    let tip = extend_from(&mut chain, &harder);
    let window = chain.window(&tip).unwrap();
    assert_eq!(
        (window.shares, window.work.hashes()),
        (30, 60),
        "3 blocks of 256 hashes are farther than 30 shares"
    );
    assert_eq!(params().window_shares, 30);
}

#[test]
fn where_anybody_may_state_the_least_difficulty_only_its_length_ends_a_window() {
    let mut chain = Chain::new(Params { retarget: Retarget::Least, ..params() });
    extend_by(&mut chain, 60, &script(0));
    for bits in [0x207f_ffff, 0x2013_b13b, 0x1d00_ffff] {
        let mut next = candidate(chain.tip(), script(1));
        next.block.bits = bitcoin::CompactTarget::from_consensus(bits);
        let tip = extend_from(&mut chain, &next);
        assert_eq!(chain.window(&tip).unwrap().shares, 30, "{bits:08x}");
    }
}

#[test]
fn genesis_has_an_empty_window_and_a_young_chain_a_short_one() {
    let mut chain = Chain::new(params());
    let genesis = chain.tip();
    assert_eq!(chain.window(&genesis).unwrap().weights, vec![]);
    let first = extend(&mut chain, script(3));
    let window = chain.window(&first).unwrap();
    assert_eq!((window.shares, window.work.hashes(), window.weights.len()), (1, 2, 1));
    assert_eq!(chain.window(&genesis).unwrap().shares, 0);
}

#[test]
fn an_uncle_counts_nine_tenths_and_its_nephew_gets_the_rest() {
    let mut chain = chain(0);
    let hard = |parent, name| {
        let mut candidate = candidate(parent, script(name));
        candidate.block.bits = bitcoin::CompactTarget::from_consensus(0x1f00_ffff);
        candidate
    };
    // Early shares, so that work is more than two hashes and tenths are more than nothing.
    for _ in 0..120 {
        let tip = chain.tip();
        let mut making = Making::new(&mut chain, &hard(tip, 0));
        making.time = chain.earliest_time(&tip).unwrap();
        chain.insert(&making.full()).unwrap();
    }
    let parent = chain.tip();
    let one = extend_from(&mut chain, &hard(parent, 1));
    let uncle = extend_from(&mut chain, &hard(parent, 2));
    assert_eq!(chain.tip(), one);
    let nephew = extend_from(&mut chain, &hard(one, 3));
    let work = |chain: &Chain, id: &ShareId| {
        let share: Share = deserialize(chain.encoded(id).unwrap()).unwrap();
        hashes(share.data.bits)
    };
    let (of_uncle, of_nephew) = (work(&chain, &uncle), work(&chain, &nephew));
    assert!(of_uncle >= 20, "{of_uncle}");
    let weight = |chain: &mut Chain, name| chain.weight(&nephew, &script(name)).unwrap().hashes();
    assert_eq!(weight(&mut chain, 2), of_uncle - of_uncle / 10);
    assert_eq!(weight(&mut chain, 3), of_nephew + of_uncle / 10);
    let credits: Vec<_> =
        chain.window_credits(&nephew).unwrap().map(|(id, credits)| (id, credits.len())).collect();
    assert_eq!(credits.last(), Some(&(nephew, 2)));
}
