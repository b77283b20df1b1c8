//! What a unit of work is worth (DESIGN.md §7). Both ends compute with this module alone, so a hub that pays less than
//! the public figures demand is seen by every proxy. Integers only, every division named with its rounding.
//!
//! `docs/price.md` beside this crate has the formulas and worked examples; `tests/price.rs` checks each of them.
//!
//! | module | what for |
//! |---|---|
//! | [`work`] | work, and products of 256 bits |
//! | [`rate`] | c: terms and the sharechain's window become a price |
//! | [`chain_shares`] | the factor for hashers whose chain shares are missing |
//! | [`cap`] | R6: what a hub may promise for a height, and the scaling of bases |
//! | [`win`] | what each hasher gets of a block that was won, and its carry |
//! | [`pps`] | the second scheme: unconditional credit per share |
//! | [`expectation`] | the hasher's side: what it must be promised and paid, and when it leaves |

pub mod cap;
pub mod chain_shares;
pub mod expectation;
pub mod pps;
pub mod rate;
pub mod win;
pub mod work;

pub use cap::{Bases, HubPart, Room, Scale, Wish};
pub use chain_shares::{ChainShares, Factor};
pub use expectation::{CarryWatch, Expectation, Leave, PublicFigures, Short};

pub use rate::{Fee, NoRate, Rate};
pub use win::{Claim, Paid, share_out};
pub use work::Work;
