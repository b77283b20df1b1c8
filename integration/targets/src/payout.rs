//! A payload of the extension 0x5043, a row of a store, or an exit kit: what is read is what is written again, byte for byte, and
//! nothing else is read at all. The first byte says which: a message's kind; from 0xf0 on a row of the hub's end, the hasher's, the
//! signer's, and a kit.

use payout_channel::exit::ExitKit;
use payout_channel::message::Message;
use payout_channel::record::Record;
use payout_channel::{hasher, hub, signer};

/// No message is longer (PROTOCOL.md, "Threats").
const LONGEST: usize = 1_978;

/// # Panics
/// A finding.
pub fn run(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else { return };
    match *first {
        0xf0 => row::<hub::Event>(bytes),
        0xf1 => row::<hasher::Event>(bytes),
        0xf2 => row::<signer::Event>(bytes),
        0xf3 => kit(bytes),
        kind => message(kind, bytes),
    }
}

fn message(kind: u8, payload: &[u8]) {
    let Ok(message) = Message::decode(kind, payload) else { return };
    assert!(payload.len() <= LONGEST, "{} bytes", payload.len());
    assert_eq!((message.kind(), message.encode().as_slice()), (kind, payload));
    if let Some(signed) = message.signed() {
        let state = &signed.state;
        let value = state.value(|_| true);
        if state.check(bitcoin::Amount::MAX_MONEY, payout_channel::params::MAX_PENDINGS).is_ok() {
            assert!(value >= state.settled && state.covers(state));
        }
    }
}

fn row<E: Record>(bytes: &[u8]) {
    if let Ok(event) = E::from_row(bytes) {
        assert_eq!(event.to_row(), bytes);
    }
}

fn kit(bytes: &[u8]) {
    let Ok(kit) = ExitKit::decode(bytes) else { return };
    assert_eq!(kit.encode(), bytes);
    for pending in &kit.pendings {
        let found = pending.key_in(&kit.claim);
        let _filled = found.and_then(|key| pending.with_key(&key));
    }
}
