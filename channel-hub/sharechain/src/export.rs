//! A chain as a file, for a person or another program to look at: `sluice-hub sharechain verify FILE`.
//!
//! All integers are little-endian.
//!
//! | bytes | field |
//! |---|---|
//! | 8 | `SLUICESC` |
//! | 2 | version, `u16`: 1 |
//! | 1 + n | the network's name: its length in bytes, at most 64, and UTF-8 |
//! | 2 + n | the network's parameters: their length, `u16`, and every value in the order of PROTOCOL.md, as hashed for the genesis share's id |
//! | 32 | the genesis share's id |
//! | … | shares, each after its parent and its uncles, but for those below the first, if its parent is not the genesis share; in the order in which the writer took them where that matters, as for the first seen of two tips |
//! | 4 | 0: the end |
//! | 4 | number of shares, `u32` |
//! | 32 | double SHA256 of all bytes before |
//!
//! A share is 4 bytes of length, `u32`, at least 1, of what follows: the share and its body, as they travel. A share that
//! carries no lock sheet has an empty body, two bytes of zero.
//!
//! The parameters come from the file, so a file proves that its chain keeps the rules that it states. Whether these are
//! one's network's shows the genesis share's id, which binds them.

use bitcoin::consensus::encode;
use bitcoin::hashes::{Hash as _, HashEngine as _, sha256, sha256d};
use bitcoin::io::{self, Read, Write};
use bitcoin::{Amount, CompactTarget, XOnlyPublicKey};
use lock::{Council, LockSheet, Pool};
use std::fmt;

use crate::chain::Chain;
use crate::id::ShareId;
use crate::params::{Params, Retarget};
use crate::share::{Body, MAX_SHARE, Share};

const MAGIC: [u8; 8] = *b"SLUICESC";
const VERSION: u16 = 1;
/// Longest name of a network, in bytes.
const MAX_NAME: usize = 64;
/// Longest encoded parameters, in bytes.
const MAX_PARAMS: usize = 1024;
/// Longest interval between shares, in seconds.
const MAX_INTERVAL: u32 = 1 << 14;
/// Longest body, in bytes.
const MAX_BODY: usize = 2 + 32 * 65_535;

/// Writes a file.
#[derive(Debug)]
pub struct Writer<W> {
    out: Hashed<W>,
    count: u32,
}

impl<W: Write> Writer<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// What the sink says.
    pub fn new(sink: W, params: &Params) -> io::Result<Self> {
        let mut out = Hashed { inner: sink, engine: sha256d::Hash::engine() };
        let name = params.name.get(..MAX_NAME).unwrap_or(params.name);
        let encoded = params.encoded();
        out.write_all(&MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        out.write_all(&[u8::try_from(name.len()).unwrap_or(0)])?;
        out.write_all(name.as_bytes())?;
        out.write_all(&u16::try_from(encoded.len()).unwrap_or(u16::MAX).to_le_bytes())?;
        out.write_all(&encoded)?;
        out.write_all(&params.genesis().to_bytes())?;
        Ok(Self { out, count: 0 })
    }

    /// Adds a share, as it travels, with the sheet that it carries.
    ///
    /// # Errors
    /// What the sink says.
    pub fn add(&mut self, encoded: &[u8], sheet: Option<&LockSheet>) -> io::Result<()> {
        let body =
            encode::serialize(&Body { locks: sheet.map(|sheet| sheet.locks().to_vec()).unwrap_or_default() });
        let length = u32::try_from(encoded.len() + body.len()).unwrap_or(u32::MAX);
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(encoded)?;
        self.out.write_all(&body)?;
        self.count += 1;
        Ok(())
    }

    /// Ends the file.
    ///
    /// # Errors
    /// What the sink says.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&0_u32.to_le_bytes())?;
        self.out.write_all(&self.count.to_le_bytes())?;
        let Hashed { mut inner, engine } = self.out;
        inner.write_all(&sha256d::Hash::from_engine(engine).to_byte_array())?;
        inner.flush()?;
        Ok(inner)
    }
}

