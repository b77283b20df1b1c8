//! Both ends of a payout channel, driven as a pair over a chain of blocks: from the request to the close, with losses of messages
//! and of data between.
#![allow(clippy::unwrap_used)]

mod pair;
mod scene;

use bitcoin::{Amount, TxOut};
use pair::{CAPACITY, Pair};
use payout_channel::hasher::{Idle, Taken, WhyClose};
use payout_channel::hub::{self, Credit, Refused};
use payout_channel::message::{Message, Price, Standing};
use payout_channel::rules::Broken;
use payout_channel::signer::Refusal;
use payout_channel::watcher::Expected;
use payout_channel::{Params, Pending, SignedState, State, hasher};
use scene::sat;

#[test]
fn work_is_credited_won_revealed_and_settled_and_every_step_adds_up() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    assert_eq!(pair.may_work(0), Ok(()));
    for _ in 0..3 {
        pair.credit(height, 500);
    }
    assert_eq!(pair.hasher.account().promised(height), sat(11_500));
    pair.next(height + 1, 9_000);
    pair.win();
    assert_eq!(pair.may_work(0), Ok(()), "a moment is granted");
    pair.merge();
    let merged = pair.hasher.state_for(height + 1).unwrap();
    assert_eq!((merged.pending(height), merged.pending(height + 1)), (sat(11_500), sat(9_000)));
    assert_eq!(pair.may_work(60_000), Ok(()));
    pair.raise(height, 11_700);
    for _ in 0..98 {
        pair.lose();
        let next = pair.tip() + 1;
        pair.next(next, 0);
    }
    assert!(pair.signer.claim(&[height], &[], pair.elsewhere(), pair::rate()).is_err(), "99 confirmations");
    pair.lose();
    pair.settle(height);
    assert_eq!(pair.hasher.account().settled, sat(11_700));
    assert_eq!(pair.hasher.account().promised(height), Amount::ZERO);
    assert_eq!(pair.hub.account(), pair.hasher.account());
}

#[test]
fn the_hasher_stops_five_seconds_after_a_win_that_is_not_merged() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    pair.next(height + 1, 10_000);
    pair.now = 1_000;
    pair.win();
    assert_eq!(pair.may_work(5_999), Ok(()));
    assert_eq!(pair.hasher.poll_timeout(&pair.chain), Some(6_000));
    assert_eq!(pair.may_work(6_000), Err(Idle::MissingWin(height)));
    pair.merge();
    assert_eq!(pair.may_work(6_000), Ok(()));
    assert_eq!(pair.hasher.poll_timeout(&pair.chain), None);
}

#[test]
fn no_moment_is_granted_again_for_a_win_that_was_waited_for() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    pair.next(height + 1, 10_000);
    pair.win();
    pair.merge();
    let pendings = vec![Pending { height: height + 2, amount: sat(10_000) }];
    let number = pair.hasher.account().number + 1;
    let lie = State { number, height: height + 2, settled_to: 0, settled: Amount::ZERO, pendings };
    pair.take(&pair.sign_anything(lie)).unwrap();
    pair.now = 5_000;
    pair.win();
    assert_eq!(pair.may_work(5_000), Err(Idle::MissingWin(height)));
}

#[test]
fn an_end_that_starts_again_grants_no_moment() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    pair.next(height + 1, 10_000);
    pair.now = 1_000;
    pair.win();
    assert_eq!(pair.may_work(1_001), Ok(()));
    pair.hasher = hasher::PayoutChannel::restore(Params::PUBLIC, &pair.hasher_rows, &pair.secp).unwrap();
    pair.hasher.look(&pair.chain, 1_001);
    assert_eq!(pair.may_work(1_001), Err(Idle::MissingWin(height)));
}

