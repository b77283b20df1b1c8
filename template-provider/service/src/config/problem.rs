//! What is wrong with a config, in words that let a person mend it.

use std::fmt;

/// One thing that is wrong. The service adds the value and where it came from, and takes secrets out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key's path; `list[1].field` for a field of the second table of a list.
    pub key: String,
    /// What is wrong, as a sentence that goes on after the key and its value: `is not a URL`.
    pub reason: String,
    /// What to do, as a command: `write http://host:port`.
    pub mend: String,
    /// The value as the config has it, if it is known and no secret.
    pub(crate) value: Option<String>,
    /// Where the value came from.
    pub(crate) source: Option<Source>,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Default,
    /// A file and its line, counted from 1.
    File(String, usize),
    Environment(String),
    Flag(String),
}

/// Why a config was refused: every problem that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl Problem {
    /// A problem with the key at `key`.
    pub fn new(key: impl Into<String>, reason: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { key: key.into(), reason: reason.into(), mend: mend.into(), value: None, source: None }
    }

    pub(crate) fn from(mut self, source: Source) -> Self {
        self.source = Some(source);
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        if let Some(source) = &self.source {
            write!(f, " ({source})")?;
        }
        write!(f, " {}", self.reason)?;
        if !self.mend.is_empty() {
            write!(f, "; {}", self.mend)?;
        }
        Ok(())
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(f, "default"),
            Self::File(path, line) => write!(f, "file {path}, line {line}"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            write!(f, "{end}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}
