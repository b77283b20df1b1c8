//! From the configuration to the source of templates and the ways for blocks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::Network;
use node::{Node, NodeError};
use service::Finding;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::auto::Auto;
use crate::config::{Choice, Config, Fees};
use crate::feed::Feed;
use crate::gbt::{Gbt, NEEDS_SIGNATURE, needs_signature};
use crate::health::Health;
use crate::ipc::{self, Desk, Ipc, Order, Settings};
use crate::outlet::Outlet;
use crate::source::{Source, Way};

/// Shortest interval of looks at the fees by JSON-RPC: bitcoind renews its template every 5 s at most.
const SHORTEST_BY_RPC: Duration = Duration::from_secs(6);
/// How long a node that serves IPC may take for JSON-RPC, and how often it is asked meanwhile.
const STARTING: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_secs(5);

/// The node that makes the templates, and the ways to it.
#[derive(Debug)]
pub(crate) struct Wiring {
    choice: Choice,
    node: Node,
    gbt: Gbt,
    ipc: Settings,
    orders: mpsc::Receiver<Order>,
    outlets: Vec<Outlet>,
}

impl Wiring {
    /// Nothing is sent yet.
    pub(crate) fn new(config: &Config) -> Result<Self, NodeError> {
        let node = Node::new(config.node.clone())?;
        let ipc = settings(config)?;
        let (desk, orders) = Desk::open();
        let fees = Fees { interval: config.fees.interval.max(SHORTEST_BY_RPC), ..config.fees };
        let gbt = Gbt::new(node.clone(), fees, config.stall);
        let outlets = outlets(config, &node, &ipc, desk)?;
        Ok(Self { choice: config.source, node, gbt, ipc, orders, outlets })
    }

    /// All ways that a block can take, the surest to the node that makes the templates first.
    pub(crate) fn outlets(&self) -> Vec<Outlet> {
        self.outlets.clone()
    }

    /// How the node is reached, as shown.
    pub(crate) fn node(&self) -> String {
        let socket = self.ipc.socket.display();
        match self.choice {
            Choice::Rpc => self.node.url().to_owned(),
            Choice::Ipc | Choice::IpcAlone => socket.to_string(),
            Choice::Auto => format!("{socket}, else {}", self.node.url()),
        }
    }

    /// Feeds templates until shutdown.
    pub(crate) async fn run(self, feed: Feed, shutdown: CancellationToken) {
        if self.choice.has_ipc() && self.choice.has_rpc() {
            let (node, network) = (self.node.clone(), self.ipc.network);
            let beside = Beside { node, network, health: feed.health(), reaches: feed.reaches() };
            tokio::spawn(look_at_rpc(beside, shutdown.clone()));
        }
        match self.choice {
            Choice::Rpc => self.gbt.run(feed, shutdown).await,
            Choice::Ipc | Choice::IpcAlone => Ipc::new(self.ipc, self.orders).run(feed, shutdown).await,
            Choice::Auto => {
                let gbt = self.gbt;
                Auto::new(Ipc::new(self.ipc, self.orders), move || gbt.clone()).run(feed, shutdown).await;
            }
        }
    }
}

/// Says what [`Beside::look`] finds, until shutdown.
async fn look_at_rpc(beside: Beside, shutdown: CancellationToken) {
    tokio::select! {
        () = beside.look(STARTING, |trouble| warn!("{trouble}")) => {}
        () = shutdown.cancelled() => {}
    }
}

/// JSON-RPC beside IPC: nobody would notice that it does not work before it is needed.
struct Beside {
    node: Node,
    network: Network,
    health: Arc<Health>,
    reaches: watch::Receiver<u64>,
}

impl Beside {
    /// Looks at it each time that templates begin to come by IPC, since a node that was started anew may be configured anew; `say`s what is wrong
    /// with it, or what it alone tells.
    async fn look(mut self, patience: Duration, say: impl Fn(String)) {
        let mut is_due = false;
        loop {
            tokio::select! {
                trouble = trouble_or_news(&self.node, self.network, patience), if is_due => {
                    is_due = false;
                    // Where IPC has failed meanwhile it is the node that is away.
                    if let Some(trouble) = trouble && self.serves_by_ipc() {
                        say(trouble);
                    }
                }
                reached = self.reaches.changed() => {
                    if reached.is_err() {
                        return;
                    }
                    is_due = self.serves_by_ipc();
                }
            }
        }
    }

