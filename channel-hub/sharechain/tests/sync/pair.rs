//! Two nodes that are honest.

use sharechain::sync::{Event, Message, Settings};
use sharechain::{Chain, Work};
use std::time::Duration;

use crate::miner::{
    Wish, chain, chain_of_hub, copy, extend_at, extend_by, harder, hub, mine, params, script, sheet,
};
use crate::world::{GOOD, Line, STRANGER, World, tip};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_new_node_gets_the_whole_chain_with_its_uncles_and_sheets() {
    for whole in [chain(1_300), chain_of_hub(120)] {
        let shares = whole.len();
        let mut world = World::new(vec![whole, Chain::new(params())]);
        world.connect(0, 1);
        assert!(world.until(MINUTE, World::agree));
        assert!(world.nodes[1].is_in_sync());
        // The last of the uncles may be one that no share counts yet.
        assert!(world.nodes[1].chain().len() + 1 >= shares);
        assert_eq!(world.dropped, []);
    }
}

#[test]
fn every_share_that_joins_the_tree_is_told_of_once_and_in_order() {
    let mut world = World::new(vec![chain(700), Chain::new(params())]);
    world.connect(0, 1);
    world.pass(MINUTE);
    let mut store = Vec::new();
    let mut best = Vec::new();
    for (_, event) in &world.events {
        let Event::Inserted { change, from } = event else { continue };
        assert!(from.is_some());
        assert!(!store.contains(&change.added));
        store.push(change.added);
        change.disconnected.iter().for_each(|id| assert_eq!(best.pop(), Some(*id)));
        best.extend(&change.connected);
    }
    let chain = world.nodes[1].chain();
    assert_eq!(store.len() + 1, chain.len());
    assert_eq!(best.last(), Some(&chain.tip()));
    assert_eq!(best.len(), 700, "applying the changes gives the best branch");
}

#[test]
fn two_branches_end_as_the_one_with_more_work_whoever_has_it() {
    for lead in 0..2 {
        let mut one = chain(50);
        let mut other = copy(&one);
        extend_by(&mut one, 14, &Wish::of(script(3)));
        extend_by(&mut other, 15, &Wish::of(script(4)));
        let best = other.tip();
        let chains = if lead == 0 { vec![other, one] } else { vec![one, other] };
        let mut world = World::new(chains);
        world.connect(0, 1);
        assert!(world.until(MINUTE, World::agree));
        assert_eq!(world.nodes[0].chain().tip(), best);
        assert_eq!(world.dropped, []);
    }
}

/// The branch is longer than one answer and has less work than the node's own until its third: it is counted first, and
/// taken when it comes again.
#[test]
fn a_long_branch_shows_its_work_before_it_gets_a_place() {
    let base = chain(5);
    let mut own = copy(&base);
    extend_by(&mut own, 1_100, &Wish::of(script(3)));
    let mut other = base;
    extend_by(&mut other, 1_400, &Wish::of(script(4)));
    let best = other.tip();
    let mut world = World::new(vec![own, other]);
    world.connect(0, 1);
    let before = world.nodes[0].chain().len();
    assert!(world.until(MINUTE, |world| world.most[0].ids >= 500));
    assert_eq!(world.nodes[0].chain().len(), before, "nothing of it has a place yet");
    assert!(world.until(MINUTE, World::agree));
    assert_eq!(world.nodes[0].chain().tip(), best);
    assert_eq!(world.dropped, []);
    assert!(world.most[0].shares <= 1_000, "{:?}", world.most[0]);
}

#[test]
fn a_chain_below_the_least_work_is_not_taken_in() {
    let least = tip(&chain(600)).total_work;
    let settings = Settings { least_work: least, ..Settings::default() };
    let mut world = World::with(vec![Chain::new(params()), chain(599)], &settings);
    world.connect(0, 1);
    world.pass(MINUTE);
    assert_eq!(world.nodes[0].chain().len(), 1);
    assert!(!world.nodes[0].is_in_sync());
    let mut world = World::with(vec![Chain::new(params()), chain(620)], &settings);
    world.connect(0, 1);
    assert!(world.until(MINUTE, World::agree), "one with as much is");
    assert!(world.nodes[0].is_in_sync());
}

