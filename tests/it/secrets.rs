//! What is nobody else's business: twelve planted secrets pass through everything that the proxy does, and none of them
//! is in a log, a count, a listing, an explanation or a page.

use crate::support::{Client, Origin, Proxy, eventually, nobody};
use serde_json::Value;
use std::net::SocketAddr;

const USERINFO: &str = "planted-userinfo";
const AUTHORIZATION: &str = "planted-authorization";
const PROXY_AUTHORIZATION: &str = "planted-proxy-authorization";
const COOKIE: &str = "planted-cookie";
const SET_COOKIE: &str = "planted-set-cookie";
const QUERY: &str = "planted-query";
const REFERER: &str = "planted-referer";
const ADMIN: &str = "planted-admin-token";
const PARENT: &str = "planted-parent-password";
const SENT: &str = "planted-request-body";
const RECEIVED: &str = "planted-response-body";
const REFUSED: &str = "planted-refused";

/// As they are, and the parent's credentials as its Proxy-Authorization has them.
const ALL: [&str; 13] = [
    USERINFO,
    AUTHORIZATION,
    PROXY_AUTHORIZATION,
    COOKIE,
    SET_COOKIE,
    QUERY,
    REFERER,
    ADMIN,
    PARENT,
    SENT,
    RECEIVED,
    REFUSED,
    "cDpwbGFudGVkLXBhcmVudC1wYXNzd29yZA",
];

/// Begins what every secret but an encoded one does.
const MARK: &str = "planted-";

#[track_caller]
fn assert_none(what: &str, text: &str) {
    let text = text.to_ascii_lowercase();
    let found: Vec<_> = ALL.iter().filter(|secret| text.contains(&secret.to_ascii_lowercase())).collect();
    assert!(found.is_empty() && !text.contains(MARK), "{what} tells {found:?}:\n{text}");
}

fn origin() -> Origin {
    let origin = Origin::start();
    let cookie: &'static [&'static str] =
        &["Cache-Control: no-store", "Set-Cookie: id=planted-set-cookie; HttpOnly"];
    let stored: &'static [&'static str] = &[
        "Cache-Control: public, max-age=60",
        "Set-Cookie: id=planted-set-cookie",
        "Content-Type: text/plain",
    ];
    origin.serve("/stored", "200 OK", stored, RECEIVED.as_bytes());
    origin.serve("/missed", "200 OK", cookie, RECEIVED.as_bytes());
    origin.serve("/moved", "302 Found", &["Location: /x?planted-query"], RECEIVED.as_bytes());
    origin.on("/stale", |x| {
        if x.number % 2 == 0 {
            x.reply("304 Not Modified", &["Set-Cookie: id=planted-set-cookie", "ETag: \"v\""], "");
        } else {
            let fields = ["Cache-Control: max-age=50", "Age: 100", "ETag: \"v\""];
            x.reply("200 OK", &fields, RECEIVED);
        }
    });
    origin.on("/put", |x| {
        x.body();
        x.reply("200 OK", &["Set-Cookie: id=planted-set-cookie"], RECEIVED);
    });
    origin.on("/cut", |x| {
        x.write(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nSet-Cookie: {SET_COOKIE}\r\n\r\n{RECEIVED}"
        ));
        x.close();
    });
    origin.on("/broken", |x| {
        x.write(format!("HTTP/1.1 200 OK\r\nSet-Cookie: a\0{SET_COOKIE}\r\n\r\n{RECEIVED}"));
        x.close();
    });
    origin.on("/banner", |x| {
        x.write(format!("SSH-2.0-{RECEIVED}\r\n"));
        x.close();
    });
    origin
}

fn parent() -> Origin {
    let parent = Origin::start();
    parent.serve("http://origin.test/x", "200 OK", &["Cache-Control: max-age=60"], RECEIVED.as_bytes());
    parent.serve(
        "http://origin.test/who",
        "407 Who",
        &["Proxy-Authenticate: Basic realm=planted-refused"],
        b"",
    );
    parent.serve("origin.test:443", "403 No", &["Set-Cookie: id=planted-set-cookie"], RECEIVED.as_bytes());
    parent.on("granted.test:443", |x| {
        x.write("HTTP/1.1 200 Established\r\n\r\n");
        let sent = x.wire().exactly(SENT.len()).unwrap();
        x.write(sent);
        x.done();
    });
    parent
}

