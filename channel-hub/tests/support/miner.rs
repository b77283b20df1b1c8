//! A miner: the mining protocol's client end on a socket, grinding in the test's own task.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use link::{AuthorityPublicKey, Client, Device, Frame, Limits, Link, LinkError};
use mining::client::{Checked, Event, Job, OpenRequest, OpenedChannel, Session};
use mining::share::Choice;
use mining::{Now, Target};
use stratum_core::common_messages_sv2::Protocol;
use tokio::net::TcpSocket;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{DEADLINE, RunningHub};

pub(crate) struct Miner {
    link: Link,
    session: Session,
    nonce: u32,
    /// Leaves in one packet with the next message, behind it.
    pub(crate) behind: Option<Frame>,
}

impl Miner {
    pub(crate) async fn connect(hub: &RunningHub) -> Result<Self, LinkError> {
        Self::connect_to(&hub.place()).await
    }

    pub(crate) async fn connect_to(place: &Place) -> Result<Self, LinkError> {
        let link = connect(place).await?;
        let session = Session::new(link.extensions());
        Ok(Self { link, session, nonce: 0, behind: None })
    }

    /// The bare connection, to say on it what no miner says.
    pub(crate) fn into_link(self) -> Link {
        self.link
    }

    /// Opens an extended channel.
    pub(crate) async fn open(&mut self, user_identity: &str) -> Result<OpenedChannel, String> {
        let request = OpenRequest {
            user_identity,
            nominal_hash_rate: 1.0,
            max_target: Target::from_le_bytes([0xff; 32]),
            min_extranonce_size: 4,
        };
        self.session.open_extended(&request).unwrap();
        self.send().await;
        self.wait(|event| match event {
            Event::Opened(opened) => Some(Ok(opened)),
            Event::OpenFailed { code, .. } => Some(Err(code)),
            _ => None,
        })
        .await
    }

    /// The next job.
    pub(crate) async fn job(&mut self) -> Arc<Job> {
        self.wait(|event| if let Event::Job(job) = event { Some(job) } else { None }).await
    }

    /// Grinds and submits the next share that fits `wanted`; returns its sequence number and what it is.
    pub(crate) async fn submit(
        &mut self,
        job: &Job,
        worker: Option<&str>,
        wanted: impl Fn(&Checked) -> bool,
    ) -> (u32, Checked) {
        let found = self.find(job, worker, wanted);
        self.send().await;
        found
    }

    /// Hands in right shares that are no blocks, some thousands a second for as long as they are taken, until `stop`, and reads the
    /// answers meanwhile; then waits for the last ones. The only refusal is that the ledger is full.
    pub(crate) async fn flood(&mut self, job: &Job, stop: &CancellationToken, tally: &Tally) {
        let (mut due, mut open) = (Instant::now(), 0);
        loop {
            while let Some(event) = self.session.poll_event() {
                open -= tally.take(&event);
            }
            let is_over = stop.is_cancelled();
            if is_over && open == 0 {
                return;
            }
            let may_submit = !is_over && self.link.unsent() < MAX_UNSENT && open < MAX_OPEN;
            tokio::select! {
                received = self.link.recv_or_sent() => if let Some(mut received) = received.unwrap() {
                    self.session.handle(now(), &mut received).unwrap();
                },
                () = tokio::time::sleep_until(due.into()), if may_submit => {
                    due = Instant::now() + BETWEEN;
                    for _ in 0..AT_ONCE {
                        self.find(job, None, |share| !share.is_block);
                    }
                    open += AT_ONCE;
                    tally.submitted.fetch_add(AT_ONCE, Ordering::Relaxed);
                    while let Some(frame) = self.session.poll_send() {
                        self.link.queue(&frame).unwrap();
                    }
                    self.link.try_flush().unwrap();
                }
                () = stop.cancelled(), if !is_over => {}
            }
        }
    }

    /// The next share that fits `wanted`, ready to be sent.
    fn find(&mut self, job: &Job, worker: Option<&str>, wanted: impl Fn(&Checked) -> bool) -> (u32, Checked) {
        let extranonce = vec![7; job.extranonce_size()];
        loop {
            self.nonce += 1;
            let ntime = job.tip().min_ntime();
            let choice = Choice { nonce: self.nonce, ntime, version: job.version(), extranonce: &extranonce };
            let Ok(checked) = job.check(&choice, now()) else { continue };
            if checked.is_share && wanted(&checked) {
                let sequence = self.session.submit(job.channel_id(), job.id(), &choice, worker).unwrap();
                return (sequence, checked);
            }
        }
    }

