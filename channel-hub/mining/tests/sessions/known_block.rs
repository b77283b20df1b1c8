//! The hashing path on a real block: Bitcoin's block 170, the first with a payment in it.

use bitcoin::hashes::Hash as _;
use bitcoin::hex::FromHex as _;
use mining::header::{CoinbaseStart, Header};

const HASH: &str = "00000000d1145790a8694403d4063f323d499e655c83426834d4ce2f8dd4a2ee";
const PREVIOUS: &str = "000000002a22cfee1f2c846adbd12b3e183d4f97683f85dad08a79780a84bd55";
const PAYMENT: &str = "f4184fc596403b9d638783cf57adfe4c75c605f6356fbc91338530e9831e9e16";
const COINBASE: &str = "01000000010000000000000000000000000000000000000000000000000000000000000000\
    ffffffff0704ffff001d0102ffffffff0100f2052a01000000434104d46c4968bde02899d2aa0963367c7a6ce34eec332b32e4\
    2e5f3407e052d64ac625da6f0718e7b302140434bd725706957c092db53805b821a85b23a7ac61725bac00000000";

/// A hash as people write it, in internal byte order.
fn hash(text: &str) -> [u8; 32] {
    text.parse::<bitcoin::BlockHash>().unwrap().to_byte_array()
}

#[test]
fn block_170_hashes_to_its_hash_from_the_parts_that_a_miner_has() {
    let coinbase = Vec::from_hex(COINBASE).unwrap();
    let (prefix, rest) = coinbase.split_at(47); // up to what its miner counted as extranonce
    let (extranonce, suffix) = rest.split_at(2);
    assert_eq!(extranonce, [0x01, 0x02]);
    let root =
        CoinbaseStart::new(prefix, &extranonce[..1]).merkle_root(&extranonce[1..], suffix, &[hash(PAYMENT)]);
    let header = Header::new(1, &hash(PREVIOUS), &root, 1_231_731_025, 0x1d00_ffff, 1_889_418_792);
    assert_eq!(header.hash().to_string(), HASH);
    assert_eq!(header.grinder().find(bitcoin::Target::MAX, 1_889_418_700..), Some(1_889_418_792));
}
