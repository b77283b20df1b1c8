//! `make bench`: our programs beside SRI's pool and translator, in the same run on the same machine; and our libraries
//! alone, where nobody has the like.
//!
//! | module | what for |
//! |---|---|
//! | [`bed`] | the node under a bench |
//! | [`stand`] | the servers under test |
//! | `ours`, `theirs` | each side's programs and settings |
//! | [`experiment`] | the runs of programs |
//! | [`alone`] | the measures of libraries |
//! | `sharechain` | one of them: a full window |
//! | `payout`, `pending_root` | two more: states of payout channels, the tree of pendings |
//! | [`results`] | the table |
//!
//! # A measure of a library
//!
//! Three steps add one. In a file of its own (say `bench/sharechain.rs`, declared below), a function that prepares what
//! it needs, measures for about the seconds that it is given, and says what came of it:
//!
//! ```ignore
//! /// Validating a share: what a node does with each that it hears of.
//! pub(super) const VALIDATE: Alone =
//!     Alone { names: &[Name::at_most("share_validate_us", "µs", 50.0)], run: validate };
//!
//! fn validate(seconds: f64) -> anyhow::Result<Values> {
//!     let shares = prepare()?;
//!     let (begin, mut count) = (Instant::now(), 0_u32);
//!     while begin.elapsed().as_secs_f64() < seconds {
//!         black_box(check(&shares[count as usize % shares.len()])?);
//!         count += 1;
//!     }
//!     let each = begin.elapsed().as_secs_f64() * 1e6 / f64::from(count);
//!     Ok(Values::from([("share_validate_us".to_owned(), each)]))
//! }
//! ```
//!
//! Then `VALIDATE` goes into [`alone::ALL`], and `integration/benches/RESULTS.md` gets a paragraph on the name.
//! [`results::Name::at_least`] is for rates. One function may give several values (a sync's time and its memory, by
//! [`alone::memory`]), and what takes longer than the seconds it is given just takes longer. It runs thrice, each time in
//! a new process on a core of its own; the median counts. `make bench ONLY=share_validate_us` tries it, and with
//! `WRITE=1` as well its line in `results.jsonl` is written anew and no other.

pub mod alone;
pub mod bed;
pub mod experiment;
mod ours;
mod payout;
mod pending_root;
pub mod results;
mod sharechain;
pub mod stand;
mod theirs;
