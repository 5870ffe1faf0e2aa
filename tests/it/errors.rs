//! What a client is told when the origin fails: the status, the RFC 9209 type, and what to do.

use crate::support::dns::{Answer, NameServer};
use crate::support::{Origin, Proxy, nobody};
use larder::clock::Stopwatch;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

#[test]
fn a_refused_connection_is_502() {
    let proxy = Proxy::open();
    let url = format!("http://{}/x", nobody());
    let ask = || {
        let since = Stopwatch::start();
        proxy.get(&url).assert_status(502);
        since.elapsed()
    };
    // At once: nobody waits for the limit, or for another attempt.
    let least = (0..5).map(|_| ask()).min().unwrap();
    assert!(least < Duration::from_millis(500), "{least:?}");
    let response = proxy.get(&url);
    response.assert_error(502, "connection_refused");
    assert_eq!(response.field("cache-status"), None, "our own errors carry Proxy-Status alone");
    assert_eq!(response.field("cache-control").as_deref(), Some("no-store"));
}

#[test]
fn names_that_cannot_be_resolved_are_told_apart() {
    let names = NameServer::start();
    names.set("silent.test", Answer::Silence);
    names.set("failing.test", Answer::Failure);
    let proxy = Proxy::with(&format!("{}upstream.dns_timeout = '300ms'", names.config()));
    for (name, status, error) in [
        ("missing.test", 502, "dns_error"),
        ("failing.test", 502, "dns_error"),
        ("silent.test", 504, "dns_timeout"),
    ] {
        proxy.get(&format!("http://{name}:8080/")).assert_error(status, error);
    }
}

/// With the default limits: no answer, a failure, aliases in a circle, more addresses than anybody needs, a message that
/// is cut off.
#[test]
fn a_name_server_that_is_silent_or_fails_and_answers_that_loop_or_are_huge_cost_five_seconds_at_most() {
    let names = NameServer::start();
    names.set("silent.test", Answer::Silence);
    names.set("failing.test", Answer::Failure);
    let alias = |from: &str, to: &str| names.set(from, Answer::Alias(to.to_owned()));
    alias("self.test", "self.test");
    alias("there.test", "back.test");
    alias("back.test", "there.test");
    for at in 0..200 {
        alias(&format!("n{at}.test"), &format!("n{}.test", at + 1));
    }
    names.set("huge.test", Answer::Huge(28));
    names.set("larger.test", Answer::Huge(3_000));
    names.set("cut.test", Answer::Cut);
    names.address_of("well.test", [127, 0, 0, 1]);
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"x");
    let proxy = Proxy::with(&names.config());
    let hosts = [
        "silent.test",
        "failing.test",
        "self.test",
        "there.test",
        "n0.test",
        "huge.test",
        "larger.test",
        "cut.test",
    ];
    std::thread::scope(|threads| {
        for host in hosts {
            let (proxy, origin) = (&proxy, &origin);
            threads.spawn(move || {
                let begun = Stopwatch::start();
                let response = proxy.get(&origin.url_at(host, "/x"));
                assert!(matches!(response.status, 502 | 504), "{host}: {response}");
                // And what this machine takes when it has much to do.
                assert!(begun.elapsed() < Duration::from_secs(10), "{host}: {:?}", begun.elapsed());
                let error = response.proxy_status();
                if host == "huge.test" {
                    assert!(error.contains("connection_refused"), "its addresses are dialled: {error}");
                } else {
                    assert!(error.contains("dns_"), "{host}: {error}");
                }
            });
        }
        // Nobody else waits for them.
        proxy.get(&origin.url_at("well.test", "/x")).assert_body("x");
    });
    assert!(names.questions() < 400, "{} questions", names.questions());
    proxy.get(&origin.url_at("well.test", "/x")).assert_body("x");
}

#[test]
fn names_are_resolved_once_within_their_time_to_live() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"x");
    let names = NameServer::start();
    names.address_of("known.test", [127, 0, 0, 1]);
    let proxy = Proxy::with(&format!("{}upstream.idle_per_origin = 0", names.config()));
    let url = origin.url_at("known.test", "/x");
    proxy.get(&url).assert_status(200);
    let asked = names.questions();
    for _ in 0..3 {
        proxy.get(&url).assert_status(200);
    }
    assert_eq!(names.questions(), asked);
    assert_eq!(origin.connections(), 4);
    assert_eq!(origin.last("/x").field("host"), Some(format!("known.test:{}", origin.address.port())));
    let before = names.questions();
    for _ in 0..3 {
        proxy.get("http://missing.test:8080/").assert_status(502);
    }
    assert!(names.questions() - before <= asked.max(2), "failures are remembered too");
}

