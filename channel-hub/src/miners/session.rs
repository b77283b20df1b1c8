//! One connection from its handshake to its end: the driver around [`mining::server::Session`].
//!
//! A share goes from here straight to the store's queue, and its answer leaves when the store has committed it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use link::{Link, LinkError, Server};
use mining::header::as_number;
use mining::server::{AcceptedShare, Event, FoundBlock, OpenedChannel, Session, Ticket};
use mining::{ExtranoncePrefixes, Now, Rejection, Work, WorkUpdate};
use service::{Counter, Counters};
use store::{Committed, Refused, Sequence, Share, Store};
use tokio::net::TcpStream;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connections::{Channel, Guard};
use crate::feed::Feed;
use crate::found::Finds;
use crate::identity::{Identity, IdentityPolicy, Owner};

/// How long a share may wait for room in the store's queue before its connection is given up.
const STORE_LIMIT: Duration = Duration::from_secs(5);
/// Frames taken from the socket before what they brought about is sent.
const MAX_AT_ONCE: usize = 512;

/// What all sessions work with.
#[derive(Debug)]
pub struct Floor {
    /// Settings of the mining sessions.
    pub mining: Arc<mining::server::Config>,
    /// Whose a user identity is.
    pub identities: IdentityPolicy,
    /// Prefixes for new channels.
    pub prefixes: Arc<ExtranoncePrefixes>,
    /// Where work comes from.
    pub feed: Arc<Feed>,
    /// Where shares go.
    pub store: Arc<dyn Store>,
    /// Where blocks go.
    pub finds: Arc<Finds>,
    /// Totals.
    pub counters: Counters,
    /// Tasks that outlive a connection: blocks on their way.
    pub tasks: TaskTracker,
}

/// Serves a connection until it ends.
pub async fn run(
    socket: TcpStream,
    server: Arc<Server>,
    floor: Arc<Floor>,
    guard: Guard,
    shutdown: CancellationToken,
) {
    let accepted = tokio::select! {
        accepted = Link::accept(socket, &server) => accepted,
        () = shutdown.cancelled() => return,
    };
    let link = match accepted {
        Ok(link) => link,
        Err(error) => return tracing::debug!(%error, "handshake failed"),
    };
    let device = link.peer().device.clone();
    tracing::info!(vendor = device.vendor, firmware = device.firmware, "miner connected");
    guard.change(|details| details.peer = Some(link.peer().clone()));
    let driver = Driver::new(link, floor, guard);
    match driver.run(&shutdown).await {
        Ok(()) => {}
        Err(End::Link(LinkError::Closed)) => tracing::info!("miner disconnected"),
        Err(end @ End::Store(_)) => tracing::error!(reason = %end, "miner's connection ends"),
        Err(end) => tracing::info!(reason = %end, "miner's connection ends"),
    }
}

/// Why a session ends before the hub closes.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Protocol(#[from] mining::server::Fatal),
    #[error("it is too far behind with its work")]
    Behind,
    #[error("its shares cannot be stored: {0}")]
    Store(Refused),
    #[error("it has no mining channel, and another connection needs its place")]
    Displaced,
}

/// One session with everything it touches.
struct Driver {
    link: Link,
    session: Session,
    updates: broadcast::Receiver<WorkUpdate>,
    committed: Committed,
    /// Shares on their way to the disk, oldest first.
    waiting: VecDeque<(Sequence, Ticket)>,
    owners: HashMap<u32, Owner>,
    rejected: HashMap<Rejection, Counter>,
    floor: Arc<Floor>,
    connection: Guard,
}

impl Driver {
    fn new(link: Link, floor: Arc<Floor>, connection: Guard) -> Self {
        let (current, updates) = floor.feed.subscribe();
        let prefixes = Arc::clone(&floor.prefixes);
        let session = Session::new(Arc::clone(&floor.mining), link.peer().flags, prefixes, current);
        Self {
            link,
            session,
            updates,
            committed: floor.store.committed(),
            waiting: VecDeque::new(),
            owners: HashMap::new(),
            rejected: HashMap::new(),
            floor,
            connection,
        }
    }

