//! Bytes that make no sense: neither end panics, whatever comes in.

use crate::world::*;
use link::{Frame, Received};
use mining::WorkUpdate;
use stratum_core::codec_sv2::SerializedFrame;

/// A frame of the base protocol with this payload; `None` if the payload cannot be framed.
fn framed(message_type: u8, payload: &[u8]) -> Option<Received> {
    let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
    let bytes = [&[0, 0x80, message_type][..], &length[..3], payload].concat();
    SerializedFrame::from_bytes(bytes).ok().map(Received::new)
}

fn mutated(numbers: &mut Numbers, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    match numbers.below(4) {
        0 => bytes.truncate(usize::try_from(numbers.below(bytes.len() as u64 + 1)).unwrap()),
        1 => (0..numbers.below(40)).for_each(|_| bytes.push(numbers.byte())),
        _ => (0..=numbers.below(4)).for_each(|_| {
            if !bytes.is_empty() {
                let at = usize::try_from(numbers.below(bytes.len() as u64)).unwrap();
                bytes[at] = numbers.byte();
            }
        }),
    }
    bytes
}

/// Every frame that a short session sends, both ways.
fn dialogue() -> (Vec<Frame>, Vec<Frame>) {
    let mut pair = Pair::with_channel();
    let mut asked = Vec::new();
    pair.client.open_standard(&request("device")).unwrap();
    pair.client.update(2, 5.0, any_target());
    for seed in 0..3 {
        let share = grind(&pair.job(2), seed);
        pair.client.submit(2, share.job_id, &share.choice(), Some("rig")).unwrap();
        pair.client.submit(2, 9, &share.choice(), None).unwrap();
    }
    pair.client.close(2, "enough");
    while let Some(frame) = pair.client.poll_send() {
        pair.server.handle(pair.now, &mut frame.received(), &[2]).unwrap();
        asked.push(frame);
    }
    pair.commits = true;
    pair.apply(&WorkUpdate::Job(job(2, None)));
    pair.apply(&WorkUpdate::Tip { tip: tip(2, HARD, pair.now), job_id: 2 });
    pair.server.renew_extranonce_prefix(pair.now, 3);
    pair.server.reconnect("elsewhere", 1);
    pair.settle();
    (asked, pair.sent)
}

#[test]
fn a_server_survives_every_mutation_of_what_clients_send() {
    let (asked, _) = dialogue();
    let mut numbers = Numbers::new(7);
    let (mut handled, mut refused) = (0, 0);
    for _ in 0..3_000 {
        let mut pair = Pair::with_channel();
        for _ in 0..5 {
            let frame = &asked[usize::try_from(numbers.below(asked.len() as u64)).unwrap()];
            let payload = mutated(&mut numbers, &frame.as_bytes()[6..]);
            let Some(mut received) = framed(frame.message_type(), &payload) else { continue };
            match pair.server.handle(pair.now, &mut received, &[2]) {
                Ok(()) => handled += 1,
                Err(_) => refused += 1,
            }
        }
        pair.pump();
        pair.server.apply(pair.now, &WorkUpdate::Job(job(2, None)));
        pair.server.handle_timeout(pair.now.after(std::time::Duration::from_secs(3600)));
    }
    assert!(handled > 3_000 && refused > 1_000, "{handled} handled, {refused} refused");
}

#[test]
fn a_client_survives_every_mutation_of_what_servers_send() {
    let (_, sent) = dialogue();
    let mut numbers = Numbers::new(8);
    let (mut handled, mut refused) = (0, 0);
    for _ in 0..3_000 {
        let mut pair = Pair::with_channel();
        pair.client.open_extended(&request("more")).unwrap();
        for _ in 0..5 {
            let frame = &sent[usize::try_from(numbers.below(sent.len() as u64)).unwrap()];
            let payload = mutated(&mut numbers, &frame.as_bytes()[6..]);
            let Some(mut received) = framed(frame.message_type(), &payload) else { continue };
            match pair.client.handle(pair.now, &mut received) {
                Ok(()) => handled += 1,
                Err(_) => refused += 1,
            }
        }
        while let Some(event) = pair.client.poll_event() {
            if let mining::client::Event::Job(job) = event {
                let found = vec![0; job.extranonce_size()];
                let choice = mining::share::Choice { nonce: 1, ntime: 2, version: 3, extranonce: &found };
                let _ = job.check(&choice, pair.now);
                job.header(&choice);
            }
        }
    }
    assert!(handled > 3_000 && refused > 500, "{handled} handled, {refused} refused");
}

#[test]
fn every_message_type_with_random_bytes_is_survived() {
    let mut numbers = Numbers::new(9);
    for _ in 0..200 {
        let mut pair = Pair::with_channel();
        for message_type in 0..=255 {
            let payload: Vec<u8> = (0..numbers.below(120)).map(|_| numbers.byte()).collect();
            let Some(mut received) = framed(message_type, &payload) else { continue };
            let _ = pair.server.handle(pair.now, &mut received, &[2]);
            let Some(mut received) = framed(message_type, &payload) else { continue };
            let _ = pair.client.handle(pair.now, &mut received);
        }
    }
}
