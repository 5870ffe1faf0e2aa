//! Parent proxies: plain requests, tunnels, credentials, exceptions, and their own refusals.

use crate::support::authority::Authority;
use crate::support::wire::Wire;
use crate::support::{Client, DEADLINE, Exchange, Origin, Proxy, Response, nobody};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A parent that answers whatever it is asked, and tells what that was.
fn parent() -> Origin {
    let parent = Origin::start();
    parent.on("http://origin.test/x", |x| {
        let target = x.request.target.clone();
        x.reply("200 OK", &["Cache-Control: max-age=60"], target);
    });
    parent
}

fn config(parent: &Origin) -> String {
    format!("upstream.parents = ['http://user:pass@{}']\n", parent.address)
}

#[test]
fn requests_go_to_the_parent_in_absolute_form_with_its_credentials() {
    let parent = parent();
    let proxy = Proxy::with(&config(&parent));
    let url = "http://origin.test/x";
    proxy.get_with(url, &["Proxy-Authorization: Basic bWluZQ=="]).assert_status(200).assert_body(url);
    proxy.get(url).assert_hit();
    let seen = parent.last(url);
    assert_eq!(seen.field("host").as_deref(), Some("origin.test"));
    assert_eq!(seen.field("proxy-authorization").as_deref(), Some("Basic dXNlcjpwYXNz"));
    assert!(seen.field("via").is_some());
}

#[test]
fn tunnels_go_through_the_parent() {
    let parent = parent();
    parent.on("origin.test:443", |x| {
        x.write("HTTP/1.1 200 Established\r\nContent-Length: 7\r\n\r\n");
        let bytes = x.wire().exactly(4).unwrap();
        x.write(bytes);
        x.done();
    });
    let proxy = Proxy::with(&config(&parent));
    let mut client = proxy.client();
    client.send("CONNECT origin.test:443 HTTP/1.1\r\nHost: origin.test:443\r\n\r\n");
    client.head("CONNECT").assert_status(200);
    client.send("ping");
    assert_eq!(client.wire.exactly(4).unwrap(), b"ping");
    let seen = parent.last("origin.test:443");
    assert_eq!(seen.method, "CONNECT");
    assert_eq!(seen.field("proxy-authorization").as_deref(), Some("Basic dXNlcjpwYXNz"));
}

fn connect(client: &mut Client, fields: &str) -> Response {
    client.send(format!("CONNECT origin.test:443 HTTP/1.1\r\nHost: origin.test:443\r\n{fields}\r\n"));
    client.response("GET")
}

#[test]
fn a_connect_to_the_parent_carries_via() {
    let parent = parent();
    parent.serve("origin.test:443", "502 No", &[], b"");
    let proxy = Proxy::with(&format!("{}proxy.via = 'tested'", config(&parent)));
    connect(&mut proxy.client(), "Via: 1.0 first\r\nVia: 1.1 second\r\n")
        .assert_error(502, "destination_not_found");
    assert_eq!(parent.last("origin.test:443").head.all("via"), ["1.0 first", "1.1 second", "1.1 tested"]);
    // So does the one for a request that is fetched over TLS.
    proxy.get_with("https://origin.test/x", &["Via: 1.0 first"]).assert_error(502, "destination_not_found");
    assert_eq!(parent.last("origin.test:443").head.all("via"), ["1.0 first", "1.1 tested"]);
    assert_eq!(parent.all().len(), 2);
}

#[test]
fn a_tunnel_that_comes_back_is_refused_at_once() {
    let far = Proxy::open();
    let near = Proxy::with(&format!("upstream.parents = ['http://{}']", far.address));
    far.write_config(&format!("upstream.parents = ['http://{}']", near.address));
    assert!(far.run(&["reload"]).status.success());
    connect(&mut near.client(), "").assert_error(508, "proxy_loop_detected");
    far.log.wait("the log", |l| l.contains("CONNECT"));
    near.log.wait_count("both visits", 2, |l| l.contains("CONNECT"));
    let visits = |proxy: &Proxy| proxy.log.all().iter().filter(|l| l.contains("CONNECT")).count();
    assert_eq!((visits(&near), visits(&far)), (2, 1), "it went round once");
    let own = Proxy::open();
    own.write_config(&format!("upstream.parents = ['http://{}']", own.address));
    assert!(own.run(&["reload"]).status.success());
    for _ in 0..2 {
        connect(&mut own.client(), "").assert_error(508, "proxy_loop_detected");
        own.get("https://origin.test/x").assert_error(508, "proxy_loop_detected");
    }
}