#[test]
fn a_second_address_is_tried_when_the_first_refuses() {
    let origin = Origin::on_address("127.0.0.2:0");
    origin.serve("/x", "200 OK", &[], b"x");
    let names = NameServer::start();
    names.set("two.test", Answer::Addresses(vec![[127, 0, 0, 3].into(), [127, 0, 0, 2].into()], 60));
    let proxy = Proxy::with(&names.config());
    proxy.get(&origin.url_at("two.test", "/x")).assert_status(200).assert_body("x");
}

/// A listener whose backlog is full drops what comes, as a black hole does.
pub(crate) fn black_hole(address: SocketAddr) -> (SocketAddr, impl Sized) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let fill = |_| TcpStream::connect_timeout(&address, std::time::Duration::from_millis(100));
    let held: Vec<_> = (0..4).map(fill).collect();
    (address, (socket, held))
}

#[test]
fn a_second_address_is_tried_when_the_first_says_nothing() {
    let origin = Origin::on_address("127.0.0.2:0");
    origin.serve("/x", "200 OK", &[], b"x");
    let (_, _held) = black_hole(SocketAddr::new([127, 0, 0, 3].into(), origin.address.port()));
    let names = NameServer::start();
    names.set("two.test", Answer::Addresses(vec![[127, 0, 0, 3].into(), [127, 0, 0, 2].into()], 60));
    // Only the next attempt, a quarter of a second later, can bring it in time.
    let proxy = Proxy::with(&format!("{}upstream.connect_timeout = '10min'", names.config()));
    proxy.get(&origin.url_at("two.test", "/x")).assert_status(200).assert_body("x");
}

#[test]
fn a_host_that_does_not_answer_is_504_at_the_limit() {
    let (address, _held) = black_hole("127.0.0.1:0".parse().unwrap());
    let proxy = Proxy::with("upstream.connect_timeout = '200ms'");
    proxy.get(&format!("http://{address}/")).assert_error(504, "connection_timeout");
}

#[test]
fn an_origin_that_says_nothing_is_504_at_the_limit() {
    let origin = Origin::start();
    origin.on("/silent", |x| {
        x.wire().ends();
    });
    origin.on("/half", |x| {
        x.write("HTTP/1.1 200 OK\r\nX-A: ");
        x.wire().ends();
    });
    let proxy = Proxy::with("upstream.first_byte_timeout = '200ms'");
    for path in ["/silent", "/half"] {
        proxy.get(&origin.url(path)).assert_error(504, "http_response_timeout");
    }
}

#[test]
fn a_body_that_stalls_breaks_off_at_the_limit() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        x.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234");
        x.wire().ends();
    });
    let proxy = Proxy::with("upstream.between_bytes_timeout = '200ms'");
    let mut client = proxy.client();
    client.begin("GET", &origin.url("/x"), &[], "");
    let response = client.try_response("GET").unwrap();
    assert!(response.broken.is_some(), "{response}");
}

#[test]
fn broken_answers_are_502_and_none_of_their_bytes_pass() {
    let origin = Origin::start();
    let proxy = Proxy::with("limits = { response_head = '16KiB', response_fields = 50 }");
    let many: &'static str =
        Box::leak((0..100).map(|i| format!("X-{i}: 1\r\n")).collect::<String>().into_boxed_str());
    let large: &'static str = Box::leak(format!("X: {}\r\n", "secret".repeat(5_000)).into_boxed_str());
    for (path, bytes, error) in [
        ("/nothing", String::new(), Some("connection_terminated")),
        ("/cut", "HTTP/1.1 200 OK\r\nX-Secret: se".to_owned(), Some("http_response_incomplete")),
        ("/ssh", "SSH-2.0-secret\r\n".to_owned(), Some("http_protocol_error")),
        ("/html", "<html>secret</html>\r\n\r\n".to_owned(), Some("http_protocol_error")),
        ("/version", "HTTP/3.0 200 OK\r\nX: secret\r\n\r\n".to_owned(), Some("http_protocol_error")),
        ("/status", "HTTP/1.1 2x0 OK\r\nX: secret\r\n\r\n".to_owned(), Some("http_protocol_error")),
        ("/low", "HTTP/1.1 099 OK\r\nX: secret\r\n\r\n".to_owned(), Some("http_protocol_error")),
        (
            "/lengths",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nsecret".to_owned(),
            Some("http_protocol_error"),
        ),
        (
            "/length",
            "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nsecret".to_owned(),
            Some("http_protocol_error"),
        ),
        ("/nul", "HTTP/1.1 200 OK\r\nX: a\0secret\r\n\r\n".to_owned(), Some("http_protocol_error")),
        ("/large", format!("HTTP/1.1 200 OK\r\n{large}\r\n"), Some("http_response_header_section_size")),
        ("/many", format!("HTTP/1.1 200 OK\r\n{many}\r\n"), Some("http_response_header_section_size")),
        (
            "/407",
            "HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm=secret\r\nContent-Length: 0\r\n\r\n"
                .to_owned(),
            Some("http_protocol_error"),
        ),
        ("/101", "HTTP/1.1 101 Switching\r\nUpgrade: secret\r\nConnection: upgrade\r\n\r\n".to_owned(), None),
    ] {
        origin.on(path, move |x| {
            x.write(&bytes);
            x.close();
        });
        let response = proxy.get(&origin.url(path));
        match error {
            Some(error) => drop(response.assert_error(502, error)),
            None => drop(response.assert_status(502)),
        }
        assert!(
            !response.head.bytes.windows(6).any(|w| w == b"secret") && !response.text().contains("secret"),
            "{response}"
        );
    }
}

