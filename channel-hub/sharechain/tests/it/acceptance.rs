//! What a node takes now. Each reason to wait, alone; which of them lapse, and when.

use bitcoin::CompactTarget;
use sharechain::acceptance::{
    LeastDifficulty, ParentBlock, Wait, accept, is_buried, is_grounded, travels_with_transactions,
};
use sharechain::{Chain, CheckedShare, Params, ShareId, Work};

use crate::miner::{Making, candidate, chain, checked, network, params, script};

fn share() -> CheckedShare {
    checked(Making::on_tip(&mut chain(5), script(1)).share())
}

fn tip() -> ParentBlock {
    ParentBlock { height: 0, off: 0, below_tip: 0, passed: None, next_bits: network(), least: None }
}

/// A block three below the tip, since this time.
fn passed(time: u32) -> ParentBlock {
    ParentBlock { below_tip: 3, passed: Some(time), ..tip() }
}

#[test]
fn a_share_on_the_best_block_and_on_time_is_taken() {
    let share = share();
    let time = share.share().header.time;
    let taken = |now, block| accept(&share, now, Some(block), || unreachable!("nothing waits"));
    assert_eq!(taken(time, tip()), Ok(()));
    assert_eq!(taken(time - 120, tip()), Ok(()));
    assert_eq!(taken(time + 1_000_000, ParentBlock { off: 2, below_tip: 2, ..tip() }), Ok(()));
    for passed in [passed(time - 300), passed(u32::MAX), ParentBlock { off: 2, ..passed(time) }] {
        assert_eq!(taken(time + 1_000_000, passed), Ok(()), "it was in time");
    }
}

#[test]
fn each_reason_to_wait_has_its_name_and_what_the_node_knows_does_not_lapse() {
    let share = share();
    let time = share.share().header.time;
    let other = CompactTarget::from_consensus(0x2013_b13a);
    let deep = |block: ParentBlock| ParentBlock { below_tip: 3, ..block };
    let near = |block: ParentBlock| ParentBlock { off: 1, ..block };
    let target = Wait::BlockTarget { stated: 0x2013_b13b, demanded: 0x2013_b13a };
    let max = u32::MAX;
    let cases = [
        (time - 121, Some(tip()), Wait::Ahead(121), false),
        (time - 121, None, Wait::Ahead(121), false),
        (time, Some(ParentBlock { height: 1, ..tip() }), Wait::BlockHeight { stated: 1, parent: 1 }, false),
        (
            time,
            Some(ParentBlock { height: max, ..tip() }),
            Wait::BlockHeight { stated: 1, parent: max },
            false,
        ),
        (
            time,
            Some(deep(ParentBlock { height: 1, ..tip() })),
            Wait::BlockHeight { stated: 1, parent: 1 },
            false,
        ),
        (
            time,
            Some(near(ParentBlock { height: 1, ..tip() })),
            Wait::StaleBlock { off: 1, below_tip: 0 },
            true,
        ),
        (
            time,
            Some(near(ParentBlock { next_bits: other, ..tip() })),
            Wait::StaleBlock { off: 1, below_tip: 0 },
            true,
        ),
        (time, Some(ParentBlock { next_bits: other, ..tip() }), target, false),
        (time, Some(deep(ParentBlock { next_bits: other, ..tip() })), target, false),
        (time, None, Wait::UnknownBlock, true),
        (time, Some(ParentBlock { off: 3, ..tip() }), Wait::StaleBlock { off: 3, below_tip: 0 }, true),
        (time, Some(ParentBlock { below_tip: 3, ..tip() }), Wait::StaleBlock { off: 0, below_tip: 3 }, true),
        (time, Some(passed(time - 301)), Wait::StaleBlock { off: 0, below_tip: 3 }, true),
        (time, Some(ParentBlock { off: 3, ..passed(time) }), Wait::StaleBlock { off: 3, below_tip: 3 }, true),
        (
            time,
            Some(ParentBlock { height: 1, ..passed(time) }),
            Wait::BlockHeight { stated: 1, parent: 1 },
            false,
        ),
    ];
    for (now, block, reason, lapses) in cases {
        assert_eq!(accept(&share, now, block, || false), Err(reason));
        assert_eq!(
            accept(&share, now, block, || true),
            if lapses { Ok(()) } else { Err(reason) },
            "{reason}"
        );
    }
}

#[test]
fn a_block_of_least_difficulty_is_late_and_there_only_where_the_network_knows_it() {
    let share = share();
    let time = share.share().header.time;
    let hard = ParentBlock { next_bits: CompactTarget::from_consensus(0x1f00_ffff), ..tip() };
    let after = |after| Some(LeastDifficulty { bits: network(), after });
    let waits = |block| matches!(accept(&share, time, Some(block), || false), Err(Wait::BlockTarget { .. }));
    assert!(waits(hard));
    assert!(waits(ParentBlock { least: after(time), ..hard }));
    assert!(!waits(ParentBlock { least: after(time - 1), ..hard }));
}

