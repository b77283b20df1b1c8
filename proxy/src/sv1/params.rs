//! What is in the parameters of each SV1 method; lenient where real firmware is loose.

use super::difficulty::Difficulty;
use super::request::Text;
use bitcoin::Target;
use bitcoin::hex::FromHex;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// Longest user agent and user name that is kept, in bytes; the rest is cut off.
pub const MAX_NAME: usize = 128;

/// Longest extranonce2 that is read, in bytes.
pub const MAX_EXTRANONCE2: usize = 16;

/// Parameters that do not fit their method.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParamsError(pub Cow<'static, str>);

/// `mining.configure` (BIP310).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Configure {
    /// Names of the extensions asked for, in order; at most 16.
    pub extensions: Vec<String>,
    /// `version-rolling.mask`; all bits if the miner names none.
    pub version_mask: u32,
    /// `minimum-difficulty.value`.
    pub minimum_difficulty: Option<Difficulty>,
    /// `info.sw-version`: firmware, if the miner tells.
    pub firmware: Option<String>,
}

/// `mining.authorize`.
#[derive(Clone, Debug, PartialEq)]
pub struct Authorize {
    /// The user name, cut to [`MAX_NAME`].
    pub user: String,
    /// From `d=…` in the password.
    pub difficulty: Option<Difficulty>,
}

/// `mining.submit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submit<'a> {
    /// The user name, cut to [`MAX_NAME`] as in [`Authorize`].
    pub user: Cow<'a, str>,
    /// Our job id; `None` if it is no id of ours.
    pub job_id: Option<u32>,
    /// The bytes that the miner chose.
    pub extranonce2: Extranonce2,
    /// Seconds since 1970.
    pub ntime: u32,
    /// As in the header, read as big-endian hex.
    pub nonce: u32,
    /// BIP310's version bits; `None` in a submit of five parameters.
    pub version_bits: Option<u32>,
}

/// Up to [`MAX_EXTRANONCE2`] bytes, without a heap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extranonce2 {
    bytes: [u8; MAX_EXTRANONCE2],
    len: usize,
}

impl Extranonce2 {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn parse(hex: &str) -> Result<Self, ParamsError> {
        let hex = unprefixed(hex);
        let len = hex.len() / 2;
        let mut parsed = Self { bytes: [0; MAX_EXTRANONCE2], len };
        if !hex.len().is_multiple_of(2) || len > MAX_EXTRANONCE2 {
            return Err(ParamsError("extranonce2 has the wrong length".into()));
        }
        for (byte, pair) in parsed.bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
        }
        Ok(parsed)
    }
}

/// The user agent in `mining.subscribe`; its other parameters (session to resume, host, port) mean nothing here.
pub fn subscribe(params: &str) -> Option<String> {
    let values: Vec<Value> = serde_json::from_str(params).ok()?;
    values.first().and_then(Value::as_str).map(name).filter(|agent| !agent.is_empty())
}

/// Parses `mining.configure`.
///
/// # Errors
/// They are no list of extensions, or the mask is no hex number.
pub fn configure(params: &str) -> Result<Configure, ParamsError> {
    let bad = || ParamsError("mining.configure takes a list of extensions and their parameters".into());
    let values: Vec<Value> = serde_json::from_str(params).map_err(|_| bad())?;
    let extensions = values.first().and_then(Value::as_array).ok_or_else(bad)?;
    let none = Map::new();
    let options = values.get(1).and_then(Value::as_object).unwrap_or(&none);
    let mask = options.get("version-rolling.mask").and_then(Value::as_str);
    Ok(Configure {
        extensions: extensions.iter().filter_map(Value::as_str).map(name).take(16).collect(),
        version_mask: mask.map_or(Ok(u32::MAX), word)?,
        minimum_difficulty: options.get("minimum-difficulty.value").and_then(difficulty),
        firmware: options.get("info.sw-version").and_then(Value::as_str).map(name),
    })
}

/// Parses `mining.authorize`.
///
/// # Errors
/// The first is no text.
pub fn authorize(params: &str) -> Result<Authorize, ParamsError> {
    let bad = || ParamsError("mining.authorize takes a user name and a password".into());
    let values: Vec<Value> = serde_json::from_str(params).map_err(|_| bad())?;
    let user = values.first().and_then(Value::as_str).ok_or_else(bad)?;
    let password = values.get(1).and_then(Value::as_str).unwrap_or("");
    Ok(Authorize { user: name(user), difficulty: password_difficulty(password) })
}