#[test]
fn nobody_works_without_a_signed_state_or_on_another_coinbase() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    assert_eq!(pair.may_work(0), Err(Idle::NoState(height)));
    pair.next(height, 0);
    assert_eq!(pair.may_work(0), Ok(()));
    let other = TxOut { value: sat(312_500_000), script_pubkey: pair.elsewhere() };
    assert_eq!(pair.hasher.may_work(height, &other, &pair.chain, 0), Err(Idle::Coinbase(height)));
    pair.lose();
    assert_eq!(pair.may_work(0), Err(Idle::NoState(height + 1)));
}

#[test]
fn nobody_works_on_what_would_be_no_win_or_for_a_hub_that_states_more_than_blocks_pay() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    let honest = Expected { floor: sat(20_000), ..pair.signer.expected(height).unwrap() };
    let pays = |value| TxOut { value: sat(value), script_pubkey: honest.script.clone() };
    pair.chain.expect(height, honest.clone());
    let may_work = |pair: &Pair, value| pair.hasher.may_work(height, &pays(value), &pair.chain, 0);
    assert_eq!(may_work(&pair, 10_000), Ok(()));
    assert_eq!(may_work(&pair, 9_999), Err(Idle::Coinbase(height)));
    pair.chain.expect(height, Expected { sum: sat(20_001), ..honest.clone() });
    assert_eq!(may_work(&pair, 25_000), Err(Idle::Overstated(height)));
}

#[test]
fn a_lost_height_costs_nothing_and_a_reorganisation_that_makes_it_a_win_is_merged() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    pair.lose();
    pair.next(height + 1, 7_000);
    assert_eq!(pair.hasher.state_for(height + 1).unwrap().pending(height), Amount::ZERO);
    pair.lose();
    pair.next(height + 2, 7_000);
    // Two blocks go, the pool's own come.
    pair.disconnect();
    pair.disconnect();
    pair.win();
    pair.merge();
    pair.lose();
    pair.merge();
    assert_eq!(pair.hasher.state_for(height + 2).unwrap().pending(height), sat(10_000));
    assert_eq!(pair.may_work(9_999_999), Ok(()));
    assert_eq!(pair.hasher.best(&pair.chain).unwrap().state.pending(height), sat(10_000));
}

#[test]
fn messages_that_come_late_twice_or_not_at_all_do_no_harm() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    let mut sent: Vec<Message> = vec![pair.hub_next(height, 1_000)];
    sent.extend((0..5).map(|_| pair.hub_credit(height, 100)));
    for place in [3, 3, 1, 5, 0, 5, 2] {
        let signed = sent[place].signed().unwrap().clone();
        assert!(pair.take(&signed).is_ok(), "{place}");
    }
    assert_eq!(pair.hasher.account().promised(height), sat(1_500));
    assert_eq!(pair.hasher.held().len(), 1);
    let late = sent[4].signed().unwrap().clone();
    assert_eq!(pair.take(&late), Ok(Taken::Known));
}

#[test]
fn a_hub_that_breaks_a_rule_is_refused_and_the_old_states_stay() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    let number = pair.hasher.account().number + 1;
    let lie = |pair: &Pair, change: &dyn Fn(&mut State)| {
        let mut state = pair.hasher.state_for(height).unwrap().clone();
        state.number = number;
        change(&mut state);
        pair.sign_anything(state)
    };
    let falls = lie(&pair, &|state| state.pendings[0].amount = sat(9_999));
    assert!(matches!(pair.take(&falls), Err(hasher::Refused::Broken(Broken::PendingFalls { .. }))));
    let twice = lie(&pair, &|state| state.settled_to = height);
    assert!(matches!(pair.take(&twice), Err(hasher::Refused::Claim(_))));
    let too_much = lie(&pair, &|state| state.settled = sat(CAPACITY));
    assert!(matches!(pair.take(&too_much), Err(hasher::Refused::Claim(_))));
    let mut unsigned = lie(&pair, &|state| state.settled = sat(1));
    unsigned.state.settled = sat(2);
    assert!(matches!(pair.take(&unsigned), Err(hasher::Refused::Claim(_))));
    let unknown = lie(&pair, &|state| state.pendings[0].height = height + 30_000);
    assert!(matches!(pair.take(&unknown), Err(hasher::Refused::TooFar { .. })));
    pair.win();
    let dropped = lie(&pair, &|state| {
        state.pendings.clear();
        state.settled_to = height;
    });
    assert!(matches!(pair.take(&dropped), Err(hasher::Refused::Broken(Broken::SettledFalls { .. }))));
    assert_eq!(pair.hasher.best(&pair.chain).unwrap().state.pending(height), sat(10_000));
}

