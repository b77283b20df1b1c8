//! A socket between sluice-tp and the node's own, which can go, or pass nothing on.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use tokio::io::copy_bidirectional;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) struct Relay {
    directory: tempfile::TempDir,
    node: PathBuf,
    /// Whether what arrives is passed on.
    open: watch::Sender<bool>,
    running: Option<JoinHandle<()>>,
}

impl Relay {
    /// A relay that is not there yet.
    pub(crate) fn to(node: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { directory, node: node.to_owned(), open: watch::Sender::new(true), running: None }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("relay.sock")
    }

    pub(crate) fn appear(&mut self) {
        let listener = UnixListener::bind(self.socket()).unwrap();
        let (node, open) = (self.node.clone(), self.open.subscribe());
        self.running = Some(tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(pass(stream, node.clone(), open.clone()));
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
        self.open.send_replace(false);
    }

    /// Passes on again.
    pub(crate) fn release(&self) {
        self.open.send_replace(true);
    }
}

async fn pass(mut client: UnixStream, node: PathBuf, mut open: watch::Receiver<bool>) {
    let mut node = UnixStream::connect(node).await.unwrap();
    loop {
        open.wait_for(|open| *open).await.unwrap();
        tokio::select! {
            _ = copy_bidirectional(&mut client, &mut node) => return,
            _ = open.wait_for(|open| !open) => {}
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
