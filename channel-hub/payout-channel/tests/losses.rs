//! What must not be lost: when a close or claim does not stay in the chain, when rows are gone, when one message is half right.
#![allow(clippy::unwrap_used)]

mod pair;
mod scene;

use bitcoin::{Amount, OutPoint, Transaction, Witness};
use pair::{Pair, block, rate, transaction};
use payout_channel::hasher::{self, Fate, Heard, NoLife, PayoutChannel, Publish, Refused, Taken};
use payout_channel::hub::{self, Credit};
use payout_channel::keys::public;
use payout_channel::message::{CloseTerms, KeyRevealed, Message, Price, Standing};
use payout_channel::record::Record as _;
use payout_channel::rules::Broken;
use payout_channel::signer::{self, Refusal};
use payout_channel::terms::{BadTerms, Scheme};
use payout_channel::{
    Durability, FundedTerms, Params, Pending, SignedState, Signer as _, State, Store, Terms, Watcher,
};
use scene::{E, sat};

/// 5,000 sat are settled, nothing is open, and the hub has signed a close that the hasher took.
fn closed() -> (Pair, Transaction) {
    let mut pair = Pair::open_by(Scheme::Pps);
    let height = pair.tip() + 1;
    pair.next(height, 0);
    pair.credit(height, 5_000);
    let _ = pair.hasher.freeze(&pair.secp).unwrap().save(&mut pair.hasher_rows).unwrap();
    pair.hub.freeze::<()>().unwrap().save(&mut pair.hub_rows).unwrap();
    let asked = pair.hasher.request_close(pair.elsewhere(), sat(300), &pair.chain).unwrap();
    let Message::RequestClose(_, asked) = asked else { unreachable!() };
    let signed = pair.hub.close(&asked, &mut pair.signer).unwrap().save(&mut pair.hub_rows).unwrap();
    let Message::CloseSigned(_, asked, signature) = signed else { unreachable!() };
    let key = pair.scene.hasher.funding;
    let close = pair.hasher.close(&asked, &signature, &key, &pair.chain, &pair.secp).unwrap();
    let close = close.save(&mut pair.hasher_rows).unwrap();
    (pair, close)
}

fn from_rows(pair: &Pair) -> PayoutChannel {
    let rows = pair.hasher_rows.iter().map(|row| hasher::Event::from_row(&row.to_row()).unwrap());
    PayoutChannel::restore(Params::PUBLIC, &rows.collect::<Vec<_>>(), &pair.secp).unwrap()
}

fn publishes(pair: &Pair) -> Option<Publish> {
    let due = pair.hasher.must_publish(&pair.chain)?;
    assert!(due.is_due(pair.tip()) && due.by == Some(E), "valid at once, and by E");
    Some(due.what)
}

#[test]
fn a_close_is_published_until_it_is_six_deep_and_again_when_a_reorganisation_takes_it_back() {
    let (mut pair, close) = closed();
    assert_eq!(pair.hasher.standing(), Standing::Closed);
    assert_eq!(pair.hasher.must_close(&pair.chain), None);
    assert_eq!(publishes(&pair), Some(Publish::Close));
    block(&mut pair.chain, None, std::slice::from_ref(&close));
    for _ in 0..5 {
        assert_eq!(publishes(&pair), Some(Publish::Close));
        block(&mut pair.chain, None, &[]);
    }
    assert_eq!(publishes(&pair), None, "six deep");
    if let Some(spent) = pair.hasher.spent(&pair.chain, &pair.secp) {
        spent.save(&mut pair.hasher_rows).unwrap();
    }
    for _ in 0..6 {
        let tip = pair.tip();
        pair.chain.disconnected(tip).unwrap();
    }
    assert_eq!(publishes(&pair), Some(Publish::Close), "taken back");
    let again = from_rows(&pair);
    assert_eq!(again.must_publish(&pair.chain).unwrap().what, Publish::Close);
    let key = pair.scene.hasher.funding;
    assert_eq!(again.agreed_close(&key, &pair.secp), Some(close));
}

