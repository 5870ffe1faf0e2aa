//! Counts by site: for those that are listed or came first, and as "other" for all else.

use crate::support::dns::NameServer;
use crate::support::{Origin, Proxy};

const REQUESTS: &str = "larder_site_requests_total";

fn names(hosts: &[&str]) -> NameServer {
    let names = NameServer::start();
    for host in hosts {
        names.address_of(host, [127, 0, 0, 1]);
    }
    names
}

/// Requests and sent bytes of a site.
fn counted(proxy: &Proxy, site: &str) -> (f64, f64) {
    let site = format!("site=\"{site}\"");
    (proxy.metric(REQUESTS, &[&site]), proxy.metric("larder_site_sent_bytes_total", &[&site]))
}

#[track_caller]
fn check(proxy: &Proxy, site: &str, requests: f64, bytes: f64) {
    let (found, sent) = counted(proxy, site);
    assert!((found - requests).abs() < 0.1 && (sent - bytes).abs() < 0.1, "{site}: {found}, {sent} bytes");
}

#[test]
fn sites_are_told_apart_where_it_is_wanted_and_a_reload_only_adds() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"four");
    let hosts = ["a.test", "listed.test", "b.below.test", "second.test", "third.test"];
    let names = names(&hosts).config();
    let sites = |keys: &str| format!("{names}\nmetrics = {{ {keys} }}");
    let proxy = Proxy::with(&sites("sites = ['listed.test', '.below.test'], first_sites = 1"));
    let get = |hosts: &[&str]| {
        let before = proxy.log.all().len();
        for host in hosts {
            proxy.get(&origin.url_at(host, "/x")).assert_body("four");
        }
        proxy.log.wait_count("the log", before + hosts.len(), |_| true);
    };
    // Nobody is there: it takes no place.
    proxy.get("http://missing.test/").assert_error(502, "dns_error");
    proxy.log.wait_count("the log", 1, |_| true);
    let other = counted(&proxy, "other");
    get(&["a.test", "a.test", "listed.test", "b.below.test", "second.test"]);
    check(&proxy, "a.test", 2.0, 8.0);
    check(&proxy, "listed.test", 1.0, 4.0);
    check(&proxy, ".below.test", 1.0, 4.0);
    check(&proxy, "other", other.0 + 1.0, other.1 + 4.0);
    assert!((proxy.metric(REQUESTS, &["site=\"a.test\"", "result=\"hit\""]) - 1.0).abs() < 0.1);

    proxy.write_config(&sites("sites = ['third.test', 'b.below.test', '.test'], first_sites = 0"));
    let told = proxy.run(&["reload", "--json"]);
    assert!(told.status.success(), "{told:?}");
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(told["live"], serde_json::json!(["metrics.sites", "metrics.first_sites"]));
    get(&["a.test", "listed.test", "b.below.test", "second.test", "third.test"]);
    check(&proxy, "a.test", 3.0, 12.0);
    check(&proxy, "listed.test", 2.0, 8.0);
    check(&proxy, ".below.test", 2.0, 8.0);
    check(&proxy, "third.test", 1.0, 4.0);
    check(&proxy, ".test", 1.0, 4.0);
    check(&proxy, "b.below.test", 0.0, 0.0);
}

#[test]
fn hosts_make_no_series_unless_they_are_among_the_first() {
    let origin = Origin::on_address("0.0.0.0:0");
    origin.serve("/x", "200 OK", &[], b"x");
    for (first, expected) in [(0, 0), (3, 4)] {
        let proxy = Proxy::with(&format!("metrics.first_sites = {first}"));
        for n in 1..=20 {
            proxy.get(&origin.url_at(&format!("127.0.7.{n}"), "/x")).assert_body("x");
        }
        proxy.log.wait_count("the log", 20, |_| true);
        let text = proxy.admin("GET", "/metrics", &[], "").text();
        let series = text.lines().filter(|line| line.starts_with(REQUESTS)).count();
        assert_eq!(series, expected, "{text}");
    }
}
