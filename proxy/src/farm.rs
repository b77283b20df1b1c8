//! What all tasks of the program know together: the miners that are connected, and the totals.
//!
//! A share locks its own miner's view and its own worker's totals: its task writes them, and whoever shows all miners or looks for a place
//! reads the views one by one. The list of miners is locked by who comes, authorises or leaves, by the status page and by metrics; slices by who comes
//! and by a new job; blocks by a block.

use crate::config::Admission;
use crate::miner::account::OPENING;
use crate::session::{Past, UpstreamShare, Worker};
use crate::slices::Slices;
use crate::totals::Totals;
use bitcoin::BlockHash;
use link::Refusals;
use link::places::{Bounds, Full, Places, unproven};
use mining::Work;
use service::Counters;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{Notify, watch};

/// Blocks that are shown.
const MAX_BLOCKS: usize = 50;
/// How long a connection keeps its place that has said nothing, or only lines that authorise nobody, when somebody else wants it: many
/// that come at one moment are not to displace each other before their first line is read.
const SILENT: Duration = Duration::from_millis(500);
/// How long one does that has begun a handshake, be it that it waits for its turn.
const SHAKING: Duration = Duration::from_secs(5);
/// How long one does whose handshake is over and that has no channel, as a translator without miners.
const UNUSED: Duration = Duration::from_secs(10);

/// Shared by all tasks.
#[derive(Debug)]
pub struct Farm {
    miners: Mutex<Places<Arc<Miner>>>,
    /// How long a miner without a share is safe from being displaced.
    unproven: Duration,
    slices: Arc<Mutex<Slices>>,
    active: watch::Sender<Option<Active>>,
    blocks: Mutex<VecDeque<FoundBlock>>,
    /// Kept across restarts.
    pub totals: Totals,
    /// Shares that were refused, by address.
    pub refusals: Refusals,
}

/// The upstream connection that miners work for.
#[derive(Clone, Copy, Debug)]
struct Active {
    /// Its number.
    connection: u64,
    /// Since when they have one without a break, be it another.
    served: Instant,
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
    /// Woken when its place is needed for another.
    crowded: Notify,
    standing: Mutex<Standing>,
    view: Mutex<MinerView>,
}

/// How far it has come, by which its place is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Silent,
    /// It has begun a handshake then.
    Shaking(Instant),
    /// It was set up then.
    Unused(Instant),
    /// It has authorised a worker.
    Mining,
}

/// What a miner speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// Stratum V1.
    #[default]
    Sv1,
    /// Stratum V2.
    Sv2,
}

impl Protocol {
    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sv1 => "SV1",
            Self::Sv2 => "SV2",
        }
    }
}

/// What is shown of a miner.
#[derive(Clone, Debug, Default)]
pub struct MinerView {
    /// What it speaks.
    pub protocol: Protocol,
    /// SV2 channels that it has open.
    pub channels: usize,
    /// Its user agent.
    pub firmware: Option<Arc<str>>,
    /// The first worker it authorised.
    pub worker: Option<Worker>,
    /// SV1 difficulty.
    pub difficulty: f64,
    /// Hashes a second, estimated from its shares.
    pub hash_rate: f64,
    /// The same, but what it says is believed until it has found a few; not less.
    pub claimed_hash_rate: f64,
    /// Shares that were answered with true.
    pub accepted: u64,
    /// Work of its best share's own hash.
    pub best: Work,
    /// Shares that were refused.
    pub rejected: u64,
    /// When it last found a share.
    pub last_share: Option<Instant>,
    /// When a channel of its own was asked for at the upstream, while that has neither come nor been refused.
    pub asked: Option<Instant>,
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

/// A miner's place in the farm, given back on drop.
#[derive(Debug)]
pub struct Seat {
    farm: Arc<Farm>,
    /// This connection.
    pub miner: Arc<Miner>,
}

/// Why a connection is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// miners.max_connections.
    #[error("no place left: miners.max_connections")]
    Connections,
    /// miners.max_connections_per_address.
    #[error("no place left for its address: miners.max_connections_per_address")]
    PerAddress,
}

impl From<Full> for Refused {
    fn from(full: Full) -> Self {
        match full {
            Full::All => Self::Connections,
            Full::FromOne => Self::PerAddress,
        }
    }
}

impl Refused {
    /// Name in counters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connections => Full::All.name(),
            Self::PerAddress => Full::FromOne.name(),
        }
    }
}

