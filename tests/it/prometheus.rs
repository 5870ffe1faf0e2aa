//! Prometheus itself: it scrapes a running proxy and its rules answer; and whatever the rules and the dashboard ask
//! for is there.

use crate::admin::check_by_promtool;
use crate::support::proxy::{Lines, command_of, root};
use crate::support::{Client, Origin, Proxy, eventually, nobody, skip};
use larder::cache::CacheResult;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use tempfile::TempDir;

const RULES: &str = "config/prometheus/rules.yml";
const EXAMPLE: &str = "config/prometheus/prometheus.yml";
const TESTS: &str = "config/prometheus/rules.test.yml";

fn tree(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap()
}

/// A running Prometheus, ended when dropped.
struct Prometheus {
    address: SocketAddr,
    child: Child,
    said: Lines,
    _directory: TempDir,
}

impl Prometheus {
    /// With the example's configuration, but for where the proxy is and how often it is asked. `None` where
    /// Prometheus is not installed. It has scraped once.
    fn start(proxy: &Proxy) -> Option<Self> {
        let directory = TempDir::new().unwrap();
        let config = tree(EXAMPLE)
            .replace("15s", "1s")
            .replace("127.0.0.1:9128", &proxy.admin.to_string())
            .replace("- rules.yml", &format!("- {}", root().join(RULES).display()));
        let file = directory.path().join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        let started = command_of("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut child) = started else {
            skip("Prometheus", "not installed");
            return None;
        };
        let said = Lines::read(child.stderr.take().unwrap());
        let listening = said.wait("Prometheus' start", |line| line.contains("\"Listening on\""));
        let address = listening.split("address=").nth(1).unwrap().split(' ').next().unwrap();
        let prometheus = Self { address: address.parse().unwrap(), child, said, _directory: directory };
        // Until then it answers 503.
        prometheus.said.wait("Prometheus' start", |line| line.contains("Server is ready"));
        eventually("the first scrape", || prometheus.value("larder_ready").filter(|ready| *ready > 0.5));
        Some(prometheus)
    }

    fn ask(&self, path: &str) -> serde_json::Value {
        let mut client = Client::connect(self.address);
        client.send(format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address));
        let response = client.response("GET");
        serde_json::from_slice(&response.body).unwrap_or_else(|e| panic!("{e}: {response}"))
    }

    /// The series of the answer, as `name="value"` pairs, and their values. What is no `PromQL` panics.
    #[track_caller]
    fn series(&self, query: &str) -> Vec<(String, f64)> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = self.ask(&format!("/api/v1/query?query={encoded}"));
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        let series = answer["data"]["result"].as_array().unwrap().iter();
        let told = series.map(|series| {
            let labels = series["metric"].as_object().unwrap().iter();
            let labels: Vec<_> = labels.map(|(name, value)| format!("{name}={value}")).collect();
            (labels.join(","), series["value"][1].as_str().unwrap().parse().unwrap())
        });
        told.collect()
    }

    #[track_caller]
    fn values(&self, query: &str) -> Vec<f64> {
        self.series(query).into_iter().map(|(_, value)| value).collect()
    }

    fn value(&self, query: &str) -> Option<f64> {
        self.values(query).first().copied()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("--- Prometheus said:\n{}", self.said.all().join("\n"));
        }
    }
}

/// Six hits, a miss and a bypass, of 100 bytes each but the bypass of 500; and one failure.
fn exchanges(proxy: &Proxy) {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], &[b'x'; 100]);
    origin.serve("/posted", "200 OK", &[], &[b'x'; 500]);
    for _ in 0..7 {
        proxy.get(&origin.url("/x")).assert_status(200);
    }
    proxy.request("POST", &origin.url("/posted"), &[], "x").assert_status(200);
    proxy.get(&format!("http://{}/", nobody())).assert_status(502);
    proxy.log.wait_count("the log", 9, |_| true);
}

