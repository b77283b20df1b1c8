//! Why a connection ended.

use std::time::Duration;

use crate::frame::EncodeError;
use crate::handshakes::NoTurn;

/// Why a connection ended. Every variant is fatal for it.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No socket.
    #[error("cannot connect to {address}: {source}; check that it runs there, and host and port")]
    Connect {
        /// As configured.
        address: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The socket failed.
    #[error("socket: {0}")]
    Io(#[from] std::io::Error),
    /// The other side closed the connection.
    #[error("closed by the peer")]
    Closed,
    /// The server closed the connection after SetupConnection or during Noise.
    #[error(
        "closed by the peer during the handshake; is this an SV2 address, and is the authority key right?"
    )]
    ClosedInHandshake,
    /// The server closed the connection when extensions were requested: connect again without.
    #[error("closed by the peer when extensions were requested; it may know none")]
    ExtensionsRefused,
    /// The server's certificate is not signed by the configured authority key, or not valid at this time.
    #[error(
        "Noise handshake failed (InvalidCertificate): the server does not prove the configured authority_public_key; copy the key that its `init` printed, and check that both clocks are right"
    )]
    Certificate,
    /// Noise failed otherwise: what answers is no SV2 peer, or the bytes were tampered with.
    #[error("Noise handshake failed: {0}")]
    Handshake(String),
    /// What came first is the beginning of this protocol.
    #[error("it speaks {0} and not SV2 over Noise; the wrong port?")]
    OtherProtocol(&'static str),
    /// A client's first frame did not decrypt. Any 64 bytes are a key of the handshake, so what it said before may have been anything.
    #[error(
        "its first message does not decrypt: another protocol than SV2 over Noise, or bytes changed on the way"
    )]
    NoSv2,
    /// A frame did not decrypt.
    #[error("a frame does not decrypt: {0}")]
    Decrypt(String),
    /// A frame is longer than [`max_payload`](crate::Limits::max_payload).
    #[error("a frame has more than {0} bytes of payload")]
    FrameTooLong(usize),
    /// More than [`max_queued`](crate::Limits::max_queued) bytes wait to be written.
    #[error("more than {0} bytes wait for the peer to read")]
    QueueFull(usize),
    /// TCP got no answer from the peer's machine for [`dead_peer`](crate::Limits::dead_peer).
    #[error("the peer's machine does not answer any more")]
    Dead,
    /// The handshake was not done within [`handshake`](crate::Limits::handshake).
    #[error("handshake not done within {0:?}; does the other side speak SV2?")]
    HandshakeTimeout(Duration),
    /// Connections from the peer's address come to nothing, and this one has waited long enough behind them.
    #[error(transparent)]
    NoTurn(#[from] NoTurn),
    /// Nothing came in for [`idle`](crate::Limits::idle).
    #[error("silent for {0:?}")]
    Idle(Duration),
    /// The peer did not do what peers come for within [`unused`](crate::Limits::unused).
    #[error("it has been of no use for {0:?}")]
    Unused(Duration),
    /// A frame began and was not whole within [`frame`](crate::Limits::frame).
    #[error("a frame was not whole after {0:?}")]
    FrameTimeout(Duration),
    /// The peer did not read within [`write`](crate::Limits::write) what waited for it.
    #[error("the peer did not read for {0:?}")]
    WriteTimeout(Duration),
    /// A frame of another kind where the setup demands one.
    #[error("message {message_type:#04x} of extension {extension_type:#06x} came before {expected}")]
    Unexpected {
        /// Its type.
        message_type: u8,
        /// Its extension.
        extension_type: u16,
        /// What the protocol demands first.
        expected: &'static str,
    },
    /// A setup or negotiation message that does not parse.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// More messages to negotiate extensions than [anybody needs](crate::connection::MAX_NEGOTIATIONS).
    #[error("more than {0} messages to negotiate extensions")]
    Negotiations(u8),
    /// We refused a client.
    #[error("refused the client with {0}")]
    RefusedClient(&'static str),
    /// The server refused us.
    #[error("the server refused SetupConnection with \"{code}\" (flags {flags:#x})")]
    RefusedByServer {
        /// Error code of the specification.
        code: String,
        /// Flags that it does not support.
        flags: u32,
    },
    /// A message of ours does not fit a frame.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

impl LinkError {
    /// Name of the peer's fault for which we end the connection, for logs and metrics; `None` where not we end it, or
    /// not for a fault of the peer.
    pub fn fault(&self) -> Option<&'static str> {
        Some(match self {
            Self::Handshake(_) | Self::Certificate | Self::OtherProtocol(_) | Self::NoSv2 => {
                "no-sv2-handshake"
            }
            Self::Decrypt(_) => "tampered-frame",
            Self::FrameTooLong(_) => "frame-too-long",
            Self::QueueFull(_) | Self::WriteTimeout(_) => "slow-reader",
            Self::HandshakeTimeout(_) => "handshake-timeout",
            Self::NoTurn(NoTurn) => NoTurn::FAULT,
            Self::FrameTimeout(_) => "frame-timeout",
            Self::Idle(_) => "idle",
            Self::Unused(_) => "unused",
            Self::Dead => "dead-peer",
            Self::Unexpected { .. } => "unexpected-message",
            Self::Malformed(_) => "malformed-message",
            Self::Negotiations(_) => "too-many-negotiations",
            Self::RefusedClient(_) => "setup-refused",
            Self::Connect { .. }
            | Self::Io(_)
            | Self::Closed
            | Self::ClosedInHandshake
            | Self::ExtensionsRefused
            | Self::RefusedByServer { .. }
            | Self::Encode(_) => return None,
        })
    }
}
