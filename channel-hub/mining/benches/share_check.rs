//! Nanoseconds a share: our check beside channels_sv2's `ExtendedChannel::validate_share`.
//!
//! Both check the same accepted shares of one extended channel, each with its own extranonce, against the same
//! job. "session" is all of our server's way from the frame to the event and the answer; "check" is the part that
//! SRI's function does, duplicates included. Run: `cargo bench -p mining`.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::cast_precision_loss)]

use bitcoin::consensus::encode::serialize;
use bitcoin::{Amount, ScriptBuf, Target, TxOut};
use mining::coinbase::CoinbaseTag;
use mining::job::Recipe;
use mining::seen::Seen;
use mining::server::{Assigned, ChannelKind, Config, CurrentWork, Event, Session};
use mining::share::Choice;
use mining::{ExtranoncePrefixes, Job, Now, Tip, WorkUpdate};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stratum_core::channels_sv2::extranonce_manager::ExtranonceAllocator;
use stratum_core::channels_sv2::server::extended::ExtendedChannel;
use stratum_core::mining_sv2::SubmitSharesExtendedOwned;
use stratum_core::parsers_sv2::MiningOwned;
use stratum_core::template_distribution_sv2::{NewTemplateOwned, SetNewPrevHashOwned};

const SHARES: u32 = 200_000;
const TIME: u32 = 1_700_000_000;
const NBITS: u32 = 0x1702_0000;

fn main() {
    println!(
        "levels of merkle path | channels_sv2 | our check | our session, frame to answer   (ns a share)"
    );
    for path in [0, 12] {
        let (template, output) = (template(path), payout());
        let sri = sri(&template, &output);
        let check = ours(&template, &output);
        let session = session(&template, &output);
        println!("{path:21} | {sri:12.0} | {check:9.0} | {session:8.0}");
    }
}

fn payout() -> TxOut {
    TxOut {
        value: Amount::from_sat(312_500_000),
        script_pubkey: ScriptBuf::from_bytes([&[0, 20][..], &[9; 20]].concat()),
    }
}

fn template(path: u8) -> NewTemplateOwned {
    let script = [&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed][..], &[7; 32]].concat();
    let commitment = TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(script) };
    NewTemplateOwned {
        template_id: 1,
        future_template: true,
        version: 0x2000_0000,
        coinbase_tx_version: 2,
        coinbase_prefix: vec![3, 0x40, 0x0d, 0x0d].try_into().unwrap(),
        coinbase_tx_input_sequence: 0xffff_fffe,
        coinbase_tx_value_remaining: 312_500_000,
        coinbase_tx_outputs_count: 1,
        coinbase_tx_outputs: serialize(&commitment).try_into().unwrap(),
        coinbase_tx_locktime: 0,
        merkle_path: (0..path).map(|n| [n; 32].into()).collect::<Vec<_>>().try_into().unwrap(),
    }
}

fn submission(n: u32, job_id: u32) -> SubmitSharesExtendedOwned {
    SubmitSharesExtendedOwned {
        channel_id: 2,
        sequence_number: n,
        job_id,
        nonce: n.wrapping_mul(2_654_435_761),
        ntime: TIME,
        version: 0x2000_0000,
        extranonce: extranonce(n).to_vec().try_into().unwrap(),
    }
}

fn extranonce(n: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&n.to_le_bytes());
    bytes
}

/// Every hash is a share, so that all shares go all the way.
fn any_target() -> Target {
    Target::from_le_bytes([0xff; 32])
}

fn per_share(time: Duration) -> f64 {
    time.as_nanos() as f64 / f64::from(SHARES)
}