#[test]
fn a_407_from_the_parent_is_our_502_with_the_reason() {
    let parent = parent();
    for target in ["http://origin.test/closed", "origin.test:443"] {
        parent.serve(target, "407 Who Are You", &["Proxy-Authenticate: Basic realm=parent"], b"");
    }
    let proxy = Proxy::with(&config(&parent));
    let response = proxy.get("http://origin.test/closed");
    response.assert_status(502);
    assert!(response.text().contains("407"), "{response}");
    assert_eq!(response.field("proxy-authenticate"), None);
    let mut client = proxy.client();
    client.send("CONNECT origin.test:443 HTTP/1.1\r\nHost: origin.test:443\r\n\r\n");
    let refused = client.response("GET");
    refused.assert_status(502);
    assert!(refused.text().contains("407"), "{refused}");
}

#[test]
fn hosts_on_the_exception_list_are_reached_directly() {
    let parent = parent();
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"direct");
    let proxy = Proxy::with(
        &format!("{}upstream.no_proxy = ['127.0.0.0/8']", config(&parent)).replace("parents", "parents"),
    );
    proxy.get(&origin.url("/x")).assert_body("direct");
    assert_eq!(parent.all().len(), 0);
}

#[test]
fn a_parent_that_is_down_is_passed_over() {
    let parent = parent();
    let down = nobody();
    let proxy = Proxy::with(&format!("upstream.parents = ['http://{down}', 'http://{}']", parent.address));
    proxy.get("http://origin.test/x").assert_status(200);
    let alone = Proxy::with(&format!("upstream.parents = ['http://{down}']"));
    alone.get("http://origin.test/x").assert_error(502, "connection_refused");
}

#[test]
fn the_environment_names_the_parent_only_when_told_to() {
    let parent = parent();
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"direct");
    let start = |told: bool| {
        Proxy::builder()
            .config(&format!("upstream.from_environment = {told}"))
            .environment("HTTP_PROXY", &format!("http://{}", parent.address))
            .environment("HTTPS_PROXY", &format!("http://{}", parent.address))
            .environment("NO_PROXY", "127.0.0.1")
            .start()
    };
    let told = start(true);
    told.get("http://origin.test/x").assert_status(200);
    told.get(&origin.url("/x")).assert_body("direct");
    assert_eq!(parent.all().len(), 1);
    let untold = start(false);
    untold.get(&origin.url("/x")).assert_body("direct");
    assert_eq!(parent.all().len(), 1);
}

#[test]
fn two_of_ours_in_a_row_work_and_a_circle_ends() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"x");
    let far = Proxy::open();
    let near = Proxy::with(&format!("upstream.parents = ['http://{}']", far.address));
    let response = near.get(&origin.url("/x"));
    response.assert_body("x");
    let all = response.field("cache-status").unwrap();
    assert_eq!(all.matches("larder;").count(), 2, "{all}");
    assert_eq!(origin.last("/x").head.field("via").unwrap().split(", ").count(), 2);
    far.write_config(&format!("upstream.parents = ['http://{}']", near.address));
    assert!(far.run(&["reload"]).status.success());
    let before = origin.all().len();
    // What came back to the first is told by the second as what it is: its parent's answer.
    near.get(&origin.url("/y")).assert_error(508, "proxy_loop_detected");
    assert_eq!(origin.all().len(), before);
    far.log.wait("the log", |l| l.contains("/y"));
    near.log.wait_count("both visits", 2, |l| l.contains("/y"));
    assert_eq!(near.log.all().iter().filter(|l| l.contains("/y")).count(), 2, "it went round once");
}

/// A proxy whose parent is spoken to over TLS there.
fn over_tls(authority: &Authority, port: u16) -> Proxy {
    Proxy::with(&format!(
        "{}upstream.parents = ['https://user:pass@localhost:{port}']\nupstream.connect_timeout = '2s'",
        authority.config()
    ))
}