    /// Ends without error when the hub closes and what was accepted is answered.
    async fn run(mut self, shutdown: &CancellationToken) -> Result<(), End> {
        loop {
            self.send()?;
            let mut fault = Ok(());
            tokio::select! {
                biased;
                update = self.updates.recv() => self.update(update)?,
                reached = reached(&mut self.committed, self.waiting.front()) => self.acknowledge(reached?),
                received = self.link.recv(), if self.session.has_room() => fault = self.receive(received?),
                () = sleep_until(self.session.poll_timeout()) => self.session.handle_timeout(now()),
                () = shutdown.cancelled() => return self.drain().await,
                () = self.connection.displaced.cancelled() => return Err(End::Displaced),
            }
            // Shares and blocks that came before a fault count all the same.
            self.take_events().await?;
            fault?;
        }
    }

    fn send(&mut self) -> Result<(), LinkError> {
        while let Some(frame) = self.session.poll_send() {
            self.link.queue(&frame)?;
        }
        self.link.try_flush()
    }

    fn update(&mut self, update: Result<WorkUpdate, broadcast::error::RecvError>) -> Result<(), End> {
        self.session.apply(now(), &update.map_err(|_| End::Behind)?);
        Ok(())
    }

    fn receive(&mut self, mut received: link::Received) -> Result<(), End> {
        let now = now();
        self.session.handle(now, &mut received, self.link.extensions())?;
        for _ in 0..MAX_AT_ONCE {
            if !self.session.has_room() {
                break;
            }
            let Some(mut received) = self.link.try_recv()? else { break };
            self.session.handle(now, &mut received, self.link.extensions())?;
        }
        Ok(())
    }

    fn acknowledge(&mut self, committed: Sequence) {
        while let Some((_, ticket)) = self.waiting.pop_front_if(|(sequence, _)| *sequence <= committed) {
            self.session.acknowledge(ticket);
        }
    }

    /// The hub closes: what was accepted gets its answer first.
    async fn drain(mut self) -> Result<(), End> {
        if let Some((last, _)) = self.waiting.back().copied() {
            let committed = self.committed.reached(last).await.map_err(End::Store)?;
            self.acknowledge(committed);
        }
        self.send()?;
        Ok(self.link.flush().await?)
    }

