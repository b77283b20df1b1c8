//! A session between a miner's client session and work that a real trunk made.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::session::UpstreamShare;
use crate::slices::Slices;
use crate::testing::{HARDEST, Server, easiest, server_of_blocks, settings, start};
use crate::work::Line;
use mining::client::{self, OpenRequest};
use mining::job::FIRST_SESSION_JOB_ID;
use mining::room::Room;
use mining::share::Choice;
use mining::{Now, Work as Hashes};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;
use stratum_core::mining_sv2 as sv2;
use stratum_core::parsers_sv2::MiningOwned;

/// A miner on a session.
struct Miner {
    now: Now,
    session: Session,
    client: client::Session,
    jobs: BTreeMap<u32, Arc<client::Job>>,
    heard: Vec<client::Event>,
    /// Message types that the miner was sent.
    sent: Vec<u8>,
    slices: Arc<Mutex<Slices>>,
}

fn request(user_identity: &str) -> OpenRequest<'_> {
    OpenRequest { user_identity, nominal_hash_rate: 0.0, max_target: easiest(), min_extranonce_size: 2 }
}

/// Shares of about four hashes at the easiest.
fn config() -> server::Config {
    server::Config::new(20.0, 1e-9, Arc::new(|_| Ok(()))).unwrap()
}

fn target_of(hashes: u128) -> Target {
    Hashes::new(hashes).to_target()
}

impl Miner {
    fn connected(now: Now, flags: u32) -> Self {
        Self::configured(now, flags, config())
    }

    fn configured(now: Now, flags: u32, config: server::Config) -> Self {
        let slices = Arc::default();
        let spaces = Spaces::new(Arc::clone(&slices), Room::new(config.max_channels).connection());
        let session = Session::new(now, settings().into(), config.into(), flags, spaces, false);
        let client = client::Session::new(&[2]);
        Self { now, session, client, jobs: BTreeMap::new(), heard: Vec::new(), sent: Vec::new(), slices }
    }

    /// With an extended channel and this work.
    fn mining(now: Now, work: &Arc<Work>) -> Self {
        let mut miner = Self::connected(now, 0);
        miner.open("farm.ann");
        miner.apply(Some(work));
        miner.heard.clear();
        miner
    }

    fn open(&mut self, user_identity: &str) {
        self.client.open_extended(&request(user_identity)).unwrap();
        self.settle();
    }

    fn apply(&mut self, work: Option<&Arc<Work>>) {
        self.session.apply(self.now, work.cloned()).unwrap();
        self.settle();
    }

    fn wait(&mut self, by: Duration) -> Result<(), End> {
        self.now = self.now.after(by);
        self.session.handle_timeout(self.now)?;
        self.settle();
        Ok(())
    }

    fn answer(&mut self, tag: u32, outcome: &Outcome) {
        self.session.answer(tag, outcome);
        self.settle();
    }

    fn settle(&mut self) {
        loop {
            let (to_miner, to_us) = (self.session.poll_send(), self.client.poll_send());
            if to_miner.is_none() && to_us.is_none() {
                break;
            }
            if let Some(frame) = to_us {
                self.session.handle(self.now, &mut frame.received(), &[2]).unwrap();
            }
            if let Some(frame) = to_miner {
                self.sent.push(frame.message_type());
                self.client.handle(self.now, &mut frame.received()).unwrap();
            }
        }
        while let Some(event) = self.client.poll_event() {
            if let client::Event::Job(job) = &event {
                self.jobs.insert(job.channel_id(), job.clone());
            }
            self.heard.push(event);
        }
    }

