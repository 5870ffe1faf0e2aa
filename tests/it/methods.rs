//! Every method passes; those that speak to proxies are answered where they say. RFC 9110 sections 7.6.2 and 9.

use crate::support::{Origin, Proxy};

#[test]
fn known_and_unknown_methods_pass_with_their_content() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        let body = x.body();
        let method = x.request.method.clone();
        x.reply("200 OK", &[&format!("X-Method: {method}"), "Cache-Control: max-age=60"], body);
    });
    let proxy = Proxy::open();
    let mut client = proxy.client();
    for method in [
        "POST",
        "PUT",
        "PATCH",
        "DELETE",
        "OPTIONS",
        "PROPFIND",
        "M-SEARCH",
        "QUERY",
        "get",
        "X!#$%&'*+-.^_`|~1",
    ] {
        for body in ["", "content"] {
            let response = client.request(method, &origin.url("/x"), &[], body);
            response.assert_body(body);
            assert_eq!(response.field("x-method").as_deref(), Some(method));
            response.assert_forwarded("method");
        }
    }
    assert_eq!(
        client.get(&origin.url("/x")).cache().value("fwd").as_deref(),
        Some("uri-miss"),
        "nothing was stored"
    );
}

#[test]
fn content_on_get_and_delete_passes_and_is_not_stored() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        let body = x.body();
        x.reply("200 OK", &["Cache-Control: max-age=60"], body);
    });
    let proxy = Proxy::open();
    for body in ["one", "two"] {
        proxy.request("GET", &origin.url("/x"), &[], body).assert_body(body);
    }
}

#[test]
fn options_counts_max_forwards_down_and_is_answered_here_at_zero() {
    let origin = Origin::start();
    origin.serve("/x", "204 No Content", &["Allow: GET"], b"");
    let proxy = Proxy::open();
    for (sent, seen) in [(None, None), (Some("5"), Some("4")), (Some("1"), Some("0"))] {
        let field = sent.map(|n| format!("Max-Forwards: {n}"));
        let fields: Vec<_> = field.iter().map(String::as_str).collect();
        proxy.request("OPTIONS", &origin.url("/x"), &fields, "").assert_status(204);
        assert_eq!(origin.last("/x").field("max-forwards").as_deref(), seen);
    }
    let before = origin.hits("/x");
    let response = proxy.request("OPTIONS", &origin.url("/x"), &["Max-Forwards: 0"], "");
    response.assert_status(200);
    assert!(response.field("allow").is_some());
    assert_eq!(origin.hits("/x"), before);
}

#[test]
fn max_forwards_means_nothing_to_other_methods() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"x");
    let proxy = Proxy::open();
    proxy.get_with(&origin.url("/x"), &["Max-Forwards: 0"]).assert_body("x");
    assert_eq!(origin.last("/x").field("max-forwards").as_deref(), Some("0"));
}

#[test]
fn trace_at_zero_echoes_the_request_without_credentials() {
    let origin = Origin::start();
    let proxy = Proxy::open();
    let response = proxy.request(
        "TRACE",
        &origin.url("/x"),
        &[
            "Max-Forwards: 0",
            "Authorization: Basic c2VjcmV0",
            "Cookie: secret=1",
            "Proxy-Authorization: Basic c2VjcmV0",
            "X-Kept: kept",
        ],
        "",
    );
    response.assert_status(200);
    assert_eq!(response.field("content-type").as_deref(), Some("message/http"));
    let echo = response.text().to_lowercase();
    assert!(echo.starts_with("trace "), "{echo}");
    assert!(echo.contains("x-kept: kept"), "{echo}");
    assert!(!echo.contains("secret") && !echo.contains("c2vjcmv0"), "{echo}");
    assert_eq!(origin.hits("/x"), 0);
}

#[test]
fn trace_goes_on_to_origins_only_when_enabled() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        let echo = x.request.head.bytes.clone();
        x.reply("200 OK", &["Content-Type: message/http"], echo);
    });
    let closed = Proxy::with("access.trace = false");
    let refused = closed.request("TRACE", &origin.url("/x"), &["Max-Forwards: 3"], "");
    refused.assert_status(405);
    assert!(refused.field("allow").is_some_and(|allow| !allow.contains("TRACE")), "{refused}");
    assert!(refused.text().contains("access.trace"), "{refused}");
    assert_eq!(origin.hits("/x"), 0);

    let open = Proxy::with("access.trace = true");
    open.request("TRACE", &origin.url("/x"), &["Max-Forwards: 3"], "").assert_status(200);
    assert_eq!(origin.last("/x").field("max-forwards").as_deref(), Some("2"));
}

#[test]
fn head_has_the_length_and_no_body() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["X-Mark: 1"], b"body");
    let proxy = Proxy::open();
    let mut client = proxy.client();
    let response = client.request("HEAD", &origin.url("/x"), &[], "");
    response.assert_status(200).assert_body("");
    assert_eq!(response.field("content-length").as_deref(), Some("4"));
    client.get(&origin.url("/x")).assert_body("body");
}
