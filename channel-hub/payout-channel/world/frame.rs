//! A line between the hub and a hasher, and what goes over it: payloads of frames, as a connection has them.

use payout_channel::PayoutChannelId;
use payout_channel::message::Message;
use std::collections::VecDeque;

/// One message on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    kind: u8,
    payload: Vec<u8>,
}

/// Between the hub and a hasher.
#[derive(Clone, Debug, Default)]
pub struct Line {
    /// To the hub.
    pub up: VecDeque<Frame>,
    /// To the hasher.
    pub down: VecDeque<Frame>,
    /// Nothing arrives by itself.
    pub held: bool,
    /// Whose.
    number: u8,
    /// Numbers its connections.
    connection: u32,
    /// The hub says nothing.
    pub muted: bool,
}

impl Frame {
    /// As it is sent.
    pub fn of(message: &Message) -> Self {
        Self { kind: message.kind(), payload: message.encode() }
    }

    /// As it is read.
    ///
    /// # Panics
    /// Nobody here sends what cannot be read.
    pub fn read(&self) -> Message {
        Message::decode(self.kind, &self.payload).unwrap()
    }
}

impl Line {
    /// The line of a hasher, before its first connection.
    pub fn new(number: u8) -> Self {
        Self { number, ..Self::default() }
    }

    /// Says something to the hub.
    pub fn say_up(&mut self, message: &Message) {
        self.up.push_back(Frame::of(message));
    }

    /// Says something to the hasher.
    pub fn say_down(&mut self, message: &Message) {
        self.down.push_back(Frame::of(message));
    }

    /// Ends the connection with all that is on it, and begins another.
    pub fn reconnect(&mut self) {
        self.connection += 1;
        self.up.clear();
        self.down.clear();
    }

    /// The Noise handshake hash of the connection.
    pub fn handshake(&self) -> [u8; 32] {
        self.handshake_of(self.connection)
    }

    /// That of the connection before.
    pub fn handshake_before(&self) -> [u8; 32] {
        self.handshake_of(self.connection.wrapping_sub(1))
    }

    fn handshake_of(&self, connection: u32) -> [u8; 32] {
        let mut hash = [0x5c; 32];
        hash[..4].copy_from_slice(&connection.to_le_bytes());
        hash[4] = self.number;
        hash
    }
}

/// The payout channel that a message is about.
pub fn id_of(message: &Message) -> Option<PayoutChannelId> {
    match message {
        Message::Funded(id, _)
        | Message::Locked(id)
        | Message::NextHeight(id, _)
        | Message::ShareCredited(id, _)
        | Message::BlockWon(id, _)
        | Message::KeyRevealed(id, _)
        | Message::Renewed(id, _)
        | Message::Freeze(id)
        | Message::Frozen(id)
        | Message::RequestClose(id, _)
        | Message::CloseSigned(id, ..)
        | Message::Reestablish(id, ..)
        | Message::Held(id, _)
        | Message::Reestablished(id, _)
        | Message::Error(id, ..) => Some(*id),
        Message::Recall(terms, _) => Some(terms.id()),
        Message::Request(_) | Message::Accept(_) => None,
    }
}
