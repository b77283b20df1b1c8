//! Which branch is best, and what an insertion says of it.

use sharechain::{Change, ShareId};

use crate::miner::{Making, candidate, chain, extend, extend_from, params, script};
use crate::random::{Random, Tree, random_params};

#[test]
fn of_two_branches_of_equal_work_the_first_seen_stays_and_the_next_share_decides() {
    let mut chain = chain(5);
    let parent = chain.tip();
    let first = extend_from(&mut chain, &candidate(parent, script(1)));
    let second = Making::new(&mut chain, &candidate(parent, script(2))).full();
    let change = chain.insert(&second).unwrap();
    assert_eq!((change.connected, change.disconnected), (vec![], vec![]));
    assert_eq!(chain.tip(), first);
    let mut third = Making::new(&mut chain, &candidate(second.checked().id(), script(2)));
    assert_eq!(third.data.uncles, vec![first]);
    third.time += 1;
    let third = third.full();
    let change = chain.insert(&third).unwrap();
    assert_eq!(change.disconnected, vec![first]);
    assert_eq!(change.connected, vec![second.checked().id(), third.checked().id()]);
    assert_eq!(chain.tip(), third.checked().id());
    assert!(!chain.is_best(&first) && chain.is_best(&parent) && chain.contains(&first));
}

#[test]
fn an_uncles_work_counts_for_the_branch_that_counts_it() {
    let mut chain = chain(5);
    let parent = chain.tip();
    let mut tips = Vec::new();
    for name in 0..3 {
        tips.push(extend_from(&mut chain, &candidate(parent, script(name))));
    }
    // Two more on the second branch, with uncles; one on the first, without.
    let mut plain = Making::new(&mut chain, &candidate(tips[0], script(0)));
    plain.data.uncles.clear();
    plain.data.total_work = sharechain::Work::new(14);
    chain.insert(&plain.full()).unwrap();
    let rich = extend_from(&mut chain, &candidate(tips[1], script(1)));
    assert_eq!(chain.standing(&rich).unwrap().total_work.hashes(), 18);
    assert_eq!(chain.tip(), rich);
}

#[test]
fn the_changes_applied_to_a_list_give_the_best_branch() {
    for seed in 0..200 {
        let mut random = Random(seed << 22);
        let params = random_params(&mut random);
        let tree = Tree::grow(&mut random, params.clone(), 60, 2);
        let mut chain = sharechain::Chain::new(params);
        let mut best = vec![chain.tip()];
        for share in &tree.shares {
            let change = chain.insert(share).unwrap();
            apply(&mut best, &change);
            assert_eq!(change.added, share.checked().id());
            let walked: Vec<ShareId> = (0..).map_while(|height| chain.at_height(height)).collect();
            assert_eq!(best, walked);
        }
    }
}

fn apply(best: &mut Vec<ShareId>, change: &Change) {
    for id in &change.disconnected {
        assert_eq!(best.pop(), Some(*id));
    }
    best.extend(&change.connected);
}

#[test]
fn ancestors_are_those_of_the_plain_walk() {
    let mut random = Random(5);
    let tree = Tree::grow(&mut random, params(), 400, 3);
    for share in tree.shares.iter().step_by(7) {
        let id = share.checked().id();
        let walk: Vec<ShareId> = std::iter::successors(Some(id), |id| tree.chain.parent(id)).collect();
        let height = tree.chain.standing(&id).unwrap().height;
        assert_eq!(walk.len(), usize::try_from(height).unwrap() + 1);
        for (at, ancestor) in (0..=height).rev().zip(&walk) {
            assert_eq!(tree.chain.ancestor(&id, at), Some(*ancestor));
            assert!(tree.chain.is_on_branch(ancestor, &id));
        }
        assert_eq!(tree.chain.ancestor(&id, height + 1), None);
    }
}

#[test]
fn a_node_that_shuns_a_share_builds_beside_it_until_six_stand_on_it() {
    let mut chain = chain(10);
    let parent = chain.tip();
    let bad = extend(&mut chain, script(1));
    let shuns = |id: &ShareId| *id == bad;
    assert_eq!(chain.tip_without(shuns), parent);
    assert_eq!(chain.tip_without(|_| false), bad);
    for _ in 0..5 {
        extend(&mut chain, script(2));
        assert_eq!(chain.tip_without(shuns), parent);
    }
    let beside = extend_from(&mut chain, &candidate(parent, script(3)));
    assert_eq!(chain.tip_without(shuns), beside);
    let sixth = extend(&mut chain, script(2));
    assert_eq!(chain.tip_without(shuns), sixth, "it lapses");
}