    /// Submits a share of the channel's job that meets `target`, and `misses` another.
    fn submit(&mut self, channel_id: u32, seed: u8, target: Target, misses: Target) -> Vec<client::Event> {
        let job = self.jobs[&channel_id].clone();
        let extranonce = vec![seed; job.extranonce_size()];
        let ntime = job.tip().min_ntime();
        let found = (0..u32::MAX).find(|&nonce| {
            let choice = Choice { nonce, ntime, version: job.version(), extranonce: &extranonce };
            let number = as_number(job.header(&choice).hash());
            number <= target.min(job.target()) && number > misses
        });
        let choice = Choice { nonce: found.unwrap(), ntime, version: job.version(), extranonce: &extranonce };
        self.client.submit(channel_id, job.id(), &choice, None).unwrap();
        self.heard.clear();
        self.settle();
        std::mem::take(&mut self.heard)
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.session.poll_event()).collect()
    }

    /// Shares on their way to the upstream.
    fn handed_on(&mut self) -> Vec<UpstreamShare> {
        let share = |event| if let Event::Upstream(share) = event { Some(*share) } else { None };
        self.events().into_iter().filter_map(share).collect()
    }
}

fn accepted(events: &[client::Event]) -> usize {
    events.iter().filter(|event| matches!(event, client::Event::ShareAccepted { .. })).count()
}

fn refused(events: &[client::Event]) -> Vec<&str> {
    let mut codes = Vec::new();
    for event in events {
        if let client::Event::ShareRejected { code, .. } = event {
            codes.push(code.as_str());
        }
    }
    codes
}

/// An upstream that leaves `rollable` bytes, with a job.
fn upstream(now: Now, connection: u64, target: Target, rollable: u16) -> (Server, Arc<Work>) {
    let mut server = Server::new(now, connection);
    server.open(now, 0, target, rollable);
    server.job(now, Some(1), true);
    let work = server.work(0).unwrap();
    (server, work)
}

#[test]
fn a_share_at_the_upstreams_target_is_answered_by_the_upstream() {
    let now = start();
    let (_, work) = upstream(now, 1, easiest(), 16);
    let mut miner = Miner::mining(now, &work);
    assert!(miner.submit(2, 1, easiest(), HARDEST).is_empty());
    let share = miner.handed_on().remove(0);
    assert_eq!(&*share.worker, "ann");
    miner.answer(share.tag, &Outcome::Accepted);
    assert_eq!(accepted(&miner.heard), 1);
    assert!(matches!(&miner.events()[..], [Event::Accepted { by: AcceptedBy::Upstream, .. }]));
    miner.answer(share.tag, &Outcome::Lost);
    assert!(miner.events().is_empty(), "an answer counts once");
}

#[test]
fn a_lighter_share_is_answered_by_our_own_check_and_stays_here() {
    let now = start();
    let (_, work) = upstream(now, 1, target_of(1000), 16);
    let mut miner = Miner::mining(now, &work);
    assert_eq!(accepted(&miner.submit(2, 1, easiest(), target_of(1000))), 1);
    let events = miner.events();
    assert!(events.iter().any(|event| matches!(event, Event::Accepted { by: AcceptedBy::OwnCheck, .. })));
    assert!(!events.iter().any(|event| matches!(event, Event::Upstream(_))));
}

#[test]
fn a_share_that_the_upstream_refuses_or_that_is_lost_has_an_error() {
    let now = start();
    let (_, work) = upstream(now, 1, easiest(), 16);
    let mut miner = Miner::mining(now, &work);
    for (seed, outcome, code, reason) in [
        (1, Outcome::Rejected("duplicate-share".into()), "duplicate-share", "22 duplicate share"),
        (2, Outcome::Rejected("invalid-channel-id".into()), "stale-share", "20 other"),
        (3, Outcome::Rejected("too\nlate".into()), "invalid-share", "20 other"),
        (4, Outcome::Lost, "upstream-not-available", "20 no upstream"),
    ] {
        miner.submit(2, seed, easiest(), HARDEST);
        let tag = miner.handed_on()[0].tag;
        miner.heard.clear();
        miner.answer(tag, &outcome);
        assert_eq!(refused(&miner.heard), [code]);
        assert!(matches!(&miner.events()[..], [Event::Rejected { why, .. }] if why.reason() == reason));
    }
}

