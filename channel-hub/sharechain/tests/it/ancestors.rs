//! Rules that need a share's ancestors. Each test breaks one and sees its name.

use bitcoin::{Amount, CompactTarget, ScriptBuf, TxOut};
use sharechain::params::Retarget;
use sharechain::{BrokenRule, Candidate, Chain, Params, Refused, ShareId, Work};

use crate::miner::{
    Making, candidate, chain, extend, extend_by, extend_from, full, hub, owes, params, script, sheet, solved,
};

/// The verdict on a share on the tip of `chain`, with a change.
fn with(chain: &mut Chain, change: impl FnOnce(&mut Making)) -> Result<(), Refused> {
    let mut making = Making::on_tip(chain, script(1));
    change(&mut making);
    insert(chain, &making)
}

fn insert(chain: &mut Chain, making: &Making) -> Result<(), Refused> {
    chain.insert(&making.full()).map(|_| ())
}

fn broken(rule: BrokenRule) -> Result<(), Refused> {
    Err(Refused::Invalid(rule))
}

#[test]
fn a_share_as_it_should_be_is_valid() {
    assert_eq!(with(&mut chain(12), |_| ()), Ok(()));
}

#[test]
fn a_share_stands_one_above_its_parent() {
    for stated in [11, 12, 14] {
        let verdict = with(&mut chain(12), |making| making.data.height = stated);
        assert_eq!(verdict, broken(BrokenRule::Height { stated, parent: 12 }));
    }
}

#[test]
fn its_time_is_above_the_median_of_the_eleven_before_it() {
    let mut chain = chain(15);
    let median = chain.standing(&chain.at_height(10).unwrap()).unwrap().time;
    assert_eq!(chain.earliest_time(&chain.tip()), Some(median + 1));
    let verdict = with(&mut chain, |making| making.time = median);
    assert_eq!(verdict, broken(BrokenRule::Time { time: median, median }));
    assert_eq!(with(&mut chain, |making| making.time = median + 1), Ok(()));
}

#[test]
fn the_first_shares_look_at_as_many_times_as_there_are() {
    let mut chain = Chain::new(params());
    let genesis = params().genesis_time;
    let verdict = with(&mut chain, |making| making.time = genesis);
    assert_eq!(verdict, broken(BrokenRule::Time { time: genesis, median: genesis }));
    assert_eq!(with(&mut chain, |making| making.time = genesis + 100), Ok(()));
    let verdict = with(&mut chain, |making| making.time = genesis + 100);
    assert_eq!(verdict, broken(BrokenRule::Time { time: genesis + 100, median: genesis + 100 }));
}

#[test]
fn bitcoins_target_moves_between_its_periods_only_and_by_a_factor_of_four() {
    let strict = Params { retarget: Retarget::Period, ..params() };
    let from = |height: u32, to_height: u32, bits: u32| {
        let mut chain = Chain::new(strict.clone());
        let mut first = candidate(chain.tip(), script(1));
        first.block.height = height;
        extend_from(&mut chain, &first);
        let mut next = candidate(chain.tip(), script(1));
        next.block.height = to_height;
        next.block.bits = CompactTarget::from_consensus(bits);
        let making = Making::new(&mut chain, &next);
        insert(&mut chain, &making)
    };
    let moved = |to| broken(BrokenRule::NetworkTarget { from: 0x2013_b13b, to });
    assert_eq!(from(2_014, 2_015, 0x2013_b13b), Ok(()));
    assert_eq!(from(2_014, 2_015, 0x2013_b13a), moved(0x2013_b13a));
    assert_eq!(from(2_015, 2_016, 0x2013_b13a), Ok(()));
    assert_eq!(from(2_016, 2_015, 0x2013_b13a), Ok(()), "a share late by a block");
    // Work is whole: 13 hashes to a block, so 3 to 52.
    assert_eq!(from(2_015, 2_016, 0x2004_ec4e), Ok(()));
    assert_eq!(from(2_015, 2_016, 0x2003_0000), moved(0x2003_0000));
    assert_eq!(from(2_015, 2_016, 0x207f_ffff), moved(0x207f_ffff));
    assert_eq!(from(2_015, 4_032, 0x2004_ec4e), Ok(()), "two periods on");
    assert_eq!(from(2_015, 4_032, 0x2003_0000), moved(0x2003_0000), "and no easier for it");
    assert_eq!(from(2_015, 2_016 * 1_000, 0x207f_ffff), moved(0x207f_ffff));
}