/// Asks in each way that leads to a parent: a plain request, one with content, one over TLS, and for a tunnel, after
/// which the connection is as good as before.
#[track_caller]
fn asks(proxy: &Proxy, told: impl Fn(&str, &Response)) {
    told("GET", &proxy.get("http://origin.test/x"));
    told("POST", &proxy.request("POST", "http://origin.test/x", &[], "content"));
    told("https", &proxy.get("https://origin.test/x"));
    let mut client = proxy.client();
    for _ in 0..2 {
        told("CONNECT", &connect(&mut client, ""));
    }
}

#[test]
fn a_parent_whose_certificate_does_not_hold_is_sent_nothing() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    for (what, parent) in [
        ("one of another authority", stranger.origin(&["localhost"])),
        ("one for another name", authority.origin(&["other.example"])),
        ("one for an address", authority.origin(&["127.0.0.1"])),
        ("an expired one", authority.expired(&["localhost"])),
    ] {
        let proxy = over_tls(&authority, parent.address.port());
        asks(&proxy, |by, response| {
            assert_eq!(response.status, 502, "{what}, {by}: {response}");
            response.assert_error(502, "tls_certificate_error");
        });
        assert_eq!((parent.all().len(), parent.received()), (0, Vec::new()), "{what}");
    }
}

/// Takes connections, reads what they begin with, does something with each, and tells all that came.
fn listening(then: impl Fn(TcpStream) + Send + 'static) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let received = Arc::new(Mutex::new(Vec::new()));
    let ours = Arc::clone(&received);
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            socket.set_read_timeout(Some(DEADLINE)).unwrap();
            let mut hello = [0; 4096];
            let count = socket.read(&mut hello).unwrap_or(0);
            ours.lock().unwrap().extend_from_slice(&hello[..count]);
            then(socket);
        }
    });
    (address, received)
}

/// What is done with a connection.
type Then = Box<dyn Fn(TcpStream) + Send>;

#[test]
fn a_parent_that_speaks_no_tls_is_an_error_and_hears_nothing_in_the_clear() {
    let authority = Authority::new();
    let says = |bytes: &'static [u8]| move |mut socket: TcpStream| drop(socket.write_all(bytes));
    let cases: [(&str, Then, &[u16]); 6] = [
        ("plaintext", Box::new(says(b"HTTP/1.1 200 Established\r\n\r\n")), &[502]),
        ("a banner", Box::new(says(b"SSH-2.0-secret\r\n")), &[502]),
        ("an alert", Box::new(says(b"\x15\x03\x03\x00\x02\x02\x28")), &[502]),
        ("a close", Box::new(drop), &[502]),
        ("a reset", Box::new(|socket| Wire::plain(socket).reset()), &[502]),
        ("nothing", Box::new(|socket| assert!(Wire::plain(socket).ends())), &[504]),
    ];
    for (what, then, statuses) in cases {
        let (address, received) = listening(then);
        let proxy = over_tls(&authority, address.port());
        if what == "nothing" {
            proxy.write_config(&format!(
                "upstream = {{ parents = ['https://user:pass@localhost:{}'], connect_timeout = '200ms' }}",
                address.port()
            ));
            assert!(proxy.run(&["reload"]).status.success());
        }
        asks(&proxy, |by, response| {
            assert!(statuses.contains(&response.status), "{what}, {by}: {response}");
            assert!(!response.text().contains("secret"), "{what}, {by}: {response}");
            let error = response.proxy_status();
            let kinds = ["tls_protocol_error", "tls_alert_received", "connection_timeout"];
            assert!(kinds.iter().any(|kind| error.contains(kind)), "{what}, {by}: {error}");
        });
        let received = received.lock().unwrap();
        assert!(received.starts_with(b"\x16\x03"), "{what}: a handshake");
        for word in [&b"GET "[..], b"POST ", b"CONNECT ", b"Basic "] {
            assert!(!received.windows(word.len()).any(|w| w == word), "{what}");
        }
    }
}

