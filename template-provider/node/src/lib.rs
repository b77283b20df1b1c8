//! bitcoind: typed JSON-RPC, cookie authentication, tip following.
//!
//! [`Node`] is cheap to clone and to share; its connections are kept alive between calls. Why no ready-made
//! client: `docs/decisions/0001-rpc-client.md`.
//!
//! | module | what for |
//! |---|---|
//! | [`client`] | [`Node`] and its typed calls |
//! | [`config`] | where the node is and how to log in |
//! | [`template`] | the answer of `getblocktemplate` |
//! | [`info`] | the other answers |
//! | [`section`] | the `[node]` section of a program's configuration |
//! | [`error`] | [`NodeError`]: what is wrong and how to mend it |
//! | `rpc` | one JSON-RPC call over HTTP |

pub mod client;
pub mod config;
pub mod error;
pub mod info;
mod rpc;
pub mod section;
pub mod template;

pub use client::Node;
pub use config::{Auth, NodeConfig};
pub use error::NodeError;
pub use info::{BlockchainInfo, HeaderInfo, NetworkInfo, NodeInfo, Submission};
pub use template::{GetBlockTemplate, TemplateTransaction};
