//! How the figures are written for Prometheus: names, helps, types, labels.
//!
//! prometheus-client writes the `OpenMetrics` text format, whose families of counters are named without
//! `_total`. What is served is Prometheus' own text format (version 0.0.4), which every scraper and
//! `promtool check metrics` read: [`classic`] makes the one of the other.

use super::metrics::{BUCKETS, Code, Distribution, RESULTS, ResultSums, Sums};
use super::process::Process;
use super::sites::SiteSums;
use super::{Gauges, Limit};
use crate::access::RULES;
use crate::cache::outcome::CacheResult;
use crate::field::status::{Forward, ProxyError};
use crate::policy::Reason;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::fmt;

/// The metrics in Prometheus' text format.
pub(super) fn render(sums: Sums, gauges: Gauges, dropped_lines: u64) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape { sums, gauges, dropped_lines, process: Process::read() }));
    let mut open = String::with_capacity(64 << 10);
    // Writing to a String does not fail; a family that failed would be missing from what was written so far.
    if prometheus_client::encoding::text::encode_registry(&mut open, &registry).is_err() {
        tracing::error!("a metric could not be written");
    }
    classic(&open)
}

/// The figures as JSON, for people and scripts.
pub(super) fn stats(sums: &Sums, gauges: &Gauges, dropped_lines: u64) -> serde_json::Value {
    let by_result = |figure: fn(&ResultSums) -> u64| {
        CacheResult::ALL
            .iter()
            .zip(&sums.by_result)
            .map(|(result, sums)| (result.token().to_owned(), serde_json::Value::from(figure(sums))))
            .collect::<serde_json::Map<_, _>>()
    };
    let tokens = |tokens: &mut dyn Iterator<Item = &'static str>, counts: &[u64]| {
        tokens
            .zip(counts)
            .filter(|(_, count)| **count > 0)
            .map(|(token, count)| (token.to_owned(), serde_json::Value::from(*count)))
            .collect::<serde_json::Map<_, _>>()
    };
    let process = Process::read();
    serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "ready": gauges.ready,
        "requests": {
            "total": sums.by_result.iter().map(|result| result.requests).sum::<u64>(),
            "by_result": by_result(|sums| sums.requests),
            "bytes_in": by_result(|sums| sums.bytes_in),
            "bytes_out": by_result(|sums| sums.bytes_out),
            "first_byte": first_byte(sums),
            "incomplete": sums.incomplete,
            "errors": tokens(&mut ProxyError::ALL.iter().map(|error| error.token()), &sums.errors),
        },
        "cache": {
            "stored": sums.stored,
            "rejections": tokens(&mut Reason::ALL.iter().map(|reason| reason.token()), &sums.rejections),
        },
        "store": gauges.store,
        "upstream": gauges.upstream,
        "server": gauges.server,
        "process": {
            "cpu_seconds": process.cpu_seconds,
            "resident_bytes": process.resident_bytes,
            "open_fds": process.open_fds,
            "start_seconds": process.start_seconds,
        },
        "access_log_dropped_lines": dropped_lines,
        "panics": sums.panics,
    })
}

/// How long heads took, tunnels aside: counts below each bound of microseconds, and one more above the last.
fn first_byte(sums: &Sums) -> serde_json::Value {
    let mut counts = [0_u64; BUCKETS.len() + 1];
    for (result, sums) in CacheResult::ALL.iter().zip(&sums.by_result) {
        if *result != CacheResult::Tunnel {
            counts.iter_mut().zip(sums.first_byte.counts).for_each(|(sum, count)| *sum += count);
        }
    }
    serde_json::json!({ "bounds_us": BUCKETS, "counts": counts })
}

/// All that one scrape tells.
#[derive(Debug)]
struct Scrape {
    sums: Sums,
    gauges: Gauges,
    dropped_lines: u64,
    process: Process,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut families = Families(encoder);
        self.exchanges(&mut families)?;
        self.cache(&mut families)?;
        self.upstream(&mut families)?;
        self.server(&mut families)?;
        self.process(&mut families)
    }
}

