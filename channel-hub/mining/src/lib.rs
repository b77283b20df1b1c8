//! SV2 Mining Protocol (SV2 spec §5), both ends, without IO: channels, jobs, share check, vardiff.
//!
//! Time, extranonce prefixes and work come in as arguments; frames and events are polled out. A shell
//! drives a session so: `handle`/`apply`/`handle_timeout`, then `poll_event` and `poll_send` until both are
//! empty, then wait for the next frame, update or `poll_timeout`.
//!
//! | module | what for |
//! |---|---|
//! | [`server`] | the end that hands out work: one session a connection |
//! | [`client`] | the end that mines or forwards: one session a connection |
//! | [`job`] | a job for every mining channel, built once from a template; its frames are encoded once |
//! | [`tip`] | the chain tip that jobs build on |
//! | [`coinbase`] | the coinbase transaction around the miner's extranonce |
//! | [`header`] | from an extranonce to a merkle root to a block header's hash |
//! | [`share`] | what a share may vary, and the reasons to reject one |
//! | [`submission`] | the two submit messages as they come over the wire, worker name included |
//! | [`seen`] | which shares were counted already |
//! | [`extranonce`] | extranonce prefixes, none of them handed out twice |
//! | [`room`] | a bound on the channels of all connections that leaves each its first |
//! | [`vardiff`] | how hard a mining channel's shares should be |
//! | [`work`], [`target`] | work as an integer; targets from difficulty and hash rate |
//! | [`time`] | the two clocks a session is told |

pub mod client;
pub mod coinbase;
pub mod extranonce;
pub mod header;
pub mod job;
pub mod room;
pub mod seen;
pub mod server;
pub mod share;
pub mod submission;
pub mod target;
pub mod time;
pub mod tip;
pub mod vardiff;
pub mod work;

pub use bitcoin::Target;
pub use coinbase::{Coinbase, CoinbaseTag};
pub use extranonce::{ExtranoncePrefixes, Extranonces, Lease, Space};
pub use header::Header;
pub use job::{Job, JobError, TemplateId, WorkUpdate};
pub use share::Rejection;
pub use time::Now;
pub use tip::Tip;
pub use work::Work;

/// Bytes of extranonce in every coinbase we build: prefix and rollable part together.
pub const EXTRANONCE_SIZE: usize = 24;
/// Bytes of extranonce that an extended channel may roll.
pub const ROLLABLE_SIZE: usize = 16;
/// Bytes of extranonce that tell channels apart, see [`ExtranoncePrefixes`].
pub const PREFIX_SIZE: usize = EXTRANONCE_SIZE - ROLLABLE_SIZE;

/// SetupConnection flag of the Mining Protocol (SV2 spec §5.3.1): the client takes no group or extended jobs.
pub const REQUIRES_STANDARD_JOBS: u32 = 1;
/// SetupConnection flag: the client brings its own work.
pub const REQUIRES_WORK_SELECTION: u32 = 2;
/// SetupConnection flag: the client must be allowed to roll version bits.
pub const REQUIRES_VERSION_ROLLING: u32 = 4;
