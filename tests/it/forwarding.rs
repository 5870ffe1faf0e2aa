//! Messages pass as they are: every combination of versions, framings and sizes, in both directions.

use crate::support::wire::Framing;
use crate::support::{Client, Gate, Origin, Proxy, eventually, pattern};
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const SIZES: [usize; 6] = [0, 1, 1_000, 16_384, 70_001, 1_000_000];

/// Scripts the paths `/VERSION/FRAMING/SIZE`.
fn script_responses(origin: &Origin) {
    for version in ["1.0", "1.1"] {
        for framing in ["length", "chunked", "close"] {
            for size in SIZES {
                origin.on(&format!("/{version}/{framing}/{size}"), move |x| {
                    x.body();
                    let head = format!("HTTP/{version} 200 OK\r\nX-Mark: 1\r\n");
                    let body = pattern(size);
                    match framing {
                        "length" => {
                            x.write(format!("{head}Content-Length: {size}\r\n\r\n"));
                            x.write(body);
                        }
                        "chunked" => {
                            x.write(format!("{head}Transfer-Encoding: chunked\r\n\r\n"));
                            for part in body.chunks(7_777) {
                                x.write(format!("{:x};note=\"x\"\r\n", part.len()));
                                x.write(part);
                                x.write("\r\n");
                            }
                            x.write("0\r\n\r\n");
                        }
                        _ => {
                            x.write(format!("{head}\r\n"));
                            x.write(body);
                            x.close();
                        }
                    }
                    if version == "1.0" {
                        x.close();
                    }
                });
            }
        }
    }
}

fn request_bytes(method: &str, url: &str, version: &str, framing: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{method} {url} HTTP/{version}\r\nHost: ignored.example\r\n").into_bytes();
    match framing {
        "length" => {
            bytes.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes());
            bytes.extend_from_slice(body);
        }
        "chunked" => {
            bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            for part in body.chunks(5_555) {
                bytes.extend(format!("{:X}\r\n", part.len()).bytes());
                bytes.extend_from_slice(part);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
        }
        _ => bytes.extend_from_slice(b"\r\n"),
    }
    bytes
}

#[test]
fn every_version_framing_and_size_passes_unchanged_both_ways() {
    let origin = Origin::start();
    script_responses(&origin);
    let proxy = Proxy::open();
    for client_version in ["1.0", "1.1"] {
        for (origin_version, answer) in
            [("1.0", "length"), ("1.0", "close"), ("1.1", "length"), ("1.1", "chunked"), ("1.1", "close")]
        {
            for (method, upload) in
                [("GET", "none"), ("PUT", "length"), ("POST", "chunked"), ("PATCH", "length")]
            {
                if client_version == "1.0" && upload == "chunked" {
                    continue; // refused: see bad_input
                }
                for size in SIZES {
                    let path = format!("/{origin_version}/{answer}/{size}");
                    let what = format!("{client_version} client, {method} {upload}, {path}");
                    let sent = if upload == "none" { Vec::new() } else { pattern(size) };
                    let mut client = proxy.client();
                    let bytes = request_bytes(method, &origin.url(&path), client_version, upload, &sent);
                    client.send(bytes);
                    let response = client.response(method);
                    assert_eq!(response.status, 200, "{what}");
                    assert_eq!(response.broken, None, "{what}");
                    assert!(response.body == pattern(size), "{what}: {} bytes differ", response.body.len());
                    assert_eq!(response.field("x-mark").as_deref(), Some("1"), "{what}");
                    if client_version == "1.0" {
                        assert_ne!(response.framing, Framing::Chunked, "{what}");
                    }
                    let seen = origin.last(&path);
                    assert_eq!(seen.method, method, "{what}");
                    assert!(seen.body == sent, "{what}: {} bytes of the upload differ", seen.body.len());
                    assert_eq!(seen.field("host"), Some(origin.address.to_string()), "{what}");
                }
            }
        }
    }
}

