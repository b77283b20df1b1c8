//! Faults on purpose: lines that delay or fall silent, packets that get lost, disks that fill up, clocks that jump,
//! programs that stall.
//!
//! | module | what for | where |
//! |---|---|---|
//! | [`mod@apart`] | running a test in network and mount namespaces of its own | Linux, root or user namespaces |
//! | [`clock`] | a clock that jumps, in the real programs | where libfaketime is installed |
//! | [`disk`] | a small disk that fills up, becomes read-only, or fails | apart; failing needs root and loop devices |
//! | [`line`](mod@line) | the whole line of programs with a relay before each | everywhere |
//! | [`packets`] | packets that are lost, peers that vanish | apart, where nft is installed |
//! | [`relay`] | a connection that is slow, falls silent or breaks, in user space | everywhere |

pub mod apart;
pub mod clock;
pub mod disk;
pub mod line;
pub mod packets;
pub mod relay;

pub use apart::{apart, not_run};
pub use clock::Clock;
pub use disk::Disk;
pub use line::Line;
pub use packets::Packets;
pub use relay::Relay;
