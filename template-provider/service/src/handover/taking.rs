//! The successor's side.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use tokio::time::timeout;

use super::line::Line;
use super::message::{Ask, Reply};
use super::{PROTOCOL, Parcel, SOCKET};
use crate::counters::Counters;

/// How long the predecessor may take for a word.
const WORD: Duration = Duration::from_secs(15);
/// How long it may take to close what it has open.
const RELEASE: Duration = Duration::from_secs(60);

/// A predecessor that has let us in.
#[derive(Debug)]
pub(crate) struct Inheritance {
    line: Line,
    /// Its listening sockets, by name.
    pub(crate) sockets: Vec<(String, TcpListener)>,
    /// Its version and process.
    pub(crate) predecessor: (String, u32),
}

/// Asks the program that runs with the data directory `dir`.
///
/// # Errors
/// It does not take part, or refused; the error says what to do.
pub(crate) async fn ask(
    dir: &Path,
    program: &'static str,
    version: &'static str,
) -> anyhow::Result<Inheritance> {
    let mut line = Line::connect(&dir.join(SOCKET)).with_context(|| {
        format!(
            "another {program} is running with the data directory {}, and cannot be asked to hand over: stop it, then start this one",
            dir.display()
        )
    })?;
    let hello = Ask::Hello {
        protocol: PROTOCOL,
        program: program.to_owned(),
        version: version.to_owned(),
        pid: std::process::id(),
    };
    line.send(&hello, &[]).await?;
    match timeout(WORD, line.recv()).await.context("the running program does not answer")?? {
        (Reply::Welcome { version, pid, sockets }, files) => {
            ensure!(sockets.len() == files.len(), "some of the running program's sockets did not come");
            let sockets = sockets.into_iter().zip(files.into_iter().map(TcpListener::from)).collect();
            Ok(Inheritance { line, sockets, predecessor: (version, pid) })
        }
        (Reply::Refused { reason }, _) => bail!("the running program does not hand over: {reason}"),
        (other, _) => bail!("the running program said {other:?} where welcome was due"),
    }
}

impl Inheritance {
    /// Says that this program could serve, takes the sessions, and waits until the data directory is free.
    ///
    /// # Errors
    /// The predecessor gave up, and may serve on; or it [is gone](is_gone).
    pub(crate) async fn take(mut self) -> anyhow::Result<(Vec<Parcel>, Leftover)> {
        let parcels = match self.parcels().await {
            Ok(parcels) => parcels,
            Err(error) => return Err(self.why(error).await),
        };
        if let Err(error) = self.line.send(&Ask::Took, &[]).await {
            return Err(self.why(error.into()).await);
        }
        let mut said = timeout(RELEASE, self.line.recv()).await;
        if matches!(&said, Ok(Err(error)) if is_closed(error)) {
            // That it closed the line without having read all comes first, and once; then what it said before.
            said = timeout(WORD, self.line.recv()).await;
        }
        match said {
            Ok(Ok((Reply::Released, _))) => {}
            // It did not hear us in time.
            Ok(Ok((Reply::Refused { reason }, _))) => bail!("{GAVE_UP}: {reason}"),
            // It cannot serve any more: go on, the data directory is free as soon as it is gone.
            other => tracing::error!(?other, "the predecessor did not say that it has let go"),
        }
        Ok((parcels, Leftover(self.line)))
    }

    /// Why it failed: what the predecessor said before it closed the line can still be read.
    async fn why(&mut self, error: anyhow::Error) -> anyhow::Error {
        if !is_gone(&error) {
            return error;
        }
        match timeout(WORD, self.line.recv()).await {
            Ok(Ok((Reply::Refused { reason }, _))) => anyhow!("{GAVE_UP}: {reason}"),
            _ => error,
        }
    }

    async fn parcels(&mut self) -> anyhow::Result<Vec<Parcel>> {
        self.line.send(&Ask::Ready, &[]).await?;
        let mut parcels = Vec::new();
        loop {
            match timeout(WORD, self.line.recv()).await.context("the predecessor says nothing any more")?? {
                (Reply::Parcels { states }, files) => {
                    ensure!(states.len() == files.len(), "some sessions came without their connection");
                    parcels.extend(states.into_iter().zip(files).map(parcel));
                }
                (Reply::End { parcels: count }, _) => {
                    ensure!(count == parcels.len(), "{} of {count} sessions came", parcels.len());
                    return Ok(parcels);
                }
                (Reply::Refused { reason }, _) => bail!("{GAVE_UP}: {reason}"),
                (other, _) => bail!("the predecessor said {other:?} where parcels were due"),
            }
        }
    }
}

/// Of a predecessor that serves on, or was told to end.
const GAVE_UP: &str = "the predecessor gave up";

/// Whether the error is that the predecessor's end of the line is closed.
pub(crate) fn is_gone(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(is_closed)
}

fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

fn parcel((state, socket): (serde_json::Value, OwnedFd)) -> Parcel {
    Parcel { state, socket }
}

/// What the predecessor still has to tell.
#[derive(Debug)]
pub(crate) struct Leftover(Line);

impl Leftover {
    /// Adds what the predecessor still counts, until it is gone.
    pub(crate) async fn follow(mut self, counters: Counters) {
        loop {
            match self.0.recv().await {
                Ok((Reply::Totals { changes }, _)) => counters.hear(changes),
                Ok((other, _)) => tracing::warn!(?other, "the predecessor says what it should not"),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return tracing::info!("the predecessor is gone");
                }
                Err(error) => return tracing::error!("the predecessor's last totals are lost: {error}"),
            }
        }
    }
}
