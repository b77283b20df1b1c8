//! Abuse in SV1.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::attack::{End, open};
use super::kind::Kind;
use super::raw::until_dropped;
use super::target::Target;
use crate::sv1::{Desk, Wire};
use crate::world::chain::ADDRESS;

/// Requests that are sent without reading an answer before the peer looks whether it is still there.
const BATCH: usize = 200;
const ROUNDS: usize = 3_000;
const COPIES: usize = 20;
/// Longest wait for work.
const WORK: Duration = Duration::from_secs(10);
/// Bytes that a squatter reads at once; there may be ten thousand of them.
const SIP: usize = 1024;

pub(super) fn speaks(kind: Kind) -> bool {
    use Kind::{Handshakes, NeverReads, Replays, SlowReader, UnknownChannels, WrongTime};
    matches!(kind, Handshakes | NeverReads | Replays | SlowReader | UnknownChannels | WrongTime)
}

pub(super) async fn abuse(
    kind: Kind,
    mut socket: TcpStream,
    target: &Target,
    source: IpAddr,
) -> anyhow::Result<End> {
    match kind {
        Kind::WrongTime => talk(&mut socket, WRONG).await,
        Kind::UnknownChannels => unknown(&mut socket).await,
        Kind::Replays => replays(socket, target, source).await,
        Kind::NeverReads => unread(&mut socket, false).await,
        Kind::SlowReader => unread(&mut socket, true).await,
        Kind::Handshakes => {
            socket.write_all(greeting().as_bytes()).await?;
            let is_answered = matches!(socket.read(&mut [0; 4096]).await, Ok(1..));
            Ok(if is_answered { End::Done } else { End::Dropped })
        }
        _ => until_dropped(&mut socket).await,
    }
}

/// Submits before subscribing, answers nobody asked for, a server's words, parameters of other types.
const WRONG: &str = concat!(
    r#"{"id":1,"method":"mining.submit","params":["a","1","00000000","00000000","00000000"]}"#,
    "\n",
    r#"{"id":7,"result":true,"error":null}"#,
    "\n",
    r#"{"id":2,"method":"mining.authorize","params":{"user":7}}"#,
    "\n",
    r#"{"id":null,"method":"mining.notify","params":["1",[],{},"x"]}"#,
    "\n",
    r#"{"id":3,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":-1}]}"#,
    "\n",
    r#"{"id":4,"method":"mining.no-such-method","params":[[[[]]]]}"#,
    "\n",
);

fn greeting() -> String {
    let subscribe = json!({"id": 1, "method": "mining.subscribe", "params": ["abuse/1"]});
    let authorize =
        json!({"id": 2, "method": "mining.authorize", "params": [format!("{ADDRESS}.abuse"), "x"]});
    format!("{subscribe}\n{authorize}\n")
}

/// Subscribes, authorises, is given work, and says nothing more.
pub(super) async fn squat(
    socket: impl AsyncRead + AsyncWrite + Unpin,
    set_up: impl FnOnce(),
) -> anyhow::Result<End> {
    let mut socket = BufReader::with_capacity(SIP, socket);
    socket.write_all(greeting().as_bytes()).await?;
    socket.flush().await?;
    let work = async {
        let mut line = String::new();
        while !line.contains("mining.notify") {
            line.clear();
            ensure!(socket.read_line(&mut line).await? > 0, "it was let go before it had work");
        }
        anyhow::Ok(())
    };
    timeout(WORK, work).await??;
    set_up();
    until_dropped(&mut socket).await
}

/// Says it, reads what is answered for a second, and goes.
async fn talk(socket: &mut TcpStream, lines: &str) -> anyhow::Result<End> {
    if socket.write_all(lines.as_bytes()).await.is_err() {
        return Ok(End::Dropped);
    }
    match timeout(Duration::from_secs(1), until_dropped(socket)).await {
        Ok(end) => end,
        Err(_) => Ok(End::Done),
    }
}

/// Shares for jobs that never were.
async fn unknown(socket: &mut TcpStream) -> anyhow::Result<End> {
    socket.write_all(greeting().as_bytes()).await?;
    let user = format!("{ADDRESS}.abuse");
    let lines: String = (0..BATCH)
        .map(|id| {
            let params = json!([user, format!("{id:x}dead"), "0000000000000000", "6553f100", "00000000"]);
            format!("{}\n", json!({"id": id + 10, "method": "mining.submit", "params": params}))
        })
        .collect();
    talk(socket, &lines).await
}

/// A valid share many times, and once more on another connection.
async fn replays(socket: TcpStream, target: &Target, source: IpAddr) -> anyhow::Result<End> {
    let user = format!("{ADDRESS}.replay");
    let mut desk = Desk::sit_at(Wire::on(socket), &user).await?;
    let share = desk.share();
    for _ in 0..COPIES {
        desk.submit(&share).await?;
    }
    drop(desk);
    let mut desk = Desk::sit_at(Wire::on(open(target, source).await?), &user).await?;
    desk.submit(&share).await?;
    Ok(End::Done)
}

/// Requests without end. The answers stay where they are, or one byte is read after each batch.
async fn unread(socket: &mut TcpStream, reads_one: bool) -> anyhow::Result<End> {
    let lines = "{\"id\":9,\"method\":\"mining.no-such-method\",\"params\":[]}\n".repeat(BATCH);
    socket.write_all(greeting().as_bytes()).await?;
    for _ in 0..ROUNDS {
        // The program may stop reading us: that is one way to bear it, and this connection's own loss.
        if let Ok(Err(_)) = timeout(Duration::from_secs(1), socket.write_all(lines.as_bytes())).await {
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
