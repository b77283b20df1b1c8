//! A successor takes over: miners on a plain SV1 connection stay connected, the others are asked to connect again.
//!
//! The predecessor's upstream connections go on until all have left: who has not left yet works and is credited as before.

use crate::miner::{Bare, Resumed, Surroundings, resume};
use crate::session::Passport;
use crate::{listen, miner};
use anyhow::Context as _;
use service::{Call, Context, Parcel};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tracing::Instrument as _;

/// How long a proxy that takes over waits for its first work.
const FIRST_WORK: Duration = Duration::from_secs(30);
/// What a miner is told whose session cannot go on.
const RECONNECT: &[u8] = b"{\"id\":null,\"method\":\"client.reconnect\",\"params\":[]}\n";

/// Returns when a successor serves and all miners are gone. A hand-over that comes to nothing changes nothing.
pub async fn hand_over(surroundings: &Surroundings) {
    let mut succession = surroundings.succession.clone();
    loop {
        let Call::Depart(mut departure) = succession.call().await else { continue };
        let standing = &surroundings.standing;
        standing.close();
        let mut called_off = departure.clone();
        tokio::select! {
            () = standing.wait() => departure.finish(surroundings.farm.miners().len()),
            _ = called_off.settled() => {}
        }
        if departure.settled().await {
            departure.released();
            break;
        }
        standing.reopen();
        tracing::warn!("the successor has failed; going on");
    }
    tracing::info!("a successor serves; asking those to connect again whom it could not get");
    surroundings.tasks.close();
    surroundings.tasks.wait().await;
}

/// Takes over from the program that runs, if one does; from here on this one may serve. Miners that came along get the
/// next job in the same moment.
///
/// # Errors
/// A hand-over that came to nothing: the predecessor serves on, and this program must end.
pub async fn take_over(context: &Context, surroundings: &Surroundings) -> anyhow::Result<()> {
    if context.is_taking_over() {
        let came = tokio::time::timeout(FIRST_WORK, has_work(surroundings)).await;
        came.context("no upstream has sent work; the proxy that runs serves on")?;
    }
    let parcels = context.ready().await?;
    let sessions: Vec<_> = parcels.into_iter().filter_map(open).collect();
    let slices: Vec<_> =
        sessions.iter().filter_map(|(passport, _)| passport.as_ref().ok().map(Passport::slice)).collect();
    surroundings.farm.keep_slices(&slices);
    for (passport, socket) in sessions {
        go_on(passport, socket, surroundings);
    }
    Ok(())
}

async fn has_work(surroundings: &Surroundings) {
    let mut active = surroundings.active.clone();
    let has_route = active.wait_for(Option::is_some).await.map(|route| route.clone());
    // In non-aggregated mode each miner gets its own.
    if let Ok(Some(route)) = has_route
        && let Some(mut work) = route.shared
    {
        let _ = work.newest.wait_for(Option::is_some).await;
    }
}

fn open(parcel: Parcel) -> Option<(Result<Passport, String>, TcpStream)> {
    let (state, socket) = parcel.open().ok()?; // else it is gone
    Some((Passport::read(state), socket))
}

