//! Three sharechain nodes, and bytes that are actions on them: mining, forks, shares that come late, twice or never, shares
//! with one thing changed and solved again, restarts. Whatever happens, two nodes never differ on a share that both can judge,
//! and when all have heard everything they agree on every window and split, and on the tip where one has the most work.

use std::sync::{Arc, LazyLock};

use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::Hash as _;
use bitcoin::secp256k1::{All, Secp256k1};
use bitcoin::{Amount, BlockHash, CompactTarget, Network, ScriptBuf, TxOut, WPubkeyHash, XOnlyPublicKey};
use lock::{Council, LockSheet, Pool, Seed};
use sharechain::plan::Block;
use sharechain::{
    Body, BrokenRule, Candidate, Chain, FullShare, Params, PendingRoot, Recipient, Refused, Share, ShareId,
};

use crate::input::Input;

/// Most shares of a run, so that a run stays short.
const MAX_SHARES: usize = 40;
/// Blocks in a period of this network.
pub(crate) const PERIOD: u32 = 4;

/// Bytes are what happens to the nodes.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut world = World::new(&mut input);
    while !input.is_empty() && world.shares.len() < MAX_SHARES {
        world.act(&mut input);
    }
    world.settle();
}

/// A small network, a little different each time.
pub(crate) fn params(input: &mut Input<'_>) -> Params {
    let council =
        Council::new(1, vec![XOnlyPublicKey::from_slice(&lock::output::NUMS).unwrap()], 10).unwrap();
    Params {
        locks: Pool { period: PERIOD, ..Pool::new(Network::Regtest, council.clone()) },
        window_shares: 3 + u32::from(input.byte() % 16),
        lag: 1 + u32::from(input.byte() % 4),
        max_outputs: 1 + input.byte() % 4,
        limit: Amount::from_sat(1_000_000_000),
        keep_limit: Amount::from_sat(500_000_000),
        sheet_gap: u32::from(input.byte() % 3),
        sheet_reach: 8,
        margin: 1_000,
        ..Params::regtest(council)
    }
}

struct World {
    params: Params,
    nodes: Vec<Node>,
    /// Every valid share, parents first.
    shares: Vec<FullShare>,
    /// Shares that some node refused, and why.
    broken: Vec<(FullShare, BrokenRule)>,
    block_height: u32,
}

struct Node {
    chain: Chain,
    /// The best branch, as the changes tell it.
    best: Vec<ShareId>,
}

impl World {
    fn new(input: &mut Input<'_>) -> Self {
        let params = params(input);
        let nodes = (0..3).map(|_| Node::new(&params)).collect();
        Self { params, nodes, shares: Vec::new(), broken: Vec::new(), block_height: 2 }
    }

    fn act(&mut self, input: &mut Input<'_>) {
        match input.below(10) {
            0..=2 => self.mine(input, false),
            3 => self.mine(input, true),
            4 | 5 => self.deliver_one(input),
            6 => self.deliver_all(input),
            7 => self.break_one(input),
            8 => self.restart(input),
            _ => self.damage(input),
        }
    }

    /// On a node's tip, or on some share that the node knows.
    fn mine(&mut self, input: &mut Input<'_>, anywhere: bool) {
        let node = input.below(self.nodes.len());
        let mut parent = self.nodes[node].chain.tip();
        if anywhere && let Some(share) = input.pick(&self.shares) {
            parent = share.checked().id();
        }
        let candidate = self.candidate(input, parent);
        let late = u32::from(input.byte());
        let Some(share) = make(&mut self.nodes[node].chain, &candidate, late, |_| ()) else { return };
        let Some(full) = join(&self.params, share, candidate.sheet) else {
            panic!("a planned share is valid alone")
        };
        match self.nodes[node].hear(&full) {
            Ok(()) => self.keep(full),
            // The plan leaves it to the miner when it publishes.
            Err(Refused::Invalid(
                why @ (BrokenRule::SheetRepeated { .. }
                | BrokenRule::SheetTooSoon { .. }
                | BrokenRule::SecondSheet(_)),
            )) => self.broken.push((full, why)),
            Err(Refused::Known) => {}
            Err(why) => panic!("a planned share is valid: {why}"),
        }
    }

