//! What a server offers, what a client asks for, and the bounds of both.

use std::net::SocketAddr;
use std::time::Duration;

use stratum_core::common_messages_sv2::Protocol;

use crate::key::{AuthorityKey, AuthorityPublicKey};

/// The one version of the SV2 protocols that exists (SV2 spec §3.5).
pub const PROTOCOL_VERSION: u16 = 2;

/// A server's side of every connection it accepts.
#[derive(Clone, Debug)]
pub struct Server {
    /// Signs the Noise certificate.
    pub authority: AuthorityKey,
    /// How long a certificate stays valid; it is made anew for each connection.
    pub certificate_validity: Duration,
    /// The one sub-protocol served on this address.
    pub protocol: Protocol,
    /// SetupConnection flags that clients may set; any other is refused with `unsupported-feature-flags`.
    pub supported_flags: u32,
    /// Flags sent in SetupConnection.Success.
    pub flags: u32,
    /// Extensions granted to clients that request them.
    pub extensions: Vec<u16>,
    /// Bounds.
    pub limits: Limits,
}

/// A client's side of one connection.
#[derive(Clone, Debug)]
pub struct Client {
    /// The server must show a certificate signed by this key; `None` accepts any server.
    pub authority: Option<AuthorityPublicKey>,
    /// The sub-protocol wanted.
    pub protocol: Protocol,
    /// SetupConnection flags.
    pub flags: u32,
    /// Who we say we are.
    pub device: Device,
    /// Extensions to request (SV2 extension 0x0001); nothing is requested when empty.
    pub extensions: Vec<u16>,
    /// Bounds.
    pub limits: Limits,
}

/// How a client describes itself in SetupConnection (SV2 spec §3.5.1). Each at most 255 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Manufacturer of the device or name of the program.
    pub vendor: String,
    /// Version of the hardware.
    pub hardware_version: String,
    /// Firmware or program version.
    pub firmware: String,
    /// Unique name of the device; may be empty.
    pub device_id: String,
}

impl Device {
    /// Whether a Reconnect (SV2 spec §3.6.5) would kill the program that describes itself so. SRI's translator panics of it
    /// (translator_sv2 0.6.0, `sv2/upstream/common_message_handler.rs`: `todo!()`), vendor `SRI`; so do its translator, job
    /// declarator client and mining device up to 2025, which name no vendor, hardware or firmware, though the specification asks
    /// for them. To each of them the end of its connection says the same.
    pub fn dies_of_reconnect(&self) -> bool {
        self.vendor == "SRI" || self.is_nameless()
    }

    /// Whether SetExtranoncePrefix (SV2 spec §5.3.10) is lost on the program that describes itself so, and all its shares after it.
    /// ESP-Miner does not know it (v2.14.0 to v2.15.0, `main/tasks/stratum_v2_task.c`), vendor `bitaxe`; SRI's programs that name
    /// no vendor ignore it or panic of it (`todo!()`). Not so vendor `SRI`: translator_sv2 0.6.0 passes it on to its miners, and
    /// never comes back to a server that has ended its connection; those before it ignored it, and cannot be told from it.
    pub fn keeps_its_prefix(&self) -> bool {
        self.vendor == "bitaxe" || self.is_nameless()
    }

    fn is_nameless(&self) -> bool {
        [&self.vendor, &self.hardware_version, &self.firmware].iter().all(|s| s.is_empty())
    }
}

/// The other side of a connection that is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where it connects from, or what we connected to.
    pub address: SocketAddr,
    /// Protocol version in use.
    pub version: u16,
    /// Flags that the other side sent: a client's SetupConnection, a server's SetupConnection.Success.
    pub flags: u32,
    /// Host name that a client used to reach us; empty for a server.
    pub host: String,
    /// Port that a client used to reach us; 0 for a server.
    pub port: u16,
    /// Self-description of a client; empty for a server.
    pub device: Device,
}

/// Bounds of one connection. A peer that passes one loses its connection, with the bound's name in the error; only
/// above [`rate`](Self::rate) it is merely made to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From connecting until SetupConnection is answered; waiting for [our turn](crate::Handshakes) does not count. Whoever floods
    /// a server with beginnings has to keep each for so long: the longer, the fewer come.
    pub handshake: Duration,
    /// Longest silence of the peer; `None` leaves half-open connections to TCP, see [`dead_peer`](Self::dead_peer).
    pub idle: Option<Duration>,
    /// From connecting until the peer has done what peers come for, see [`Link::proved`](crate::Link::proved); `None`: there is no hurry.
    pub unused: Option<Duration>,
    /// A frame that has begun to come in must be whole after this, and a second for each [`SLOWEST`] bytes of it.
    pub frame: Duration,
    /// Bytes that wait for the peer must be read after this, and a second for each [`SLOWEST`] bytes of them.
    pub write: Duration,
    /// A peer whose TCP acknowledges nothing for so long is gone.
    pub dead_peer: Duration,
    /// Longest payload accepted, in bytes; the format's own bound is 16,777,215. Refused at the frame's header.
    pub max_payload: usize,
    /// Most encrypted bytes that wait to be written.
    pub max_queued: usize,
    /// While more encrypted bytes than that wait for the peer to read them, it is not read. The default leaves room for two of
    /// the longest frames.
    pub max_unread: usize,
    /// How fast the peer may send: above it is not read for a while. `None`: as fast as it likes.
    pub rate: Option<Rate>,
}

/// How much a peer may send in a second, on average over a few.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Frames; 0 counts as 1.
    pub messages: u32,
    /// Encrypted bytes; 0 counts as 1.
    pub bytes: u32,
}

/// Bytes in a second that every honest connection manages, whatever its line.
pub const SLOWEST: usize = 16 * 1024;

impl Limits {
    /// `limit`, and the time that so many bytes take on the [slowest](SLOWEST) line.
    pub(crate) fn with_transfer(limit: Duration, bytes: usize) -> Duration {
        limit + Duration::from_secs((bytes / SLOWEST) as u64)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(15),
            idle: None,
            unused: None,
            frame: Duration::from_secs(30),
            write: Duration::from_secs(30),
            dead_peer: Duration::from_secs(60),
            max_payload: crate::frame::MAX_PAYLOAD,
            max_queued: 64 << 20,
            max_unread: 2 * crate::frame::MAX_PAYLOAD,
            rate: None,
        }
    }
}