#[test]
fn the_signer_refuses_what_breaks_a_rule_whoever_asks() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    let state = |change: &dyn Fn(&mut State)| {
        let mut state = pair.hub.live(height).unwrap().clone();
        state.number += 1;
        change(&mut state);
        state
    };
    let falls = state(&|state| state.pendings[0].amount = sat(9_999));
    let early = state(&|state| {
        state.pendings.clear();
        state.settled = sat(10_000);
        state.settled_to = height;
    });
    let above = state(&|state| state.pendings[0].amount = sat(pair::CAP + 1));
    let id = pair.hub.id();
    use payout_channel::Signer as _;
    let refusal = |result: Result<_, _>| match result {
        Err(Refusal::Broken(broken)) => Some(broken),
        _ => None,
    };
    assert!(matches!(refusal(pair.signer.sign_state(id, &falls)), Some(Broken::PendingFalls { .. })));
    assert!(matches!(refusal(pair.signer.sign_state(id, &early)), Some(Broken::SettledWithoutKey(_))));
    assert!(matches!(refusal(pair.signer.sign_state(id, &above)), Some(Broken::OverCap { .. })));
    let key = pair.signer.reveal(height).map(|_| ());
    assert!(matches!(key, Err(Refusal::Broken(Broken::NotWon(_)))));
    pair.win();
    let key = pair.signer.reveal(height).map(|_| ());
    assert!(matches!(key, Err(Refusal::Broken(Broken::TooEarly { depth: 1, .. }))));
    for _ in 0..Params::PUBLIC.council {
        pair.lose();
    }
    let key = pair.signer.reveal(height).map(|_| ());
    assert!(matches!(key, Err(Refusal::Broken(Broken::TooLate { .. }))));
}

#[test]
fn a_height_has_pendings_in_one_payout_channel_of_a_hasher() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    let mut second = pair.beside();
    let refused = second.next_height(height, sat(1), Price::default(), &pair.chain, &mut pair.signer);
    let other = pair.hub.id();
    assert!(matches!(
        refused,
        Err(Refused::Signer(Refusal::Broken(Broken::OtherPayoutChannel { other: found, .. }))) if found == other
    ));
    pair.expect(height + 1);
    let next = second.next_height(height + 1, sat(1), Price::default(), &pair.chain, &mut pair.signer);
    assert!(next.is_ok(), "between heights");
}

#[test]
fn a_fake_win_is_none() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    pair.block_that_pays(sat(9_999));
    assert!(!pair.chain.is_win(height));
    pair.merge();
    assert_eq!(pair.hasher.owed(&pair.chain), Amount::ZERO);
}

#[test]
fn a_full_payout_channel_asks_for_another_one() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, CAPACITY - 100);
    let credit = Credit { height, amount: sat(101), ..Credit::default() };
    assert!(matches!(pair.hub.credit(credit, &pair.chain, &mut pair.signer), Err(Refused::Full)));
    let next = pair.hub.next_height(height + 1, sat(101), Price::default(), &pair.chain, &mut pair.signer);
    assert!(matches!(next, Err(Refused::Full)), "the height before may yet be won");
}

#[test]
fn a_credit_that_the_next_height_which_is_signed_already_leaves_no_room_for_is_refused() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 1_000);
    pair.next(height + 1, CAPACITY - 1_500);
    let credit = |amount| Credit { height, amount: sat(amount), ..Credit::default() };
    assert!(matches!(pair.hub.credit(credit(501), &pair.chain, &mut pair.signer), Err(Refused::Full)));
    pair.credit(height, 500);
    pair.win();
    pair.merge();
    assert_eq!(pair.may_work(60_000), Ok(()), "both fit");
}

