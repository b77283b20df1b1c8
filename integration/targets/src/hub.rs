//! An SV2 hub's or pool's messages to the proxy that mines there, and a native SV2 miner on the proxy.
//!
//! What holds: nothing an upstream says stops us; every share that was handed to the trunk is answered at most once, and exactly
//! once when the connection has ended; the miner understands what it is sent, whatever the upstream sent us.

use crate::blocks::{TIME, any_target, grind};
use crate::input::Input;
use crate::mining::received;
use crate::upstream::any_share;
use link::Frame;
use mining::client::{self, OpenRequest};
use mining::room::Room;
use mining::{Now, server};
use proxy::session::{Event, UpstreamShare};
use proxy::sv2::session::Session;
use proxy::sv2::space::Spaces;
use proxy::upstream::trunk::{self, Trunk};
use proxy::work::Work;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use stratum_core::binary_sv2::Sv2OptionOwned;
use stratum_core::mining_sv2::{
    CloseChannelOwned, NewExtendedMiningJobOwned, OpenExtendedMiningChannelSuccessOwned,
    OpenMiningChannelErrorOwned, SetExtranoncePrefixOwned, SetNewPrevHashOwned, SetTargetOwned,
    SubmitSharesErrorOwned, SubmitSharesSuccess,
};
use stratum_core::parsers_sv2::MiningOwned;

/// Bytes to actions.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::new(input.byte());
    while !input.is_empty() {
        let goes_on = world.act(&mut input);
        world.look();
        if !goes_on {
            break;
        }
    }
    world.trunk.end();
    world.look();
    assert!(world.under_way.is_empty(), "shares without an answer: {:?}", world.under_way);
}

struct World {
    now: Now,
    trunk: Trunk,
    /// What there was to work on, newest last.
    work: VecDeque<Arc<Work>>,
    under_way: BTreeMap<u64, Option<u32>>,
    next_ticket: u64,
    session: Session,
    miner: client::Session,
    jobs: BTreeMap<u32, Arc<client::Job>>,
    /// It has been let go.
    is_gone: bool,
}

impl World {
    /// With a shared channel asked for, and a miner that has asked for one of its own.
    fn new(kind: u8) -> Self {
        let now = Now { instant: Instant::now(), unix: TIME };
        let repeat = Duration::from_secs(55);
        let settings = trunk::Settings { connection: 1, extranonce2: 8, repeat, job_ids: Arc::default() };
        let mut trunk = Trunk::new(now, settings, &[2]);
        trunk.open(0, "account", 1e12);
        let config = server::Config::new(20.0, 1e-9, Arc::new(|_| Ok(()))).unwrap();
        let spaces = Spaces::new(Arc::default(), Room::new(2).connection());
        let settings = Arc::new(crate::sv1::settings());
        let session = Session::new(now, settings, Arc::new(config), 0, spaces, kind % 3 == 1);
        let mut miner = client::Session::new(&[2]);
        let (user_identity, nominal_hash_rate) = ("farm.rig", 1.0);
        let request = OpenRequest {
            user_identity,
            nominal_hash_rate,
            max_target: any_target(),
            min_extranonce_size: 2,
        };
        let asked = if kind.is_multiple_of(2) {
            miner.open_extended(&request)
        } else {
            miner.open_standard(&request)
        };
        assert!(asked.is_ok());
        Self {
            now,
            trunk,
            work: VecDeque::new(),
            under_way: BTreeMap::new(),
            next_ticket: 0,
            session,
            miner,
            jobs: BTreeMap::new(),
            is_gone: false,
        }
    }