#[test]
fn its_block_stands_no_more_than_a_hundred_below_its_parents() {
    let on = |parent: u32, stated: u32| {
        let mut chain = Chain::new(params());
        for height in [parent, stated] {
            let mut next = candidate(chain.tip(), script(1));
            next.block.height = height;
            let making = Making::new(&mut chain, &next);
            insert(&mut chain, &making)?;
        }
        Ok(())
    };
    assert_eq!(on(500, 400), Ok(()));
    assert_eq!(on(500, 399), broken(BrokenRule::BlockFalls { stated: 399, parent: 500 }));
    assert_eq!(on(u32::MAX, 1), broken(BrokenRule::BlockFalls { stated: 1, parent: u32::MAX }));
    assert_eq!(on(50, 1), Ok(()));
    assert_eq!(on(1, 1_000_000), Ok(()), "a chain that stood still for years goes on");
}

#[test]
fn its_target_is_what_its_parent_demands() {
    let mut chain = chain(3);
    // Early shares make it hard.
    for _ in 0..10 {
        let mut making = Making::on_tip(&mut chain, script(1));
        making.time = chain.earliest_time(&chain.tip()).unwrap();
        insert(&mut chain, &making).unwrap();
    }
    let required = chain.required(&chain.tip(), crate::miner::network()).unwrap().to_consensus();
    assert!(required < 0x207f_ffff);
    for stated in [0x207f_ffff, required + 1, required - 1] {
        let verdict = with(&mut chain, |making| {
            let old = sharechain::work::Work::of(bitcoin::Target::from_compact(making.data.bits));
            making.data.bits = CompactTarget::from_consensus(stated);
            let new = Work::of(bitcoin::Target::from_compact(making.data.bits));
            making.data.total_work = making.data.total_work.less(old).plus(new).unwrap();
        });
        assert_eq!(verdict, broken(BrokenRule::Target { stated, required }));
    }
}

#[test]
fn where_anybody_may_state_the_least_difficulty_it_makes_no_share_easier() {
    let anchor = CompactTarget::from_consensus(0x2000_ffff);
    let mut chain = Chain::new(Params { anchor, retarget: Retarget::Least, ..params() });
    extend_by(&mut chain, 3, &script(1));
    let mut easy = candidate(chain.tip(), script(1));
    easy.block.bits = params().easiest;
    let making = Making::new(&mut chain, &easy);
    assert_eq!(making.data.bits, anchor, "on time");
    assert_eq!(insert(&mut chain, &making), Ok(()));
    let verdict = with(&mut chain, |making| {
        making.network = params().easiest;
        making.data.bits = params().easiest;
    });
    assert_eq!(verdict, broken(BrokenRule::Target { stated: 0x207f_ffff, required: 0x2000_ffff }));
}

/// A chain of 6 with two shares beside its fifth and sixth, and those two.
fn with_siblings() -> (Chain, ShareId, ShareId) {
    let mut chain = chain(4);
    let fourth = chain.tip();
    let fifth = extend(&mut chain, script(0));
    let beside_fifth = extend_from(&mut chain, &candidate(fourth, script(3)));
    let mut sixth = Making::on_tip(&mut chain, script(0));
    drop_uncles(&mut sixth, &chain);
    insert(&mut chain, &sixth).unwrap();
    let mut beside_sixth = Making::new(&mut chain, &candidate(fifth, script(4)));
    drop_uncles(&mut beside_sixth, &chain);
    let beside_sixth = chain.insert(&beside_sixth.full()).unwrap().added;
    (chain, beside_fifth, beside_sixth)
}

