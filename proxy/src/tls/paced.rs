//! A socket that is read no faster than a miner may send, by its bytes as they are on the line: what comes out of TLS says
//! little of the work that its records are, for they may be empty, of one byte, or change keys.

use crate::miner::{Allowance, Surroundings};
use link::THROTTLED;
use service::Complaints;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep_until};

/// The socket under TLS. Whoever has sent too much is not refused anything, as without TLS.
#[derive(Debug)]
pub(super) struct Paced {
    socket: TcpStream,
    address: SocketAddr,
    left: Allowance,
    /// It waits, and that was said.
    throttled: Option<Pin<Box<Sleep>>>,
    complaints: Complaints,
}

impl Paced {
    /// Nothing has come yet.
    ///
    /// # Errors
    /// The miner is gone.
    pub(super) fn new(socket: TcpStream, surroundings: &Surroundings) -> io::Result<Self> {
        Ok(Self {
            address: socket.peer_addr()?,
            socket,
            left: Allowance::new(Instant::now(), surroundings.bounds.bytes_per_second),
            throttled: None,
            complaints: surroundings.complaints.clone(),
        })
    }

    /// The socket itself.
    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Where the miner connects from.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ready when the miner may be read.
    fn poll_left(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(until) = self.left.empty_until(Instant::now()) else {
            self.throttled = None;
            return Poll::Ready(());
        };
        if self.throttled.is_none() {
            self.complaints.say("throttled", self.address, THROTTLED);
        }
        let timer = self.throttled.get_or_insert_with(|| Box::pin(sleep_until(until.into())));
        timer.as_mut().reset(until.into());
        timer.as_mut().poll(context)
    }
}

impl AsyncRead for Paced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_left(context));
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(context, buffer))?;
        self.left.take_bytes(Instant::now(), buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Paced {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
