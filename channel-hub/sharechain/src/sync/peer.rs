//! What a node holds of one peer. Everything in it has a bound.

use bitcoin::{BlockHash, XOnlyPublicKey};
use lock::{Accusation, Promise};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::branch::Tail;
use super::fault::{Bucket, Score};
use super::message::{MAX_BATCH, Tip};
use crate::check::CheckedShare;
use crate::id::ShareId;
use crate::work::Work;

/// Most things that wait to be sent to a peer.
const MAX_OUTGOING: usize = 256;
/// Most of its requests that wait for an answer.
const MAX_ASKED: usize = 8;
/// Most shares of which is remembered that it has them.
const MAX_KNOWN: usize = 128;
/// Fresh shares that it may send at once. None of them is forgotten before the last has come.
const FRESH_AT_ONCE: u32 = 120;
const _: () = assert!(MAX_KNOWN > FRESH_AT_ONCE as usize);
/// Most accusations of it that wait for the hub's sheet.
const MAX_EARLY: usize = 16;
/// Most sheets of which is remembered that it spread them.
const MAX_SPREAD: usize = 16;

/// Whoever has the turn to show its chain has it for so long at least, and twice as long each time after it gave way.
const TURN: Duration = Duration::from_secs(30);
/// So often it doubles: to half an hour.
const LONGEST_TURN: u32 = 6;
/// And longer if it shows so many shares a second while they are only counted: a window in two minutes.
const LEAST_PROVING: u64 = 200;
/// Or brings so many into the tree, whose bodies take their time.
const LEAST_TAKING: u64 = 5;

/// One peer.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Its greeting came.
    pub(crate) is_greeted: bool,
    /// The best that it said of its chain.
    pub(crate) claimed: Tip,
    /// Nothing that it has helps this node: it forks off too deep, or has pruned what would be needed.
    pub(crate) is_out_of_reach: bool,
    /// Its chain was shown, and may not be taken yet.
    pub(crate) put_off: Option<PutOff>,
    pub(crate) request: Option<Request>,
    /// How often it brought little, and gave way to another.
    pub(crate) slow: u32,
    pub(crate) catching: Option<Catching>,
    /// Bodies that it was asked for.
    pub(crate) bodies: Vec<(ShareId, Instant)>,
    /// The block whose header it was asked for.
    pub(crate) header: Option<(BlockHash, Instant)>,
    pub(crate) score: Score,
    pub(crate) buckets: Buckets,
    pub(crate) heard: Instant,
    outgoing: VecDeque<Outgoing>,
    /// Shares that it has, and whether it sent them by itself.
    known: VecDeque<(ShareId, bool)>,
    spread: VecDeque<Promise>,
    /// Accusations of hubs whose sheets the tree has not.
    early: VecDeque<Accusation>,
    /// What it may be told of hubs.
    told: Bucket,
}

/// An unanswered request for shares.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) number: u32,
    pub(crate) since: Instant,
    /// What the peer had said of its chain by then.
    pub(crate) claimed: Tip,
}

/// What a peer said of its chain when that had to wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PutOff {
    /// When it may be asked again; none once that is over.
    pub(crate) until: Option<Instant>,
    pub(crate) claimed: Tip,
}

/// Its chain, as far as it is on its way into the tree.
#[derive(Debug)]
pub(crate) struct Catching {
    pub(crate) stage: Stage,
    pub(crate) tail: Tail,
    /// Checked shares that wait for a body or for their ancestors.
    pub(crate) held: VecDeque<CheckedShare>,
    /// No more shares come after those that are held.
    pub(crate) is_complete: bool,
    /// So many were held when the first of them had to wait for what comes on top of it.
    pub(crate) stuck: usize,
    /// Its turn began.
    pub(crate) since: Instant,
    /// So many shares came since then that were of use.
    pub(crate) progress: usize,
    /// Some of them have their places in the tree.
    pub(crate) has_added: bool,
}

/// How a branch is taken in.
#[derive(Debug)]
pub(crate) enum Stage {
    /// Shares are held as they come: the branch has enough work already.
    Taking,
    /// It has not: shares are only counted, and remembered by eight bytes each. With the height of the first.
    Proving(Vec<u64>, u32),
    /// It has proven enough; the same shares come a second time. With the number that came so far.
    Repeating(Vec<u64>, usize),
}

