//! Nodes that have seen the same shares, in any order, with duplicates and gaps, agree: on validity, on window and split of
//! every share, and on the tip where one has the most work (issue 4).

use bitcoin::Amount;
use sharechain::{Chain, FullShare, Params, Refused, ShareId};

use crate::miner::{Making, candidate, script};
use crate::random::{Random, Tree, random_params};

/// A node that takes shares as they come and holds back those whose parents it lacks.
struct Node {
    chain: Chain,
    waiting: Vec<FullShare>,
}

impl Node {
    fn new(params: &Params) -> Self {
        Self { chain: Chain::new(params.clone()), waiting: Vec::new() }
    }

    fn hear(&mut self, share: &FullShare) {
        self.waiting.push(share.clone());
        while let Some(at) = self.waiting.iter().position(|share| self.is_connected(share)) {
            let share = self.waiting.swap_remove(at);
            match self.chain.insert(&share) {
                Ok(_) | Err(Refused::Known) => {}
                Err(why) => panic!("valid on one node, on another: {why}"),
            }
        }
    }

    fn is_connected(&self, share: &FullShare) -> bool {
        let data = &share.checked().share().data;
        data.uncles.iter().chain([&data.parent]).all(|id| self.chain.contains(id))
    }
}

/// Everything twice or once, in any order; with gaps that are filled later.
fn deliver(random: &mut Random, shares: &[FullShare], node: &mut Node) {
    let mut order: Vec<&FullShare> = shares.iter().collect();
    let repeated = shares.iter().filter(|_| random.one_in(3)).collect::<Vec<_>>();
    order.extend(repeated);
    if random.one_in(2) {
        random.shuffle(&mut order);
    } else {
        // Nearly in order, as gossip is.
        for at in 1..order.len() {
            if random.one_in(3) {
                order.swap(at - 1, at);
            }
        }
    }
    order.into_iter().for_each(|share| node.hear(share));
    assert!(node.waiting.is_empty());
}

fn assert_same(one: &mut Chain, other: &mut Chain, random: &mut Random, ids: &[ShareId]) {
    for id in ids {
        assert_eq!(one.standing(id), other.standing(id));
        assert_eq!(one.window(id), other.window(id));
        assert_eq!(one.uncles(id).len(), other.uncles(id).len());
        let height = 1 + u32::try_from(random.below(30)).unwrap();
        let value = Amount::from_sat(5_000_000_000 + random.next() % 1_000_000);
        let recipient = script(9);
        let split = one.payouts(id, &recipient, None, height, value);
        assert_eq!(split, other.payouts(id, &recipient, None, height, value));
        let sum: Amount = split.unwrap().iter().map(|payout| payout.output.value).sum();
        assert_eq!(sum, value);
    }
}

/// The shares of the most work.
fn heaviest(chain: &Chain, ids: &[ShareId]) -> Vec<ShareId> {
    let work = |id: &ShareId| chain.standing(id).unwrap().total_work;
    let most = ids.iter().map(work).max().unwrap();
    ids.iter().copied().filter(|id| work(id) == most).collect()
}

#[test]
fn nodes_with_the_same_shares_in_any_order_agree_on_windows_splits_and_the_heaviest_tip() {
    let (mut decided, mut tied) = (0, 0);
    for seed in 0..2_000 {
        let mut random = Random(seed << 20);
        let params = random_params(&mut random);
        let (length, forks) = (10 + random.below(30), 2 + random.below(8));
        let tree = Tree::grow(&mut random, params.clone(), length, forks);
        let mut grown = tree.chain;
        let ids: Vec<ShareId> = tree.shares.iter().map(|share| share.checked().id()).collect();
        for _ in 0..2 {
            let mut node = Node::new(&params);
            deliver(&mut random, &tree.shares, &mut node);
            assert_eq!(node.chain.len(), grown.len());
            assert_same(&mut grown, &mut node.chain, &mut random, &ids);
            let heaviest = heaviest(&grown, &ids);
            assert!(heaviest.contains(&node.chain.tip()));
            if heaviest.len() == 1 { decided += 1 } else { tied += 1 }
        }
    }
    assert!(decided > 1_000 && tied > 100, "{decided} {tied}: both happen");
}

#[test]
fn a_broken_share_is_broken_for_the_same_reason_whenever_and_wherever_it_comes() {
    for seed in 0..300 {
        let mut random = Random(seed << 21);
        let params = random_params(&mut random);
        let mut tree = Tree::grow(&mut random, params.clone(), 30, 4);
        let parent = tree.shares[random.below(tree.shares.len())].checked().id();
        let mut making = Making::new(&mut tree.chain, &candidate(parent, script(1)));
        match random.below(4) {
            0 => making.data.height += 1,
            1 => making.time = params.genesis_time,
            2 => making.data.total_work = sharechain::Work::new(7),
            _ => making.payouts.push(bitcoin::TxOut { value: Amount::ZERO, ..making.payouts[0].clone() }),
        }
        let broken = making.full();
        let verdict = tree.chain.insert(&broken).unwrap_err();
        assert!(matches!(verdict, Refused::Invalid(_)), "{verdict}");
        // Another node hears it as soon as it can judge it, long before or after the rest.
        let mut node = Node::new(&params);
        let mut order = tree.shares.clone();
        random.shuffle(&mut order);
        let mut judged = None;
        for share in &order {
            node.hear(share);
            if judged.is_none() && node.is_connected(&broken) {
                judged = Some(node.chain.insert(&broken).unwrap_err());
            }
        }
        assert_eq!(judged, Some(verdict.clone()));
        assert_eq!(node.chain.insert(&broken), Err(verdict));
    }
}
