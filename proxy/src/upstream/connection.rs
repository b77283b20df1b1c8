//! One connection to an upstream: a task around a `Wire`.

use super::feed::{Feed, feed};
use super::health::{Health, State};
use super::keeper::Common;
use super::room::{EXHAUSTED, Room};
use super::route::{Command, MAX_COMMANDS, Offer, Route, ShareOut};
use super::selector::Report;
use super::told::{HashRate, Told};
use super::trunk::{Event, FOR_BLOCKS, SOONEST};
use super::wire::Wire;
use crate::config::Upstream;
use crate::farm::Miner;
use crate::miner::now;
use crate::session::{Outcome, UpstreamShare};
use crate::work::Work;
use anyhow::{Context as _, bail};
use link::wait_until;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// From a connection to its first job.
const FIRST_JOB: Duration = Duration::from_secs(20);
/// How long shares on their way are waited for when a connection is given up.
const LINGER: Duration = Duration::from_secs(3);
/// How long miners are waited for that go to another upstream and go on here until they have work from there: it may open channels for
/// thousands, one after the other.
const MOVING: Duration = Duration::from_secs(120);
/// Pause between looks at hash rate and channels that nobody uses.
const TEND: Duration = Duration::from_secs(5);
/// Shortest pause between two log lines that a pool asks for.
const NOTICE: Duration = Duration::from_secs(10);
/// Commands taken before what they brought about is sent.
const MAX_AT_ONCE: usize = 512;
/// While shares keep coming they are handed on at most so often, many in one write; the first is at once. Timers go by
/// milliseconds, so this means the next one.
const TOGETHER: Duration = Duration::from_micros(100);
/// So many at a time need not wait for each other.
const MANY: usize = 32;
/// Channels that are asked for at a time. The others wait here: an upstream that has no room for so many says so before all are asked
/// for, and shares of those that are open do not wait behind thousands of requests.
const MAX_OPENING: usize = 32;
/// If an upstream that owes as many answers as it may gives none for so long, it hangs, though it owes no channel many.
const STUCK: Duration = SOONEST;
/// Pause between two reports of credit.
const CREDITED: Duration = Duration::from_secs(60);
/// The channel that all miners share, in aggregated mode; in the other, one that is opened only to see whether it can be.
const SHARED: u64 = 0;

/// Why a connection ends whose other end hangs.
#[derive(Debug, thiserror::Error)]
#[error("connected, but it does not answer any more")]
pub(super) struct Hangs;

/// A connection that is set up, with all that is done on it.
pub(super) struct Connection<'a> {
    index: usize,
    upstream: &'a Upstream,
    common: &'a Common,
    health: &'a Arc<Health>,
    number: u64,
    wire: Wire,
    /// Whether all miners share one channel.
    is_shared: bool,
    route: Route,
    /// Others hold it as well while miners work for this connection.
    users: Arc<()>,
    /// To the route.
    offer: watch::Sender<Option<Offer>>,
    commands: mpsc::Receiver<Command>,
    blocks: mpsc::Receiver<ShareOut>,
    /// By slot; without the one that is opened only to see whether it can be.
    channels: HashMap<u64, Channel>,
    next_slot: u64,
    /// Those that are yet to be asked for.
    waiting: VecDeque<Waiting>,
    room: Room,
    shares: HashMap<u64, ShareOut>,
    next_ticket: u64,
    /// Until the first job; `None` once it came.
    ready_by: Option<Instant>,
    /// Until when commands wait for company.
    hold: Option<Instant>,
    tended: Instant,
    /// Since when no share is handed on and none is answered.
    stuck: Option<Instant>,
    noticed: Option<Instant>,
    /// When the selector was told last of credit, or would have been.
    told_credit: Instant,
    /// Whether it was told since that the ledger is full.
    told_full: bool,
}

/// A channel that miners use.
struct Channel {
    work: Feed,
    /// Whose it is; `None` if all miners share it.
    miner: Option<Arc<Miner>>,
    told: Told,
    /// Its miner waits for the first word of it.
    is_awaited: bool,
}

/// A connection is given up.
#[derive(Clone, Copy, Debug)]
struct Leaving {
    /// Shares on their way are waited for until then.
    by: Instant,
    /// And later than that if miners still move, but not from then on.
    moved_by: Instant,
}

impl Leaving {
    fn begin(moving: Duration) -> Self {
        let now = Instant::now();
        Self { by: now + LINGER, moved_by: now + moving }
    }
}

/// A channel that is yet to be asked for.
struct Waiting {
    slot: u64,
    user_identity: String,
    hash_rate: f64,
}

