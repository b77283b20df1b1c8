//! The text format of Prometheus, as far as tests read it.

use anyhow::Context;

/// All samples of a `/metrics` page.
#[derive(Debug, Clone)]
pub struct Metrics(Vec<Sample>);

#[derive(Debug, Clone)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Metrics {
    /// Reads a page.
    ///
    /// # Errors
    /// A line that is neither comment nor sample.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines
            .map(|line| sample(line).with_context(|| format!("not a sample: {line}")))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Sum over all samples of this name that carry these labels; `None` if there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let carries = |sample: &Sample, (label, value): &(&str, &str)| {
            sample.labels.iter().any(|(own, of_own)| own == label && of_own == value)
        };
        let fits =
            |sample: &&Sample| sample.name == name && labels.iter().all(|label| carries(sample, label));
        self.0.iter().filter(fits).map(|sample| sample.value).reduce(|sum, value| sum + value)
    }

    /// Every name, once.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.0.iter().map(|sample| sample.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (head, value) = line.rsplit_once(' ')?;
    let (name, labels) = match head.split_once('{') {
        Some((name, labels)) => (name, self::labels(labels.strip_suffix('}')?)?),
        None => (head, Vec::new()),
    };
    Some(Sample { name: name.to_owned(), labels, value: value.parse().ok()? })
}

/// `name="value",…`; values may hold commas and escaped quotes.
fn labels(mut text: &str) -> Option<Vec<(String, String)>> {
    let mut labels = Vec::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"")?;
        let end = end_of_quoted(rest)?;
        let value = rest[..end].replace("\\\"", "\"").replace("\\n", "\n").replace("\\\\", "\\");
        labels.push((name.to_owned(), value));
        text = rest[end + 1..].strip_prefix(',').unwrap_or(&rest[end + 1..]);
    }
    Some(labels)
}

fn end_of_quoted(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(place, character)| {
        let ends = character == '"' && !escaped;
        escaped = character == '\\' && !escaped;
        ends.then_some(place)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_name_and_labels() {
        let text = "# HELP a b\n# TYPE a counter\na_total{worker=\"x, \\\"y\\\"\",reason=\"stale\"} 3\na_total{worker=\"z\"} 4\nup 1\n";
        let metrics = Metrics::parse(text).unwrap();
        assert_eq!(metrics.sum("a_total", &[]), Some(7.0));
        assert_eq!(metrics.sum("a_total", &[("worker", "x, \"y\""), ("reason", "stale")]), Some(3.0));
        assert_eq!(metrics.sum("a_total", &[("worker", "none")]), None);
        assert_eq!(metrics.names(), ["a_total", "up"]);
        assert!(Metrics::parse("what is this?").is_err());
    }
}
