//! sluice-proxy: SV1 miners in, one SV2 upstream out.

pub mod slices;
pub mod sv1;
