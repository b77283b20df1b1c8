//! Many honest nodes on lines of every quality.

use sharechain::sync::{Event, Fault};
use sharechain::{Chain, Params};
use std::time::Duration;

use crate::miner::{
    Wish, chain, chain_of_hub, copy, extend, extend_at, extend_by, harder, hub, mine, params, script, sheet,
};
use crate::world::{Line, World};

const MINUTE: Duration = Duration::from_secs(60);

/// Mines for so many shares, each by any of the nodes, and lets the rest of the time pass.
fn mine_for(world: &mut World, shares: u32, pause: u64) {
    for at in 0..shares {
        let node = usize::try_from(world.below(world.nodes.len() as u64)).unwrap();
        mine_at(world, node, at);
        let milliseconds = world.below(2 * pause);
        world.pass(Duration::from_millis(milliseconds));
    }
    // Two tips may have the same work: one share more decides.
    world.pass(MINUTE);
    mine_at(world, 0, 10_000);
}

fn mine_at(world: &mut World, node: usize, salt: u32) {
    let chain = world.nodes[node].chain_mut();
    let parent = chain.tip();
    let name = u8::try_from(node).unwrap();
    let share = mine(chain, parent, &Wish { salt, ..Wish::of(script(name)) });
    world.submit(node, &share);
}

fn world(nodes: usize, line: Line) -> World {
    let mut world = World::new((0..nodes).map(|_| Chain::new(params())).collect());
    world.line = line;
    world.connect_all();
    world
}

#[test]
fn nodes_on_slow_lines_that_reorder_agree_and_blame_nobody() {
    let mut world = world(6, Line { delay: (50, 900), lost: 0, reorders: true });
    mine_for(&mut world, 150, 2_000);
    assert!(world.until(2 * MINUTE, World::agree));
    assert_eq!(world.dropped, []);
    let tip = world.tips()[0];
    assert!(tip.height < 150, "some shares came at the same time");
    assert!(tip.height > 100);
}

#[test]
fn nodes_on_lines_that_lose_every_tenth_message_agree_in_the_end() {
    let mut world = world(6, Line { delay: (50, 900), lost: 100, reorders: true });
    mine_for(&mut world, 150, 2_000);
    world.line.lost = 20;
    assert!(world.until(10 * MINUTE, World::agree));
    // A node cannot tell a line that loses messages from a peer that says nothing: nobody is dropped for anything else.
    let silence = |fault: &Fault| matches!(fault, Fault::Stalled(_) | Fault::Silent | Fault::Greeting);
    let others = world.dropped.iter().filter(|(.., fault)| !silence(fault));
    assert_eq!(others.collect::<Vec<_>>(), Vec::<&(usize, _, _)>::new());
}

#[test]
fn a_ring_passes_a_share_on_from_node_to_node() {
    let mut world = World::new((0..8).map(|_| Chain::new(params())).collect());
    (0..8).for_each(|at| world.connect(at, (at + 1) % 8));
    world.pass(Duration::from_secs(1));
    mine_at(&mut world, 0, 0);
    let id = world.nodes[0].chain().tip();
    let begin = world.now.instant;
    assert!(world.until(MINUTE, |world| world.nodes.iter().all(|node| node.chain().contains(&id))));
    assert_eq!(world.now.instant - begin, Duration::from_millis(80), "four times twenty");
}

#[test]
fn a_partition_of_ten_minutes_ends_on_the_branch_with_more_work() {
    let mut world = world(6, Line { delay: (50, 300), lost: 0, reorders: true });
    mine_for(&mut world, 20, 5_000);
    assert!(world.until(2 * MINUTE, World::agree));
    world.part(&[0, 1]);
    for at in 0..20 {
        mine_at(&mut world, if at % 4 == 0 { 0 } else { 3 }, 1_000 + at);
        world.pass(Duration::from_secs(30));
    }
    assert!(!world.agree());
    let best = world.tips().iter().max_by_key(|tip| tip.total_work).copied().unwrap();
    world.heal();
    assert!(world.until(3 * MINUTE, World::agree));
    assert_eq!(world.tips()[0], best);
}

