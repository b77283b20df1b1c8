//! A world of real programs for tests and demo: bitcoind, template provider, hub, proxy, miners.
