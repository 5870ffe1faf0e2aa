//! The admin listener: metrics, health, statistics, purge and explain, and who may ask.

use crate::support::{Gate, Origin, Proxy, eventually, nobody, skip};

#[test]
fn metrics_have_help_type_and_a_prefix() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"x");
    let proxy = Proxy::open();
    proxy.get(&origin.url("/x"));
    proxy.get(&origin.url("/x"));
    proxy.log.wait_count("the log", 2, |_| true);
    let response = proxy.admin("GET", "/metrics", &[], "");
    response.assert_status(200);
    assert!(
        response.field("content-type").unwrap().starts_with("text/plain; version="),
        "{:?}",
        response.head
    );
    let text = response.text();
    for line in text.lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
        let name = line.split(['{', ' ']).next().unwrap();
        assert!(name.starts_with("larder_") || name.starts_with("process_"), "{line}");
        let family = name
            .trim_end_matches("_total")
            .trim_end_matches("_bucket")
            .trim_end_matches("_sum")
            .trim_end_matches("_count");
        for comment in ["# HELP ", "# TYPE "] {
            let told = [name, family].iter().any(|n| text.contains(&format!("{comment}{n} ")));
            assert!(told, "{comment}for {name}");
        }
    }
    for name in [
        "larder_request_duration_seconds_bucket",
        "larder_request_first_byte_seconds_bucket",
        "larder_client_received_bytes_total",
        "larder_client_sent_bytes_total",
        "larder_upstream_received_bytes_total",
        "larder_upstream_sent_bytes_total",
        "larder_store_entries",
        "larder_store_bytes",
        "larder_store_capacity_bytes",
        "larder_store_evictions_total",
        "larder_cache_stores_total",
        "larder_cache_rejections_total{reason=",
        "larder_errors_total{error=",
        "larder_upstream_connections{state=",
        "larder_upstream_connections_opened_total",
        "larder_upstream_errors_total{error=",
        "larder_dns_lookups_total",
        "larder_dns_cache_hits_total",
        "larder_dns_failures_total",
        "larder_tunnels_total",
        "larder_tunnels_active",
        "larder_tunnel_bytes_total{direction=",
        "larder_access_log_dropped_lines_total",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "larder_build_info",
    ] {
        assert!(text.lines().any(|l| l.starts_with(name)), "{name} is missing");
    }
    for (labels, count) in
        [(["result=\"miss\"", "method=\"GET\""], 1.0), (["result=\"hit\"", "code=\"200\""], 1.0)]
    {
        assert!((proxy.metric("larder_requests_total", &labels) - count).abs() < 0.1, "{labels:?}\n{text}");
    }
}

