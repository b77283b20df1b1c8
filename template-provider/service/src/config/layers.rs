//! The layers put over each other: what each key is worth, and where that came from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::file;
use super::keys::{Keys, misspelt};
use super::problem::{Problem, Refusal, Source};
use super::redact::Secrets;
use crate::key::{Key, Rule};
use crate::operation::Operation;
use crate::program::Program;

/// What a config is made from, beside the defaults.
#[derive(Default)]
pub(crate) struct Inputs {
    pub(crate) file: Option<PathBuf>,
    pub(crate) environment: Vec<(String, String)>,
    /// Key path and value.
    pub(crate) flags: Vec<(String, String)>,
}

/// The checked config of a program from a TOML text and the defaults alone; for tests.
///
/// # Errors
/// Every problem that was found.
pub fn config_from_text<P: Program>(text: &str) -> Result<(Operation, P::Config), Refusal> {
    let mut layers = Layers::new(Keys::of::<P>());
    layers.file(file::read(&layers.keys, "text", text));
    layers.check::<P>()
}

/// Puts all layers over each other and checks the result.
pub(crate) fn load<P: Program>(inputs: Inputs) -> Result<(Operation, P::Config), Refusal> {
    let mut layers = Layers::new(Keys::of::<P>());
    if let Some(path) = inputs.file {
        layers.file(file::load(&layers.keys, &path));
    }
    layers.environment(inputs.environment);
    layers.flags(inputs.flags);
    layers.check::<P>()
}

/// Every key that has a value, with the value of the highest layer; and what was wrong on the way.
pub(super) struct Layers {
    pub(super) keys: Keys,
    pub(super) values: BTreeMap<&'static str, (toml::Value, Source)>,
    pub(super) secrets: Secrets,
    pub(super) problems: Vec<Problem>,
    /// The file could not be read: it may set what seems to be missing.
    pub(super) unread: bool,
}

impl Layers {
    fn new(keys: Keys) -> Self {
        let mut layers = Self {
            values: BTreeMap::new(),
            secrets: Secrets::default(),
            problems: Vec::new(),
            unread: false,
            keys,
        };
        for key in layers.keys.all.clone() {
            if let Rule::Default(text) = key.rule {
                layers.parse(&key, text, Source::Default);
            }
        }
        layers
    }

    fn file(&mut self, found: file::Found) {
        found.values.into_iter().for_each(|(path, value, source)| self.set(path, value, source));
        self.problems.extend(found.problems);
        self.unread = found.unread;
    }

    /// `SLUICE_HUB__NODE__URL` and the like; RUST_LOG sets `log.level`, but gives way to the key's own variable.
    ///
    /// `SLUICE_HUB_NODE_URL` is a slip. Other names with one underscore are none of ours: Kubernetes gives a container
    /// `SLUICE_HUB_SERVICE_HOST` of a service that is called so.
    fn environment(&mut self, variables: Vec<(String, String)>) {
        let prefix = self.keys.variable_prefix();
        let names: Vec<_> = self.keys.all.iter().map(|key| (self.keys.variable(key.path), *key)).collect();
        let slips: BTreeMap<_, _> = names.iter().map(|(name, _)| (name.replace("__", "_"), name)).collect();
        for (name, _) in &variables {
            if let Some(right) = slips.get(name) {
                let reason = "(environment) is read by nobody: two underscores part the levels of a key";
                self.problems.push(Problem::new(name, reason, format!("write {right}")));
            }
        }
        let (rust_log, own): (Vec<_>, Vec<_>) = variables
            .into_iter()
            .filter(|(name, _)| name == "RUST_LOG" || name.starts_with(&prefix))
            .partition(|(name, _)| name == "RUST_LOG");
        for (name, value) in rust_log.into_iter().filter(|(_, value)| !value.is_empty()) {
            self.set("log.level", toml::Value::String(value), Source::Environment(name));
        }
        for (name, value) in own {
            match names.iter().find(|(known, _)| *known == name) {
                Some((_, key)) => self.assign(key, &value, Source::Environment(name)),
                None => {
                    let mend =
                        misspelt(&self.keys.path_of_variable(&name), names.iter().map(|(_, key)| key.path))
                            .map_or_else(String::new, |near| {
                                format!("did you mean `{}`?", self.keys.variable(near))
                            });
                    self.problems.push(Problem::new(
                        name,
                        "(environment) names no key of this program",
                        mend,
                    ));
                }
            }
        }
    }

    fn flags(&mut self, flags: Vec<(String, String)>) {
        for (path, value) in flags {
            let source = Source::Flag(format!("--{path}"));
            match self.keys.find(&path).copied() {
                Some(key) => self.assign(&key, &value, source),
                None => self.problems.push(file::unknown(&self.keys, &path).from(source)),
            }
        }
    }

    /// Sets a key from the environment or a flag: text as it stands, anything else as TOML.
    fn assign(&mut self, key: &Key, value: &str, source: Source) {
        if key.is_text() {
            self.set(key.path, toml::Value::String(value.to_owned()), source);
        } else {
            self.parse(key, value, source);
        }
    }

    fn parse(&mut self, key: &Key, text: &str, source: Source) {
        if let Ok(value) = text.trim().parse::<toml::Value>() {
            return self.set(key.path, value, source);
        }
        if key.secret || key.fields.iter().any(|field| field.secret) {
            self.secrets.text(text);
        }
        let mend = format!("write it as TOML, as {}", key.text());
        let mut problem = Problem::new(key.path, "is not a TOML value", mend).from(source);
        problem.value = Some(text.to_owned());
        self.problems.push(problem);
    }

    fn set(&mut self, path: &'static str, value: toml::Value, source: Source) {
        if let Some(key) = self.keys.find(path) {
            self.secrets.learn(key, &value);
        }
        self.values.insert(path, (value, source));
    }
}

#[cfg(test)]
mod tests;
