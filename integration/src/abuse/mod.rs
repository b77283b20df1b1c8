//! Peers that misbehave, each in one way, and honest ones beside them that must not notice.
//!
//! A kind of abuse is what one connection does from its first byte to its end; an attack is many of them at a time, again
//! and again, until it is stopped. Nothing here waits for the attacked program to be polite.
//!
//! | module | what for |
//! |---|---|
//! | [`kind`] | the kinds of abuse, whom they concern, and the reasons that a program names |
//! | [`target`] | what is attacked |
//! | [`attack`](mod@attack) | many at a time |
//! | [`crowd`] | honest miners with a pace |
//! | [`beside`] | both in turns |
//! | [`noticed`] | what the honest notice of an attack, and whether that can be told |
//! | `raw` | abuse that any protocol knows: bytes and their absence |
//! | `sv1`, `sv2`, `page` | abuse that speaks the protocol |
//! | `throttle`, [`tls`] | a line that lets few bytes back or through; one that speaks TLS |

pub mod attack;
pub mod beside;
pub mod crowd;
pub mod kind;
pub mod noticed;
mod page;
mod raw;
mod sv1;
mod sv2;
pub mod target;
mod throttle;
pub mod tls;

pub use attack::{Outcome, Sources, attack};
pub use crowd::Crowd;
pub use kind::Kind;
pub use target::{Speaks, Target};