impl Channel {
    /// Its miner does not wait for it any more, be it that it works on by it while it waits for a channel elsewhere; one that has
    /// turned to another upstream waits for a channel there.
    fn answered(&mut self) {
        let was_awaited = std::mem::take(&mut self.is_awaited) && !self.work.is_closed();
        if let Some(miner) = self.miner.as_ref().filter(|_| was_awaited) {
            miner.view().asked = None;
        }
    }
}

impl<'a> Connection<'a> {
    pub(super) fn new(
        index: usize,
        upstream: &'a Upstream,
        common: &'a Common,
        health: &'a Arc<Health>,
        number: u64,
        wire: Wire,
    ) -> Self {
        let ((sender, commands), (offer, offered)) = (mpsc::channel(MAX_COMMANDS), watch::channel(None));
        let (block_sender, blocks) = mpsc::channel(FOR_BLOCKS);
        let (address, users) = (upstream.address.as_str().into(), Arc::new(()));
        Self {
            index,
            upstream,
            common,
            health,
            number,
            is_shared: wire.is_shared(common.mode),
            wire,
            route: Route {
                connection: number,
                index,
                address,
                commands: sender,
                blocks: block_sender,
                shared: None,
                offer: offered,
                users: Arc::downgrade(&users),
            },
            users,
            offer,
            commands,
            blocks,
            channels: HashMap::new(),
            next_slot: SHARED + 1,
            waiting: VecDeque::new(),
            room: Room::default(),
            shares: HashMap::new(),
            next_ticket: 0,
            ready_by: Some(Instant::now() + FIRST_JOB),
            hold: None,
            tended: Instant::now(),
            stuck: None,
            noticed: None,
            told_credit: Instant::now(),
            told_full: false,
        }
    }

    /// Opens the shared channel, or one to see whether miners can have theirs.
    pub(super) fn begin(&mut self) -> anyhow::Result<()> {
        if self.is_shared {
            let ((work, shared), hash_rate) = (feed(), hash_rate(self.common));
            self.channels
                .insert(SHARED, Channel { work, miner: None, told: Told(hash_rate), is_awaited: false });
            self.route.shared = Some(shared);
            self.wire.open(SHARED, &self.upstream.user_identity, hash_rate);
        } else {
            self.probe();
        }
        self.wire.send()
    }

    /// Opens a channel that no miner uses.
    fn probe(&mut self) {
        self.wire.open(SHARED, &self.upstream.user_identity, self.common.hash_rate);
    }

    pub(super) async fn run(&mut self, wanted: &mut watch::Receiver<bool>) -> anyhow::Result<()> {
        let mut leaving = (!*wanted.borrow_and_update()).then(|| Leaving::begin(MOVING));
        let mut ends = false; // and nobody can want it again
        loop {
            let timeout = self.wire.poll_timeout();
            let takes = self.hold.is_none() && !self.is_full();
            let takes_blocks = self.wire.in_flight() < self.wire.max_in_flight() + FOR_BLOCKS;
            tokio::select! {
                arrived = self.wire.arrived() => {
                    if let Err(error) = arrived.and_then(|arrived| self.wire.take(now(), arrived)) {
                        return self.last_words(error).await;
                    }
                }
                Some(block) = self.blocks.recv(), if takes_blocks => self.hand_in(block),
                Some(command) = self.commands.recv(), if takes => self.commanded(command),
                () = wait_until(self.hold) => self.hold = None,
                () = tokio::time::sleep_until(timeout.into()) => {
                    self.wire.handle_timeout(now());
                    self.tend()?;
                }
                changed = wanted.changed(), if !ends => {
                    ends = changed.is_err();
                    let is_wanted = !ends && *wanted.borrow_and_update();
                    leaving = (!is_wanted).then(|| Leaving::begin(if ends { Duration::ZERO } else { MOVING }));
                    // It was not wanted for a while, and whoever knew that it is ready has forgotten.
                    if is_wanted && self.ready_by.is_none() {
                        self.ready().await?;
                    }
                }
                () = self.common.shutdown.cancelled(), if !ends => {
                    (ends, leaving) = (true, Some(Leaving::begin(Duration::ZERO)));
                }
            }
            self.handle_events().await?;
            if let Err(error) = self.wire.send() {
                return self.last_words(error).await;
            }
            if let Some(leaving) = &mut leaving
                && self.has_left(leaving)
            {
                return Ok(());
            }
        }
    }

    /// Whether nobody is here any more, or all have had their time.
    fn has_left(&self, leaving: &mut Leaving) -> bool {
        let now = Instant::now();
        if now < leaving.moved_by && Arc::strong_count(&self.users) > 1 {
            leaving.by = now + LINGER;
            return false;
        }
        let is_idle = self.commands.is_empty() && self.blocks.is_empty() && self.wire.in_flight() == 0;
        leaving.by <= now || is_idle
    }