impl Scrape {
    fn exchanges(&self, families: &mut Families) -> fmt::Result {
        let sums = &self.sums;
        let mut requests = families.open(
            "larder_requests",
            "Requests by method, status code sent, and what was done. Each counts in one result.",
            MetricType::Counter,
        )?;
        for ((method, code, result), count) in &sums.requests {
            let code = match code {
                Code::Known(code) => &code.to_string(),
                Code::Other => "other",
                Code::None => "none",
            };
            counter(&mut requests, &[("method", method), ("code", code), ("result", result)], *count)?;
        }

        let histograms: [(&str, &str, DistributionOf); 2] = [
            (
                "larder_request_duration_seconds",
                "From a request's head to the end of its response.",
                |sums| &sums.duration,
            ),
            (
                "larder_request_first_byte_seconds",
                "From a request's head until the head of its response was handed over to be sent.",
                |sums| &sums.first_byte,
            ),
        ];
        for (name, help, figure) in histograms {
            let mut family = families.open(name, help, MetricType::Histogram)?;
            for (result, sums) in CacheResult::ALL.iter().zip(&sums.by_result) {
                histogram(&mut family, &[("result", result.token())], figure(sums))?;
            }
        }

        let mut received = families.open(
            "larder_client_received_bytes",
            "Bytes of bodies received from clients, through tunnels too.",
            MetricType::Counter,
        )?;
        for (result, sums) in CacheResult::ALL.iter().zip(&sums.by_result) {
            counter(&mut received, &[("result", result.token())], sums.bytes_in)?;
        }
        let mut sent = families.open(
            "larder_client_sent_bytes",
            "Bytes of bodies sent to clients, through tunnels too.",
            MetricType::Counter,
        )?;
        for (result, sums) in CacheResult::ALL.iter().zip(&sums.by_result) {
            counter(&mut sent, &[("result", result.token())], sums.bytes_out)?;
        }
        families.count(
            "larder_repeats",
            "Requests from the store that were answered as the same ones had been within the second.",
            sums.repeated,
        )?;
        families.count(
            "larder_responses_incomplete",
            "Responses of which not all was sent.",
            sums.incomplete,
        )?;

        let mut denials = families.open(
            "larder_denials",
            "Requests that were refused, by the rule of access.",
            MetricType::Counter,
        )?;
        for (rule, count) in RULES.iter().zip(&sums.denials) {
            counter(&mut denials, &[("rule", rule)], *count)?;
        }
        for (rule, [_, denied]) in sums.rules.iter().filter(|(_, [_, denied])| *denied > 0) {
            counter(&mut denials, &[("rule", rule)], *denied)?;
        }
        let mut decisions = families.open(
            "larder_access_decisions",
            "Requests that a rule of access.rules decided about.",
            MetricType::Counter,
        )?;
        for (rule, counts) in &sums.rules {
            for (action, count) in ["allow", "deny"].iter().zip(counts) {
                counter(&mut decisions, &[("rule", rule), ("action", action)], *count)?;
            }
        }
        let mut forwards = families.open(
            "larder_forwards",
            "Requests that did not end at the store, by the reason that Cache-Status gives as fwd.",
            MetricType::Counter,
        )?;
        for (reason, count) in Forward::ALL.iter().zip(&sums.forwards) {
            counter(&mut forwards, &[("reason", reason.token())], *count)?;
        }

        let mut errors = families.open(
            "larder_errors",
            "Requests that ended in an error, by its type in RFC 9209 section 2.3, as in Proxy-Status.",
            MetricType::Counter,
        )?;
        for (error, count) in ProxyError::ALL.iter().zip(&sums.errors) {
            counter(&mut errors, &[("error", error.token())], *count)?;
        }

        let tunnels = &sums.by_result[CacheResult::Tunnel as usize];
        families.count("larder_tunnels", "Tunnels that ended.", tunnels.requests)?;
        let mut bytes =
            families.open("larder_tunnel_bytes", "Bytes through tunnels that ended.", MetricType::Counter)?;
        counter(&mut bytes, &[("direction", "from_client")], tunnels.bytes_in)?;
        counter(&mut bytes, &[("direction", "to_client")], tunnels.bytes_out)?;
        families.gauge("larder_tunnels_active", "Tunnels open now.", self.gauges.server.tunnels)?;
        self.sites(families)
    }

    /// Only the results that a site has had: most have few of them.
    fn sites(&self, families: &mut Families) -> fmt::Result {
        let figures: [(&str, &str, FigureOf); 2] = [
            ("larder_site_requests", "Requests by site and what was done.", |sums| &sums.requests),
            ("larder_site_sent_bytes", "Bytes of bodies sent to clients, by site.", |sums| &sums.bytes_out),
        ];
        for (name, help, figure) in figures {
            let mut family = families.open(name, help, MetricType::Counter)?;
            for site in &self.sums.sites {
                let figures = CacheResult::ALL.iter().zip(figure(site)).zip(&site.requests);
                for ((result, value), _) in figures.filter(|(_, requests)| **requests > 0) {
                    counter(&mut family, &[("site", &site.name), ("result", result.token())], *value)?;
                }
            }
        }
        Ok(())
    }

