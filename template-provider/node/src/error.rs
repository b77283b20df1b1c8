//! What can be wrong with a node: each text names the thing, its value and the mend.

use std::path::PathBuf;
use std::time::Duration;

use bitcoin::Network;

/// Why a call to the node failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// The URL is not one of a JSON-RPC server.
    #[error("node URL {url:?} cannot be used: {reason}; write it like http://127.0.0.1:8332")]
    Url {
        /// As configured.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing answers there.
    #[error(
        "cannot reach the node at {url}: {reason}; start bitcoind with server=1, and check that host and port are its rpcbind and rpcport"
    )]
    Refused {
        /// As configured.
        url: String,
        /// What the system says.
        reason: String,
    },
    /// The connection broke during a call.
    #[error("lost the node at {url} during {method}: {reason}; look whether bitcoind still runs")]
    Lost {
        /// As configured.
        url: String,
        /// The call.
        method: String,
        /// What the system says.
        reason: String,
    },
    /// The node did not take the login.
    #[error(
        "the node at {url} refuses the login with {auth}; use the .cookie file of this very node's data directory (below it in regtest/, signet/, testnet4/), or the user and password of its rpcauth"
    )]
    Unauthorised {
        /// As configured.
        url: String,
        /// The way of logging in, without secrets.
        auth: String,
    },
    /// The node wants a login and the cookie file cannot be read.
    #[error(
        "cannot read the cookie file {path}: {reason}; give the path of .cookie in the node's data directory and read permission, or set a user and a password"
    )]
    Cookie {
        /// As configured.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The node does not take calls from this address.
    #[error("the node at {url} takes no calls from this machine; add its address to bitcoind's rpcallowip")]
    Forbidden {
        /// As configured.
        url: String,
    },
    /// The node is starting.
    #[error("the node at {url} is starting: {status}; it answers when that is done")]
    WarmingUp {
        /// As configured.
        url: String,
        /// What it is doing, in its words.
        status: String,
    },
    /// The node has not caught up with the chain.
    #[error("the node at {url} is in initial block download: {progress}; {mend}")]
    InitialBlockDownload {
        /// As configured.
        url: String,
        /// How far it is.
        progress: String,
        /// See [`until_caught_up`].
        mend: &'static str,
    },
    /// The node has no peers, or is shutting down.
    #[error(
        "the node at {url} is not connected: {status}; give it peers (bitcoin-cli getpeerinfo lists them)"
    )]
    NotConnected {
        /// As configured.
        url: String,
        /// In its words.
        status: String,
    },
    /// The node has more calls waiting than it takes, or is shutting down.
    #[error(
        "the node at {url} takes no more calls now: {status}; if that lasts, raise bitcoind's rpcthreads and rpcworkqueue"
    )]
    Busy {
        /// As configured.
        url: String,
        /// In its words.
        status: String,
    },
    /// The node is on another network than configured.
    #[error("the node at {url} is on {}, not on {}; change the network or the node's URL", found.to_core_arg(), expected.to_core_arg())]
    WrongNetwork {
        /// As configured.
        url: String,
        /// The configured network.
        expected: Network,
        /// The node's network.
        found: Network,
    },
    /// The node's version is too old.
    #[error("the node at {url} is {found}, and {oldest} is the oldest that works; upgrade Bitcoin Core")]
    TooOld {
        /// As configured.
        url: String,
        /// The node's version, as it names itself.
        found: String,
        /// The oldest version that works.
        oldest: String,
    },
    /// No answer in time.
    #[error("the node at {url} did not answer {method} within {} s; look at its load, or raise the timeout", after.as_secs_f32())]
    Timeout {
        /// As configured.
        url: String,
        /// The call.
        method: String,
        /// The configured timeout.
        after: Duration,
    },
    /// The node answered with an error of its own.
    #[error("the node at {url} answered {method} with error {code}: {message}")]
    Rpc {
        /// As configured.
        url: String,
        /// The call.
        method: String,
        /// bitcoind's number, see its `rpc/protocol.h`.
        code: i32,
        /// In its words.
        message: String,
    },
    /// The answer is not what bitcoind answers.
    #[error("the answer of {url} to {method} makes no sense: {reason}; is that a bitcoind?")]
    BadAnswer {
        /// As configured.
        url: String,
        /// The call.
        method: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// What ends initial block download on a network. A test network may have rested for longer than a day: its nodes hold themselves to be catching up
/// until the next block, which nobody mines before they give templates.
pub fn until_caught_up(network: Network) -> &'static str {
    match network {
        Network::Bitcoin => "wait until it has caught up",
        _ => {
            "wait until it has caught up; where there is no newer block, as on a test network of your own after a day's rest, start it with -maxtipage=<seconds> above the age of its last block"
        }
    }
}

impl NodeError {
    /// Whether the same call may work later with nothing but the node changed: trying again makes sense.
    pub fn is_transient(&self) -> bool {
        !matches!(
            self,
            Self::Url { .. }
                | Self::WrongNetwork { .. }
                | Self::TooOld { .. }
                | Self::Rpc { .. }
                | Self::BadAnswer { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_network_that_has_rested_is_told_how_it_begins_again() {
        assert!(until_caught_up(Network::Signet).contains("-maxtipage"));
        assert!(!until_caught_up(Network::Bitcoin).contains("-maxtipage"));
    }
}