fn sri(template: &NewTemplateOwned, output: &TxOut) -> f64 {
    let prefix = ExtranonceAllocator::new(vec![0; 6], 24, 65_536).unwrap().allocate_extended(16).unwrap();
    let spm = 60_000.0; // the budget for duplicates follows from it
    let mut channel = ExtendedChannel::new_for_pool(
        2,
        "a".into(),
        prefix,
        any_target(),
        0.0,
        true,
        16,
        1,
        spm,
        "Sluice".into(),
        None,
    )
    .unwrap();
    channel.on_new_template(template.clone(), vec![output.clone()]).unwrap();
    let tip = SetNewPrevHashOwned {
        template_id: 1,
        prev_hash: [1; 32].into(),
        header_timestamp: TIME,
        n_bits: NBITS,
        target: [0; 32].into(),
    };
    channel.on_set_new_prev_hash(tip).unwrap();
    let job_id = channel.get_active_job().unwrap().get_job_id();
    let shares: Vec<_> = (0..SHARES).map(|n| submission(n, job_id)).collect();
    let start = Instant::now();
    for share in shares {
        black_box(channel.validate_share(share)).unwrap();
    }
    per_share(start.elapsed())
}

fn job(template: &NewTemplateOwned, output: &TxOut) -> Arc<Job> {
    let tag = CoinbaseTag::new(*b"Sv2/Sluice//").unwrap();
    let recipe = Recipe { outputs: std::slice::from_ref(output), tag: &tag, version_rolling: true };
    Arc::new(Job::new(1, 0, template, &recipe, None).unwrap())
}

fn now() -> Now {
    Now { instant: Instant::now(), unix: TIME }
}

fn space() -> mining::extranonce::Space {
    mining::extranonce::Space::new(&[0; 8], 16).unwrap()
}

fn ours(template: &NewTemplateOwned, output: &TxOut) -> f64 {
    let now = now();
    let tip = Arc::new(Tip::new([1; 32], NBITS, TIME, now.instant));
    let assigned = Assigned::new(1, job(template, output), tip, ChannelKind::Extended, space(), any_target());
    let mut seen = Seen::new(1 << 20);
    let start = Instant::now();
    for n in 0..SHARES {
        let nonce = n.wrapping_mul(2_654_435_761);
        let choice = Choice { nonce, ntime: TIME, version: 0x2000_0000, extranonce: &extranonce(n) };
        let hashed = black_box(assigned.check(black_box(&choice), now)).unwrap();
        assert!(hashed.is_share && seen.insert(hashed.hash));
    }
    per_share(start.elapsed())
}

fn session(template: &NewTemplateOwned, output: &TxOut) -> f64 {
    let now = now();
    let mut current = CurrentWork::default();
    current.apply(&WorkUpdate::Job(job(template, output)));
    let tip = Arc::new(Tip::new([1; 32], NBITS, TIME, now.instant));
    current.apply(&WorkUpdate::Tip { tip, job_id: 1 });
    let config = Config::new(60_000.0, 1e-12, Arc::new(|_| Ok(()))).unwrap();
    let mut session = Session::new(Arc::new(config), 0, Arc::new(ExtranoncePrefixes::new(0, 0..9)), current);
    let mut client = mining::client::Session::new(&[]);
    let open = mining::client::OpenRequest {
        user_identity: "a",
        nominal_hash_rate: 0.0,
        max_target: any_target(),
        min_extranonce_size: 8,
    };
    client.open_extended(&open).unwrap();
    session.handle(now, &mut client.poll_send().unwrap().received(), &[]).unwrap();
    let mut frames: Vec<_> = (0..SHARES)
        .map(|n| {
            link::Frame::message(MiningOwned::SubmitSharesExtended(submission(n, 1))).unwrap().received()
        })
        .collect();
    let start = Instant::now();
    for frame in &mut frames {
        session.handle(now, frame, &[]).unwrap();
        while let Some(event) = session.poll_event() {
            if let Event::Share(share) = event {
                session.acknowledge(share.ticket);
            }
        }
        while let Some(frame) = session.poll_send() {
            black_box(frame);
        }
    }
    per_share(start.elapsed())
}
