//! What is stored and reused, and what Cache-Status says of it. RFC 9111 sections 3, 4.2 and 5.2.

use crate::support::{Origin, Proxy, date};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Asks twice for a resource with these fields and tells how the second request was answered: `hit`, or the
/// reason why it was forwarded.
#[track_caller]
fn second(proxy: &Proxy, origin: &Origin, status: &str, fields: &[&str], request: &[&str]) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let path = format!("/{}", COUNT.fetch_add(1, Ordering::SeqCst));
    let (status, fields): (String, Vec<String>) =
        (status.to_owned(), fields.iter().map(|f| (*f).to_owned()).collect());
    origin.on(&path, move |x| {
        let fields: Vec<_> = fields.iter().map(String::as_str).collect();
        x.reply(&status, &fields, "body");
    });
    let url = origin.url(&path);
    proxy.get_with(&url, request);
    let cache = proxy.get_with(&url, request).cache();
    if cache.has("hit") { "hit".to_owned() } else { cache.value("fwd").unwrap_or_default() }
}

#[test]
fn a_hit_has_one_age_the_stored_date_and_says_how_long_it_is_fresh() {
    let origin = Origin::start();
    let stamped = format!("Date: {}", date(0));
    origin.on("/x", {
        let stamped = stamped.clone();
        move |x| {
            x.reply(
                "200 OK",
                &["Cache-Control: max-age=60", "Age: 5", &stamped, "X-A: 1", "X-A: 2", "ETag: \"v\""],
                "body",
            );
        }
    });
    let proxy = Proxy::open();
    let miss = proxy.get(&origin.url("/x"));
    miss.assert_forwarded("uri-miss");
    assert!(miss.cache().has("stored"), "{miss}");
    assert_eq!(miss.field("age").as_deref(), Some("5"));
    let hit = proxy.get(&origin.url("/x"));
    hit.assert_hit().assert_status(200).assert_body("body");
    let ages = hit.head.all("age");
    assert_eq!(ages.len(), 1);
    let age: i64 = ages[0].parse().unwrap();
    assert!((5..15).contains(&age), "{age}");
    let ttl = hit.cache().ttl().unwrap();
    assert!((45..=55).contains(&ttl), "{ttl}");
    assert_eq!(hit.head.all("date"), [stamped.trim_start_matches("Date: ")]);
    assert_eq!(hit.head.all("x-a"), ["1", "2"]);
    assert_eq!(hit.field("content-length").as_deref(), Some("4"));
    assert_eq!(origin.hits("/x"), 1);
}

#[test]
fn explicit_freshness_stores_any_final_status() {
    let origin = Origin::start();
    let proxy = Proxy::open();
    for status in [
        "200", "203", "204", "299", "302", "303", "307", "308", "400", "404", "410", "499", "500", "503",
        "599",
    ] {
        assert_eq!(second(&proxy, &origin, status, &["Cache-Control: max-age=60"], &[]), "hit", "{status}");
    }
}

#[test]
fn heuristic_freshness_is_for_the_statuses_that_allow_it() {
    let origin = Origin::start();
    let proxy = Proxy::open();
    let old = format!("Last-Modified: {}", date(-1_000_000));
    for status in ["200", "203", "204", "300", "301", "308", "404", "405", "410", "414", "451", "501"] {
        assert_eq!(second(&proxy, &origin, status, &[&old], &[]), "hit", "{status}");
    }
    for status in ["201", "302", "307", "400", "403", "500", "503", "299"] {
        assert_eq!(second(&proxy, &origin, status, &[&old], &[]), "uri-miss", "{status}");
    }
    assert_eq!(
        second(&proxy, &origin, "299", &[&old, "Cache-Control: public"], &[]),
        "hit",
        "public allows any"
    );
    assert_eq!(
        second(&proxy, &origin, "200", &[&old, "Pragma: no-cache"], &[]),
        "stale",
        "an old server's no-cache"
    );
}

