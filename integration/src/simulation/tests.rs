//! What the simulator must show, at a size that takes seconds. The seeds are fixed: a test that passes once always does.

use sharechain::Chain;
use sharechain::export::Reader;

use crate::simulation::fates::Summary;
use crate::simulation::hub::HubPool;
use crate::simulation::network::{Network, Run};
use crate::simulation::p2pool;
use crate::simulation::scenario::{Lie, Partition, Scenario, Strategy, zipf};
use crate::simulation::studies::distance::far;
use crate::simulation::studies::lies::among_honest;
use crate::simulation::studies::partitions::cut;
use crate::simulation::studies::strategies::{gains, one};
use crate::simulation::studies::{Effort, Study, identities};

fn run(scenario: Scenario) -> Run {
    Network::new(scenario).run(|_, _, _| {})
}

fn small(seed: u64) -> Scenario {
    Scenario { hours: 12.0, hashes_log2: 8, seed, ..Scenario::honest(&zipf(8, 1.0), 0.4) }.spread(0.5)
}

#[test]
fn the_same_seed_gives_the_same_tables_and_plots_and_another_seed_others() {
    for study in [Study::Latency, Study::Strategies, Study::Partitions, Study::Dropping] {
        let (one, other) = (study.run(Effort::Quick), study.run(Effort::Quick));
        let tables = |tables: &[crate::simulation::table::Table]| -> Vec<String> {
            tables.iter().map(crate::simulation::table::Table::markdown).collect()
        };
        assert_eq!(tables(&one.tables), tables(&other.tables), "{}", study.name());
        assert_eq!(one.plots, other.plots, "{}", study.name());
    }
    let found = |seed| run(small(seed)).found.iter().map(|found| found.id).collect::<Vec<_>>();
    assert_eq!(found(1), found(1));
    assert_ne!(found(1), found(2));
}

#[test]
fn honest_nodes_agree_in_the_end_and_every_share_is_paid_once_or_lost() {
    let summary = run(small(3)).summary();
    assert!(summary.agreed);
    assert_eq!(summary.chain + summary.uncles + summary.lost, summary.found);
    assert!(summary.uncles > 0 && summary.found > 1_000, "{summary:?}");
    assert!(summary.work_lost < 0.005, "{}", summary.work_lost);
    let pay: f64 = summary.nodes.iter().map(|node| node.pay).sum();
    assert!((pay - 1.0).abs() < 1e-9, "{pay}");
    for node in &summary.nodes {
        assert!((node.work / node.rate - 1.0).abs() < 0.35, "luck goes only so far: {node:?}");
        assert!(node.gain().abs() < 0.01, "{node:?}");
    }
}

#[test]
fn without_uncles_their_work_is_lost() {
    let (with, without) = (small(3), Scenario { uncles: false, ..small(3) });
    let (with, without): (Summary, Summary) = (run(with).summary(), run(without).summary());
    assert_eq!(without.uncles, 0);
    assert!(without.work_lost > 0.01 && without.work_lost > 10.0 * with.work_lost, "{without:?}");
}

#[test]
fn a_node_at_750_ms_loses_less_than_one_percent_of_its_pay() {
    let far = far(0.05, 0.75, 4.0, 1);
    assert!(far.uncles > 0.02, "it is far away: {far:?}");
    assert!((-0.01..0.0).contains(&far.gain), "{far:?}");
}

#[test]
fn ten_minutes_cut_off_cost_the_lighter_side_its_work_and_nobody_the_common_tip() {
    let cut = cut(3, 10.0, 1);
    assert!(cut.agreed);
    // Three tenths of twenty shares, and the few that were on their way.
    assert!((2.0..12.0).contains(&cut.lost) && cut.depth >= 3.0, "{cut:?}");
    let whole = Scenario { partition: None, ..small(1) };
    let partition = Some(Partition { from: 60.0, minutes: 10.0, first: 1 });
    let cut = Scenario { partition, ..whole.clone() };
    assert!(run(cut).summary().lost > run(whole).summary().lost);
}

#[test]
fn who_withholds_shares_loses_as_much_and_the_others_have_it() {
    let summary = one(0.3, Strategy { withholds: 0.5, ..Strategy::default() }, 1.0, 1);
    let (own, others) = gains(&summary);
    assert!((-0.55..-0.35).contains(&own) && others > 0.05, "{own} {others}");
    assert!((0.1..0.2).contains(&summary.work_lost));
}

