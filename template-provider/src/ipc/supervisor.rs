//! One connection's life: opened, checked, a set of templates for each kind of clients, blocks handed in, closed.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use distribution::Constraints;
use link::wait_until;
use service::Backoff;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::answer::Known;
use super::error::IpcError;
use super::kept::Kept;
use super::kind::Kind;
use super::loaded;
use super::network;
use super::peers;
use super::set::{Set, Shared};
use super::{Ipc, Settings};
use crate::feed::Feed;

/// Shortest time between changes of the sets: clients come and go, and each set costs the node a template.
const CHANGE: Duration = Duration::from_millis(250);
/// Calls that fail since the connection has ended say so before that is said for them.
const SAYING_SO: Duration = Duration::from_millis(500);
/// A kind of clients that the node has refused templates for is tried again after so long.
const AGAIN: Duration = Duration::from_secs(60);
/// How long the sets may take to end.
const ENDING: Duration = Duration::from_secs(2);

/// Follows the node over one connection until that fails (`Err`), or until shutdown.
pub(super) async fn run(
    source: &mut Ipc,
    feed: &Feed,
    backoff: &mut Backoff,
    shutdown: &CancellationToken,
) -> Result<(), IpcError> {
    let settings = source.settings.clone();
    let opening = async {
        let connection = loaded::open(&settings).await?;
        loaded::check(&connection, settings.rpc.as_ref(), source.gone.as_ref()).await?;
        let seen = network::check(&connection, settings.network).await?;
        Ok::<_, IpcError>((connection, seen))
    };
    let (connection, seen) = tokio::select! {
        opened = opening => opened?,
        () = shutdown.cancelled() => return Ok(()),
    };
    source.gone = None;
    info!(socket = %settings.socket.display(), version = seen.version, height = seen.height, "node reached by IPC");
    let shared = Rc::new(Shared {
        connection,
        feed: feed.clone(),
        fees: settings.fees,
        network: settings.network,
        first_set: source.last_set + 1,
        seen: RefCell::new(Some(seen)),
        routes: watch::Sender::default(),
        known: RefCell::new(Known::default()),
        kept: RefCell::new(Kept::new(settings.stale, settings.sets)),
    });
    let mut sets = Sets::new(Rc::clone(&shared), source.last_set);
    let ended = tokio::select! {
        failure = sets.run(source, &settings, backoff) => Err(failure),
        failure = stalled(&shared, &settings) => Err(failure),
        failure = cut_off(&shared) => Err(failure),
        never = peers::watch(&shared, settings.rpc.as_ref()) => never,
        () = shutdown.cancelled() => Ok(()),
    };
    sets.end(ended.is_ok()).await;
    if let Some(shared) = Rc::into_inner(shared) {
        shared.connection.close().await;
    }
    ended
}

/// Ends when the node answers no more, or not in time. The waits for templates would not notice. Any answer is a sign of life: the tip is told
/// only between two templates that the node makes, and it makes one for each set.
async fn stalled(shared: &Shared, settings: &Settings) -> IpcError {
    let (connection, stall) = (&shared.connection, settings.stall);
    loop {
        tokio::time::sleep(stall / 2).await;
        // One that goes on answering other things, and this never, is not waited for without end.
        let limit = stall + settings.timeout;
        tokio::select! {
            told = connection.ask_within(limit, "getTip", connection.mining().tip()) => {
                if let Err(error) = told {
                    return error;
                }
            }
            () = connection.silence(stall) => {
                return IpcError::Stalled { socket: connection.socket(), after: stall };
            }
        }
        shared.kept.borrow_mut().tidy();
        shared.known.borrow_mut().tidy();
    }
}

/// Ends when there is nobody any more who could give an answer, and no call has said so: a wait for a template has no time of its own.
async fn cut_off(shared: &Shared) -> IpcError {
    shared.connection.ended().await;
    tokio::time::sleep(SAYING_SO).await;
    IpcError::Lost { socket: shared.connection.socket(), call: "waitNext" }
}

