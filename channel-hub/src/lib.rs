//! sluice-hub: SV2 mining server with a durable ledger.
//!
//! | module | what for |
//! |---|---|
//! | [`config`] | what the operator decides |
//! | [`hub`] | the program: start, run, drain |
//! | [`supply`] | templates in, jobs out, from the first template provider that works |
//! | [`feed`] | where work goes from the centre to every session |
//! | [`miners`] | connections of miners and proxies |
//! | [`found`] | found blocks: kept, sent, followed |
//! | [`prefixes`] | extranonce prefixes that nobody had before |
//! | [`identity`] | whose work it is |
//! | [`reward`] | where the coinbase pays |
//! | [`succession`] | how another process takes over |
//! | [`status`] | what the pages show |
//! | [`sharechain_file`] | `sluice-hub sharechain`: looks at an exported chain |

pub mod config;
pub mod feed;
pub mod found;
pub mod hub;
pub mod identity;
pub mod miners;
pub mod prefixes;
pub mod reward;
pub mod sharechain_file;
pub mod status;
pub mod succession;
pub mod supply;

pub use hub::Hub;
