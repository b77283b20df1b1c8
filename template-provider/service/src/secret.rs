//! A config value that is never printed.

use std::fmt;

use serde::Deserialize;

/// A text that `Debug` does not show; `Display` it has none.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one place that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_in_its_debug_form() {
        #[derive(Debug)]
        struct Login {
            #[allow(dead_code)] // read by Debug only, which is what is tested
            password: Secret,
        }
        let shown = format!("{:?}", Login { password: Secret::new("hunter2") });
        assert_eq!(shown, "Login { password: [redacted] }");
    }
}