    /// Once, though two nodes may come upon the same share apart from each other.
    fn keep(&mut self, share: FullShare) {
        let id = share.checked().id();
        if self.shares.iter().all(|known| known.checked().id() != id) {
            self.shares.push(share);
        }
    }

    fn candidate(&mut self, input: &mut Input<'_>, parent: ShareId) -> Candidate {
        self.block_height += u32::from(input.rarely(4));
        let who = input.below(6);
        let recipient = recipient(who);
        let height = self.block_height - u32::from(input.byte() % 3).min(self.block_height - 1);
        let period = height / PERIOD + u32::from(input.rarely(3));
        let publishes = recipient.hub().is_some() && input.rarely(2);
        Candidate {
            parent,
            pendings: recipient.hub().map(|_| PendingRoot { root: [1; 32], sum: Amount::ZERO }),
            recipient,
            block: Block {
                height,
                bits: CompactTarget::from_consensus([0x2013_b13b, 0x207f_ffff, 0x2004_0000][input.below(3)]),
                value: Amount::from_sat(5_000_000_000 + u64::from(input.byte())),
                witness_commitment: witness_commitment(),
            },
            sheet: publishes.then(|| sheet(who % 2, period, input.rarely(8))),
        }
    }

    fn deliver_one(&mut self, input: &mut Input<'_>) {
        let node = input.below(self.nodes.len());
        if let Some(share) = input.pick(&self.shares) {
            self.nodes[node].hear_valid(share);
        }
    }

    /// Everything, from the oldest or from the newest.
    fn deliver_all(&mut self, input: &mut Input<'_>) {
        let node = input.below(self.nodes.len());
        let backwards = input.rarely(2);
        for at in 0..self.shares.len() {
            let at = if backwards { self.shares.len() - 1 - at } else { at };
            self.nodes[node].hear_valid(&self.shares[at]);
        }
    }

    /// One thing of a share is changed and the rest made to fit; then every node hears it.
    fn break_one(&mut self, input: &mut Input<'_>) {
        let node = input.below(self.nodes.len());
        let parent = self.nodes[node].chain.tip();
        let candidate = self.candidate(input, parent);
        let (what, how, late) = (input.below(8), input.byte(), u32::from(input.byte()));
        let other = input.pick(&self.shares).map(|share| share.checked().id());
        let made =
            make(&mut self.nodes[node].chain, &candidate, late, |share| change(share, what, how, other));
        let Some(full) = made.and_then(|share| join(&self.params, share, candidate.sheet)) else { return };
        self.judge(&full);
    }

    /// No two nodes differ, whether they say yes or why not.
    fn judge(&mut self, share: &FullShare) {
        let verdicts: Vec<Result<(), Refused>> = self.nodes.iter_mut().map(|node| node.hear(share)).collect();
        let mut judged = verdicts.iter().filter(|verdict| !matches!(verdict, Err(Refused::Unconnected(_))));
        let Some(first) = judged.next() else { return };
        let is_valid = |verdict: &Result<(), Refused>| matches!(verdict, Ok(()) | Err(Refused::Known));
        for verdict in judged {
            assert!(verdict == first || (is_valid(verdict) && is_valid(first)), "{verdict:?} and {first:?}");
        }
        match first {
            Err(Refused::Invalid(rule)) => self.broken.push((share.clone(), rule.clone())),
            Ok(()) => self.keep(share.clone()),
            Err(_) => {}
        }
    }

