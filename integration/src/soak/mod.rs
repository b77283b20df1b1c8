//! `make soak`: half load for a long time, connections that come and go, programs that are killed, ended and replaced;
//! and at the end as much memory and as many open files as after the first minutes.
//!
//! | module | what for |
//! |---|---|
//! | [`course`] | what happens when |
//! | [`refused`] | shares that were refused though nothing was restarted |
//! | `visitors` | miners over TLS that come and go beside the load |
//! | [`lives`] | memory and open files of each process, from its first seconds to its last |
//! | `follow` | lets happen what the course says, and looks on |
//! | `outcome` | what came out, and what of it was not as it must be |
//! | [`run`](mod@run) | the whole |

pub mod course;
mod follow;
pub mod lives;
mod outcome;
pub mod refused;
pub mod run;
mod visitors;

pub use course::{Event, LEAST, Part};
pub use lives::Lives;
pub use outcome::Outcome;
pub use run::run;
