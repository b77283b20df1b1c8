//! What a miner's task does for it, whatever protocol it speaks: finds it work, hands its shares on, counts.

use super::Surroundings;
use super::ear::Ear;
use super::held::Held;
use super::source::{Came, Source};
use crate::farm::Seat;
use crate::session::{Disconnect, Event, Outcome, UpstreamShare, Worker};
use crate::sv1::Rejection;
use crate::totals::WorkerTotals;
use crate::upstream::{Command, Offer, ShareOut, feed};
use crate::work::Work;
use bitcoin::BlockHash;
use link::{Record, refusals};
use mining::header::as_number;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc;

/// Answers from the upstream that wait for a miner's task.
const MAX_ANSWERS: usize = 2048;
/// Workers whose totals are at hand; others are looked up for each share.
const MAX_WORKERS: usize = 4096;

/// Requests of a connection that may be refused: firmware asks for a few things that we have not.
const MAX_REFUSED: u8 = 16;
/// An SV1 miner's fault that rests for its refused requests, in log and metrics.
const REFUSED: &str = "refused-requests";

/// Whose shares are counted that nobody has authorised.
const NOBODY: &str = "(not authorised)";

/// A channel that is asked for is waited for so long. A hub to which hundreds of farms come back at once opens theirs one after the
/// other, which takes minutes.
pub(crate) const OPENING: std::time::Duration = std::time::Duration::from_secs(600);

/// One miner's.
pub(crate) struct Account {
    /// Its place in the farm.
    pub(crate) seat: Seat,
    /// What all miners share.
    pub(crate) surroundings: Surroundings,
    /// By which it can be told of work.
    pub(crate) ear: Arc<Ear>,
    /// Where its work comes from.
    pub(crate) source: Source,
    /// What the upstream said to its shares.
    pub(crate) answers: Answers,
    /// Shares on their way to the upstream's queue; the miner is not read while there are any.
    pub(crate) held: Held,
    /// Whether it rests, for the channels that it opens or for what was refused.
    pub(crate) record: Record,
    /// Requests that may still be refused and are no matter.
    forgiven: u8,
    /// By worker, in order.
    totals: Vec<(Arc<str>, Arc<WorkerTotals>)>,
}

/// What the upstream said to one miner's shares, by tag. The queue is made with the first share: an idle miner does
/// without its kilobyte and a half.
#[derive(Default)]
pub(crate) struct Answers(Option<(mpsc::Sender<Answer>, mpsc::Receiver<Answer>)>);

/// A share's tag and what became of it.
type Answer = (u32, Outcome);

impl Answers {
    /// The next answer; never if no share was handed on. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Answer {
        match &mut self.0 {
            Some((_, answered)) => match answered.recv().await {
                Some(answer) => answer,
                None => unreachable!("we hold a sender"),
            },
            None => std::future::pending().await,
        }
    }

    /// The next answer, if it is here.
    pub(crate) fn poll(&mut self) -> Option<Answer> {
        self.0.as_mut()?.1.try_recv().ok()
    }

    fn sender(&mut self) -> mpsc::Sender<Answer> {
        self.0.get_or_insert_with(|| mpsc::channel(MAX_ANSWERS)).0.clone()
    }
}

/// What [`Account::attach`] and [`Account::came`] found for the miner to work on.
pub(crate) enum Found {
    /// This, or nothing.
    Work(Option<Arc<Work>>),
    /// Nothing else than it has.
    Nothing,
    /// An upstream that gives each miner its own work, once it has said who it is.
    Offer(Option<Offer>),
}

impl Account {
    pub(crate) fn new(seat: Seat, mut surroundings: Surroundings) -> Self {
        surroundings.active.mark_changed();
        Self {
            seat,
            surroundings,
            ear: Arc::default(),
            source: Source::default(),
            answers: Answers::default(),
            held: Held::default(),
            record: Record::default(),
            forgiven: MAX_REFUSED,
            totals: Vec::new(),
        }
    }

    /// Gets work from the active upstream: its shared channel, or one for this miner, who says who it is and how fast
    /// (hashes a second).
    pub(crate) fn attach(&mut self, miner: Option<(&Worker, f64)>) -> Found {
        let Some(route) = self.surroundings.active.borrow_and_update().clone() else {
            return self.source.leave();
        };
        let feed = match (&route.shared, miner) {
            (Some(shared), _) => shared.clone(),
            (None, Some((worker, hash_rate))) => {
                if self.source.returns_to(&route) {
                    return Found::Nothing;
                }
                let (work, feed) = feed();
                let (worker, miner) = (worker.name.clone(), self.seat.miner.clone());
                if route.commands.try_send(Command::Open { worker, hash_rate, miner, work }).is_err() {
                    return self.source.refused();
                }
                feed
            }
            // Asked for when the miner has authorised.
            (None, None) => {
                self.source = Source::default();
                return Found::Offer(route.offers());
            }
        };
        feed.hear(&self.ear);
        self.source.open(route, feed)
    }

