//! Bytes to and from a miner, without a buffer of their own: an idle miner costs none.

use crate::sv1::Lines;
use crate::sv1::output::Output;
use socket2::SockRef;
use std::future::poll_fn;
use std::io::{self, Read as _};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// Bytes taken in one read; two dozen submits.
const READ: usize = 4096;

/// What a miner's bytes come through.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin + Sized + 'static {
    /// The bare socket, if the miner's bytes are on it as they are: such a session can be carried to a successor. Gives
    /// itself back otherwise.
    ///
    /// # Errors
    /// The wire itself, if it is more than a socket.
    fn into_socket(self) -> Result<TcpStream, Self>;

    /// The wire on such a socket; never called if [`Self::into_socket`] always fails.
    fn from_socket(socket: TcpStream) -> Option<Self>;

    /// The bare socket for others to write on, if there is one.
    fn shared(&self) -> Option<Arc<TcpStream>>;

    /// A miner is at the other end: it has authorised a worker. For who counts handshakes that came to nothing.
    fn proved(&mut self);
}

/// A bare socket, on which others than the miner's task may write while that waits.
#[derive(Debug)]
pub struct Bare(Arc<TcpStream>);

impl Bare {
    /// Nobody else has it yet.
    pub fn new(socket: TcpStream) -> Self {
        Self(Arc::new(socket))
    }

    /// Reads once. Fewer bytes than there is room for were all: the socket counts as read empty then, as with tokio's own read, so that
    /// not each share takes a second read that finds nothing.
    fn read(&self, space: &mut [u8]) -> io::Result<usize> {
        let (room, mut taken) = (space.len(), None);
        let tried = self.0.try_io(Interest::READABLE, || {
            let read = (&*SockRef::from(&*self.0)).read(space)?;
            taken = Some(read);
            if (1..room).contains(&read) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(read) }
        });
        taken.map_or(tried, Ok)
    }
}

impl Wire for Bare {
    fn into_socket(self) -> Result<TcpStream, Self> {
        Arc::try_unwrap(self.0).map_err(Self)
    }

    fn from_socket(socket: TcpStream) -> Option<Self> {
        Some(Self::new(socket))
    }

    fn shared(&self) -> Option<Arc<TcpStream>> {
        Some(self.0.clone())
    }

    /// There was no handshake.
    fn proved(&mut self) {}
}

impl AsyncRead for Bare {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(context))?;
            match self.read(buffer.initialize_unfilled()) {
                Ok(read) => {
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Bare {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(context))?;
            match self.0.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.0).shutdown(Shutdown::Write))
    }
}

/// What moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// So many bytes came.
    Read(usize),
    /// The miner has closed, or its half: it sends nothing more.
    End,
    /// Some of the output went.
    Written,
}

/// Reads if `reading`, and writes what is in `output`, whichever the socket takes first. Cancel-safe.
pub(super) async fn transfer(
    wire: &mut impl Wire,
    lines: &mut Lines,
    output: &mut Output,
    reading: bool,
) -> io::Result<Moved> {
    poll_fn(|context| {
        if !output.as_bytes().is_empty()
            && let Poll::Ready(written) = Pin::new(&mut *wire).poll_write(context, output.as_bytes())
        {
            output.sent(written?);
            return Poll::Ready(Ok(Moved::Written));
        }
        // A socket has nothing to flush; TLS has what the socket did not take.
        if let Poll::Ready(Err(error)) = Pin::new(&mut *wire).poll_flush(context) {
            return Poll::Ready(Err(error));
        }
        if !reading {
            return Poll::Pending;
        }
        let mut space = [0; READ];
        let mut buffer = ReadBuf::new(&mut space);
        match Pin::new(&mut *wire).poll_read(context, &mut buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => Poll::Ready(Ok(Moved::End)),
            Poll::Ready(Ok(())) => {
                lines.push(buffer.filled());
                Poll::Ready(Ok(Moved::Read(buffer.filled().len())))
            }
        }
    })
    .await
}

/// Writes what the socket takes without waiting.
pub(super) fn write_now(wire: &mut impl Wire, output: &mut Output) -> io::Result<()> {
    let mut context = Context::from_waker(Waker::noop());
    while !output.as_bytes().is_empty() {
        match Pin::new(&mut *wire).poll_write(&mut context, output.as_bytes()) {
            Poll::Ready(written) => output.sent(written?),
            Poll::Pending => break,
        }
    }
    if let Poll::Ready(Err(error)) = Pin::new(wire).poll_flush(&mut context) {
        return Err(error);
    }
    Ok(())
}
