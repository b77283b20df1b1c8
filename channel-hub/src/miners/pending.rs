//! Shares between their acceptance and their answer: first waiting for room in the store's queue, then for their commit.
//!
//! A store that takes nothing, as on a full disk, loses no share: those that found no room wait here, and their miner is
//! read no further until there is room. However long that takes, it keeps its connection and its jobs.

use std::collections::VecDeque;
use std::sync::Arc;

use mining::server::Ticket;
use store::{Committed, Refused, Sequence, Share, Store};

/// The shares of one connection that have no answer yet.
#[derive(Debug)]
pub struct Pending {
    store: Arc<dyn Store>,
    committed: Committed,
    /// Not taken by the store yet, oldest first.
    held: VecDeque<(Share, Ticket)>,
    /// On their way to the disk, oldest first.
    queued: VecDeque<(Sequence, Ticket)>,
    /// The last commit that we heard of.
    reached: Sequence,
}

impl Pending {
    /// None yet.
    pub fn new(store: Arc<dyn Store>) -> Self {
        let committed = store.committed();
        Self { store, committed, held: VecDeque::new(), queued: VecDeque::new(), reached: 0 }
    }

    /// Credits a share; `ticket` comes back from [`Self::commit`].
    ///
    /// # Errors
    /// [`Refused::Closed`].
    pub fn credit(&mut self, share: Share, ticket: Ticket) -> Result<(), Refused> {
        self.held.push_back((share, ticket));
        self.queue()
    }

    /// Whether the store took every share. If not, none more should be asked for.
    pub fn has_room(&self) -> bool {
        self.held.is_empty()
    }

    /// Waits until one of the shares may have been committed, or there may be room for one more; for ever if there is
    /// none. Cancel-safe.
    ///
    /// # Errors
    /// [`Refused::Closed`].
    pub async fn commit(&mut self) -> Result<(), Refused> {
        // Read before it is tried again: if there is no room then, a later commit is sure to come.
        let later = self.committed.now() + 1;
        self.queue()?;
        let next = match self.queued.front() {
            Some((sequence, _)) => *sequence,
            None if self.held.is_empty() => std::future::pending().await,
            None => later,
        };
        self.reached = self.committed.reached(next).await?;
        Ok(())
    }

    /// Waits until every share is committed.
    ///
    /// # Errors
    /// [`Refused::Closed`].
    pub async fn commit_all(&mut self) -> Result<(), Refused> {
        while !self.held.is_empty() {
            self.commit().await?;
            self.queue()?;
        }
        if let Some((last, _)) = self.queued.back() {
            self.reached = self.committed.reached(*last).await?;
        }
        Ok(())
    }

    /// The next share that is committed.
    pub fn poll(&mut self) -> Option<Ticket> {
        let reached = self.reached;
        self.queued.pop_front_if(|(sequence, _)| *sequence <= reached).map(|(_, ticket)| ticket)
    }

    /// Hands the store what it takes.
    fn queue(&mut self) -> Result<(), Refused> {
        while let Some((share, ticket)) = self.held.pop_front() {
            match self.store.credit(share.clone()) {
                Ok(sequence) => self.queued.push_back((sequence, ticket)),
                Err(refused) => {
                    self.held.push_front((share, ticket));
                    return if refused == Refused::Full { Ok(()) } else { Err(refused) };
                }
            }
        }
        Ok(())
    }
}
