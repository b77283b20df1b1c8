//! Lets miners in over TLS, with whatever certificate is in force.

use super::certificate::{Files, Loaded, Stamp, names};
use super::fingerprint::Fingerprint;
use super::paced::Paced;
use super::wire::TlsWire;
use crate::farm::Miner;
use crate::listen;
use crate::miner::Surroundings;
use link::NoTurn;
use service::{Finding, Listener};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{interval, timeout};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::rustls::server::Acceptor as Hello;
use tokio_util::sync::CancellationToken;

/// Each half of a handshake takes a round trip, and a second on the weakest of controllers.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// Bytes that TLS holds for a miner that does not read; what is beyond waits in the session, where it is bounded and timed.
const MAX_BUFFERED: usize = 4096;

/// Takes handshakes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Acceptor(watch::Receiver<Loaded>);

impl Acceptor {
    /// Does the handshake. What is dear of it, the answer to the ClientHello, waits for its turn.
    ///
    /// # Errors
    /// A reason for counters, and what was wrong.
    pub async fn accept(
        self,
        socket: TcpStream,
        miner: &Miner,
        surroundings: Surroundings,
    ) -> Result<TlsWire, (&'static str, io::Error)> {
        let socket = Paced::new(socket, &surroundings).map_err(|error| ("no-tls", error))?;
        let address = socket.address().ip();
        let hello = in_time(LazyConfigAcceptor::new(Hello::default(), socket)).await?;
        surroundings.farm.shakes(miner);
        let turn = tokio::select! {
            turn = surroundings.handshakes.turn(address) => turn.map_err(no_turn)?,
            () = link::stream::gone(hello.io.socket()) => return Err(("no-tls", io::ErrorKind::UnexpectedEof.into())),
        };
        let server = self.0.borrow().server.clone();
        let limited = |connection: &mut tokio_rustls::rustls::ServerConnection| {
            connection.set_buffer_limit(Some(MAX_BUFFERED));
        };
        let mut rest = pin!(in_time(hello.into_stream_with(server, limited)));
        let answered = poll_fn(|context| Poll::Ready(rest.as_mut().poll(context))).await;
        let visit = turn.over();
        let stream = match answered {
            Poll::Ready(done) => done?,
            Poll::Pending => rest.await?,
        };
        Ok(TlsWire::new(stream, visit))
    }

    /// Of the certificate in force.
    pub fn fingerprint(&self) -> Fingerprint {
        self.0.borrow().fingerprint
    }
}

fn no_turn(none: NoTurn) -> (&'static str, io::Error) {
    (NoTurn::FAULT, io::Error::new(io::ErrorKind::TimedOut, none))
}

/// One part of a handshake.
async fn in_time<T>(part: impl Future<Output = io::Result<T>>) -> Result<T, (&'static str, io::Error)> {
    match timeout(HANDSHAKE, part).await {
        Ok(done) => done.map_err(|error| ("no-tls", error)),
        Err(_) => Err(("handshake-timeout", io::ErrorKind::TimedOut.into())),
    }
}

/// The port of miners that speak TLS.
#[derive(Debug)]
pub struct Port {
    listener: Listener,
    keeper: Keeper,
    acceptor: Acceptor,
}

impl Port {
    /// With the operator's certificate, or with our own, which is kept in `data_dir`.
    ///
    /// # Errors
    /// A certificate that cannot be used, or made.
    pub fn open(files: Option<Files>, data_dir: &Path, listener: Listener) -> anyhow::Result<Self> {
        let own = || Files::own(data_dir, names(listener.local_addr()));
        let files = files.map_or_else(own, Ok)?;
        let (keeper, acceptor) = Keeper::new(files)?;
        Ok(Self { listener, keeper, acceptor })
    }

    /// Where miners connect.
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// Of the certificate in force.
    pub fn fingerprint(&self) -> Fingerprint {
        self.acceptor.fingerprint()
    }

    /// For whoever shows the certificate in force.
    pub fn acceptor(&self) -> Acceptor {
        self.acceptor.clone()
    }

    /// Lets miners in until the program ends.
    pub async fn run(self, surroundings: Surroundings) {
        let (keeper, acceptor) = (self.keeper.run(surroundings.shutdown.clone()), self.acceptor);
        let own = surroundings.clone();
        let open = move |socket, miner: Arc<Miner>| {
            let (acceptor, own) = (acceptor.clone(), own.clone());
            async move { acceptor.accept(socket, &miner, own).await }
        };
        tokio::join!(keeper, listen::run(self.listener, surroundings, open));
    }
}

/// Whether the operator's certificate can be used, for `--check`.
pub fn probe(files: &Files) -> Finding {
    let what = format!("tls.certificate {}", files.certificate.display());
    match files.load() {
        Ok(loaded) => Finding::good(what, format!("fingerprint {}", loaded.fingerprint)),
        Err(error) => Finding::bad(what, format!("{error:#}")),
    }
}

/// Keeps the certificate up to date with its files.
#[derive(Debug)]
pub struct Keeper {
    files: Files,
    /// Of what is in force.
    seen: Stamp,
    current: watch::Sender<Loaded>,
}

impl Keeper {
    /// Loads the files for the first time.
    ///
    /// # Errors
    /// As [`Files::load`].
    pub fn new(files: Files) -> anyhow::Result<(Self, Acceptor)> {
        let seen = files.stamp();
        let (current, acceptor) = watch::channel(files.load()?);
        Ok((Self { files, seen, current }, Acceptor(acceptor)))
    }

    /// Looks at the files until the program ends, and serves what they hold: an ACME client renews them and tells nobody.
    /// What cannot be used is named once and tried again, while the last certificate stays.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let (mut looks, mut named) = (interval(LOOK), None);
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                () = shutdown.cancelled() => return,
            }
            let stamp = self.files.stamp();
            if stamp == self.seen {
                continue;
            }
            match self.files.load() {
                Ok(loaded) => {
                    self.seen = stamp;
                    tracing::info!(fingerprint = %loaded.fingerprint, "new TLS certificate in force");
                    self.current.send_replace(loaded);
                }
                Err(error) if named.replace(stamp) != Some(stamp) => {
                    tracing::error!(
                        "the TLS certificate has changed and cannot be used, the last one stays: {error:#}"
                    );
                }
                Err(_) => {}
            }
        }
    }
}
