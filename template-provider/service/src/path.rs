//! Paths as people write them in a config.

use std::path::PathBuf;

/// The path with a leading `~/` replaced by the home directory (`HOME`). `None` when there is a `~/` and no home.
#[must_use]
pub fn expand_home(path: &str) -> Option<PathBuf> {
    expand(path, std::env::var_os("HOME").map(PathBuf::from))
}

fn expand(path: &str, home: Option<PathBuf>) -> Option<PathBuf> {
    match path.strip_prefix("~/") {
        Some(rest) => home.filter(|home| home.is_absolute()).map(|home| home.join(rest)),
        None => Some(PathBuf::from(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leading_tilde_is_the_home_directory() {
        let home = Some(PathBuf::from("/home/ann"));
        assert_eq!(
            expand("~/.bitcoin/.cookie", home.clone()),
            Some(PathBuf::from("/home/ann/.bitcoin/.cookie"))
        );
        assert_eq!(expand("/etc/~/x", home.clone()), Some(PathBuf::from("/etc/~/x")));
        assert_eq!(expand("~ann/x", home), Some(PathBuf::from("~ann/x")));
    }

    #[test]
    fn without_a_home_a_tilde_is_refused() {
        assert_eq!(expand("~/x", None), None);
        assert_eq!(expand("~/x", Some(PathBuf::from(""))), None);
        assert_eq!(expand("x", None), Some(PathBuf::from("x")));
    }
}
