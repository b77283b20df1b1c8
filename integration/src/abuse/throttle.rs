//! A line that becomes narrow: it lets back so many bytes a second, which is what a slow reader is to the other side, or lets so many
//! through.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::attack::connect_afar;
use super::target::Target;

/// One connection's line; broken when dropped.
pub(super) struct Throttle {
    pub(super) address: SocketAddr,
    /// Cancel it to let no more than the handshake through.
    pub(super) narrow: CancellationToken,
    /// Cancelled when the other side has ended the connection.
    pub(super) ended: CancellationToken,
    _stop: DropGuard,
}

/// What a narrow line still lets pass.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    All,
    /// One byte a second.
    Drips,
    Nothing,
}

/// What it lets through to the other side, and what it lets back.
#[derive(Clone, Copy)]
pub(super) struct Flows {
    pub(super) forth: Flow,
    pub(super) back: Flow,
}

impl Throttle {
    /// A line from `source` to `target` for the first connection that comes. Once narrow, it lets pass what `flows` say.
    pub(super) async fn start(target: &Target, source: IpAddr, flows: Flows) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let [narrow, ended, stop] = std::array::from_fn(|_| CancellationToken::new());
        let (narrowed, over, stopped) = (narrow.clone(), ended.clone(), stop.clone());
        let target = target.clone();
        tokio::spawn(async move {
            let _over = over.drop_guard();
            stopped.run_until_cancelled(relay(listener, &target, source, narrowed, flows)).await
        });
        Ok(Self { address, narrow, ended, _stop: stop.drop_guard() })
    }
}

/// Until either side ends the connection.
async fn relay(
    listener: TcpListener,
    target: &Target,
    source: IpAddr,
    narrow: CancellationToken,
    flows: Flows,
) -> Option<()> {
    let (mut near, _) = listener.accept().await.ok()?;
    let mut far = connect_afar(target, source).await.ok()?;
    let ((from_near, to_near), (from_far, to_far)) = (near.split(), far.split());
    tokio::select! {
        _ = pass(from_near, to_far, &narrow, flows.forth) => {}
        _ = pass(from_far, to_near, &narrow, flows.back) => {}
    }
    Some(())
}

/// One direction, until its end.
async fn pass(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    narrow: &CancellationToken,
    flow: Flow,
) -> io::Result<()> {
    let mut buffer = vec![0; 4096];
    loop {
        let is_narrow = flow != Flow::All && narrow.is_cancelled();
        if is_narrow && flow == Flow::Nothing {
            std::future::pending::<()>().await;
        }
        let limit = if is_narrow { 1 } else { buffer.len() };
        let read = tokio::select! {
            biased; // what comes when it is narrow already does not slip through
            () = narrow.cancelled(), if flow != Flow::All && !is_narrow => continue,
            read = from.read(&mut buffer[..limit]) => read?,
        };
        if read == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..read]).await?;
        if is_narrow {
            sleep(Duration::from_secs(1)).await;
        }
    }
}
