//! `init`: a fresh config file with every key, its documentation and its default, and with the generated keys set.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::keys::Keys;
use crate::key::{Key, Rule};
use crate::program::Program;

/// What was written.
pub(crate) struct Fresh {
    pub(crate) path: PathBuf,
    /// [`Program::introduce`]'s.
    pub(crate) facts: Vec<String>,
}

/// Writes the file into `dir`, which is made when it is missing, readable for its owner only.
///
/// # Errors
/// A file that is there already, which is left as it is; or what the system or the program's own `init` says.
pub(crate) fn init<P: Program>(dir: &Path) -> anyhow::Result<Fresh> {
    let path = dir.join(format!("{}.toml", P::NAME));
    let refuse =
        || format!("{} is there already and is left as it is; name another directory", path.display());
    anyhow::ensure!(!path.exists(), refuse());
    let is_file = dir.exists() && !dir.is_dir();
    anyhow::ensure!(!is_file, "{} is a file, not a directory; name a directory", dir.display());
    std::fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    let set = P::init(dir)?;
    let facts = P::introduce(&set);
    let text = render(&Keys::of::<P>(), P::ABOUT, &facts, &set);
    let options = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let mut file = options.with_context(|| match path.exists() {
        true => refuse(),
        false => format!("{} cannot be written", path.display()),
    })?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all())?;
    Ok(Fresh { path, facts })
}

/// The file's text. Defaults are commented out, so that a later version's defaults apply.
fn render(keys: &Keys, about: &str, facts: &[String], set: &[(&'static str, String)]) -> String {
    let mut text = format!(
        "# {program}: {about}\n\
         #\n\
         # A line that begins with `#` and a key shows the default, or, where there is none, an example.\n\
         # Take the `#` away to set the key.\n\
         # Every key can also be set by the environment ({prefix}… with `__` between levels, as {example})\n\
         # and by a flag (--{first}). A flag beats the environment, which beats this file.\n",
        program = keys.program,
        prefix = keys.variable_prefix(),
        example = keys.variable("log.level"),
        first = "log.level",
    );
    if !facts.is_empty() {
        let facts: String = facts.iter().map(|fact| format!("# {fact}\n")).collect();
        text.push_str(&format!("#\n{facts}"));
    }
    let mut section = String::new();
    for key in in_order(keys) {
        let (above, name) = key.path.rsplit_once('.').unwrap_or(("", key.path));
        if !key.is_list() && above != section {
            section = above.to_owned();
            text.push_str(&format!("\n[{section}]\n"));
        }
        text.push('\n');
        match set.iter().find(|(path, _)| *path == key.path) {
            Some((_, value)) => text.push_str(&format!("{}{name} = {value}\n", comment(&key))),
            None if key.is_list() => text.push_str(&list(&key)),
            None => text.push_str(&format!("{}#{name} = {}\n", comment(&key), key.text())),
        }
    }
    text
}

/// TOML wants plain keys before sections and sections in one piece; lists of tables come last, each with its own
/// heading.
fn in_order(keys: &Keys) -> Vec<Key> {
    let section = |key: &Key| key.path.rsplit_once('.').map_or("", |(above, _)| above);
    let first = |of: &str| keys.all.iter().position(|key| section(key) == of);
    let mut ordered = keys.all.clone();
    ordered.sort_by_key(|key| match (key.is_list(), section(key)) {
        (true, _) => (2, None),
        (false, "") => (0, None),
        (false, section) => (1, first(section)),
    });
    ordered
}

fn comment(key: &Key) -> String {
    let note = match key.rule {
        Rule::Default(_) => "",
        Rule::Required(_) => " Required.",
        Rule::Optional(_) => " Not set by default.",
    };
    key.sentence().lines().map(|line| format!("# {line}\n")).collect::<String>().trim_end().to_owned()
        + note
        + "\n"
}

fn list(key: &Key) -> String {
    let mut text = format!("{}#[[{}]]\n", comment(key), key.path);
    for field in key.fields {
        let doc = comment(field);
        text.push_str(&format!("{doc}#{} = {}\n", field.path, field.text()));
    }
    text
}

#[cfg(test)]
mod tests;
