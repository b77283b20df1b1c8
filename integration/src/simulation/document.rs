//! Writes what the studies found into the sharechain's documents.

use std::io;
use std::path::{Path, PathBuf};

use crate::simulation::studies::{Findings, Study};

/// Where the tables stand.
pub fn page() -> PathBuf {
    folder().join("simulation.md")
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../channel-hub/sharechain/docs")
}

/// The lines between which a study's tables stand.
pub fn marks(study: Study) -> (String, String) {
    (format!("<!-- simulate study {} -->\n", study.name()), format!("<!-- end of {} -->\n", study.name()))
}

/// Puts tables and plots in the place of those that were there.
///
/// # Errors
/// A file cannot be read or written, or the page lacks the study's marks.
pub fn write(study: Study, findings: &Findings) -> io::Result<()> {
    let before = std::fs::read_to_string(page())?;
    let tables: Vec<String> = findings.tables.iter().map(|table| table.markdown()).collect();
    let after = with(&before, study, &tables.join("\n")).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("simulation.md has no place for {}", study.name()))
    })?;
    std::fs::write(page(), after)?;
    findings.plots.iter().try_for_each(|(name, svg)| std::fs::write(folder().join(name), svg))
}

fn with(page: &str, study: Study, tables: &str) -> Option<String> {
    let (begin, end) = marks(study);
    let (head, rest) = page.split_once(&begin)?;
    let (_, tail) = rest.split_once(&end)?;
    Some(format!("{head}{begin}\n{tables}\n{end}{tail}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_a_place_for_every_study_and_names_its_command() {
        let page = std::fs::read_to_string(page()).unwrap();
        for study in Study::ALL {
            let place = with(&page, study, "new").unwrap();
            assert!(
                place.contains("\nnew\n") && place.len() < page.len(),
                "{} has no table yet",
                study.name()
            );
            assert!(page.contains(&format!("study {}`", study.name())), "{}'s command", study.name());
        }
    }
}
