//! The subscriber that formats log events and writes each as one line.

use std::{cell::RefCell, io::IsTerminal, time::SystemTime};

use tracing::{Event, Metadata, Subscriber, level_filters::LevelFilter, span};
use tracing_subscriber::filter::Targets;

use super::{
    FUNCTION_NAME, LOG_FORMAT, METRICS,
    json::JsonFormat,
    repeats::{Repeats, Summary},
    text,
};
use crate::Env;

/// A subscriber that writes each log event as one line.
pub(super) struct Logs<W> {
    filter: Targets,
    max_level: LevelFilter,
    format: Format,
    /// `None` if each rejection is written, at DEBUG and TRACE.
    repeats: Option<Repeats>,
    write: W,
}

enum Format {
    Json(JsonFormat),
    Text { is_coloured: bool },
}

impl<W: Fn(&[u8]) + 'static> Logs<W> {
    pub(super) fn new(env: &Env, filter: Targets, write: W) -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        let is_json = env.get(LOG_FORMAT).map_or(!is_terminal, |format| format.eq_ignore_ascii_case("json"));
        let format = if is_json {
            let has_metrics = env.get(METRICS) != Some("off");
            let function = env.get(FUNCTION_NAME).filter(|_| has_metrics);
            Format::Json(JsonFormat::new(function))
        } else {
            Format::Text { is_coloured: is_terminal }
        };
        let levels = filter.iter().map(|(_, level)| level).chain(filter.default_level());
        let max_level = levels.max().unwrap_or(LevelFilter::OFF);
        // DEBUG is set to see each request.
        let repeats = (max_level <= LevelFilter::INFO).then(Repeats::default);
        Self { filter, max_level, format, repeats, write }
    }

    /// Writes the counts of rejections that are not written yet.
    pub(super) fn flush(&self) {
        self.write_summaries(&self.repeats.as_ref().map(Repeats::take).unwrap_or_default());
    }

    fn line(&self, event: &Event<'_>) {
        let now = SystemTime::now();
        let (is_written, due) = self.repeats.as_ref().map_or((true, Vec::new()), |repeats| repeats.admit(event, now));
        self.write_summaries(&due);
        if is_written {
            self.write(|line| match &self.format {
                Format::Json(format) => format.render(line, event, now),
                Format::Text { is_coloured } => text::render(line, event, now, *is_coloured),
            });
        }
    }

    fn write_summaries(&self, summaries: &[Summary]) {
        for summary in summaries {
            self.write(|line| match &self.format {
                Format::Json(format) => format.render_summary(line, summary),
                Format::Text { .. } => text::render_summary(line, summary),
            });
        }
    }

    /// Writes one line.
    fn write(&self, render: impl Fn(&mut Vec<u8>)) {
        thread_local! {
            /// A buffer that is reused for all lines of a thread.
            static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        LINE.with(|line| {
            let write = |line: &mut Vec<u8>| {
                line.clear();
                render(line);
                line.push(b'\n');
                (self.write)(line);
            };
            match line.try_borrow_mut() {
                Ok(mut line) => write(&mut line),
                // A value logs while it is formatted.
                Err(_) => write(&mut Vec::new()),
            }
        });
    }
}

impl<W: Fn(&[u8]) + 'static> Subscriber for Logs<W> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Not `is_event()`: `tracing::enabled!` passes metadata that is neither a span nor an event.
        !metadata.is_span() && self.filter.would_enable(metadata.target(), metadata.level())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.max_level)
    }

    fn event(&self, event: &Event<'_>) {
        self.line(event);
    }

    // Spans are ignored: each log event has its own request id.
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// The subscriber as a layer, for use with the layer that exports spans, which needs a registry.
#[cfg(feature = "otel")]
impl<W: Fn(&[u8]) + Send + Sync + 'static> Logs<W> {
    pub(super) fn into_layer<S>(self: std::sync::Arc<Self>) -> impl tracing_subscriber::Layer<S>
    where
        S: Subscriber + for<'s> tracing_subscriber::registry::LookupSpan<'s>,
    {
        use tracing_subscriber::{Layer, filter::FilterFn, layer};

        struct Lines<W>(std::sync::Arc<Logs<W>>);

        impl<S: Subscriber, W: Fn(&[u8]) + Send + Sync + 'static> Layer<S> for Lines<W> {
            fn on_event(&self, event: &Event<'_>, _: layer::Context<'_, S>) {
                self.0.line(event);
            }
        }

        let filter = self.filter.clone();
        let is_wanted = move |metadata: &Metadata<'_>| {
            !metadata.is_span() && filter.would_enable(metadata.target(), metadata.level())
        };
        let max_level = self.max_level;
        Lines(self).with_filter(FilterFn::new(is_wanted).with_max_level_hint(max_level))
    }
}
