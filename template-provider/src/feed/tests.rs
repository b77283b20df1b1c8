#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant, SystemTime};

use bitcoin::block::Version;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, BlockHash, CompactTarget, Network, Txid, Wtxid};
use distribution::{Coinbase, Constraints, Parts, TemplateTransaction, Transactions};
use service::Counters;

use super::{Feed, Offer, Offered, Sent};
use crate::health::Seen;
use crate::source::Way;

const SMALL: Constraints = Constraints { max_additional_size: 100, max_additional_sigops: 4 };
const LARGE: Constraints = Constraints { max_additional_size: 20_000, max_additional_sigops: 4 };

struct Desk {
    feed: Feed,
    start: Instant,
    /// The first set of the connection.
    first_set: u64,
    _directory: tempfile::TempDir,
}

/// A template of one transaction that fills the block up to the reserved room.
fn parts(tip: u8, value: u64) -> Parts {
    let transaction = TemplateTransaction {
        data: vec![0; 10].into(),
        txid: Txid::all_zeros(),
        wtxid: Wtxid::all_zeros(),
        depends: Vec::new(),
        fee: Amount::from_sat(1000),
        sigops: 0,
        weight: 4_000_000 - 20_000,
    };
    Parts {
        version: Version::TWO,
        prev_hash: BlockHash::from_byte_array([tip; 32]),
        height: 100,
        bits: CompactTarget::from_consensus(0x207f_ffff),
        time: 1,
        coinbase: Coinbase::at(100, Amount::from_sat(value), None),
        transactions: vec![transaction].into(),
        weight_limit: 4_000_000,
        sigop_limit: 80_000,
    }
}

/// The same before its transactions, which leave room for clients like `room`.
fn early(tip: u8, value: u64, room: Constraints) -> Parts {
    let whole = parts(tip, value);
    let transactions = Transactions::awaited(whole.transactions.merkle_path().to_vec(), room);
    Parts { transactions, ..whole }
}

impl Desk {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let feed = Feed::new(SystemTime::now(), &Counters::open("test", directory.path()).unwrap());
        let desk = Self { feed, start: Instant::now(), first_set: 1, _directory: directory };
        desk.reached(Way::Ipc);
        desk
    }

    fn reached(&self, way: Way) {
        self.reached_on(None, way);
    }

    fn reached_on(&self, network: Option<Network>, way: Way) {
        self.feed.reached(way, Seen { version: "test".into(), network, height: 99, peers: None });
    }

    /// Offers what set `set` had `at` seconds after the start; it serves `lane`, or all.
    fn offer(&self, way: Way, set: u64, at: u64, lane: Option<Constraints>, parts: Parts) -> Offer {
        self.send(way, set, at, lane, parts).0
    }

    /// The same, and what was sent.
    fn send(
        &self,
        way: Way,
        set: u64,
        at: u64,
        lane: Option<Constraints>,
        parts: Parts,
    ) -> (Offer, Option<Sent>) {
        let now = self.start + Duration::from_secs(at);
        let offered = Offered {
            way,
            as_of: now,
            set,
            first_set: self.first_set,
            serves: &|constraints| lane.is_none_or(|lane| lane == constraints),
            is_base: lane.is_none(),
            threshold: Amount::from_sat(100),
        };
        self.feed.offer_at(now, &offered, parts)
    }
}

#[test]
fn each_lane_gets_the_templates_that_are_made_for_it() {
    let desk = Desk::new();
    let (mut small, mut large) = (desk.feed.join(SMALL), desk.feed.join(LARGE));
    assert_eq!(*desk.feed.wanted().borrow(), [SMALL, LARGE]);
    desk.offer(Way::Ipc, 1, 0, Some(SMALL), parts(1, 5000));
    assert!(small.current().is_some() && large.current().is_none());
    desk.offer(Way::Ipc, 2, 0, Some(LARGE), parts(1, 4000));
    assert_eq!(large.current().unwrap().parts().coinbase.value, Amount::from_sat(4000));
    drop(small);
    assert_eq!(*desk.feed.wanted().borrow(), [LARGE]);
}

