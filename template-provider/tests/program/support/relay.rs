//! A socket between sluice-tp and the node's own, which can go, or pass nothing on, or only the beginning of what the node says.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) struct Relay {
    directory: tempfile::TempDir,
    node: PathBuf,
    to_node: Gate,
    from_node: Gate,
    running: Option<JoinHandle<()>>,
}

/// So many bytes are still passed on; and how many have been.
#[derive(Clone)]
struct Gate(watch::Sender<usize>, Arc<AtomicUsize>);

impl Relay {
    /// A relay that is not there yet.
    pub(crate) fn to(node: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (to_node, from_node) = (Gate::open(), Gate::open());
        Self { directory, node: node.to_owned(), to_node, from_node, running: None }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("relay.sock")
    }

    pub(crate) fn appear(&mut self) {
        let listener = UnixListener::bind(self.socket()).unwrap();
        let (node, to_node, from_node) = (self.node.clone(), self.to_node.clone(), self.from_node.clone());
        self.running = Some(tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (client_says, client_hears) = client.into_split();
                let (node_says, node_hears) = UnixStream::connect(&node).await.unwrap().into_split();
                let (to_node, from_node) = (to_node.clone(), from_node.clone());
                connections.spawn(async move {
                    tokio::select! {
                        () = to_node.pass(client_says, node_hears) => {}
                        () = from_node.pass(node_says, client_hears) => {}
                    }
                });
            }
        }));
    }

    /// Closes every connection and takes the socket away.
    pub(crate) fn go(&mut self) {
        self.running.take().unwrap().abort();
        std::fs::remove_file(self.socket()).unwrap();
    }

    /// Passes nothing on any more; connections stay open.
    pub(crate) fn hold(&self) {
        self.to_node.0.send_replace(0);
        self.from_node.0.send_replace(0);
    }

    /// Of what the node says passes on only so many bytes more.
    pub(crate) fn hold_node_after(&self, bytes: usize) {
        self.from_node.0.send_replace(bytes);
    }

    /// Whether bytes of the node wait that are not passed on.
    pub(crate) fn holds_node(&self) -> bool {
        *self.from_node.0.borrow() == 0
    }

    /// So many bytes of the node have been passed on.
    pub(crate) fn node_said(&self) -> usize {
        self.from_node.1.load(Ordering::Relaxed)
    }

    /// Passes on again.
    pub(crate) fn release(&self) {
        self.to_node.0.send_replace(usize::MAX);
        self.from_node.0.send_replace(usize::MAX);
    }
}

impl Gate {
    fn open() -> Self {
        Self(watch::Sender::new(usize::MAX), Arc::default())
    }

    async fn pass(self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let (mut left, mut buffer) = (self.0.subscribe(), vec![0; 16 * 1024]);
        loop {
            let most = (*left.wait_for(|left| *left > 0).await.unwrap()).min(buffer.len());
            let read = tokio::select! {
                // What comes after a gate has been shut does not slip through it.
                biased;
                _ = left.changed() => continue,
                read = from.read(&mut buffer[..most]) => read.unwrap_or(0),
            };
            // What was read while the gate was shut waits for it.
            let _ = left.wait_for(|left| *left > 0).await.unwrap();
            if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
                return;
            }
            self.1.fetch_add(read, Ordering::Relaxed);
            self.0.send_if_modified(|left| {
                let is_bounded = *left != usize::MAX;
                if is_bounded {
                    *left = left.saturating_sub(read);
                }
                is_bounded
            });
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
        }
    }
}
