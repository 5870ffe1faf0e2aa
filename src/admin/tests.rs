//! The admin listener over real sockets.

use super::{Admin, Control, ControlError, LIMITS, Limits, Options, PurgeWhat, Purged, Reloaded};
use crate::shutdown::Shutdown;
use crate::telemetry::{AccessLog, Format, Gauges, Metrics, Recent, Telemetry};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A listener, and what was asked of its [`Control`].
struct Running {
    address: SocketAddr,
    options: Arc<ArcSwap<Options>>,
    shutdown: Shutdown,
    ready: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn start(bind: &str, options: Options) -> Running {
    start_limited(bind, options, LIMITS).await
}

async fn start_limited(bind: &str, options: Options, limits: Limits) -> Running {
    let listener = TcpListener::bind(bind).await.unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()));
    let log = AccessLog::new(
        &crate::telemetry::Options { access: Format::Off, ..Default::default() },
        Box::new(std::io::sink()),
    );
    let telemetry = Arc::new(Telemetry { log: log.unwrap(), metrics: Metrics::new(), recent: Recent::new() });
    let (options, shutdown) = (Arc::new(ArcSwap::from_pointee(options)), Shutdown::new());
    let (ready, asked) = (Arc::new(AtomicBool::new(true)), Arc::<Mutex<Vec<String>>>::default());
    let note = |asked: &Arc<Mutex<Vec<String>>>, what: String| asked.lock().push(what);
    let control = Control {
        proxies: vec![([127, 0, 0, 1], 3128).into()],
        ready: Box::new({
            let ready = Arc::clone(&ready);
            move || ready.load(Ordering::SeqCst)
        }),
        gauges: Box::new(Gauges::default),
        purge: Box::new({
            let asked = Arc::clone(&asked);
            move |purge| {
                note(&asked, format!("{purge:?}"));
                Box::pin(async move {
                    match purge.what {
                        PurgeWhat::Url(url) if !url.contains(':') => {
                            Err(ControlError::Invalid(format!("{url} is no URL")))
                        }
                        _ => Ok(Purged { purged: 3, dry_run: purge.dry_run }),
                    }
                })
            }
        }),
        explain: Box::new({
            let asked = Arc::clone(&asked);
            move |explain| {
                note(&asked, format!("{explain:?}"));
                Box::pin(async move { Ok(serde_json::json!({ "url": explain.url })) })
            }
        }),
        stored: Box::new({
            let asked = Arc::clone(&asked);
            move |stored| {
                note(&asked, format!("{stored:?}"));
                Box::pin(async move { Ok(serde_json::json!({ "responses": [] })) })
            }
        }),
        config: Box::new(|| Box::pin(async { Ok(serde_json::json!({ "settings": [] })) })),
        reload: Box::new({
            let asked = Arc::clone(&asked);
            move || {
                note(&asked, "reload".into());
                let times = asked.lock().len();
                Box::pin(async move {
                    match times {
                        1 => Ok(Reloaded { live: vec!["log.access".into()], restart: vec![] }),
                        _ => Err(ControlError::Refused(vec!["line 1: a".into(), "line 2: b".into()])),
                    }
                })
            }
        }),
    };
    let task = tokio::spawn({
        let mut admin = Admin::new(&listener, Arc::clone(&options), telemetry, control, shutdown.clone());
        admin.limits = limits;
        Arc::new(admin).accept(listener)
    });
    Running { address, options, shutdown, ready, asked, task }
}

async fn on_loopback() -> Running {
    start("127.0.0.1:0", Options::default()).await
}

/// The whole answer: status, head in lower case, body.
struct Got {
    status: u16,
    head: String,
    body: String,
}

