//! Abuse that needs no protocol: garbage, silence, beginnings, floods of bytes.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::attack::End;
use super::kind::Kind;
use super::target::Speaks;

const MEGABYTE: usize = 1 << 20;
/// Longest patience with a program that does not end the connection.
const PATIENCE: Duration = Duration::from_secs(120);
/// From one byte to the next.
const SECOND: Duration = Duration::from_secs(1);

pub(super) async fn abuse(kind: Kind, mut socket: TcpStream, speaks: Speaks) -> anyhow::Result<End> {
    match kind {
        Kind::Garbage => flood(&mut socket, &garbage(64 * 1024)).await,
        Kind::Oversized => flood(&mut socket, &vec![b'a'; 4 * MEGABYTE]).await,
        Kind::HalfHandshake => flood(&mut socket, &half(speaks)).await,
        Kind::Drip => drip(&mut socket, beginning(speaks)).await,
        Kind::Handshakes => {
            drop(socket.write_all(beginning(speaks)).await); // it may be shut out already
            Ok(End::Done)
        }
        _ => until_dropped(&mut socket).await,
    }
}

/// Half of those in SV2 send all of what a peer says first: any 64 bytes are a key. Then they wait for their turn.
fn half(speaks: Speaks) -> Vec<u8> {
    match speaks {
        Speaks::Mining(_) | Speaks::Templates(_) if rand::random() => garbage(64),
        _ => beginning(speaks).to_vec(),
    }
}

/// The first part of what a peer says first.
fn beginning(speaks: Speaks) -> &'static [u8] {
    match speaks {
        Speaks::Sv1 => br#"{"id":1,"method":"mining.subscribe","params":["abuse/1"]"#,
        // A record of 512 bytes that is a client's hello, of which 20 come.
        Speaks::Tls => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abcdefghi",
        Speaks::Mining(_) | Speaks::Templates(_) => &[7; 40],
        Speaks::Page => b"GET /metrics HTTP/1.1\r\nHost: a",
    }
}

/// The same bytes each time; no protocol's.
fn garbage(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(length)
    .collect()
}

/// Sends it all, and waits for the end.
async fn flood(socket: &mut TcpStream, bytes: &[u8]) -> anyhow::Result<End> {
    if socket.write_all(bytes).await.is_err() {
        return Ok(End::Dropped);
    }
    until_dropped(socket).await
}

/// One byte a second, again from the first after the last.
async fn drip(socket: &mut TcpStream, bytes: &[u8]) -> anyhow::Result<End> {
    for byte in bytes.iter().cycle() {
        if socket.write_all(&[*byte]).await.is_err() {
            return Ok(End::Dropped);
        }
        if let Ok(Ok(0) | Err(_)) = timeout(SECOND, socket.read(&mut [0; 64])).await {
            return Ok(End::Dropped);
        }
        sleep(Duration::from_millis(10)).await; // where the program answers each byte
    }
    Ok(End::Done)
}

/// Reads what comes, says nothing, and waits for the end.
pub(super) async fn until_dropped(socket: &mut (impl AsyncRead + Unpin)) -> anyhow::Result<End> {
    let mut buffer = [0; 4096];
    let reading = async { while matches!(socket.read(&mut buffer).await, Ok(read) if read > 0) {} };
    Ok(match timeout(PATIENCE, reading).await {
        Ok(()) => End::Dropped,
        Err(_) => End::Done,
    })
}