    /// One action; false when the upstream's connection ends.
    fn act(&mut self, input: &mut Input<'_>) -> bool {
        let said = match input.below(20) {
            0 | 1 => opened(input),
            2 => refused(input),
            3..=6 => job(input),
            7 | 8 => new_prev_hash(input),
            9 => MiningOwned::SetTarget(SetTargetOwned {
                channel_id: channel(input),
                maximum_target: target(input).into(),
            }),
            10 => MiningOwned::SetExtranoncePrefix(SetExtranoncePrefixOwned {
                channel_id: channel(input),
                extranonce_prefix: vec![input.byte(); input.below(33)].try_into().unwrap(),
            }),
            11 => MiningOwned::SubmitSharesSuccess(SubmitSharesSuccess {
                channel_id: channel(input),
                last_sequence_number: few_or_any(input),
                new_submits_accepted_count: few_or_any(input),
                new_shares_sum: u64::from(input.byte()),
            }),
            12 => MiningOwned::SubmitSharesError(SubmitSharesErrorOwned {
                channel_id: channel(input),
                sequence_number: few_or_any(input),
                error_code: text(input).try_into().unwrap(),
            }),
            13 => MiningOwned::CloseChannel(CloseChannelOwned {
                channel_id: channel(input),
                reason_code: text(input).try_into().unwrap(),
            }),
            14 => {
                return received(input)
                    .is_none_or(|mut frame| self.trunk.handle(self.now, &mut frame).is_ok());
            }
            15 => return self.pass(input),
            16 => {
                let slot = u64::from(input.byte() % 4);
                match input.below(3) {
                    0 => self.trunk.open(slot, "account.w", 1.0),
                    1 => self.trunk.close(slot),
                    _ => {
                        self.trunk.update(slot, f64::from(f32::from_bits(input.number())));
                    }
                }
                return true;
            }
            17 => {
                self.submit(input);
                return true;
            }
            _ => {
                self.mine(input);
                return true;
            }
        };
        let Ok(frame) = Frame::message(said) else { return true };
        self.trunk.handle(self.now, &mut frame.received()).is_ok()
    }

    fn pass(&mut self, input: &mut Input<'_>) -> bool {
        self.now = self.now.after(Duration::from_millis(u64::from(input.byte()).pow(2)));
        self.trunk.handle_timeout(self.now);
        assert!(self.trunk.poll_timeout() > self.now.instant, "a timer that does not move on");
        self.is_gone |= self.session.handle_timeout(self.now).is_err();
        true
    }

    /// Any share of any work that there was.
    fn submit(&mut self, input: &mut Input<'_>) {
        let work: Vec<_> = self.work.iter().cloned().collect();
        let Some(work) = input.pick(&work).cloned() else { return };
        let share = any_share(input, work);
        self.hand_on(&UpstreamShare { is_block: input.rarely(2), ..share }, None);
    }

    fn hand_on(&mut self, share: &UpstreamShare, tag: Option<u32>) {
        self.under_way.insert(self.next_ticket, tag);
        self.trunk.submit(self.now, share, self.next_ticket);
        self.next_ticket += 1;
    }

    /// A real share of the miner's newest job.
    fn mine(&mut self, input: &mut Input<'_>) {
        let jobs: Vec<_> = self.jobs.values().cloned().collect();
        let seed = input.byte();
        let Some(job) = input.pick(&jobs) else { return };
        if let Some(found) = grind(job, seed) {
            let _ = self.miner.submit(job.channel_id(), found.job_id, &found.choice(), None);
        }
    }

    fn look(&mut self) {
        while let Some(event) = self.trunk.poll_event() {
            match event {
                trunk::Event::Work { work, .. } => self.works_on(work),
                trunk::Event::Answered { ticket, outcome } => {
                    let tag = self.under_way.remove(&ticket).expect("a second answer");
                    if let Some(tag) = tag {
                        self.session.answer(tag, &outcome);
                    }
                }
                _ => {}
            }
        }
        while let Some(frame) = self.trunk.poll_send() {
            assert!(
                frame.received().parse().is_ok(),
                "we say what is no message: {:#04x}",
                frame.message_type()
            );
        }
        self.talk();
    }

    fn works_on(&mut self, work: Option<Arc<Work>>) {
        if let Some(work) = &work {
            if self.work.len() == 8 {
                self.work.pop_front();
            }
            self.work.push_back(Arc::clone(work));
        }
        if !self.is_gone {
            self.is_gone = self.session.apply(self.now, work).is_err();
        }
    }

