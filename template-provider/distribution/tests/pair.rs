//! Both ends, stepped under virtual time.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::consensus::encode::deserialize;
use bitcoin::{ScriptBuf, Transaction};
use distribution::client::{self, Client};
use distribution::server::{self, Fatal, Server};
use distribution::{BlockTemplate, Constraints, Parts, Retention, SolutionError, Transactions};
use stratum_core::common_messages_sv2::ReconnectOwned;
use stratum_core::parsers_sv2::CommonMessagesOwned;
use stratum_core::template_distribution_sv2::{NewTemplateOwned, SetNewPrevHashOwned};
use support::{all, check_block, coinbase, parts, solution, template, tip};

const ROOM: Constraints = Constraints { max_additional_size: 100, max_additional_sigops: 4 };

struct Pair {
    server: Server,
    client: Client,
    now: Instant,
}

impl Pair {
    fn new(published: Option<Arc<BlockTemplate>>) -> Self {
        let retention =
            Retention { templates: 4, replaced: Duration::from_secs(600), stale: Duration::from_secs(60) };
        Self { server: Server::new(retention, published), client: Client::new(), now: Instant::now() }
    }

    /// A pair whose client has its first template.
    fn mining(published: Arc<BlockTemplate>) -> (Self, NewTemplateOwned) {
        let mut pair = Self::new(Some(published));
        pair.client.constraints(ROOM).unwrap();
        pair.drive().unwrap();
        let client::Event::Template(new) = pair.client.poll_event().unwrap() else { panic!("no template") };
        assert!(matches!(pair.client.poll_event(), Some(client::Event::PrevHash(_))));
        assert!(matches!(pair.server.poll_event(), Some(server::Event::Constraints(ROOM))));
        (pair, new)
    }

    /// Carries frames until both are silent.
    fn drive(&mut self) -> Result<(), Fatal> {
        loop {
            let mut moved = false;
            while let Some(frame) = self.client.poll_send() {
                self.server.handle(self.now, &mut frame.received())?;
                moved = true;
            }
            while let Some(frame) = self.server.poll_send()? {
                self.client.handle(&mut frame.received()).unwrap();
                moved = true;
            }
            if !moved {
                return Ok(());
            }
        }
    }

    fn publish(&mut self, template: Arc<BlockTemplate>) -> Vec<client::Event> {
        self.server.publish(self.now, template).unwrap();
        self.drive().unwrap();
        std::iter::from_fn(|| self.client.poll_event()).collect()
    }

    /// Lets time pass, waking the server whenever it asks for it.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.server.poll_timeout().filter(|at| *at <= end) {
            self.now = at;
            self.server.handle_timeout(at);
        }
        self.now = end;
    }

    /// Submits until the proof of work holds; what the server made of it.
    fn solve(&mut self, new: &NewTemplateOwned, coinbase: &[u8]) -> server::Event {
        for nonce in 0.. {
            self.client.submit_solution(solution(new, nonce, coinbase.to_vec())).unwrap();
            self.drive().unwrap();
            match self.server.poll_event().unwrap() {
                server::Event::SolutionRefused(SolutionError::AboveTarget { .. }) => {}
                event => return event,
            }
        }
        unreachable!("some nonce solves it")
    }
}

fn pay() -> Vec<ScriptBuf> {
    vec![vec![0x51; 22].into()]
}

/// The same template while its transactions are on their way, leaving room for the coinbases of clients like `room`.
fn before_its_transactions(mut parts: Parts, room: Constraints) -> Parts {
    parts.transactions = Transactions::awaited(parts.transactions.merkle_path().to_vec(), room);
    parts
}

fn single(events: &[client::Event]) -> &NewTemplateOwned {
    let [client::Event::Template(new)] = events else { panic!("{events:?}") };
    new
}

fn new_tip(events: &[client::Event]) -> (&NewTemplateOwned, &SetNewPrevHashOwned) {
    let [client::Event::Template(new), client::Event::PrevHash(prev)] = events else { panic!("{events:?}") };
    (new, prev)
}