#[test]
fn a_share_that_the_upstream_says_nothing_to_is_accepted_on_our_own_word_in_time() {
    let now = start();
    let (_, work) = upstream(now, 1, easiest(), 16);
    let mut miner = Miner::mining(now, &work);
    miner.submit(2, 1, easiest(), HARDEST);
    miner.submit(2, 2, easiest(), HARDEST);
    let second = miner.handed_on()[1].tag;
    miner.answer(second, &Outcome::Accepted);
    assert_eq!(accepted(&miner.heard), 0, "the answer would be for the first, too");
    miner.wait(Duration::from_secs(2)).unwrap();
    assert_eq!(accepted(&miner.heard), 2);
}

#[test]
fn what_goes_to_the_upstream_is_the_miners_share_whatever_the_upstream_leaves_and_the_channel_rolls() {
    for rollable in [6, 8, 12, 13, 16, 24] {
        let now = start();
        let (_, work) = upstream(now, 1, easiest(), rollable);
        let mut miner = Miner::connected(now, 0);
        miner.apply(Some(&work));
        miner.open("a");
        miner.client.open_standard(&request("b")).unwrap();
        miner.settle();
        for channel_id in [2, 3] {
            miner.submit(channel_id, 1, easiest(), HARDEST);
            let share = miner.handed_on().remove(0);
            let checked = share.work.job.check(&share.rolled.choice(), now).unwrap();
            assert_eq!(checked.hash, share.hash, "{rollable} bytes, channel {channel_id}");
        }
    }
}

#[test]
fn another_upstream_is_only_another_job() {
    let now = start();
    let (_, first) = upstream(now, 1, easiest(), 16);
    let (mut server, _) = upstream(now, 2, easiest(), 20);
    server.job(now, Some(1), true); // ids of jobs are never the same in one program
    let second = server.work(0).unwrap();
    let mut miner = Miner::mining(now, &first);
    let old = miner.jobs[&2].clone();
    miner.sent.clear();
    miner.apply(Some(&second));
    assert_eq!(
        miner.sent,
        [sv2::MESSAGE_TYPE_NEW_EXTENDED_MINING_JOB, sv2::MESSAGE_TYPE_MINING_SET_NEW_PREV_HASH]
    );
    miner.submit(2, 1, easiest(), HARDEST);
    assert_eq!(miner.handed_on()[0].work.channel.connection, 2);
    miner.jobs.insert(2, old);
    assert_eq!(refused(&miner.submit(2, 1, easiest(), HARDEST)), ["stale-share"]);
}

/// A rival's block may be as young.
#[test]
fn a_block_on_a_job_of_the_tip_before_goes_to_the_upstream_once_and_its_miner_is_told_that_it_is_stale() {
    let now = start();
    let mut server = server_of_blocks(now);
    let mut next = |tip| {
        server.job(now, Some(tip), true);
        server.work(0).unwrap()
    };
    let (first, second, third) = (next(1), next(2), next(3));
    let network = first.job.tip().target();
    let mut miner = Miner::mining(now, &first);
    let job = miner.jobs[&2].clone();
    let left = |miner: &mut Miner, seed, target, misses| {
        miner.jobs.insert(2, job.clone());
        let stale = refused(&miner.submit(2, seed, target, misses)) == ["stale-share"];
        (stale, miner.handed_on().iter().filter(|share| share.is_block && share.work.id == first.id).count())
    };
    miner.submit(2, 1, network, HARDEST);
    assert_eq!(miner.handed_on().len(), 1);
    miner.apply(Some(&second));
    assert_eq!(left(&mut miner, 1, network, HARDEST), (true, 0), "it was handed in");
    assert_eq!(left(&mut miner, 2, network, HARDEST), (true, 1));
    assert_eq!(left(&mut miner, 2, network, HARDEST), (true, 0), "once");
    assert_eq!(left(&mut miner, 3, easiest(), network), (true, 0), "no block");
    miner.apply(None);
    assert_eq!(left(&mut miner, 4, network, HARDEST).1, 0, "two tips ago");
    miner.apply(Some(&third));
    assert_eq!(left(&mut miner, 5, network, HARDEST), (true, 0));
}

