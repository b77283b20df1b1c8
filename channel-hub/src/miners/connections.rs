//! Who is connected: counted for the bounds, described for the pages.
//!
//! A connection without a mining channel may stay: a proxy waits so for its first miner. But where a bound is
//! reached it gives way to one that may want to mine.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use link::Peer;
use mining::Target;
use mining::server::ChannelKind;
use tokio_util::sync::CancellationToken;

use crate::config::Limits;

/// How long a connection without a mining channel keeps its place when somebody else wants it.
const UNUSED: Duration = Duration::from_secs(60);

/// Everybody who is connected.
#[derive(Debug)]
pub struct Connections {
    limits: Limits,
    next_id: AtomicU64,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    connections: BTreeMap<u64, Arc<Connection>>,
    by_address: HashMap<IpAddr, usize>,
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
    /// Cancelled when another one takes its place.
    pub displaced: CancellationToken,
    details: Mutex<Details>,
}

/// What becomes known while it lives.
#[derive(Clone, Debug, Default)]
pub struct Details {
    /// Who it says it is; none before its handshake is done.
    pub peer: Option<Peer>,
    /// Extensions negotiated.
    pub extensions: Vec<u16>,
    /// Its mining channels.
    pub channels: BTreeMap<u32, Channel>,
    /// Since when it has none.
    pub unused_since: Option<Instant>,
}

/// One mining channel.
#[derive(Clone, Debug)]
pub struct Channel {
    /// Standard or extended.
    pub kind: ChannelKind,
    /// As the miner gave it.
    pub user_identity: Arc<str>,
    /// Who is credited.
    pub hasher: Arc<str>,
    /// As the miner said, hashes per second.
    pub nominal_hash_rate: f32,
    /// Present target.
    pub target: Target,
    /// Shares accepted since it was opened.
    pub accepted: u64,
    /// Shares rejected since it was opened.
    pub rejected: u64,
    /// Work of the accepted ones.
    pub work: mining::Work,
    /// When it was opened.
    pub since: Instant,
    /// Work of the best share's own hash.
    pub best: mining::Work,
}

impl Channel {
    /// One word.
    pub fn kind_name(&self) -> &'static str {
        match self.kind {
            ChannelKind::Standard => "standard",
            ChannelKind::Extended => "extended",
        }
    }

    /// Hashes per second since it was opened, by its accepted work; an estimate, for display.
    #[allow(clippy::cast_precision_loss)]
    pub fn hash_rate(&self) -> f64 {
        self.work.hashes() as f64 / self.since.elapsed().as_secs_f64().max(1.0)
    }
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

impl Connections {
    /// Nobody yet.
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, next_id: AtomicU64::new(1), open: Mutex::default() })
    }

    /// Counts a connection in that comes `now`; it is counted out when the guard is dropped. Where a bound is
    /// reached it displaces the oldest that is unused.
    ///
    /// # Errors
    /// A bound is reached, and all are in use.
    pub fn enter(self: &Arc<Self>, address: SocketAddr, now: Instant) -> Result<Guard, TooMany> {
        let mut open = self.lock();
        let ip = address.ip();
        if open.from(ip) >= self.limits.connections_per_address {
            open.displace(now, |c| c.address.ip() == ip).ok_or(TooMany::FromOneAddress)?;
        }
        if open.connections.len() >= self.limits.connections {
            open.displace(now, |_| true).ok_or(TooMany::Connections)?;
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let details = Details { unused_since: Some(now), ..Details::default() };
        let displaced = CancellationToken::new();
        let connection =
            Arc::new(Connection { id, address, since: now, displaced, details: Mutex::new(details) });
        *open.by_address.entry(ip).or_default() += 1;
        open.connections.insert(id, Arc::clone(&connection));
        Ok(Guard { connections: Arc::clone(self), connection })
    }

    /// Everybody, oldest first.
    pub fn all(&self) -> Vec<Arc<Connection>> {
        self.lock().connections.values().cloned().collect()
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
    fn from(&self, ip: IpAddr) -> usize {
        self.by_address.get(&ip).copied().unwrap_or(0)
    }

    /// Has the oldest unused one `among` them give up its place.
    fn displace(&mut self, now: Instant, among: impl Fn(&Connection) -> bool) -> Option<()> {
        let unused = |c: &&Arc<Connection>| among(c) && c.is_unused(now);
        let displaced = Arc::clone(self.connections.values().find(unused)?);
        self.remove(&displaced);
        displaced.displaced.cancel();
        Some(())
    }

    /// Does nothing if it gave up its place before.
    fn remove(&mut self, connection: &Connection) {
        let ip = connection.address.ip();
        if self.connections.remove(&connection.id).is_none() {
            return;
        }
        if let Some(count) = self.by_address.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&ip);
            }
        }
    }
}

