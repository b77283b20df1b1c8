//! Bytes of messages, and bytes that are none.

use sharechain::Work;
use sharechain::sync::message::{Encoded, MAX_LOCATOR};
use sharechain::sync::{BadMessage, Message, Tip};
use std::time::Duration;

use crate::miner::{chain, chain_of_hub, header, params, sheet, unknown_block};
use crate::world::{STRANGER, World, tip};

fn all() -> Vec<Message> {
    let chain = chain_of_hub(6);
    let (genesis, end) = (params().genesis(), tip(&chain));
    let encoded = |height: u32| chain.encoded(&chain.at_height(height).unwrap()).unwrap().clone();
    let share = bitcoin::consensus::deserialize(&encoded(2)).unwrap();
    let accusation = lock::Accusation::new(*sheet(9, 0, 0).promise(), *sheet(9, 0, 3).promise());
    vec![
        Message::Hello { version: 1, genesis, tip: end },
        Message::Tip(end),
        Message::Fresh(Box::new(share)),
        Message::GetShares { request: 0x0102_0304, locator: vec![end.id, genesis] },
        Message::Shares {
            request: 7,
            tip: end,
            is_end: true,
            shares: vec![Encoded(encoded(1)), Encoded(encoded(2))],
        },
        Message::Pruned { request: 8, lowest: 9 },
        Message::GetBody(end.id),
        Message::Body(end.id, None),
        Message::Body(end.id, Some(sharechain::Body { locks: sheet(7, 0, 0).locks().to_vec() })),
        Message::Accusation(Box::new(accusation)),
        Message::GetHeader(unknown_block()),
        Message::Header(unknown_block(), None),
        Message::Header(unknown_block(), Some(header())),
    ]
}

#[test]
fn every_message_comes_back_as_it_was_and_no_other_bytes_make_it() {
    for message in all() {
        let bytes = message.encode();
        assert_eq!(Message::decode(&bytes).as_ref(), Ok(&message));
        for length in 0..bytes.len() {
            assert!(Message::decode(&bytes[..length]).is_err(), "{message:?} cut at {length}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(Message::decode(&longer).is_err());
        for at in 0..bytes.len().min(2_000) {
            let mut altered = bytes.clone();
            altered[at] ^= 0x41;
            if let Ok(other) = Message::decode(&altered) {
                assert_eq!(other.encode(), altered, "one encoding each");
                assert_ne!(other, message);
            }
        }
    }
}

/// The worked example of SYNC.md.
#[test]
fn the_bytes_are_those_of_the_document() {
    let tip = Tip { id: sharechain::ShareId::from_bytes([0xab; 32]), height: 5, total_work: Work::new(10) };
    let hello = Message::Hello { version: 1, genesis: sharechain::ShareId::from_bytes([0xcd; 32]), tip };
    let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (ab, cd) = ("ab".repeat(32), "cd".repeat(32));
    assert_eq!(hex(hello.encode()), format!("000100{cd}{ab}050000000a000000000000000000000000000000"));
    let ask = Message::GetShares { request: 258, locator: vec![tip.id] };
    assert_eq!(hex(ask.encode()), format!("030201000001{ab}"));
    let end = Message::Shares { request: 258, tip, is_end: true, shares: vec![] };
    assert_eq!(hex(end.encode()), format!("0402010000{ab}050000000a000000000000000000000000000000010000"));
    let document = include_str!("../../SYNC.md");
    for message in [hello, ask, end] {
        let example = hex(message.encode()).replace(&ab, "ab…").replace(&cd, "cd…");
        assert!(document.contains(&example), "{example}");
    }
}

#[test]
fn counts_beyond_the_bounds_are_refused() {
    let refused = |bytes: &[u8]| matches!(Message::decode(bytes), Err(BadMessage::Malformed(_)));
    let mut locator = vec![3, 0, 0, 0, 0, u8::try_from(MAX_LOCATOR).unwrap() + 1];
    locator.extend([0; 32 * (MAX_LOCATOR + 1)]);
    assert!(refused(&locator));
    assert!(refused(&[3, 0, 0, 0, 0, 0]), "and none at all");
    let mut shares = vec![4; 1];
    shares.extend([0; 4 + 52 + 1]);
    shares.extend(501_u16.to_le_bytes());
    shares.extend([0; 2 * 501]);
    assert!(refused(&shares));
    assert!(matches!(Message::decode(&vec![0; 10_000_000]), Err(BadMessage::TooLong(10_000_000))));
}

/// Messages, mangled, in any order, from many peers: nothing panics, nothing grows, and the honest pair beside it agrees.
#[test]
fn mangled_messages_harm_nobody_else() {
    let whole = chain(300);
    let mut world = World::new(vec![sharechain::Chain::new(params()), whole]);
    world.connect(0, 1);
    let messages: Vec<Vec<u8>> = all().iter().map(Message::encode).collect();
    let mut next = STRANGER;
    let mut dropped = 0;
    let mut peer = None;
    for _ in 0..4_000 {
        let at = peer.filter(|peer| world.nodes[0].has_peer(*peer)).unwrap_or_else(|| {
            next += 1;
            dropped += 1;
            let greeting = tip(world.nodes[0].chain());
            world.stranger(0, next, greeting)
        });
        peer = Some(at);
        let which = usize::try_from(world.below(messages.len() as u64)).unwrap();
        let mut bytes = messages[which].clone();
        for _ in 0..world.below(3) {
            let place = usize::try_from(world.below(bytes.len() as u64)).unwrap();
            bytes[place] = u8::try_from(world.below(256)).unwrap();
        }
        world.say_bytes(0, at, &bytes);
        let pause = world.below(100);
        world.pass(Duration::from_millis(pause));
    }
    assert!(dropped > 100, "{dropped}");
    assert!(world.agree());
    let most = world.most[0];
    assert!(most.shares <= 1_100 && most.bodies <= 8, "{most:?}");
}
