#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn the_text_is_valid_whatever_the_labels_contain() {
    let metrics = vec![
        Metric::counter("shares", "Shares by result")
            .sample(&[("worker", "ann \"the\\first\"\nnext"), ("result", "ok")], 3_u64)
            .sample(&[("worker", "{}=,#"), ("result", "stale")], 0_u64),
        Metric::gauge("hash_rate", "Hashes a second").sample(&[], 1.5e12),
        Metric::gauge("connected", "Whether the node answers").sample(&[], true),
        Metric::gauge("empty", "Without samples"),
    ];
    for format in [Format::OpenMetrics, Format::Prometheus] {
        let text = render("sluice-hub", metrics.clone(), format).unwrap();
        let samples = parse(&text, format);
        assert_eq!(samples.len(), 4, "{text}");
        let shares = &samples[0];
        assert_eq!(shares.name, "sluice_hub_shares_total");
        assert_eq!(shares.labels[0], ("worker".to_owned(), "ann \"the\\first\"\nnext".to_owned()));
        assert_eq!(shares.value, 3.0);
        assert_eq!(samples[2].value, 1.5e12);
    }
}

#[test]
fn a_counters_family_is_called_as_each_format_wants_it() {
    let text =
        |format| render("sluice-tp", vec![Metric::counter("blocks", "Found").sample(&[], 2_u64)], format);
    assert_eq!(
        text(Format::OpenMetrics).unwrap(),
        "# HELP sluice_tp_blocks Found\n# TYPE sluice_tp_blocks counter\nsluice_tp_blocks_total 2\n# EOF\n"
    );
    assert_eq!(
        text(Format::Prometheus).unwrap(),
        "# HELP sluice_tp_blocks_total Found\n# TYPE sluice_tp_blocks_total counter\nsluice_tp_blocks_total 2\n"
    );
}

#[test]
fn open_metrics_are_for_whoever_asks_for_them() {
    let prometheus =
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
    assert_eq!(Format::asked([prometheus]), Format::OpenMetrics);
    assert_eq!(Format::asked(["text/html", "Application/OpenMetrics-Text"]), Format::OpenMetrics);
    for accept in ["*/*", "", "text/html,application/xml;q=0.9", "text/plain"] {
        assert_eq!(Format::asked([accept]), Format::Prometheus, "{accept}");
    }
    assert_eq!(Format::asked([]), Format::Prometheus);
}

#[test]
fn a_name_that_comes_twice_is_rendered_once() {
    let gauge = || Metric::gauge("height", "Height of the tip").sample(&[], 1_u64);
    let text = render("sluice-tp", vec![gauge(), gauge()], Format::OpenMetrics).unwrap();
    assert_eq!(parse(&text, Format::OpenMetrics).len(), 1, "{text}");
}

#[test]
#[should_panic(expected = "TYPE before")]
fn the_validator_of_these_tests_refuses_a_sample_without_a_type() {
    parse("a_total 1\n# EOF\n", Format::OpenMetrics);
}

struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

/// Reads OpenMetrics text, after its ABNF, and panics where it is not valid: each family has one TYPE before its
/// samples, names and labels have the right letters, no label set comes twice, counters end in `_total`, the last line
/// is `# EOF`. Of the format of before the same, but that a counter's family ends in `_total` and no line is `# EOF`.
fn parse(text: &str, format: Format) -> Vec<Sample> {
    let body = match format {
        Format::OpenMetrics => text.strip_suffix("# EOF\n").expect("ends with # EOF"),
        Format::Prometheus => text,
    };
    let (mut family, mut seen, mut series) = (None, HashSet::new(), HashSet::new());
    let mut samples = Vec::new();
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(is_name(name) && ["counter", "gauge"].contains(&kind), "{line}");
            assert!(seen.insert(name.to_owned()), "{name} twice");
            family = Some((name.to_owned(), kind.to_owned()));
        } else if !line.starts_with("# HELP ") {
            let sample = sample(line);
            let (name, kind) = family.as_ref().expect("TYPE before its samples");
            let suffix = if kind == "counter" && format == Format::OpenMetrics { "_total" } else { "" };
            assert!(kind != "counter" || sample.name.ends_with("_total"), "{line}");
            assert_eq!(sample.name, format!("{name}{suffix}"));
            assert!(series.insert(format!("{}{:?}", sample.name, sample.labels)), "twice: {line}");
            samples.push(sample);
        }
    }
    samples
}

fn sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).unwrap();
    let (name, rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let (labels, value) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest),
        None => (Vec::new(), rest),
    };
    Sample { name: name.to_owned(), labels, value: value.strip_prefix(' ').unwrap().parse().unwrap() }
}

fn labels(mut rest: &str) -> (Vec<(String, String)>, &str) {
    let mut labels = Vec::new();
    loop {
        let (name, value) = rest.split_once("=\"").unwrap();
        assert!(is_name(name) && !name.contains(':'), "{name}");
        let mut text = String::new();
        let mut letters = value.char_indices();
        let end = loop {
            match letters.next().unwrap() {
                (end, '"') => break end + 1,
                (_, '\\') => text.push(match letters.next().unwrap().1 {
                    'n' => '\n',
                    letter @ ('"' | '\\') => letter,
                    letter => panic!("escaped {letter}"),
                }),
                (_, letter) => text.push(letter),
            }
        };
        labels.push((name.to_owned(), text));
        match value[end..].split_at(1) {
            (",", more) => rest = more,
            ("}", after) => return (labels, after),
            (other, _) => panic!("{other} after a label"),
        }
    }
}

fn is_name(name: &str) -> bool {
    let letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == ':';
    name.chars().all(letter) && name.starts_with(|letter: char| !letter.is_ascii_digit())
}
