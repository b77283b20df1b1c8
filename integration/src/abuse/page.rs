//! Abuse of a status page.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::attack::End;
use super::kind::Kind;
use super::raw::until_dropped;

const REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
const ROUNDS: usize = 3_000;
/// Requests that are sent at once: what the system keeps for a peer that does not read is to be full soon.
const BATCH: usize = 100;

pub(super) fn speaks(kind: Kind) -> bool {
    matches!(kind, Kind::NeverReads | Kind::SlowReader | Kind::Handshakes)
}

pub(super) async fn abuse(kind: Kind, mut socket: TcpStream) -> anyhow::Result<End> {
    match kind {
        Kind::Handshakes => {
            socket.write_all(REQUEST).await?;
            drop(socket.read(&mut [0; 64]).await); // the answer's beginning, or the end
            Ok(End::Done)
        }
        Kind::NeverReads | Kind::SlowReader => unread(&mut socket, kind == Kind::SlowReader).await,
        _ => until_dropped(&mut socket).await,
    }
}

/// Requests without end, not one answer read, or one byte of them now and then.
async fn unread(socket: &mut TcpStream, reads_one: bool) -> anyhow::Result<End> {
    let requests = REQUEST.repeat(BATCH);
    for _ in 0..ROUNDS {
        if matches!(timeout(Duration::from_secs(1), socket.write_all(&requests)).await, Ok(Err(_))) {
            return Ok(End::Dropped);
        }
        if reads_one
            && matches!(timeout(Duration::from_secs(1), socket.read(&mut [0])).await, Ok(Ok(0) | Err(_)))
        {
            return Ok(End::Dropped);
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(End::Done)
}
