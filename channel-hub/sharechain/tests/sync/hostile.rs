//! Peers that are not honest. Each is dropped, with the reason that it deserves, and what the node holds stays bounded.

use bitcoin::consensus::encode;
use sharechain::sync::message::{Encoded, MAX_BATCH};
use sharechain::sync::{Event, Fault, Message, PeerId, Settings, Tip};
use sharechain::{Chain, Params, Recipient, Share, ShareId, Work};
use std::time::Duration;

use crate::miner::{
    SECP, Wish, chain, chain_of_hub, extend, extend_by, harder, hub, mine, params, script, sheet,
};
use crate::world::{STRANGER, World, boast, tip};

const MINUTE: Duration = Duration::from_secs(60);

/// A node with a chain, and a stranger that says it has more than any.
fn boaster(chain: Chain) -> (World, PeerId) {
    let boast = boast(&chain);
    let mut world = World::new(vec![chain]);
    let peer = world.stranger(0, STRANGER, boast);
    (world, peer)
}

/// A node with a chain, and a stranger that says it has the same.
fn equal(chain: Chain) -> (World, PeerId) {
    let tip = tip(&chain);
    let mut world = World::new(vec![chain]);
    let peer = world.stranger(0, STRANGER, tip);
    (world, peer)
}

/// The number of the request for shares that the stranger was sent, and the locator.
fn asked(world: &mut World, peer: PeerId) -> Option<(u32, Vec<ShareId>)> {
    world.heard(peer).into_iter().find_map(|message| match message {
        Message::GetShares { request, locator } => Some((request, locator)),
        _ => None,
    })
}

fn asked_for_body(world: &mut World, peer: PeerId) -> Option<ShareId> {
    world.heard(peer).into_iter().find_map(|message| match message {
        Message::GetBody(share) => Some(share),
        _ => None,
    })
}

fn encoded(chain: &Chain, heights: std::ops::Range<u32>) -> Vec<Encoded> {
    heights.map(|height| Encoded(chain.encoded(&chain.at_height(height).unwrap()).unwrap().clone())).collect()
}

fn share_of(chain: &Chain, id: &ShareId) -> Share {
    encode::deserialize(chain.encoded(id).unwrap()).unwrap()
}

fn decode(share: &Encoded) -> Share {
    encode::deserialize(&share.0).unwrap()
}

fn drops(world: &World, peer: PeerId, is_right: impl Fn(&Fault) -> bool) {
    let why = world.why(peer);
    assert!(why.is_some_and(is_right), "{why:?}");
    assert!(!world.nodes[0].has_peer(peer));
    let held = world.nodes[0].held();
    assert_eq!((held.shares, held.ids, held.bodies), (0, 0, 0), "nothing of it is held any more");
}

#[test]
fn who_speaks_of_another_network_or_version_or_does_not_greet_is_dropped() {
    let own = chain(5);
    let (genesis, tip) = (own.params().genesis(), tip(&own));
    let hello = |version, genesis| Message::Hello { version, genesis, tip };
    type Case<'a> = (&'a [Message], fn(&Fault) -> bool);
    let cases: [Case<'_>; 4] = [
        (&[hello(2, genesis)], |fault| matches!(fault, Fault::OtherVersion(2))),
        (&[hello(1, own.tip())], |fault| matches!(fault, Fault::OtherNetwork(_))),
        (&[Message::Tip(tip)], |fault| matches!(fault, Fault::Greeting)),
        (&[hello(1, genesis), hello(1, genesis)], |fault| matches!(fault, Fault::Greeting)),
    ];
    let mut world = World::new(vec![own]);
    for (number, (messages, is_right)) in (STRANGER..).zip(cases) {
        let peer = PeerId(number);
        world.nodes[0].connect(world.now, peer);
        messages.iter().for_each(|message| world.say(0, peer, message));
        drops(&world, peer, is_right);
    }
}

#[test]
fn bytes_that_are_no_message_are_enough() {
    for bytes in [&[][..], &[9], &[1, 2, 3], &[0xff; 100]] {
        let (mut world, peer) = equal(chain(3));
        world.say_bytes(0, peer, bytes);
        drops(&world, peer, |fault| matches!(fault, Fault::Malformed(_)));
    }
}

