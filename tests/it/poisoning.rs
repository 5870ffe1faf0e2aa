//! What an origin or a client may say so that one client gets what is another's, or what is wrong: over real sockets,
//! live and from the store.

use crate::support::{Origin, Proxy, Response, date};

const FRESH: &str = "Cache-Control: max-age=60";

/// Scripts a path that answers with these fields, and with its count as the body.
fn counting(origin: &Origin, path: &str, status: &'static str, fields: &[&str]) {
    let fields: Vec<_> = fields.iter().map(|field| (*field).to_owned()).collect();
    origin.on(path, move |x| {
        x.body();
        let lines: Vec<_> = fields.iter().map(String::as_str).collect();
        x.reply(status, &lines, x.number.to_string());
    });
}

/// Whether a second client gets what the first one got.
fn shares(proxy: &Proxy, origin: &Origin, path: &str, fields: &[&str]) -> bool {
    let bodies = [0, 1].map(|_| proxy.get_with(&origin.url(path), fields).text());
    bodies[0] == bodies[1]
}

#[test]
fn what_forbids_sharing_counts_on_any_line_in_any_case_among_anything() {
    let origin = Origin::start();
    let proxy = Proxy::open();
    let cases: [&[&str]; 25] = [
        &["cache-control: NO-STORE"],
        &["Cache-Control: public, max-age=60", "Cache-Control: no-store"],
        &["Cache-Control: ,, no-store ,,"],
        &["Cache-Control:no-store"],
        &["Cache-Control: \tno-store\t"],
        &["Cache-Control: x=\"a,b\", no-store"],
        &["Cache-Control: x=\"a\\\"\", no-store"],
        &["Cache-Control: x=\", no-store"],
        &["Cache-Control: no-store=\"x\""],
        &["Cache-Control: no-store=1"],
        &["Cache-Control: max-age=60, no-store, must-revalidate, public, s-maxage=60"],
        &["Cache-Control: Private"],
        &["Cache-Control: max-age=60", "CACHE-CONTROL: PRIVATE"],
        &["Cache-Control: private=\"set-cookie\""],
        &["Cache-Control: private=set-cookie"],
        &["Cache-Control: private="],
        &["Cache-Control: no-cache"],
        &["Cache-Control: max-age=60", "cache-control: No-Cache"],
        &["Cache-Control: no-cache="],
        &["Vary: *"],
        &["Vary: accept", "vary: x, *, y"],
        &["Vary: *, accept"],
        &["Vary:*"],
        &["Vary: ,,*"],
        &["Vary: accept,\t*"],
    ];
    for (at, fields) in cases.into_iter().enumerate() {
        let path = format!("/{at}");
        // What allows it stands before or behind.
        for (turn, path) in [(0, path.clone()), (1, path + "?")] {
            let mut all = fields.to_vec();
            all.insert(turn * fields.len(), "Cache-Control: max-age=600");
            counting(&origin, &path, "200 OK", &all);
            assert!(!shares(&proxy, &origin, &path, &[]), "{all:?}");
        }
    }
    counting(
        &origin,
        "/fresh",
        "200 OK",
        &["Cache-Control: x=\"no-store, private\", max-age=60", "Vary: x-*"],
    );
    assert!(shares(&proxy, &origin, "/fresh", &[]), "what only looks like it does not");
}

