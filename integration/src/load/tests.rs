//! Whole runs against servers that misbehave, without any of our programs.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::*;

/// Shares of about five hashes.
const DIFFICULTY: f64 = 1.2e-9;
/// Bounds what must end soon.
const SOON: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(300);
/// Enough for a few messages, also where the machine stalls.
const ENOUGH: Duration = Duration::from_millis(2500);

/// What an SV1 server does with each connection.
#[derive(Clone, Copy)]
enum Server {
    /// Takes it and says nothing.
    Silent,
    /// Gives no job.
    Jobless,
    /// Gives a job of this difficulty, and answers so many shares.
    Answers { difficulty: f64, shares: usize },
}

const WILLING: Server = Server::Answers { difficulty: DIFFICULTY, shares: usize::MAX };

impl Server {
    /// Serves until the test program ends.
    fn start(self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || self.serve(stream));
            }
        });
        address
    }

    /// Ends with the connection.
    fn serve(self, stream: TcpStream) -> std::io::Result<()> {
        let (mut answers, lines) = (stream.try_clone()?, BufReader::new(stream).lines());
        let mut left = if let Self::Answers { shares, .. } = self { shares } else { 0 };
        for line in lines {
            let message: serde_json::Value = serde_json::from_str(&line?)?;
            let result = match message["method"].as_str() {
                _ if matches!(self, Self::Silent) => continue,
                Some("mining.subscribe") => r#"[[],"01020304",8]"#,
                Some("mining.configure") => "{}",
                Some("mining.submit") if left == 0 => continue,
                _ => "true",
            };
            left -= usize::from(message["method"] == "mining.submit");
            let mut answer = format!("{{\"id\":{},\"result\":{result},\"error\":null}}\n", message["id"]);
            if let (Self::Answers { difficulty, .. }, true) = (self, message["method"] == "mining.authorize")
            {
                answer += &job(difficulty);
            }
            answers.write_all(answer.as_bytes())?;
        }
        Ok(())
    }
}

fn job(difficulty: f64) -> String {
    let (prev_hash, coinbase) = ("04".repeat(32), "01".repeat(60));
    format!(
        "{{\"method\":\"mining.set_difficulty\",\"params\":[{difficulty}]}}\n\
         {{\"method\":\"mining.notify\",\"params\":[\"1\",\"{prev_hash}\",\"{coinbase}\",\"{coinbase}\",[],\"20000000\",\"1d00ffff\",\"65000000\",true]}}\n"
    )
}

fn plan(server: Server, pressure: Pressure) -> Plan {
    Plan {
        pressure,
        warm_up: Duration::ZERO,
        duration: SHORT,
        drain: SHORT,
        ..Plan::new(server.start(), Protocol::sv1(), "load")
    }
}

async fn soon(plan: Plan) -> Report {
    tokio::time::timeout(SOON, run(plan)).await.expect("it does not end").unwrap()
}

#[tokio::test]
async fn a_pace_beyond_what_can_be_hashed_ends_in_time_and_the_generator_says_that_it_is_late() {
    let plan = plan(WILLING, Pressure::Paced { per_second: 1e7 });
    let report = soon(Plan { connections: 4, duration: Duration::from_secs(1), ..plan }).await;
    assert!(report.accepted > 0 && report.lateness.p99 > 100.0, "{report}");
    assert!(report.doubts().iter().any(|doubt| doubt.contains("did not keep up")), "{report}");
}

/// Each share takes thousands of hashes, and a connection wants more of them than anybody waits for.
#[tokio::test]
async fn the_search_for_many_shares_of_a_connection_ends_when_it_is_asked_to() {
    let server = Server::Answers { difficulty: 3e-6, shares: usize::MAX };
    let plan = plan(server, Pressure::Saturate { outstanding: 1_000_000 });
    let stop = CancellationToken::new();
    let plan = Plan { connections: 2, duration: SOON, ..plan };
    let measuring = plan.measuring.clone();
    let running = tokio::spawn(run_until(plan, stop.clone()));
    let stopped = async {
        measuring.cancelled().await;
        tokio::time::sleep(SHORT).await;
        stop.cancel();
        running.await.unwrap().unwrap()
    };
    let report = tokio::time::timeout(SOON / 2, stopped).await.expect("it does not end");
    assert!(report.accepted_in_all > 0, "{report}");
}

#[tokio::test]
async fn a_share_that_a_stalled_server_never_answers_counts_with_the_time_that_it_waited() {
    let server = Server::Answers { difficulty: DIFFICULTY, shares: 20 };
    let plan = plan(server, Pressure::Saturate { outstanding: 1 });
    let report = soon(Plan { duration: ENOUGH, ..plan }).await;
    assert_eq!((report.accepted_in_all, report.unanswered, report.lost), (20, 1, 1), "{report}");
    let (most, drained) = (report.latency.max, SHORT.as_secs_f64() * 1000.0);
    assert!(report.latency.count == report.submitted && most >= drained, "{report}");
}

