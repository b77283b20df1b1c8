//! A handshake, of Noise or TLS, costs a server some hundred microseconds: whoever floods it with them must not keep those waiting
//! who are connected, nor those who come.
//!
//! So handshakes take turns: few at a time, at most half of the time of half of the machine's cores, and one
//! [neighbourhood] after the other, however many wait from each. A neighbourhood whose connections come to nothing
//! soon has 100 of them a second: 256 may be on their way, and each that [proves itself](crate::Link::proved) gives its
//! place back at once, if it stays. The time that a peer waits for its turn is not counted as its own; but where nobody of its
//! neighbourhood proves itself it waits for ten seconds at most, so that a flood does not keep its places for minutes.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::address::neighbourhood;
use crate::spacing::Spacing;

/// How far handshakes may get ahead of their share of the time; the runtime's timers are no finer.
const AHEAD: Duration = Duration::from_millis(2);
/// From one turn to the next where connections come to nothing. A thousand that wait for a turn, each for its [`PATIENCE`], have
/// as many turns as they want: they keep no honest peer of their address out.
const APART: Duration = Duration::from_millis(10);
/// So long a peer waits while its neighbourhood has had too many turns and nobody there proves itself.
const PATIENCE: Duration = Duration::from_secs(10);
/// A connection that lasts no longer came to nothing, whatever it did.
const SHORT: Duration = Duration::from_secs(10);

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
pub struct Turn {
    handshakes: Arc<Handshakes>,
    /// The peer's neighbourhood.
    from: IpAddr,
    since: Instant,
}

/// Too many connections from the peer's neighbourhood come to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no turn for its handshake in {PATIENCE:?}: connections from its address come to nothing")]
pub struct NoTurn;

impl NoTurn {
    /// Its name in log and metrics.
    pub const FAULT: &str = "no-turn";
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
    ///
    /// # Errors
    /// There is none for so many that come to nothing.
    pub async fn turn(self: &Arc<Self>, address: IpAddr) -> Result<Turn, NoTurn> {
        let (from, (sender, receiver)) = (neighbourhood(address), oneshot::channel());
        self.lock().queue.push(from, Instant::now(), sender);
        self.go_on();
        receiver.await.map_err(|_| NoTurn)
    }

    /// How many wait for a turn.
    pub fn waiting(&self) -> usize {
        self.lock().queue.len()
    }

    /// Gives turns to those who wait, as long as there are any to give.
    fn go_on(self: &Arc<Self>) {
        while let Some((from, sender)) = self.next() {
            if let Err(turn) = sender.send(self.turn_of(from)) {
                turn.unused();
            }
        }
    }

    fn turn_of(self: &Arc<Self>, from: IpAddr) -> Turn {
        Turn { handshakes: Arc::clone(self), from, since: Instant::now() }
    }