/// What the session inside tells of such a block.
#[test]
fn the_work_of_the_tip_before_is_known_also_while_there_is_none() {
    let now = start();
    let mut server = server_of_blocks(now);
    let mut next = |tip| {
        server.job(now, Some(tip), true);
        server.work(0).unwrap()
    };
    let (first, second) = (next(1), next(2));
    let mut miner = Miner::mining(now, &first);
    let is_known = |miner: &Miner, work: &Work| miner.session.late_work_of(work.id).is_some();
    miner.apply(Some(&second));
    assert!(is_known(&miner, &first) && is_known(&miner, &second));
    miner.apply(None);
    miner.apply(None);
    assert!(!is_known(&miner, &first) && is_known(&miner, &second));
}

#[test]
fn a_miner_is_asked_to_connect_again_when_a_new_upstream_leaves_too_few_bytes_for_its_channels() {
    let now = start();
    let (_, first) = upstream(now, 1, easiest(), 16);
    let (_, second) = upstream(now, 2, easiest(), 8);
    let mut miner = Miner::mining(now, &first);
    assert_eq!(miner.jobs[&2].extranonce_size(), 12);
    let end = miner.session.apply(now, Some(second.clone())).unwrap_err();
    assert_eq!(end, End::Disconnect(Disconnect::ExtranonceChanged));
    miner.settle();
    assert!(matches!(&miner.heard[..], [client::Event::Reconnect { .. }]), "{:?}", miner.heard);
    let mut miner = Miner::connected(now, 0);
    miner.apply(Some(&second));
    miner.open("farm.ann");
    assert_eq!(miner.jobs[&2].extranonce_size(), 4);
    miner.submit(2, 1, easiest(), HARDEST);
    assert_eq!(miner.handed_on().len(), 1);
}

/// Else its next share would be one more that is lost.
#[test]
fn who_would_keep_its_prefix_is_let_go_at_once_where_work_comes_back_to_a_block_of_long_ago() {
    let now = start();
    for (vendor, ends) in [("bitaxe", true), ("other", false)] {
        let (mut server, first) = upstream(now, 1, easiest(), 16);
        let mut miner = Miner::mining(now, &first);
        miner.session.introduce(&Device { vendor: vendor.into(), ..Device::default() });
        for tip in [2, 3] {
            server.job(now, Some(tip), true);
            miner.apply(server.work(0).as_ref());
        }
        server.job(now, Some(1), true);
        let applied = miner.session.apply(now, server.work(0));
        assert_eq!(applied, if ends { Err(Fatal::NewPrefix.into()) } else { Ok(()) });
    }
}

#[test]
fn who_would_die_of_being_asked_is_let_go_without_a_word_when_bytes_do_not_fit() {
    let now = start();
    let (_, first) = upstream(now, 1, easiest(), 16);
    let (_, second) = upstream(now, 2, easiest(), 8);
    let mut miner = Miner::mining(now, &first);
    let (vendor, hardware_version) = ("SRI".into(), "Translator Proxy".into());
    miner.session.introduce(&Device { vendor, hardware_version, ..Device::default() });
    let end = miner.session.apply(now, Some(second)).unwrap_err();
    assert_eq!(end, End::Disconnect(Disconnect::ExtranonceChanged));
    miner.settle();
    assert!(miner.heard.is_empty(), "{:?}", miner.heard);
}