#[test]
fn a_flood_of_any_message_ends_in_a_drop_and_not_in_memory() {
    let own = chain(30);
    let locator = vec![own.params().genesis()];
    let floods = [
        Message::Tip(tip(&own)),
        Message::GetShares { request: 1, locator },
        Message::GetBody(own.tip()),
        Message::Body(own.tip(), None),
        Message::Pruned { request: 9, lowest: 1 },
        Message::Shares { request: 7, tip: tip(&own), is_end: true, shares: encoded(&own, 1..31) },
    ];
    for message in floods {
        let (mut world, peer) = equal(chain(30));
        let mut count = 0;
        while world.nodes[0].has_peer(peer) {
            // It does not read what it is sent, so answers wait as requests.
            world.nodes[0].handle(world.now, peer, &message.encode());
            count += 1;
            assert!(count <= 1_000, "{message:?}");
        }
        world.settle();
        drops(&world, peer, |fault| matches!(fault, Fault::Flood(_) | Fault::Unasked));
    }
}

#[test]
fn a_flood_of_shares_is_a_flood_even_if_each_is_valid() {
    let own = chain(30);
    let mut miner = chain(30);
    let parent = miner.tip();
    let (mut world, peer) = equal(own);
    let before = world.nodes[0].chain().len();
    let mut count = 0;
    while world.nodes[0].has_peer(peer) {
        let share = mine(&mut miner, parent, &Wish { salt: count, ..Wish::of(script(1)) });
        world.say(0, peer, &Message::Fresh(Box::new(share.checked().share().clone())));
        count += 1;
        assert!(count < 700);
    }
    drops(&world, peer, |fault| matches!(fault, Fault::Flood("messages")));
    assert!(world.nodes[0].chain().len() <= before + 120);
}

#[test]
fn who_sends_a_share_again_and_again_is_dropped() {
    let own = chain(30);
    let share = share_of(&own, &own.tip());
    let (mut world, peer) = equal(own);
    (0..11).for_each(|_| world.say(0, peer, &Message::Fresh(Box::new(share.clone()))));
    drops(&world, peer, |fault| matches!(fault, Fault::Repeated(_)));
}

#[test]
fn who_does_not_read_is_dropped_when_its_queue_is_full() {
    let own = chain(10);
    let mut miner = chain(10);
    let mut world = World::new(vec![own]);
    let greeting = tip(world.nodes[0].chain());
    let peer = PeerId(STRANGER);
    world.nodes[0].connect(world.now, peer);
    let genesis = params().genesis();
    world.nodes[0].handle(world.now, peer, &Message::Hello { version: 1, genesis, tip: greeting }.encode());
    let mut count = 0;
    while world.nodes[0].has_peer(peer) {
        let parent = miner.tip();
        let share = mine(&mut miner, parent, &Wish::of(script(0)));
        miner.insert(&share).unwrap();
        world.nodes[0].submit(world.now, &share).unwrap();
        count += 1;
        assert!(count < 400);
    }
    world.settle();
    drops(&world, peer, |fault| matches!(fault, Fault::SlowReader));
}

#[test]
fn who_says_that_it_has_more_work_and_shows_less_lied() {
    let (mut world, peer) = boaster(chain(20));
    let (request, _) = asked(&mut world, peer).expect("it says that it has more");
    let tip = tip(world.nodes[0].chain());
    world.say(0, peer, &Message::Shares { request, tip, is_end: true, shares: vec![] });
    drops(&world, peer, |fault| matches!(fault, Fault::Lied { .. }));
}

#[test]
fn who_ends_below_the_height_that_it_states_lied() {
    let mut other = chain(20);
    extend_by(&mut other, 5, &Wish::of(script(3)));
    let claims = Tip { height: 26, ..tip(&other) };
    let mut world = World::new(vec![chain(20)]);
    let peer = world.stranger(0, STRANGER, claims);
    let (request, _) = asked(&mut world, peer).unwrap();
    world.say(
        0,
        peer,
        &Message::Shares { request, tip: claims, is_end: true, shares: encoded(&other, 1..26) },
    );
    drops(&world, peer, |fault| matches!(fault, Fault::Lied { .. }));
}

