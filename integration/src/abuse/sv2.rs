//! Abuse in SV2: behind a handshake that is done as it should be.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use bitcoin::Target as Limit;
use bytes::Bytes;
use link::settings::{Device, Limits};
use link::setup::request_extensions;
use link::{AuthorityPublicKey, Client, Frame, Link};
use mining::Now;
use mining::client::{Event, Job, OpenRequest, Session};
use mining::share::Choice;
use stratum_core::common_messages_sv2::Protocol;
use stratum_core::mining_sv2::{CloseChannelOwned, SubmitSharesStandard, UpdateChannelOwned};
use stratum_core::parsers_sv2::{AnyMessage, Mining, MiningOwned, TemplateDistribution};
use stratum_core::template_distribution_sv2::{CoinbaseOutputConstraints, RequestTransactionData};
use tokio::time::{sleep, timeout};

use super::attack::{End, connect};
use super::kind::Kind;
use super::target::{Speaks, Target};
use super::throttle::{Flow, Flows, Throttle};
use crate::world::chain::ADDRESS;

/// Messages between two looks at what the server says.
const BATCH: usize = 100;
/// Longest patience with a server that does not end the connection.
const PATIENCE: Duration = Duration::from_secs(120);
/// Longest wait for work.
const WORK: Duration = Duration::from_secs(10);
const COPIES: usize = 20;
/// Channels that a peer opens while it reads a byte of the answers now and then.
const CHANNELS: usize = 4_000;
/// Templates whose transactions a peer asks for without reading them: no more may wait.
const TEMPLATES: usize = 16;

pub(super) fn speaks(kind: Kind) -> bool {
    use Kind::{
        DripInside, Handshakes, NeverReads, Oversized, Replays, SlowReader, UnknownChannels, Useless, Visits,
        WrongTime,
    };
    matches!(
        kind,
        DripInside
            | Handshakes
            | NeverReads
            | Oversized
            | Replays
            | SlowReader
            | UnknownChannels
            | Useless
            | Visits
            | WrongTime
    )
}

/// `connected` is called when it has shaken hands and is set up.
pub(super) async fn abuse(
    kind: Kind,
    target: &Target,
    source: IpAddr,
    connected: impl FnOnce(),
) -> anyhow::Result<End> {
    let client = client(target)?;
    if let Some(flows) = flows(kind) {
        let line = Throttle::start(target, source, flows).await?;
        return match kind {
            Kind::DripInside => drip(&client, target.speaks, line, connected).await,
            _ => unread(kind, &client, target.speaks, line, connected).await,
        };
    }
    let mut link = link_from(source, target, &client).await?;
    connected();
    match kind {
        Kind::Oversized => flood(&mut link, &[oversized()?]).await,
        Kind::WrongTime => flood(&mut link, &[wrong(target.speaks)?]).await,
        Kind::UnknownChannels => flood(&mut link, &unknown(target.speaks)?).await,
        Kind::Replays => {
            replays(link, link_from(source, target, &client).await?).await?;
            Ok(End::Done)
        }
        Kind::Visits => visit(link, target.speaks).await,
        Kind::Useless => useless(link, target.speaks).await,
        _ => Ok(End::Done),
    }
}

/// What the line of such a peer lets pass behind its set-up, if it is not all.
fn flows(kind: Kind) -> Option<Flows> {
    match kind {
        Kind::NeverReads => Some(Flows { forth: Flow::All, back: Flow::Nothing }),
        Kind::SlowReader => Some(Flows { forth: Flow::All, back: Flow::Drips }),
        Kind::DripInside => Some(Flows { forth: Flow::Drips, back: Flow::All }),
        _ => None,
    }
}

/// Sets itself up and begins a frame, which takes two minutes at a byte a second. What it would say does not matter.
async fn drip(
    client: &Client,
    speaks: Speaks,
    line: Throttle,
    connected: impl FnOnce(),
) -> anyhow::Result<End> {
    let mut link = Link::connect(&line.address.to_string(), client).await?;
    connected();
    line.narrow.cancel();
    link.queue(&wrong(speaks)?)?;
    link.flush().await?;
    let ended = timeout(PATIENCE, line.ended.cancelled()).await;
    Ok(if ended.is_ok() { End::Dropped } else { End::Done })
}