#[test]
fn a_hub_that_lost_its_ledger_takes_the_hashers_states_and_signs_first_for_a_height_that_it_cannot_have_signed()
 {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    pair.credit(height, 500);
    pair.win();
    pair.merge();
    let account = pair.hub.account().clone();
    pair.lose_the_hubs_data();
    let shown: Vec<SignedState> = pair.hasher.held().to_vec();
    pair.hub.adopt(&shown, &pair.chain, &mut pair.signer).unwrap().save(&mut pair.hub_rows).unwrap();
    assert_eq!(*pair.hub.account(), account);
    let next = pair.tip() + 1;
    for quiet in [next, next + 1] {
        let refused = pair.hub.next_height(quiet, sat(1), Price::default(), &pair.chain, &mut pair.signer);
        assert!(matches!(refused, Err(Refused::NotNow { .. })));
        let credit = Credit { height: quiet, amount: sat(1), ..Credit::default() };
        let refused = pair.hub.credit(credit, &pair.chain, &mut pair.signer);
        assert!(
            matches!(refused, Err(Refused::NotNow { .. })),
            "others' pendings may be missing from the sum"
        );
    }
    pair.merge();
    assert_eq!(pair.hasher.state_for(next).unwrap().pending(height), sat(10_500));
    let stolen =
        SignedState { state: State { settled: sat(77), ..shown[0].state.clone() }, ..shown[0].clone() };
    assert!(pair.hub.adopt(&[stolen], &pair.chain, &mut pair.signer).is_err(), "states prove themselves");
}

#[test]
fn a_hasher_that_lost_its_data_is_sent_its_last_state() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    pair.win();
    pair.merge();
    let owed = pair.hasher.owed(&pair.chain);
    pair.lose_the_hashers_data();
    assert_eq!(pair.hasher.owed(&pair.chain), Amount::ZERO);
    let again = pair.hub.again(&pair.chain, &mut pair.signer).unwrap().save(&mut pair.hub_rows).unwrap();
    for message in again {
        pair.deliver(&message).unwrap();
    }
    assert_eq!(pair.hasher.owed(&pair.chain), owed);
}

#[test]
fn both_ends_come_back_from_their_rows_as_they_were() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    pair.credit(height, 500);
    pair.win();
    pair.merge();
    pair.hub.forget(&pair.chain);
    pair.hasher.forget(&pair.chain);
    let mut hub = hub::PayoutChannel::restore(Params::PUBLIC, &pair.hub_rows).unwrap();
    hub.forget(&pair.chain);
    assert!(
        hub.again(&pair.chain, &mut pair.signer).unwrap().events().is_empty(),
        "nothing before the hasher shows"
    );
    let _nothing = hub.adopt(&[], &pair.chain, &mut pair.signer).unwrap();
    assert_eq!((hub.account(), hub.standing()), (pair.hub.account(), pair.hub.standing()));
    let next = pair.tip() + 1;
    assert_eq!(hub.live(next), pair.hub.live(next));
    let mut again = hasher::PayoutChannel::restore(Params::PUBLIC, &pair.hasher_rows, &pair.secp).unwrap();
    again.forget(&pair.chain);
    assert_eq!(
        (again.account(), again.held(), again.standing()),
        (pair.hasher.account(), pair.hasher.held(), Standing::Open)
    );
    let mut wrong = pair.hasher_rows.clone();
    let place = wrong.iter().position(|row| matches!(row, hasher::Event::State(_))).unwrap();
    let hasher::Event::State(signed) = &mut wrong[place] else { unreachable!() };
    signed.state.settled = sat(1);
    let error = hasher::PayoutChannel::restore(Params::PUBLIC, &wrong, &pair.secp).unwrap_err();
    assert!(matches!(error, hasher::BrokenRow::State(row, _) if row == place));
    let mut falls = pair.hub_rows.clone();
    let hub::Event::Signed(state) = falls.last_mut().unwrap() else { unreachable!() };
    state.pendings[0].amount = sat(1);
    assert!(hub::PayoutChannel::restore(Params::PUBLIC, &falls).is_err());
}

