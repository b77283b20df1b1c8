//! The status page as HTML: one file, no script, readable in light and dark, on a telephone and in a text browser.

use std::fmt::Write;
use std::time::Duration;

use super::page::{Cell, Page, Section, Tone};

/// Rows that a section shows.
const ROWS: usize = 1000;
/// Seconds after which the browser loads the page again.
const REFRESH: u32 = 5;

const STYLE: &str = "
:root { color-scheme: light dark; --text: #1c2126; --soft: #66717c; --line: #dfe4e8; --back: #f5f7f8; --card: #fff;
  --good: #17763b; --warn: #9a5b00; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e8eb; --soft: #97a2ac; --line: #2f363d; --back: #14181b;
  --card: #1c2125; --good: #5ccb84; --warn: #e5a84b; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 76rem; background: var(--back); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.45rem; margin: 0 0 1.2rem; }
h2 { font-size: 1.02rem; margin: 0 0 .5rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .9rem 1.1rem; margin: 0 0 1rem;
  overflow-x: auto; }
p { margin: 0 0 .6rem; color: var(--soft); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
table.wide { width: 100%; }
th, td { text-align: left; padding: .3rem 1.4rem .3rem 0; vertical-align: top; border-top: 1px solid var(--line);
  overflow-wrap: anywhere; }
tr:first-child > * { border-top: 0; }
th { font-weight: 500; color: var(--soft); white-space: nowrap; }
td.number { text-align: right; white-space: nowrap; }
.good { color: var(--good); } .warn { color: var(--warn); } .bad { color: var(--bad); font-weight: 600; }
footer, footer a { color: var(--soft); font-size: .87rem; }
";

/// The whole document.
pub(super) fn render(page: &Page, program: &str, version: &str, uptime: Duration) -> String {
    let title = escape(&page.title);
    let sections: String = page.sections.iter().map(section).collect();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"refresh\" content=\"{REFRESH}\">\n<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n\
         <body>\n<h1>{title}</h1>\n{sections}<footer>{program} {version}, up {uptime} · the page renews itself every \
         {REFRESH} seconds · <a href=\"/api/v1/\">JSON</a> · <a href=\"/metrics\">metrics</a></footer>\n</body>\n</html>\n",
        program = escape(program),
        version = escape(version),
        uptime = Cell::from(uptime).text,
    )
}

fn section(section: &Section) -> String {
    let mut html = format!("<section>\n<h2>{}</h2>\n", escape(&section.title));
    if !section.note.is_empty() {
        let _ = writeln!(html, "<p>{}</p>", escape(&section.note));
    }
    if section.rows.is_empty() {
        html.push_str("<p>none</p>\n");
    } else {
        table(section, &mut html);
    }
    if let Some(more) = section.rows.len().checked_sub(ROWS).filter(|more| *more > 0) {
        let _ = writeln!(html, "<p>and {more} more</p>");
    }
    html.push_str("</section>\n");
    html
}

fn table(section: &Section, html: &mut String) {
    let wide = if section.header.is_empty() { "" } else { " class=\"wide\"" };
    let _ = writeln!(html, "<table{wide}>");
    if !section.header.is_empty() {
        let cells: String = section.header.iter().map(|name| format!("<th>{}</th>", escape(name))).collect();
        let _ = writeln!(html, "<tr>{cells}</tr>");
    }
    for row in section.rows.iter().take(ROWS) {
        let pair = section.header.is_empty();
        let cells: String = row.iter().enumerate().map(|(column, value)| cell(value, pair, column)).collect();
        let _ = writeln!(html, "<tr>{cells}</tr>");
    }
    html.push_str("</table>\n");
}

fn cell(cell: &Cell, pair: bool, column: usize) -> String {
    let text = escape(&cell.text);
    if pair && column == 0 {
        return format!("<th>{text}</th>");
    }
    let tone = match cell.tone {
        Tone::Plain => "",
        Tone::Good => "good",
        Tone::Warn => "warn",
        Tone::Bad => "bad",
    };
    let classes = [tone, if !pair && is_number(&cell.text) { "number" } else { "" }];
    let classes = classes.iter().filter(|class| !class.is_empty()).copied().collect::<Vec<_>>().join(" ");
    if classes.is_empty() {
        format!("<td>{text}</td>")
    } else {
        format!("<td class=\"{classes}\">{text}</td>")
    }
}

/// Whether a text is a number, with or without a unit: `12`, `1.5 TH/s`.
fn is_number(text: &str) -> bool {
    let number = text.split(' ').next().unwrap_or_default();
    number.parse::<f64>().is_ok() && text.split(' ').count() <= 2
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests;
