//! The exit kit: out of rows and a seed alone, in the hands of a stranger, with the hub gone.
#![allow(clippy::unwrap_used)]

mod pair;
mod scene;

use bitcoin::{Amount, Network, TxOut};
use pair::Pair;
use payout_channel::exit::{BadKit, ExitKit, NoExit};
use payout_channel::hasher::{self, Fate, PayoutChannel};
use payout_channel::keys::ChannelSeed;
use payout_channel::record::Record as _;
use payout_channel::{Params, State, fee, hub, signer};
use scene::{core_accepts, sat};

/// What is left of a hasher: bytes and a seed.
fn from_rows(pair: &Pair) -> PayoutChannel {
    let rows: Vec<Vec<u8>> = pair.hasher_rows.iter().map(hasher::Event::to_row).collect();
    let events: Vec<hasher::Event> = rows.iter().map(|row| hasher::Event::from_row(row).unwrap()).collect();
    PayoutChannel::restore(Params::PUBLIC, &events, &pair.secp).unwrap()
}

fn seed(pair: &Pair, byte: u8) -> ChannelSeed {
    ChannelSeed::new(&[byte; 32], Network::Bitcoin, &pair.secp).unwrap()
}

/// Something settled, one win whose key is out but not settled, one win that the hub never claimed.
fn owed() -> (Pair, u32) {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 40_000);
    pair.win();
    pair.merge();
    for _ in 0..99 {
        pair.lose();
    }
    pair.settle(height);
    let height = pair.tip() + 1;
    pair.next(height, 30_000);
    pair.win();
    pair.merge();
    pair.next(height + 1, 20_000);
    pair.win();
    pair.merge();
    pair.publish_key(height);
    (pair, height)
}

#[test]
fn rows_and_a_seed_get_everything_with_the_hub_gone_in_the_hands_of_a_stranger() {
    let (pair, height) = owed();
    let (to, channel) = (pair.elsewhere(), from_rows(&pair));
    let fate = |height| channel.fate(height, &pair.chain);
    let kit = ExitKit::new(&channel, &seed(&pair, 9), fate, &to, &pair.secp).unwrap();
    // From here on only the bundle, and blocks.
    let bundle = ExitKit::decode(&kit.encode()).unwrap();
    assert_eq!(bundle, kit);
    assert_eq!(bundle.before, scene::E - 432);
    assert!(core_accepts(&bundle.claim, &[pair.scene.funding()]));
    assert!(bundle.children.len() >= 7, "up to 100 sat/vB at least");
    for child in &bundle.children {
        let spent: Vec<TxOut> =
            child.transaction.input.iter().map(|input| spent_of(&bundle, input)).collect();
        assert!(core_accepts(&child.transaction, &spent));
        let paid: Amount = spent.iter().map(|output| output.value).sum::<Amount>() - child.value;
        let size = child.transaction.vsize() as u64;
        let together = paid + bundle.claim_fee;
        assert!(together.to_sat() >= child.sat_per_vb * (size + bundle.claim.vsize() as u64));
        assert!(child.transaction.output.iter().all(|output| output.script_pubkey == to));
    }
    assert_eq!(bundle.children[0].transaction.input.len(), 2, "the pending whose key is known");
    let second = bundle.pendings.iter().find(|pending| pending.height == height + 1).unwrap();
    let claim = &second.ladder[0].transaction;
    let spent = spent_of(&bundle, &claim.input[0]);
    assert!(!core_accepts(claim, std::slice::from_ref(&spent)), "its key is not known yet");
    assert_eq!(second.with_key(&pair.scene.key(height)), None);
    // The hub claims after all; the stranger sees the key in it.
    let win = pair.scene.won();
    let claim = payout_channel::transactions::coinbase::claim(
        &[(win, pair.scene.key(height + 1), pair.scene.claim_key)],
        &[],
        to,
        pair::rate(),
        &pair.secp,
    );
    let key = second.key_in(&claim.unwrap()).unwrap();
    for priced in second.with_key(&key).unwrap() {
        assert!(core_accepts(&priced.transaction, std::slice::from_ref(&spent)));
    }
    assert_eq!(second.until, scene::E.max(height + 1 + 4_032));
}

fn spent_of(kit: &ExitKit, input: &bitcoin::TxIn) -> TxOut {
    assert_eq!(input.previous_output.txid, kit.claim.compute_txid());
    kit.claim.output[input.previous_output.vout as usize].clone()
}

