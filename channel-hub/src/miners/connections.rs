//! Who is connected: counted for the bounds, described for the pages.
//!
//! A connection that brings nothing may stay for a while (`unused_seconds`): a proxy waits so for its first miner. But where a bound is
//! reached it gives way to one that may want to mine: first those who have said nothing, then those whose handshake is not done, then
//! those without a mining channel, last those whose channels never brought a share, though there was work.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use link::Peer;
use link::places::{Bounds, Full, Places, unproven};
use tokio_util::sync::CancellationToken;

use super::channel::Channel;
use crate::config::Limits;
use crate::feed::Feed;

/// How long a connection that has said nothing keeps its place when somebody else wants it.
const SILENT: Duration = Duration::from_millis(500);
/// How long one does whose handshake is not done, be it that it waits for its turn; where nobody wants its place,
/// [`link::Limits::handshake`].
const SHAKING: Duration = Duration::from_secs(5);
/// How long one without a mining channel does.
const UNUSED: Duration = Duration::from_secs(60);

/// Everybody who is connected.
#[derive(Debug)]
pub struct Connections {
    shutdown: CancellationToken,
    places: Mutex<Places<Arc<Connection>>>,
    /// Tells since when there is work.
    feed: Arc<Feed>,
    /// How long one keeps its place that mines and brings no share, when somebody else wants it.
    unproven: Duration,
}

/// One connection, for as long as this is held.
#[derive(Debug)]
pub struct Guard {
    connections: Arc<Connections>,
    connection: Arc<Connection>,
}

/// What is known of one connection.
#[derive(Debug)]
pub struct Connection {
    /// Counts up from 1 since the hub started.
    pub id: u64,
    /// Where it comes from.
    pub address: SocketAddr,
    /// When it came.
    pub since: Instant,
    /// Cancelled when another one takes its place, or when the hub closes.
    pub leave: CancellationToken,
    details: Mutex<Details>,
}

/// What becomes known while it lives.
#[derive(Clone, Debug)]
pub struct Details {
    /// Who it says it is; none before its handshake is done.
    pub peer: Option<Arc<Peer>>,
    /// Extensions negotiated.
    pub extensions: Vec<u16>,
    /// Its mining channels. Boxed, since most connections have one, and a map has room for more.
    pub channels: BTreeMap<u32, Box<Channel>>,
    standing: Standing,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Its first message is not here.
    Silent,
    /// Its handshake waits for its turn, or is under way, since then.
    Shaking(Instant),
    /// Without a mining channel since then.
    Unused(Instant),
    /// With mining channels since then.
    Mining(Instant),
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooMany {
    /// In all.
    #[error("max_connections is reached")]
    Connections,
    /// From one address.
    #[error("max_connections_per_address is reached")]
    PerAddress,
}

impl From<Full> for TooMany {
    fn from(full: Full) -> Self {
        match full {
            Full::All => Self::Connections,
            Full::FromOne => Self::PerAddress,
        }
    }
}

impl TooMany {
    /// For logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connections => Full::All.name(),
            Self::PerAddress => Full::FromOne.name(),
        }
    }
}

impl Connections {
    /// Nobody yet, whose channels should each find a share in every `share_interval` in which `feed` has work; all have to leave
    /// at `shutdown`.
    pub fn new(
        limits: Limits,
        share_interval: Duration,
        feed: Arc<Feed>,
        shutdown: CancellationToken,
    ) -> Arc<Self> {
        let Limits { max_connections: all, max_connections_per_address: from_one, .. } = limits;
        let places = Mutex::new(Places::new(Bounds { all, from_one, silent: SILENT }));
        Arc::new(Self { shutdown, unproven: unproven(share_interval), feed, places })
    }