#[test]
fn heuristic_freshness_has_a_cap() {
    let origin = Origin::start();
    let proxy = Proxy::with("cache.heuristic_max = '10s'");
    let old = format!("Last-Modified: {}", date(-1_000_000_000));
    origin.on("/x", move |x| x.reply("200 OK", &[&old], "x"));
    proxy.get(&origin.url("/x"));
    let ttl = proxy.get(&origin.url("/x")).cache().ttl().unwrap();
    assert!((0..=10).contains(&ttl), "{ttl}");
}

#[test]
fn the_lifetime_is_found_in_order() {
    let origin = Origin::start();
    let proxy = Proxy::open();
    let future = format!("Expires: {}", date(600));
    let past = format!("Expires: {}", date(-600));
    let aged = "Age: 100";
    for (fields, expected) in [
        (vec!["Cache-Control: max-age=60"], "hit"),
        (vec!["cache-control: MAX-AGE=60"], "hit"),
        (vec!["Cache-Control: max-age=\"60\""], "hit"),
        (vec!["Cache-Control: max-age=0060"], "hit"),
        (vec!["Cache-Control: max-age=99999999999999999999"], "hit"),
        (vec!["Cache-Control: s-maxage=60, max-age=0"], "hit"),
        (vec!["Cache-Control: max-age=60, s-maxage=0", "ETag: \"a\""], "stale"),
        (vec![&future], "hit"),
        (vec!["Cache-Control: max-age=60", &past], "hit"),
        (vec!["Cache-Control: max-age=0", &future, "ETag: \"a\""], "stale"),
        (vec!["Expires: 0", "ETag: \"a\""], "stale"),
        (vec![&past, "ETag: \"a\""], "stale"),
        (vec!["Cache-Control: max-age=-60", "ETag: \"a\""], "stale"),
        (vec!["Cache-Control: max-age=60.0", "ETag: \"a\""], "stale"),
        (vec!["Cache-Control: max-age=a60", "ETag: \"a\""], "stale"),
        (vec!["Cache-Control: max-age=60, max-age=0", "ETag: \"a\""], "stale"),
        (vec!["Cache-Control: x=\"max-age=60\"", "ETag: \"a\""], "stale"),
        (vec!["Cache-Control: max-age=60", aged, "ETag: \"a\""], "stale"),
        (vec!["Cache-Control: max-age=200", aged], "hit"),
        (vec!["Cache-Control: max-age=200", "Age: 300x"], "hit"),
    ] {
        assert_eq!(second(&proxy, &origin, "200 OK", &fields, &[]), expected, "{fields:?}");
    }
}

#[test]
fn what_may_not_be_shared_is_not_stored_and_the_reason_is_told() {
    let origin = Origin::start();
    let proxy = Proxy::open();
    for (fields, request, reason) in [
        (vec!["Cache-Control: no-store, max-age=60"], vec![], "no-store"),
        (vec!["Cache-Control: max-age=60", "CACHE-CONTROL: No-Store"], vec![], "no-store"),
        (vec!["Cache-Control: private, max-age=60"], vec![], "private"),
        (vec!["Cache-Control: PRIVATE=\"x-a\", max-age=60"], vec![], "private"),
        (vec!["Cache-Control: max-age=60", "Set-Cookie: a=b"], vec![], "set-cookie"),
        (vec!["Cache-Control: max-age=60"], vec!["Authorization: Basic YQ=="], "authorization"),
        (vec!["Cache-Control: max-age=60"], vec!["Cache-Control: no-store"], "request-no-store"),
        (vec!["Cache-Control: max-age=60", "Vary: Accept, *"], vec![], "vary-star"),
        (vec![], vec![], "no-freshness"),
    ] {
        origin.on(&format!("/{reason}"), {
            let fields: Vec<_> = fields.iter().map(|f| (*f).to_owned()).collect();
            move |x| {
                let fields: Vec<_> = fields.iter().map(String::as_str).collect();
                x.reply("200 OK", &fields, "x");
            }
        });
        for _ in 0..2 {
            let response = proxy.get_with(&origin.url(&format!("/{reason}")), &request);
            let cache = response.cache();
            assert!(!cache.has("hit") && !cache.has("stored"), "{fields:?}: {response}");
            let detail = cache.value("detail");
            assert!(
                detail.as_deref() == Some(reason) || detail.as_deref() == Some("uncacheable-key"),
                "{fields:?}: {response}"
            );
        }
    }
}