/// Counts exactly these uncles, and their work.
fn count(making: &mut Making, chain: &Chain, uncles: &[ShareId]) {
    drop_uncles(making, chain);
    making.data.uncles = uncles.to_vec();
    making.data.uncles.sort_unstable();
    let work = uncles.iter().map(|uncle| work_of(chain, uncle));
    making.data.total_work = work.fold(making.data.total_work, |sum, work| sum.plus(work).unwrap());
}

fn drop_uncles(making: &mut Making, chain: &Chain) {
    for uncle in std::mem::take(&mut making.data.uncles) {
        making.data.total_work = making.data.total_work.less(work_of(chain, &uncle));
    }
}

fn work_of(chain: &Chain, id: &ShareId) -> Work {
    let share: sharechain::Share = bitcoin::consensus::deserialize(chain.encoded(id).unwrap()).unwrap();
    Work::of(bitcoin::Target::from_compact(share.data.bits))
}

#[test]
fn a_plan_counts_every_uncle_that_it_may_once() {
    let (mut chain, fifth, sixth) = with_siblings();
    let mut expected = vec![fifth, sixth];
    expected.sort_unstable();
    let making = Making::on_tip(&mut chain, script(1));
    assert_eq!(making.data.uncles, expected);
    insert(&mut chain, &making).unwrap();
    assert_eq!(Making::on_tip(&mut chain, script(1)).data.uncles, vec![]);
    assert_eq!(with(&mut chain, |_| ()), Ok(()));
}

#[test]
fn an_uncle_stands_one_to_three_below_its_nephew() {
    let (mut chain, fifth, _) = with_siblings();
    for _ in 7..=8 {
        let mut making = Making::on_tip(&mut chain, script(0));
        drop_uncles(&mut making, &chain);
        insert(&mut chain, &making).unwrap();
    }
    let mut nephew = Making::on_tip(&mut chain, script(0));
    count(&mut nephew, &chain, &[fifth]);
    let too_far = BrokenRule::UncleHeight { uncle: fifth, height: 5, depth: 3 };
    assert_eq!(insert(&mut chain, &nephew), broken(too_far), "9 is four above 5");
    let eighth = chain.ancestor(&chain.tip(), 7).unwrap();
    let mut nephew = Making::new(&mut chain, &candidate(eighth, script(0)));
    count(&mut nephew, &chain, &[fifth]);
    assert_eq!(insert(&mut chain, &nephew), Ok(()), "8 is three above 5");
    // Beside the nephew itself.
    let tip = chain.tip();
    let parent = chain.parent(&tip).unwrap();
    let mut beside = Making::new(&mut chain, &candidate(parent, script(5)));
    count(&mut beside, &chain, &[tip]);
    let height = chain.standing(&tip).unwrap().height;
    assert_eq!(insert(&mut chain, &beside), broken(BrokenRule::UncleHeight { uncle: tip, height, depth: 3 }));
}

#[test]
fn genesis_is_nobodys_uncle() {
    let mut chain = Chain::new(params());
    let genesis = chain.tip();
    extend(&mut chain, script(0));
    let mut making = Making::on_tip(&mut chain, script(0));
    making.data.uncles = vec![genesis];
    let rule = BrokenRule::UncleHeight { uncle: genesis, height: 0, depth: 3 };
    assert_eq!(insert(&mut chain, &making), broken(rule));
}

#[test]
fn an_ancestor_is_no_uncle() {
    let mut chain = chain(6);
    let parent = chain.parent(&chain.tip()).unwrap();
    let mut making = Making::on_tip(&mut chain, script(0));
    count(&mut making, &chain, &[parent]);
    assert_eq!(insert(&mut chain, &making), broken(BrokenRule::UncleIsAncestor(parent)));
}

