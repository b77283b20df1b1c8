//! A future that is seldom ready, beside others that often are: it is polled when it has been woken, and not with every
//! share that its task is woken for. What it waits on is shared by all connections, and to poll it takes its locks.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// A future in the same task as others.
pub struct Seldom<T> {
    future: Pin<Box<dyn Future<Output = T> + Send>>,
    bell: Arc<Bell>,
    waker: Waker,
}

/// Wakes the task, and notes that it was for this future.
#[derive(Debug)]
struct Bell {
    rung: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl<T> Seldom<T> {
    /// Polled at first, then when woken.
    pub fn new(future: impl Future<Output = T> + Send + 'static) -> Self {
        let bell = Arc::new(Bell { rung: AtomicBool::new(true), task: Mutex::default() });
        let waker = Waker::from(Arc::clone(&bell));
        Self { future: Box::pin(future), bell, waker }
    }

    /// Another future in its place.
    pub fn set(&mut self, future: impl Future<Output = T> + Send + 'static) {
        self.future = Box::pin(future);
        self.bell.rung.store(true, Ordering::Release);
    }
}

/// Awaited by reference, it stays where it is until it is ready; then [`Seldom::set`] has to come first.
impl<T> Future for Seldom<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        if !self.bell.rung.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        // Before it is polled: whoever rings from here on has it polled again.
        self.bell.serve(context.waker());
        let Self { future, waker, .. } = &mut *self;
        future.as_mut().poll(&mut Context::from_waker(waker))
    }
}

impl<T> std::fmt::Debug for Seldom<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seldom").field("bell", &self.bell).finish_non_exhaustive()
    }
}

impl Bell {
    /// It wakes this task from now on.
    fn serve(&self, task: &Waker) {
        let mut own = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if !own.as_ref().is_some_and(|own| own.will_wake(task)) {
            *own = Some(task.clone());
        }
        drop(own);
        self.rung.store(false, Ordering::Release);
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(task) = task {
            task.wake();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;
    use tokio::sync::{broadcast, oneshot};
    use tokio::time::timeout;

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn it_is_polled_once_and_then_when_it_is_woken() {
        let polls = Arc::new(AtomicUsize::new(0));
        let (sender, mut receiver) = oneshot::channel();
        let counted = Arc::clone(&polls);
        let mut seldom = Seldom::new(std::future::poll_fn(move |context| {
            counted.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut receiver).poll(context)
        }));
        for _ in 0..100 {
            tokio::select! {
                biased;
                never = &mut seldom => panic!("{never:?}"),
                () = tokio::task::yield_now() => {}
            }
        }
        assert_eq!(polls.load(Ordering::Relaxed), 1);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            sender.send(7).unwrap();
        });
        assert_eq!(timeout(SOON, &mut seldom).await.unwrap(), Ok(7));
        assert_eq!(polls.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_wake_is_lost_between_threads() {
        async fn next(mut receiver: broadcast::Receiver<u32>) -> (u32, broadcast::Receiver<u32>) {
            (receiver.recv().await.unwrap(), receiver)
        }
        const COUNT: u32 = 20_000;
        let (sender, receiver) = broadcast::channel(COUNT as usize);
        let mut seldom = Seldom::new(next(receiver));
        let sending = tokio::spawn(async move {
            for number in 0..COUNT {
                sender.send(number).unwrap();
                tokio::task::yield_now().await;
            }
            sender
        });
        for expected in 0..COUNT {
            let (number, receiver) = timeout(SOON, &mut seldom).await.unwrap();
            assert_eq!(number, expected);
            seldom.set(next(receiver));
        }
        drop(sending.await);
    }
}
