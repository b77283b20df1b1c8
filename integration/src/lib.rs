//! A world of real programs, bitcoind, template provider, hub, proxy and miners, for tests, demo, benches and soaks; a load
//! generator, abuse and simulations.
//!
//! | module | what for |
//! |---|---|
//! | [`abuse`] | peers that misbehave, and honest ones beside them |
//! | [`mod@bench`] | what `make bench` measures |
//! | [`cpu`] | mining on the CPU: jobs, threads, counts |
//! | [`demo`] | what `make demo` shows |
//! | [`load`] | the load generator |
//! | [`faults`] | lines, disks and clocks that fail on purpose |
//! | [`simulation`] | the sharechain under virtual time, what `simulate` runs |
//! | [`soak`] | what `make soak` does |
//! | [`sv1`] | an SV1 miner, and a bare SV1 connection for tests |
//! | [`sv2`] | an SV2 miner |
//! | [`world`] | the programs as child processes |

pub mod abuse;
pub mod bench;
pub mod cpu;
pub mod demo;
pub mod faults;
pub mod load;
pub mod simulation;
pub mod soak;
pub mod sv1;
pub mod sv2;
pub mod world;
