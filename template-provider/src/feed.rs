//! The templates that clients mine on: one *lane* for each set of constraints that clients have named.
//!
//! A source that makes one template for everybody offers it to all lanes, and the session trims it; one that makes
//! a template for each set of constraints (IPC) offers each to its lane. Only the way that delivers is listened to.

mod owed;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bitcoin::Amount;
use distribution::{BlockTemplate, Chosen, Constraints, Parts, TemplateIds};
use service::{Counter, Counters};
use tokio::sync::watch;
use tracing::{debug, info};

pub use owed::Owed;

use crate::health::{Health, Seen};
use crate::source::Way;

/// What waits for templates: a slow one sees the latest and misses those between, so nothing queues.
pub type Templates = watch::Receiver<Option<Arc<BlockTemplate>>>;

/// Where sources put templates and clients take them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Feed(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    /// What clients have named, the earliest first.
    wanted: watch::Sender<Vec<Constraints>>,
    health: Arc<Health>,
    /// How often the node was reached.
    reached: watch::Sender<u64>,
    /// How often transactions came after their template, or were given up.
    arrivals: watch::Sender<u64>,
    /// New templates for a new tip, and for higher fees.
    counted: [Counter; 2],
    /// How often each way became the one that delivers.
    changes: [Counter; 2],
}

#[derive(Debug)]
struct State {
    ids: TemplateIds,
    /// What is shown, and what a new lane begins with.
    base: Lane,
    lanes: Vec<(Constraints, Lane)>,
}

/// Templates for clients of the same constraints.
#[derive(Debug, Default)]
struct Lane {
    sender: watch::Sender<Option<Arc<BlockTemplate>>>,
    /// When the node had the current one.
    as_of: Option<Instant>,
    /// The set that the current one is of; see [`Offered::set`].
    set: Option<u64>,
    /// Since when a lower block is held back.
    held: Option<Instant>,
    members: usize,
}

/// A template that a source offers.
pub struct Offered<'a> {
    /// How it came.
    pub way: Way,
    /// When the node had it: a tip that it had later is not replaced by one that it had earlier.
    pub as_of: Instant,
    /// The number of the source's set of templates for the same constraints, from 1; a source with one set says 0.
    pub set: u64,
    /// The first set whose templates the node still has: those of earlier ones it has forgotten with their connection.
    pub first_set: u64,
    /// Which lanes this set serves.
    pub serves: &'a dyn Fn(Constraints) -> bool,
    /// Whether it serves those who have not named any constraints, and the status page.
    pub is_base: bool,
    /// How much more it must pay than the last one under the same tip.
    pub threshold: Amount,
}

/// What became of an offered template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Offer {
    /// Not sent: the last one stays.
    Kept,
    /// Sent: it pays enough more, leaves room where the last one had to be trimmed, or replaces one whose transactions
    /// never came or that the node has forgotten.
    HigherFees,
    /// Sent: it has another tip.
    NewTip,
}

/// A template that was sent.
#[derive(Debug)]
pub struct Sent {
    /// Its id.
    pub template_id: u64,
    /// If it was sent before its transactions: those.
    pub owed: Option<Owed>,
}

impl Feed {
    /// A feed without a template yet, started at this time.
    pub fn new(started: SystemTime, counters: &Counters) -> Self {
        counters.describe("templates", "Templates sent to the clients, by what was new");
        counters.describe("source_changes", "How often templates began to come in this way");
        let counter = |new| counters.counter("templates", &[("new", new)]);
        let since = started.duration_since(UNIX_EPOCH).unwrap_or_default();
        let ids = TemplateIds::starting(u64::try_from(since.as_millis()).unwrap_or_default());
        Self(Arc::new(Inner {
            state: Mutex::new(State { ids, base: Lane::default(), lanes: Vec::new() }),
            wanted: watch::channel(Vec::new()).0,
            health: Arc::default(),
            reached: watch::channel(0).0,
            arrivals: watch::channel(0).0,
            counted: [counter("tip"), counter("fees")],
            changes: Way::ALL.map(|way| counters.counter("source_changes", &[("to", way.name())])),
        }))
    }

    /// What the status page shows.
    pub fn templates(&self) -> Templates {
        self.lock().base.sender.subscribe()
    }