    /// A node begins anew with what it kept.
    fn restart(&mut self, input: &mut Input<'_>) {
        let at = input.below(self.nodes.len());
        let again = usize::from(input.byte());
        let old = &self.nodes[at].chain;
        let mut node = Node::new(&self.params);
        for (number, share) in
            self.shares.iter().filter(|share| old.contains(&share.checked().id())).enumerate()
        {
            let change =
                if number % 8 == again % 8 { node.chain.insert(share) } else { node.chain.restore(share) };
            node.apply(&change.unwrap());
        }
        assert_eq!(node.chain.len(), old.len());
        self.nodes[at] = node;
    }

    /// Bytes of a share are changed: it is no share any more, or it has one encoding, and rules alone say so without panic.
    fn damage(&mut self, input: &mut Input<'_>) {
        let Some(share) = input.pick(&self.shares) else { return };
        let mut bytes = serialize(share.checked().share());
        for _ in 0..1 + input.below(3) {
            let at = usize::try_from(input.number()).unwrap() % bytes.len();
            bytes[at] ^= input.byte().max(1);
        }
        let Ok(mut share) = deserialize::<Share>(&bytes) else { return };
        assert_eq!(serialize(&share), bytes, "one encoding");
        share.solve(64);
        if let Some(full) = join(&self.params, share, None) {
            self.judge(&full);
        }
    }

    fn settle(&mut self) {
        for node in &mut self.nodes {
            self.shares.iter().for_each(|share| node.hear_valid(share));
            for (share, rule) in &self.broken {
                assert_eq!(node.hear(share), Err(Refused::Invalid(rule.clone())));
            }
        }
        self.agree();
    }

    fn agree(&mut self) {
        let (first, others) = self.nodes.split_first_mut().unwrap();
        let work = |id: &ShareId| first.chain.standing(id).unwrap().total_work;
        let most = self.shares.iter().map(|share| work(&share.checked().id())).max();
        let heaviest = self.shares.iter().filter(|share| Some(work(&share.checked().id())) == most).count();
        for other in others {
            assert_eq!(first.chain.len(), other.chain.len());
            assert!(heaviest != 1 || first.chain.tip() == other.chain.tip());
            for share in &self.shares {
                let id = share.checked().id();
                assert_eq!(first.chain.window(&id), other.chain.window(&id));
                let height = share.checked().block_height();
                let value = Amount::from_sat(5_000_000_007);
                let split = first.chain.payouts(&id, &recipient(2), None, height, value);
                assert_eq!(split, other.chain.payouts(&id, &recipient(2), None, height, value));
                let sum: Amount = split.unwrap().iter().map(|payout| payout.output.value).sum();
                assert_eq!(sum, value);
            }
        }
    }
}

impl Node {
    fn new(params: &Params) -> Self {
        let chain = Chain::new(params.clone());
        Self { best: vec![chain.tip()], chain }
    }

    fn hear(&mut self, share: &FullShare) -> Result<(), Refused> {
        let change = self.chain.insert(share)?;
        self.apply(&change);
        Ok(())
    }

    /// A share that is valid: it is taken, or known, or hangs on nothing yet.
    fn hear_valid(&mut self, share: &FullShare) {
        match self.hear(share) {
            Ok(()) | Err(Refused::Known | Refused::Unconnected(_)) => {}
            Err(why) => panic!("valid on one node, on another: {why}"),
        }
    }

    fn apply(&mut self, change: &sharechain::Change) {
        for id in &change.disconnected {
            assert_eq!(self.best.pop(), Some(*id));
        }
        self.best.extend(&change.connected);
        assert_eq!(self.best.last(), Some(&self.chain.tip()));
    }
}

/// A solved share, with a change before the last commitments are made.
fn make(
    chain: &mut Chain,
    candidate: &Candidate,
    late: u32,
    change: impl FnOnce(&mut Share),
) -> Option<Share> {
    let plan = chain.plan(candidate).ok()?;
    let parent = chain.standing(&candidate.parent)?;
    let time = plan.earliest_time.max(parent.time + late);
    let mut share = plan.unsolved(BlockHash::all_zeros(), time, plan.coinbase(&[7; 4]), Vec::new());
    change(&mut share);
    let commitment = share.coinbase.output.len().checked_sub(2)?;
    share.coinbase.output[commitment].script_pubkey = share.data.commitment_script();
    share.header.merkle_root = share.merkle_root();
    share.solve(2_000).then_some(share)
}

