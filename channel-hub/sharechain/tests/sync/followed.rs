//! Strangers who stay connected and do what they can, while a node follows an honest peer all the same and gives out work.

use lock::Accusation;
use sharechain::sync::message::Encoded;
use sharechain::sync::{Message, PeerId};
use sharechain::{FullShare, Recipient};
use std::time::Duration;

use crate::miner::{Wish, chain, extend_by, hub, mine, script, sheet};
use crate::world::{STRANGER, World, boast, tip};

const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

/// Two nodes with one chain.
fn pair(length: u32) -> World {
    let mut world = World::new(vec![chain(length), chain(length)]);
    world.connect(0, 1);
    world.pass(SECOND);
    world
}

fn fresh(share: &FullShare) -> Message {
    Message::Fresh(Box::new(share.checked().share().clone()))
}

/// The second node finds a share with a sheet, which the first takes.
fn follows(world: &mut World) {
    let miner = world.nodes[1].chain_mut();
    let parent = miner.tip();
    let share = mine(miner, parent, &Wish { sheet: Some(sheet(9, 0, 0)), ..Wish::of(hub(9)) });
    world.submit(1, &share);
    assert!(world.until(MINUTE, |world| world.nodes[0].chain().contains(&share.checked().id())));
    is_well(world);
}

fn is_well(world: &World) {
    assert!(world.nodes[0].is_in_sync());
    let honest: Vec<_> = world.dropped.iter().filter(|(_, peer, _)| peer.0 < STRANGER).collect();
    assert!(honest.is_empty(), "{honest:?}");
}

/// One share from the future, which waits, and on it shares with sheets, each of another hub.
#[test]
fn bodies_of_shares_that_cannot_be_placed_take_no_ones_room() {
    let mut world = pair(20);
    let greeting = tip(world.nodes[0].chain());
    let peer = world.stranger(0, STRANGER, greeting);
    let mut miner = chain(20);
    let later = 100_000_000;
    let parent = miner.tip();
    let first = mine(&mut miner, parent, &Wish { after: later, ..Wish::of(script(9)) });
    miner.insert(&first).unwrap();
    world.say(0, peer, &fresh(&first));
    let on_top: Vec<FullShare> = (20..28)
        .map(|name| {
            let sheet = Some(sheet(name, 0, 0));
            let wish = Wish { sheet, after: later.wrapping_neg(), ..Wish::of(hub(name)) };
            mine(&mut miner, first.checked().id(), &wish)
        })
        .collect();
    on_top.iter().for_each(|share| world.say(0, peer, &fresh(share)));
    for _ in 0..10 {
        world.pass(SECOND);
        for message in world.heard(peer) {
            let Message::GetBody(id) = message else { continue };
            let body = on_top.iter().find(|share| share.checked().id() == id).map(FullShare::body);
            world.say(0, peer, &Message::Body(id, body));
        }
    }
    assert_eq!(world.nodes[0].held().bodies, 0);
    assert_eq!(world.nodes[0].held().shares, 9, "they wait");
    follows(&mut world);
}

/// A stranger's shares may wait only if their targets and work are right, as all others.
#[test]
fn a_share_on_one_that_waits_must_follow_from_it() {
    let mut world = pair(20);
    let greeting = tip(world.nodes[0].chain());
    let peer = world.stranger(0, STRANGER, greeting);
    let mut miner = chain(20);
    let parent = miner.tip();
    let first = mine(&mut miner, parent, &Wish { after: 100_000_000, ..Wish::of(script(9)) });
    miner.insert(&first).unwrap();
    let second = mine(&mut miner, first.checked().id(), &Wish::of(script(9)));
    let mut lie = second.checked().share().clone();
    lie.data.height += 1;
    let at = lie.coinbase.output.len() - 2;
    lie.coinbase.output[at].script_pubkey = lie.data.commitment_script();
    lie.header.merkle_root = lie.merkle_root();
    assert!(lie.solve(1_000_000));
    world.say(0, peer, &fresh(&first));
    world.say(0, peer, &Message::Fresh(Box::new(lie)));
    assert!(world.why(peer).is_some());
    follows(&mut world);
}

fn accusation(name: u8) -> Accusation {
    Accusation::new(*sheet(name, 0, 0).promise(), *sheet(name, 0, 200).promise())
}

