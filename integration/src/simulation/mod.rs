//! The sharechain under virtual time: nodes that run the real library, with machines, distances and strategies that are
//! made up; and the two ways of mining that it is compared with. No sockets, no clock. `simulate` is its program.
//!
//! | module | what for |
//! |---|---|
//! | [`agenda`], [`random`] | what happens next, and luck that repeats |
//! | [`scenario`] | who mines how much, how far away, by which strategy |
//! | [`node`], [`fork`] | one node; one that keeps a private fork |
//! | [`network`] | nodes, and what is under way between them |
//! | [`fates`] | what became of every share, and who is paid for it |
//! | [`payday`] | what hashers are paid, day by day |
//! | [`hub`] | pay through a hub, on the real sharechain |
//! | [`p2pool`], [`solo`] | what it is compared with |
//! | [`studies`] | the questions that the documents answer |
//! | [`table`], [`plot`], [`document`] | how the answers are shown |

pub mod agenda;
pub mod document;
pub mod fates;
pub mod fork;
pub mod hub;
pub mod network;
pub mod node;
pub mod p2pool;
pub mod payday;
pub mod plot;
pub mod random;
pub mod scenario;
pub mod solo;
pub mod studies;
pub mod table;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
