//! The keys of Bitcoin Core's mining interface, and of the choice between it and JSON-RPC.

use std::path::{Path, PathBuf};

use node::{Auth, NodeConfig};
use serde::Deserialize;
use service::{Key, Problems, expand_home};

/// The keys.
pub(super) const KEYS: &[Key] = &[
    Key::new(
        "source",
        "\"auto\"",
        "How templates come: ipc (bitcoin-node with -ipcbind=unix), rpc, or auto, which takes ipc, and rpc while that fails.",
    ),
    Key::optional(
        "ipc.socket",
        "\"~/.bitcoin/node.sock\"",
        "Unix socket of bitcoin-node -ipcbind=unix. Default: node.sock beside the node's .cookie file.",
    ),
    Key::new(
        "ipc.template_sets",
        "8",
        "For so many different coinbase sizes of clients, 1 to 64, the node makes templates of their own; further ones get its fullest, trimmed.",
    ),
    Key::new(
        "ipc.rpc_too",
        "true",
        "Whether blocks go to the node by JSON-RPC as well; false only with source = \"ipc\", then no node.url, cookie or user is used.",
    ),
];

/// The section `[ipc]` as read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawIpc {
    socket: Option<String>,
    template_sets: usize,
    rpc_too: bool,
}

/// How templates come, and by what blocks go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Templates by IPC, by JSON-RPC while that fails; blocks by both.
    Auto,
    /// Templates by IPC only, blocks by both.
    Ipc,
    /// Everything by IPC only.
    IpcAlone,
    /// Everything by JSON-RPC only.
    Rpc,
}

/// Where the mining interface is, and how much is asked of it.
#[derive(Clone, Debug)]
pub struct Ipc {
    /// The node's unix socket.
    pub socket: PathBuf,
    /// Most sets of templates for different constraints.
    pub template_sets: usize,
}

/// Longest path of a unix socket, in bytes (`sun_path` less its last zero).
const MAX_SOCKET_PATH: usize = 107;

impl Choice {
    /// Whether IPC is tried.
    pub fn has_ipc(self) -> bool {
        self != Self::Rpc
    }

    /// Whether JSON-RPC is used, be it for blocks alone.
    pub fn has_rpc(self) -> bool {
        self != Self::IpcAlone
    }
}

impl RawIpc {
    /// What the key `source` says, with `ipc.rpc_too`.
    pub(super) fn choice(&self, source: &str, problems: &mut Problems) -> Option<Choice> {
        let choice = match source {
            "auto" => Choice::Auto,
            "ipc" if self.rpc_too => Choice::Ipc,
            "ipc" => Choice::IpcAlone,
            "rpc" => Choice::Rpc,
            _ => return problems.add("source", "is no source of templates", "write auto, ipc or rpc"),
        };
        if !self.rpc_too && choice.has_rpc() {
            let reason = "is false, but this source needs JSON-RPC";
            problems.add::<()>("ipc.rpc_too", reason, "set it to true, or source to \"ipc\"");
        }
        Some(choice)
    }

    pub(super) fn check(self, node: Option<&NodeConfig>, problems: &mut Problems) -> Option<Ipc> {
        let template_sets = problems.number("ipc.template_sets", self.template_sets, 1..=64);
        let socket = match self.socket {
            Some(path) => check_socket(&path, problems)?,
            None => beside_cookie(node?),
        };
        Some(Ipc { socket, template_sets: template_sets? })
    }
}

fn check_socket(path: &str, problems: &mut Problems) -> Option<PathBuf> {
    let key = "ipc.socket";
    let Some(path) = expand_home(path) else {
        return problems.add(key, "begins with ~, but there is no home directory", "write the whole path");
    };
    match too_long(&path) {
        Some(reason) => {
            problems.add(key, reason, "start bitcoin-node with -ipcbind=unix:<shorter path>, and set that")
        }
        None => Some(path),
    }
}

/// Why no socket can be at this path, if that is so.
pub(crate) fn too_long(path: &Path) -> Option<String> {
    let bytes = path.as_os_str().len();
    (bytes > MAX_SOCKET_PATH)
        .then(|| format!("is {bytes} bytes long, and a unix socket's path has {MAX_SOCKET_PATH} at most"))
}

/// bitcoin-node puts its socket beside its cookie.
fn beside_cookie(node: &NodeConfig) -> PathBuf {
    let directory = match &node.auth {
        Auth::Cookie(cookie) => cookie.parent().map(Path::to_owned),
        Auth::UserPassword { .. } => {
            node.network.and_then(|network| expand_home(&node::section::usual_directory(network)))
        }
    };
    directory.unwrap_or_default().join("node.sock")
}
