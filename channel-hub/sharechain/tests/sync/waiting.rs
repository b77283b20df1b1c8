//! Shares that may not be taken yet: what ends the waiting, and what does not.

use bitcoin::CompactTarget;
use sharechain::acceptance::{ParentBlock, Wait};
use sharechain::sync::{Event, Fault, Message, NotSubmitted, PeerId};
use sharechain::{Chain, ShareId};
use std::time::Duration;

use crate::miner::{
    Wish, bits_of, chain, copy, extend, extend_by, harder, header, mine, script, stale_block, unknown_block,
};
use crate::world::{STRANGER, World, tip};

const MINUTE: Duration = Duration::from_secs(60);

/// A chain of twenty shares that take 256 hashes each.
fn hard() -> Chain {
    let mut chain = Chain::new(harder());
    extend_by(&mut chain, 20, &Wish::of(script(0)));
    chain
}

/// A node with a chain, a second one with what was built on it, and the clock at the time of the first's tip.
fn world(own: Chain, other: Chain) -> World {
    let time = own.standing(&own.tip()).unwrap().time;
    let mut world = World::new(vec![own, other]);
    world.now.unix = time;
    world.connect(0, 1);
    world
}

fn has(world: &World, id: &ShareId) -> bool {
    world.nodes[0].chain().contains(id)
}

fn waits(world: &World, share: ShareId, is_why: impl Fn(&Wait) -> bool) -> bool {
    world.events.iter().any(|(at, event)| match event {
        Event::Waits { share: waiting, why } => *at == 0 && *waiting == share && is_why(why),
        _ => false,
    })
}

#[test]
fn a_share_whose_time_is_ahead_waits_until_the_clock_comes_near() {
    let own = chain(20);
    let mut other = copy(&own);
    let id = extend(&mut other, &Wish { after: 300, ..Wish::of(script(9)) });
    let mut world = world(own, other);
    world.pass(MINUTE);
    assert!(!has(&world, &id));
    assert!(waits(&world, id, |why| matches!(why, Wait::Ahead(_))));
    let sent = world.bytes_sent;
    world.pass(MINUTE);
    assert!(world.bytes_sent - sent < 4_000, "it is not asked for again and again");
    world.now.unix += 300;
    assert!(world.until(MINUTE, |world| has(world, &id)));
    assert_eq!(world.dropped, []);
}

/// One share with a time a year ahead makes all after it the easiest: a hundred of them cost less than one should.
#[test]
fn cheap_shares_on_a_share_from_the_future_end_nothing() {
    let own = hard();
    let mut other = copy(&own);
    let first = extend(&mut other, &Wish { after: 31_536_000, ..Wish::of(script(9)) });
    extend_by(&mut other, 100, &Wish::of(script(9)));
    let mut world = world(own, other);
    world.pass(2 * MINUTE);
    assert!(waits(&world, first, |why| matches!(why, Wait::Ahead(_))));
    assert!(!has(&world, &first));
    assert!(world.nodes[0].is_in_sync(), "work goes on where it was");
    assert_eq!(world.dropped, []);
    world.now.unix += 31_540_000;
    assert!(world.until(MINUTE, World::agree), "and in a year it counts");
}

/// A block that nobody knows, an easy target for it, and more of the like on top.
#[test]
fn shares_on_blocks_that_nobody_knows_do_not_bury_each_other() {
    let own = hard();
    let mut other = copy(&own);
    let lie = Wish {
        prev_block: unknown_block(),
        bits: Some(CompactTarget::from_consensus(0x207f_ffff)),
        ..Wish::of(script(9))
    };
    let first = extend(&mut other, &lie);
    for at in 0..200_u32 {
        extend(&mut other, &Wish { block_height: 1 + 2_016 * at, ..lie.clone() });
    }
    let mut world = world(own, other);
    world.now.unix += 30 * 201;
    world.pass(2 * MINUTE);
    assert!(waits(&world, first, |why| *why == Wait::UnknownBlock));
    assert!(!has(&world, &first));
    assert!(world.nodes[0].is_in_sync());
    assert_eq!(world.dropped, []);
}

