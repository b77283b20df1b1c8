//! One set of templates: for one kind of constraints, followed from tip to tip and from fee to fee.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bitcoin::Network;
use distribution::Constraints;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::answer::{self, Known, RawTemplate};
use super::connection::Connection;
use super::error::IpcError;
use super::kept::Kept;
use super::network;
use super::routes::Routes;
use super::wire::{NEVER, Template};
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
    pub(super) routes: RefCell<Routes>,
    pub(super) known: RefCell<Known>,
    pub(super) kept: RefCell<Kept>,
    /// A set has its first template.
    pub(super) opened: Notify,
}

/// One set.
pub(super) struct Set {
    pub(super) shared: Rc<Shared>,
    pub(super) number: u64,
    pub(super) constraints: Constraints,
    pub(super) stop: CancellationToken,
}

impl Set {
    /// Feeds templates until it is stopped. A call that waits for the next one is with the node all the time, but
    /// while a template is being fetched; what happens then it answers at once.
    pub(super) async fn follow(self) -> Result<(), IpcError> {
        let connection = &self.shared.connection;
        let room = self.constraints.into();
        let mut current =
            connection.ask("createNewBlock", connection.mining().create_new_block(room)).await?;
        self.publish(&current).await?;
        let mut look = Instant::now() + self.shared.fees.interval;
        while let Some(next) = self.next(&current, &mut look).await? {
            // A template that nobody took is not what the next ones are measured by.
            if self.publish(&next).await? {
                current = next;
                look = Instant::now() + self.shared.fees.interval;
            }
        }
        Ok(())
    }

    /// The template after this one; none when the set is stopped. Under the same tip fees are looked at when it is
    /// time to, then after the interval again: each look costs the node a template.
    async fn next(
        &self,
        current: &Rc<dyn Template>,
        look: &mut Instant,
    ) -> Result<Option<Rc<dyn Template>>, IpcError> {
        loop {
            let now = Instant::now();
            let (patience, more) = if now < *look {
                (*look - now, NEVER)
            } else {
                *look = now + self.shared.fees.interval;
                (LOOK, i64::try_from(self.shared.fees.threshold.to_sat().max(1)).unwrap_or(NEVER))
            };
            let mut waiting = current.wait_next(patience, more);
            tokio::select! {
                answer = &mut waiting => {
                    let connection = &self.shared.connection;
                    match answer.map_err(|error| connection.failure("waitNext", &error))? {
                        Some(next) => return Ok(Some(next)),
                        None if more == NEVER && now.elapsed() < patience / 2 => {
                            return Err(IpcError::Ending { socket: connection.socket() });
                        }
                        None => {}
                    }
                }
                () = self.stop.cancelled() => {
                    // A wait that goes on without us holds a thread of the node, and one of version 30 may crash.
                    let interrupted = async { current.interrupt_wait().await.is_ok() && waiting.await.is_ok() };
                    let _ = tokio::time::timeout(INTERRUPTION, interrupted).await;
                    return Ok(None);
                }
            }
        }
    }

    /// Fetches a template and offers it. Whether anybody took it.
    async fn publish(&self, template: &Rc<dyn Template>) -> Result<bool, IpcError> {
        let as_of = Instant::now();
        let Shared { connection, feed, network, .. } = &*self.shared;
        let bad = |reason| IpcError::Template { socket: connection.socket(), reason };
        let (header, coinbase) = tokio::try_join!(
            connection.ask("getBlockHeader", template.header()),
            connection.ask("getCoinbaseTx", template.coinbase()),
        )?;
        let summary = answer::summary(&header, &coinbase).map_err(bad)?;
        network::check_target(connection, *network, summary.tip.bits)?;
        // The first of a set opens its route, the first of all the way.
        let is_first = !self.shared.routes.borrow().is_open(self.constraints);
        if !is_first && !self.offering(as_of, |offered| feed.wants(offered, summary.tip, summary.value)) {
            return Ok(false);
        }
        let (block, fees, sigops) = tokio::try_join!(
            connection.ask("getBlock", template.block()),
            connection.ask("getTxFees", template.fees()),
            connection.ask("getTxSigops", template.sigops()),
        )?;
        let raw = RawTemplate { header, block, coinbase, fees, sigops };
        let parts = answer::parts(&raw, &mut self.shared.known.borrow_mut()).map_err(bad)?;
        if !self.shared.routes.borrow().is_open(self.constraints) {
            self.shared.routes.borrow_mut().open(self.number, self.constraints);
            self.shared.opened.notify_one();
        }
        if let Some(seen) = self.shared.seen.take() {
            feed.reached(Way::Ipc, seen);
        }
        let (offer, id) = self.offering(as_of, |offered| feed.offer(offered, parts));
        if let Some(id) = id {
            self.shared.kept.borrow_mut().keep(id, summary.tip, Rc::clone(template));
        }
        Ok(offer != Offer::Kept)
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
}
