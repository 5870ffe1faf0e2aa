//! `Expect: 100-continue`, end to end. RFC 9110 section 10.1.1.

use crate::support::{Gate, Origin, Proxy};

const EXPECT: &str = "Expect: 100-continue";

fn head(url: &str, length: usize) -> String {
    format!("PUT {url} HTTP/1.1\r\nHost: h\r\n{EXPECT}\r\nContent-Length: {length}\r\n\r\n")
}

#[test]
fn the_client_is_told_to_continue_when_the_origin_says_so() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/x", move |x| {
        held.pass();
        x.write("HTTP/1.1 100 Continue\r\n\r\n");
        let body = x.body();
        x.reply("200 OK", &[], body);
    });
    let proxy = Proxy::with("upstream.expect_timeout = '30s'");
    let mut client = proxy.client();
    client.send(head(&origin.url("/x"), 5));
    origin.wait("/x", 1);
    assert_eq!(origin.last("/x").field("expect").as_deref(), Some("100-continue"));
    gate.open();
    assert_eq!(client.any_head().0, 100);
    client.send("hello");
    let response = client.response("PUT");
    assert!(response.interim.is_empty(), "one 100 is enough");
    response.assert_status(200).assert_body("hello");
}

#[test]
fn a_final_answer_instead_spares_the_upload() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        x.write("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
        x.done();
    });
    let proxy = Proxy::with("upstream.expect_timeout = '30s'");
    let mut client = proxy.client();
    client.send(head(&origin.url("/x"), 5_000_000));
    let response = client.response("PUT");
    assert!(response.interim.is_empty(), "{response}");
    response.assert_status(417).assert_body("no");
    assert_eq!(response.field("connection").as_deref(), Some("close"), "the rest will not be read");
    assert!(client.wire.ends());
}

#[test]
fn an_expectation_among_others_is_left_to_the_origin() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        x.write("HTTP/1.1 100 Continue\r\n\r\n");
        let body = x.body();
        x.reply("200 OK", &[], body);
    });
    let proxy = Proxy::with("upstream.expect_timeout = '30s'");
    for expect in ["Expect: foo, 100-Continue", "Expect: 100-continue\r\nExpect: foo"] {
        let mut client = proxy.client();
        client.send(head(&origin.url("/x"), 5).replace(EXPECT, expect));
        assert_eq!(client.any_head().0, 100, "{expect}");
        assert!(origin.last("/x").field("expect").is_some_and(|value| value.contains("foo")), "{expect}");
        client.send("hello");
        let response = client.response("PUT");
        assert!(response.interim.is_empty(), "{expect}: one 100 is enough");
        response.assert_status(200).assert_body("hello");
    }
    // A client that does not wait is delayed by nothing.
    let mut client = proxy.client();
    client.send(head(&origin.url("/x"), 5).replace(EXPECT, "Expect: foo, 100-Continue") + "hello");
    client.response("PUT").assert_status(200).assert_body("hello");
}

#[test]
fn an_origin_that_says_nothing_delays_the_upload_only_for_the_limit() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        let body = x.body();
        x.reply("200 OK", &[], body);
    });
    let proxy = Proxy::with("upstream.expect_timeout = '50ms'");
    let mut client = proxy.client();
    client.send(head(&origin.url("/x"), 5));
    assert_eq!(client.any_head().0, 100);
    client.send("hello");
    client.response("PUT").assert_status(200).assert_body("hello");
}

#[test]
fn a_client_that_does_not_wait_loses_nothing() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        x.write("HTTP/1.1 100 Continue\r\n\r\n");
        let body = x.body();
        x.reply("200 OK", &[], body);
    });
    let proxy = Proxy::open();
    let mut client = proxy.client();
    client.send(head(&origin.url("/x"), 5) + "hello");
    client.response("PUT").assert_status(200).assert_body("hello");
    client.get(&origin.url("/x")).assert_status(200);
}

#[test]
fn an_http_1_0_client_expects_nothing() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        let body = x.body();
        x.reply("200 OK", &[], body);
    });
    let proxy = Proxy::with("upstream.expect_timeout = '10min'");
    let mut client = proxy.client();
    client.send(head(&origin.url("/x"), 5).replace("HTTP/1.1", "HTTP/1.0") + "hello");
    let response = client.response("PUT");
    assert!(response.interim.is_empty());
    response.assert_status(200).assert_body("hello");
    assert_eq!(origin.last("/x").field("expect"), None, "what it expects is ignored");
}
