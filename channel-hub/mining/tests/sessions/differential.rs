//! Our share check beside SRI's: the same jobs byte for byte, the same verdict on random shares, right and
//! wrong in every way.

use crate::world::*;
use bitcoin::{Amount, Target, TxOut};
use mining::coinbase::CoinbaseTag;
use mining::job::Recipe;
use mining::server::{Event, Session};
use mining::{ExtranoncePrefixes, Job, Now, Tip, WorkUpdate};
use std::sync::Arc;
use stratum_core::channels_sv2::extranonce_manager::ExtranonceAllocator;
use stratum_core::channels_sv2::server::extended::ExtendedChannel;
use stratum_core::channels_sv2::server::share_accounting::{ShareValidationError, ShareValidationResult};
use stratum_core::channels_sv2::server::standard::StandardChannel;
use stratum_core::mining_sv2::{SubmitSharesExtendedOwned, SubmitSharesStandard};
use stratum_core::parsers_sv2::MiningOwned;
use stratum_core::template_distribution_sv2::{NewTemplateOwned, SetNewPrevHashOwned};

/// Both implementations with one channel, id 2, both on the same job.
struct Both {
    now: Now,
    ours: Session,
    extended: ExtendedChannel,
    standard: StandardChannel,
    job: Arc<Job>,
    tip: Arc<Tip>,
    sri_job_id: u32,
    target: Target,
}

fn set_new_prev_hash(template: &NewTemplateOwned, tip: &Tip) -> SetNewPrevHashOwned {
    SetNewPrevHashOwned {
        template_id: template.template_id,
        prev_hash: (*tip.prev_hash()).into(),
        header_timestamp: tip.min_ntime(),
        n_bits: tip.nbits(),
        target: tip.target().to_le_bytes().into(),
    }
}

impl Both {
    fn new(nbits: u32, path: usize, standard_channel: bool) -> Self {
        let now = start();
        let (template, tip) = (template(1, path), tip(1, nbits, now));
        let output = TxOut { value: Amount::from_sat(VALUE), script_pubkey: script() };
        let recipe = Recipe {
            outputs: std::slice::from_ref(&output),
            tag: &CoinbaseTag::new(*b"Sv2/pool//").unwrap(),
            version_rolling: true,
        };
        let job = Arc::new(Job::new(1, 0, &template, &recipe, None).unwrap());
        let current =
            work(&[WorkUpdate::Job(Arc::clone(&job)), WorkUpdate::Tip { tip: Arc::clone(&tip), job_id: 1 }]);
        // SRI's allocator counts behind its local bytes; ours is told to begin where that does.
        let mut allocator = ExtranonceAllocator::new(vec![0, 7, 0, 0, 0, 0], 24, 65_536).unwrap();
        let prefix = allocator.allocate_extended(16).unwrap();
        let bytes: [u8; 8] = prefix.as_bytes().try_into().unwrap();
        let first = u64::from_be_bytes(bytes) & 0xffff_ffff_ffff;
        let prefixes = Arc::new(ExtranoncePrefixes::new(7, first..first + 10));
        let mut ours = Session::new(Arc::new(config()), 0, prefixes, current);
        let target = Target::from_le_bytes([0xff; 32]).min(config().easiest_target);
        let mut allocator = ExtranonceAllocator::new(vec![0, 7, 0, 0, 0, 0], 24, 65_536).unwrap();
        let whole = allocator.allocate_standard().unwrap();
        let mut extended = ExtendedChannel::new_for_pool(
            2,
            "a".into(),
            prefix,
            target,
            0.0,
            true,
            16,
            1,
            6.0,
            "pool".into(),
            None,
        )
        .unwrap();
        let mut standard =
            StandardChannel::new_for_pool(2, "a".into(), whole, target, 0.0, 1, 6.0, "pool".into(), None)
                .unwrap();
        extended.on_new_template(template.clone(), vec![output.clone()]).unwrap();
        standard.on_new_template(template.clone(), vec![output]).unwrap();
        extended.on_set_new_prev_hash(set_new_prev_hash(&template, &tip)).unwrap();
        standard.on_set_new_prev_hash(set_new_prev_hash(&template, &tip)).unwrap();
        let sri_job_id = extended.get_active_job().unwrap().get_job_id();
        let mut client = mining::client::Session::new(&[]);
        let open = request("a");
        if standard_channel { client.open_standard(&open) } else { client.open_extended(&open) }.unwrap();
        ours.handle(now, &mut client.poll_send().unwrap().received(), &[]).unwrap();
        while ours.poll_send().is_some() || ours.poll_event().is_some() {}
        Self { now, ours, extended, standard, job, tip, sri_job_id, target }
    }

    /// Our verdict: the block's coinbase if there is one, and the error code if there is one.
    fn our_verdict(&mut self, message: MiningOwned) -> (Option<Vec<u8>>, Result<(), &'static str>) {
        let frame = link::Frame::message(message).unwrap();
        self.ours.handle(self.now, &mut frame.received(), &[]).unwrap();
        let (mut block, mut verdict) = (None, None);
        while let Some(event) = self.ours.poll_event() {
            match event {
                Event::Block(found) => block = Some(found.coinbase),
                Event::Share(share) => {
                    self.ours.acknowledge(share.ticket);
                    verdict = Some(Ok(()));
                }
                Event::Rejected { reason, .. } => verdict = Some(Err(reason.code())),
                _ => {}
            }
        }
        while self.ours.poll_send().is_some() {}
        (block, verdict.unwrap())
    }
}