#[test]
fn a_share_that_states_more_work_than_it_has_is_invalid() {
    let mut other = chain(20);
    let parent = other.tip();
    let share = mine(&mut other, parent, &Wish::of(script(3)));
    let mut lying = share.checked().share().clone();
    lying.data.total_work = Work::new(1 << 90);
    let at = lying.coinbase.output.len() - 2;
    lying.coinbase.output[at].script_pubkey = lying.data.commitment_script();
    lying.header.merkle_root = lying.merkle_root();
    assert!(lying.solve(1_000_000));
    let (mut world, peer) = equal(chain(20));
    let id = lying.id();
    world.say(0, peer, &Message::Fresh(Box::new(lying)));
    drops(
        &world,
        peer,
        |fault| matches!(fault, Fault::Invalid { share, rule } if *share == id && rule.contains("work")),
    );
}

/// 10,000 shares that cost two hashes each, on a branch from the beginning, and where it ends.
fn cheap() -> (Vec<Encoded>, Tip) {
    let mut chain = Chain::new(Params { margin: 1_000_000, ..harder() });
    let late = Wish { after: 20_000, ..Wish::of(script(6)) };
    let mut all = Vec::new();
    for _ in 0..10_000 {
        let parent = chain.tip();
        let share = mine(&mut chain, parent, &late);
        all.push(Encoded(share.checked().encoded().into()));
        chain.insert(&share).unwrap();
    }
    (all, tip(&chain))
}

/// 250 shares that cost 256 hashes each, on a node that keeps so many shares below its window.
fn costly(margin: u32) -> Chain {
    let mut own = Chain::new(Params { margin, ..harder() });
    extend_by(&mut own, 250, &Wish::of(script(0)));
    own
}

/// Whatever it says of its chain, 10,000 low-work shares get no place in the tree, and are not held either.
#[test]
fn ten_thousand_shares_of_little_work_are_counted_and_not_kept() {
    let (all, end) = cheap();
    assert!(end.total_work < tip(&costly(10)).total_work);
    let claim = |height| Tip { height, total_work: Work::new(1 << 80), ..end };
    // What it states as its height, whether it ever says that its chain ends, how many shares the node keeps; and then, how
    // many it could send before it was dropped.
    let cases = [
        (claim(10_000), true, 50_000, 10_000),
        (claim(u32::MAX), false, 1_950, 2_500),
        (claim(5_000), false, 50_000, 5_500),
    ];
    for (claim, ends, margin, expected) in cases {
        let own = costly(margin);
        let before = own.len();
        let mut world = World::new(vec![own]);
        let peer = world.stranger(0, STRANGER, claim);
        let mut sent = 0;
        while let Some((request, locator)) = asked(&mut world, peer) {
            assert!(sent == 0 || locator[0] == decode(&all[sent - 1]).id());
            let shares: Vec<Encoded> = all[sent..].iter().take(MAX_BATCH).cloned().collect();
            sent += shares.len();
            let is_end = ends && sent == all.len();
            world.say(0, peer, &Message::Shares { request, tip: claim, is_end, shares });
        }
        assert_eq!(sent, expected);
        drops(&world, peer, |fault| match fault {
            Fault::Lied { .. } => ends,
            Fault::LowWork(_) => !ends,
            _ => false,
        });
        let most = world.most[0];
        assert_eq!(world.nodes[0].chain().len(), before, "none of them has a place in the tree");
        assert_eq!((most.shares, most.share_bytes), (0, 0));
        assert!(most.ids <= expected + 32, "eight bytes each: {most:?}");
    }
}

/// They show shares of little work, a hundred in a second.
#[test]
fn three_who_show_little_work_hold_nobody_up_for_minutes() {
    let (all, end) = cheap();
    let mut ahead = costly(50_000);
    extend_by(&mut ahead, 5, &Wish::of(script(1)));
    let mut world = World::new(vec![costly(50_000), ahead]);
    let claim = Tip { total_work: Work::new(1 << 80), ..end };
    let mut liars: Vec<(PeerId, usize)> =
        (0..3).map(|number| (world.stranger(0, STRANGER + number, claim), 0)).collect();
    world.pass(Duration::from_secs(1));
    world.connect(0, 1);
    for _ in 0..9 {
        world.pass(Duration::from_secs(5));
        for (liar, sent) in &mut liars {
            let Some((request, locator)) = asked(&mut world, *liar) else { continue };
            if *sent > 0 && locator[0] != decode(&all[*sent - 1]).id() {
                *sent = 0; // its turn is over, and this is another
            }
            let shares: Vec<Encoded> = all[*sent..].iter().take(MAX_BATCH).cloned().collect();
            *sent += shares.len();
            world.say(0, *liar, &Message::Shares { request, tip: claim, is_end: false, shares });
        }
    }
    assert!(world.agree());
    assert_eq!(world.dropped, []);
}

