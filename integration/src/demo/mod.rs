//! The demo: a private signet, all programs, a few SV1 miners, and a live view of what they do.
//!
//! | module | what for |
//! |---|---|
//! | `scene` | what runs: world, miners, payments for the mempool |
//! | `view` | one look at all of it, and how it is shown |
//! | `block` | a block of ours on the node, with all its shares credited |

mod block;
mod scene;
mod view;

pub use block::Outcome;
pub use scene::Scene;
pub use view::View;
