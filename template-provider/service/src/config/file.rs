//! The config file: where it is looked for, and what it says at which line.

use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::keys::{Keys, misspelt};
use super::problem::{Problem, Source};
use crate::path::expand_home;

/// What one file says.
#[derive(Default)]
pub(crate) struct Found {
    /// Key, value and line.
    pub(crate) values: Vec<(&'static str, toml::Value, Source)>,
    /// What is wrong with it; the values are what is right all the same.
    pub(crate) problems: Vec<Problem>,
    /// Nothing is known of what it sets.
    pub(crate) unread: bool,
}

/// The file to read when `--config` names none: the first of these that exists.
pub(crate) fn usual_places(program: &str) -> Vec<PathBuf> {
    let here = Some(PathBuf::from(format!("./{program}.toml")));
    let home = expand_home(&format!("~/.config/sluice/{program}.toml"));
    here.into_iter().chain(home).collect()
}

/// What the file's text sets. `name` is how messages call the file.
pub(crate) fn read(keys: &Keys, name: &str, text: &str) -> Found {
    // The second parse is for the places only: its values are still unread texts.
    let parsed = toml::from_str::<toml::Table>(text).and_then(|values| Ok((values, DeTable::parse(text)?)));
    let found = Found::default();
    match parsed {
        Err(error) => Found { problems: vec![syntax(name, text, &error)], unread: true, ..found },
        Ok((values, places)) => {
            let mut walk = Walk { keys, name, text, found };
            walk.table("", values, places.get_ref());
            walk.found
        }
    }
}

/// Reads the file itself.
pub(crate) fn load(keys: &Keys, path: &Path) -> Found {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => read(keys, &name, &text),
        Err(error) => {
            let mend = format!("name a file that can be read, or make one with `{} init`", keys.program);
            let problem = Problem::new(name, format!("cannot be read: {error}"), mend);
            Found { problems: vec![problem], unread: true, ..Found::default() }
        }
    }
}

struct Walk<'a> {
    keys: &'a Keys,
    name: &'a str,
    text: &'a str,
    found: Found,
}

impl Walk<'_> {
    fn table(&mut self, above: &str, values: toml::Table, places: &DeTable<'_>) {
        for (name, value) in values {
            let path = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
            let place = places.iter().find(|(key, _)| key.get_ref().as_ref() == name);
            let line = place.map_or(0, |(key, _)| line_of(self.text, key.span().start));
            let source = Source::File(self.name.to_owned(), line);
            match (self.keys.find(&path), value, place.map(|(_, value)| value.get_ref())) {
                (Some(key), value, _) => self.found.values.push((key.path, value, source)),
                (None, toml::Value::Table(below), Some(DeValue::Table(places)))
                    if !self.keys.below(&path).is_empty() =>
                {
                    self.table(&path, below, places);
                }
                _ => {
                    let mut problem = unknown(self.keys, &path);
                    if let (false, Some(mend)) =
                        (above.is_empty(), self.keys.misplaced(&format!("[{above}]"), &name))
                    {
                        problem.mend = mend;
                    }
                    self.found.problems.push(problem.from(source));
                }
            }
        }
    }
}

/// The problem with a path that is no key.
pub(crate) fn unknown(keys: &Keys, path: &str) -> Problem {
    let below = keys.below(path);
    if !below.is_empty() {
        return Problem::new(path, "is a section, not a key", format!("its keys are {}", below.join(", ")));
    }
    let sections = keys.all.iter().filter_map(|key| Some(key.path.rsplit_once('.')?.0));
    let section = path.rsplit_once('.').map(|(section, _)| (section, keys.below(section)));
    let mend = match (misspelt(path, keys.all.iter().map(|key| key.path).chain(sections)), section) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, Some((section, known))) if !known.is_empty() => {
            format!("the keys of [{section}] are {}", known.join(", "))
        }
        (None, _) => format!("`{} init` writes a file with every key", keys.program),
    };
    Problem::new(path, "is not a key of this program", mend)
}

/// A syntax error without the text around it, which may be a secret.
fn syntax(name: &str, text: &str, error: &toml::de::Error) -> Problem {
    let line = error.span().map_or(0, |span| line_of(text, span.start));
    let what = error.message().lines().next().unwrap_or_default();
    let mend = match what {
        "duplicate key" => {
            "each key stands once; where there is a line [section], its keys stand below that line, without the section's name"
        }
        _ => "texts stand in \"quotes\", one `key = value` a line",
    };
    Problem::new(format!("{name}, line {line}"), format!("is not valid TOML: {what}"), mend)
}

/// Line of a byte, counted from 1.
fn line_of(text: &str, byte: usize) -> usize {
    text.bytes().take(byte).filter(|byte| *byte == b'\n').count() + 1
}
