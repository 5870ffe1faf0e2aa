//! Counts by site: a bounded set, and no host ever changes its series.

#![allow(clippy::float_cmp, reason = "counts are small whole numbers")]

use super::metrics::{samples, telemetry};
use super::*;
use crate::telemetry::{Gauges, MAX_SITES, Telemetry};

fn of_host(host: &str) -> Record {
    let uri = format!("http://{host}/").parse().unwrap();
    Record { url: Target::absolute(&uri).unwrap().into(), ..record() }
}

fn wanting(sites: &[&str], first_sites: usize) -> Options {
    let sites = sites.iter().map(|site| (*site).to_owned()).collect();
    Options { sites, first_sites, ..options(Format::Off) }
}

fn counting(sites: &[&str], first_sites: usize) -> Telemetry {
    let telemetry = telemetry();
    telemetry.metrics.reconfigure(&wanting(sites, first_sites));
    telemetry
}

/// Hits by site, in the order of the names.
fn hits(telemetry: &Telemetry) -> Vec<(String, f64)> {
    let samples = samples(&telemetry.render(&Gauges::default()));
    let site = |name: &str| {
        let rest = name.strip_prefix("larder_site_requests_total{site=\"")?;
        rest.strip_suffix("\",result=\"hit\"}").map(str::to_owned)
    };
    samples.iter().filter_map(|(name, count)| Some((site(name)?, *count))).collect()
}

#[track_caller]
fn check(telemetry: &Telemetry, hosts: &[&str], expected: &[(&str, f64)]) {
    for host in hosts {
        telemetry.record(&of_host(host));
    }
    let expected: Vec<_> = expected.iter().map(|(site, count)| ((*site).to_owned(), *count)).collect();
    assert_eq!(hits(telemetry), expected);
}

#[test]
fn nothing_is_counted_by_site_unless_it_is_wanted() {
    check(&telemetry(), &["a.example"], &[]);
    check(&counting(&[], 0), &["a.example"], &[]);
}

#[test]
fn listed_sites_count_by_themselves_and_the_rest_as_other() {
    let telemetry = counting(&["a.example", ".example.org", "::1", "192.0.2.1"], 0);
    let hosts = [
        "a.example",
        "A.example:8080",
        "user:password@a.example.",
        "b.a.example",
        "example.org",
        "deep.below.example.org",
        "notexample.org",
        "[::1]:81",
        "192.0.2.1",
        "other",
    ];
    check(
        &telemetry,
        &hosts,
        &[(".example.org", 2.0), ("192.0.2.1", 1.0), ("[::1]", 1.0), ("a.example", 3.0), ("other", 3.0)],
    );
    let bytes = samples(&telemetry.render(&Gauges::default()));
    assert_eq!(bytes["larder_site_sent_bytes_total{site=\"a.example\",result=\"hit\"}"], 3.0 * 1024.0);
}

#[test]
fn the_first_hosts_that_are_answered_have_a_series_each() {
    let telemetry = counting(&["listed.example"], 2);
    for result in [CacheResult::Error, CacheResult::Denied, CacheResult::Local, CacheResult::Invalid] {
        let outcome = Outcome { result, ..Outcome::default() };
        telemetry.record(&Record { outcome, ..of_host("misspelt.example") });
    }
    telemetry.record(&Record { status: None, ..of_host("left.example") });
    telemetry.record(&Record { url: "/".into(), ..record() });
    check(
        &telemetry,
        &["listed.example", "one.example", "other", "xn--bcher-kva.example", "three.example", "one.example"],
        &[("listed.example", 1.0), ("one.example", 2.0), ("other", 4.0), ("xn--bcher-kva.example", 1.0)],
    );
    telemetry.record(&Record {
        outcome: Outcome { result: CacheResult::Error, ..Outcome::default() },
        ..of_host("one.example")
    });
    let samples = samples(&telemetry.render(&Gauges::default()));
    assert_eq!(samples["larder_site_requests_total{site=\"one.example\",result=\"error\"}"], 1.0);
    assert_eq!(samples["larder_site_requests_total{site=\"other\",result=\"denied\"}"], 1.0);
}

#[test]
fn a_host_keeps_its_series_whatever_a_reload_lists() {
    let telemetry = counting(&[".example.org"], 1);
    check(&telemetry, &["a.example.org", "met.example"], &[(".example.org", 1.0), ("met.example", 1.0)]);
    telemetry.metrics.reconfigure(&wanting(&["a.example.org", ".example", "new.example.net"], 1));
    check(
        &telemetry,
        &["a.example.org", "met.example", "b.example", "new.example.net", "no.example.net"],
        &[
            (".example", 1.0),
            (".example.org", 2.0),
            ("met.example", 2.0),
            ("new.example.net", 1.0),
            ("other", 1.0),
        ],
    );
    // What is taken out of the list stays; nobody new is met.
    telemetry.metrics.reconfigure(&wanting(&[], 0));
    check(
        &telemetry,
        &["met.example", "a.example.org", "late.test"],
        &[
            (".example", 1.0),
            (".example.org", 3.0),
            ("met.example", 3.0),
            ("new.example.net", 1.0),
            ("other", 2.0),
        ],
    );
}

#[test]
fn a_hundred_thousand_hosts_from_many_threads_give_a_fixed_number_of_series() {
    let telemetry = counting(&["listed.example"], 50);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let telemetry = &telemetry;
            scope.spawn(move || {
                for n in 0..25_000 {
                    telemetry.record(&of_host(&format!("h{n}-{thread}.example")));
                }
            });
        }
    });
    let hits = hits(&telemetry);
    assert_eq!(hits.len(), 51);
    assert_eq!(hits.iter().map(|(_, count)| count).sum::<f64>(), 100_000.0);
}

#[test]
fn reloads_do_not_pass_the_bound_either() {
    let telemetry = counting(&[], MAX_SITES);
    for n in 0..MAX_SITES + 50 {
        telemetry.record(&of_host(&format!("h{n}.example")));
    }
    telemetry.metrics.reconfigure(&wanting(&["late.example", ".late.test"], MAX_SITES));
    telemetry.record(&of_host("late.example"));
    telemetry.record(&of_host("a.late.test"));
    let hits = hits(&telemetry);
    assert_eq!(hits.len(), MAX_SITES + 1);
    assert!(hits.contains(&("other".to_owned(), 52.0)));
}