#[test]
fn a_reset_before_the_answer_is_502() {
    let origin = Origin::start();
    origin.on("/x", super::support::origin::Exchange::reset);
    Proxy::open().get(&origin.url("/x")).assert_status(502);
}

#[test]
fn an_error_comes_in_the_form_that_the_client_takes() {
    let proxy = Proxy::open();
    let url = format!("http://{}/x?secret=1", nobody());
    for (accept, kind) in [
        ("*/*", "text/plain"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html"),
        ("application/json", "application/problem+json"),
        ("application/problem+json", "application/problem+json"),
        ("text/html;q=0.1, text/plain", "text/plain"),
        ("image/png, text/html", "text/html"),
        ("image/png", "text/plain"),
    ] {
        // On one line or several.
        let lines: Vec<_> = accept.split(',').map(|range| format!("Accept: {range}")).collect();
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        let several = proxy.get_with(&url, &lines);
        let response = proxy.get_with(&url, &[&format!("Accept: {accept}")]);
        assert_eq!(several.field("content-type"), response.field("content-type"), "{accept}");
        response.assert_error(502, "connection_refused");
        let found = response.field("content-type").unwrap();
        assert!(found.starts_with(kind), "{accept}: {found}");
        assert!(response.text().contains("connection_refused"), "{response}");
        assert!(!response.text().contains("secret"), "a query is not repeated: {response}");
        if kind == "application/problem+json" {
            let problem: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
            assert_eq!((&problem["status"], &problem["error"]), (&502.into(), &"connection_refused".into()));
        }
    }
}

#[test]
fn an_error_page_has_the_exchange_id_of_the_log_line() {
    let proxy = Proxy::open();
    let response = proxy.get_with(&format!("http://{}/x", nobody()), &["Accept: application/json"]);
    let problem: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
    let line = proxy.log.wait("the log", |l| l.contains("/x"));
    let log: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(log["id"], problem["id"]);
    assert_eq!(log["result"], "error");
}

#[test]
fn markup_from_outside_is_escaped_on_pages() {
    let proxy = Proxy::open();
    let address = nobody();
    let response = proxy.get_with(&format!("http://{address}/\"'&x{{}}"), &["Accept: text/html"]);
    let text = response.text();
    assert!(text.contains("<h1>") && !text.contains("\"'") && !text.contains("&x"), "{text}");
    let policy = response.field("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert_eq!(response.field("x-content-type-options").as_deref(), Some("nosniff"));
}

#[test]
fn errors_are_counted_by_their_type() {
    let proxy = Proxy::open();
    proxy.get(&format!("http://{}/x", nobody()));
    proxy.log.wait("the log", |l| l.contains("/x"));
    assert!((proxy.metric("larder_errors_total", &["connection_refused"]) - 1.0).abs() < 0.1);
    assert!((proxy.metric("larder_requests_total", &["error", "502"]) - 1.0).abs() < 0.1);
}

#[test]
fn redirects_are_passed_and_never_followed() {
    let origin = Origin::start();
    let url = origin.url("/there");
    origin.on("/here", move |x| x.reply("302 Found", &[&format!("Location: {url}")], ""));
    origin.serve("/there", "200 OK", &[], b"there");
    let proxy = Proxy::open();
    proxy.get(&origin.url("/here")).assert_status(302);
    assert_eq!(origin.hits("/there"), 0);
}
