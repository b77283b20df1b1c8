//! The table of config keys: every key once, with its default and its documentation. Flags, environment
//! variables, the file that `init` writes and the README's table are all made from it.

/// One config key.
///
/// Defaults and examples are TOML texts: `"\"127.0.0.1:8442\""`, `"6"`, `"[1, 2]"`. Whether they begin with a
/// quote also decides how the environment and flags are read: a text key takes what it is given as it stands,
/// any other key takes TOML.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    pub(crate) path: &'static str,
    pub(crate) rule: Rule,
    pub(crate) doc: &'static str,
    pub(crate) secret: bool,
    pub(crate) fields: &'static [Key],
}

/// What happens when nobody sets the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// The key has this value (TOML text).
    Default(&'static str),
    /// The program does not start; the TOML text is an example.
    Required(&'static str),
    /// The key is absent (`None` in the raw struct); the TOML text is an example.
    Optional(&'static str),
}

impl Key {
    /// A key that has a default.
    #[must_use]
    pub const fn new(path: &'static str, default: &'static str, doc: &'static str) -> Self {
        Self::with(path, Rule::Default(default), doc)
    }

    /// A key without which the program does not start. `example` is TOML text that shows the form; never a
    /// real key or password.
    #[must_use]
    pub const fn required(path: &'static str, example: &'static str, doc: &'static str) -> Self {
        Self::with(path, Rule::Required(example), doc)
    }

    /// A key that may be absent: an `Option` in the raw struct.
    #[must_use]
    pub const fn optional(path: &'static str, example: &'static str, doc: &'static str) -> Self {
        Self::with(path, Rule::Optional(example), doc)
    }

    /// A list of tables, `[[path]]` in the file, empty by default: a `Vec` in the raw struct. The paths of
    /// `fields` are relative to one table and have no dots.
    #[must_use]
    pub const fn list(path: &'static str, fields: &'static [Key], doc: &'static str) -> Self {
        Self { fields, ..Self::with(path, Rule::Default("[]"), doc) }
    }

    /// The same key, its value never shown.
    #[must_use]
    pub const fn secret(self) -> Self {
        Self { secret: true, ..self }
    }

    /// The key's path, dots between levels.
    #[must_use]
    pub const fn path(&self) -> &'static str {
        self.path
    }

    const fn with(path: &'static str, rule: Rule, doc: &'static str) -> Self {
        Self { path, rule, doc, secret: false, fields: &[] }
    }

    /// What it is, with a full stop at its end, so that more can follow.
    pub(crate) fn sentence(&self) -> String {
        let doc = self.doc.trim_end();
        let stop = if doc.ends_with(['.', '!', '?']) { "" } else { "." };
        format!("{doc}{stop}")
    }

    /// The default's or the example's TOML text.
    pub(crate) const fn text(&self) -> &'static str {
        match self.rule {
            Rule::Default(text) | Rule::Required(text) | Rule::Optional(text) => text,
        }
    }

    /// Whether the environment and flags give this key as plain text and not as TOML.
    pub(crate) fn is_text(&self) -> bool {
        self.text().starts_with(['"', '\''])
    }

    /// Whether this is a list of tables.
    pub(crate) const fn is_list(&self) -> bool {
        !self.fields.is_empty()
    }
}