    /// How the sources are doing.
    pub fn health(&self) -> Arc<Health> {
        Arc::clone(&self.0.health)
    }

    /// The node can be used in this way and gives templates: they come in this way from now on.
    pub fn reached(&self, way: Way, node: Seen) {
        if self.0.health.delivers(way, node) {
            self.0.changes[way.index()].add(1);
            self.0.reached.send_modify(|count| *count += 1);
        }
    }

    /// Changes each time that the node is reached after it was away.
    pub fn reaches(&self) -> watch::Receiver<u64> {
        self.0.reached.subscribe()
    }

    /// Changes each time that transactions have come after their template, or were given up.
    pub fn arrivals(&self) -> watch::Receiver<u64> {
        self.0.arrivals.subscribe()
    }

    /// This way fails; clients keep what they have. Whether this is news.
    pub fn away(&self, way: Way, reason: String) -> bool {
        self.0.health.fails(way, reason)
    }

    /// The node was looked at while this way delivers: it has so many peers, and this is wrong with it, if anything; templates go on.
    /// Whether what is wrong is news, or that nothing is any more.
    pub fn looked(&self, way: Way, peers: Option<u32>, trouble: Option<String>) -> bool {
        self.0.health.looked(way, peers, trouble)
    }

    /// The constraints that clients have named, each once, the earliest first.
    pub fn wanted(&self) -> watch::Receiver<Vec<Constraints>> {
        self.0.wanted.subscribe()
    }

    /// A client's place among those of the same constraints.
    pub fn join(&self, constraints: Constraints) -> Membership {
        let mut state = self.lock();
        let known = state.lanes.iter_mut().find(|(of, _)| *of == constraints);
        let receiver = match known {
            Some((_, lane)) => {
                lane.members += 1;
                lane.sender.subscribe()
            }
            None => {
                let lane = state.base.branch();
                let receiver = lane.sender.subscribe();
                state.lanes.push((constraints, lane));
                self.announce(&state);
                receiver
            }
        };
        drop(state);
        Membership { feed: self.clone(), constraints, receiver }
    }

    /// Sends a template into each lane that it serves, if it has a new tip there or pays enough more than the last
    /// one. What was sent, if it was sent to anybody.
    pub fn offer(&self, offered: &Offered<'_>, parts: Parts) -> (Offer, Option<Sent>) {
        self.offer_at(Instant::now(), offered, parts)
    }

    fn offer_at(&self, now: Instant, offered: &Offered<'_>, parts: Parts) -> (Offer, Option<Sent>) {
        if self.0.health.active() != Some(offered.way) {
            return (Offer::Kept, None);
        }
        let (is_free, time) = (!self.0.health.may_be_catching_up(now), self.0.health.catching_up());
        let may_go_back = |held: Instant| is_free || now >= held + time;
        let mut state = self.lock();
        let judged =
            state.served(offered).map(|(of, lane)| lane.judge(of, offered, &parts, now, may_go_back));
        let best = judged.max().unwrap_or(Offer::Kept);
        if best == Offer::Kept {
            return (best, None);
        }
        let template = Arc::new(BlockTemplate::new(state.ids.allocate(), parts));
        for (of, lane) in state.served(offered) {
            if lane.judge(of, offered, template.parts(), now, may_go_back) != Offer::Kept {
                lane.send(offered, &template);
            }
        }
        self.0.counted[usize::from(best == Offer::HigherFees)].add(1);
        self.0.health.published();
        let template_id = template.id();
        let owed = if template.parts().transactions.are_awaited() {
            debug!(height = template.parts().height, "sent before its transactions");
            Some(Owed::new(self, best, offered.way, template))
        } else {
            say(best, offered.way, &template);
            None
        };
        (best, Some(Sent { template_id, owed }))
    }

    /// The same template with a new id, for a client that has had later ones.
    pub fn renewed(&self, template: &BlockTemplate) -> Arc<BlockTemplate> {
        let id = self.lock().ids.allocate();
        Arc::new(template.renewed(id))
    }

    fn announce(&self, state: &State) {
        self.0.wanted.send_replace(state.lanes.iter().map(|(constraints, _)| *constraints).collect());
    }

