//! What became of every share, and whose weight it is in the end: as the first node's best branch says.

use serde::Serialize;
use sharechain::{Chain, Recipient, ShareId, Work};
use std::collections::{HashMap, HashSet};

use crate::simulation::network::{Found, Run};
use crate::simulation::table::{Table, change, count, number, percent, text};

/// What became of a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// On the best branch.
    Chain,
    /// Counted by a nephew.
    Uncle,
    /// Neither; the work is lost.
    Lost,
    /// Its finder dropped it; lost, too.
    Withheld,
}

/// A whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Hours with mining.
    pub hours: f64,
    /// Shares that were found.
    pub found: usize,
    /// Shares of the best branch.
    pub chain: usize,
    /// Shares that it counts as uncles.
    pub uncles: usize,
    /// Shares that were known and are neither.
    pub lost: usize,
    /// Shares that their finders dropped.
    pub withheld: usize,
    /// Uncles, as part of all shares.
    pub uncle_rate: f64,
    /// Lost and withheld work, as part of all.
    pub work_lost: f64,
    /// Most shares that ever left the first node's best branch at once.
    pub deepest_reorganisation: usize,
    /// Blocks of Bitcoin's that the pool found.
    pub blocks: usize,
    /// Whether all nodes have a tip of the same work in the end, the greatest there is.
    pub agreed: bool,
    /// Whether these are several: a tie, which the next share would have ended.
    pub tied: bool,
    /// Each node.
    pub nodes: Vec<Earned>,
}

/// What a node put in and got out.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Earned {
    /// Its part of all hash rate.
    pub rate: f64,
    /// Its part of all work that was found: its hash rate's, with luck.
    pub work: f64,
    /// Its part of all weight: its pay.
    pub pay: f64,
    /// Shares that it found.
    pub found: usize,
    /// Uncles among them.
    pub uncles: usize,
    /// Lost and withheld among them.
    pub lost: usize,
}

impl Earned {
    /// Pay over work, less 1: what the rules and the others' strategies gave or took, luck aside.
    pub fn gain(&self) -> f64 {
        if self.work > 0.0 { self.pay / self.work - 1.0 } else { 0.0 }
    }
}

impl Run {
    /// Every share's fate, in the order of [`Run::found`].
    pub fn fates(&self) -> Vec<Fate> {
        let by_id = self.by_id();
        let chain: HashSet<ShareId> = self.best_branch().collect();
        let uncles: HashSet<ShareId> =
            chain.iter().filter_map(|id| by_id.get(id)).flat_map(|found| found.uncles.clone()).collect();
        let fate = |found: &Found| match found {
            found if chain.contains(&found.id) => Fate::Chain,
            found if uncles.contains(&found.id) => Fate::Uncle,
            found if found.is_withheld => Fate::Withheld,
            _ => Fate::Lost,
        };
        self.found.iter().map(fate).collect()
    }