#[test]
fn an_uncles_parent_is_an_ancestor() {
    let (mut chain, fifth, _) = with_siblings();
    let mut child = Making::new(&mut chain, &candidate(fifth, script(5)));
    drop_uncles(&mut child, &chain);
    let cousin = chain.insert(&child.full()).unwrap().added;
    let mut making = Making::on_tip(&mut chain, script(0));
    count(&mut making, &chain, &[cousin]);
    assert_eq!(insert(&mut chain, &making), broken(BrokenRule::UncleUnrelated(cousin)));
}

#[test]
fn an_uncle_carries_no_sheet() {
    let mut chain = chain(4);
    let fourth = chain.tip();
    let fifth = extend(&mut chain, script(0));
    let publishes = Candidate { sheet: Some(sheet(7, 0)), ..candidate(fourth, hub(7)) };
    let with_sheet = extend_from(&mut chain, &publishes);
    let child = extend_from(&mut chain, &candidate(with_sheet, script(3)));
    assert_eq!(chain.uncles(&fifth), []);
    let mut nephew = Making::new(&mut chain, &candidate(fifth, script(1)));
    count(&mut nephew, &chain, &[with_sheet]);
    assert_eq!(insert(&mut chain, &nephew), broken(BrokenRule::UncleWithSheet(with_sheet)));
    // On the sheet's own branch uncles without one count.
    let beside = extend_from(&mut chain, &candidate(with_sheet, script(4)));
    let mut nephew = Making::new(&mut chain, &candidate(child, script(1)));
    count(&mut nephew, &chain, &[beside]);
    assert_eq!(insert(&mut chain, &nephew), Ok(()));
}

#[test]
fn an_uncle_counts_once_on_a_branch_and_again_on_another() {
    let (mut chain, fifth, _) = with_siblings();
    let sixth = chain.tip();
    let mut making = Making::on_tip(&mut chain, script(0));
    count(&mut making, &chain, &[fifth]);
    insert(&mut chain, &making).unwrap();
    let mut again = Making::on_tip(&mut chain, script(0));
    count(&mut again, &chain, &[fifth]);
    assert_eq!(insert(&mut chain, &again), broken(BrokenRule::UncleCounted(fifth)));
    let mut other = Making::new(&mut chain, &candidate(sixth, script(5)));
    count(&mut other, &chain, &[fifth]);
    assert_eq!(insert(&mut chain, &other), Ok(()));
}

#[test]
fn an_uncle_that_was_counted_as_far_back_as_it_could_be_is_counted() {
    let mut chain = chain(4);
    let fourth = chain.tip();
    extend(&mut chain, script(0));
    let uncle = extend_from(&mut chain, &candidate(fourth, script(3)));
    extend_by(&mut chain, 2, &script(0));
    let mut eighth = Making::on_tip(&mut chain, script(0));
    assert_eq!((eighth.data.height, eighth.data.uncles.len()), (8, 0), "the sixth counted it");
    count(&mut eighth, &chain, &[uncle]);
    assert_eq!(insert(&mut chain, &eighth), broken(BrokenRule::UncleCounted(uncle)));
}

#[test]
fn an_unknown_parent_or_uncle_is_waited_for_and_no_fault() {
    let (mut chain, _, _) = with_siblings();
    let unknown = ShareId::from_bytes([5; 32]);
    let mut making = Making::on_tip(&mut chain, script(0));
    making.data.uncles = vec![unknown];
    assert_eq!(insert(&mut chain, &making), Err(Refused::Unconnected(unknown)));
    let mut making = Making::on_tip(&mut chain, script(0));
    making.data.parent = unknown;
    assert_eq!(insert(&mut chain, &making), Err(Refused::Unconnected(unknown)));
}

