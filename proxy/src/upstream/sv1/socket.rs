//! Lines to and from an SV1 pool, over TCP or TLS.

use super::said::MAX_LINE;
use crate::config::{Pool, Transport};
use crate::tls;
use crate::upstream::wire::DEAD_PEER;
use anyhow::{Context as _, anyhow, bail};
use bytes::{Buf as _, Bytes, BytesMut};
use std::io::{self, ErrorKind};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

/// From the name's resolution to the end of the TLS handshake.
const CONNECT: Duration = Duration::from_secs(10);
/// A pool that takes no bytes for so long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes that wait to be written; more than 4096 shares make.
const MAX_QUEUED: usize = 2 * 1024 * 1024;
/// Room that a read is offered, in bytes.
const READ: usize = 4096;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection to a pool.
pub struct Socket {
    read: ReadHalf<Box<dyn Stream>>,
    write: WriteHalf<Box<dyn Stream>>,
    input: BytesMut,
    /// How much of `input` has been searched for a line's end.
    searched: usize,
    output: BytesMut,
    /// When the pool has to take some bytes; `None` when nothing waits.
    stalled_at: Option<Instant>,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket").finish_non_exhaustive()
    }
}

impl Socket {
    /// Connects; each address of the name has its share of the time.
    pub async fn connect(pool: &Pool) -> anyhow::Result<Self> {
        let connected = timeout(CONNECT, connect(pool)).await;
        let seconds = CONNECT.as_secs();
        let stream = connected.with_context(|| format!("no connection within {seconds} seconds"))??;
        let (read, write) = tokio::io::split(stream);
        let (input, output) = (BytesMut::new(), BytesMut::new());
        Ok(Self { read, write, input, searched: 0, output, stalled_at: None })
    }

    /// Puts bytes behind those that wait to be written; [`Self::wait`] writes them.
    pub fn queue(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        if self.output.len() + bytes.len() > MAX_QUEUED {
            bail!("the pool does not read what it is sent");
        }
        if !bytes.is_empty() {
            self.output.extend_from_slice(bytes);
            self.stalled_at.get_or_insert_with(|| Instant::now() + WRITE_TIMEOUT);
        }
        Ok(())
    }

    /// The next whole line without its end; `None` until more bytes come.
    pub fn next_line(&mut self) -> anyhow::Result<Option<Bytes>> {
        let Some(end) = self.input[self.searched..].iter().position(|&byte| byte == b'\n') else {
            self.searched = self.input.len();
            if self.searched > MAX_LINE {
                bail!("the pool sends a line without end");
            }
            return Ok(None);
        };
        let line = self.input.split_to(self.searched + end).freeze();
        self.input.advance(1);
        self.searched = 0;
        Ok(Some(line))
    }

    /// Writes what waits, until bytes have come. Cancel-safe.
    pub async fn wait(&mut self) -> anyhow::Result<()> {
        self.input.reserve(READ);
        loop {
            let deadline = self.stalled_at.unwrap_or_else(Instant::now);
            tokio::select! {
                read = self.read.read_buf(&mut self.input) => match read.map_err(lost)? {
                    0 => bail!("the pool has closed the connection"),
                    _ => return Ok(()),
                },
                put = put(&mut self.write, &mut self.output), if self.stalled_at.is_some() => {
                    self.stalled_at = put.map_err(lost)?.then(|| Instant::now() + WRITE_TIMEOUT);
                }
                () = sleep_until(deadline), if self.stalled_at.is_some() => {
                    bail!("the pool does not read what it is sent");
                }
            }
        }
    }
}

/// Writes some of what waits, or flushes when nothing does; false after the latter. Cancel-safe.
async fn put(write: &mut WriteHalf<Box<dyn Stream>>, output: &mut BytesMut) -> io::Result<bool> {
    if output.is_empty() {
        write.flush().await?;
        return Ok(false);
    }
    write.write_buf(output).await?;
    Ok(true)
}

async fn connect(pool: &Pool) -> anyhow::Result<Box<dyn Stream>> {
    let host = pool.host.trim_start_matches('[').trim_end_matches(']');
    let stream = link::reach((host, pool.port), CONNECT).await;
    let stream = stream.map_err(|error| anyhow!("cannot connect: {error}"))?;
    tune(&stream)?;
    Ok(match pool.transport {
        Transport::Plain => Box::new(stream),
        Transport::Tls(trust) => {
            let secured = tls::client::connect(stream, &pool.host, trust).await;
            Box::new(secured.map_err(|error| anyhow!("no TLS with the pool: {error}"))?)
        }
    })
}

/// As an SV2 server's: no waiting for fuller packets; and a machine that is gone is noticed.
fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    link::stream::notice_dead(stream, DEAD_PEER)
}

/// Why there are no more bytes.
fn lost(error: io::Error) -> anyhow::Error {
    match error.kind() {
        ErrorKind::TimedOut => anyhow!("the pool's machine does not answer any more"),
        _ => error.into(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use socket2::SockRef;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_pool_whose_machine_vanishes_is_noticed_whether_or_not_it_owes_an_acknowledgement() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        tune(&stream).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap() && socket.tcp_keepalive_time().unwrap() < DEAD_PEER);
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(DEAD_PEER));
        let gone = lost(ErrorKind::TimedOut.into()).to_string();
        assert_eq!(gone, "the pool's machine does not answer any more");
    }
}
