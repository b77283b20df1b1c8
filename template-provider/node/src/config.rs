//! Where the node is, how to log in, and what it must be.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bitcoin::Network;

/// How long a call may take unless configured otherwise. A slow node may validate a block for many seconds.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// One bitcoind.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Address of the JSON-RPC server, as in `http://127.0.0.1:8332`; no TLS.
    pub url: String,
    /// How to log in.
    pub auth: Auth,
    /// The network the node must be on; `None` takes any.
    pub network: Option<Network>,
    /// How long a call may take, long polls excepted.
    pub timeout: Duration,
}

impl NodeConfig {
    /// A node on any network with the default timeout.
    pub fn new(url: impl Into<String>, auth: Auth) -> Self {
        Self { url: url.into(), auth, network: None, timeout: DEFAULT_TIMEOUT }
    }
}

/// How to log in to bitcoind's RPC server.
#[derive(Clone)]
pub enum Auth {
    /// The `.cookie` file of bitcoind's data directory: written anew at each of its starts, so read again
    /// whenever the node refuses it or was away.
    Cookie(PathBuf),
    /// bitcoind's `rpcauth`, or `rpcuser` and `rpcpassword`.
    UserPassword {
        /// The user's name.
        user: String,
        /// The password; never shown.
        password: String,
    },
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Names the way to log in, without the password.
impl fmt::Display for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cookie(path) => write!(f, "cookie file {}", path.display()),
            Self::UserPassword { user, .. } => write!(f, "user {user:?} and a password"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        let auth = Auth::UserPassword { user: "alice".into(), password: "hunter2".into() };
        let config = NodeConfig::new("http://127.0.0.1:8332", auth.clone());
        for text in [format!("{auth:?}"), auth.to_string(), format!("{config:?}")] {
            assert!(text.contains("alice") && !text.contains("hunter2"), "{text}");
        }
    }
}
