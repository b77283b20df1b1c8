//! The messages of the extension: every one through the codec, every byte of the examples as MESSAGES.md and PROTOCOL.md have it.
#![allow(clippy::unwrap_used)]

mod scene;

use bitcoin::hashes::Hash as _;
use bitcoin::hex::{DisplayHex as _, FromHex as _};
use bitcoin::{BlockHash, OutPoint, Txid};
use payout_channel::hasher;
use payout_channel::message::{
    BlockWon, CloseTerms, Code, KeyRevealed, Malformed, Message, NextHeight, Price, ShareCredited, Standing,
    is_authentic_reestablish, reestablish,
};
use payout_channel::transactions::close::{self, Close};
use scene::{B, Scene, sat};

const HANDSHAKE: [u8; 32] = [0x11; 32];

/// One of each, in the order of their numbers.
fn all(scene: &Scene) -> Vec<Message> {
    let id = scene.terms.id();
    let signed = scene.sign(5_000, &[(B, 100_000), (B + 1, 400)]);
    let asked =
        hasher::request(scene.terms.hasher_id, &scene.hasher, scene.terms.capacity, scene.terms.scheme);
    let asked = asked.unwrap().sign(&HANDSHAKE, &scene.hasher.funding, &scene.identity, &scene.secp);
    let outpoint = OutPoint::new(Txid::from_byte_array([9; 32]), 3);
    let price = Price { pays: sat(309_375_000), per: 1 << 80 };
    let close = CloseTerms { owed: sat(5_000), fee: sat(300), to: scene.elsewhere() };
    let agreed = Close { owed: close.owed, to: close.to.clone(), fee: close.fee };
    let closed = close::sign(&scene.funded, &agreed, &scene.hub.funding, &scene.secp).unwrap();
    let block = BlockHash::from_byte_array([6; 32]);
    vec![
        Message::Request(Box::new(asked)),
        Message::Accept(Box::new(scene.terms.clone())),
        Message::Funded(id, outpoint),
        Message::Locked(id),
        Message::NextHeight(id, Box::new(NextHeight { base: sat(400), price, signed: signed.clone() })),
        Message::ShareCredited(
            id,
            Box::new(ShareCredited { sequence: 77, shares: 3, work: 1 << 40, signed: signed.clone() }),
        ),
        Message::BlockWon(id, Box::new(BlockWon { height: B, block, signed: signed.clone() })),
        Message::KeyRevealed(
            id,
            Box::new(KeyRevealed { height: B, key: scene.key(B), signed: signed.clone() }),
        ),
        Message::Renewed(id, Box::new(signed.clone())),
        Message::Freeze(id),
        Message::Frozen(id),
        Message::RequestClose(id, close.clone()),
        Message::CloseSigned(id, close, closed),
        reestablish(id, 1, &HANDSHAKE, &scene.hasher.funding, &scene.secp),
        Message::Held(id, Box::new(signed)),
        Message::Reestablished(id, Standing::Open),
        Message::Error(id, Code::Rule, "R1: the pending of height 900000 would fall".to_owned()),
        Message::Recall(Box::new(scene.terms.clone()), outpoint),
    ]
}

#[test]
fn every_message_comes_through_and_none_that_is_cut_or_longer() {
    let scene = Scene::new();
    for (kind, message) in (0..).zip(all(&scene)) {
        let bytes = message.encode();
        assert_eq!(message.kind(), kind);
        assert_eq!(Message::decode(kind, &bytes).as_ref(), Ok(&message));
        for cut in 0..bytes.len() {
            assert!(Message::decode(kind, &bytes[..cut]).is_err(), "{kind} cut at {cut}");
        }
        assert_eq!(Message::decode(kind, &[bytes, vec![0]].concat()), Err(Malformed::Long(1)));
    }
    assert_eq!(Message::decode(0x12, &[]), Err(Malformed::Kind(0x12)));
}

#[test]
fn bytes_that_were_changed_are_an_error_or_another_message_that_encodes_to_them() {
    let scene = Scene::new();
    for message in all(&scene) {
        let bytes = message.encode();
        for place in 0..bytes.len() {
            for flip in [1, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[place] ^= flip;
                if let Ok(other) = Message::decode(message.kind(), &changed) {
                    assert_eq!(other.encode(), changed);
                    assert_ne!(other, message);
                }
            }
        }
    }
}

