//! One set of templates: for one kind of constraints, followed from tip to tip and from fee to fee.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bitcoin::Network;
use distribution::{Constraints, Parts};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::answer::{self, BadTemplate, Known, RawCoinbase, RawTemplate, Summary};
use super::connection::Connection;
use super::error::IpcError;
use super::kept::Kept;
use super::network;
use super::routes::Routes;
use super::wire::{Answer, NEVER, Template, Waiting};
use crate::config::Fees;
use crate::feed::{Feed, Offer, Offered};
use crate::health::Seen;
use crate::source::Way;

/// How long the node may take to see that a wait is to end.
const INTERRUPTION: Duration = Duration::from_secs(1);
/// A look at the fees: the node makes one template and compares.
const LOOK: Duration = Duration::from_millis(1);

/// What all sets of one connection share.
pub(super) struct Shared {
    pub(super) connection: Connection,
    pub(super) feed: Feed,
    pub(super) fees: Fees,
    pub(super) network: Network,
    /// The node, until the first template has come.
    pub(super) seen: RefCell<Option<Seen>>,
    pub(super) routes: watch::Sender<Routes>,
    pub(super) known: RefCell<Known>,
    pub(super) kept: RefCell<Kept>,
}

/// One set.
pub(super) struct Set {
    pub(super) shared: Rc<Shared>,
    pub(super) number: u64,
    pub(super) constraints: Constraints,
    pub(super) stop: CancellationToken,
}

/// A template of the node, looked at but not fetched whole.
struct Candidate {
    template: Rc<dyn Template>,
    as_of: Instant,
    header: Vec<u8>,
    coinbase: RawCoinbase,
    summary: Summary,
}

/// The rest of it, as the node said it.
struct Rest {
    block: Vec<u8>,
    fees: Vec<i64>,
    sigops: Vec<i64>,
}

/// A template that the node has just given.
struct Next {
    template: Rc<dyn Template>,
    as_of: Instant,
    /// What it was asked before it was there: it came because the tip changed, not for its fees.
    asked: Option<(Judged, Fetched)>,
}

/// The answers that decide whether anybody wants a template, on their way.
struct Judged {
    header: Answer<Vec<u8>>,
    coinbase: Answer<RawCoinbase>,
}

/// The answers that are not needed to judge it.
struct Fetched {
    block: Answer<Vec<u8>>,
    fees: Answer<Vec<i64>>,
    sigops: Answer<Vec<i64>>,
}

/// The template that the next ones are measured by.
struct Current {
    candidate: Candidate,
    /// Whether it was sent to anybody.
    is_taken: bool,
    /// When to look at the fees.
    look: Instant,
}

/// Whom the set serves has changed, or who is there.
struct Changes {
    routes: watch::Receiver<Routes>,
    wanted: watch::Receiver<Vec<Constraints>>,
}

impl Set {
    /// Feeds templates until it is stopped. A call that waits for the next one is with the node all the time, but
    /// while a template is being fetched; what happens then it answers at once.
    pub(super) async fn follow(self) -> Result<(), IpcError> {
        let Shared { connection, feed, fees, routes, .. } = &*self.shared;
        let mut changes = Changes { routes: routes.subscribe(), wanted: feed.wanted() };
        let room = self.constraints.into();
        let first = connection.ask("createNewBlock", connection.mining().create_new_block(room)).await?;
        let judged = Judged::ask(&first);
        let candidate = self.examine(first, Instant::now(), judged).await?;
        let rest = self.fetch(Fetched::ask(&candidate.template)).await?;
        let parts = self.parts(&candidate, rest)?;
        if self.stop.is_cancelled() {
            return Ok(());
        }
        self.open();
        let is_taken = self.offer(&candidate, parts);
        let mut current = Current { candidate, is_taken, look: Instant::now() + fees.interval };
        while let Some(next) = self.next(&mut current, &mut changes).await? {
            let (candidate, rest) = self.look_at(next).await?;
            // A template that nobody took is not what the next ones are measured by.
            if self.publish(&candidate, rest).await? {
                current = Current { candidate, is_taken: true, look: Instant::now() + fees.interval };
            }
        }
        Ok(())
    }

    /// The first of a set opens its route, the first of all the way.
    fn open(&self) {
        self.shared.routes.send_modify(|routes| routes.open(self.number, self.constraints));
        if let Some(seen) = self.shared.seen.take() {
            self.shared.feed.reached(Way::Ipc, seen);
        }
    }

    /// The template after this one; none when the set is stopped. Under the same tip fees are looked at when it is
    /// time to, then after the interval again: each look costs the node a template. Meanwhile this one goes to those
    /// whom the set did not serve when it was new.
    async fn next(&self, current: &mut Current, changes: &mut Changes) -> Result<Option<Next>, IpcError> {
        loop {
            let now = Instant::now();
            let (patience, more) = if now < current.look {
                (current.look - now, NEVER)
            } else {
                current.look = now + self.shared.fees.interval;
                (LOOK, self.worth_sending(current))
            };
            let Waiting { mut answer, promised } = current.candidate.template.wait_next(patience, more);
            // For a new tip somebody wants all of it: the node is asked now, and need not be asked then.
            let promised = promised.filter(|_| more == NEVER);
            let asked = promised.map(|promised| (Judged::ask(&promised), Fetched::ask(&promised)));
            let answer = loop {
                tokio::select! {
                    answer = &mut answer => break answer,
                    () = changes.happen() => {
                        if self.publish(&current.candidate, None).await? {
                            current.is_taken = true;
                        }
                    }
                    () = self.stop.cancelled() => {
                        // A wait that goes on without us holds a thread of the node, and one of version 30 may crash.
                        let template = &current.candidate.template;
                        let interrupted = async { template.interrupt_wait().await.is_ok() && answer.await.is_ok() };
                        let _ = tokio::time::timeout(INTERRUPTION, interrupted).await;
                        return Ok(None);
                    }
                }
            };
            let connection = &self.shared.connection;
            match answer.map_err(|error| connection.failure("waitNext", &error))? {
                Some(template) => {
                    let asked = match asked {
                        None if more == NEVER => Some((Judged::ask(&template), Fetched::ask(&template))),
                        asked => asked,
                    };
                    return Ok(Some(Next { template, as_of: Instant::now(), asked }));
                }
                None if more == NEVER && now.elapsed() < patience / 2 => {
                    return Err(IpcError::Ending { socket: connection.socket() });
                }
                None => {}
            }
        }
    }