impl Chain {
    /// Writes all shares of the tree, those off the best branch too. A tree that was pruned begins with the lowest share of
    /// the best branch, and without what does not descend from it.
    ///
    /// # Errors
    /// What the sink says.
    pub fn export<W: Write>(&self, sink: W) -> io::Result<W> {
        let mut writer = Writer::new(sink, self.params())?;
        let tip = self.standing(&self.tip()).map_or(0, |standing| standing.height);
        let root = self.at_height(self.lowest()).unwrap_or_else(|| self.tip());
        for id in (self.lowest()..=tip).flat_map(|height| self.row(height)) {
            let encoded = self.encoded(&id).filter(|encoded| !encoded.is_empty());
            if let Some(encoded) = encoded.filter(|_| self.is_on_branch(&root, &id)) {
                writer.add(encoded, self.sheet_of(&id).map(|sheet| &**sheet))?;
            }
        }
        writer.finish()
    }
}

/// Why bytes are no such file. Says where: a share's number counts from 1.
#[derive(Debug, thiserror::Error)]
pub enum BadFile {
    /// Not one at all.
    #[error("this is no exported sharechain: it does not begin with SLUICESC")]
    Magic,
    /// Of a later version of the program.
    #[error("format version {0} is newer than this program, which reads version {VERSION}")]
    Version(u16),
    /// The name, or a parameter.
    #[error("the network's parameters cannot be read: {0}")]
    Params(String),
    /// The parameters are not those whose hash stands there.
    #[error("the genesis share's id is {stated}, but the parameters make {made}: the file was altered")]
    Genesis {
        /// What stands there.
        stated: ShareId,
        /// What the parameters make.
        made: ShareId,
    },
    /// Something that is no share.
    #[error("share number {number} cannot be read: {reason}")]
    Share {
        /// Which.
        number: u32,
        /// Why.
        reason: String,
    },
    /// It ends before its end.
    #[error("the file ends within share number {number}: it was cut off")]
    CutOff {
        /// Where.
        number: u32,
    },
    /// Another number of shares than there are.
    #[error("the file says that it holds {stated} shares, and holds {has}")]
    Count {
        /// What it says.
        stated: u32,
        /// How many came.
        has: u32,
    },
    /// The bytes are not the ones that were written.
    #[error("the checksum does not fit: the file was damaged or altered")]
    Checksum,
    /// There is more.
    #[error("bytes follow after the end")]
    Excess,
    /// Reading failed.
    #[error("cannot read: {0}")]
    Read(io::Error),
}

/// Reads a file, a share at a time, so that memory does not grow with it.
#[derive(Debug)]
pub struct Reader<R> {
    source: Hashed<R>,
    /// What the network is called.
    name: String,
    params: Params,
    count: u32,
}

impl<R: Read> Reader<R> {
    /// Reads up to the first share.
    ///
    /// # Errors
    /// See [`BadFile`].
    pub fn new(source: R) -> Result<Self, BadFile> {
        let mut source = Hashed { inner: source, engine: sha256d::Hash::engine() };
        let magic = source.array::<8>().map_err(|why| match why.kind() {
            io::ErrorKind::UnexpectedEof => BadFile::Magic,
            _ => BadFile::Read(why),
        })?;
        if magic != MAGIC {
            return Err(BadFile::Magic);
        }
        let version = u16::from_le_bytes(source.array().map_err(cut_off(0))?);
        if version != VERSION {
            return Err(BadFile::Version(version));
        }
        let name = read_name(&mut source)?;
        let length = usize::from(u16::from_le_bytes(source.array().map_err(cut_off(0))?));
        if length > MAX_PARAMS {
            return Err(BadFile::Params(format!("{length} bytes are too many")));
        }
        let params =
            decode_params(&name, &source.bytes(length).map_err(cut_off(0))?).map_err(BadFile::Params)?;
        let stated = ShareId::from_bytes(source.array().map_err(cut_off(0))?);
        let made = params.genesis();
        if stated != made {
            return Err(BadFile::Genesis { stated, made });
        }
        Ok(Self { source, name, params, count: 0 })
    }

