//! Whose work it is: SV2's `user_identity` is `<bitcoin address>[.worker]` or `<account>[.worker]` (DESIGN.md §3).
//!
//! The part before the first dot is credited in the ledger, the rest names a worker below it. What looks like an
//! address must be one, of the hub's network: a mistyped address must not become an account that nobody owns. Nor may a
//! name in the form of SRI's pool, which says more than a name there.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use bitcoin::address::NetworkUnchecked;
use bitcoin::{Address, Network};

/// Longest account or worker name, in bytes.
pub const MAX_NAME: usize = 96;
/// What names begin with that mean something at SRI's pool: `sri/solo/<address>/<worker>`, `sri/donate/…`. An account of such
/// a name would be nobody's.
const SRI_POOL: &str = "sri/";
/// Worker names that a channel remembers; more are not an error, only made anew.
const MAX_REMEMBERED: usize = 1024;

/// Who may open a mining channel.
#[derive(Clone, Copy, Debug)]
pub struct IdentityPolicy {
    /// Addresses must be of this network.
    pub network: Network,
    /// Whether names that are no addresses are accounts, or refused.
    pub accounts: bool,
}

/// A `user_identity` taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Who is credited: an address in its usual spelling, or an account.
    pub hasher: Arc<str>,
    /// The worker below; may be empty.
    pub worker: Arc<str>,
}

/// Why a `user_identity` is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Nothing stands before the first dot.
    #[error("nobody is named")]
    Empty,
    /// Longer than [`MAX_NAME`] or with characters that do not belong into a name.
    #[error("a name has more than {MAX_NAME} bytes, or spaces or control characters")]
    Malformed,
    /// How SRI's pool wants its users named.
    #[error("sri/… is how users of SRI's pool are named; here it is <bitcoin address>.<worker>")]
    SriPool,
    /// It looks like an address and is none.
    #[error("looks like a bitcoin address and is none; mistyped?")]
    NoAddress,
    /// It is an address of another network.
    #[error("an address of another network than {}", .0.to_core_arg())]
    WrongNetwork(Network),
    /// Accounts are switched off.
    #[error("no bitcoin address, and this hub keeps no accounts")]
    NoAccounts,
}

impl IdentityPolicy {
    /// Takes `user_identity` apart and checks both parts.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn identify(&self, user_identity: &str) -> Result<Identity, IdentityError> {
        if user_identity.starts_with(SRI_POOL) {
            return Err(IdentityError::SriPool);
        }
        let (owner, worker) = user_identity.split_once('.').unwrap_or((user_identity, ""));
        if owner.is_empty() {
            return Err(IdentityError::Empty);
        }
        if !is_name(owner) || !(worker.is_empty() || is_name(worker)) {
            return Err(IdentityError::Malformed);
        }
        Ok(Identity { hasher: self.hasher(owner)?.into(), worker: worker.into() })
    }

    fn hasher(&self, owner: &str) -> Result<String, IdentityError> {
        match Address::<NetworkUnchecked>::from_str(owner) {
            Ok(address) => match address.require_network(self.network) {
                Ok(address) => Ok(address.to_string()),
                Err(_) => Err(IdentityError::WrongNetwork(self.network)),
            },
            Err(_) if looks_like_address(owner) => Err(IdentityError::NoAddress),
            Err(_) if !self.accounts => Err(IdentityError::NoAccounts),
            Err(_) => Ok(owner.to_owned()),
        }
    }
}