#[test]
fn one_connection_carries_many_requests() {
    let origin = Origin::start();
    script_responses(&origin);
    let proxy = Proxy::open();
    let mut client = proxy.client();
    for framing in ["length", "chunked"] {
        for size in SIZES {
            client.get(&origin.url(&format!("/1.1/{framing}/{size}"))).assert_body(pattern(size));
        }
    }
}

#[test]
fn http_1_0_connection_stays_open_only_when_asked() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"x");
    let proxy = Proxy::open();
    let request = |more: &str| format!("GET {} HTTP/1.0\r\n{more}\r\n", origin.url("/x"));
    let mut client = proxy.client();
    client.send(request("Connection: keep-alive\r\n"));
    client.response("GET").assert_body("x");
    client.send(request(""));
    client.response("GET").assert_body("x");
    assert!(client.wire.ends());
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/first", move |x| {
        held.pass();
        x.reply("200 OK", &[], "first");
    });
    origin.serve("/second", "200 OK", &[], b"second");
    origin.on("/third", |x| {
        let body = x.body();
        x.reply("200 OK", &[], body);
    });
    let proxy = Proxy::open();
    let mut client = proxy.client();
    let mut bytes = request_bytes("GET", &origin.url("/first"), "1.1", "none", b"");
    bytes.extend(request_bytes("GET", &origin.url("/second"), "1.1", "none", b""));
    bytes.extend(request_bytes("POST", &origin.url("/third"), "1.1", "chunked", b"third"));
    client.send(bytes);
    origin.wait("/first", 1);
    gate.open();
    for body in ["first", "second", "third"] {
        client.response("GET").assert_body(body);
    }
}

#[test]
fn a_client_that_half_closed_gets_its_answer() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/x", move |x| {
        held.pass();
        x.reply("200 OK", &[], "late");
    });
    let proxy = Proxy::open();
    let mut client = proxy.client();
    client.begin("GET", &origin.url("/x"), &[], "");
    client.wire.half_close();
    origin.wait("/x", 1);
    gate.open();
    client.response("GET").assert_body("late");
    assert!(client.wire.ends());
}

#[test]
fn an_http_1_0_client_is_told_when_its_connection_will_close() {
    let origin = Origin::start();
    origin.on("/chunked", |x| {
        x.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    });
    origin.serve("/length", "200 OK", &[], b"abc");
    let proxy = Proxy::open();
    let ask = |client: &mut Client, url: &str| {
        client.send(format!("GET {url} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
        client.response("GET")
    };
    let mut client = proxy.client();
    let kept = ask(&mut client, &origin.url("/length"));
    kept.assert_body("abc");
    assert_eq!(kept.field("connection").as_deref(), Some("keep-alive"));
    let last = ask(&mut client, &origin.url("/chunked"));
    last.assert_body("abc");
    assert_eq!(last.field("connection").as_deref(), Some("close"), "only the end of the connection ends it");
    let refused = ask(&mut proxy.client(), "ftp://h/");
    refused.assert_status(400);
    assert_eq!(refused.field("connection").as_deref(), Some("close"));
}

#[test]
fn trailers_pass_both_ways() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        x.body();
        x.write("HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n");
    });
    let proxy = Proxy::open();
    let mut client = proxy.client();
    client.send(format!(
        "POST {} HTTP/1.1\r\nHost: h\r\nTE: trailers\r\nConnection: TE\r\nTrailer: X-Mine\r\nTransfer-Encoding: chunked\r\n\r\n\
         2\r\nhi\r\n0\r\nX-Mine: 1\r\n\r\n",
        origin.url("/x")
    ));
    let response = client.response("POST");
    response.assert_body("abc");
    assert_eq!(
        response.trailers,
        [("X-Sum".to_lowercase(), "7".to_owned())].map(|(n, v)| (n, v)),
        "{response}"
    );
    let seen = origin.last("/x");
    assert_eq!(seen.field("te").as_deref(), Some("trailers"));
    assert_eq!(seen.body, b"hi");
    let mine: Vec<_> = seen.trailers.iter().map(|(n, v)| (n.to_lowercase(), v.as_str())).collect();
    assert_eq!(mine, [("x-mine".to_owned(), "1")]);
}

