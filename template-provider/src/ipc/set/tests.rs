#![allow(clippy::unwrap_used)]

use bitcoin::Amount;
use distribution::{BlockTemplate, Chosen};
use tokio::task::LocalSet;

use super::super::fake::{Node, by_rpc, hash};
use super::*;
use crate::feed::{Membership, Offer};

const ROOM: Constraints = Constraints { max_additional_size: 100, max_additional_sigops: 4 };
/// Longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(10);

/// A set that follows this node, and a client that it serves.
struct Followed {
    feed: Feed,
    client: Membership,
    stop: CancellationToken,
    set: tokio::task::JoinHandle<Result<(), IpcError>>,
}

impl Followed {
    fn begin(node: &Node) -> Self {
        Self::looking(node, Duration::from_secs(3600))
    }

    /// One that looks at the fees so often.
    fn looking(node: &Node, interval: Duration) -> Self {
        let mut shared = node.shared();
        shared.fees.interval = interval;
        let shared = Rc::new(shared);
        let (feed, stop) = (shared.feed.clone(), CancellationToken::new());
        let client = feed.join(ROOM);
        let set = Set { shared, number: 1, kind: ROOM.into(), stop: stop.clone() };
        Self { feed, client, stop, set: tokio::task::spawn_local(set.follow()) }
    }

    async fn next(&mut self) -> std::sync::Arc<BlockTemplate> {
        tokio::time::timeout(DEADLINE, self.client.next()).await.expect("a template").unwrap()
    }

    async fn end(self) {
        self.stop.cancel();
        self.set.await.unwrap().unwrap();
    }
}

fn seen() -> Seen {
    Seen { version: "test".into(), network: None, height: 99, peers: None }
}

#[tokio::test]
async fn where_another_way_brought_the_tip_already_the_node_is_not_asked_for_it_again_and_again() {
    let body = async {
        let node = Node::new([]);
        node.give_transactions(false);
        let mut followed = Followed::begin(&node);
        while node.made() == 0 {
            tokio::task::yield_now().await;
        }
        node.set_tip(2);
        followed.feed.reached(Way::Rpc, seen());
        let offered = Offered {
            way: Way::Rpc,
            as_of: Instant::now(),
            set: 0,
            first_set: 0,
            serves: &|_| true,
            is_base: true,
            threshold: Amount::ONE_SAT,
        };
        assert_eq!(followed.feed.offer(&offered, by_rpc(2, 100)).0, Offer::NewTip);
        assert_eq!(followed.next().await.parts().prev_hash, hash(2));
        node.give_transactions(true);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(node.made(), 2, "one for each tip");
        node.set_tip(3);
        assert_eq!(followed.next().await.parts().prev_hash, hash(3));
        followed.end().await;
    };
    LocalSet::new().run_until(body).await;
}

#[tokio::test]
async fn a_tip_that_changes_while_transactions_are_on_their_way_is_seen_at_once_and_they_come_nevertheless() {
    let body = async {
        let node = Node::new([]);
        let mut followed = Followed::begin(&node);
        assert_eq!(followed.next().await.parts().prev_hash, hash(1));
        node.give_transactions(false);
        let mut early = Vec::new();
        for tip in 2..5 {
            node.set_tip(tip);
            let template = followed.next().await;
            assert_eq!(template.parts().prev_hash, hash(tip));
            early.push(template);
        }
        assert!(early.iter().all(|template| template.parts().transactions.are_awaited()));
        // Also where the set is to end.
        followed.stop.cancel();
        tokio::time::sleep(Duration::from_millis(50)).await;
        node.give_transactions(true);
        followed.end().await;
        assert!(early.iter().all(|template| template.parts().transactions.all().is_some()));
    };
    LocalSet::new().run_until(body).await;
}

#[tokio::test]
async fn a_template_before_its_transactions_serves_every_client_that_the_node_left_room_for() {
    let body = async {
        let node = Node::new([]);
        let mut followed = Followed::begin(&node);
        followed.next().await;
        node.give_transactions(false);
        node.set_tip(2);
        let template = followed.next().await;
        assert!(template.parts().transactions.are_awaited());
        let chosen = |max_additional_size| {
            Constraints { max_additional_size, ..ROOM }.choose(template.parts()).unwrap()
        };
        assert_eq!((chosen(210), chosen(211)), (Chosen::All, Chosen::Unknown), "it was made for {ROOM:?}");
        node.give_transactions(true);
        followed.end().await;
    };
    LocalSet::new().run_until(body).await;
}

#[tokio::test]
async fn a_node_whose_clock_is_put_forward_is_waited_on_and_one_that_ends_is_not() {
    let body = async {
        let node = Node::new([]);
        let mut followed = Followed::begin(&node);
        node.end_early(1);
        assert_eq!(followed.next().await.parts().prev_hash, hash(1));
        tokio::time::sleep(Duration::from_millis(50)).await;
        node.set_tip(2);
        assert_eq!(followed.next().await.parts().prev_hash, hash(2));
        followed.end().await;

        let ending = Followed::begin(&node);
        node.end_early(usize::MAX);
        let ended = tokio::time::timeout(DEADLINE, ending.set).await.expect("it ends").unwrap();
        assert!(matches!(ended, Err(IpcError::Ending { .. })), "{ended:?}");
    };
    LocalSet::new().run_until(body).await;
}

#[tokio::test]
async fn the_fees_are_looked_at_in_time_also_where_the_nodes_clock_is_put_back() {
    let body = async {
        let node = Node::new([]);
        node.put_back();
        let mut followed = Followed::looking(&node, Duration::from_millis(50));
        followed.next().await;
        let deadline = Instant::now() + DEADLINE;
        while node.looks() < 2 {
            assert!(Instant::now() < deadline, "nobody looks at the fees");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        followed.end().await;
    };
    LocalSet::new().run_until(body).await;
}

#[tokio::test]
async fn a_set_ends_when_nothing_waits_with_the_node_also_where_that_knows_no_interruption() {
    let body = async {
        let node = Node::new([]);
        node.know_no_interruption();
        let mut followed = Followed::begin(&node);
        followed.next().await;
        while node.waits() == 0 {
            tokio::task::yield_now().await;
        }
        // Longer than one wait: the next one is as short.
        tokio::time::sleep(Duration::from_millis(300)).await;
        followed.end().await;
        assert_eq!(node.waits(), 0);
        assert_eq!(node.made(), 1, "no template without need");
    };
    LocalSet::new().run_until(body).await;
}