/// One real share at the end must not carry 400 cheap ones into the tree.
#[test]
fn shares_that_have_nothing_to_do_with_the_last_of_a_batch_are_a_fault() {
    let (own, mut other) = (costly(10), costly(10));
    extend(&mut other, &Wish::of(script(1)));
    let mut shares: Vec<Encoded> = cheap().0.into_iter().take(400).collect();
    shares.extend(encoded(&other, 251..252));
    let claim = tip(&other);
    let mut world = World::new(vec![own]);
    let peer = world.stranger(0, STRANGER, claim);
    let (request, _) = asked(&mut world, peer).unwrap();
    let before = world.nodes[0].chain().len();
    world.say(0, peer, &Message::Shares { request, tip: claim, is_end: true, shares });
    drops(&world, peer, |fault| matches!(fault, Fault::Unrelated(_)));
    assert_eq!(world.nodes[0].chain().len(), before);
}

#[test]
fn who_shows_one_branch_and_then_another_gets_nothing_in() {
    let mut own = chain(5);
    extend_by(&mut own, 1_100, &Wish::of(script(3)));
    let branch = |salt| {
        let mut other = chain(5);
        extend_by(&mut other, 1_400, &Wish { salt, ..Wish::of(script(4)) });
        other
    };
    let (shown, other) = (branch(1), branch(2));
    let claim = tip(&shown);
    let before = own.len();
    let mut world = World::new(vec![own]);
    let peer = world.stranger(0, STRANGER, claim);
    let mut at = 6;
    while at < 1_406 {
        let (request, _) = asked(&mut world, peer).unwrap();
        let end = (at + 500).min(1_406);
        let shares = encoded(&shown, at..end);
        world.say(0, peer, &Message::Shares { request, tip: claim, is_end: end == 1_406, shares });
        at = end;
    }
    assert_eq!(world.nodes[0].chain().len(), before, "the branch has been counted");
    let (request, _) = asked(&mut world, peer).expect("and is asked for again");
    world.say(
        0,
        peer,
        &Message::Shares { request, tip: claim, is_end: false, shares: encoded(&other, 6..506) },
    );
    assert_eq!(world.nodes[0].chain().len(), before);
    assert!(
        world.events.iter().any(|(_, event)| matches!(event, Event::Blamed { fault: Fault::Changed, .. }))
    );
}

#[test]
fn answers_in_crumbs_are_a_fault() {
    let mut other = chain(20);
    extend_by(&mut other, 50, &Wish::of(script(3)));
    let mut world = World::new(vec![chain(20)]);
    let peer = world.stranger(0, STRANGER, tip(&other));
    let (request, _) = asked(&mut world, peer).unwrap();
    let shares = encoded(&other, 21..22);
    world.say(0, peer, &Message::Shares { request, tip: tip(&other), is_end: false, shares });
    drops(&world, peer, |fault| matches!(fault, Fault::Trickle(1)));
}

#[test]
fn who_never_answers_is_dropped_and_the_chain_comes_from_another() {
    let mut other = chain(20);
    extend_by(&mut other, 5, &Wish::of(script(3)));
    let mut world = World::new(vec![chain(20), other]);
    let claim = boast(world.nodes[1].chain());
    let peers: Vec<PeerId> = (0..3).map(|number| world.stranger(0, STRANGER + number, claim)).collect();
    world.connect(0, 1);
    assert!(world.until(MINUTE, |world| world.nodes[0].chain().tip() == world.nodes[1].chain().tip()));
    for _ in 0..8 {
        world.pass(Duration::from_secs(14));
        peers.iter().for_each(|peer| world.say(0, *peer, &Message::Tip(claim)));
    }
    peers.iter().for_each(|peer| drops(&world, *peer, |fault| matches!(fault, Fault::Stalled("shares"))));
}

#[test]
fn who_says_nothing_at_all_is_dropped_too() {
    let (mut world, peer) = equal(chain(3));
    world.pass(Duration::from_secs(119));
    assert!(world.nodes[0].has_peer(peer));
    world.pass(Duration::from_secs(2));
    drops(&world, peer, |fault| matches!(fault, Fault::Silent));
}

