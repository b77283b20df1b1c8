//! How a session ends, or stands still for a successor: what its miner has said by then counts, a block above all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use link::Received;
use service::Departure;
use stratum_core::mining_sv2::{MESSAGE_TYPE_SUBMIT_SHARES_EXTENDED, MESSAGE_TYPE_SUBMIT_SHARES_STANDARD};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::super::pending::Pending;
use super::super::session::End;
use super::{Driver, LAST_WORDS, now};

/// Frames that are still looked at when a connection is lost: a miner's of seconds, and nothing that others would wait for.
const LAST_HEARD: usize = 4096;

impl Driver {
    /// The hub closes: what has arrived is taken in, and what was accepted gets its answer first.
    pub(super) async fn drain(mut self) -> Result<(), End> {
        let heard = self.hear_and_answer().await;
        self.say_last_words().await?;
        heard
    }

    /// Whoever does not read keeps nobody waiting.
    pub(super) async fn say_last_words(&mut self) -> Result<(), End> {
        tokio::time::timeout(LAST_WORDS, self.link.flush()).await.unwrap_or(Ok(()))?;
        Ok(())
    }

    /// Takes in what has arrived by now, as far as it is read, and waits for nothing more.
    async fn hear_what_came(&mut self) -> Result<(), End> {
        let until = Instant::now() + LAST_WORDS;
        tokio::task::yield_now().await; // the runtime looks at its sockets
        while self.is_read()
            && Instant::now() < until
            && let Ok(received) = tokio::time::timeout(Duration::ZERO, self.link.recv()).await
        {
            let received = received.map_err(|lost| self.last_heard(lost.into()))?;
            self.take_in(received).await?;
        }
        Ok(())
    }

    async fn take_in(&mut self, received: Received) -> Result<(), End> {
        let opened = self.session.opened();
        let fault = self.receive(received);
        self.follow(fault, opened).await
    }

    /// A successor is ready: everything is committed and answered, and nothing more is read until it is settled who serves.
    /// What came meanwhile is taken in before the ledger goes to the successor.
    pub(super) async fn stand_still(&mut self, mut departure: Departure) -> Result<(), End> {
        let mut called_off = departure.clone();
        tokio::select! {
            committed = self.pending.commit_all() => committed.map_err(End::Store)?,
            serves = called_off.settled() => {
                // A disk that takes nothing: it came to nothing. Or this session came when all the others stood still.
                if serves {
                    self.crediting = None;
                }
                return Ok(());
            }
        }
        self.acknowledge();
        self.say()?;
        let standing = self.floor.standing.token();
        let is_awaited = !departure.is_settled(); // else the ledger may be gone by now
        self.crediting = None;
        match departure.settled().await {
            false => self.crediting = Some(self.floor.crediting.token()),
            true if is_awaited => self.take_what_came(standing).await?,
            true => {}
        }
        Ok(())
    }

    /// What came while it stood still is as good as what came before. While `standing` is held the ledger stays, for
    /// [`LAST_LOOK`](crate::succession::LAST_LOOK).
    async fn take_what_came(&mut self, standing: TaskTrackerToken) -> Result<(), End> {
        self.crediting = Some(standing);
        self.session.refuse_shares(false);
        let taken = self.hear_and_answer().await;
        self.crediting = None;
        if let Err(End::Store(_)) = taken {
            // Too late, which `succession` has said. Whose shares were not committed is asked to connect again like all others.
            self.pending = Pending::new(Arc::clone(&self.floor.store));
            return Ok(());
        }
        taken
    }

    /// Takes in what has arrived, and answers what of it is committed.
    async fn hear_and_answer(&mut self) -> Result<(), End> {
        let heard = self.hear_what_came().await;
        self.pending.commit_all().await.map_err(End::Store)?;
        self.acknowledge();
        self.say()?;
        heard
    }

    /// A successor serves: the miner is asked to connect again, or just let go if it would not survive that. It may have sent
    /// a block before it hears of it.
    pub(super) async fn leave(mut self) -> Result<(), End> {
        self.crediting = None;
        self.session.refuse_shares(true);
        self.hear_what_came().await?;
        self.session.reconnect("", 0);
        self.say()?;
        if self.link.peer().device.dies_of_reconnect() {
            return self.say_last_words().await;
        }
        tokio::time::timeout(LAST_WORDS, self.hear_out()).await.unwrap_or(Ok(()))
    }

    /// Takes in what it says until it has gone, and writes what it has yet to read.
    async fn hear_out(&mut self) -> Result<(), End> {
        loop {
            let received = self.link.recv().await.map_err(|lost| self.last_heard(lost.into()))?;
            self.take_in(received).await?;
            self.say()?;
        }
    }

    /// The connection is lost: why the session ends. What its miner had handed in counts all the same, since it may be a block.
    pub(super) fn last_heard(&mut self, lost: End) -> End {
        let is_share = |received: &Received| {
            let kind = received.message_type();
            matches!(kind, MESSAGE_TYPE_SUBMIT_SHARES_STANDARD | MESSAGE_TYPE_SUBMIT_SHARES_EXTENDED)
        };
        self.received = now();
        self.session.refuse_shares(self.refuses_shares());
        for _ in 0..LAST_HEARD {
            // Whoever has to rest gains nothing by going.
            if self.record.rests().is_some() {
                break;
            }
            let Ok(Some(mut received)) = self.link.try_recv() else { break };
            if !is_share(&received) {
                continue;
            }
            let handled = self.session.handle(self.received, &mut received, self.link.extensions());
            if let Err(end) = self.take_events() {
                return end;
            }
            if handled.is_err() {
                break;
            }
        }
        lost
    }
}
