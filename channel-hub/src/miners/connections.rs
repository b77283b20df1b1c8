//! Who is connected: counted for the bounds, described for the pages.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use link::Peer;
use mining::Target;
use mining::server::ChannelKind;

use crate::config::Limits;

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

    /// Counts a connection in; it is counted out when the guard is dropped.
    ///
    /// # Errors
    /// A bound is reached.
    pub fn enter(self: &Arc<Self>, address: SocketAddr) -> Result<Guard, TooMany> {
        let mut open = self.lock();
        let here = open.by_address.get(&address.ip()).copied().unwrap_or(0);
        if open.connections.len() >= self.limits.connections {
            return Err(TooMany::Connections);
        }
        if here >= self.limits.connections_per_address {
            return Err(TooMany::FromOneAddress);
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let connection =
            Arc::new(Connection { id, address, since: Instant::now(), details: Mutex::default() });
        open.by_address.insert(address.ip(), here + 1);
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

impl Connection {
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
        let mut open = self.connections.lock();
        let ip = self.connection.address.ip();
        open.connections.remove(&self.connection.id);
        if let Some(count) = open.by_address.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&ip);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn from(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    #[test]
    fn connections_are_bounded_in_all_and_by_address_and_leave_room_when_they_go() {
        let connections = Connections::new(Limits { connections: 3, connections_per_address: 2 });
        let first = connections.enter(from("1.1.1.1:1")).unwrap();
        let _second = connections.enter(from("1.1.1.1:2")).unwrap();
        assert_eq!(connections.enter(from("1.1.1.1:3")).unwrap_err(), TooMany::FromOneAddress);
        let _third = connections.enter(from("2.2.2.2:1")).unwrap();
        assert_eq!(connections.enter(from("3.3.3.3:1")).unwrap_err(), TooMany::Connections);
        drop(first);
        assert_eq!(connections.count(), 2);
        connections.enter(from("1.1.1.1:4")).unwrap();
    }
}