#[test]
fn authorization_and_set_cookie_are_shared_where_the_response_says_so() {
    let origin = Origin::start();
    let proxy = Proxy::open();
    for directive in ["public, max-age=60", "s-maxage=60", "must-revalidate, max-age=60"] {
        let field = format!("Cache-Control: {directive}");
        assert_eq!(
            second(&proxy, &origin, "200 OK", &[&field], &["Authorization: Basic YQ=="]),
            "hit",
            "{directive}"
        );
    }
    for directive in ["public, max-age=60", "s-maxage=60"] {
        let field = format!("Cache-Control: {directive}");
        assert_eq!(
            second(&proxy, &origin, "200 OK", &[&field, "Set-Cookie: a=b"], &[]),
            "hit",
            "{directive}"
        );
    }
    let lenient = Proxy::with("cache.set_cookie = 'rfc9111'");
    assert_eq!(
        second(
            &lenient,
            &origin,
            "200 OK",
            &["Cache-Control: max-age=60", "Set-Cookie: a=b"],
            &["Cookie: c=d"]
        ),
        "hit"
    );
}

#[test]
fn must_understand_decides_with_the_status() {
    let origin = Origin::start();
    let proxy = Proxy::open();
    let field = "Cache-Control: must-understand, no-store, max-age=60";
    assert_eq!(second(&proxy, &origin, "200 OK", &[field], &[]), "hit");
    assert_eq!(
        second(&proxy, &origin, "299 What", &["Cache-Control: must-understand, max-age=60"], &[]),
        "uri-miss"
    );
}

#[test]
fn no_cache_is_stored_and_always_validated() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        let validated = x.request.field("if-none-match").as_deref() == Some("\"v\"");
        let fields = ["Cache-Control: no-cache, max-age=60", "ETag: \"v\""];
        if validated { x.reply("304 Not Modified", &fields, "") } else { x.reply("200 OK", &fields, "body") }
    });
    let proxy = Proxy::open();
    proxy.get(&origin.url("/x")).assert_body("body");
    for count in 2..4 {
        let response = proxy.get(&origin.url("/x"));
        response.assert_status(200).assert_body("body").assert_forwarded("stale");
        assert_eq!(response.cache().value("fwd-status").as_deref(), Some("304"));
        assert_eq!(origin.hits("/x"), count);
    }
}

#[test]
fn no_cache_with_field_names_reuses_all_but_those_fields() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        x.reply(
            "200 OK",
            &["Cache-Control: max-age=60, no-cache=\"X-A, x-b\"", "X-A: 1", "X-B: 2", "X-C: 3"],
            "x",
        );
    });
    let proxy = Proxy::open();
    assert_eq!(proxy.get(&origin.url("/x")).field("x-a").as_deref(), Some("1"));
    let hit = proxy.get(&origin.url("/x"));
    hit.assert_hit();
    assert_eq!((hit.field("x-a"), hit.field("x-b"), hit.field("x-c").as_deref()), (None, None, Some("3")));
}

