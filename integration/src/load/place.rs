//! Where a server is, as a user writes it; errors say what to write instead.

use std::net::{SocketAddr, ToSocketAddrs as _};

use link::AuthorityPublicKey;

/// An SV1 server at `host:port` or `stratum+tcp://host:port`.
///
/// # Errors
/// In words for the user: another scheme, no port, a host without an address.
pub fn sv1(url: &str) -> Result<SocketAddr, String> {
    const SHAPE: &str = "write it as stratum+tcp://127.0.0.1:3333";
    let place = match url.split_once("://") {
        None | Some(("stratum+tcp", _)) => after_scheme(url),
        Some(("stratum2+tcp", _)) => return Err("that is SV2: begin with `load sv2`".to_owned()),
        Some(("stratum+ssl" | "stratum+tls", _)) => {
            return Err("no TLS is spoken here: take the server's plain port, stratum+tcp://…".to_owned());
        }
        Some((scheme, _)) => return Err(format!("{scheme}:// is nothing known here; {SHAPE}")),
    };
    resolved(place.strip_suffix('/').unwrap_or(place), SHAPE)
}

/// An SV2 server at `host:port` or `stratum2+tcp://host:port`, then `/` and its authority public key if that is known.
///
/// # Errors
/// In words for the user: another scheme, no port, a host without an address, no key.
pub fn sv2(url: &str) -> Result<(SocketAddr, Option<AuthorityPublicKey>), String> {
    const SHAPE: &str =
        "write it as stratum2+tcp://127.0.0.1:34254, then / and the key that the server's init printed";
    let place = match url.split_once("://") {
        None | Some(("stratum2+tcp", _)) => after_scheme(url),
        Some(("stratum+tcp" | "stratum+ssl", _)) => {
            return Err("that is SV1: begin with `load sv1`".to_owned());
        }
        Some((scheme, _)) => return Err(format!("{scheme}:// is nothing known here; {SHAPE}")),
    };
    let (place, key) = place.split_once('/').unwrap_or((place, ""));
    let authority = match key {
        "" => None,
        key => Some(
            key.parse().map_err(|error| format!("{key} is no authority public key ({error}); {SHAPE}"))?,
        ),
    };
    Ok((resolved(place, SHAPE)?, authority))
}

fn after_scheme(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, place)| place)
}

fn resolved(place: &str, shape: &str) -> Result<SocketAddr, String> {
    let (host, port) = place.rsplit_once(':').ok_or_else(|| format!("it has no port; {shape}"))?;
    if host.is_empty() {
        return Err(format!("it has no host; {shape}"));
    }
    if !port.parse().is_ok_and(|port: u16| port > 0) {
        return Err(format!("{port:?} is no port; {shape}"));
    }
    let found =
        place.to_socket_addrs().map_err(|error| format!("{host} has no address ({error}); {shape}"))?;
    found.into_iter().next().ok_or_else(|| format!("{host} has no address; {shape}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const KEY: &str = "9auqWEzQDVyd2oe1JVGFLMLHZtCo2FFqZwtKA5gd9xbuEu7PH72";

    #[test]
    fn a_place_may_come_with_its_scheme_or_without() {
        let local: SocketAddr = "127.0.0.1:3333".parse().unwrap();
        for url in ["127.0.0.1:3333", "stratum+tcp://127.0.0.1:3333", "stratum+tcp://127.0.0.1:3333/"] {
            assert_eq!(sv1(url).unwrap(), local);
        }
        assert_eq!(sv1("[::1]:3333").unwrap(), "[::1]:3333".parse().unwrap());
        for url in ["127.0.0.1:3333", "stratum2+tcp://127.0.0.1:3333/"] {
            assert_eq!(sv2(url).unwrap(), (local, None));
        }
        let (place, key) = sv2(&format!("stratum2+tcp://127.0.0.1:3333/{KEY}")).unwrap();
        assert_eq!((place, key.unwrap().to_string()), (local, KEY.to_owned()));
    }

    #[test]
    fn what_is_no_place_is_told_what_to_write() {
        for (url, word) in [
            ("http://127.0.0.1:3333", "http:// is nothing known here; write it as stratum+tcp://"),
            ("stratum2+tcp://127.0.0.1:3333", "`load sv2`"),
            ("stratum+ssl://127.0.0.1:3333", "plain port"),
            ("127.0.0.1", "no port; write it as"),
            (":3333", "no host; write it as"),
            ("127.0.0.1:0", "\"0\" is no port; write it as"),
            ("127.0.0.1:99999", "\"99999\" is no port; write it as"),
            ("127.0.0.1:3333/x", "is no port; write it as"),
            ("no such host:3333", "no such host has no address"),
        ] {
            let error = sv1(url).unwrap_err();
            assert!(error.contains(word), "{url}: {error}");
        }
        for (url, word) in [
            ("stratum+tcp://127.0.0.1:3333", "`load sv1`"),
            ("127.0.0.1:3333/x", "x is no authority public key"),
            ("stratum2+tcp://127.0.0.1", "no port"),
        ] {
            let error = sv2(url).unwrap_err();
            assert!(error.contains(word), "{url}: {error}");
        }
    }
}
