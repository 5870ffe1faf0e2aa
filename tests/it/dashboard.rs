//! What people look at: listings, the last exchanges, the configuration, over the API and the command line.

use crate::support::proxy::command;
use crate::support::{Origin, Proxy};
use serde_json::Value;

pub(crate) const FRESH: &str = "Cache-Control: max-age=3600";

fn strings<'a>(list: &'a Value, name: &str) -> Vec<&'a str> {
    list.as_array().unwrap().iter().map(|one| one[name].as_str().unwrap()).collect()
}

pub(crate) fn stdout(output: &std::process::Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Ages are told apart by it: the kernel's, at most 10 ms.
pub(crate) fn next_tick() {
    std::thread::sleep(std::time::Duration::from_millis(12));
}

#[test]
fn what_is_stored_is_listed_in_order_searched_and_paged() {
    let origin = Origin::start();
    for (path, length) in [("/small", 10), ("/large", 9000), ("/middle?secret=1", 500)] {
        origin.on(path, move |x| {
            let fields = [FRESH, "Content-Type: text/plain", "Surrogate-Key: a b"];
            x.reply("200 OK", &fields, "x".repeat(length));
        });
    }
    let proxy = Proxy::open();
    assert_eq!(proxy.admin_json("GET", "/api/v1/stored")["found"], 0);
    assert_eq!(stdout(&proxy.run(&["ls"])), "0 stored responses, 0 B\n");
    for path in ["/large", "/small", "/middle?secret=1"] {
        proxy.get(&origin.url(path)).assert_status(200);
        next_tick();
    }
    proxy.get(&origin.url_at("localhost", "/small")).assert_status(200);
    let listed = |query: &str| proxy.admin_json("GET", &format!("/api/v1/stored?{query}"));
    let (small, large) = (origin.url("/small"), origin.url("/large"));
    let (middle, other) = (origin.url("/middle?..."), origin.url_at("localhost", "/small"));

    let by_size = listed("sort=size&limit=2");
    assert_eq!(strings(&by_size["responses"], "url"), [&large, &middle]);
    assert_eq!((&by_size["found"], by_size["bytes"].as_u64().unwrap() > 9000), (&4.into(), true));
    let next = listed("sort=size&limit=2&offset=2");
    assert_eq!(strings(&next["responses"], "url").len(), 2);
    assert_eq!(strings(&listed("sort=age")["responses"], "url"), [&other, &middle, &small, &large]);
    assert_eq!(strings(&listed("sort=age&reverse=true&limit=1")["responses"], "url"), [&large]);
    assert_eq!(strings(&listed("sort=site")["responses"], "url"), [&large, &middle, &small, &other]);
    assert_eq!(strings(&listed("sort=site&reverse=true&limit=1")["responses"], "url"), [&other]);

    let found = listed("search=MIDDLE");
    let one = &found["responses"][0];
    assert_eq!((&found["found"], &one["url"]), (&1.into(), &middle.as_str().into()));
    assert_eq!(
        (&one["query_hidden"], &one["status"], &one["body_bytes"]),
        (&true.into(), &200.into(), &500.into())
    );
    assert_eq!((&one["fresh"], &one["content_type"]), (&true.into(), &"text/plain".into()));
    assert_eq!(one["tags"], serde_json::json!(["a", "b"]));
    assert_eq!(listed("search=secret")["found"], 0, "what is hidden is not found either");

    let sites = proxy.admin_json("GET", "/api/v1/sites");
    assert_eq!(strings(&sites["sites"], "host"), ["127.0.0.1", "localhost"]);
    assert_eq!((&sites["sites"][0]["responses"], &sites["found"]), (&3.into(), &2.into()));

    let told = stdout(&proxy.run(&["ls", "--sort", "size"]));
    let lines: Vec<_> = told.lines().collect();
    assert!(lines[0].ends_with(&large) && lines[1].ends_with(&middle), "{told}");
    assert!(lines[4].starts_with("4 stored responses, "), "{told}");
    assert!(!told.contains("secret"), "{told}");
    assert!(stdout(&proxy.run(&["ls", "--sites", "local"])).contains("1  localhost\n1 site\n"));
    let json: Value = serde_json::from_str(&stdout(&proxy.run(&["ls", "large", "--json"]))).unwrap();
    assert_eq!(json["found"], 1);
    let shown = Proxy::with("log.query = true");
    shown.get(&origin.url("/middle?secret=1")).assert_status(200);
    assert_eq!(shown.admin_json("GET", "/api/v1/stored?search=secret")["found"], 1);
}

#[test]
fn exchanges_are_told_as_they_happen_and_one_is_explained_by_its_number() {
    let origin = Origin::start();
    origin.serve("/x?secret=1", "200 OK", &[FRESH], b"x");
    let proxy = Proxy::open();
    assert_eq!(proxy.admin_json("GET", "/api/v1/exchanges")["next"], 0);
    for _ in 0..2 {
        proxy.get(&origin.url("/x?secret=1")).assert_body("x");
    }
    proxy.log.wait_count("the log", 2, |_| true);
    let told = proxy.admin_json("GET", "/api/v1/exchanges");
    assert_eq!(strings(&told["exchanges"], "result"), ["miss", "hit"]);
    assert_eq!(told["exchanges"][0]["url"], origin.url("/x?..."));
    assert_eq!((&told["exchanges"][0]["reason"], &told["next"]), (&Value::Null, &2.into()));

    let explained = proxy.admin_json("GET", "/api/v1/explain?exchange=2");
    assert_eq!(explained["decision"]["plan"], "serve", "by its whole URL");
    assert!(!explained.to_string().contains("secret"), "{explained}");
    let fields = ["Accept: text/plain"];
    let text = proxy.admin("GET", "/api/v1/explain?exchange=2", &fields, "").text();
    assert!(text.contains("plan: serve\n") && text.contains("lifetime: 3600 s from max-age"), "{text}");
    proxy.admin("GET", "/api/v1/explain?exchange=3", &[], "").assert_status(400);

    proxy.raw("GET foo HTTP/1.1\r\nHost: h\r\n\r\n").assert_status(400);
    proxy.log.wait_count("the log", 3, |_| true);
    let told = proxy.admin_json("GET", "/api/v1/exchanges?after=2");
    assert_eq!(strings(&told["exchanges"], "result"), ["invalid"]);
}

#[test]
fn what_was_shown_is_forgotten_when_queries_are_to_be_hidden() {
    let origin = Origin::start();
    origin.serve("/x?secret=1", "200 OK", &[FRESH], b"x");
    let proxy = Proxy::with("log.query = true");
    proxy.get(&origin.url("/x?secret=1")).assert_body("x");
    proxy.log.wait_count("the log", 1, |_| true);
    let exchanges = || proxy.admin_json("GET", "/api/v1/exchanges").to_string();
    assert!(exchanges().contains("secret"));
    proxy.write_config("log.query = false");
    proxy.admin("POST", "/api/v1/reload", &[], "").assert_status(200);
    assert!(!exchanges().contains("secret"));
}

#[test]
fn the_configuration_that_runs_is_told_without_secrets_and_with_its_last_reload() {
    let proxy = Proxy::with(
        "admin.token = 'correct-horse'\ncache.memory = '64MiB'\n[[rules]]\nhosts = ['a.example']",
    );
    let told = proxy.admin_json("GET", "/api/v1/config");
    let value = |told: &Value, key: &str| {
        told["settings"].as_array().unwrap().iter().find(|one| one["key"] == key).unwrap()["value"].clone()
    };
    assert_eq!(
        (value(&told, "cache.memory"), value(&told, "admin.token")),
        ("64.0 MiB".into(), "(not shown)".into())
    );
    // The words of the file, also where they stand for nothing.
    assert_eq!((value(&told, "proxy.via"), value(&told, "upstream.ca_file")), ("auto".into(), Value::Null));
    assert_eq!(told["rules"][0]["hosts"], serde_json::json!(["a.example"]));
    assert_eq!(told["last_reload"], Value::Null);
    assert!(!told.to_string().contains("correct-horse"));

    proxy.write_config("log.query = true");
    proxy.admin("POST", "/api/v1/reload", &[], "").assert_status(200);
    let told = proxy.admin_json("GET", "/api/v1/config");
    let last = &told["last_reload"];
    assert!(last["done"] == true && last["at"].as_i64().unwrap() > 0, "{last}");
    assert!(last["live"].as_array().unwrap().contains(&"log.query".into()), "{last}");
    assert_eq!(last["restart"], serde_json::json!(["cache.memory"]));
    assert_eq!((value(&told, "log.query"), value(&told, "cache.memory")), (true.into(), "64.0 MiB".into()));

    proxy.write_config_raw("log.query = 3");
    proxy.admin("POST", "/api/v1/reload", &[], "").assert_status(422);
    let last = &proxy.admin_json("GET", "/api/v1/config")["last_reload"];
    assert!(last["done"] == false && last["errors"][0].as_str().unwrap().contains("log.query"), "{last}");
}

#[test]
fn top_shows_rates_and_the_last_exchanges() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[FRESH], b"x");
    let proxy = Proxy::open();
    for _ in 0..2 {
        proxy.get(&origin.url("/x")).assert_body("x");
    }
    // What passes the cache by counts in the ratio, as in the rules for Prometheus.
    proxy.client().request("POST", &origin.url("/x"), &[], "").assert_body("x");
    proxy.log.wait_count("the log", 3, |_| true);
    let told = stdout(&proxy.run(&["top", "--count", "2", "--interval", "1ms"]));
    assert_eq!(told.matches("requests/s, hit ratio").count(), 2, "{told}");
    assert!(told.contains("hit ratio 33 %"), "{told}");
    let lines: Vec<_> = told.lines().filter(|line| line.ends_with(&origin.url("/x"))).collect();
    let order = [" bypass ", " hit ", " miss "];
    assert!(lines.iter().zip(order).all(|(line, result)| line.contains(result)), "{told}");
    let nobody = command().args(["--admin-listen", "127.0.0.1:1", "top", "--count", "1"]).output().unwrap();
    assert_eq!(nobody.status.code(), Some(1), "{nobody:?}");
}

#[test]
fn an_admin_listener_beyond_loopback_without_a_token_is_warned_about() {
    let warned = |proxy: &Proxy| proxy.diagnostics.all().iter().any(|line| line.contains("no admin.token"));
    assert!(warned(&Proxy::builder().admin_listen("0.0.0.0:0").start()));
    assert!(!warned(&Proxy::builder().config("admin.token = 'x'").admin_listen("0.0.0.0:0").start()));
    assert!(!warned(&Proxy::open()));
}