/// Parses `mining.submit`: five parameters, six with version bits, which null and an empty text leave out; more are ignored.
///
/// # Errors
/// Fewer than five texts, or extranonce2, time, nonce or version bits that are no hex or too long.
pub fn submit(params: &str) -> Result<Submit<'_>, ParamsError> {
    let bad = || ParamsError("mining.submit takes five or six strings".into());
    let texts = serde_json::from_str(params).or_else(|_| loose_texts(params)).map_err(|_| bad())?;
    let mut texts = texts.into_iter().map(|text| text.map(|Text(text)| text));
    let mut next = || texts.next().flatten().ok_or_else(bad);
    let (user, job_id, extranonce2, ntime, nonce) = (next()?, next()?, next()?, next()?, next()?);
    let bits = texts.next().flatten().filter(|bits| !bits.is_empty());
    Ok(Submit {
        user: if user.len() > MAX_NAME || user.contains(char::is_control) {
            name(&user).into()
        } else {
            user
        },
        job_id: word(&job_id).ok(),
        extranonce2: Extranonce2::parse(&extranonce2)?,
        ntime: word(&ntime)?,
        nonce: word(&nonce)?,
        version_bits: bits.map(|bits| word(&bits)).transpose()?,
    })
}

/// Of a submit that has other things than texts: version bits that are a number, and more parameters than there are.
fn loose_texts(params: &str) -> Result<Vec<Option<Text<'_>>>, serde_json::Error> {
    let values: Vec<&RawValue> = serde_json::from_str(params)?;
    let texts =
        values.into_iter().take(6).enumerate().map(|(place, value)| match value.get().parse::<u32>() {
            Ok(bits) if place == 5 => Ok(Some(Text(format!("{bits:x}").into()))),
            _ => serde_json::from_str(value.get()),
        });
    texts.collect()
}

/// Parses `mining.suggest_difficulty`.
///
/// # Errors
/// No number above zero, nor a text that is one.
pub fn suggest_difficulty(params: &str) -> Result<Difficulty, ParamsError> {
    let values: Vec<Value> = serde_json::from_str(params).unwrap_or_default();
    let bad = || ParamsError("mining.suggest_difficulty takes a positive number".into());
    values.first().and_then(difficulty).ok_or_else(bad)
}

/// Parses `mining.suggest_target`: 64 hex digits, most significant first.
///
/// # Errors
/// No 64 hex digits.
pub fn suggest_target(params: &str) -> Result<Target, ParamsError> {
    let values: Vec<Value> = serde_json::from_str(params).unwrap_or_default();
    let text = values.first().and_then(Value::as_str).unwrap_or("");
    let bytes = <[u8; 32]>::from_hex(unprefixed(text));
    bytes
        .map(Target::from_be_bytes)
        .map_err(|_| ParamsError("mining.suggest_target takes 64 hex digits".into()))
}

/// `d=…` among the parts of a password such as `x,d=1024`.
fn password_difficulty(password: &str) -> Option<Difficulty> {
    let value = password.split([',', ';', ' ']).find_map(|part| part.trim().strip_prefix("d="))?;
    value.trim().parse().ok().and_then(Difficulty::asked)
}

/// A number, or a string that holds one.
fn difficulty(value: &Value) -> Option<Difficulty> {
    let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
    Difficulty::asked(number)
}

/// A 32-bit number in 1 to 8 hex digits of either case, `0x` allowed.
fn word(hex: &str) -> Result<u32, ParamsError> {
    let digits = unprefixed(hex);
    if digits.is_empty() || digits.len() > 8 {
        return Err(ParamsError("a number must have one to eight hex digits".into()));
    }
    digits.bytes().try_fold(0, |sum, digit| Ok(sum << 4 | u32::from(hex_digit(digit)?)))
}

/// Without the `0x` that some put before hex.
fn unprefixed(hex: &str) -> &str {
    hex.strip_prefix("0x").or_else(|| hex.strip_prefix("0X")).unwrap_or(hex)
}

fn hex_digit(digit: u8) -> Result<u8, ParamsError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(ParamsError("not a hex digit".into())),
    }
}

