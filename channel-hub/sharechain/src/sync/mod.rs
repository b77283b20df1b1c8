//! How nodes bring each other their shares: one [`Node`] holds the tree and all peers of a node. SYNC.md gives the messages.
//!
//! It knows no sockets and no clock: [`Node::handle`] takes a peer's bytes, [`Node::poll_send`] gives bytes for a peer,
//! [`Node::poll_event`] says what happened, [`Node::poll_timeout`] when [`Node::handle_timeout`] is due.
//!
//! A node that hears of more work than it has asks for shares without bodies, from the last share on that both have; it gives
//! none of them a place in the tree before their branch has shown enough work, counted by proofs of work and not by what
//! anybody says. Then come the bodies (lock sheets), from several peers at once, and each share is checked by every rule in
//! its place. Whatever is held for a peer has a bound, every request a deadline, and every fault a name and a count of
//! points; at a hundred the peer is dropped.
//!
//! | module | what for |
//! |---|---|
//! | [`message`] | what is said, in bytes |
//! | [`fault`] | what a peer can do wrong, and what it counts |
//! | [`node`] | the session with all peers |
//! | `settings` | its bounds and its patience |
//! | `peer` | what is held of one |
//! | `branch` | whether shares hang together, and their work |
//! | `bodies` | who is asked for which lock sheet |
//! | `headers` | shares that come: asked for, counted, held |
//! | `placing` | shares that are held: taken into the tree, or put off |
//! | `blocks` | headers of blocks that shares stand on and the node does not know |
//! | `waiting` | shares that are valid alone and may not be taken yet |
//! | `accusations` | hubs that signed two sheets for a period |
//! | `serve` | answers from the node's own chain |

mod accusations;
mod blocks;
mod bodies;
mod branch;
pub mod fault;
mod headers;
pub mod message;
pub mod node;
mod peer;
mod placing;
mod serve;
mod settings;
mod waiting;

pub use fault::Fault;
pub use message::{BadMessage, Message, Tip};
pub use node::{Event, Held, Node, NotSubmitted, Now, PeerId};
pub use settings::{Blocks, Settings};