#[test]
fn at_least_all_that_is_owed_comes_out_less_fees() {
    let (pair, height) = owed();
    let channel = from_rows(&pair);
    let kit = ExitKit::new(&channel, &seed(&pair, 9), |_| Fate::Pays, &pair.elsewhere(), &pair.secp).unwrap();
    let last = kit.pendings.iter().find(|pending| pending.height == height + 1).unwrap();
    let got = kit.children[0].value + last.ladder[0].value;
    assert_eq!(channel.owed(&pair.chain), sat(40_000 + 30_000 + 20_000));
    let fees = sat(101 + 111 + 155 + 3);
    assert!(got + fees >= channel.owed(&pair.chain), "{got}");
    assert!(got <= channel.owed(&pair.chain) + fee::reserve(Params::PUBLIC.max_pendings));
}

#[test]
fn without_a_chain_to_ask_a_win_that_the_hub_merged_counts_more_than_a_larger_pending_that_was_lost() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 100_000);
    pair.lose();
    pair.next(height + 1, 40_000);
    pair.win();
    pair.merge();
    pair.next(height + 2, 30_000);
    let channel = from_rows(&pair);
    let stored = |height| channel.stored_fate(height);
    let kit = ExitKit::new(&channel, &seed(&pair, 9), stored, &pair.elsewhere(), &pair.secp).unwrap();
    let heights: Vec<u32> = kit.pendings.iter().map(|pending| pending.height).collect();
    assert_eq!(heights, [height + 1, height + 2]);
}

#[test]
fn a_kit_of_each_state_lets_a_stranger_choose_by_the_keys_that_come_out() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 100_000);
    let held = pair.hasher.best(&pair.chain).unwrap().state.clone();
    // A lying hub offers a satoshi instead of what may be won.
    let bribe = State { number: held.number + 1, settled: sat(1), pendings: Vec::new(), ..held };
    pair.take(&pair.sign_anything(bribe)).unwrap();
    let (channel, to) = (from_rows(&pair), pair.elsewhere());
    let kits = ExitKit::each(&channel, &seed(&pair, 9), |_| Fate::Open, &to, &pair.secp).unwrap();
    assert_eq!(kits.len(), 2);
    assert!(kits.iter().all(|kit| core_accepts(&kit.claim, &[pair.scene.funding()])));
    let best = |keys: &[lock::Key]| {
        let best = kits.iter().max_by_key(|kit| kit.worth(keys)).unwrap();
        best.pendings.iter().map(|pending| pending.height).collect::<Vec<_>>()
    };
    assert_eq!(best(&[pair.scene.key(height)]), [height], "the key came out");
    assert_eq!(best(&[]), [0_u32; 0], "it never came");
    let by_new = ExitKit::new(&channel, &seed(&pair, 9), |_| Fate::Open, &to, &pair.secp).unwrap();
    assert_eq!(kits[0], by_new, "the best first");
}

#[test]
fn without_a_chain_to_ask_the_keys_that_are_stored_tell_what_was_won() {
    let (pair, height) = owed();
    let channel = from_rows(&pair);
    let stored = |height| channel.stored_fate(height);
    let kit = ExitKit::new(&channel, &seed(&pair, 9), stored, &pair.elsewhere(), &pair.secp).unwrap();
    assert!(kit.pendings.iter().any(|pending| pending.height == height));
}

#[test]
fn a_kit_is_of_the_state_that_the_hasher_would_publish_also_while_heights_are_open() {
    let (mut pair, height) = owed();
    pair.next(height + 2, 15_000);
    let best = pair.hasher.best(&pair.chain).unwrap().state.clone();
    assert_eq!(best.pending(height + 2), sat(15_000), "it may yet be won");
    let (channel, to) = (from_rows(&pair), pair.elsewhere());
    let by_chain = |height| channel.fate(height, &pair.chain);
    let stored = |height| channel.stored_fate(height);
    let kits = [
        ExitKit::new(&channel, &seed(&pair, 9), by_chain, &to, &pair.secp).unwrap(),
        ExitKit::new(&channel, &seed(&pair, 9), stored, &to, &pair.secp).unwrap(),
    ];
    for kit in kits {
        assert_eq!(
            channel.template().unwrap().unsigned(&best).unwrap().compute_txid(),
            kit.claim.compute_txid()
        );
    }
}

