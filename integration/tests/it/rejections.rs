//! What the proxy says to SV1 miners that ask for odd things or hand in what does not count.

use std::time::Duration;

use integration::sv1::{Desk, Wire};
use integration::world::chain::ADDRESS;
use integration::world::{Plan, World, bounded};
use serde_json::{Value, json};

const BOUND: Duration = Duration::from_secs(120);

fn user() -> String {
    format!("{ADDRESS}.ann")
}

/// The code of SV1's error triple.
fn code(answer: &Value) -> i64 {
    assert!(answer["result"].is_null() || answer["result"] == json!(false), "accepted: {answer}");
    answer["error"][0].as_i64().unwrap_or_else(|| panic!("no error code in {answer}"))
}

#[tokio::test]
async fn a_share_counts_once_and_each_other_one_is_refused_by_its_code() {
    let test = async {
        let world = World::start(Plan::default()).await?;
        let mut desk = Desk::open(&world.proxy.address(), &user()).await?;
        let share = desk.share();
        let accepted = desk.submit(&share).await?;
        assert_eq!((&accepted["result"], &accepted["error"]), (&json!(true), &Value::Null));
        assert_eq!(code(&desk.submit(&share).await?), 22, "a duplicate");

        let light = desk.light_share();
        assert_eq!(code(&desk.submit(&light).await?), 23, "below the difficulty");
        let share = desk.share();
        assert_eq!(code(&desk.submit(&share.clone().with(0, "nobody")).await?), 24, "another user");
        assert_eq!(code(&desk.submit(&share.clone().with(1, "ffff")).await?), 21, "an unknown job");
        assert_eq!(
            code(&desk.submit(&share.clone().with(2, "00")).await?),
            20,
            "an extranonce2 of another size"
        );
        assert_eq!(code(&desk.submit(&share.clone().with(3, "00000001")).await?), 20, "a time long ago");
        assert_eq!(code(&desk.submit(&share.clone().with(3, "ffffffff")).await?), 20, "a time far ahead");
        assert_eq!(code(&desk.submit(&share.clone().with(4, "zz")).await?), 20, "no number");
        assert_eq!(
            desk.submit(&share).await?["result"],
            json!(true),
            "after all that the miner is still welcome"
        );

        let stranger = &mut Wire::connect(&world.proxy.address()).await?;
        let unsubscribed = stranger.call("mining.submit", json!([user(), "1", "00", "00", "00"])).await?;
        assert_eq!(code(&unsubscribed), 25);

        let rejected = world.proxy.api("totals").await?["rejected"].clone();
        let count: u64 = rejected.as_object().unwrap().values().filter_map(Value::as_u64).sum();
        assert_eq!(count, 9, "{rejected}");
        Ok(())
    };
    bounded(BOUND, test).await.unwrap();
}

#[tokio::test]
async fn a_share_for_an_older_tip_is_stale() {
    let test = async {
        let world = World::start(Plan::default()).await?;
        let mut desk = Desk::open(&world.proxy.address(), &user()).await?;
        let share = desk.share();
        world.pool.chain.generate().await?;
        desk.next_job().await?;
        assert_eq!(code(&desk.submit(&share).await?), 21);
        let share = desk.share();
        assert_eq!(desk.submit(&share).await?["result"], json!(true), "a share for the new tip counts");
        Ok(())
    };
    bounded(BOUND, test).await.unwrap();
}

#[tokio::test]
async fn unknown_methods_and_ids_of_any_kind_get_an_answer_and_no_disconnect() {
    let test = async {
        let world = World::start(Plan::default()).await?;
        let mut wire = Wire::connect(&world.proxy.address()).await?;
        assert!(wire.call("mining.unheard_of", json!([])).await?["error"].is_array());
        for id in [json!("text"), json!(-1), json!(1.5), json!(null), json!("ü\"\\")] {
            let answer = wire.call_with_id(id.clone(), "mining.ping", json!([])).await?;
            assert_eq!(answer["id"], id);
            assert!(answer["error"].is_null(), "{answer}");
        }
        let configured = wire.call("mining.configure", json!([
            ["version-rolling", "minimum-difficulty", "subscribe-extranonce", "moon-phase"],
            { "version-rolling.mask": "ffffffff", "version-rolling.min-bit-count": 2, "minimum-difficulty.value": 0.01 }
        ]));
        let configured = configured.await?["result"].clone();
        assert_eq!(configured["version-rolling"], json!(true));
        assert_eq!(configured["minimum-difficulty"], json!(true));
        assert_eq!(configured["moon-phase"], json!(false));
        let mask = u32::from_str_radix(configured["version-rolling.mask"].as_str().unwrap(), 16)?;
        assert_eq!(mask & !0x1fff_ffe0, 0, "bits outside BIP 323's: {mask:08x}");
        assert!(wire.call("mining.suggest_difficulty", json!([0.5])).await?["error"].is_null());
        assert!(wire.call("mining.extranonce.subscribe", json!([])).await?["error"].is_null());
        assert!(wire.stays_open(Duration::from_millis(500)).await);
        Ok(())
    };
    bounded(BOUND, test).await.unwrap();
}

#[tokio::test]
async fn garbage_costs_its_sender_the_connection_at_most() {
    let test = async {
        let mut world = World::start(Plan::default()).await?;
        let mut desk = Desk::open(&world.proxy.address(), &user()).await?;
        let endless = vec![b'x'; 4 << 20];
        for garbage in [
            &b"\n\n\n"[..],
            b"GET / HTTP/1.1\r\n\r\n",
            b"{\"id\":1",
            &[0xff; 100],
            b"[]\n{}\nnull\n",
            &endless,
        ] {
            let mut wire = Wire::connect(&world.proxy.address()).await?;
            let sent = wire.send(garbage).await; // the proxy may have closed it before all was sent
            drop((sent, wire));
        }
        let share = desk.share();
        assert_eq!(desk.submit(&share).await?["result"], json!(true), "others do not notice");
        world.proxy.process.ensure_running()
    };
    bounded(BOUND, test).await.unwrap();
}

#[tokio::test]
async fn a_password_may_ask_for_a_difficulty_below_the_upstreams() {
    let test = async {
        let world = World::start(Plan::default()).await?;
        let mut wire = Wire::connect(&world.proxy.address()).await?;
        wire.call("mining.subscribe", json!([])).await?;
        wire.call("mining.authorize", json!([user(), "d=0.000005"])).await?;
        let set = wire.notification("mining.set_difficulty").await?;
        let difficulty = set["params"][0].as_f64().unwrap();
        assert!((0.000_004..=0.000_005).contains(&difficulty), "{difficulty}");
        Ok(())
    };
    bounded(BOUND, test).await.unwrap();
}
