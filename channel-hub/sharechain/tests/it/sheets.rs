//! When a hub's lock sheet counts, and what two of them prove.

use lock::LockedOutput;
use sharechain::{Candidate, Chain, Recipient};

use crate::ancestors::second_sheet;
use crate::miner::{
    Making, SECP, block, candidate, chain, extend, extend_by, extend_from, hub, params, script, sheet,
};

fn paid(chain: &mut Chain, height: u32) -> Vec<Recipient> {
    let tip = chain.tip();
    let payouts = chain.payouts(&tip, &script(99), None, height, block(1).value).unwrap();
    payouts.iter().map(|payout| (*payout.recipient).clone()).collect()
}

fn publish(chain: &mut Chain, period: u32) {
    let publishing = Candidate { sheet: Some(sheet(7, period)), ..candidate(chain.tip(), hub(7)) };
    extend_from(chain, &publishing);
}

#[test]
fn a_hub_is_left_out_until_its_sheet_is_at_the_splits_ancestor_and_then_paid_to_its_script() {
    let mut chain = chain(5);
    extend_by(&mut chain, 6, &hub(7));
    assert_eq!(paid(&mut chain, 1), [script(0), script(1)], "no sheet, no pay");
    publish(&mut chain, 0);
    extend(&mut chain, hub(7));
    assert!(!paid(&mut chain, 1).contains(&hub(7)), "the sheet is two back, the lag three");
    extend(&mut chain, hub(7));
    assert_eq!(paid(&mut chain, 1)[0], hub(7));
    let tip = chain.tip();
    for height in 1..8 {
        let payouts = chain.payouts(&tip, &script(99), None, height, block(1).value).unwrap();
        let lock = sheet(7, 0).lock(height).unwrap();
        let claim_key = sheet(7, 0).promise().claim_key;
        let output = LockedOutput::new(&claim_key, lock, &params().locks.council, &SECP);
        assert_eq!(payouts[0].output.script_pubkey, output.script_pubkey());
    }
    assert!(!paid(&mut chain, 8).contains(&hub(7)), "the next period has no sheet yet");
}

#[test]
fn a_sheet_counts_as_far_as_it_reaches_and_again_when_it_is_published_again() {
    let mut chain = chain(5);
    publish(&mut chain, 0);
    extend_by(&mut chain, 2, &hub(7));
    // Reach 40: shares 6 to 45 as the split's ancestor.
    while chain.standing(&chain.tip()).unwrap().height < 47 {
        assert!(paid(&mut chain, 1).contains(&hub(7)));
        extend(&mut chain, hub(7));
    }
    assert!(paid(&mut chain, 1).contains(&hub(7)), "ancestor 45");
    extend(&mut chain, hub(7));
    assert!(!paid(&mut chain, 1).contains(&hub(7)), "ancestor 46");
    publish(&mut chain, 0);
    extend_by(&mut chain, 2, &hub(7));
    assert!(paid(&mut chain, 1).contains(&hub(7)));
}

#[test]
fn scripts_computed_ahead_are_the_same() {
    let grown = || {
        let mut chain = chain(5);
        publish(&mut chain, 0);
        extend_by(&mut chain, 9, &hub(7));
        chain
    };
    let (mut ahead, mut late) = (grown(), grown());
    (1..8).for_each(|height| ahead.prepare(height));
    for height in 1..8 {
        let tip = ahead.tip();
        let value = block(1).value;
        let payouts = ahead.payouts(&tip, &script(99), None, height, value);
        assert_eq!(payouts, late.payouts(&tip, &script(99), None, height, value));
    }
}

#[test]
fn two_sheets_on_two_branches_are_valid_and_prove_that_the_hub_equivocated() {
    let mut chain = chain(5);
    let fork = chain.tip();
    publish(&mut chain, 0);
    let other = Candidate { sheet: Some(second_sheet()), ..candidate(fork, hub(7)) };
    let share = Making::new(&mut chain, &other).full();
    let change = chain.insert(&share).unwrap();
    let proof = change.equivocation.unwrap().check(&params().locks, &SECP).unwrap();
    assert_eq!(Some(&proof.hub_id()), hub(7).hub());
    // Each branch goes by its own.
    let scripts = |chain: &mut Chain, mut tip| {
        for _ in 0..4 {
            tip = extend_from(chain, &candidate(tip, hub(7)));
        }
        let payouts = chain.payouts(&tip, &script(99), None, 1, block(1).value).unwrap();
        payouts.into_iter().find(|payout| *payout.recipient == hub(7)).unwrap().output.script_pubkey
    };
    let first = chain.at_height(6).unwrap();
    let (one, two) = (scripts(&mut chain, first), scripts(&mut chain, share.checked().id()));
    assert_ne!(one, two);
}

#[test]
fn a_share_gives_back_its_sheet() {
    let mut chain = chain(5);
    publish(&mut chain, 0);
    let tip = chain.tip();
    assert_eq!(chain.sheet_of(&tip), Some(&sheet(7, 0)));
    assert_eq!(chain.sheet_of(&chain.at_height(5).unwrap()), None);
}