#[test]
fn another_seed_or_nothing_signed_gives_no_kit() {
    let (pair, _) = owed();
    let to = pair.elsewhere();
    let other = ExitKit::new(&from_rows(&pair), &seed(&pair, 10), |_| Fate::Pays, &to, &pair.secp);
    assert!(matches!(other, Err(NoExit::OtherSeed)));
    let fresh = Pair::open();
    let none = ExitKit::new(&from_rows(&fresh), &seed(&fresh, 9), |_| Fate::Pays, &to, &fresh.secp);
    assert!(matches!(none, Err(NoExit::NoState)));
}

#[test]
fn a_claim_in_the_chain_tells_its_state() {
    let (pair, height) = owed();
    let template = pair.hasher.template().unwrap();
    for held in pair.hasher.held() {
        let claim = template.signed(held, &pair.scene.hasher.funding, &pair.secp).unwrap();
        let lock = |height| Some(pair.scene.lock(height));
        let read = |signed: &[State], heights: std::ops::Range<u32>| {
            template.state_of(&claim, signed, heights, lock, &pair.secp)
        };
        let expected = State { height: 0, ..held.state.clone() };
        assert_eq!(read(&[], height - 200..height + 9).as_ref(), Some(&expected));
        let other = State { pendings: Vec::new(), ..held.state.clone() };
        assert_eq!(read(&[other, held.state.clone()], 0..0).as_ref(), Some(&expected), "as it is known");
        assert_eq!(read(&[], height + 9..height + 10).is_some(), expected.pendings.is_empty());
    }
}

#[test]
fn every_row_comes_back_and_no_other_bytes_do() {
    let (mut pair, _) = owed();
    pair.hasher.freeze(&pair.secp).unwrap().save(&mut pair.hasher_rows).unwrap();
    pair.hasher.leave(&pair.secp).save(&mut pair.hasher_rows).unwrap();
    pair.hub.freeze::<()>().unwrap().save(&mut pair.hub_rows).unwrap();
    for row in &pair.hub_rows {
        assert_eq!(hub::Event::from_row(&row.to_row()).as_ref(), Ok(row));
    }
    for row in pair.signer.store() {
        assert_eq!(signer::Event::from_row(&row.to_row()).as_ref(), Ok(row));
    }
    for row in &pair.hasher_rows {
        let bytes = row.to_row();
        assert_eq!(hasher::Event::from_row(&bytes).as_ref(), Ok(row));
        for cut in 0..bytes.len() {
            assert!(hasher::Event::from_row(&bytes[..cut]).is_err());
        }
        assert!(hasher::Event::from_row(&[bytes.clone(), vec![0]].concat()).is_err());
        assert!(hasher::Event::from_row(&[&[2], &bytes[1..]].concat()).is_err(), "another version");
    }
}

#[test]
fn a_bundle_that_is_cut_or_longer_is_none() {
    let (pair, _) = owed();
    let kit = ExitKit::new(&from_rows(&pair), &seed(&pair, 9), |_| Fate::Pays, &pair.elsewhere(), &pair.secp)
        .unwrap();
    let bytes = kit.encode();
    for cut in (0..bytes.len()).step_by(97) {
        assert!(ExitKit::decode(&bytes[..cut]).is_err());
    }
    assert!(ExitKit::decode(&[bytes, vec![0]].concat()).is_err());
}

#[test]
fn a_bundle_whose_transactions_have_no_place_for_a_key_is_refused_and_ends_nobody() {
    let (pair, height) = owed();
    let kit = ExitKit::new(&from_rows(&pair), &seed(&pair, 9), |_| Fate::Pays, &pair.elsewhere(), &pair.secp)
        .unwrap();
    let place = kit.pendings.iter().position(|pending| pending.height == height + 1).unwrap();
    let change = |change: &dyn Fn(&mut bitcoin::TxIn)| {
        let mut kit = kit.clone();
        change(&mut kit.pendings[place].ladder[0].transaction.input[0]);
        let refused = ExitKit::decode(&kit.encode());
        assert!(matches!(refused, Err(BadKit::NoPlaceForKey(of)) if of == height + 1), "{refused:?}");
        let filled = kit.pendings[place].with_key(&pair.scene.key(height + 1)).unwrap();
        assert_eq!(filled.len(), kit.pendings[place].ladder.len() - 1);
    };
    change(&|input| input.witness = bitcoin::Witness::new());
    change(&|input| input.witness = bitcoin::Witness::from_slice(&[[0; 31]]));
    let mut two = kit.clone();
    let input = two.pendings[place].ladder[0].transaction.input[0].clone();
    two.pendings[place].ladder[0].transaction.input.push(input);
    assert!(ExitKit::decode(&two.encode()).is_err());
}