#[test]
fn nothing_is_sent_before_the_client_says_its_constraints() {
    let mut pair = Pair::new(Some(template(1 << 32, parts(tip(1), 3, 1))));
    assert!(pair.publish(template(2 << 32, parts(tip(2), 3, 1))).is_empty());
    pair.client.constraints(ROOM).unwrap();
    pair.drive().unwrap();
    let events: Vec<_> = std::iter::from_fn(|| pair.client.poll_event()).collect();
    assert_eq!(new_tip(&events).0.template_id, 2 << 32);
}

#[test]
fn constraints_before_the_first_template_are_answered_when_it_comes() {
    let mut pair = Pair::new(None);
    pair.client.constraints(ROOM).unwrap();
    pair.drive().unwrap();
    assert_eq!(pair.client.poll_event(), None);
    let events = pair.publish(template(1 << 32, parts(tip(1), 0, 1)));
    let (new, prev) = new_tip(&events);
    assert!(new.future_template);
    assert_eq!(prev.template_id, new.template_id);
    assert_eq!(prev.prev_hash.as_bytes(), [1; 32]);
    assert_eq!((prev.n_bits, prev.header_timestamp), (support::BITS, 1_700_000_000));
    assert_eq!(prev.target.as_bytes()[28..], [0, 0xff, 0xff, 0x7f], "little-endian");
    assert_eq!(new.coinbase_prefix.as_bytes(), [2, 200, 0]);
    assert_eq!(new.coinbase_tx_locktime, 199);
    assert_eq!(new.coinbase_tx_value_remaining, support::SUBSIDY.to_sat());
}

#[test]
fn under_the_same_tip_a_template_is_in_force_at_once_and_on_a_new_tip_with_its_prev_hash() {
    let (mut pair, first) = Pair::mining(template(1 << 32, parts(tip(1), 3, 1)));
    let events = pair.publish(template(2 << 32, parts(tip(1), 4, 2)));
    let second = single(&events).clone();
    assert!(!second.future_template);
    let events = pair.publish(template(3 << 32, parts(tip(2), 0, 0)));
    let (third, prev) = new_tip(&events);
    assert!(third.future_template);
    assert_eq!(prev.prev_hash.as_bytes(), [2; 32]);
    assert!(first.template_id < second.template_id && second.template_id < third.template_id);
}

#[test]
fn other_constraints_bring_another_template_under_a_higher_id() {
    let (mut pair, first) = Pair::mining(template(1 << 32, parts(tip(1), 300, 1)));
    for size in [500_000, 100, 990_000] {
        pair.client.constraints(Constraints { max_additional_size: size, max_additional_sigops: 0 }).unwrap();
    }
    pair.drive().unwrap();
    let events: Vec<_> = std::iter::from_fn(|| pair.client.poll_event()).collect();
    let mut last = first.clone();
    for event in events {
        let client::Event::Template(new) = event else { panic!("{event:?}") };
        assert!(!new.future_template && new.template_id > last.template_id);
        last = new;
    }
    assert!(last.coinbase_tx_value_remaining < first.coinbase_tx_value_remaining, "fees have gone");
}

#[test]
fn constraints_that_fit_no_block_cost_the_connection() {
    for constraints in [
        Constraints { max_additional_size: 1_000_000, max_additional_sigops: 0 },
        Constraints { max_additional_size: u32::MAX, max_additional_sigops: 0 },
        Constraints { max_additional_size: 0, max_additional_sigops: 20_001 },
    ] {
        let mut pair = Pair::new(Some(template(1 << 32, parts(tip(1), 3, 1))));
        pair.client.constraints(constraints).unwrap();
        assert!(matches!(pair.drive(), Err(Fatal::Unfit(_))), "{constraints:?}");
    }
}

#[test]
fn a_client_that_changes_its_constraints_without_end_is_dropped() {
    let mut pair = Pair::new(Some(template(1 << 32, parts(tip(1), 3, 1))));
    for _ in 0..17 {
        pair.client.constraints(ROOM).unwrap();
    }
    assert!(matches!(pair.drive(), Err(Fatal::TooManyChanges)));
}