#[test]
fn a_prometheus_that_scrapes_answers_for_the_hit_ratio() {
    let proxy = Proxy::open();
    let Some(prometheus) = Prometheus::start(&proxy) else { return };
    exchanges(&proxy);
    for (rule, expected) in [
        ("instance:larder_requests:hit_ratio_rate5m", 6.0 / 8.0),
        ("instance:larder_client_sent_bytes:hit_ratio_rate5m", 600.0 / 1_200.0),
        ("instance:larder_requests:error_ratio_rate5m", 1.0 / 9.0),
    ] {
        // Until the scrape that has seen all of them, it is another one.
        eventually(rule, || prometheus.value(rule).filter(|found| (found - expected).abs() < 1e-6));
    }
    let quantile = "instance_result:larder_request_first_byte_seconds:p99_rate5m{result=\"hit\"}";
    eventually(quantile, || prometheus.value(quantile).filter(|seconds| *seconds > 0.0));
    let healthy = |rule: &serde_json::Value| rule["health"] == "ok";
    let rules = eventually("all rules", || {
        let answer = prometheus.ask("/api/v1/rules");
        let groups = answer["data"]["groups"].as_array()?;
        let rules: Vec<_> = groups.iter().flat_map(|g| g["rules"].as_array().unwrap()).cloned().collect();
        (!rules.is_empty() && rules.iter().all(healthy)).then_some(rules)
    });
    assert_eq!(rules.len(), names_in_rules("record").len() + names_in_rules("alert").len());
}

#[test]
fn every_query_of_the_dashboard_finds_something() {
    let proxy = Proxy::with("metrics.first_sites = 3");
    // Sites have no series before their first request, and no rate before their second scrape.
    exchanges(&proxy);
    let Some(prometheus) = Prometheus::start(&proxy) else { return };
    exchanges(&proxy);
    for (title, query) in queries() {
        // What has not happened is left out of the picture.
        let query = query.strip_suffix(" > 0").unwrap_or(&query);
        eventually(&format!("{title}: {query}"), || (!prometheus.values(query).is_empty()).then_some(()));
    }
}

/// What the panels answer, in order, after known traffic: a panel's title; what is in the labels of one of its series;
/// and its value, from and to.
const ANSWERS: [(&str, &str, f64, f64); 29] = [
    ("Hit ratio by requests", "", 6.0 / 29.0 - 1e-6, 6.0 / 29.0 + 1e-6),
    ("Hit ratio by bytes", "", 600.0 / 1_201_201.0 - 1e-9, 600.0 / 1_201_201.0 + 1e-9),
    ("Bytes saved", "", 599.0, 6_000.0),
    ("Requests", "", 1e-3, 1e3),
    ("Hit ratio", "", 6.0 / 29.0 - 1e-6, 6.0 / 29.0 + 1e-6),
    ("Hit ratio", "", 600.0 / 1_201_201.0 - 1e-9, 600.0 / 1_201_201.0 + 1e-9),
    ("Requests by cache result", "result=\"bypass\"", 1e-4, 1e3),
    ("Traffic and what is saved of it", "", 1.0, 1e7),
    ("Traffic and what is saved of it", "", 1.0, 1e7),
    ("Traffic and what is saved of it", "", 1e-2, 1e5),
    ("Errors towards origins by type", "error=\"connection_refused\"", 1e-4, 1e3),
    ("Time to first byte by cache result", "result=\"hit\"", 1e-7, 10.0),
    ("Time to first byte by cache result", "result=\"miss\"", 1e-7, 10.0),
    ("Duration by cache result", "result=\"hit\"", 1e-7, 10.0),
    ("Duration by cache result", "result=\"miss\"", 1e-7, 10.0),
    ("Why requests went to an origin", "reason=\"uri-miss\"", 1e-4, 1e3),
    ("Why responses were not stored", "reason=\"private\"", 1e-4, 1e3),
    ("Occupancy of the store", "", 300_000.0, 1_048_576.0),
    ("Occupancy of the store", "", 300_000.0, 1_048_576.0),
    ("Occupancy of the store", "", 1_048_576.0, 1_048_576.0),
    ("Stored and evicted", "", 1e-3, 1e3),
    ("Stored and evicted", "", 1e-3, 1e3),
    ("Tunnels", "", 1.0, 1.0),
    ("Saturation", "", 1e-9, 0.5),
    ("Saturation", "", 1e-9, 0.99),
    ("Saturation", "", 0.0, 0.99),
    ("What ought not to happen", "", 0.0, 0.0),
    ("What ought not to happen", "limit=\"connections\"", 0.0, 0.0),
    ("What ought not to happen", "", 0.0, 1e3),
];

