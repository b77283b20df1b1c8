//! Who mines: an SV1 user name, and the worker's name in it.

use std::sync::Arc;

/// Longest worker name, in bytes; it stands behind the account in a `user_identity`.
pub const MAX_WORKER: usize = 64;

/// A user that a connection has authorised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// As the miner gave it.
    pub user: Arc<str>,
    /// What is behind the account in `<account>.<worker>`, or all of it where there is no dot: behind a proxy the account is the
    /// farm's (DESIGN.md §3). At most [`MAX_WORKER`] bytes.
    pub name: Arc<str>,
}

impl Worker {
    /// Takes a user name apart.
    pub fn new(user: &str) -> Self {
        let name = user.split_once('.').map(|(_, worker)| worker).filter(|worker| !worker.is_empty());
        let name = name.unwrap_or(user);
        Self { user: user.into(), name: name[..name.floor_char_boundary(MAX_WORKER)].into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workers_name_is_what_is_behind_the_account() {
        let name = |user: &str| Worker::new(user).name.to_string();
        assert_eq!(name("bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq.shed.7"), "shed.7");
        assert_eq!(name("ann"), "ann");
        assert_eq!(name("farm."), "farm.");
        assert_eq!(name(""), "");
        assert_eq!(name(&"é".repeat(60)).len(), MAX_WORKER);
    }
}
