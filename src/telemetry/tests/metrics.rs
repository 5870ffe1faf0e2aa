//! The metrics, read back as a scraper does.

#![allow(clippy::float_cmp, reason = "counts are small whole numbers")]

use super::*;
use crate::telemetry::{Gauges, Metrics, Recent, Telemetry};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn telemetry() -> Telemetry {
    let log = AccessLog::new(&options(Format::Off), Box::new(io::sink())).unwrap();
    Telemetry { log, metrics: Metrics::new(), recent: Recent::new() }
}

/// The samples by their name and labels, after a check that the text is well-formed: HELP and TYPE once for each
/// family and before its samples, no series twice, names of the right form.
pub(super) fn samples(text: &str) -> BTreeMap<String, f64> {
    let (mut helps, mut types, mut samples) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').unwrap();
            assert!(helps.insert(name) && words.ends_with('.'), "{line}");
        } else if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, kind) = typed.split_once(' ').unwrap();
            assert!(helps.contains(name) && types.insert(name, kind).is_none(), "{line}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            assert!(name.starts_with("larder_") || name.starts_with("process_"), "{line}");
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| {
                    name.strip_suffix(suffix).filter(|name| types.get(name) == Some(&"histogram"))
                })
                .unwrap_or(name);
            assert!(types.contains_key(family), "no TYPE before {line}");
            assert!(samples.insert(series.to_owned(), value.parse().unwrap()).is_none(), "twice: {series}");
        }
    }
    assert_eq!(helps.len(), types.len());
    samples
}

#[test]
fn every_family_has_help_and_type_even_before_the_first_request() {
    let samples = samples(&telemetry().render(&Gauges::default()));
    for reason in Reason::ALL {
        assert_eq!(samples[&format!("larder_cache_rejections_total{{reason=\"{}\"}}", reason.token())], 0.0);
    }
    for forward in Forward::ALL {
        assert_eq!(samples[&format!("larder_forwards_total{{reason=\"{}\"}}", forward.token())], 0.0);
    }
    for error in ProxyError::ALL {
        assert_eq!(samples[&format!("larder_errors_total{{error=\"{}\"}}", error.token())], 0.0);
    }
    assert_eq!(samples[concat!("larder_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}")], 1.0);
}

#[test]
fn each_exchange_counts_once_with_its_method_code_and_result() {
    let telemetry = telemetry();
    telemetry.record(&record());
    telemetry.record(&Record { repeated: true, ..record() });
    telemetry.record(&failure());
    let samples = samples(&telemetry.render(&Gauges::default()));
    assert_eq!(samples["larder_requests_total{method=\"GET\",code=\"200\",result=\"hit\"}"], 2.0);
    assert_eq!(samples["larder_requests_total{method=\"POST\",code=\"502\",result=\"error\"}"], 1.0);
    assert_eq!(samples["larder_errors_total{error=\"http_response_incomplete\"}"], 1.0);
    assert_eq!(samples["larder_client_sent_bytes_total{result=\"hit\"}"], 2048.0);
    assert_eq!(samples["larder_client_received_bytes_total{result=\"error\"}"], 7.0);
    assert_eq!(samples["larder_responses_incomplete_total"], 1.0);
    assert_eq!(samples["larder_repeats_total"], 1.0);
    assert_eq!(samples["larder_forwards_total{reason=\"method\"}"], 1.0);
    let total: f64 =
        samples.iter().filter(|(name, _)| name.starts_with("larder_requests_total")).map(|(_, n)| n).sum();
    assert_eq!(total, 3.0);
}

#[test]
fn histograms_are_cumulative_and_sum_up() {
    let metrics = telemetry();
    for micros in [50, 51, 700_000, 10_000_000_000] {
        metrics.record(&Record { duration: Duration::from_micros(micros), ..record() });
    }
    metrics.record(&failure());
    let samples = samples(&metrics.render(&Gauges::default()));
    let bucket =
        |le: &str| samples[&format!("larder_request_duration_seconds_bucket{{le=\"{le}\",result=\"hit\"}}")];
    assert_eq!((bucket("0.00005"), bucket("0.0001"), bucket("0.5"), bucket("1.0")), (1.0, 2.0, 2.0, 3.0));
    assert_eq!((bucket("600.0"), bucket("+Inf")), (3.0, 4.0));
    assert_eq!(samples["larder_request_duration_seconds_count{result=\"hit\"}"], 4.0);
    let sum = samples["larder_request_duration_seconds_sum{result=\"hit\"}"];
    assert!((sum - 10_000.700_101).abs() < 1e-6, "{sum}");
    assert_eq!(samples["larder_request_first_byte_seconds_count{result=\"hit\"}"], 4.0);
    assert_eq!(samples["larder_request_first_byte_seconds_count{result=\"error\"}"], 0.0);
}

#[test]
fn what_clients_and_origins_send_makes_a_bounded_number_of_series() {
    let telemetry = telemetry();
    let count = || samples(&telemetry.render(&Gauges::default())).len();
    for code in 100..=999 {
        telemetry.record(&Record { status: StatusCode::from_u16(code).ok(), ..record() });
    }
    telemetry.record(&Record { status: None, ..record() });
    let before = count();
    for n in 0..2_000_u32 {
        let method = Method::from_bytes(format!("M{n}").as_bytes()).unwrap();
        telemetry.record(&Record { method, url: format!("http://h{n}.example/").into(), ..record() });
    }
    assert_eq!(count(), before + 1);
    let samples = samples(&telemetry.render(&Gauges::default()));
    assert_eq!(samples["larder_requests_total{method=\"other\",code=\"200\",result=\"hit\"}"], 2_000.0);
    assert_eq!(samples["larder_requests_total{method=\"GET\",code=\"none\",result=\"hit\"}"], 1.0);
    assert!(samples["larder_requests_total{method=\"GET\",code=\"other\",result=\"hit\"}"] > 400.0);
    assert!(samples.keys().filter(|name| name.starts_with("larder_requests_total")).count() < 75);
}