    /// How many satoshis more than the current template the next one must pay to be worth a look. One that nobody
    /// took already paid some of them.
    fn worth_sending(&self, current: &Current) -> i64 {
        let threshold = if current.is_taken { self.shared.fees.threshold.to_sat().max(1) } else { 1 };
        i64::try_from(threshold).unwrap_or(NEVER)
    }

    /// What decides whether anybody wants it. For a new tip somebody does: then all of it.
    async fn look_at(&self, next: Next) -> Result<(Candidate, Option<Rest>), IpcError> {
        let Next { template, as_of, asked } = next;
        let Some((judged, fetched)) = asked else {
            let judged = Judged::ask(&template);
            return Ok((self.examine(template, as_of, judged).await?, None));
        };
        let (candidate, rest) = tokio::try_join!(self.examine(template, as_of, judged), self.fetch(fetched))?;
        Ok((candidate, Some(rest)))
    }

    /// Offers a template, if anybody wants it; what is missing of it is fetched. Whether anybody took it.
    async fn publish(&self, candidate: &Candidate, rest: Option<Rest>) -> Result<bool, IpcError> {
        let Summary { tip, value, .. } = candidate.summary;
        if !self.offering(candidate.as_of, |offered| self.shared.feed.wants(offered, tip, value)) {
            return Ok(false);
        }
        let rest = match rest {
            Some(rest) => rest,
            None => self.fetch(Fetched::ask(&candidate.template)).await?,
        };
        let parts = self.parts(candidate, rest)?;
        Ok(self.offer(candidate, parts))
    }

    /// What decides whether anybody wants a template that the node has given.
    async fn examine(
        &self,
        template: Rc<dyn Template>,
        as_of: Instant,
        judged: Judged,
    ) -> Result<Candidate, IpcError> {
        let connection = &self.shared.connection;
        let (header, coinbase) = tokio::try_join!(
            connection.ask("getBlockHeader", judged.header),
            connection.ask("getCoinbaseTx", judged.coinbase),
        )?;
        let summary = answer::summary(&header, &coinbase).map_err(|reason| self.bad(reason))?;
        network::check_target(connection, self.shared.network, summary.tip.bits)?;
        Ok(Candidate { template, as_of, header, coinbase, summary })
    }

    /// What is not needed to judge it.
    async fn fetch(&self, fetched: Fetched) -> Result<Rest, IpcError> {
        let connection = &self.shared.connection;
        let (block, fees, sigops) = tokio::try_join!(
            connection.ask("getBlock", fetched.block),
            connection.ask("getTxFees", fetched.fees),
            connection.ask("getTxSigops", fetched.sigops),
        )?;
        Ok(Rest { block, fees, sigops })
    }

    /// All of a template.
    fn parts(&self, candidate: &Candidate, rest: Rest) -> Result<Parts, IpcError> {
        let Rest { block, fees, sigops } = rest;
        let (header, coinbase) = (candidate.header.clone(), candidate.coinbase.clone());
        let raw = RawTemplate { header, block, coinbase, fees, sigops };
        answer::parts(&raw, &mut self.shared.known.borrow_mut()).map_err(|reason| self.bad(reason))
    }

    /// Whether anybody took it; then the node holds it as long as it may be solved.
    fn offer(&self, candidate: &Candidate, parts: Parts) -> bool {
        let (offer, id) = self.offering(candidate.as_of, |offered| self.shared.feed.offer(offered, parts));
        if let Some(id) = id {
            let template = Rc::clone(&candidate.template);
            self.shared.kept.borrow_mut().keep(id, candidate.summary.tip, template);
        }
        offer != Offer::Kept
    }

    fn offering<T>(&self, as_of: Instant, then: impl FnOnce(&Offered<'_>) -> T) -> T {
        let routes = self.shared.routes.borrow();
        then(&Offered {
            way: Way::Ipc,
            as_of,
            set: self.number,
            serves: &|constraints| routes.of(constraints) == Some(self.number),
            is_base: routes.fullest() == Some(self.number),
            threshold: self.shared.fees.threshold,
        })
    }

    fn bad(&self, reason: BadTemplate) -> IpcError {
        IpcError::Template { socket: self.shared.connection.socket(), reason }
    }
}

impl Judged {
    fn ask(template: &Rc<dyn Template>) -> Self {
        Self { header: template.header(), coinbase: template.coinbase() }
    }
}

impl Fetched {
    fn ask(template: &Rc<dyn Template>) -> Self {
        Self { block: template.block(), fees: template.fees(), sigops: template.sigops() }
    }
}

impl Changes {
    async fn happen(&mut self) {
        tokio::select! {
            Ok(()) = self.routes.changed() => {}
            Ok(()) = self.wanted.changed() => {}
            else => std::future::pending().await,
        }
    }
}
