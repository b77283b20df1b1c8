//! An SV1 pool as the last upstream, for those who want one: its jobs become [`Work`](crate::work::Work) like any other's.
//!
//! | module | what for |
//! |---|---|
//! | [`said`] | a line from the pool → what it says |
//! | [`asked`] | what is said to the pool |
//! | [`refusal`] | a pool's error → an error code of SV2 |
//! | [`trunk`] | the connection: logging in, jobs, shares; pure |
//! | [`socket`] | lines over TCP or TLS |

pub mod asked;
pub mod refusal;
pub mod said;
pub mod socket;
pub mod trunk;
