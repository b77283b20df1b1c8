//! A Noise handshake costs a server some hundred microseconds: whoever floods it with them must not keep those waiting
//! who are connected, nor those who come.
//!
//! So handshakes take turns: few at a time, at most half of the time of half of the machine's cores, and one
//! [neighbourhood] after the other, however many wait from each. A neighbourhood whose connections come to nothing
//! soon has 20 of them a second: 256 may be on their way, and each that [proves itself](crate::Link::proved) gives its
//! place back at once. Nobody is refused, and the time that a peer waits for its turn is not counted as its own.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::address::neighbourhood;

/// How far handshakes may get ahead of their share of the time; the runtime's timers are no finer.
const AHEAD: Duration = Duration::from_millis(2);
/// Handshakes of one neighbourhood that have not proved themselves, before the next one waits.
const UNPROVEN: u32 = 256;
/// Then, from one to the next. 20 a second.
const SPACING: Duration = Duration::from_millis(50);

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
    /// When somebody looks again, at the earliest.
    wakes: Option<Instant>,
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
        let state = State { running: 0, due: Instant::now(), wakes: None, queue: Queue::default() };
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
            let due = state.due;
            self.look_again(&mut state, due);
            return None;
        }
        match state.queue.pop(now) {
            Ok(next) => {
                state.running += 1;
                Some(next)
            }
            Err(rested) => {
                if let Some(rested) = rested {
                    self.look_again(&mut state, rested);
                }
                None
            }
        }
    }

    fn look_again(self: &Arc<Self>, state: &mut State, at: Instant) {
        if state.wakes.is_none_or(|wakes| at < wakes) {
            state.wakes = Some(at);
            tokio::spawn(Arc::clone(self).wake_at(at));
        }
    }

    async fn wake_at(self: Arc<Self>, at: Instant) {
        tokio::time::sleep_until(at.into()).await;
        self.lock().wakes.take_if(|wakes| *wakes <= at);
        self.go_on();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A handshake that was computed, and nobody knows yet whether for a peer or for a flood.
#[derive(Debug)]
pub(crate) struct Unproven {
    handshakes: Arc<Handshakes>,
    address: IpAddr,
}

impl Unproven {
    /// It was for a peer: it does not count any more.
    pub(crate) fn proved(self) {
        if self.handshakes.lock().queue.give_back(neighbourhood(self.address)) {
            self.handshakes.go_on();
        }
    }
}

impl Turn {
    /// The handshake is computed, with a peer at this address.
    pub(crate) fn over(self, address: IpAddr) -> Unproven {
        Unproven { handshakes: Arc::clone(&self.handshakes), address }
    }

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
    /// Each address that somebody waits from who may be next, once.
    addresses: VecDeque<IpAddr>,
    /// Those whose connections came to nothing too often, by when the next one may come.
    resting: BTreeSet<(Instant, IpAddr)>,
    waiting: HashMap<IpAddr, VecDeque<T>>,
    len: usize,
    /// When what came from an address and has not proved itself would all have come, [`SPACING`] apart.
    spaced: HashMap<IpAddr, Instant>,
    /// With so many addresses in `spaced` those are looked for that need not be.
    tidy_at: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            addresses: VecDeque::new(),
            resting: BTreeSet::new(),
            waiting: HashMap::new(),
            len: 0,
            spaced: HashMap::new(),
            tidy_at: 0,
        }
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

    /// The next one, or when there may be one.
    fn pop(&mut self, now: Instant) -> Result<T, Option<Instant>> {
        while let Some(first) = self.resting.first().copied().filter(|(rested, _)| *rested <= now) {
            self.resting.remove(&first);
            self.addresses.push_back(first.1);
        }
        while let Some(address) = self.addresses.pop_front() {
            if let Some(rested) = self.rests_until(address, now) {
                self.resting.insert((rested, address));
                continue;
            }
            let Some(waiting) = self.waiting.get_mut(&address) else { continue };
            let value = waiting.pop_front();
            if waiting.is_empty() {
                self.waiting.remove(&address);
            } else {
                self.addresses.push_back(address);
            }
            if let Some(value) = value {
                self.len -= 1;
                self.count(address, now);
                return Ok(value);
            }
        }
        Err(self.resting.first().map(|(rested, _)| *rested))
    }

    /// Until when nobody from there may be next; `None`: somebody may.
    fn rests_until(&self, address: IpAddr, now: Instant) -> Option<Instant> {
        rested(*self.spaced.get(&address)?).filter(|rested| *rested > now)
    }

    fn count(&mut self, address: IpAddr, now: Instant) {
        if self.spaced.len() >= self.tidy_at {
            self.spaced.retain(|_, spaced| *spaced > now);
            self.tidy_at = (2 * self.spaced.len()).max(1024);
        }
        let spaced = self.spaced.entry(address).or_insert(now);
        *spaced = (*spaced).max(now) + SPACING;
    }

    /// One from there proved itself. Whether somebody waits there who may be next by that.
    fn give_back(&mut self, address: IpAddr) -> bool {
        let Some(spaced) = self.spaced.get_mut(&address) else { return false };
        let before = *spaced;
        *spaced = before.checked_sub(SPACING).unwrap_or(before);
        let rests = rested(before).is_some_and(|rested| self.resting.remove(&(rested, address)));
        if rests {
            self.addresses.push_back(address);
        }
        rests
    }

    fn len(&self) -> usize {
        self.len
    }

    fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// From when on one more may come from an address, by its `spaced`.
fn rested(spaced: Instant) -> Option<Instant> {
    spaced.checked_sub(SPACING * (UNPROVEN - 1))
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
        let now = Instant::now();
        let order: Vec<_> = (0..7).map(|_| queue.pop(now).unwrap()).collect();
        assert_eq!(order, [0, 5000, 6000, 1, 5001, 2, 3]);
        assert_eq!(queue.len(), 996);
        let later = |n: u32| now + SPACING * n;
        assert!((0..996).all(|n| queue.pop(later(n)).is_ok()));
        assert!(queue.is_empty() && queue.waiting.is_empty() && queue.addresses.is_empty());
    }

    #[test]
    fn a_neighbourhood_whose_connections_come_to_nothing_has_few_and_others_all_that_they_want() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        (0..1000).for_each(|n| queue.push(address(1), n));
        for n in 0..UNPROVEN {
            assert_eq!(queue.pop(now), Ok(n));
        }
        assert_eq!(queue.pop(now), Err(Some(now + SPACING)));
        queue.push(address(2), 5000);
        assert_eq!(queue.pop(now), Ok(5000));
        assert_eq!(queue.pop(now), Err(Some(now + SPACING)));
        assert_eq!(queue.pop(now + SPACING), Ok(UNPROVEN));
        assert_eq!(queue.pop(now + SPACING), Err(Some(now + SPACING * 2)));
    }

    #[test]
    fn whoever_proves_itself_makes_room_for_the_next_of_its_neighbourhood() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        (0..10_000).for_each(|n| queue.push(address(1), n));
        (0..UNPROVEN).for_each(|n| assert_eq!(queue.pop(now), Ok(n)));
        assert!(queue.pop(now).is_err());
        for n in UNPROVEN..10_000 {
            assert!(queue.give_back(address(1)), "{n} waits");
            assert_eq!(queue.pop(now), Ok(n));
            assert!(queue.pop(now).is_err());
        }
        assert!(queue.is_empty() && !queue.give_back(address(2)));
    }

    #[test]
    fn addresses_that_are_quiet_again_are_forgotten() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for n in 0..5_000_u32 {
            queue.push(IpAddr::from(n.to_be_bytes()), n);
            queue.pop(now + Duration::from_millis(n.into())).unwrap();
        }
        assert!(queue.spaced.len() <= 2048, "{}", queue.spaced.len());
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