/// What it may do how often.
#[derive(Debug)]
pub(crate) struct Buckets {
    pub(crate) messages: Bucket,
    pub(crate) fresh: Bucket,
    pub(crate) batches: Bucket,
    pub(crate) bodies: Bucket,
    pub(crate) accusations: Bucket,
    pub(crate) headers: Bucket,
}

/// Something to send; made into a message when it can go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outgoing {
    Hello,
    Tip,
    Fresh(ShareId),
    GetShares { request: u32, locator: Vec<ShareId> },
    Shares { request: u32, locator: Vec<ShareId> },
    GetBody(ShareId),
    Body(ShareId),
    Accusation(Box<Accusation>),
    GetHeader(BlockHash),
    Header(BlockHash),
}

impl Peer {
    pub(crate) fn new(now: Instant, genesis: ShareId) -> Self {
        Self {
            is_greeted: false,
            claimed: Tip { id: genesis, height: 0, total_work: Work::ZERO },
            is_out_of_reach: false,
            put_off: None,
            request: None,
            slow: 0,
            catching: None,
            bodies: Vec::new(),
            header: None,
            score: Score::new(now),
            buckets: Buckets::new(now),
            heard: now,
            outgoing: VecDeque::from([Outgoing::Hello]),
            known: VecDeque::new(),
            spread: VecDeque::new(),
            early: VecDeque::new(),
            told: accusations(now),
        }
    }

    /// Queues something. False: it does not read, and its queue is full.
    #[must_use]
    pub(crate) fn send(&mut self, what: Outgoing) -> bool {
        if what == Outgoing::Tip && self.outgoing.contains(&what) {
            return true;
        }
        self.outgoing.push_back(what);
        self.outgoing.len() <= MAX_OUTGOING
    }

    pub(crate) fn next_outgoing(&mut self) -> Option<Outgoing> {
        self.outgoing.pop_front()
    }

    pub(crate) fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether so many of its requests wait that another is a flood.
    pub(crate) fn asks_too_much(&self) -> bool {
        let asked = |out: &&Outgoing| {
            matches!(out, Outgoing::Shares { .. } | Outgoing::Body(_) | Outgoing::Header(_))
        };
        self.outgoing.iter().filter(asked).count() >= MAX_ASKED
    }

    /// It says where its chain ends.
    pub(crate) fn claim(&mut self, tip: Tip) {
        if tip.total_work > self.claimed.total_work {
            self.claimed = tip;
        }
    }

    /// Whether there is any use in asking for its chain.
    pub(crate) fn may_be_asked(&self) -> bool {
        self.is_greeted && !self.is_out_of_reach && self.put_off.is_none_or(|off| off.until.is_none())
    }

    /// Whether it says that it has more work than this, in shares that were not shown and had to wait.
    pub(crate) fn is_ahead_of(&self, own: Work) -> bool {
        let shown = self.put_off.map_or(own, |off| off.claimed.total_work);
        !self.is_out_of_reach && self.claimed.total_work > own.max(shown)
    }

    /// Whether what it has shown, and not only said, is more work than this, or was new and goes on.
    pub(crate) fn shows_more_than(&self, own: Work) -> bool {
        let Some(catching) = &self.catching else { return false };
        let shown = catching.tail.last().map_or(Work::ZERO, |last| last.total_work);
        shown > own || catching.has_added && !catching.is_complete && self.claimed.total_work > own
    }

    /// A share is about to be sent to it. False: it has it.
    pub(crate) fn lacks(&mut self, id: ShareId) -> bool {
        let lacks = !self.known.iter().any(|(known, _)| *known == id);
        if lacks {
            self.remember(id, false);
        }
        lacks
    }

    /// It sent a share by itself. False: for the second time.
    pub(crate) fn brings(&mut self, id: ShareId) -> bool {
        match self.known.iter_mut().find(|(known, _)| *known == id) {
            Some((_, brought)) => !std::mem::replace(brought, true),
            None => {
                self.remember(id, true);
                true
            }
        }
    }

