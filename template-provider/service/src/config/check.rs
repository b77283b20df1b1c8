//! From the layers' values to the checked config, or to every problem with it.

use serde::de::DeserializeOwned;

use super::keys::{Keys, misspelt};
use super::layers::Layers;
use super::problem::{Problem, Refusal};
use super::redact::is_secret;
use crate::addresses::{self, taken_twice};
use crate::key::{Key, Rule};
use crate::operation::{Operation, RawOperation, SECTIONS};
use crate::program::Program;

impl Layers {
    /// The service's part of the config and the program's.
    pub(super) fn check<P: Program>(mut self) -> Result<(Operation, P::Config), Refusal> {
        if !self.unread {
            self.complain_of_missing();
        }
        for key in self.keys.all.clone().iter().filter(|key| key.is_list()) {
            self.complete_list(key);
        }
        if !self.problems.is_empty() {
            return Err(self.refusal(Vec::new()));
        }
        let (operation, program) = self.tree();
        let operation = raw::<RawOperation>(&self.keys, operation).and_then(RawOperation::check);
        let config = raw::<P::Raw>(&self.keys, program).and_then(P::check);
        match (operation, config) {
            (Ok(operation), Ok(config)) => {
                let problems = taken_twice(&addresses::all::<P>(&config, &operation));
                if problems.is_empty() { Ok((operation, config)) } else { Err(self.refusal(problems)) }
            }
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

    /// Completes every table of a list.
    fn complete_list(&mut self, key: &Key) {
        let Some((toml::Value::Array(tables), source)) = self.values.get_mut(key.path) else { return };
        for (index, table) in tables.iter_mut().enumerate() {
            if let Some(table) = table.as_table_mut() {
                let problems = complete(&self.keys, key, index, table);
                self.problems.extend(problems.into_iter().map(|problem| problem.from(source.clone())));
            }
        }
    }

    /// The values as two trees: the service's own sections and the program's. A section is there even if nothing in it
    /// is set.
    fn tree(&self) -> (toml::Table, toml::Table) {
        let (mut operation, mut program) = (toml::Table::new(), toml::Table::new());
        for key in &self.keys.all {
            let path: Vec<_> = key.path.split('.').collect();
            let tree = if SECTIONS.contains(&path[0]) { &mut operation } else { &mut program };
            insert(tree, &path, self.values.get(key.path).map(|(value, _)| value.clone()));
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
        problem
    }
}

fn raw<R: DeserializeOwned>(keys: &Keys, tree: toml::Table) -> Result<R, Vec<Problem>> {
    serde_path_to_error::deserialize(toml::Value::Table(tree)).map_err(|error| {
        let path = error.path().to_string();
        let message = error.inner().message().lines().next().unwrap_or_default();
        // serde quotes what it met, perhaps changed or cut, so that of a secret only what was expected is kept.
        let expected = message.split_once(", expected ").map_or("another type", |(_, expected)| expected);
        let reason = match is_secret(keys, &path) {
            true => format!("has the wrong type: expected {expected}"),
            false => format!("is not accepted: {message}"),
        };
        vec![Problem::new(path, reason, "")]
    })
}

/// Fills the defaults into one table of a list, and looks for unknown and missing fields.
fn complete(keys: &Keys, key: &Key, index: usize, table: &mut toml::Table) -> Vec<Problem> {
    let path = |field: &str| format!("{}[{index}].{field}", key.path);
    let known = || key.fields.iter().map(|field| field.path);
    let unknown = table.keys().filter(|name| known().all(|known| known != *name));
    let mut problems: Vec<_> = unknown
        .map(|name| {
            let heading = format!("[[{}]]", key.path);
            let near = || match misspelt(name, known()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the keys of {heading} are {}", known().collect::<Vec<_>>().join(", ")),
            };
            let mend = keys.misplaced(&heading, name).unwrap_or_else(near);
            Problem::new(path(name), "is not a key of this program", mend)
        })
        .collect();
    for field in key.fields {
        match field.rule {
            _ if table.contains_key(field.path) => (),
            Rule::Optional(_) => (),
            Rule::Default(text) => {
                table.extend(text.parse().ok().map(|value| (field.path.to_owned(), value)))
            }
            Rule::Required(example) => {
                let mend = format!("write {} = {example} in that table", field.path);
                problems.push(Problem::new(path(field.path), "is required and not set", mend));
            }
        }
    }
    problems
}

fn insert(tree: &mut toml::Table, path: &[&str], value: Option<toml::Value>) {
    match path {
        [] => (),
        [last] => tree.extend(value.map(|value| ((*last).to_owned(), value))),
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
