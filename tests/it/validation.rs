//! Revalidation, freshening, and what a stale response may still do. RFC 9111 section 4.3, RFC 5861.

use crate::support::{Exchange, Gate, Origin, Proxy, date, eventually};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Answers 304 to the validator `"v"`, else 200; stale at once, by 50 seconds.
fn validated(x: &mut Exchange, more: &[&str]) {
    let mut fields = vec!["Cache-Control: max-age=50", "Age: 100", "ETag: \"v\""];
    fields.extend(more);
    if x.request.field("if-none-match").is_some_and(|v| v.contains("\"v\"")) {
        x.reply("304 Not Modified", &fields, "");
    } else {
        x.reply("200 OK", &fields, "body");
    }
}

#[test]
fn a_stale_response_is_validated_with_its_own_validators() {
    let origin = Origin::start();
    let modified = date(-1_000);
    origin.on("/x", {
        let modified = format!("Last-Modified: {modified}");
        move |x| validated(x, &[&modified])
    });
    let proxy = Proxy::open();
    proxy.get(&origin.url("/x")).assert_body("body");
    let response = proxy.get(&origin.url("/x"));
    response.assert_status(200).assert_body("body").assert_forwarded("stale");
    assert_eq!(response.cache().value("fwd-status").as_deref(), Some("304"));
    let seen = origin.last("/x");
    assert_eq!(seen.field("if-none-match").as_deref(), Some("\"v\""));
    assert_eq!(seen.field("if-modified-since"), Some(modified), "the same bytes");
}

#[test]
fn a_304_freshens_all_fields_but_those_of_the_body() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        if x.number == 1 {
            x.reply(
                "200 OK",
                &["Cache-Control: max-age=50", "Age: 100", "ETag: \"v\"", "X-Old: kept", "X-A: 1", "X-A: 2", "Content-Encoding: foo"],
                "body",
            );
        } else {
            x.write(
                "HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=100\r\nETag: \"v\"\r\nX-A: 3\r\nX-New: n\r\n\
                 Content-Encoding: bar\r\nContent-Length: 999\r\n\r\n",
            );
        }
    });
    let proxy = Proxy::open();
    proxy.get(&origin.url("/x"));
    proxy.get(&origin.url("/x")).assert_forwarded("stale");
    let hit = proxy.get(&origin.url("/x"));
    hit.assert_hit().assert_body("body");
    assert_eq!(hit.head.all("x-a"), ["3"]);
    assert_eq!(hit.field("x-new").as_deref(), Some("n"));
    assert_eq!(hit.field("x-old").as_deref(), Some("kept"));
    assert_eq!(hit.field("content-encoding").as_deref(), Some("foo"));
    assert_eq!(hit.field("content-length").as_deref(), Some("4"));
    assert!(hit.field("age").unwrap().parse::<i64>().unwrap() < 50, "its age starts anew: {hit}");
    assert_eq!(origin.hits("/x"), 2);
}

#[test]
fn a_200_replaces_what_was_stored() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        let (age, body) = if x.number == 1 { ("Age: 100", "old") } else { ("Age: 0", "new") };
        x.reply("200 OK", &["Cache-Control: max-age=50", age, "ETag: \"v\""], body);
    });
    let proxy = Proxy::open();
    proxy.get(&origin.url("/x")).assert_body("old");
    proxy.get(&origin.url("/x")).assert_body("new").assert_forwarded("stale");
    proxy.get(&origin.url("/x")).assert_body("new").assert_hit();
}

#[test]
fn a_304_with_a_foreign_validator_leads_to_another_fetch() {
    let origin = Origin::start();
    origin.on("/x", |x| match x.number {
        1 => x.reply("200 OK", &["Cache-Control: max-age=50", "Age: 100", "ETag: \"v\""], "old"),
        2 => x.reply("304 Not Modified", &["ETag: \"w\""], ""),
        _ => x.reply("200 OK", &["Cache-Control: max-age=50", "ETag: \"w\""], "new"),
    });
    let proxy = Proxy::open();
    proxy.get(&origin.url("/x")).assert_body("old");
    proxy.get(&origin.url("/x")).assert_status(200).assert_body("new");
    assert_eq!(origin.last("/x").field("if-none-match"), None);
}