#[test]
fn transaction_data_are_the_templates_transactions_in_order() {
    let source = parts(tip(1), 20, 7);
    let expected: Vec<_> = all(&source).iter().map(|t| t.wtxid).collect();
    let (mut pair, new) = Pair::mining(template(1 << 32, source));
    pair.client.request_transaction_data(new.template_id).unwrap();
    pair.drive().unwrap();
    let Some(client::Event::TransactionData { template_id, transactions }) = pair.client.poll_event() else {
        panic!("no data");
    };
    assert_eq!(template_id, new.template_id);
    let wtxids: Vec<_> =
        transactions.iter().map(|bytes| deserialize::<Transaction>(bytes).unwrap().compute_wtxid()).collect();
    assert_eq!(wtxids, expected);
}

#[test]
fn transaction_data_of_stale_and_unknown_templates_are_refused_by_their_codes() {
    let (mut pair, new) = Pair::mining(template(1 << 32, parts(tip(1), 3, 1)));
    pair.publish(template(2 << 32, parts(tip(2), 3, 1)));
    for (template_id, expected) in [(new.template_id, "stale-template-id"), (99, "template-id-not-found")] {
        pair.client.request_transaction_data(template_id).unwrap();
        pair.drive().unwrap();
        let expected = client::Event::TransactionDataRefused { template_id, code: expected.into() };
        assert_eq!(pair.client.poll_event(), Some(expected));
    }
}

#[test]
fn a_client_that_asks_for_data_without_reading_is_dropped() {
    let (mut pair, new) = Pair::mining(template(1 << 32, parts(tip(1), 3, 1)));
    for _ in 0..17 {
        pair.client.request_transaction_data(new.template_id).unwrap();
    }
    assert!(matches!(pair.drive(), Err(Fatal::TooManyRequests)));
}

#[test]
fn a_solution_becomes_a_block_with_all_transactions_witness_or_not() {
    for witness in [true, false] {
        let (mut pair, new) = Pair::mining(template(1 << 32, parts(tip(1), 9, 3)));
        let event = pair.solve(&new, &coinbase(&new, 20, &pay(), witness));
        let server::Event::Solution(solution) = event else { panic!("{event:?}") };
        let block = check_block(&solution.block().unwrap());
        assert_eq!((block.txdata.len(), solution.transactions()), (10, Some(10)));
        assert_eq!((block.block_hash(), solution.height()), (solution.hash, 200));
        assert_eq!(solution.coinbase_value(), new.coinbase_tx_value_remaining);
    }
}

#[test]
fn a_solution_above_the_target_is_refused() {
    let (mut pair, new) = Pair::mining(template(1 << 32, parts(tip(1), 1, 3)));
    let coinbase = coinbase(&new, 20, &pay(), true);
    let refused = (0..100).any(|nonce| {
        pair.client.submit_solution(solution(&new, nonce, coinbase.clone())).unwrap();
        pair.drive().unwrap();
        matches!(
            pair.server.poll_event(),
            Some(server::Event::SolutionRefused(SolutionError::AboveTarget { .. }))
        )
    });
    assert!(refused, "every second hash is above");
}

#[test]
fn only_the_rollable_version_bits_may_differ() {
    let (mut pair, mut new) = Pair::mining(template(1 << 32, parts(tip(1), 1, 3)));
    let coinbase = coinbase(&new, 20, &pay(), true);
    new.version ^= 0x1fff_ffe0;
    assert!(matches!(pair.solve(&new, &coinbase), server::Event::Solution(_)));
    new.version ^= 1;
    let event = pair.solve(&new, &coinbase);
    assert!(matches!(event, server::Event::SolutionRefused(SolutionError::Version { .. })), "{event:?}");
}

#[test]
fn a_coinbase_that_is_none_is_refused() {
    let (mut pair, new) = Pair::mining(template(1 << 32, parts(tip(1), 1, 3)));
    let other: Vec<u8> = all(&parts(tip(1), 1, 3))[0].data.to_vec();
    for bytes in [b"nonsense".to_vec(), other] {
        let event = pair.solve(&new, &bytes);
        assert!(matches!(event, server::Event::SolutionRefused(SolutionError::Coinbase { .. })), "{event:?}");
    }
}