fn verdict(
    result: Result<ShareValidationResult, ShareValidationError>,
) -> (Option<Vec<u8>>, Result<(), &'static str>) {
    use ShareValidationError as E;
    match result {
        Ok(ShareValidationResult::Valid(_)) => (None, Ok(())),
        Ok(ShareValidationResult::BlockFound(_, _, coinbase)) => (Some(coinbase), Ok(())),
        Err(
            E::Invalid(code)
            | E::Stale(code)
            | E::InvalidJobId(code)
            | E::DoesNotMeetTarget(code)
            | E::VersionRollingNotAllowed(code)
            | E::DuplicateShare(code)
            | E::BadExtranonceSize(code),
        ) => (None, Err(code)),
        Err(other) => panic!("{other:?}"),
    }
}

/// A share that is right about half of the time.
fn random_share(numbers: &mut Numbers, both: &Both) -> Found {
    let time = both.tip.min_ntime();
    let ntime = match numbers.below(16) {
        0 => time - 1,
        1 => time + 7201,
        2 => time + 7200,
        _ => time,
    };
    let rolled = u32::try_from(numbers.below(1 << 24)).unwrap() << 5;
    let version = match numbers.below(6) {
        0 => both.job.version() ^ 1,
        1 => both.job.version() ^ 0x4000_0000,
        2 => both.job.version() ^ (rolled & 0x1fff_ffe0),
        _ => both.job.version(),
    };
    let size = if numbers.below(12) == 0 { usize::try_from(numbers.below(33)).unwrap() } else { 16 };
    let nonce = u32::try_from(numbers.below(1 << 32)).unwrap();
    let job_id = u32::from(numbers.below(20) != 0);
    Found { job_id, nonce, ntime, version, extranonce: (0..size).map(|_| numbers.byte()).collect() }
}

fn extended_message(found: &Found, job_id: u32) -> SubmitSharesExtendedOwned {
    SubmitSharesExtendedOwned {
        channel_id: 2,
        sequence_number: 1,
        job_id,
        nonce: found.nonce,
        ntime: found.ntime,
        version: found.version,
        extranonce: found.extranonce.clone().try_into().unwrap(),
    }
}

/// Whether SRI's different rule applies: it counts a block that misses the channel's target as a share.
fn is_block_but_no_share(both: &Both, ours: &(Option<Vec<u8>>, Result<(), &'static str>)) -> bool {
    both.tip.target() > both.target && ours.0.is_some() && ours.1 == Err("difficulty-too-low")
}

#[test]
fn extended_shares_get_the_same_verdict_and_blocks_the_same_coinbase() {
    let mut numbers = Numbers::new(1);
    let mut counts = std::collections::BTreeMap::new();
    for (nbits, path) in [(HARD, 0), (HARD, 12), (EASY, 3), (0x2003_ffff, 1)] {
        let mut both = Both::new(nbits, path, false);
        let mut last = random_share(&mut numbers, &both);
        for _ in 0..400 {
            let found = if numbers.below(8) == 0 { last } else { random_share(&mut numbers, &both) };
            let wrong_id = found.job_id == 0;
            let sri = if wrong_id { 4_000 } else { both.sri_job_id };
            let theirs = verdict(both.extended.validate_share(extended_message(&found, sri)));
            let id = if wrong_id { 4_000 } else { 1 };
            let ours = both.our_verdict(MiningOwned::SubmitSharesExtended(extended_message(&found, id)));
            if is_block_but_no_share(&both, &ours) {
                assert_eq!(theirs, (ours.0, Ok(())));
            } else {
                assert_eq!(ours, theirs, "{found:?}");
            }
            *counts.entry(ours.1.err().unwrap_or("accepted")).or_insert(0) += 1;
            last = found;
        }
    }
    assert_eq!(counts.len(), 7, "{counts:?}: not every verdict was met");
    assert!(counts.values().all(|count| *count >= 10), "{counts:?}");
}

#[test]
fn standard_shares_get_the_same_verdict() {
    let mut numbers = Numbers::new(2);
    let mut accepted = 0;
    for (nbits, path) in [(HARD, 2), (0x2003_ffff, 12)] {
        let mut both = Both::new(nbits, path, true);
        let job_id = both.standard.get_active_job().unwrap().get_job_id();
        for _ in 0..300 {
            let Found { nonce, ntime, version, .. } = random_share(&mut numbers, &both);
            let message = |job_id| SubmitSharesStandard {
                channel_id: 2,
                sequence_number: 1,
                job_id,
                nonce,
                ntime,
                version,
            };
            let theirs = verdict(both.standard.validate_share(message(job_id)));
            let ours = both.our_verdict(MiningOwned::SubmitSharesStandard(message(1)));
            if is_block_but_no_share(&both, &ours) {
                assert_eq!(theirs, (ours.0, Ok(())));
            } else {
                assert_eq!(ours, theirs);
            }
            accepted += u32::from(ours.1.is_ok());
        }
    }
    assert!(accepted > 20, "{accepted}");
}

#[test]
fn miners_get_the_same_coinbase_parts() {
    let both = Both::new(HARD, 4, false);
    let sri = both.extended.get_active_job().unwrap();
    assert_eq!(both.job.coinbase().prefix(), sri.get_coinbase_tx_prefix_without_bip141());
    assert_eq!(both.job.coinbase().suffix(), sri.get_coinbase_tx_suffix_without_bip141());
}
