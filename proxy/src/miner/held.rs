//! Shares that an upstream connection has no room for yet. Their miner is not read meanwhile, so that what it sends waits
//! on its side: where more comes than goes, nobody is told that a share is lost.

use crate::upstream::Command;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// How long a miner that leaves waits for its shares.
const LEAVING: Duration = Duration::from_secs(4);

/// One miner's.
#[derive(Debug, Default)]
pub(crate) struct Held {
    waiting: VecDeque<Waiting>,
    /// When they are given up, if the miner leaves.
    until: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    tag: u32,
    command: Command,
    to: mpsc::Sender<Command>,
}

impl Waiting {
    /// Its tag.
    fn lost(self) -> u32 {
        self.command.unanswered();
        self.tag
    }
}

impl Held {
    /// Whether none waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The miner leaves, or is given away.
    pub(crate) fn leave(&mut self, now: Instant) {
        self.until = Some(now + LEAVING);
    }

    /// It stays after all.
    pub(crate) fn stay(&mut self) {
        self.until = None;
    }

    /// When [`Self::handle_timeout`] is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.until.filter(|_| !self.is_empty())
    }

    /// Those that a leaving miner has waited for in vain count as unanswered.
    pub(crate) fn handle_timeout(&mut self) {
        if self.until.is_some_and(|until| until <= Instant::now()) {
            for waiting in self.waiting.drain(..) {
                waiting.lost();
            }
        }
    }

    /// Hands a share on, behind those that wait. Its tag if the upstream connection has ended.
    pub(crate) fn hand_on(&mut self, to: &mpsc::Sender<Command>, tag: u32, command: Command) -> Option<u32> {
        let command = match self.is_empty() {
            true => match to.try_send(command) {
                Ok(()) => return None,
                Err(TrySendError::Closed(command)) => {
                    command.unanswered();
                    return Some(tag);
                }
                Err(TrySendError::Full(command)) => command,
            },
            false => command,
        };
        self.waiting.push_back(Waiting { tag, command, to: to.clone() });
        None
    }

    /// Waits until the first is handed on, for ever if there is none; its tag if the upstream connection has ended.
    /// Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<u32> {
        let Some(first) = self.waiting.front() else { return std::future::pending().await };
        let to = first.to.clone();
        let room = to.reserve().await;
        let waiting = self.waiting.pop_front()?;
        match room {
            Ok(room) => {
                room.send(waiting.command);
                None
            }
            Err(_) => Some(waiting.lost()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::Admission;
    use crate::farm::{Farm, Miner};
    use crate::session::UpstreamShare;
    use crate::upstream::ShareOut;
    use crate::work::{Extranonce, Rolled};
    use bitcoin::hashes::Hash;
    use bitcoin::{BlockHash, Target};
    use service::Counters;
    use std::path::Path;
    use std::sync::Arc;
    use tokio::time::timeout;

    fn farm(data: &Path) -> Arc<Farm> {
        let admission = Admission { max_connections: 1, max_connections_per_address: 1 };
        let counters = Counters::open("test", data).unwrap();
        Arc::new(Farm::new(admission, Duration::from_secs(3), &counters))
    }

    fn miner() -> Arc<Miner> {
        let dir = tempfile::tempdir().unwrap();
        let seat = farm(dir.path()).admit("127.0.0.1:1".parse().unwrap()).unwrap();
        seat.miner.clone()
    }

    fn command(worker: u32) -> Command {
        let (work, _) = crate::upstream::feed();
        Command::Open { worker: worker.to_string().into(), hash_rate: 0.0, miner: miner(), work }
    }

    fn worker(command: Option<Command>) -> String {
        match command.unwrap() {
            Command::Open { worker, .. } => worker.to_string(),
            Command::Share(_) => panic!("no share was sent"),
        }
    }

    #[tokio::test]
    async fn what_finds_no_room_waits_in_order_and_is_lost_only_with_the_connection() {
        let (to, mut commands) = mpsc::channel(2);
        let mut held = Held::default();
        for tag in 0..5 {
            assert_eq!(held.hand_on(&to, tag, command(tag)), None);
        }
        assert!(timeout(Duration::from_millis(20), held.next()).await.is_err(), "there is no room");
        for tag in 0..3 {
            assert_eq!(worker(commands.recv().await), tag.to_string());
            assert_eq!(held.next().await, None);
        }
        assert!(held.is_empty());
        assert_eq!(held.hand_on(&to, 5, command(5)), None);
        drop(commands);
        assert_eq!(held.next().await, Some(5));
        assert_eq!(held.hand_on(&to, 6, command(6)), Some(6));
        assert!(timeout(Duration::from_millis(20), held.next()).await.is_err(), "none waits");
    }

    #[tokio::test]
    async fn a_share_that_is_lost_on_its_way_counts_as_unanswered() {
        let dir = tempfile::tempdir().unwrap();
        let farm = farm(dir.path());
        let seat = farm.admit("127.0.0.1:1".parse().unwrap()).unwrap();
        let (worker, work) = (Arc::from("ann"), crate::testing::work(crate::testing::start(), Target::MAX));
        let rolled = Rolled { extranonce: Extranonce::default(), version: 0, ntime: 0, nonce: 0 };
        let hash = BlockHash::all_zeros();
        let totals = farm.totals.worker(&worker);
        let share = |tag| {
            let (worker, work, miner) = (Arc::clone(&worker), Arc::clone(&work), seat.miner.clone());
            let share = UpstreamShare { tag, worker, work, rolled, hash, is_block: false };
            let (totals, answers) = (totals.clone(), mpsc::channel(1).0);
            ShareOut { share: Box::new(share), totals, miner, answers, until: Instant::now() }
        };
        let (share, again, late) = (share(1), share(2), share(3));
        let (to, commands) = mpsc::channel(1);
        let mut held = Held::default();
        assert_eq!(held.hand_on(&to, 0, command(0)), None);
        assert_eq!(held.hand_on(&to, 1, Command::Share(share)), None);
        assert_eq!(held.hand_on(&to, 2, Command::Share(again)), None);
        drop(commands);
        assert_eq!((held.next().await, totals.unanswered.value()), (Some(1), 1));
        let now = Instant::now();
        held.leave(now);
        held.handle_timeout();
        assert_eq!(held.poll_timeout(), Some(now + LEAVING));
        held.leave(now.checked_sub(LEAVING).unwrap());
        held.handle_timeout();
        assert_eq!((held.is_empty(), totals.unanswered.value()), (true, 2));
        assert_eq!((held.hand_on(&to, 3, Command::Share(late)), totals.unanswered.value()), (Some(3), 3));
    }
}
