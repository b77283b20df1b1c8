//! One set of templates: for one kind of clients, followed from tip to tip and from fee to fee. A template goes out before
//! its transactions: `docs/decisions/0003-templates-before-their-transactions.md`.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bitcoin::Network;
use distribution::{Constraints, Parts, TemplateTransaction};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::answer::{self, Known, RawCoinbase, RawHead, RawTransactions};
use super::connection::Connection;
use super::error::IpcError;
use super::kept::Kept;
use super::kind::Kind;
use super::network;
use super::routes::Routes;
use super::wire::{Answer, NEVER, Template, Waiting};
use crate::config::Fees;
use crate::feed::{Feed, Offered, Sent};
use crate::health::Seen;
use crate::source::Way;

/// How long the node may take to see that a wait is to end.
const INTERRUPTION: Duration = Duration::from_secs(1);
/// A wait that is over so much longer is ended: the node's own clock, which it goes by, was put back.
const LATE: Duration = Duration::from_secs(2);
/// A node that ends answers so many waits in a row before their time; one whose clock was put forward a single one.
const EARLY: usize = 3;
/// A look at the fees: the node makes one template and compares.
const LOOK: Duration = Duration::from_millis(1);

/// What all sets of one connection share.
pub(super) struct Shared {
    pub(super) connection: Connection,
    pub(super) feed: Feed,
    pub(super) fees: Fees,
    pub(super) network: Network,
    /// The number of its first one.
    pub(super) first_set: u64,
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
    pub(super) kind: Kind,
    pub(super) stop: CancellationToken,
}

/// A template of the node, with or without its transactions. Cheap to clone.
#[derive(Clone)]
struct Candidate {
    template: Rc<dyn Template>,
    as_of: Instant,
    parts: Parts,
}

/// A template that the node has just given.
struct Next {
    template: Rc<dyn Template>,
    as_of: Instant,
    /// What it was asked before it was there: it came because the tip changed, not for its fees.
    asked: Option<Head>,
}

/// The answers that it can be judged by and mined with, on their way.
pub(super) struct Head {
    header: Answer<Vec<u8>>,
    coinbase: Answer<RawCoinbase>,
    merkle_path: Answer<Vec<Vec<u8>>>,
}

/// The template that the next ones are measured by.
struct Current {
    candidate: Candidate,
    /// Whether it was sent to anybody.
    is_taken: bool,
    /// When to look at the fees.
    look: Instant,
}

/// Transactions on their way, one template's after another's.
struct Fetching<'a>(Option<Fetch<'a>>);

type Fetch<'a> = Pin<Box<dyn Future<Output = Result<(), IpcError>> + 'a>>;

/// Whom the set serves has changed, or who is there.
struct Changes {
    routes: watch::Receiver<Routes>,
    wanted: watch::Receiver<Vec<Constraints>>,
}

impl Set {
    /// Feeds templates until it is stopped. From the first one on, a call that waits for the next is with the node all the
    /// time but while header, coinbase and merkle path of one are on their way; what happened meanwhile it answers at once.
    pub(super) async fn follow(self) -> Result<(), IpcError> {
        let Shared { connection, feed, fees, routes, .. } = &*self.shared;
        let mut changes = Changes { routes: routes.subscribe(), wanted: feed.wanted() };
        let first = connection.mining().create_new_block(self.kind.into());
        let first = connection.ask("createNewBlock", first).await?;
        let head = Head::ask(&first);
        let candidate = self.examine(first, Instant::now(), head).await?;
        // The first one whole: only then is it certain that this node's templates can be used.
        let all = self.fetch(&candidate).await?;
        candidate.parts.transactions.settle(Some(all));
        if self.stop.is_cancelled() {
            return Ok(());
        }
        self.open();
        let is_taken = self.offer(&candidate).is_some();
        let mut current = Current { candidate, is_taken, look: Instant::now() + fees.interval };
        let mut fetching = Fetching(None);
        while let Some(next) = self.next(&mut current, &mut changes, &mut fetching).await? {
            let Next { template, as_of, asked } = next;
            let head = asked.unwrap_or_else(|| Head::ask(&template));
            let candidate = self.examine(template, as_of, head).await?;
            let is_taken = self.publish(&candidate, &mut fetching);
            // Under the same tip one that nobody took is not what the next ones are measured by. Under another it is waited
            // on all the same: from one of the tip before the node would make a template again at once, and again.
            if is_taken || candidate.parts.tip() != current.candidate.parts.tip() {
                current = Current { candidate, is_taken, look: Instant::now() + fees.interval };
            }
        }
        Ok(())
    }

