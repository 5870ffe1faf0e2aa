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

/// What stands behind an Upgrade that is not granted, in one write with it, is a request of the client's or nothing.
#[test]
fn what_stands_behind_an_upgrade_that_is_not_granted_is_a_request_or_nothing() {
    const H2C: &str =
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n";
    let origin = Origin::start();
    origin.serve("/plain", "200 OK", &[], b"plain");
    origin.serve("/stored", "200 OK", &["Cache-Control: max-age=60"], b"plain");
    origin.serve("/refused", "403 Forbidden", &[], b"plain");
    origin.on("/chunked", |x| {
        x.body();
        x.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nplain\r\n0\r\n\r\n");
    });
    origin.on("/switches", |x| {
        x.body();
        x.write(SWITCHING.replace("websocket", "other"));
    });
    origin.serve("/next", "200 OK", &[], b"next");
    let next = origin.url("/next");
    let proxy = Proxy::open();
    proxy.get(&origin.url("/stored")).assert_body("plain");
    let listed = WEBSOCKET.to_owned();
    let unlisted = "Connection: upgrade\r\nUpgrade: irc/6.9\r\n".to_owned();
    let several = "Connection: upgrade\r\nUpgrade: irc/6.9, h2c\r\n".to_owned();
    let unnamed = "Upgrade: websocket\r\n".to_owned();
    let behind = [
        format!("GET {next} HTTP/1.1\r\nHost: h\r\n\r\n"),
        format!("POST {next} HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nearly"),
        "GET /early HTTP/1.1\r\nHost: early\r\n\r\n".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0early".to_owned(),
        "\u{1}\u{2}early frame\r\n\r\n".to_owned(),
    ];
    for fields in [listed, unlisted, several, unnamed, H2C.to_owned()] {
        for path in ["/plain", "/stored", "/refused", "/chunked", "/switches"] {
            for (method, content) in [("GET", ""), ("POST", "Content-Length: 4\r\n\r\nmine")] {
                for behind in &behind {
                    let case = format!("{method} {path}, {fields}{behind:?}");
                    let before = origin.all().len();
                    let mut client = proxy.client();
                    let content = if content.is_empty() { "\r\n" } else { content };
                    client.send(format!(
                        "{method} {} HTTP/1.1\r\nHost: h\r\n{fields}{content}{behind}",
                        origin.url(path)
                    ));
                    client.wire.half_close();
                    let first = client.response(method);
                    assert!(matches!(first.status, 200 | 403 | 502), "{case}: {first}");
                    assert!(first.status == 502 || first.body == b"plain", "{case}: {first}");
                    let closes = first.field("connection").as_deref() == Some("close");
                    let second = client.try_response("GET").ok();
                    assert_eq!(second.is_none(), closes, "{case}: {second:?}");
                    let asks_next = behind.contains("/next");
                    match &second {
                        Some(second) if asks_next => drop(second.assert_status(200).assert_body("next")),
                        // A page of the proxy's own, or what no request is.
                        Some(second) => assert!(matches!(second.status, 400 | 404), "{case}: {second}"),
                        None => {}
                    }
                    assert!(client.wire.ends(), "{case}");
                    // The first in as many parts as it has, and the second as a request of its own.
                    let seen = origin.all().split_off(before);
                    let firsts = seen.iter().filter(|r| r.target == path).count();
                    let nexts = seen.iter().filter(|r| r.target == "/next").count();
                    assert!(firsts <= 1 && firsts + nexts == seen.len(), "{case}: {seen:?}");
                    assert_eq!(nexts, usize::from(asks_next && second.is_some()), "{case}");
                    let body = if method == "POST" { &b"mine"[..] } else { b"" };
                    assert!(
                        seen.iter().filter(|r| r.target == path).all(|r| r.body == body),
                        "{case}: {seen:?}"
                    );
                }
            }
        }
    }
    let received = String::from_utf8_lossy(&origin.received()).into_owned();
    for foreign in ["PRI *", "GET http://", "POST http://", "/early", "\u{2}early"] {
        assert!(!received.contains(foreign), "{foreign:?} went on as it is");
    }
    assert!(proxy.metric("larder_panics_total", &[]) < 0.5);
}
