//! The predecessor's side.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, bail};
use sd_notify::NotifyState;
use tokio::time::timeout;

use super::gate::{Candidate, House};
use super::line::Line;
use super::message::{Ask, Reply};
use super::stage::{Docket, Sealed};
use super::{Departure, PROTOCOL, Stage};
use crate::replacement::{FIRST, is_first};
use crate::systemd;

/// How long a successor may think before it says something that costs it nothing.
const WORD: Duration = Duration::from_secs(10);
/// How long it may prepare: it may have to wait for its upstream.
const PREPARE: Duration = Duration::from_secs(120);
/// How long sessions may take to stand still.
const PACK: Duration = Duration::from_secs(10);
/// Pause between two reports of what is still counted.
const REPORT: Duration = Duration::from_millis(100);
/// Who is told to end needs no successor.
const ENDING: &str = "this one is ending";
/// Totals in one report; a label is at most a few hundred bytes.
const MAX_CHANGES: usize = 128;
/// After so long whoever has not left is cut off.
const LAST: Duration = Duration::from_secs(60);

/// One successor, from its first word on. After an error everything is as it was before, and the successor has heard why.
pub(super) async fn give(mut line: Line, house: &House, busy: bool) -> anyhow::Result<()> {
    let pid = welcome(&mut line, house, busy).await?;
    tracing::info!(pid, "a successor prepares to take over");
    house.candidate.send_replace(Candidate::Prepares(pid));
    let departed = async {
        prepared(&mut line, house).await?;
        depart(&mut line, house).await
    };
    let spread = match departed.await {
        Ok(spread) => spread,
        Err(error) => {
            house.candidate.send_replace(Candidate::Failed(pid));
            // If it is not there any more, nobody needs to know.
            drop(timeout(WORD, line.send(&Reply::Refused { reason: format!("{error:#}") }, &[])).await);
            return Err(error);
        }
    };
    // The successor says so too, but perhaps later than this process ends: systemd would take that for the service's end,
    // and end the successor with it.
    systemd::tell(&[NotifyState::MainPid(pid)]);
    house.page.close();
    house.stage.send_replace(Stage::Left(spread));
    house.candidate.send_replace(Candidate::Serves(pid));
    tracing::info!(
        pid,
        spread_ms = spread.as_millis(),
        "a successor serves; this process ends when all have left"
    );
    if let Err(error) = report(&line, house).await {
        tracing::error!("what was counted last did not reach the successor: {error}");
    }
    house.told.cancel();
    Ok(())
}

/// Until it could serve.
async fn prepared(line: &mut Line, house: &House) -> anyhow::Result<()> {
    let said = tokio::select! {
        biased;
        () = house.shutdown.cancelled() => bail!(ENDING),
        said = timeout(PREPARE, line.recv()) => said.context("it was not ready in time")??,
    };
    match said {
        (Ask::Ready, _) => Ok(()),
        (other, _) => bail!("it said {other:?} where ready was due"),
    }
}

/// Its process id, once it may take over.
async fn welcome(line: &mut Line, house: &House, busy: bool) -> anyhow::Result<u32> {
    let (ask, _) = timeout(WORD, line.recv()).await.context("it said nothing")??;
    let refused = match ask {
        Ask::Hello { protocol, program, version, pid } => {
            let user = line.user()?;
            match refusal(house, busy, user, protocol, &program) {
                None => {
                    let sockets = house.sockets.open();
                    let names = sockets.iter().map(|listener| listener.name().to_owned()).collect();
                    let files: Vec<BorrowedFd<'_>> =
                        sockets.iter().map(|listener| listener.socket()).collect();
                    let (own, version) = (std::process::id(), house.version.to_owned());
                    let welcome = Reply::Welcome { version, pid: own, sockets: names };
                    line.send(&welcome, &files).await?;
                    return Ok(pid);
                }
                Some(reason) => format!("{reason} (it is {program} {version}, process {pid})"),
            }
        }
        other => format!("said {other:?} where hello was due"),
    };
    line.send(&Reply::Refused { reason: refused.clone() }, &[]).await?;
    bail!("refused: {refused}");
}