    /// Who is next, already counted, and from where; `None`: nobody may be now.
    fn next(self: &Arc<Self>) -> Option<(IpAddr, oneshot::Sender<Turn>)> {
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
        match state.queue.pop(now, |sender| !sender.is_closed()) {
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

/// A connection whose handshake was computed: for a peer or for a flood, that is to be seen.
#[derive(Debug)]
pub struct Visit {
    handshakes: Arc<Handshakes>,
    /// The peer's neighbourhood.
    from: IpAddr,
    since: Instant,
    is_proved: bool,
}

impl Visit {
    /// It is a peer's: if it stays, it does not count any more.
    pub fn proved(&mut self) {
        if self.is_proved {
            return;
        }
        self.is_proved = true;
        if self.handshakes.lock().queue.proved(self.from, Instant::now()) {
            self.handshakes.go_on();
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let now = Instant::now();
        if self.is_proved && now.saturating_duration_since(self.since) < SHORT {
            self.handshakes.lock().queue.spacing.count(self.from, now);
        }
    }
}

impl Turn {
    /// The handshake is computed.
    pub fn over(self) -> Visit {
        let handshakes = Arc::clone(&self.handshakes);
        Visit { handshakes, from: self.from, since: Instant::now(), is_proved: false }
    }

    /// Whoever waited for it has gone in this moment: it took no time, and came to nothing by no fault.
    fn unused(mut self) {
        self.since = Instant::now();
        self.handshakes.lock().queue.give_back(self.from);
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
    /// The same by address.
    rests: HashMap<IpAddr, Instant>,
    waiting: HashMap<IpAddr, Line<T>>,
    len: usize,
    /// What came from each address and has not proved itself.
    spacing: Spacing,
}

/// Those of one neighbourhood, with when they came.
#[derive(Debug)]
struct Line<T> {
    peers: VecDeque<(Instant, T)>,
    /// When one of there proved itself last.
    proved: Option<Instant>,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self { peers: VecDeque::new(), proved: None }
    }
}

impl<T> Line<T> {
    /// Sends those away who have waited too long, all of it without a proof that it is worth while; how many.
    fn give_up(&mut self, now: Instant) -> usize {
        let is_over = |since: Instant| now.saturating_duration_since(since) >= PATIENCE;
        if self.proved.is_some_and(|proved| !is_over(proved)) {
            return 0;
        }
        let gone = self.peers.partition_point(|(since, _)| is_over(*since));
        self.peers.drain(..gone).count()
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            addresses: VecDeque::new(),
            resting: BTreeSet::new(),
            rests: HashMap::new(),
            waiting: HashMap::new(),
            len: 0,
            spacing: Spacing::new(APART),
        }
    }
}

impl<T> Queue<T> {
    fn push(&mut self, address: IpAddr, now: Instant, value: T) {
        let line = self.waiting.entry(address).or_default();
        if line.peers.is_empty() {
            self.addresses.push_back(address);
        }
        line.peers.push_back((now, value));
        self.len += 1;
    }

    /// The next one that is still here, and from where; or when there may be one. Who is sent away is dropped.
    fn pop(&mut self, now: Instant, is_here: impl Fn(&T) -> bool) -> Result<(IpAddr, T), Option<Instant>> {
        while let Some(first) = self.resting.first().copied().filter(|(rested, _)| *rested <= now) {
            self.rests_no_more(first.1);
        }
        while let Some(address) = self.addresses.pop_front() {
            let Some(line) = self.waiting.get_mut(&address) else { continue };
            let rests = self.spacing.rests_until(address, now);
            let next = match rests {
                Some(_) => {
                    self.len -= line.give_up(now);
                    None
                }
                None => line.peers.pop_front(),
            };
            if line.peers.is_empty() {
                self.waiting.remove(&address);
            } else if let Some(rested) = rests {
                self.resting.insert((rested, address));
                self.rests.insert(address, rested);
            } else {
                self.addresses.push_back(address);
            }
            if let Some((_, value)) = next {
                self.len -= 1;
                if is_here(&value) {
                    self.spacing.count(address, now);
                    return Ok((address, value));
                }
            }
        }
        Err(self.resting.first().map(|(rested, _)| *rested))
    }

    /// One from there proved itself. Whether somebody waits there who may be next by that.
    fn proved(&mut self, address: IpAddr, now: Instant) -> bool {
        if let Some(line) = self.waiting.get_mut(&address) {
            line.proved = Some(now);
        }
        self.give_back(address)
    }

    /// One from there does not count.
    fn give_back(&mut self, address: IpAddr) -> bool {
        self.spacing.give_back(address);
        self.rests_no_more(address)
    }

    fn rests_no_more(&mut self, address: IpAddr) -> bool {
        let Some(rested) = self.rests.remove(&address) else { return false };
        self.resting.remove(&(rested, address));
        self.addresses.push_back(address);
        true
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
    use std::future::poll_fn;
    use std::task::Poll;

    use super::*;
    use crate::spacing::AT_ONCE;

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn pop(queue: &mut Queue<u32>, now: Instant) -> Result<u32, Option<Instant>> {
        queue.pop(now, |_| true).map(|(_, value)| value)
    }

    #[test]
    fn addresses_take_turns_however_many_wait_from_each() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        (0..1000).for_each(|n| queue.push(address(1), now, n));
        queue.push(address(2), now, 5000);
        queue.push(address(2), now, 5001);
        queue.push(address(3), now, 6000);
        let order: Vec<_> = (0..7).map(|_| pop(&mut queue, now).unwrap()).collect();
        assert_eq!(order, [0, 5000, 6000, 1, 5001, 2, 3]);
        assert_eq!(queue.len(), 996);
        let later = |n: u32| now + APART * n;
        assert!((0..996).all(|n| pop(&mut queue, later(n)).is_ok()));
        assert!(queue.is_empty() && queue.waiting.is_empty() && queue.addresses.is_empty());
    }

    #[test]
    fn a_neighbourhood_whose_connections_come_to_nothing_has_few_and_others_all_that_they_want() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        (0..1000).for_each(|n| queue.push(address(1), now, n));
        for n in 0..AT_ONCE {
            assert_eq!(pop(&mut queue, now), Ok(n));
        }
        assert_eq!(pop(&mut queue, now), Err(Some(now + APART)));
        queue.push(address(2), now, 5000);
        assert_eq!(pop(&mut queue, now), Ok(5000));
        assert_eq!(pop(&mut queue, now), Err(Some(now + APART)));
        assert_eq!(pop(&mut queue, now + APART), Ok(AT_ONCE));
        assert_eq!(pop(&mut queue, now + APART), Err(Some(now + APART * 2)));
    }

    #[test]
    fn whoever_proves_itself_makes_room_for_the_next_of_its_neighbourhood() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        (0..10_000).for_each(|n| queue.push(address(1), now, n));
        (0..AT_ONCE).for_each(|n| assert_eq!(pop(&mut queue, now), Ok(n)));
        assert!(pop(&mut queue, now).is_err());
        for n in AT_ONCE..10_000 {
            assert!(queue.proved(address(1), now), "{n} waits");
            assert_eq!(pop(&mut queue, now), Ok(n));
            assert!(pop(&mut queue, now).is_err());
        }
        assert!(queue.is_empty() && !queue.proved(address(2), now));
    }

    #[test]
    fn whoever_proves_itself_makes_room_also_where_others_that_had_are_gone_at_once() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        (0..1000).for_each(|n| queue.push(address(1), now, n));
        (0..AT_ONCE).for_each(|n| assert_eq!(pop(&mut queue, now), Ok(n)));
        assert!(pop(&mut queue, now).is_err());
        (0..3).for_each(|_| queue.spacing.count(address(1), now));
        (0..3).for_each(|_| {
            assert!(queue.proved(address(1), now));
            assert!(pop(&mut queue, now).is_err(), "the three that are gone count");
        });
        assert!(queue.proved(address(1), now));
        assert_eq!(pop(&mut queue, now), Ok(AT_ONCE));
    }