#[test]
fn a_late_solution_counts_for_a_minute_after_the_tip_has_changed() {
    let (mut pair, new) = Pair::mining(template(1 << 32, parts(tip(1), 2, 3)));
    let coinbase = coinbase(&new, 20, &pay(), true);
    pair.publish(template(2 << 32, parts(tip(2), 2, 3)));
    pair.pass(Duration::from_secs(59));
    assert!(matches!(pair.solve(&new, &coinbase), server::Event::Solution(_)));
    pair.pass(Duration::from_secs(1));
    let event = pair.solve(&new, &coinbase);
    let server::Event::SolutionRefused(refused) = event else { panic!("{event:?}") };
    assert_eq!(refused, SolutionError::UnknownTemplate(new.template_id));
}

#[test]
fn a_replaced_template_counts_until_its_time_or_its_number_is_up() {
    let (mut pair, first) = Pair::mining(template(1 << 32, parts(tip(1), 2, 3)));
    let old_coinbase = coinbase(&first, 20, &pay(), true);
    let events = pair.publish(template(2 << 32, parts(tip(1), 2, 4)));
    let second = single(&events).clone();
    pair.pass(Duration::from_secs(599));
    assert!(matches!(pair.solve(&first, &old_coinbase), server::Event::Solution(_)));
    pair.pass(Duration::from_secs(1));
    assert!(matches!(pair.solve(&first, &old_coinbase), server::Event::SolutionRefused(_)));
    // The second is in force, and so without an end of time, but three more push it out of the four kept.
    for id in 3..7 {
        pair.publish(template(id << 32, parts(tip(1), 2, id)));
    }
    let event = pair.solve(&second, &coinbase(&second, 20, &pay(), true));
    assert!(matches!(event, server::Event::SolutionRefused(SolutionError::UnknownTemplate(_))), "{event:?}");
}

#[test]
fn a_template_in_force_never_expires() {
    let (mut pair, new) = Pair::mining(template(1 << 32, parts(tip(1), 2, 3)));
    pair.pass(Duration::from_secs(7 * 24 * 3600));
    let event = pair.solve(&new, &coinbase(&new, 20, &pay(), true));
    assert!(matches!(event, server::Event::Solution(_)), "{event:?}");
}

#[test]
fn messages_of_the_other_direction_or_protocol_end_the_connection() {
    let (mut pair, new) = Pair::mining(template(1 << 32, parts(tip(1), 2, 3)));
    let message = stratum_core::parsers_sv2::TemplateDistributionOwned::NewTemplate(new);
    let frame = link::Frame::message(message).unwrap();
    assert!(matches!(pair.server.handle(pair.now, &mut frame.received()), Err(Fatal::Unexpected(0x71))));
    pair.client.request_transaction_data(1).unwrap();
    let frame = pair.client.poll_send().unwrap();
    assert!(matches!(pair.client.handle(&mut frame.received()), Err(client::Fatal::Unexpected(0x73))));
}

#[test]
fn a_message_of_an_extension_is_told_of_and_costs_nothing() {
    let (mut pair, _) = Pair::mining(template(1 << 32, parts(tip(1), 2, 3)));
    let frame = link::Frame::from_bytes(vec![0x43, 0x50, 0x09, 0, 0, 0].into()).unwrap();
    pair.server.handle(pair.now, &mut frame.received()).unwrap();
    let event = pair.server.poll_event();
    assert!(matches!(event, Some(server::Event::UnknownExtension(0x5043))), "{event:?}");
}

#[test]
fn a_prev_hash_for_a_template_that_was_never_sent_ends_the_connection() {
    let mut pair = Pair::new(Some(template(1 << 32, parts(tip(1), 2, 3))));
    pair.client.constraints(ROOM).unwrap();
    let constraints = pair.client.poll_send().unwrap();
    pair.server.handle(pair.now, &mut constraints.received()).unwrap();
    let _lost = pair.server.poll_send().unwrap();
    let prev_hash = pair.server.poll_send().unwrap().unwrap();
    assert!(matches!(pair.client.handle(&mut prev_hash.received()), Err(client::Fatal::UnknownTemplate(_))));
}