#[test]
fn trailers_are_left_out_for_a_client_that_does_not_take_them() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        x.write("HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n");
    });
    let proxy = Proxy::open();
    let response = proxy.get(&origin.url("/x"));
    response.assert_body("abc");
    assert!(response.trailers.is_empty());
    assert_eq!(origin.last("/x").field("te").as_deref(), Some("trailers"), "TE: trailers is the proxy's own");
}

#[test]
fn every_final_status_passes() {
    let origin = Origin::start();
    let proxy = Proxy::open();
    let mut client = proxy.client();
    for status in [
        200, 201, 202, 203, 204, 226, 299, 300, 302, 304, 305, 400, 401, 404, 418, 451, 499, 500, 502, 504,
        511, 599,
    ] {
        let path = format!("/{status}");
        origin.on(&path, move |x| x.reply(&format!("{status} As It Is"), &["X-Mark: 1"], "body"));
        // A 304 is an answer only to who asked for one.
        let response = client.get_with(&origin.url(&path), &["If-None-Match: \"c\""]);
        response.assert_status(status);
        assert_eq!(response.field("x-mark").as_deref(), Some("1"), "{status}");
        response.assert_body(if matches!(status, 204 | 304) { "" } else { "body" });
        assert_eq!(response.field("proxy-status"), None, "{status} is the origin's own");
        assert!(!response.head.line.contains('<'), "{}", response.head.line);
    }
}

#[test]
fn end_to_end_fields_pass_unchanged_on_a_miss() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        x.reply(
            "200 OK",
            &[
                "X-Twice: 1",
                "X-Empty:",
                "X-Twice: 2",
                "Age: 7",
                "Date: Sun, 06 Nov 1994 08:49:37 GMT",
                "X-Obs: \u{e9}\u{ff}",
            ],
            "x",
        );
    });
    origin.serve("/plain", "200 OK", &[], b"x");
    let proxy = Proxy::open();
    let response = proxy.get_with(&origin.url("/x"), &["X-Up: a", "X-Void:", "X-Up: b", "User-Agent: t/1"]);
    assert_eq!(response.head.all("x-twice"), ["1", "2"]);
    assert_eq!(response.head.all("x-empty"), [""]);
    assert_eq!(response.head.all("age"), ["7"]);
    assert_eq!(response.head.all("date"), ["Sun, 06 Nov 1994 08:49:37 GMT"]);
    assert_eq!(response.head.all("x-obs"), ["\u{e9}\u{ff}"]);
    let seen = origin.last("/x");
    assert_eq!(seen.head.all("x-up"), ["a", "b"]);
    assert_eq!(seen.head.all("x-void"), [""]);
    assert_eq!(seen.head.all("user-agent"), ["t/1"]);
    assert_eq!(proxy.get(&origin.url("/plain")).field("age"), None, "no Age on a miss that had none");
}

#[test]
fn a_body_longer_than_its_content_length_is_cut_and_the_connection_not_used_again() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        x.write(
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n!",
        );
    });
    let proxy = Proxy::open();
    let mut client = proxy.client();
    client.get(&origin.url("/x")).assert_body("hello");
    client.get(&origin.url("/x")).assert_body("hello");
    assert_eq!(origin.connections(), 2);
}

#[test]
fn a_body_under_an_unknown_transfer_coding_passes_as_it_is_until_the_close() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        x.write(
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: xcoded\r\n\r\n5\r\nhello",
        );
        x.close();
    });
    let proxy = Proxy::open();
    // Live or stored: what was not decoded is not taken apart, and no coding is told that this hop has not used.
    for _ in 0..2 {
        let response = proxy.get(&origin.url("/x"));
        response.assert_status(200).assert_body("5\r\nhello");
        assert!(!response.field("transfer-encoding").is_some_and(|t| t.contains("xcoded")), "{response}");
    }
}

#[test]
fn content_length_with_transfer_encoding_from_an_origin_is_chunked_and_not_stored() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        x.write("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    });
    let proxy = Proxy::open();
    for _ in 0..2 {
        let response = proxy.get(&origin.url("/x"));
        response.assert_body("hello");
        assert_ne!(response.framing, Framing::Length(2));
    }
    assert_eq!(origin.connections(), 2, "such a connection is not trusted again");
}