    /// What there is to work on already, without waiting.
    pub(crate) fn news<'a>(&mut self, miner: impl FnOnce() -> Option<(&'a Worker, f64)>) -> Option<Found> {
        if self.surroundings.active.has_changed().unwrap_or(false) {
            return Some(self.attach(miner()));
        }
        let came = self.source.poll()?;
        Some(self.came(came, miner))
    }

    /// Takes in what the source brought.
    pub(crate) fn came<'a>(
        &mut self,
        came: Came,
        miner: impl FnOnce() -> Option<(&'a Worker, f64)>,
    ) -> Found {
        match came {
            Came::Found(found) => found,
            Came::Retry => self.attach(miner()),
        }
    }

    /// Counts what happened in the session, and hands shares on; the tag of one that could not be.
    pub(crate) fn take(&mut self, event: Event) -> Option<u32> {
        match event {
            Event::Authorized(worker) => self.authorized(worker),
            Event::Found { worker, hash } => self.found(&worker, hash),
            Event::Upstream(share) => return self.hand_on(share),
            Event::Accepted { worker, by } => {
                self.worker(&worker).accept(by);
                self.seat.miner.view().accepted += 1;
            }
            Event::Rejected { worker, why } => self.rejected(worker, &why),
            Event::Refused { reason } => self.complain(reason, "a message is refused"),
        }
        None
    }

    fn authorized(&mut self, worker: Worker) {
        self.worker(&worker.name);
        self.surroundings.farm.authorized(&self.seat.miner);
        self.seat.miner.view().worker.get_or_insert(worker);
        if self.source.is_none() {
            self.surroundings.active.mark_changed();
        }
    }

    fn found(&mut self, worker: &Arc<str>, hash: BlockHash) {
        self.record.right();
        let work = mining::Work::from_target(as_number(hash));
        let totals = self.worker(worker);
        if self.surroundings.farm.totals.found(&totals, work) {
            tracing::debug!(%worker, %hash, "best share so far");
        }
        let mut view = self.seat.miner.view();
        view.best = view.best.max(work);
        view.last_share = Some(Instant::now());
    }

    fn hand_on(&mut self, share: Box<UpstreamShare>) -> Option<u32> {
        let tag = share.tag;
        let totals = self.worker(&share.worker);
        let (miner, answers) = (self.seat.miner.clone(), self.answers.sender());
        let until = Instant::now() + self.surroundings.settings.answer_timeout;
        let route = self.source.route(share.work.channel.connection);
        let share = ShareOut { share, totals, miner, answers, until };
        let Some(route) = route else {
            share.unanswered();
            return Some(tag);
        };
        let share = route.try_block(share).err()?;
        self.held.hand_on(&route.commands, tag, Command::Share(share))
    }

    fn rejected(&mut self, worker: Option<Arc<str>>, why: &Rejection) {
        let totals = self.worker(&worker.unwrap_or_else(|| NOBODY.into()));
        self.surroundings.farm.totals.reject(&totals, why.reason());
        self.seat.miner.view().rejected += 1;
        // Without an upstream, or where its ledger is full, every share is refused, and it is no fault of the miner's.
        if matches!(why, Rejection::NoUpstream | Rejection::LedgerFull) {
            return;
        }
        // Shares of unknown channels soon cost a miner its connection as well, but one that comes again and again has many.
        let (farm, address) = (&self.surroundings.farm, self.seat.miner.address);
        if self.record.refused(&farm.refusals, address.ip(), Instant::now()) {
            self.surroundings.complaints.say(refusals::FAULT, address, refusals::SAID);
        }
        self.complain(why.reason(), format_args!("a share is refused: {}", why.text()));
    }

    /// A request of an SV1 miner, no share, was refused. Beyond a few it counts as a refused share does; SV2 miners lose the
    /// session's patience.
    pub(crate) fn request_refused(&mut self) {
        if let Some(left) = self.forgiven.checked_sub(1) {
            self.forgiven = left;
            return;
        }
        let (farm, address) = (&self.surroundings.farm, self.seat.miner.address);
        if self.record.refused(&farm.refusals, address.ip(), Instant::now()) {
            let said = "too many of its requests are refused: not read for a while";
            self.surroundings.complaints.say(REFUSED, address, said);
        }
    }

    /// Whether a channel of the miner's own is asked for, which may come yet.
    pub(crate) fn is_asking(&self, now: Instant) -> bool {
        let asked = self.seat.miner.view().asked;
        asked.is_some_and(|asked| now < asked + OPENING) && self.has_own_channel()
    }

    /// Why the miner is let go if it is for this reason: where there is an upstream, it is that it gives no channel.
    pub(crate) fn reason(&self, why: Disconnect) -> Disconnect {
        match why {
            Disconnect::NoUpstream if self.has_own_channel() => Disconnect::NoChannel,
            why => why,
        }
    }

    /// Whether there is an upstream, and each miner is to have a channel of its own there.
    fn has_own_channel(&self) -> bool {
        self.surroundings.active.borrow().as_ref().is_some_and(|route| route.shared.is_none())
    }

    fn complain(&self, reason: &'static str, what: impl Display) {
        self.surroundings.complaints.refuse(reason, self.seat.miner.address, what);
    }

    fn worker(&mut self, name: &Arc<str>) -> Arc<WorkerTotals> {
        // As good as always the only one: no need to read its name.
        if let [(only, totals)] = &*self.totals
            && Arc::ptr_eq(only, name)
        {
            return totals.clone();
        }
        match self.totals.binary_search_by(|(known, _)| known.cmp(name)) {
            Ok(place) => self.totals[place].1.clone(),
            Err(place) => {
                let totals = self.surroundings.farm.totals.worker(name);
                if self.totals.len() < MAX_WORKERS {
                    self.totals.insert(place, (name.clone(), totals.clone()));
                }
                totals
            }
        }
    }
}