#[test]
fn a_cooperative_close_waits_until_nothing_can_be_won_and_pays_what_is_settled() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    pair.next(height + 1, 5_000);
    pair.win();
    pair.merge();
    let freeze = pair.hasher.freeze(&pair.secp).unwrap().save(&mut pair.hasher_rows).unwrap();
    assert!(matches!(freeze, Message::Freeze(_)));
    pair.hub.freeze::<()>().unwrap().save(&mut pair.hub_rows).unwrap();
    let credit = Credit { height: height + 1, amount: sat(1), ..Credit::default() };
    let refused = pair.hub.credit(credit, &pair.chain, &mut pair.signer);
    assert!(matches!(refused, Err(Refused::Standing(Standing::Frozen))));
    let to = pair.elsewhere();
    for _ in 0..99 {
        assert!(pair.hasher.request_close(to.clone(), sat(300), &pair.chain).is_err());
        pair.lose();
    }
    pair.settle(height);
    for _ in 0..44 {
        assert!(pair.hasher.request_close(to.clone(), sat(300), &pair.chain).is_err(), "a late win");
        pair.lose();
    }
    pair.lose();
    pair.lose();
    let Message::RequestClose(_, asked) =
        pair.hasher.request_close(to.clone(), sat(300), &pair.chain).unwrap()
    else {
        unreachable!()
    };
    assert_eq!(asked.owed, sat(10_000));
    let greedy = payout_channel::message::CloseTerms { owed: sat(10_001), ..asked.clone() };
    assert!(pair.hub.close(&greedy, &mut pair.signer).is_err());
    let signed = pair.hub.close(&asked, &mut pair.signer).unwrap().save(&mut pair.hub_rows).unwrap();
    let Message::CloseSigned(_, asked, signature) = signed else { unreachable!() };
    let key = pair.scene.hasher.funding;
    let short = payout_channel::message::CloseTerms { owed: sat(9_999), ..asked.clone() };
    assert!(pair.hasher.close(&short, &signature, &key, &pair.chain, &pair.secp).is_err());
    use payout_channel::Signer as _;
    let to_the_hub = pair.signer.output(height).unwrap().script_pubkey();
    for (to, fee) in [(to_the_hub, asked.fee), (to.clone(), sat(9_000))] {
        let stolen = payout_channel::transactions::close::Close { owed: asked.owed, to, fee };
        let signature = pair.signer.sign_close(pair.hub.id(), &stolen).unwrap();
        let stolen = payout_channel::message::CloseTerms { owed: stolen.owed, to: stolen.to, fee };
        let refused = pair.hasher.close(&stolen, &signature, &key, &pair.chain, &pair.secp).unwrap_err();
        assert!(matches!(refused, hasher::NoLife::NotAsked(_)), "{refused}");
    }
    let close = pair.hasher.close(&asked, &signature, &key, &pair.chain, &pair.secp).unwrap();
    let close = close.save(&mut pair.hasher_rows).unwrap();
    assert!(scene::core_accepts(&close, &[pair.scene.funding()]));
    let paid = close.output.iter().find(|output| output.script_pubkey == to).unwrap();
    assert_eq!(paid.value, sat(10_000));
}

#[test]
fn the_hasher_closes_when_a_public_key_is_not_settled_a_win_not_claimed_or_the_end_near() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    pair.win();
    pair.merge();
    for _ in 0..99 {
        pair.lose();
    }
    let (mut silent, waiting) = (pair.clone_chain(), pair.hasher.clone());
    pair.publish_key(height);
    let seen = pair.tip();
    while pair.tip() < seen + 144 {
        assert_eq!(pair.hasher.must_close(&pair.chain), None);
        pair.lose();
    }
    assert_eq!(pair.hasher.must_close(&pair.chain), Some(WhyClose::NotSettled(height)));
    while silent.tip() < height + 1_008 {
        assert_eq!(waiting.must_close(&silent), None);
        pair::block(&mut silent, None, &[]);
    }
    assert_eq!(waiting.must_close(&silent), Some(WhyClose::NotClaimed(height)));
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    pair.win();
    pair.merge();
    for _ in 0..99 {
        pair.lose();
    }
    pair.settle(height);
    pair.wait_until(scene::E - 433);
    assert_eq!(pair.hasher.must_close(&pair.chain), None);
    pair.wait_until(scene::E - 432);
    assert_eq!(pair.hasher.must_close(&pair.chain), Some(WhyClose::Expiring));
}