/// Anybody can make a key and sign two sheets with it.
#[test]
fn accusations_of_hubs_that_no_share_names_part_no_nodes() {
    let mut world = pair(20);
    let greeting = tip(world.nodes[0].chain());
    for number in 0..3 {
        let peer = world.stranger(0, STRANGER + number, greeting);
        for name in 0..20 {
            let name = 20 + 20 * u8::try_from(number).unwrap() + name;
            world.say(0, peer, &Message::Accusation(Box::new(accusation(name))));
        }
    }
    world.pass(SECOND);
    assert_eq!(world.dropped, []);
    let Recipient::Hub(hub_id) = hub(20) else { unreachable!() };
    assert!(world.nodes.iter().all(|node| node.accusation(&hub_id, 0).is_none()));
    follows(&mut world);
    assert_eq!(world.dropped, []);
}

#[test]
fn an_accusation_that_comes_before_its_sheet_counts_when_that_is_there() {
    let mut world = pair(20);
    let greeting = tip(world.nodes[0].chain());
    let peer = world.stranger(0, STRANGER, greeting);
    world.say(0, peer, &Message::Accusation(Box::new(accusation(9))));
    let Recipient::Hub(hub_id) = hub(9) else { unreachable!() };
    assert!(world.nodes[0].accusation(&hub_id, 0).is_none());
    follows(&mut world);
    world.pass(SECOND);
    assert!(world.nodes.iter().all(|node| node.accusation(&hub_id, 0).is_some()));
}

/// As after a line stood still: all at once, and more than a peer may send in that time.
#[test]
fn an_honest_peer_may_send_many_fresh_shares_at_once() {
    let mut world = World::new(vec![chain(20)]);
    let greeting = tip(world.nodes[0].chain());
    let peer = world.stranger(0, STRANGER, greeting);
    let mut miner = chain(20);
    for _ in 0..150 {
        let parent = miner.tip();
        let share = mine(&mut miner, parent, &Wish::of(script(9)));
        miner.insert(&share).unwrap();
        world.say(0, peer, &fresh(&share));
    }
    assert_eq!(world.dropped, []);
    let asked = world.heard(peer).into_iter().find_map(|message| match message {
        Message::GetShares { request, locator } => Some((request, locator)),
        _ => None,
    });
    let (request, locator) = asked.unwrap();
    let from = miner.standing(&locator[0]).unwrap().height + 1;
    let shares = (from..=170).map(|height| miner.at_height(height).unwrap());
    let shares = shares.map(|id| Encoded(miner.encoded(&id).unwrap().clone())).collect();
    world.say(0, peer, &Message::Shares { request, tip: tip(&miner), is_end: true, shares });
    assert_eq!(world.nodes[0].chain().tip(), miner.tip());
    is_well(&world);
}

/// Who says that it has more, and shows nothing, again and again.
#[test]
fn words_alone_do_not_stop_the_work() {
    let mut world = pair(20);
    for number in 0..12 {
        let claim = boast(world.nodes[0].chain());
        world.stranger(0, STRANGER + number, claim);
        is_well(&world);
        world.pass(8 * SECOND);
        is_well(&world);
    }
    follows(&mut world);
}

/// A node that begins, and those who say that they have more were there first.
#[test]
fn a_node_that_had_a_peers_whole_chain_gives_out_work_whatever_others_say() {
    let mut world = World::new(vec![chain(20), chain(40)]);
    let claim = boast(world.nodes[1].chain());
    for number in 0..2 {
        world.stranger(0, STRANGER + number, claim);
    }
    assert!(!world.nodes[0].is_in_sync());
    world.connect(0, 1);
    assert!(world.until(10 * SECOND, World::agree));
    is_well(&world);
}

/// They send what is known already, as little as an answer may have, as late as it may come.
#[test]
fn peers_that_show_nothing_new_take_no_ones_turn() {
    let mut ahead = chain(120);
    extend_by(&mut ahead, 5, &Wish::of(script(9)));
    let known = chain(120);
    let mut world = World::new(vec![chain(120), ahead]);
    let claim = boast(world.nodes[1].chain());
    let liars: Vec<PeerId> = (0..3).map(|number| world.stranger(0, STRANGER + number, claim)).collect();
    world.pass(SECOND);
    world.connect(0, 1);
    for _ in 0..6 {
        world.pass(12 * SECOND);
        for liar in &liars {
            for message in world.heard(*liar) {
                let Message::GetShares { request, .. } = message else { continue };
                let ids = (1..=100).map(|height| known.at_height(height).unwrap());
                let shares = ids.map(|id| Encoded(known.encoded(&id).unwrap().clone())).collect();
                world.say(0, *liar, &Message::Shares { request, tip: claim, is_end: false, shares });
            }
        }
    }
    assert!(world.agree());
    assert_eq!(world.dropped, []);
    follows(&mut world);
}
