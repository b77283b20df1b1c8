//! SV2 Mining Protocol, both ends, without IO: channels, jobs, share check, vardiff.