fn change(share: &mut Share, what: usize, how: u8, other: Option<ShareId>) {
    let data = &mut share.data;
    match what {
        0 => data.height = data.height.wrapping_add(u32::from(how)),
        1 => data.total_work = sharechain::Work::new(u128::from(how)),
        2 => data.bits = CompactTarget::from_consensus(0x2000_0100 + u32::from(how)),
        3 => data.uncles = other.into_iter().collect(),
        4 => share.header.time = share.header.time.wrapping_sub(u32::from(how) * 8),
        5 => share.coinbase.output[0].value = Amount::from_sat(5_000_000_000 + u64::from(how)),
        6 => share.coinbase.output.insert(usize::from(how % 2), share.coinbase.output[0].clone()),
        _ => data.pendings = Some(PendingRoot { root: [how; 32], sum: Amount::from_sat(u64::from(how)) }),
    }
}

fn join(params: &Params, share: Share, sheet: Option<Arc<LockSheet>>) -> Option<FullShare> {
    let checked = share.check(params, &SECP).ok()?;
    let body = Body { locks: sheet.map(|sheet| sheet.locks().to_vec()).unwrap_or_default() };
    checked.with_body(body, params).ok()
}

pub(crate) static SECP: LazyLock<Secp256k1<All>> = LazyLock::new(Secp256k1::new);

fn pool() -> Pool {
    let council =
        Council::new(1, vec![XOnlyPublicKey::from_slice(&lock::output::NUMS).unwrap()], 10).unwrap();
    Pool { period: PERIOD, ..Pool::new(Network::Regtest, council) }
}

pub(crate) fn recipient(who: usize) -> Recipient {
    static HUBS: LazyLock<[XOnlyPublicKey; 2]> =
        LazyLock::new(|| [0, 1].map(|hub| sheet(hub, 0, false).promise().hub_id));
    match who {
        0 | 1 => Recipient::Hub(HUBS[who]),
        who => {
            let hash = WPubkeyHash::from_byte_array([u8::try_from(who).unwrap(); 20]);
            Recipient::Script(ScriptBuf::new_p2wpkh(&hash))
        }
    }
}

/// A hub's sheet of a period, made once; or a second one that it should not have signed.
pub(crate) fn sheet(hub: usize, period: u32, second: bool) -> Arc<LockSheet> {
    type Made = std::collections::HashMap<(usize, u32, bool), Arc<LockSheet>>;
    static MADE: LazyLock<std::sync::Mutex<Made>> = LazyLock::new(std::sync::Mutex::default);
    let seed = Seed::from_bytes([u8::try_from(hub).unwrap() + 1; 32]);
    let make = || {
        let sheet = seed.sheet(&pool(), period, &SECP).unwrap();
        if !second {
            return Arc::new(sheet);
        }
        let mut locks = sheet.locks().to_vec();
        locks.reverse();
        let mut promise = *sheet.promise();
        promise.root = lock::Root::of(period * PERIOD, &locks);
        let digest = bitcoin::secp256k1::Message::from_digest(promise.signed_hash(&pool()));
        promise.signature = SECP.sign_schnorr_no_aux_rand(&digest, &seed.identity(&pool(), &SECP).unwrap());
        Arc::new(promise.with_locks(&pool(), locks).unwrap())
    };
    MADE.lock().unwrap().entry((hub, period, second)).or_insert_with(make).clone()
}

pub(crate) fn witness_commitment() -> TxOut {
    let script = [&sharechain::check::WITNESS_COMMITMENT[..], &[7; 32]].concat();
    TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(script) }
}