#[test]
fn nothing_is_credited_when_the_end_is_near() {
    let mut pair = Pair::open();
    pair.wait_until(scene::E - 2_448 - 2);
    let last = pair.tip() + 1;
    pair.next(last, 10);
    assert_eq!(pair.may_work(0), Ok(()));
    let next = pair.hub.next_height(last + 1, sat(10), Price::default(), &pair.chain, &mut pair.signer);
    assert!(matches!(next, Err(Refused::Expiring(_))));
}

#[test]
fn a_store_that_fails_lets_nothing_out() {
    struct Full;
    impl payout_channel::Store<hub::Event> for Full {
        type Error = ();
        fn append(&mut self, _: &hub::Event) -> Result<(), ()> {
            Err(())
        }
        fn commit(&mut self, _: payout_channel::Durability) -> Result<(), ()> {
            Ok(())
        }
    }
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    let signed =
        pair.hub.next_height(height, sat(1), Price::default(), &pair.chain, &mut pair.signer).unwrap();
    assert_eq!(signed.save(&mut Full), Err(()));
}

#[test]
fn a_state_that_was_refused_leaves_nothing_behind_that_a_later_one_would_miss() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    let mut state = pair.hasher.state_for(height).unwrap().clone();
    state.number += 1;
    state.pendings = vec![payout_channel::Pending { height: height + 1, amount: sat(5) }];
    let mut forged = pair.sign_anything(state);
    forged.state.settled = sat(1);
    assert!(pair.take(&forged).is_err());
    pair.next(height + 1, 5);
    let again = hasher::PayoutChannel::restore(Params::PUBLIC, &pair.hasher_rows, &pair.secp).unwrap();
    assert_eq!(again.account(), pair.hasher.account());
}

#[test]
fn messages_are_heard_in_sessions_and_refused_where_nobody_proved_who_they_are() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    pair.win();
    pair.merge();
    let (id, handshake) = (pair.hub.id(), [3; 32]);
    let keys = pair.scene.hasher.clone();
    let mut session = hub::Session::new(handshake);
    let mut heard = |pair: &mut Pair, message: &Message| {
        let message = pair::through(message);
        let answer = session.handle(&message, &mut pair.hub, &pair.chain, &mut pair.signer, &pair.secp);
        answer.map(|answer| answer.save(&mut pair.hub_rows).unwrap())
    };
    let early = heard(&mut pair, &Message::Freeze(id));
    assert!(matches!(early, Err(hub::Unheard::NotAuthentic)));
    pair.lose_the_hubs_data();
    let shown = pair.hasher.show();
    let count = u16::try_from(shown.len()).unwrap();
    let stranger = payout_channel::message::reestablish(id, count, &[4; 32], &keys.funding, &pair.secp);
    assert!(matches!(heard(&mut pair, &stranger), Err(hub::Unheard::NotAuthentic)));
    let hello = payout_channel::message::reestablish(id, count, &handshake, &keys.funding, &pair.secp);
    let mut answers = heard(&mut pair, &hello).unwrap();
    for held in &shown {
        answers.extend(heard(&mut pair, held).unwrap());
    }
    assert!(matches!(answers[0], Message::Reestablished(_, Standing::Open)));
    assert_eq!(pair.hub.account().promised(height), sat(10_000));
    let lock = |height| Some(pair.scene.lock(height));
    for answer in &answers {
        let heard = pair.hasher.handle(0, answer, lock, &keys, &pair.chain, &pair.secp).unwrap();
        heard.save(&mut pair.hasher_rows).unwrap();
    }
    assert_eq!(pair.hub.account().number, pair.hasher.account().number);
    let frozen = heard(&mut pair, &Message::Freeze(id)).unwrap();
    assert_eq!(frozen, [Message::Frozen(id)]);
    let heard_frozen = pair.hasher.handle(0, &frozen[0], lock_none, &keys, &pair.chain, &pair.secp).unwrap();
    assert_eq!(heard_frozen.save(&mut pair.hasher_rows).unwrap(), hasher::Heard::Frozen);
    let refused = heard(&mut pair, &Message::Frozen(id)).unwrap_err();
    assert!(matches!(refused.reply(id), Message::Error(_, payout_channel::message::Code::NotNow, _)));
    let odd = pair.hasher.handle(0, &Message::Freeze(id), lock_none, &keys, &pair.chain, &pair.secp);
    assert_eq!(odd.unwrap_err(), hasher::Unheard::NoPlace(0x09));
}