#[test]
fn a_body_where_none_may_be_reaches_nobody() {
    let origin = Origin::start();
    origin.on("/204", |x| x.write("HTTP/1.1 204 No Content\r\n\r\nsmuggled"));
    origin.on("/304", |x| x.write("HTTP/1.1 304 Not Modified\r\nContent-Length: 8\r\n\r\nsmuggled"));
    origin.on("/head", |x| x.write("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled"));
    origin.serve("/next", "200 OK", &[], b"next");
    let proxy = Proxy::open();
    for (method, path) in [("GET", "/204"), ("GET", "/304"), ("HEAD", "/head")] {
        let mut client = proxy.client();
        let response = client.request(method, &origin.url(path), &["If-None-Match: \"c\""], "");
        response.assert_body("");
        client.get(&origin.url("/next")).assert_body("next");
    }
}

#[test]
fn trailers_above_their_limit_break_the_response_off() {
    let origin = Origin::start();
    for (path, size) in [("/fits", 15 << 10), ("/large", 17 << 10)] {
        let trailer = "v".repeat(size);
        origin.on(path, move |x| {
            x.write(format!(
                "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTrailer: X-A\r\nTransfer-Encoding: chunked\r\n\r\n\
                 3\r\nabc\r\n0\r\nX-A: {trailer}\r\n\r\n"
            ));
        });
    }
    let proxy = Proxy::open();
    for turn in 1..=2 {
        let fits = proxy.get_with(&origin.url("/fits"), &["TE: trailers", "Connection: TE"]);
        fits.assert_body("abc");
        // A stored response may go without them.
        let length = fits.trailers.first().map(|(_, value)| value.len());
        assert!(length == Some(15 << 10) || turn == 2 && fits.is_hit(), "{fits}");
        let mut client = proxy.client();
        client.begin("GET", &origin.url("/large"), &["TE: trailers", "Connection: TE"], "");
        // Its head may be out when the trailers come.
        let whole = client.try_response("GET").is_ok_and(|r| r.status == 200 && r.broken.is_none());
        assert!(!whole && client.wire.ends());
        assert_eq!(origin.hits("/large"), turn, "it is not stored");
    }
    assert_eq!(origin.hits("/fits"), 1, "the other one is");
}

/// Neither to who asked with a condition nor to who is answered with what it validated.
#[test]
fn framing_fields_of_a_304_are_no_framing() {
    const SECOND: &str = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled";
    let (origin, next) = (Origin::start(), Origin::start());
    next.serve("/next", "200 OK", &[], b"next");
    let proxy = Proxy::open();
    for (path, framing) in [
        ("/length", "Content-Length: 8\r\n\r\nsmuggled".to_owned()),
        ("/response", format!("Content-Length: {}\r\n\r\n{SECOND}", SECOND.len())),
        ("/chunked", "Transfer-Encoding: chunked\r\n\r\n8\r\nsmuggled\r\n0\r\n\r\n".to_owned()),
        ("/second", format!("Transfer-Encoding: chunked\r\n\r\n{SECOND}")),
        ("/both", format!("Transfer-Encoding: chunked\r\nContent-Length: 8\r\n\r\n{SECOND}")),
        ("/unknown", format!("Transfer-Encoding: gzip\r\n\r\n{SECOND}")),
        ("/none", format!("\r\n{SECOND}")),
    ] {
        origin.on(path, move |x| {
            if x.request.field("if-none-match").is_some() {
                x.write(format!("HTTP/1.1 304 Not Modified\r\nETag: \"v\"\r\n{framing}"));
            } else {
                let fields = ["Cache-Control: max-age=50", "Age: 100", "ETag: \"v\""];
                x.reply("200 OK", &fields, "the stored one");
            }
        });
        // A condition of the client's own goes through while nothing is stored.
        for (turn, condition, status) in
            [("asked", "If-None-Match: \"v\"", 304), ("stored", "X: y", 200), ("validated", "X: y", 200)]
        {
            let case = format!("{path}, {turn}");
            let mut client = proxy.client();
            let response = client.get_with(&origin.url(path), &[condition]);
            assert_eq!(response.field("transfer-encoding"), None, "{case}: {response}");
            if response.status == 502 {
                assert!(!response.text().contains("smuggled") && status == 304, "{case}: {response}");
            } else {
                let body = if status == 304 { "" } else { "the stored one" };
                response.assert_status(status).assert_body(body);
                assert_ne!(response.field("content-length").as_deref(), Some("8"), "{case}: {response}");
            }
            client.get_with(&next.url("/next"), &["Connection: close"]).assert_body("next");
            assert_eq!(client.wire.rest().unwrap(), b"", "{case}");
            // And nobody gets it from the connection that it came on.
            proxy.get(&origin.url("/missing")).assert_status(404);
        }
        assert!(origin.hits(path) >= 3, "{path}: it was validated");
    }
}

