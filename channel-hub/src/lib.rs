//! sluice-hub: SV2 mining server with a durable ledger.
