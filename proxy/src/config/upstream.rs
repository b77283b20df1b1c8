//! Upstreams: SV2 mining servers, and SV1 pools behind them.

use super::raw::RawUpstream;
use crate::session::MAX_WORKER;
use bitcoin::hex::FromHex as _;
use link::key::AuthorityPublicKey;
use service::{Problems, Secret};

/// A worker's name goes behind it and a dot, and all fits the protocol's 255 bytes.
const MAX_IDENTITY: usize = 254 - MAX_WORKER;

/// One mining server.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// As configured: `host:port` of an SV2 server, the whole URL of an SV1 pool.
    pub address: String,
    /// Whom it credits.
    pub user_identity: String,
    /// What it speaks.
    pub protocol: Protocol,
}

/// What a mining server speaks.
#[derive(Clone, Debug)]
pub enum Protocol {
    /// SV2 over Noise.
    Sv2 {
        /// Signs the server's certificate.
        authority: AuthorityPublicKey,
    },
    /// SV1.
    Sv1(Pool),
}

/// How an SV1 pool is reached.
#[derive(Clone, Debug)]
pub struct Pool {
    /// Name or address, brackets around an IPv6 address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// What its lines go over.
    pub transport: Transport,
    /// The user's.
    pub password: Secret,
}

/// What an SV1 pool's lines go over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP alone: whoever is on the way can read and change everything, the pay-out address included.
    Plain,
    /// TLS.
    Tls(Trust),
}

/// Which certificate is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// One that a public authority signed for the host.
    Authorities,
    /// The one with this SHA-256 of its DER form.
    Fingerprint([u8; 32]),
}

/// All of them, in order. An SV1 pool before an SV2 server is refused: it is what is left when no other is there.
pub(super) fn check(raw: Vec<RawUpstream>, problems: &mut Problems) -> Option<Vec<Upstream>> {
    let upstreams: Option<Vec<_>> = raw
        .into_iter()
        .enumerate()
        .map(|(index, raw)| one(index, raw, problems))
        .collect::<Vec<_>>()
        .into_iter()
        .collect();
    let upstreams = upstreams?;
    let is_pool = |upstream: &Upstream| matches!(upstream.protocol, Protocol::Sv1(_));
    let first_pool = upstreams.iter().position(is_pool).unwrap_or(upstreams.len());
    if !upstreams[first_pool..].iter().all(is_pool) {
        let mend = "put the tables of SV1 pools last";
        problems.add(format!("upstream[{first_pool}]"), "is an SV1 pool before an SV2 server", mend)
    } else {
        Some(upstreams)
    }
}

fn one(index: usize, raw: RawUpstream, problems: &mut Problems) -> Option<Upstream> {
    let key = |field: &str| format!("upstream[{index}].{field}");
    if !(1..=MAX_IDENTITY).contains(&raw.user_identity.len()) {
        let mend = "write an address or an account";
        problems.add::<()>(key("user_identity"), format!("must have 1 to {MAX_IDENTITY} bytes"), mend);
    }
    let RawUpstream { address, user_identity, .. } = &raw;
    let (address, user_identity) = (address.clone(), user_identity.clone());
    let (is_tls, place) = match address.split_once("://") {
        None => return Some(Upstream { protocol: sv2(&key, &raw, problems)?, address, user_identity }),
        Some(("stratum+tcp", place)) => (false, place),
        Some(("stratum+ssl" | "stratum+tls", place)) => (true, place),
        Some((other, _)) => {
            let mend = "write host:port (SV2), stratum+tcp://host:port or stratum+ssl://host:port (SV1)";
            return problems.add(key("address"), format!("has the unknown scheme `{other}`"), mend);
        }
    };
    let place = problems.host_and_port(&key("address"), place);
    let transport = transport(&key, &raw, is_tls, problems)?;
    if raw.authority_public_key.is_some() {
        problems.add::<()>(key("authority_public_key"), "is nothing that an SV1 pool has", "leave it out");
    }
    let place = place?;
    let (host, port) = place.rsplit_once(':')?;
    let password = raw.password.unwrap_or_else(|| Secret::new("x"));
    let pool = Pool { host: host.to_owned(), port: port.parse().ok()?, transport, password };
    Some(Upstream { address, user_identity, protocol: Protocol::Sv1(pool) })
}