    /// The first of a set opens its route, the first of all the way.
    fn open(&self) {
        self.shared.routes.send_modify(|routes| routes.open(self.number, self.kind));
        if let Some(seen) = self.shared.seen.take() {
            self.shared.feed.reached(Way::Ipc, seen);
        }
    }

    /// The template after this one; none when the set is stopped. Under the same tip fees are looked at when it is
    /// time to, then after the interval again: each look costs the node a template. Meanwhile this one goes to those
    /// whom the set did not serve when it was new.
    async fn next<'a>(
        &'a self,
        current: &mut Current,
        changes: &mut Changes,
        fetching: &mut Fetching<'a>,
    ) -> Result<Option<Next>, IpcError> {
        let mut early = 0;
        loop {
            let now = Instant::now();
            let (patience, more) = if now < current.look {
                ((current.look - now).min(current.candidate.template.most_patience()), NEVER)
            } else {
                current.look = now + self.shared.fees.interval;
                (LOOK, self.worth_sending(current))
            };
            let Waiting { mut answer, promised } = current.candidate.template.wait_next(patience, more);
            // For a new tip somebody wants it: the node is asked now, and need not be asked then.
            let asked = promised.filter(|_| more == NEVER).map(|promised| Head::ask(&promised));
            let mut late = std::pin::pin!(tokio::time::sleep(patience + LATE));
            let mut is_interrupted = false;
            let answer = loop {
                tokio::select! {
                    answer = &mut answer => break answer,
                    () = &mut late, if !is_interrupted => {
                        is_interrupted = true;
                        let interrupted = current.candidate.template.interrupt_wait();
                        let _ = tokio::time::timeout(INTERRUPTION, interrupted).await;
                    }
                    fetched = fetching.ends() => fetched?,
                    () = changes.happen() => {
                        if self.publish(&current.candidate, fetching) {
                            current.is_taken = true;
                        }
                    }
                    () = self.stop.cancelled() => {
                        // A wait that goes on without us holds a thread of the node, and one of version 30 may crash. 30.0 cannot
                        // interrupt it, and ends it soon.
                        let template = &current.candidate.template;
                        let interrupted = async { (template.interrupt_wait().await.is_ok(), answer.await.is_ok()) };
                        let _ = tokio::time::timeout(INTERRUPTION, interrupted).await;
                        // What is owed is paid: clients mine on it until another set's template comes.
                        return fetching.all().await.map(|()| None);
                    }
                }
            };
            let connection = &self.shared.connection;
            let answer = answer.map_err(|error| connection.failure("waitNext", &error))?;
            connection.has_answered();
            match answer {
                Some(template) => return Ok(Some(Next { template, as_of: Instant::now(), asked })),
                None if more == NEVER && now.elapsed() < patience / 2 => {
                    early += 1;
                    if early == EARLY {
                        return Err(IpcError::Ending { socket: connection.socket() });
                    }
                }
                None => early = 0,
            }
        }
    }

    /// How many satoshis more than the current template the next one must pay to be worth a look. One that nobody
    /// took already paid some of them.
    fn worth_sending(&self, current: &Current) -> i64 {
        let threshold = if current.is_taken { self.shared.fees.threshold.to_sat().max(1) } else { 1 };
        i64::try_from(threshold).unwrap_or(NEVER)
    }

    /// Offers a template, if anybody wants it: before its transactions, which are then fetched, if those are not there.
    /// Whether anybody took it.
    fn publish<'a>(&'a self, candidate: &Candidate, fetching: &mut Fetching<'a>) -> bool {
        let Some(sent) = self.offer(candidate) else { return false };
        if let Some(owed) = sent.owed {
            let candidate = candidate.clone();
            fetching.then(async move {
                // Not again for those whom it is offered to while they are on their way.
                if candidate.parts.transactions.are_awaited() {
                    owed.pay(self.fetch(&candidate).await?);
                }
                Ok(())
            });
        }
        true
    }

    /// What a template that the node has given can be judged by and mined with.
    async fn examine(
        &self,
        template: Rc<dyn Template>,
        as_of: Instant,
        head: Head,
    ) -> Result<Candidate, IpcError> {
        let Shared { connection, network, .. } = &*self.shared;
        let parts = head.read(connection, *network, self.kind).await?;
        Ok(Candidate { template, as_of, parts })
    }

    /// Its transactions. Asked for once it is with the clients: before that, node and connection would be busy with them.
    async fn fetch(&self, candidate: &Candidate) -> Result<Vec<TemplateTransaction>, IpcError> {
        let (connection, template) = (&self.shared.connection, &candidate.template);
        let (block, fees, sigops) = tokio::try_join!(
            connection.ask("getBlock", template.block()),
            connection.ask("getTxFees", template.fees()),
            connection.ask("getTxSigops", template.sigops()),
        )?;
        let raw = RawTransactions { block, fees, sigops };
        let known = &mut self.shared.known.borrow_mut();
        let bad = |reason| IpcError::Template { socket: connection.socket(), reason };
        answer::transactions(&raw, &candidate.parts, known).map_err(bad)
    }

    /// None: nobody took it. Else the node holds it as long as it may be solved.
    fn offer(&self, candidate: &Candidate) -> Option<Sent> {
        let Candidate { template, as_of, parts } = candidate;
        let routes = self.shared.routes.borrow();
        let offered = Offered {
            way: Way::Ipc,
            as_of: *as_of,
            set: self.number,
            first_set: self.shared.first_set,
            serves: &|constraints| routes.of(constraints) == Some(self.number),
            is_base: routes.fullest() == Some(self.number),
            threshold: self.shared.fees.threshold,
        };
        let sent = self.shared.feed.offer(&offered, parts.clone()).1?;
        let mut kept = self.shared.kept.borrow_mut();
        kept.keep(self.number, sent.template_id, parts.tip(), Rc::clone(template));
        Some(sent)
    }
}