/// Shares take 256 hashes on time, and two where they are late.
fn harder(length: u32) -> Chain {
    let mut chain = Chain::new(Params { anchor: CompactTarget::from_consensus(0x2000_ffff), ..params() });
    (0..length).for_each(|_| drop(mine(&mut chain, 30)));
    chain
}

/// So many seconds after the tip.
fn mine(chain: &mut Chain, after: u32) -> CheckedShare {
    let mut candidate = candidate(chain.tip(), script(1));
    candidate.block.bits = CompactTarget::from_consensus(0x1f00_ffff);
    let mut making = Making::new(chain, &candidate);
    making.time = chain.standing(&chain.tip()).unwrap().time + after;
    let share = making.full();
    chain.insert(&share).unwrap();
    share.checked().clone()
}

#[test]
fn six_normal_shares_bury_one_and_any_number_of_cheap_ones_do_not() {
    let mut chain = harder(20);
    let normal = chain.normal_work(&chain.tip()).unwrap();
    assert!(normal >= Work::new(250), "{normal}");
    let under = mine(&mut chain, 30);
    let six: Vec<CheckedShare> = (0..6).map(|_| mine(&mut chain, 30)).collect();
    let buried = |others: &[CheckedShare]| is_buried(&under, normal, others.iter(), |_| true);
    let work: u128 = six.iter().map(|share| share.work().hashes()).sum();
    assert!(normal.hashes() * 6 <= work + 6, "ASERT rounds");
    assert!(is_buried(&under, Work::new(work / 6), six.iter(), |_| true));
    assert!(!buried(&six[..5]));
    assert!(!is_buried(&under, Work::new(work / 6), six.iter(), |share| share.id() != six[2].id()));

    let mut chain = harder(20);
    let under = mine(&mut chain, 1_000_000);
    let cheap: Vec<CheckedShare> = (0..100).map(|_| mine(&mut chain, 30)).collect();
    assert_eq!(cheap[0].work(), Work::new(2), "a time far ahead makes the next shares the easiest");
    assert!(!is_buried(&under, normal, cheap.iter(), |_| true));
}

#[test]
fn a_hundred_and_twenty_shares_bury_one_where_the_difficulty_fell() {
    let mut chain = harder(20);
    let normal = chain.normal_work(&chain.tip()).unwrap();
    let under = mine(&mut chain, 1_000_000);
    let easy: Vec<CheckedShare> = (0..120).map(|_| mine(&mut chain, 30)).collect();
    assert!(!is_buried(&under, normal, easy[..119].iter(), |_| true));
    assert!(is_buried(&under, normal, easy.iter(), |_| true));
    assert!(!is_buried(&under, normal, easy.iter(), |share| share.id() != easy[50].id()));
}

#[test]
fn what_stands_on_another_branch_buries_nothing_and_what_stands_on_a_nephew_does() {
    let mut chain = chain(12);
    let normal = chain.normal_work(&chain.tip()).unwrap();
    let parent = chain.tip();
    let making = |chain: &mut Chain, on| Making::new(chain, &candidate(on, script(1)));
    let insert = |chain: &mut Chain, making: Making| {
        let share = making.full();
        chain.insert(&share).unwrap();
        share.checked().clone()
    };
    let one = making(&mut chain, parent);
    let mut other = one.clone();
    other.time += 1;
    let (one, other) = (insert(&mut chain, one), insert(&mut chain, other));
    let counted = |chain: &Chain| chain.uncles(&chain.tip());
    assert_eq!(counted(&chain), [other.id()]);
    let mut above: Vec<CheckedShare> = (0..8)
        .map(|_| {
            let tip = chain.tip();
            let next = making(&mut chain, tip);
            insert(&mut chain, next)
        })
        .collect();
    assert!(is_buried(&one, normal, above.iter(), |_| true));
    assert!(is_buried(&other, normal, above.iter(), |_| true), "it is an uncle of the first above");
    above.remove(0);
    assert!(!is_buried(&one, normal, above.iter(), |_| true));
    assert!(!is_buried(&other, normal, above.iter(), |_| true));
}

#[test]
fn only_work_on_a_block_of_the_best_chain_counts_however_deep() {
    let share = share();
    let time = share.share().header.time;
    let counts = |block| is_grounded(&share, time, block);
    assert!(counts(Some(tip())));
    assert!(counts(Some(ParentBlock { below_tip: 100_000, ..tip() })));
    assert!(!counts(None));
    assert!(!counts(Some(ParentBlock { off: 1, ..tip() })));
    assert!(!counts(Some(ParentBlock { height: 7, ..tip() })));
    assert!(!counts(Some(ParentBlock { next_bits: CompactTarget::from_consensus(0x207f_ffff), ..tip() })));
    assert!(!is_grounded(&share, time - 121, Some(tip())));
}

#[test]
fn one_share_in_64_travels_with_its_transactions() {
    let id = |byte| ShareId::from_bytes([[byte; 1].as_slice(), &[0xab; 31]].concat().try_into().unwrap());
    let with = (0..=255).filter(|byte| travels_with_transactions(&id(*byte))).collect::<Vec<u8>>();
    assert_eq!(with, [0, 64, 128, 192]);
}
