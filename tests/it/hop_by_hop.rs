//! Fields that concern one connection only: dropped both ways, live and stored. RFC 9110 sections 7.6.1 to 7.6.3.

use crate::support::{Origin, Proxy};

#[test]
fn request_fields_of_one_connection_do_not_reach_the_origin() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"x");
    let proxy = Proxy::open();
    proxy.get_with(
        &origin.url("/x"),
        &[
            "Connection: X-Named, keep-alive",
            "connection: x-second",
            "X-Named: 1",
            "X-Second: 1",
            "Keep-Alive: timeout=9",
            "Proxy-Connection: keep-alive",
            "Proxy-Authorization: Basic c2VjcmV0",
            "Proxy-Authenticate: Basic",
            "Proxy: http://evil.example",
            "TE: gzip",
            "Upgrade: h2c",
            "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
            "X-Kept: 1",
        ],
    );
    let seen = origin.last("/x");
    for name in [
        "x-named",
        "x-second",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "proxy-authenticate",
        "proxy",
        "upgrade",
        "http2-settings",
    ] {
        assert_eq!(seen.field(name), None, "{name}");
    }
    assert_eq!(seen.field("x-kept").as_deref(), Some("1"));
    assert_ne!(seen.field("te").as_deref(), Some("gzip"));
    let connection = seen.field("connection").unwrap_or_default().to_ascii_lowercase();
    assert!(!connection.contains("x-"), "{connection}");
}

#[test]
fn connection_cannot_name_what_caching_and_framing_need() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        let named = "Connection: Cache-Control, ETag, Date, Vary, Age, Expires, Set-Cookie, Content-Type, Content-Length";
        x.reply("200 OK", &[named, "Cache-Control: no-store", "ETag: \"a\"", "Vary: *", "Set-Cookie: a=b", "Content-Type: a/b"], "x");
    });
    let proxy = Proxy::open();
    let named = "Connection: Authorization, Host, Cache-Control, Content-Type, Cookie";
    let response = proxy.request(
        "GET",
        &origin.url("/x"),
        &[named, "Authorization: Basic YQ==", "Content-Type: a/b", "Cookie: a=b"],
        "",
    );
    for (name, value) in [
        ("cache-control", "no-store"),
        ("etag", "\"a\""),
        ("vary", "*"),
        ("set-cookie", "a=b"),
        ("content-type", "a/b"),
    ] {
        assert_eq!(response.field(name).as_deref(), Some(value), "{name} stays and counts");
    }
    let seen = origin.last("/x");
    assert_eq!(seen.field("authorization").as_deref(), Some("Basic YQ=="));
    assert_eq!(seen.field("host"), Some(origin.address.to_string()));
    assert_eq!(seen.field("content-type").as_deref(), Some("a/b"));
    proxy.get(&origin.url("/x")).assert_forwarded("uri-miss");
}

#[test]
fn response_fields_of_one_connection_reach_no_client_live_or_stored() {
    const DROPPED: [&str; 8] = [
        "x-named",
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "upgrade",
        "te",
    ];
    let origin = Origin::start();
    origin.on("/x", |x| {
        x.reply(
            "200 OK",
            &[
                "Cache-Control: max-age=60",
                "Connection: X-Named",
                "X-Named: 1",
                "Keep-Alive: timeout=9",
                "Proxy-Connection: keep-alive",
                "Proxy-Authenticate: Basic realm=x",
                "Proxy-Authentication-Info: a",
                "Proxy-Authorization: b",
                "Upgrade: foo",
                "TE: trailers",
                "X-Kept: 1",
            ],
            "x",
        );
    });
    let proxy = Proxy::open();
    for turn in ["live", "stored"] {
        let response = proxy.get(&origin.url("/x"));
        assert_eq!(response.cache().has("hit"), turn == "stored");
        for name in DROPPED {
            assert_eq!(response.field(name), None, "{name}, {turn}");
        }
        assert_eq!(response.field("x-kept").as_deref(), Some("1"), "{turn}");
    }
}