#[test]
fn total_work_is_the_parents_and_its_own_and_its_uncles() {
    let (mut chain, _, _) = with_siblings();
    let sum = Making::on_tip(&mut chain, script(1)).data.total_work;
    for stated in [Work::new(sum.hashes() + 1), Work::new(sum.hashes() - 1), Work::ZERO, Work::new(u128::MAX)]
    {
        let verdict = with(&mut chain, |making| making.data.total_work = stated);
        assert_eq!(verdict, broken(BrokenRule::TotalWork { stated, sum }));
    }
}

#[test]
fn an_ancestors_other_sheet_for_the_period_makes_the_share_invalid_and_is_the_proof() {
    let mut chain = chain(5);
    let first = Candidate { sheet: Some(sheet(7, 0)), ..candidate(chain.tip(), hub(7)) };
    extend_from(&mut chain, &first);
    extend_by(&mut chain, 3, &script(0));
    let second = Candidate { sheet: Some(second_sheet()), ..candidate(chain.tip(), hub(7)) };
    let making = Making::new(&mut chain, &second);
    let Err(Refused::Invalid(BrokenRule::SecondSheet(proof))) = chain.insert(&making.full()) else {
        panic!("taken")
    };
    let proven = proof.check(&params().locks, &crate::miner::SECP).unwrap();
    assert_eq!(Some(&proven.hub_id()), hub(7).hub());
    assert_eq!(proven.period(), 0);
}

/// Another sheet of hub 7 for period 0, signed by it: with the locks of another seed.
pub(crate) fn second_sheet() -> std::sync::Arc<lock::LockSheet> {
    let locks = sheet(8, 0).locks().to_vec();
    let signer = lock::Seed::from_bytes([7; 32]).identity(&params().locks, &crate::miner::SECP).unwrap();
    let mut promise = *sheet(7, 0).promise();
    promise.root = lock::Root::of(0, &locks);
    let digest = bitcoin::secp256k1::Message::from_digest(promise.signed_hash(&params().locks));
    promise.signature = crate::miner::SECP.sign_schnorr_no_aux_rand(&digest, &signer);
    std::sync::Arc::new(promise.with_locks(&params().locks, locks).unwrap())
}

#[test]
fn a_share_soon_after_one_with_a_sheet_carries_none() {
    for (between, expected) in [(0, Some(6)), (1, Some(6)), (2, None)] {
        let mut chain = chain(5);
        let first = Candidate { sheet: Some(sheet(7, 0)), ..candidate(chain.tip(), hub(7)) };
        extend_from(&mut chain, &first);
        extend_by(&mut chain, between, &script(0));
        let second = Candidate { sheet: Some(sheet(8, 0)), ..candidate(chain.tip(), hub(8)) };
        let making = Making::new(&mut chain, &second);
        let verdict = insert(&mut chain, &making);
        let rule = expected.map(|carrier| BrokenRule::SheetTooSoon { carrier, gap: 2 });
        assert_eq!(verdict, rule.map_or(Ok(()), broken));
    }
}

#[test]
fn the_same_sheet_comes_again_only_after_half_its_reach() {
    let mut chain = chain(5);
    let publish = |chain: &mut Chain| {
        let again = Candidate { sheet: Some(sheet(7, 0)), ..candidate(chain.tip(), hub(7)) };
        let making = Making::new(chain, &again);
        insert(chain, &making)
    };
    assert_eq!(publish(&mut chain), Ok(()));
    extend_by(&mut chain, 18, &script(0));
    assert_eq!(publish(&mut chain), broken(BrokenRule::SheetRepeated { carrier: 6 }), "19 later");
    extend(&mut chain, script(0));
    assert_eq!(publish(&mut chain), Ok(()), "20 later");
}