#[test]
fn six_shares_on_known_blocks_bury_one_on_a_stale_or_unknown_block() {
    for prev_block in [unknown_block(), stale_block()] {
        let own = hard();
        let mut other = copy(&own);
        let first = extend(&mut other, &Wish { prev_block, ..Wish::of(script(9)) });
        extend_by(&mut other, 5, &Wish::of(script(9)));
        let mut world = world(own, other);
        world.now.unix += 1_000;
        world.pass(MINUTE);
        assert!(!has(&world, &first), "five are on top");
        for salt in 0..2 {
            let mut other = copy(world.nodes[1].chain());
            let parent = other.tip();
            let share = mine(&mut other, parent, &Wish { salt, ..Wish::of(script(9)) });
            world.submit(1, &share);
        }
        assert!(world.until(MINUTE, |world| has(world, &first)));
        assert!(world.until(MINUTE, World::agree));
        assert_eq!(world.dropped, []);
    }
}

/// The pool finds nothing for three blocks. Who comes then takes its last shares, though nothing stands on them, and mines on them; and
/// who finds one on the old block then, with a time of then, finds it for himself.
#[test]
fn a_new_node_takes_the_last_shares_of_a_pool_that_stood_still() {
    let mut pool = hard();
    let on_old = Wish { prev_block: stale_block(), ..Wish::of(script(9)) };
    extend_by(&mut pool, 4, &on_old);
    let last = pool.standing(&pool.tip()).unwrap().time;
    let mut late = copy(&pool);
    let too_late = extend(&mut late, &Wish { after: 1_000, ..on_old });
    let mut world = World::new(vec![Chain::new(harder()), pool, late]);
    world.now.unix = last + 2_000;
    for node in &mut world.nodes {
        node.blocks_mut().passed = last + 600;
    }
    let tip = world.nodes[1].chain().tip();
    world.connect(0, 1);
    assert!(world.until(MINUTE, |world| world.nodes[0].chain().tip() == tip));
    assert!(world.nodes[0].is_in_sync());
    world.connect(0, 2);
    world.pass(2 * MINUTE);
    assert!(!has(&world, &too_late));
    assert_eq!(world.nodes[0].chain().tip(), tip);
    assert_eq!(world.dropped, []);
}

#[test]
fn a_share_on_an_unknown_block_is_taken_when_the_block_is_known() {
    let own = chain(20);
    let mut other = copy(&own);
    let id = extend(&mut other, &Wish { prev_block: unknown_block(), ..Wish::of(script(9)) });
    let mut world = world(own, other);
    world.now.unix += 100;
    world.pass(MINUTE);
    assert!(!has(&world, &id));
    world.nodes[0].blocks_mut().knows_all = true;
    assert!(world.until(Duration::from_secs(2), |world| has(world, &id)));
}

#[test]
fn the_header_of_an_unknown_block_is_asked_for_and_given_to_the_shell() {
    let block = header().block_hash();
    let mut other = chain(20);
    let mut world = World::new(vec![copy(&other)]);
    extend(&mut other, &Wish { prev_block: block, ..Wish::of(script(9)) });
    let share =
        |chain: &Chain| bitcoin::consensus::deserialize(chain.encoded(&chain.tip()).unwrap()).unwrap();
    let greeting = tip(world.nodes[0].chain());
    let asked = |world: &mut World, number| {
        let peer = world.stranger(0, STRANGER + number, greeting);
        world.say(0, peer, &Message::Fresh(Box::new(share(&other))));
        assert!(world.heard(peer).contains(&Message::GetHeader(block)));
        peer
    };
    world.nodes[0].blocks_mut().unknown = block;
    let peer = asked(&mut world, 0);
    world.say(0, peer, &Message::Header(block, Some(header())));
    let is_told =
        |event: &Event| matches!(event, Event::Header { header, .. } if header.block_hash() == block);
    assert!(world.events.iter().any(|(_, event)| is_told(event)));
    // One that has it not is no worse for it; another header is a lie, and none at all a delay.
    let peer = asked(&mut world, 1);
    world.say(0, peer, &Message::Header(block, None));
    assert!(world.nodes[0].has_peer(peer));
    world.say(0, peer, &Message::Header(block, None));
    let peer = asked(&mut world, 2);
    world.say(0, peer, &Message::Header(block, Some(bitcoin::block::Header { time: 1, ..header() })));
    assert!(matches!(world.why(peer), Some(Fault::OtherHeader(_))));
    let peer = asked(&mut world, 3);
    world.pass(Duration::from_secs(16));
    let blamed = |fault: &Fault| {
        world.events.iter().any(|(_, event)| match event {
            Event::Blamed { fault: has, .. } => has == fault,
            _ => false,
        })
    };
    assert!(blamed(&Fault::Stalled("a header")) && blamed(&Fault::Unasked));
    // And asked, the node gives it.
    world.nodes[0].blocks_mut().unknown = unknown_block();
    world.say(0, peer, &Message::GetHeader(block));
    assert!(world.heard(peer).contains(&Message::Header(block, Some(header()))));
}

