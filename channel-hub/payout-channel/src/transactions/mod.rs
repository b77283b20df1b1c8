//! Every transaction but the claim itself: children of a claim, pending claims, cooperative closes, refunds, claims of a
//! coinbase that also fund payout channels, and the council's sweep.
//!
//! | module | by whom |
//! |---|---|
//! | [`coin`] | outputs that can be spent, and signing for them |
//! | [`exit`] | the hasher: a claim's child, pendings with their keys |
//! | [`close`] | both: the cooperative close |
//! | [`refund`] | the hub: funding, pendings and remainder that come back to it |
//! | [`coinbase`] | the hub or the council: a won coinbase's output |

pub mod close;
pub mod coin;
pub mod coinbase;
pub mod exit;
pub mod refund;

pub use coin::{CannotPay, Coin, Way};