#[test]
fn a_template_that_no_client_has_any_more_is_freed() {
    let first = template(1 << 32, parts(tip(1), 3, 1));
    let watched = Arc::downgrade(&first);
    let (mut pair, _) = Pair::mining(first);
    assert!(watched.upgrade().is_some());
    for n in 2..5 {
        pair.publish(template(n << 32, parts(tip(u8::try_from(n).unwrap()), 3, n)));
    }
    pair.pass(Duration::from_secs(3600));
    assert!(watched.upgrade().is_none(), "a block of long ago is still in memory");
}

#[test]
fn a_template_before_its_transactions_is_mined_as_the_one_with_them() {
    let source = parts(tip(1), 20, 7);
    let (_, expected) = Pair::mining(template(1 << 32, source.clone()));
    let (mut pair, new) = Pair::mining(template(1 << 32, before_its_transactions(source, ROOM)));
    assert_eq!(new, expected);
    assert!(!pair.server.is_waiting());
    // Those that follow it are not held up either.
    let events = pair.publish(template(2 << 32, parts(tip(1), 3, 2)));
    assert_eq!(single(&events).template_id, 2 << 32);
}

#[test]
fn who_asks_for_transactions_on_their_way_gets_them_when_they_come_and_meanwhile_all_else() {
    let source = parts(tip(1), 20, 7);
    let early = before_its_transactions(source.clone(), ROOM);
    let (mut pair, new) = Pair::mining(template(1 << 32, early.clone()));
    pair.client.request_transaction_data(new.template_id).unwrap();
    pair.client.request_transaction_data(99).unwrap();
    pair.drive().unwrap();
    let code = "template-id-not-found".to_owned();
    let refused = client::Event::TransactionDataRefused { template_id: 99, code };
    assert_eq!(pair.client.poll_event(), Some(refused));
    let events = pair.publish(template(2 << 32, parts(tip(1), 3, 2)));
    assert_eq!(single(&events).template_id, 2 << 32);
    assert!(pair.server.is_waiting());

    early.transactions.settle(Some(all(&source)));
    pair.server.handle_arrival(pair.now).unwrap();
    pair.drive().unwrap();
    let transactions = all(&source).iter().map(|transaction| transaction.data.to_vec()).collect();
    let data = client::Event::TransactionData { template_id: new.template_id, transactions };
    assert_eq!(pair.client.poll_event(), Some(data));
    assert!(!pair.server.is_waiting());
}

#[test]
fn transactions_that_never_come_are_refused() {
    let early = before_its_transactions(parts(tip(1), 20, 7), ROOM);
    let (mut pair, new) = Pair::mining(template(1 << 32, early.clone()));
    pair.client.request_transaction_data(new.template_id).unwrap();
    pair.drive().unwrap();
    assert_eq!(pair.client.poll_event(), None);
    early.transactions.settle(None);
    pair.server.handle_arrival(pair.now).unwrap();
    pair.drive().unwrap();
    let code = "template-id-not-found".to_owned();
    let refused = client::Event::TransactionDataRefused { template_id: new.template_id, code };
    assert_eq!(pair.client.poll_event(), Some(refused));
}

#[test]
fn requests_for_transactions_on_their_way_are_bounded() {
    let early = before_its_transactions(parts(tip(1), 20, 7), ROOM);
    let (mut pair, new) = Pair::mining(template(1 << 32, early));
    for _ in 0..16 {
        pair.client.request_transaction_data(new.template_id).unwrap();
        pair.drive().unwrap();
    }
    pair.client.request_transaction_data(new.template_id).unwrap();
    assert!(matches!(pair.drive(), Err(Fatal::TooManyRequests)));
}

#[test]
fn a_solution_before_the_transactions_is_whole_with_them() {
    let source = parts(tip(1), 9, 3);
    let early = before_its_transactions(source.clone(), ROOM);
    let (mut pair, new) = Pair::mining(template(1 << 32, early.clone()));
    let event = pair.solve(&new, &coinbase(&new, 20, &pay(), true));
    let server::Event::Solution(solution) = event else { panic!("{event:?}") };
    assert_eq!((solution.block(), solution.transactions()), (None, None));
    early.transactions.settle(Some(all(&source)));
    assert_eq!(check_block(&solution.block().unwrap()).block_hash(), solution.hash);
}