/// A node with the first shares of a hub's chain, and a stranger who sends the rest and will be asked for the sheet.
fn with_sheet_to_come() -> (World, PeerId, Chain) {
    let whole = chain_of_hub(10);
    let mut own = Chain::new(params());
    let first = share_of(&whole, &whole.at_height(1).unwrap());
    own.insert(&first.check(&params(), &SECP).unwrap().with_sheet(None).unwrap()).unwrap();
    let mut world = World::new(vec![own]);
    let claim = tip(&whole);
    let peer = world.stranger(0, STRANGER, claim);
    let (request, _) = asked(&mut world, peer).unwrap();
    world.say(
        0,
        peer,
        &Message::Shares { request, tip: claim, is_end: true, shares: encoded(&whole, 2..11) },
    );
    (world, peer, whole)
}

#[test]
fn who_withholds_a_body_is_dropped_whether_it_refuses_or_says_nothing() {
    let (mut world, peer, _) = with_sheet_to_come();
    for _ in 0..2 {
        let share = asked_for_body(&mut world, peer).unwrap();
        world.say(0, peer, &Message::Body(share, None));
    }
    drops(&world, peer, |fault| matches!(fault, Fault::WithheldBody(_)));

    let (mut world, peer, whole) = with_sheet_to_come();
    assert!(asked_for_body(&mut world, peer).is_some());
    for _ in 0..4 {
        world.pass(Duration::from_secs(10));
        world.say(0, peer, &Message::Tip(tip(&whole)));
    }
    drops(&world, peer, |fault| matches!(fault, Fault::WithheldBody(_)));
    assert_eq!(world.nodes[0].chain().len(), 2);
}

#[test]
fn a_body_with_other_locks_is_the_senders_fault_and_an_honest_peer_gives_the_right_one() {
    let (mut world, peer, whole) = with_sheet_to_come();
    let share = asked_for_body(&mut world, peer).unwrap();
    let locks = sheet(8, 0, 0).locks().to_vec();
    world.say(0, peer, &Message::Body(share, Some(sharechain::Body { locks })));
    drops(&world, peer, |fault| matches!(fault, Fault::OtherBody { .. }));
    let claim = tip(&whole);
    let honest = world.stranger(0, STRANGER + 1, claim);
    let (request, _) = asked(&mut world, honest).unwrap();
    world.say(
        0,
        honest,
        &Message::Shares { request, tip: claim, is_end: true, shares: encoded(&whole, 2..11) },
    );
    let share = asked_for_body(&mut world, honest).unwrap();
    let locks = sheet(7, 0, 0).locks().to_vec();
    world.say(0, honest, &Message::Body(share, Some(sharechain::Body { locks })));
    assert_eq!(world.nodes[0].chain().tip(), whole.tip());
}

#[test]
fn a_share_that_breaks_a_rule_costs_the_connection() {
    let mut other = chain(20);
    let parent = other.tip();
    let share = mine(&mut other, parent, &Wish::of(script(3)));
    let mut greedy = share.checked().share().clone();
    let Recipient::Script(own) = script(3) else { unreachable!() };
    greedy.coinbase.output[0].script_pubkey = own;
    greedy.header.merkle_root = greedy.merkle_root();
    assert!(greedy.solve(1_000_000));
    let (mut world, peer) = equal(chain(20));
    world.say(0, peer, &Message::Fresh(Box::new(greedy)));
    drops(&world, peer, |fault| matches!(fault, Fault::Invalid { rule, .. } if rule.contains("outputs")));
}

#[test]
fn a_peer_that_spreads_two_sheets_of_a_hub_is_dropped_and_the_hub_is_accused() {
    let base = || chain_of_hub(20);
    let mut miner = base();
    let parent = miner.tip();
    let two = [0, 3].map(|backup| {
        let wish = Wish { sheet: Some(sheet(9, 0, backup)), ..Wish::of(hub(9)) };
        mine(&mut miner, parent, &wish)
    });
    let (mut world, peer) = equal(base());
    for share in &two {
        world.say(0, peer, &Message::Fresh(Box::new(share.checked().share().clone())));
        if let Some(id) = asked_for_body(&mut world, peer) {
            world.say(0, peer, &Message::Body(id, Some(share.body())));
        }
    }
    drops(&world, peer, |fault| matches!(fault, Fault::Equivocated(_)));

    // Over two peers: each is honest for all that the node can see; the hub is not.
    let mut world = World::new(vec![base()]);
    let greeting = tip(world.nodes[0].chain());
    for (number, share) in (STRANGER..).zip(&two) {
        let peer = world.stranger(0, number, greeting);
        world.say(0, peer, &Message::Fresh(Box::new(share.checked().share().clone())));
        let id = asked_for_body(&mut world, peer).unwrap();
        world.say(0, peer, &Message::Body(id, Some(share.body())));
    }
    assert_eq!(world.dropped, []);
    assert!(world.events.iter().any(|(_, event)| matches!(event, Event::Equivocation(_))));
    let told = world.heard(PeerId(STRANGER));
    assert!(told.iter().any(|message| matches!(message, Message::Accusation(_))));
    let second = two[1].checked().share();
    assert!(
        !told.contains(&Message::Fresh(Box::new(second.clone()))),
        "the proof goes on, the second sheet does not"
    );
}