fn config(parent: SocketAddr, more: &str) -> String {
    format!(
        "upstream.parents = ['http://p:{PARENT}@{parent}']\nupstream.no_proxy = ['127.0.0.0/8']\n\
         admin.token = '{ADMIN}'\naccess.ports = [80, 443, '1024-65535']\nlimits.request_line = '4KiB'\n{more}"
    )
}

fn fields() -> [String; 4] {
    [
        format!("Cookie: id={COOKIE}"),
        format!("Proxy-Authorization: Bearer {PROXY_AUTHORIZATION}"),
        format!("Referer: http://user:{USERINFO}@h/page?from={REFERER}#{REFERER}"),
        "User-Agent: t/1".to_owned(),
    ]
}

/// A URL with a secret before its host and one behind its path.
fn secret(url: &str) -> String {
    format!("{}?key={QUERY}", url.replacen("://", &format!("://user:{USERINFO}@"), 1))
}

/// Makes everything happen, with the secrets in it. What Larder itself answered, as bytes.
fn everything(proxy: &Proxy, origin: &Origin) -> Vec<(String, String)> {
    let fields = fields();
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    let authorization = format!("Authorization: Bearer {AUTHORIZATION}");
    let with = [&fields[..], &[authorization.as_str()]].concat();
    let mut pages = Vec::new();
    let get = |url: &str, fields: &[&str]| proxy.get_with(url, fields);

    let stored = secret(&origin.url("/stored"));
    get(&stored, &fields).assert_body(RECEIVED);
    get(&stored, &fields).assert_hit().assert_body(RECEIVED);
    for (path, status) in [("/missed", 200), ("/moved", 302), ("/stale", 200), ("/stale", 200)] {
        get(&secret(&origin.url(path)), &fields).assert_status(status);
        get(&secret(&origin.url(path)), &with).assert_status(status);
    }
    for _ in 0..2 {
        get(&secret("http://origin.test/x"), &with).assert_body(RECEIVED);
    }
    proxy.request("POST", &secret(&origin.url("/put")), &with, SENT).assert_body(RECEIVED);
    assert!(get(&secret(&origin.url("/cut")), &with).broken.is_some());

    let closed = nobody();
    let asked = |method: &str, url: &str, more: &str| {
        format!("{method} {url} HTTP/1.1\r\nHost: h\r\n{more}{}\r\n", lines(&with))
    };
    let refused = format!("http://user:{REFUSED}@127.0.0.1:22/?{REFUSED}");
    let named = format!("Authorization: Basic {REFUSED}\r\n");
    let requests = [
        ("connection refused", asked("GET", &secret(&format!("http://{closed}/")), "")),
        ("malformed fields", asked("GET", &secret(&origin.url("/broken")), "")),
        ("no HTTP", asked("GET", &secret(&origin.url("/banner")), "")),
        ("the parent's 407", asked("GET", &secret("http://origin.test/who"), "")),
        ("not stored", asked("GET", &secret(&origin.url("/none")), "Cache-Control: only-if-cached\r\n")),
        ("TRACE", asked("TRACE", &secret(&origin.url("/x")), &named)),
        ("a port", asked("GET", &refused, &named)),
        ("a port to CONNECT", asked("CONNECT", &format!("user:{REFUSED}@127.0.0.1:1"), &named)),
        ("a tunnel by the parent", asked("CONNECT", "origin.test:443", "")),
        ("a scheme", asked("GET", &format!("ftp://user:{REFUSED}@h/?{REFUSED}"), &named)),
        ("a bad port", asked("GET", &format!("http://user:{REFUSED}@h:99999/?{REFUSED}"), &named)),
        ("a long target", asked("GET", &format!("{refused}{}", "a".repeat(5_000)), &named)),
        ("one that is not parsed", asked("GET", &format!("{refused}{}", "a".repeat(80_000)), &named)),
        ("a malformed field", asked("GET", &refused, &format!("X Y: {REFUSED}\r\n"))),
        ("a malformed value", asked("GET", &refused, &format!("X: \0{REFUSED}\r\n"))),
        ("a malformed length", asked("GET", &refused, &format!("Content-Length: {REFUSED}\r\n"))),
        ("an unknown coding", asked("POST", &refused, &format!("Transfer-Encoding: {REFUSED}\r\n"))),
        ("a malformed method", asked(&format!("({REFUSED}"), &refused, &named)),
        ("two hosts", asked("GET", &refused, &format!("Host: user:{REFUSED}@h\r\n"))),
        ("a strange version", format!("GET {refused} {REFUSED}\r\nHost: h\r\n\r\n")),
        (
            "malformed chunks",
            asked("PUT", &secret(&origin.url("/put")), "Transfer-Encoding: chunked\r\n")
                + &format!("{REFUSED}\r\n{SENT}\r\n0\r\n\r\n"),
        ),
        ("an expectation", asked("PUT", &refused, &format!("Expect: {REFUSED}\r\nContent-Length: 4\r\n"))),
        ("itself", asked("GET", &format!("http://{}/?{QUERY}", proxy.address), "")),
        ("its admin listener", asked("GET", &format!("http://{}/?{QUERY}", proxy.admin), "")),
        ("its page", format!("GET /?{QUERY} HTTP/1.1\r\nHost: {}\r\n{}\r\n", proxy.address, lines(&with))),
        ("no page", format!("GET /none?{QUERY} HTTP/1.1\r\nHost: {}\r\n{}\r\n", proxy.address, lines(&with))),
    ];
    for (what, request) in requests {
        for accept in ["text/plain", "text/html", "application/json"] {
            let mut client = proxy.client();
            let head = request.replacen("\r\n", &format!("\r\nAccept: {accept}\r\n"), 1);
            client.send(head);
            client.wire.half_close();
            let method = request.split(' ').next().unwrap();
            let page = client.response(if method == "TRACE" { "GET" } else { method });
            assert!(page.status >= 400 || what.ends_with("page"), "{what}: {page}");
            pages.push((
                what.to_owned(),
                String::from_utf8_lossy(&page.head.bytes).into_owned() + &page.text(),
            ));
        }
    }

    // Tunnels: what passes in them is not looked at.
    for authority in [origin.address.to_string(), "granted.test:443".to_owned()] {
        let mut client = proxy.client();
        client.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{}\r\n", lines(&with)));
        client.head("CONNECT").assert_status(200);
        if authority.starts_with("granted") {
            client.send(SENT);
            assert_eq!(client.wire.exactly(SENT.len()).unwrap(), SENT.as_bytes());
        } else {
            client.request("POST", "/put", &with, SENT).assert_body(RECEIVED);
        }
        client.wire.close();
    }
    pages
}