/// Says something to the hub, and hears what it answers.
fn told(
    pair: &mut Pair,
    session: &mut hub::Session,
    message: &Message,
) -> Vec<Result<hasher::Heard, hasher::Unheard>> {
    let answers = session.handle(message, &mut pair.hub, &pair.chain, &mut pair.signer, &pair.secp);
    let answers = answers.unwrap().save(&mut pair.hub_rows).unwrap();
    let (lock, keys) = (|height| Some(pair.scene.lock(height)), &pair.scene.hasher);
    let heard = answers.iter().map(|answer| {
        let heard = pair.hasher.handle(0, answer, lock, keys, &pair.chain, &pair.secp);
        heard.map(|heard| heard.save(&mut pair.hasher_rows).unwrap())
    });
    heard.collect()
}

/// What a hasher says first on a connection.
fn hello(pair: &Pair, handshake: [u8; 32]) -> Vec<Message> {
    let (held, key) = (pair.hasher.show(), pair.scene.hasher.funding);
    let count = u16::try_from(held.len()).unwrap();
    let first = payout_channel::message::reestablish(pair.hub.id(), count, &handshake, &key, &pair.secp);
    std::iter::once(first).chain(held).collect()
}

#[test]
fn a_hasher_that_was_put_back_to_before_it_knew_the_funding_is_told_it_and_then_its_states() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    pair.put_back_the_hasher(1);
    assert_eq!((pair.hasher.standing(), pair.hasher.show().len()), (Standing::Accepted, 0));
    let mut session = hub::Session::new([3; 32]);
    let hello = hello(&pair, [3; 32]);
    assert_eq!(told(&mut pair, &mut session, &hello[0])[0], Ok(hasher::Heard::Funded));
    let opened = pair.hasher.opened(&pair.chain, &pair.secp).unwrap();
    let locked = opened.save(&mut pair.hasher_rows).unwrap();
    let states = told(&mut pair, &mut session, &locked);
    assert_eq!(states, [Ok(hasher::Heard::State(Taken::Counts))]);
    assert_eq!(pair.hasher.state_for(height).unwrap().pending(height), sat(10_000));
    assert_eq!(told(&mut pair, &mut session, &hello[0])[0], Ok(hasher::Heard::Known));
}

/// One win is unresolved, so that frozen ends still sign for what comes.
fn frozen() -> Pair {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    pair.win();
    pair.merge();
    let _ = pair.hasher.freeze(&pair.secp).unwrap().save(&mut pair.hasher_rows).unwrap();
    pair.hub.freeze::<()>().unwrap().save(&mut pair.hub_rows).unwrap();
    pair.lose();
    pair.merge();
    pair
}

