//! `mining.notify`, parsed once for all connections that get the same bytes.

use std::sync::Arc;

use anyhow::ensure;
use bitcoin::hex::FromHex;
use mining::client::ExtendedBody;

/// A job without its extranonce.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) id: String,
    /// Header byte order.
    pub(super) prev_hash: [u8; 32],
    pub(super) body: Arc<ExtendedBody>,
    pub(super) version: u32,
    pub(super) nbits: u32,
    pub(super) ntime: u32,
}

/// The last line and what it meant.
#[derive(Debug, Default)]
pub(super) struct Cache(Vec<u8>, Option<Arc<Parsed>>);

impl Cache {
    pub(super) fn parse(&mut self, line: &[u8], params: &str) -> anyhow::Result<Arc<Parsed>> {
        if let Some(parsed) = &self.1
            && self.0 == line
        {
            return Ok(Arc::clone(parsed));
        }
        let parsed = Arc::new(parse(params)?);
        (self.0, self.1) = (line.to_vec(), Some(Arc::clone(&parsed)));
        Ok(parsed)
    }
}

/// `[id, prev_hash, coinb1, coinb2, path, version, nbits, ntime, clean]`
fn parse(params: &str) -> anyhow::Result<Parsed> {
    type Fields = (String, String, String, String, Vec<String>, String, String, String, bool);
    let (id, prev_hash, first, second, path, version, nbits, ntime, _): Fields =
        serde_json::from_str(params)?;
    let mut prev_hash = <[u8; 32]>::from_hex(&prev_hash)?;
    // SV1 sends it with the bytes of each 32-bit word reversed.
    prev_hash.chunks_exact_mut(4).for_each(<[u8]>::reverse);
    let merkle_path = path.iter().map(|node| <[u8; 32]>::from_hex(node)).collect::<Result<_, _>>()?;
    let body = ExtendedBody {
        coinbase_prefix: Vec::from_hex(&first)?,
        coinbase_suffix: Vec::from_hex(&second)?,
        merkle_path,
    };
    ensure!(!id.contains(['"', '\\']), "a job id with a quote");
    let number = |text: &str| u32::from_str_radix(text, 16);
    Ok(Parsed {
        id,
        prev_hash,
        body: Arc::new(body),
        version: number(&version)?,
        nbits: number(&nbits)?,
        ntime: number(&ntime)?,
    })
}
