//! Rules of difficulty against miners of chance, in virtual time.
//!
//! A miner finds shares as a Poisson process; a connection delays what both ends say; a [`Rule`](rule::Rule) sees arrivals
//! and the clock. The same seed gives the same luck to every rule. Shared by the test beside it and by
//! `cargo run --release -p mining --example vardiff`, which makes the table and plot of `docs/vardiff.md`.

pub mod measures;
pub mod miner;
pub mod random;
pub mod rivals;
pub mod rule;