    fn serves_by_ipc(&self) -> bool {
        self.health.active() == Some(Way::Ipc)
    }
}

/// What is wrong with JSON-RPC; or what it says is wrong with the chain, of which IPC says nothing.
async fn trouble_or_news(node: &Node, network: Network, patience: Duration) -> Option<String> {
    let trouble = trouble_by_rpc(node, patience).await;
    if trouble.is_some() || network != Network::Signet {
        return trouble;
    }
    let template = node.block_template().await.ok()?;
    needs_signature(&template).then(|| NEEDS_SIGNATURE.to_owned())
}

/// What is wrong with JSON-RPC, if that does not pass within `patience`: a node may serve IPC before it.
async fn trouble_by_rpc(node: &Node, patience: Duration) -> Option<String> {
    let began = Instant::now();
    loop {
        let error = node.network_info().await.err()?;
        if began.elapsed() >= patience {
            return Some(format!(
                "JSON-RPC does not work, so blocks go by IPC only: {error}; or set ipc.rpc_too = false with source = \"ipc\""
            ));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn settings(config: &Config) -> Result<Settings, NodeError> {
    // Not the one that others use: its connections live with a thread of IPC's own.
    let rpc = config.source.has_rpc().then(|| Node::new(config.node.clone())).transpose()?;
    Ok(Settings {
        socket: config.ipc.socket.clone(),
        network: config.node.network.unwrap_or(Network::Bitcoin),
        fees: config.fees,
        timeout: config.node.timeout,
        stall: config.stall,
        sets: config.ipc.template_sets,
        stale: config.retention.stale,
        rpc,
    })
}

fn outlets(config: &Config, node: &Node, ipc: &Settings, desk: Desk) -> Result<Vec<Outlet>, NodeError> {
    let by_ipc = config.source.has_ipc().then(|| {
        let name = ipc.socket.display().to_string();
        Outlet::Ipc { name, desk, beside_rpc: config.source.has_rpc() }
    });
    let by_rpc = config.source.has_rpc().then(|| Outlet::Rpc(node.clone()));
    let extra = config.extra_nodes.iter().cloned().map(|node| Node::new(node).map(Outlet::Rpc));
    let extra = extra.collect::<Result<Vec<_>, _>>()?;
    // Where there is JSON-RPC it comes first: it is the surer way, and IPC the second.
    let (first, last) = if by_rpc.is_some() { (by_rpc, by_ipc) } else { (by_ipc, None) };
    Ok(first.into_iter().chain(extra).chain(last).collect())
}

/// Tries everything that the configuration names.
pub(crate) async fn probe(config: Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let has_rpc = config.source.has_rpc();
    let rpc = if has_rpc { Some(probe_rpc("node", config.node.clone()).await) } else { None };
    if config.source.has_ipc() {
        findings.push(probe_ipc(&config, rpc.as_ref().is_some_and(|rpc| rpc.outcome.is_ok())).await);
    }
    findings.extend(rpc);
    for extra in config.extra_nodes {
        findings.push(probe_rpc("extra node", extra).await);
    }
    findings
}

/// With `source = "auto"` and a JSON-RPC that works the lack of IPC is no fault.
async fn probe_ipc(config: &Config, has_rpc: bool) -> Finding {
    let what = format!("node {}", config.ipc.socket.display());
    let settings = match settings(config) {
        Ok(settings) => settings,
        Err(error) => return Finding::bad(what, error),
    };
    let alone = !config.source.has_rpc();
    let socket_is_missing = !settings.socket.exists();
    let probed = tokio::task::spawn_blocking(move || ipc::probe::probe(&settings, alone)).await;
    match probed.unwrap_or_else(|error| Err(error.to_string())) {
        Ok(seen) => Finding::good(what, seen),
        Err(_) if socket_is_missing && has_rpc && config.source == Choice::Auto => Finding::good(
            what,
            "is not there: templates come by JSON-RPC; for IPC start bitcoin-node with -ipcbind=unix",
        ),
        Err(reason) => Finding::bad(what, reason),
    }
}

/// Whether the node can be worked with by JSON-RPC and gives templates.
async fn probe_rpc(kind: &str, config: node::NodeConfig) -> Finding {
    let what = format!("{kind} {}", config.url);
    let seen = async {
        let node = Node::new(config)?;
        let info = node.ready().await?;
        let template = node.block_template().await?;
        Ok::<_, NodeError>((info, template))
    };
    match seen.await {
        Err(error) => Finding::bad(what, error),
        Ok((_, template)) if needs_signature(&template) => {
            Finding::bad(what, "blocks of this signet need its owners' signature: none mined here is valid")
        }
        Ok((info, template)) => Finding::good(
            what,
            format!(
                "{} on {}, block {} to mine with {} transactions",
                info.subversion,
                info.network.to_core_arg(),
                template.height,
                template.transactions.len() + 1
            ),
        ),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::SystemTime;

    use service::Counters;

    use super::*;
    use crate::delivery::tests::{REFUSES_THE_LOGIN, node_saying};
    use crate::health::Seen;

    fn reached(feed: &Feed, way: Way) {
        feed.reached(way, Seen { version: "test".into(), network: None, height: 99, peers: None });
    }

    fn feed() -> Feed {
        let directory = tempfile::tempdir().unwrap();
        Feed::new(SystemTime::now(), &Counters::open("test", directory.path()).unwrap())
    }

    /// What is said of this node when it is looked at beside IPC.
    fn look(feed: &Feed, node: Node) -> mpsc::UnboundedReceiver<String> {
        let beside =
            Beside { node, network: Network::Signet, health: feed.health(), reaches: feed.reaches() };
        let (told, hears) = mpsc::unbounded_channel();
        tokio::spawn(beside.look(Duration::ZERO, move |trouble| told.send(trouble).unwrap()));
        hears
    }

    async fn next(hears: &mut mpsc::UnboundedReceiver<String>) -> String {
        tokio::time::timeout(Duration::from_secs(10), hears.recv()).await.unwrap().unwrap()
    }

    const WORKS: (&str, &str) = (
        "200 OK",
        r#"{"result":{"version":310000,"subversion":"test","connections":1},"error":null,"id":0}"#,
    );
    /// A template of a signet whose owners sign its blocks.
    const OWNED: (&str, &str) = (
        "200 OK",
        r#"{"result":{"version":536870912,"previousblockhash":"0000000000000000000000000000000000000000000000000000000000000001","height":100,"coinbasevalue":5000000000,"bits":"1e0377ae","curtime":1,"mintime":1,"transactions":[],"longpollid":"1","sigoplimit":80000,"sizelimit":4000000,"signet_challenge":"52"},"error":null,"id":0}"#,
    );

    #[tokio::test]
    async fn that_a_signets_blocks_need_a_signature_is_said_also_where_templates_come_by_ipc() {
        let feed = feed();
        let mut hears = look(&feed, node_saying(&[WORKS, OWNED]).await.0);
        reached(&feed, Way::Ipc);
        assert_eq!(next(&mut hears).await, NEEDS_SIGNATURE);
    }

    #[tokio::test]
    async fn json_rpc_that_does_not_work_beside_ipc_is_named_each_time_that_templates_begin_to_come_by_ipc() {
        let (node, asks) = node_saying(&[REFUSES_THE_LOGIN]).await;
        let feed = feed();
        let mut hears = look(&feed, node);
        let early = tokio::time::timeout(Duration::from_millis(200), hears.recv()).await;
        assert_eq!((early.is_err(), *asks.borrow()), (true, 0), "nothing has come yet");
        for _ in 0..2 {
            reached(&feed, Way::Ipc);
            assert!(next(&mut hears).await.contains("refuses the login"));
            feed.away(Way::Ipc, "gone".into());
        }
    }
}
