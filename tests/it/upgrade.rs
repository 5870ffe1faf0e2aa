//! Protocol upgrades: 101, then bytes both ways; only for the protocols on the list. RFC 9110 section 7.8.

use crate::support::{Client, Origin, Proxy};

const WEBSOCKET: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzhRbK+xOo0o=\r\n\r\n";

fn ask(client: &mut Client, url: &str, fields: &str) {
    client.send(format!("GET {url} HTTP/1.1\r\nHost: h\r\n{fields}\r\n"));
}

#[test]
fn a_websocket_passes_bytes_both_ways_until_each_side_ends() {
    let origin = Origin::start();
    origin.on("/ws", |x| {
        // The first bytes come in one write with the head.
        x.write(format!("{SWITCHING}welcome"));
        let hello = x.wire().exactly(5).unwrap();
        x.write(hello);
        let rest = x.wire().rest().unwrap();
        x.write([b"ended after ", &rest[..]].concat());
        x.close();
        x.done();
    });
    let proxy = Proxy::open();
    let mut client = proxy.client();
    ask(&mut client, &origin.url("/ws"), WEBSOCKET);
    let response = client.head("GET");
    response.assert_status(101);
    assert_eq!(response.field("upgrade").as_deref(), Some("websocket"));
    assert_eq!(response.field("sec-websocket-accept").as_deref(), Some("s3pPLMBiTxaQ9kYGzhRbK+xOo0o="));
    assert_eq!(client.wire.exactly(7).unwrap(), b"welcome");
    client.send("hello");
    assert_eq!(client.wire.exactly(5).unwrap(), b"hello");
    client.send("last");
    client.wire.half_close();
    assert_eq!(client.wire.rest().unwrap(), b"ended after last");
    let seen = origin.last("/ws");
    assert_eq!(seen.field("upgrade").as_deref(), Some("websocket"));
    assert_eq!(seen.field("sec-websocket-version").as_deref(), Some("13"));
}

#[test]
fn a_refused_upgrade_is_an_ordinary_answer() {
    let origin = Origin::start();
    origin.serve("/ws", "200 OK", &[], b"no thanks");
    let proxy = Proxy::open();
    let mut client = proxy.client();
    ask(&mut client, &origin.url("/ws"), WEBSOCKET);
    let response = client.response("GET");
    response.assert_status(200).assert_body("no thanks");
    // What may come behind a refused Upgrade is not the next request.
    assert_eq!(response.field("connection").as_deref(), Some("close"));
    assert!(client.wire.ends());
}

#[test]
fn bytes_behind_a_refused_upgrade_never_go_to_the_origin_as_they_are() {
    let origin = Origin::start();
    origin.serve("/ws", "403 Forbidden", &[], b"no");
    let proxy = Proxy::open();
    let mut client = proxy.client();
    ask(&mut client, &origin.url("/ws"), WEBSOCKET);
    client.send("\u{1}\u{2}early frame");
    client.response("GET").assert_status(403);
    // Whatever follows is read as a request: it is none.
    let answer = client.try_response("GET");
    assert!(answer.is_err() || answer.is_ok_and(|r| r.status == 400));
    assert!(!String::from_utf8_lossy(&origin.received()).contains("early frame"));
}

#[test]
fn a_protocol_that_is_not_listed_is_not_asked_for() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"x");
    let proxy = Proxy::open();
    for protocol in ["irc/6.9", "h2c", "HTTP/2.0", "TLS/1.0"] {
        let mut client = proxy.client();
        let fields = format!(
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {protocol}\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"
        );
        ask(&mut client, &origin.url("/x"), &fields);
        client.response("GET").assert_status(200).assert_body("x");
        let seen = origin.last("/x");
        assert_eq!(seen.field("upgrade"), None, "{protocol}");
        assert_eq!(seen.field("http2-settings"), None, "{protocol}");
    }
}

#[test]
fn a_protocol_that_the_configuration_lists_passes() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        x.write("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
        let bytes = x.wire().exactly(4).unwrap();
        x.write(bytes);
        x.done();
    });
    let proxy = Proxy::with("proxy.upgrades = ['websocket', 'echo']");
    let mut client = proxy.client();
    ask(&mut client, &origin.url("/x"), "Connection: upgrade\r\nUpgrade: echo\r\n");
    client.head("GET").assert_status(101);
    client.send("ping");
    assert_eq!(client.wire.exactly(4).unwrap(), b"ping");
}

#[test]
fn a_protocol_may_have_a_version() {
    let origin = Origin::start();
    origin.on("/x", |x| match x.request.field("upgrade") {
        Some(protocol) => {
            x.write(format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: {protocol}\r\n\r\n"
            ));
            x.done();
        }
        None => x.reply("200 OK", &[], "as it is"),
    });
    let proxy = Proxy::with("proxy.upgrades = ['foo/1', 'SPDY/3.1', 'echo']");
    for (asked, status) in
        [("foo/1", 101), ("spdy/3.1", 101), ("echo/7", 101), ("foo/2", 200), ("foo", 200), ("h2c/1", 200)]
    {
        let mut client = proxy.client();
        ask(&mut client, &origin.url("/x"), &format!("Connection: upgrade\r\nUpgrade: {asked}\r\n"));
        assert_eq!(client.head("GET").status, status, "{asked}");
    }
}

#[test]
fn switching_unasked_is_an_error_of_the_origin() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        x.write(SWITCHING);
        x.done();
    });
    let proxy = Proxy::open();
    let response = proxy.get(&origin.url("/x"));
    response.assert_status(502);
    response.proxy_status();
}

#[test]
fn an_upgrade_answer_is_never_stored() {
    let origin = Origin::start();
    origin.serve("/ws", "200 OK", &["Cache-Control: max-age=60"], b"stored?");
    let proxy = Proxy::open();
    for _ in 0..2 {
        let mut client = proxy.client();
        ask(&mut client, &origin.url("/ws"), WEBSOCKET);
        client.response("GET").assert_status(200);
    }
    assert_eq!(origin.hits("/ws"), 2);
}

#[test]
fn only_a_get_without_content_asks_for_a_protocol() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"x");
    let proxy = Proxy::open();
    let mut client = proxy.client();
    let upgrade = ["Connection: Upgrade", "Upgrade: websocket", "Max-Forwards: 3"];
    client.get(&origin.url("/x"));
    client.get(&origin.url("/x")).assert_hit();
    // It invalidates like any other.
    client.request("PUT", &origin.url("/x"), &upgrade, "new").assert_status(200);
    assert_eq!(origin.last("/x").field("upgrade"), None);
    client.get(&origin.url("/x")).assert_forwarded("uri-miss");
    client.request("OPTIONS", &origin.url("/x"), &upgrade, "").assert_status(200);
    assert_eq!(origin.last("/x").field("max-forwards").as_deref(), Some("2"));
    client.request("GET", &origin.url("/x"), &upgrade, "content").assert_status(200);
    assert_eq!(origin.last("/x").field("upgrade"), None);
}