#[test]
fn a_hasher_that_was_put_back_to_before_it_was_frozen_does_not_work_for_nothing() {
    let mut pair = frozen();
    let before = pair.hasher_rows.iter().position(|row| *row == hasher::Event::Frozen).unwrap();
    pair.put_back_the_hasher(before);
    let mut session = hub::Session::new([3; 32]);
    for message in hello(&pair, [3; 32]) {
        assert!(told(&mut pair, &mut session, &message).iter().all(Result::is_ok));
    }
    assert!(pair.hasher.state_for(pair.tip() + 1).is_some());
    assert_eq!(pair.may_work(0), Err(Idle::Standing(Standing::Frozen)));
}

#[test]
fn nor_does_one_that_was_put_back_to_before_it_knew_the_funding() {
    let mut pair = frozen();
    pair.put_back_the_hasher(1);
    let mut session = hub::Session::new([3; 32]);
    let hello = hello(&pair, [3; 32]);
    assert_eq!(told(&mut pair, &mut session, &hello[0])[0], Ok(hasher::Heard::Funded));
    let opened = pair.hasher.opened(&pair.chain, &pair.secp).unwrap();
    let locked = opened.save(&mut pair.hasher_rows).unwrap();
    assert!(told(&mut pair, &mut session, &locked).iter().all(Result::is_ok));
    assert!(pair.hasher.state_for(pair.tip() + 1).is_some());
    assert_eq!(pair.may_work(0), Err(Idle::Standing(Standing::Frozen)));
}

fn lock_none(_: u32) -> Option<lock::Lock> {
    None
}

#[test]
fn a_hasher_that_has_not_seen_a_heights_sheet_yet_does_not_take_the_hub_for_a_liar() {
    let mut pair = Pair::open();
    let message = pair.hub_next(pair.tip() + 1, 10_000);
    let refused =
        pair.hasher.take(message.signed().unwrap(), lock_none, &pair.chain, &pair.secp).unwrap_err();
    assert!(refused.is_ahead(), "{refused}");
    assert_eq!(pair.deliver(&message), Ok(Taken::Counts), "heard again");
}

#[test]
fn the_signer_forgets_nothing_when_it_is_told_of_a_payout_channel_again() {
    use payout_channel::{FundedTerms, Signer as _};
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    let (id, funded) = (pair.hub.id(), pair.hub.funded_terms().unwrap());
    let known = pair.signer.account(id).cloned();
    pair.signer.open(funded.clone()).unwrap();
    assert_eq!(pair.signer.account(id).cloned(), known);
    let elsewhere = FundedTerms { outpoint: bitcoin::OutPoint::null(), ..funded };
    assert!(matches!(pair.signer.open(elsewhere), Err(Refusal::FundedElsewhere(_))));
    assert_eq!(pair.signer.account(id).cloned(), known);
}

#[test]
fn when_a_state_has_no_place_for_more_wins_both_ends_stop_before_anything_is_lost() {
    let mut pair = Pair::open();
    let first = pair.tip() + 1;
    let most = u32::from(Params::PUBLIC.max_pendings) - 1;
    for height in first..first + most {
        pair.next(height, 1_000);
        assert_eq!(pair.may_work(0), Ok(()), "win {}", height - first);
        pair.credit(height, 500);
        pair.win();
        pair.merge();
    }
    let next = first + most;
    assert_eq!(pair.may_work(0), Err(Idle::Full(next)));
    pair.expect(next);
    let refused = pair.hub.next_height(next, sat(1_000), Price::default(), &pair.chain, &mut pair.signer);
    assert!(matches!(refused, Err(hub::Refused::Full)));
    let credit = Credit { height: next, amount: sat(1), ..Credit::default() };
    assert!(matches!(pair.hub.credit(credit, &pair.chain, &mut pair.signer), Err(hub::Refused::Full)));
    let best = pair.hasher.best(&pair.chain).unwrap();
    assert_eq!(best.state.pendings.len(), most as usize, "every win has its place");
    assert_eq!(pair.hasher.owed(&pair.chain), sat(1_500) * u64::from(most));
    while pair.chain.depth(first) < 100 {
        pair.lose();
    }
    pair.merge();
    pair.settle(first);
    let next = pair.tip() + 1;
    pair.next(next, 1_000);
    assert_eq!(pair.may_work(0), Ok(()));
}
