//! What a node takes now. Each reason to wait, alone, and that it lapses.

use bitcoin::CompactTarget;
use sharechain::acceptance::{ParentBlock, Wait, accept, travels_with_transactions};
use sharechain::{CheckedShare, ShareId};

use crate::miner::{Making, chain, checked, network, script};

fn share() -> CheckedShare {
    checked(Making::on_tip(&mut chain(5), script(1)).share())
}

fn tip() -> ParentBlock {
    ParentBlock { height: 0, off: 0, below_tip: 0, next_bits: Some(network()) }
}

#[test]
fn a_share_on_the_best_block_and_on_time_is_taken() {
    let share = share();
    let time = share.share().header.time;
    assert_eq!(accept(&share, 0, time, Some(tip())), Ok(()));
    assert_eq!(accept(&share, 0, time - 120, Some(ParentBlock { next_bits: None, ..tip() })), Ok(()));
    assert_eq!(
        accept(&share, 0, time + 1_000_000, Some(ParentBlock { off: 2, below_tip: 2, ..tip() })),
        Ok(())
    );
}

#[test]
fn each_reason_to_wait_has_its_name_and_lapses_when_six_shares_stand_on_it() {
    let share = share();
    let time = share.share().header.time;
    let other = CompactTarget::from_consensus(0x2013_b13a);
    let cases = [
        (time - 121, Some(tip()), Wait::Ahead(121)),
        (time, None, Wait::UnknownBlock),
        (time, Some(ParentBlock { off: 3, ..tip() }), Wait::StaleBlock { off: 3, below_tip: 0 }),
        (time, Some(ParentBlock { below_tip: 3, ..tip() }), Wait::StaleBlock { off: 0, below_tip: 3 }),
        (time, Some(ParentBlock { height: 1, ..tip() }), Wait::BlockHeight { stated: 1, parent: 1 }),
        (
            time,
            Some(ParentBlock { height: u32::MAX, ..tip() }),
            Wait::BlockHeight { stated: 1, parent: u32::MAX },
        ),
        (
            time,
            Some(ParentBlock { next_bits: Some(other), ..tip() }),
            Wait::BlockTarget { stated: 0x2013_b13b, demanded: 0x2013_b13a },
        ),
    ];
    for (now, block, reason) in cases {
        assert_eq!(accept(&share, 0, now, block), Err(reason));
        assert_eq!(accept(&share, 5, now, block), Err(reason));
        assert_eq!(accept(&share, 6, now, block), Ok(()));
    }
}

#[test]
fn one_share_in_64_travels_with_its_transactions() {
    let id = |byte| ShareId::from_bytes([[byte; 1].as_slice(), &[0xab; 31]].concat().try_into().unwrap());
    let with = (0..=255).filter(|byte| travels_with_transactions(&id(*byte))).collect::<Vec<u8>>();
    assert_eq!(with, [0, 64, 128, 192]);
}
