//! What a scrape reads: Prometheus' text format 0.0.4 as the specification prints it, and OpenMetrics 1.0.

use std::fmt::Write;
use std::sync::Arc;

use http::HeaderMap;
use http::header::ACCEPT;

use super::Kind;
use super::instrument::Recorded;
use super::series::{Series, Shape};
use crate::shared::choices;

/// How metrics are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text format 0.0.4: the default.
    Text004,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// What a client with these headers wants: OpenMetrics if it likes it at least as much as plain text.
    pub fn accepted(headers: &HeaderMap) -> Self {
        let weight = |types: &[&str]| {
            let named = |range: &str| types.iter().any(|one| one.eq_ignore_ascii_case(range));
            let weights =
                choices(headers, &ACCEPT).filter(|(range, _)| named(range)).map(|(_, weight)| weight);
            weights.max().unwrap_or(0)
        };
        let (open, text) = (weight(&["application/openmetrics-text"]), weight(&["text/plain", "text/*"]));
        if open > 0 && open >= text { Self::OpenMetrics } else { Self::Text004 }
    }

    /// The `Content-Type` of the answer.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text004 => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

pub(super) fn render(families: &[Arc<dyn Series>], format: Format) -> String {
    let mut page = TextPage { out: String::with_capacity(4096), format };
    for family in families {
        page.family(family.as_ref());
    }
    if format == Format::OpenMetrics {
        page.out.push_str("# EOF\n");
    }
    page.out
}

struct TextPage {
    out: String,
    format: Format,
}

impl TextPage {
    fn family(&mut self, family: &dyn Series) {
        let shape = family.shape();
        let name = &*shape.name;
        let base = match (self.format, shape.kind) {
            // OpenMetrics: the family has no suffix, its samples have.
            (Format::OpenMetrics, Kind::Counter) => name.strip_suffix("_total").unwrap_or(name),
            _ => name,
        };
        let quotes = self.format == Format::OpenMetrics;
        self.push(format_args!("# HELP {base} {}\n", escape(&shape.help, quotes)));
        self.push(format_args!("# TYPE {base} {}\n", shape.kind.as_str()));
        for (labels, sample) in family.samples() {
            self.series(shape, &labels, &sample);
        }
    }

    fn series(&mut self, shape: &Shape, labels: &[String], sample: &Recorded) {
        let said = shape.labels.iter().zip(labels).filter(|(_, value)| !value.is_empty());
        let labels: Vec<_> =
            said.map(|(name, value)| format!("{name}=\"{}\"", escape(value, true))).collect();
        let labels = labels.join(",");
        match sample {
            Recorded::Count(total) => self.sample(&shape.name, "", &labels, total),
            Recorded::Value(value) => self.sample(&shape.name, "", &labels, &number(*value)),
            Recorded::Buckets(counts, sum) => self.histogram(shape, &labels, counts, *sum),
        }
    }

    fn histogram(&mut self, shape: &Shape, labels: &str, counts: &[u64], sum: f64) {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut total = 0;
        for (bound, count) in shape.bounds.iter().chain(&[f64::INFINITY]).zip(counts) {
            total += count;
            let bound = self.bound(*bound);
            self.sample(&shape.name, "_bucket", &format!("{labels}{comma}le=\"{bound}\""), &total);
        }
        self.sample(&shape.name, "_sum", labels, &number(sum));
        self.sample(&shape.name, "_count", labels, &total);
    }

    fn sample(&mut self, name: &str, suffix: &str, labels: &str, value: &dyn std::fmt::Display) {
        if labels.is_empty() {
            self.push(format_args!("{name}{suffix} {value}\n"));
        } else {
            self.push(format_args!("{name}{suffix}{{{labels}}} {value}\n"));
        }
    }

    /// A bucket's bound: OpenMetrics wants `1.0` where the older format is used to `1`.
    fn bound(&self, bound: f64) -> String {
        let text = number(bound);
        if self.format == Format::OpenMetrics && bound.fract() == 0.0 { format!("{text}.0") } else { text }
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.out.write_fmt(text);
    }
}

fn number(value: f64) -> String {
    if value == f64::INFINITY {
        "+Inf".to_owned()
    } else if value == f64::NEG_INFINITY {
        "-Inf".to_owned()
    } else {
        value.to_string() // `NaN` is spelt the same
    }
}

fn escape(text: &str, quotes: bool) -> String {
    let escaped = text.replace('\\', "\\\\").replace('\n', "\\n");
    if quotes { escaped.replace('"', "\\\"") } else { escaped }
}