#[test]
fn a_second_sheet_on_one_branch_is_invalid_and_the_proof_is_kept() {
    let mut miner = chain_of_hub(20);
    extend_by(&mut miner, 2, &Wish::of(script(0)));
    let parent = miner.tip();
    let wish = Wish { sheet: Some(sheet(7, 0, 3)), ..Wish::of(hub(7)) };
    let share = mine(&mut miner, parent, &wish);
    let (mut world, peer) = equal(miner);
    world.say(0, peer, &Message::Fresh(Box::new(share.checked().share().clone())));
    let id = asked_for_body(&mut world, peer).unwrap();
    world.say(0, peer, &Message::Body(id, Some(share.body())));
    drops(&world, peer, |fault| matches!(fault, Fault::Invalid { .. }));
    let Recipient::Hub(hub_id) = hub(7) else { unreachable!() };
    assert!(world.nodes[0].accusation(&hub_id, 0).is_some());
}

#[test]
fn who_accuses_a_hub_of_nothing_is_dropped() {
    let (mut world, peer) = equal(chain_of_hub(10));
    let promise = *sheet(7, 0, 0).promise();
    let accusation = lock::Accusation::new(promise, promise);
    world.say(0, peer, &Message::Accusation(Box::new(accusation)));
    drops(&world, peer, |fault| matches!(fault, Fault::FalseAccusation(_)));
}

/// All that a hundred peers can make a node hold, each in the way that costs it most.
#[test]
fn what_all_peers_together_can_make_a_node_hold_is_bounded() {
    let mut whole = Chain::new(params());
    extend(&mut whole, &Wish::of(script(0)));
    for at in 0..1_050_u32 {
        let publishes = at % 3 == 0 && at < 300;
        let name = u8::try_from(1 + at / 3 % 100).unwrap();
        let wish = if publishes {
            Wish { sheet: Some(sheet(name, 0, 0)), ..Wish::of(hub(name)) }
        } else {
            Wish::of(script(0))
        };
        extend(&mut whole, &wish);
    }
    let claim = Tip { total_work: Work::new(1 << 90), height: u32::MAX, ..tip(&whole) };
    let settings = Settings { peers: 100, ..Settings::default() };
    let mut world = World::with(vec![Chain::new(params())], &settings);
    let peers: Vec<PeerId> = (0..100).map(|number| world.stranger(0, STRANGER + number, claim)).collect();
    assert!(!world.nodes[0].connect(world.now, PeerId(9_999)), "one more is one too many");
    // They send shares as they are asked, and no body.
    for _ in 0..5 {
        for peer in &peers {
            while let Some((request, locator)) = asked(&mut world, *peer) {
                let from = locator.iter().find_map(|id| whole.standing(id)).unwrap().height + 1;
                let shares = encoded(&whole, from..(from + 500).min(1_052));
                if shares.is_empty() {
                    break;
                }
                world.say(0, *peer, &Message::Shares { request, tip: claim, is_end: false, shares });
            }
        }
        world.pass(Duration::from_secs(16));
    }
    let most = world.most[0];
    assert!(most.shares >= 1_000, "the test does what it says: {most:?}");
    assert!(most.shares <= 3 * 2 * MAX_BATCH + 64, "{most:?}");
    assert!(most.share_bytes <= 3 * (2 * 512 * 1024 + 16 * 2_500) + 64 * 2_500, "{most:?}");
    assert!(most.ids <= 3 * (2 * MAX_BATCH + 32), "{most:?}");
    assert!(most.bodies <= 8, "{most:?}");
}