    /// Submits the last share once more.
    pub(crate) async fn submit_again(&mut self, job: &Job) -> u32 {
        let extranonce = vec![7; job.extranonce_size()];
        let ntime = job.tip().min_ntime();
        let choice = Choice { nonce: self.nonce, ntime, version: job.version(), extranonce: &extranonce };
        let sequence = self.session.submit(job.channel_id(), job.id(), &choice, None).unwrap();
        self.send().await;
        sequence
    }

    /// The hub's answer to a share.
    pub(crate) async fn answer(&mut self, sequence: u32) -> Result<(), String> {
        self.wait(|event| match event {
            Event::ShareAccepted { sequence_number, .. } if sequence_number == sequence => Some(Ok(())),
            Event::ShareRejected { sequence_number, code, .. } if sequence_number == sequence => {
                Some(Err(code))
            }
            _ => None,
        })
        .await
    }

    /// The hub's answer to a share, or `None` if it asks to connect again.
    pub(crate) async fn answer_or_call(&mut self, sequence: u32) -> Option<Result<(), String>> {
        self.wait(|event| match event {
            Event::ShareAccepted { sequence_number, .. } if sequence_number == sequence => Some(Some(Ok(()))),
            Event::ShareRejected { sequence_number, code, .. } if sequence_number == sequence => {
                Some(Some(Err(code)))
            }
            Event::Reconnect { .. } => Some(None),
            _ => None,
        })
        .await
    }

    async fn send(&mut self) {
        while let Some(frame) = self.session.poll_send() {
            self.link.queue(&frame).unwrap();
        }
        if let Some(frame) = self.behind.take() {
            self.link.queue(&frame).unwrap();
        }
        self.link.flush().await.unwrap();
    }

    async fn wait<T>(&mut self, wanted: impl Fn(Event) -> Option<T>) -> T {
        let waiting = async {
            loop {
                while let Some(event) = self.session.poll_event() {
                    if let Some(found) = wanted(event) {
                        return found;
                    }
                }
                let mut received = self.link.recv().await.unwrap();
                self.session.handle(now(), &mut received).unwrap();
            }
        };
        timeout(DEADLINE, waiting).await.unwrap()
    }
}

/// Shares that a flood hands in with one write, and the pause after it.
const AT_ONCE: u64 = 16;
const BETWEEN: Duration = Duration::from_millis(8);
/// While so many bytes wait to leave, or shares for their answer, it pauses.
const MAX_UNSENT: usize = 64 * 1024;
const MAX_OPEN: u64 = 16_384;

/// What floods have come to.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) submitted: AtomicU64,
    pub(crate) accepted: AtomicU64,
    /// The ledger was full.
    pub(crate) refused: AtomicU64,
}

impl Tally {
    /// How many shares this is the answer to.
    fn take(&self, event: &Event) -> u64 {
        match event {
            Event::ShareAccepted { .. } => self.accepted.fetch_add(1, Ordering::Relaxed),
            Event::ShareRejected { code, .. } => {
                assert_eq!(code, "ledger-full");
                self.refused.fetch_add(1, Ordering::Relaxed)
            }
            _ => return 0,
        };
        1
    }
}

/// Where a hub listens, and the key that it has to prove.
pub(crate) struct Place {
    pub(crate) address: String,
    pub(crate) authority: AuthorityPublicKey,
}

/// A connection that is set up, and nothing more.
pub(crate) async fn connect(hub: &Place) -> Result<Link, LinkError> {
    Link::connect(&hub.address, &settings(hub, Limits::default())).await
}

/// The same, for one that is not going to read: the system takes little in its place, and it waits for its own bytes to leave
/// for longer than any test.
pub(crate) async fn connect_deaf(hub: &Place) -> Link {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let socket = socket.connect(hub.address.parse().unwrap()).await.unwrap();
    let hour = Duration::from_secs(3600);
    let limits = Limits { write: hour, dead_peer: hour, ..Limits::default() };
    Link::connect_on(socket, "127.0.0.1", &settings(hub, limits)).await.unwrap()
}

fn settings(hub: &Place, limits: Limits) -> Client {
    Client {
        authority: Some(hub.authority),
        protocol: Protocol::MiningProtocol,
        flags: 0,
        device: Device { vendor: "test".into(), firmware: "1.0".into(), ..Device::default() },
        extensions: vec![2],
        limits,
    }
}

fn now() -> Now {
    Now { instant: Instant::now(), unix: link::unix_now() }
}
