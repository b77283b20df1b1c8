//! The authority key of a fresh server: what `init` writes into the configuration, and what it tells its user.

use rand::{CryptoRng, Rng};

use crate::key::AuthorityKey;

/// Config key of every server of ours.
pub const SECRET_KEY: &str = "authority_secret_key";

/// A new key, as (config key, TOML text).
pub fn secret_key<G: Rng + CryptoRng>(random: &mut G) -> (&'static str, String) {
    (SECRET_KEY, format!("\"{}\"", AuthorityKey::generate(random)))
}

/// The line that tells the public half of the key among the fresh values, for its clients' configurations;
/// `clients` as in "miners and proxies".
pub fn introduction(fresh: &[(&'static str, String)], clients: &str) -> Option<String> {
    let (_, secret) = fresh.iter().find(|(path, _)| *path == SECRET_KEY)?;
    let key: AuthorityKey = secret.trim_matches('"').parse().ok()?;
    Some(format!("Authority public key, for {clients}: {}", key.public()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_the_public_half_and_not_the_secret() {
        let fresh = [("listen", "1".to_owned()), secret_key(&mut rand::thread_rng())];
        let line = introduction(&fresh, "miners").unwrap();
        let key: AuthorityKey = fresh[1].1.trim_matches('"').parse().unwrap();
        assert!(line.starts_with("Authority public key, for miners: "), "{line}");
        assert!(line.ends_with(&key.public().to_string()) && !line.contains(&key.to_string()), "{line}");
        assert_eq!(introduction(&fresh[..1], "miners"), None);
    }
}
