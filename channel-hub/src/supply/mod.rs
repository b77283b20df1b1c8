//! Templates in, jobs out: from the first template provider that works.
//!
//! | module | what for |
//! |---|---|
//! | [`choice`] | which template provider is used; pure |
//! | [`fetches`] | which templates' transactions are asked for, and when; pure |
//! | [`jobs`] | from what the providers say to what the sessions get; pure |
//! | [`judge`] | asks the hub's own node whether it knows a provider's blocks |
//! | [`provider`] | the connection to one template provider |
//! | [`shelf`] | templates that a share may still turn into a block, with their transactions |
//! | [`task`] | the one task that joins them |

pub mod choice;
pub mod fetches;
pub mod jobs;
pub mod judge;
pub mod provider;
pub mod shelf;
pub mod task;
