//! What all tasks of the program know together: the miners that are connected, and the totals.
//!
//! Nothing here is on a share's path but counters; a miner's own task writes its view, the status page reads it.

use crate::config::Admission;
use crate::session::{UpstreamShare, Worker};
use crate::slices::Slices;
use crate::totals::Totals;
use bitcoin::BlockHash;
use mining::Work;
use service::Counters;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

/// Blocks that are shown.
const MAX_BLOCKS: usize = 50;

/// Shared by all tasks.
#[derive(Debug)]
pub struct Farm {
    admission: Admission,
    miners: Mutex<Miners>,
    slices: Mutex<Slices>,
    /// The upstream connection that miners work for; 0 is none.
    active: AtomicU64,
    blocks: Mutex<VecDeque<FoundBlock>>,
    /// Kept across restarts.
    pub totals: Totals,
}

#[derive(Debug, Default)]
struct Miners {
    next: u64,
    connected: HashMap<u64, Arc<Miner>>,
    addresses: HashMap<IpAddr, usize>,
}

/// One connection of a miner; gone from the farm when the [`Seat`] is dropped.
#[derive(Debug)]
pub struct Miner {
    /// Counts up from 1.
    pub id: u64,
    /// Where it connects from.
    pub address: SocketAddr,
    /// Since when.
    pub connected: Instant,
    /// Shares that the upstream acknowledged.
    pub credited: AtomicU64,
    view: Mutex<MinerView>,
}

/// What is shown of a miner.
#[derive(Clone, Debug, Default)]
pub struct MinerView {
    /// Its user agent.
    pub firmware: Option<Arc<str>>,
    /// The first worker it authorised.
    pub worker: Option<Worker>,
    /// SV1 difficulty.
    pub difficulty: f64,
    /// Hashes a second, estimated from its shares.
    pub hash_rate: f64,
    /// Shares that were answered with true.
    pub accepted: u64,
    /// Work of its best share's own hash.
    pub best: Work,
    /// Shares that were refused.
    pub rejected: u64,
    /// When it last found a share.
    pub last_share: Option<Instant>,
}

/// A share that meets the network's target.
#[derive(Clone, Debug)]
pub struct FoundBlock {
    /// Its hash.
    pub hash: BlockHash,
    /// Who found it.
    pub worker: Arc<str>,
    /// Whom it was handed to.
    pub upstream: Arc<str>,
    /// When.
    pub time: SystemTime,
}

/// A miner's place in the farm and its slice of the extranonce; both are given back on drop.
#[derive(Debug)]
pub struct Seat {
    farm: Arc<Farm>,
    /// This connection.
    pub miner: Arc<Miner>,
    /// This connection's extranonce1.
    pub slice: u32,
}

/// Why a connection is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// miners.max_connections.
    #[error("too many connections")]
    TooMany,
    /// miners.max_per_address.
    #[error("too many connections from one address")]
    TooManyFromAddress,
}

impl Refused {
    /// Name in counters.
    pub fn name(self) -> &'static str {
        match self {
            Self::TooMany => "too-many",
            Self::TooManyFromAddress => "too-many-from-address",
        }
    }
}

impl Farm {
    /// No miners yet.
    pub fn new(admission: Admission, counters: &Counters) -> Self {
        Self {
            admission,
            miners: Mutex::default(),
            slices: Mutex::default(),
            active: AtomicU64::new(0),
            blocks: Mutex::default(),
            totals: Totals::new(counters),
        }
    }

    /// Lets a connection in.
    pub fn admit(self: &Arc<Self>, address: SocketAddr) -> Result<Seat, Refused> {
        let mut miners = locked(&self.miners);
        if miners.connected.len() >= self.admission.max_connections {
            return Err(Refused::TooMany);
        }
        let from_address = miners.addresses.get(&address.ip()).copied().unwrap_or(0);
        if from_address >= self.admission.max_per_address {
            return Err(Refused::TooManyFromAddress);
        }
        let slice = locked(&self.slices).take().ok_or(Refused::TooMany)?;
        miners.next += 1;
        let miner = Arc::new(Miner {
            id: miners.next,
            address,
            connected: Instant::now(),
            credited: AtomicU64::new(0),
            view: Mutex::default(),
        });
        miners.addresses.insert(address.ip(), from_address + 1);
        miners.connected.insert(miner.id, miner.clone());
        self.totals.connections.add(1);
        Ok(Seat { farm: self.clone(), miner, slice })
    }