#[test]
fn a_304_that_nothing_asked_for_is_an_error_of_the_origin() {
    let origin = Origin::start();
    origin.serve("/x", "304 Not Modified", &["ETag: \"v\""], b"");
    Proxy::open().get(&origin.url("/x")).assert_error(502, "http_protocol_error");
}

#[test]
fn an_upload_waits_for_an_origin_that_does_not_read() {
    const LENGTH: usize = 64 << 20;
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/x", move |x| {
        held.pass();
        let length = x.body().len();
        x.reply("200 OK", &[], length.to_string());
    });
    let proxy = Proxy::open();
    let mut client = proxy.client();
    client.send(format!("PUT {} HTTP/1.1\r\nHost: h\r\nContent-Length: {LENGTH}\r\n\r\n", origin.url("/x")));
    origin.wait("/x", 1);
    let written = Arc::new(AtomicUsize::new(0));
    let writer = {
        let written = Arc::clone(&written);
        std::thread::spawn(move || {
            let part = vec![b'x'; 64 * 1024];
            for _ in 0..LENGTH / part.len() {
                client.send(&part);
                written.fetch_add(part.len(), Ordering::SeqCst);
            }
            client
        })
    };
    let stalled = settled(&written);
    assert!(stalled < LENGTH / 2, "{stalled} bytes went into a proxy whose origin reads nothing");
    assert!(proxy.memory("VmRSS") < 200 << 20);
    gate.open();
    let mut client: Client = writer.join().unwrap();
    client.response("PUT").assert_body(LENGTH.to_string());
}

/// The counter's value once it has stood still for a while.
pub(crate) fn settled(counter: &AtomicUsize) -> usize {
    let mut last = usize::MAX;
    let mut same = 0;
    eventually("a standstill", || {
        std::thread::sleep(std::time::Duration::from_millis(20));
        let now = counter.load(Ordering::SeqCst);
        same = if now == last && now > 0 { same + 1 } else { 0 };
        last = now;
        (same > 10).then_some(now)
    })
}

#[test]
fn an_upload_that_breaks_off_breaks_off_for_the_origin() {
    let origin = Origin::start();
    let proxy = Proxy::open();
    for (path, framing) in [
        ("/chunked", "Transfer-Encoding: chunked\r\n\r\n5\r\nhel"),
        ("/length", "Content-Length: 5\r\n\r\nhel"),
    ] {
        origin.on(path, |x| {
            x.body();
            x.reply("200 OK", &[], "");
        });
        let mut client = proxy.client();
        client.send(format!("PUT {} HTTP/1.1\r\nHost: h\r\n{framing}", origin.url(path)));
        origin.wait(path, 1);
        client.wire.reset();
        assert_eq!(origin.wait_body(path).whole, Some(false), "no end was invented for {framing:?}");
    }
}

