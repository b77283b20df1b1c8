//! How the ways to the node are doing: which one delivers, since when, and what is wrong with the others.

use std::time::{Duration, Instant};

use bitcoin::Network;
use node::NodeInfo;
use tokio::sync::watch;

use crate::source::Way;

/// So long a node that is back may take to hear of the blocks that it has missed or, killed, forgotten.
const CATCHING_UP: Duration = Duration::from_secs(60);

/// Shared by the sources and the status page.
#[derive(Debug, Default)]
pub struct Health(watch::Sender<State>);

/// How one way is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It was not tried yet, or would deliver if a better one did not.
    Idle,
    /// Templates come by it.
    Delivers,
    /// It has failed, and tries again.
    Fails,
}

#[derive(Debug)]
struct State {
    node: Option<Seen>,
    active: Option<(Way, Instant)>,
    /// No way has delivered since then.
    idle: Option<Instant>,
    /// What is wrong with the node though it delivers, and since when.
    trouble: Option<(String, Instant)>,
    failures: [Option<Failure>; 2],
    published: Option<Instant>,
    catching_up: Duration,
}

/// The node, as far as its interface tells.
#[derive(Clone, Debug)]
pub struct Seen {
    /// As in `/Satoshi:31.1.0/`, or what follows from its interface.
    pub version: String,
    /// The node's network, where it can be told.
    pub network: Option<Network>,
    /// Height of the best block.
    pub height: u32,
    /// Peers of the node, where it can be told.
    pub peers: Option<u32>,
}

/// Why a way failed the last time.
#[derive(Clone, Debug)]
pub struct Failure {
    /// In words.
    pub reason: String,
    /// Since when.
    pub since: Instant,
    /// When it was over; none while it lasts.
    pub over: Option<Instant>,
}

/// What is known at one moment.
#[derive(Clone, Debug)]
pub struct View {
    /// The node, as last seen.
    pub node: Option<Seen>,
    /// The way that delivers, and since when.
    pub active: Option<(Way, Instant)>,
    /// Why none delivers, or what is wrong with the node that does; and since when.
    pub problem: Option<(String, Instant)>,
    /// The last failure of each way, in the order of [`Way::ALL`].
    pub failures: [Option<Failure>; 2],
    /// When the last template came.
    pub published: Option<Instant>,
}

impl From<NodeInfo> for Seen {
    fn from(info: NodeInfo) -> Self {
        Self {
            version: info.subversion,
            network: Some(info.network),
            height: info.height,
            peers: Some(info.connections),
        }
    }
}

impl Default for State {
    fn default() -> Self {
        Self {
            node: None,
            active: None,
            idle: None,
            trouble: None,
            failures: [None, None],
            published: None,
            catching_up: CATCHING_UP,
        }
    }
}

impl Health {
    /// What is known now.
    pub fn view(&self) -> View {
        let state = self.0.borrow();
        View {
            node: state.node.clone(),
            active: state.active,
            problem: state.problem(),
            failures: state.failures.clone(),
            published: state.published,
        }
    }

    /// This way delivers from now on, unless a better one does. Whether another one did, or none.
    pub(crate) fn delivers(&self, way: Way, node: Seen) -> bool {
        self.change(|state| state.delivers(way, node))
    }

    /// This way fails. Whether that is news.
    pub(crate) fn fails(&self, way: Way, reason: String) -> bool {
        self.change(|state| state.fails(way, reason))
    }

    /// The node was looked at while this way delivers: it has so many peers, if that can be told, and this is wrong with it, if anything. Whether what is
    /// wrong is news, or that nothing is any more.
    pub(crate) fn looked(&self, way: Way, peers: Option<u32>, trouble: Option<String>) -> bool {
        self.change(|state| state.looked(way, peers, trouble))
    }

    /// The way that delivers.
    pub(crate) fn active(&self) -> Option<Way> {
        self.0.borrow().active.map(|(way, _)| way)
    }

    /// Waits until a way is doing like that; at once if it is.
    pub(crate) async fn until(&self, way: Way, is_so: impl Fn(Standing) -> bool) {
        let mut state = self.0.subscribe();
        let _ = state.wait_for(|state| is_so(state.standing(way))).await;
    }

    /// How long [`Self::may_be_catching_up`] holds.
    pub(crate) fn catching_up(&self) -> Duration {
        self.0.borrow().catching_up
    }

    #[cfg(test)]
    pub(crate) fn set_catching_up(&self, catching_up: Duration) {
        self.0.send_modify(|state| state.catching_up = catching_up);
    }

    /// Whether the node was reached so lately that it may be catching up. On a test network it may have no peers, from which to do that.
    pub(crate) fn may_be_catching_up(&self, now: Instant) -> bool {
        let state = self.0.borrow();
        let is_main = state.node.as_ref().is_some_and(|node| node.network == Some(Network::Bitcoin));
        is_main && state.active.is_some_and(|(_, since)| now < since + state.catching_up)
    }

    /// A template was published.
    pub(crate) fn published(&self) {
        self.0.send_if_modified(|state| {
            state.published = Some(Instant::now());
            false // nobody waits for that
        });
    }

    /// Whether the change is news.
    fn change(&self, change: impl FnOnce(&mut State) -> bool) -> bool {
        let mut is_news = false;
        self.0.send_modify(|state| is_news = change(state));
        is_news
    }
}