    /// What the network is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The network's rules.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Shares read so far.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The next share with its body; none at the end, which was checked then.
    ///
    /// # Errors
    /// See [`BadFile`].
    pub fn next_share(&mut self) -> Result<Option<(Share, Body)>, BadFile> {
        let number = self.count.saturating_add(1);
        let length = u32::from_le_bytes(self.source.array().map_err(cut_off(number))?);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length == 0 {
            return self.end().map(|()| None);
        }
        let malformed = |reason: String| BadFile::Share { number, reason };
        if length > MAX_SHARE + MAX_BODY {
            return Err(malformed(format!("{length} bytes are more than any share has")));
        }
        let bytes = self.source.bytes(length).map_err(cut_off(number))?;
        let (share, used) =
            encode::deserialize_partial::<Share>(&bytes).map_err(|why| malformed(why.to_string()))?;
        let body =
            encode::deserialize(&bytes[used..]).map_err(|why| malformed(format!("its body: {why}")))?;
        self.count = number;
        Ok(Some((share, body)))
    }

    fn end(&mut self) -> Result<(), BadFile> {
        let number = self.count.saturating_add(1);
        let stated = u32::from_le_bytes(self.source.array().map_err(cut_off(number))?);
        let made = sha256d::Hash::from_engine(self.source.engine.clone()).to_byte_array();
        let checksum: [u8; 32] = self.source.array().map_err(cut_off(number))?;
        if stated != self.count {
            return Err(BadFile::Count { stated, has: self.count });
        }
        if checksum != made {
            return Err(BadFile::Checksum);
        }
        match self.source.inner.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(BadFile::Excess),
            Err(why) => Err(BadFile::Read(why)),
        }
    }
}

fn cut_off(number: u32) -> impl Fn(io::Error) -> BadFile {
    move |why| match why.kind() {
        io::ErrorKind::UnexpectedEof => BadFile::CutOff { number },
        _ => BadFile::Read(why),
    }
}

fn read_name<R: Read>(source: &mut Hashed<R>) -> Result<String, BadFile> {
    let [length] = source.array().map_err(cut_off(0))?;
    if usize::from(length) > MAX_NAME {
        return Err(BadFile::Params("the name is longer than 64 bytes".to_owned()));
    }
    let name = source.bytes(usize::from(length)).map_err(cut_off(0))?;
    let name = String::from_utf8(name).map_err(|_| BadFile::Params("the name is not text".to_owned()))?;
    // It is shown on terminals.
    if name.chars().any(char::is_control) {
        return Err(BadFile::Params("the name has control characters".to_owned()));
    }
    Ok(name)
}