#[test]
fn every_result_is_reached_and_each_request_counts_in_exactly_one() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/x", move |x| {
        if x.number == 1 {
            x.write(
                "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nETag: \"v\"\r\nContent-Length: 2\r\n\r\nx",
            );
            held.pass();
            x.write("x");
        } else {
            // It is current, and has become stale.
            x.reply("304 Not Modified", &["Cache-Control: max-age=50", "Age: 100", "ETag: \"v\""], "");
        }
    });
    let proxy = Proxy::with("access.ports = [80, '1024-65535']");
    let url = origin.url("/x");
    let mut clients = [proxy.client(), proxy.client()];
    for client in &mut clients {
        // Who has the head of what is still on its way has joined it, or leads.
        client.begin("GET", &url, &[], "");
        client.head("GET").assert_status(200);
    }
    gate.open();
    proxy.log.wait_count("a miss, and who joined it", 2, |_| true);
    proxy.get(&url).assert_hit();
    proxy.get_with(&url, &["Cache-Control: no-cache"]).assert_body("xx");
    proxy.get_with(&url, &["Cache-Control: max-stale"]).assert_hit();
    proxy.request("PUT", &origin.url("/other"), &[], "x");
    proxy.raw("GET foo HTTP/1.1\r\nHost: h\r\n\r\n");
    proxy.get("http://127.0.0.1:22/");
    proxy.raw("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    let nobody = nobody();
    proxy.get(&format!("http://{nobody}/")).assert_status(502);
    let mut tunnel = proxy.client();
    tunnel.send(format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", origin.address));
    tunnel.head("CONNECT").assert_status(200);
    tunnel.wire.reset();
    let results = larder::cache::CacheResult::ALL.map(larder::cache::CacheResult::token);
    let lines = proxy.log.wait_count("the log", results.len(), |_| true);
    for result in results {
        let found = proxy.metric("larder_requests_total", &[&format!("result=\"{result}\"")]);
        assert!((found - 1.0).abs() < 0.1, "{result}: {found} instead of 1");
        let logged = lines.iter().filter(|line| line.contains(&format!("\"result\":\"{result}\""))).count();
        assert_eq!(logged, 1, "{result}: {lines:#?}");
    }
    assert!((proxy.metric("larder_requests_total", &[]) - results.len() as f64).abs() < 0.1);
    check_by_promtool(&proxy.admin("GET", "/metrics", &[], "").text());
}

/// Prometheus' own opinion of a scrape.
pub(crate) fn check_by_promtool(scrape: &str) {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let piped = || Stdio::piped();
    let started = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(piped())
        .stdout(piped())
        .stderr(piped())
        .spawn();
    let Ok(mut promtool) = started else { return skip("promtool", "not installed") };
    promtool.stdin.take().unwrap().write_all(scrape.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn tunnels_errors_collapsed_requests_and_those_whose_client_left_count_as_such() {
    let origin = Origin::start();
    let (shared, left) = (Gate::new(), Gate::new());
    let held = shared.clone();
    origin.on("/shared", move |x| {
        held.pass();
        x.reply("200 OK", &["Cache-Control: max-age=60"], "x");
    });
    let held = left.clone();
    origin.on("/left", move |_| held.pass());
    let proxy = Proxy::open();
    let counted = |result: &str| proxy.metric("larder_requests_total", &[&format!("result=\"{result}\"")]);
    let one = |result: &str| {
        eventually(result, || ((counted(result) - 1.0).abs() < 0.1).then_some(()));
    };

    let closed = nobody();
    proxy.get(&format!("http://{closed}/")).assert_status(502);
    one("error");

    let mut client = proxy.client();
    client.send(format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", origin.address));
    client.head("CONNECT").assert_status(200);
    client.request("GET", &origin.url("/through"), &[], "").assert_status(404);
    client.wire.reset();
    one("tunnel");

    let mut clients = [proxy.client(), proxy.client()];
    clients[0].begin("GET", &origin.url("/shared"), &[], "");
    origin.wait("/shared", 1);
    clients[1].begin("GET", &origin.url("/shared"), &[], "");
    shared.open();
    for client in &mut clients {
        client.response("GET").assert_body("x");
    }
    one("miss");
    assert!((counted("collapsed") + counted("hit") - 1.0).abs() < 0.1);

    // Once a bypass, and a second miss.
    for (count, method) in [(1, "POST"), (2, "GET")] {
        let mut client = proxy.client();
        client.begin(method, &origin.url("/left"), &[], "");
        origin.wait("/left", count);
        client.wire.reset();
    }
    one("bypass");
    eventually("the second miss", || ((counted("miss") - 2.0).abs() < 0.1).then_some(()));
    assert!(counted("local") < 0.1, "what went on to an origin was not answered here");
    left.open();
}

#[test]
fn what_was_to_be_stored_and_was_not_is_counted_by_its_reason() {
    let origin = Origin::start();
    origin.on("/broken", |x| {
        x.write("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 10\r\n\r\n01234");
        x.close();
    });
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/left", move |x| {
        x.write("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 10\r\n\r\n01234");
        held.pass();
    });
    origin.on("/large", |x| {
        x.write("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n");
        x.write(format!("20000\r\n{}\r\n0\r\n\r\n", "x".repeat(0x20000)));
    });
    origin.serve("/private", "200 OK", &["Cache-Control: private"], b"x");
    let proxy = Proxy::with(
        "cache = { max_object = '64KiB', max_object_unknown_length = '64KiB', finish_bytes = 0, finish_time = '0s' }",
    );
    let mut client = proxy.client();
    client.begin("GET", &origin.url("/broken"), &[], "");
    client.try_response("GET").ok();
    let mut client = proxy.client();
    client.begin("GET", &origin.url("/left"), &[], "");
    client.head("GET").assert_status(200);
    client.wire.reset();
    proxy.get(&origin.url("/large")).assert_status(200);
    proxy.get(&origin.url("/private")).assert_status(200);
    for (metric, reason) in [
        ("larder_store_refusals_total", "incomplete"),
        ("larder_store_refusals_total", "abandoned"),
        ("larder_store_refusals_total", "too-large"),
        ("larder_cache_rejections_total", "private"),
    ] {
        let label = format!("reason=\"{reason}\"");
        eventually(reason, || ((proxy.metric(metric, &[&label]) - 1.0).abs() < 0.1).then_some(()));
    }
    gate.open();
}

#[test]
fn random_hosts_and_methods_do_not_make_series() {
    let proxy = Proxy::with("upstream.dns_timeout = '50ms'");
    let series = || proxy.admin("GET", "/metrics", &[], "").text().lines().count();
    proxy.raw("FROB http://127.0.0.1:1/ HTTP/1.1\r\nHost: h\r\n\r\n");
    proxy.log.wait_count("the log", 1, |_| true);
    let before = series();
    for i in 0..30 {
        proxy.raw(format!("FROB{i} http://127.0.0.1:1/{i} HTTP/1.1\r\nHost: h{i}\r\n\r\n"));
    }
    proxy.log.wait_count("the log", 31, |_| true);
    assert_eq!(series(), before);
}

#[test]
fn health_and_readiness_are_told() {
    let proxy = Proxy::open();
    proxy.admin("GET", "/healthz", &[], "").assert_status(200);
    proxy.admin("GET", "/readyz", &[], "").assert_status(200);
    proxy.admin("GET", "/nowhere", &[], "").assert_status(404);
}

#[test]
fn stats_tell_what_was_done_over_the_api_and_the_command_line() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"four");
    let proxy = Proxy::open();
    for _ in 0..3 {
        proxy.get(&origin.url("/x")).assert_body("four");
    }
    proxy.request("PUT", &origin.url("/y"), &[], "content").assert_status(404);
    let mut client = proxy.client();
    client.send(format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", origin.address));
    client.head("CONNECT").assert_status(200);
    client.request("GET", &origin.url("/x"), &[], "").assert_status(404);
    client.wire.reset();
    proxy.log.wait_count("the log", 5, |_| true);
    let stats = proxy.admin_json("GET", "/api/v1/stats");
    let told = proxy.run(&["stats", "--json"]);
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    for stats in [&stats, &told] {
        let requests = &stats["requests"];
        let counted: Vec<_> = requests["by_result"]
            .as_object()
            .unwrap()
            .iter()
            .filter_map(|(result, count)| {
                count.as_u64().filter(|count| *count > 0).map(|count| (result.as_str(), count))
            })
            .collect();
        assert_eq!(counted, [("bypass", 1), ("hit", 2), ("miss", 1), ("tunnel", 1)], "{stats:#}");
        for (figure, count) in [
            (&requests["total"], 5),
            (&requests["bytes_out"]["hit"], 8),
            (&requests["bytes_out"]["miss"], 4),
            (&requests["bytes_in"]["bypass"], 7),
            (&stats["cache"]["stored"], 1),
            (&stats["store"]["entries"], 1),
            (&stats["access_log_dropped_lines"], 0),
            (&stats["panics"], 0),
        ] {
            assert_eq!(figure, count, "{stats:#}");
        }
    }
    let text = String::from_utf8(proxy.run(&["stats"]).stdout).unwrap();
    let lines: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    for line in [["total", "5"], ["hit", "2"], ["bypass", "1"], ["entries", "1"]] {
        assert!(lines.contains(&line.to_vec()), "{line:?} is missing:\n{text}");
    }
}

#[test]
fn purge_removes_a_url_with_all_variants_and_nothing_else() {
    let origin = Origin::start();
    for path in ["/x", "/x?q", "/y"] {
        origin.serve(path, "200 OK", &["Cache-Control: max-age=60", "Vary: X-A"], b"x");
    }
    let proxy = Proxy::open();
    let stored = |path: &str, variant: &str| {
        proxy.get_with(&origin.url(path), &[variant, "Cache-Control: only-if-cached"]).is_hit()
    };
    for path in ["/x", "/x?q", "/y"] {
        for variant in ["X-A: 1", "X-A: 2"] {
            proxy.get_with(&origin.url(path), &[variant]);
        }
    }
    let dry = proxy.run(&["purge", "--dry-run", &origin.url("/x")]);
    assert!(dry.status.success() && String::from_utf8_lossy(&dry.stdout).contains('2'), "{dry:?}");
    assert!(stored("/x", "X-A: 1"));
    let purged = proxy.run(&["purge", &origin.url("/x")]);
    assert!(purged.status.success() && String::from_utf8_lossy(&purged.stdout).contains('2'), "{purged:?}");
    assert!(!stored("/x", "X-A: 1") && !stored("/x", "X-A: 2"));
    assert!(stored("/x?q", "X-A: 1") && stored("/y", "X-A: 2"));
    let body = serde_json::json!({ "url": origin.url("/y") }).to_string();
    let answer = proxy.admin("POST", "/api/v1/purge", &["Content-Type: application/json"], &body);
    answer.assert_status(200);
    assert!(!stored("/y", "X-A: 2"));
}

#[test]
fn purge_takes_a_host_in_any_spelling_a_pattern_or_all() {
    let here = Origin::start();
    let there = Origin::on_address("[::1]:0");
    for origin in [&here, &there] {
        for path in ["/a.deb", "/b.deb", "/c"] {
            origin.serve(path, "200 OK", &["Cache-Control: max-age=60"], b"x");
        }
    }
    let proxy = Proxy::open();
    let urls = |path: &str| [here.url(path), here.url_at("localhost", path), there.url(path)];
    let fill = || {
        for url in ["/a.deb", "/b.deb", "/c"].iter().flat_map(|path| urls(path)) {
            proxy.get(&url).assert_body("x");
        }
    };
    let purged = |arguments: &[&str]| {
        let told = proxy.run(&[&["purge", "--json"], arguments].concat());
        assert!(told.status.success(), "{told:?}");
        let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
        assert_eq!(told["dry_run"], arguments.contains(&"--dry-run"), "{told}");
        told["purged"].as_u64().unwrap()
    };
    let stored = |url: &str| proxy.get_with(url, &["Cache-Control: only-if-cached"]).is_hit();
    fill();
    for host in ["::1", "[::1]", "[0:0::1]", "0:0:0:0:0:0:0:1", "LOCALHOST", "localhost.", "127.0.0.1"] {
        assert_eq!(purged(&["--host", host, "--dry-run"]), 3, "{host}");
    }
    assert_eq!(purged(&["--host", "other.example", "--dry-run"]), 0);
    assert_eq!(purged(&["--glob", "*/?.deb", "--dry-run"]), 6);
    assert_eq!(purged(&["--all", "--dry-run"]), 9);

    assert_eq!(purged(&["--host", "[::1]"]), 3);
    let [v4, name, v6] = urls("/c");
    assert!(stored(&v4) && stored(&name) && !stored(&v6));
    assert_eq!(purged(&["--glob", &here.url("/*.deb")]), 2);
    assert!(stored(&v4) && !stored(&here.url("/a.deb")) && stored(&here.url_at("localhost", "/a.deb")));
    assert_eq!(purged(&["--all"]), 4);
    assert!(!stored(&v4) && !stored(&name));
    for host in ["localhost:80", "[::1]:80", "http://localhost", "a b", ""] {
        let told = proxy.run(&["purge", "--host", host]);
        assert_eq!(told.status.code(), Some(1), "{told:?}");
        let text = String::from_utf8_lossy(&told.stderr).into_owned();
        assert!(text.contains("expected a host without scheme and port"), "{text}");
    }
}

#[test]
fn purge_takes_a_tag_of_any_of_the_fields_and_leaves_other_variants() {
    const FRESH: &str = "Cache-Control: max-age=60";
    let origin = Origin::start();
    origin.serve("/a", "200 OK", &[FRESH, "Surrogate-Key: news article-1"], b"x");
    origin.serve("/b", "200 OK", &[FRESH, "Cache-Tag: article-2, news"], b"x");
    origin.serve("/c", "200 OK", &[FRESH, "Cache-Groups: \"news\", \"other\""], b"x");
    origin.serve("/d", "200 OK", &[FRESH, "Surrogate-Key: newspaper"], b"x");
    origin.on("/e", |x| {
        let key = if x.request.field("x-a").as_deref() == Some("1") { "news" } else { "weather" };
        let fields = ["Cache-Control: max-age=60", "Vary: X-A", &format!("Surrogate-Key: {key}")];
        x.reply("200 OK", &fields, "x");
    });
    let proxy = Proxy::open();
    for (path, variant) in [("/a", "1"), ("/b", "1"), ("/c", "1"), ("/d", "1"), ("/e", "1"), ("/e", "2")] {
        proxy.get_with(&origin.url(path), &[&format!("X-A: {variant}")]).assert_body("x");
    }
    let stored = |path: &str, variant: &str| {
        let fields = [&format!("X-A: {variant}"), "Cache-Control: only-if-cached"];
        proxy.get_with(&origin.url(path), &fields).is_hit()
    };
    let dry = proxy.run(&["purge", "--tag", "news", "--dry-run"]);
    assert_eq!(String::from_utf8_lossy(&dry.stdout), "4 stored responses would be purged\n", "{dry:?}");
    assert!(stored("/a", "1"), "a dry run removes nothing");
    let purged = proxy.run(&["purge", "--tag", "news"]);
    assert_eq!(String::from_utf8_lossy(&purged.stdout), "4 stored responses purged\n", "{purged:?}");
    for path in ["/a", "/b", "/c", "/e"] {
        assert!(!stored(path, "1"), "{path}");
    }
    assert!(stored("/d", "1") && stored("/e", "2"), "what has another tag stays");
    let none = proxy.run(&["purge", "--tag", "nothing", "--json"]);
    assert!(String::from_utf8_lossy(&none.stdout).contains("\"purged\": 0"), "{none:?}");
}

#[test]
fn explain_says_what_would_be_done_and_why() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60", "Vary: Accept-Language"], b"x");
    let proxy = Proxy::open();
    let url = origin.url("/x");
    proxy.get_with(&url, &["Accept-Language: de"]);
    let told = proxy.run(&["explain", &url, "-H", "Accept-Language: de"]);
    assert!(told.status.success(), "{told:?}");
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    for word in ["RFC 9111", "max-age", "60", url.as_str()] {
        assert!(text.contains(word), "{word} is missing:\n{text}");
    }
    let json = proxy.run(&["explain", &url, "-H", "Accept-Language: de", "--json"]);
    let explained: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert!(explained.is_object());
    assert_eq!(origin.hits("/x"), 1, "explaining what is stored asks nobody");
    let alone = crate::support::proxy::command()
        .args(["--allow-private", "--admin-listen", "127.0.0.1:1", "explain", &url])
        .output()
        .unwrap();
    assert!(alone.status.success(), "{alone:?}");
    assert!(String::from_utf8_lossy(&alone.stdout).contains("max-age"), "{alone:?}");
}

