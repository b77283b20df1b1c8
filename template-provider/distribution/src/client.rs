//! The client's end: what the hub and the proxy speak to a template provider.

use std::collections::VecDeque;

use link::{EncodeError, Frame, Received};
use stratum_core::parsers_sv2::{
    AnyMessage, CommonMessages, TemplateDistribution, TemplateDistributionOwned,
};
use stratum_core::template_distribution_sv2::{
    NewTemplateOwned, RequestTransactionData, SetNewPrevHashOwned, SubmitSolutionOwned,
};

use crate::Constraints;

/// Most future templates remembered until a SetNewPrevHash names one.
const MAX_FUTURE: usize = 64;

/// What the server sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A template: in force at once, or, if it is a future one, from the [`Event::PrevHash`] that names it.
    Template(NewTemplateOwned),
    /// A new tip, with the future template that is in force from now on: one of those sent before.
    PrevHash(SetNewPrevHashOwned),
    /// The transactions of a template, each serialised with its witness, in block order, the coinbase left out.
    TransactionData {
        /// The template asked for.
        template_id: u64,
        /// Serialised transactions.
        transactions: Vec<Vec<u8>>,
    },
    /// The server does not give the transactions of a template.
    TransactionDataRefused {
        /// The template asked for.
        template_id: u64,
        /// As in `stale-template-id`.
        code: String,
    },
}

/// Why the connection ends: a server's fault, or its wish.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// A message of another protocol or direction.
    #[error("message {0:#04x} is not a template provider's")]
    Unexpected(u8),
    /// A message that does not parse.
    #[error("message {message_type:#04x} does not parse: {reason}")]
    Malformed {
        /// Its type.
        message_type: u8,
        /// What is wrong.
        reason: String,
    },
    /// SetNewPrevHash for a template that was not sent before as a future one.
    #[error("SetNewPrevHash names template {0}, which is no future template")]
    UnknownTemplate(u64),
    /// A template in force before any SetNewPrevHash.
    #[error("template {0} builds on a tip that was never sent")]
    NoPrevHash(u64),
    /// Reconnect (SV2 spec §3.6.5), which any server may send. It is connected to anew where it is configured: a template provider
    /// stands beside its node, and has no farm of others to send us to, so another host is not followed.
    #[error("the template provider asks to be connected to anew")]
    Reconnect,
}

/// A session with one template provider.
#[derive(Debug, Default)]
pub struct Client {
    /// Ids of future templates that no SetNewPrevHash has named yet, oldest first.
    future: VecDeque<u64>,
    tip_known: bool,
    outgoing: VecDeque<Frame>,
    events: VecDeque<Event>,
}

impl Client {
    /// A session over a connection that has just been set up. Templates come after [`Self::constraints`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Says how much is added to the coinbase at most: the first message, and again when it changes.
    ///
    /// # Errors
    /// The message does not fit a frame.
    pub fn constraints(&mut self, constraints: Constraints) -> Result<(), EncodeError> {
        self.send(TemplateDistributionOwned::CoinbaseOutputConstraints(constraints.into()))
    }

    /// Asks for a template's transactions.
    ///
    /// # Errors
    /// The message does not fit a frame.
    pub fn request_transaction_data(&mut self, template_id: u64) -> Result<(), EncodeError> {
        let message = RequestTransactionData { template_id };
        self.send(TemplateDistributionOwned::RequestTransactionData(message))
    }

    /// Hands in a block; there is no answer.
    ///
    /// # Errors
    /// The message does not fit a frame, as with a coinbase that is too long.
    pub fn submit_solution(&mut self, solution: SubmitSolutionOwned) -> Result<(), EncodeError> {
        self.send(TemplateDistributionOwned::SubmitSolution(solution))
    }

    /// Takes a frame. Frames of extensions are ignored (SV2 spec §3.4).
    ///
    /// # Errors
    /// The server broke the protocol, or asks to be connected to anew: the connection ends.
    pub fn handle(&mut self, received: &mut Received) -> Result<(), Fatal> {
        if received.extension_type() != 0 {
            return Ok(());
        }
        let message_type = received.message_type();
        let malformed = |e| Fatal::Malformed { message_type, reason: format!("{e:?}") };
        let message = match received.parse().map_err(malformed)? {
            AnyMessage::TemplateDistribution(message) => message,
            AnyMessage::Common(CommonMessages::Reconnect(_)) => return Err(Fatal::Reconnect),
            _ => return Err(Fatal::Unexpected(message_type)),
        };
        let event = match message {
            TemplateDistribution::NewTemplate(m) => self.template(m.into_owned())?,
            TemplateDistribution::SetNewPrevHash(m) => self.prev_hash(m.into_owned())?,
            TemplateDistribution::RequestTransactionDataSuccess(m) => Event::TransactionData {
                template_id: m.template_id,
                transactions: m.transaction_list.iter_bytes().map(<[u8]>::to_vec).collect(),
            },
            TemplateDistribution::RequestTransactionDataError(m) => Event::TransactionDataRefused {
                template_id: m.template_id,
                code: m.error_code.as_utf8_or_hex(),
            },
            _ => return Err(Fatal::Unexpected(message_type)),
        };
        self.events.push_back(event);
        Ok(())
    }

    /// What the server sent, in order.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next frame to send.
    pub fn poll_send(&mut self) -> Option<Frame> {
        self.outgoing.pop_front()
    }

    fn template(&mut self, template: NewTemplateOwned) -> Result<Event, Fatal> {
        if template.future_template {
            if self.future.len() == MAX_FUTURE {
                self.future.pop_front();
            }
            self.future.push_back(template.template_id);
        } else if !self.tip_known {
            return Err(Fatal::NoPrevHash(template.template_id));
        }
        Ok(Event::Template(template))
    }

    fn prev_hash(&mut self, prev_hash: SetNewPrevHashOwned) -> Result<Event, Fatal> {
        if !self.future.contains(&prev_hash.template_id) {
            return Err(Fatal::UnknownTemplate(prev_hash.template_id));
        }
        self.future.clear();
        self.tip_known = true;
        Ok(Event::PrevHash(prev_hash))
    }

    fn send(&mut self, message: TemplateDistributionOwned) -> Result<(), EncodeError> {
        self.outgoing.push_back(Frame::message(message)?);
        Ok(())
    }
}
