//! Where a miner's work comes from.
//!
//! Where miners have channels of their own and go to another upstream, that opens thousands of them one after the other. Until a
//! miner's has work, it goes on with the work of the channel before, and its shares go there.

use super::account::Found;
use crate::upstream::{Route, WorkFeed};
use crate::work::Work;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pause before a refused upstream channel is asked for again.
const REOPEN: Duration = Duration::from_secs(5);

/// Where a miner's work comes from.
#[derive(Default)]
pub(crate) struct Source {
    place: Place,
    /// Where it comes from until `place` has some, for as long as that upstream still serves.
    before: Option<Box<Channel>>,
}

#[derive(Default)]
enum Place {
    /// There is no upstream, or nothing to ask it for yet.
    #[default]
    None,
    /// An upstream channel.
    Channel(Channel),
    /// The upstream gave no channel; it is asked again then.
    Refused(Instant),
}

/// An upstream channel, the miner's own or one that it shares.
struct Channel {
    route: Route,
    feed: WorkFeed,
    /// The connection is not given up while the miner works for it.
    _user: Option<Arc<()>>,
}

/// What [`Source::next`] waited for.
pub(crate) enum Came {
    /// What there is to work on now.
    Found(Found),
    /// Time to ask for a channel again.
    Retry,
}

/// Of one channel.
enum News {
    /// It has other work, or none any more.
    Work(Option<Arc<Work>>),
    /// It is closed.
    Gone,
}

impl Source {
    /// Whether there is no upstream, or nothing to ask it for yet.
    pub(crate) fn is_none(&self) -> bool {
        matches!(self.place, Place::None)
    }

    /// Where a share goes whose work is of this upstream connection; to the present one if that is not known any more.
    pub(crate) fn route(&self, connection: u64) -> Option<&Route> {
        let present = if let Place::Channel(channel) = &self.place { Some(channel) } else { None };
        let before = self.before.as_deref().filter(|channel| channel.route.connection == connection);
        before.or(present).map(|channel| &channel.route)
    }

    /// There is no upstream.
    pub(crate) fn leave(&mut self) -> Found {
        self.go(Place::None)
    }

    /// The upstream gives no channel, but may later.
    pub(crate) fn refused(&mut self) -> Found {
        self.go(Place::Refused(Instant::now() + REOPEN))
    }

    /// Work comes from this channel, at once or when it is open.
    pub(crate) fn open(&mut self, route: Route, mut feed: WorkFeed) -> Found {
        let work = feed.newest.borrow_and_update().clone();
        let user = route.users.upgrade();
        let found = self.go(Place::Channel(Channel { route, feed, _user: user }));
        if work.is_none() {
            return found;
        }
        self.before = None;
        Found::Work(work)
    }

    /// Whether work still comes from this connection, which is to be worked for again: then it stays there.
    pub(crate) fn returns_to(&mut self, route: &Route) -> bool {
        match self.before.take_if(|before| before.route.connection == route.connection) {
            Some(before) if before.feed.newest.has_changed().is_ok() => {
                self.place = Place::Channel(*before);
                true
            }
            _ => false,
        }
    }

    /// To a place that has no work yet. What the channel had that is left stays the miner's meanwhile.
    fn go(&mut self, place: Place) -> Found {
        if let Place::Channel(left) = std::mem::replace(&mut self.place, place)
            && has_work(&left.feed)
        {
            self.before = Some(Box::new(left));
        }
        if self.before.is_some() { Found::Nothing } else { Found::Work(None) }
    }

    /// Work, or that there is none any more, if [`Self::next`] would come back at once with it.
    pub(crate) fn poll(&mut self) -> Option<Came> {
        if let Place::Channel(present) = &mut self.place
            && let Some(news) = poll(&mut present.feed)
        {
            return Some(self.present_has(news));
        }
        let news = poll(&mut self.before.as_mut()?.feed)?;
        Some(self.former_has(news))
    }

    /// Waits for the next thing. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Came {
        let Some(former) = &mut self.before else {
            return match self.place.next().await {
                Some(news) => self.present_has(news),
                None => Came::Retry,
            };
        };
        tokio::select! {
            news = self.place.next() => match news {
                Some(news) => self.present_has(news),
                None => Came::Retry,
            },
            news = next(&mut former.feed) => self.former_has(news),
        }
    }

    fn present_has(&mut self, news: News) -> Came {
        Came::Found(match news {
            News::Work(None) if self.before.is_some() => Found::Nothing,
            News::Work(work) => {
                self.before = None;
                Found::Work(work)
            }
            News::Gone => self.refused(),
        })
    }

    fn former_has(&mut self, news: News) -> Came {
        Came::Found(match news {
            News::Work(work) => Found::Work(work),
            News::Gone => {
                self.before = None;
                Found::Work(None)
            }
        })
    }
}

