//! Tables: the same cells as Markdown for people and as JSON for programs.

use serde_json::{Map, Value};

/// A table of one study.
#[derive(Clone, Debug)]
pub struct Table {
    /// What it shows, in a line.
    pub title: String,
    /// Names of the columns.
    pub columns: Vec<&'static str>,
    /// Rows, each as long as the columns are many.
    pub rows: Vec<Vec<Cell>>,
}

/// One value and how it is shown.
#[derive(Clone, Debug)]
pub struct Cell {
    shown: String,
    value: Value,
}

/// Words.
pub fn text(words: impl Into<String>) -> Cell {
    let words = words.into();
    Cell { shown: words.clone(), value: words.into() }
}

/// How many.
pub fn count(count: usize) -> Cell {
    Cell { shown: count.to_string(), value: count.into() }
}

/// With so many digits after the point.
pub fn number(number: f64, digits: usize) -> Cell {
    Cell { shown: without_negative_zero(format!("{number:.digits$}")), value: number.into() }
}

/// A part of the whole, shown in percent.
pub fn percent(part: f64, digits: usize) -> Cell {
    Cell { shown: format!("{} %", number(part * 100.0, digits).shown), value: part.into() }
}

/// A gain or a loss, shown in percent with its sign.
pub fn change(part: f64, digits: usize) -> Cell {
    let shown = number(part * 100.0, digits).shown;
    let sign = if shown.starts_with('-') { "" } else { "+" };
    Cell { shown: format!("{sign}{shown} %"), value: part.into() }
}

/// A part as a power of ten: 10⁻⁶.
pub fn power(part: f64) -> Cell {
    let digits = format!("{:.0}", part.log10().abs());
    let raised: String = digits.chars().map(raised).collect();
    Cell { shown: format!("10⁻{raised}"), value: part.into() }
}

/// What was rounded to 0 has no sign.
fn without_negative_zero(shown: String) -> String {
    let is_zero = shown.chars().all(|digit| "-0.".contains(digit));
    if is_zero { shown.trim_start_matches('-').to_owned() } else { shown }
}

fn raised(digit: char) -> char {
    let all = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let place = digit.to_digit(10).and_then(|digit| usize::try_from(digit).ok());
    place.map_or(digit, |place| all[place])
}

/// Nothing to say.
pub fn none() -> Cell {
    Cell { shown: "–".to_owned(), value: Value::Null }
}

impl Table {
    /// For a document or a terminal.
    pub fn markdown(&self) -> String {
        let mut text = format!("**{}**\n\n", self.title);
        let line = |text: &mut String, cells: &mut dyn Iterator<Item = &str>| {
            cells.for_each(|cell| text.extend(["| ", cell, " "]));
            text.push_str("|\n");
        };
        line(&mut text, &mut self.columns.iter().copied());
        line(&mut text, &mut self.columns.iter().map(|_| "---"));
        self.rows.iter().for_each(|row| line(&mut text, &mut row.iter().map(|cell| cell.shown.as_str())));
        text
    }

    /// Title and rows, each an object with the columns' names; parts of a whole are numbers from 0 to 1.
    pub fn json(&self) -> Value {
        let object = |row: &Vec<Cell>| {
            let named = self.columns.iter().zip(row);
            Value::Object(
                named.map(|(name, cell)| ((*name).to_owned(), cell.value.clone())).collect::<Map<_, _>>(),
            )
        };
        serde_json::json!({ "title": self.title, "rows": self.rows.iter().map(object).collect::<Vec<_>>() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_and_programs_see_the_same_cells() {
        let row =
            vec![text("hub"), power(1e-6), percent(0.0123, 1), change(-0.5, 0), number(1.25, 1), none()];
        let columns = vec!["who", "size", "rate", "gain", "days", "else"];
        let table = Table { title: "Title".to_owned(), columns, rows: vec![row] };
        let lines = "**Title**\n\n| who | size | rate | gain | days | else |\n| --- | --- | --- | --- | --- | --- |\n";
        assert_eq!(table.markdown(), format!("{lines}| hub | 10⁻⁶ | 1.2 % | -50 % | 1.2 | – |\n"));
        let row = &table.json()["rows"][0];
        assert_eq!((&row["rate"], &row["gain"]), (&0.0123.into(), &(-0.5).into()));
        assert_eq!([change(-1e-9, 1), percent(-0.0, 1)].map(|cell| cell.shown), ["+0.0 %", "0.0 %"]);
    }
}