#[test]
fn a_miner_may_come_before_the_upstream_and_is_kept_for_a_while_without_one() {
    let now = start();
    let (_, work) = upstream(now, 1, easiest(), 16);
    let mut miner = Miner::connected(now, 0);
    miner.open("farm.ann");
    miner.wait(Duration::from_secs(100)).unwrap();
    miner.apply(Some(&work));
    miner.submit(2, 1, easiest(), HARDEST);
    miner.apply(None);
    miner.events();
    assert_eq!(refused(&miner.submit(2, 2, easiest(), HARDEST)), ["stale-share"]);
    assert!(matches!(&miner.events()[..], [Event::Rejected { why: Rejection::NoUpstream, .. }]));
    miner.wait(Duration::from_secs(119)).unwrap();
    let end = miner.wait(Duration::from_secs(1)).unwrap_err();
    assert_eq!(end, End::Disconnect(Disconnect::NoUpstream));
}

#[test]
fn a_job_that_cannot_be_handed_on_is_no_work() {
    let now = start();
    let (_, work) = upstream(now, 1, easiest(), 16);
    let mut miner = Miner::mining(now, &work);
    assert!(miner.session.has_work());
    let line = Line::new(FIRST_SESSION_JOB_ID, &work.job, work.ntime).unwrap();
    let unfit = Arc::new(Work::new(&line, 1, work.layout, work.job.clone()));
    miner.apply(Some(&unfit));
    assert!(!miner.session.has_work());
}

#[test]
fn a_miner_that_says_nothing_for_long_is_let_go() {
    let now = start();
    let (_, work) = upstream(now, 1, easiest(), 16);
    let mut miner = Miner::mining(now, &work);
    miner.wait(Duration::from_secs(899)).unwrap();
    assert_eq!(miner.wait(Duration::from_secs(1)).unwrap_err(), End::Disconnect(Disconnect::Idle));
}

#[test]
fn no_miner_is_harder_than_its_upstream_and_follows_at_once_when_that_gets_easier() {
    let now = start();
    let (mut server, work) = upstream(now, 1, target_of(1000), 16);
    let mut miner = Miner::connected(now, 0);
    miner.apply(Some(&work));
    let fast = OpenRequest { nominal_hash_rate: 1e15, ..request("fast") };
    miner.client.open_extended(&fast).unwrap();
    miner.settle();
    assert_eq!(miner.jobs[&2].target(), target_of(1000));
    miner.sent.clear();
    server.retarget(now, 2, target_of(100));
    miner.apply(server.work(0).as_ref());
    assert_eq!(
        miner.sent,
        [sv2::MESSAGE_TYPE_SET_TARGET, sv2::MESSAGE_TYPE_NEW_EXTENDED_MINING_JOB],
        "the upstream's new target came with a job that says nothing else that is new"
    );
    assert_eq!(miner.jobs[&2].target(), target_of(100));
    miner.submit(2, 1, target_of(100), HARDEST);
    let share = miner.handed_on().remove(0);
    assert!(share.work.job.check(&share.rolled.choice(), now).unwrap().is_share);
}

#[test]
fn an_upstream_that_gets_harder_sends_its_miners_nothing() {
    let now = start();
    let (mut server, work) = upstream(now, 1, target_of(100), 16);
    let mut miner = Miner::mining(now, &work);
    miner.sent.clear();
    server.retarget(now, 2, target_of(1000));
    miner.apply(server.work(0).as_ref());
    assert!(miner.sent.is_empty(), "{:?}", miner.sent);
    assert_eq!(accepted(&miner.submit(2, 1, easiest(), target_of(1000))), 1);
}

#[test]
fn channels_of_both_kinds_share_a_group_and_header_only_miners_get_no_group() {
    let now = start();
    let (mut server, work) = upstream(now, 1, easiest(), 16);
    let mut miner = Miner::mining(now, &work);
    miner.client.open_standard(&request("b")).unwrap();
    miner.settle();
    server.job(now, None, true);
    let next = server.work(0).unwrap();
    miner.sent.clear();
    miner.apply(Some(&next));
    assert_eq!(miner.sent, [sv2::MESSAGE_TYPE_NEW_EXTENDED_MINING_JOB], "one for both");

    let mut device = Miner::connected(now, mining::REQUIRES_STANDARD_JOBS);
    for name in ["c", "d"] {
        device.client.open_standard(&request(name)).unwrap();
    }
    device.settle();
    device.sent.clear();
    device.apply(Some(&next));
    let jobs = device.sent.iter().filter(|sent| **sent == sv2::MESSAGE_TYPE_NEW_MINING_JOB).count();
    assert_eq!((jobs, device.sent.contains(&sv2::MESSAGE_TYPE_NEW_EXTENDED_MINING_JOB)), (2, false));
    device.submit(3, 0, easiest(), HARDEST);
    assert_eq!(&*device.handed_on()[0].worker, "d");
}