impl Got {
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

impl Running {
    async fn raw(&self, request: &str) -> Got {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Got { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    /// With a Host of ours, and these further fields.
    async fn ask(&self, method: &str, path: &str, fields: &str, content: &str) -> Got {
        let length = content.len();
        self.raw(&format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-length: {length}\r\nconnection: close\r\n{fields}\r\n{content}",
            self.address
        ))
        .await
    }

    async fn get(&self, path: &str) -> Got {
        self.ask("GET", path, "", "").await
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().clone()
    }
}

#[tokio::test]
async fn pages_have_their_types_and_the_security_fields() {
    let admin = on_loopback().await;
    for (path, media_type, holds) in [
        ("/", "text/html; charset=utf-8", "<script src=\"/dashboard.js\""),
        ("/dashboard.css", "text/css; charset=utf-8", "prefers-color-scheme"),
        ("/dashboard.js", "text/javascript; charset=utf-8", "/api/v1/exchanges"),
        ("/api/v1/openapi.json", "application/json", "\"openapi\""),
        ("/api/v1/exchanges?after=3", "application/json", "\"next\""),
        ("/api/v1/config", "application/json", "\"settings\""),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8", "\nlarder_ready 1\n"),
        ("/healthz", "text/plain; charset=utf-8", "ok"),
        ("/readyz", "text/plain; charset=utf-8", "ready"),
        ("/api/v1/stats", "application/json", "\"by_result\""),
        ("/nothing", "application/problem+json", "nothing here"),
    ] {
        let got = admin.get(path).await;
        assert_eq!(got.status, if path == "/nothing" { 404 } else { 200 }, "{path}");
        assert!(got.head.contains(&format!("content-type: {media_type}\r\n")), "{path}: {}", got.head);
        assert!(got.body.contains(holds), "{path}: {}", got.body);
        for field in [
            "cache-control: no-store",
            "content-security-policy: default-src 'none'; frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "x-frame-options: deny",
        ] {
            assert!(got.head.contains(field), "{path}: {field}");
        }
        let head = admin.ask("HEAD", path, "", "").await;
        assert_eq!((head.status, head.body.as_str()), (got.status, ""), "{path}");
    }
}

#[tokio::test]
async fn ready_turns_503_while_starting_and_while_draining_but_health_stays() {
    let admin = on_loopback().await;
    admin.ready.store(false, Ordering::SeqCst);
    assert_eq!(admin.get("/readyz").await.status, 503);
    admin.ready.store(true, Ordering::SeqCst);
    assert_eq!(admin.get("/readyz").await.status, 200);
    admin.shutdown.drain();
    let got = admin.get("/readyz").await;
    assert_eq!((got.status, got.json()["detail"].as_str()), (503, Some("draining")));
    assert_eq!(admin.get("/healthz").await.status, 200);
    assert!(admin.get("/metrics").await.body.contains("\nlarder_ready 0\n"));
}

#[tokio::test]
async fn idle_admin_connections_do_not_hold_up_the_drain() {
    let admin = on_loopback().await;
    let mut idle = TcpStream::connect(admin.address).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    assert!(idle.read(&mut [0; 1024]).await.unwrap() > 0);
    admin.shutdown.drain();
    admin.shutdown.finished().await;
}

#[tokio::test]
async fn get_changes_nothing_and_wrong_methods_are_told_the_right_one() {
    let admin = on_loopback().await;
    for (method, path, allow) in [
        ("GET", "/api/v1/purge", "post"),
        ("GET", "/api/v1/reload", "post"),
        ("HEAD", "/api/v1/reload", "post"),
        ("PUT", "/api/v1/purge", "post"),
        ("DELETE", "/api/v1/purge", "post"),
        ("POST", "/metrics", "get, head"),
        ("POST", "/api/v1/explain?url=http://h/", "get, head"),
        ("OPTIONS", "/api/v1/stats", "get, head"),
    ] {
        let got = admin.ask(method, path, "", "").await;
        assert_eq!(got.status, 405, "{method} {path}");
        assert!(got.head.contains(&format!("allow: {allow}\r\n")), "{method} {path}: {}", got.head);
    }
    assert_eq!(admin.asked(), [""; 0]);
}

#[tokio::test]
async fn a_name_of_somebody_else_gets_421() {
    let admin = start("127.0.0.1:0", Options { hosts: vec!["cache.lan".into()], ..Options::default() }).await;
    for (host, status) in
        [("localhost", 200), ("[::1]:1", 200), ("CACHE.lan:9", 200), ("evil.example", 421), ("", 421)]
    {
        let got =
            admin.raw(&format!("GET /metrics HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")).await;
        assert_eq!(got.status, status, "{host}");
    }
    let forged = "POST /api/v1/purge HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\ncontent-length: 12\r\n\r\n{\"all\":true}";
    assert_eq!(admin.raw(forged).await.status, 421);
    let proxied = "GET http://evil.example/ HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    assert_eq!(admin.raw(proxied).await.status, 421);
    assert_eq!(admin.asked(), [""; 0]);
    admin.options.store(Arc::new(Options { hosts: vec!["evil.example".into()], ..Options::default() }));
    assert_eq!(admin.raw(&forged.replace("all", "ALL")).await.status, 400, "settings change live");
}

#[tokio::test]
async fn a_page_of_another_site_changes_nothing() {
    let admin = on_loopback().await;
    for fields in [
        "origin: http://evil.example\r\n",
        "origin: null\r\n",
        "sec-fetch-site: cross-site\r\n",
        "sec-fetch-site: same-site\r\n",
    ] {
        assert_eq!(
            admin.ask("POST", "/api/v1/purge", fields, "{\"all\":true}").await.status,
            403,
            "{fields}"
        );
        assert_eq!(
            admin.ask("GET", "/api/v1/explain?url=http://h/", fields, "").await.status,
            403,
            "{fields}"
        );
    }
    assert_eq!(admin.asked(), [""; 0]);
    let own = format!("origin: http://{}\r\nsec-fetch-site: same-origin\r\n", admin.address);
    assert_eq!(admin.ask("POST", "/api/v1/purge", &own, "{\"all\":true}").await.status, 200);
}

#[tokio::test]
async fn beyond_loopback_changes_need_the_token_and_guesses_run_out() {
    let admin = start("0.0.0.0:0", Options { token: Some("s3cret".into()), ..Options::default() }).await;
    let purge = |token: &'static str| admin.ask("POST", "/api/v1/purge", token, "{\"all\":true}");
    let refused = purge("").await;
    assert_eq!(refused.status, 401);
    assert!(refused.head.contains("www-authenticate: bearer"), "{}", refused.head);
    assert_eq!(purge("authorization: Bearer wrong\r\n").await.status, 401);
    assert_eq!(purge("authorization: Basic s3cret\r\n").await.status, 401);
    assert_eq!(purge("authorization: bearer s3cret\r\n").await.status, 200);
    assert_eq!(admin.get("/metrics").await.status, 200);
    assert_eq!(admin.asked().len(), 1);
    for _ in 0..7 {
        assert_eq!(purge("authorization: Bearer wrong\r\n").await.status, 401);
    }
    assert_eq!(purge("authorization: Bearer wrong\r\n").await.status, 429);
    assert_eq!(purge("authorization: Bearer s3cret\r\n").await.status, 429);
    assert_eq!(admin.asked().len(), 1);
}

#[tokio::test]
async fn beyond_loopback_nothing_changes_where_no_token_is_set() {
    let admin = start("0.0.0.0:0", Options::default()).await;
    let got = admin.ask("POST", "/api/v1/reload", "authorization: Bearer \r\n", "").await;
    assert_eq!(got.status, 403);
    assert!(got.body.contains("admin.token"), "{}", got.body);
    assert_eq!(admin.asked(), [""; 0]);
}

#[tokio::test]
async fn purge_takes_one_thing_as_json() {
    let admin = on_loopback().await;
    let got = admin.ask("POST", "/api/v1/purge", "", r#"{"glob":"http://h/*","dry_run":true}"#).await;
    assert_eq!((got.status, got.json()), (200, serde_json::json!({ "purged": 3, "dry_run": true })));
    assert_eq!(admin.asked(), [r#"Purge { what: Glob("http://h/*"), dry_run: true }"#]);
    assert_eq!(admin.ask("POST", "/api/v1/purge", "", "{}").await.status, 400);
    let wrong = admin.ask("POST", "/api/v1/purge", "", r#"{"url":"h"}"#).await;
    assert_eq!((wrong.status, wrong.json()["detail"].as_str()), (400, Some("h is no URL")));
    let large = format!("{{\"url\":\"{}\"}}", "x".repeat(70_000));
    assert_eq!(admin.ask("POST", "/api/v1/purge", "", &large).await.status, 413);
}

#[tokio::test]
async fn explain_passes_the_url_and_the_fields_on() {
    let admin = on_loopback().await;
    let got = admin.get("/api/v1/explain?url=http%3A//h/%3Fq&header=Accept:%20text/html").await;
    assert_eq!((got.status, got.json()["url"].as_str()), (200, Some("http://h/?q")));
    assert!(admin.asked()[0].contains(r#""accept": "text/html""#), "{:?}", admin.asked());
    assert_eq!(admin.get("/api/v1/explain").await.status, 400);
}

#[tokio::test]
async fn reload_lists_what_changed_or_every_error() {
    let admin = on_loopback().await;
    let changed = admin.ask("POST", "/api/v1/reload", "", "").await;
    assert_eq!(
        (changed.status, changed.json()),
        (200, serde_json::json!({ "live": ["log.access"], "restart": [] }))
    );
    let refused = admin.ask("POST", "/api/v1/reload", "", "").await;
    assert_eq!(refused.status, 422);
    assert_eq!(refused.json()["errors"], serde_json::json!(["line 1: a", "line 2: b"]));
}

#[tokio::test]
async fn markup_that_comes_back_is_json_text_only() {
    let admin = on_loopback().await;
    let got = admin.get("/api/v1/explain?url=%3Cscript%3Ealert(1)%3C/script%3E&x=1").await;
    assert_eq!(got.status, 400);
    assert!(got.head.contains("content-type: application/problem+json") && got.head.contains("nosniff"));
}

#[tokio::test]
async fn clients_that_send_no_head_or_read_nothing_make_room_at_the_limits() {
    let short = std::time::Duration::from_millis(50);
    let limits = Limits { connections: 2, each: 2, head: short, lifetime: short, last_answer: short };
    let admin = start_limited("127.0.0.1:0", Options::default(), limits).await;
    for sent in ["", "GET / HT", "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"] {
        let mut slow = Vec::new();
        for _ in 0..5 {
            let mut stream = TcpStream::connect(admin.address).await.unwrap();
            stream.write_all(sent.as_bytes()).await.unwrap();
            slow.push(stream);
        }
        for mut stream in slow {
            assert!(stream.read_to_end(&mut Vec::new()).await.is_ok(), "closed by the listener: {sent:?}");
        }
    }
    let mut reads_nothing = TcpStream::connect(admin.address).await.unwrap();
    for _ in 0..400 {
        let request = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n";
        if reads_nothing.write_all(request).await.is_err() {
            break;
        }
    }
    assert_eq!(admin.get("/healthz").await.status, 200);
    assert_eq!(admin.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn beyond_loopback_what_shows_where_clients_go_needs_the_token_and_figures_do_not() {
    let admin = start("0.0.0.0:0", Options { token: Some("s3cret".into()), ..Options::default() }).await;
    for path in ["/api/v1/exchanges", "/api/v1/stored", "/api/v1/sites", "/api/v1/config"] {
        assert_eq!(admin.get(path).await.status, 401, "{path}");
        let token = "authorization: Bearer s3cret\r\n";
        assert_eq!(admin.ask("GET", path, token, "").await.status, 200, "{path}");
        let cross = format!("{token}sec-fetch-site: cross-site\r\n");
        assert_eq!(admin.ask("GET", path, &cross, "").await.status, 403, "{path}");
    }
    for path in ["/", "/dashboard.js", "/api/v1/stats", "/api/v1/openapi.json"] {
        assert_eq!(admin.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn the_page_may_run_its_own_script_and_nothing_else() {
    let admin = on_loopback().await;
    let head = admin.get("/").await.head;
    let policy = head.lines().find_map(|line| line.strip_prefix("content-security-policy: ")).unwrap();
    assert!(
        policy.contains("script-src 'self'") && policy.contains("require-trusted-types-for 'script'"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe") && !policy.contains('*') && !policy.contains("http"), "{policy}");
    let page = super::dashboard::PAGE;
    for outside in ["http:", "https:", "style=", "onclick", "<style", "<script>"] {
        assert!(!page.contains(outside), "{outside}");
    }
    for inner in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
        assert!(!super::dashboard::SCRIPT.contains(inner), "{inner}");
    }
}

#[test]
fn the_description_of_the_api_has_its_routes_with_their_methods_and_no_others() {
    use super::route::Route;
    let described: serde_json::Value = serde_json::from_str(super::dashboard::OPENAPI).unwrap();
    let paths = described["paths"].as_object().unwrap();
    let routes: Vec<_> = Route::ALL.iter().filter(|(path, _)| !path.starts_with("/dashboard.")).collect();
    for (path, route) in &routes {
        let methods: Vec<_> =
            paths.get(*path).unwrap_or_else(|| panic!("{path}")).as_object().unwrap().keys().collect();
        assert_eq!(methods, [if route.changes() { "post" } else { "get" }], "{path}");
        let operation = &paths[*path][methods[0]];
        assert!(operation["responses"]["200"].is_object() && operation["summary"].is_string(), "{path}");
        let guarded = operation.get("security").is_some();
        assert_eq!(guarded, route.guarded(), "{path}");
    }
    assert_eq!(paths.len(), routes.len());
}

#[tokio::test]
async fn an_explanation_is_told_as_text_where_text_is_wanted() {
    let admin = on_loopback().await;
    let got = admin.ask("GET", "/api/v1/explain?url=http://h/", "accept: text/plain\r\n", "").await;
    assert!(got.head.contains("content-type: text/plain"), "{}", got.head);
    assert_eq!(got.body, "url  http://h/\n");
    assert_eq!(admin.get("/api/v1/explain?exchange=1").await.status, 400);
}

#[tokio::test]
async fn listings_pass_their_parameters_on() {
    let admin = on_loopback().await;
    assert_eq!(admin.get("/api/v1/stored?sort=size&search=x&limit=7").await.status, 200);
    assert_eq!(admin.get("/api/v1/sites?search=x").await.status, 200);
    let asked = admin.asked();
    assert!(asked[0].contains("Size") && asked[0].contains("limit: 7"), "{asked:?}");
    assert!(asked[1].starts_with("Sites"), "{asked:?}");
    let wrong = admin.get("/api/v1/stored?sort=name").await;
    assert_eq!((wrong.status, wrong.head.contains("application/problem+json")), (400, true));
}