/// A name for display and labels: printable, at most [`MAX_NAME`] bytes.
fn name(text: &str) -> String {
    let mut kept: String = text.chars().filter(|c| !c.is_control()).collect();
    while kept.len() > MAX_NAME {
        kept.pop();
    }
    kept
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_submit_has_five_or_six_strings_in_either_case() {
        let five = submit(r#"["w","1f","00AAbb0000000001","6553f100","DEADbeef"]"#).unwrap();
        assert_eq!(five.job_id, Some(0x1f));
        assert_eq!(five.extranonce2.as_bytes(), [0, 0xaa, 0xbb, 0, 0, 0, 0, 1]);
        assert_eq!((five.ntime, five.nonce, five.version_bits), (0x6553_f100, 0xdead_beef, None));
        let six = submit(r#"["w","1f","0000","6553f100","deadbeef","00c0E000"]"#).unwrap();
        assert_eq!(six.version_bits, Some(0x00c0_e000));
        let none = submit(r#"["w","1f","0000","6553f100","deadbeef",null]"#).unwrap();
        assert_eq!(none.version_bits, None);
    }

    #[test]
    fn a_submit_may_have_prefixes_and_version_bits_that_are_empty_or_a_number() {
        let prefixed =
            submit(r#"["w","0x1f","0x00AAbb0000000001","0X6553f100","0xDEADbeef","0x00c0e000"]"#).unwrap();
        assert_eq!(prefixed.extranonce2.as_bytes(), [0, 0xaa, 0xbb, 0, 0, 0, 0, 1]);
        assert_eq!((prefixed.job_id, prefixed.version_bits), (Some(0x1f), Some(0x00c0_e000)));
        for (sixth, bits) in [
            (r#""""#, None),
            ("12640256", Some(0x00c0_e000)),
            ("0", Some(0)),
            (r#""00c0e000",7,{}"#, Some(0x00c0_e000)),
        ] {
            let read =
                submit(&format!(r#"["w","1f","0000","6553f100","deadbeef",{sixth}]"#)).unwrap().version_bits;
            assert_eq!(read, bits, "{sixth}");
        }
        for sixth in ["-1", "1.5", "4294967296", "true", r#""0x""#] {
            let read = format!(r#"["w","1f","0000","6553f100","deadbeef",{sixth}]"#);
            assert!(submit(&read).is_err(), "{sixth}");
        }
    }

    #[test]
    fn a_malformed_submit_is_an_error_and_a_strange_job_id_is_just_unknown() {
        for bad in [
            r#"["w","1","00","6553f100"]"#,
            r#"["w","1","0","6553f100","00000000"]"#,
            r#"["w","1","0g","6553f100","00000000"]"#,
            r#"["w","1","00","6553f10000","00000000"]"#,
            r#"["w","1","00","","00000000"]"#,
            r#"["w","1","00","6553f100",5]"#,
            r#"["w","1","00000000000000000000000000000000ff","6553f100","00000000"]"#,
            r#"{"a":1}"#,
            "null",
        ] {
            assert!(submit(bad).is_err(), "{bad}");
        }
        assert_eq!(submit(r#"["w","job-7","00","6553f100","00000000"]"#).unwrap().job_id, None);
    }

    #[test]
    fn a_difficulty_is_found_in_the_password() {
        let difficulty = |password| password_difficulty(password).map(Difficulty::value);
        assert_eq!(difficulty("d=1024"), Some(1024.0));
        assert_eq!(difficulty("x, d=0.5;pl=0"), Some(0.5));
        assert_eq!(difficulty("x"), None);
        assert_eq!(difficulty("d=nonsense"), None);
        assert_eq!(difficulty("d=-5"), None);
        assert_eq!(difficulty("bad=5"), None);
    }

    #[test]
    fn configure_reads_what_firmware_sends() {
        let s9 = configure(
            r#"[["version-rolling","minimum-difficulty","subscribe-extranonce"],
                {"version-rolling.mask":"1fffe000","version-rolling.min-bit-count":2,"minimum-difficulty.value":2048}]"#,
        )
        .unwrap();
        assert_eq!(s9.extensions, ["version-rolling", "minimum-difficulty", "subscribe-extranonce"]);
        assert_eq!(s9.version_mask, 0x1fff_e000);
        assert_eq!(s9.minimum_difficulty.unwrap().value(), 2048.0);
        let bare = configure(r#"[["version-rolling"]]"#).unwrap();
        assert_eq!(bare.version_mask, u32::MAX);
        let hardest = configure(r#"[["minimum-difficulty"],{"minimum-difficulty.value":1e300}]"#).unwrap();
        assert_eq!(hardest.minimum_difficulty.unwrap().value(), Difficulty::MOST);
        assert!(configure(r#"["version-rolling"]"#).is_err());
        assert!(configure(r#"[["version-rolling"],{"version-rolling.mask":"zz"}]"#).is_err());
    }

    #[test]
    fn subscribe_takes_any_parameters() {
        assert_eq!(subscribe(r#"["cgminer/4.12.0","00000001"]"#).as_deref(), Some("cgminer/4.12.0"));
        assert_eq!(subscribe(r#"["NiceHash/1.0.0",null,"host",3333]"#).as_deref(), Some("NiceHash/1.0.0"));
        assert_eq!(subscribe("[]"), None);
        assert_eq!(subscribe("null"), None);
        assert_eq!(subscribe(&format!("[\"{}\"]", "é".repeat(100))).unwrap().len(), MAX_NAME);
    }

    #[test]
    fn suggestions_are_numbers_or_strings_and_targets_are_hex() {
        assert_eq!(suggest_difficulty("[1000]").unwrap().value(), 1000.0);
        assert_eq!(suggest_difficulty("[\"0.25\"]").unwrap().value(), 0.25);
        assert!(suggest_difficulty("[0]").is_err());
        assert!(suggest_difficulty("[]").is_err());
        let one = suggest_target(r#"["00000000ffff0000000000000000000000000000000000000000000000000000"]"#);
        assert_eq!(one.unwrap(), Target::MAX);
        assert!(suggest_target("[\"ff\"]").is_err());
    }
}
