//! Metrics, and their text form by `prometheus-client` (OpenMetrics 1.0, which Prometheus reads).

use std::collections::HashSet;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

/// One metric with all its samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Snake case, without the program's prefix and without `_total`: both are added.
    pub name: std::borrow::Cow<'static, str>,
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

/// The text at `/metrics`. `program` is the prefix, as `sluice-hub`. A name that comes twice is rendered once, the
/// first time: twice would make the whole text invalid.
pub(crate) fn render(program: &str, mut metrics: Vec<Metric>) -> Result<String, fmt::Error> {
    let mut seen = HashSet::new();
    metrics.retain(|metric| seen.insert(metric.name.clone()));
    let mut registry = Registry::with_prefix(program.replace('-', "_"));
    registry.register_collector(Box::new(Snapshot(metrics)));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Snapshot(Vec<Metric>);

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.iter().try_for_each(|metric| encode(metric, &mut encoder))
    }
}

fn encode(metric: &Metric, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
    let kind = match metric.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
    };
    let mut family = encoder.encode_descriptor(&metric.name, metric.help, None, kind)?;
    for (labels, value) in &metric.samples {
        if labels.is_empty() {
            sample(&mut family, metric.kind, *value)?;
        } else {
            sample(&mut family.encode_family(labels)?, metric.kind, *value)?;
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

/// What the text is.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[cfg(test)]
mod tests;