#[test]
fn each_panel_of_the_dashboard_answers_its_question() {
    let proxy = Proxy::with("cache.memory = '1MiB'");
    let Some(prometheus) = Prometheus::start(&proxy) else { return };
    let origin = Origin::start();
    origin.serve("/private", "200 OK", &["Cache-Control: private"], b"x");
    origin.on("/fill", |x| x.reply("200 OK", &["Cache-Control: max-age=60"], vec![b'x'; 60_000]));
    // Six hits and, beside the failure, 23 that were none.
    exchanges(&proxy);
    proxy.get(&origin.url("/private")).assert_status(200);
    for number in 0..20 {
        proxy.get(&origin.url(&format!("/fill?{number}"))).assert_status(200);
    }
    let mut tunnel = proxy.client();
    tunnel.send(format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", origin.address));
    tunnel.response("CONNECT").assert_status(200);
    let mut panels = queries().into_iter();
    for (title, labels, from, to) in ANSWERS {
        let (_, query) = panels
            .by_ref()
            .find(|(panel, _)| panel == title)
            .unwrap_or_else(|| panic!("the panel {title:?} asks no more"));
        eventually(&format!("{title} from {from} to {to}: {query}"), || {
            let mut series = prometheus.series(&query).into_iter().filter(|(of, _)| of.contains(labels));
            series.find(|(_, value)| (from..=to).contains(value))
        });
    }
}

/// The names behind `kind: ` in the rules.
fn names_in_rules(kind: &str) -> BTreeSet<String> {
    let start = format!("- {kind}: ");
    let names: Vec<_> =
        tree(RULES).lines().filter_map(|line| Some(line.trim().strip_prefix(&start)?.to_owned())).collect();
    let set: BTreeSet<_> = names.iter().cloned().collect();
    assert_eq!(set.len(), names.len(), "each {kind} once");
    set
}

fn dashboard() -> serde_json::Value {
    serde_json::from_str(&tree("config/grafana/larder.json")).unwrap()
}

/// The dashboard's queries, with the titles of their panels, for all instances and times.
fn queries() -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let mut queries = Vec::new();
    for panel in dashboard()["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let query = text(&target["expr"])
                .replace("$__rate_interval", "5m")
                .replace("$__range", "6h")
                .replace("$job", "larder")
                .replace("$instance", ".+");
            queries.push((text(&panel["title"]), query));
        }
    }
    queries
}

#[test]
fn the_dashboard_is_one_that_grafana_takes() {
    let dashboard = dashboard();
    assert_eq!((&dashboard["schemaVersion"], &dashboard["id"]), (&39.into(), &serde_json::Value::Null));
    let variables: Vec<_> =
        dashboard["templating"]["list"].as_array().unwrap().iter().map(|v| &v["name"]).collect();
    assert_eq!(variables, ["datasource", "job", "instance"]);
    let panels = dashboard["panels"].as_array().unwrap();
    let mut places = BTreeSet::new();
    for (number, panel) in panels.iter().enumerate() {
        assert_eq!(panel["id"], number + 1);
        for told in [&panel["title"], &panel["description"], &panel["fieldConfig"]["defaults"]["unit"]] {
            assert!(!told.as_str().unwrap().is_empty(), "{panel}");
        }
        for with_source in panel["targets"].as_array().unwrap().iter().chain([panel]) {
            assert_eq!(with_source["datasource"]["uid"], "${datasource}", "{panel}");
        }
        let at = |what: &str| panel["gridPos"][what].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24);
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(places.insert((x, y)), "{} lies over another", panel["title"]);
            }
        }
    }
}

/// The labels of each name in a scrape, and those that Prometheus adds.
fn labels(scrape: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in scrape.lines().filter(|line| !line.starts_with('#')) {
        let series = line.rsplit_once(' ').unwrap().0;
        let (name, rest) = series.split_once('{').unwrap_or((series, ""));
        let labels = found.entry(name.to_owned()).or_default();
        labels.extend(["job", "instance"].map(str::to_owned));
        labels.extend(matched(rest));
    }
    found
}