impl Connection {
    fn is_unused(&self, now: Instant) -> bool {
        self.lock().unused_since.is_some_and(|since| now.saturating_duration_since(since) >= UNUSED)
    }

    /// A mining channel was opened.
    pub fn opened(&self, channel_id: u32, channel: Channel) {
        let mut details = self.lock();
        details.channels.insert(channel_id, channel);
        details.unused_since = None;
    }

    /// A mining channel was closed `now`.
    pub fn closed(&self, channel_id: u32, now: Instant) {
        let mut details = self.lock();
        details.channels.remove(&channel_id);
        if details.channels.is_empty() {
            details.unused_since = Some(now);
        }
    }

    /// What is known now.
    pub fn details(&self) -> Details {
        self.lock().clone()
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
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn from(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    fn channel() -> Channel {
        Channel {
            kind: ChannelKind::Extended,
            user_identity: "a".into(),
            hasher: "a".into(),
            nominal_hash_rate: 0.0,
            target: Target::MAX,
            accepted: 0,
            rejected: 0,
            work: mining::Work::ZERO,
            since: Instant::now(),
            best: mining::Work::ZERO,
        }
    }

    #[test]
    fn connections_are_bounded_in_all_and_by_address_and_leave_room_when_they_go() {
        let now = Instant::now();
        let connections = Connections::new(Limits { connections: 3, connections_per_address: 2 });
        let first = connections.enter(from("1.1.1.1:1"), now).unwrap();
        let _second = connections.enter(from("1.1.1.1:2"), now).unwrap();
        assert_eq!(connections.enter(from("1.1.1.1:3"), now).unwrap_err(), TooMany::FromOneAddress);
        let _third = connections.enter(from("2.2.2.2:1"), now).unwrap();
        assert_eq!(connections.enter(from("3.3.3.3:1"), now).unwrap_err(), TooMany::Connections);
        drop(first);
        assert_eq!(connections.count(), 2);
        connections.enter(from("1.1.1.1:4"), now).unwrap();
    }

    #[test]
    fn one_without_a_mining_channel_gives_way_where_a_bound_is_reached_and_one_that_mines_never_does() {
        let start = Instant::now();
        let later = start + UNUSED;
        let connections = Connections::new(Limits { connections: 2, connections_per_address: 2 });
        let mines = connections.enter(from("1.1.1.1:1"), start).unwrap();
        mines.opened(2, channel());
        let waits = connections.enter(from("1.1.1.1:2"), start).unwrap();
        assert!(connections.enter(from("2.2.2.2:1"), later - Duration::from_secs(1)).is_err());
        let _next = connections.enter(from("2.2.2.2:1"), later).unwrap();
        assert!(waits.displaced.is_cancelled() && !mines.displaced.is_cancelled());
        drop(waits);
        assert_eq!(connections.count(), 2, "its place is counted once");
        mines.closed(2, later);
        assert!(connections.enter(from("3.3.3.3:1"), later).is_err());
        connections.enter(from("3.3.3.3:1"), later + UNUSED).unwrap();
        assert!(mines.displaced.is_cancelled());
    }
}