#[test]
fn a_close_that_is_asked_for_again_is_signed_again_and_costs_no_rows() {
    let (mut pair, _) = closed();
    let rows = (pair.hub_rows.len(), pair.signer.store().len());
    for fee in [300, 400] {
        let asked = CloseTerms { owed: sat(5_000), fee: sat(fee), to: pair.elsewhere() };
        let signed = pair.hub.close(&asked, &mut pair.signer).unwrap().save(&mut pair.hub_rows).unwrap();
        assert!(matches!(signed, Message::CloseSigned(_, of, _) if of == asked));
    }
    assert_eq!((pair.hub_rows.len(), pair.signer.store().len()), rows);
}

#[test]
fn a_close_that_no_block_takes_gives_way_to_the_claim_before_the_hub_can_take_the_funding() {
    let (mut pair, _) = closed();
    pair.wait_until(E - 433);
    assert_eq!(publishes(&pair), Some(Publish::Close));
    pair.wait_until(E - 432);
    assert_eq!(publishes(&pair), Some(Publish::Claim));
    assert_eq!(pair.hasher.best(&pair.chain).unwrap().state.settled, sat(5_000));
    pair.hasher.leave(&pair.secp).save(&mut pair.hasher_rows).unwrap();
    assert!(pair.hasher.leave(&pair.secp).events().is_empty(), "once");
    assert_eq!(from_rows(&pair).agreed_close(&pair.scene.hasher.funding, &pair.secp), None);
}

#[test]
fn a_claim_that_a_reorganisation_takes_back_is_published_again() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    pair.hasher.leave(&pair.secp).save(&mut pair.hasher_rows).unwrap();
    (0..6).for_each(|_| pair.lose());
    assert_eq!(publishes(&pair), Some(Publish::Claim));
    let best = pair.hasher.best(&pair.chain).unwrap();
    let key = pair.scene.hasher.funding;
    let claim = pair.hasher.template().unwrap().signed(best, &key, &pair.secp).unwrap();
    block(&mut pair.chain, None, &[claim]);
    pair.chain.disconnected(height + 6).unwrap();
    assert_eq!(publishes(&pair), Some(Publish::Claim));
}

#[test]
fn a_claim_waits_until_it_is_certain_which_heights_were_won_unless_the_end_is_near() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    pair.next(height + 1, 20_000);
    pair.hasher.leave(&pair.secp).save(&mut pair.hasher_rows).unwrap();
    for _ in 0..7 {
        assert_eq!(publishes(&pair), None, "either may be won");
        pair.lose();
    }
    assert_eq!(publishes(&pair), Some(Publish::Claim));
    let mut late = Pair::open();
    late.wait_until(E - 433);
    let height = late.tip() + 1;
    let pendings = vec![Pending { height, amount: sat(10_000) }];
    let open = State { number: 1, height, settled_to: 0, settled: Amount::ZERO, pendings };
    late.take(&late.sign_anything(open)).unwrap();
    late.hasher.leave(&late.secp).save(&mut late.hasher_rows).unwrap();
    assert_eq!(publishes(&late), None);
    late.wait_until(E - 432);
    assert_eq!(publishes(&late), Some(Publish::Claim));
}

/// A hasher that left with states for two heights in a row, both won; the second is worth more.
fn left_before_two_wins() -> (Pair, u32) {
    let mut pair = Pair::open();
    let first = pair.tip() + 1;
    pair.next(first, 10_000);
    pair.next(first + 1, 20_000);
    pair.hasher.leave(&pair.secp).save(&mut pair.hasher_rows).unwrap();
    (0..2).for_each(|_| pair.win());
    (pair, first)
}

/// The council takes the coin of a win.
fn sweep(pair: &mut Pair, height: u32) {
    let coin = pair.chain.win(height).unwrap().outpoint;
    block(&mut pair.chain, None, &[transaction(&[(coin, Witness::new())], Vec::new(), height)]);
}

