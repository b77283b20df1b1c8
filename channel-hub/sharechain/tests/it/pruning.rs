//! A node keeps its windows and a margin; what it forgets changes no verdict, and a restart none either.

use bitcoin::consensus::deserialize;
use sharechain::storage::{Memory, Storage as _, load};
use sharechain::{Candidate, Chain, FullShare, Params, Refused, Share, ShareId};

use crate::miner::{Making, SECP, candidate, full, hub, params, script, sheet};
use crate::random::{Random, Tree};

fn small() -> Params {
    Params { margin: 96, window_shares: 20, sheet_reach: 24, ..params() }
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
        assert_eq!(pruned.row(pruned.lowest()).count(), 1, "all descend from the lowest");
        assert_eq!(forgotten.len() + pruned.len(), tree.chain.len());
        let rows = pruned.standing(&pruned.tip()).unwrap().height - pruned.lowest();
        assert!(rows <= small().horizon() + 96 + 6 + 1, "{rows} rows");
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

/// Two branches of the same work grow side by side until they are longer than a node keeps. It drops the one that is not the
/// best, and stands where it would stand after a restart.
#[test]
fn of_two_branches_that_alternate_one_is_dropped_when_their_fork_is_forgotten() {
    let mut everything = Chain::new(Params { margin: 10_000, ..small() });
    let (mut node, mut memory) = (Chain::new(small()), Memory::default());
    let mut dropped = None;
    let mut take = |node: &mut Chain, share: &FullShare| {
        let change = node.insert(share)?;
        let Ok(()) = memory.apply(node.update(&change));
        assert_eq!(memory.stored().shares.len() + usize::from(node.lowest() == 0), node.len());
        Ok::<_, Refused>(change.pruned)
    };
    let mut tips = [everything.tip(); 2];
    for round in 0..200_usize {
        // Whoever is behind finds two: the tip is now on one branch, now on the other.
        for at in [round % 2, (round + 1) % 2, (round + 1) % 2, round % 2] {
            let who = script(u8::try_from(at).unwrap());
            let share = Making::new(&mut everything, &candidate(tips[at], who)).full();
            tips[at] = everything.insert(&share).unwrap().added;
            match take(&mut node, &share) {
                Ok(_) => assert_eq!(node.window(&tips[at]), everything.window(&tips[at])),
                Err(Refused::Unconnected(_)) => dropped = dropped.or(Some((round, at))),
                Err(why) => panic!("{why}"),
            }
        }
    }
    let (round, at) = dropped.unwrap();
    assert!(u32::try_from(2 * round).unwrap() >= small().horizon() + 96, "{round}");
    assert!(node.contains(&tips[1 - at]) && !node.contains(&tips[at]));
    let ids = |chain: &Chain| -> Vec<ShareId> {
        (chain.lowest()..=500).flat_map(|height| chain.row(height).collect::<Vec<_>>()).collect()
    };
    assert!(ids(&node).iter().all(|id| node.is_best(id)));
    let mut restarted = load(small(), memory.stored().clone(), &SECP).unwrap();
    assert_eq!(ids(&restarted), ids(&node));
    assert_eq!(restarted.tip(), node.tip());
    for _ in 0..30 {
        let share = Making::new(&mut everything, &candidate(tips[1 - at], script(3))).full();
        tips[1 - at] = everything.insert(&share).unwrap().added;
        assert_eq!(restarted.insert(&share), node.insert(&share));
        assert_eq!(restarted.window(&tips[1 - at]), node.window(&tips[1 - at]));
    }
}

/// Whoever has hash rate can put another sheet on each share beside the best chain.
#[test]
fn sheets_beside_the_best_chain_are_forgotten_some_way_below_its_tip() {
    let params = Params { margin: 96, ..params() };
    let (mut node, mut memory) = (Chain::new(params.clone()), Memory::default());
    let (mut beside, mut most) = (Vec::new(), 0);
    for at in 0..200_u8 {
        let parent = node.tip();
        let candidates = [
            candidate(parent, script(1)),
            Candidate {
                sheet: Some(sheet(at % 100, u32::from(at / 100))),
                ..candidate(parent, hub(at % 100))
            },
        ];
        // Both are made before one is there, or the first would be the other's uncle.
        let shares = candidates.map(|candidate| Making::new(&mut node, &candidate).full());
        for share in &shares {
            let change = node.insert(share).unwrap();
            let Ok(()) = memory.apply(node.update(&change));
        }
        beside.push(shares[1].clone());
        most = most.max(memory.stored().sheets.len());
    }
    // A sixth of the margin and a batch of a sixteenth.
    assert!((16..=16 + 6 + 1).contains(&most), "{most} sheets");
    assert!(node.contains(&beside[199].checked().id()) && !node.contains(&beside[100].checked().id()));
    let again = load(params.clone(), memory.stored().clone(), &SECP).unwrap();
    assert_eq!((again.tip(), again.len()), (node.tip(), node.len()));
    // It is no fault, and may come again.
    let change = node.insert(&beside[150]).unwrap();
    let Ok(()) = memory.apply(node.update(&change));
    let again = load(params, memory.stored().clone(), &SECP).unwrap();
    assert_eq!(again.len(), node.len());
}

/// The margin is no rule: a later version of the program may have another, or the rows come from a file.
#[test]
fn rows_that_a_smaller_margin_does_not_keep_are_forgotten_in_the_store_too() {
    let (mut node, mut memory) = (Chain::new(params()), Memory::default());
    let mut store = |chain: &mut Chain| {
        let share = Making::on_tip(chain, script(1)).full();
        let change = chain.insert(&share).unwrap();
        let Ok(()) = memory.apply(chain.update(&change));
        memory.stored().clone()
    };
    let mut stored = (0..150).map(|_| store(&mut node)).last().unwrap();
    for margin in [60, 20] {
        let mut again = load(Params { margin, ..params() }, stored, &SECP).unwrap();
        stored = (0..5).map(|_| store(&mut again)).last().unwrap();
        assert!(again.lowest() > 0);
        assert_eq!(stored.shares.len(), again.len());
    }
    assert!(load(Params { margin: 20, ..params() }, stored, &SECP).is_ok());
}

/// A file or a store may begin with any height that a share states.
#[test]
fn above_the_highest_height_that_can_be_stated_stands_nothing() {
    let mut making = Making::on_tip(&mut crate::miner::chain(3), script(1));
    making.data.height = u32::MAX;
    let lowest = making.full();
    let mut chain = Chain::restored(params(), &lowest);
    let id = lowest.checked().id();
    assert_eq!(chain.uncles(&id), []);
    assert_eq!(chain.tip_without(|_| true), id);
    let share = Making::on_tip(&mut chain, script(1)).full();
    assert!(matches!(chain.restore(&share), Err(Refused::Invalid(_))));
    assert!(chain.insert(&share).is_err());
}