    /// The connection has ended with this error. What the server said before counts all the same, and it may have said why it ends.
    async fn last_words(&mut self, error: anyhow::Error) -> anyhow::Result<()> {
        let _ = self.wire.take_rest(now()); // the first error is the one that says what is wrong
        self.handle_events().await?;
        Err(error)
    }

    /// Takes what waits, so that it leaves in one write.
    fn commanded(&mut self, first: Command) {
        self.command(first);
        let mut more = 0;
        while more < MAX_AT_ONCE
            && !self.is_full()
            && let Ok(command) = self.commands.try_recv()
        {
            self.command(command);
            more += 1;
        }
        self.hold = (more < MANY).then(|| Instant::now() + TOGETHER);
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Share(share) => self.hand_in(share),
            Command::Open { worker, hash_rate, miner, work } => {
                let slot = self.next_slot;
                self.next_slot += 1;
                miner.view().asked = Some(Instant::now());
                self.channels.insert(
                    slot,
                    Channel { work, miner: Some(miner), told: Told(hash_rate), is_awaited: true },
                );
                // An identity has none, where hubs and pools look at it at all.
                let worker = worker.replace(|c: char| c.is_whitespace() || c.is_control(), "_");
                let user_identity = format!("{}.{worker}", self.upstream.user_identity);
                self.waiting.push_back(Waiting { slot, user_identity, hash_rate });
            }
        }
    }

    /// Asks for channels that miners wait for, unless there is no room for more.
    fn open_waiting(&mut self) {
        while self.wire.opening() < MAX_OPENING
            && let Some(Waiting { slot, user_identity, hash_rate }) = self.waiting.pop_front()
        {
            if self.channels.get(&slot).is_none_or(|channel| channel.work.is_closed()) {
                continue; // the miner has left
            }
            if self.room.take(Instant::now()) {
                self.wire.open(slot, &user_identity, hash_rate);
            } else {
                self.give_up(slot, EXHAUSTED);
            }
        }
    }

    /// A miner gets no channel, and asks again after a pause.
    fn give_up(&mut self, slot: u64, reason: &str) {
        if let Some(mut channel) = self.channels.remove(&slot) {
            channel.answered();
        }
        self.health.refused(reason);
    }

    fn hand_in(&mut self, share: ShareOut) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        if share.share.is_block {
            self.common.farm.block_found(&share.share, &self.upstream.address);
        }
        self.common.farm.totals.in_flight.fetch_add(1, Ordering::Relaxed);
        self.wire.submit(now(), &share.share, ticket);
        self.shares.insert(ticket, share);
    }

    async fn handle_events(&mut self) -> anyhow::Result<()> {
        while let Some(event) = self.wire.poll_event() {
            match event {
                Event::Work { slot, work, is_new } => self.work(slot, work, is_new).await?,
                Event::Closed { slot, reason } => self.closed(slot, &reason)?,
                Event::Answered { ticket, outcome } => self.answered(ticket, outcome),
                Event::Reconnect(moved) => return Err(moved.into()),
                Event::Notice(text) => self.notice(&text),
                Event::Full => self.full(),
                Event::Hangs => return Err(Hangs.into()),
            }
        }
        self.open_waiting();
        self.health.counts(self.wire.channels(), self.wire.in_flight());
        Ok(())
    }

    async fn work(&mut self, slot: u64, work: Option<Arc<Work>>, is_new: bool) -> anyhow::Result<()> {
        if let Some(work) = &work {
            self.health.work(work);
            let new = Some(Offer::of(work));
            self.offer.send_if_modified(|offer| std::mem::replace(offer, new) != new);
        } else if self.is_shared {
            self.health.no_work();
        }
        match self.channels.get_mut(&slot) {
            Some(channel) => {
                channel.answered();
                channel.work.send(work, is_new).await;
            }
            None if slot == SHARED => self.wire.close(SHARED),
            None => {}
        }
        if is_new {
            self.common.farm.job_made(self.number);
        }
        if self.ready_by.is_some() { self.ready().await } else { Ok(()) }
    }

    async fn ready(&mut self) -> anyhow::Result<()> {
        self.ready_by = None;
        self.health.set(State::Standby);
        let report = Report::Ready(self.index, self.route.clone());
        self.common.reports.send(report).await.context("the selector has ended")
    }

    fn closed(&mut self, slot: u64, reason: &str) -> anyhow::Result<()> {
        if slot == SHARED {
            bail!("the upstream gives no channel: {reason}");
        }
        // As often as miners ask: the page shows the last, the log need not have them all.
        tracing::debug!(upstream = %self.upstream.address, "no channel for a miner: {reason}");
        self.give_up(slot, reason);
        if reason == EXHAUSTED && self.room.refused(Instant::now()) {
            tracing::warn!(
                upstream = %self.upstream.address,
                channels = self.wire.channels(),
                "it has no room for more channels: miners are without work. Raise max_channels_per_connection or max_channels of that sluice-hub, or set mode = \"aggregated\""
            );
        }
        // Either this miner cannot have a channel here or nobody can: then the next upstream is better.
        if self.wire.is_unused() {
            self.probe();
        }
        Ok(())
    }

    /// Whatever a pool wants to be read, now and then.
    fn notice(&mut self, text: &str) {
        if self.noticed.is_none_or(|noticed| noticed.elapsed() >= NOTICE) {
            self.noticed = Some(Instant::now());
            tracing::info!(upstream = %self.upstream.address, "{text}");
        }
    }

    fn answered(&mut self, ticket: u64, outcome: Outcome) {
        let Some(share) = self.shares.remove(&ticket) else { return };
        self.stuck = None;
        self.health.answered();
        self.common.farm.totals.in_flight.fetch_sub(1, Ordering::Relaxed);
        if share.share.is_block {
            self.block_answered(&share.share, &outcome);
        }
        match &outcome {
            Outcome::Accepted => {
                share.totals.credit(mining::Work::from_target(share.share.work.job.target()));
                share.miner.credited.fetch_add(1, Ordering::Relaxed);
                self.credited();
            }
            Outcome::Rejected(code) => {
                share.totals.refused.add(1);
                tracing::debug!(upstream = %self.upstream.address, worker = %share.share.worker, code, "share refused");
            }
            Outcome::Lost => share.unanswered(),
        }
        share.tell(outcome);
    }

    /// What the upstream says of a block's share, which need not be what it does with the block. That it says nothing is logged by
    /// [`ShareOut::unanswered`].
    fn block_answered(&self, share: &UpstreamShare, outcome: &Outcome) {
        let (upstream, UpstreamShare { worker, hash, .. }) = (&self.upstream.address, share);
        match outcome {
            Outcome::Accepted => {
                tracing::info!(%upstream, %worker, %hash, "the upstream credits a block's share")
            }
            Outcome::Rejected(code) => {
                let (header, coinbase) = share.solution();
                tracing::error!(%upstream, %worker, %hash, code, header, coinbase, "the upstream refuses a block's share");
            }
            Outcome::Lost => {}
        }
    }

    /// A report for which the selector has no room comes again.
    fn full(&mut self) {
        if !std::mem::replace(&mut self.told_full, true) {
            tracing::warn!(upstream = %self.upstream.address, "its ledger is full: shares get no credit");
        }
        self.health.full();
        let _ = self.common.reports.try_send(Report::Full(self.index));
    }

    /// As [`Self::full`].
    fn credited(&mut self) {
        if std::mem::take(&mut self.told_full) || self.told_credit.elapsed() >= CREDITED {
            self.told_credit = Instant::now();
            let _ = self.common.reports.try_send(Report::Credited(self.index));
        }
    }

    /// Tells everybody whose share has no answer yet that it is lost, also whose share is being handed on in this moment: a miner's
    /// task that found room in the queue before it was closed still puts its share there.
    pub(super) async fn end(&mut self) {
        self.wire.end();
        while let Some(event) = self.wire.poll_event() {
            if let Event::Answered { ticket, outcome } = event {
                self.answered(ticket, outcome);
            }
        }
        self.commands.close();
        self.blocks.close();
        // Ends when nobody has room any more.
        while let Some(command) = self.commands.recv().await {
            if let Command::Share(share) = command {
                share.lost();
            }
        }
        while let Some(share) = self.blocks.recv().await {
            share.lost();
        }
    }

    /// Looks after what no message brings up: channels that nobody uses, the hash rate, a server without jobs or answers.
    fn tend(&mut self) -> anyhow::Result<()> {
        if self.ready_by.is_some_and(|by| by <= Instant::now()) {
            bail!("no job within {} seconds", FIRST_JOB.as_secs());
        }
        if self.is_full() && self.stuck.get_or_insert_with(Instant::now).elapsed() >= STUCK {
            return Err(Hangs.into());
        }
        if self.tended.elapsed() < TEND {
            return Ok(());
        }
        self.tended = Instant::now();
        // The shared feed is the route's as well, so it is never among these.
        for (slot, _) in self.channels.extract_if(|_, channel| channel.work.is_closed()) {
            if self.wire.is_open(slot) {
                self.room.closed();
            }
            self.wire.close(slot);
        }
        self.waiting.retain(|waiting| self.channels.contains_key(&waiting.slot));
        self.tell_hash_rates();
        Ok(())
    }

    /// Tells the upstream of channels whose hash rate is another by now.
    fn tell_hash_rates(&mut self) {
        for (slot, channel) in &mut self.channels {
            let now = match &channel.miner {
                Some(miner) => HashRate::of(miner),
                None => HashRate::known(hash_rate(self.common)),
            };
            if let Some(news) = channel.told.news(now)
                && self.wire.update(*slot, news)
            {
                channel.told = Told(news);
            }
        }
    }

    /// Whether so many shares have no answer that no more are handed on: they wait with the miners.
    fn is_full(&self) -> bool {
        self.wire.in_flight() >= self.wire.max_in_flight()
    }
}