#[test]
fn a_share_is_the_workers_that_is_named_with_it() {
    let now = start();
    let (_, work) = upstream(now, 1, easiest(), 16);
    let mut miner = Miner::mining(now, &work);
    let job = miner.jobs[&2].clone();
    let extranonce = vec![0; job.extranonce_size()];
    let choice =
        Choice { nonce: 1, ntime: job.tip().min_ntime(), version: job.version(), extranonce: &extranonce };
    let nonce =
        (0..).find(|nonce| as_number(job.header(&Choice { nonce: *nonce, ..choice }).hash()) <= job.target());
    let choice = Choice { nonce: nonce.unwrap(), ..choice };
    miner.client.submit(2, job.id(), &choice, Some("rig-7")).unwrap();
    miner.settle();
    assert_eq!(&*miner.handed_on()[0].worker, "rig-7");
}

#[test]
fn a_channels_part_of_the_extranonce_is_free_again_after_two_jobs() {
    let now = start();
    let (_, work) = upstream(now, 1, easiest(), 16);
    let mut miner = Miner::mining(now, &work);
    miner.client.close(2, "bye");
    miner.settle();
    assert_eq!(miner.session.channels(), 0);
    miner.slices.lock().unwrap().job_made();
    miner.slices.lock().unwrap().job_made();
    assert_eq!(miner.slices.lock().unwrap().take(), Some(0));
}

#[test]
fn a_new_block_for_all_channels_that_a_connection_may_have_finds_room_in_its_queue() {
    let now = start();
    let (mut server, first) = upstream(now, 1, easiest(), 16);
    let config = server::Config { max_channels: 8192, ..config() };
    let mut farm = Miner::configured(now, mining::REQUIRES_STANDARD_JOBS, config);
    for _ in 0..8192 {
        farm.client.open_standard(&request("farm.ann")).unwrap();
        farm.settle();
    }
    farm.apply(Some(&first));
    server.job(now, Some(2), true);
    farm.session.apply(now, server.work(0)).unwrap();
    // Header and payload have 16 bytes more each when they are encrypted.
    let bytes = |frame: Frame| frame.as_bytes().len() + 32;
    let queued: usize = std::iter::from_fn(|| farm.session.poll_send()).map(bytes).sum();
    let max_queued = |channels| server::limits(channels).max_queued;
    assert!((max_queued(0)..max_queued(8192)).contains(&queued), "{queued} bytes");
}

#[test]
fn shares_that_are_too_light_for_the_upstream_make_up_for_no_nonsense() {
    let now = start();
    for (upstreams, endures) in [(target_of(1000), false), (easiest(), true)] {
        let (mut server, work) = upstream(now, 1, upstreams, 16);
        let config = server::Config::new(60_000.0, 1e-9, Arc::new(|_| Ok(()))).unwrap();
        let mut miner = Miner::configured(now, 0, config);
        miner.open("farm.ann");
        miner.apply(Some(&work));
        let nonsense = sv2::SubmitSharesStandard {
            channel_id: 77,
            sequence_number: 1,
            job_id: 1,
            nonce: 0,
            ntime: 0,
            version: 0,
        };
        let mut ended = None;
        for round in 0..1_500 {
            miner.now = miner.now.after(Duration::from_millis(1));
            let seed = u8::try_from(round % 200).unwrap();
            if seed == 0 {
                server.job(miner.now, Some(u8::try_from(2 + round / 200).unwrap()), true);
                miner.apply(server.work(0).as_ref());
            }
            miner.submit(2, seed, easiest(), if endures { HARDEST } else { upstreams });
            miner.handed_on().iter().for_each(|share| miner.answer(share.tag, &Outcome::Accepted));
            // It costs as much as four right shares give back.
            if round % 4 != 3 {
                continue;
            }
            let frame = Frame::message(MiningOwned::SubmitSharesStandard(nonsense.clone())).unwrap();
            ended = miner.session.handle(miner.now, &mut frame.received(), &[2]).err();
            if ended.is_some() {
                break;
            }
            miner.settle();
        }
        assert_eq!(ended, (!endures).then_some(End::Protocol(Fatal::Nonsense)));
    }
}

