//! sluice-tp: turns bitcoind's block templates into SV2 Template Distribution.
