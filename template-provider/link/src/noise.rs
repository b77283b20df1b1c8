//! Noise handshake and encrypted transport (SV2 spec §4), bytes in, bytes out, on SRI's codec.
//!
//! The certificate is dated back by [`CLOCK_TOLERANCE`], so that a client whose clock is behind still accepts
//! it; SRI's crate dates it to the second and leaves ten seconds of leeway.

use std::time::Duration;

use rand::{CryptoRng, Rng};
use stratum_core::codec_sv2::{
    self, Decoded, Decrypted, ExpectsHandshakeMessage, Handshake, InitiatorSent, NoiseDecoder, NoiseEncoder,
    Transport, TransportDecryptState, TransportEncryptState, encrypted_payload_length,
};
use stratum_core::framing_sv2::header::Header;
use stratum_core::noise_sv2::{Initiator, Responder};

use crate::frame::{Frame, Received};
use crate::key::{AuthorityKey, AuthorityPublicKey};

/// How far a client's clock may be behind ours, or ahead when the validity is over: an hour that one of both jumped,
/// and an hour that the other was wrong before.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(2 * 3600);

/// SRI's crate adds the validity to the time in 32 bits: this keeps the sum below 2106.
const MAX_VALIDITY_SECONDS: u32 = 1 << 30;

/// A handshake that waits for the other side's one message.
#[derive(Debug)]
pub struct Shaking<R> {
    role: Handshake<R>,
    decoder: NoiseDecoder,
}

/// What became of the bytes given to a handshake.
#[derive(Debug)]
pub enum Progress<R> {
    /// All bytes were taken and more are needed.
    Waiting(Shaking<R>),
    /// Done; `reply` is to be sent in clear before anything encrypted.
    Done {
        /// The responder's message, empty for the initiator.
        reply: Vec<u8>,
        /// The two directions, encrypted from here on.
        cipher: Box<Cipher>,
    },
}

/// Starts as the server's end. `validity` is the certificate's, from now on.
pub fn respond<G: Rng + CryptoRng>(
    authority: &AuthorityKey,
    validity: Duration,
    random: &mut G,
) -> Shaking<Responder> {
    let seconds = validity.saturating_add(2 * CLOCK_TOLERANCE).as_secs();
    let seconds = u32::try_from(seconds).unwrap_or(u32::MAX).min(MAX_VALIDITY_SECONDS);
    let role = Responder::new_with_rng(authority.keypair(), seconds, random);
    Shaking { role: Handshake::responder(role), decoder: NoiseDecoder::new() }
}

/// Starts as the client's end; returns the first message to send.
///
/// # Errors
/// SRI's codec makes no first message.
pub fn initiate<G: Rng + CryptoRng>(
    authority: Option<AuthorityPublicKey>,
    random: &mut G,
) -> Result<(Vec<u8>, Shaking<InitiatorSent>), codec_sv2::Error> {
    let role = Initiator::new_with_rng(authority.map(AuthorityPublicKey::x_only), random);
    let (first, role) = Handshake::initiator(role).step_0()?;
    Ok((first.payload().to_vec(), Shaking { role, decoder: NoiseDecoder::new() }))
}

impl Shaking<Responder> {
    /// Takes bytes off the front of `input`, in whole units only: what is left belongs in front of the next.
    /// `unix` is the time in seconds, for the certificate.
    ///
    /// # Errors
    /// What the client sent makes no handshake; nothing can be read after it.
    pub fn advance<G: Rng + CryptoRng>(
        mut self,
        input: &mut &[u8],
        unix: u32,
        random: &mut G,
    ) -> Result<Progress<Responder>, codec_sv2::Error> {
        let Some(message) = read_message::<Responder>(&mut self.decoder, input)? else {
            return Ok(Progress::Waiting(self));
        };
        let valid_from = unix.saturating_sub(u32::try_from(CLOCK_TOLERANCE.as_secs()).unwrap_or(u32::MAX));
        let key = message.try_into().unwrap_or_else(|_| unreachable!("the decoder waits for the whole key"));
        let (reply, transport) = self.role.step_1_with_now_rng(key, valid_from, random)?;
        Ok(Progress::Done { reply: reply.payload().to_vec(), cipher: Cipher::new(transport, self.decoder) })
    }
}

impl Shaking<InitiatorSent> {
    /// Takes bytes off the front of `input`, in whole units only: what is left belongs in front of the next.
    /// `unix` is the time in seconds, for the certificate.
    ///
    /// # Errors
    /// The server does not prove the authority's key at this time, or what it sent makes no handshake.
    pub fn advance(
        mut self,
        input: &mut &[u8],
        unix: u32,
    ) -> Result<Progress<InitiatorSent>, codec_sv2::Error> {
        let Some(message) = read_message::<InitiatorSent>(&mut self.decoder, input)? else {
            return Ok(Progress::Waiting(self));
        };
        let answer = message.try_into().unwrap_or_else(|_| unreachable!("the decoder waits for it whole"));
        let transport = self.role.step_2_with_now(answer, unix)?;
        Ok(Progress::Done { reply: Vec::new(), cipher: Cipher::new(transport, self.decoder) })
    }
}

