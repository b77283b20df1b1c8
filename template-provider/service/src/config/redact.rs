//! Keeps secrets out of messages: whatever a check or serde says, the text of a secret value is taken out of it.

use super::keys::Keys;
use super::problem::Problem;
use crate::key::Key;

const REDACTED: &str = "[redacted]";

/// A secret shorter than this is taken out of messages about its own key only: elsewhere it is a part of words.
const SHORT: usize = 4;

/// The texts of all secret values of a config.
#[derive(Default)]
pub(crate) struct Secrets(Vec<String>);

impl Secrets {
    /// Takes the secrets from a key's value. Where a list does not have the form that tells its secret fields from the
    /// others, all of it is secret.
    pub(crate) fn learn(&mut self, key: &Key, value: &toml::Value) {
        let secret = |name: &str| key.fields.iter().any(|field| field.secret && field.path == name);
        match value {
            _ if key.secret => self.texts(value),
            _ if !key.fields.iter().any(|field| field.secret) => (),
            toml::Value::Array(tables) if tables.iter().all(toml::Value::is_table) => {
                let fields = tables.iter().filter_map(toml::Value::as_table).flatten();
                fields.filter(|(name, _)| secret(name)).for_each(|(_, value)| self.texts(value));
            }
            _ => self.texts(value),
        }
    }

    fn texts(&mut self, value: &toml::Value) {
        match value {
            toml::Value::Array(values) => values.iter().for_each(|value| self.texts(value)),
            toml::Value::Table(table) => table.values().for_each(|value| self.texts(value)),
            toml::Value::String(text) => self.text(text),
            other => self.text(&other.to_string()),
        }
    }

    /// A text that is secret, also in the forms in which messages quote it.
    pub(crate) fn text(&mut self, text: &str) {
        let quoted = format!("{text:?}");
        for form in [quoted.trim_matches('"'), text, text.trim()] {
            if !form.is_empty() && !self.0.iter().any(|known| known == form) {
                self.0.push(form.to_owned());
            }
        }
        self.0.sort_by_key(|form| std::cmp::Reverse(form.len()));
    }

    /// The text without the secrets.
    pub(crate) fn redact(&self, text: &str) -> String {
        self.without(text, SHORT)
    }

    /// The problem without the secrets.
    pub(crate) fn clean(&self, keys: &Keys, mut problem: Problem) -> Problem {
        let secret = is_secret(keys, &problem.key);
        let shortest = if secret { 1 } else { SHORT };
        problem.reason = self.without(&problem.reason, shortest);
        problem.mend = self.without(&problem.mend, SHORT);
        problem.value =
            problem.value.map(|value| if secret { REDACTED.to_owned() } else { cut(self.redact(&value)) });
        problem
    }

    fn without(&self, text: &str, shortest: usize) -> String {
        let long = self.0.iter().filter(|secret| secret.len() >= shortest);
        long.fold(text.to_owned(), |text, secret| text.replace(secret, REDACTED))
    }
}

/// Not too long for a message. Comes after redaction: half a secret is not found.
fn cut(text: String) -> String {
    const LONGEST: usize = 120;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Whether the value at this path is secret; `list[1].field` counts as the list's field. A field that is unknown beside
/// a secret one may be that one misspelt.
pub(crate) fn is_secret(keys: &Keys, path: &str) -> bool {
    let Some(key) = keys.owner(path) else { return false };
    let field = path.rsplit('.').next().unwrap_or_default();
    let known = key.fields.iter().find(|known| known.path == field);
    let any_secret = || key.fields.iter().any(|known| known.secret);
    key.secret
        || (path.len() > key.path.len()
            && path.contains("].")
            && known.map_or_else(any_secret, |known| known.secret))
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}