#[test]
fn of_two_wins_in_a_row_the_claim_is_for_the_one_that_the_hub_claims() {
    let (mut pair, first) = left_before_two_wins();
    pair.publish_key(first);
    let mut asleep = pair.clone_chain();
    pair.wait_until(first + 1 + 1_008);
    assert_eq!(publishes(&pair), None, "hub or council may take the other");
    sweep(&mut pair, first + 1);
    assert_eq!(publishes(&pair), Some(Publish::Claim));
    let best = &pair.hasher.best(&pair.chain).unwrap().state;
    assert_eq!((best.pending(first), best.pending(first + 1)), (sat(10_000), sat(0)));
    std::mem::swap(&mut asleep, &mut pair.chain);
    pair.wait_until(first + 1 + 3_599);
    assert_eq!(publishes(&pair), None);
    pair.wait_until(first + 1 + 3_600);
    assert_eq!(publishes(&pair), Some(Publish::Claim), "nobody takes the other");
    assert_eq!(pair.hasher.best(&pair.chain).unwrap().state.pending(first), sat(10_000));
}

/// A hub that signed, beside the state for a win, one that has a satoshi more without condition and not the win, and does not claim
/// before the council may.
fn given_a_satoshi_for_a_win() -> (Pair, u32) {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 50_000);
    let gift = State { number: 2, height, settled_to: 0, settled: sat(1), pendings: Vec::new() };
    pair.take(&pair.sign_anything(gift)).unwrap();
    pair.win();
    pair.wait_until(height + 1_008);
    pair.hasher.leave(&pair.secp).save(&mut pair.hasher_rows).unwrap();
    (pair, height)
}

#[test]
fn a_hub_that_is_faster_than_a_slow_council_does_not_buy_a_win_for_a_satoshi() {
    let (mut pair, height) = given_a_satoshi_for_a_win();
    assert_eq!(publishes(&pair), None, "hub or council: somebody will take the coin");
    pair.publish_key(height);
    assert_eq!(publishes(&pair), Some(Publish::Claim));
    assert_eq!(pair.hasher.best(&pair.chain).unwrap().state.pending(height), sat(50_000));
}

#[test]
fn what_the_council_repays_is_not_given_up_other_money_for() {
    let (mut pair, height) = given_a_satoshi_for_a_win();
    sweep(&mut pair, height);
    assert_eq!(publishes(&pair), Some(Publish::Claim));
    assert_eq!(pair.hasher.best(&pair.chain).unwrap().state.settled, sat(1));
}

#[test]
fn of_two_wins_in_a_row_whose_keys_are_out_the_claim_is_for_the_better_one_at_once() {
    let (mut pair, first) = left_before_two_wins();
    (0..6).for_each(|_| pair.lose());
    pair.publish_key(first);
    assert_eq!(publishes(&pair), None);
    pair.publish_key(first + 1);
    assert_eq!(publishes(&pair), Some(Publish::Claim));
    assert_eq!(pair.hasher.best(&pair.chain).unwrap().state.pending(first + 1), sat(20_000));
}

#[test]
fn a_close_in_the_rows_that_the_hub_did_not_sign_is_named() {
    let (pair, _) = closed();
    let mut rows = pair.hasher_rows.clone();
    let row = rows.len() - 1;
    let hasher::Event::CloseSigned(close, _) = &mut rows[row] else { unreachable!() };
    close.owed = sat(4_999);
    let refused = PayoutChannel::restore(Params::PUBLIC, &rows, &pair.secp).unwrap_err();
    assert!(matches!(refused, hasher::BrokenRow::Close(at, _) if at == row));
}

#[test]
fn a_key_counts_after_a_restart_though_the_state_beside_it_was_refused() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    pair.win();
    pair.merge();
    let state = pair.hasher.state_for(height + 1).unwrap().clone();
    let unpaid = State { number: state.number + 1, settled_to: height, pendings: Vec::new(), ..state };
    let revealed = KeyRevealed { height, key: pair.scene.key(height), signed: pair.sign_anything(unpaid) };
    let message = Message::KeyRevealed(pair.hub.id(), Box::new(revealed));
    let (lock, keys) = (|height| Some(pair.scene.lock(height)), pair.scene.hasher.clone());
    let heard = pair.hasher.handle(0, &message, lock, &keys, &pair.chain, &pair.secp).unwrap();
    let heard = heard.save(&mut pair.hasher_rows).unwrap();
    assert!(matches!(heard, Heard::KeyOnly(Refused::Broken(Broken::SettledFalls { .. }))));
    assert_eq!(pair.hasher.stored_key(height), Some(pair.scene.key(height)));
    assert_eq!(from_rows(&pair).stored_key(height), Some(pair.scene.key(height)));
}

