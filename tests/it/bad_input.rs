//! Malformed requests: an answer that says so, the connection closed, and nothing of them at an origin or in the store.

use crate::support::{Origin, Proxy, eventually};

struct Setup {
    proxy: Proxy,
    origin: Origin,
}

impl Setup {
    fn new() -> Self {
        let origin = Origin::start();
        origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"x");
        Self { proxy: Proxy::open(), origin }
    }

    /// Sends the bytes, with `URL` and `HOST` filled in. Tells what was not as it must be: one of these statuses,
    /// the connection ended after it, and nothing of it at the origin.
    fn wrong(&self, bytes: &[u8], statuses: &[u16]) -> Option<String> {
        let url = self.origin.url("/x");
        let host = self.origin.address.to_string();
        let bytes = replace(&replace(bytes, b"URL", url.as_bytes()), b"HOST", host.as_bytes());
        let before = self.origin.all().len();
        let mut client = self.proxy.client();
        client.send(&bytes);
        client.wire.half_close();
        let answer = client.try_response("GET");
        let ended = client.wire.ends();
        match answer {
            _ if self.origin.all().len() > before => Some("the origin saw it".to_owned()),
            _ if !ended => Some("the connection stayed open".to_owned()),
            Err(error) => Some(format!("no answer: {error}")),
            Ok(r) if !statuses.contains(&r.status) => Some(format!("answered {}", r.status)),
            Ok(r) if r.field("connection").as_deref() != Some("close") => {
                Some("close was not announced".to_owned())
            }
            Ok(r) if r.body.is_empty() || r.broken.is_some() || r.field("date").is_none() => {
                Some("the answer was blank".to_owned())
            }
            Ok(r) if !r.proxy_status().contains("error=http_request_error") => {
                Some(format!("Proxy-Status was {}", r.proxy_status()))
            }
            Ok(_) => None,
        }
    }

    /// Checks each case: what it is, and the bytes.
    #[track_caller]
    fn check<B: AsRef<[u8]>>(&self, statuses: &[u16], cases: impl IntoIterator<Item = (&'static str, B)>) {
        let wrong: Vec<_> = cases
            .into_iter()
            .filter_map(|(what, bytes)| Some(format!("{what}: {}", self.wrong(bytes.as_ref(), statuses)?)))
            .collect();
        assert!(wrong.is_empty(), "instead of {statuses:?}:\n{}", wrong.join("\n"));
    }
}

