//! Where the coinbase pays: one output, given as a descriptor or an address.

use std::str::FromStr;

use bitcoin::address::NetworkUnchecked;
use bitcoin::{Address, Amount, Network, ScriptBuf, TxOut};
use miniscript::{DefiniteDescriptorKey, Descriptor};

/// The one script that the coinbase pays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reward {
    script: ScriptBuf,
}

/// A text that names no script to pay to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RewardError {
    /// Neither a descriptor nor an address.
    #[error("is neither an address nor an output descriptor ({0})")]
    Unreadable(String),
    /// An address of another network.
    #[error("is an address of another network than {}", .0.to_core_arg())]
    WrongNetwork(Network),
}

impl Reward {
    /// Reads an address of `network`, `addr(<address>)`, or any descriptor without wildcards whose keys are
    /// given in full, as `wpkh(<public key>)` or `tr(<public key>)`; a checksum (`#...`) may follow.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str, network: Network) -> Result<Self, RewardError> {
        let text = text.trim();
        let bare = text.split_once('#').map_or(text, |(descriptor, _)| descriptor);
        let address = bare.strip_prefix("addr(").and_then(|rest| rest.strip_suffix(')')).unwrap_or(bare);
        if let Ok(address) = Address::<NetworkUnchecked>::from_str(address) {
            let address = address.require_network(network).map_err(|_| RewardError::WrongNetwork(network))?;
            return Ok(Self { script: address.script_pubkey() });
        }
        let descriptor = Descriptor::<DefiniteDescriptorKey>::from_str(text)
            .map_err(|error| RewardError::Unreadable(error.to_string()))?;
        descriptor.sanity_check().map_err(|error| RewardError::Unreadable(error.to_string()))?;
        Ok(Self { script: descriptor.script_pubkey() })
    }

    /// The coinbase's outputs of ours for a block that leaves `value` satoshi.
    pub fn outputs(&self, value: u64) -> [TxOut; 1] {
        [TxOut { value: Amount::from_sat(value), script_pubkey: self.script.clone() }]
    }

    /// Bytes that our outputs take in the coinbase, as CoinbaseOutputConstraints wants them.
    pub fn size(&self) -> u32 {
        let bytes: usize = self.outputs(0).iter().map(TxOut::size).sum();
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }

    /// Cost of our outputs in signature operations (legacy ones count four times, BIP141).
    pub fn sigops(&self) -> u16 {
        u16::try_from(self.script.count_sigops_legacy() * 4).unwrap_or(u16::MAX)
    }

    /// How the pages show it: the address if there is one, else the script in hex.
    pub fn show(&self, network: Network) -> String {
        Address::from_script(&self.script, network)
            .map_or_else(|_| self.script.to_hex_string(), |address| address.to_string())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const KEY: &str = "03baf7689c0a3558fb604589036a8d1e4b685d909f6e0e2c6018a14049ae64ec26";
    const SIGNET: &str = "tb1qcpmga8eqxzwz4nmnew6v6xkapggs3sqzt6w66u";

    #[test]
    fn an_address_and_a_descriptor_of_the_same_key_are_the_same_reward() {
        let descriptor = Reward::parse(&format!("wpkh({KEY})"), Network::Signet).unwrap();
        for text in [SIGNET.to_owned(), format!("addr({SIGNET})"), format!(" {SIGNET} ")] {
            assert_eq!(Reward::parse(&text, Network::Signet).unwrap(), descriptor, "{text}");
        }
        assert_eq!(descriptor.show(Network::Signet), SIGNET);
        assert_eq!((descriptor.size(), descriptor.sigops()), (31, 0));
    }

    #[test]
    fn legacy_signature_operations_count_four_times() {
        let reward = Reward::parse(&format!("pkh({KEY})"), Network::Signet).unwrap();
        assert_eq!((reward.size(), reward.sigops()), (34, 4));
    }

    #[test]
    fn an_address_of_another_network_is_refused() {
        assert_eq!(Reward::parse(SIGNET, Network::Bitcoin), Err(RewardError::WrongNetwork(Network::Bitcoin)));
    }

    #[test]
    fn a_typing_mistake_is_refused() {
        for text in ["", "wpkh(02)", "bc1q", &format!("wpkh({KEY})#qqqqqqqq"), &format!("wpkh({KEY}/*)")] {
            assert!(
                matches!(Reward::parse(text, Network::Signet), Err(RewardError::Unreadable(_))),
                "{text}"
            );
        }
    }
}