/// Gets what it comes for, and goes.
async fn visit(mut link: Link, speaks: Speaks) -> anyhow::Result<End> {
    with_work(&mut link, speaks).await?;
    Ok(End::Done)
}

/// Gets what it comes for, and says nothing more.
pub(super) async fn squat(target: &Target, source: IpAddr, set_up: impl FnOnce()) -> anyhow::Result<End> {
    let mut link = link_from(source, target, &client(target)?).await?;
    with_work(&mut link, target.speaks).await?;
    set_up();
    let reading = async { while link.recv().await.is_ok() {} };
    Ok(if timeout(PATIENCE, reading).await.is_ok() { End::Dropped } else { End::Done })
}

/// Opens a channel and waits for its job, or names constraints and waits for a template.
async fn with_work(link: &mut Link, speaks: Speaks) -> anyhow::Result<()> {
    if let Speaks::Mining(_) = speaks {
        with_job(link).await?;
        return Ok(());
    }
    link.queue(&constraints(100)?)?;
    link.flush().await?;
    timeout(WORK, link.recv()).await??;
    Ok(())
}

/// What one connection of three says again and again: which extensions it wants, that it takes other targets or constraints
/// each time, or the same targets.
async fn useless(mut link: Link, speaks: Speaks) -> anyhow::Result<End> {
    let which = rand::random::<usize>() % 3;
    if which == 0 {
        return flood(&mut link, &vec![request_extensions(&[2])?; BATCH]).await;
    }
    if let Speaks::Templates(_) = speaks {
        return flood(&mut link, &vec![[constraints(100)?, constraints(101)?]; BATCH / 2].concat()).await;
    }
    let (_, job) = with_job(&mut link).await?;
    let update = |highest: u8| {
        let mut maximum_target = [0xff; 32];
        maximum_target[29..].fill(highest);
        Frame::message(MiningOwned::UpdateChannel(UpdateChannelOwned {
            channel_id: job.channel_id(),
            nominal_hash_rate: 1_000.0,
            maximum_target: maximum_target.into(),
        }))
    };
    let other = if which == 1 { 0 } else { 0xff };
    let frames = vec![[update(0xff)?, update(other)?]; BATCH / 2].concat();
    // Who says the same is only read more slowly.
    timeout(WORK, flood(&mut link, &frames)).await.unwrap_or(Ok(End::Done))
}

/// So many bytes are added to the coinbase.
fn constraints(size: u32) -> anyhow::Result<Frame> {
    let constraints = CoinbaseOutputConstraints {
        coinbase_output_max_additional_size: size,
        coinbase_output_max_additional_sigops: 0,
    };
    Ok(Frame::message(TemplateDistribution::CoinbaseOutputConstraints(constraints))?)
}

async fn link_from(source: IpAddr, target: &Target, client: &Client) -> anyhow::Result<Link> {
    let socket = connect(target, source).await?;
    Ok(Link::connect_on(socket, &target.address.ip().to_string(), client).await?)
}

fn client(target: &Target) -> anyhow::Result<Client> {
    let (authority, protocol): (AuthorityPublicKey, _) = match target.speaks {
        Speaks::Mining(key) => (key, Protocol::MiningProtocol),
        Speaks::Templates(key) => (key, Protocol::TemplateDistributionProtocol),
        _ => anyhow::bail!("no SV2 is spoken there"),
    };
    Ok(Client {
        authority: Some(authority),
        protocol,
        flags: 0,
        device: Device { vendor: "abuse".into(), ..Device::default() },
        extensions: Vec::new(),
        limits: Limits { handshake: Duration::from_secs(30), write: PATIENCE, ..Limits::default() },
    })
}

