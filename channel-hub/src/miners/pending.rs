//! Shares between their acceptance and their answer: first waiting for room in the store's queue, then for their commit.
//!
//! A store that takes nothing, as on a full disk, loses no share that was taken: those that found no room wait here, and no
//! more are taken until there is room. However long that takes, their miner keeps its connection and its jobs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use store::{Committed, Refused, Sequence, Share, Store};

/// The shares of one connection that have no answer yet, each with the ticket of type `T` that its answer needs.
#[derive(Debug)]
pub struct Pending<T> {
    store: Arc<dyn Store>,
    committed: Committed,
    /// Not taken by the store yet, oldest first.
    held: VecDeque<(Share, T)>,
    /// On their way to the disk, oldest first.
    queued: VecDeque<(Sequence, T)>,
    /// The last commit that we heard of.
    reached: Sequence,
}

impl<T> Pending<T> {
    /// None yet.
    pub fn new(store: Arc<dyn Store>) -> Self {
        let committed = store.committed();
        Self { store, committed, held: VecDeque::new(), queued: VecDeque::new(), reached: 0 }
    }

    /// Credits a share; `ticket` comes back from [`Self::commit`].
    ///
    /// # Errors
    /// [`Refused::Closed`].
    pub fn credit(&mut self, share: Share, ticket: T) -> Result<(), Refused> {
        self.held.push_back((share, ticket));
        self.queue()
    }

    /// Whether the store took every share. If not, none more should be asked for.
    pub fn has_room(&self) -> bool {
        self.held.is_empty()
    }

    /// The last change that the store has committed, whoever's it is.
    pub fn committed(&self) -> Sequence {
        self.committed.now()
    }

    /// Since when the store's commit under way is; none if none is.
    pub fn commit_begun(&self) -> Option<Instant> {
        self.committed.begun()
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
    pub fn poll(&mut self) -> Option<T> {
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::time::Duration;
    use store::writer::Pace;
    use store::{Options, SqliteStore};
    use tokio::time::timeout;

    fn share() -> Share {
        let (hasher, worker) = ("alice".into(), "".into());
        Share { hasher, worker, height: 1, time: 60, work: 1, best: 1, hash: [0; 32] }
    }

    async fn eventually(is_so: impl Fn() -> bool) {
        let asking = async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(20), asking).await.unwrap();
    }

    #[tokio::test]
    async fn shares_that_the_store_has_no_room_for_wait_and_none_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hub.sqlite");
        let pace = Pace { max_queued: 2, ..Pace::default() };
        let store = Arc::new(SqliteStore::open(&path, Options { pace, ..Options::default() }).unwrap());
        let mut pending = Pending::new(Arc::clone(&store) as Arc<dyn Store>);
        // Somebody else holds the file: the store takes no more than its queue and the batch that it tries.
        let other = rusqlite::Connection::open(&path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let mut credited = 0;
        while pending.has_room() {
            pending.credit(share(), credited).unwrap();
            credited += 1;
        }
        (0..10).for_each(|more| pending.credit(share(), credited + more).unwrap());
        eventually(|| pending.commit_begun().is_some()).await;
        let begun = pending.commit_begun();
        assert!(timeout(Duration::from_millis(300), pending.commit()).await.is_err());
        assert_eq!(pending.poll(), None, "nothing is answered that is not committed");
        assert_eq!(pending.commit_begun(), begun, "the same commit is still under way");
        other.execute_batch("ROLLBACK").unwrap();
        let mut answered = Vec::new();
        while answered.len() < credited + 10 {
            timeout(Duration::from_secs(20), pending.commit()).await.unwrap().unwrap();
            answered.extend(std::iter::from_fn(|| pending.poll()));
        }
        assert_eq!(answered, (0..credited + 10).collect::<Vec<_>>());
        assert_eq!(store.whole().unwrap().shares, credited as u64 + 10);
        assert!(
            timeout(Duration::from_millis(50), pending.commit()).await.is_err(),
            "nothing waits any more"
        );
        eventually(|| pending.commit_begun().is_none()).await;
    }
}