#[test]
fn lengths_are_bounded_before_they_are_used() {
    let scene = Scene::new();
    let id = scene.terms.id().0;
    let many = [&id[..], &[0; 20], &151_u16.to_le_bytes()].concat();
    assert_eq!(Message::decode(0x08, &many), Err(Malformed::Bounds("pendings")));
    let script = [&id[..], &[0; 16], &[43], &[0; 43]].concat();
    assert_eq!(Message::decode(0x0b, &script), Err(Malformed::Bounds("destination")));
    let shown = [&id[..], &1_025_u16.to_le_bytes(), &[0; 64]].concat();
    assert_eq!(Message::decode(0x0d, &shown), Err(Malformed::Bounds("states")));
    let rich = [&id[..], &u64::MAX.to_le_bytes(), &[0; 9]].concat();
    assert_eq!(Message::decode(0x0b, &rich), Err(Malformed::Amount(u64::MAX)));
    let long = Message::Error(scene.terms.id(), Code::Internal, "ä".repeat(200));
    let Ok(Message::Error(_, _, text)) = Message::decode(0x10, &long.encode()) else { unreachable!() };
    assert_eq!(text, "ä".repeat(127), "cut where a character ends");
}

#[test]
fn requests_and_re_establishments_hold_for_one_connection_and_one_key() {
    let scene = Scene::new();
    let messages = all(&scene);
    let Message::Request(asked) = &messages[0] else { unreachable!() };
    assert!(asked.is_authentic(&HANDSHAKE, &scene.secp));
    assert!(!asked.is_authentic(&[0x12; 32], &scene.secp));
    let mut other = asked.clone();
    other.capacity = sat(1);
    assert!(!other.is_authentic(&HANDSHAKE, &scene.secp));
    for key in [&scene.hasher.funding, &scene.hasher.pending] {
        let in_anothers_name = (**asked).clone().sign(&HANDSHAKE, &scene.hasher.funding, key, &scene.secp);
        assert!(!in_anothers_name.is_authentic(&HANDSHAKE, &scene.secp));
    }
    let Message::Reestablish(id, held, signature) = &messages[13] else { unreachable!() };
    let key = &scene.terms.hasher_funding;
    let authentic = |held, handshake: &[u8; 32], key| {
        is_authentic_reestablish(*id, held, signature, handshake, key, &scene.secp)
    };
    assert!(authentic(*held, &HANDSHAKE, key));
    assert!(!authentic(held + 1, &HANDSHAKE, key));
    assert!(!authentic(*held, &[0x12; 32], key));
    assert!(!authentic(*held, &HANDSHAKE, &scene.terms.hasher_pending));
}

/// Of MESSAGES.md: number, name and payload of each example. A line is a field's name, its bytes, and what they say.
fn examples() -> Vec<(u8, &'static str, Vec<u8>)> {
    let sections = include_str!("../MESSAGES.md").split("\n## ").skip(1);
    let example = |section: &'static str| {
        let (title, text) = section.split_once('\n').unwrap();
        let (kind, name) = title.split_once(' ').unwrap();
        let fields = text.split("```").nth(1).unwrap().lines().skip(1);
        let bytes = fields.map(|line| line.split("  ").filter(|part| !part.is_empty()).nth(1).unwrap());
        let hex: String = bytes.flat_map(str::split_whitespace).collect();
        (u8::from_str_radix(kind, 16).unwrap(), name, Vec::from_hex(&hex).unwrap())
    };
    sections.map(example).collect()
}

#[test]
fn every_message_has_an_example_that_decodes_to_it_and_encodes_back() {
    let (messages, examples) = (all(&Scene::new()), examples());
    assert_eq!(examples.len(), messages.len());
    for (message, (kind, name, bytes)) in messages.iter().zip(examples) {
        assert_eq!(message.encode().to_lower_hex_string(), bytes.to_lower_hex_string(), "{name}");
        assert_eq!(Message::decode(kind, &bytes).as_ref(), Ok(message));
        assert!(format!("{message:?}").starts_with(&format!("{name}(")), "{name}");
    }
}

/// What it lacks is printed.
#[test]
fn the_examples_are_those_of_the_protocol() {
    let scene = Scene::new();
    let text: String = include_str!("../PROTOCOL.md").split_whitespace().collect();
    let mut missing = Vec::new();
    for (name, bytes) in [
        ("id", scene.terms.id().0.to_vec()),
        ("terms", scene.terms.encode()),
        ("funding", scene.funding().script_pubkey.to_bytes()),
        ("pending", scene.terms.pending_output(B, scene.lock(B), &scene.secp).script_pubkey().to_bytes()),
        ("claim", {
            let signed = scene.sign(5_000, &[(B, 100_000), (B + 1, 400)]);
            bitcoin::consensus::serialize(&scene.template.unsigned(&signed.state).unwrap())
        }),
    ] {
        let hex = bytes.to_lower_hex_string();
        if !text.contains(&hex) {
            missing.push(format!("{name} {hex}"));
        }
    }
    assert!(missing.is_empty(), "PROTOCOL.md lacks:\n{}", missing.join("\n"));
}