#[test]
fn a_new_client_has_a_template_at_once_and_its_own_replaces_it_only_where_it_was_trimmed() {
    let desk = Desk::new();
    desk.offer(Way::Ipc, 1, 0, None, parts(1, 5000));
    let (mut small, mut large) = (desk.feed.join(SMALL), desk.feed.join(LARGE));
    let first = small.current().unwrap();
    assert!(large.current().is_some());
    assert_eq!(desk.offer(Way::Ipc, 2, 1, Some(SMALL), parts(1, 5000)), Offer::Kept);
    assert_eq!(small.current().unwrap().id(), first.id());
    assert_eq!(desk.offer(Way::Ipc, 3, 1, Some(LARGE), parts(1, 4000)), Offer::HigherFees);
    assert!(large.current().unwrap().id() > first.id());
}

#[test]
fn higher_fees_count_from_the_threshold_on() {
    let desk = Desk::new();
    assert_eq!(desk.offer(Way::Ipc, 1, 0, None, parts(1, 5000)), Offer::NewTip);
    assert_eq!(desk.offer(Way::Ipc, 1, 1, None, parts(1, 5099)), Offer::Kept);
    assert_eq!(desk.offer(Way::Ipc, 1, 2, None, parts(1, 5100)), Offer::HigherFees);
}

#[test]
fn what_the_node_had_earlier_does_not_replace_what_it_had_later() {
    let desk = Desk::new();
    let mut small = desk.feed.join(SMALL);
    desk.offer(Way::Ipc, 1, 5, None, parts(2, 5000));
    assert_eq!(desk.offer(Way::Ipc, 2, 3, None, parts(1, 9000)), Offer::Kept);
    assert_eq!(small.current().unwrap().parts().prev_hash, BlockHash::from_byte_array([2; 32]));
    assert_eq!(
        desk.offer(Way::Ipc, 2, 3, None, parts(2, 9000)),
        Offer::HigherFees,
        "it is as good under the same tip"
    );
    assert_eq!(desk.offer(Way::Ipc, 2, 4, None, parts(1, 9000)), Offer::Kept, "and makes nothing older");
    assert_eq!(desk.offer(Way::Ipc, 1, 6, None, parts(1, 5000)), Offer::NewTip, "a chain may go back");
}

#[test]
fn a_node_that_is_just_back_takes_nobody_to_a_lower_block_before_it_has_had_time_to_catch_up() {
    let lower = |tip| Parts { height: 94, ..parts(tip, 5000) };
    let back_on = |network| {
        let desk = Desk::new();
        desk.offer(Way::Ipc, 1, 0, None, parts(1, 5000));
        desk.feed.away(Way::Ipc, "killed".into());
        desk.reached_on(Some(network), Way::Ipc);
        desk
    };
    let desk = back_on(Network::Bitcoin);
    assert_eq!(desk.offer(Way::Ipc, 2, 1, None, lower(2)), Offer::Kept);
    assert_eq!(desk.offer(Way::Ipc, 2, 2, None, parts(3, 5000)), Offer::NewTip, "another block, as high");
    assert_eq!(desk.offer(Way::Ipc, 2, 3, None, lower(2)), Offer::Kept);
    assert_eq!(desk.offer(Way::Ipc, 2, 120, None, lower(2)), Offer::NewTip, "it is on a lower chain");
    let desk = back_on(Network::Regtest);
    assert_eq!(desk.offer(Way::Ipc, 2, 1, None, lower(2)), Offer::NewTip, "it may have no peers");
}