#[test]
fn states_that_are_shown_count_together_or_not_at_all() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    let shown: Vec<SignedState> = pair.hasher.held().to_vec();
    pair.lose_the_hubs_data();
    let (before, rows) = (pair.hub.clone(), pair.signer.store().len());
    let mut forged = shown[0].clone();
    forged.state.settled = sat(77);
    let refused = pair.hub.adopt(&[shown[0].clone(), forged], &pair.chain, &mut pair.signer);
    assert!(refused.is_err());
    assert_eq!((&pair.hub, pair.signer.store().len()), (&before, rows));
    let next = pair.hub.next_height(height + 2, sat(1), Price::default(), &pair.chain, &mut pair.signer);
    assert!(matches!(next, Err(hub::Refused::NotShown)));
}

#[test]
fn no_state_settles_what_a_reorganisation_that_is_survived_could_still_make_a_win() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    for _ in 0..99 {
        pair.lose();
        let state = pair.hasher.held()[0].state.clone();
        let gone = State { number: state.number + 1, settled_to: height, pendings: Vec::new(), ..state };
        let refused = pair.take(&pair.sign_anything(gone.clone()));
        assert_eq!(refused, Err(Refused::Broken(Broken::SettledNotFinal(height))));
        let id = pair.hub.id();
        assert!(pair.signer.sign_state(id, &gone).is_err(), "nor does the signer sign it");
    }
    for _ in 0..99 {
        pair.disconnect();
    }
    pair.win();
    pair.merge();
    assert_eq!(pair.hasher.owed(&pair.chain), sat(10_000));
    assert_eq!(pair.hasher.best(&pair.chain).unwrap().state.pending(height), sat(10_000));
}

#[test]
fn a_hub_that_lost_rows_and_is_shown_nothing_signs_for_no_height_that_it_may_have_signed_for() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    let id = pair.hub.id();
    pair.lose_the_hubs_data();
    pair.hub.adopt(&[], &pair.chain, &mut pair.signer).unwrap().save(&mut pair.hub_rows).unwrap();
    for quiet in [height, height + 1] {
        pair.expect(quiet);
        let next = pair.hub.next_height(quiet, sat(1), Price::default(), &pair.chain, &mut pair.signer);
        assert!(matches!(next, Err(hub::Refused::NotNow { .. })));
        let credit = Credit { height: quiet, amount: sat(1), ..Credit::default() };
        assert!(pair.hub.credit(credit, &pair.chain, &mut pair.signer).is_err());
        let pendings = vec![Pending { height: quiet, amount: sat(1) }];
        let state = State { number: 9, height: quiet, settled_to: 0, settled: Amount::ZERO, pendings };
        let refused = pair.signer.sign_state(id, &state);
        assert!(matches!(refused, Err(Refusal::PerhapsSigned(of)) if of == quiet), "whoever asks");
    }
    pair.hub = hub::PayoutChannel::restore(Params::PUBLIC, &pair.hub_rows).unwrap();
    pair.hub.adopt(&[], &pair.chain, &mut pair.signer).unwrap().save(&mut pair.hub_rows).unwrap();
    let next = pair.hub.next_height(height, sat(1), Price::default(), &pair.chain, &mut pair.signer);
    assert!(matches!(next, Err(hub::Refused::NotNow { .. })), "after another start as well");
    pair.lose();
    pair.hub_next(height + 2, 5);
}

#[test]
fn a_signer_that_lost_its_memory_claims_a_win_whose_key_is_out_however_late() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    pair.win();
    let (rows, memory) = (pair.hub_rows.len(), pair.signer.store().len());
    (1..Params::PUBLIC.maturity).for_each(|_| pair.lose());
    let to = pair.elsewhere();
    let claim = pair.signer.claim(&[height], &[], to.clone(), rate()).unwrap();
    pair.put_back_the_hub(rows, memory);
    (Params::PUBLIC.maturity..=Params::PUBLIC.last_reveal()).for_each(|_| pair.lose());
    let late = pair.signer.claim(&[height], &[], to.clone(), rate());
    assert!(matches!(late, Err(Refusal::Broken(Broken::TooLate { .. }))));
    pair.signer.chain().unconfirmed(&claim);
    assert_eq!(pair.signer.claim(&[height], &[], to, rate()).unwrap(), claim);
}