/// What the node knows of the block stays true, whatever stands on the share.
#[test]
fn a_share_that_lies_of_a_known_block_is_never_taken() {
    let lies = [
        Wish { block_height: 2, ..Wish::of(script(9)) },
        Wish { bits: Some(CompactTarget::from_consensus(0x207f_ffff)), ..Wish::of(script(9)) },
    ];
    for lie in lies {
        let own = hard();
        let mut other = copy(&own);
        let first = extend(&mut other, &lie);
        extend_by(&mut other, 150, &Wish::of(script(9)));
        let mut world = world(own, other);
        world.now.unix += 10_000;
        world.pass(2 * MINUTE);
        assert!(!has(&world, &first));
        assert_eq!(world.dropped, []);
    }
}

/// An old block that was not the best chain's: who was there knows it, and who came later never will. Both take the same shares.
#[test]
fn a_lie_about_a_block_off_the_best_chain_parts_no_nodes() {
    let lies = [
        Wish { block_height: 2, ..Wish::of(script(9)) },
        Wish { bits: Some(CompactTarget::from_consensus(0x207f_ffff)), ..Wish::of(script(9)) },
    ];
    for lie in lies {
        let own = hard();
        let mut liar = copy(&own);
        let first = extend(&mut liar, &Wish { prev_block: unknown_block(), ..lie });
        extend_by(&mut liar, 8, &Wish::of(script(9)));
        let mut world = World::new(vec![copy(&own), own, liar]);
        let next_bits = bits_of(world.nodes[0].chain().params());
        let seen = ParentBlock { height: 0, off: 4, below_tip: 4, passed: None, next_bits, least: None };
        world.nodes[0].blocks_mut().seen = Some(seen);
        world.connect_all();
        assert!(world.until(MINUTE, |world| has(world, &first)));
        assert!(world.until(MINUTE, World::agree));
        assert!(world.nodes.iter().all(|node| node.is_in_sync()));
        assert_eq!(world.dropped, []);
    }
}

#[test]
fn a_node_does_not_take_a_share_of_its_own_that_others_would_let_wait() {
    let mut world = World::new(vec![chain(20)]);
    let mut miner = copy(world.nodes[0].chain());
    let parent = miner.tip();
    let wishes = [
        Wish { after: 20_000_000, ..Wish::of(script(9)) },
        Wish { prev_block: unknown_block(), ..Wish::of(script(9)) },
    ];
    for wish in wishes {
        let share = mine(&mut miner, parent, &wish);
        let refused = world.nodes[0].submit(world.now, &share);
        assert!(matches!(refused, Err(NotSubmitted::Waits(_))), "{refused:?}");
        assert_eq!(world.nodes[0].chain().tip(), parent);
    }
}

#[test]
fn no_peer_takes_the_room_of_others_among_what_waits() {
    let own = chain(20);
    let greeting = tip(&own);
    let mut miner = copy(&own);
    let parent = miner.tip();
    let mut world = World::new(vec![own]);
    let wish = |salt| Wish { salt, prev_block: unknown_block(), ..Wish::of(script(9)) };
    let mut send = |world: &mut World, peer: PeerId, salt: u32| {
        let share = mine(&mut miner, parent, &wish(salt));
        world.say(0, peer, &Message::Fresh(Box::new(share.checked().share().clone())));
        share.checked().id()
    };
    let quiet = world.stranger(0, STRANGER, greeting);
    let first = send(&mut world, quiet, 0);
    for number in 1..=5 {
        let loud = world.stranger(0, STRANGER + number, greeting);
        for salt in 0..30 {
            send(&mut world, loud, 1_000 * u32::try_from(number).unwrap() + salt);
        }
        assert!(world.nodes[0].held().shares <= 1 + 16 * usize::try_from(number).unwrap());
    }
    assert!(world.nodes[0].held().shares <= 64);
    let late = send(&mut world, quiet, 1);
    world.nodes[0].blocks_mut().knows_all = true;
    world.pass(Duration::from_secs(2));
    assert!(has(&world, &first) && has(&world, &late));
    assert_eq!(world.dropped, []);
}