fn go_on(passport: Result<Passport, String>, mut socket: TcpStream, surroundings: &Surroundings) {
    let Ok(address) = socket.peer_addr() else { return }; // it is gone
    let surroundings = surroundings.clone();
    let span = tracing::info_span!("miner", %address);
    let tasks = surroundings.tasks.clone();
    let task = async move {
        // Before the socket is anybody's: whoever cannot be served any more is told so on it.
        match passport.and_then(|passport| Resumed::new(&passport, &surroundings)) {
            Ok(resumed) => {
                listen::tune(&socket, surroundings.bounds.dead_peer);
                let seat = surroundings.farm.readmit(address, resumed.past());
                let end = resume(Bare::new(socket), resumed, seat, surroundings).await; // not in the macro: it may not be evaluated
                tracing::debug!("{end}");
            }
            Err(reason) => {
                tracing::warn!(
                    "a predecessor's session cannot go on, its miner is asked to connect again: {reason}"
                );
                let _ = tokio::time::timeout(miner::LAST_WORDS, socket.write_all(RECONNECT)).await; // it may be gone
            }
        }
    };
    tasks.spawn(task.instrument(span));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Proxy;
    use crate::farm::Farm;
    use crate::session::Past;
    use crate::slices::MOST;
    use crate::testing::{Talk, easiest, start, work};
    use link::Handshakes;
    use serde_json::{Value, json};
    use service::{Complaints, Program};
    use std::path::Path;
    use std::sync::Arc;
    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
    use tokio::net::TcpListener;
    use tokio::sync::watch;
    use tokio::time::timeout;
    use tokio_util::task::TaskTracker;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A successor's, without an upstream.
    async fn surroundings(data: &Path) -> Surroundings {
        let key = link::AuthorityKey::generate(&mut rand::thread_rng()).public();
        let toml = format!(
            "data_dir = \"{}\"\npage.listen = \"127.0.0.1:0\"\n\
             [[upstream]]\naddress = \"h:1\"\nauthority_public_key = \"{key}\"\nuser_identity = \"a\"\n",
            data.display(),
        );
        let (operation, config) = service::config_from_text::<Proxy>(&toml).unwrap();
        let context = Context::open(Proxy::NAME, Proxy::VERSION, &operation).await.unwrap();
        Surroundings {
            farm: Arc::new(Farm::new(config.admission, config.session.pace.interval, &context.counters)),
            settings: config.session,
            bounds: config.bounds,
            handshakes: Handshakes::new(),
            active: watch::channel(None).1,
            complaints: Complaints::new(&context.counters),
            shutdown: context.shutdown.clone(),
            tasks: TaskTracker::new(),
            succession: context.succession(),
            standing: TaskTracker::new(),
        }
    }

    /// What a predecessor gives of a miner that mines.
    fn state() -> Value {
        let talk = Talk::mining(start(), &work(start(), easiest()));
        serde_json::to_value(talk.session.passport(b"")).unwrap()
    }

    fn with(change: impl FnOnce(&mut Value)) -> Value {
        let mut state = state();
        change(&mut state);
        state
    }

    /// Gives a successor a miner with this state; the miner's end.
    async fn given(state: Value, surroundings: &Surroundings) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (miner, ours) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let parcel = Parcel::new(state, ours.unwrap().0).unwrap();
        let (passport, socket) = open(parcel).unwrap();
        go_on(passport, socket, surroundings);
        miner.unwrap()
    }

    #[tokio::test]
    async fn a_miner_whose_session_cannot_go_on_is_asked_to_connect_again_whatever_is_wrong_with_it() {
        let data = tempfile::tempdir().unwrap();
        let surroundings = surroundings(data.path()).await;
        let bad = [
            ("no passport", json!({})),
            ("another version", with(|state| state["version"] = json!(99))),
            ("no slice", with(|state| state["slice"] = json!(MOST))),
            ("no extranonce", with(|state| state["extranonces"] = json!([9, 1]))),
            (
                "no room for its slice",
                with(|state| (state["slice"], state["extranonces"]) = (json!(1 << 16), json!([2, 8]))),
            ),
            ("no difficulty", with(|state| state["terms"]["difficulty"] = json!(0))),
            ("no fixed difficulty", with(|state| state["terms"]["fixed"] = json!((-1.0_f64).to_bits()))),
            ("no target", with(|state| state["terms"]["wanted"] = json!("a target"))),
            ("no hex", with(|state| state["unsent"] = json!("a line"))),
        ];
        for (what, state) in bad {
            let mut miner = given(state, &surroundings).await;
            let mut heard = Vec::new();
            timeout(PATIENCE, miner.read_to_end(&mut heard)).await.expect(what).unwrap();
            assert_eq!(String::from_utf8_lossy(&heard), String::from_utf8_lossy(RECONNECT), "{what}");
        }
        assert!(surroundings.farm.miners().is_empty());
    }

    #[tokio::test]
    async fn a_miner_that_came_along_is_shown_with_what_it_did_before_and_without_if_its_predecessor_does_not_say()
     {
        let data = tempfile::tempdir().unwrap();
        let surroundings = surroundings(data.path()).await;
        let past = Past {
            connected_seconds: 100,
            accepted: 7,
            rejected: 2,
            credited: 5,
            best: (1_u128 << 100).to_string(),
            last_share_seconds: Some(3),
        };
        let says = |state: &mut Value| state["past"] = serde_json::to_value(&past).unwrap();
        let says_nothing = |state: &mut Value| drop(state.as_object_mut().unwrap().remove("past"));
        let mut miners =
            [given(with(says), &surroundings).await, given(with(says_nothing), &surroundings).await];
        for miner in &mut miners {
            miner.write_all(b"{\"id\":77,\"method\":\"mining.ping\",\"params\":[]}\n").await.unwrap();
            timeout(PATIENCE, BufReader::new(miner).read_line(&mut String::new())).await.unwrap().unwrap();
        }
        let shown = surroundings.farm.miners().into_iter().map(|miner| miner.past());
        let (mut with, without): (Vec<_>, Vec<_>) = shown.partition(|shown| shown.accepted > 0);
        assert_eq!((with.len(), without.len(), without[0].last_share_seconds), (1, 1, None));
        let with = with.remove(0);
        assert!((100..160).contains(&with.connected_seconds), "{with:?}");
        assert!(with.last_share_seconds.is_some_and(|ago| (3..63).contains(&ago)), "{with:?}");
        let (connected_seconds, last_share_seconds) = (with.connected_seconds, with.last_share_seconds);
        assert_eq!(with, Past { connected_seconds, last_share_seconds, ..past });
    }

    #[tokio::test]
    async fn a_miner_whose_session_goes_on_hears_nothing_but_the_answers_to_what_it_says() {
        let data = tempfile::tempdir().unwrap();
        let surroundings = surroundings(data.path()).await;
        let mut miner = given(state(), &surroundings).await;
        miner.write_all(b"{\"id\":77,\"method\":\"mining.ping\",\"params\":[]}\n").await.unwrap();
        let mut line = String::new();
        timeout(PATIENCE, BufReader::new(&mut miner).read_line(&mut line)).await.unwrap().unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["id"], 77, "{line}");
        assert_eq!(surroundings.farm.miners().len(), 1);
    }
}
