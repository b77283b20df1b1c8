//! What is attacked: an address, and what is spoken there.

use std::net::SocketAddr;

use anyhow::Context;
use link::AuthorityPublicKey;

use crate::world::{Part, Upstream};

/// A listener of a program.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it speaks.
    pub speaks: Speaks,
}

/// A protocol, with what a peer must know to speak it.
#[derive(Debug, Clone, Copy)]
pub enum Speaks {
    /// Stratum V1.
    Sv1,
    /// Stratum V1 within TLS.
    Tls,
    /// The Mining Protocol of Stratum V2.
    Mining(AuthorityPublicKey),
    /// Its Template Distribution Protocol.
    Templates(AuthorityPublicKey),
    /// HTTP: a status page.
    Page,
}

impl Target {
    /// SV1 at `host:port`.
    ///
    /// # Errors
    /// It is no address.
    pub fn sv1(address: &str) -> anyhow::Result<Self> {
        Ok(Self { address: address.parse()?, speaks: Speaks::Sv1 })
    }

    /// SV1 within TLS at `host:port`.
    ///
    /// # Errors
    /// It is no address.
    pub fn tls(address: &str) -> anyhow::Result<Self> {
        Ok(Self { address: address.parse()?, speaks: Speaks::Tls })
    }

    /// An SV2 mining server.
    ///
    /// # Errors
    /// It has no address or key.
    pub fn mining(server: &Upstream) -> anyhow::Result<Self> {
        let speaks = Speaks::Mining(server.authority_key.parse()?);
        Ok(Self { address: server.address().parse()?, speaks })
    }

    /// A template provider.
    ///
    /// # Errors
    /// It has no address or key.
    pub fn templates(server: &Upstream) -> anyhow::Result<Self> {
        let speaks = Speaks::Templates(server.authority_key.parse()?);
        Ok(Self { address: server.address().parse()?, speaks })
    }

    /// The status page of a program.
    ///
    /// # Errors
    /// It has no address.
    pub fn page(part: &Part) -> anyhow::Result<Self> {
        let url = part.url("");
        let address = url.strip_prefix("http://").and_then(|rest| rest.split('/').next());
        Ok(Self { address: address.context("no page")?.parse()?, speaks: Speaks::Page })
    }

    /// One word for tables.
    pub fn name(&self) -> &'static str {
        match self.speaks {
            Speaks::Sv1 => "sv1",
            Speaks::Tls => "tls",
            Speaks::Mining(_) => "sv2",
            Speaks::Templates(_) => "templates",
            Speaks::Page => "page",
        }
    }
}