impl<'a> Fetching<'a> {
    /// Begins with these when those before have come.
    fn then(&mut self, next: impl Future<Output = Result<(), IpcError>> + 'a) {
        let before = self.0.take();
        self.0 = Some(Box::pin(async move {
            if let Some(before) = before {
                before.await?;
            }
            next.await
        }));
    }

    /// Waits until all have come; for ever if there are none. Cancelling loses nothing.
    async fn ends(&mut self) -> Result<(), IpcError> {
        let Some(fetching) = &mut self.0 else { return std::future::pending().await };
        let fetched = fetching.await;
        self.0 = None;
        fetched
    }

    /// Waits until all have come.
    async fn all(&mut self) -> Result<(), IpcError> {
        if self.0.is_some() { self.ends().await } else { Ok(()) }
    }
}

impl Head {
    pub(super) fn ask(template: &Rc<dyn Template>) -> Self {
        Self { header: template.header(), coinbase: template.coinbase(), merkle_path: template.merkle_path() }
    }

    /// Waits for them. `kind`: whom the template was to leave room for.
    pub(super) async fn read(
        self,
        connection: &Connection,
        network: Network,
        kind: Kind,
    ) -> Result<Parts, IpcError> {
        let (header, coinbase, merkle_path) = tokio::try_join!(
            connection.ask("getBlockHeader", self.header),
            connection.ask("getCoinbaseTx", self.coinbase),
            connection.ask("getCoinbaseMerklePath", self.merkle_path),
        )?;
        let bad = |reason| IpcError::Template { socket: connection.socket(), reason };
        let parts = answer::parts(&RawHead { header, coinbase, merkle_path }, kind.room()).map_err(bad)?;
        network::check_target(connection, network, parts.bits)?;
        Ok(parts)
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

#[cfg(test)]
mod tests;
