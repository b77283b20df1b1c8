//! bitcoind: typed JSON-RPC, cookie authentication, tip following.