#[test]
fn what_a_miner_says_of_its_hash_rate_does_not_make_it_fast() {
    let now = start();
    let (_, work) = upstream(now, 1, easiest(), 16);
    for comes_first in [true, false] {
        let mut miner = Miner::connected(now, 0);
        if comes_first {
            miner.apply(Some(&work));
        }
        let liar = OpenRequest { nominal_hash_rate: 1e30, ..request("liar") };
        miner.client.open_extended(&liar).unwrap();
        miner.settle();
        assert!(miner.session.claimed_hash_rate() < 1.1e15, "{}", miner.session.claimed_hash_rate());
        assert!(miner.session.hash_rate() <= settings().pace.hash_rate);
        miner.apply(Some(&work));
        for seed in 0..ENOUGH {
            miner.submit(2, u8::try_from(seed).unwrap(), easiest(), HARDEST);
        }
        let claimed = miner.session.claimed_hash_rate();
        assert!((miner.session.hash_rate() - claimed).abs() < 1e-9, "its shares say so");
    }
}

#[test]
fn a_connection_without_a_channel_may_stay_for_long_and_not_for_ever() {
    let (now, second) = (start(), Duration::from_secs(1));
    let (_, work) = upstream(now, 1, easiest(), 16);
    let mut proxy = Miner::connected(now, 0);
    proxy.apply(Some(&work));
    let long = settings().unused_timeout;
    proxy.wait(long - second).unwrap();
    proxy.open("farm.ann");
    proxy.submit(2, 1, easiest(), HARDEST);
    assert_eq!(proxy.handed_on().len(), 1);
    proxy.wait(second).unwrap();
    proxy.client.close(2, "over");
    proxy.settle();
    proxy.wait(long - second).unwrap();
    assert_eq!(proxy.wait(second).unwrap_err(), End::Disconnect(Disconnect::Unused));
}

fn offer(server: &mut Server, now: Now, rolls: bool) -> Arc<Work> {
    server.job(now, None, rolls);
    server.work(0).unwrap()
}

/// SV2 spec §5.3.1: whether versions may be rolled is said when a miner connects.
#[test]
fn who_may_roll_versions_and_soon_may_not_is_asked_to_connect_again_if_it_would_not_hear_of_it() {
    let now = start();
    let (mut server, rolls) = upstream(now, 1, easiest(), 16);
    let fixed = offer(&mut server, now, false);
    let changed = Err(End::Disconnect(Disconnect::RollingChanged));
    let goodbye = |miner: &mut Miner| {
        miner.heard.clear();
        assert_eq!(miner.session.apply(now, Some(fixed.clone())), changed);
        miner.settle();
        assert!(matches!(&miner.heard[..], [client::Event::Reconnect { .. }]), "{:?}", miner.heard);
    };
    // A standard job does not say it.
    let mut miner = Miner::connected(now, 0);
    miner.apply(Some(&rolls));
    miner.client.open_standard(&request("header-only")).unwrap();
    miner.settle();
    goodbye(&mut miner);
    // It said that it must.
    let mut miner = Miner::connected(now, mining::REQUIRES_VERSION_ROLLING);
    miner.apply(Some(&rolls));
    miner.open("must");
    goodbye(&mut miner);
    // Nobody knows what it will open.
    let mut miner = Miner::connected(now, 0);
    miner.apply(Some(&rolls));
    goodbye(&mut miner);
    // An extended job says it.
    let mut miner = Miner::mining(now, &rolls);
    miner.apply(Some(&fixed));
    assert!(!miner.jobs[&2].version_rolling());
    // Bits in between are none to an SV2 miner.
    let some = Arc::new(Work::with_job(&rolls, rolls.job.clone()).masked(0x0000_6000));
    let mut miner = Miner::connected(now, 0);
    assert_eq!(miner.session.apply(now, Some(some)), changed);
}