#[test]
fn a_new_share_is_there_after_one_way_and_costs_its_bytes_once() {
    let own = chain(40);
    let mut world = World::new(vec![copy(&own), own]);
    world.connect(0, 1);
    world.pass(Duration::from_secs(2));
    let begin = (world.now.instant, world.bytes_sent);
    let mut copy = copy(world.nodes[0].chain());
    let parent = copy.tip();
    let share = mine(&mut copy, parent, &Wish::of(script(9)));
    let id = share.checked().id();
    world.submit(0, &share);
    assert!(world.until(MINUTE, |world| world.nodes[1].chain().contains(&id)));
    assert_eq!(world.now.instant - begin.0, Duration::from_millis(20));
    assert!(world.bytes_sent - begin.1 < share.checked().encoded().len() + 100);
}

#[test]
fn a_share_with_a_sheet_brings_its_body_when_asked() {
    let base = chain(20);
    let mut miner = copy(&base);
    let mut world = World::new(vec![copy(&base), base]);
    world.connect(0, 1);
    world.pass(Duration::from_secs(2));
    let parent = miner.tip();
    let wish = Wish { sheet: Some(sheet(7, 0, 0)), ..Wish::of(hub(7)) };
    let share = mine(&mut miner, parent, &wish);
    let id = share.checked().id();
    world.submit(0, &share);
    assert!(world.until(MINUTE, |world| world.nodes[1].chain().contains(&id)));
    assert_eq!(world.nodes[1].chain().sheet_of(&id), Some(share.sheet().unwrap()));
}

#[test]
fn lost_messages_cost_time_and_nothing_else() {
    let mut world = World::new(vec![chain(1_300), Chain::new(params())]);
    world.line = Line { lost: 200, ..GOOD };
    world.connect(0, 1);
    assert!(world.until(20 * MINUTE, World::agree));
}

#[test]
fn a_node_that_hears_of_an_uncle_only_later_catches_up() {
    let base = chain(20);
    let mut miner = copy(&base);
    let mut world = World::new(vec![copy(&base), base]);
    world.connect(0, 1);
    world.pass(Duration::from_secs(2));
    let parent = miner.tip();
    let one = mine(&mut miner, parent, &Wish::of(script(8)));
    let uncle = mine(&mut miner, parent, &Wish { salt: 2, ..Wish::of(script(9)) });
    miner.insert(&one).unwrap();
    miner.insert(&uncle).unwrap();
    let nephew_parent = miner.tip();
    let nephew = mine(&mut miner, nephew_parent, &Wish::of(script(8)));
    assert_eq!(nephew.checked().share().data.uncles, [uncle.checked().id()]);
    world.submit(0, &one);
    world.pass(Duration::from_secs(1));
    // The uncle is lost on its way.
    world.line = Line { lost: 1_000, ..GOOD };
    world.submit(0, &uncle);
    world.line = GOOD;
    world.submit(0, &nephew);
    assert!(world.until(MINUTE, World::agree));
    assert!(world.nodes[1].chain().contains(&uncle.checked().id()));
    assert_eq!(world.dropped, []);
}

#[test]
fn a_share_on_an_old_parent_with_little_work_is_not_taken_in_but_an_uncle_is() {
    let mut own = Chain::new(harder());
    extend_by(&mut own, 60, &Wish::of(script(0)));
    let mut miner = copy(&own);
    let late = own.at_height(2).unwrap();
    let cheap = extend_at(&mut miner, late, &Wish { after: 30_000, ..Wish::of(script(5)) });
    let parent = own.at_height(59).unwrap();
    let uncle = extend_at(&mut miner, parent, &Wish { salt: 4, ..Wish::of(script(5)) });
    let shares: Vec<_> = [cheap, uncle]
        .iter()
        .map(|id| bitcoin::consensus::deserialize(miner.encoded(id).unwrap()).unwrap())
        .collect();
    let mut world = World::new(vec![own]);
    let greeting = tip(world.nodes[0].chain());
    let peer = world.stranger(0, STRANGER, greeting);
    for share in shares {
        world.say(0, peer, &Message::Fresh(Box::new(share)));
    }
    assert!(!world.nodes[0].chain().contains(&cheap));
    assert!(world.nodes[0].chain().contains(&uncle));
    assert_eq!(world.dropped, []);
    assert!(tip(world.nodes[0].chain()).total_work > Work::ZERO);
}