#[test]
fn a_client_without_enough_room_has_the_template_when_its_transactions_are_there() {
    for less in [
        Constraints { max_additional_size: ROOM.max_additional_size - 1, ..ROOM },
        Constraints { max_additional_sigops: ROOM.max_additional_sigops - 1, ..ROOM },
    ] {
        let mut source = parts(tip(1), 20, 7);
        let weight: u64 = all(&source).iter().map(|transaction| transaction.weight).sum();
        source.weight_limit = weight + less.reserved_weight();
        let early = before_its_transactions(source.clone(), less);
        let mut pair = Pair::new(Some(template(1 << 32, early.clone())));
        pair.client.constraints(ROOM).unwrap();
        pair.drive().unwrap();
        assert_eq!(pair.client.poll_event(), None, "what it may mine is not known");
        assert!(matches!(pair.server.poll_event(), Some(server::Event::Constraints(ROOM))));
        assert!(pair.server.is_waiting());
        early.transactions.settle(Some(all(&source)));
        pair.server.handle_arrival(pair.now).unwrap();
        pair.drive().unwrap();
        let events: Vec<_> = std::iter::from_fn(|| pair.client.poll_event()).collect();
        let new = new_tip(&events).0.clone();
        assert!(!pair.server.is_waiting());
        let event = pair.solve(&new, &coinbase(&new, 20, &pay(), true));
        let server::Event::Solution(solution) = event else { panic!("{event:?}") };
        check_block(&solution.block().unwrap());
    }
}

#[test]
fn a_template_whose_transactions_never_come_is_sent_to_nobody_who_waited_or_comes_later() {
    let less = Constraints { max_additional_size: ROOM.max_additional_size - 1, ..ROOM };
    for waits in [true, false] {
        let early = before_its_transactions(parts(tip(1), 20, 7), less);
        let transactions = early.transactions.clone();
        let mut pair = Pair::new(Some(template(1 << 32, early)));
        if !waits {
            transactions.settle(None);
        }
        pair.client.constraints(ROOM).unwrap();
        pair.drive().unwrap();
        assert_eq!(pair.server.is_waiting(), waits);
        transactions.settle(None);
        pair.server.handle_arrival(pair.now).unwrap();
        pair.drive().unwrap();
        assert!(!pair.server.is_waiting());
        assert_eq!(pair.client.poll_event(), None);
        let events = pair.publish(template(2 << 32, parts(tip(1), 3, 2)));
        assert_eq!(new_tip(&events).0.template_id, 2 << 32);
    }
}

#[test]
fn a_template_goes_before_transaction_data_that_was_asked_for_earlier() {
    let (mut pair, new) = Pair::mining(template(1 << 32, parts(tip(1), 20, 7)));
    pair.client.request_transaction_data(new.template_id).unwrap();
    let request = pair.client.poll_send().unwrap();
    pair.server.handle(pair.now, &mut request.received()).unwrap();
    assert!(pair.server.data_is_next());
    pair.server.publish(pair.now, template(2 << 32, parts(tip(1), 3, 2))).unwrap();
    assert!(!pair.server.data_is_next());
    pair.drive().unwrap();
    let events: Vec<_> = std::iter::from_fn(|| pair.client.poll_event()).collect();
    let [client::Event::Template(next), client::Event::TransactionData { template_id, .. }] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!((next.template_id, *template_id), (2 << 32, new.template_id));
}

/// Any server may send it (SV2 spec §3.6.5): it is no fault.
#[test]
fn a_reconnect_ends_the_connection_as_a_wish_and_not_as_a_fault() {
    let (mut pair, _) = Pair::mining(template(1 << 32, parts(tip(1), 3, 1)));
    let elsewhere = ReconnectOwned { new_host: "elsewhere".to_owned().try_into().unwrap(), new_port: 1 };
    let frame = link::Frame::message(CommonMessagesOwned::Reconnect(elsewhere)).unwrap();
    assert!(matches!(pair.client.handle(&mut frame.received()), Err(client::Fatal::Reconnect)));
}
