//! A node keeps its windows and a margin; what it forgets changes no verdict, and a restart none either.

use bitcoin::consensus::deserialize;
use sharechain::{Chain, FullShare, Params, Refused, Share, ShareId};

use crate::miner::{Making, candidate, full, params, script};
use crate::random::{Random, Tree};

fn small() -> Params {
    Params { margin: 20, window_shares: 20, sheet_reach: 24, ..params() }
}

fn kept(chain: &Chain) -> Params {
    chain.params().clone()
}

#[test]
fn a_pruned_node_judges_as_one_that_keeps_all() {
    for seed in 0..20 {
        let mut random = Random(seed << 23);
        let mut tree = Tree::seed(Params { margin: 10_000, ..small() }, 6);
        let mut pruned = Chain::new(small());
        let mut forgotten: Vec<ShareId> = Vec::new();
        for _ in 0..300 {
            tree.grow_one(&mut random);
            let Some(share) = tree.shares.last().filter(|share| !pruned.contains(&share.checked().id()))
            else {
                continue;
            };
            let change = pruned.insert(share).unwrap();
            forgotten.extend(change.pruned);
            let id = share.checked().id();
            assert_eq!(pruned.window(&id), tree.chain.window(&id));
            assert_eq!(pruned.tip(), tree.chain.tip());
        }
        assert!(forgotten.len() > 100);
        assert!(forgotten.iter().all(|id| !pruned.contains(id)));
        assert_eq!(forgotten.len() + pruned.len(), tree.chain.len());
        let rows = pruned.standing(&pruned.tip()).unwrap().height - pruned.lowest();
        assert!(rows <= kept(&pruned).horizon() + 20 + 2, "{rows} rows");
    }
}

#[test]
fn a_share_that_hangs_on_what_was_pruned_is_too_deep_and_no_fault() {
    let mut random = Random(3);
    let mut tree = Tree::grow(&mut random, Params { margin: 10_000, ..small() }, 300, 1_000);
    let mut pruned = Chain::new(small());
    for share in &tree.shares {
        pruned.insert(share).unwrap();
    }
    let top = pruned.standing(&pruned.tip()).unwrap().height;
    let beside = |tree: &mut Tree, height| {
        let parent = tree.chain.at_height(height - 1).unwrap();
        Making::new(&mut tree.chain, &candidate(parent, script(6))).full()
    };
    let lowest = pruned.lowest() + small().horizon() + 1;
    assert!(top - lowest >= 18, "a branch may leave so far back");
    let share = beside(&mut tree, lowest - 1);
    assert_eq!(pruned.insert(&share), Err(Refused::TooDeep { height: lowest - 1, lowest }));
    let share = beside(&mut tree, lowest);
    assert!(pruned.insert(&share).is_ok());
}

/// What a store holds of a chain: shares with their sheets, parents first.
fn stored(chain: &Chain) -> Vec<FullShare> {
    let top = chain.standing(&chain.tip()).unwrap().height + 20;
    let ids = (chain.lowest()..=top).flat_map(|height| chain.row(height).collect::<Vec<_>>());
    let with_bytes = ids.filter(|id| !chain.encoded(id).unwrap().is_empty());
    let load = |id: ShareId| {
        let share: Share = deserialize(chain.encoded(&id).unwrap()).unwrap();
        full(share, chain.sheet_of(&id).cloned())
    };
    with_bytes.map(load).collect()
}

#[test]
fn a_chain_restored_from_what_it_kept_goes_on_as_if_nothing_had_happened() {
    for seed in 0..20 {
        let mut random = Random(seed << 24);
        let mut tree = Tree::grow(&mut random, small(), 300, 6);
        let shares = stored(&tree.chain);
        let lowest = shares.iter().find(|share| tree.chain.is_best(&share.checked().id())).unwrap();
        let mut restored = Chain::restored(small(), lowest);
        let checked_from = tree.chain.standing(&tree.chain.tip()).unwrap().height - 12;
        for share in &shares {
            let height = share.checked().share().data.height;
            let taken = if height >= checked_from { restored.insert(share) } else { restored.restore(share) };
            assert!(matches!(taken, Ok(_) | Err(Refused::Known | Refused::Unconnected(_))), "{taken:?}");
        }
        assert_eq!(
            restored.standing(&restored.tip()).unwrap().total_work,
            tree.chain.standing(&tree.chain.tip()).unwrap().total_work
        );
        for _ in 0..60 {
            let before = tree.shares.len();
            tree.grow_one(&mut random);
            if tree.shares.len() == before {
                continue;
            }
            let share = tree.shares.last().unwrap();
            restored.insert(share).unwrap();
            let id = share.checked().id();
            assert_eq!(restored.window(&id), tree.chain.window(&id));
        }
    }
}

#[test]
fn a_restored_share_must_still_hang_together() {
    let mut random = Random(9);
    let mut tree = Tree::grow(&mut random, small(), 40, 1_000);
    let mut making = Making::on_tip(&mut tree.chain, script(1));
    let mut chain = Chain::new(small());
    let unknown = making.full();
    assert_eq!(chain.restore(&unknown).unwrap_err(), Refused::Unconnected(making.data.parent));
    for share in &tree.shares {
        chain.restore(share).unwrap();
        assert_eq!(chain.restore(share), Err(Refused::Known));
    }
    assert_eq!(chain.tip(), tree.chain.tip());
    making.data.height += 1;
    assert!(matches!(chain.restore(&making.full()), Err(Refused::Invalid(_))));
}