/// The names before `=`, `!=`, `=~` or `!~` and a quoted value.
fn matched(selector: &str) -> Vec<String> {
    let names = selector.split('"').step_by(2);
    let names = names.map(|part| part.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Checks that each metric of a query is in a scrape with the labels that it is selected and summed by.
fn check_names(query: &str, scraped: &BTreeMap<String, BTreeSet<String>>, recorded: &BTreeSet<String>) {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut of_query = BTreeSet::new();
    let mut rest = query;
    while let Some(start) = rest.find(is_name) {
        let word = &rest[start..];
        let (word, after) = word.split_at(word.find(|c| !is_name(c)).unwrap_or(word.len()));
        rest = after;
        if word.contains(":larder_") {
            assert!(recorded.contains(word), "{word} is not recorded: {query}");
        } else if word.starts_with("larder_") || word.starts_with("process_") {
            let labels = scraped.get(word).unwrap_or_else(|| panic!("{word} is not scraped: {query}"));
            if let Some(selector) = after.strip_prefix('{') {
                let (selector, after) = selector.split_once('}').unwrap();
                for label in matched(selector) {
                    assert!(labels.contains(&label), "{word} has no label {label}: {query}");
                }
                rest = after;
            }
            of_query.extend(labels);
        }
    }
    for (at, _) in query.match_indices(" by (") {
        for label in query[at + 5..].split(')').next().unwrap().split(',') {
            assert!(of_query.iter().any(|known| *known == label.trim()), "nothing has {label}: {query}");
        }
    }
}

#[test]
fn the_dashboard_and_the_rules_name_only_metrics_and_labels_that_there_are() {
    let proxy = Proxy::with("metrics.first_sites = 3");
    exchanges(&proxy);
    let scrape = proxy.admin("GET", "/metrics", &[], "").text();
    check_by_promtool(&scrape);
    let scraped = labels(&scrape);
    let recorded = names_in_rules("record");
    for (_, query) in queries() {
        check_names(&query, &scraped, &recorded);
    }
    for variable in dashboard()["templating"]["list"].as_array().unwrap() {
        check_names(variable["definition"].as_str().unwrap_or_default(), &scraped, &recorded);
    }
    let rules = tree(RULES);
    for rule in rules.split("\n      - ").skip(1) {
        let expression = rule.split("expr: ").nth(1).unwrap();
        let expression = expression.split("\n        for:").next().unwrap();
        check_names(expression.split("\n        labels:").next().unwrap(), &scraped, &recorded);
    }
    let tests = tree(TESTS);
    for line in tests.lines().filter_map(|line| line.trim().strip_prefix("- {series: '")) {
        let series = line.split('\'').next().unwrap();
        if !series.starts_with("up{") {
            check_names(series, &scraped, &recorded);
        }
    }
}

/// The page, the rules and Grafana's dashboard divide by the same.
#[test]
fn a_hit_ratio_is_the_same_wherever_it_is_told() {
    let (cache, origin) = (CacheResult::FROM_CACHE, CacheResult::FROM_ORIGIN);
    let hits = cache.map(CacheResult::token).join("|");
    let all = format!("{hits}|{}", origin.map(CacheResult::token).join("|"));
    let ratios = [tree(RULES), tree("config/grafana/larder.json").replace("\\\"", "\"")];
    for text in ratios {
        assert!(text.contains(&format!("=~\"{hits}\"")) && text.contains(&format!("=~\"{all}\"")), "{text}");
    }
    let page = tree("src/admin/dashboard.js");
    for (name, tokens) in [("CACHE", &cache[..]), ("ORIGIN", &origin[..])] {
        let list: Vec<_> = tokens.iter().map(|result| format!("'{}'", result.token())).collect();
        assert!(page.contains(&format!("const FROM_{name} = [{}]", list.join(", "))), "{name}");
    }
}

#[test]
fn what_is_not_scraped_is_found_in_a_query() {
    let scraped = labels("# TYPE larder_x_total counter\nlarder_x_total{result=\"hit\"} 1\n");
    let recorded = BTreeSet::from(["instance:larder_x:rate5m".to_owned()]);
    let fails = |query: &str| std::panic::catch_unwind(|| check_names(query, &scraped, &recorded)).is_err();
    assert!(!fails("sum by (job, result) (rate(larder_x_total{job=\"a\",result=~\"b|c\"}[5m])) > 0"));
    assert!(!fails("instance:larder_x:rate5m"));
    for wrong in [
        "rate(larder_x[5m])",
        "1 - larder_y_total",
        "larder_x_total{reason=\"a\"}",
        "larder_x_total{job=\"a\", code!~\"b\"}",
        "sum by (le) (larder_x_total)",
        "instance:larder_y:rate5m",
    ] {
        assert!(fails(wrong), "{wrong}");
    }
}

#[test]
fn the_rules_pass_promtool_with_a_test_for_each() {
    let tests = tree(TESTS);
    for name in names_in_rules("record") {
        assert!(tests.contains(&format!("expr: round({name}, ")), "{name} has no test");
    }
    for name in names_in_rules("alert") {
        assert!(tests.contains(&format!("- alertname: {name}\n")), "{name} never fires in a test");
        assert!(tests.contains(&format!("alertname: {name}, ")), "{name} is never quiet in a test");
    }
    for arguments in [["check", "config", EXAMPLE], ["check", "rules", RULES], ["test", "rules", TESTS]] {
        let Ok(output) = command_of("promtool").args(arguments).current_dir(root()).output() else {
            return skip("promtool", "not installed");
        };
        assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
    }
}