    fn remember(&mut self, id: ShareId, brought: bool) {
        if self.known.len() == MAX_KNOWN {
            self.known.pop_front();
        }
        self.known.push_back((id, brought));
    }

    /// It sent a share with a sheet that nobody had asked for. False: before, it sent another sheet of this hub for this
    /// period.
    pub(crate) fn spreads(&mut self, promise: &Promise) -> bool {
        let of_same = |other: &&Promise| (other.hub_id, other.period) == (promise.hub_id, promise.period);
        if let Some(other) = self.spread.iter().find(of_same) {
            return other.is_same_sheet(promise);
        }
        if self.spread.len() == MAX_SPREAD {
            self.spread.pop_front();
        }
        self.spread.push_back(*promise);
        true
    }

    /// It accuses a hub whose sheet the tree has not.
    pub(crate) fn accuses_early(&mut self, accusation: Accusation) {
        if self.early.len() < MAX_EARLY && !self.early.contains(&accusation) {
            self.early.push_back(accusation);
        }
    }

    /// What it said of a hub and its period before the tree had the sheet.
    pub(crate) fn accused_early(&mut self, hub: (XOnlyPublicKey, u32)) -> Option<Accusation> {
        let at = self.early.iter().position(|early| (early.first.hub_id, early.first.period) == hub)?;
        self.early.remove(at)
    }

    /// Whether one more accusation is not too much for it.
    pub(crate) fn may_be_told(&mut self, now: Instant) -> bool {
        self.told.take(now)
    }

    /// Whether another request for shares may be sent: what is held must not grow past two batches.
    pub(crate) fn has_room(&self) -> bool {
        self.request.is_none()
            && self.catching.as_ref().is_none_or(|catching| catching.held.len() <= MAX_BATCH)
    }
}

impl Catching {
    pub(crate) fn new(since: Instant) -> Self {
        Self {
            stage: Stage::Taking,
            tail: Tail::default(),
            held: VecDeque::new(),
            is_complete: false,
            stuck: 0,
            since,
            progress: 0,
            has_added: false,
        }
    }

    /// Whether another peer may have its turn: it brings less than an honest one on a slow line. Who gave way so often has longer turns.
    pub(crate) fn is_slow(&self, now: Instant, given_way: u32) -> bool {
        let turn = now.saturating_duration_since(self.since);
        let least = if matches!(self.stage, Stage::Proving(..)) { LEAST_PROVING } else { LEAST_TAKING };
        turn >= TURN * (1 << given_way.min(LONGEST_TURN))
            && u64::try_from(self.progress).unwrap_or(u64::MAX) < turn.as_secs().saturating_mul(least)
    }

    /// The first share, whose turn it is.
    pub(crate) fn next_held(&mut self) -> Option<CheckedShare> {
        self.stuck = 0;
        self.held.pop_front()
    }

    /// The first share waits for more to come on top of it.
    pub(crate) fn stick(&mut self) {
        self.stuck = self.held.len();
    }

    /// Whether nothing has come since then.
    pub(crate) fn is_stuck(&self) -> bool {
        self.stuck > 0 && self.stuck == self.held.len() && !self.is_complete
    }

    /// Ids that are remembered of shares that are not held.
    pub(crate) fn remembered(&self) -> usize {
        match &self.stage {
            Stage::Taking => 0,
            Stage::Proving(ids, _) | Stage::Repeating(ids, _) => ids.len(),
        }
    }
}

/// As many as a peer takes are sent to it.
fn accusations(now: Instant) -> Bucket {
    Bucket::new(now, 16, Duration::from_secs(60))
}

impl Buckets {
    fn new(now: Instant) -> Self {
        let bucket = |most, milliseconds| Bucket::new(now, most, Duration::from_millis(milliseconds));
        Self {
            messages: bucket(600, 20),
            fresh: bucket(FRESH_AT_ONCE, 250),
            batches: bucket(120, 100),
            bodies: bucket(256, 50),
            accusations: accusations(now),
            headers: bucket(16, 1_000),
        }
    }
}
