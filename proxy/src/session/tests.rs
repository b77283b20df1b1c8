//! Exchanges with miners as real firmware has them.
#![allow(clippy::unwrap_used)]

use super::{AcceptedBy, Disconnect, Event, Outcome, Passport, Session, Settings};
use crate::sv1::Difficulty;
use crate::testing::{HARDEST, Server, Talk, easiest, gist, server_of_blocks, settings, start, work};
use crate::work::Work;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn target(difficulty: &Value) -> bitcoin::Target {
    Difficulty::new(difficulty.as_f64().unwrap()).unwrap().target()
}

/// What was rejected, by reason.
fn rejected(talk: &mut Talk) -> Vec<&'static str> {
    let reason = |event| if let Event::Rejected { why, .. } = event { Some(why.reason()) } else { None };
    talk.events().into_iter().filter_map(reason).collect()
}

/// Blocks on their way to an upstream.
fn blocks(talk: &mut Talk) -> usize {
    let is_block = |event: &Event| matches!(event, Event::Upstream(share) if share.is_block);
    talk.events().iter().filter(|event| is_block(event)).count()
}

fn accepted(talk: &mut Talk) -> Vec<AcceptedBy> {
    let by = |event| if let Event::Accepted { by, .. } = event { Some(by) } else { None };
    talk.events().into_iter().filter_map(by).collect()
}

