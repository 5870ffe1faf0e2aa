//! The forms of a request's target, and what the origin and the key see of it. RFC 9112 section 3.2.

use crate::support::{Origin, Proxy};

const STORED: &[&str] = &["Cache-Control: max-age=60"];

#[test]
fn the_origin_sees_path_and_query_byte_for_byte() {
    let origin = Origin::start();
    let proxy = Proxy::open();
    let mut client = proxy.client();
    for (asked, seen) in [
        ("/", "/"),
        ("", "/"),
        ("#f", "/"),
        ("/#f", "/"),
        ("?x=1", "/?x=1"),
        ("?x=1#f", "/?x=1"),
        ("/a?b#f?c", "/a?b"),
        ("/?", "/?"),
        ("//a//b", "//a//b"),
        ("/a/../b/./c", "/a/../b/./c"),
        ("/%7Ea/%7ea/~a", "/%7Ea/%7ea/~a"),
        ("/%zz%", "/%zz%"),
        ("/a;b=c,d!$&'()*+=:@", "/a;b=c,d!$&'()*+=:@"),
        ("/a?b?c=%2F/&d", "/a?b?c=%2F/&d"),
        ("/[x]|{y}", "/[x]|{y}"),
    ] {
        origin.on(seen, |x| x.reply("200 OK", &[], "found"));
        client.get(&format!("http://{}{asked}", origin.address)).assert_status(200);
        assert_eq!(origin.all().pop().unwrap().target, seen, "asked for {asked:?}");
    }
}

#[test]
fn bytes_beyond_ascii_are_percent_encoded() {
    let origin = Origin::start();
    origin.serve("/%C3%A4?%C3%BC=%zz", "200 OK", &["Cache-Control: max-age=60"], b"x");
    let proxy = Proxy::open();
    let url = origin.url("/\u{e4}?\u{fc}=%zz");
    proxy.get(&url).assert_status(200);
    proxy.get(&url).assert_hit();
    // What is not even UTF-8 may be refused, but never goes out as it is.
    let mut bytes = format!("GET {}", origin.url("/")).into_bytes();
    bytes.extend_from_slice(b"\xff HTTP/1.1\r\nHost: h\r\n\r\n");
    let response = proxy.raw(bytes);
    assert!(response.status == 400 || origin.hits("/%FF") == 1, "{response}");
    assert!(origin.received().is_ascii());
}

#[test]
fn the_targets_authority_wins_over_host() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"x");
    let proxy = Proxy::open();
    proxy
        .raw(format!("GET {} HTTP/1.1\r\nHost: other.example:1\r\n\r\n", origin.url("/x")))
        .assert_status(200);
    assert_eq!(origin.last("/x").head.all("host"), [origin.address.to_string()]);
}

#[test]
fn scheme_and_host_are_written_in_lower_case_and_userinfo_is_dropped() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", STORED, b"x");
    let proxy = Proxy::open();
    let port = origin.address.port();
    proxy.get(&format!("HTTP://LocalHost:{port}/x")).assert_forwarded("uri-miss");
    assert_eq!(origin.last("/x").field("host"), Some(format!("localhost:{port}")));
    proxy.get(&format!("http://user:secret@localhost:{port}/x")).assert_hit();
    proxy.get(&format!("http://user:secret@localhost:{port}/y")).assert_status(404);
    let seen = origin.last("/y");
    assert_eq!(seen.field("host"), Some(format!("localhost:{port}")));
    assert!(!String::from_utf8_lossy(&seen.head.bytes).contains("secret"));
    assert!(
        proxy.log.wait_count("the log", 3, |l| l.contains("localhost")).iter().all(|l| !l.contains("secret"))
    );
}

#[test]
fn ipv6_literals_are_dialled_and_keep_their_brackets() {
    let origin = Origin::on_address("[::1]:0");
    origin.serve("/x", "200 OK", STORED, b"six");
    let proxy = Proxy::open();
    let port = origin.address.port();
    proxy.get(&format!("http://[::1]:{port}/x")).assert_body("six");
    assert_eq!(origin.last("/x").field("host"), Some(format!("[::1]:{port}")));
    proxy.get(&format!("http://[0:0:0::1]:{port}/x")).assert_body("six");
}

#[test]
fn what_an_origin_may_tell_apart_never_shares_a_stored_response() {
    const PATHS: [&str; 16] = [
        "/a", "/A", "/a/", "//a", "/a?", "/a?b", "/a?B", "/a%62", "/a%42", "/ab", "/a;x", "/a/.", "/./a",
        "/%61", "/a&", "/a%3F",
    ];
    let origin = Origin::start();
    for path in PATHS {
        origin.on(path, move |x| x.reply("200 OK", STORED, path));
    }
    let proxy = Proxy::open();
    let mut client = proxy.client();
    for _ in 0..2 {
        for path in PATHS {
            client.get(&origin.url(path)).assert_body(path);
        }
    }
    assert_eq!(origin.all().len(), PATHS.len());
    // Nor do hosts and ports: the same path at another name of the same address is another resource.
    client.get(&origin.url_at("localhost", "/a")).assert_forwarded("uri-miss");
    client.get(&origin.url_at("127.0.0.1", "/a")).assert_hit();
}

#[test]
fn options_for_the_proxy_itself_are_answered_here() {
    let proxy = Proxy::open();
    for request in
        ["OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\n\r\n"]
    {
        let mut client = proxy.client();
        client.send(request);
        let response = client.response("OPTIONS");
        response.assert_status(200).assert_body("");
        let allow = response.field("allow").unwrap();
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS"] {
            assert!(allow.split(", ").any(|m| m == method), "{method} in {allow}");
        }
        assert_eq!(response.field("cache-status"), None);
    }
}

#[test]
fn a_request_to_the_proxy_itself_gets_a_page_and_goes_nowhere() {
    let origin = Origin::start();
    origin.serve("/", "200 OK", &[], b"guessed");
    let proxy = Proxy::open();
    for path in ["/", "/some/page?x=1"] {
        let mut client = proxy.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: {}\r\nAccept: text/html\r\n\r\n", origin.address));
        let response = client.response("GET");
        assert!(response.text().to_lowercase().contains("larder"), "{response}");
        assert!(response.text().contains("proxy"), "{response}");
        assert_eq!(response.field("x-content-type-options").as_deref(), Some("nosniff"));
        assert_eq!(response.field("cache-status"), None);
    }
    assert_eq!(origin.connections(), 0);
}

#[test]
fn the_pac_file_names_the_proxy_by_its_own_address() {
    let proxy = Proxy::open();
    // The second is where WPAD looks for it.
    for path in ["/proxy.pac", "/wpad.dat"] {
        let response = proxy.raw(format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", proxy.address));
        response.assert_status(200);
        assert_eq!(response.field("content-type").as_deref(), Some("application/x-ns-proxy-autoconfig"));
        let text = response.text();
        assert!(text.contains("function FindProxyForURL"), "{text}");
        assert!(text.contains(&format!("PROXY {}", proxy.address)), "{text}");
    }
    // A Host goes into it only as an authority.
    let evil = proxy.raw("GET /proxy.pac HTTP/1.1\r\nHost: a\";alert(1)//\r\n\r\n");
    assert!(evil.status == 400 || !evil.text().contains("alert"), "{evil}");
}

#[test]
fn a_fragment_is_no_part_of_a_target() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"x");
    let proxy = Proxy::open();
    let response = proxy.get(&format!("{}#part", origin.url("/x")));
    assert!(matches!(response.status, 200 | 400), "{response}");
    assert!(origin.all().iter().all(|r| !r.target.contains('#')));
}
