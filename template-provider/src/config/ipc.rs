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

/// How templates come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// By IPC; by JSON-RPC while that fails.
    Auto,
    /// By IPC only.
    Ipc,
    /// By JSON-RPC only.
    Rpc,
}

/// Where the mining interface is, and how much is asked of it.
#[derive(Clone, Debug)]
pub struct Ipc {
    /// The node's unix socket.
    pub socket: PathBuf,
    /// Most sets of templates for different constraints.
    pub template_sets: usize,
    /// Whether JSON-RPC is used beside it.
    pub rpc_too: bool,
}

/// Longest path of a unix socket, in bytes (`sun_path` less its last zero).
const MAX_SOCKET_PATH: usize = 107;

impl Choice {
    pub(super) fn check(text: &str, problems: &mut Problems) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "ipc" => Some(Self::Ipc),
            "rpc" => Some(Self::Rpc),
            _ => problems.add("source", "is no source of templates", "write auto, ipc or rpc"),
        }
    }

    /// Whether IPC is tried.
    pub fn has_ipc(self) -> bool {
        self != Self::Rpc
    }
}

impl RawIpc {
    pub(super) fn check(
        self,
        choice: Option<Choice>,
        node: Option<&NodeConfig>,
        problems: &mut Problems,
    ) -> Option<Ipc> {
        let template_sets = problems.number("ipc.template_sets", self.template_sets, 1..=64);
        if !self.rpc_too && choice.is_some_and(|choice| choice != Choice::Ipc) {
            let reason = "is false, but this source needs JSON-RPC";
            problems.add::<()>("ipc.rpc_too", reason, "set it to true, or source to \"ipc\"");
        }
        let socket = match self.socket {
            Some(path) => check_socket(&path, problems)?,
            None => beside_cookie(node?),
        };
        Some(Ipc { socket, template_sets: template_sets?, rpc_too: self.rpc_too })
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