    /// Counts a connection in that comes `now`; it is counted out when the guard is dropped. Where a bound is
    /// reached it displaces one that brings nothing. Addresses of IPv6 count by their /64.
    ///
    /// # Errors
    /// A bound is reached, and all are in use.
    pub fn enter(self: &Arc<Self>, address: SocketAddr, now: Instant) -> Result<Guard, TooMany> {
        let served = self.feed.served();
        let mut places = self.lock();
        let new = |id| Arc::new(Connection::new(id, address, now, self.shutdown.child_token()));
        let worth = |connection: &Arc<Connection>| connection.worth(now, self.unproven, served);
        let (id, displaced) = places.take(now, address.ip(), new, worth)?;
        if let Some(displaced) = displaced {
            displaced.leave.cancel();
        }
        let Some(connection) = places.get(id) else { unreachable!("its place was taken just now") };
        Ok(Guard { connections: Arc::clone(self), connection: Arc::clone(connection) })
    }

    /// Those after the first `skip`, at most `limit`, oldest first.
    pub fn some(&self, skip: usize, limit: usize) -> Vec<Arc<Connection>> {
        self.lock().iter().skip(skip).take(limit).cloned().collect()
    }

    /// Everybody, oldest first.
    pub fn all(&self) -> Vec<Arc<Connection>> {
        self.some(0, usize::MAX)
    }

    /// Hashers who have a mining channel.
    pub fn hashers(&self) -> HashSet<Arc<str>> {
        let mut hashers = HashSet::new();
        for connection in self.all() {
            hashers.extend(connection.lock().channels.values().map(|channel| Arc::clone(&channel.hasher)));
        }
        hashers
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, Places<Arc<Connection>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guard {
    /// Its first message is here `now`.
    pub fn spoke(&self, now: Instant) {
        self.connections.lock().spoke(self.connection.id);
        self.connection.lock().standing = Standing::Shaking(now);
    }
}

impl Connection {
    fn new(id: u64, address: SocketAddr, now: Instant, leave: CancellationToken) -> Self {
        let details = Details {
            peer: None,
            extensions: Vec::new(),
            channels: BTreeMap::new(),
            standing: Standing::Silent,
        };
        Self { id, address, since: now, leave, details: Mutex::new(details) }
    }

    /// How little is lost with one that has spoken, least first; `None`: it may not be displaced. `served`: since when there is
    /// work.
    fn worth(&self, now: Instant, unproven: Duration, served: Option<Instant>) -> Option<u8> {
        let over = |since, limit| now.saturating_duration_since(since) >= limit;
        let details = self.lock();
        match details.standing {
            Standing::Silent => None,
            Standing::Shaking(since) => over(since, SHAKING).then_some(0),
            Standing::Unused(since) => over(since, UNUSED).then_some(1),
            Standing::Mining(since) => {
                let proven = || details.channels.values().any(|channel| channel.tally().accepted > 0);
                // Who has no work brings no share.
                let could_mine = served.map(|served| served.max(since));
                let is_overdue = could_mine.is_some_and(|since| over(since, unproven));
                (is_overdue && !proven()).then_some(2)
            }
        }
    }

    /// It is set up `now`.
    pub fn set_up(&self, peer: Peer, now: Instant) {
        let mut details = self.lock();
        details.peer = Some(Arc::new(peer));
        details.standing = Standing::Unused(now);
    }

    /// A mining channel was opened `now`.
    pub fn opened(&self, channel_id: u32, channel: Channel, now: Instant) {
        let mut details = self.lock();
        details.channels.insert(channel_id, Box::new(channel));
        if !matches!(details.standing, Standing::Mining(_)) {
            details.standing = Standing::Mining(now);
        }
    }

    /// A mining channel was closed `now`.
    pub fn closed(&self, channel_id: u32, now: Instant) {
        let mut details = self.lock();
        details.channels.remove(&channel_id);
        if details.channels.is_empty() {
            details.standing = Standing::Unused(now);
        }
    }

    /// What is known now.
    pub fn details(&self) -> Details {
        self.lock().clone()
    }

    /// How many mining channels it has.
    pub fn channels(&self) -> usize {
        self.lock().channels.len()
    }

    /// Changes what is known. Only its own session does, so nobody waits for this lock but a page.
    pub fn change<T>(&self, change: impl FnOnce(&mut Details) -> T) -> T {
        change(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Details> {
        self.details.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::ops::Deref for Guard {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.connections.lock().free(self.connection.id);
    }
}

#[cfg(test)]
mod tests;