/// The sets of one connection.
struct Sets {
    shared: Rc<Shared>,
    /// Kinds that there should be sets for.
    needed: Vec<Kind>,
    running: Vec<Running>,
    /// Kinds that the node makes no templates for, and when it is asked again.
    refused: Vec<(Kind, Instant)>,
    /// What was said of the last one.
    told: String,
    tasks: JoinSet<(u64, Result<(), IpcError>)>,
    /// Blocks that are being handed in.
    orders: JoinSet<()>,
    last: u64,
}

struct Running {
    number: u64,
    kind: Kind,
    stop: CancellationToken,
}

impl Sets {
    /// They are numbered from the one after `last`.
    fn new(shared: Rc<Shared>, last: u64) -> Self {
        let (needed, running, refused) = (Vec::new(), Vec::new(), Vec::new());
        let (tasks, orders) = (JoinSet::new(), JoinSet::new());
        Self { shared, needed, running, refused, told: String::new(), tasks, orders, last }
    }

    async fn run(&mut self, source: &mut Ipc, settings: &Settings, backoff: &mut Backoff) -> IpcError {
        let (mut wanted, mut routes) = (self.shared.feed.wanted(), self.shared.routes.subscribe());
        let (mut changed, mut not_before) = (true, Instant::now());
        let (mut is_up, mut caught_up) = (false, None);
        loop {
            if changed && not_before <= Instant::now() {
                self.start_missing(Instant::now(), &wanted.borrow_and_update().clone(), settings.sets);
                source.last_set = self.last;
                (changed, not_before) = (false, Instant::now() + CHANGE);
            }
            self.stop_surplus();
            let again = self.refused.iter().map(|(_, again)| *again).min();
            if !is_up && self.shared.seen.borrow().is_none() {
                is_up = true; // a template has come
                backoff.reset();
                caught_up = Some(Instant::now() + self.shared.feed.health().catching_up());
            }
            tokio::select! {
                Ok(()) = wanted.changed() => changed = true,
                () = tokio::time::sleep_until(not_before.into()), if changed => {}
                () = wait_until(again), if !changed => changed = true,
                () = wait_until(caught_up) => {
                    caught_up = None;
                    // What the feed may have held back meanwhile is offered again.
                    self.shared.routes.send_modify(|_| {});
                }
                Ok(()) = routes.changed() => {}
                Some(joined) = self.tasks.join_next() => {
                    changed = true;
                    if let Err(failure) = self.ended(joined) {
                        return failure;
                    }
                }
                Some(order) = source.orders.recv() => {
                    let shared = Rc::clone(&self.shared);
                    self.orders.spawn_local(async move { order.carry_out(&shared).await });
                }
                Some(_) = self.orders.join_next() => {}
            }
        }
    }