#[track_caller]
fn check_rejection(
    result: CacheResult,
    forward: Option<Forward>,
    stored: bool,
    detail: Option<Reason>,
    counted: u64,
) {
    let metrics = Metrics::new();
    let mut record = record();
    record.outcome = Outcome { result, forward, stored, detail, ..record.outcome };
    metrics.observe(&record);
    let sums = metrics.sums();
    assert_eq!(sums.rejections.iter().sum::<u64>(), counted, "{result:?} {detail:?}");
    assert_eq!(sums.stored, u64::from(stored));
    if let Some(reason) = detail.filter(|_| counted > 0) {
        assert_eq!(sums.rejections[Reason::ALL.iter().position(|other| *other == reason).unwrap()], 1);
    }
}

#[test]
fn a_response_counts_as_stored_or_as_rejected_or_as_neither() {
    let miss = Some(Forward::UriMiss);
    check_rejection(CacheResult::Miss, miss, true, None, 0);
    check_rejection(CacheResult::Miss, miss, false, Some(Reason::NoStore), 1);
    check_rejection(CacheResult::Miss, miss, false, Some(Reason::Override), 1);
    check_rejection(CacheResult::Bypass, Some(Forward::Method), false, Some(Reason::Method), 1);
    check_rejection(CacheResult::Stale, Some(Forward::Stale), false, Some(Reason::StaleIfError), 0);
    check_rejection(CacheResult::Revalidated, Some(Forward::Stale), true, Some(Reason::Expired), 0);
    check_rejection(CacheResult::Hit, None, false, Some(Reason::MaxStale), 0);
    check_rejection(CacheResult::Local, None, false, Some(Reason::OnlyIfCached), 0);
}

#[test]
fn enums_are_numbered_as_their_tables_list_them() {
    for (number, result) in CacheResult::ALL.iter().enumerate() {
        assert_eq!(*result as usize, number);
    }
    for (number, reason) in Reason::ALL.iter().enumerate() {
        assert_eq!(*reason as usize, number);
    }
    for (number, forward) in Forward::ALL.iter().enumerate() {
        assert_eq!(*forward as usize, number);
    }
    for (number, error) in ProxyError::ALL.iter().enumerate() {
        assert_eq!(*error as usize, number);
    }
}

#[test]
fn gauges_panics_and_stats_are_told() {
    let telemetry = telemetry();
    telemetry.metrics.panicked();
    let tunnel = Outcome { result: CacheResult::Tunnel, hit: false, ..record().outcome };
    telemetry.record(&Record {
        outcome: tunnel,
        bytes_in: 5,
        bytes_out: 9,
        method: Method::CONNECT,
        ..record()
    });
    let mut gauges = Gauges { ready: true, ..Gauges::default() };
    gauges.store.capacity = 1 << 30;
    gauges.store.stored = 4;
    gauges.store.no_room = 1;
    gauges.store.given_up.insert(Reason::Incomplete.token(), 2);
    gauges.upstream.idle = 3;
    gauges.upstream.errors.insert(ProxyError::DnsError.token(), 6);
    gauges.server.refused_per_client = 2;
    gauges.server.max_connections = 10;
    gauges.server.background = 7;
    gauges.server.refused_background = 8;
    let samples = samples(&telemetry.render(&gauges));
    for (name, value) in [
        ("larder_panics_total", 1.0),
        ("larder_ready", 1.0),
        ("larder_store_capacity_bytes", 1_073_741_824.0),
        ("larder_cache_stores_total", 4.0),
        ("larder_store_refusals_total{reason=\"no-room\"}", 1.0),
        ("larder_store_refusals_total{reason=\"incomplete\"}", 2.0),
        ("larder_store_refusals_total{reason=\"abandoned\"}", 0.0),
        ("larder_upstream_errors_total{error=\"dns_error\"}", 6.0),
        ("larder_upstream_connections{state=\"idle\"}", 3.0),
        ("larder_limit_rejections_total{limit=\"connections_per_client\"}", 2.0),
        ("larder_connections_limit", 10.0),
        ("larder_background", 7.0),
        ("larder_background_refusals_total", 8.0),
        ("larder_tunnels_total", 1.0),
        ("larder_tunnel_bytes_total{direction=\"from_client\"}", 5.0),
        ("larder_tunnel_bytes_total{direction=\"to_client\"}", 9.0),
        ("larder_access_log_dropped_lines_total", 0.0),
    ] {
        assert_eq!(samples[name], value, "{name}");
    }
    let stats = telemetry.stats(&gauges);
    assert_eq!(stats["requests"]["total"], 1);
    assert_eq!(stats["requests"]["by_result"]["tunnel"], 1);
    assert_eq!(stats["store"]["capacity"], 1_u64 << 30);
    assert_eq!(stats["panics"], 1);
}

/// Run by hand, with Prometheus' own tool: `cargo test --lib promtool -- --ignored`.
#[test]
#[ignore = "needs promtool, of Debian's package prometheus"]
fn promtool_accepts_the_metrics() {
    let telemetry = telemetry();
    telemetry.record(&record());
    telemetry.record(&failure());
    let mut promtool = std::process::Command::new("promtool")
        .args(["check", "metrics", "--extended"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(telemetry.render(&Gauges::default()).as_bytes()).unwrap();
    assert!(promtool.wait().unwrap().success());
}
