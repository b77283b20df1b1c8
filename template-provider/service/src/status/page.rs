//! The status page as data: sections of pairs or tables. [`super::html`] turns it into HTML.

use std::time::Duration;

/// The page at `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The heading, as `sluice-hub on signet`.
    pub title: String,
    /// From top to bottom.
    pub sections: Vec<Section>,
}

/// One part of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its heading.
    pub title: String,
    /// A sentence below the heading; empty for none.
    pub note: String,
    /// The first row of a table; empty for pairs.
    pub header: Vec<String>,
    /// Rows of a table, or pairs of a name and a value. The page shows the first 1,000.
    pub rows: Vec<Vec<Cell>>,
}

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// Plain text; the page escapes it.
    pub text: String,
    /// Its colour.
    pub tone: Tone,
}

/// What a value says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tone {
    /// Nothing in particular.
    #[default]
    Plain,
    /// All is well.
    Good,
    /// Somebody should look.
    Warn,
    /// Something is broken.
    Bad,
}

impl Page {
    /// A page without sections.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), sections: Vec::new() }
    }

    /// The page with one more section.
    #[must_use]
    pub fn with(mut self, section: Section) -> Self {
        self.sections.push(section);
        self
    }
}

impl Section {
    /// A list of names and values; fill it with [`Section::pair`].
    pub fn pairs(title: impl Into<String>) -> Self {
        Self { title: title.into(), note: String::new(), header: Vec::new(), rows: Vec::new() }
    }

    /// A table; fill it with [`Section::row`].
    pub fn table<H: Into<String>>(title: impl Into<String>, header: impl IntoIterator<Item = H>) -> Self {
        let header = header.into_iter().map(Into::into).collect();
        Self { header, ..Self::pairs(title) }
    }

    /// The section with a sentence below its heading.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// The section with one more name and value.
    #[must_use]
    pub fn pair(mut self, name: impl Into<Cell>, value: impl Into<Cell>) -> Self {
        self.rows.push(vec![name.into(), value.into()]);
        self
    }

    /// The section with one more row.
    #[must_use]
    pub fn row<C: Into<Cell>>(mut self, row: impl IntoIterator<Item = C>) -> Self {
        self.rows.push(row.into_iter().map(Into::into).collect());
        self
    }

    /// The section with these rows after its own.
    #[must_use]
    pub fn rows<R, C>(mut self, rows: impl IntoIterator<Item = R>) -> Self
    where
        R: IntoIterator<Item = C>,
        C: Into<Cell>,
    {
        self.rows.extend(rows.into_iter().map(|row| row.into_iter().map(Into::into).collect()));
        self
    }
}

impl Cell {
    /// Text that stands for something good.
    pub fn good(text: impl Into<Self>) -> Self {
        Self { tone: Tone::Good, ..text.into() }
    }

    /// Text that somebody should look at.
    pub fn warn(text: impl Into<Self>) -> Self {
        Self { tone: Tone::Warn, ..text.into() }
    }

    /// Text that stands for something broken.
    pub fn bad(text: impl Into<Self>) -> Self {
        Self { tone: Tone::Bad, ..text.into() }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, tone: Tone::Plain }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

/// Its two largest parts: `3 min 20 s`.
impl From<Duration> for Cell {
    fn from(duration: Duration) -> Self {
        let seconds = duration.as_secs();
        let text = match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
            (0, 0, 0, seconds) => format!("{seconds} s"),
            (0, 0, minutes, seconds) => format!("{minutes} min {seconds} s"),
            (0, hours, minutes, _) => format!("{hours} h {minutes} min"),
            (days, hours, _, _) => format!("{days} d {hours} h"),
        };
        text.into()
    }
}

macro_rules! cell_from_number {
    ($($number:ty),*) => {$(
        impl From<$number> for Cell {
            fn from(number: $number) -> Self {
                number.to_string().into()
            }
        }
    )*};
}

cell_from_number!(u16, u32, u64, u128, usize, i64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_show_their_two_largest_parts() {
        let cases = [(59, "59 s"), (61, "1 min 1 s"), (7384, "2 h 3 min"), (266_400, "3 d 2 h")];
        for (seconds, expected) in cases {
            assert_eq!(Cell::from(Duration::from_secs(seconds)).text, expected);
        }
    }
}