#[test]
fn a_304_that_forbids_storing_goes_to_its_requester_and_the_stored_response_goes() {
    let origin = Origin::start();
    origin.on("/x", |x| match x.number {
        2 => x.reply("304 Not Modified", &["Cache-Control: no-store", "ETag: \"v\""], ""),
        _ => x.reply("200 OK", &["Cache-Control: max-age=50", "Age: 100", "ETag: \"v\""], "body"),
    });
    let proxy = Proxy::open();
    proxy.get(&origin.url("/x"));
    proxy.get(&origin.url("/x")).assert_status(200).assert_body("body");
    proxy.get(&origin.url("/x")).assert_forwarded("uri-miss");
}

#[test]
fn the_clients_condition_is_answered_after_our_own_validation() {
    let origin = Origin::start();
    origin.on("/x", |x| validated(x, &[]));
    let proxy = Proxy::open();
    proxy.get(&origin.url("/x"));
    let response = proxy.get_with(&origin.url("/x"), &["If-None-Match: \"v\""]);
    response.assert_status(304).assert_body("");
    let response = proxy.get_with(&origin.url("/x"), &["If-None-Match: \"other\""]);
    response.assert_status(200).assert_body("body");
}

#[test]
fn stale_while_revalidate_answers_at_once_and_validates_behind() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/x", move |x| {
        if x.number == 1 {
            x.reply(
                "200 OK",
                &["Cache-Control: max-age=50, stale-while-revalidate=500", "Age: 100", "ETag: \"v\""],
                "old",
            );
        } else {
            held.pass();
            x.reply("200 OK", &["Cache-Control: max-age=50", "ETag: \"w\""], "new");
        }
    });
    let proxy = Proxy::open();
    let url = origin.url("/x");
    proxy.get(&url).assert_body("old");
    let stale = proxy.get(&url);
    stale.assert_body("old").assert_hit();
    assert!(stale.cache().ttl().unwrap() < 0, "{stale}");
    assert_eq!(stale.cache().value("detail").as_deref(), Some("stale-while-revalidate"));
    origin.wait("/x", 2);
    // While that runs nobody else asks.
    proxy.get(&url).assert_body("old");
    assert_eq!(origin.last("/x").field("if-none-match").as_deref(), Some("\"v\""));
    gate.open();
    eventually("the new response", || (proxy.get(&url).text() == "new").then_some(()));
    assert_eq!(origin.hits("/x"), 2);
}

#[test]
fn a_stored_part_is_refreshed_without_the_clients_range_and_conditions() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        if x.request.field("range").is_some() {
            x.reply(
                "206 Partial Content",
                &[
                    "Cache-Control: max-age=50, stale-while-revalidate=500",
                    "Age: 100",
                    "ETag: \"v\"",
                    "Content-Range: bytes 0-4/10",
                ],
                "01234",
            );
        } else {
            x.reply("200 OK", &["Cache-Control: max-age=50", "ETag: \"w\""], "abcdefghij");
        }
    });
    let proxy = Proxy::open();
    let url = origin.url("/x");
    proxy.get_with(&url, &["Range: bytes=0-4"]).assert_status(206).assert_body("01234");
    let stale = proxy.get_with(&url, &["Range: bytes=0-4", "If-Range: \"v\""]);
    stale.assert_status(206).assert_body("01234").assert_hit();
    origin.wait("/x", 2);
    let seen = origin.last("/x");
    for name in ["range", "if-range"] {
        assert_eq!(seen.field(name), None, "{name}");
    }
    assert_eq!(seen.field("if-none-match").as_deref(), Some("\"v\""));
    eventually("the refreshed response", || {
        let now = proxy.get_with(&url, &["Cache-Control: only-if-cached"]);
        (now.status == 200).then_some(now)
    })
    .assert_body("abcdefghij");
}