fn sv2(key: &dyn Fn(&str) -> String, raw: &RawUpstream, problems: &mut Problems) -> Option<Protocol> {
    let address = problems.host_and_port(&key("address"), &raw.address);
    for (field, given) in [("password", raw.password.is_some()), ("fingerprint", raw.fingerprint.is_some())] {
        if given {
            problems.add::<()>(key(field), "is for SV1 pools only", "leave it out");
        }
    }
    let mend = "copy it from what the server's operator publishes";
    let authority = match &raw.authority_public_key {
        Some(text) => problems.parse(&key("authority_public_key"), text, mend),
        None => problems.add(key("authority_public_key"), "is missing", mend),
    };
    address.and(Some(Protocol::Sv2 { authority: authority? }))
}

fn transport(
    key: &dyn Fn(&str) -> String,
    raw: &RawUpstream,
    is_tls: bool,
    problems: &mut Problems,
) -> Option<Transport> {
    let Some(text) = &raw.fingerprint else {
        return Some(if is_tls { Transport::Tls(Trust::Authorities) } else { Transport::Plain });
    };
    if !is_tls {
        let mend = "write stratum+ssl:// or leave it out";
        return problems.add(key("fingerprint"), "needs a connection over TLS", mend);
    }
    let digits: String = text.chars().filter(|c| *c != ':').collect();
    match <[u8; 32]>::from_hex(&digits) {
        Ok(hash) => Some(Transport::Tls(Trust::Fingerprint(hash))),
        Err(_) => problems.add(key("fingerprint"), "is no SHA-256", "write 64 hex digits, colons allowed"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Proxy;

    fn sv2() -> String {
        let key = link::AuthorityKey::generate(&mut rand::thread_rng()).public();
        format!("[[upstream]]\naddress = \"h:1\"\nauthority_public_key = \"{key}\"\nuser_identity = \"a\"\n")
    }

    fn pool(address: &str, more: &str) -> String {
        format!("[[upstream]]\naddress = \"{address}\"\nuser_identity = \"bc1q.farm\"\n{more}\n")
    }

    fn refused(toml: &str) -> String {
        service::config_from_text::<Proxy>(toml).unwrap_err().to_string()
    }

    #[test]
    fn an_sv1_pool_is_named_by_its_scheme() {
        let fingerprint = "AB:".repeat(31) + "ab";
        let toml = [
            sv2(),
            pool("stratum+tcp://pool.example:3333", ""),
            pool("stratum+ssl://[::1]:443", "password = \"d=5\""),
            pool("stratum+ssl://pool.example:443", &format!("fingerprint = \"{fingerprint}\"")),
        ];
        let (_, config) = service::config_from_text::<Proxy>(&toml.concat()).unwrap();
        let pools = config.upstreams.iter().filter_map(|upstream| match &upstream.protocol {
            Protocol::Sv1(pool) => {
                Some((pool.host.as_str(), pool.port, pool.transport, pool.password.reveal()))
            }
            Protocol::Sv2 { .. } => None,
        });
        let pools: Vec<_> = pools.collect();
        assert_eq!(
            pools,
            [
                ("pool.example", 3333, Transport::Plain, "x"),
                ("[::1]", 443, Transport::Tls(Trust::Authorities), "d=5"),
                ("pool.example", 443, Transport::Tls(Trust::Fingerprint([0xab; 32])), "x"),
            ]
        );
        assert!(!format!("{:?}", config.upstreams).contains("d=5"));
    }

    #[test]
    fn a_pool_comes_after_the_servers_and_has_only_what_a_pool_has() {
        let tcp = "stratum+tcp://h:1";
        assert!(refused(&[pool(tcp, ""), sv2()].concat()).contains("before an SV2 server"));
        assert!(refused(&pool(tcp, "fingerprint = \"00\"")).contains("upstream[0].fingerprint"));
        assert!(refused(&pool("stratum+ssl://h:1", "fingerprint = \"00\"")).contains("64 hex digits"));
        assert!(refused(&pool("http://h:1", "")).contains("unknown scheme `http`"));
        assert!(refused(&pool("stratum+tcp://h", "")).contains("upstream[0].address"));
        assert!(refused(&(sv2() + "password = \"x\"\n")).contains("upstream[0].password"));
        assert!(refused(&pool("h:1", "")).contains("upstream[0].authority_public_key"));
    }
}