#[test]
fn explain_tells_the_whole_tree_of_what_is_stored_and_of_what_is_not() {
    let origin = Origin::start();
    origin.on("/stale", |x| {
        let fields = ["Cache-Control: max-age=50", "Age: 100", "ETag: \"v\""];
        if x.request.field("if-none-match").is_some() {
            x.reply("304 Not Modified", &fields, "")
        } else {
            x.reply("200 OK", &fields, "x")
        }
    });
    origin.serve("/private", "200 OK", &["Cache-Control: private"], b"x");
    let proxy = Proxy::open();
    proxy.get(&origin.url("/stale"));
    let text = |path: &str, fields: &[&str]| {
        let url = origin.url(path);
        let told = proxy.run(&[&["explain", &url], fields].concat());
        assert!(told.status.success(), "{told:?}");
        String::from_utf8(told.stdout).unwrap()
    };
    let stale =
        text("/stale", &["-H", "Connection: X-Hop", "-H", "X-Hop: 1", "-H", "Proxy-Authorization: Basic x"]);
    for line in [
        "plan: revalidate (fwd=stale)",
        "stored for this key: 1",
        "validators: etag: \"v\"",
        " s past [RFC 9111 section 4.2]",
        "lifetime: 50 s from max-age [section 4.2.1]",
        "[section 4.2.3]",
        "Age: 100",
        "response: 304 from",
        "verdict: freshen",
    ] {
        assert!(stale.contains(line), "{line} is missing:\n{stale}");
    }
    let seen = origin.last("/stale");
    assert_eq!(seen.field("if-none-match").as_deref(), Some("\"v\""), "it asks what the proxy would ask");
    assert_eq!((seen.field("x-hop"), seen.field("proxy-authorization")), (None, None));
    let private = text("/private", &[]);
    for line in
        ["plan: fetch (fwd=uri-miss)", "verdict: pass-through", "(private) [RFC 9111 section 5.2.2.7]"]
    {
        assert!(private.contains(line), "{line} is missing:\n{private}");
    }
    let told: serde_json::Value = serde_json::from_str(&text("/private", &["--json"])).unwrap();
    assert_eq!(told["key"], origin.url("/private"));
    assert_eq!(told["decision"]["plan"], "fetch");
    assert_eq!(told["answer"]["judgement"]["reason"]["token"], "private");
    assert_eq!(told["answer"]["judgement"]["reason"]["section"], "RFC 9111 section 5.2.2.7");
    proxy.get(&origin.url("/private")).assert_forwarded("uri-miss");
}

