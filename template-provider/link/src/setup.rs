//! SetupConnection (SV2 spec §3.5) and RequestExtensions (SV2 extension 0x0001), both ends, as functions.

use std::net::SocketAddr;

use stratum_core::binary_sv2::{Seq064K, Str0255};
use stratum_core::common_messages_sv2::{
    ERROR_CODE_SETUP_CONNECTION_PROTOCOL_VERSION_MISMATCH,
    ERROR_CODE_SETUP_CONNECTION_UNSUPPORTED_FEATURE_FLAGS, ERROR_CODE_SETUP_CONNECTION_UNSUPPORTED_PROTOCOL,
    SetupConnection, SetupConnectionError, SetupConnectionSuccess,
};
use stratum_core::extensions_sv2::{RequestExtensions, RequestExtensionsError, RequestExtensionsSuccess};
use stratum_core::parsers_sv2::{AnyMessage, CommonMessages, Extensions, ExtensionsNegotiation};

use crate::frame::{EncodeError, Frame};
use crate::settings::{Client, Device, PROTOCOL_VERSION, Peer, Server};

/// Most extensions that one request may name; more are refused unread.
pub const MAX_REQUESTED_EXTENSIONS: usize = 1024;

/// A server's answer to SetupConnection.
#[derive(Debug)]
pub enum Answer {
    /// The connection is set up.
    Accepted(Peer),
    /// Refused with this error code of the specification; the connection is to be closed after the answer.
    Refused(&'static str),
}

/// Judges a client's SetupConnection and encodes the answer. A refusal names flags only if they caused it, as SV2 spec
/// §3.6.3 defines the field: a client that reads 0 knows that the reason is another.
///
/// # Errors
/// The answer does not fit a frame.
pub fn answer_setup(
    server: &Server,
    address: SocketAddr,
    setup: &SetupConnection<'_>,
) -> Result<(Answer, Frame), EncodeError> {
    let unsupported_flags = setup.flags & !server.supported_flags;
    let refusal = if setup.protocol != server.protocol {
        Some((ERROR_CODE_SETUP_CONNECTION_UNSUPPORTED_PROTOCOL, 0))
    } else if !(setup.min_version..=setup.max_version).contains(&PROTOCOL_VERSION) {
        Some((ERROR_CODE_SETUP_CONNECTION_PROTOCOL_VERSION_MISMATCH, 0))
    } else if unsupported_flags != 0 {
        Some((ERROR_CODE_SETUP_CONNECTION_UNSUPPORTED_FEATURE_FLAGS, unsupported_flags))
    } else {
        None
    };
    if let Some((code, flags)) = refusal {
        let error = SetupConnectionError { flags, error_code: text(code) };
        return Ok((Answer::Refused(code), Frame::message(CommonMessages::SetupConnectionError(error))?));
    }
    let success = SetupConnectionSuccess { used_version: PROTOCOL_VERSION, flags: server.flags };
    let frame = Frame::message(CommonMessages::SetupConnectionSuccess(success))?;
    let peer = Peer {
        address,
        version: PROTOCOL_VERSION,
        flags: setup.flags,
        host: setup.endpoint_host.as_utf8_or_hex(),
        port: setup.endpoint_port,
        device: Device {
            vendor: setup.vendor.as_utf8_or_hex(),
            hardware_version: setup.hardware_version.as_utf8_or_hex(),
            firmware: setup.firmware.as_utf8_or_hex(),
            device_id: setup.device_id.as_utf8_or_hex(),
        },
    };
    Ok((Answer::Accepted(peer), frame))
}

/// A client's SetupConnection to the given host and port.
///
/// # Errors
/// The message does not fit a frame.
pub fn request_setup(client: &Client, host: &str, port: u16) -> Result<Frame, EncodeError> {
    Frame::message(CommonMessages::SetupConnection(SetupConnection {
        protocol: client.protocol,
        min_version: PROTOCOL_VERSION,
        max_version: PROTOCOL_VERSION,
        flags: client.flags,
        endpoint_host: text(host),
        endpoint_port: port,
        vendor: text(&client.device.vendor),
        hardware_version: text(&client.device.hardware_version),
        firmware: text(&client.device.firmware),
        device_id: text(&client.device.device_id),
    }))
}

/// What a server answered to SetupConnection.
#[derive(Debug)]
pub enum Verdict {
    /// Set up, with the server's version and flags.
    Accepted {
        /// Protocol version in use.
        version: u16,
        /// The server's flags.
        flags: u32,
    },
    /// Refused.
    Refused {
        /// Error code of the specification.
        code: String,
        /// Flags that the server does not support.
        flags: u32,
    },
}

/// Reads a server's answer; `None` if the message is no answer to SetupConnection.
pub fn read_verdict(message: &AnyMessage<'_>) -> Option<Verdict> {
    match message {
        AnyMessage::Common(CommonMessages::SetupConnectionSuccess(success)) => {
            Some(Verdict::Accepted { version: success.used_version, flags: success.flags })
        }
        AnyMessage::Common(CommonMessages::SetupConnectionError(error)) => {
            Some(Verdict::Refused { code: error.error_code.as_utf8_or_hex(), flags: error.flags })
        }
        _ => None,
    }
}

/// A server's answer to RequestExtensions: the extensions granted, and the message that says so.
///
/// Success if at least one requested extension is supported, else an error that names the unsupported ones.
///
/// # Errors
/// The answer does not fit a frame.
pub fn answer_extensions(
    supported: &[u16],
    request: &RequestExtensions<'_>,
) -> Result<(Vec<u16>, Frame), EncodeError> {
    let request_id = request.request_id;
    let requested = &request.requested_extensions.as_slice()
        [..request.requested_extensions.len().min(MAX_REQUESTED_EXTENSIONS)];
    let (granted, unsupported): (Vec<u16>, Vec<u16>) = requested.iter().partition(|e| supported.contains(e));
    let answer = if granted.is_empty() {
        ExtensionsNegotiation::RequestExtensionsError(RequestExtensionsError {
            request_id,
            unsupported_extensions: sequence(unsupported),
            required_extensions: sequence(Vec::new()),
        })
    } else {
        ExtensionsNegotiation::RequestExtensionsSuccess(RequestExtensionsSuccess {
            request_id,
            supported_extensions: sequence(granted.clone()),
        })
    };
    let frame = Frame::message(Extensions::ExtensionsNegotiation(answer))?;
    Ok((granted, frame))
}

/// The request id of the one RequestExtensions that a client sends.
const REQUEST_ID: u16 = 0;

/// A client's RequestExtensions.
///
/// # Errors
/// The message does not fit a frame.
pub fn request_extensions(wanted: &[u16]) -> Result<Frame, EncodeError> {
    let request =
        RequestExtensions { request_id: REQUEST_ID, requested_extensions: sequence(wanted.to_vec()) };
    Frame::message(Extensions::ExtensionsNegotiation(ExtensionsNegotiation::RequestExtensions(request)))
}

/// Reads a server's answer: those of the wanted extensions that it granted; `None` if it is no such answer.
pub fn read_granted(wanted: &[u16], message: &AnyMessage<'_>) -> Option<Vec<u16>> {
    let AnyMessage::Extensions(Extensions::ExtensionsNegotiation(answer)) = message else { return None };
    match answer {
        ExtensionsNegotiation::RequestExtensionsSuccess(success) => {
            let granted = success.supported_extensions.as_slice();
            Some(wanted.iter().copied().filter(|e| granted.contains(e)).collect())
        }
        ExtensionsNegotiation::RequestExtensionsError(_) => Some(Vec::new()),
        ExtensionsNegotiation::RequestExtensions(_) => None,
    }
}

/// A STR0_255; what is longer is cut at a character.
fn text(value: &str) -> Str0255<'_> {
    let mut end = value.len().min(255);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    value[..end].try_into().unwrap_or_else(|_| unreachable!("at most 255 bytes fit"))
}

/// A SEQ0_64K of at most [`MAX_REQUESTED_EXTENSIONS`] or a configuration's few elements.
fn sequence<'a>(elements: Vec<u16>) -> Seq064K<'a, u16> {
    Seq064K::new(elements).unwrap_or_else(|_| unreachable!("far below 65,536 elements"))
}
