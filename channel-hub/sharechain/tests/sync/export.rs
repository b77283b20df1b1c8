//! Chains as files.

use sharechain::export::{BadFile, Reader};
use sharechain::{Chain, Params};

use crate::miner::{SECP, chain, chain_of_hub, params};

fn read(bytes: &[u8]) -> Result<Chain, BadFile> {
    let mut reader = Reader::new(bytes)?;
    let params = reader.params().clone();
    let mut chain = Chain::new(params.clone());
    while let Some((share, body)) = reader.next_share()? {
        let share = share.check(&params, &SECP).unwrap().with_body(body, &params).unwrap();
        chain.insert(&share).unwrap();
    }
    Ok(chain)
}

#[test]
fn a_chain_comes_out_of_its_file_as_it_went_in() {
    for before in [chain(60), chain_of_hub(40)] {
        let bytes = before.export(Vec::new()).unwrap();
        let after = read(&bytes).unwrap();
        assert_eq!((after.tip(), after.len()), (before.tip(), before.len()));
        assert_eq!(after.params().genesis(), before.params().genesis());
        assert_eq!(after.export(Vec::new()).unwrap(), bytes, "and makes the same file again");
    }
}

#[test]
fn the_parameters_of_every_network_come_out_as_they_went_in() {
    let council = params().locks.council;
    let networks = [
        Params::main(council.clone()),
        Params::testnet4(council.clone()),
        Params::signet(council.clone()),
        Params::regtest(council.clone()),
        Params::private_signet([1, 2, 3, 4], council),
    ];
    for params in networks {
        let bytes = Chain::new(params.clone()).export(Vec::new()).unwrap();
        let reader = Reader::new(&bytes[..]).unwrap();
        let read = Params { margin: params.margin, ..reader.params().clone() };
        assert_eq!(read, params);
    }
}

#[test]
fn a_file_that_was_cut_off_anywhere_says_so() {
    let bytes = chain(3).export(Vec::new()).unwrap();
    for length in 0..bytes.len() {
        let error = read(&bytes[..length]).unwrap_err();
        let is_named = matches!(error, BadFile::CutOff { .. } | BadFile::Magic);
        assert!(is_named, "{length}: {error}");
    }
}

#[test]
fn no_bit_of_a_file_can_be_turned_unseen() {
    let bytes = chain_of_hub(3).export(Vec::new()).unwrap();
    for at in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[at] ^= 1 << (at % 8);
        let mut reader = match Reader::new(&altered[..]) {
            Ok(reader) => reader,
            Err(_) => continue,
        };
        let seen = loop {
            match reader.next_share() {
                Ok(Some(_)) => {}
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        assert!(seen, "byte {at} of {}", bytes.len());
    }
}

#[test]
fn what_is_wrong_with_a_file_is_named() {
    let bytes = chain(3).export(Vec::new()).unwrap();
    let alter = |at: usize, to: u8| {
        let mut altered = bytes.clone();
        altered[at] = to;
        read(&altered).unwrap_err()
    };
    assert!(matches!(read(b"PK\x03\x04 not a chain").unwrap_err(), BadFile::Magic));
    assert!(matches!(alter(8, 2), BadFile::Version(2)));
    assert!(matches!(alter(10, 65), BadFile::Params(_)));
    assert!(matches!(alter(11, 0x1b), BadFile::Params(_)), "no terminal is told to do anything");
    let last = bytes.len() - 1;
    assert!(matches!(alter(last, bytes[last] ^ 1), BadFile::Checksum));
    assert!(matches!(alter(last - 32, 1), BadFile::Count { .. }));
    let too_long = Params { interval: u32::MAX, ..params() };
    let too_long = Chain::new(too_long).export(Vec::new()).unwrap();
    assert!(matches!(read(&too_long).unwrap_err(), BadFile::Params(_)), "a target could not be computed");
    let longer = [&bytes[..], &[0]].concat();
    assert!(matches!(read(&longer).unwrap_err(), BadFile::Excess));
}

#[test]
fn lengths_that_nothing_follows_take_no_memory() {
    let bytes = chain(1).export(Vec::new()).unwrap();
    let start = Chain::new(params()).export(Vec::new()).unwrap().len() - 4 - 4 - 32;
    let mut altered = bytes[..start].to_vec();
    altered.extend(u32::MAX.to_le_bytes());
    assert!(matches!(read(&altered).unwrap_err(), BadFile::Share { number: 1, .. }));
}
