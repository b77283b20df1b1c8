//! `make soak`: half load for a long time, connections that come and go, programs that are killed, ended and replaced;
//! and at the end as much memory and as many open files as after the first minutes.
//!
//! | module | what for |
//! |---|---|
//! | [`course`] | what happens when |
//! | [`refused`] | shares that were refused though nothing was restarted |
//! | `visitors` | miners over TLS that come and go beside the load |
//! | [`lives`] | memory and open files of each process, from its first seconds to its last |
//! | [`run`](mod@run) | the whole, and what came out |

pub mod course;
pub mod lives;
pub mod refused;
pub mod run;
mod visitors;

pub use course::{Event, LEAST, Part};
pub use lives::Lives;
pub use run::{Outcome, run};