/// RFC 9110 section 7.6.1: "A sender MUST NOT send a connection option corresponding to a field that is intended for
/// all recipients of the content."
#[test]
fn what_connection_names_in_vain_stays_and_counts_live_and_stored() {
    let origin = Origin::start();
    let proxy = Proxy::open();
    let (past, future) = (date(-600), date(600));
    let (dated, expires, stale) =
        (format!("Date: {past}"), format!("Expires: {future}"), format!("Expires: {past}"));
    // Each by what it does.
    for (name, fields, request, shared) in [
        ("Cache-Control", vec!["Cache-Control: no-store", &expires], vec![], false),
        ("cache-control", vec!["Cache-Control: private", &expires], vec![], false),
        ("Vary", vec![FRESH, "Vary: *"], vec![], false),
        ("Set-Cookie", vec![FRESH, "Set-Cookie: a=b"], vec![], false),
        (
            "Expires",
            vec![&stale, "ETag: \"v\"", "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"],
            vec![],
            false,
        ),
        ("Pragma", vec!["Pragma: no-cache", "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"], vec![], false),
        ("Age", vec![FRESH, "Age: 100"], vec![], false),
        ("Date", vec![FRESH, &dated], vec![], false),
        ("Authorization", vec![FRESH], vec!["Authorization: Basic YQ=="], false),
        ("Expires", vec![&expires], vec![], true),
        ("Cache-Control, Expires, Age, Date, Vary, ETag", vec![FRESH, "ETag: \"v\""], vec![], true),
    ] {
        let path = format!("/{}", fields.join("+").replace([' ', ':'], "-"));
        let named = format!("Connection: close, {name}");
        let mut all = fields.clone();
        all.push(&named);
        counting(&origin, &path, "200 OK", &all);
        let mut sent = request.clone();
        sent.push(&named);
        assert_eq!(shares(&proxy, &origin, &path, &sent), shared, "{name}: {fields:?}");
        let response = proxy.get_with(&origin.url(&path), &sent);
        for field in fields {
            let (field, _) = field.split_once(": ").unwrap();
            assert!(response.field(field).is_some(), "{field} stays: {response}");
        }
    }
    // Towards the origin, too.
    origin.serve("/up", "200 OK", &[], b"x");
    let kept = [
        "Authorization: Basic YQ==",
        "Cache-Control: max-age=5",
        "Content-Type: a/b",
        "Content-Language: de",
        "Content-MD5: x",
        "Pragma: x",
    ];
    let named = "Connection: Authorization, Host, Cache-Control, Content-Type, Content-Language, Content-MD5, \
                 Content-Length, Pragma, X-Mine";
    let sent = [&kept[..], &["X-Mine: 1", named]].concat();
    proxy.request("POST", &origin.url("/up"), &sent, "content").assert_status(200);
    let seen = origin.last("/up");
    for field in kept {
        let (name, value) = field.split_once(": ").unwrap();
        assert_eq!(seen.field(name).as_deref(), Some(value));
    }
    assert_eq!(seen.field("host"), Some(origin.address.to_string()));
    assert_eq!((seen.field("x-mine"), seen.field("content-length").as_deref()), (None, Some("7")));
    // What describes the stored bytes: live, stored, and as a range.
    let fields = [
        FRESH,
        "ETag: \"v\"",
        "Content-Type: text/plain",
        "Content-Encoding: x",
        "Content-Language: de",
        "Content-Location: /y",
        "Content-Disposition: inline",
        "Connection: ETag, Content-Type, Content-Encoding, Content-Language, Content-Location, Content-Length, \
         Content-Disposition",
    ];
    counting(&origin, "/bytes", "200 OK", &fields);
    for (turn, range) in ["X: y", "X: y", "Range: bytes=0-0"].iter().enumerate() {
        let response = proxy.get_with(&origin.url("/bytes"), &[range]);
        assert_eq!(response.is_hit(), turn > 0, "{response}");
        for field in &fields[1..7] {
            let (name, value) = field.split_once(": ").unwrap();
            assert_eq!(response.field(name).as_deref(), Some(value), "{response}");
        }
        response.assert_body("1");
    }
}

#[test]
fn a_method_in_another_case_is_another_method() {
    let origin = Origin::start();
    let proxy = Proxy::open();
    counting(&origin, "/x", "200 OK", &["Cache-Control: public, max-age=60"]);
    let url = origin.url("/x");
    for method in ["get", "Get", "gET", "head", "GETS", "GE"] {
        let before = origin.hits("/x");
        proxy.get(&url).assert_status(200);
        // It is no safe method that is known, so what is stored goes with it.
        proxy.request(method, &url, &[], "").assert_forwarded("method");
        assert_eq!(origin.last("/x").method, method);
        proxy.get(&url).assert_forwarded("uri-miss");
        assert_eq!(origin.hits("/x"), before + if before == 0 { 3 } else { 2 }, "{method}");
    }
}

#[test]
fn a_post_answers_a_get_for_its_own_target_alone() {
    let origin = Origin::start();
    let other = Origin::start();
    let proxy = Proxy::open();
    counting(&origin, "/victim", "200 OK", &[FRESH]);
    counting(&other, "/victim", "200 OK", &[FRESH]);
    for (at, location) in [
        origin.url("/victim"),
        "/victim".to_owned(),
        "victim".to_owned(),
        other.url("/victim"),
        format!("//{}/victim", other.address),
        origin.url("/post").replace("http:", "https:"),
        "?".to_owned(),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/post/{at}");
        let location = format!("Content-Location: {location}");
        counting(&origin, &path, "200 OK", &["Cache-Control: public, max-age=60", &location]);
        proxy.request("POST", &origin.url(&path), &[], "evil").assert_status(200);
        for url in [origin.url(&path), origin.url("/victim"), other.url("/victim")] {
            let only = proxy.get_with(&url, &["Cache-Control: only-if-cached"]);
            only.assert_status(504);
        }
    }
}

#[test]
fn a_206_whose_figures_overflow_or_lie_is_never_stored() {
    let origin = Origin::start();
    let proxy = Proxy::open();
    for (at, range) in [
        "bytes 18446744073709551615-18446744073709551619/18446744073709551620",
        "bytes 0-4/18446744073709551616",
        "bytes 0-18446744073709551615/18446744073709551615",
        "bytes 99999999999999999999999-99999999999999999999999/5",
        "bytes 4-0/10",
        "bytes -4-0/10",
        "bytes +0-4/10",
        "bytes 0-4/+10",
        "bytes 0-4/4",
        "bytes 0-4",
        "bytes */10",
        "bytes 0-4/",
        "0-4/10",
        "lines 0-4/10",
        "bytes 0-4/10, bytes 0-4/10",
        "",
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/{at}");
        let range = format!("Content-Range: {range}");
        let lines = [FRESH.to_owned(), "ETag: \"v\"".to_owned(), range.clone()];
        origin.on(&path, move |x| {
            x.reply("206 Partial Content", &lines.each_ref().map(String::as_str), "01234");
        });
        for asked in ["bytes=0-4", "bytes=0-", "bytes=-5", "bytes=1-1"] {
            let before = origin.hits(&path);
            proxy.get_with(&origin.url(&path), &[&format!("Range: {asked}")]);
            assert_eq!(origin.hits(&path), before + 1, "{range}, asked for {asked}");
        }
        let whole = proxy.get_with(&origin.url(&path), &["Cache-Control: only-if-cached"]);
        whole.assert_status(504);
    }
    assert!(proxy.metric("larder_panics_total", &[]) < 0.5);
}

