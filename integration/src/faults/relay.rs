//! A TCP relay that makes a connection slow, silent or broken, in user space: it works on every machine.
//!
//! Silence is what a hung peer looks like: the connection stands, new ones are taken, and no byte comes.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::world::ports::Port;

/// Relays every connection to one target. Ends with all its connections when dropped.
#[derive(Debug)]
pub struct Relay {
    port: Port,
    fault: watch::Sender<Fault>,
    _stop: DropGuard,
}

/// What is wrong with the line now.
#[derive(Debug, Clone, Copy, Default)]
struct Fault {
    delay: Duration,
    silent: bool,
    /// Connections that began before the newest cut are broken.
    cuts: u64,
}

/// Bytes in one direction that are on their way; what comes beyond waits at the sender.
const ON_ITS_WAY: usize = 1 << 20;
const CHUNK: usize = 16 * 1024;

impl Relay {
    /// Starts relaying to `host:port`, without a fault.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(target: impl Into<String>) -> anyhow::Result<Self> {
        let (port, target) = (Port::take()?, target.into());
        let listener = TcpListener::bind(port.address()).await?;
        let (fault, faults) = watch::channel(Fault::default());
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move { stopped.run_until_cancelled(accept(listener, target, faults)).await });
        Ok(Self { port, fault, _stop: stop.drop_guard() })
    }

    /// `host:port` to connect to instead of the target.
    pub fn address(&self) -> String {
        self.port.address()
    }

    /// The port of [`Self::address`].
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// From now on every byte takes so much longer, in each direction.
    pub fn delay(&self, delay: Duration) {
        self.fault.send_modify(|fault| fault.delay = delay);
    }

    /// Whether the line keeps every byte to itself; what it has kept it delivers when it is not silent any more.
    pub fn silence(&self, silent: bool) {
        self.fault.send_modify(|fault| fault.silent = silent);
    }

    /// Breaks all connections there are.
    pub fn cut(&self) {
        self.fault.send_modify(|fault| fault.cuts += 1);
    }
}

async fn accept(listener: TcpListener, target: String, faults: watch::Receiver<Fault>) {
    let tasks = CancellationToken::new();
    let _ended = tasks.clone().drop_guard();
    while let Ok((client, _)) = listener.accept().await {
        let (target, faults, tasks) = (target.clone(), faults.clone(), tasks.clone());
        tokio::spawn(async move { tasks.run_until_cancelled(relay(client, target, faults)).await });
    }
}

/// One connection, until either side ends it or it is cut.
async fn relay(client: TcpStream, target: String, mut faults: watch::Receiver<Fault>) -> Option<()> {
    let cuts = faults.borrow().cuts;
    faults.wait_for(|fault| !fault.silent).await.ok()?;
    let server = TcpStream::connect(target).await.ok()?;
    client.set_nodelay(true).ok()?;
    server.set_nodelay(true).ok()?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let forth = Direction::new(from_client, to_server, faults.clone());
    let back = Direction::new(from_server, to_client, faults.clone());
    tokio::select! {
        _ = forth.run() => {}
        _ = back.run() => {}
        _ = faults.wait_for(|fault| fault.cuts != cuts) => {}
    }
    Some(())
}

struct Direction {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    faults: watch::Receiver<Fault>,
    /// When each chunk came in, oldest first.
    chunks: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
}

impl Direction {
    fn new(from: OwnedReadHalf, to: OwnedWriteHalf, faults: watch::Receiver<Fault>) -> Self {
        Self { from, to, faults, chunks: VecDeque::new(), bytes: 0 }
    }

    async fn run(mut self) -> std::io::Result<()> {
        loop {
            let mut chunk = vec![0; CHUNK];
            let due = self.due();
            tokio::select! {
                read = self.from.read(&mut chunk), if self.bytes < ON_ITS_WAY => {
                    let read = read?;
                    if read == 0 {
                        return self.deliver_all().await;
                    }
                    chunk.truncate(read);
                    self.bytes += read;
                    self.chunks.push_back((Instant::now(), chunk));
                }
                () = arrival(due) => self.deliver().await?,
                changed = self.faults.changed() => if changed.is_err() { return Ok(()) },
            }
        }
    }

    /// When the oldest chunk arrives; never, while the line is silent.
    fn due(&self) -> Option<Instant> {
        let fault = *self.faults.borrow();
        let (came, _) = self.chunks.front().filter(|_| !fault.silent)?;
        Some(*came + fault.delay)
    }

    async fn deliver(&mut self) -> std::io::Result<()> {
        if let Some((_, chunk)) = self.chunks.pop_front() {
            self.bytes -= chunk.len();
            self.to.write_all(&chunk).await?;
        }
        Ok(())
    }

    /// The sender has said its last word, which still arrives, each part at its time.
    async fn deliver_all(mut self) -> std::io::Result<()> {
        while !self.chunks.is_empty() {
            let due = self.due();
            tokio::select! {
                () = arrival(due) => self.deliver().await?,
                changed = self.faults.changed() => if changed.is_err() { return Ok(()) },
            }
        }
        Ok(())
    }
}

async fn arrival(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    /// A relay before a server that sends back what it gets, and a connection through it.
    async fn echo() -> (Relay, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Relay::start(listener.local_addr().unwrap().to_string()).await.unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        let stream = TcpStream::connect(relay.address()).await.unwrap();
        (relay, stream)
    }

    async fn answer(stream: &mut TcpStream, word: &[u8]) -> Vec<u8> {
        stream.write_all(word).await.unwrap();
        let mut answer = vec![0; word.len()];
        stream.read_exact(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_delay_is_added_in_each_direction() {
        let (relay, mut stream) = echo().await;
        assert_eq!(answer(&mut stream, b"quick").await, b"quick");
        relay.delay(Duration::from_millis(100));
        let begun = Instant::now();
        assert_eq!(answer(&mut stream, b"slow").await, b"slow");
        assert!(begun.elapsed() >= Duration::from_millis(200));
    }

    #[tokio::test]
    async fn a_silent_line_keeps_what_it_gets_and_delivers_it_later() {
        let (relay, mut stream) = echo().await;
        answer(&mut stream, b"before").await;
        relay.silence(true);
        let mut second = TcpStream::connect(relay.address()).await.unwrap();
        for stream in [&mut stream, &mut second] {
            let answered = timeout(Duration::from_millis(200), answer(stream, b"kept")).await;
            assert!(answered.is_err(), "a silent line answered");
        }
        relay.silence(false);
        for stream in [&mut stream, &mut second] {
            let mut kept = [0; 4];
            timeout(Duration::from_secs(5), stream.read_exact(&mut kept)).await.unwrap().unwrap();
            assert_eq!(&kept, b"kept");
        }
    }

    #[tokio::test]
    async fn a_cut_ends_the_connections_there_are_and_no_later_ones() {
        let (relay, mut stream) = echo().await;
        answer(&mut stream, b"before").await;
        relay.cut();
        let end = timeout(Duration::from_secs(5), stream.read(&mut [0; 8])).await.unwrap();
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
        let mut second = TcpStream::connect(relay.address()).await.unwrap();
        assert_eq!(answer(&mut second, b"again").await, b"again");
    }
}
