//! The recovery council, when it is awake: it sweeps a win that the hub never claimed, and repays what is under
//! the last root: to places that count for nobody here, so that no repayment hides a loss.

use bitcoin::{Amount, OutPoint, TxOut};
use payout_channel::transactions::coinbase::{WonOutput, council_sign, council_signed, council_sweep};

use super::cast::{HASHERS, cast};
use super::ground::Party;
use super::hub::part;
use super::world::World;

const FEE: Amount = Amount::from_sat(2_000);

/// Sweeps the win of a height.
pub fn sweep(world: &mut World, height: u32, outpoint: OutPoint) {
    let Some(value) = world.ground.chain.coin(&outpoint).map(|coin| coin.output.value) else { return };
    if value < part(height).0 {
        return; // no win
    }
    let owed: Vec<Amount> = (0..HASHERS)
        .map(|hasher| world.books.owed.get(&(hasher, height)).copied().unwrap_or(Amount::ZERO))
        .collect();
    let mut outputs = Vec::new();
    let mut left = value - FEE;
    for (hasher, owed) in owed.iter().enumerate().filter(|(_, owed)| owed.to_sat() >= 330) {
        // R6: what is under the root is less than the block is worth.
        left = left.checked_sub(*owed).unwrap_or_else(|| panic!("the council cannot repay hasher {hasher}"));
        outputs.push(TxOut { value: *owed, script_pubkey: super::chain::strangers_script() });
    }
    if left.to_sat() >= 330 {
        outputs.push(TxOut { value: left, script_pubkey: super::chain::strangers_script() });
    }
    let won = WonOutput { outpoint, value, output: cast().locked(height).clone() };
    let sweep = council_sweep(&won, &cast().pool.council, outputs);
    let secp = &cast().secp;
    let signatures: Vec<_> = cast()
        .council
        .iter()
        .enumerate()
        .map(|(n, key)| (n < 2).then(|| council_sign(&sweep, &won, key, secp)))
        .collect();
    let signed = council_signed(sweep, &won, &signatures);
    let _refused = world.ground.broadcast(Party::Council, &signed);
}