fn replace(bytes: &[u8], what: &[u8], with: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(what) {
            out.extend_from_slice(with);
            at += what.len();
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    out
}

// With `URL` for one of an origin, and `HOST` for its authority.

/// Fields of a POST.
const FRAMING: [(&str, &str); 17] = [
    ("differing lengths", "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
    ("a list of lengths", "Content-Length: 5, 6\r\n\r\nhello!"),
    ("a signed length", "Content-Length: +5\r\n\r\nhello"),
    ("a negative length", "Content-Length: -5\r\n\r\nhello"),
    ("a length in hex", "Content-Length: 0x5\r\n\r\nhello"),
    ("no length", "Content-Length: \r\n\r\nhello"),
    ("a length beyond 64 bits", "Content-Length: 99999999999999999999999\r\n\r\nhello"),
    ("chunked twice", "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    ("chunked on two lines", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("chunked not last", "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    ("a space before the colon", "Content-Length : 5\r\n\r\nhello"),
    ("a folded line", "X-A: 1\r\n 2\r\n\r\n"),
    ("a NUL in a value", "X-A: a\0b\r\n\r\n"),
    ("a bare CR in a value", "X-A: a\rb\r\n\r\n"),
    ("a control byte in a name", "X\x01A: b\r\n\r\n"),
    ("no colon", "X-A\r\n\r\n"),
    ("an empty name", ": a\r\n\r\n"),
];

const CODINGS: [&str; 3] = ["gzip, chunked", "gzip", "xchunked"];

/// Whole requests.
const LINES: [(&str, &str); 24] = [
    ("no Host", "GET URL HTTP/1.1\r\n\r\n"),
    ("two Hosts", "GET URL HTTP/1.1\r\nHost: HOST\r\nHost: HOST\r\n\r\n"),
    ("a malformed Host", "GET URL HTTP/1.1\r\nHost: a b\r\n\r\n"),
    ("Host with a path", "GET URL HTTP/1.1\r\nHost: HOST/x\r\n\r\n"),
    ("an authority for GET", "GET HOST HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("a word for a target", "GET foo HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("an asterisk for GET", "GET * HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("a foreign scheme", "GET ftp://HOST/x HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("a file", "GET file:///etc/passwd HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("no host in the target", "GET http:///x HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("a port without a host", "GET http://:80/x HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("a port too large", "GET http://127.0.0.1:99999/x HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("port zero", "GET http://127.0.0.1:0/x HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("a port that is none", "GET http://127.0.0.1:8x/x HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("a signed port", "GET http://127.0.0.1:+80/x HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("an encoded authority", "GET http://127%2e0.0.1/x HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("IPv6 without brackets", "GET http://::1/x HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("a zone", "GET http://[fe80::1%25eth0]/x HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("a space in the target", "GET URL y HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("a strange version", "GET URL HTTP/1.2x\r\nHost: HOST\r\n\r\n"),
    ("version 2 in text", "GET URL HTTP/2.0\r\nHost: HOST\r\n\r\n"),
    ("version 0.9", "GET URL\r\n\r\n"),
    ("no method", " URL HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("a method of separators", "G(T URL HTTP/1.1\r\nHost: HOST\r\n\r\n"),
];

/// Content in chunks.
const CHUNKS: [(&str, &str); 12] = [
    ("a sign", "+5\r\nhello\r\n0\r\n\r\n"),
    ("a minus", "-5\r\nhello\r\n0\r\n\r\n"),
    ("a prefix", "0x5\r\nhello\r\n0\r\n\r\n"),
    ("an underscore", "0_5\r\nhello\r\n0\r\n\r\n"),
    ("a leading space", " 5\r\nhello\r\n0\r\n\r\n"),
    ("no size", "\r\nhello\r\n0\r\n\r\n"),
    ("no number", "g\r\nhello\r\n0\r\n\r\n"),
    ("an overflow", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
    ("a wrong end", "5\r\nhelloXX0\r\n\r\n"),
    ("no number again", "zz\r\nhello\r\n0\r\n\r\n"),
    ("a bare LF after the size", "5\nhello\r\n0\r\n\r\n"),
    ("a size too small", "4\r\nhello\r\n0\r\n\r\n"),
];

/// Content in chunks, or trailers, with a CR or an LF alone.
const BARE: [&str; 12] = [
    "5\nhello\r\n0\r\n\r\n",
    "5;a=b\nhello\r\n0\r\n\r\n",
    "5\r\nhello\n0\r\n\r\n",
    "5\r\nhello\r\n0\n\r\n",
    "5\r\nhello\r\n0\n\n",
    "5\r\nhello\r\n0\r\n\n",
    "5\r\nhello\r\n0\r\nX-A: 1\nX-B: 2\r\n\r\n",
    // What hyper drops behind an empty line of such an end, up to the one that it takes for the end.
    "5\r\nhello\r\n0\r\nX-A: 1\n\r\nX-B: 2\r\n\r\n",
    "5\r\nhello\r\n0\r\nX-A: 1\n\nX-B: 2\r\n\r\n",
    "5\r\nhello\r\n0\r\nX-A: 1\r\n\nX-B: 2\r\n\r\n",
    "5\r\nhello\r\n0\r\nX-A: 1\n\r\n0\r\nX-A: 1\r\n\r\n",
    "5\r\nhello\r\n0\r\nX-A: 1\rX-B: 2\r\n\r\n",
];

/// All of these as whole requests, with what they are: each is refused by a 400.
pub(crate) fn refused() -> Vec<(String, String)> {
    let named = |(what, bytes): (&str, &str)| (what.to_owned(), bytes.to_owned());
    let posted = |(what, fields): (&str, &str)| {
        (what.to_owned(), format!("POST URL HTTP/1.1\r\nHost: HOST\r\n{fields}"))
    };
    let coded = |coding: &str| {
        let fields = format!("Transfer-Encoding: {coding}\r\n\r\n0\r\n\r\n");
        (coding.to_owned(), posted(("", &fields)).1)
    };
    let chunked = |(what, body): (&str, &str)| {
        (what.to_owned(), posted(("", &format!("Transfer-Encoding: chunked\r\n\r\n{body}"))).1)
    };
    let bare = |body: &str| (format!("{body:?}"), chunked(("", body)).1);
    let heads = FRAMING.into_iter().map(posted).chain(CODINGS.into_iter().map(coded));
    heads
        .chain(LINES.into_iter().map(named))
        .chain(CHUNKS.into_iter().map(chunked))
        .chain(BARE.into_iter().map(bare))
        .collect()
}

#[test]
fn ambiguous_or_malformed_framing_is_400() {
    let setup = Setup::new();
    let posted = |fields: &str| format!("POST URL HTTP/1.1\r\nHost: HOST\r\n{fields}");
    setup.check(&[400], FRAMING.map(|(what, fields)| (what, posted(fields))));
    let coded = |coding| posted(&format!("Transfer-Encoding: {coding}\r\n\r\n0\r\n\r\n"));
    setup.check(&[400], CODINGS.map(|coding| (coding, coded(coding))));
    setup.check(
        &[400],
        [("a coding on 1.0", "POST URL HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")],
    );
}

#[test]
fn a_length_beside_a_coding_is_refused_or_dropped_and_the_connection_ends() {
    let setup = Setup::new();
    setup.origin.on("/put", |x| {
        x.body();
        x.reply("200 OK", &[], "done");
    });
    let mut client = setup.proxy.client();
    let url = setup.origin.url("/put");
    client.send(format!(
        "PUT {url} HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET {url} HTTP/1.1\r\nHost: h\r\n\r\n"
    ));
    let response = client.response("PUT");
    assert!(matches!(response.status, 200 | 400), "{response}");
    assert_eq!(response.field("connection").as_deref(), Some("close"));
    assert!(client.wire.ends(), "what follows is not read as a request");
    assert!(
        setup
            .origin
            .all()
            .iter()
            .all(|r| r.method == "PUT" && r.field("content-length").as_deref() != Some("3"))
    );
}

#[test]
fn malformed_request_lines_and_hosts_are_400() {
    let setup = Setup::new();
    setup.check(&[400], LINES);
}

#[test]
fn a_password_before_a_host_is_shown_nowhere() {
    let proxy = Proxy::open();
    for request in [
        "CONNECT user:geheim@h:443 HTTP/1.1\r\nHost: h:443\r\n",
        "CONNECT user:geheim@h HTTP/1.1\r\nHost: h\r\n",
        "CONNECT h:443 HTTP/1.1\r\nHost: user:geheim@h\r\n",
        "GET http://127.0.0.1:1/ HTTP/1.1\r\nHost: user:geheim@h\r\n",
        "GET user:geheim@h HTTP/1.1\r\nHost: h\r\n",
        "GET http://user:geheim@h:99999/ HTTP/1.1\r\nHost: h\r\n",
        "GET http://a@user:geheim@h/ HTTP/1.1\r\nHost: h\r\n",
    ] {
        for accept in ["text/plain", "text/html", "application/json"] {
            let response = proxy.raw(format!("{request}Accept: {accept}\r\n\r\n"));
            response.assert_error(400, "http_request_error");
            let shown = String::from_utf8_lossy(&response.head.bytes).into_owned() + &response.text();
            assert!(!shown.contains("geheim"), "{request}: {shown}");
        }
    }
    let lines = proxy.log.wait_count("the log", 7 * 3, |l| l.contains("400"));
    assert!(lines.iter().all(|line| !line.contains("geheim")), "{lines:#?}");
}

#[test]
fn an_unsupported_scheme_is_told_in_words() {
    let proxy = Proxy::open();
    let response = proxy.get("ftp://127.0.0.1/x");
    response.assert_error(400, "http_request_error");
    assert!(response.text().contains("ftp"), "{response}");
}

#[test]
fn other_protocols_get_an_answer_or_a_close() {
    let setup = Setup::new();
    for (what, bytes) in [
        ("TLS", &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..]),
        ("SOCKS 5", b"\x05\x01\x00"),
        ("SOCKS 4", b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00"),
        ("SMTP", b"EHLO example.com\r\n"),
        ("PROXY", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET URL HTTP/1.1\r\nHost: HOST\r\n\r\n"),
        ("h2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"),
        ("noise", b"\xff\xfe\xfd\r\n\r\n"),
        ("empty lines", b"\r\n\r\n\r\n\r\n"),
    ] {
        let mut client = setup.proxy.client();
        client.send(bytes);
        client.wire.half_close();
        // A head that ends too early is none; whatever else comes is told what it is not.
        if let Ok(response) = client.try_response("GET") {
            response.assert_error(400, "http_request_error");
        } else {
            assert!(matches!(what, "SOCKS 5" | "SOCKS 4" | "SMTP" | "empty lines"), "{what}: no answer");
        }
        assert_eq!(setup.origin.all().len(), 0, "{what}");
    }
    setup.proxy.get(&setup.origin.url("/x")).assert_status(200);
}

#[test]
fn what_the_gate_refuses_ends_the_connection_and_is_counted_by_its_rule() {
    let proxy = Proxy::builder()
        .config("proxy.via = 'me'\naccess.ports = [80]\naccess.connect_ports = [443]")
        .start();
    for (what, request, status, closes, rule) in [
        ("a port", "GET http://192.0.2.1:22/ HTTP/1.1\r\nHost: h\r\n\r\n", 403, true, Some("port")),
        ("TRACE", "TRACE http://192.0.2.1/ HTTP/1.1\r\nHost: h\r\n\r\n", 405, true, None),
        ("a loop", "GET http://192.0.2.1/ HTTP/1.1\r\nHost: h\r\nVia: 1.1 me\r\n\r\n", 508, true, None),
        // The next one may be for a tunnel that is allowed.
        ("a tunnel", "CONNECT 192.0.2.1:22 HTTP/1.1\r\nHost: h\r\n\r\n", 403, false, Some("connect-port")),
    ] {
        let mut client = proxy.client();
        client.send(request);
        let answer = client.response("GET");
        answer.assert_status(status);
        assert_eq!(answer.field("connection").as_deref() == Some("close"), closes, "{what}: {answer}");
        assert!(!closes || client.wire.ends(), "{what}");
        if let Some(rule) = rule {
            let label = format!("rule=\"{rule}\"");
            eventually(&format!("a denial by {rule}"), || {
                (proxy.metric("larder_denials_total", &[&label]) > 0.9).then_some(())
            });
        }
    }
}

#[test]
fn what_is_too_large_is_refused_by_its_own_status() {
    let origin = Origin::start();
    let limits = "limits = { request_line = '8KiB', request_head = '64KiB', request_fields = 100 }";
    let setup = Setup { proxy: Proxy::with(limits), origin };
    let fields = |count: usize, size: usize| -> String {
        (0..count).map(|i| format!("X-{i}: {}\r\n", "v".repeat(size))).collect()
    };
    let asked = |more: &str| format!("GET URL HTTP/1.1\r\nHost: HOST\r\n{more}\r\n");
    let long = |length: usize| format!("GET URL?{} HTTP/1.1\r\nHost: HOST\r\n\r\n", "a".repeat(length));
    setup.check(
        &[414],
        [
            ("a long target", long(9_000)),
            ("one that hyper does not take", long(70_000)),
            ("one longer than a head", long(140_000)),
        ],
    );
    setup.check(
        &[431],
        [
            ("a large head", asked(&fields(90, 1_000))),
            ("one large field", asked(&fields(1, 70_000))),
            ("one far too large field", asked(&fields(1, 140_000))),
            ("one field too many", asked(&fields(100, 1))),
            ("many fields", asked(&fields(150, 1))),
        ],
    );
    for (head, limit) in [
        (long(140_000), "limits.request_line"),
        (asked(&fields(1, 140_000)), "limits.request_head"),
        (asked(&fields(150, 1)), "limits.request_fields"),
    ] {
        let told = setup.proxy.raw(head.replace("URL", "http://h/").replace("HOST", "h")).text();
        assert!(told.contains(limit), "{limit}: {told}");
    }
    let method = |length: usize| format!("{} URL HTTP/1.1\r\nHost: HOST\r\n\r\n", "M".repeat(length));
    setup.check(&[400], [("a long method", method(9_000)), ("one longer than a head", method(140_000))]);
    // All of the line counts.
    setup.origin.serve("/x", "200 OK", &[], b"x");
    let line = |length: usize| {
        let line = format!("GET {}? HTTP/1.1", setup.origin.url("/x"));
        let query = "a".repeat(length - line.len());
        line.replace('?', &format!("?{query}")) + "\r\nHost: h\r\n\r\n"
    };
    setup.proxy.raw(line(8192)).assert_status(200);
    setup.proxy.raw(line(8193)).assert_status(414);
    for (limit, count) in [("request_line", 5), ("request_head", 4), ("request_fields", 3)] {
        setup.proxy.wait_rejections(limit, count);
    }
    let cookie = format!("Cookie: {}", "c".repeat(16 << 10));
    setup.origin.serve("/x", "200 OK", &[], b"x");
    setup.proxy.get_with(&setup.origin.url("/x"), &[&cookie]).assert_status(200);
}

#[test]
fn malformed_chunks_never_become_a_whole_request() {
    let setup = Setup::new();
    setup.origin.on("/put", |x| {
        x.body();
        x.reply("200 OK", &[], "done");
    });
    for (what, body) in CHUNKS {
        let count = setup.origin.hits("/put");
        let mut client = setup.proxy.client();
        client.send(format!(
            "PUT {} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{body}",
            setup.origin.url("/put")
        ));
        client.wire.half_close();
        let answer = client.try_response("PUT");
        let answer = answer.unwrap_or_else(|error| panic!("{what}: {error}"));
        answer.assert_error(400, "http_request_error");
        assert!(answer.text().contains("chunks are malformed"), "{what}: {answer}");
        let whole = setup.origin.requests("/put")[count..].iter().any(|r| r.whole == Some(true));
        assert!(!whole, "{what}: a complete request reached the origin");
    }
}

/// RFC 9112 section 2.2 lets a bare LF end a line of a head; chunks are not lines.
#[test]
fn a_bare_lf_in_chunk_framing_is_refused() {
    let setup = Setup::new();
    setup.origin.on("/put", |x| {
        x.body();
        x.reply("200 OK", &[], "done");
    });
    let behind = format!("GET {} HTTP/1.1\r\nHost: h\r\n\r\n", setup.origin.url("/x"));
    let mut wrong = Vec::new();
    for body in BARE {
        for behind in ["", "\r\n\r\n", behind.as_str()] {
            let count = setup.origin.all().len();
            let mut client = setup.proxy.client();
            client.send(format!(
                "PUT {} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{body}{behind}",
                setup.origin.url("/put")
            ));
            client.wire.half_close();
            let answer = client.try_response("PUT").map(|r| r.status).ok();
            let ended = client.wire.ends();
            let seen = &setup.origin.all()[count..];
            let whole = seen.iter().any(|r| r.target == "/x" || r.whole == Some(true));
            if answer != Some(400) || !ended || whole {
                wrong.push(format!("{body:?} {behind:?}: {answer:?}, ended: {ended}, whole: {whole}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Nor where what is to be judged is long, and ends with what would be right. RFC 9112 section 7.1.2.
#[test]
fn a_bare_lf_in_trailers_is_refused_however_much_comes_behind_it() {
    let setup = Setup::new();
    setup.origin.on("/put", |x| {
        x.body();
        x.reply("200 OK", &[], "done");
    });
    let chunk = format!("10000\r\n{}\r\n", "b".repeat(65_536));
    for size in [10_000, 30_000, 60_000] {
        let long = "a".repeat(size);
        let url = setup.origin.url("/x");
        for (what, body) in [
            (
                "a long section",
                format!("0\r\nX-A: 1\n\r\nGET {url} HTTP/1.1\r\nP: {long}\r\n0\r\nX-B: 1\r\n\r\n"),
            ),
            (
                "a long request behind it",
                format!(
                    "{chunk}{chunk}0\r\nX-A: 1\n\r\nX-B: 2\r\n\r\nGET {url} HTTP/1.1\r\nHost: h\r\nP: {long}\r\n\
                     0\r\nX-C: 1\r\n\r\n"
                ),
            ),
        ] {
            let count = setup.origin.all().len();
            let mut client = setup.proxy.client();
            let head = "HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
            // It may be refused before all of it was taken.
            drop(client.wire.write(format!("PUT {} {head}5\r\nhello\r\n{body}", setup.origin.url("/put"))));
            client.wire.half_close();
            let status = client.try_response("PUT").map(|answer| answer.status).ok();
            assert_ne!(status, Some(200), "{what}, {size}");
            assert!(client.wire.ends(), "{what}, {size}");
            let seen = &setup.origin.all()[count..];
            assert!(seen.iter().all(|r| r.target != "/x" && r.whole != Some(true)), "{what}, {size}");
        }
    }
}

#[test]
fn clean_trailers_pass_beside_bare_lfs_where_these_are_allowed() {
    let setup = Setup::new();
    setup.origin.on("/put", |x| {
        x.body();
        x.reply("200 OK", &[], "done");
    });
    setup.origin.serve("/x", "200 OK", &[], b"x");
    let mut client = setup.proxy.client();
    client.send(format!(
        "PUT {} HTTP/1.1\r\nHost: h\r\nTrailer: X-A, X-B\r\nTransfer-Encoding: chunked\r\n\r\n\
         6\r\nhe\n0\no\r\n0;a=b\r\nX-A: 1\r\nX-B: 2\r\n\r\nGET {} HTTP/1.1\nHost: h\n\n",
        setup.origin.url("/put"),
        setup.origin.url("/x")
    ));
    client.response("PUT").assert_status(200).assert_body("done");
    client.response("GET").assert_status(200).assert_body("x");
    let seen = setup.origin.last("/put");
    assert_eq!((seen.whole, seen.body.as_slice()), (Some(true), &b"he\n0\no"[..]));
    assert_eq!(seen.trailers.len(), 2, "{:?}", seen.trailers);
}

#[test]
fn content_that_is_malformed_cut_or_stalled_counts_as_invalid() {
    let origin = Origin::start();
    origin.on("/put", |x| {
        x.body();
        x.reply("200 OK", &[], "done");
    });
    let proxy = Proxy::with("proxy.between_bytes_timeout = '200ms'");
    let cases = [
        ("malformed", "Transfer-Encoding: chunked\r\n\r\nzz\r\n", "malformed"),
        ("cut", "Content-Length: 9\r\n\r\nhel", "ended before"),
        ("cut-chunks", "Transfer-Encoding: chunked\r\n\r\n9\r\nhel", "ended before"),
        ("stalled", "Content-Length: 9\r\n\r\nhel", "nothing of it for"),
    ];
    for (what, content, says) in cases {
        let mut client = proxy.client();
        client.send(format!("PUT {}?{what} HTTP/1.1\r\nHost: h\r\n{content}", origin.url("/put")));
        if what.starts_with("cut") {
            client.wire.half_close();
        }
        let response = client.response("PUT");
        response.assert_error(400, "http_request_error");
        assert!(response.text().contains(says), "{what}: {response}");
    }
    for line in proxy.log.wait_count("the log", cases.len(), |l| l.contains("/put")) {
        assert!(line.contains("\"result\":\"invalid\"") && line.contains("http_request_error"), "{line}");
    }
    assert!((proxy.metric("larder_requests_total", &["invalid", "400"]) - cases.len() as f64).abs() < 0.1);
    assert!(proxy.metric("larder_requests_total", &["\"error\""]).abs() < 0.1);
}

#[test]
fn a_bare_lf_ends_a_line_and_goes_on_as_crlf() {
    let setup = Setup::new();
    let mut client = setup.proxy.client();
    client.send(format!("GET {} HTTP/1.1\nHost: h\nX-A: 1\n\n", setup.origin.url("/x")));
    let response = client.response("GET");
    if response.status == 200 {
        let seen = setup.origin.last("/x");
        assert_eq!(seen.field("x-a").as_deref(), Some("1"));
        assert!(seen.head.bytes.windows(2).all(|w| w[1] != b'\n' || w[0] == b'\r'));
    } else {
        response.assert_status(400);
    }
}

#[test]
fn garbage_behind_a_request_gets_400() {
    let setup = Setup::new();
    let mut client = setup.proxy.client();
    client.send(format!("GET {} HTTP/1.1\r\nHost: h\r\n\r\n\0\0garbage\r\n\r\n", setup.origin.url("/x")));
    client.response("GET").assert_status(200).assert_body("x");
    client.response("GET").assert_error(400, "http_request_error");
    assert!(client.wire.ends());
}

#[test]
fn garbage_behind_requests_is_answered_after_them() {
    let setup = Setup::new();
    setup.origin.on("/chunked", |x| {
        x.write("HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    });
    let large = crate::support::pattern(3_000_000);
    let content = large.clone();
    setup.origin.on("/large", move |x| x.reply("200 OK", &[], &content));
    let get = |url: &str| format!("GET {url} HTTP/1.1\r\nHost: h\r\n\r\n");
    let chunked = setup.origin.url("/chunked");
    let mut client = setup.proxy.client();
    // Answers of origins, of the store and of our own, that look like what follows or take long to be read.
    client.send(get(&chunked) + &get("http://h:0/") + "\0\0garbage\r\n\r\n");
    client.response("GET").assert_status(400).assert_body("abc");
    client.response("GET").assert_error(400, "http_request_error");
    assert!(client.wire.ends(), "the first fault ends it");

    let mut client = setup.proxy.client();
    client.send(
        get(&setup.origin.url("/x")) + &get(&setup.origin.url("/x")) + &get(&chunked) + "\0\0garbage\r\n\r\n",
    );
    for _ in 0..2 {
        client.response("GET").assert_status(200).assert_body("x");
    }
    client.response("GET").assert_status(400).assert_body("abc");
    client.response("GET").assert_error(400, "http_request_error");
    assert!(client.wire.ends());

    let mut client = setup.proxy.client();
    client.send(get(&setup.origin.url("/large")) + "\0\0garbage\r\n\r\n");
    client.response("GET").assert_status(200).assert_body(&large);
    client.response("GET").assert_status(400);
    assert!(client.wire.ends());
}

#[test]
fn what_cannot_be_parsed_is_logged_and_counted_once_with_its_status() {
    let proxy = Proxy::open();
    let cases = [
        ("\0\0\r\n\r\n".to_owned(), 400),
        (format!("GET http://h/{} HTTP/1.1\r\n", "a".repeat(140_000)), 414),
        (format!("GET http://h/ HTTP/1.1\r\n{}", "X: y\r\n".repeat(150)), 431),
    ];
    for (bytes, status) in &cases {
        let response = proxy.raw(bytes);
        response.assert_error(*status, "http_request_error");
        let line = proxy.log.wait("the log", |l| l.contains(&format!("\"status\":{status}")));
        let log: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&log["result"], &log["error"]),
            (&"invalid".into(), &"http_request_error".into()),
            "{line}"
        );
        assert!(response.text().contains(log["id"].as_str().unwrap()), "{response}");
    }
    assert_eq!(proxy.log.all().len(), cases.len());
    assert!((proxy.metric("larder_requests_total", &["invalid"]) - 3.0).abs() < 0.1);
}