    fn cache(&self, families: &mut Families) -> fmt::Result {
        let (sums, store) = (&self.sums, &self.gauges.store);
        families.count(
            "larder_cache_stores",
            "Responses stored, or brought up to date by a 304, fetches in the background among them.",
            store.stored,
        )?;
        let mut rejections = families.open(
            "larder_cache_rejections",
            "Responses from origins that were not stored, by the reason that Cache-Status gives as detail.",
            MetricType::Counter,
        )?;
        for (reason, count) in Reason::ALL.iter().zip(&sums.rejections) {
            counter(&mut rejections, &[("reason", reason.token())], *count)?;
        }
        let mut refusals = families.open(
            "larder_store_refusals",
            "Responses that were to be stored and were not, fetches in the background among them.",
            MetricType::Counter,
        )?;
        for (reason, count) in [
            (Reason::TooLarge, store.too_large),
            (Reason::NoRoom, store.no_room),
            (Reason::Superseded, store.superseded),
        ] {
            counter(&mut refusals, &[("reason", reason.token())], count)?;
        }
        for reason in [Reason::Incomplete, Reason::Abandoned, Reason::Partial, Reason::Framing] {
            let count = store.given_up.get(reason.token()).copied().unwrap_or_default();
            counter(&mut refusals, &[("reason", reason.token())], count)?;
        }
        for (name, help, value) in [
            ("larder_store_entries", "Stored responses.", store.entries),
            ("larder_store_bytes", "Bytes that count against the capacity.", store.bytes),
            (
                "larder_store_response_bytes",
                "Bytes of stored responses, a part of the above.",
                store.stored_bytes,
            ),
            ("larder_store_capacity_bytes", "The bound on the bytes of the store.", store.capacity),
            ("larder_store_fills", "Responses being stored now.", store.fills),
        ] {
            families.gauge(name, help, value)?;
        }
        families.count("larder_store_evictions", "Stored responses that went to make room.", store.evictions)
    }

    fn upstream(&self, families: &mut Families) -> fmt::Result {
        let upstream = &self.gauges.upstream;
        let mut connections = families.open(
            "larder_upstream_connections",
            "Connections to origins and parents, less those of tunnels.",
            MetricType::Gauge,
        )?;
        gauge(&mut connections, &[("state", "active")], upstream.active)?;
        gauge(&mut connections, &[("state", "idle")], upstream.idle)?;
        let mut errors = families.open(
            "larder_upstream_errors",
            "Failures towards origins by their type in RFC 9209, fetches in the background among them.",
            MetricType::Counter,
        )?;
        for error in ProxyError::ALL {
            let count = upstream.errors.get(error.token()).copied().unwrap_or_default();
            counter(&mut errors, &[("error", error.token())], count)?;
        }
        for (name, help, value) in [
            (
                "larder_upstream_connections_opened",
                "Connections opened, tunnels' among them.",
                upstream.opened,
            ),
            (
                "larder_upstream_connections_reused",
                "Requests on a connection that had carried another.",
                upstream.reused,
            ),
            (
                "larder_upstream_retries",
                "Requests sent again, a reused connection being dead.",
                upstream.retried,
            ),
            (
                "larder_upstream_sent_bytes",
                "Bytes sent to origins and parents, less tunnels'.",
                upstream.bytes_sent,
            ),
            (
                "larder_upstream_received_bytes",
                "Bytes received from them, less tunnels'.",
                upstream.bytes_received,
            ),
            ("larder_dns_lookups", "Names asked of the resolver.", upstream.dns_lookups),
            ("larder_dns_cache_hits", "Names answered from the cache of names.", upstream.dns_hits),
            ("larder_dns_failures", "Lookups of names that failed.", upstream.dns_failures),
        ] {
            families.count(name, help, value)?;
        }
        Ok(())
    }

