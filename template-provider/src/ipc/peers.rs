//! Whether the node has peers. By this interface Bitcoin Core gives templates also without any, where `getblocktemplate` refuses them: its
//! clients would mine on a tip that is soon dead, and nothing would say so.

use std::time::{Duration, Instant};

use bitcoin::Network;
use node::Node;
use tracing::{info, warn};

use super::network;
use super::set::Shared;
use crate::source::Way;

/// How often it is asked.
const LOOK: Duration = Duration::from_secs(10);
/// It is named when it has had none for so long: one that has just started finds its first within seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Since when a node has no peers. Pure.
struct Alone {
    since: Option<Instant>,
    patience: Duration,
}

impl Alone {
    /// It has so many now, if that can be told. Whether it has been alone for too long.
    fn note(&mut self, now: Instant, peers: Option<u32>) -> bool {
        if peers != Some(0) {
            self.since = None;
            return false;
        }
        now.duration_since(*self.since.get_or_insert(now)) >= self.patience
    }
}

/// Asks the node again and again, and names it where it is alone; never ends. The connection stays: the node's templates are the best that there
/// are, and its next peer may come at any moment. Only on the main network, as Bitcoin Core does it: a test network may have one node.
pub(super) async fn watch<T>(shared: &Shared, rpc: Option<&Node>) -> T {
    if shared.network != Network::Bitcoin {
        return std::future::pending().await;
    }
    follow(shared, rpc, LOOK, PATIENCE).await
}

async fn follow<T>(shared: &Shared, rpc: Option<&Node>, look: Duration, patience: Duration) -> T {
    let mut alone = Alone { since: None, patience };
    loop {
        tokio::time::sleep(look).await;
        let peers = count(shared, rpc).await;
        let is_alone = alone.note(Instant::now(), peers);
        let trouble = is_alone.then(|| {
            let socket = shared.connection.socket();
            format!(
                "the node at {socket} has no peers: it gives templates, and hears of no new block; give it peers (bitcoin-cli getpeerinfo lists them)",
                socket = socket.display()
            )
        });
        if shared.feed.looked(Way::Ipc, peers, trouble.clone()) {
            match trouble {
                Some(trouble) => warn!("{trouble}"),
                None => info!(peers, "the node has peers again, or cannot tell"),
            }
        }
    }
}

/// Its peers: by JSON-RPC, or by JSON-RPC over IPC. None: neither tells.
async fn count(shared: &Shared, rpc: Option<&Node>) -> Option<u32> {
    if let Some(node) = rpc
        && let Ok(info) = node.network_info().await
    {
        return Some(info.connections);
    }
    network::peers(&shared.connection).await
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::task::LocalSet;

    use super::super::fake::Node as Fake;
    use super::*;
    use crate::health::Seen;

    /// Longer than anything here takes.
    const DEADLINE: Duration = Duration::from_secs(10);

    #[test]
    fn a_node_is_alone_when_it_has_had_no_peers_for_a_while() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut alone = Alone { since: None, patience: Duration::from_secs(30) };
        assert!(
            !alone.note(after(0), Some(0))
                && !alone.note(after(29), Some(0))
                && alone.note(after(30), Some(0))
        );
        assert!(!alone.note(after(31), Some(1)), "it has one again");
        assert!(!alone.note(after(33), Some(0)) && !alone.note(after(39), None), "nobody tells");
        assert!(
            !alone.note(after(40), Some(0))
                && !alone.note(after(69), Some(0))
                && alone.note(after(70), Some(0))
        );
    }

    #[tokio::test]
    async fn a_node_without_peers_is_named_while_its_templates_go_on_and_until_it_has_some() {
        let body = async {
            let node = Fake::new([]);
            let shared = node.shared();
            let seen = Seen { version: "test".into(), network: None, height: 99, peers: Some(8) };
            shared.feed.reached(Way::Ipc, seen);
            let health = shared.feed.health();
            let until = async |is_alone: bool| {
                while health.view().problem.is_some() != is_alone {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            let told = async {
                node.set_peers(0);
                until(true).await;
                let view = health.view();
                assert!(view.problem.unwrap().0.contains("/test.sock has no peers"));
                assert_eq!((view.active.unwrap().0, view.node.unwrap().peers), (Way::Ipc, Some(0)));
                node.set_peers(3);
                until(false).await;
                assert_eq!(health.view().node.unwrap().peers, Some(3));
            };
            let moment = Duration::from_millis(10);
            tokio::select! {
                () = follow(&shared, None, moment, moment) => {}
                told = tokio::time::timeout(DEADLINE, told) => told.expect("it is told"),
            }
        };
        LocalSet::new().run_until(body).await;
    }
}