/// Sends the frames again and again until the server ends the connection.
async fn flood(link: &mut Link, frames: &[Frame]) -> anyhow::Result<End> {
    let flooding = async {
        loop {
            for frame in frames {
                link.queue(frame)?;
            }
            tokio::select! {
                sent = link.flush() => sent?,
                () = sleep(Duration::from_secs(5)) => {}
            }
            while let Ok(received) = timeout(Duration::from_millis(20), link.recv()).await {
                received?;
            }
        }
    };
    let flooded: Result<anyhow::Result<()>, _> = timeout(PATIENCE, flooding).await;
    Ok(if flooded.is_ok() { End::Dropped } else { End::Done })
}

/// A share as large as a frame can be.
fn oversized() -> anyhow::Result<Frame> {
    const LENGTH: usize = 0xff_ffff;
    let mut bytes = vec![0; 6 + LENGTH];
    bytes[..6].copy_from_slice(&[0, 0x80, 0x1b, 0xff, 0xff, 0xff]);
    frame(bytes)
}

fn frame(bytes: Vec<u8>) -> anyhow::Result<Frame> {
    Frame::from_bytes(Bytes::from(bytes)).map_err(|hint| anyhow::anyhow!("no frame: {hint:?}"))
}

/// What only the other side may say: a template or a job, without anything in it.
fn wrong(speaks: Speaks) -> anyhow::Result<Frame> {
    let message_type = if matches!(speaks, Speaks::Mining(_)) { 0x20 } else { 0x71 };
    frame([&[0, 0, message_type, 90, 0, 0][..], &[0; 90]].concat())
}

/// Shares, updates and ends of channels that nobody opened, or requests for templates that never were.
fn unknown(speaks: Speaks) -> anyhow::Result<Vec<Frame>> {
    let frames = (0..BATCH).map(|number| {
        let number = u32::try_from(number).unwrap_or(0);
        if let Speaks::Templates(_) = speaks {
            return request(u64::from(number) + 1);
        }
        Ok(Frame::message(Mining::SubmitSharesStandard(SubmitSharesStandard {
            channel_id: 4_000_000 + number,
            sequence_number: number,
            job_id: number,
            nonce: 0,
            ntime: 0,
            version: 0x2000_0000,
        }))?)
    });
    let mut frames = frames.collect::<anyhow::Result<Vec<_>>>()?;
    if let Speaks::Mining(_) = speaks {
        let channel_id = 4_000_000;
        frames.push(Frame::message(MiningOwned::UpdateChannel(UpdateChannelOwned {
            channel_id,
            nominal_hash_rate: f32::INFINITY,
            maximum_target: [0xff; 32].into(),
        }))?);
        let reason_code = String::new().try_into().map_err(|_| anyhow::anyhow!("it is empty"))?;
        let close = MiningOwned::CloseChannel(CloseChannelOwned { channel_id, reason_code });
        frames.push(Frame::message(close)?);
    }
    Ok(frames)
}

/// A valid share many times, and once more on another connection.
async fn replays(mut link: Link, mut another: Link) -> anyhow::Result<()> {
    let (mut session, job) = with_job(&mut link).await?;
    let extranonce = vec![0xab; job.extranonce_size()];
    let ntime = job.tip().min_ntime(); // a job that is handed out again may begin in a moment
    let choice = |nonce| Choice { nonce, ntime, version: job.version(), extranonce: &extranonce };
    let is_share = |choice: &Choice<'_>| job.check(choice, now()).is_ok_and(|checked| checked.is_share);
    let share = (0..1 << 20).map(choice).find(is_share).context("no share")?;
    hand_in(&mut link, &mut session, &job, &share, COPIES).await?;
    let (mut session, job) = with_job(&mut another).await?;
    hand_in(&mut another, &mut session, &job, &share, 1).await
}

/// Opens a channel and waits for its work.
async fn with_job(link: &mut Link) -> anyhow::Result<(Session, Arc<Job>)> {
    let mut session = Session::new(link.extensions());
    session.open_extended(&OpenRequest {
        user_identity: &format!("{ADDRESS}.replay"),
        nominal_hash_rate: 1_000.0,
        max_target: Limit::from_be_bytes([0xff; 32]),
        min_extranonce_size: 4,
    })?;
    let job = timeout(WORK, async {
        loop {
            send(link, &mut session).await?;
            session.handle(now(), &mut link.recv().await?)?;
            while let Some(event) = session.poll_event() {
                if let Event::Job(job) = event {
                    return anyhow::Ok(job);
                }
            }
        }
    });
    let job = job.await??;
    Ok((session, job))
}

