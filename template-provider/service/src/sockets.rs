//! The program's listening sockets: those that were passed on by systemd or by a predecessor, and those that are open.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::listener::Listener;

/// All listening sockets of the program. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sockets(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    inherited: Vec<Inherited>,
    open: Vec<Listener>,
}

#[derive(Debug)]
struct Inherited {
    name: String,
    socket: TcpListener,
    /// systemd's configuration says where a program listens; a predecessor's was another version of ours.
    any_address: bool,
}

impl Sockets {
    /// What systemd opened for this process (`LISTEN_FDS`, `LISTEN_FDNAMES`; sd_listen_fds(3)).
    pub(crate) fn from_systemd() -> Self {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut given = listenfd::ListenFd::from_env();
        let sockets = Self::default();
        for (index, name) in names.split(':').enumerate().take(given.len()) {
            match given.take_tcp_listener(index) {
                Ok(Some(socket)) => sockets.inherit(name.to_owned(), socket, true),
                Ok(None) => {}
                Err(error) => tracing::warn!(name, "a socket that systemd passed on cannot be used: {error}"),
            }
        }
        sockets
    }

    /// A socket that was passed on.
    pub(crate) fn inherit(&self, name: String, socket: TcpListener, any_address: bool) {
        self.inner().inherited.push(Inherited { name, socket, any_address });
    }

    /// Listens on `address`, on a socket of that name that was passed on if there is one.
    pub(crate) fn listen(&self, name: &'static str, address: SocketAddr) -> anyhow::Result<Listener> {
        let inherited = self.inner().take(name, address);
        let listener = match inherited {
            Some(socket) => {
                tracing::debug!(name, "listening on the socket that was passed on");
                Listener::from_socket(name, socket)?
            }
            None => Listener::bind(name, address)?,
        };
        self.inner().open.push(listener.clone());
        Ok(listener)
    }

    /// What was passed on and is not wanted: it is closed, and connections to it are refused.
    pub(crate) fn drop_unwanted(&self) {
        for unwanted in std::mem::take(&mut self.inner().inherited) {
            tracing::warn!(
                name = unwanted.name,
                "a socket was passed on that this program has no use for: it is closed"
            );
        }
    }

    /// Every socket that is open.
    pub(crate) fn open(&self) -> Vec<Listener> {
        self.inner().open.clone()
    }

    /// Stops accepting on all of them, or goes on.
    pub(crate) fn halt(&self, halted: bool) {
        self.inner().open.iter().for_each(|listener| listener.halt(halted));
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn take(&mut self, name: &str, wanted: SocketAddr) -> Option<TcpListener> {
        let fits = |inherited: &Inherited| {
            let here = inherited.socket.local_addr();
            let same = |here: SocketAddr| {
                here.ip() == wanted.ip() && (wanted.port() == 0 || here.port() == wanted.port())
            };
            inherited.name == name && (inherited.any_address || here.is_ok_and(same))
        };
        let index = self.inherited.iter().position(fits)?;
        Some(self.inherited.swap_remove(index).socket)
    }
}