fn read_message<R: ExpectsHandshakeMessage>(
    decoder: &mut NoiseDecoder,
    input: &mut &[u8],
) -> Result<Option<Vec<u8>>, codec_sv2::Error> {
    loop {
        match decoder.next_handshake_frame::<R>()? {
            Decoded::Frame(message) => return Ok(Some(message.payload().to_vec())),
            Decoded::Incomplete(_) if fill(decoder, input) == 0 => return Ok(None),
            Decoded::Incomplete(_) => {}
        }
    }
}

/// Both directions after the handshake.
pub struct Cipher {
    encryption: TransportEncryptState,
    /// `None` after a frame that did not decrypt: the connection is beyond repair.
    decryption: Option<TransportDecryptState>,
    encoder: NoiseEncoder,
    decoder: NoiseDecoder,
    /// Encrypted bytes taken since the last whole frame.
    taken: usize,
}

/// Why no frame came out.
#[derive(Debug)]
pub enum DecryptError {
    /// A frame declares more than the bound.
    TooLong,
    /// Tampered with, out of order, or not ours.
    Codec(codec_sv2::Error),
    /// An earlier frame was: nothing after it can be read.
    Broken,
}

impl Cipher {
    fn new(transport: Transport, decoder: NoiseDecoder) -> Box<Self> {
        let (encryption, decryption) = transport.split();
        let decryption = Some(decryption);
        Box::new(Self { encryption, decryption, encoder: NoiseEncoder::new(), decoder, taken: 0 })
    }

    /// Appends the frame, encrypted, to `out`.
    ///
    /// # Errors
    /// SRI's codec cannot encrypt it.
    pub fn encrypt(&mut self, frame: &Frame, out: &mut Vec<u8>) -> Result<(), codec_sv2::Error> {
        let bytes = self.encoder.encode_transport(frame, &mut self.encryption)?;
        out.extend_from_slice(bytes.as_ref());
        Ok(())
    }

    /// Encrypted bytes taken of a frame that is not whole yet.
    pub fn begun(&self) -> usize {
        self.taken
    }

    /// The next whole frame, taking bytes off the front of `input`, in whole units only: what is left belongs in
    /// front of the next. `None` when more are needed.
    ///
    /// # Errors
    /// See [`DecryptError`]; no frame comes after it.
    pub fn decrypt(
        &mut self,
        input: &mut &[u8],
        max_payload: usize,
    ) -> Result<Option<Received>, DecryptError> {
        loop {
            let state = self.decryption.take().ok_or(DecryptError::Broken)?;
            match self.decoder.next_transport_frame(state).map_err(DecryptError::Codec)? {
                Decrypted::Frame(frame, state) => {
                    self.decryption = Some(state);
                    self.taken = 0;
                    return Ok(Some(Received::new(frame)));
                }
                Decrypted::Incomplete(_, state) => self.decryption = Some(state),
            }
            // The decoder asks for what the header declared, a chunk at a time: refused before it is waited for.
            if self.taken + self.decoder.writable_len() > longest_encrypted(max_payload) {
                return Err(DecryptError::TooLong);
            }
            match fill(&mut self.decoder, input) {
                0 => return Ok(None),
                filled => self.taken += filled,
            }
        }
    }
}

impl std::fmt::Debug for Cipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cipher").field("taken", &self.taken).finish_non_exhaustive()
    }
}

/// Most encrypted bytes that a frame within the bound takes.
fn longest_encrypted(max_payload: usize) -> usize {
    let [low, middle, high, ..] = max_payload.min(crate::frame::MAX_PAYLOAD).to_le_bytes();
    let header = Header::from_bytes(&[0, 0, 0, low, middle, high])
        .unwrap_or_else(|e| unreachable!("six bytes are a header: {e:?}"));
    codec_sv2::ENCRYPTED_SV2_FRAME_HEADER_SIZE + encrypted_payload_length(&header)
}

/// Moves the bytes that the decoder waits for and returns their number; 0 if `input` does not hold them all.
///
/// SRI's decoder counts the window it hands out as filled, so it never gets a part of it.
fn fill(decoder: &mut NoiseDecoder, input: &mut &[u8]) -> usize {
    let wanted = decoder.writable_len();
    let Some((window, later)) = input.split_at_checked(wanted) else { return 0 };
    decoder.writable().copy_from_slice(window);
    *input = later;
    wanted
}
