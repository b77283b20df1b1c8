//! `make bench`: our programs beside SRI's pool and translator, in the same run on the same machine.
//!
//! | module | what for |
//! |---|---|
//! | [`bed`] | the node under a bench |
//! | [`stand`] | the servers under test |
//! | `ours`, `theirs` | each side's programs and settings |
//! | [`experiment`] | the runs |
//! | [`results`] | the table |

pub mod bed;
pub mod experiment;
mod ours;
pub mod results;
pub mod stand;
mod theirs;