/// Reads what [`Params::encoded`] wrote, all of it.
fn decode_params(name: &str, mut bytes: &[u8]) -> Result<Params, String> {
    let from = &mut bytes;
    let magic = take(from)?;
    let period = take_u32(from)?;
    let [needed, keys] = take(from)?;
    let keys = (0..keys).map(|_| {
        XOnlyPublicKey::from_slice(&take::<32>(from)?).map_err(|_| "a key of the council is none".to_owned())
    });
    let keys = keys.collect::<Result<Vec<_>, String>>()?;
    let delay = u16::from_le_bytes(take(from)?);
    let council = Council::new(needed, keys, delay).map_err(|why| why.to_string())?;
    let params = Params {
        name: known_name(name),
        locks: Pool { magic, period, council },
        genesis_time: take_u32(from)?,
        anchor: CompactTarget::from_consensus(take_u32(from)?),
        easiest: CompactTarget::from_consensus(take_u32(from)?),
        interval: take_u32(from)?,
        half_life: take_u32(from)?,
        window_blocks: take_u32(from)?,
        window_shares: take_u32(from)?,
        lag: take_u32(from)?,
        uncle_depth: take_u32(from)?,
        sheet_gap: take_u32(from)?,
        sheet_reach: take_u32(from)?,
        halving: take_u32(from)?,
        max_uncles: take::<1>(from)?[0],
        max_outputs: take::<1>(from)?[0],
        limit: Amount::from_sat(u64::from_le_bytes(take(from)?)),
        keep_limit: Amount::from_sat(u64::from_le_bytes(take(from)?)),
        retarget: match take::<1>(from)? {
            [0] => Retarget::Period,
            [1] => Retarget::Any,
            [2] => Retarget::Least,
            _ => return Err("no such way of retargeting".to_owned()),
        },
        // Not a rule: nothing of a file is pruned.
        margin: u32::MAX / 2,
    };
    if !from.is_empty() {
        return Err("more bytes than parameters".to_owned());
    }
    check_params(&params)?;
    Ok(params)
}

/// Values with which the rules cannot be computed at all.
fn check_params(params: &Params) -> Result<(), String> {
    let positive = [
        ("locks of a period", params.locks.period),
        ("interval", params.interval),
        ("half-life", params.half_life),
        ("lag", params.lag),
        ("halving", params.halving),
        ("window", params.window_shares),
        ("outputs", params.max_outputs.into()),
    ];
    match positive.into_iter().find(|(_, value)| *value == 0) {
        Some((what, _)) => Err(format!("{what}: 0")),
        // So that a height of 32 bits times it, with 16 bits after the point, fits a signed integer of 64.
        None if params.interval > MAX_INTERVAL => {
            Err(format!("an interval of {} s, which is more than {MAX_INTERVAL}", params.interval))
        }
        None if params.locks.period > u32::from(u16::MAX) => {
            Err("a period is longer than 65,535 blocks".to_owned())
        }
        None if [
            params.window_shares,
            params.sheet_reach,
            params.sheet_gap,
            params.uncle_depth,
            params.lag,
        ]
        .into_iter()
        .any(|shares| shares > 1 << 24) =>
        {
            Err("a window, lag, reach, gap or uncle depth of more than 2^24 shares".to_owned())
        }
        None => Ok(()),
    }
}

fn known_name(name: &str) -> &'static str {
    let known = ["main", "testnet4", "signet", "regtest", "private signet"];
    known.into_iter().find(|known| *known == name).unwrap_or("another network")
}

fn take<const N: usize>(from: &mut &[u8]) -> Result<[u8; N], String> {
    let (head, rest) = from.split_first_chunk::<N>().ok_or("they end too early")?;
    *from = rest;
    Ok(*head)
}

fn take_u32(from: &mut &[u8]) -> Result<u32, String> {
    Ok(u32::from_le_bytes(take(from)?))
}

/// Hashes what goes through it.
struct Hashed<T> {
    inner: T,
    engine: sha256::HashEngine,
}

impl<T> fmt::Debug for Hashed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hashed").field("bytes", &self.engine.n_bytes_hashed()).finish_non_exhaustive()
    }
}

impl<W: Write> Hashed<W> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.engine.input(bytes);
        self.inner.write_all(bytes)
    }
}

impl<R: Read> Hashed<R> {
    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes)?;
        self.engine.input(&bytes);
        Ok(bytes)
    }

    /// Grows with what comes, so that a number alone takes no memory.
    fn bytes(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let mut part = [0; 4096];
            let part = &mut part[..(length - bytes.len()).min(4096)];
            self.inner.read_exact(part)?;
            bytes.extend_from_slice(part);
        }
        self.engine.input(&bytes);
        Ok(bytes)
    }
}
