//! Exchanges with pools. ckpool's shapes are those of its stratifier.c: numbers as ids, errors as texts, a `reject-reason`.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::testing::{TIME, start};
use crate::work::{Extranonce, Rolled};
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);
const PREV_HASH: &str = "03020100070605040b0a09080f0e0d0c13121110171615141b1a19181f1e1d1c";

struct Talk {
    trunk: PoolTrunk,
    now: Now,
}

impl Talk {
    /// Connected; configure and subscribe have been said.
    fn new() -> Self {
        let now = start();
        let settings = Settings {
            connection: 7,
            extranonce2: 4,
            repeat: Duration::from_secs(55),
            job_ids: Arc::default(),
            host: "pool.example".into(),
            port: 3333,
        };
        let mut talk = Self { trunk: PoolTrunk::new(now, settings), now };
        talk.trunk.open(0, &Login { user: "bc1q.farm", password: "x", hash_rate: 1e12 });
        talk
    }

    /// Logged in at a ckpool, which has told its difficulty.
    fn at_ckpool() -> Self {
        let mut talk = Self::new();
        talk.heard();
        talk.says(r#"{"result": {"version-rolling": true, "version-rolling.mask": "1fffe000"}, "id": 1, "error": null}"#);
        talk.says(r#"{"result": [[["mining.notify", "65ab0c1e"]], "1eab6568", 8], "id": 2, "error": null}"#);
        talk.says(r#"{"result": true, "error": null, "id": 3}"#);
        talk.says(r#"{"params": [10000], "id": null, "method": "mining.set_difficulty"}"#);
        talk.heard();
        talk.events();
        talk
    }

    fn says(&mut self, line: &str) {
        self.trunk.handle_line(self.now, line.as_bytes()).unwrap();
    }

    fn notify(&mut self, id: &str, prev_hash: &str, clean: bool) {
        let params = json!([
            id,
            prev_hash,
            "01000000aa",
            "bbffffffff",
            ["11".repeat(32)],
            "20000000",
            "1d00ffff",
            format!("{TIME:08x}"),
            clean
        ]);
        self.says(&json!({"params": params, "id": null, "method": "mining.notify"}).to_string());
    }

    fn heard(&mut self) -> Vec<Value> {
        let text = String::from_utf8(self.trunk.poll_send()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.trunk.poll_event()).collect()
    }

    fn work(&mut self) -> Arc<Work> {
        let work = |event| if let Event::Work { work, .. } = event { work } else { None };
        self.events().into_iter().filter_map(work).last().unwrap()
    }

    fn submit(&mut self, work: &Arc<Work>, version: u32, ticket: u64) {
        let mut extranonce = Extranonce::default();
        extranonce.push(&[0, 0, 0, 5, 0xde, 0xad, 0xbe, 0xef]);
        let share = UpstreamShare {
            tag: 0,
            worker: "w".into(),
            work: work.clone(),
            rolled: Rolled { extranonce, version, ntime: TIME + 1, nonce: 0x0102_0304 },
            hash: bitcoin::hashes::Hash::all_zeros(),
            is_block: false,
        };
        self.trunk.submit(self.now, &share, ticket);
    }

    fn answers(&mut self) -> Vec<(u64, Outcome)> {
        let answer = |event| match event {
            Event::Answered { ticket, outcome } => Some((ticket, outcome)),
            _ => None,
        };
        self.events().into_iter().filter_map(answer).collect()
    }

    fn closed(&mut self) -> Option<String> {
        let reason = |event| if let Event::Closed { reason, .. } = event { Some(reason) } else { None };
        self.events().into_iter().find_map(reason)
    }
}

fn methods(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["method"].as_str().unwrap()).collect()
}

#[test]
fn ckpool_is_logged_in_to_and_its_jobs_become_work() {
    let mut talk = Talk::new();
    let lines = talk.heard();
    assert_eq!(methods(&lines), ["mining.configure", "mining.subscribe"]);
    assert_eq!(lines[0]["params"][1]["version-rolling.mask"], "1fffe000");
    talk.says(r#"{"result": {"version-rolling": true, "version-rolling.mask": "1fffe000"}, "id": 1, "error": null}"#);
    talk.says(r#"{"result": [[["mining.notify", "65ab0c1e"]], "1eab6568", 8], "id": 2, "error": null}"#);
    assert_eq!(talk.heard()[0]["params"], json!(["bc1q.farm", "x"]));
    talk.says(r#"{"result": true, "error": null, "id": 3}"#);
    let lines = talk.heard();
    assert_eq!(methods(&lines), ["mining.extranonce.subscribe", "mining.suggest_difficulty"]);
    assert_eq!(lines[1]["params"].to_string(), "[232]", "a whole number, or ckpool does not take it");
    talk.says(r#"{"params": [10000], "id": null, "method": "mining.set_difficulty"}"#);
    assert_eq!(talk.events().len(), 0, "no work before the first job");
    talk.notify("6703a1b2", PREV_HASH, true);
    let work = talk.work();
    assert_eq!(work.job.extranonce_prefix(), [0x1e, 0xab, 0x65, 0x68]);
    assert_eq!((work.layout.slice, work.layout.extranonce2), (4, 4));
    assert_eq!(work.job.tip().prev_hash()[..4], [0, 1, 2, 3]);
    assert_eq!(work.job.target(), Difficulty::new(10_000.0).unwrap().target());
    assert_eq!((work.version_mask, work.ntime), (0x1fff_e000, TIME));
}

#[test]
fn a_share_is_handed_in_as_the_pool_knows_it_and_its_answer_comes_back() {
    let mut talk = Talk::at_ckpool();
    talk.notify("6703a1b2", PREV_HASH, true);
    let work = talk.work();
    for ticket in 1..=6 {
        talk.submit(&work, 0x2000_4000, ticket);
    }
    let lines = talk.heard();
    let params = json!([
        "bc1q.farm",
        "6703a1b2",
        "00000005deadbeef",
        format!("{:08x}", TIME + 1),
        "01020304",
        "00004000"
    ]);
    assert_eq!(lines[0]["params"], params);
    let answers = [
        json!({"result": true, "error": null}),
        json!({"reject-reason": "Above target", "result": false, "error": null}),
        json!({"result": false, "error": "Invalid version mask"}),
        json!({"result": null, "error": [21, "Job not found", null]}),
        json!({"result": null, "error": {"code": 22, "message": "dup"}}),
    ];
    for (line, mut answer) in lines.iter().zip(answers) {
        answer["id"] = line["id"].clone();
        talk.says(&answer.to_string());
    }
    let rejected = |code: &str| Outcome::Rejected(code.into());
    assert_eq!(
        talk.answers(),
        [
            (1, Outcome::Accepted),
            (2, rejected("difficulty-too-low")),
            (3, rejected("Invalid version mask")),
            (4, rejected("stale-share")),
            (5, rejected("duplicate-share")),
        ]
    );
    assert_eq!(talk.trunk.in_flight(), 1);
    talk.trunk.end();
    assert_eq!(talk.answers(), [(6, Outcome::Lost)]);
}

#[test]
fn a_share_of_the_tip_before_reaches_the_pool_for_it_may_be_a_block() {
    let mut talk = Talk::at_ckpool();
    talk.notify("6703a1b2", PREV_HASH, true);
    let work = talk.work();
    talk.notify("6703a1b3", &PREV_HASH.replace("03020100", "13121110"), true);
    assert!(!talk.work().same_tip(&work));
    talk.submit(&work, 0x2000_0000, 1);
    assert_eq!(talk.heard()[0]["params"][1], "6703a1b2");
}

#[test]
fn a_pool_without_version_rolling_gets_five_parameters() {
    let mut talk = Talk::new();
    talk.heard();
    talk.says(r#"{"id":1,"result":null,"error":[20,"Unknown method",null]}"#);
    talk.says(r#"{"id":2,"result":[[["mining.set_difficulty","1"],["mining.notify","1"]],"08000002",4],"error":null}"#);
    talk.notify("a", PREV_HASH, false);
    assert_eq!(talk.events().len(), 0, "not before the user is accepted");
    talk.says(r#"{"id":3,"result":true,"error":null}"#);
    let work = talk.work();
    assert_eq!((work.version_mask, work.job.version_rolling()), (0, false));
    assert_eq!((work.layout.slice, work.layout.extranonce2), (2, 2), "four bytes are just enough");
    talk.heard();
    talk.submit(&work, 0x2000_0000, 1);
    assert_eq!(talk.heard()[0]["params"].as_array().unwrap().len(), 5);
    talk.submit(&work, 0x2000_2000, 2);
    assert_eq!(talk.answers().len(), 1, "bits that the pool does not take stay here");
}

#[test]
fn a_narrow_mask_holds_for_the_job_at_hand() {
    let mut talk = Talk::at_ckpool();
    talk.notify("1", PREV_HASH, true);
    let before = talk.work();
    talk.says(r#"{"id":null,"method":"mining.set_version_mask","params":["00c00000"]}"#);
    let after = talk.work();
    assert_eq!(after.version_mask, 0x00c0_0000);
    assert!(after.same_tip(&before) && after.ntime > before.ntime && after.id != before.id);
}

#[test]
fn difficulty_and_extranonce_hold_from_the_next_job_on() {
    let mut talk = Talk::at_ckpool();
    talk.notify("1", PREV_HASH, true);
    let first = talk.work();
    talk.says(r#"{"id":null,"method":"mining.set_difficulty","params":[20000]}"#);
    talk.says(r#"{"id":null,"method":"mining.set_extranonce","params":["aabb",6]}"#);
    assert_eq!(talk.events().len(), 0);
    talk.notify("2", PREV_HASH, false);
    let second = talk.work();
    assert!(second.job.target() < first.job.target());
    assert_eq!(second.job.extranonce_prefix(), [0xaa, 0xbb]);
    assert_eq!((second.layout.slice, second.layout.extranonce2), (2, 4));
    assert!(!second.same_tip(&first), "what was found with the old extranonce is void");
}

#[test]
fn a_clean_job_on_the_same_block_voids_what_miners_have_and_another_does_not() {
    let mut talk = Talk::at_ckpool();
    talk.notify("1", PREV_HASH, true);
    let first = talk.work();
    talk.notify("2", PREV_HASH, false);
    let second = talk.work();
    assert!(second.same_tip(&first));
    assert!(second.ntime > first.ntime, "the same work: later, so that no share is found twice");
    talk.notify("3", PREV_HASH, true);
    assert!(!talk.work().same_tip(&second));
}

/// public-pool does so with each new difficulty.
#[test]
fn a_clean_job_with_the_same_content_begins_later() {
    let mut talk = Talk::at_ckpool();
    talk.notify("1", PREV_HASH, true);
    let first = talk.work();
    talk.says(r#"{"id":null,"method":"mining.set_difficulty","params":[20000]}"#);
    talk.notify("2", PREV_HASH, true);
    let second = talk.work();
    assert!(!second.same_tip(&first) && second.job.target() < first.job.target());
    assert_eq!((first.ntime, second.ntime), (TIME, TIME + 1));
}

#[test]
fn the_same_job_of_another_connection_begins_later() {
    let (mut first, mut second) = (Talk::at_ckpool(), Talk::at_ckpool());
    second.trunk.settings.job_ids = first.trunk.settings.job_ids.clone();
    (second.trunk.settings.connection, second.now) = (8, first.now);
    for talk in [&mut first, &mut second] {
        talk.notify("1", PREV_HASH, true);
    }
    let (before, after) = (first.work(), second.work());
    assert!(same_work(&before.job, &after.job) && before.id != after.id);
    assert_eq!((before.ntime, after.ntime), (TIME, TIME + 1));
}

#[test]
fn a_pool_that_leaves_too_few_bytes_or_too_many_is_left_with_the_reason() {
    for (size, bound) in [(3, Some("at least 4")), (4, None), (32, None), (33, Some("at most 32"))] {
        let mut talk = Talk::new();
        talk.says(&format!(r#"{{"id":2,"result":[[],"00",{size}],"error":null}}"#));
        talk.says(r#"{"id":3,"result":true,"error":null}"#);
        talk.notify("1", PREV_HASH, true);
        match (talk.closed(), bound) {
            (Some(reason), Some(bound)) => assert!(reason.contains(bound), "{reason}"),
            (reason, bound) => assert_eq!(reason.as_deref(), bound, "{size}"),
        }
    }
}

#[test]
fn a_login_that_fails_says_why() {
    for (line, why) in [
        (r#"{"id":2,"result":null,"error":[20,"Initialising",null]}"#, "Initialising"),
        (r#"{"id":3,"result":false,"error":"Empty username parameter"}"#, "Empty username parameter"),
        (r#"{"id":3,"result":null,"error":null}"#, "refused without a reason"),
    ] {
        let mut talk = Talk::new();
        talk.says(line);
        let reason = talk.closed().unwrap();
        assert!(reason.contains(why), "{reason}");
    }
}

#[test]
fn a_reconnection_leads_to_the_same_place_only() {
    let mut talk = Talk::at_ckpool();
    for (params, goes) in [
        ("[]", true),
        (r#"["",0,5]"#, true),
        (r#"["POOL.example",3333,0]"#, true),
        (r#"["pool.example","3333"]"#, true),
        (r#"["pool.example",4444]"#, false),
        (r#"["thief.example",3333]"#, false),
    ] {
        talk.says(&format!(r#"{{"id":null,"method":"client.reconnect","params":{params}}}"#));
        let events = talk.events();
        assert!(
            matches!((&events[..], goes), ([Event::Reconnect(_)], true) | ([Event::Notice(_)], false)),
            "{params}"
        );
    }
}

#[test]
fn questions_of_the_pool_are_answered_and_what_is_unknown_does_no_harm() {
    let mut talk = Talk::at_ckpool();
    talk.says(r#"{"id":"v","method":"client.get_version","params":[]}"#);
    talk.says(r#"{"id":8,"method":"mining.ping","params":[]}"#);
    talk.says(r#"{"id":9,"method":"mining.teleport"}"#);
    talk.says(r#"{"id":null,"method":"client.unheard_of","params":{}}"#);
    talk.says(r#"{"id":12345,"result":true,"error":null}"#);
    talk.says("");
    let lines = talk.heard();
    assert_eq!(
        (&lines[0]["id"], &lines[1]["result"], &lines[2]["error"][0]),
        (&json!("v"), &json!("pong"), &json!(20))
    );
    assert_eq!(lines.len(), 3);
    for bad in ["HTTP/1.1 400 Bad Request", "[]", r#"{"method":"mining.notify","params":["1","zz"]}"#] {
        assert!(talk.trunk.handle_line(talk.now, bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn a_job_is_repeated_and_a_silent_pool_named() {
    let mut talk = Talk::at_ckpool();
    talk.notify("1", PREV_HASH, true);
    let first = talk.work();
    talk.now = talk.now.after(55 * SECOND);
    talk.trunk.handle_timeout(talk.now);
    let again = talk.work();
    assert_eq!((again.job.id(), again.ntime), (first.job.id(), first.ntime + 55));
    talk.submit(&again, 0x2000_0000, 1);
    assert_eq!(talk.heard()[0]["params"][1], "1");
    talk.now = talk.now.after(60 * SECOND);
    talk.trunk.handle_timeout(talk.now);
    assert!(talk.events().iter().any(|event| matches!(event, Event::Hangs)), "a share has no answer");
}

#[test]
fn a_share_that_a_pool_passes_over_is_lost_after_a_while_and_no_reason_to_leave_the_pool() {
    let mut talk = Talk::at_ckpool();
    talk.notify("1", PREV_HASH, true);
    let work = talk.work();
    (1..=2).for_each(|ticket| talk.submit(&work, 0x2000_0000, ticket));
    let second = talk.heard()[1]["id"].clone();
    talk.says(&json!({"id": second, "result": true, "error": null}).to_string());
    let mut events = Vec::new();
    for second in 1..=150 {
        talk.now = talk.now.after(SECOND);
        talk.trunk.handle_timeout(talk.now);
        if second == 61 {
            talk.submit(&work, 0x2000_0000, 3);
            assert_eq!(talk.trunk.in_flight(), 2, "it may still be answered");
            let third = talk.heard()[0]["id"].clone();
            talk.says(&json!({"id": third, "result": true, "error": null}).to_string());
        }
        events.extend(talk.events());
    }
    assert!(!events.iter().any(|event| matches!(event, Event::Hangs)), "{events:?}");
    let answer =
        |event| if let Event::Answered { ticket, outcome } = event { Some((ticket, outcome)) } else { None };
    let answers: Vec<_> = events.into_iter().filter_map(answer).collect();
    assert_eq!(answers, [(2, Outcome::Accepted), (3, Outcome::Accepted), (1, Outcome::Lost)]);
    assert_eq!(talk.trunk.in_flight(), 0);
}

/// What happens in so many seconds, while the pool sends a job every half minute.
fn with_jobs_for(talk: &mut Talk, seconds: u32) -> Vec<Event> {
    let mut events = Vec::new();
    for second in 1..=seconds {
        talk.now = talk.now.after(SECOND);
        if second % 30 == 0 {
            talk.notify(&second.to_string(), PREV_HASH, false);
        }
        talk.trunk.handle_timeout(talk.now);
        events.extend(talk.events());
    }
    events
}

fn hangs(events: &[Event]) -> bool {
    events.iter().any(|event| matches!(event, Event::Hangs))
}

fn newest_work(events: &[Event]) -> Option<Arc<Work>> {
    let work = |event: &Event| if let Event::Work { work, .. } = event { work.clone() } else { None };
    events.iter().rev().find_map(work)
}

#[test]
fn a_share_that_a_pool_never_answers_is_lost_in_the_end_and_no_reason_to_leave_while_it_sends_jobs() {
    let mut talk = Talk::at_ckpool();
    talk.notify("1", PREV_HASH, true);
    let work = talk.work();
    talk.submit(&work, 0x2000_0000, 1);
    let events = with_jobs_for(&mut talk, 599);
    assert!(!hangs(&events), "{events:?}");
    assert_eq!(talk.trunk.in_flight(), 1, "it may still be answered");
    let events = with_jobs_for(&mut talk, 601);
    assert!(!hangs(&events), "{events:?}");
    let lost = |event: &Event| matches!(event, Event::Answered { ticket: 1, outcome: Outcome::Lost });
    assert!(events.iter().any(lost), "{events:?}");
    assert_eq!(talk.trunk.in_flight(), 0);
    talk.submit(&newest_work(&events).unwrap(), 0x2000_0000, 2);
    let id = talk.heard().last().unwrap()["id"].clone();
    talk.says(&json!({"id": id, "result": true, "error": null}).to_string());
    assert_eq!(talk.answers(), [(2, Outcome::Accepted)]);
    assert!(!hangs(&with_jobs_for(&mut talk, 1200)));
}

#[test]
fn a_pool_that_sends_jobs_and_answers_none_of_eight_shares_hangs_however_slowly_they_come() {
    for pause in [1, 300] {
        let mut talk = Talk::at_ckpool();
        talk.notify("1", PREV_HASH, true);
        let mut work = talk.work();
        for ticket in 1..=7 {
            talk.submit(&work, 0x2000_0000, ticket);
            let events = with_jobs_for(&mut talk, pause);
            assert!(!hangs(&events), "{ticket} shares, one in {pause} s");
            work = newest_work(&events).unwrap_or(work);
        }
        assert!(!hangs(&with_jobs_for(&mut talk, 90)));
        talk.submit(&work, 0x2000_0000, 8);
        assert!(hangs(&with_jobs_for(&mut talk, 60)), "one in {pause} s");
    }
}

#[test]
fn shares_of_another_connection_or_of_a_forgotten_job_are_answered_here() {
    let mut talk = Talk::at_ckpool();
    talk.notify("0", PREV_HASH, true);
    let first = talk.work();
    let mut elsewhere = Talk::at_ckpool();
    elsewhere.trunk.settings.connection = 8;
    elsewhere.submit(&first, 0x2000_0000, 1);
    assert_eq!(elsewhere.answers(), [(1, Outcome::Lost)]);
    for id in 1..=MAX_JOBS {
        talk.notify(&id.to_string(), PREV_HASH, false);
    }
    talk.events();
    talk.submit(&first, 0x2000_0000, 2);
    assert_eq!(talk.answers(), [(2, Outcome::Rejected("stale-share".into()))]);
}

#[test]
fn whatever_a_pool_says_ends_in_work_or_by_a_named_reason() {
    let lines = [
        r#"{"id":1,"result":{"version-rolling":true,"version-rolling.mask":"1fffe000"},"error":null}"#,
        r#"{"id":2,"result":[[["mining.notify","1"]],"1eab6568",8],"error":null}"#,
        r#"{"id":3,"result":true,"error":null}"#,
        r#"{"id":null,"method":"mining.set_difficulty","params":[1e300]}"#,
        r#"{"id":null,"method":"mining.set_extranonce","params":["aabb",6]}"#,
        r#"{"id":null,"method":"mining.set_version_mask","params":["ffffffff"]}"#,
        r#"{"id":null,"method":"client.reconnect","params":["a",1,2]}"#,
        r#"{"id":null,"method":"mining.notify","params":["1","03020100070605040b0a09080f0e0d0c13121110171615141b1a19181f1e1d1c","01","02",[],"20000000","207fffff","684ee180",true]}"#,
    ];
    let (mut talk, mut seed, mut works) = (Talk::new(), 7_u64, 0);
    let mut random = move |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % below
    };
    for _ in 0..20_000 {
        let mut line = lines[random(lines.len())].as_bytes().to_vec();
        for _ in 0..random(3) {
            let at = random(line.len());
            match random(3) {
                0 => line[at] = u8::try_from(random(256)).unwrap(),
                1 => drop(line.splice(at..at, [b"\"[]{},0e-"[random(9)]])),
                _ => drop(line.drain(at..(at + random(8)).min(line.len()))),
            }
        }
        let _ = talk.trunk.handle_line(talk.now, &line);
        if random(200) == 0 {
            talk = Talk::new();
        }
        talk.now = talk.now.after(SECOND);
        talk.trunk.handle_timeout(talk.now);
        works += talk.events().iter().filter(|event| matches!(event, Event::Work { .. })).count();
        talk.heard();
    }
    assert!(works > 1_000, "{works}");
}