#[test]
fn a_signer_that_lost_its_memory_settles_a_win_whose_key_a_block_shows_and_raises_it_no_more() {
    let mut pair = Pair::open();
    let (height, id) = (pair.tip() + 1, pair.hub.id());
    pair.next(height, 10_000);
    pair.win();
    pair.merge();
    let (rows, memory) = (pair.hub_rows.len(), pair.signer.store().len());
    (1..Params::PUBLIC.maturity).for_each(|_| pair.lose());
    let to = pair.elsewhere();
    let claim = pair.signer.claim(&[height], &[], to, rate()).unwrap();
    pair.put_back_the_hub(rows, memory);
    block(pair.signer.chain(), None, std::slice::from_ref(&claim));
    block(&mut pair.chain, None, &[claim]);
    pair.hub
        .adopt(pair.hasher.held(), &pair.chain, &mut pair.signer)
        .unwrap()
        .save(&mut pair.hub_rows)
        .unwrap();
    let last = pair.signer.account(id).unwrap().number;
    let pendings = vec![Pending { height, amount: sat(10_001) }];
    let more =
        State { number: last + 1, height: height + 101, settled_to: 0, settled: Amount::ZERO, pendings };
    let refused = pair.signer.sign_state(id, &more);
    assert!(matches!(refused, Err(Refusal::Broken(Broken::PendingFinal(of))) if of == height), "{refused:?}");
    let key = pair.chain.key(height).unwrap().key;
    let settled = pair.hub.settle(height, key, &pair.chain, &mut pair.signer).unwrap();
    for message in settled.save(&mut pair.hub_rows).unwrap() {
        pair.deliver(&message).unwrap();
    }
    assert_eq!(pair.hasher.account().settled, sat(10_000));
    let account = pair.signer.account(id).cloned();
    pair.put_back_the_hub(pair.hub_rows.len(), pair.signer.store().len());
    assert_eq!(pair.signer.account(id).cloned(), account, "out of its rows");
}

/// Terms that a hasher changed: the funding is the same, and so are all its scripts.
fn changed(pair: &Pair) -> [Terms; 3] {
    let terms = &pair.scene.terms;
    [
        Terms { fee_ppm: 0, ..terms.clone() },
        Terms { scheme: Scheme::Pps, ..terms.clone() },
        Terms { hasher_id: public(&pair.scene.council[0]), ..terms.clone() },
    ]
}

#[test]
fn terms_that_were_changed_are_no_hubs_terms_whether_it_remembers_the_right_ones_or_not() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    let (shown, funded) = (pair.hasher.held().to_vec(), pair.hub.funded_terms().unwrap());
    for forgets in [false, true] {
        if forgets {
            pair.forget_the_hubs_payout_channels();
        }
        for terms in changed(&pair) {
            assert_eq!(terms.funding(&pair.secp), funded.terms.funding(&pair.secp));
            let id = terms.id();
            let refused = pair.signer.open(FundedTerms { terms, ..funded });
            assert!(matches!(refused, Err(Refusal::NotOurTerms)), "{refused:?}");
            assert!(pair.signer.adopt(id, &shown).is_err());
        }
        pair.signer.open(funded.clone()).unwrap();
    }
    pair.signer.adopt(funded.terms.id(), &shown).unwrap();
    assert_eq!(pair.signer.sum(height), sat(10_000));
}

