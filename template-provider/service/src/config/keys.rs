//! All keys of a program: lookups by path, the nearest known one, and the README's table.

use crate::key::{Key, Rule};
use crate::operation;
use crate::program::Program;

/// The keys of one program, its own first.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    pub(crate) program: &'static str,
    pub(crate) all: Vec<Key>,
}

impl Keys {
    pub(crate) fn of<P: Program>() -> Self {
        let mut all = P::KEYS.to_vec();
        all.extend(P::SECTIONS.iter().copied().flatten());
        all.extend(operation::keys(P::NAME, P::PAGE));
        Self { program: P::NAME, all }
    }

    pub(crate) fn find(&self, path: &str) -> Option<&Key> {
        self.all.iter().find(|key| key.path == path)
    }

    /// The key that `path` is or lies in: `list[1].field` lies in `list`.
    pub(crate) fn owner(&self, path: &str) -> Option<&Key> {
        let inside = |key: &&Key| {
            path.strip_prefix(key.path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['[', '.']))
        };
        self.all.iter().filter(inside).max_by_key(|key| key.path.len())
    }

    /// Whether `path` is a section, and of which keys.
    pub(crate) fn below(&self, path: &str) -> Vec<&'static str> {
        let inside = |key: &&Key| key.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
        self.all.iter().filter(inside).map(|key| key.path).collect()
    }

    /// What to do with `name`, which stands below the line `heading` and is no key there, if it is a key or a section of the
    /// whole file.
    pub(crate) fn misplaced(&self, heading: &str, name: &str) -> Option<String> {
        let above = format!("it lies below {heading}; write it above the first line in brackets");
        match (self.find(name), self.below(name).is_empty()) {
            (Some(_), _) => Some(above),
            (None, false) => Some(format!("{above}, or below [{name}] without `{name}.`")),
            (None, true) => None,
        }
    }

    /// The name of a key's environment variable: `SLUICE_HUB__NODE__URL`.
    pub(crate) fn variable(&self, path: &str) -> String {
        format!("{}{}", self.variable_prefix(), path.replace('.', "__").to_uppercase())
    }

    /// The key's path that such a name stands for, whether there is one or not.
    pub(crate) fn path_of_variable(&self, name: &str) -> String {
        name.strip_prefix(&self.variable_prefix()).unwrap_or(name).to_lowercase().replace("__", ".")
    }

    pub(crate) fn variable_prefix(&self) -> String {
        format!("{}__", self.program.replace('-', "_").to_uppercase())
    }
}

/// The known name that `name` may be a misspelling of.
pub(crate) fn misspelt<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    nearest(name, known).filter(|near| likeness(name, near) >= MISSPELT)
}

/// The known name that is most like `name`.
fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let alike = |path: &'a str| (likeness(name, path), path);
    known.into_iter().map(alike).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, path)| path)
}

/// A name that is less like a known one is no misspelling of it.
const MISSPELT: f64 = 0.6;

/// How much a known name is like `name`, 0 to 1. Looks at whole paths and at their last parts, so that a right name in a
/// wrong section is found too, and at words, so that one is found of which some were left out.
fn likeness(name: &str, path: &str) -> f64 {
    let (last_of_name, last_of_path) = (last(name), last(path));
    let whole = strsim::normalized_damerau_levenshtein(name, path);
    let end = 0.9 * strsim::normalized_damerau_levenshtein(last_of_name, last_of_path);
    let words = if has_words_of(last_of_name, last_of_path) { 0.9 + 0.1 * end } else { 0.0 };
    whole.max(end).max(words)
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or_default()
}

/// Whether all words of `name`, two at least, stand in `path` in the same order.
fn has_words_of(name: &str, path: &str) -> bool {
    let mut words = path.split('_');
    name.contains('_') && name.split('_').all(|word| words.any(|other| other == word))
}

/// The table of all keys with their defaults, in Markdown; for the README, and for the test that it is current.
#[must_use]
pub fn keys_markdown<P: Program>() -> String {
    let mut table = String::from("| key | default | what it is |\n|---|---|---|\n");
    for key in Keys::of::<P>().all {
        row(&mut table, key.path, &key);
        for field in key.fields {
            row(&mut table, &format!("{}[].{}", key.path, field.path), field);
        }
    }
    table
}

fn row(table: &mut String, path: &str, key: &Key) {
    let default = match key.rule {
        Rule::Default(text) => format!("`{text}`"),
        Rule::Required(_) => "required".to_owned(),
        Rule::Optional(_) => "none".to_owned(),
    };
    let cells = [format!("`{path}`"), default, key.doc.to_owned()].map(|cell| cell.replace('|', "\\|"));
    table.push_str(&format!("| {} |\n", cells.join(" | ")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_found_by_its_whole_path_or_by_its_last_part() {
        let known = ["node.url", "node.cookie", "log.level", "page.listen"];
        assert_eq!(nearest("node.ulr", known), Some("node.url"));
        assert_eq!(nearest("cookie", known), Some("node.cookie"));
        assert_eq!(nearest("logs.level", known), Some("log.level"));
        assert_eq!(nearest("x", []), None);
    }

    #[test]
    fn a_key_whose_name_has_more_words_is_nearer_than_one_with_other_words() {
        let known = ["miners.hold_seconds", "miners.dead_peer_seconds", "miners.idle_seconds"];
        assert_eq!(nearest("miners.dead_seconds", known), Some("miners.dead_peer_seconds"));
        let variables = ["SLUICE_PROXY__MINERS__HOLD_SECONDS", "SLUICE_PROXY__MINERS__DEAD_PEER_SECONDS"];
        assert_eq!(nearest("SLUICE_PROXY__MINERS__DEAD_SECONDS", variables), Some(variables[1]));
        let known = ["a.max_bytes_per_second", "b.max_bytes"];
        assert_eq!(nearest("a.max_bytes", known), Some("b.max_bytes"));
    }

    #[test]
    fn a_name_that_is_like_none_is_no_misspelling() {
        let known = ["address", "password", "user_identity"];
        assert_eq!(misspelt("foo", known), None);
        assert_eq!(misspelt("pasword", known), Some("password"));
    }
}