#[test]
fn trailers_that_connection_names_or_that_need_the_head_go_neither_way() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        x.body();
        x.write(
            "HTTP/1.1 200 OK\r\nConnection: X-Theirs\r\nTrailer: X-Theirs, X-Kept, Host\r\n\
             Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Theirs: 1\r\nX-Kept: 2\r\nHost: evil\r\n\r\n",
        );
    });
    let proxy = Proxy::open();
    let mut client = proxy.client();
    client.send(format!(
        "POST {} HTTP/1.1\r\nHost: h\r\nTE: trailers\r\nConnection: TE, X-Ours\r\nTrailer: X-Ours, X-Kept, Host\r\n\
         Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Ours: 1\r\nX-Kept: 2\r\nHost: evil\r\n\r\n",
        origin.url("/x")
    ));
    let response = client.response("POST");
    response.assert_body("abc");
    let seen = origin.last("/x");
    assert_eq!(seen.body, b"hi");
    for trailers in [&response.trailers, &seen.trailers] {
        let passed: Vec<_> =
            trailers.iter().map(|(name, value)| (name.to_lowercase(), value.as_str())).collect();
        assert_eq!(passed, [("x-kept".to_owned(), "2")]);
    }
}

#[test]
fn via_is_appended_with_the_received_version() {
    let origin = Origin::start();
    origin.on("/x", |x| x.reply("200 OK", &["Via: 1.0 before"], "x"));
    origin.on("/old", |x| {
        x.write("HTTP/1.0 200 OK\r\n\r\nx");
        x.close();
    });
    let proxy = Proxy::with("proxy.via = 'tested'");
    let mut client = proxy.client();
    client.send(format!("GET {} HTTP/1.0\r\nVia: 1.1 first\r\n\r\n", origin.url("/x")));
    let response = client.response("GET");
    assert_eq!(origin.last("/x").field("via").as_deref(), Some("1.1 first, 1.0 tested"));
    assert_eq!(response.field("via").as_deref(), Some("1.0 before, 1.1 tested"));
    assert_eq!(proxy.get(&origin.url("/old")).field("via").as_deref(), Some("1.0 tested"));
}

#[test]
fn a_loop_is_refused_before_any_work() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"x");
    let proxy = Proxy::open();
    proxy.get(&origin.url("/x"));
    let via = origin.last("/x").field("via").unwrap();
    let pseudonym = via.split(' ').nth(1).unwrap();
    let response =
        proxy.get_with(&origin.url("/x"), &[&format!("Via: 1.1 other, 1.0 {pseudonym} (comment)")]);
    response.assert_error(508, "proxy_loop_detected");
    assert_eq!(origin.hits("/x"), 1);
    let other = Proxy::open();
    other.get_with(&origin.url("/x"), &[&format!("Via: {via}")]).assert_status(200);
}

#[test]
fn members_of_cache_status_and_proxy_status_stay_before_ours() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        x.reply(
            "200 OK",
            &[
                "Cache-Control: max-age=60",
                "Cache-Status: near; hit",
                "Proxy-Status: far; received-status=200",
            ],
            "x",
        );
    });
    let proxy = Proxy::open();
    for _ in 0..2 {
        let response = proxy.get(&origin.url("/x"));
        let all = response.field("cache-status").unwrap();
        assert!(all.starts_with("near; hit, larder;"), "{all}");
        assert!(response.field("proxy-status").unwrap().starts_with("far; received-status=200"));
    }
}

#[test]
fn forwarded_for_follows_the_policy() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"x");
    for (policy, expected) in
        [("delete", None), ("keep", Some("192.0.2.1")), ("add", Some("192.0.2.1, 127.0.0.1"))]
    {
        let proxy = Proxy::with(&format!("proxy.forwarded_for = '{policy}'"));
        proxy.get_with(&origin.url("/x"), &["X-Forwarded-For: 192.0.2.1"]);
        assert_eq!(origin.last("/x").field("x-forwarded-for").as_deref(), expected, "{policy}");
    }
}
