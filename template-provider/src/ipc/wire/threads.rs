//! The node's threads, on which it carries out our calls.

use std::rc::Rc;

use bitcoin_capnp_types::capnp;
use bitcoin_capnp_types::capnp::capability::Promise;
use tokio::sync::{Mutex, oneshot, watch};

use super::Answer;

/// A thread of the node; `C` is what the version's types name it by. Cheap to clone.
#[derive(Clone)]
pub(super) struct Thread<C> {
    client: C,
    turns: Option<Turns>,
}

/// One call after the other, the next when the one before is answered.
#[derive(Clone)]
struct Turns {
    turn: Rc<Mutex<()>>,
    calls: Calls,
}

/// The calls that a node has not answered yet. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Calls(Rc<watch::Sender<usize>>);

/// One of them, until this is dropped.
struct UnderWay(Calls);

impl<C: Clone + 'static> Thread<C> {
    /// Of a node that lets calls wait for their thread.
    pub(super) fn with_a_queue(client: C) -> Self {
        Self { client, turns: None }
    }

    /// Of one that does not: it has one call at a time, the others wait here, and also what nobody waits for any more has its turn until it is
    /// answered. Needs a `LocalSet`.
    pub(super) fn without_a_queue(client: C, calls: &Calls) -> Self {
        Self { client, turns: Some(Turns { turn: Rc::default(), calls: calls.clone() }) }
    }

    /// The thread itself, for a call that waits in the node's queue.
    pub(super) fn client(&self) -> C {
        self.client.clone()
    }

    /// Makes a call on this thread: now, or when its turn comes.
    pub(super) fn call<T: 'static>(&self, call: impl FnOnce(C) -> Answer<T> + 'static) -> Answer<T> {
        let client = self.client.clone();
        let Some(Turns { turn, calls }) = self.turns.clone() else { return call(client) };
        calls.attend(async move {
            let _turn = turn.lock().await;
            let answer = call(client.clone()).await;
            // Not before: such a node waits for a thread that is let go, with everything else it was asked.
            drop(client);
            answer
        })
    }
}

impl Calls {
    /// The answer to a call, which is waited for also if this is dropped. Needs a `LocalSet`.
    pub(super) fn attend<T: 'static>(
        &self,
        call: impl Future<Output = Result<T, capnp::Error>> + 'static,
    ) -> Answer<T> {
        let under_way = UnderWay::begin(self);
        let (answer, answered) = oneshot::channel();
        tokio::task::spawn_local(async move {
            let _ = answer.send(call.await);
            drop(under_way);
        });
        let gone = |_| Err(capnp::Error::disconnected("nobody waits for its answer any more".into()));
        Promise::from_future(async move { answered.await.unwrap_or_else(gone) })
    }

    /// When all are answered.
    pub(super) fn rest(&self) -> Answer<()> {
        let mut under_way = self.0.subscribe();
        Promise::from_future(async move {
            let _ = under_way.wait_for(|calls| *calls == 0).await;
            Ok(())
        })
    }
}

impl UnderWay {
    fn begin(calls: &Calls) -> Self {
        calls.0.send_modify(|calls| *calls += 1);
        Self(calls.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.0.send_modify(|calls| *calls -= 1);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::time::Duration;

    use tokio::task::LocalSet;

    use super::*;

    /// A node's thread that does not let calls wait.
    #[derive(Clone, Default)]
    struct Busy {
        runs: Rc<Cell<bool>>,
        did: Rc<RefCell<Vec<u8>>>,
    }

    impl Busy {
        fn carry_out(self, number: u8) -> Answer<u8> {
            assert!(!self.runs.replace(true), "the thread is busy");
            Promise::from_future(async move {
                tokio::time::sleep(Duration::from_millis(5)).await;
                self.runs.set(false);
                self.did.borrow_mut().push(number);
                Ok(number)
            })
        }
    }

    #[tokio::test]
    async fn a_thread_without_a_queue_has_one_call_at_a_time_also_where_nobody_waits_for_its_answer() {
        let body = async {
            let (busy, calls) = (Busy::default(), Calls::default());
            let thread = Thread::without_a_queue(busy.clone(), &calls);
            let mut answers: Vec<_> =
                (0..4).map(|number| thread.call(move |on| on.carry_out(number))).collect();
            while !busy.runs.get() {
                tokio::task::yield_now().await;
            }
            drop(answers.drain(..2));
            assert_eq!(answers.remove(1).await.unwrap(), 3);
            assert_eq!(*busy.did.borrow(), [0, 1, 2, 3]);
        };
        LocalSet::new().run_until(body).await;
    }

    #[tokio::test]
    async fn all_is_at_rest_when_everything_is_answered_whoever_waits_for_it() {
        let body = async {
            let (busy, calls) = (Busy::default(), Calls::default());
            calls.rest().await.unwrap();
            let thread = Thread::without_a_queue(busy.clone(), &calls);
            drop(thread.call(|on| on.carry_out(0)));
            drop(thread.call(|on| on.carry_out(1)));
            calls.rest().await.unwrap();
            assert_eq!(*busy.did.borrow(), [0, 1]);
        };
        LocalSet::new().run_until(body).await;
    }

    #[tokio::test]
    async fn a_thread_with_a_queue_has_a_call_at_once() {
        let thread = Thread::with_a_queue(());
        let made = Rc::new(Cell::new(false));
        let (here, there) = (Rc::clone(&made), thread);
        drop(there.call(move |()| {
            here.set(true);
            Promise::ok(())
        }));
        assert!(made.get());
    }
}
