//! The layers put over each other: what each key is worth, where that came from, and the checked config.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::de::DeserializeOwned;

use super::file;
use super::keys::{Keys, nearest};
use super::problem::{Problem, Refusal, Source};
use super::redact::{Secrets, is_secret};
use crate::key::{Key, Rule};
use crate::operation::{Operation, RawOperation, SECTIONS};
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

struct Layers {
    keys: Keys,
    values: BTreeMap<&'static str, (toml::Value, Source)>,
    secrets: Secrets,
    problems: Vec<Problem>,
}

impl Layers {
    fn new(keys: Keys) -> Self {
        let mut layers =
            Self { values: BTreeMap::new(), secrets: Secrets::default(), problems: Vec::new(), keys };
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
    }

    /// `SLUICE_HUB__NODE__URL` and the like; RUST_LOG sets `log.level`, but gives way to the key's own variable.
    fn environment(&mut self, variables: Vec<(String, String)>) {
        let prefix = self.keys.variable_prefix();
        let names: Vec<_> = self.keys.all.iter().map(|key| (self.keys.variable(key.path), *key)).collect();
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
                    let mend = nearest(&name, names.iter().map(|(name, _)| name.as_str()))
                        .map_or_else(String::new, |nearest| format!("did you mean `{nearest}`?"));
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

    fn check<P: Program>(mut self) -> Result<(Operation, P::Config), Refusal> {
        self.complain_of_missing();
        for key in self.keys.all.clone().iter().filter(|key| key.is_list()) {
            self.complete_list(key);
        }
        if !self.problems.is_empty() {
            return Err(self.refusal(Vec::new()));
        }
        let (operation, program) = self.tree();
        let operation = raw::<RawOperation>(operation).and_then(RawOperation::check);
        let config = raw::<P::Raw>(program).and_then(P::check);
        match (operation, config) {
            (Ok(operation), Ok(config)) => Ok((operation, config)),
            (operation, config) => {
                let problems = [operation.err(), config.err()].into_iter().flatten().flatten();
                Err(self.refusal(problems.collect()))
            }
        }
    }

    fn complain_of_missing(&mut self) {
        for key in &self.keys.all {
            if let (Rule::Required(example), false) = (key.rule, self.values.contains_key(key.path)) {
                let mend = format!(
                    "set it in the config file (as {example}), by {} or by --{}; `{} init` writes a file with every key",
                    self.keys.variable(key.path),
                    key.path,
                    self.keys.program,
                );
                self.problems.push(Problem::new(key.path, "is required and not set", mend));
            }
        }
    }

    /// Fills in the defaults of a list's tables, and looks for unknown and missing fields.
    fn complete_list(&mut self, key: &Key) {
        let Some((toml::Value::Array(tables), source)) = self.values.get_mut(key.path) else { return };
        for (index, table) in tables.iter_mut().enumerate() {
            let Some(table) = table.as_table_mut() else { continue };
            let known = || key.fields.iter().map(|field| field.path);
            for name in table.keys().filter(|name| !known().any(|known| known == *name)) {
                let mend =
                    nearest(name, known()).map_or_else(String::new, |near| format!("did you mean `{near}`?"));
                let path = format!("{}[{index}].{name}", key.path);
                self.problems
                    .push(Problem::new(path, "is not a key of this program", mend).from(source.clone()));
            }
            for field in key.fields {
                match field.rule {
                    _ if table.contains_key(field.path) => (),
                    Rule::Default(text) => {
                        if let Ok(value) = text.parse() {
                            table.insert(field.path.to_owned(), value);
                        }
                    }
                    Rule::Required(example) => {
                        let path = format!("{}[{index}].{}", key.path, field.path);
                        let mend = format!("write {} = {example} in that table", field.path);
                        let problem = Problem::new(path, "is required and not set", mend);
                        self.problems.push(problem.from(source.clone()));
                    }
                    Rule::Optional(_) => (),
                }
            }
        }
    }

    /// The values as two trees: the service's own sections and the program's.
    fn tree(&self) -> (toml::Table, toml::Table) {
        let (mut operation, mut program) = (toml::Table::new(), toml::Table::new());
        for (path, (value, _)) in &self.values {
            let path: Vec<_> = path.split('.').collect();
            let tree = if SECTIONS.contains(&path[0]) { &mut operation } else { &mut program };
            insert(tree, &path, value.clone());
        }
        (operation, program)
    }

    fn refusal(&self, more: Vec<Problem>) -> Refusal {
        let all = self.problems.iter().cloned().chain(more);
        Refusal {
            problems: all.map(|problem| self.secrets.clean(&self.keys, self.locate(problem))).collect(),
        }
    }

    /// Adds the value and where it came from, and what the key is for if nobody said what to do.
    fn locate(&self, mut problem: Problem) -> Problem {
        let Some(key) = self.keys.owner(&problem.key) else { return problem };
        if let Some((value, source)) = self.values.get(key.path) {
            let value = at(value, &problem.key[key.path.len()..]);
            problem.value = problem.value.or_else(|| value.map(ToString::to_string));
            problem.source.get_or_insert_with(|| source.clone());
        }
        if problem.mend.is_empty() {
            let field = problem.key.rsplit('.').next().unwrap_or_default();
            let field = key.fields.iter().find(|known| known.path == field).unwrap_or(key);
            problem.mend = format!("{}: {}", field.path, field.doc);
        }
        if is_secret(&self.keys, &problem.key) && problem.reason.starts_with(SERDE) {
            // serde quotes what it met; the value's text may be changed or cut there, so nothing of it is kept.
            let expected =
                problem.reason.split_once(", expected ").map_or("another type", |(_, after)| after);
            problem.reason = format!("is not accepted: expected {expected}");
        }
        problem
    }
}

/// How a reason begins that is serde's.
const SERDE: &str = "is not accepted: ";

fn raw<R: DeserializeOwned>(tree: toml::Table) -> Result<R, Vec<Problem>> {
    serde_path_to_error::deserialize(toml::Value::Table(tree)).map_err(|error| {
        let reason = format!("{SERDE}{}", error.inner().message().lines().next().unwrap_or_default());
        vec![Problem::new(error.path().to_string(), reason, "")]
    })
}

fn insert(tree: &mut toml::Table, path: &[&str], value: toml::Value) {
    match path {
        [] => (),
        [last] => drop(tree.insert((*last).to_owned(), value)),
        [first, rest @ ..] => {
            let below = tree.entry(*first).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            if let toml::Value::Table(below) = below {
                insert(below, rest, value);
            }
        }
    }
}

/// The value at `[1].field` below this one.
fn at<'a>(value: &'a toml::Value, path: &str) -> Option<&'a toml::Value> {
    path.split(['.', '[', ']']).filter(|part| !part.is_empty()).try_fold(value, |value, part| match value {
        toml::Value::Array(values) => values.get(part.parse::<usize>().ok()?),
        toml::Value::Table(table) => table.get(part),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