    /// From the first node's tip down.
    fn best_branch(&self) -> impl Iterator<Item = ShareId> + '_ {
        let chain = &self.nodes[0].chain;
        std::iter::successors(Some(chain.tip()), |id| chain.parent(id))
    }

    /// All of it.
    pub fn summary(&mut self) -> Summary {
        let fates = self.fates();
        let count = |fate: Fate| fates.iter().filter(|one| **one == fate).count();
        let (chain, uncles) = (count(Fate::Chain), count(Fate::Uncle));
        let (lost, withheld) = (count(Fate::Lost), count(Fate::Withheld));
        let work = |wanted: &dyn Fn(usize) -> bool| {
            let wanted = (0..self.found.len()).filter(|at| wanted(*at));
            wanted.map(|at| self.found[at].work.hashes() as f64).sum::<f64>()
        };
        let all = work(&|_| true).max(f64::MIN_POSITIVE);
        let is_lost = |at: usize| matches!(fates[at], Fate::Lost | Fate::Withheld);
        let work_lost = work(&is_lost) / all;
        let rates: f64 = self.scenario.miners.iter().map(|miner| miner.rate).sum();
        let mut nodes: Vec<Earned> = (0..self.nodes.len())
            .map(|node| {
                let of = |at: usize| self.found[at].node == node;
                let shares =
                    |wanted: &dyn Fn(usize) -> bool| (0..self.found.len()).filter(|at| wanted(*at)).count();
                Earned {
                    rate: self.scenario.miners[node].rate / rates,
                    work: work(&of) / all,
                    pay: 0.0,
                    found: shares(&of),
                    uncles: shares(&|at| of(at) && fates[at] == Fate::Uncle),
                    lost: shares(&|at| of(at) && is_lost(at)),
                }
            })
            .collect();
        let blocks = self.found.iter().filter(|found| found.is_block).count();
        nodes.iter_mut().zip(self.pay()).for_each(|(node, pay)| node.pay = pay);
        let mut tips: Vec<(ShareId, Option<Work>)> = self.nodes.iter().map(|node| tip(&node.chain)).collect();
        tips.dedup();
        Summary {
            hours: self.scenario.hours,
            found: self.found.len(),
            chain,
            uncles,
            lost,
            withheld,
            uncle_rate: uncles as f64 / self.found.len().max(1) as f64,
            work_lost,
            deepest_reorganisation: self.depths.len().saturating_sub(1),
            blocks,
            agreed: tips.iter().all(|(_, work)| *work == tips[0].1),
            tied: tips.iter().any(|(id, _)| *id != tips[0].0),
            nodes,
        }
    }

    /// Each node's part of the weight of the first node's best branch, as far as that node keeps it.
    fn pay(&mut self) -> Vec<f64> {
        let named = self.nodes.iter().enumerate();
        let owners: HashMap<Recipient, usize> = named
            .flat_map(|(number, node)| node.names.iter().map(move |name| (name.clone(), number)))
            .collect();
        let mut weights = vec![0.0; self.nodes.len()];
        let chain = &mut self.nodes[0].chain;
        let mut end = Some(chain.tip());
        while let Some(id) = end.filter(|id| chain.parent(id).is_some()) {
            let Some(window) = chain.window_credits(&id) else { break };
            let mut lowest = id;
            for (at, (share, credits)) in window.enumerate() {
                lowest = if at == 0 { share } else { lowest };
                for credit in credits {
                    weights[owners[&*credit.recipient]] += credit.weight.hashes() as f64;
                }
            }
            end = chain.parent(&lowest);
        }
        let all: f64 = weights.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        weights.iter().map(|weight| weight / all).collect()
    }
}

impl Summary {
    /// The whole, and each node, for people.
    pub fn tables(&self) -> Vec<Table> {
        let whole = vec![
            number(self.hours, 1),
            count(self.found),
            percent(self.uncle_rate, 2),
            count(self.lost),
            count(self.withheld),
            percent(self.work_lost, 3),
            count(self.deepest_reorganisation),
            count(self.blocks),
            text(match (self.agreed, self.tied) {
                (true, false) => "yes",
                (true, true) => "a tie",
                (false, _) => "no",
            }),
        ];
        let columns = vec![
            "hours",
            "shares",
            "uncles",
            "lost",
            "withheld",
            "work lost",
            "deepest reorganisation",
            "blocks",
            "one tip",
        ];
        let nodes = self.nodes.iter().enumerate().map(|(number, node)| {
            let mut row = vec![count(number + 1), percent(node.rate, 2), count(node.found)];
            row.extend([count(node.uncles), count(node.lost), percent(node.work, 2), percent(node.pay, 2)]);
            row.push(change(node.gain(), 2));
            row
        });
        let of_nodes = vec![
            "node",
            "hash rate",
            "shares",
            "uncles",
            "lost",
            "of all work",
            "of all pay",
            "pay over work",
        ];
        vec![
            Table { title: "The network".to_owned(), columns, rows: vec![whole] },
            Table { title: "Its nodes".to_owned(), columns: of_nodes, rows: nodes.collect() },
        ]
    }
}

fn tip(chain: &Chain) -> (ShareId, Option<Work>) {
    (chain.tip(), chain.standing(&chain.tip()).map(|standing| standing.total_work))
}

/// Work of some shares.
pub fn total(work: impl Iterator<Item = Work>) -> f64 {
    work.map(|work| work.hashes() as f64).sum()
}