#[test]
fn only_the_way_that_delivers_is_listened_to_and_the_better_one_has_precedence() {
    let desk = Desk::new();
    desk.reached(Way::Rpc);
    assert_eq!(desk.offer(Way::Rpc, 0, 0, None, parts(1, 5000)), Offer::Kept);
    desk.feed.away(Way::Ipc, "gone".into());
    desk.reached(Way::Rpc);
    assert_eq!(desk.offer(Way::Rpc, 0, 1, None, parts(1, 5000)), Offer::NewTip);
    desk.reached(Way::Ipc);
    assert_eq!(desk.offer(Way::Rpc, 0, 2, None, parts(2, 5000)), Offer::Kept);
    assert_eq!(desk.offer(Way::Ipc, 1, 3, None, parts(2, 5000)), Offer::NewTip);
}

#[test]
fn a_template_that_is_given_again_has_a_later_id_and_is_the_same_to_its_source() {
    let desk = Desk::new();
    desk.offer(Way::Ipc, 1, 0, None, parts(1, 5000));
    let first = desk.feed.join(SMALL).current().unwrap();
    let again = desk.feed.renewed(&first);
    assert!(again.id() > first.id());
    let template = desk.feed.renewed(&again).fit(SMALL, None).unwrap().unwrap();
    assert_eq!(template.id_at_source(), first.id());
    assert_eq!(again.parts().transactions.all().unwrap().len(), 1);
}

#[test]
fn transactions_that_are_owed_arrive_when_they_are_paid() {
    let desk = Desk::new();
    let (mut small, mut arrivals) = (desk.feed.join(SMALL), desk.feed.arrivals());
    let (offer, sent) = desk.send(Way::Ipc, 1, 0, None, early(1, 5000, SMALL));
    assert_eq!(offer, Offer::NewTip);
    let template = small.current().unwrap();
    assert!(template.parts().transactions.are_awaited() && !arrivals.has_changed().unwrap());
    sent.unwrap().owed.unwrap().pay(parts(1, 5000).transactions.all().unwrap().to_vec());
    assert!(arrivals.has_changed().unwrap());
    assert_eq!(template.parts().transactions.all().unwrap().len(), 1);
    arrivals.mark_unchanged();
    assert_eq!(desk.offer(Way::Ipc, 1, 1, None, parts(1, 5000)), Offer::Kept);
    assert!(!arrivals.has_changed().unwrap());
}

#[test]
fn a_template_whose_transactions_never_came_is_replaced_by_any_under_the_same_tip() {
    let desk = Desk::new();
    let (mut small, arrivals) = (desk.feed.join(SMALL), desk.feed.arrivals());
    let (_, sent) = desk.send(Way::Ipc, 1, 0, None, early(1, 5000, SMALL));
    assert_eq!(desk.offer(Way::Ipc, 1, 1, None, parts(1, 5000)), Offer::Kept);
    drop(sent);
    assert!(arrivals.has_changed().unwrap() && small.current().unwrap().parts().transactions.are_lost());
    assert_eq!(desk.offer(Way::Ipc, 1, 1, None, parts(1, 4000)), Offer::HigherFees);
    assert_eq!(desk.offer(Way::Ipc, 1, 2, None, parts(1, 4000)), Offer::Kept);
}

#[test]
fn a_client_whose_template_may_have_to_be_trimmed_takes_the_one_made_for_it() {
    let desk = Desk::new();
    let _large = desk.feed.join(LARGE);
    let (_, _sent) = desk.send(Way::Ipc, 1, 0, None, early(1, 5000, SMALL));
    assert_eq!(desk.offer(Way::Ipc, 2, 1, Some(LARGE), parts(1, 4000)), Offer::HigherFees);
}

/// A new connection: what was held on the old one is gone.
#[test]
fn a_template_that_the_node_has_forgotten_is_replaced_by_one_that_it_has() {
    let mut desk = Desk::new();
    let mut small = desk.feed.join(SMALL);
    desk.offer(Way::Ipc, 1, 0, None, parts(1, 5000));
    let first = small.current().unwrap();
    desk.first_set = 2;
    assert_eq!(desk.offer(Way::Ipc, 2, 1, None, parts(1, 5000)), Offer::HigherFees);
    assert!(small.current().unwrap().id() > first.id());
    assert_eq!(desk.offer(Way::Ipc, 2, 2, None, parts(1, 5000)), Offer::Kept);
}