/// Sheets are what is large: a new node asks all its peers for them at once, a few each.
#[test]
fn bodies_come_from_several_peers_at_once() {
    let mut whole = Chain::new(params());
    extend(&mut whole, &Wish::of(script(0)));
    for name in 1..40 {
        extend(&mut whole, &Wish { sheet: Some(sheet(name, 0, 0)), ..Wish::of(hub(name)) });
        extend_by(&mut whole, 2, &Wish::of(script(0)));
    }
    let copies = (0..3).map(|_| copy(&whole));
    let mut world = World::new(copies.chain([Chain::new(params())]).collect());
    (0..3).for_each(|at| world.connect(at, 3));
    assert!(world.until(MINUTE, World::agree));
    assert_eq!(world.dropped, []);
    assert!(world.most[3].bodies > 2, "{:?}", world.most[3]);
    assert!(world.most[3].bodies <= 8, "{:?}", world.most[3]);
}

#[test]
fn a_peer_that_vanishes_in_the_middle_is_replaced() {
    let whole = chain(2_000);
    let mut world = World::new(vec![copy(&whole), whole, Chain::new(params())]);
    world.connect(0, 2);
    world.connect(1, 2);
    assert!(world.until(MINUTE, |world| world.nodes[2].chain().len() > 600));
    world.part(&[0]);
    assert!(world.until(3 * MINUTE, |world| world.nodes[2].chain().tip() == world.nodes[1].chain().tip()));
}

/// Sheets beside the best chain are forgotten after a while.
#[test]
fn a_branch_with_sheets_that_was_forgotten_comes_again_when_it_is_the_best() {
    let mut own = Chain::new(Params { margin: 96, ..params() });
    extend_by(&mut own, 20, &Wish::of(script(0)));
    let fork = own.tip();
    let mut other = copy(&own);
    let on_top = Wish::of(script(0));
    for at in 0..9 {
        let name = 10 + at;
        let publishes = Wish { sheet: Some(sheet(name, 0, 0)), ..Wish::of(hub(name)) };
        let parent = other.tip();
        let share = mine(&mut other, parent, if at % 3 == 0 { &publishes } else { &on_top });
        [&mut own, &mut other].into_iter().for_each(|chain| drop(chain.insert(&share).unwrap()));
    }
    let first = other.at_height(21).unwrap();
    assert!(own.is_best(&first));
    (0..60).fold(fork, |parent, _| extend_at(&mut own, parent, &Wish::of(script(1))));
    assert!(!own.contains(&first));
    extend_by(&mut other, 60, &Wish::of(script(0)));
    let mut world = World::new(vec![own, other]);
    world.connect(0, 1);
    assert!(world.until(MINUTE, World::agree));
    assert!(world.nodes[0].chain().is_best(&first));
    assert_eq!(world.dropped, []);
}

/// Every share of it has an uncle, which counts the one before it, and it shows that it is the better one only at its end.
#[test]
fn a_long_branch_with_many_uncles_is_no_low_work() {
    let params = Params { margin: 400, ..harder() };
    let grow = |chain: &mut Chain, shares: u32, name: u8| {
        for _ in 0..shares {
            let parent = chain.tip();
            extend(chain, &Wish::of(script(name)));
            extend_at(chain, parent, &Wish { salt: 1, ..Wish::of(script(name)) });
        }
    };
    let mut own = Chain::new(params);
    extend_by(&mut own, 60, &Wish::of(script(0)));
    let mut other = copy(&own);
    grow(&mut own, 340, 1);
    grow(&mut other, 343, 2);
    let tip = other.tip();
    let mut world = World::new(vec![own, other]);
    world.connect(0, 1);
    assert!(world.until(MINUTE, World::agree));
    assert_eq!(world.dropped, []);
    assert_eq!(world.nodes[0].chain().tip(), tip);
}