    fn leave(&self, constraints: Constraints) {
        let mut state = self.lock();
        let Some(position) = state.lanes.iter().position(|(of, _)| *of == constraints) else { return };
        let lane = &mut state.lanes[position].1;
        lane.members -= 1;
        if lane.members == 0 {
            state.lanes.remove(position);
            self.announce(&state);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Said when the transactions are there.
fn say(offer: Offer, way: Way, template: &BlockTemplate) {
    let parts = template.parts();
    let (height, value) = (parts.height, parts.coinbase.value);
    let transactions = parts.transactions.all().map(<[_]>::len);
    match offer {
        Offer::NewTip => info!(height, prev_hash = %parts.prev_hash, transactions, %value, %way, "new tip"),
        Offer::HigherFees => debug!(height, transactions, %value, %way, "higher fees"),
        Offer::Kept => {}
    }
}

impl State {
    fn served<'a>(
        &'a mut self,
        offered: &'a Offered<'_>,
    ) -> impl Iterator<Item = (Option<Constraints>, &'a mut Lane)> {
        let base = offered.is_base.then_some((None, &mut self.base));
        let lanes = self.lanes.iter_mut().map(|(of, lane)| (Some(*of), lane));
        base.into_iter().chain(lanes.filter(|(of, _)| of.is_some_and(|of| (offered.serves)(of))))
    }
}

impl Lane {
    /// A new lane with the same template, and its first member.
    fn branch(&self) -> Self {
        let template = self.sender.borrow().clone();
        Self { sender: watch::channel(template).0, as_of: self.as_of, set: self.set, held: None, members: 1 }
    }

    /// `may_go_back`: to a lower block, as in a reorganisation, which was held back since then. A node that may be catching up has
    /// mostly forgotten what its clients mine on, or not heard of it yet.
    fn judge(
        &mut self,
        of: Option<Constraints>,
        offered: &Offered<'_>,
        parts: &Parts,
        now: Instant,
        may_go_back: impl Fn(Instant) -> bool,
    ) -> Offer {
        let current = self.sender.borrow();
        let Some(current) = current.as_ref() else { return Offer::NewTip };
        if current.tip() != parts.tip() {
            let is_later = self.as_of.is_none_or(|as_of| as_of <= offered.as_of);
            let goes_back = parts.height < current.parts().height;
            let is_held = is_later && goes_back && !may_go_back(*self.held.get_or_insert(now));
            return if is_later && !is_held { Offer::NewTip } else { Offer::Kept };
        }
        let value = parts.coinbase.value;
        let wanted = current.parts().coinbase.value.checked_add(offered.threshold.max(Amount::ONE_SAT));
        let is_lost = current.parts().transactions.are_lost();
        let pays_more = wanted.is_some_and(|wanted| value >= wanted);
        let is_forgotten = self.set.is_some_and(|set| (1..offered.first_set).contains(&set));
        let made_to_measure = self.set != Some(offered.set) && of.is_some_and(|of| is_trimmed(of, current));
        if pays_more || made_to_measure || is_lost || is_forgotten { Offer::HigherFees } else { Offer::Kept }
    }

    fn send(&mut self, offered: &Offered<'_>, template: &Arc<BlockTemplate>) {
        self.as_of = self.as_of.max(Some(offered.as_of));
        self.set = Some(offered.set);
        self.held = None;
        self.sender.send_replace(Some(Arc::clone(template)));
    }
}

/// Whether transactions must give way to a coinbase of these constraints, or may have to.
fn is_trimmed(constraints: Constraints, template: &BlockTemplate) -> bool {
    constraints.choose(template.parts()).is_ok_and(|chosen| chosen != Chosen::All)
}

/// A client's place in a lane; it leaves when this is dropped.
#[derive(Debug)]
pub struct Membership {
    feed: Feed,
    constraints: Constraints,
    receiver: Templates,
}

impl Membership {
    /// Whose place it is.
    pub fn constraints(&self) -> Constraints {
        self.constraints
    }

    /// The lane's template.
    pub fn current(&mut self) -> Option<Arc<BlockTemplate>> {
        self.receiver.borrow_and_update().clone()
    }

    /// Waits for the next template.
    pub async fn next(&mut self) -> Option<Arc<BlockTemplate>> {
        self.receiver.changed().await.ok()?;
        self.receiver.borrow_and_update().clone()
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.feed.leave(self.constraints);
    }
}

#[cfg(test)]
mod tests;
