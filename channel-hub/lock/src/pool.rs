//! What all locks of one sharechain network have in common: the Bitcoin network, the length of a period, the recovery
//! council. Its users recognise it; no hub chooses it.

use bitcoin::relative::Height as Blocks;
use bitcoin::{Network, XOnlyPublicKey};

/// Most keys a council may have, so that its leaf stays small: 34 bytes a key.
pub const MAX_COUNCIL: usize = 16;

/// Parameters of the locks of one sharechain network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Message start of the Bitcoin network, in the order of the wire; a signet's depends on its challenge.
    pub magic: [u8; 4],
    /// Blocks in a period: a sheet holds that many locks. At least 1.
    pub period: u32,
    /// Who repays if a hub is gone.
    pub council: Council,
}

/// The recovery council: `needed` of its keys can spend a script_B output that is `delay` blocks deep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Council {
    needed: u8,
    keys: Vec<XOnlyPublicKey>,
    delay: Blocks,
}

/// Why keys and a number make no council.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoCouncil {
    /// None, or more than [`MAX_COUNCIL`].
    #[error("a council has 1 to {MAX_COUNCIL} keys, not {0}")]
    Keys(usize),
    /// A number of signatures that can never be reached, or none at all.
    #[error("{needed} of {keys} keys can never sign, or need not")]
    Needed {
        /// Signatures asked for.
        needed: u8,
        /// Keys there are.
        keys: usize,
    },
    /// The same key twice: it would count twice.
    #[error("key {0} is in the council twice")]
    Twice(XOnlyPublicKey),
    /// A delay of no blocks: the council could spend at once.
    #[error("a delay of 0 blocks lets the council spend beside the hub")]
    NoDelay,
}

impl Pool {
    /// Blocks in a period of Bitcoin's difficulty, and of a sheet on every public network.
    pub const PERIOD: u32 = 2_016;
    /// Blocks after which the council may spend, on every public network: a week.
    pub const RECOVERY: u16 = 1_008;

    /// A public network with periods of [`Self::PERIOD`] blocks.
    pub fn new(network: Network, council: Council) -> Self {
        Self { magic: network.magic().to_bytes(), period: Self::PERIOD, council }
    }

    /// The period of a height: ⌊B / period⌋.
    pub fn period_of(&self, height: u32) -> u32 {
        height / self.period
    }

    /// The first height of a period; none if it is beyond all heights.
    pub fn first_height(&self, period: u32) -> Option<u32> {
        period.checked_mul(self.period)
    }

    /// Whether every height of a period is one that u32 can hold.
    pub fn has_period(&self, period: u32) -> bool {
        self.first_height(period).is_some_and(|first| first.checked_add(self.period - 1).is_some())
    }
}

impl Council {
    /// `needed` of `keys`, in this order, after `delay` blocks.
    ///
    /// # Errors
    /// No such council can work; see [`NoCouncil`].
    pub fn new(needed: u8, keys: Vec<XOnlyPublicKey>, delay: u16) -> Result<Self, NoCouncil> {
        if keys.is_empty() || keys.len() > MAX_COUNCIL {
            return Err(NoCouncil::Keys(keys.len()));
        }
        if needed == 0 || usize::from(needed) > keys.len() {
            return Err(NoCouncil::Needed { needed, keys: keys.len() });
        }
        let twice = keys.iter().enumerate().find(|(at, key)| keys[..*at].contains(key));
        if let Some((_, key)) = twice {
            return Err(NoCouncil::Twice(*key));
        }
        if delay == 0 {
            return Err(NoCouncil::NoDelay);
        }
        Ok(Self { needed, keys, delay: Blocks::from(delay) })
    }

    /// Signatures that it takes.
    pub fn needed(&self) -> u8 {
        self.needed
    }

    /// Its keys, in the order of the script.
    pub fn keys(&self) -> &[XOnlyPublicKey] {
        &self.keys
    }

    /// Blocks on top of the coinbase, its own included, before it may spend (BIP68).
    pub fn delay(&self) -> Blocks {
        self.delay
    }
}
