//! The two submit messages as they come over the wire, worker name included.
//!
//! This is the one message that comes thousands of times a second, so it is read in place: SRI's derived
//! decoder allocates for every field. Layout: SV2 spec §5.3.11-5.3.12, all integers little-endian.

use crate::share::Choice;
use stratum_core::extensions_sv2::{EXTENSION_TYPE_WORKER_HASHRATE_TRACKING, TLV_FIELD_TYPE_USER_IDENTITY};

/// Longest worker name, in bytes (extension 0x0002).
pub const MAX_WORKER: usize = 32;

/// Bytes of the fields that both messages begin with.
const FIXED: usize = 24;

/// SubmitSharesStandard or SubmitSharesExtended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submission<'a> {
    /// Mining channel.
    pub channel_id: u32,
    /// The miner's number for this submission.
    pub sequence_number: u32,
    /// Job worked on.
    pub job_id: u32,
    /// What the miner chose.
    pub choice: Choice<'a>,
    /// Who found it, below the channel's user identity.
    pub worker: Option<&'a str>,
}

impl<'a> Submission<'a> {
    /// Reads SubmitSharesStandard. `None` if it is too short; what follows the fields is not looked at.
    pub fn standard(payload: &'a [u8]) -> Option<Self> {
        let (fixed, _) = payload.split_first_chunk::<FIXED>()?;
        let field = |n: usize| u32::from_le_bytes([fixed[n], fixed[n + 1], fixed[n + 2], fixed[n + 3]]);
        let choice = Choice { nonce: field(12), ntime: field(16), version: field(20), extranonce: &[] };
        Some(Self { channel_id: field(0), sequence_number: field(4), job_id: field(8), choice, worker: None })
    }

    /// Reads SubmitSharesExtended. `None` if it is too short or the extranonce longer than 32 bytes. The worker
    /// name is looked for only if extension 0x0002 was negotiated.
    pub fn extended(payload: &'a [u8], worker_names: bool) -> Option<Self> {
        let mut submission = Self::standard(payload)?;
        let (&length, rest) = payload[FIXED..].split_first()?;
        if length > 32 {
            return None;
        }
        let (extranonce, tlvs) = rest.split_at_checked(usize::from(length))?;
        submission.choice.extranonce = extranonce;
        submission.worker = if worker_names { worker(tlvs) } else { None };
        Some(submission)
    }
}

/// The worker name among the optional fields (TLV: type U16 and U8, length U16, value; extension 0x0002).
///
/// The specification's types are little-endian and SRI sends them so, but its example has them big-endian. The
/// two bytes of 0x0002 tell which. A name that is too long or no UTF-8 is none.
fn worker(mut tlvs: &[u8]) -> Option<&str> {
    let little = EXTENSION_TYPE_WORKER_HASHRATE_TRACKING.to_le_bytes();
    let big = EXTENSION_TYPE_WORKER_HASHRATE_TRACKING.to_be_bytes();
    loop {
        let ([e0, e1, field, l0, l1], rest) = tlvs.split_first_chunk::<5>()?;
        let is_big = [*e0, *e1] == big;
        let length = if is_big { u16::from_be_bytes([*l0, *l1]) } else { u16::from_le_bytes([*l0, *l1]) };
        let (value, rest) = rest.split_at_checked(usize::from(length))?;
        if (is_big || [*e0, *e1] == little) && *field == TLV_FIELD_TYPE_USER_IDENTITY {
            let name = std::str::from_utf8(value).ok()?;
            return (!name.is_empty() && name.len() <= MAX_WORKER).then_some(name);
        }
        tlvs = rest;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use stratum_core::binary_sv2::to_bytes;
    use stratum_core::mining_sv2::{SubmitSharesExtendedOwned, SubmitSharesStandard};
    use stratum_core::parsers_sv2::Tlv;

    fn extended(tlvs: &[u8]) -> Vec<u8> {
        let message = SubmitSharesExtendedOwned {
            channel_id: 2,
            sequence_number: 3,
            job_id: 4,
            nonce: 5,
            ntime: 6,
            version: 7,
            extranonce: vec![8; 16].try_into().unwrap(),
        };
        [to_bytes(message).unwrap(), tlvs.to_vec()].concat()
    }

    fn worker_in(tlvs: &[u8]) -> Option<String> {
        Submission::extended(&extended(tlvs), true).unwrap().worker.map(str::to_owned)
    }

    #[test]
    fn it_reads_what_sri_writes() {
        let choice = Choice { nonce: 5, ntime: 6, version: 7, extranonce: &[8; 16] };
        let mut expected = Submission { channel_id: 2, sequence_number: 3, job_id: 4, choice, worker: None };
        assert_eq!(Submission::extended(&extended(&[]), true), Some(expected));
        expected.choice.extranonce = &[];
        let standard = SubmitSharesStandard {
            channel_id: 2,
            sequence_number: 3,
            job_id: 4,
            nonce: 5,
            ntime: 6,
            version: 7,
        };
        assert_eq!(Submission::standard(&to_bytes(standard).unwrap()), Some(expected));
    }

    #[test]
    fn the_worker_name_is_found_in_either_byte_order_and_behind_other_fields() {
        let name = Tlv::new(2, 1, b"rig7".to_vec()).encode().unwrap();
        let other = Tlv::new(0x4321, 9, vec![1, 2, 3]).encode().unwrap();
        assert_eq!(worker_in(&name).as_deref(), Some("rig7"));
        assert_eq!(worker_in(&[other, name].concat()).as_deref(), Some("rig7"));
        assert_eq!(worker_in(b"\x00\x02\x01\x00\x0aWorker_001").as_deref(), Some("Worker_001"));
    }

    #[test]
    fn a_bad_worker_name_is_none_but_the_share_stays() {
        for tlvs in [
            &b"\x02\x00\x01\x04"[..],
            b"\x02\x00\x01\x04\x00rig",
            b"\x02\x00\x01\x01\x00\xff",
            b"\x02\x00\x01\x00\x00",
        ] {
            assert_eq!(worker_in(tlvs), None);
        }
        let long = Tlv::new(2, 1, vec![b'x'; 33]).encode().unwrap();
        assert_eq!(worker_in(&long), None);
    }

    #[test]
    fn without_the_extension_nobody_looks_for_a_name() {
        let name = Tlv::new(2, 1, b"rig7".to_vec()).encode().unwrap();
        assert_eq!(Submission::extended(&extended(&name), false).unwrap().worker, None);
    }

    #[test]
    fn a_message_cut_short_is_none() {
        let whole = extended(&[]);
        assert!((0..whole.len()).all(|length| Submission::extended(&whole[..length], true).is_none()));
        let mut too_long = whole;
        too_long[FIXED] = 33;
        too_long.resize(100, 0);
        assert_eq!(Submission::extended(&too_long, true), None);
    }
}