#[test]
fn an_answer_before_the_end_of_an_upload_reaches_a_client_that_sends_on() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        x.write("HTTP/1.1 413 Payload Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
        x.wire().close();
        x.done();
    });
    let proxy = Proxy::open();
    let mut client = proxy.client();
    let part = vec![b'x'; 1 << 20];
    client.send(format!("PUT {} HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\n", origin.url("/x")));
    client.response("PUT").assert_status(413).assert_body("no");
    // The client's system would throw an unread answer away if it were told that the connection is broken.
    client.send(&part);
    assert_eq!(client.wire.rest().unwrap(), b"", "an end, not a reset");
}

#[test]
fn an_unread_request_body_never_becomes_the_next_request() {
    let origin = Origin::start();
    let proxy = Proxy::open();
    origin.serve("/inner", "200 OK", &[], b"inner");
    let inner = format!("GET {} HTTP/1.1\r\nHost: h\r\n\r\n", origin.url("/inner"));
    // Refused before the body is read: the loop is detected in the head.
    let mut client = proxy.client();
    client
        .send(format!("PUT ftp://h/ HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{inner}", inner.len()));
    client.response("PUT").assert_status(400);
    while client.try_response("GET").is_ok_and(|r| r.status == 400) {}
    assert_eq!(origin.hits("/inner"), 0);
}

/// Whether the content is thrown away or goes on: the next request is the client's next one, or the connection ends.
#[test]
fn content_that_an_answer_did_not_need_never_becomes_the_next_request() {
    let origin = Origin::start();
    origin.serve("/stored", "200 OK", &["Cache-Control: max-age=60"], b"stored");
    origin.serve("/inner", "200 OK", &[], b"inner");
    origin.serve("/next", "200 OK", &[], b"next");
    let proxy = Proxy::with("access.ports = [80, '1024-65535']");
    let stored = origin.url("/stored");
    proxy.get(&stored).assert_body("stored");
    let inner = format!("GET {} HTTP/1.1\r\nHost: h\r\n\r\n", origin.url("/inner"));
    let many = inner.repeat(20_000);
    let next = format!("GET {} HTTP/1.1\r\nHost: h\r\n\r\n", origin.url("/next"));
    let refused = "http://127.0.0.1:22/";
    let page = format!("http://{}/", proxy.address);
    let mut answered = 0;
    for (method, url, fields) in [
        ("GET", stored.as_str(), ""),
        ("HEAD", &stored, ""),
        ("GET", &stored, "Cache-Control: only-if-cached\r\n"),
        ("GET", &stored, "If-None-Match: *\r\n"),
        ("GET", &stored, "Range: bytes=0-1\r\n"),
        ("GET", &origin.url("/none"), "Cache-Control: only-if-cached\r\n"),
        ("POST", refused, ""),
        ("GET", refused, ""),
        ("TRACE", &stored, ""),
        ("POST", &page, ""),
        ("POST", "ftp://h/", ""),
    ] {
        for content in [&inner, &many] {
            for chunked in [false, true] {
                let case = format!("{method} {url} {fields} {} bytes, chunked: {chunked}", content.len());
                let before = origin.hits("/next");
                let framed = if chunked {
                    format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{content}\r\n0\r\n\r\n", content.len())
                } else {
                    format!("Content-Length: {}\r\n\r\n{content}", content.len())
                };
                let mut client = proxy.client();
                let request = format!("{method} {url} HTTP/1.1\r\nHost: h\r\n{fields}{framed}{next}");
                // It may be closed before all is sent.
                drop(client.wire.write(request));
                let first = client.try_response(method).unwrap_or_else(|e| panic!("{case}: {e}"));
                assert!(first.status >= 400 || !first.text().contains("inner"), "{case}: {first}");
                let closes = first.field("connection").as_deref() == Some("close");
                match client.try_response("GET") {
                    Ok(second) => {
                        assert!(!closes, "{case}: {second}");
                        second.assert_status(200).assert_body("next");
                        answered += 1;
                    }
                    // The content was too much to be thrown away.
                    Err(_) => assert!(closes, "{case}: {first}"),
                }
                let nexts = origin.hits("/next") - before;
                assert_eq!(nexts, usize::from(!closes), "{case}");
                assert_eq!(origin.hits("/inner"), 0, "{case}");
            }
        }
    }
    assert!(answered > 8, "{answered}");
}

