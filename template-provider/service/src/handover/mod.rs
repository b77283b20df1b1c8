//! Hand-over: a running program is replaced by a new one of its kind while its peers stay connected.
//!
//! The running program (the predecessor) listens on `<data_dir>/handover.sock`. The new one (the successor) is started with
//! `--take-over`, by a person or by the predecessor itself on SIGUSR2; it finds the data directory locked and asks.
//! What is said, each a packet of JSON, sockets beside it (`SCM_RIGHTS`):
//!
//! | successor | predecessor | what holds then |
//! |---|---|---|
//! | `hello` | | |
//! | | `welcome` + listening sockets, or `refused` | both have the sockets, the predecessor serves |
//! | `ready` | | the successor could serve: it has read its config and reached what it needs |
//! | | `parcels` + connections, …, `end` | nobody accepts: connections wait in the kernel. Sessions stand still |
//! | `took` | | the point of no return |
//! | | `released` | the totals are on disk and the data directory is free: the successor serves |
//! | | `totals`, … | the predecessor lets the peers go that could not be carried, and passes on what it counts |
//!
//! A successor that dies or says nothing before `took` has cost nothing: the predecessor goes on. After that it is as after
//! a crash of the new program. A predecessor that dies before `took` leaves a successor that has the sockets and goes on
//! without sessions. See `docs/decisions/0002-hand-over.md`.
//!
//! | module | what for |
//! |---|---|
//! | `gate` | where successors ask |
//! | `giving`, `taking` | the predecessor's side, and the successor's |
//! | `line`, `message` | packets between two processes, and what they say |
//! | `stage` | what a program's tasks know of it |
//! | `patience` | what a process that dies has locked |

mod gate;
mod giving;
mod line;
mod message;
mod patience;
mod stage;
mod taking;

pub(crate) use gate::{Candidate, Gate, House};
pub use patience::when_let_go;
pub use stage::{Call, Departure, Given, Parcel, Succession};
pub(crate) use stage::{Stage, stages};
pub(crate) use taking::{Inheritance, ask, is_gone};

/// File name of the socket, in the data directory.
const SOCKET: &str = "handover.sock";
/// Changes when an older or newer program could not follow any more.
const PROTOCOL: u32 = 1;

#[cfg(test)]
mod tests;