/// Who was away for so long that the other has pruned an uncle of the next share is out of reach, and nobody is at fault.
#[test]
fn a_peer_that_has_pruned_an_uncle_says_so() {
    let mut full = Chain::new(Params { margin: 10, ..params() });
    let mut shares = Vec::new();
    for _ in 0..200 {
        let parent = full.tip();
        let share = mine(&mut full, parent, &Wish::of(script(0)));
        full.insert(&share).unwrap();
        shares.push(share);
        extend_at(&mut full, parent, &Wish { salt: 1, ..Wish::of(script(1)) });
    }
    // It stands at the lowest share that the other has, and had no uncle in time.
    let lowest = usize::try_from(full.lowest()).unwrap();
    assert!(lowest > 0);
    assert_eq!(shares[lowest].checked().share().data.uncles.len(), 1);
    let behind = Chain::restored(params(), &shares[lowest - 1]);
    let mut world = World::new(vec![behind, full]);
    world.connect(0, 1);
    world.pass(MINUTE);
    assert_eq!(world.dropped, []);
    assert!(world.events.iter().any(|(at, event)| *at == 0 && matches!(event, Event::OutOfReach(_))));
}

#[test]
fn a_hub_that_signs_two_sheets_is_known_to_all() {
    let base = chain_of_hub(20);
    let mut chains: Vec<Chain> = (0..3).map(|_| copy(&base)).collect();
    // Two branches, on each another sheet: no share is invalid.
    for (chain, backup) in chains.iter_mut().zip([0, 3]) {
        extend(chain, &Wish { sheet: Some(sheet(9, 0, backup)), ..Wish::of(hub(9)) });
    }
    extend(&mut chains[1], &Wish::of(script(0)));
    let mut world = World::new(chains);
    (0..2).for_each(|at| world.connect(at, at + 1));
    assert!(world.until(MINUTE, World::agree));
    world.pass(MINUTE);
    let sharechain::Recipient::Hub(hub_id) = hub(9) else { unreachable!() };
    let knows = |at: usize| world.nodes[at].accusation(&hub_id, 0).is_some();
    assert!(knows(0), "it held both branches");
    assert!(knows(1) && knows(2), "the others were told");
    assert_eq!(world.dropped, []);
    // Who restarts has both sheets, and says so.
    let restarted = World::new(vec![copy(world.nodes[0].chain())]);
    assert!(restarted.nodes[0].accusation(&hub_id, 0).is_some());
}

/// Whoever has forgotten the first sheet cannot know the second for what it is, and sends it on as any other.
#[test]
fn a_hub_that_waits_until_its_first_sheet_is_forgotten_parts_no_nodes() {
    let mut base = Chain::new(Params { margin: 96, ..params() });
    extend_by(&mut base, 20, &Wish::of(script(0)));
    let fork = base.tip();
    let mut world = World::new(vec![copy(&base), base]);
    world.connect(0, 1);
    let mut put = |parent: sharechain::ShareId, wish: &Wish| {
        let share = mine(world.nodes[0].chain_mut(), parent, wish);
        world.submit(0, &share);
        world.pass(Duration::from_secs(30));
        share.checked().id()
    };
    let on_top = Wish::of(script(0));
    let tip = put(fork, &on_top);
    let first = put(fork, &Wish { sheet: Some(sheet(9, 0, 0)), ..Wish::of(hub(9)) });
    let tip = (0..40).fold(tip, |tip, _| put(tip, &on_top));
    let second = put(tip, &Wish { sheet: Some(sheet(9, 0, 3)), ..Wish::of(hub(9)) });
    for node in &world.nodes {
        assert!(!node.chain().contains(&first));
        assert_eq!(node.chain().tip(), second);
    }
    assert_eq!(world.dropped, []);
    let sharechain::Recipient::Hub(hub_id) = hub(9) else { unreachable!() };
    assert!(world.nodes.iter().all(|node| node.accusation(&hub_id, 0).is_some()));
}