    /// All miners, oldest first.
    pub fn miners(&self) -> Vec<Arc<Miner>> {
        let mut miners: Vec<_> = locked(&self.miners).connected.values().cloned().collect();
        miners.sort_by_key(|miner| miner.id);
        miners
    }

    /// Hashes a second of all miners, estimated from their shares.
    pub fn hash_rate(&self) -> f64 {
        locked(&self.miners).connected.values().fold(0.0, |sum, miner| sum + miner.view().hash_rate)
    }

    /// This upstream connection has published a new job. If it is the active one, all miners that connect from now on
    /// get that job or a newer one.
    pub fn job_made(&self, connection: u64) {
        if self.active.load(Ordering::Relaxed) == connection {
            locked(&self.slices).job_made();
        }
    }

    /// Miners work for this upstream connection from now on.
    pub fn activate(&self, connection: u64) {
        self.active.store(connection, Ordering::Relaxed);
    }

    /// Whether miners have an upstream to work for.
    pub fn has_upstream(&self) -> bool {
        self.active.load(Ordering::Relaxed) != 0
    }

    /// A share that meets the network's target is on its way to this upstream.
    pub fn block_found(&self, share: &UpstreamShare, upstream: &str) {
        let (worker, hash) = (share.worker.clone(), share.hash);
        tracing::info!(%worker, %hash, upstream, "block found");
        self.totals.blocks.add(1);
        let mut blocks = locked(&self.blocks);
        if blocks.len() == MAX_BLOCKS {
            blocks.pop_back();
        }
        blocks.push_front(FoundBlock { hash, worker, upstream: upstream.into(), time: SystemTime::now() });
    }

    /// The last blocks found in this run, newest first.
    pub fn blocks(&self) -> Vec<FoundBlock> {
        locked(&self.blocks).iter().cloned().collect()
    }

    fn leave(&self, miner: &Miner, slice: u32) {
        let mut miners = locked(&self.miners);
        miners.connected.remove(&miner.id);
        if let Some(count) = miners.addresses.get_mut(&miner.address.ip()) {
            *count -= 1;
            if *count == 0 {
                miners.addresses.remove(&miner.address.ip());
            }
        }
        locked(&self.slices).give_back(slice);
    }
}

impl Miner {
    /// What is shown of it.
    pub fn view(&self) -> MutexGuard<'_, MinerView> {
        locked(&self.view)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.farm.leave(&self.miner, self.slice);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn farm(max_connections: usize, max_per_address: usize) -> (tempfile::TempDir, Arc<Farm>) {
        let dir = tempfile::tempdir().unwrap();
        let counters = Counters::open("test", dir.path()).unwrap();
        (dir, Arc::new(Farm::new(Admission { max_connections, max_per_address }, &counters)))
    }

    #[test]
    fn connections_are_bounded_in_all_and_by_address_and_places_come_free() {
        let (_dir, farm) = farm(3, 2);
        let address = |host: u8| SocketAddr::from(([10, 0, 0, host], 5000));
        let first = farm.admit(address(1)).unwrap();
        let _second = farm.admit(address(1)).unwrap();
        assert_eq!(farm.admit(address(1)).unwrap_err(), Refused::TooManyFromAddress);
        let _third = farm.admit(address(2)).unwrap();
        assert_eq!(farm.admit(address(3)).unwrap_err(), Refused::TooMany);
        drop(first);
        let fourth = farm.admit(address(1)).unwrap();
        assert_eq!(farm.miners().len(), 3);
        assert_eq!(fourth.slice, 3, "a freed slice rests until there is a newer job");
    }
}
