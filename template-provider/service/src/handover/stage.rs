//! What a program's tasks know of a hand-over: whether one is under way, what they may give to it, when they have to go.

use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::line::{MAX_FILES, MAX_PACKET};

/// Connections a second that are asked to come back, when there are many.
const A_SECOND: usize = 2_000;
/// No connection waits longer for its turn to leave.
const LONGEST: Duration = Duration::from_secs(20);
/// Parcels that wait to be sent.
const QUEUE: usize = 64;

/// A session that a successor can go on with.
#[derive(Debug)]
pub struct Parcel {
    /// All that the program must know of it; the program's own format, versioned by it.
    pub state: Value,
    /// Its connection.
    pub socket: OwnedFd,
}

impl Parcel {
    /// A session on this connection.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(state: Value, socket: tokio::net::TcpStream) -> std::io::Result<Self> {
        Ok(Self { state, socket: socket.into_std()?.into() })
    }

    /// Its connection, for the runtime of this process.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(self) -> std::io::Result<(Value, tokio::net::TcpStream)> {
        let socket = TcpStream::from(self.socket);
        socket.set_nonblocking(true)?;
        Ok((self.state, tokio::net::TcpStream::from_std(socket)?))
    }
}

/// Where this process is.
#[derive(Clone, Debug)]
pub(crate) enum Stage {
    Serving,
    /// A successor is ready.
    Departing(Departure),
    /// A successor serves; who is still here goes within this time.
    Left(Duration),
}

/// Tells a task of a hand-over. Cheap to clone: one for each task.
#[derive(Clone, Debug)]
pub struct Succession {
    stage: watch::Receiver<Stage>,
    /// The departure that was told last.
    told: u64,
    turn: Option<Instant>,
}

/// What a task has to do.
#[derive(Debug)]
pub enum Call {
    /// Stand still, and give what can be carried to the departure.
    Depart(Departure),
    /// A successor serves, and it is this task's turn: ask the peer to connect again, and end. Turns are spread, so that
    /// not all peers come back at the same moment.
    Leave,
}

pub(crate) fn stages() -> (watch::Sender<Stage>, Succession) {
    let (sender, stage) = watch::channel(Stage::Serving);
    (sender, Succession { stage, told: 0, turn: None })
}

impl Succession {
    /// Waits for the next [`Call`]; each departure is told once. Cancel-safe.
    pub async fn call(&mut self) -> Call {
        loop {
            match &*self.stage.borrow_and_update() {
                Stage::Serving => {}
                Stage::Departing(departure) if departure.id == self.told => {}
                Stage::Departing(departure) => {
                    self.told = departure.id;
                    return Call::Depart(departure.clone());
                }
                Stage::Left(spread) => {
                    self.turn.get_or_insert_with(|| Instant::now() + spread.mul_f64(rand::random()));
                }
            }
            if let Some(turn) = self.turn {
                tokio::time::sleep_until(turn.into()).await;
                return Call::Leave;
            }
            if self.stage.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Whether a successor serves.
    #[must_use]
    pub fn has_left(&self) -> bool {
        matches!(*self.stage.borrow(), Stage::Left(_))
    }
}

/// A hand-over that is under way.
#[derive(Clone, Debug)]
pub struct Departure {
    id: u64,
    parcels: mpsc::Sender<Sealed>,
    shared: Arc<Shared>,
    settled: watch::Receiver<Option<bool>>,
}

/// A session that was given away.
#[derive(Debug)]
pub struct Given(Result<oneshot::Receiver<Parcel>, Parcel>);

impl Given {
    /// Waits until the hand-over is settled. Once it is taken, drop what is left of the session without a word to the peer.
    ///
    /// # Errors
    /// The parcel, if the successor did not take it: go on with it.
    pub async fn taken(self) -> Result<(), Parcel> {
        match self.0 {
            Ok(returned) => returned.await.map_or(Ok(()), Err),
            Err(parcel) => Err(parcel),
        }
    }
}

/// What program and service tell each other of one departure.
#[derive(Debug)]
pub(super) struct Shared {
    /// How many connections stay when everything has been given.
    finished: watch::Sender<Option<usize>>,
    released: Notify,
}

/// A parcel, and whom it goes back to if it is not taken.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) parcel: Parcel,
    pub(super) back: oneshot::Sender<Parcel>,
}

/// The service's end of a [`Departure`].
#[derive(Debug)]
pub(super) struct Docket {
    parcels: mpsc::Receiver<Sealed>,
    /// Did not fit the last batch.
    held: Option<Sealed>,
    pub(super) settled: watch::Sender<Option<bool>>,
    shared: Arc<Shared>,
}

impl Departure {
    pub(super) fn new(id: u64) -> (Self, Docket) {
        let (sender, parcels) = mpsc::channel(QUEUE);
        let (settle, settled) = watch::channel(None);
        let shared = Arc::new(Shared { finished: watch::Sender::new(None), released: Notify::new() });
        let departure = Self { id, parcels: sender, shared: Arc::clone(&shared), settled };
        (departure, Docket { parcels, held: None, settled: settle, shared })
    }

