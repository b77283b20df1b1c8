//! Who is paid by a child of a share: the window of the paying ancestor, its sheets, and the split of [`crate::split`].

use bitcoin::secp256k1::{Secp256k1, VerifyOnly};
use bitcoin::{Amount, ScriptBuf, TxOut};
use lock::LockSheet;
use std::sync::Arc;

use crate::chain::Chain;
use crate::id::ShareId;
use crate::params::Params;
use crate::recipient::Recipient;
use crate::sheets::{self, Sheets};
use crate::split::{Payee, Payout, split};
use crate::tree::{Spot, Tree};

/// So many recipients are looked at for each output that there may be: names without a sheet cost a share each, and looking at
/// all of a window's would cost every node more than it costs who makes them.
const RANKS_PER_OUTPUT: usize = 10;

impl Chain {
    /// Who is paid, and how, by a child of `parent`: its recipient, the sheet that it carries, its block's height and what
    /// its coinbase pays in all. None if the parent is unknown, or if nobody can be paid: a hub's share needs its sheet.
    pub fn payouts(
        &mut self,
        parent: &ShareId,
        recipient: &Recipient,
        sheet: Option<&LockSheet>,
        block_height: u32,
        value: Amount,
    ) -> Option<Vec<Payout>> {
        self.payouts_of(self.tree.find(parent)?, recipient, sheet, block_height, value)
    }

    /// Computes ahead the scripts that shares of a block height will pay, so that a new block costs no curve arithmetic.
    pub fn prepare(&mut self, block_height: u32) {
        let ancestor = self.split_ancestor(self.tip);
        self.rolling.move_to(&self.tree, &self.params, ancestor);
        self.payees(ancestor, block_height);
    }

    pub(crate) fn payouts_of(
        &mut self,
        parent: Spot,
        recipient: &Recipient,
        sheet: Option<&LockSheet>,
        block_height: u32,
        value: Amount,
    ) -> Option<Vec<Payout>> {
        let ancestor = self.split_ancestor(parent);
        self.rolling.move_to(&self.tree, &self.params, ancestor);
        let payees = self.payees(ancestor, block_height);
        let params = Arc::clone(&self.params);
        let payouts = split(&params, value, payees, |payee| self.is_kept(ancestor, &payee.recipient));
        if !payouts.is_empty() {
            return Some(payouts);
        }
        let script_pubkey = match (recipient, sheet) {
            (Recipient::Script(script), _) => script.clone(),
            (Recipient::Hub(_), Some(sheet)) if sheet.lock(block_height).is_some() => {
                sheets::script(sheet, block_height, &self.params.locks.council, &self.secp)?
            }
            (Recipient::Hub(_), _) => self.script(recipient, block_height, parent)?,
        };
        let output = TxOut { value, script_pubkey };
        Some(vec![Payout { recipient: Arc::new(recipient.clone()), output }])
    }

    /// The heaviest of the window that can be paid, where the window stands at `ancestor`.
    fn payees(&mut self, ancestor: Spot, block_height: u32) -> Vec<Payee> {
        let most = usize::from(self.params.max_outputs);
        let mut payees = Vec::with_capacity(most);
        let Self { rolling, sheets, tree, params, secp, .. } = self;
        for (recipient, weight) in rolling.ranked().take(most * RANKS_PER_OUTPUT) {
            if payees.len() == most {
                break;
            }
            let script = script(recipient, block_height, ancestor, (tree, sheets, params, secp));
            payees.extend(script.map(|script| Payee { recipient: recipient.clone(), weight, script }));
        }
        payees
    }

    /// Whether a recipient was paid by the nearest share, `ancestor` included, at which the block height changed.
    fn is_kept(&mut self, ancestor: Spot, recipient: &Recipient) -> bool {
        let node = &self.tree[ancestor];
        if node.height - node.change >= self.params.window_shares {
            return false;
        }
        let Some(change) = self.tree.ancestor(ancestor, node.change) else { return false };
        let block_height = self.tree[change].block_height;
        self.script(recipient, block_height, ancestor)
            .is_some_and(|script| self.tree[change].paid.contains(&script))
    }

    fn script(&mut self, recipient: &Recipient, block_height: u32, end: Spot) -> Option<ScriptBuf> {
        let Self { sheets, tree, params, secp, .. } = self;
        script(recipient, block_height, end, (tree, sheets, params, secp))
    }
}

/// Where a recipient's money goes at a block height, by the sheets that count at `end`.
fn script(
    recipient: &Recipient,
    block_height: u32,
    end: Spot,
    (tree, sheets, params, secp): (&Tree, &mut Sheets, &Params, &Secp256k1<VerifyOnly>),
) -> Option<ScriptBuf> {
    match recipient {
        Recipient::Script(script) => Some(script.clone()),
        Recipient::Hub(hub_id) => {
            let period = params.locks.period_of(block_height);
            let reach = (end, params.sheet_reach);
            sheets.script(tree, (hub_id, period), block_height, reach, (&params.locks.council, secp))
        }
    }
}