#[test]
fn request_directives_are_followed() {
    let origin = Origin::start();
    // Fresh for 100 s more at age 50; stale for 50 s.
    origin
        .on("/fresh", |x| x.reply("200 OK", &["Cache-Control: max-age=150", "Age: 50", "ETag: \"a\""], "x"));
    origin
        .on("/stale", |x| x.reply("200 OK", &["Cache-Control: max-age=50", "Age: 100", "ETag: \"a\""], "x"));
    let proxy = Proxy::open();
    for (path, directive, expected) in [
        ("/fresh", "Cache-Control: max-age=100", "hit"),
        ("/fresh", "Cache-Control: max-age=10", "request"),
        ("/fresh", "Cache-Control: max-age=0", "request"),
        ("/fresh", "Cache-Control: min-fresh=50", "hit"),
        ("/fresh", "Cache-Control: min-fresh=500", "request"),
        ("/fresh", "Cache-Control: no-cache", "request"),
        ("/fresh", "Cache-Control: no-store", "request"),
        ("/fresh", "Pragma: no-cache", "request"),
        ("/fresh", "Cache-Control: only-if-cached", "hit"),
        ("/stale", "Cache-Control: max-stale", "hit"),
        ("/stale", "Cache-Control: max-stale=500", "hit"),
        ("/stale", "Cache-Control: max-stale=10", "stale"),
    ] {
        proxy.get_with(&origin.url(path), &["Cache-Control: no-cache"]);
        let response = proxy.get_with(&origin.url(path), &[directive]);
        if expected == "hit" {
            response.assert_hit();
        } else {
            response.assert_forwarded(expected);
        }
    }
    let both = proxy.get_with(&origin.url("/fresh"), &["Pragma: no-cache", "Cache-Control: max-stale=0"]);
    both.assert_hit();
}

#[test]
fn only_if_cached_on_a_miss_is_504_without_asking_anybody() {
    let origin = Origin::start();
    let proxy = Proxy::open();
    let response = proxy.get_with(&origin.url("/x"), &["Cache-Control: only-if-cached"]);
    response.assert_status(504);
    assert!(response.proxy_status().contains("only-if-cached"), "it is our own: {response}");
    assert_eq!(response.field("cache-status"), None);
    assert_eq!(origin.hits("/x"), 0);
}

#[test]
fn request_no_store_leaves_nothing_behind() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"x");
    let proxy = Proxy::open();
    let first = proxy.get_with(&origin.url("/x"), &["Cache-Control: no-store"]);
    first.assert_forwarded("uri-miss");
    assert_eq!(first.cache().value("detail").as_deref(), Some("request-no-store"));
    proxy.get(&origin.url("/x")).assert_forwarded("uri-miss");
}

#[test]
fn immutable_while_fresh_is_not_validated_on_a_reload() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60, immutable", "ETag: \"a\""], b"x");
    let proxy = Proxy::open();
    proxy.get(&origin.url("/x"));
    proxy.get_with(&origin.url("/x"), &["Cache-Control: max-age=0"]).assert_hit();
    proxy.get_with(&origin.url("/x"), &["Cache-Control: no-cache"]).assert_forwarded("request");
}

#[test]
fn targeted_fields_count_only_when_configured() {
    let origin = Origin::start();
    let fields = ["Cache-Control: no-store", "CDN-Cache-Control: max-age=60"];
    let plain = Proxy::open();
    assert_eq!(second(&plain, &origin, "200 OK", &fields, &[]), "uri-miss");
    let targeted = Proxy::with("cache.targeted_fields = ['CDN-Cache-Control']");
    assert_eq!(second(&targeted, &origin, "200 OK", &fields, &[]), "hit");
    // A parse error ignores the field; so does an empty one.
    for broken in ["CDN-Cache-Control: max-age=60 s", "CDN-Cache-Control:"] {
        assert_eq!(
            second(&targeted, &origin, "200 OK", &["Cache-Control: no-store", broken], &[]),
            "uri-miss",
            "{broken}"
        );
    }
}

#[test]
fn post_with_its_own_content_location_answers_get() {
    let origin = Origin::start();
    let url = origin.url("/x");
    origin.on("/x", {
        let url = url.clone();
        move |x| {
            let method = x.request.method.clone();
            let location = format!("Content-Location: {url}");
            x.reply("200 OK", &["Cache-Control: max-age=60", &location], method);
        }
    });
    origin.on("/other", |x| {
        let method = x.request.method.clone();
        x.reply("200 OK", &["Cache-Control: max-age=60"], method);
    });
    let proxy = Proxy::open();
    let posted = proxy.request("POST", &url, &[], "content");
    assert!(posted.cache().has("stored"), "{posted}");
    let line = proxy.log.wait("the record", |l| l.contains("POST"));
    assert!(line.contains("\"bypass\""), "{line}");
    proxy.get(&url).assert_hit().assert_body("POST");
    proxy.request("POST", &origin.url("/other"), &[], "content");
    proxy.get(&origin.url("/other")).assert_forwarded("uri-miss").assert_body("GET");
}