    fn server(&self, families: &mut Families) -> fmt::Result {
        let server = &self.gauges.server;
        families.gauge("larder_connections", "Connections of clients open now.", server.connections)?;
        families.gauge(
            "larder_connections_limit",
            "How many of them may be open.",
            server.max_connections,
        )?;
        families.count("larder_connections_accepted", "Connections of clients accepted.", server.accepted)?;
        families.gauge("larder_flights", "Fetches under way that requests may join.", server.flights)?;
        families.gauge(
            "larder_background",
            "Refreshes, and fills that nobody reads, under way now.",
            server.background,
        )?;
        families.count(
            "larder_background_refusals",
            "Of these, how many were not begun or not finished: as many ran as may.",
            server.refused_background,
        )?;
        let mut limits = families.open(
            "larder_limit_rejections",
            "What was refused, closed or given up, by the limit reached.",
            MetricType::Counter,
        )?;
        for (limit, count) in Limit::ALL.iter().zip(self.sums.limits) {
            counter(&mut limits, &[("limit", limit.token())], count)?;
        }
        counter(&mut limits, &[("limit", "connections")], server.refused_connections)?;
        counter(&mut limits, &[("limit", "connections_per_client")], server.refused_per_client)?;
        for (limit, count) in &server.limits {
            counter(&mut limits, &[("limit", limit)], *count)?;
        }
        families.gauge(
            "larder_buffer_bytes",
            "Bytes reserved for what is on its way between clients and origins.",
            server.buffered,
        )?;
        families.gauge("larder_buffer_capacity_bytes", "The bound on these bytes.", server.buffers)?;
        families.count("larder_buffer_waits", "How often there were none left.", server.buffer_waits)?;
        families.count(
            "larder_accept_pauses",
            "How often accepting paused for want of file descriptors.",
            server.accept_pauses,
        )?;
        families.count(
            "larder_access_log_dropped_lines",
            "Lines of the access log that were lost: its reader was too slow or gone.",
            self.dropped_lines,
        )?;
        families.count(
            "larder_panics",
            "Panics caught: each ended one exchange or connection.",
            self.sums.panics,
        )?;
        families.gauge(
            "larder_ready",
            "1 when ready, 0 when starting or draining.",
            u64::from(self.gauges.ready),
        )?;
        let mut info = families.open("larder_build_info", "What is running; always 1.", MetricType::Gauge)?;
        gauge(&mut info, &[("version", env!("CARGO_PKG_VERSION"))], 1)
    }

    /// Names without our prefix, as all exporters have them.
    fn process(&self, families: &mut Families) -> fmt::Result {
        let process = &self.process;
        if let Some(seconds) = process.cpu_seconds {
            families
                .open("process_cpu_seconds", "CPU time, user and system.", MetricType::Counter)?
                .encode_counter::<NoLabelSet, f64, u64>(&seconds, None)?;
        }
        let gauges = [
            ("process_resident_memory_bytes", "Resident memory.", process.resident_bytes),
            ("process_virtual_memory_bytes", "Virtual memory.", process.virtual_bytes),
            ("process_threads", "Threads.", process.threads),
            ("process_open_fds", "Open file descriptors.", process.open_fds),
            ("process_max_fds", "The soft limit of open file descriptors.", process.max_fds),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value {
                families.gauge(name, help, value)?;
            }
        }
        if let Some(seconds) = process.start_seconds {
            families
                .open("process_start_time_seconds", "Start, since the Unix epoch.", MetricType::Gauge)?
                .encode_gauge(&seconds)?;
        }
        Ok(())
    }
}

/// Writes families one after the other.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn open<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, kind)
    }

    fn count(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.open(name, help, MetricType::Counter)?.encode_counter::<NoLabelSet, u64, u64>(&value, None)
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.open(name, help, MetricType::Gauge)?.encode_gauge(&value)
    }
}

/// One of the distributions of a result.
type DistributionOf = fn(&ResultSums) -> &Distribution;

/// One of the figures of a site, by result.
type FigureOf = fn(&SiteSums) -> &[u64; RESULTS];

type Labels<'a> = &'a [(&'static str, &'a str)];

fn counter(family: &mut MetricEncoder, labels: Labels, value: u64) -> fmt::Result {
    family.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, u64>(&value, None)
}

fn gauge(family: &mut MetricEncoder, labels: Labels, value: u64) -> fmt::Result {
    family.encode_family(&labels)?.encode_gauge(&value)
}

fn histogram(family: &mut MetricEncoder, labels: Labels, distribution: &Distribution) -> fmt::Result {
    let bounds = BUCKETS.iter().map(|micros| *micros as f64 / 1e6).chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = bounds.zip(distribution.counts).collect();
    let count = distribution.counts.iter().sum();
    family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(distribution.seconds, count, &buckets, None)
}

/// Prometheus' text format 0.0.4 from `OpenMetrics` text: a counter's family is named as its samples are.
fn classic(open: &str) -> String {
    let mut out = String::with_capacity(open.len() + 4096);
    let mut help = None;
    for line in open.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            help = described.split_once(' ');
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|typed| typed.split_once(' '))
        {
            let total = if kind == "counter" { "_total" } else { "" };
            let text = help.take().filter(|(of, _)| *of == name).map_or("", |(_, text)| text);
            for part in ["# HELP ", name, total, " ", text, "\n# TYPE ", name, total, " ", kind, "\n"] {
                out.push_str(part);
            }
        } else {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}