#[test]
fn stale_while_revalidate_ends_with_its_window_and_yields_to_stricter_words() {
    let origin = Origin::start();
    let proxy = Proxy::open();
    for (path, directives) in [
        ("/after", "max-age=50, stale-while-revalidate=10"),
        ("/must", "max-age=50, stale-while-revalidate=500, must-revalidate"),
        ("/shared", "s-maxage=50, stale-while-revalidate=500"),
    ] {
        let field = format!("Cache-Control: {directives}");
        origin.on(path, move |x| x.reply("200 OK", &[&field, "Age: 100", "ETag: \"v\""], "body"));
        proxy.get(&origin.url(path));
        proxy.get(&origin.url(path)).assert_forwarded("stale");
    }
    let allowed = Proxy::with("cache.s_maxage_allows_stale_while_revalidate = true");
    allowed.get(&origin.url("/shared"));
    allowed.get(&origin.url("/shared")).assert_hit();
}

/// Stores a stale response with these directives, then lets the origin fail in that way.
fn failing(proxy: &Proxy, directives: &str, age: &str, failure: &'static str) -> crate::support::Response {
    let origin = Origin::start();
    let fields = [format!("Cache-Control: {directives}"), format!("Age: {age}")];
    let broken = Arc::new(AtomicBool::new(false));
    let fails = Arc::clone(&broken);
    origin.on("/x", move |x| {
        if !fails.load(Ordering::SeqCst) {
            x.reply("200 OK", &[&fields[0], &fields[1], "ETag: \"v\""], "stored");
        } else if failure == "close" {
            x.close();
        } else {
            x.reply(failure, &["Cache-Control: no-store"], "failure");
        }
    });
    let url = origin.url("/x");
    proxy.get(&url).assert_body("stored");
    broken.store(true, Ordering::SeqCst);
    let head = proxy.request("HEAD", &url, &[], "");
    let response = proxy.get(&url);
    assert_eq!(head.status, response.status, "HEAD has the same rules: {head}");
    response
}

#[test]
fn stale_if_error_answers_for_an_origin_that_fails() {
    let proxy = Proxy::open();
    for failure in ["500 Oops", "502 Bad", "503 Busy", "504 Late", "close"] {
        let response = failing(&proxy, "max-age=50, stale-if-error=500", "100", failure);
        response.assert_status(200).assert_body("stored");
        assert_eq!(
            response.cache().value("detail").as_deref(),
            Some("stale-if-error"),
            "{failure}: {response}"
        );
        assert_eq!(response.field("warning"), None);
    }
}

#[test]
fn stale_if_error_does_not_cover_other_answers_or_a_later_time() {
    let proxy = Proxy::open();
    for failure in ["404 Gone", "403 No", "401 Who"] {
        let status = failure[..3].parse().unwrap();
        failing(&proxy, "max-age=50, stale-if-error=500", "100", failure).assert_status(status);
    }
    failing(&proxy, "max-age=50, stale-if-error=10", "100", "503 Busy")
        .assert_status(503)
        .assert_body("failure");
}

#[test]
fn without_a_directive_a_configured_bound_covers_failed_connections_only() {
    let proxy = Proxy::with("cache.stale_if_error = '200s'");
    failing(&proxy, "max-age=50", "100", "close").assert_status(200).assert_body("stored");
    failing(&proxy, "max-age=50", "100", "503 Busy").assert_status(503);
    let late = failing(&proxy, "max-age=50", "1000", "close");
    assert!(matches!(late.status, 502 | 504), "{late}");
}

#[test]
fn must_revalidate_is_never_served_stale() {
    let proxy = Proxy::open();
    for directives in
        ["max-age=50, must-revalidate", "max-age=50, proxy-revalidate", "s-maxage=50", "no-cache"]
    {
        let directives = format!("{directives}, stale-if-error=500");
        failing(&proxy, &directives, "100", "close").assert_status(504);
        failing(&proxy, &directives, "100", "503 Busy").assert_status(503).assert_body("failure");
    }
}

#[test]
fn a_replacement_that_may_not_be_stored_takes_the_old_response_along() {
    let proxy = Proxy::open();
    for (status, fields, body) in [
        ("200 OK", &["Cache-Control: no-store"][..], "new"),
        ("200 OK", &["Cache-Control: private"], "new"),
        ("404 Not Found", &[], "gone"),
        ("302 Found", &["Location: /y"], ""),
    ] {
        let origin = Origin::start();
        origin.on("/x", move |x| {
            if x.number == 2 {
                x.reply(status, fields, body);
            } else {
                x.reply("200 OK", &["Cache-Control: max-age=60", "ETag: \"v\""], "old");
            }
        });
        let url = origin.url("/x");
        proxy.get(&url);
        proxy.get_with(&url, &["Cache-Control: no-cache"]).assert_body(body);
        proxy.get(&url).assert_forwarded("uri-miss");
    }
}

