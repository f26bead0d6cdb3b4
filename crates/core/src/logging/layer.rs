//! Between `tracing` and the formats: which events are written, and with the context of which spans.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use smallvec::SmallVec;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::field::Fields;
use super::format::{Formatter, LogLine};
use super::output::Output;
use crate::config::Level;
use crate::shared::Clock;

/// Targets of drivers that are noisy or print parameter values below warn.
const QUIET: &[&str] = &["tokio_postgres", "hyper", "hyper_util", "h2", "rustls", "mio", "want", "tower"];

/// The spans around an event: seldom more than these.
type Few<T> = SmallVec<[T; 4]>;

pub(super) struct LogLayer {
    level: Arc<AtomicU8>,
    output: Arc<Output>,
    clock: Arc<dyn Clock>,
    formatter: Formatter,
}

impl LogLayer {
    pub(super) fn new(
        level: Arc<AtomicU8>,
        output: Arc<Output>,
        clock: Arc<dyn Clock>,
        formatter: Formatter,
    ) -> Self {
        Self { level, output, clock, formatter }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for LogLayer {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let importance = rank(metadata);
        if importance > Level::Warn && is_quiet(metadata.target()) {
            return false;
        }
        // Spans carry context, which belongs to lines of every level; what touches security is always written.
        metadata.is_span() || metadata.target() == "security" || importance <= level_of(&self.level)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match level_of(&self.level) {
            Level::Error | Level::Warn | Level::Info => LevelFilter::INFO, // not less: context spans are `info_span!`s
            Level::Http | Level::Debug => LevelFilter::DEBUG, // http events may be debug in `tracing`
            Level::Verbose => LevelFilter::TRACE,
        })
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::with_room();
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::with_room();
        event.record(&mut fields);
        let spans: Few<_> = context.event_scope(event).into_iter().flatten().collect(); // innermost first
        let extensions: Few<_> = spans.iter().map(|span| span.extensions()).collect();
        let mut line = LogLine::new(self.clock.now(), rank(event.metadata()));
        for fields in
            std::iter::once(&fields).chain(extensions.iter().filter_map(|held| held.get::<Fields>()))
        {
            for (key, value) in fields.iter() {
                line.add(key, value);
            }
        }
        self.output.push(&self.formatter.format(&line));
    }
}

/// The level behind the atomic, which only ever holds a [`Level`].
pub(super) fn level_of(atomic: &AtomicU8) -> Level {
    let number = usize::from(atomic.load(Ordering::Relaxed));
    Level::ALL.get(number).copied().unwrap_or(Level::Verbose)
}

/// `tracing` knows neither http nor verbose: the first is a target, the second its TRACE.
fn rank(metadata: &Metadata<'_>) -> Level {
    if metadata.target() == "http" {
        return Level::Http;
    }
    match *metadata.level() {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::INFO => Level::Info,
        tracing::Level::DEBUG => Level::Debug,
        tracing::Level::TRACE => Level::Verbose,
    }
}

fn is_quiet(target: &str) -> bool {
    let rest =
        QUIET.iter().find_map(|quiet| target.strip_prefix(quiet).filter(|rest| !rest.starts_with('_')));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}