#[test]
fn cgminer_subscribes_authorises_and_gets_difficulty_and_job() {
    let mut talk = Talk::new(start());
    talk.apply(Some(&work(talk.now, HARDEST))).unwrap();
    let lines = talk.say(r#"{"id": 0, "method": "mining.subscribe", "params": ["cgminer/4.12.0"]}"#);
    let topics = json!([["mining.set_difficulty", "00000005"], ["mining.notify", "00000005"]]);
    assert_eq!(lines, [json!({"id": 0, "result": [topics, "00000005", 8], "error": null})]);
    let lines = talk.say(r#"{"id": 1, "method": "mining.authorize", "params": ["farm.rig1", "x"]}"#);
    assert_eq!(gist(&lines), [json!(true), json!("mining.set_difficulty"), json!("mining.notify")]);
    assert_eq!(lines[2]["params"][8], true, "a first job is clean");
    // The upstream's prefix and the padding stand in coinb1.
    assert_eq!(lines[2]["params"][2], format!("{}{}{}", "01".repeat(60), "02".repeat(8), "00".repeat(4)));
    assert_eq!(talk.session.firmware(), Some("cgminer/4.12.0"));
}

#[test]
fn bitaxe_configures_first_and_suggests_a_difficulty() {
    let mut talk = Talk::new(start());
    let lines = talk.say(
        r#"{"id": 1, "method": "mining.configure", "params": [["version-rolling"], {"version-rolling.mask": "ffffffff"}]}"#,
    );
    assert_eq!(lines[0]["result"], json!({"version-rolling": true, "version-rolling.mask": "1fffe000"}));
    talk.say(r#"{"id": 2, "method": "mining.subscribe", "params": ["bitaxe/BM1368/v2.9.0"]}"#);
    talk.say(r#"{"id": 3, "method": "mining.authorize", "params": ["bc1q.bitaxe", "x"]}"#);
    let lines = talk.say(r#"{"id": 4, "method": "mining.suggest_difficulty", "params": [1000]}"#);
    assert_eq!(gist(&lines), [json!(true), json!("mining.set_difficulty")]);
    assert_eq!(lines[1]["params"], json!([1000]));
    let lines = talk.say(r#"{"id": 5, "method": "mining.extranonce.subscribe", "params": []}"#);
    assert_eq!(gist(&lines), [json!(true)]);
}

#[test]
fn antminer_gets_all_extensions_it_asks_for_and_false_for_unknown_ones() {
    let mut talk = Talk::new(start());
    let lines = talk.say(
        r#"{"id":"cfg","method":"mining.configure","params":[
            ["version-rolling","minimum-difficulty","subscribe-extranonce","info","teleport"],
            {"version-rolling.mask":"00c00000","version-rolling.min-bit-count":2,
             "minimum-difficulty.value":2048,"info.sw-version":"S19/1"}]}"#,
    );
    assert_eq!(
        lines[0],
        json!({"id": "cfg", "error": null, "result": {
            "version-rolling": true, "version-rolling.mask": "00c00000", "minimum-difficulty": true,
            "subscribe-extranonce": true, "info": true, "teleport": false,
        }})
    );
    talk.say(r#"{"id":2,"method":"mining.subscribe","params":[]}"#);
    let lines = talk.say(r#"{"id":3,"method":"mining.authorize","params":["w"]}"#);
    assert_eq!(lines[1]["params"], json!([2048]), "the hardware's minimum beats vardiff");
}

#[test]
fn whatsminer_authorises_before_it_subscribes() {
    let mut talk = Talk::new(start());
    talk.apply(Some(&work(talk.now, HARDEST))).unwrap();
    assert_eq!(gist(&talk.say(r#"{"id":1,"method":"mining.authorize","params":["w","x"]}"#)), [json!(true)]);
    let lines = talk.say(r#"{"id":2,"method":"mining.subscribe","params":["whatsminer/v1.0"]}"#);
    assert_eq!(gist(&lines)[1..], [json!("mining.set_difficulty"), json!("mining.notify")]);
}

#[test]
fn a_miner_can_subscribe_and_authorise_while_there_is_no_upstream() {
    let mut talk = Talk::new(start());
    let lines = talk.say(r#"{"id":1,"method":"mining.subscribe","params":[]}"#);
    assert_eq!(lines[0]["result"][1], "00000005");
    let lines = talk.say(r#"{"id":2,"method":"mining.authorize","params":["w","x"]}"#);
    assert_eq!(gist(&lines), [json!(true), json!("mining.set_difficulty")]);
    let lines = talk.apply(Some(&work(talk.now, HARDEST))).unwrap();
    assert_eq!(gist(&lines), [json!("mining.notify")]);
}

#[test]
fn the_password_names_a_difficulty() {
    let mut talk = Talk::new(start());
    talk.say(r#"{"id":1,"method":"mining.subscribe","params":[]}"#);
    let lines = talk.say(r#"{"id":2,"method":"mining.authorize","params":["w","x,d=0.5"]}"#);
    assert_eq!(lines[1]["params"], json!([0.5]));
    talk.apply(Some(&work(talk.now, HARDEST))).unwrap();
    assert_eq!(gist(&talk.wait(600 * SECOND).unwrap()), Vec::<Value>::new(), "vardiff leaves it alone");
}

#[test]
fn questions_are_answered_and_unknown_methods_get_an_error_with_their_id() {
    let mut talk = Talk::new(start());
    for (method, answer) in [
        ("mining.ping", json!("pong")),
        ("client.ping", json!("pong")),
        ("client.get_version", json!(concat!("sluice-proxy/", env!("CARGO_PKG_VERSION")))),
        ("mining.get_version", json!(concat!("sluice-proxy/", env!("CARGO_PKG_VERSION")))),
    ] {
        assert_eq!(gist(&talk.say(&json!({"id": 1, "method": method}).to_string())), [answer]);
    }
    for (method, refused) in [
        ("mining.teleport", "unknown-method"),
        ("eth_submitWork", "unknown-method"),
        ("", "unknown-method"),
        ("mining.get_transactions", "not-available"),
        ("mining.authorize", "bad-parameters"),
    ] {
        let lines = talk.say(&json!({"id": "x", "method": method, "params": [1]}).to_string());
        assert_eq!((&lines[0]["id"], &lines[0]["error"][0]), (&json!("x"), &json!(20)));
        assert!(matches!(talk.events()[..], [Event::Refused { reason }] if reason == refused), "{method}");
    }
}

#[test]
fn bad_lines_get_an_error_and_too_many_end_the_session() {
    let mut talk = Talk::new(start());
    assert_eq!(talk.say(""), Vec::<Value>::new());
    for _ in 0..7 {
        assert_eq!(gist(&talk.say("GET / HTTP/1.1")), [json!(20)]);
    }
    assert_eq!(talk.session.handle_line(talk.now, b"{"), Err(Disconnect::BadLines));
}

#[test]
fn a_light_share_is_answered_by_our_own_check() {
    let now = start();
    let work = work(now, HARDEST);
    let mut talk = Talk::mining(now, &work);
    let target = Difficulty::new(talk.session.pace(now).0).unwrap().target();
    let good = talk.nonce(&work, target, true);
    assert_eq!(gist(&talk.submit(&work, good)), [json!(true)]);
    assert_eq!(accepted(&mut talk), [AcceptedBy::OwnCheck]);
    assert_eq!(gist(&talk.submit(&work, good)), [json!(22)]);
    let bad = talk.nonce(&work, target, false);
    assert_eq!(gist(&talk.submit(&work, bad)), [json!(23)]);
    assert_eq!(rejected(&mut talk), ["22 duplicate share", "23 low difficulty"]);
}

#[test]
fn a_heavy_share_is_answered_by_what_the_upstream_says() {
    let now = start();
    let work = work(now, easiest());
    let mut talk = Talk::mining(now, &work);
    let mut tags = Vec::new();
    for nonce in 0..3 {
        assert_eq!(
            talk.submit(&work, nonce),
            Vec::<Value>::new(),
            "nothing before the upstream has answered"
        );
        tags.extend(talk.events().into_iter().filter_map(|event| match event {
            Event::Upstream(share) => Some(share.tag),
            _ => None,
        }));
    }
    talk.session.answer(tags[1], &Outcome::Rejected("stale-share".into()));
    talk.session.answer(tags[0], &Outcome::Accepted);
    talk.session.answer(tags[2], &Outcome::Lost);
    assert_eq!(gist(&talk.heard()), [json!(21), json!(true), json!(20)]);
    assert_eq!(rejected(&mut talk), ["21 job not found", "20 no upstream"]);
}

#[test]
fn a_silent_upstream_is_waited_for_two_seconds_and_a_late_answer_changes_nothing() {
    let now = start();
    let work = work(now, easiest());
    let mut talk = Talk::mining(now, &work);
    talk.submit(&work, 0);
    assert_eq!(talk.session.poll_timeout(), now.instant + 2 * SECOND);
    assert_eq!(gist(&talk.wait(SECOND).unwrap()), Vec::<Value>::new());
    assert_eq!(gist(&talk.wait(SECOND).unwrap()), [json!(true)]);
    assert_eq!(accepted(&mut talk), [AcceptedBy::Unheard]);
    talk.session.answer(0, &Outcome::Rejected("stale-share".into()));
    assert_eq!(talk.heard(), Vec::<Value>::new());
}

#[test]
fn submits_out_of_order_get_sv1s_codes() {
    let now = start();
    let work = work(now, HARDEST);
    let mut talk = Talk::new(now);
    talk.apply(Some(&work)).unwrap();
    assert_eq!(gist(&talk.submit(&work, 0)), [json!(25)]);
    talk.say(r#"{"id":1,"method":"mining.subscribe","params":[]}"#);
    assert_eq!(gist(&talk.submit(&work, 0)), [json!(24)]);
    talk.say(r#"{"id":2,"method":"mining.authorize","params":["someone else","x"]}"#);
    assert_eq!(gist(&talk.submit(&work, 0)), [json!(24)]);
    talk.say(r#"{"id":2,"method":"mining.authorize","params":["w","x"]}"#);
    let submit = |job: &str, extranonce2: &str, ntime: &str, rest: &str| {
        format!(
            r#"{{"id":3,"method":"mining.submit","params":["w","{job}","{extranonce2}","{ntime}","00000000"{rest}]}}"#
        )
    };
    let (job, ntime) = (format!("{:x}", work.id), format!("{:08x}", crate::testing::TIME));
    let extranonce2 = "0000000000000000";
    for (line, code) in [
        (submit("ffff", extranonce2, &ntime, ""), 21),
        (submit("not a job", extranonce2, &ntime, ""), 21),
        (submit(&job, "00000000", &ntime, ""), 20),
        (submit(&job, extranonce2, "00000001", ""), 20),
        (submit(&job, extranonce2, "ffffffff", ""), 20),
        (submit(&job, extranonce2, &ntime, r#","00002000""#), 20),
        (submit(&job, "zz", &ntime, ""), 20),
        (r#"{"id":3,"method":"mining.submit","params":["w"]}"#.to_owned(), 20),
    ] {
        assert_eq!(gist(&talk.say(&line)), [json!(code)], "{line}");
    }
    let workers = talk.events().into_iter().filter_map(|event| match event {
        Event::Rejected { worker, .. } => Some(worker),
        _ => None,
    });
    let workers: Vec<_> = workers.collect();
    assert_eq!(workers[..3], [None, None, None], "before anybody, or by somebody else");
    assert_eq!(
        workers.last().unwrap().as_deref(),
        Some("someone else"),
        "malformed: the connection's first worker"
    );
}

#[test]
fn rolled_version_bits_count_within_the_mask_only() {
    let now = start();
    let work = work(now, easiest());
    let mut talk = Talk::mining(now, &work);
    talk.say(r#"{"id":1,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"00006000"}]}"#);
    let submit = |bits: &str| {
        let (id, time) = (work.id, crate::testing::TIME);
        format!(
            r#"{{"id":3,"method":"mining.submit","params":["w","{id:x}","0000000000000000","{time:08x}","00000000","{bits}"]}}"#
        )
    };
    assert_eq!(gist(&talk.say(&submit("00008000"))), [json!(20)]);
    talk.say(&submit("00004000"));
    let share = talk.events().into_iter().find_map(|event| match event {
        Event::Upstream(share) => Some(share),
        _ => None,
    });
    assert_eq!(share.unwrap().rolled.version, 0x2000_4000);
}

#[test]
fn a_job_without_version_rolling_takes_the_mask_away_and_the_next_gives_it_back() {
    let now = start();
    let mut server = Server::new(now, 1);
    server.open(now, 0, HARDEST, 16);
    server.job(now, Some(1), true);
    let mut talk = Talk::mining(now, &server.work(0).unwrap());
    talk.say(r#"{"id":1,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"ffffffff"}]}"#);
    server.job(now, None, false);
    let lines = talk.apply(server.work(0).as_ref()).unwrap();
    assert_eq!(gist(&lines), [json!("mining.set_version_mask"), json!("mining.notify")]);
    assert_eq!(lines[0]["params"], json!(["00000000"]));
    server.job(now, None, true);
    let lines = talk.apply(server.work(0).as_ref()).unwrap();
    assert_eq!(lines[0]["params"], json!(["1fffe000"]));
}

/// Most firmware asks once, before it subscribes, and never again.
#[test]
fn who_asks_to_roll_before_it_has_a_job_is_told_what_the_upstream_takes() {
    let now = start();
    let ask = r#"{"id":1,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"ffffffff"}]}"#;
    for (mask, granted) in [(0, None), (0x0000_6000, Some("00006000")), (u32::MAX, Some("1fffe000"))] {
        let work = work(now, easiest());
        let work = Arc::new(work.with_job(work.job.clone()).masked(mask));
        let answer = |talk: &mut Talk| talk.say(ask)[0]["result"].clone();
        let mut with_work = Talk::new(now);
        with_work.apply(Some(&work)).unwrap();
        let mut with_offer = Talk::new(now);
        with_offer.session.expect(Some(crate::upstream::Offer::of(&work))).unwrap();
        for result in [answer(&mut with_work), answer(&mut with_offer)] {
            assert_eq!(result["version-rolling"], granted.is_some(), "{result}");
            assert_eq!(result["version-rolling.mask"].as_str().filter(|_| granted.is_some()), granted);
        }
    }
}

#[test]
fn who_may_not_roll_is_told_so_once_more_before_its_first_job_and_who_did_not_ask_is_told_nothing() {
    let now = start();
    let rolling = work(now, easiest());
    let work = Arc::new(rolling.with_job(rolling.job.clone()).masked(0));
    for asks in [true, false] {
        let mut talk = Talk::new(now);
        talk.apply(Some(&work)).unwrap();
        if asks {
            talk.say(r#"{"id":1,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"ffffffff"}]}"#);
        }
        talk.say(r#"{"id":2,"method":"mining.subscribe","params":[]}"#);
        let lines = talk.say(r#"{"id":3,"method":"mining.authorize","params":["w","x"]}"#);
        let (told, rest) = lines[1..].split_at(usize::from(asks));
        assert_eq!(gist(told), vec![json!("mining.set_version_mask"); told.len()]);
        assert!(told.iter().all(|line| line["params"] == json!(["00000000"])));
        assert_eq!(gist(rest), [json!("mining.set_difficulty"), json!("mining.notify")]);
    }
}

#[test]
fn a_new_tip_is_clean_and_makes_older_jobs_stale_while_a_new_job_does_neither() {
    let now = start();
    let mut server = Server::new(now, 1);
    server.open(now, 0, easiest(), 16);
    server.job(now, Some(1), true);
    let first = server.work(0).unwrap();
    let mut talk = Talk::mining(now, &first);
    server.job(now, None, true);
    let second = server.work(0).unwrap();
    assert_eq!(talk.apply(Some(&second)).unwrap()[0]["params"][8], false);
    assert_eq!(talk.submit(&first, 1), Vec::<Value>::new(), "on its way to the upstream");
    server.job(now, Some(2), true);
    assert_eq!(talk.apply(server.work(0).as_ref()).unwrap()[0]["params"][8], true);
    assert_eq!(gist(&talk.submit(&second, 1)), [json!(21)]);
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
    let mut talk = Talk::mining(now, &first);
    let network = first.job.tip().target();
    let is_block = |nonce: &u32| Talk::hash(&first, *nonce) <= network;
    let [before, after, late] = (0..).filter(is_block).take(3).collect::<Vec<_>>()[..] else { panic!() };
    let light = talk.nonce(&first, network, false);
    talk.submit(&first, before);
    assert_eq!(blocks(&mut talk), 1);
    talk.apply(Some(&second)).unwrap();
    for (nonce, found) in [(before, 0), (after, 1), (after, 0), (light, 0)] {
        assert_eq!(gist(&talk.submit(&first, nonce)), [json!(21)]);
        assert_eq!(blocks(&mut talk), found, "{nonce}");
    }
    talk.apply(None).unwrap();
    assert_eq!(gist(&talk.submit(&first, late)), [json!(20)]);
    assert_eq!(blocks(&mut talk), 1, "though there is no upstream");
    talk.apply(Some(&third)).unwrap();
    assert_eq!(gist(&talk.submit(&first, late)), [json!(21)]);
    assert_eq!(blocks(&mut talk), 0, "nobody builds on its tip any more");
}

#[test]
fn a_block_on_the_job_of_another_upstream_is_put_together_as_its_miner_had_it_then() {
    let now = start();
    let (mut wide, mut small) = (server_of_blocks(now), Server::new(now, 2));
    wide.job(now, Some(1), true);
    small.open(now, 0, HARDEST, 8);
    small.job(now, Some(1), true);
    small.job(now, Some(2), true); // its id is none of the other's
    let (first, second) = (wide.work(0).unwrap(), small.work(0).unwrap());
    assert_ne!(first.id, second.id);
    let mut talk = Talk::mining(now, &first);
    talk.say(r#"{"id":3,"method":"mining.extranonce.subscribe","params":[]}"#);
    talk.apply(Some(&second)).unwrap();
    let block = talk.nonce(&first, first.job.tip().target(), true);
    assert_eq!(gist(&talk.submit(&first, block)), [json!(21)]);
    let share = talk.events().into_iter().find_map(|event| match event {
        Event::Upstream(share) => Some(share),
        _ => None,
    });
    let share = share.unwrap();
    assert_eq!(share.work.job.header(&share.rolled.choice()).hash(), share.hash);
    assert!(share.is_block && Arc::ptr_eq(&share.work, &first));
}

#[test]
fn miners_do_not_notice_another_upstream_but_for_a_clean_job() {
    let now = start();
    let mut talk = Talk::mining(now, &work(now, HARDEST));
    assert_eq!(talk.apply(None).unwrap(), Vec::<Value>::new());
    let mut other = Server::new(now, 2);
    other.open(now, 0, HARDEST, 12);
    other.job(now, Some(1), true);
    let lines = talk.apply(other.work(0).as_ref()).unwrap();
    assert_eq!(gist(&lines), [json!("mining.notify")]);
    assert_eq!(lines[0]["params"][8], true);
}

#[test]
fn an_upstream_with_fewer_bytes_is_told_by_set_extranonce_or_by_reconnect() {
    let now = start();
    let mut small = Server::new(now, 2);
    small.open(now, 0, HARDEST, 8);
    small.job(now, Some(1), true);
    let small = small.work(0).unwrap();
    let mut talk = Talk::mining(now, &work(now, HARDEST));
    talk.say(r#"{"id":3,"method":"mining.extranonce.subscribe","params":[]}"#);
    let lines = talk.apply(Some(&small)).unwrap();
    assert_eq!(lines[0], json!({"id": null, "method": "mining.set_extranonce", "params": ["00000005", 4]}));
    assert_eq!(gist(&lines)[1..], [json!("mining.notify")]);

    let mut talk = Talk::mining(now, &work(now, HARDEST));
    assert_eq!(talk.apply(Some(&small)), Err(Disconnect::ExtranonceChanged));
    assert_eq!(gist(&talk.heard()), [json!("client.reconnect")]);
}

#[test]
fn without_an_upstream_shares_are_refused_and_the_miner_is_let_go_after_a_while() {
    let now = start();
    let work = work(now, easiest());
    let mut talk = Talk::mining(now, &work);
    talk.apply(None).unwrap();
    assert_eq!(gist(&talk.submit(&work, 0)), [json!(20)]);
    assert_eq!(rejected(&mut talk), ["20 no upstream"]);
    assert_eq!(talk.wait(119 * SECOND).unwrap(), Vec::<Value>::new());
    assert_eq!(talk.wait(SECOND), Err(Disconnect::NoUpstream));
}

#[test]
fn a_block_that_is_found_while_there_is_no_upstream_is_handed_on_once_though_its_share_is_lost() {
    let now = start();
    let mut server = server_of_blocks(now);
    server.job(now, Some(1), true);
    let work = server.work(0).unwrap();
    let mut talk = Talk::mining(now, &work);
    talk.apply(None).unwrap();
    let network = work.job.tip().target();
    let (block, none) = (talk.nonce(&work, network, true), talk.nonce(&work, network, false));
    for (nonce, found) in [(block, 1), (block, 0), (none, 0)] {
        assert_eq!(gist(&talk.submit(&work, nonce)), [json!(20)]);
        assert_eq!(blocks(&mut talk), found);
    }
}

#[test]
fn time_in_which_work_may_come_yet_does_not_count_against_a_miner_without_any() {
    let now = start();
    let mut talk = Talk::mining(now, &work(now, easiest()));
    talk.session.await_work(talk.now);
    talk.wait(300 * SECOND).unwrap();
    talk.apply(None).unwrap();
    talk.wait(119 * SECOND).unwrap();
    talk.session.await_work(talk.now);
    talk.wait(119 * SECOND).unwrap();
    assert_eq!(talk.wait(SECOND), Err(Disconnect::NoUpstream));
}

#[test]
fn a_time_without_an_upstream_does_not_make_a_miner_look_slow() {
    let now = start();
    let work = work(now, easiest());
    let mut talk = Talk::mining(now, &work);
    for nonce in 0..10 {
        talk.wait(SECOND).unwrap();
        talk.submit(&work, nonce);
    }
    talk.wait(2 * SECOND).unwrap();
    let before = talk.session.pace(talk.now);
    talk.apply(None).unwrap();
    for _ in 0..110 {
        assert_eq!(talk.wait(SECOND).unwrap(), Vec::<Value>::new(), "the difficulty stays");
        assert_eq!(talk.session.pace(talk.now), before);
    }
    assert_eq!(gist(&talk.apply(Some(&work)).unwrap()), Vec::<Value>::new());
    assert_eq!(talk.session.pace(talk.now), before);
    assert_eq!(talk.wait(SECOND).unwrap(), Vec::<Value>::new(), "and the window begins anew");
}

#[test]
fn silence_ends_the_session() {
    let now = start();
    let mut talk = Talk::new(now);
    talk.apply(Some(&work(now, HARDEST))).unwrap();
    assert_eq!(talk.session.poll_timeout(), now.instant + 60 * SECOND);
    assert_eq!(talk.wait(60 * SECOND), Err(Disconnect::AuthorizeTimeout));
    let mut talk = Talk::mining(now, &work(now, HARDEST));
    assert!(talk.wait(899 * SECOND).is_ok());
    assert_eq!(talk.wait(SECOND), Err(Disconnect::Idle));
}

#[test]
fn difficulty_follows_the_miner_but_is_never_harder_than_the_upstreams() {
    let mut settings = settings();
    settings.pace.hash_rate = 1e12;
    let now = start();
    let mut talk = Talk::with(now, settings);
    talk.say(r#"{"id":1,"method":"mining.subscribe","params":[]}"#);
    let lines = talk.say(r#"{"id":2,"method":"mining.authorize","params":["w","x"]}"#);
    assert_eq!(lines[1]["params"], json!([698]), "3 TH");
    let upstream = work(now, Difficulty::new(100.0).unwrap().target());
    let lines = talk.apply(Some(&upstream)).unwrap();
    assert_eq!(lines[0]["params"], json!([100]));
    let mut slower = Vec::new();
    for _ in 0..100 {
        slower.extend(talk.wait(3 * SECOND).unwrap());
    }
    let last = slower.last().unwrap();
    assert_eq!(last["method"], "mining.set_difficulty");
    assert!(target(&last["params"][0]) > target(&json!(1)), "without shares it gets easier: {last}");
}

/// When a miner goes by a new difficulty.
enum Takes {
    AtOnce,
    /// As cgminer: of those within a job the first with the next job, the last with the one after it.
    OneAJob(Vec<bitcoin::Target>),
}

/// A miner that searches.
struct Miner {
    talk: Talk,
    takes: Takes,
    target: bitcoin::Target,
    nonce: u32,
    /// Difficulties that it was told.
    told: Vec<f64>,
}

impl Miner {
    fn mining(now: mining::Now, work: &Arc<Work>, takes: Takes) -> Self {
        let talk = Talk::mining(now, work);
        let target = target(&json!(talk.session.difficulty()));
        Self { talk, takes, target, nonce: 0, told: Vec::new() }
    }

    fn apply(&mut self, work: &Arc<Work>) {
        let lines = self.talk.apply(Some(work)).unwrap();
        self.hear(&lines);
    }

    /// Time passes at so many hashes a second.
    fn mine(&mut self, work: &Work, seconds: u32, hashes: u32) {
        for _ in 0..10 * seconds {
            let lines = self.talk.wait(SECOND / 10).unwrap();
            self.hear(&lines);
            for _ in 0..hashes / 10 {
                self.nonce += 1;
                if Talk::hash(work, self.nonce) <= self.target {
                    let lines = self.talk.submit(work, self.nonce);
                    self.hear(&lines);
                }
            }
        }
    }

    fn hear(&mut self, lines: &[Value]) {
        for line in lines {
            let is_difficulty = line["method"] == "mining.set_difficulty";
            if is_difficulty {
                self.told.push(line["params"][0].as_f64().unwrap());
            }
            match &mut self.takes {
                Takes::AtOnce if is_difficulty => self.target = target(&line["params"][0]),
                Takes::OneAJob(waiting) if is_difficulty => {
                    waiting.truncate(1);
                    waiting.push(target(&line["params"][0]));
                }
                Takes::OneAJob(waiting) if line["method"] == "mining.notify" && !waiting.is_empty() => {
                    self.target = waiting.remove(0);
                }
                _ => {}
            }
        }
    }
}

#[test]
fn who_gets_faster_and_goes_by_the_harder_difficulty_at_once_is_not_taken_for_slower_before_the_next_job() {
    let now = start();
    let mut server = Server::new(now, 1);
    server.open(now, 0, HARDEST, 16);
    server.job(now, Some(1), true);
    let first = server.work(0).unwrap();
    let mut miner = Miner::mining(now, &first, Takes::AtOnce);
    miner.mine(&first, 120, 100);
    server.job(now, None, true);
    let second = server.work(0).unwrap();
    miner.apply(&second);
    let before = miner.talk.session.difficulty();
    miner.told.clear();
    miner.mine(&second, 55, 1000);
    assert!(miner.told.is_sorted() && miner.told[0] > before, "{before}, then {:?}", miner.told);
    let suits = 3.0 * 1000.0 / 2f64.powi(32);
    let last = miner.talk.session.difficulty() / suits;
    assert!((0.5..2.0).contains(&last), "{last} times what suits");
    assert_eq!(rejected(&mut miner.talk), Vec::<&str>::new());
}

#[test]
fn cgminer_has_no_share_refused_while_its_difficulty_rises_more_than_once_within_a_job() {
    let now = start();
    let mut server = Server::new(now, 1);
    server.open(now, 0, HARDEST, 16);
    server.job(now, Some(1), true);
    let mut work = server.work(0).unwrap();
    let mut miner = Miner::mining(now, &work, Takes::OneAJob(Vec::new()));
    for job in 1..=4 {
        miner.mine(&work, 20, 300);
        assert!(job > 1 || miner.told.len() > 1, "{:?}", miner.told);
        assert_eq!(rejected(&mut miner.talk), Vec::<&str>::new(), "in job {job}, {:?}", miner.told);
        server.job(now, None, true);
        work = server.work(0).unwrap();
        miner.apply(&work);
    }
}

#[test]
fn a_share_that_was_right_when_its_job_was_sent_stays_right_after_a_harder_difficulty() {
    let now = start();
    let work = work(now, HARDEST);
    let mut talk = Talk::mining(now, &work);
    let before = Difficulty::new(talk.session.pace(now).0).unwrap().target();
    let nonce = talk.nonce(&work, before, true);
    talk.say(r#"{"id":4,"method":"mining.suggest_difficulty","params":[1000000]}"#);
    assert_eq!(gist(&talk.submit(&work, nonce)), [json!(true)]);
}

#[test]
fn after_two_difficulties_within_a_job_the_next_job_takes_the_firsts_shares_as_cgminer_finds_them() {
    let now = start();
    let mut server = Server::new(now, 1);
    server.open(now, 0, HARDEST, 16);
    server.job(now, Some(1), true);
    for told_by_others in [false, true] {
        let mut talk = Talk::mining(now, &server.work(0).unwrap());
        for difficulty in ["1e-8", "1e-7", "1e-3"] {
            talk.say(&format!(r#"{{"id":4,"method":"mining.suggest_difficulty","params":[{difficulty}]}}"#));
        }
        let mut refused = Vec::new();
        for _ in 0..2 {
            server.job(now, None, true);
            let work = server.work(0).unwrap();
            if told_by_others {
                talk.session.told(work.clone());
            } else {
                talk.apply(Some(&work)).unwrap();
            }
            let first = talk.nonce(&work, target(&json!(1e-8)), true);
            refused.push(gist(&talk.submit(&work, first)) != [json!(true)]);
        }
        assert_eq!(refused, [false, true], "the job after the next has the last");
        server.job(now, Some(1), true);
    }
}

#[test]
fn a_successor_takes_shares_of_a_difficulty_that_holds_for_the_next_job_only() {
    let now = start();
    let mut talk = Talk::mining(now, &work(now, HARDEST));
    for difficulty in ["1e-8", "1e-3"] {
        talk.say(&format!(r#"{{"id":4,"method":"mining.suggest_difficulty","params":[{difficulty}]}}"#));
    }
    let mut passport = serde_json::to_value(talk.session.passport(&[])).unwrap();
    let next = work(now, HARDEST);
    let is_taken = |passport: &Value| {
        let passport = Passport::read(passport.clone()).unwrap();
        let mut talk = Talk { session: Session::resumed(now, settings().into(), &passport).unwrap(), now };
        talk.apply(Some(&next)).unwrap();
        let first = talk.nonce(&next, target(&json!(1e-8)), true);
        gist(&talk.submit(&next, first)) == [json!(true)]
    };
    assert!(is_taken(&passport));
    passport["terms"].as_object_mut().unwrap().remove("stack").unwrap();
    assert!(!is_taken(&passport), "a predecessor that does not know of it");
}

/// Subscribed and authorised with other settings than usual, with work.
fn mining_with(now: mining::Now, settings: Settings, work: &Arc<Work>) -> Talk {
    let mut talk = Talk::with(now, settings);
    talk.say(r#"{"id":1,"method":"mining.subscribe","params":[]}"#);
    talk.say(r#"{"id":2,"method":"mining.authorize","params":["w","x"]}"#);
    talk.apply(Some(work)).unwrap();
    talk
}

/// The miner at a successor, which has a job for it.
fn given_away(talk: &Talk, settings: Settings, next: &Arc<Work>) -> Talk {
    let passport = Passport::read(serde_json::to_value(talk.session.passport(&[])).unwrap()).unwrap();
    let session = Session::resumed(talk.now, settings.into(), &passport).unwrap();
    let mut talk = Talk { session, now: talk.now };
    talk.apply(Some(next)).unwrap();
    talk
}

#[test]
fn a_successor_does_not_think_a_miner_faster_than_usual_silent_after_a_second() {
    let now = start();
    let work = work(now, HARDEST);
    let mut talk = Talk::mining(now, &work);
    talk.say(r#"{"id":4,"method":"mining.suggest_difficulty","params":[1e-3]}"#);
    let mut talk = given_away(&talk, settings(), &work);
    assert_eq!(gist(&talk.wait(SECOND + SECOND / 10).unwrap()), Vec::<Value>::new());
}

#[test]
fn a_successor_notices_when_a_miner_slower_than_usual_finds_nothing() {
    let now = start();
    let work = work(now, HARDEST);
    let fast = || Settings {
        pace: crate::session::PaceSettings { hash_rate: 1e12, ..settings().pace },
        ..settings()
    };
    let mut talk = mining_with(now, fast(), &work);
    talk.say(r#"{"id":4,"method":"mining.suggest_difficulty","params":[1e-3]}"#);
    let mut talk = given_away(&talk, fast(), &work);
    let lines: Vec<Value> = (0..40).flat_map(|_| talk.wait(3 * SECOND).unwrap()).collect();
    assert_eq!(lines[0]["method"], "mining.set_difficulty");
    assert!(lines[0]["params"][0].as_f64().unwrap() < 1e-3, "{lines:?}");
}

#[test]
fn a_fast_miner_rises_above_a_minimum_that_is_harder_than_the_usual_beginning() {
    let now = start();
    let work = work(now, HARDEST);
    let mut settings = settings(); // which begin with three hashes
    settings.pace.minimum = Difficulty::new(300.0 / 2f64.powi(32)).unwrap();
    let talk = mining_with(now, settings, &work);
    let target = target(&json!(talk.session.difficulty()));
    let mut miner = Miner { talk, takes: Takes::AtOnce, target, nonce: 0, told: Vec::new() };
    miner.mine(&work, 60, 1000);
    let suits = 3.0 * 1000.0 / 2f64.powi(32);
    let last = miner.talk.session.difficulty() / suits;
    assert!((0.2..5.0).contains(&last), "{last} times what suits");
}

#[test]
fn a_job_handed_out_again_for_its_target_is_not_sent_again_but_its_shares_count_by_the_new_one() {
    let now = start();
    let mut server = Server::new(now, 1);
    let channel = server.open(now, 0, HARDEST, 16);
    server.job(now, Some(1), true);
    let first = server.work(0).unwrap();
    let mut talk = Talk::mining(now, &first);
    let again = server.retarget(now, channel, easiest());
    let lines = talk.apply(server.work(0).as_ref()).unwrap();
    assert_eq!(
        gist(&lines),
        [json!("mining.set_difficulty")],
        "easier than the miner's own, so the miner follows"
    );
    assert_eq!(talk.submit(&first, 0), Vec::<Value>::new(), "heavy now");
    let job = talk.events().into_iter().find_map(|event| match event {
        Event::Upstream(share) => Some(share.work.job.id()),
        _ => None,
    });
    assert_eq!(job, Some(again));
}

/// A miner that has a job, and the server's next ones.
fn mining_and_next(tip: Option<u8>) -> (Talk, Arc<Work>, Arc<Work>) {
    let now = start();
    let mut server = Server::new(now, 1);
    server.open(now, 0, easiest(), 16);
    server.job(now, Some(1), true);
    let first = server.work(0).unwrap();
    let talk = Talk::mining(now, &first);
    server.job(now, tip, true);
    (talk, first, server.work(0).unwrap())
}

#[test]
fn a_line_that_others_write_is_the_one_that_the_session_would_have_sent_and_it_goes_on_the_same() {
    for tip in [None, Some(2)] {
        let (mut talk, first, next) = mining_and_next(tip);
        assert!(Arc::ptr_eq(talk.session.listens().unwrap(), &first));
        let clean = first.followed_by(&next).unwrap();
        assert_eq!(clean, tip.is_some());
        let (mut other, _, _) = mining_and_next(tip);
        other.session.apply(other.now, Some(next.clone())).unwrap();
        assert_eq!(other.session.output().as_bytes(), &*next.line(clean));
        other.heard();
        talk.session.told(next.clone());
        assert!(talk.apply(Some(&next)).unwrap().is_empty(), "it has it");
        assert_eq!(gist(&talk.submit(&next, 1)), gist(&other.submit(&next, 1)));
        assert_eq!(gist(&talk.submit(&first, 2)), gist(&other.submit(&first, 2)));
    }
}

#[test]
fn nobody_else_writes_while_a_miner_is_to_be_told_more_than_a_job() {
    let (mut talk, first, next) = mining_and_next(Some(2));
    assert_eq!(next.followed_by(&next), None, "it is the same");
    let masked = next.with_job(next.job.clone()).masked(0);
    assert_eq!(first.followed_by(&masked), None, "fewer bits of the version");
    let mut fresh = Talk::new(start());
    fresh.session.apply(fresh.now, Some(first)).unwrap();
    assert!(fresh.session.listens().is_none(), "not subscribed");
    talk.session.apply(talk.now, Some(next)).unwrap();
    assert!(talk.session.listens().is_none(), "a line waits to be sent");
    talk.heard();
    assert!(talk.session.listens().is_some());
    talk.apply(None).unwrap();
    assert!(talk.session.listens().is_none(), "without an upstream");
}

#[test]
fn a_wish_for_a_high_difficulty_does_not_make_a_miner_fast() {
    let mut talk = Talk::new(start());
    talk.say(r#"{"id":1,"method":"mining.configure","params":[["minimum-difficulty"],{"minimum-difficulty.value":1e200}]}"#);
    talk.say(r#"{"id":2,"method":"mining.subscribe","params":[]}"#);
    talk.say(r#"{"id":3,"method":"mining.authorize","params":["w","d=1e300"]}"#);
    let (_, hash_rate) = talk.session.pace(talk.now);
    assert!(hash_rate <= settings().pace.hash_rate, "{hash_rate}");
}

#[test]
fn whatever_a_miner_sends_the_session_answers_in_json_or_ends_by_its_rules() {
    let lines = [
        r#"{"id":1,"method":"mining.subscribe","params":["cgminer/4.12.0","0000"]}"#,
        r#"{"id":2,"method":"mining.authorize","params":["a.w","x,d=1e3"]}"#,
        r#"{"id":3,"method":"mining.configure","params":[["version-rolling","minimum-difficulty"],{"version-rolling.mask":"1fffe000","minimum-difficulty.value":1}]}"#,
        r#"{"id":4,"method":"mining.submit","params":["a.w","1","0000000000000000","684ee180","00000000","00002000"]}"#,
        r#"{"id":5,"method":"mining.suggest_difficulty","params":[1e-5]}"#,
        r#"{"id":6,"method":"mining.suggest_target","params":["00000000ffff0000000000000000000000000000000000000000000000000000"]}"#,
    ];
    let now = start();
    let work = work(now, easiest());
    let (mut talk, mut seed, mut answered) = (Talk::mining(now, &work), 7_u64, 0);
    let mut random = move |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % below
    };
    for _ in 0..20_000 {
        let mut line = lines[random(lines.len())].as_bytes().to_vec();
        for _ in 0..random(4) {
            let at = random(line.len());
            match random(3) {
                0 => line[at] = u8::try_from(random(256)).unwrap(),
                1 => drop(line.splice(at..at, [b"\"[]{},0e-"[random(9)]])),
                _ => drop(line.drain(at..(at + random(8)).min(line.len()))),
            }
        }
        if talk.session.handle_line(talk.now, &line).is_err() {
            talk = Talk::mining(now, &work);
        }
        answered += talk.heard().len();
        talk.events();
    }
    assert!(answered > 15_000, "{answered}");
}
