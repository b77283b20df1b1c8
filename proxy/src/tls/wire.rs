//! A miner's wire over TLS.

use super::paced::Paced;
use crate::miner::Wire;
use link::Visit;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// What is written goes out without a flush: the miner's task does not know of TLS's own buffer.
#[derive(Debug)]
pub struct TlsWire {
    stream: TlsStream<Paced>,
    /// What its handshake counts as.
    visit: Visit,
    /// TLS still holds bytes that the socket did not take.
    unflushed: bool,
}

impl TlsWire {
    /// Around a stream whose handshake is done.
    pub(super) fn new(stream: TlsStream<Paced>, visit: Visit) -> Self {
        Self { stream, visit, unflushed: false }
    }

    fn push_out(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.unflushed
            && let Poll::Ready(flushed) = Pin::new(&mut self.stream).poll_flush(context)
        {
            flushed?;
            self.unflushed = false;
        }
        Ok(())
    }
}

/// A TLS session's keys and counters stay in this process: its miner is asked to connect anew.
impl Wire for TlsWire {
    fn into_socket(self) -> Result<TcpStream, Self> {
        Err(self)
    }

    fn from_socket(_: TcpStream) -> Option<Self> {
        None
    }

    fn shared(&self) -> Option<Arc<TcpStream>> {
        None
    }

    fn proved(&mut self) {
        self.visit.proved();
    }
}

impl AsyncRead for TlsWire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.push_out(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for TlsWire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.unflushed = true;
        self.push_out(context)?;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
