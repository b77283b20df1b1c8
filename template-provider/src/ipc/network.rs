//! Whether the node can be worked with: caught up, and on the right network.

use bitcoin::{CompactTarget, Network, Target};
use node::error::until_caught_up;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::connection::Connection;
use super::error::IpcError;
use crate::health::Seen;

/// The easiest target of the main network and of the test networks 3 and 4; signets and regtest are easier.
const TESTNET_LIMIT: u32 = 0x1d00_ffff;
/// Regtest's only target.
const REGTEST_BITS: u32 = 0x207f_ffff;

#[derive(Deserialize)]
struct Answered<T> {
    result: Option<T>,
}

#[derive(Deserialize)]
struct Chain {
    chain: String,
}

#[derive(Deserialize)]
struct About {
    subversion: String,
    connections: u32,
}

/// Checks the node, as far as its interface tells: which test network it is on only the newest versions say, so
/// [`check_target`] follows when there is a template.
pub(super) async fn check(connection: &Connection, expected: Network) -> Result<Seen, IpcError> {
    let mining = connection.mining();
    let socket = || connection.socket();
    let tip = connection.ask("getTip", mining.tip()).await?;
    let Some((_, height)) = tip else {
        return Err(IpcError::Starting { socket: socket(), status: "it has no tip yet".into() });
    };
    let is_test = connection.ask("isTestChain", mining.is_test_chain()).await?;
    if is_test == (expected == Network::Bitcoin) {
        return Err(wrong(connection, expected, if is_test { "a test network" } else { "main" }));
    }
    let network = named_network(connection).await;
    if let Some(network) = network
        && network != expected
    {
        return Err(wrong(connection, expected, network.to_core_arg()));
    }
    let catching_up = connection.ask("isInitialBlockDownload", mining.is_catching_up()).await?;
    if catching_up && expected != Network::Regtest {
        let mend = until_caught_up(expected);
        return Err(IpcError::InitialBlockDownload { socket: socket(), height, mend });
    }
    let about: Option<About> = rpc(connection, "getnetworkinfo").await;
    let usual = || format!("Bitcoin Core {}", mining.version());
    Ok(Seen {
        version: about.as_ref().map_or_else(usual, |about| about.subversion.clone()),
        network: Some(expected),
        height,
        peers: about.map(|about| about.connections),
    })
}

/// How many peers it has, if it takes JSON-RPC calls over IPC.
pub(super) async fn peers(connection: &Connection) -> Option<u32> {
    let about: About = rpc(connection, "getnetworkinfo").await?;
    Some(about.connections)
}

/// Refuses a node whose template has a target that the expected network cannot have.
pub(super) fn check_target(
    connection: &Connection,
    expected: Network,
    bits: CompactTarget,
) -> Result<(), IpcError> {
    found_instead(expected, bits).map_or(Ok(()), |found| Err(wrong(connection, expected, found)))
}

/// The network that a target shows the node to be on, where that is not the expected one.
fn found_instead(expected: Network, bits: CompactTarget) -> Option<&'static str> {
    let is_regtest = bits == CompactTarget::from_consensus(REGTEST_BITS);
    let limit = Target::from_compact(CompactTarget::from_consensus(TESTNET_LIMIT));
    match expected {
        Network::Regtest => (!is_regtest).then_some("another test network"),
        _ if is_regtest => Some("regtest"),
        Network::Signet => None,
        _ => (Target::from_compact(bits) > limit).then_some("signet"),
    }
}

fn wrong(connection: &Connection, expected: Network, found: &str) -> IpcError {
    IpcError::WrongNetwork {
        socket: connection.socket(),
        expected: expected.to_core_arg(),
        found: found.to_owned(),
    }
}

/// The network that the node names, if it takes JSON-RPC calls over IPC.
async fn named_network(connection: &Connection) -> Option<Network> {
    let chain: Chain = rpc(connection, "getblockchaininfo").await?;
    Network::from_core_arg(&chain.chain).ok()
}

/// The answer of a JSON-RPC call. It is welcome, not needed: most nodes do not know the call yet.
async fn rpc<T: DeserializeOwned>(connection: &Connection, method: &str) -> Option<T> {
    let answer = connection.ask("executeRpc", connection.mining().rpc(method)).await.ok()??;
    serde_json::from_str::<Answered<T>>(&answer).ok()?.result
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::rc::Rc;
    use std::time::Duration;

    use tokio::task::LocalSet;

    use super::super::fake::Node;
    use super::*;

    #[tokio::test]
    async fn a_test_network_that_has_rested_is_told_how_it_begins_again() {
        let error = async {
            let node = Node::new([]);
            node.catch_up();
            let connection = Connection::to(Rc::new(node), Duration::from_secs(10)).unwrap();
            check(&connection, Network::Signet).await.unwrap_err()
        };
        let error = LocalSet::new().run_until(error).await;
        assert!(matches!(error, IpcError::InitialBlockDownload { .. }), "{error:?}");
        assert!(error.to_string().contains("-maxtipage"), "{error}");
    }

    #[test]
    fn a_target_gives_a_network_away() {
        let found = |expected, bits| found_instead(expected, CompactTarget::from_consensus(bits));
        assert_eq!(found(Network::Regtest, 0x207f_ffff), None);
        assert_eq!(found(Network::Regtest, 0x1e03_77ae), Some("another test network"));
        assert_eq!(found(Network::Signet, 0x207f_ffff), Some("regtest"));
        assert_eq!(found(Network::Signet, 0x1e03_77ae), None);
        assert_eq!(found(Network::Testnet4, 0x1e03_77ae), Some("signet"));
        assert_eq!(found(Network::Testnet4, 0x1d00_ffff), None);
        assert_eq!(found(Network::Bitcoin, 0x1702_5ed0), None);
    }
}