impl Farm {
    /// No miners yet; each should find a share in every `share_interval`.
    pub fn new(admission: Admission, share_interval: Duration, counters: &Counters) -> Self {
        let Admission { max_connections, max_connections_per_address } = admission;
        let bounds = Bounds { all: max_connections, from_one: max_connections_per_address, silent: SILENT };
        Self {
            miners: Mutex::new(Places::new(bounds)),
            unproven: unproven(share_interval),
            slices: Arc::new(Mutex::new(Slices::beginning_at(rand::random()))),
            active: watch::Sender::new(None),
            blocks: Mutex::default(),
            totals: Totals::new(counters),
            refusals: Refusals::default(),
        }
    }

    /// Lets a connection in; addresses of IPv6 count by their /64. Where all places are taken, it gets the one of the oldest
    /// connection that has said nothing in half a second, if there is such, else of one whose handshake or whose first channel is
    /// overdue, or that should have found twenty shares by now and found none: who is idle cannot keep miners out.
    ///
    /// # Errors
    /// All places are taken, in all or of this address, and all are in use.
    pub fn admit(self: &Arc<Self>, address: SocketAddr) -> Result<Seat, Refused> {
        self.admit_at(Instant::now(), address)
    }

    fn admit_at(self: &Arc<Self>, now: Instant, address: SocketAddr) -> Result<Seat, Refused> {
        let served = self.active().map(|active| active.served);
        let worth = |miner: &Arc<Miner>| miner.worth(now, self.unproven, served);
        let mut miners = locked(&self.miners);
        let (id, displaced) = miners.take(now, address.ip(), Miner::numbered(now, address), worth)?;
        if let Some(displaced) = displaced {
            displaced.crowded.notify_one(); // its place is free at once, its socket in a moment
        }
        self.totals.connections.add(1);
        Ok(self.seated(&miners, id))
    }

    /// A connection that a predecessor let in, and what it has seen of it.
    pub fn readmit(self: &Arc<Self>, address: SocketAddr, past: &Past) -> Seat {
        let (now, mut miners) = (Instant::now(), locked(&self.miners));
        let ago = |seconds| now.checked_sub(Duration::from_secs(seconds)).unwrap_or(now);
        let id = miners.add(now, address.ip(), Miner::numbered(ago(past.connected_seconds), address));
        let seat = self.seated(&miners, id);
        seat.miner.credited.store(past.credited, Ordering::Relaxed);
        let mut view = seat.miner.view();
        (view.accepted, view.rejected) = (past.accepted, past.rejected);
        view.best = Work::new(past.best.parse().unwrap_or_default());
        view.last_share = past.last_share_seconds.map(ago);
        drop(view);
        seat
    }

    /// These slices are a predecessor's miners'. Before anybody is admitted.
    pub fn keep_slices(&self, slices: &[u32]) {
        locked(&self.slices).keep(slices);
    }

    fn seated(self: &Arc<Self>, miners: &Places<Arc<Miner>>, id: u64) -> Seat {
        let Some(miner) = miners.get(id) else { unreachable!("its place was taken just now") };
        Seat { farm: self.clone(), miner: miner.clone() }
    }

    /// This miner has begun a handshake, whose turn it may have to wait for.
    pub fn shakes(&self, miner: &Miner) {
        self.stands(miner, Standing::Shaking(Instant::now()));
    }

    /// The handshake of this miner is over; it has no channel yet.
    pub fn set_up(&self, miner: &Miner) {
        self.stands(miner, Standing::Unused(Instant::now()));
    }

    /// This miner has authorised: its place is its own.
    pub fn authorized(&self, miner: &Miner) {
        self.stands(miner, Standing::Mining);
    }

    fn stands(&self, miner: &Miner, standing: Standing) {
        locked(&self.miners).spoke(miner.id);
        *locked(&miner.standing) = standing;
    }

    /// Where SV1 connections and SV2 channels get their slices.
    pub fn slices(&self) -> Arc<Mutex<Slices>> {
        Arc::clone(&self.slices)
    }

    /// All miners, oldest first.
    pub fn miners(&self) -> Vec<Arc<Miner>> {
        locked(&self.miners).iter().cloned().collect()
    }

    /// Hashes a second of all miners, estimated from their shares.
    pub fn hash_rate(&self) -> f64 {
        locked(&self.miners).iter().fold(0.0, |sum, miner| sum + miner.view().hash_rate)
    }

    /// This upstream connection has published a new job. If it is the active one, all miners that connect from now on
    /// get that job or a newer one.
    pub fn job_made(&self, connection: u64) {
        if self.active().is_some_and(|active| active.connection == connection) {
            locked(&self.slices).job_made();
        }
    }