async fn hand_in(
    link: &mut Link,
    session: &mut Session,
    job: &Job,
    share: &Choice<'_>,
    times: usize,
) -> anyhow::Result<()> {
    for _ in 0..times {
        session.submit(job.channel_id(), job.id(), share, None)?;
    }
    send(link, session).await?;
    // The answers, as far as they come at once.
    while let Ok(received) = timeout(Duration::from_millis(200), link.recv()).await {
        received?;
    }
    Ok(())
}

async fn send(link: &mut Link, session: &mut Session) -> anyhow::Result<()> {
    while let Some(frame) = session.poll_send() {
        link.queue(&frame)?;
    }
    Ok(link.flush().await?)
}

/// Asks for much and reads no more than the line lets back.
async fn unread(
    kind: Kind,
    client: &Client,
    speaks: Speaks,
    line: Throttle,
    connected: impl FnOnce(),
) -> anyhow::Result<End> {
    let mut link = Link::connect(&line.address.to_string(), client).await?;
    connected();
    let (frames, times) = match (kind, speaks) {
        (_, Speaks::Templates(_)) => (vec![transactions(&mut link).await?], TEMPLATES),
        (Kind::NeverReads, _) => (vec![no_change(&mut link).await?], usize::MAX),
        _ => (openings()?, usize::MAX),
    };
    line.narrow.cancel();
    let asking = async {
        for frame in frames.iter().cycle().take(times) {
            link.queue(frame)?;
            link.flush().await?;
        }
        anyhow::Ok(())
    };
    let over = async {
        tokio::select! {
            () = line.ended.cancelled() => {}
            _ = asking => line.ended.cancelled().await,
        }
    };
    Ok(if timeout(PATIENCE, over).await.is_ok() { End::Dropped } else { End::Done })
}

/// Asks for the transactions of the template in force, which may be megabytes.
async fn transactions(link: &mut Link) -> anyhow::Result<Frame> {
    link.queue(&constraints(100)?)?;
    link.flush().await?;
    let mut new = timeout(WORK, link.recv()).await??;
    match new.parse() {
        Ok(AnyMessage::TemplateDistribution(TemplateDistribution::NewTemplate(new))) => {
            request(new.template_id)
        }
        _ => anyhow::bail!("no template came"),
    }
}

fn request(template_id: u64) -> anyhow::Result<Frame> {
    let request = RequestTransactionData { template_id };
    Ok(Frame::message(TemplateDistribution::RequestTransactionData(request))?)
}

/// Opens a channel; what may then be asked for ever, and is answered each time: an update of it that changes nothing. That costs a peer
/// none of a server's patience, only its pace, so its end is that it does not read.
async fn no_change(link: &mut Link) -> anyhow::Result<Frame> {
    let (_, job) = with_job(link).await?;
    Ok(Frame::message(MiningOwned::UpdateChannel(UpdateChannelOwned {
        channel_id: job.channel_id(),
        nominal_hash_rate: 0.0, // nobody mines on it at present: no reason for another target
        maximum_target: [0xff; 32].into(),
    }))?)
}

/// Requests whose answers are longer than they are. Beyond the channels that a peer may open they are refused.
fn openings() -> anyhow::Result<Vec<Frame>> {
    let mut session = Session::new(&[]);
    let mut frames = Vec::with_capacity(CHANNELS);
    for _ in 0..CHANNELS {
        session.open_extended(&OpenRequest {
            user_identity: &format!("{ADDRESS}.unread"),
            nominal_hash_rate: 1e12,
            max_target: Limit::from_be_bytes([0xff; 32]),
            min_extranonce_size: 4,
        })?;
        frames.extend(session.poll_send());
    }
    Ok(frames)
}

fn now() -> Now {
    Now { instant: Instant::now(), unix: link::unix_now() }
}
