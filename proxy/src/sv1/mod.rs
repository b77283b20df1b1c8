//! Stratum V1 on the wire: lines, requests, answers, notifications. No state, no IO.
//!
//! | module | what for |
//! |---|---|
//! | [`lines`] | bytes → lines, with a bound |
//! | [`request`] | a line → a request with its id as it came |
//! | [`params`] | what is in the parameters of each method |
//! | [`output`] | answers and notifications → bytes |
//! | [`notify`] | `mining.notify`, encoded once for all miners that share a job |
//! | [`rejection`] | SV1's error codes 20–25 |
//! | [`difficulty`] | SV1's floating-point difficulty ↔ target |

pub mod difficulty;
pub mod lines;
pub mod notify;
pub mod output;
pub mod params;
pub mod rejection;
pub mod request;

pub use difficulty::Difficulty;
pub use lines::Lines;
pub use notify::Notify;
pub use rejection::Rejection;
pub use request::{Id, Incoming, Request};

/// Bits of a block's version that SV1 firmware rolls (BIP310, BIP320).
///
/// SV2 peers of this generation allow BIP323's 0x1fffffe0, those of the last one only these; so this is what
/// every upstream takes.
pub const VERSION_ROLLING_MASK: u32 = 0x1fff_e000;