#[test]
fn a_failure_or_one_requesters_own_answer_leaves_the_old_response() {
    let proxy = Proxy::open();
    for (status, fields) in [
        ("503 Busy", &["Cache-Control: no-store"][..]),
        ("401 Unauthorized", &["Cache-Control: no-store"]),
        ("200 OK", &["Cache-Control: max-age=60", "Set-Cookie: a=b"]),
    ] {
        let origin = Origin::start();
        origin.on("/x", move |x| {
            if x.number == 2 {
                x.reply(status, fields, "other");
            } else {
                x.reply("200 OK", &["Cache-Control: max-age=60", "ETag: \"v\""], "old");
            }
        });
        let url = origin.url("/x");
        proxy.get(&url);
        proxy.get_with(&url, &["Cache-Control: no-cache"]).assert_body("other");
        proxy.get(&url).assert_hit().assert_body("old");
    }
}

#[test]
fn a_refresh_that_finds_the_resource_gone_removes_what_was_stored() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        if x.number == 1 {
            let fields = ["Cache-Control: max-age=50, stale-while-revalidate=500", "Age: 100", "ETag: \"v\""];
            x.reply("200 OK", &fields, "old");
        } else {
            x.reply("410 Gone", &[], "gone");
        }
    });
    let proxy = Proxy::open();
    let url = origin.url("/x");
    proxy.get(&url).assert_body("old");
    proxy.get(&url).assert_hit().assert_body("old");
    eventually("the removal", || (proxy.get(&url).status == 410).then_some(()));
}

#[test]
fn a_validation_that_a_purge_overtakes_is_not_told_as_stored() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/x", move |x| {
        if x.number == 2 {
            held.pass();
        }
        validated(x, &[]);
    });
    let proxy = Proxy::open();
    let url = origin.url("/x");
    proxy.get(&url);
    let mut client = proxy.client();
    client.begin("GET", &url, &[], "");
    origin.wait("/x", 2);
    assert!(proxy.run(&["purge", &url]).status.success());
    gate.open();
    let response = client.response("GET");
    response.assert_status(200).assert_body("body");
    assert!(!response.cache().has("stored"), "{response}");
}

#[test]
fn the_cookies_of_a_head_response_reach_nobody_else() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        if x.request.method == "HEAD" {
            x.reply(
                "200 OK",
                &["Cache-Control: max-age=600", "ETag: \"v\"", "Set-Cookie: user=alice"],
                "body",
            );
        } else {
            x.reply("200 OK", &["Cache-Control: public, max-age=600", "ETag: \"v\""], "body");
        }
    });
    let proxy = Proxy::open();
    let url = origin.url("/x");
    proxy.get(&url);
    let own = proxy.request("HEAD", &url, &["Cache-Control: no-cache"], "");
    assert_eq!(own.field("set-cookie").as_deref(), Some("user=alice"));
    let other = proxy.get(&url);
    other.assert_hit();
    assert_eq!(other.field("set-cookie"), None);
}

#[test]
fn concurrent_validations_of_one_response_are_one_request() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/x", move |x| {
        if x.number > 1 {
            held.pass();
            x.reply("304 Not Modified", &["Cache-Control: max-age=50", "ETag: \"v\""], "");
        } else {
            x.reply("200 OK", &["Cache-Control: max-age=50", "Age: 100", "ETag: \"v\""], "body");
        }
    });
    let proxy = Proxy::open();
    proxy.get(&origin.url("/x"));
    let mut clients: Vec<_> = (0..20).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.begin("GET", &origin.url("/x"), &[], "");
    }
    origin.wait("/x", 2);
    gate.open();
    for client in &mut clients {
        client.response("GET").assert_status(200).assert_body("body");
    }
    assert_eq!(origin.hits("/x"), 2);
}