fn is_name(text: &str) -> bool {
    text.len() <= MAX_NAME && !text.is_empty() && !text.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// Bech32 of any bitcoin network, or as long as a base58 address and of its alphabet and first letters.
fn looks_like_address(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let bech32 = ["bc1", "tb1", "bcrt1"].iter().any(|hrp| lower.starts_with(hrp)) && lower.len() >= 14;
    let base58 = |c: char| c.is_ascii_alphanumeric() && !matches!(c, '0' | 'O' | 'I' | 'l');
    bech32
        || ((26..=36).contains(&text.len())
            && text.starts_with(['1', '3', 'm', 'n', '2'])
            && text.chars().all(base58))
}

/// A mining channel's identity, with the workers that the proxy behind it names (extension 0x0002).
#[derive(Debug)]
pub struct Owner {
    identity: Identity,
    workers: HashMap<Box<str>, Arc<str>>,
}

impl Owner {
    /// Of a channel that `identity` opened.
    pub fn new(identity: Identity) -> Self {
        Self { identity, workers: HashMap::new() }
    }

    /// Who is credited.
    pub fn hasher(&self) -> &Arc<str> {
        &self.identity.hasher
    }

    /// The worker that a share names, else the channel's own.
    ///
    /// SRI's translator names workers by their whole SV1 user name: the hasher's part in front is left out.
    pub fn worker(&mut self, named: Option<&str>) -> Arc<str> {
        let Some(named) = named.map(|name| self.below_hasher(name)).filter(|name| is_name(name)) else {
            return Arc::clone(&self.identity.worker);
        };
        if let Some(worker) = self.workers.get(named) {
            return Arc::clone(worker);
        }
        if self.workers.len() >= MAX_REMEMBERED {
            self.workers.clear();
        }
        let worker: Arc<str> = named.into();
        self.workers.insert(named.into(), Arc::clone(&worker));
        worker
    }

    /// A name that only begins like the hasher's is another one.
    fn below_hasher<'a>(&self, name: &'a str) -> &'a str {
        match name.strip_prefix(&*self.identity.hasher) {
            Some("") => "",
            Some(rest) => rest.strip_prefix('.').unwrap_or(name),
            None => name,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const MAIN: &str = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";
    const TEST: &str = "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx";

    fn policy(accounts: bool) -> IdentityPolicy {
        IdentityPolicy { network: Network::Bitcoin, accounts }
    }

    fn parts(text: &str) -> Result<(String, String), IdentityError> {
        policy(true).identify(text).map(|i| (i.hasher.to_string(), i.worker.to_string()))
    }

    #[test]
    fn the_worker_is_what_follows_the_first_dot() {
        assert_eq!(parts(&format!("{MAIN}.rig.7")), Ok((MAIN.into(), "rig.7".into())));
        assert_eq!(parts(MAIN), Ok((MAIN.into(), String::new())));
        assert_eq!(parts("alice.garage"), Ok(("alice".into(), "garage".into())));
    }

    #[test]
    fn one_address_in_two_spellings_is_one_hasher() {
        assert_eq!(parts(&MAIN.to_uppercase()), Ok((MAIN.into(), String::new())));
    }

    #[test]
    fn a_mistyped_address_is_no_account() {
        let mistyped = MAIN.replace("w508", "w509");
        assert_eq!(parts(&mistyped), Err(IdentityError::NoAddress));
        assert_eq!(parts("1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN3"), Err(IdentityError::NoAddress));
        assert_eq!(parts("1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2").unwrap().1, "");
    }

    #[test]
    fn an_address_of_another_network_is_refused() {
        assert_eq!(parts(TEST), Err(IdentityError::WrongNetwork(Network::Bitcoin)));
        let said = parts(TEST).unwrap_err().to_string();
        assert!(said.ends_with("another network than main"), "by the key's own word: {said}");
    }

    #[test]
    fn nobody_and_nonsense_are_refused() {
        assert_eq!(parts(""), Err(IdentityError::Empty));
        assert_eq!(parts(".rig"), Err(IdentityError::Empty));
        for bad in ["a b", "a\n", "a.\u{7}", &"x".repeat(MAX_NAME + 1)] {
            assert_eq!(parts(bad), Err(IdentityError::Malformed), "{bad:?}");
        }
    }

    #[test]
    fn names_in_the_form_of_sris_pool_are_no_accounts() {
        for name in [&format!("sri/solo/{MAIN}/rig"), &format!("sri/donate/20/{MAIN}/rig.1"), "sri/donate"] {
            let error = parts(name).unwrap_err();
            assert_eq!(error, IdentityError::SriPool, "{name}");
            assert!(error.to_string().contains("<bitcoin address>.<worker>"));
        }
        assert_eq!(parts("sri.rig"), Ok(("sri".into(), "rig".into())));
    }

    #[test]
    fn accounts_can_be_switched_off() {
        assert_eq!(policy(false).identify("alice"), Err(IdentityError::NoAccounts));
        assert!(policy(false).identify(MAIN).is_ok());
    }

    #[test]
    fn a_share_may_name_its_worker_below_the_channels_hasher() {
        let mut owner = Owner::new(policy(true).identify("alice.proxy").unwrap());
        assert_eq!(&*owner.worker(None), "proxy");
        assert_eq!(&*owner.worker(Some("rig7")), "rig7");
        assert_eq!(&*owner.worker(Some("alice.rig7")), "rig7");
        assert_eq!(&*owner.worker(Some("alice")), "proxy");
        assert!(Arc::ptr_eq(&owner.worker(Some("rig7")), &owner.worker(Some("rig7"))));
    }

    #[test]
    fn a_worker_whose_name_begins_like_the_hashers_keeps_it_whole() {
        let mut owner = Owner::new(policy(true).identify("farm.proxy").unwrap());
        for name in ["farm1", "farm-07", "farmer.1"] {
            assert_eq!(&*owner.worker(Some(name)), name);
        }
        assert_eq!(&*owner.worker(Some("farm.farm1")), "farm1");
        assert_eq!(&*owner.worker(Some("farm.")), "proxy");
    }
}
