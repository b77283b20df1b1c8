//! A Noise handshake costs a server some hundred microseconds: whoever floods it with them must not keep those waiting
//! who are connected, nor those who come.
//!
//! So handshakes take turns: few at a time, at most half of the time of half of the machine's cores, and one
//! [neighbourhood] after the other, however many wait from each. Nobody is refused, and
//! the time that a peer waits for its turn is not counted as its own.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::address::neighbourhood;

/// How far handshakes may get ahead of their share of the time; the runtime's timers are no finer.
const AHEAD: Duration = Duration::from_millis(2);

/// Gives out the turns; one for each listener, or one for all.
#[derive(Debug)]
pub struct Handshakes {
    at_once: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    running: u32,
    /// When the time that handshakes took, doubled, is over.
    due: Instant,
    /// Somebody looks again at `due`.
    asleep: bool,
    queue: Queue<oneshot::Sender<Turn>>,
}

/// Held while a handshake is computed.
#[derive(Debug)]
pub(crate) struct Turn {
    handshakes: Arc<Handshakes>,
    since: Instant,
}

impl Handshakes {
    /// For all cores of this machine.
    pub fn new() -> Arc<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let at_once = u32::try_from(cores / 2).unwrap_or(1).max(1);
        let state = State { running: 0, due: Instant::now(), asleep: false, queue: Queue::default() };
        Arc::new(Self { at_once, state: Mutex::new(state) })
    }

    /// Waits for a turn. Cancelling gives the place up.
    pub(crate) async fn turn(self: &Arc<Self>, address: IpAddr) -> Turn {
        let (sender, receiver) = oneshot::channel();
        self.lock().queue.push(neighbourhood(address), sender);
        self.go_on();
        // The sender is dropped only after it was used.
        receiver.await.unwrap_or_else(|_| Turn { handshakes: Arc::clone(self), since: Instant::now() })
    }

    /// How many wait for a turn.
    pub fn waiting(&self) -> usize {
        self.lock().queue.len()
    }

    /// Gives turns to those who wait, as long as there are any to give.
    fn go_on(self: &Arc<Self>) {
        while let Some(sender) = self.next() {
            let turn = Turn { handshakes: Arc::clone(self), since: Instant::now() };
            if let Err(turn) = sender.send(turn) {
                turn.unused();
            }
        }
    }

    /// Who is next, already counted; `None`: nobody may be now.
    fn next(self: &Arc<Self>) -> Option<oneshot::Sender<Turn>> {
        let mut state = self.lock();
        if state.running >= self.at_once || state.queue.is_empty() {
            return None;
        }
        let now = Instant::now();
        if state.due > now + AHEAD {
            if !std::mem::replace(&mut state.asleep, true) {
                tokio::spawn(Arc::clone(self).wake_at(state.due));
            }
            return None;
        }
        let next = state.queue.pop()?;
        state.running += 1;
        Some(next)
    }

    async fn wake_at(self: Arc<Self>, due: Instant) {
        tokio::time::sleep_until(due.into()).await;
        self.lock().asleep = false;
        self.go_on();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Whoever waited for it has gone.
    fn unused(mut self) {
        self.handshakes.lock().running -= 1;
        self.since = Instant::now();
        std::mem::forget(self);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let now = Instant::now();
        let took = now.saturating_duration_since(self.since);
        let mut state = self.handshakes.lock();
        state.running -= 1;
        state.due = state.due.max(now) + took * 2 / self.handshakes.at_once;
        drop(state);
        self.handshakes.go_on();
    }
}

/// Who waits, one neighbourhood after the other.
#[derive(Debug)]
struct Queue<T> {
    /// Each address that somebody waits from, once.
    addresses: VecDeque<IpAddr>,
    waiting: HashMap<IpAddr, VecDeque<T>>,
    len: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { addresses: VecDeque::new(), waiting: HashMap::new(), len: 0 }
    }
}

impl<T> Queue<T> {
    fn push(&mut self, address: IpAddr, value: T) {
        let waiting = self.waiting.entry(address).or_default();
        if waiting.is_empty() {
            self.addresses.push_back(address);
        }
        waiting.push_back(value);
        self.len += 1;
    }

    fn pop(&mut self) -> Option<T> {
        let address = self.addresses.pop_front()?;
        let waiting = self.waiting.get_mut(&address)?;
        let value = waiting.pop_front()?;
        self.len -= 1;
        if waiting.is_empty() {
            self.waiting.remove(&address);
        } else {
            self.addresses.push_back(address);
        }
        Some(value)
    }

    fn len(&self) -> usize {
        self.len
    }

    fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn addresses_take_turns_however_many_wait_from_each() {
        let mut queue = Queue::default();
        (0..1000).for_each(|n| queue.push(address(1), n));
        queue.push(address(2), 5000);
        queue.push(address(2), 5001);
        queue.push(address(3), 6000);
        let order: Vec<_> = (0..7).map(|_| queue.pop().unwrap()).collect();
        assert_eq!(order, [0, 5000, 6000, 1, 5001, 2, 3]);
        assert_eq!(queue.len(), 996);
        while queue.pop().is_some() {}
        assert!(queue.is_empty() && queue.waiting.is_empty() && queue.addresses.is_empty());
    }

    #[tokio::test]
    async fn turns_come_one_after_the_other_and_rest_as_long_as_they_took() {
        let handshakes = Handshakes::new();
        let begun = Instant::now();
        for _ in 0..5 {
            let turn = handshakes.turn(address(1)).await;
            std::thread::sleep(Duration::from_millis(10)); // a handshake keeps its thread
            drop(turn);
        }
        drop(handshakes.turn(address(1)).await);
        // Five took 10 ms each; on more than two cores they need not rest so long.
        let least = Duration::from_millis(if handshakes.at_once == 1 { 95 } else { 50 });
        assert!(begun.elapsed() >= least, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn who_goes_away_while_it_waits_keeps_nobody_waiting() {
        let handshakes = Handshakes::new();
        let mut held = Vec::new();
        for _ in 0..handshakes.at_once {
            held.push(handshakes.turn(address(1)).await);
        }
        let mut impatient: Vec<_> = (0..100).map(|_| Box::pin(handshakes.turn(address(1)))).collect();
        for waiting in &mut impatient {
            assert!(tokio::time::timeout(Duration::ZERO, waiting).await.is_err());
        }
        assert_eq!(handshakes.waiting(), 100);
        drop(impatient);
        held.clear();
        let last = tokio::time::timeout(Duration::from_secs(10), handshakes.turn(address(2))).await;
        assert!(last.is_ok());
    }
}