#[test]
fn a_private_fork_costs_a_small_node_and_pays_a_large_one() {
    let fork = |rate| gains(&one(rate, Strategy { forks: true, ..Strategy::default() }, 2.0, 1)).0;
    let (small, large) = (fork(0.1), fork(0.45));
    assert!(small < -0.01, "{small}");
    assert!(large > 0.05, "{large}");
}

/// Where nothing waits, the lie is taken and the tip stands days ahead, or weeks of blocks; where shares wait, whoever lies
/// mines alone.
#[test]
fn cheap_shares_bring_nothing_where_nodes_have_clocks_and_know_the_chain() {
    for lie in [Lie::Time, Lie::Block] {
        let tip = |run: &Run| {
            let chain = &run.nodes[0].chain;
            chain.standing(&chain.tip()).unwrap()
        };
        let honest = run(Scenario { hours: 0.5, ..small(1) });
        let (naive, mut wary) = (among_honest(0.3, lie, 0.5, false, 1), among_honest(0.3, lie, 0.5, true, 1));
        let (honest, naive, after) = (tip(&honest), tip(&naive), tip(&wary));
        match lie {
            Lie::Time => assert!(naive.time > honest.time + 500_000 && after.time < honest.time + 600),
            Lie::Block => assert!(
                naive.block_height > honest.block_height + 2_000
                    && after.block_height < honest.block_height + 20
            ),
        }
        let summary = wary.summary();
        let liar = summary.nodes.last().unwrap();
        assert!(liar.found > 20 && liar.pay == 0.0, "{liar:?}");
        assert!(summary.nodes[0].gain() > 0.0);
    }
}

#[test]
fn a_recipient_under_several_names_pushes_others_out_of_the_coinbase() {
    let (one, three) = (identities::split(1, 0.6), identities::split(3, 0.6));
    assert!(three.others_paid < one.others_paid && three.left_out > one.left_out, "{one:?} {three:?}");
}

#[test]
fn through_a_hub_the_smallest_hashers_pay_scatters_as_the_pools_blocks_do_and_no_more() {
    let pool = HubPool { pool: 0.1, hub: 0.6, fee: 0.01, days: 1, replicas: 1_000, seed: 1 };
    let chain = pool.chain();
    let (ledger, solvency) = pool.pay(&chain);
    let smallest = ledger.by_size(pool.pool)[4];
    let blocks_alone = 1.0 / 14.4_f64.sqrt();
    assert!((smallest.deviation[0] / blocks_alone - 1.0).abs() < 0.1, "{smallest:?}");
    // One day's window of 600 shares is 5 % off in the mean, so its price of work is, too.
    assert!((0.85..1.05).contains(&smallest.mean), "{smallest:?}");
    assert!((0.0..0.1).contains(&solvency.kept), "it never pays more than it gets: {solvency:?}");
    let without = p2pool::pay(pool.pool, 30, 20, 1).by_size(pool.pool)[4];
    assert!(without.deviation[0] > 20.0 * smallest.deviation[0] || without.payment <= 0.0, "{without:?}");
}

#[test]
fn an_exported_chain_is_read_back_share_by_share_to_the_same_tip() {
    let mut scenario = small(5);
    scenario.hours = 2.0;
    scenario.miners.iter_mut().take(2).for_each(|miner| miner.is_hub = true);
    let run = run(scenario);
    let file = run.nodes[0].chain.export(Vec::new()).unwrap();
    let mut reader = Reader::new(file.as_slice()).unwrap();
    let secp = bitcoin::secp256k1::Secp256k1::verification_only();
    let mut chain = Chain::new(reader.params().clone());
    let mut sheets = 0;
    while let Some((share, body)) = reader.next_share().unwrap() {
        sheets += usize::from(!body.locks.is_empty());
        let full = share.check(chain.params(), &secp).unwrap().with_body(body, chain.params()).unwrap();
        chain.insert(&full).unwrap();
    }
    assert_eq!(sheets, 2, "each hub publishes its sheet once");
    assert_eq!(chain.len(), run.found.len() + 1);
    assert_eq!(chain.tip(), run.nodes[0].chain.tip());
}