    async fn take_events(&mut self) -> Result<(), End> {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Share(share) => self.credit(share).await?,
                Event::Rejected { channel_id, worker, reason } => {
                    self.reject(channel_id, worker.as_deref(), reason)
                }
                Event::Block(found) => self.found(found),
                Event::Opened(opened) => self.opened(opened),
                Event::Closed { channel_id, reason } => self.closed(channel_id, &reason),
                Event::Updated { channel_id, nominal_hash_rate } => {
                    self.channel(channel_id, |channel| channel.nominal_hash_rate = nominal_hash_rate);
                }
                Event::Target { channel_id, target } => {
                    self.channel(channel_id, |channel| channel.target = target);
                }
            }
        }
        Ok(())
    }

    async fn credit(&mut self, accepted: AcceptedShare) -> Result<(), End> {
        let best = Work::from_target(as_number(accepted.hash));
        self.channel(accepted.channel_id, |channel| {
            channel.accepted += 1;
            channel.work += accepted.work;
            channel.best = channel.best.max(best);
        });
        // Opened comes before any share of a channel.
        let Some(owner) = self.owners.get_mut(&accepted.channel_id) else { return Ok(()) };
        let share = Share {
            hasher: Arc::clone(owner.hasher()),
            worker: owner.worker(accepted.worker.as_deref()),
            height: accepted.height,
            time: unix_now(),
            work: accepted.work.hashes(),
            best: best.hashes(),
            hash: *<bitcoin::BlockHash as AsRef<[u8; 32]>>::as_ref(&accepted.hash),
        };
        let sequence = self.store(share).await?;
        self.waiting.push_back((sequence, accepted.ticket));
        Ok(())
    }

    /// Waits for room in the store's queue: then the miner is read no further, and TCP tells it.
    async fn store(&mut self, share: Share) -> Result<Sequence, End> {
        let deadline = Instant::now() + STORE_LIMIT;
        loop {
            match self.floor.store.credit(share.clone()) {
                Ok(sequence) => return Ok(sequence),
                Err(Refused::Full) if Instant::now() < deadline => {
                    let more = self.committed.now() + 1;
                    let wait = self.committed.reached(more);
                    let _ = tokio::time::timeout(STORE_LIMIT, wait).await;
                }
                Err(refused) => return Err(End::Store(refused)),
            }
        }
    }

    fn reject(&mut self, channel_id: u32, worker: Option<&str>, reason: Rejection) {
        let counters = &self.floor.counters;
        let counter = self
            .rejected
            .entry(reason)
            .or_insert_with(|| counters.counter("shares_rejected", &[("reason", reason.code())]));
        counter.add(1);
        if let Some(owner) = self.owners.get_mut(&channel_id) {
            let (hasher, worker) = (Arc::clone(owner.hasher()), owner.worker(worker));
            let [hasher, worker] = [("hasher", &*hasher), ("worker", &*worker)];
            counters.counter("worker_shares_rejected", &[hasher, worker]).add(1);
            let by_reason = [hasher, worker, ("reason", reason.code())];
            counters.counter("worker_shares_rejected_by_reason", &by_reason).add(1);
        }
        self.channel(channel_id, |channel| channel.rejected += 1);
        tracing::trace!(channel_id, %reason, "share rejected");
    }

    fn found(&mut self, found: Box<FoundBlock>) {
        let Ok(identity) = self.floor.identities.identify(&found.user_identity) else { return };
        let mut owner = Owner::new(identity);
        let worker = owner.worker(found.worker.as_deref());
        let finder = Identity { hasher: Arc::clone(owner.hasher()), worker };
        let kept = self.floor.finds.keep(found, &finder, unix_now());
        self.floor.tasks.spawn(Arc::clone(&self.floor.finds).bring(kept));
    }

    fn opened(&mut self, opened: OpenedChannel) {
        let channel_id = opened.channel_id;
        let identity = match self.floor.identities.identify(&opened.user_identity) {
            Ok(identity) => identity,
            // The session asked the same policy before it opened the channel.
            Err(error) => return tracing::error!(channel_id, %error, "opened for nobody"),
        };
        tracing::info!(channel_id, kind = ?opened.kind, user = &*opened.user_identity, "mining channel opened");
        let channel = Channel {
            kind: opened.kind,
            user_identity: opened.user_identity,
            hasher: Arc::clone(&identity.hasher),
            nominal_hash_rate: opened.nominal_hash_rate,
            target: opened.target,
            accepted: 0,
            rejected: 0,
            work: Work::ZERO,
            since: Instant::now(),
            best: Work::ZERO,
        };
        self.owners.insert(channel_id, Owner::new(identity));
        let extensions = self.link.extensions().to_vec();
        self.connection.change(|details| details.extensions = extensions);
        self.connection.opened(channel_id, channel);
    }

    fn closed(&mut self, channel_id: u32, reason: &str) {
        tracing::info!(channel_id, reason, "mining channel closed");
        self.owners.remove(&channel_id);
        self.connection.closed(channel_id, Instant::now());
    }

    fn channel(&self, channel_id: u32, change: impl FnOnce(&mut Channel)) {
        self.connection.change(|details| details.channels.get_mut(&channel_id).map(change));
    }
}

/// Waits for the oldest share's commit; forever if none waits.
async fn reached(committed: &mut Committed, oldest: Option<&(Sequence, Ticket)>) -> Result<Sequence, End> {
    match oldest {
        Some((sequence, _)) => committed.reached(*sequence).await.map_err(End::Store),
        None => std::future::pending().await,
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

fn now() -> Now {
    Now { instant: Instant::now(), unix: unix_now() }
}

fn unix_now() -> u32 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    u32::try_from(seconds).unwrap_or(u32::MAX)
}
