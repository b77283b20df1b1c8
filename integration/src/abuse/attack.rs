//! Many connections that do the same, again and again.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::AddAssign;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::kind::Kind;
use super::target::{Speaks, Target};
use super::{page, raw, sv1, sv2, tls};

/// What an attack came to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outcome {
    /// Connections that were made: in SV2 those with a handshake and a set-up, of squatters those that were given work.
    pub connected: u64,
    /// Attempts that came to nothing.
    pub refused: u64,
    /// Connections that the other side ended.
    pub dropped: u64,
    /// Connections that did all they wanted.
    pub done: u64,
}

impl AddAssign for Outcome {
    fn add_assign(&mut self, other: Self) {
        self.connected += other.connected;
        self.refused += other.refused;
        self.dropped += other.dropped;
        self.done += other.done;
    }
}

/// What one connection came to.
pub(super) enum End {
    /// The other side ended it.
    Dropped,
    /// It did all it wanted.
    Done,
}

/// Between two connections of one attacker. A peer that is dropped comes back at once in the wild; this is near it, and
/// leaves the machine of the test its own life.
const PAUSE: Duration = Duration::from_millis(20);
const CONNECT: Duration = Duration::from_secs(10);

/// Addresses that an attack comes from: so many from the first on. All of 127.0.0.0/8 is this machine.
#[derive(Debug, Clone, Copy)]
pub struct Sources {
    first: Ipv4Addr,
    count: u32,
}

impl Sources {
    /// 127.0.0.1 and those that follow it.
    pub fn many(count: u32) -> Self {
        Self { first: Ipv4Addr::LOCALHOST, count: count.max(1) }
    }

    /// One alone.
    pub fn only(address: Ipv4Addr) -> Self {
        Self { first: address, count: 1 }
    }

    fn of(self, number: usize) -> IpAddr {
        let number = u32::try_from(number).unwrap_or(0) % self.count;
        IpAddr::V4(Ipv4Addr::from_bits(self.first.to_bits() + number % 0xff_fff0))
    }
}

#[derive(Debug, Default)]
struct Counts {
    connected: AtomicU64,
    refused: AtomicU64,
    dropped: AtomicU64,
    done: AtomicU64,
}

/// Keeps `strength` connections at it until `stop`, spread over the source addresses.
pub async fn attack(
    kind: Kind,
    target: &Target,
    strength: usize,
    sources: Sources,
    stop: &CancellationToken,
) -> Outcome {
    let (counts, tasks) = (Arc::new(Counts::default()), TaskTracker::new());
    for number in 0..strength {
        let source = sources.of(number);
        let (target, counts, stop) = (target.clone(), Arc::clone(&counts), stop.clone());
        tasks.spawn(async move {
            stop.run_until_cancelled(attacker(kind, &target, source, &counts)).await;
        });
    }
    tasks.close();
    tasks.wait().await;
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    Outcome {
        connected: of(&counts.connected),
        refused: of(&counts.refused),
        dropped: of(&counts.dropped),
        done: of(&counts.done),
    }
}

async fn attacker(kind: Kind, target: &Target, source: IpAddr, counts: &Counts) {
    loop {
        let counted = match Box::pin(once(kind, target, source, counts)).await {
            Ok(End::Dropped) => &counts.dropped,
            Ok(End::Done) => &counts.done,
            Err(_) => &counts.refused,
        };
        counted.fetch_add(1, Ordering::Relaxed);
        sleep(PAUSE).await;
    }
}

async fn once(kind: Kind, target: &Target, source: IpAddr, counts: &Counts) -> anyhow::Result<End> {
    let connected = || {
        counts.connected.fetch_add(1, Ordering::Relaxed);
    };
    if kind == Kind::Squat {
        return squat(target, source, connected).await;
    }
    if let Speaks::Mining(_) | Speaks::Templates(_) = target.speaks
        && sv2::speaks(kind)
    {
        return sv2::abuse(kind, target, source, connected).await;
    }
    if let (Speaks::Tls, Some(kind)) = (target.speaks, kind.within_tls()) {
        let socket = open(target, source).await?;
        connected();
        return raw::abuse(kind, socket, Speaks::Sv1).await;
    }
    if let Speaks::Sv1 | Speaks::Tls = target.speaks
        && sv1::speaks(kind)
    {
        let socket = open(target, source).await?;
        connected();
        return sv1::abuse(kind, socket, target, source).await;
    }
    let socket = connect(target, source).await?;
    connected();
    match target.speaks {
        Speaks::Page if page::speaks(kind) => page::abuse(kind, socket).await,
        speaks => raw::abuse(kind, socket, speaks).await,
    }
}

/// `set_up` is called when it has what it came for.
async fn squat(target: &Target, source: IpAddr, set_up: impl FnOnce()) -> anyhow::Result<End> {
    match target.speaks {
        Speaks::Mining(_) | Speaks::Templates(_) => sv2::squat(target, source, set_up).await,
        // No detour: there may be ten thousand of them.
        Speaks::Tls => sv1::squat(tls::connected(target, source).await?, set_up).await,
        Speaks::Sv1 => sv1::squat(connect(target, source).await?, set_up).await,
        Speaks::Page => anyhow::bail!("nobody is set up at a page"),
    }
}

/// A connection on which lines can be said at once.
pub(super) async fn open(target: &Target, source: IpAddr) -> anyhow::Result<TcpStream> {
    match target.speaks {
        Speaks::Tls => tls::inside(target, source).await,
        _ => connect(target, source).await,
    }
}

pub(super) async fn connect(target: &Target, source: IpAddr) -> anyhow::Result<TcpStream> {
    connect_on(TcpSocket::new_v4()?, target, source).await
}

/// The same in segments of Ethernet, as a peer elsewhere has them. What the system takes of a program for one that does not read goes by
/// their size: with loopback's 64 KiB that is three megabytes before the program notices anything, with these some hundred kilobytes.
pub(super) async fn connect_afar(target: &Target, source: IpAddr) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    SockRef::from(&socket).set_tcp_mss(SEGMENT)?;
    connect_on(socket, target, source).await
}

async fn connect_on(socket: TcpSocket, target: &Target, source: IpAddr) -> anyhow::Result<TcpStream> {
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.bind((source, 0).into())?;
    let stream = timeout(CONNECT, socket.connect(target.address)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Small, so that a peer that does not read is soon noticed, and ten thousand of them cost us little.
pub(super) const RECEIVE_BUFFER: u32 = 4096;
/// Bytes of a TCP segment over Ethernet.
const SEGMENT: u32 = 1460;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use link::AuthorityKey;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn who_gets_no_handshake_has_not_connected() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let key = AuthorityKey::generate(&mut rand::thread_rng()).public();
        let target = Target { address: listener.local_addr().unwrap(), speaks: Speaks::Mining(key) };
        for kind in [Kind::Handshakes, Kind::Visits, Kind::WrongTime] {
            let stop = CancellationToken::new();
            let slamming = async {
                for _ in 0..3 {
                    drop(listener.accept().await.unwrap());
                }
                stop.cancel();
            };
            let attacking = attack(kind, &target, 1, Sources::many(1), &stop);
            let (outcome, ()) = tokio::join!(attacking, slamming);
            assert_eq!((outcome.connected, outcome.done), (0, 0), "{outcome:?}");
            assert!(outcome.refused >= 2, "{outcome:?}");
        }
    }
}
