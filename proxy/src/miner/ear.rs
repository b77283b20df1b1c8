//! What a miner's task lends while it waits: its socket, so that whoever has a new job writes the job's line. The task hears of that
//! before it looks at anything that came since, so the session goes on as if it had sent the line itself.

use crate::work::Work;
use bytes::Bytes;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::TcpStream;

/// One miner's.
#[derive(Debug, Default)]
pub struct Ear(Mutex<Lent>);

#[derive(Debug, Default)]
struct Lent {
    /// While the task waits and nothing else is on its way to the miner: the socket, and the job that the miner has.
    waiting: Option<(Arc<TcpStream>, Arc<Work>)>,
    told: Option<Told>,
}

/// What was written for the task.
#[derive(Debug)]
pub(super) struct Told {
    /// The job.
    pub(super) work: Arc<Work>,
    /// What the socket did not take of its line.
    pub(super) rest: Bytes,
}

/// A job's lines.
#[derive(Debug)]
pub(crate) struct Lines {
    work: Arc<Work>,
    /// For miners that had a job on another tip, and for the others.
    clean: Bytes,
    more: Bytes,
}

impl Lines {
    pub(crate) fn of(work: Arc<Work>) -> Self {
        let (clean, more) = (work.line(true), work.line(false));
        Self { work, clean, more }
    }
}

impl Ear {
    /// The task waits from now on.
    pub(super) fn lend(&self, socket: Arc<TcpStream>, has: Arc<Work>) {
        self.lock().waiting = Some((socket, has));
    }

    /// It does not any more.
    pub(super) fn take_back(&self) -> Option<Told> {
        let mut lent = self.lock();
        lent.waiting = None;
        lent.told.take()
    }

    /// Writes the line if the miner's task waits, and nothing but the line has to be said.
    pub(crate) fn tell(&self, lines: &Lines) {
        let mut lent = self.lock();
        let Some((socket, has)) = &lent.waiting else { return };
        let Some(clean) = has.followed_by(&lines.work) else { return };
        let line = if clean { &lines.clean } else { &lines.more };
        // What the socket does not take now is the task's.
        if let Ok(written @ 1..) = socket.try_write(line) {
            let (work, rest) = (lines.work.clone(), line.slice(written..));
            *lent = Lent { waiting: None, told: Some(Told { work, rest }) };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::{Server, easiest, start};
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    /// A socket and its other end.
    async fn pair() -> (Arc<TcpStream>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (ours, theirs) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let ours = ours.unwrap();
        ours.writable().await.unwrap();
        (Arc::new(ours), theirs.unwrap().0)
    }

    /// A job, and the ones after it on the next tip and on the same.
    fn works() -> [Arc<Work>; 3] {
        let (now, mut server) = (start(), Server::new(start(), 1));
        server.open(now, 0, easiest(), 16);
        [Some(1), Some(2), None].map(|tip| {
            server.job(now, tip, true);
            server.work(0).unwrap()
        })
    }

    #[tokio::test]
    async fn a_miner_is_told_while_its_task_waits_and_once() {
        let ([first, second, third], (socket, mut miner)) = (works(), pair().await);
        let ear = Ear::default();
        let (second_lines, third_lines) = (Lines::of(second.clone()), Lines::of(third.clone()));
        ear.tell(&second_lines);
        assert!(ear.take_back().is_none(), "its task runs");
        ear.lend(socket.clone(), first);
        [&second_lines, &second_lines, &third_lines].into_iter().for_each(|lines| ear.tell(lines));
        let told = ear.take_back().unwrap();
        assert!(Arc::ptr_eq(&told.work, &second) && told.rest.is_empty());
        assert!(ear.take_back().is_none());
        ear.lend(socket.clone(), second.clone());
        ear.tell(&third_lines);
        assert!(Arc::ptr_eq(&ear.take_back().unwrap().work, &third));
        drop((ear, Arc::into_inner(socket).unwrap()));
        let mut heard = Vec::new();
        miner.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, [second.line(true), third.line(false)].concat());
    }

    #[tokio::test]
    async fn what_the_socket_does_not_take_of_a_line_is_the_tasks() {
        let ([first, second, _], (socket, mut miner)) = (works(), pair().await);
        socket2::SockRef::from(&*socket).set_send_buffer_size(1).unwrap();
        let mut filled = 0;
        while let Ok(written) = socket.try_write(&[b' '; 99]) {
            filled += written;
        }
        let (ear, lines) = (Ear::default(), Lines::of(second.clone()));
        let mut rest = None;
        // The socket takes a line, or a part of it, as soon as the miner has read enough.
        for _ in 0..200_000 {
            ear.lend(socket.clone(), first.clone());
            ear.tell(&lines);
            if let Some(told) = ear.take_back() {
                rest = Some(told.rest);
                break;
            }
            let read = miner.read(&mut [0; 7][..filled.min(7)]).await.unwrap();
            filled -= read;
            tokio::task::yield_now().await;
        }
        let rest = rest.unwrap();
        let taken = second.line(true).len() - rest.len();
        assert!(second.line(true).ends_with(&rest));
        drop((ear, Arc::into_inner(socket).unwrap()));
        let mut heard = Vec::new();
        miner.read_to_end(&mut heard).await.unwrap();
        assert_eq!(&heard[filled..], &second.line(true)[..taken]);
    }
}