    /// Gives a session away; returns when it is under way, and [`Given::taken`] says what became of it.
    pub async fn carry(&self, parcel: Parcel) -> Given {
        let (back, returned) = oneshot::channel();
        match self.parcels.send(Sealed { parcel, back }).await {
            Ok(()) => Given(Ok(returned)),
            Err(refused) => Given(Err(refused.0.parcel)),
        }
    }

    /// Everything stands still, and all that can be carried was given; `staying` connections will be asked to connect again.
    /// Said once, by the program.
    pub fn finish(&self, staying: usize) {
        self.shared.finished.send_replace(Some(staying));
    }

    /// Waits until it is settled: true if the successor serves now. Then the program lets go of what it has in the data
    /// directory and says [`Self::released`].
    pub async fn settled(&mut self) -> bool {
        let settled = self.settled.wait_for(Option::is_some).await;
        settled.is_ok_and(|settled| *settled == Some(true))
    }

    /// Whether it is settled by now, whichever way.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.settled.borrow().is_some()
    }

    /// The program has nothing open in the data directory any more.
    pub fn released(&self) {
        self.shared.released.notify_one();
    }
}

impl Docket {
    /// The next parcels that fit a packet; none when the program has finished. Cancel-safe: it waits only while it holds none.
    pub(super) async fn batch(&mut self) -> Vec<Sealed> {
        let (mut batch, mut size) = (Vec::new(), 0);
        while batch.len() < MAX_FILES {
            let next = match self.held.take() {
                Some(held) => Some(held),
                None if batch.is_empty() => self.next().await,
                None => self.parcels.try_recv().ok(),
            };
            let Some(sealed) = next else { break };
            let bytes = sealed.parcel.state.to_string().len();
            if bytes > MAX_PACKET / 2 {
                drop(sealed.back.send(sealed.parcel)); // it stays, and is asked to connect again
                continue;
            }
            size += bytes;
            if size > MAX_PACKET / 2 && !batch.is_empty() {
                self.held = Some(sealed);
                break;
            }
            batch.push(sealed);
        }
        batch
    }

    /// The next parcel; `None` when the program has finished and all were taken.
    async fn next(&mut self) -> Option<Sealed> {
        let mut finished = self.shared.finished.subscribe();
        tokio::select! {
            biased;
            sealed = self.parcels.recv() => sealed,
            _ = finished.wait_for(Option::is_some) => self.parcels.try_recv().ok(),
        }
    }

    /// Gives back what was not sent, and takes no more.
    pub(super) async fn send_back(&mut self) {
        self.parcels.close();
        while let Some(Sealed { parcel, back }) = match self.held.take() {
            Some(held) => Some(held),
            None => self.parcels.recv().await,
        } {
            drop(back.send(parcel));
        }
    }

    /// How long those that stay may take to leave.
    pub(super) fn spread(&self) -> Duration {
        let staying = self.shared.finished.borrow().unwrap_or(0);
        let milliseconds = u64::try_from(staying * 1000 / A_SECOND).unwrap_or(u64::MAX);
        Duration::from_millis(milliseconds).min(LONGEST)
    }

    pub(super) async fn released(&self) {
        self.shared.released.notified().await;
    }
}
