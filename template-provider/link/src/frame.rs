//! One SV2 frame in clear (SV2 spec §3.2): going out ([`Frame`]) or come in ([`Received`]).

use bytes::Bytes;
use stratum_core::binary_sv2::{self, GetSize, Serialize};
use stratum_core::codec_sv2::SerializedFrame;
use stratum_core::framing_sv2::framing::{EncodableFrame, MessageFrame, SizeHint};
use stratum_core::framing_sv2::header::Header;
use stratum_core::parsers_sv2::{AnyMessage, IsSv2Message, ParserError, Tlv};

/// Longest payload a frame can declare, in bytes: its length field has 24 bits.
pub const MAX_PAYLOAD: usize = 0xff_ffff;

/// One whole frame to send: 6-byte header and payload, not yet encrypted.
///
/// Immutable and cheap to clone, so what many connections get is encoded once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame(Bytes);

/// A message that does not fit a frame: its payload is above [`MAX_PAYLOAD`] or a field is too long.
#[derive(Debug, thiserror::Error)]
#[error("message {message_type:#04x} does not fit an SV2 frame: {reason}")]
pub struct EncodeError {
    message_type: u8,
    reason: String,
}

impl Frame {
    /// Encodes a message of the protocols that SRI's parsers know (common, mining, template distribution,
    /// job declaration, extension negotiation); type, extension and channel bit follow from it.
    ///
    /// # Errors
    /// A payload above [`MAX_PAYLOAD`], or a field that is too long.
    pub fn message<M: IsSv2Message + Serialize + GetSize>(message: M) -> Result<Self, EncodeError> {
        let (message_type, extension, channel_msg) =
            (message.message_type(), message.extension_type(), message.channel_bit());
        Self::extension(message, message_type, extension, channel_msg)
    }

    /// Encodes a message of an extension (SV2 spec §3.4).
    ///
    /// # Errors
    /// As [`Self::message`].
    pub fn extension<M: Serialize + GetSize>(
        message: M,
        message_type: u8,
        extension_type: u16,
        channel_msg: bool,
    ) -> Result<Self, EncodeError> {
        let fail = |reason: String| EncodeError { message_type, reason };
        let frame = MessageFrame::from_message(message, message_type, extension_type, channel_msg)
            .map_err(|e| fail(format!("{e:?}")))?;
        let mut bytes = vec![0; frame.encoded_length()];
        frame.encode_into(&mut bytes).map_err(|e| fail(format!("{e:?}")))?;
        Ok(Self(bytes.into()))
    }

    /// Encodes a message with optional fields of negotiated extensions behind it (TLV, SV2 spec §3.4.3).
    ///
    /// # Errors
    /// As [`Self::message`], the fields behind it included.
    pub fn message_with_tlvs<M: IsSv2Message + Serialize + GetSize>(
        message: M,
        tlvs: &[Tlv],
    ) -> Result<Self, EncodeError> {
        let message_type = message.message_type();
        let fail = |reason: String| EncodeError { message_type, reason };
        let list =
            stratum_core::parsers_sv2::TlvList::from_slice(tlvs).map_err(|e| fail(format!("{e:?}")))?;
        let bytes = list.build_frame_bytes_with_tlvs(message).map_err(|e| fail(format!("{e:?}")))?;
        if bytes.len() > Header::SIZE + MAX_PAYLOAD {
            return Err(fail(format!("{} bytes of payload", bytes.len() - Header::SIZE)));
        }
        Ok(Self(bytes.into()))
    }

    /// Wraps the bytes of one whole frame, header included.
    ///
    /// # Errors
    /// They are fewer or more than their header says; by how much.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, SizeHint> {
        SerializedFrame::parse_header(&bytes)?;
        Ok(Self(bytes))
    }

    /// The frame's bytes in clear, header included.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The SV2 message type.
    pub fn message_type(&self) -> u8 {
        self.0[2]
    }

    /// This frame as its receiver gets it.
    pub fn received(&self) -> Received {
        match SerializedFrame::from_bytes(self.0.to_vec()) {
            Ok(frame) => Received(frame),
            Err(hint) => unreachable!("a Frame is always whole: {hint}"),
        }
    }
}

/// Lets SRI's codec encrypt the frame straight from the shared bytes.
impl EncodableFrame for &Frame {
    fn encoded_length(&self) -> usize {
        self.0.len()
    }

    fn encode_into(self, dst: &mut [u8]) -> Result<(), stratum_core::framing_sv2::Error> {
        dst.copy_from_slice(&self.0);
        Ok(())
    }
}

/// One whole frame that came in, decrypted, its payload not parsed yet.
#[derive(Debug)]
pub struct Received(SerializedFrame);

impl Received {
    /// Wraps a frame that SRI's decoder has handed out.
    pub fn new(frame: SerializedFrame) -> Self {
        Self(frame)
    }

    /// The extension this frame belongs to, without the channel bit; 0 is the base protocol.
    pub fn extension_type(&self) -> u16 {
        self.0.header().ext_type_without_channel_msg()
    }

    /// The SV2 message type, to be read together with [`Self::extension_type`].
    pub fn message_type(&self) -> u8 {
        self.0.header().msg_type()
    }

    /// Header of six bytes: extension type with channel bit, message type, payload length.
    pub fn header(&self) -> Header {
        self.0.header()
    }

    /// The payload; mutable because SRI's parsers borrow it so. Optional TLV fields stand at its end.
    pub fn payload(&mut self) -> &mut [u8] {
        self.0.payload()
    }

    /// Parses a message of the base protocol or of 0x0001.
    ///
    /// Look at [`Self::extension_type`] first: SRI's parsers know no other extension and answer with an error.
    ///
    /// # Errors
    /// It does not decode, or is no message of these.
    pub fn parse(&mut self) -> Result<AnyMessage<'_>, ParserError> {
        let header = self.0.header();
        AnyMessage::try_from((header, self.0.payload()))
    }

    /// Parses the payload as one message of an extension of our own.
    ///
    /// # Errors
    /// It does not decode.
    pub fn parse_as<'a, M: binary_sv2::Deserialize<'a>>(&'a mut self) -> Result<M, binary_sv2::Error> {
        binary_sv2::from_bytes(self.0.payload())
    }
}