/// Why it may not take over.
fn refusal(house: &House, busy: bool, user: u32, protocol: u32, program: &str) -> Option<String> {
    Some(match () {
        () if user != house.user => {
            format!("it runs as user {user}, and only user {} may take over", house.user)
        }
        () if protocol != PROTOCOL => format!(
            "it speaks version {protocol} of the hand-over, this program version {PROTOCOL}: stop this one, then start the other"
        ),
        () if program != house.program => format!("{program} is another program than {}", house.program),
        () if !house.hands_over.load(Ordering::Relaxed) => {
            format!("{program} cannot be replaced while it runs: restart it")
        }
        () if is_first() => format!("{program} cannot be replaced while it runs: {FIRST}"),
        () if busy => "another one is taking over".to_owned(),
        () if house.shutdown.is_cancelled() => ENDING.to_owned(),
        () => return None,
    })
}

/// Gives everything away, and says how long those that stay may take to leave.
async fn depart(line: &mut Line, house: &House) -> anyhow::Result<Duration> {
    house.sockets.halt(true);
    let id = house.departures.fetch_add(1, Ordering::Relaxed) + 1;
    let (departure, mut docket) = Departure::new(id);
    house.stage.send_replace(Stage::Departing(departure));
    let mut sent = Vec::new();
    let given = hand(line, &mut docket, &mut sent, house).await;
    docket.send_back().await;
    if let Err(error) = given {
        house.sockets.halt(false);
        house.stage.send_replace(Stage::Serving);
        docket.settled.send_replace(Some(false));
        sent.into_iter().for_each(|Sealed { parcel, back }| drop(back.send(parcel)));
        return Err(error);
    }
    house.counters.leave_home(); // what the disk does not take is told later
    docket.settled.send_replace(Some(true));
    drop(sent); // the successor has them: closing ours says nothing to the peers
    // A program that has ended has let go of everything, and may not say so.
    tokio::select! {
        () = docket.released() => {}
        () = house.empty.cancelled() => {}
    }
    // If it is gone by now, nothing here can serve either: it is as after a crash of the new program.
    if let Err(error) = line.send(&Reply::Released, &[]).await {
        tracing::error!("the successor is gone though it had taken over: {error}");
    }
    Ok(docket.spread())
}

/// Sends what the program gives, and waits until the successor has taken it.
async fn hand(
    line: &mut Line,
    docket: &mut Docket,
    sent: &mut Vec<Sealed>,
    house: &House,
) -> anyhow::Result<()> {
    tokio::select! {
        biased;
        () = house.shutdown.cancelled() => bail!(ENDING),
        sent = send_all(line, docket, sent, house) => sent?,
    }
    match timeout(WORD, line.recv()).await.context("it did not say that it took what it got")?? {
        (Ask::Took, _) => Ok(()),
        (other, _) => bail!("it said {other:?} where took was due"),
    }
}

/// Sends what the program gives, and that it is all. Cancelled, it loses nothing: what was given is in the docket, or `sent`.
async fn send_all(
    line: &Line,
    docket: &mut Docket,
    sent: &mut Vec<Sealed>,
    house: &House,
) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + PACK;
    loop {
        let batch =
            tokio::time::timeout_at(deadline, docket.batch()).await.context("sessions do not stand still")?;
        if batch.is_empty() {
            break;
        }
        let states = batch.iter().map(|sealed| sealed.parcel.state.clone()).collect();
        let begin = sent.len();
        sent.extend(batch);
        let files: Vec<_> = sent[begin..].iter().map(|sealed| sealed.parcel.socket.as_fd()).collect();
        timeout(WORD, line.send(&Reply::Parcels { states }, &files)).await.context("it does not read")??;
    }
    house.counters.save()?; // a full disk shows before it is too late
    timeout(WORD, line.send(&Reply::End { parcels: sent.len() }, &[]))
        .await
        .context("it does not read")??;
    Ok(())
}

/// Passes on what is counted until all have left.
async fn report(line: &Line, house: &House) -> anyhow::Result<()> {
    let last = tokio::time::Instant::now() + LAST;
    loop {
        let done = tokio::select! {
            () = house.empty.cancelled() => true,
            () = tokio::time::sleep(REPORT) => false,
        };
        for changes in house.counters.told(MAX_CHANGES) {
            timeout(WORD, line.send(&Reply::Totals { changes }, &[])).await.context("it does not read")??;
        }
        if done {
            return Ok(());
        }
        if tokio::time::Instant::now() >= last {
            house.shutdown.cancel();
        }
    }
}
