//! Template Distribution Protocol (SV2 spec §7), both ends, without IO.
//!
//! A source's [`BlockTemplate`] is fitted to what a client wants to add to the coinbase; the outcome is a
//! [`Template`], which knows its messages and makes whole blocks of solutions. [`Server`] (one per client) and
//! [`Client`] are the two ends of a connection.
//!
//! | module | what for |
//! |---|---|
//! | [`block_template`], [`transactions`] | what any source of templates delivers, the transactions at once or later |
//! | [`id`] | template ids that never repeat |
//! | [`fit`] | which transactions stay beside a client's coinbase |
//! | [`merkle`] | merkle paths and the witness commitment |
//! | [`template`] | a fitted template and its messages |
//! | [`solution`] | whole blocks from solutions |
//! | [`server`], [`client`] | the protocol's two ends |

pub mod block_template;
pub mod client;
pub mod fit;
pub mod id;
pub mod merkle;
pub mod server;
pub mod solution;
pub mod template;
pub mod transactions;

pub use block_template::{BlockTemplate, Coinbase, Parts, TemplateTransaction, Tip};
pub use client::Client;
pub use fit::{Chosen, Constraints, Unfit};
pub use id::TemplateIds;
pub use server::{Retention, Server};
pub use solution::{Solution, SolutionError};
pub use template::Template;
pub use transactions::Transactions;