/// What a parent does with a CONNECT that came over TLS.
type Does = fn(&mut Exchange);

#[test]
fn a_parent_over_tls_that_breaks_off_a_tunnel_is_an_error() {
    let authority = Authority::new();
    // To a client's CONNECT, a tunnel is there as soon as the parent says so.
    let cases: [(&str, Does, u16, u16); 7] = [
        ("a close", |x| x.close(), 502, 502),
        ("a reset", |x| x.reset(), 502, 502),
        ("no answer", |x| assert!(x.wire().ends()), 504, 504),
        ("half an answer", |x| x.write("HTTP/1.1 200 Est"), 502, 502),
        ("a refusal", |x| x.reply("403 Forbidden", &["X: secret"], "secret"), 403, 403),
        (
            "plaintext within",
            |x| x.write("HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\nX: secret\r\n\r\n"),
            502,
            200,
        ),
        ("a close within", |x| x.write("HTTP/1.1 200 OK\r\n\r\n"), 502, 200),
    ];
    for (what, does, fetched, tunnelled) in cases {
        let parent = authority.origin(&["localhost"]);
        parent.on("origin.test:443", move |x| {
            does(x);
            x.done();
        });
        let proxy = Proxy::with(&format!(
            "{}upstream.parents = ['https://user:pass@localhost:{}']\nupstream.connect_timeout = '{}'",
            authority.config(),
            parent.address.port(),
            if what == "no answer" { "300ms" } else { "10s" }
        ));
        let response = proxy.get("https://origin.test/x");
        assert_eq!(response.status, fetched, "{what}: {response}");
        assert!(!response.text().contains("secret"), "{what}: {response}");
        let mut client = proxy.client();
        client.send("CONNECT origin.test:443 HTTP/1.1\r\nHost: origin.test:443\r\n\r\n");
        let head = client.head("CONNECT");
        assert_eq!(head.status, tunnelled, "{what}: {head}");
        if tunnelled == 200 {
            // What the parent says within is the client's; what it ends has ended.
            let within = client.wire.rest().unwrap_or_default();
            assert_eq!(within.is_empty(), what == "a close within", "{what}");
        }
        let seen = parent.last("origin.test:443");
        assert_eq!(seen.field("proxy-authorization").as_deref(), Some("Basic dXNlcjpwYXNz"), "{what}");
    }
}

/// TLS within TLS: the inner one is verified like any, whatever the outer one proved.
#[test]
fn an_origin_behind_a_parent_over_tls_is_verified_itself() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let parent = authority.origin(&["localhost"]);
    let plain = "http://origin.test/plain";
    parent.serve(plain, "200 OK", &["Cache-Control: no-store"], b"plain");
    for (host, config) in [
        ("right.test", authority.server(&["right.test"], |_| ())),
        ("wrong.test", authority.server(&["localhost"], |_| ())),
        ("unknown.test", stranger.server(&["unknown.test"], |_| ())),
    ] {
        parent.on(&format!("{host}:443"), move |x| {
            x.write("HTTP/1.1 200 Established\r\n\r\n");
            let mut session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut inner = rustls::Stream::new(&mut session, x.wire());
            let mut asked = Vec::new();
            let mut byte = [0; 1];
            while !asked.ends_with(b"\r\n\r\n") && inner.read(&mut byte).is_ok_and(|count| count == 1) {
                asked.push(byte[0]);
            }
            if !asked.is_empty() {
                let named = String::from_utf8_lossy(&asked).to_lowercase().contains("proxy-authorization");
                let body = if named { "told too much" } else { "secure" };
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                inner.write_all(answer.as_bytes()).unwrap();
                inner.flush().unwrap();
            }
            x.done();
        });
    }
    let proxy = over_tls(&authority, parent.address.port());
    proxy.get(plain).assert_status(200).assert_body("plain");
    assert_eq!(parent.last(plain).field("proxy-authorization").as_deref(), Some("Basic dXNlcjpwYXNz"));
    proxy.get("https://right.test/x").assert_status(200).assert_body("secure");
    for host in ["wrong.test", "unknown.test"] {
        proxy.get(&format!("https://{host}/x")).assert_error(502, "tls_certificate_error");
    }
}