#[test]
fn nothing_is_recalled_by_terms_of_another_network() {
    let mut pair = Pair::open();
    let (terms, outpoint) = (pair.scene.terms.clone(), pair.hub.outpoint().unwrap());
    pair.forget_the_hubs_payout_channels();
    let elsewhere = OutPoint { vout: 9, ..outpoint };
    for (terms, what) in [
        (Terms { refund: 1, ..terms.clone() }, "refund of pendings"),
        (Terms { max_pendings: 150, ..terms.clone() }, "number of pendings"),
        (Terms { magic: [1; 4], ..terms }, "magic"),
    ] {
        let recalled =
            hub::PayoutChannel::recalled(Params::PUBLIC, terms.clone(), elsewhere, &pair.chain, &pair.secp);
        assert_eq!(recalled.is_err(), what != "magic", "the signer has that");
        let refused = pair.signer.open(FundedTerms { terms, outpoint: elsewhere });
        assert!(matches!(refused, Err(Refusal::Terms(BadTerms::Network(of))) if of == what));
    }
}

/// How safe each commit was.
#[derive(Default)]
struct Commits(Vec<Durability>);

impl Store<signer::Event> for Commits {
    type Error = ();

    fn append(&mut self, _: &signer::Event) -> Result<(), ()> {
        Ok(())
    }

    fn commit(&mut self, durability: Durability) -> Result<(), ()> {
        self.0.push(durability);
        Ok(())
    }
}

#[test]
fn the_signer_syncs_once_for_each_height() {
    let mut pair = Pair::open();
    let (height, id) = (pair.tip() + 1, pair.hub.id());
    for at in height..height + 3 {
        pair.expect(at);
    }
    let mut signer = pair.signer.with_store(Commits::default());
    let mut number = 0;
    for at in [height, height, height + 1, height, height + 1, height + 2] {
        number += 1;
        let pendings = vec![Pending { height: at, amount: sat(number.into()) }];
        let state = State { number, height: at, settled_to: 0, settled: Amount::ZERO, pendings };
        signer.sign_state(id, &state).unwrap();
    }
    let (power, process) = (Durability::Power, Durability::Process);
    assert_eq!(signer.store().0, [power, process, power, process, process, power]);
}

#[test]
fn a_hasher_that_lost_its_data_takes_a_key_with_a_new_view_of_the_chain() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    pair.win();
    pair.merge();
    (1..Params::PUBLIC.maturity).for_each(|_| pair.lose());
    let claim = pair.signer.claim(&[height], &[], pair.scene.elsewhere(), rate()).unwrap();
    pair.chain.unconfirmed(&claim);
    let key = pair.chain.key(height).unwrap().key;
    let settled = pair.hub.settle(height, key, &pair.chain, &mut pair.signer).unwrap();
    let told = settled.save(&mut pair.hub_rows).unwrap();
    pair.lose_the_hashers_data();
    let chain = Watcher::new(pair.tip(), Params::PUBLIC.council);
    let lock = |height| Some(pair.scene.lock(height));
    let heard = pair.hasher.handle(0, &told[0], lock, &pair.scene.hasher, &chain, &pair.secp).unwrap();
    assert_eq!(heard.save(&mut pair.hasher_rows).unwrap(), Heard::State(Taken::Counts));
    assert_eq!((pair.hasher.account().settled, pair.hasher.stored_key(height)), (sat(10_000), Some(key)));
}

#[test]
fn a_hasher_that_begins_to_watch_after_a_win_gives_nothing_away_that_may_have_been_won() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    pair.win();
    pair.merge();
    (0..Params::PUBLIC.kept + 1).for_each(|_| pair.lose());
    pair.chain = Watcher::new(pair.tip(), Params::PUBLIC.council);
    pair.put_back_the_hasher(pair.hasher_rows.len());
    let (number, next) = (pair.hasher.account().number + 1, pair.tip() + 1);
    let settled = Amount::ZERO;
    let lie = State { number, height: next, settled_to: height, settled, pendings: Vec::new() };
    let refused = pair.take(&pair.sign_anything(lie)).unwrap_err();
    assert!(refused == Refused::Unseen(height) && refused.is_ahead());
    assert_eq!(pair.hasher.account().promised(height), sat(10_000));
    assert_eq!(pair.hasher.fate(height, &pair.chain), Fate::Open);
    let _ = pair.hasher.freeze(&pair.secp).unwrap().save(&mut pair.hasher_rows).unwrap();
    let asked = pair.hasher.request_close(pair.elsewhere(), sat(300), &pair.chain);
    assert_eq!(asked, Err(NoLife::Open(height)));
}