#[tokio::test]
async fn who_gets_no_work_in_time_is_named_by_what_it_waits_for() {
    for (server, at_once, failed) in [
        (Server::Silent, 64, vec![("no answer to mining.subscribe within 2.5 s", 2)]),
        (Server::Jobless, 64, vec![("no job within 2.5 s", 2)]),
        (Server::Jobless, 1, vec![("no job within 2.5 s", 1), ("not begun within 2.5 s", 1)]),
    ] {
        let plan = plan(server, Pressure::Saturate { outstanding: 1 });
        let report = soon(Plan { connections: 2, at_once, set_up: ENOUGH, ..plan }).await;
        let said: Vec<_> = report.failed.iter().map(|(why, count)| (why.as_str(), *count)).collect();
        assert_eq!((said, report.connected, report.accepted), (failed, 0, 0), "{report}");
    }
}

#[tokio::test]
async fn a_job_that_takes_real_mining_ends_its_connection_and_says_what_to_do() {
    let server = Server::Answers { difficulty: 1.0, shares: usize::MAX };
    let report = soon(plan(server, Pressure::Saturate { outstanding: 1 })).await;
    assert!(report.ended.keys().any(|why| why.contains("easier difficulty")), "{report}");
    assert_eq!((report.connected, report.accepted), (1, 0), "{report}");
}

#[tokio::test]
async fn a_connection_that_is_made_again_and_gets_no_work_is_given_up_too() {
    let plan = plan(Server::Silent, Pressure::Idle);
    let report = soon(Plan { reconnect: true, set_up: SHORT, duration: SHORT * 6, ..plan }).await;
    let failed: Vec<u64> = report.failed.values().copied().collect();
    assert!(failed.len() == 1 && failed[0] >= 2, "{report}");
}

#[tokio::test]
async fn a_job_that_takes_real_mining_is_not_asked_for_again_and_the_run_ends() {
    let server = Server::Answers { difficulty: 1.0, shares: usize::MAX };
    let plan = plan(server, Pressure::Saturate { outstanding: 1 });
    let report = soon(Plan { reconnect: true, duration: 2 * SOON, ..plan }).await;
    assert_eq!((report.connected, report.reconnected), (1, 0), "{report}");
    assert_eq!(report.ended.values().sum::<u64>(), 1, "{report}");
}

#[tokio::test]
async fn where_nobody_can_connect_the_run_ends_at_once_and_says_so() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let plan = Plan { duration: 2 * SOON, ..Plan::new(address, Protocol::sv1(), "load") };
    let report = soon(plan).await;
    let said: Vec<_> = report.failed.iter().map(|(why, count)| (why.as_str(), *count)).collect();
    assert_eq!(said, [("connect: connection refused", 1)], "{report}");
    assert!(report.begun.is_none() && report.seconds.abs() < 1e-9, "{report}");
}

#[tokio::test]
async fn of_a_server_process_that_ends_meanwhile_nothing_is_made_up() {
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let name = format!("/proc/{}/comm", child.id());
    while std::fs::read_to_string(&name).unwrap() != "sleep\n" {
        tokio::task::yield_now().await;
    }
    let plan = plan(WILLING, Pressure::Saturate { outstanding: 1 });
    let plan = Plan { pids: vec![child.id(), std::process::id()], duration: ENOUGH, ..plan };
    let measuring = plan.measuring.clone();
    let running = tokio::spawn(run(plan));
    measuring.cancelled().await;
    child.kill().unwrap();
    child.wait().unwrap();
    let report = running.await.unwrap().unwrap();
    let [gone, ours] = &report.servers[..] else { panic!("{report}") };
    assert!(gone.ended && gone.cpu_seconds.is_none() && gone.rss_end_kib.is_none(), "{report}");
    assert!(gone.name == "sleep" && gone.rss_before_kib.is_some(), "{report}");
    assert!(!ours.ended && ours.cpu_seconds.is_some_and(|cpu| cpu >= 0.0), "{report}");
    assert_eq!(report.cpu_us_per_share, None);
    let said = format!("process {} ended during the run", child.id());
    assert!(report.doubts().contains(&said), "{report}");
}

#[tokio::test]
async fn a_run_that_is_ended_before_its_measured_time_has_none_and_says_so() {
    let plan = Plan { warm_up: SOON, ..plan(WILLING, Pressure::Saturate { outstanding: 1 }) };
    let stop = CancellationToken::new();
    let running = tokio::spawn(run_until(plan, stop.clone()));
    tokio::time::sleep(SHORT).await;
    stop.cancel();
    let report = running.await.unwrap().unwrap();
    assert!(report.seconds.abs() < 1e-9 && report.begun.is_none(), "{report}");
    assert!(report.to_string().contains("the measured time never began"), "{report}");
}