    /// Miners work for this upstream connection from now on, for none if it is 0.
    pub fn activate(&self, connection: u64) {
        let now = Instant::now();
        self.active.send_modify(|active| {
            let served = active.map_or(now, |active| active.served);
            *active = (connection != 0).then_some(Active { connection, served });
        });
    }

    /// Returns when miners have no upstream to work for, at once if they have none.
    pub async fn unserved(&self) {
        let _ = self.active.subscribe().wait_for(Option::is_none).await; // the other end is ours
    }

    fn active(&self) -> Option<Active> {
        *self.active.borrow()
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

    fn leave(&self, miner: &Miner) {
        locked(&self.miners).free(miner.id);
    }
}

impl Miner {
    /// Of the connection that gets this number.
    fn numbered(connected: Instant, address: SocketAddr) -> impl FnOnce(u64) -> Arc<Self> {
        move |id| {
            Arc::new(Self {
                id,
                address,
                connected,
                credited: AtomicU64::new(0),
                crowded: Notify::new(),
                standing: Mutex::new(Standing::Silent),
                view: Mutex::default(),
            })
        }
    }

    /// What is shown of it, for a successor.
    pub fn past(&self) -> Past {
        let view = self.view();
        Past {
            connected_seconds: self.connected.elapsed().as_secs(),
            accepted: view.accepted,
            rejected: view.rejected,
            credited: self.credited.load(Ordering::Relaxed),
            best: view.best.hashes().to_string(),
            last_share_seconds: view.last_share.map(|at| at.elapsed().as_secs()),
        }
    }

    /// How little is lost with one that has spoken, least first; `None`: it may not be displaced. `served`: since when there is an
    /// upstream.
    fn worth(&self, now: Instant, unproven: Duration, served: Option<Instant>) -> Option<u8> {
        let over = |since, limit| now.saturating_duration_since(since) >= limit;
        match *locked(&self.standing) {
            Standing::Silent => None,
            Standing::Shaking(since) => over(since, SHAKING).then_some(0),
            Standing::Unused(since) => over(since, UNUSED).then_some(1),
            Standing::Mining => {
                // Who has no work brings no share.
                let could_mine = served.map(|served| served.max(self.connected));
                let is_overdue = could_mine.is_some_and(|since| over(since, unproven));
                let view = self.view();
                // Nor who waits for a channel that is asked for.
                let waits = view.asked.is_some_and(|asked| !over(asked, OPENING));
                (is_overdue && view.last_share.is_none() && !waits).then_some(2)
            }
        }
    }

    /// Returns when the place of this miner is needed for another.
    pub async fn asked_to_leave(&self) {
        self.crowded.notified().await;
    }

    /// What is shown of it.
    pub fn view(&self) -> MutexGuard<'_, MinerView> {
        locked(&self.view)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.farm.leave(&self.miner);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use link::places::LOOK_AGAIN;
    use std::collections::HashSet;

    const INTERVAL: Duration = Duration::from_secs(6);
    const UNPROVEN: Duration = Duration::from_secs(120);

    fn farm(max_connections: usize, max_connections_per_address: usize) -> (tempfile::TempDir, Arc<Farm>) {
        let dir = tempfile::tempdir().unwrap();
        let counters = Counters::open("test", dir.path()).unwrap();
        let admission = Admission { max_connections, max_connections_per_address };
        let farm = Arc::new(Farm::new(admission, INTERVAL, &counters));
        farm.activate(1);
        (dir, farm)
    }

    #[test]
    fn connections_are_bounded_in_all_and_by_address_and_places_come_free() {
        let (_dir, farm) = farm(3, 2);
        let address = |host: u8| SocketAddr::from(([10, 0, 0, host], 5000));
        let known = |host| {
            let seat = farm.admit(address(host)).unwrap();
            farm.authorized(&seat.miner);
            seat
        };
        let first = known(1);
        let _second = known(1);
        assert_eq!(farm.admit(address(1)).unwrap_err(), Refused::PerAddress);
        let _third = known(2);
        assert_eq!(farm.admit(address(3)).unwrap_err(), Refused::Connections);
        drop(first);
        let _fourth = farm.admit(address(1)).unwrap();
        assert_eq!(farm.miners().len(), 3);
    }