    /// Proxy and miner, until both are silent.
    fn talk(&mut self) {
        loop {
            while let Some(event) = self.session.poll_event() {
                if let Event::Upstream(share) = event {
                    let tag = share.tag;
                    self.hand_on(&share, Some(tag));
                }
            }
            let mut moved = false;
            while let Some(frame) = self.session.poll_send() {
                moved = true;
                let handled = self.miner.handle(self.now, &mut frame.received());
                assert!(handled.is_ok(), "a miner does not understand the proxy: {handled:?}");
            }
            while let Some(event) = self.miner.poll_event() {
                match event {
                    client::Event::Job(job) => drop(self.jobs.insert(job.channel_id(), job)),
                    client::Event::Closed { channel_id, .. } => drop(self.jobs.remove(&channel_id)),
                    _ => {}
                }
            }
            while let Some(frame) = self.miner.poll_send() {
                moved = true;
                if !self.is_gone {
                    self.is_gone = self.session.handle(self.now, &mut frame.received(), &[2]).is_err();
                }
            }
            if !moved {
                return;
            }
        }
    }
}

fn opened(input: &mut Input<'_>) -> MiningOwned {
    MiningOwned::OpenExtendedMiningChannelSuccess(OpenExtendedMiningChannelSuccessOwned {
        request_id: u32::from(input.byte() % 4),
        channel_id: channel(input),
        target: target(input).into(),
        extranonce_prefix: vec![input.byte(); [8, 0, 4, 32, 20][input.below(5)]].try_into().unwrap(),
        extranonce_size: [16, 8, 4, 3, 12, 32, 0, u16::MAX][input.below(8)],
        group_channel_id: channel(input),
    })
}

fn refused(input: &mut Input<'_>) -> MiningOwned {
    let (request_id, error_code) = (u32::from(input.byte() % 4), text(input).try_into().unwrap());
    MiningOwned::OpenMiningChannelError(OpenMiningChannelErrorOwned { request_id, error_code })
}

fn job(input: &mut Input<'_>) -> MiningOwned {
    let min_ntime = (!input.rarely(2)).then_some([TIME, 0, u32::MAX][input.below(3)]);
    MiningOwned::NewExtendedMiningJob(NewExtendedMiningJobOwned {
        channel_id: channel(input),
        job_id: u32::from(input.byte() % 4),
        min_ntime: Sv2OptionOwned::new(min_ntime),
        version: [0x2000_0000, 0, u32::MAX][input.below(3)],
        version_rolling_allowed: !input.rarely(4),
        merkle_path: vec![[7; 32].into(); input.below(4)].try_into().unwrap(),
        coinbase_tx_prefix: vec![input.byte(); [60, 42, 3, 0, 41, 5000][input.below(6)]].try_into().unwrap(),
        coinbase_tx_suffix: vec![input.byte(); [50, 4, 3, 0, 60_000][input.below(5)]].try_into().unwrap(),
    })
}

fn new_prev_hash(input: &mut Input<'_>) -> MiningOwned {
    MiningOwned::SetNewPrevHash(SetNewPrevHashOwned {
        channel_id: channel(input),
        job_id: u32::from(input.byte() % 4),
        prev_hash: [input.byte() % 4; 32].into(),
        min_ntime: [TIME, 0, u32::MAX, TIME + 7200][input.below(4)],
        // The easiest is met by every hash: then each share is a block.
        nbits: [0x1d00_ffff, 0x2100_ffff, 0, 0x207f_ffff, u32::MAX][input.below(5)],
    })
}

/// One of few, so that messages meet.
fn channel(input: &mut Input<'_>) -> u32 {
    u32::from(input.byte() % 4)
}

fn few_or_any(input: &mut Input<'_>) -> u32 {
    if input.rarely(4) { input.number() } else { u32::from(input.byte() % 8) }
}

fn target(input: &mut Input<'_>) -> [u8; 32] {
    [[0xff; 32], [0x3f; 32], [0; 32]][input.below(3)]
}

fn text(input: &mut Input<'_>) -> String {
    ["stale-share", "", "invalid-channel-id", "min-extranonce-size-too-large", "\u{7f}\n"][input.below(5)]
        .to_owned()
}
