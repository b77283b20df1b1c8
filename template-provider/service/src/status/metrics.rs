//! Metrics, and their text form by `prometheus-client`: OpenMetrics 1.0 for whoever asks for it, as Prometheus does, and for all
//! others the format of before, which more programs read.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

/// One metric with all its samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Snake case, without the program's prefix and without `_total`: both are added.
    pub name: Cow<'static, str>,
    /// One sentence without a full stop.
    pub help: &'static str,
    /// Whether it only rises.
    pub kind: Kind,
    /// Labels and value; no two with the same labels.
    pub samples: Vec<(Labels, Value)>,
}

/// Labels of one sample.
pub(crate) type Labels = Vec<(String, String)>;

/// What a metric does over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Never falls. Totals that must survive a restart belong into [`crate::Counters`].
    Counter,
    /// Rises and falls.
    Gauge,
}

/// The value of one sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// A count.
    Count(u64),
    /// Anything else. Finite.
    Real(f64),
}

impl Metric {
    /// A gauge without samples.
    #[must_use]
    pub fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name: name.into(), help, kind: Kind::Gauge, samples: Vec::new() }
    }

    /// A counter without samples.
    #[must_use]
    pub fn counter(name: &'static str, help: &'static str) -> Self {
        Self { kind: Kind::Counter, ..Self::gauge(name, help) }
    }

    /// The metric with one more sample.
    #[must_use]
    pub fn sample(mut self, labels: &[(&str, &str)], value: impl Into<Value>) -> Self {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.samples.push((labels, value.into()));
        self
    }
}

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<u32> for Value {
    fn from(count: u32) -> Self {
        Self::Count(count.into())
    }
}

impl From<usize> for Value {
    fn from(count: usize) -> Self {
        Self::Count(count as u64)
    }
}

impl From<bool> for Value {
    fn from(yes: bool) -> Self {
        Self::Count(yes.into())
    }
}

impl From<f64> for Value {
    fn from(real: f64) -> Self {
        Self::Real(real)
    }
}

/// The two forms of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' text format 0.0.4: a counter's family has its samples' name, `_total` and all, and nothing says where the text ends.
    Prometheus,
}

impl Format {
    const OPEN_METRICS: &str = "application/openmetrics-text";

    /// What a request asks for with these headers `Accept`.
    pub(crate) fn asked<'a>(accepts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut ranges = accepts.into_iter().flat_map(|accept| accept.split(','));
        let is_open = |range: &str| {
            let name = range.split(';').next().unwrap_or_default();
            name.trim().eq_ignore_ascii_case(Self::OPEN_METRICS)
        };
        if ranges.any(is_open) { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// What the text is.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// The text at `/metrics`. `program` is the prefix, as `sluice-hub`. A name that comes twice is rendered once, the
/// first time: twice would make the whole text invalid.
pub(crate) fn render(program: &str, mut metrics: Vec<Metric>, format: Format) -> Result<String, fmt::Error> {
    let mut seen = HashSet::new();
    metrics.retain(|metric| seen.insert(metric.name.clone()));
    let mut registry = Registry::with_prefix(program.replace('-', "_"));
    registry.register_collector(Box::new(Snapshot { metrics, format }));
    let mut text = String::new();
    encode_registry(&mut text, &registry)?;
    if format == Format::OpenMetrics {
        encode_eof(&mut text)?;
    }
    Ok(text)
}

#[derive(Debug)]
struct Snapshot {
    metrics: Vec<Metric>,
    format: Format,
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.metrics.iter().try_for_each(|metric| encode(metric, self.format, &mut encoder))
    }
}

fn encode(metric: &Metric, format: Format, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
    let kind = match metric.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
    };
    // The writer puts `_total` behind the samples of a counter; where the family has it already they are written like a gauge's.
    let (name, written) = match (metric.kind, format) {
        (Kind::Counter, Format::Prometheus) => (Cow::Owned(format!("{}_total", metric.name)), Kind::Gauge),
        (kind, _) => (Cow::Borrowed(&*metric.name), kind),
    };
    let mut family = encoder.encode_descriptor(&name, metric.help, None, kind)?;
    for (labels, value) in &metric.samples {
        if labels.is_empty() {
            sample(&mut family, written, *value)?;
        } else {
            sample(&mut family.encode_family(labels)?, written, *value)?;
        }
    }
    Ok(())
}

fn sample(encoder: &mut MetricEncoder<'_>, kind: Kind, value: Value) -> Result<(), fmt::Error> {
    match (kind, value) {
        (Kind::Counter, Value::Count(count)) => encoder.encode_counter::<NoLabelSet, _, u64>(&count, None),
        (Kind::Counter, Value::Real(real)) => encoder.encode_counter::<NoLabelSet, _, u64>(&real, None),
        (Kind::Gauge, Value::Count(count)) => encoder.encode_gauge(&count),
        (Kind::Gauge, Value::Real(real)) => encoder.encode_gauge(&real),
    }
}

#[cfg(test)]
mod tests;