    #[test]
    fn where_nobody_proves_itself_nobody_waits_longer_than_its_patience() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        (0..10_000).for_each(|n| queue.push(address(1), now, n));
        (0..AT_ONCE).for_each(|n| assert_eq!(pop(&mut queue, now), Ok(n)));
        let patience = u32::try_from(PATIENCE.as_millis() / APART.as_millis()).unwrap();
        (1..patience).for_each(|n| assert!(pop(&mut queue, now + APART * n).is_ok()));
        assert_eq!(pop(&mut queue, now + APART * (patience - 1)), Err(Some(now + PATIENCE)));
        queue.push(address(1), now + PATIENCE, 20_000);
        assert!(pop(&mut queue, now + PATIENCE).is_ok());
        assert_eq!(pop(&mut queue, now + PATIENCE), Err(Some(now + PATIENCE + APART)));
        assert_eq!(queue.len(), 1, "the others are sent away");
        assert_eq!(pop(&mut queue, now + PATIENCE + APART), Ok(20_000));
        assert!(queue.is_empty() && queue.waiting.is_empty() && queue.addresses.is_empty());
    }

    #[test]
    fn a_farm_that_proves_itself_slowly_waits_for_as_long_as_it_takes() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        (0..10_000).for_each(|n| queue.push(address(1), start, n));
        let mut now = start;
        let mut turns = 0;
        while !queue.is_empty() {
            assert!(now < start + Duration::from_secs(600), "{} wait", queue.len());
            let came = (0..).find(|_| pop(&mut queue, now).is_err()).unwrap();
            turns += came;
            // Its devices take a second each to open a channel.
            now += Duration::from_secs(1);
            (0..came).for_each(|_| {
                queue.proved(address(1), now);
            });
        }
        assert_eq!(turns, 10_000);
    }

    #[tokio::test]
    async fn a_peer_that_comes_to_stay_does_not_count_and_one_that_is_gone_at_once_does() {
        let handshakes = Handshakes::new();
        let counted = || handshakes.lock().queue.spacing.spaced(address(1)).unwrap();
        let visit = || async { handshakes.turn(address(1)).await.unwrap().over() };
        let mut stays = visit().await;
        let with = counted();
        stays.proved();
        stays.proved();
        assert_eq!(counted(), with - APART);
        let mut leaves = visit().await;
        leaves.proved();
        let without = counted();
        drop(leaves);
        assert!(counted() >= without + APART);
        let fruitless = visit().await;
        let with = counted();
        drop(fruitless);
        assert_eq!(counted(), with, "it counted when it came");
    }

    #[tokio::test]
    async fn turns_come_one_after_the_other_and_rest_as_long_as_they_took() {
        let handshakes = Handshakes::new();
        let begun = Instant::now();
        for _ in 0..5 {
            let turn = handshakes.turn(address(1)).await.unwrap();
            std::thread::sleep(Duration::from_millis(10)); // a handshake keeps its thread
            drop(turn);
        }
        drop(handshakes.turn(address(1)).await.unwrap());
        // Five took 10 ms each; on more than two cores they need not rest so long.
        let least = Duration::from_millis(if handshakes.at_once == 1 { 95 } else { 50 });
        assert!(begun.elapsed() >= least, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn who_goes_away_while_it_waits_keeps_nobody_waiting() {
        let handshakes = Handshakes::new();
        let mut held = Vec::new();
        for _ in 0..handshakes.at_once {
            held.push(handshakes.turn(address(1)).await.unwrap());
        }
        let mut impatient: Vec<_> = (0..5000).map(|_| Box::pin(handshakes.turn(address(1)))).collect();
        for waiting in &mut impatient {
            let polled = poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context))).await;
            assert!(polled.is_pending());
        }
        assert_eq!(handshakes.waiting(), 5000);
        drop(impatient);
        held.clear();
        // Else 5,000 that came to nothing had to be spaced.
        let last = tokio::time::timeout(Duration::from_secs(10), handshakes.turn(address(1))).await;
        assert!(last.is_ok_and(|turn| turn.is_ok()));
    }
}
