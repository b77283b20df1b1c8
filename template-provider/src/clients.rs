//! The clients that are connected, as the status page shows them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use distribution::{Constraints, Template};
use link::{Peer, unix_now};

/// All clients, by number of arrival.
#[derive(Debug, Default)]
pub struct Clients(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    clients: BTreeMap<u64, Arc<Mutex<View>>>,
}

/// One client.
#[derive(Clone, Debug)]
pub struct View {
    /// Where it connects from.
    pub address: SocketAddr,
    /// Its self-description in SetupConnection.
    pub vendor: String,
    /// Firmware or program version, by itself.
    pub firmware: String,
    /// When it came, in Unix seconds.
    pub since: u32,
    /// What it adds to the coinbase, once it has said so.
    pub constraints: Option<Constraints>,
    /// Templates sent to it.
    pub templates: u64,
    /// The last one.
    pub template: Option<Arc<Template>>,
    /// Requests for transaction data.
    pub requests: u64,
    /// Blocks it found.
    pub solutions: u64,
}

/// A client's entry; it leaves when this is dropped.
#[derive(Debug)]
pub struct Entry {
    clients: Arc<Clients>,
    number: u64,
    view: Arc<Mutex<View>>,
}

impl Clients {
    /// Enters a client that has set up its connection.
    pub fn enter(self: &Arc<Self>, peer: &Peer) -> Entry {
        let view = Arc::new(Mutex::new(View {
            address: peer.address,
            vendor: peer.device.vendor.clone(),
            firmware: peer.device.firmware.clone(),
            since: unix_now(),
            constraints: None,
            templates: 0,
            template: None,
            requests: 0,
            solutions: 0,
        }));
        let mut inner = lock(&self.0);
        inner.next += 1;
        let number = inner.next;
        inner.clients.insert(number, Arc::clone(&view));
        Entry { clients: Arc::clone(self), number, view }
    }

    /// All clients, the first come first.
    pub fn views(&self) -> Vec<View> {
        let entries: Vec<_> = lock(&self.0).clients.values().cloned().collect();
        entries.iter().map(|view| lock(view).clone()).collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        lock(&self.0).clients.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Entry {
    /// Changes what is shown of this client.
    pub fn update(&self, change: impl FnOnce(&mut View)) {
        change(&mut lock(&self.view));
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        lock(&self.clients.0).clients.remove(&self.number);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