/// Also after a 304 brought them, to HEAD, in a 304 of our own, and in a part.
#[test]
fn fields_of_one_connection_never_come_out_of_the_store() {
    const HOP: [&str; 9] = [
        "Connection: X-Named",
        "X-Named: 1",
        "Keep-Alive: timeout=9",
        "Proxy-Connection: keep-alive",
        "Proxy-Authenticate: Basic realm=x",
        "Proxy-Authentication-Info: a",
        "TE: trailers",
        "Upgrade: foo",
        "Proxy-Authorization: b",
    ];
    let origin = Origin::start();
    let proxy = Proxy::open();
    origin.on("/x", |x| {
        let fields = [&["Cache-Control: max-age=60, no-cache", "ETag: \"v\""][..], &HOP].concat();
        if x.request.field("if-none-match").is_some() {
            x.reply("304 Not Modified", &fields, "");
        } else {
            x.reply("200 OK", &fields, "0123456789");
        }
    });
    origin.on("/fresh", |x| x.reply("200 OK", &[&[FRESH, "ETag: \"v\""][..], &HOP].concat(), "0123456789"));
    let clean = |what: &str, response: &Response| {
        for field in HOP {
            let (name, value) = field.split_once(": ").unwrap();
            assert_ne!(response.field(name).as_deref(), Some(value), "{what}: {response}");
        }
        assert_eq!(response.field("x-named"), None, "{what}");
    };
    for path in ["/x", "/fresh"] {
        for (what, method, field) in [
            ("the first", "GET", "X: y"),
            ("from the store", "GET", "X: y"),
            ("HEAD", "HEAD", "X: y"),
            ("a part", "GET", "Range: bytes=1-3"),
            ("parts", "GET", "Range: bytes=1-3, 5-6"),
            ("a 304", "GET", "If-None-Match: \"v\""),
            ("a 412", "GET", "If-Match: \"w\""),
            ("a 416", "GET", "Range: bytes=100-"),
        ] {
            clean(what, &proxy.request(method, &origin.url(path), &[field], ""));
        }
    }
    assert!(origin.hits("/x") > origin.hits("/fresh") && origin.hits("/fresh") == 1);
}

#[test]
fn codings_that_can_not_be_read_stand_for_themselves_within_the_cap_of_variants() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        let accepted = x.request.field("accept-encoding").unwrap_or_default();
        x.reply("200 OK", &[FRESH, "Vary: Accept-Encoding"], accepted);
    });
    let proxy = Proxy::with("cache.variants = 8");
    let mut client = proxy.client();
    let url = origin.url("/x");
    // Those that are the same by what they say, and those that say something else.
    for (first, second, shared) in [
        ("gzip, br", "br;q=0.2 ,GZIP;q=1", true),
        ("gzip;q=0.000", "br;q=0", true),
        ("gzip", "gzip, x-nobody", false),
        ("gzip", "x-gzip;q=", false),
        ("gzip", "gzip;q=2", false),
        ("gzip;;", "gzip;;;", false),
    ] {
        client.get_with(&url, &[&format!("Accept-Encoding: {first}")]).assert_status(200);
        let response = client.get_with(&url, &[&format!("Accept-Encoding: {second}")]);
        assert_eq!(response.is_hit(), shared, "{first:?} and {second:?}: {response}");
        assert_eq!(response.text() == first, shared, "{first:?} and {second:?}: {response}");
    }
    for number in 0..200 {
        let odd = format!("gzip;q={number}x");
        client.get_with(&url, &[&format!("Accept-Encoding: {odd}")]).assert_body(odd);
    }
    assert!(proxy.metric("larder_store_entries", &[]) <= 8.0);
}

/// RFC 9110 section 15.1: without explicit freshness, these are all that may be stored of 4xx and 5xx.
#[test]
fn of_errors_without_freshness_the_six_that_are_heuristically_cacheable_are_stored() {
    let origin = Origin::start();
    let proxy = Proxy::open();
    let old = format!("Last-Modified: {}", date(-1_000_000));
    let mut stored = Vec::new();
    // A 407 is no origin's answer.
    for status in (400..600).filter(|status| *status != 407) {
        let path = format!("/{status}");
        let (line, old) = (format!("{status} X"), old.clone());
        origin.on(&path, move |x| x.reply(&line, &[&old], x.number.to_string()));
        if shares(&proxy, &origin, &path, &[]) {
            stored.push(status);
        }
    }
    assert_eq!(stored, [404, 405, 410, 414, 451, 501]);
}