fn lines(fields: &[&str]) -> String {
    fields.iter().map(|line| format!("{line}\r\n")).collect()
}

/// What the admin listener tells who has the token.
#[track_caller]
fn told(proxy: &Proxy, method: &str, path: &str, body: &str) -> String {
    let token = format!("Authorization: Bearer {ADMIN}");
    let fields = [token.as_str(), "Content-Type: application/json"];
    let host = format!("Host: 127.0.0.1:{}", proxy.admin.port());
    let response = proxy.admin(method, path, &[&fields[..], &[host.as_str()]].concat(), body);
    assert_eq!(response.status, 200, "{method} {path}: {response}");
    String::from_utf8_lossy(&response.head.bytes).into_owned() + &response.text()
}

fn encoded(url: &str) -> String {
    url.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// Purges and explanations with the whole URL, which only their own answers may repeat.
fn purge_and_explain(proxy: &Proxy, url: &str) {
    let field = encoded(&format!("Cookie: {COOKIE}"));
    told(proxy, "GET", &format!("/api/v1/explain?url={}&header={field}", encoded(url)), "");
    told(proxy, "POST", "/api/v1/purge", &serde_json::json!({ "url": url }).to_string());
    told(proxy, "POST", "/api/v1/purge", &serde_json::json!({ "glob": format!("*{QUERY}") }).to_string());
    let wrong = Client::connect(SocketAddr::from(([127, 0, 0, 1], proxy.admin.port()))).request(
        "POST",
        "/api/v1/purge",
        &[&format!("Authorization: Bearer {REFUSED}"), "Content-Type: application/json"],
        SENT,
    );
    assert!(wrong.status >= 400, "{wrong}");
    assert_none("the refusal of a wrong token", &wrong.text());
}

#[test]
fn planted_secrets_are_found_nowhere() {
    let (origin, parent) = (origin(), parent());
    for format in ["json", "text", "combined", "squid"] {
        let proxy = Proxy::builder()
            .config(&config(parent.address, &format!("log.access = '{format}'")))
            // All there is: what the libraries say, too.
            .environment("RUST_LOG", "trace")
            .admin_listen("0.0.0.0:0")
            .start();
        for (what, page) in everything(&proxy, &origin) {
            assert_none(&what, &page);
        }
        let exchanges = eventually("the exchanges", || {
            let told = told(&proxy, "GET", "/api/v1/exchanges", "");
            (told.matches("/stale").count() >= 4).then_some(told)
        });
        assert_none("exchanges", &exchanges);
        let listed: Value = serde_json::from_str(exchanges.split_once("\r\n\r\n").unwrap().1).unwrap();
        let explained = explain_each(&proxy, &listed);
        assert!(explained > 5, "{explained} of {listed:#}");

        let stored = told(&proxy, "GET", "/api/v1/stored", "");
        assert!(stored.contains("/stored") && stored.contains("/stale"), "{stored}");
        assert_none("stored", &stored);
        for path in ["/metrics", "/api/v1/stats", "/api/v1/sites", "/api/v1/config", "/", "/readyz"] {
            assert_none(path, &told(&proxy, "GET", path, ""));
        }
        purge_and_explain(&proxy, &secret(&origin.url("/stored")));

        // A change of secrets, and a file that is refused, are told without them.
        let other = config(parent.address, &format!("log.access = '{format}'\nproxy.forwarded_for = 'keep'"));
        proxy.write_config(&other.replace(PARENT, REFUSED).replace(ADMIN, &format!("{ADMIN}-2")));
        assert_none("a reload", &told(&proxy, "POST", "/api/v1/reload", ""));
        for wrong in [
            format!("upstream.parents = ['ftp://p:{REFUSED}@h']"),
            format!("upstream.parents = ['http://p:{REFUSED}@h:99999']"),
            format!("upstream.parents = ['http://p:{REFUSED}@h/path?{REFUSED}']"),
            format!("upstream.parents = 'p:{REFUSED}@'"),
            format!("admin.token = ['{REFUSED}']"),
        ] {
            proxy.write_config_raw(&wrong);
            let token = format!("Authorization: Bearer {ADMIN}-2");
            let host = format!("Host: 127.0.0.1:{}", proxy.admin.port());
            let refusal = proxy.admin("POST", "/api/v1/reload", &[&token, &host], "");
            refusal.assert_status(422);
            assert_none(&wrong, &refusal.text());
        }

        let last = format!("/last{}", proxy.address.port());
        proxy.get(&origin.url(&last));
        proxy.log.wait("the last line", |line| line.contains(&last));
        let log = proxy.log.all().join("\n");
        assert!(log.contains("/stored") && log.contains("403") && log.contains("502"), "{log}");
        assert_none(format, &log);
        let diagnostics = proxy.diagnostics.all().join("\n");
        assert!(diagnostics.contains("connection broke"), "{diagnostics}");
        assert_none("the diagnostics", &diagnostics);
    }
}

/// Explains the listed exchanges that can be, and tells how many those were.
fn explain_each(proxy: &Proxy, listed: &Value) -> usize {
    let Some(exchanges) = listed["exchanges"].as_array() else { panic!("{listed:#}") };
    let fits = |exchange: &&Value| exchange["method"] == "GET" && exchange["result"] != "invalid";
    let mut explained = 0;
    for exchange in exchanges.iter().filter(fits) {
        let token = format!("Authorization: Bearer {ADMIN}");
        let host = format!("Host: 127.0.0.1:{}", proxy.admin.port());
        let path = format!("/api/v1/explain?exchange={}", exchange["seq"]);
        let told = proxy.admin("GET", &path, &[&token, &host], "");
        explained += usize::from(told.status == 200);
        assert_none(&format!("explain of {exchange}"), &told.text());
    }
    explained
}

#[test]
fn a_query_is_in_the_log_where_the_configuration_wants_it() {
    let origin = origin();
    let proxy = Proxy::with("log = { access = 'combined', query = true }");
    let fields = fields();
    proxy.get_with(&secret(&origin.url("/stored")), &fields.each_ref().map(String::as_str));
    let line = proxy.log.wait("the log", |l| l.contains("/stored"));
    assert!(line.contains(QUERY) && line.contains(REFERER), "{line}");
    assert_none("the rest of it", &line.replace(QUERY, "").replace(REFERER, ""));
}