    /// Starts the sets that are needed and not there.
    fn start_missing(&mut self, now: Instant, wanted: &[Constraints], most: usize) {
        let mut kinds = Vec::new();
        for kind in wanted.iter().map(|constraints| Kind::from(*constraints)) {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        self.refused.retain(|(kind, again)| kinds.contains(kind) && now < *again);
        let is_refused = |kind: &Kind| self.refused.iter().any(|(refused, _)| refused == kind);
        let possible = kinds.into_iter().filter(|kind| !is_refused(kind));
        self.needed = possible.take(most).collect();
        if self.needed.is_empty() {
            self.needed.push(Kind::LEAST);
        }
        for kind in self.needed.clone() {
            if !self.running.iter().any(|set| set.kind == kind) {
                self.start(kind);
            }
        }
    }

    /// Stops the sets that are not needed, once others can take over. From now on others serve whom these served: what
    /// comes while they end would be lost to them.
    fn stop_surplus(&self) {
        let is_open = |kind: &Kind| self.shared.routes.borrow().is_open(*kind);
        if !self.needed.iter().any(is_open) {
            return;
        }
        for set in self.running.iter().filter(|set| !self.needed.contains(&set.kind)) {
            set.stop.cancel();
            self.shared.routes.send_if_modified(|routes| routes.close(set.number));
        }
    }

    fn start(&mut self, kind: Kind) {
        self.last += 1;
        let (number, stop) = (self.last, CancellationToken::new());
        debug!(number, ?kind, "templates of their own for clients like this");
        let set = Set { shared: Rc::clone(&self.shared), number, kind, stop: stop.clone() };
        self.tasks.spawn_local(async move { (number, set.follow().await) });
        self.running.push(Running { number, kind, stop });
    }

    /// A set has ended. An error of one that the node refuses is its clients' own.
    fn ended(&mut self, joined: Result<(u64, Result<(), IpcError>), JoinError>) -> Result<(), IpcError> {
        let (number, outcome) = match joined {
            Ok(ended) => ended,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        let position = self.running.iter().position(|set| set.number == number);
        let kind = position.map(|position| self.running.swap_remove(position).kind);
        self.shared.routes.send_if_modified(|routes| routes.close(number));
        match (outcome, kind) {
            (Err(error @ IpcError::Refused { call: "createNewBlock", .. }), Some(kind))
                if kind != Kind::LEAST =>
            {
                let said = format!("no templates of their own for such clients: {error}");
                if said != self.told {
                    warn!(?kind, "{said}");
                    self.told = said;
                }
                self.refused.push((kind, Instant::now() + AGAIN));
                Ok(())
            }
            (outcome, _) => outcome,
        }
    }

    /// Ends all sets; in order if the node still answers.
    async fn end(mut self, in_order: bool) {
        self.orders.shutdown().await; // each has the connection
        if in_order {
            self.running.iter().for_each(|set| set.stop.cancel());
            let ended = async { while self.tasks.join_next().await.is_some() {} };
            let _ = tokio::time::timeout(ENDING, ended).await;
        }
        self.tasks.shutdown().await;
        self.shared.kept.borrow_mut().clear();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bitcoin::Network;
    use tokio::task::LocalSet;

    use super::super::Desk;
    use super::super::fake::{Node, by_rpc, hash};
    use super::super::wire::Room;
    use super::*;
    use crate::feed::{Offer, Offered};
    use crate::health::Seen;
    use crate::source::Way;

    /// Longer than anything here takes.
    const DEADLINE: Duration = Duration::from_secs(10);

    fn with_sigops(max_additional_sigops: u16) -> Constraints {
        Constraints { max_additional_size: 1000, max_additional_sigops }
    }

    fn settings(shared: &Shared) -> Settings {
        Settings {
            socket: shared.connection.socket(),
            network: Network::Regtest,
            fees: shared.fees,
            timeout: DEADLINE,
            stall: DEADLINE,
            sets: 8,
            stale: Duration::from_secs(60),
            rpc: None,
        }
    }

    #[tokio::test]
    async fn a_node_that_is_busy_and_answers_something_has_not_stalled_and_one_that_answers_nothing_has() {
        let body = async {
            let node = Node::new([]);
            let shared = node.shared();
            let settings = Settings { stall: Duration::from_secs(1), ..settings(&shared) };
            node.keep_tip();
            let others = async {
                for _ in 0..60 {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    let answer = shared.connection.mining().is_test_chain();
                    shared.connection.ask("isTestChain", answer).await.unwrap();
                }
            };
            tokio::select! {
                failure = stalled(&shared, &settings) => panic!("{failure}"),
                () = others => {}
            }
            let noticed = tokio::time::timeout(DEADLINE, stalled(&shared, &settings)).await;
            assert!(matches!(noticed, Ok(IpcError::Stalled { .. })), "{noticed:?}");
        };
        LocalSet::new().run_until(body).await;
    }

    #[tokio::test]
    async fn for_clients_that_differ_in_sigops_alone_the_node_is_asked_to_leave_what_each_has_named() {
        let body = async {
            let node = Node::new([]);
            let shared = Rc::new(node.shared());
            let _clients = [4, 400].map(|sigops| shared.feed.join(with_sigops(sigops)));
            let settings = settings(&shared);
            let (_desk, orders) = Desk::open();
            let mut source = Ipc::new(settings.clone(), orders);
            let mut sets = Sets::new(shared, 0);
            let mut backoff = Backoff::new(DEADLINE, DEADLINE);
            let asked = async {
                while node.rooms().len() < 2 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::select! {
                failure = sets.run(&mut source, &settings, &mut backoff) => panic!("{failure}"),
                asked = tokio::time::timeout(DEADLINE, asked) => asked.expect("a set for each"),
            }
            sets.end(true).await;
            let mut rooms = node.rooms();
            rooms.sort_unstable_by_key(|room| room.sigops);
            // Of 83 bytes of header and number of transactions, and of the coinbase's 1198 each counts four times: 1000 of the client's, 47
            // of the commitment's output, 151 others. Its witness counts 36. A sigop costs four, and 400
            // are kept free at the least.
            assert_eq!(rooms, [400, 1600].map(|sigops| Room { weight: 4 * (83 + 1198) + 36, sigops }));
        };
        LocalSet::new().run_until(body).await;
    }

    #[tokio::test]
    async fn clients_for_whom_the_node_is_asked_for_the_same_have_one_set_and_it_was_there_before_them() {
        let body = async {
            let node = Node::new([]);
            let mut sets = Sets::new(Rc::new(node.shared()), 0);
            sets.start_missing(Instant::now(), &[], 8);
            let mut wanted =
                [31, 43, 74].map(|size| Constraints { max_additional_size: size, ..with_sigops(0) }).to_vec();
            wanted.extend([0, 4].map(with_sigops));
            sets.start_missing(Instant::now(), &wanted, 8);
            let numbers: Vec<_> = sets.running.iter().map(|set| set.number).collect();
            assert_eq!(numbers, [1, 2], "one for the small ones, one for the large");
            sets.end(true).await;
        };
        LocalSet::new().run_until(body).await;
    }

    #[tokio::test]
    async fn a_kind_that_the_node_has_refused_is_tried_again_after_a_minute() {
        let body = async {
            let node = Node::new([]);
            let mut sets = Sets::new(Rc::new(node.shared()), 0);
            let (start, kind) = (Instant::now(), Kind::from(with_sigops(4)));
            node.refuse_templates();
            sets.start_missing(start, &[with_sigops(4)], 8);
            let ended = tokio::time::timeout(DEADLINE, sets.tasks.join_next()).await.unwrap().unwrap();
            sets.ended(ended).unwrap();
            sets.start_missing(start + AGAIN / 2, &[with_sigops(4)], 8);
            assert_eq!(sets.needed, [Kind::LEAST]);
            sets.start_missing(Instant::now() + AGAIN, &[with_sigops(4)], 8);
            assert_eq!(sets.needed, [kind]);
            sets.end(true).await;
        };
        LocalSet::new().run_until(body).await;
    }

    #[tokio::test]
    async fn a_lower_block_of_a_node_that_is_back_is_offered_again_when_it_has_had_time_to_catch_up() {
        let body = async {
            let node = Node::new([]);
            let shared = Rc::new(node.shared());
            let on = |network| Seen { version: "test".into(), network, height: 99, peers: None };
            *shared.seen.borrow_mut() = Some(on(Some(Network::Bitcoin)));
            let feed = shared.feed.clone();
            let time = Duration::from_millis(500);
            feed.health().set_catching_up(time);
            feed.reached(Way::Rpc, on(None));
            let offered = Offered {
                way: Way::Rpc,
                as_of: Instant::now(),
                set: 0,
                first_set: 0,
                serves: &|_| true,
                is_base: true,
                threshold: shared.fees.threshold,
            };
            assert_eq!(feed.offer(&offered, by_rpc(7, 106)).0, Offer::NewTip);
            let mut client = feed.join(with_sigops(4));
            assert_eq!(client.current().unwrap().parts().height, 106);
            let (settings, began) = (settings(&shared), Instant::now());
            let (_desk, orders) = Desk::open();
            let mut source = Ipc::new(settings.clone(), orders);
            let mut sets = Sets::new(shared, 0);
            let mut backoff = Backoff::new(DEADLINE, DEADLINE);
            let template = tokio::select! {
                failure = sets.run(&mut source, &settings, &mut backoff) => panic!("{failure}"),
                template = tokio::time::timeout(DEADLINE, client.next()) => template.unwrap().unwrap(),
            };
            assert_eq!(template.parts().prev_hash, hash(1));
            assert!(began.elapsed() >= time, "{:?}", began.elapsed());
            sets.end(true).await;
        };
        LocalSet::new().run_until(body).await;
    }
}