impl Place {
    /// `None`: time to ask for a channel again. Cancel-safe.
    async fn next(&mut self) -> Option<News> {
        match self {
            Self::None => std::future::pending().await,
            Self::Refused(until) => {
                tokio::time::sleep_until((*until).into()).await;
                None
            }
            Self::Channel(channel) => Some(next(&mut channel.feed).await),
        }
    }
}

fn has_work(feed: &WorkFeed) -> bool {
    feed.newest.has_changed().is_ok() && feed.newest.borrow().is_some()
}

fn poll(feed: &mut WorkFeed) -> Option<News> {
    match feed.newest.has_changed() {
        Ok(is_news) => is_news.then(|| News::Work(feed.newest.borrow_and_update().clone())),
        Err(_) => Some(News::Gone),
    }
}

async fn next(feed: &mut WorkFeed) -> News {
    match feed.newest.changed().await {
        Ok(()) => News::Work(feed.newest.borrow_and_update().clone()),
        Err(_) => News::Gone,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::{easiest, start};
    use crate::upstream::feed;
    use std::sync::Weak;
    use tokio::sync::{mpsc, watch};

    fn route(connection: u64) -> Route {
        Route {
            connection,
            index: 0,
            address: "hub.example:34254".into(),
            commands: mpsc::channel(1).0,
            blocks: mpsc::channel(1).0,
            shared: None,
            offer: watch::channel(None).1,
            users: Weak::new(),
        }
    }

    fn work() -> Arc<Work> {
        crate::testing::work(start(), easiest())
    }

    fn is(came: &Came, work: Option<&Arc<Work>>) -> bool {
        let Came::Found(Found::Work(came)) = came else { return false };
        match (came, work) {
            (Some(came), Some(work)) => Arc::ptr_eq(came, work),
            (came, work) => came.is_none() && work.is_none(),
        }
    }

    fn goes_to(source: &Source, connection: u64) -> Option<u64> {
        source.route(connection).map(|route| route.connection)
    }

    #[tokio::test]
    async fn a_miner_goes_on_with_its_work_until_the_next_channel_has_some() {
        let ((old, old_feed), (new, new_feed)) = (feed(), feed());
        let mut source = Source::default();
        assert!(matches!(source.open(route(1), old_feed), Found::Work(None)));
        for work in [work(), work()] {
            old.send(Some(work.clone()), true).await;
            assert!(is(&source.next().await, Some(&work)));
        }
        assert!(matches!(source.open(route(2), new_feed), Found::Nothing));
        let last = work();
        old.send(Some(last.clone()), true).await;
        assert!(is(&source.poll().unwrap(), Some(&last)) && source.poll().is_none());
        assert_eq!((goes_to(&source, 1), goes_to(&source, 2)), (Some(1), Some(2)));
        let next = work();
        new.send(Some(next.clone()), true).await;
        assert!(is(&source.next().await, Some(&next)));
        assert!(old.is_closed());
        assert_eq!(goes_to(&source, 1), Some(2));
    }

    #[tokio::test]
    async fn a_miner_that_gets_no_channel_keeps_the_one_that_it_has_until_that_is_gone() {
        let ((old, old_feed), (new, new_feed)) = (feed(), feed());
        let mut source = Source::default();
        old.send(Some(work()), true).await;
        assert!(matches!(source.open(route(1), old_feed), Found::Work(Some(_))));
        assert!(matches!(source.open(route(2), new_feed), Found::Nothing));
        drop(new);
        assert!(matches!(source.next().await, Came::Found(Found::Nothing)));
        assert!(matches!(source.refused(), Found::Nothing));
        assert_eq!(goes_to(&source, 1), Some(1));
        drop(old);
        assert!(is(&source.next().await, None));
        assert_eq!(goes_to(&source, 1), None);
    }

    #[tokio::test]
    async fn a_miner_that_is_to_go_back_before_it_has_left_stays() {
        let ((old, old_feed), (new, new_feed)) = (feed(), feed());
        let mut source = Source::default();
        old.send(Some(work()), true).await;
        source.open(route(1), old_feed);
        source.open(route(2), new_feed);
        drop(new);
        assert!(matches!(source.leave(), Found::Nothing));
        assert!(!source.returns_to(&route(3)) && source.returns_to(&route(1)));
        assert_eq!(goes_to(&source, 1), Some(1));
        let last = work();
        old.send(Some(last.clone()), true).await;
        assert!(is(&source.next().await, Some(&last)));
    }
}