impl State {
    fn delivers(&mut self, way: Way, node: Seen) -> bool {
        let now = Instant::now();
        if let Some(failure) = &mut self.failures[way.index()] {
            failure.over.get_or_insert(now);
        }
        if self.active.is_some_and(|(active, _)| active.index() < way.index()) {
            return false;
        }
        self.node = Some(node);
        (self.idle, self.trouble) = (None, None);
        let changed = self.active.is_none_or(|(active, _)| active != way);
        if changed {
            self.active = Some((way, now));
        }
        changed
    }

    fn fails(&mut self, way: Way, reason: String) -> bool {
        let now = Instant::now();
        if self.active.is_some_and(|(active, _)| active == way) {
            (self.active, self.trouble) = (None, None);
        }
        if self.active.is_none() {
            self.idle.get_or_insert(now);
        }
        let lasting = self.failures[way.index()].take().filter(|failure| failure.over.is_none());
        let news = lasting.as_ref().is_none_or(|known| known.reason != reason);
        let since = lasting.map_or(now, |failure| failure.since);
        self.failures[way.index()] = Some(Failure { reason, since, over: None });
        news
    }

    fn looked(&mut self, way: Way, peers: Option<u32>, trouble: Option<String>) -> bool {
        if self.active.is_none_or(|(active, _)| active != way) {
            return false;
        }
        if let Some(node) = &mut self.node {
            node.peers = peers;
        }
        let news = self.trouble.as_ref().map(|(known, _)| known) != trouble.as_ref();
        if news {
            self.trouble = trouble.map(|trouble| (trouble, Instant::now()));
        }
        news
    }

    fn standing(&self, way: Way) -> Standing {
        match &self.failures[way.index()] {
            _ if self.active.is_some_and(|(active, _)| active == way) => Standing::Delivers,
            Some(failure) if failure.over.is_none() => Standing::Fails,
            _ => Standing::Idle,
        }
    }

    fn problem(&self) -> Option<(String, Instant)> {
        let Some(since) = self.idle else { return self.trouble.clone() };
        let lasting: Vec<_> = Way::ALL
            .iter()
            .filter_map(|way| Some((way, self.failures[way.index()].as_ref()?)))
            .filter(|(_, failure)| failure.over.is_none())
            .collect();
        let text = match lasting.as_slice() {
            [(_, only)] => only.reason.clone(),
            all => all.iter().map(|(way, f)| format!("{way}: {}", f.reason)).collect::<Vec<_>>().join("; "),
        };
        Some((text, since))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn seen() -> Seen {
        Seen { version: "31".into(), network: None, height: 1, peers: None }
    }

    #[test]
    fn a_way_that_fails_beside_one_that_delivers_is_no_problem_but_is_remembered() {
        let health = Health::default();
        assert!(health.fails(Way::Ipc, "no socket".into()));
        assert!(health.view().problem.is_some());
        assert!(health.delivers(Way::Rpc, seen()));
        assert!(!health.fails(Way::Ipc, "no socket".into()), "no news");
        let view = health.view();
        assert!(view.problem.is_none());
        assert_eq!(view.active.unwrap().0, Way::Rpc);
        assert_eq!(view.failures[0].as_ref().unwrap().reason, "no socket");
    }

    #[tokio::test]
    async fn whoever_waits_for_a_way_hears_of_it_at_once_and_of_no_other() {
        let health = Health::default();
        health.until(Way::Ipc, |ipc| ipc == Standing::Idle).await;
        let mut fails = std::pin::pin!(health.until(Way::Ipc, |ipc| ipc == Standing::Fails));
        health.fails(Way::Rpc, "refused".into());
        tokio::select! {
            biased;
            () = &mut fails => panic!("it has not failed"),
            () = std::future::ready(()) => {}
        }
        health.fails(Way::Ipc, "gone".into());
        fails.await;
        health.delivers(Way::Ipc, seen());
        health.until(Way::Ipc, |ipc| ipc == Standing::Delivers).await;
        health.delivers(Way::Rpc, seen());
        health.until(Way::Rpc, |rpc| rpc == Standing::Idle).await;
    }

    #[test]
    fn when_both_fail_both_reasons_are_said_since_the_time_that_nothing_came() {
        let health = Health::default();
        health.delivers(Way::Ipc, seen());
        health.fails(Way::Ipc, "gone".into());
        let since = health.view().problem.unwrap().1;
        health.fails(Way::Rpc, "refused".into());
        let (text, still) = health.view().problem.unwrap();
        assert_eq!((text.as_str(), still), ("IPC: gone; JSON-RPC: refused", since));
        health.delivers(Way::Ipc, seen());
        let view = health.view();
        assert!(view.problem.is_none() && view.failures[0].as_ref().unwrap().over.is_some());
    }

    #[test]
    fn what_is_wrong_with_a_node_that_delivers_is_a_problem_until_it_is_over_or_the_node_is_away() {
        let health = Health::default();
        let alone = || Some("alone".to_owned());
        let problem = || health.view().problem.map(|(text, _)| text);
        assert!(!health.looked(Way::Ipc, Some(0), alone()), "it does not deliver");
        health.delivers(Way::Ipc, seen());
        assert!(health.looked(Way::Ipc, Some(0), alone()) && !health.looked(Way::Ipc, Some(0), alone()));
        assert_eq!((problem(), health.active()), (alone(), Some(Way::Ipc)));
        assert!(health.looked(Way::Ipc, Some(8), None) && !health.looked(Way::Ipc, Some(9), None));
        assert_eq!((problem(), health.view().node.unwrap().peers), (None, Some(9)));
        health.looked(Way::Ipc, Some(0), alone());
        health.fails(Way::Ipc, "gone".into());
        assert_eq!(problem().as_deref(), Some("gone"));
        health.delivers(Way::Ipc, seen());
        assert_eq!(problem(), None);
    }
}
