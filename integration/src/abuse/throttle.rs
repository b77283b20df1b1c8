//! A line that takes everything from us and lets back so many bytes a second: what a slow reader is to the other side.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
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

impl Throttle {
    /// A line from `source` to `target` for the first connection that comes. Once narrow, it lets back one byte a second,
    /// or none.
    pub(super) async fn start(target: &Target, source: IpAddr, one_byte: bool) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let [narrow, ended, stop] = std::array::from_fn(|_| CancellationToken::new());
        let (narrowed, over, stopped) = (narrow.clone(), ended.clone(), stop.clone());
        let target = target.clone();
        tokio::spawn(async move {
            let _over = over.drop_guard();
            stopped.run_until_cancelled(relay(listener, &target, source, narrowed, one_byte)).await
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
    one_byte: bool,
) -> Option<()> {
    let (mut near, _) = listener.accept().await.ok()?;
    let mut far = connect_afar(target, source).await.ok()?;
    let ((mut from_near, mut to_near), (mut from_far, mut to_far)) = (near.split(), far.split());
    let forth = tokio::io::copy(&mut from_near, &mut to_far);
    let back = async {
        let mut buffer = [0; 4096];
        loop {
            let limit = if narrow.is_cancelled() { 1 } else { buffer.len() };
            if narrow.is_cancelled() && !one_byte {
                std::future::pending::<()>().await;
            }
            let read = tokio::select! {
                read = from_far.read(&mut buffer[..limit]) => read?,
                () = narrow.cancelled(), if limit > 1 => continue,
            };
            if read == 0 {
                return std::io::Result::Ok(());
            }
            to_near.write_all(&buffer[..read]).await?;
            if limit == 1 {
                sleep(Duration::from_secs(1)).await;
            }
        }
    };
    tokio::select! { _ = forth => {}, _ = back => {} }
    Some(())
}
