//! A stream that gives up on a peer that reads nothing of what is written to it.

use std::future::Future;
use std::io::{Error, ErrorKind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A write to it that makes no progress for `patience` fails with [`ErrorKind::TimedOut`].
pub(super) struct Impatient<'a, S> {
    stream: S,
    patience: Duration,
    /// Whether a write waits at present.
    waits: &'a AtomicBool,
    /// Goes off when a write has waited for too long.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<'a, S> Impatient<'a, S> {
    /// Says in `waits` whether a write waits.
    pub(super) fn new(stream: S, patience: Duration, waits: &'a AtomicBool) -> Self {
        Self { stream, patience, waits, alarm: None }
    }

    fn wait(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        self.waits.store(true, Ordering::Relaxed);
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep(self.patience)));
        ready!(alarm.as_mut().poll(context));
        Poll::Ready(ErrorKind::TimedOut.into())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<'_, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if let Poll::Ready(written) = Pin::new(&mut self.stream).poll_write(context, bytes) {
            self.alarm = None;
            self.waits.store(false, Ordering::Relaxed);
            return Poll::Ready(written);
        }
        self.wait(context).map(Err)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Instant;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn a_write_fails_when_nothing_is_read_for_a_time_and_not_while_it_is_read_slowly() {
        let (near, mut far) = tokio::io::duplex(4);
        let waits = AtomicBool::new(false);
        let mut near = Impatient::new(near, PATIENCE, &waits);
        let slowly = async {
            for _ in 0..8 {
                sleep(PATIENCE / 4).await;
                far.read_exact(&mut [0]).await.unwrap();
            }
        };
        tokio::join!(slowly, async { near.write_all(b"eight and 4!").await.unwrap() });
        let begun = Instant::now();
        assert_eq!(near.write_all(b"5").await.unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(begun.elapsed() >= PATIENCE && waits.load(Ordering::Relaxed));
    }
}