    #[tokio::test]
    async fn who_authorises_and_never_finds_a_share_gives_way_in_the_end_and_who_mines_does_not() {
        let (_dir, farm) = farm(2, 2);
        let (address, start) = (SocketAddr::from(([10, 0, 0, 1], 5000)), Instant::now());
        let known = || {
            let seat = farm.admit(address).unwrap();
            farm.authorized(&seat.miner);
            seat
        };
        let (mines, idle) = (known(), known());
        mines.miner.view().last_share = Some(start);
        let after = |time| farm.admit_at(start + time, address);
        assert_eq!(after(UNPROVEN / 2).unwrap_err(), Refused::PerAddress);
        let newcomer = after(UNPROVEN + LOOK_AGAIN * 2).unwrap();
        idle.miner.asked_to_leave().await;
        farm.authorized(&newcomer.miner);
        let again = after(UNPROVEN + LOOK_AGAIN * 4);
        assert_eq!(again.unwrap_err(), Refused::PerAddress, "the newcomer has its time");
    }

    #[test]
    fn who_has_had_no_work_is_not_to_blame_for_bringing_no_share() {
        let (_dir, farm) = farm(1, 1);
        let start = Instant::now();
        let come = |time, host| farm.admit_at(start + time, SocketAddr::from(([10, 0, 0, host], 5000)));
        let waits = come(Duration::ZERO, 1).unwrap();
        farm.authorized(&waits.miner);
        farm.activate(0);
        assert_eq!(come(UNPROVEN * 9, 2).unwrap_err(), Refused::Connections);
        farm.activate(2);
        assert!(come(UNPROVEN * 9 + LOOK_AGAIN, 2).is_ok());
    }

    #[test]
    fn a_farm_that_is_started_anew_begins_with_another_slice() {
        // Chance makes all four the same once in 35 million million times.
        let first = |_: i32| farm(1, 1).1.slices().lock().unwrap().take().unwrap();
        let all: HashSet<u32> = (0..4).map(first).collect();
        assert!(all.len() > 1, "{all:?}");
    }

    #[test]
    fn addresses_of_one_network_of_ipv6_count_as_one() {
        let (_dir, farm) = farm(3, 2);
        let address = |text: &str| SocketAddr::new(text.parse().unwrap(), 5000);
        let known = |text| {
            let seat = farm.admit(address(text)).unwrap();
            farm.authorized(&seat.miner);
            seat
        };
        let (_one, other) = (known("2001:db8::1"), known("2001:db8::2"));
        assert_eq!(farm.admit(address("2001:db8::3")).unwrap_err(), Refused::PerAddress);
        let _elsewhere = known("2001:db8:0:1::1");
        drop(other);
        known("2001:db8::3");
    }

    #[tokio::test]
    async fn who_waits_for_the_turn_of_its_handshake_has_its_time_and_who_is_set_up_has_longer_to_open_a_channel()
     {
        let (_dir, farm) = farm(2, 2);
        let address = |host: u8| SocketAddr::from(([10, 0, 0, host], 5000));
        let (start, moment) = (Instant::now(), Duration::from_secs(1));
        let come = |time, host| farm.admit_at(start + time, address(host));
        let (shaking, unused) = (come(Duration::ZERO, 1).unwrap(), come(Duration::ZERO, 1).unwrap());
        farm.shakes(&shaking.miner);
        farm.set_up(&unused.miner);
        assert_eq!(come(SHAKING - moment, 2).unwrap_err(), Refused::Connections);
        let next = come(SHAKING + moment, 2).unwrap();
        shaking.miner.asked_to_leave().await;
        farm.authorized(&next.miner);
        assert_eq!(come(UNUSED - moment, 3).unwrap_err(), Refused::Connections);
        let last = come(UNUSED + moment, 3).unwrap();
        unused.miner.asked_to_leave().await;
        farm.authorized(&last.miner);
        assert_eq!(farm.miners().len(), 2);
    }

    #[tokio::test]
    async fn who_has_not_authorised_in_half_a_second_makes_place_the_oldest_first_and_of_its_own_address_if_that_is_full()
     {
        let (_dir, farm) = farm(3, 2);
        let address = |host: u8| SocketAddr::from(([10, 0, 0, host], 5000));
        let start = Instant::now();
        let come = |time, host| farm.admit_at(time, address(host));
        let (idle, flood, more) = (come(start, 1).unwrap(), come(start, 2).unwrap(), come(start, 2).unwrap());
        let later = start + SILENT;
        assert!(come(later - Duration::from_millis(1), 2).is_err(), "they have their time");
        let _again = come(later, 2).unwrap();
        flood.miner.asked_to_leave().await;
        let _miner = come(later, 3).unwrap();
        idle.miner.asked_to_leave().await;
        assert_eq!(farm.miners().len(), 3);
        drop(idle);
        assert_eq!(farm.miners().len(), 3, "a place is given back once");
        farm.authorized(&more.miner);
        let _other = come(later + SILENT, 3).unwrap();
        assert!(farm.miners().iter().any(|miner| miner.id == more.miner.id));
    }
}
