//! Which channels are opened, and with what code they are not.

use crate::world::*;
use mining::client::{self, OpenRequest};
use mining::server::{Config, Event, IdentityRefusal};
use mining::{ExtranoncePrefixes, Now, Target};
use std::sync::Arc;

fn picky() -> Config {
    let identity = Arc::new(|identity: &str| match identity {
        "" => Err(IdentityRefusal::Invalid),
        "stranger" => Err(IdentityRefusal::Unknown),
        _ => Ok(()),
    });
    Config { max_channels: 2, ..Config::new(6.0, 1e-9, identity).unwrap() }
}

fn pair(flags: u32) -> (Pair, Now) {
    let now = start();
    (Pair::new(now, picky(), flags, work_on(1, 1, HARD, now)), now)
}

/// The code that asking for an extended channel is answered with; `None` if it is opened.
fn code_for(pair: &mut Pair, request: &OpenRequest<'_>) -> Option<String> {
    pair.client.open_extended(request).unwrap();
    answer(pair)
}

fn answer(pair: &mut Pair) -> Option<String> {
    pair.client_events.clear();
    pair.settle();
    match &pair.client_events[0] {
        client::Event::Opened(_) => None,
        client::Event::OpenFailed { code, .. } => Some(code.clone()),
        other => panic!("no answer to a request: {other:?}"),
    }
}

#[test]
fn every_request_that_cannot_be_met_has_its_code() {
    let good = request("farm");
    let hardest =
        Target::from_le_bytes([1; 1].iter().copied().chain([0; 31]).collect::<Vec<_>>().try_into().unwrap());
    let bad = [
        ("invalid-user-identity", OpenRequest { user_identity: "", ..good }),
        ("unknown-user", OpenRequest { user_identity: "stranger", ..good }),
        ("min-extranonce-size-too-large", OpenRequest { min_extranonce_size: 17, ..good }),
        ("min-extranonce-size-too-large", OpenRequest { min_extranonce_size: u16::MAX, ..good }),
        ("max-target-out-of-range", OpenRequest { max_target: Target::ZERO, ..good }),
        ("max-target-out-of-range", OpenRequest { max_target: hardest, ..good }),
        ("invalid-nominal-hashrate", OpenRequest { nominal_hash_rate: f32::NAN, ..good }),
        ("invalid-nominal-hashrate", OpenRequest { nominal_hash_rate: f32::INFINITY, ..good }),
        ("invalid-nominal-hashrate", OpenRequest { nominal_hash_rate: -1.0, ..good }),
    ];
    let (mut pair, _) = pair(0);
    for (code, request) in bad {
        assert_eq!(code_for(&mut pair, &request).as_deref(), Some(code));
        let told = pair
            .server_events
            .drain(..)
            .any(|event| matches!(event, Event::Refused { code: told } if told == code));
        assert!(told, "the shell is not told of {code}");
    }
    assert_eq!(code_for(&mut pair, &OpenRequest { min_extranonce_size: 16, ..good }), None);
    assert_eq!(pair.server.channels(), 1);
}

#[test]
fn a_connection_has_a_bounded_number_of_channels() {
    let (mut pair, _) = pair(0);
    assert_eq!(code_for(&mut pair, &request("a")), None);
    assert_eq!(code_for(&mut pair, &request("b")), None);
    assert_eq!(code_for(&mut pair, &request("c")).as_deref(), Some("channel-capacity-exhausted"));
    pair.client.close(2, "");
    pair.settle();
    assert_eq!(code_for(&mut pair, &request("c")), None);
    assert_eq!(pair.job(4).extranonce_prefix()[7], 2, "a closed channel's prefix is not used again");
}

#[test]
fn without_an_extranonce_prefix_there_is_no_channel() {
    let now = start();
    let prefixes = Arc::new(ExtranoncePrefixes::new(0, 0..1));
    let mut pair = Pair::with_prefixes(now, config(), 0, work_on(1, 1, HARD, now), Arc::clone(&prefixes));
    assert_eq!(code_for(&mut pair, &request("a")), None);
    assert_eq!(code_for(&mut pair, &request("b")).as_deref(), Some("channel-capacity-exhausted"));
    prefixes.grant_until(10);
    assert_eq!(code_for(&mut pair, &request("b")), None);
}

#[test]
fn the_flags_of_the_connection_decide_which_kind_of_channel_it_may_have() {
    let (mut standard_only, _) = pair(mining::REQUIRES_STANDARD_JOBS);
    let code = code_for(&mut standard_only, &request("a"));
    assert_eq!(code.as_deref(), Some("extended-channels-not-supported-for-standard-jobs"));
    let (mut own_work, _) = pair(mining::REQUIRES_WORK_SELECTION);
    own_work.client.open_standard(&request("a")).unwrap();
    let code = answer(&mut own_work);
    assert_eq!(code.as_deref(), Some("standard-channels-not-supported-for-custom-work"));
    assert_eq!(code_for(&mut own_work, &request("a")), None);
}

#[test]
fn a_client_closes_a_channel_whose_extranonce_does_not_suit_it() {
    let now = start();
    let mut pair = Pair::new(now, config(), 0, work_on(1, 1, HARD, now));
    pair.client.open_extended(&request("a")).unwrap();
    pair.pump();
    pair.deliver();
    let mut answer = None;
    pair.now = pair.now.after(pair.latency);
    pair.deliver();
    while let Some(frame) = pair.server.poll_send() {
        if frame.message_type() == stratum_core::mining_sv2::MESSAGE_TYPE_OPEN_EXTENDED_MINING_CHANNEL_SUCCESS
        {
            answer = Some(frame);
        }
    }
    let mut received = answer.unwrap().received();
    received.payload()[40] = 4; // extranonce_size, behind request, channel and target
    pair.client.handle(pair.now, &mut received).unwrap();
    pair.settle();
    let failed = |event: &client::Event| matches!(event, client::Event::OpenFailed { code, .. } if code == "unsuitable-extranonce-size");
    assert!(pair.client_events.iter().any(failed));
    assert_eq!(pair.server.channels(), 0);
}

#[test]
fn a_server_of_the_previous_generation_names_no_group_and_is_understood() {
    let success = stratum_core::mining_sv2::OpenExtendedMiningChannelSuccessOwned {
        request_id: 1,
        channel_id: 5,
        target: [0xff; 32].into(),
        extranonce_size: 8,
        extranonce_prefix: vec![1, 2, 3].try_into().unwrap(),
        group_channel_id: 0,
    };
    let message = stratum_core::parsers_sv2::MiningOwned::OpenExtendedMiningChannelSuccess(success);
    let whole = link::Frame::message(message).unwrap();
    let bytes = whole.as_bytes();
    let mut old = bytes[..bytes.len() - 4].to_vec();
    old[3] -= 4;
    let frame = stratum_core::codec_sv2::SerializedFrame::from_bytes(old).unwrap();
    let mut session = client::Session::new(&[]);
    session.open_extended(&request("a")).unwrap();
    session.handle(start(), &mut link::Received::new(frame)).unwrap();
    let Some(client::Event::Opened(opened)) = session.poll_event() else { panic!("not opened") };
    assert_eq!(
        (opened.channel_id, opened.extranonce_size, &opened.extranonce_prefix[..]),
        (5, 8, &[1, 2, 3][..])
    );
}