#[test]
fn only_names_of_the_listener_are_answered() {
    let proxy = Proxy::open();
    let port = proxy.admin.port();
    for (host, status) in [
        (format!("127.0.0.1:{port}"), 200),
        (format!("localhost:{port}"), 200),
        ("[::1]".to_owned(), 200),
        (format!("evil.example:{port}"), 421),
        ("localhost.evil.example".to_owned(), 421),
    ] {
        let response = proxy.admin("GET", "/healthz", &[&format!("Host: {host}")], "");
        assert_eq!(response.status, status, "{host}: {response}");
    }
    let named = Proxy::with("admin.hosts = ['metrics.example']");
    named.admin("GET", "/healthz", &["Host: metrics.example"], "").assert_status(200);
}

#[test]
fn a_web_page_can_change_nothing() {
    let proxy = Proxy::open();
    for path in ["/api/v1/purge", "/api/v1/reload"] {
        proxy.admin("GET", path, &[], "").assert_status(405);
        for field in ["Origin: http://evil.example", "Sec-Fetch-Site: cross-site", "Origin: null"] {
            proxy
                .admin("POST", path, &[field, "Content-Type: text/plain"], "{\"all\":true}")
                .assert_status(403);
        }
    }
}

#[test]
fn changes_from_elsewhere_than_loopback_need_the_token() {
    let proxy = Proxy::builder().config("admin.token = 'correct-horse'").admin_listen("0.0.0.0:0").start();
    let purge = |fields: &[&str]| proxy.admin("POST", "/api/v1/purge", fields, "{\"all\":true}").status;
    assert_eq!(purge(&["Host: 127.0.0.1"]), 401);
    assert_eq!(purge(&["Host: 127.0.0.1", "Authorization: Bearer wrong"]), 401);
    assert_eq!(purge(&["Host: 127.0.0.1", "Authorization: Bearer correct-horse"]), 200);
    // An explanation is a request in the operator's name.
    let origin = Origin::start();
    let path = format!("/api/v1/explain?url={}", origin.url("/x"));
    let explain = |fields: &[&str]| proxy.admin("GET", &path, fields, "").status;
    assert_eq!(explain(&["Host: 127.0.0.1"]), 401);
    assert_eq!(origin.connections(), 0);
    assert_eq!(explain(&["Host: 127.0.0.1", "Authorization: Bearer correct-horse"]), 200);
    assert_eq!(origin.hits("/x"), 1);
    proxy.admin("GET", "/api/v1/stats", &["Host: 127.0.0.1"], "").assert_status(200);
}

#[test]
fn an_exchange_is_explained_without_the_query_that_its_client_did_not_mean_for_all_eyes() {
    let origin = Origin::start();
    // An origin repeats what it was asked.
    origin.serve("/x", "302 Found", &["Location: /y?token=SECRET", "Link: </z?token=SECRET>"], b"");
    let proxy = Proxy::open();
    proxy.get(&origin.url("/x?token=SECRET")).assert_status(302);
    let seq = eventually("the exchange", || {
        proxy.admin_json("GET", "/api/v1/exchanges")["exchanges"][0]["seq"].as_u64()
    });
    let told = proxy.admin("GET", &format!("/api/v1/explain?exchange={seq}"), &[], "");
    told.assert_status(200);
    assert!(told.text().contains("302") && !told.text().contains("SECRET"), "{told}");
}
