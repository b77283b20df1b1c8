//! Who is connected: counted for the bounds, described for the pages.
//!
//! A connection that brings nothing may stay: a proxy waits so for its first miner. But where a bound is reached it
//! gives way to one that may want to mine: first those who have said nothing, then those without a mining channel, last
//! those whose channels never brought a share.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use link::{Peer, neighbourhood};
use tokio_util::sync::CancellationToken;

use super::channel::Channel;
use crate::config::Limits;

/// How long a connection that has said nothing keeps its place when somebody else wants it.
const SILENT: Duration = Duration::from_millis(500);
/// How long one without a mining channel does.
const UNUSED: Duration = Duration::from_secs(60);
/// How long one does whose mining channels never brought a share.
const UNPROVEN: Duration = Duration::from_secs(600);
/// To look through everybody costs; whoever floods a full hub must not make it do so each time.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Most that are found at one look.
const MAX_FOUND: usize = 256;

/// Everybody who is connected.
#[derive(Debug)]
pub struct Connections {
    limits: Limits,
    shutdown: CancellationToken,
    next_id: AtomicU64,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    connections: BTreeMap<u64, Arc<Connection>>,
    by_neighbourhood: HashMap<IpAddr, usize>,
    /// Those who have said nothing, oldest first, so that a flood of them costs little; and by where they come from.
    silent: BTreeSet<u64>,
    silent_from: BTreeSet<(IpAddr, u64)>,
    looked: Option<Instant>,
    /// Found at the last look for anybody's place, to be displaced one by one.
    found: Vec<Arc<Connection>>,
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
    /// Its handshake waits for its turn, or is under way.
    Shaking,
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
    FromOneAddress,
}

impl TooMany {
    /// For logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connections => "max-connections",
            Self::FromOneAddress => "max-connections-per-address",
        }
    }
}

impl Connections {
    /// Nobody yet; all have to leave at `shutdown`.
    pub fn new(limits: Limits, shutdown: CancellationToken) -> Arc<Self> {
        Arc::new(Self { limits, shutdown, next_id: AtomicU64::new(1), open: Mutex::default() })
    }

    /// Counts a connection in that comes `now`; it is counted out when the guard is dropped. Where a bound is
    /// reached it displaces one that brings nothing. Addresses of IPv6 count by their /64.
    ///
    /// # Errors
    /// A bound is reached, and all are in use.
    pub fn enter(self: &Arc<Self>, address: SocketAddr, now: Instant) -> Result<Guard, TooMany> {
        let mut open = self.lock();
        let from = neighbourhood(address.ip());
        if open.from(from) >= self.limits.connections_per_address {
            open.displace_from(now, from).ok_or(TooMany::FromOneAddress)?;
        }
        if open.connections.len() >= self.limits.connections {
            open.displace_any(now).ok_or(TooMany::Connections)?;
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let connection = Arc::new(Connection::new(id, address, now, self.shutdown.child_token()));
        *open.by_neighbourhood.entry(from).or_default() += 1;
        open.silent.insert(id);
        open.silent_from.insert((from, id));
        open.connections.insert(id, Arc::clone(&connection));
        Ok(Guard { connections: Arc::clone(self), connection })
    }

    /// Those after the first `skip`, at most `limit`, oldest first.
    pub fn some(&self, skip: usize, limit: usize) -> Vec<Arc<Connection>> {
        self.lock().connections.values().skip(skip).take(limit).cloned().collect()
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
        self.lock().connections.len()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn from(&self, neighbourhood: IpAddr) -> usize {
        self.by_neighbourhood.get(&neighbourhood).copied().unwrap_or(0)
    }

    fn displace_from(&mut self, now: Instant, from: IpAddr) -> Option<()> {
        let oldest = self.silent_from.range((from, 0)..=(from, u64::MAX)).next().map(|(_, id)| *id);
        if self.displace_silent(now, oldest).is_some() {
            return Some(());
        }
        let found = self.look(now, |c| neighbourhood(c.address.ip()) == from)?;
        self.displace(now, found.last()?)
    }

    fn displace_any(&mut self, now: Instant) -> Option<()> {
        let oldest = self.silent.first().copied();
        if self.displace_silent(now, oldest).is_some() {
            return Some(());
        }
        while let Some(found) = self.found.pop() {
            if self.displace(now, &found).is_some() {
                return Some(());
            }
        }
        self.found = self.look(now, |_| true)?;
        let found = self.found.pop()?;
        self.displace(now, &found)
    }

    fn displace_silent(&mut self, now: Instant, oldest: Option<u64>) -> Option<()> {
        let silent = Arc::clone(self.connections.get(&oldest?)?);
        let is_due = now.saturating_duration_since(silent.since) >= SILENT;
        (is_due && self.remove(&silent)).then(|| silent.leave.cancel())
    }

    /// Those `among` them that have spoken and may be displaced, first those at the end; `None` if the last look was just now.
    fn look(&mut self, now: Instant, among: impl Fn(&Connection) -> bool) -> Option<Vec<Arc<Connection>>> {
        if self.looked.is_some_and(|at| now.saturating_duration_since(at) < LOOK_AGAIN) {
            return None;
        }
        self.looked = Some(now);
        let mut found = Vec::new();
        for connection in self.connections.values().filter(|c| among(c)) {
            found.extend(connection.worth(now).map(|worth| (worth, connection.id, connection)));
        }
        found.sort_unstable_by_key(|(worth, id, _)| (*worth, *id));
        found.truncate(MAX_FOUND);
        Some(found.into_iter().rev().map(|(.., connection)| Arc::clone(connection)).collect())
    }

    /// Has it give up its place, if it brings nothing still.
    fn displace(&mut self, now: Instant, connection: &Connection) -> Option<()> {
        connection.worth(now)?;
        self.remove(connection).then(|| connection.leave.cancel())
    }

    /// False if it gave up its place before.
    fn remove(&mut self, connection: &Connection) -> bool {
        if self.connections.remove(&connection.id).is_none() {
            return false;
        }
        self.heard(connection);
        let from = neighbourhood(connection.address.ip());
        if let Some(count) = self.by_neighbourhood.get_mut(&from) {
            *count -= 1;
            if *count == 0 {
                self.by_neighbourhood.remove(&from);
            }
        }
        true
    }

    /// It is no longer one of the silent.
    fn heard(&mut self, connection: &Connection) {
        self.silent.remove(&connection.id);
        self.silent_from.remove(&(neighbourhood(connection.address.ip()), connection.id));
    }
}

impl Guard {
    /// Its first message is here.
    pub fn spoke(&self) {
        self.connections.lock().heard(&self.connection);
        self.connection.lock().standing = Standing::Shaking;
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

    /// How little is lost with one that has spoken, least first; `None`: it may not be displaced.
    fn worth(&self, now: Instant) -> Option<u8> {
        let over = |since, limit| now.saturating_duration_since(since) >= limit;
        let details = self.lock();
        match details.standing {
            Standing::Silent | Standing::Shaking => None,
            Standing::Unused(since) => over(since, UNUSED).then_some(1),
            Standing::Mining(since) => {
                let proven = || details.channels.values().any(|channel| channel.tally().accepted > 0);
                (over(since, UNPROVEN) && !proven()).then_some(2)
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
        self.connections.lock().remove(&self.connection);
    }
}

#[cfg(test)]
mod tests;
