//! What is told about exchanges: one [`Record`] each, for the access log and the metrics.
//!
//! Parts that work outside exchanges (store, upstream, server) are read at the scrape, as [`Gauges`].
//! Diagnostics go through `tracing` and are not this module's.

pub mod access_log;
mod exposition;
mod gauges;
mod line;
pub mod metrics;
mod process;
pub mod recent;
pub mod record;
mod rules;
mod shown;
mod sites;
#[cfg(test)]
mod tests;
mod write;

pub use access_log::AccessLog;
pub use metrics::{Gauges, Metrics};
pub use recent::Recent;
pub use record::{Limit, Record, Url};
pub use sites::MAX_SITES;

/// `log`'s and `metrics`' settings. All of them change live.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// `log.access`: `auto` is text on a terminal, JSON otherwise.
    pub access: Format,
    /// `log.query`: whether queries are shown. Default false: `?...`.
    pub query: bool,
    /// `log.queue`: lines that may wait for a slow reader of the log before lines are dropped. Default 8192.
    pub queue: usize,
    /// `metrics.sites`: hosts that are counted by themselves, exact or `.suffix`, in lower case. Default none.
    pub sites: Vec<String>,
    /// `metrics.first_sites`: how many other hosts are, the first that are answered. Default 0.
    pub first_sites: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { access: Format::Auto, query: false, queue: 8192, sites: Vec::new(), first_sites: 0 }
    }
}

/// The access log's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// [`Format::Text`] on a terminal, [`Format::Json`] otherwise.
    Auto,
    /// Words for a person, in a fixed order.
    Text,
    /// One JSON object a line.
    Json,
    /// Squid's native format.
    Squid,
    /// Apache's combined format.
    Combined,
    /// No access log.
    Off,
}

impl Format {
    /// All but [`Format::Auto`].
    const WRITTEN: [Self; 5] = [Self::Text, Self::Json, Self::Squid, Self::Combined, Self::Off];
}

/// The access log, the metrics and the last exchanges: everything that wants to know of an exchange.
#[derive(Debug)]
pub struct Telemetry {
    /// One line an exchange.
    pub log: AccessLog,
    /// Counts and distributions.
    pub metrics: Metrics,
    /// The last exchanges.
    pub recent: Recent,
}

impl Telemetry {
    /// Tells all of them of one exchange. Never waits, never fails.
    pub fn record(&self, record: &Record) {
        self.metrics.observe(record);
        self.log.write(record);
        self.recent.keep(record, self.log.shows_queries());
    }

    /// Whether a line shows the request's User-Agent and Referer; else nobody needs them.
    pub fn shows_agents(&self) -> bool {
        self.log.format() == Format::Combined
    }

    /// Whether a line shows the response's media type.
    pub fn shows_media_types(&self) -> bool {
        self.log.format() == Format::Squid
    }

    /// Takes new settings, for exchanges from now on.
    pub fn reconfigure(&self, options: &Options) {
        let hides = self.log.shows_queries() && !options.query;
        self.log.reconfigure(options);
        self.metrics.reconfigure(options);
        if hides {
            self.recent.forget();
        }
    }

    /// The metrics in Prometheus' text format, with what `gauges` tells of the parts outside exchanges.
    /// Reads a few small files; call it where that may block.
    pub fn render(&self, gauges: &Gauges) -> String {
        exposition::render(self.metrics.sums(), gauges.clone(), self.log.dropped())
    }

    /// The same figures as JSON, shorter: what `larder stats` prints.
    pub fn stats(&self, gauges: &Gauges) -> serde_json::Value {
        exposition::stats(&self.metrics.sums(), gauges, self.log.dropped())
    }
}