#[test]
fn who_was_told_that_versions_are_fixed_connects_again_when_they_are_not() {
    let now = start();
    let (mut server, _) = upstream(now, 1, easiest(), 16);
    let fixed = offer(&mut server, now, false);
    let rolls = offer(&mut server, now, true);
    let mut miner = Miner::connected(now, 0);
    miner.session.is_fixed = true;
    miner.apply(Some(&fixed));
    miner.client.open_standard(&request("header-only")).unwrap();
    miner.settle();
    miner.submit(2, 1, easiest(), HARDEST);
    assert_eq!(miner.handed_on().len(), 1);
    let changed = Err(End::Disconnect(Disconnect::RollingChanged));
    assert_eq!(miner.session.apply(now, Some(rolls.clone())), changed);
    // A proxy's jobs say it.
    let mut miner = Miner::connected(now, 0);
    miner.session.is_fixed = true;
    miner.apply(Some(&fixed));
    miner.open("proxy");
    miner.apply(Some(&rolls));
    assert!(miner.jobs[&2].version_rolling());
}

#[test]
fn a_standard_channel_that_is_opened_when_versions_are_fixed_already_hears_of_it_too() {
    let now = start();
    let (mut server, rolls) = upstream(now, 1, easiest(), 16);
    let mut miner = Miner::mining(now, &rolls);
    miner.apply(Some(&offer(&mut server, now, false)));
    miner.client.open_standard(&request("header-only")).unwrap();
    let open = miner.client.poll_send().unwrap();
    let end = miner.session.handle(now, &mut open.received(), &[2]);
    assert_eq!(end, Err(End::Disconnect(Disconnect::RollingChanged)));
}

/// ESP-Miner up to 2.15.0 is one that does.
#[test]
fn who_goes_on_rolling_versions_where_they_are_fixed_is_let_go_after_sixteen_shares_in_a_row() {
    let now = start();
    let (mut server, _) = upstream(now, 1, easiest(), 16);
    let fixed = offer(&mut server, now, false);
    let mut miner = Miner::connected(now, 0);
    miner.session.is_fixed = true;
    miner.apply(Some(&fixed));
    miner.open("rolls");
    let roll = |miner: &mut Miner, nonce| {
        let job = miner.jobs[&2].clone();
        let extranonce = vec![0; job.extranonce_size()];
        let (ntime, version) = (job.tip().min_ntime(), job.version() | 0x2000);
        let choice = Choice { nonce, ntime, version, extranonce: &extranonce };
        miner.client.submit(2, job.id(), &choice, None).unwrap();
        let share = miner.client.poll_send().unwrap();
        miner.session.handle(now, &mut share.received(), &[2])
    };
    for nonce in 1..MOST_ROLLED {
        assert_eq!(roll(&mut miner, nonce), Ok(()));
    }
    miner.submit(2, 1, easiest(), HARDEST);
    assert_eq!(miner.handed_on().len(), 1, "one that is right");
    for nonce in 1..MOST_ROLLED {
        assert_eq!(roll(&mut miner, nonce), Ok(()));
    }
    assert_eq!(roll(&mut miner, 0), Err(End::Disconnect(Disconnect::RollsVersions)));
}