/// Of all miners together, at least one's.
fn hash_rate(common: &Common) -> f64 {
    let estimate = common.farm.hash_rate();
    if estimate > 0.0 { estimate } else { common.hash_rate }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::{Admission, Mode, Pool, Protocol, Transport};
    use crate::farm::{Farm, Seat};
    use crate::testing::{Log, Server, easiest, start};
    use crate::totals::WorkerTotals;
    use crate::upstream::moved::Moved;
    use crate::work::Rolled;
    use bitcoin::hashes::Hash as _;
    use link::{AuthorityKey, Client, Device, Frame, Limits, Link};
    use serde_json::{Value, json};
    use service::{Counters, Secret};
    use socket2::SockRef;
    use std::path::Path;
    use stratum_core::common_messages_sv2::{Protocol as Sv2Protocol, ReconnectOwned};
    use stratum_core::mining_sv2::SubmitSharesSuccess;
    use stratum_core::parsers_sv2::{CommonMessagesOwned, MiningOwned};
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::{TcpListener, TcpStream};

    const JOB: &str = r#"{"id":null,"method":"mining.notify","params":["1","03020100070605040b0a09080f0e0d0c13121110171615141b1a19181f1e1d1c","01","02",[],"20000000","207fffff","684ee180",true]}"#;

    /// A pool that answers shares only when it has been handed so many.
    async fn slow_pool(stream: TcpStream, shares: usize) {
        let (read, mut write) = stream.into_split();
        let (mut lines, mut unanswered, mut seen) = (BufReader::new(read).lines(), Vec::new(), 0);
        while let Some(line) = lines.next_line().await.unwrap() {
            let line: Value = serde_json::from_str(&line).unwrap();
            let answer = |id: &Value, result: Value| {
                format!("{}\n", json!({"id": id, "result": result, "error": null}))
            };
            let mut text = String::new();
            match line["method"].as_str().unwrap() {
                "mining.subscribe" => text = answer(&line["id"], json!([[], "1eab6568", 8])),
                "mining.authorize" => text = format!("{}{JOB}\n", answer(&line["id"], json!(true))),
                "mining.submit" => {
                    seen += 1;
                    unanswered.push(line["id"].clone());
                }
                _ => {}
            }
            if seen >= shares {
                text.extend(unanswered.drain(..).map(|id| answer(&id, json!(true))));
            }
            write.write_all(text.as_bytes()).await.unwrap();
        }
    }

    fn common(farm: Arc<Farm>, reports: mpsc::Sender<Report>) -> Common {
        Common {
            farm,
            mode: Mode::Aggregated,
            extranonce2: 4,
            hash_rate: 1e12,
            repeat_jobs: Duration::from_secs(55),
            retry: Duration::from_secs(1),
            connections: Arc::default(),
            job_ids: Arc::default(),
            reports,
            shutdown: tokio_util::sync::CancellationToken::new(),
        }
    }

    fn upstream(port: u16) -> Upstream {
        let (host, password) = ("127.0.0.1".to_owned(), Secret::new("x"));
        let pool = Pool { host, port, transport: Transport::Plain, password };
        let address = format!("stratum+tcp://127.0.0.1:{port}");
        Upstream { address, user_identity: "farm".into(), protocol: Protocol::Sv1(pool) }
    }

    fn farm(data: &Path) -> Arc<Farm> {
        let admission = Admission { max_connections: 1, max_connections_per_address: 1 };
        Arc::new(Farm::new(
            admission,
            std::time::Duration::from_secs(3),
            &Counters::open("test", data).unwrap(),
        ))
    }

    /// On which tests hand in shares.
    struct Miner {
        seat: Seat,
        totals: Arc<WorkerTotals>,
        answers: mpsc::Sender<(u32, Outcome)>,
    }

    impl Miner {
        fn new(farm: &Arc<Farm>, answers: mpsc::Sender<(u32, Outcome)>) -> Self {
            let seat = farm.admit("127.0.0.1:1".parse().unwrap()).unwrap();
            Self { seat, totals: farm.totals.worker(&"ann".into()), answers }
        }

        fn share(&self, work: &Arc<Work>, tag: u32, is_block: bool) -> ShareOut {
            let (extranonce, version) = (work.padded(&[]), work.job.version());
            let rolled = Rolled { extranonce, version, ntime: work.ntime, nonce: tag };
            let hash = bitcoin::BlockHash::all_zeros();
            let share =
                UpstreamShare { tag, worker: "ann".into(), work: work.clone(), rolled, hash, is_block };
            let (totals, answers) = (self.totals.clone(), self.answers.clone());
            let (miner, until) = (self.seat.miner.clone(), Instant::now() + Duration::from_secs(60));
            ShareOut { share: Box::new(share), totals, miner, answers, until }
        }
    }

    /// A link whose other end has room for little, and that reads nothing while something is unsent.
    async fn narrow_link() -> (Link, Link) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        SockRef::from(&listener).set_recv_buffer_size(4096).unwrap();
        let authority = AuthorityKey::generate(&mut rand::thread_rng());
        let client = Client {
            authority: Some(authority.public()),
            protocol: Sv2Protocol::MiningProtocol,
            flags: 0,
            device: Device::default(),
            extensions: vec![],
            limits: Limits { max_unread: 0, ..Limits::default() },
        };
        let server = link::Server {
            authority,
            certificate_validity: Duration::from_secs(3600),
            protocol: Sv2Protocol::MiningProtocol,
            supported_flags: 0,
            flags: 0,
            extensions: vec![],
            limits: Limits::default(),
        };
        let (socket, server) =
            (TcpStream::connect(listener.local_addr().unwrap()).await.unwrap(), Arc::new(server));
        SockRef::from(&socket).set_send_buffer_size(4096).unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let (ours, theirs) =
            tokio::join!(Link::connect_on(socket, "127.0.0.1", &client), Link::accept(accepted, &server));
        (ours.unwrap(), theirs.unwrap())
    }

    /// The first that is reported to be ready, and its work.
    async fn ready(reported: &mut mpsc::Receiver<Report>) -> (Route, Arc<Work>) {
        let Some(Report::Ready(_, route)) = reported.recv().await else { panic!("not ready") };
        let mut shared = route.shared.clone().unwrap();
        let work = shared.newest.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        (route, work)
    }

    #[tokio::test]
    async fn who_was_not_wanted_for_a_moment_says_again_that_it_is_ready() {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = upstream(listener.local_addr().unwrap().port());
        let (reports, mut reported) = mpsc::channel(1);
        let common = common(farm(dir.path()), reports);
        let health = Arc::new(Health::new(0, &upstream.address));
        let wire = Wire::connect(&upstream, &upstream.address, &common, 1, &[]).await.unwrap();
        let mut connection = Connection::new(0, &upstream, &common, &health, 1, wire);
        connection.begin().unwrap();
        let (wants, mut wanted) = watch::channel(true);
        let selector = async {
            let Some(Report::Ready(..)) = reported.recv().await else { panic!("not ready") };
            // Nothing else runs in between.
            wants.send(false).unwrap();
            wants.send(true).unwrap();
            let again = tokio::time::timeout(FIRST_JOB, reported.recv()).await;
            assert!(matches!(again, Ok(Some(Report::Ready(..)))), "{again:?}");
        };
        let (stream, _) = listener.accept().await.unwrap();
        tokio::select! {
            end = connection.run(&mut wanted) => panic!("{end:?}"),
            () = slow_pool(stream, 1) => panic!("the connection is closed"),
            () = selector => {}
        }
    }

    #[tokio::test]
    async fn shares_wait_while_a_pool_owes_many_answers_but_for_a_block_and_none_is_lost() {
        const SHARES: u32 = 5000;
        let dir = tempfile::tempdir().unwrap();
        let farm = farm(dir.path());
        let (answers, mut answered) = mpsc::channel(SHARES as usize + 1);
        let ann = Miner::new(&farm, answers);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = upstream(listener.local_addr().unwrap().port());
        let (reports, mut reported) = mpsc::channel(1);
        let (common, health) = (common(farm.clone(), reports), Arc::new(Health::new(0, &upstream.address)));
        let wire = Wire::connect(&upstream, &upstream.address, &common, 1, &[]).await.unwrap();
        let most = wire.max_in_flight();
        let mut connection = Connection::new(0, &upstream, &common, &health, 1, wire);
        connection.begin().unwrap();
        let (_wanted, mut wanted) = watch::channel(true);
        let miner = async {
            let (route, work) = ready(&mut reported).await;
            for tag in 0..SHARES {
                route.commands.send(Command::Share(ann.share(&work, tag, false))).await.unwrap();
            }
            // The pool says nothing before it has this one as well.
            assert!(route.try_block(ann.share(&work, SHARES, true)).is_ok());
            for _ in 0..=SHARES {
                assert_eq!(answered.recv().await.unwrap().1, Outcome::Accepted);
            }
        };
        let (stream, _) = listener.accept().await.unwrap();
        tokio::select! {
            end = connection.run(&mut wanted) => panic!("{end:?}"),
            () = slow_pool(stream, most + 1) => panic!("the connection is closed"),
            () = miner => {}
        }
        let totals = &ann.totals;
        assert_eq!((totals.credited.value(), totals.unanswered.value()), ((SHARES + 1).into(), 0));
    }

    #[tokio::test]
    async fn a_connection_serves_miners_until_they_have_moved_and_longer_if_it_is_wanted_again() {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = upstream(listener.local_addr().unwrap().port());
        let (reports, mut reported) = mpsc::channel(1);
        let common = common(farm(dir.path()), reports);
        let health = Arc::new(Health::new(0, &upstream.address));
        let wire = Wire::connect(&upstream, &upstream.address, &common, 1, &[]).await.unwrap();
        let mut connection = Connection::new(0, &upstream, &common, &health, 1, wire);
        connection.begin().unwrap();
        let (wants, mut wanted) = watch::channel(true);
        let miner = async {
            let user = ready(&mut reported).await.0.users.upgrade();
            wants.send(false).unwrap();
            for _ in 0..2 {
                tokio::task::yield_now().await; // the connection has its turn, whoever is first
            }
            wants.send(true).unwrap();
            tokio::time::timeout(FIRST_JOB, ready(&mut reported)).await.unwrap();
            wants.send(false).unwrap();
            drop(user);
        };
        let (stream, _) = listener.accept().await.unwrap();
        let served = async { tokio::join!(connection.run(&mut wanted), miner) };
        tokio::select! {
            (end, ()) = served => end.unwrap(),
            () = slow_pool(stream, 1) => panic!("the connection is closed"),
        }
    }

    /// As where it restarts while a line is slow.
    #[tokio::test]
    async fn what_a_server_said_last_counts_though_it_went_without_reading_all_that_it_was_sent() {
        const SHARES: u32 = 1000;
        let dir = tempfile::tempdir().unwrap();
        let farm = farm(dir.path());
        let (answers, mut answered) = mpsc::channel(8);
        let ann = Miner::new(&farm, answers);
        let (ours, mut hub) = narrow_link().await;
        let mut server = Server::new(start(), 1);
        let channel_id = server.open(start(), SHARED, easiest(), 16);
        server.job(start(), Some(1), true);
        let wire = Wire::Sv2 { link: Box::new(ours), trunk: Box::new(server.trunk) };
        let (reports, mut reported) = mpsc::channel(1);
        let (upstream, health) = (upstream(1), Arc::new(Health::new(0, "hub")));
        let common = common(farm.clone(), reports);
        let mut connection = Connection::new(0, &upstream, &common, &health, 1, wire);
        connection.begin().unwrap();
        connection.handle_events().await.unwrap();
        let (route, work) = ready(&mut reported).await;
        let (_wanted, mut wanted) = watch::channel(true);
        let goes = async {
            for tag in 0..SHARES {
                route.commands.send(Command::Share(ann.share(&work, tag, false))).await.unwrap();
            }
            while farm.totals.in_flight.load(Ordering::Relaxed) < u64::from(SHARES) {
                tokio::task::yield_now().await;
            }
            let success = SubmitSharesSuccess {
                channel_id,
                last_sequence_number: 1,
                new_submits_accepted_count: 1,
                new_shares_sum: 1,
            };
            let to = ReconnectOwned { new_host: String::new().try_into().unwrap(), new_port: 0 };
            hub.queue(&Frame::message(MiningOwned::SubmitSharesSuccess(success)).unwrap()).unwrap();
            hub.queue(&Frame::message(CommonMessagesOwned::Reconnect(to)).unwrap()).unwrap();
            hub.flush().await.unwrap();
            drop(hub);
        };
        let (end, ()) = tokio::join!(connection.run(&mut wanted), goes);
        let end = end.unwrap_err();
        assert!(end.is::<Moved>(), "{end:#}");
        assert_eq!(answered.try_recv().unwrap(), (0, Outcome::Accepted));
    }

    #[tokio::test]
    async fn what_became_of_a_block_is_logged_and_all_that_it_takes_to_hand_it_in_by_hand_if_it_has_no_credit()
     {
        let log = Log::default();
        let _logs = tracing::subscriber::set_default(log.clone());
        let dir = tempfile::tempdir().unwrap();
        let farm = farm(dir.path());
        let ann = Miner::new(&farm, mpsc::channel(8).0);
        let (ours, _hub) = narrow_link().await;
        let mut server = Server::new(start(), 1);
        server.open(start(), SHARED, easiest(), 16);
        server.job(start(), Some(1), true);
        let wire = Wire::Sv2 { link: Box::new(ours), trunk: Box::new(server.trunk) };
        let (reports, mut reported) = mpsc::channel(1);
        let (upstream, health) = (upstream(1), Arc::new(Health::new(0, "hub")));
        let common = common(farm, reports);
        let mut connection = Connection::new(0, &upstream, &common, &health, 1, wire);
        connection.begin().unwrap();
        connection.handle_events().await.unwrap();
        let (_, work) = ready(&mut reported).await;
        let outcomes = [Outcome::Accepted, Outcome::Rejected("stale-share".into()), Outcome::Lost];
        for (tag, outcome) in (0..).zip(outcomes) {
            let share = ann.share(&work, tag, true);
            let (header, coinbase) = share.share.solution();
            let is_credited = outcome == Outcome::Accepted;
            connection.hand_in(share);
            connection.answered(tag.into(), outcome);
            assert_eq!(log.says(&header) && log.says(&coinbase), !is_credited, "{log:?}");
        }
        for said in
            ["credits a block's share", "code=\"stale-share\"", "no upstream has answered for a block"]
        {
            assert!(log.says(said), "{said}: {log:?}");
        }
    }

    #[tokio::test]
    async fn answers_that_nobody_waits_for_any_more_leave_room_for_those_that_somebody_does() {
        let dir = tempfile::tempdir().unwrap();
        let farm = farm(dir.path());
        let (answers, mut answered) = mpsc::channel(1);
        let ann = Miner::new(&farm, answers);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = upstream(listener.local_addr().unwrap().port());
        let (reports, mut reported) = mpsc::channel(1);
        let (common, health) = (common(farm, reports), Arc::new(Health::new(0, &upstream.address)));
        let wire = Wire::connect(&upstream, &upstream.address, &common, 1, &[]).await.unwrap();
        let mut connection = Connection::new(0, &upstream, &common, &health, 1, wire);
        connection.begin().unwrap();
        let (_wanted, mut wanted) = watch::channel(true);
        let miner = async {
            let (route, work) = ready(&mut reported).await;
            let told = ShareOut { until: Instant::now(), ..ann.share(&work, 0, false) };
            for share in [told, ann.share(&work, 1, false)] {
                route.commands.send(Command::Share(share)).await.unwrap();
            }
            assert_eq!(answered.recv().await.unwrap(), (1, Outcome::Accepted));
        };
        let (stream, _) = listener.accept().await.unwrap();
        tokio::select! {
            end = connection.run(&mut wanted) => panic!("{end:?}"),
            () = slow_pool(stream, 2) => panic!("the connection is closed"),
            () = miner => {}
        }
        assert_eq!(ann.totals.credited.value(), 2, "both are credited");
    }

    #[tokio::test]
    async fn a_share_for_which_there_was_room_when_the_connection_ended_has_its_answer_and_is_counted_once() {
        let dir = tempfile::tempdir().unwrap();
        let farm = farm(dir.path());
        let (answers, mut answered) = mpsc::channel(8);
        let ann = Miner::new(&farm, answers);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = upstream(listener.local_addr().unwrap().port());
        let (reports, mut reported) = mpsc::channel(1);
        let (common, health) = (common(farm, reports), Arc::new(Health::new(0, &upstream.address)));
        let wire = Wire::connect(&upstream, &upstream.address, &common, 1, &[]).await.unwrap();
        let mut connection = Connection::new(0, &upstream, &common, &health, 1, wire);
        connection.begin().unwrap();
        let (_wanted, mut wanted) = watch::channel(true);
        let (stream, _) = listener.accept().await.unwrap();
        let (route, work) = tokio::select! {
            end = connection.run(&mut wanted) => panic!("{end:?}"),
            () = slow_pool(stream, 1) => panic!("the connection is closed"),
            begun = ready(&mut reported) => begun,
        };
        route.commands.send(Command::Share(ann.share(&work, 0, false))).await.unwrap();
        let (room, for_block) = tokio::try_join!(route.commands.reserve(), route.blocks.reserve()).unwrap();
        let hand_on = async {
            room.send(Command::Share(ann.share(&work, 1, false)));
            for_block.send(ann.share(&work, 2, true));
        };
        tokio::join!(connection.end(), hand_on);
        let all: Vec<_> = std::iter::from_fn(|| answered.try_recv().ok()).collect();
        assert_eq!(all, [0, 1, 2].map(|tag| (tag, Outcome::Lost)));
        assert_eq!(ann.totals.unanswered.value(), 3);
        let late = route.commands.send(Command::Share(ann.share(&work, 3, false))).await;
        assert!(late.is_err(), "its miner is told by the task that hands it on");
    }
}