#[test]
fn an_answer_before_the_end_of_an_upload_is_not_lost_to_a_reset() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/x", move |x| {
        x.write("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
        held.pass();
        x.reset();
    });
    let proxy = Proxy::open();
    let mut client = proxy.client();
    client.send(format!("PUT {} HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n", origin.url("/x")));
    client.head("PUT").assert_status(413);
    gate.open();
    // The proxy sends no more, but takes what the client has sent on its way already.
    assert_eq!(client.wire.rest().unwrap(), b"no");
    for _ in 0..10 {
        client.send(vec![b'x'; 50_000]);
    }
    assert_eq!(client.wire.rest().unwrap(), b"");
}

#[test]
fn an_origin_that_answers_and_closes_without_reading_an_upload_is_heard() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        x.write("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
        // Closes with the upload unread: a reset follows the answer.
        x.done();
    });
    let proxy = Proxy::open();
    for _ in 0..20 {
        let mut client = proxy.client();
        client
            .send(format!("PUT {} HTTP/1.1\r\nHost: h\r\nContent-Length: 3000000\r\n\r\n", origin.url("/x")));
        let body = pattern(3_000_000);
        // The rest may be refused.
        client.wire.write(&body).ok();
        client.response("PUT").assert_status(413).assert_body("no");
    }
}

#[test]
fn a_client_may_send_all_before_it_reads_an_answer_that_has_begun() {
    const LENGTH: usize = 32 << 20;
    let origin = Origin::start();
    origin.on("/x", |x| {
        let mut socket = x.wire().socket().try_clone().unwrap();
        let answers = std::thread::spawn(move || {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n");
            socket.write_all(head.as_bytes()).unwrap();
            socket.write_all(&pattern(LENGTH)).unwrap();
        });
        x.body();
        answers.join().unwrap();
    });
    let proxy = Proxy::open();
    let mut client = proxy.client();
    client.send(format!("PUT {} HTTP/1.1\r\nHost: h\r\nContent-Length: {LENGTH}\r\n\r\n", origin.url("/x")));
    // Where the answer has begun and more comes than waits on the way.
    client.head("PUT").assert_status(200);
    client.send(pattern(LENGTH));
    assert_eq!(origin.wait_body("/x").body.len(), LENGTH);
    assert!(client.wire.exactly(LENGTH).unwrap() == pattern(LENGTH));
}

#[test]
fn an_upload_may_outlast_its_response() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        x.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        x.body();
    });
    let proxy = Proxy::with("proxy.head_timeout = '200ms'\nproxy.idle_timeout = '100ms'");
    let mut client = proxy.client();
    client.send(format!("PUT {} HTTP/1.1\r\nHost: h\r\nContent-Length: 30\r\n\r\n", origin.url("/x")));
    client.send("0123456789");
    client.response("PUT").assert_status(200).assert_body("ok");
    client.send("0123456789");
    // Another connection tells when the limits have passed.
    let mut slow = proxy.client();
    slow.send("GET ");
    assert!(slow.wire.ends());
    client.send("0123456789");
    assert_eq!(origin.wait_body("/x").whole, Some(true));
    // And then it is idle.
    assert!(client.wire.ends());
}

/// The body that came with its head is not sent after it: that would be a system call and a packet more.
#[test]
fn a_small_response_leaves_in_one_piece_stored_or_not() {
    let origin = Origin::start();
    origin.serve("/stored", "200 OK", &["Cache-Control: max-age=60"], b"the body");
    origin.serve("/passed", "200 OK", &["Cache-Control: no-store"], b"the body");
    let proxy = Proxy::open();
    let mut client = proxy.client();
    for path in ["/stored", "/passed"] {
        for number in 0..20 {
            let url = origin.url(&format!("{path}?{number}"));
            client.send(format!("GET {url} HTTP/1.1\r\nHost: h\r\n\r\n"));
            let first = client.wire.some().unwrap();
            assert!(first.ends_with(b"the body"), "{path}: {:?}", String::from_utf8_lossy(&first));
        }
    }
}