#[test]
fn where_nobody_else_can_be_paid_a_hub_needs_a_sheet() {
    let mut chain = Chain::new(params());
    let mut making = Making::on_tip(&mut chain, script(1));
    (making.data.recipient, making.data.pendings) = (hub(7), Some(owes(0)));
    assert_eq!(insert(&mut chain, &making), broken(BrokenRule::NobodyToPay));
    let first = Candidate { sheet: Some(sheet(7, 0)), ..candidate(chain.tip(), hub(7)) };
    let making = Making::new(&mut chain, &first);
    assert_eq!(insert(&mut chain, &making), Ok(()));
    assert_eq!(making.payouts.len(), 1);
    let next = candidate(chain.tip(), hub(7));
    let next = Making::new(&mut chain, &next);
    assert_eq!(next.payouts, making.payouts, "by the sheet of its parent");
    assert_eq!(insert(&mut chain, &next), Ok(()));
}

#[test]
fn its_outputs_are_exactly_the_split() {
    let mut chain = chain(12);
    let split = Making::on_tip(&mut chain, script(1)).payouts;
    assert_eq!(split.len(), 2);
    let outputs = |has, first| broken(BrokenRule::Outputs { has, split: 2, first });
    let one_sat_moved = with(&mut chain, |making| {
        making.payouts[0].value += Amount::from_sat(1);
        making.payouts[1].value -= Amount::from_sat(1);
    });
    assert_eq!(one_sat_moved, outputs(2, 0));
    assert_eq!(with(&mut chain, |making| making.payouts.swap(0, 1)), outputs(2, 0));
    let to_another = |making: &mut Making| making.payouts[1].script_pubkey = ScriptBuf::new_op_return([1]);
    assert_eq!(with(&mut chain, to_another), outputs(2, 1));
    let dust = TxOut { value: Amount::ZERO, script_pubkey: split[0].script_pubkey.clone() };
    assert_eq!(with(&mut chain, |making| making.payouts.push(dust)), outputs(3, 2));
    let all_to_one = with(&mut chain, |making| {
        let last = making.payouts.pop().unwrap();
        making.payouts[0].value += last.value;
    });
    assert_eq!(all_to_one, outputs(1, 0));
}

#[test]
fn a_hub_owes_no_more_than_its_output() {
    let mut chain = chain(5);
    let first = Candidate { sheet: Some(sheet(7, 0)), ..candidate(chain.tip(), hub(7)) };
    extend_from(&mut chain, &first);
    extend_by(&mut chain, 6, &hub(7));
    let owing = |chain: &mut Chain, sum: Amount| {
        let mut making = Making::on_tip(chain, hub(7));
        making.data.pendings = Some(owes(sum.to_sat()));
        making
    };
    let making = owing(&mut chain, Amount::ZERO);
    let payouts = chain.payouts(&chain.tip(), &hub(7), None, 1, crate::miner::block(1).value).unwrap();
    let paid = payouts.iter().find(|payout| *payout.recipient == hub(7)).unwrap().output.value;
    assert_eq!(making.payouts.len(), payouts.len());
    let over = owing(&mut chain, paid + Amount::from_sat(1));
    let rule = BrokenRule::Pendings { sum: paid + Amount::from_sat(1), paid };
    assert_eq!(insert(&mut chain, &over), broken(rule));
    let exactly = owing(&mut chain, paid);
    assert_eq!(insert(&mut chain, &exactly), Ok(()));
}

#[test]
fn a_hub_that_is_not_paid_owes_nothing() {
    let mut chain = chain(5);
    let mut making = Making::on_tip(&mut chain, hub(7));
    making.data.pendings = Some(owes(1));
    let (sum, paid) = (Amount::from_sat(1), Amount::ZERO);
    assert_eq!(insert(&mut chain, &making), broken(BrokenRule::Pendings { sum, paid }));
    making.data.pendings = Some(owes(0));
    assert_eq!(insert(&mut chain, &making), Ok(()));
}

#[test]
fn a_known_share_is_known() {
    let mut chain = chain(5);
    let making = Making::on_tip(&mut chain, script(1));
    assert_eq!(insert(&mut chain, &making), Ok(()));
    assert_eq!(insert(&mut chain, &making), Err(Refused::Known));
    let other = solved(making.share());
    assert_eq!(chain.insert(&full(other, None)), Err(Refused::Known));
}