#[test]
fn head_is_answered_from_a_stored_get() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"body");
    let proxy = Proxy::open();
    proxy.get(&origin.url("/x"));
    let response = proxy.request("HEAD", &origin.url("/x"), &[], "");
    response.assert_hit().assert_body("");
    assert_eq!(response.field("content-length").as_deref(), Some("4"));
    assert_eq!(origin.hits("/x"), 1);
}

#[test]
fn a_stored_204_has_no_length() {
    let origin = Origin::start();
    origin.on("/x", |x| x.write("HTTP/1.1 204 No Content\r\nCache-Control: max-age=60\r\n\r\n"));
    let proxy = Proxy::open();
    for method in ["GET", "GET", "HEAD"] {
        let response = proxy.request(method, &origin.url("/x"), &[], "");
        assert_eq!((response.status, response.field("content-length")), (204, None), "{method}");
    }
    assert_eq!(origin.hits("/x"), 1);
}

#[test]
fn a_head_response_updates_or_marks_what_is_stored() {
    let origin = Origin::start();
    for (path, etag) in [("/same", "\"v1\""), ("/changed", "\"v2\"")] {
        origin.on(path, move |x| {
            if x.request.method == "HEAD" {
                let etag = format!("ETag: {etag}");
                x.reply("200 OK", &["Cache-Control: max-age=60", &etag, "X-Turn: head"], "body");
            } else {
                x.reply("200 OK", &["Cache-Control: max-age=60", "ETag: \"v1\"", "X-Turn: get"], "body");
            }
        });
    }
    let proxy = Proxy::open();
    for path in ["/same", "/changed"] {
        proxy.get(&origin.url(path));
        proxy.request("HEAD", &origin.url(path), &["Cache-Control: no-cache"], "");
    }
    let same = proxy.get(&origin.url("/same"));
    same.assert_hit().assert_body("body");
    assert_eq!(same.field("x-turn").as_deref(), Some("head"), "freshened by HEAD");
    proxy.get(&origin.url("/changed")).assert_forwarded("stale");
}

#[test]
fn a_miss_passes_conditions_range_and_credentials_on() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"x");
    let proxy = Proxy::open();
    let sent = [
        "If-None-Match: \"c\"",
        "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT",
        "Range: bytes=0-1",
        "If-Range: \"c\"",
        "Authorization: Basic YQ==",
        "Cookie: a=b",
    ];
    proxy.get_with(&origin.url("/x"), &sent);
    let seen = origin.last("/x");
    for line in sent {
        let (name, value) = line.split_once(": ").unwrap();
        assert_eq!(seen.field(name).as_deref(), Some(value), "{name}");
    }
}

#[test]
fn the_store_stays_within_its_capacity() {
    let origin = Origin::start();
    origin.on("/x", |x| x.reply("200 OK", &["Cache-Control: max-age=600"], vec![b'x'; 200_000]));
    let proxy = Proxy::with("cache.memory = '8MiB'");
    let mut client = proxy.client();
    for i in 0..200 {
        client.get(&origin.url(&format!("/x?{i}"))).assert_status(200);
        if i % 20 == 0 {
            assert!(proxy.metric("larder_store_bytes", &[]) <= 8.0 * 1024.0 * 1024.0);
        }
    }
    assert!(proxy.metric("larder_store_entries", &[]) >= 10.0);
    assert!((proxy.metric("larder_store_capacity_bytes", &[]) - 8.0 * 1024.0 * 1024.0).abs() < 1.0);
}
