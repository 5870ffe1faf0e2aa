//! `larder explain` tells what the proxy then does.

use crate::support::proxy::command;
use crate::support::{Client, Gate, Origin, Proxy, nobody};
use serde_json::Value;

/// What `larder explain --json` tells of a path.
#[track_caller]
fn explained(proxy: &Proxy, url: &str, fields: &[&str]) -> Value {
    let fields = fields.iter().flat_map(|field| ["-H", field]);
    let arguments: Vec<_> = ["explain", url, "--json"].into_iter().chain(fields).collect();
    let told = proxy.run(&arguments);
    assert!(told.status.success(), "{told:?}");
    serde_json::from_slice(&told.stdout).unwrap()
}

/// Explains a request, makes it, and holds one to the other: the plan, the verdict with its reason, and what
/// Cache-Status has for these.
#[track_caller]
fn check(proxy: &Proxy, url: &str, fields: &[&str], (plan, verdict): (&str, &str), cache_status: &[&str]) {
    let told = explained(proxy, url, fields);
    assert_eq!(told["decision"]["plan"], plan, "{told:#}");
    let judgement = &told["answer"]["judgement"];
    let reason = judgement["reason"]["token"].as_str().map_or_else(String::new, |token| format!(" {token}"));
    assert_eq!(format!("{}{reason}", judgement["verdict"].as_str().unwrap_or_default()), verdict, "{told:#}");
    let response = proxy.get_with(url, fields);
    let found = response.field("cache-status").unwrap();
    for item in cache_status {
        assert!(found.split("; ").any(|part| part == *item), "{item} is missing: {response}");
    }
}

/// The first request gets a stale response with that Cache-Control, the next ones what `fails` does.
fn fails_later(
    origin: &Origin,
    path: &str,
    cache_control: &'static str,
    fails: fn(&mut crate::support::Exchange),
) {
    origin.on(path, move |x| {
        if x.number == 1 {
            x.reply("200 OK", &[cache_control, "Age: 100", "ETag: \"v\""], "stale");
        } else {
            fails(x);
        }
    });
}

#[test]
fn explain_and_cache_status_agree() {
    let origin = Origin::start();
    origin.serve("/stored", "200 OK", &["Cache-Control: max-age=60"], b"x");
    origin.serve("/large", "200 OK", &["Cache-Control: max-age=60"], &[b'x'; 2000]);
    origin.serve("/no-store", "200 OK", &["Cache-Control: no-store"], b"x");
    fails_later(&origin, "/503", "Cache-Control: max-age=50, stale-if-error=600", |x| {
        x.reply("503 Service Unavailable", &[], "down");
    });
    fails_later(&origin, "/closed", "Cache-Control: max-age=50", crate::support::Exchange::close);
    origin.on("/part", |x| {
        let fields = |range: &str| {
            [
                "Cache-Control: max-age=60".to_owned(),
                "ETag: \"v\"".to_owned(),
                format!("Content-Range: bytes {range}/10"),
            ]
        };
        let (range, body) = match x.request.field("range").as_deref() {
            Some("bytes=0-3") => ("0-3", "0123"),
            Some("bytes=4-9" | "bytes=4-") => ("4-9", "456789"),
            _ => return x.reply("200 OK", &["Cache-Control: max-age=60", "ETag: \"v\""], "0123456789"),
        };
        let fields = fields(range);
        x.reply("206 Partial Content", &fields.each_ref().map(String::as_str), body)
    });
    let proxy = Proxy::with("cache = { max_object = '1KB', max_object_unknown_length = '1KB' }");
    let url = |path: &str| origin.url(path);
    check(&proxy, &url("/stored"), &[], ("fetch", "store"), &["fwd=uri-miss", "stored"]);
    check(&proxy, &url("/stored"), &[], ("serve", ""), &["hit"]);
    check(&proxy, &url("/large"), &[], ("fetch", "pass-through too-large"), &["detail=too-large"]);
    check(&proxy, &url("/no-store"), &[], ("fetch", "pass-through no-store"), &["detail=no-store"]);
    let no_store = &["Cache-Control: no-store"];
    let bypassed = ("bypass", "pass-through request-no-store");
    check(&proxy, &url("/stored"), no_store, bypassed, &["detail=request-no-store"]);
    for path in ["/503", "/closed"] {
        proxy.get(&url(path)).assert_body("stale");
        let stale = ("revalidate", "serve-stale stale-if-error");
        check(&proxy, &url(path), &[], stale, &["fwd=stale", "detail=stale-if-error"]);
    }
    proxy.get_with(&url("/part"), &["Range: bytes=0-3"]).assert_status(206);
    check(&proxy, &url("/part"), &[], ("complete", "combine"), &["fwd=partial", "stored"]);
    let asked: Vec<_> =
        origin.requests("/part").iter().map(|r| (r.field("range"), r.field("if-range"))).collect();
    assert_eq!(asked[1], asked[2], "explain asks what the proxy asks");
    proxy.get(&url("/part")).assert_hit().assert_body("0123456789");
    origin.on("/variants", |x| {
        let fields = ["Cache-Control: max-age=60", "Vary: X-A", "ETag: \"v\""];
        let known = x.request.field("if-none-match").as_deref() == Some("\"v\"");
        x.reply(if known { "304 Not Modified" } else { "200 OK" }, &fields, "x");
    });
    proxy.get_with(&url("/variants"), &["X-A: 1"]).assert_status(200);
    let other = ["fwd=vary-miss", "fwd-status=304"];
    check(&proxy, &url("/variants"), &["X-A: 2"], ("fetch", "freshen"), &other);
    let user = url("/stored").replace("//", "//user:secret@");
    check(&proxy, &user, &[], ("serve", ""), &["hit"]);
}

#[test]
fn explain_tells_that_the_cache_is_full() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/held", move |x| {
        x.write("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 500000\r\n\r\nx");
        held.pass();
        x.close();
    });
    origin.on("/x", |x| x.reply("200 OK", &["Cache-Control: max-age=60"], vec![b'x'; 100_000]));
    let proxy = Proxy::with("cache = { memory = '1MiB', max_object = '512KiB' }");
    let mut holding: Vec<Client> = Vec::new();
    for query in ["?1", "?2"] {
        let mut client = proxy.client();
        client.begin("GET", &origin.url(&format!("/held{query}")), &[], "");
        client.head("GET").assert_status(200);
        holding.push(client);
    }
    check(&proxy, &origin.url("/x"), &[], ("fetch", "pass-through no-room"), &["detail=no-room"]);
    gate.open();
}

#[test]
fn explain_tells_the_answer_that_stands_in_for_a_response() {
    let origin = Origin::start();
    let must = "Cache-Control: max-age=50, must-revalidate";
    fails_later(&origin, "/must", must, crate::support::Exchange::close);
    let proxy = Proxy::with("limits.request_line = '100B'\naccess.ports = [80, '1024-65535']");
    proxy.get(&origin.url("/must")).assert_body("stale");
    let held = nobody();
    let nobody = held.to_string();
    let long = origin.url(&format!("/{}", "x".repeat(100)));
    for (url, fields, says) in [
        (origin.url("/must"), &[][..], "must be validated"),
        (origin.url("/none"), &["Cache-Control: only-if-cached"], "only-if-cached"),
        (long, &[], "limits.request_line"),
        ("http://127.0.0.1:22/".to_owned(), &[], "port 22"),
        (format!("http://{nobody}/"), &[], nobody.as_str()),
    ] {
        let told = explained(&proxy, &url, fields);
        let response = proxy.get_with(&url, fields);
        assert_eq!(told["refused"]["status"], response.status, "{told:#}");
        assert!(told["refused"]["says"].as_str().unwrap().contains(says), "{told:#}");
        let text = proxy.run(
            &[&["explain", &url], &fields.iter().flat_map(|f| ["-H", f]).collect::<Vec<_>>()[..]].concat(),
        );
        let text = String::from_utf8(text.stdout).unwrap();
        assert!(text.contains(&format!("instead: {}", response.status)) && text.contains(says), "{text}");
    }
}

#[test]
fn explain_sends_what_the_proxy_sends() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        x.write("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n");
    });
    for policy in ["delete", "keep", "add"] {
        let proxy = Proxy::with(&format!("proxy.forwarded_for = '{policy}'\nproxy.via = 'tested'"));
        let fields = ["X-Forwarded-For: 192.0.2.1", "Connection: X-Hop", "X-Hop: 1", "X-Kept: 1"];
        let told = proxy.run(&[
            "explain",
            &origin.url("/x"),
            "-H",
            fields[0],
            "-H",
            fields[1],
            "-H",
            fields[2],
            "-H",
            fields[3],
        ]);
        let text = String::from_utf8(told.stdout).unwrap();
        assert!(text.contains("to be stored: 200, of unknown length"), "{text}");
        let explaining = origin.last("/x").head.fields;
        proxy.get_with(&origin.url("/x"), &fields);
        let mut sent = [explaining, origin.last("/x").head.fields];
        for fields in &mut sent {
            fields.sort();
        }
        assert_eq!(sent[0], sent[1], "{policy}");
    }
}

/// What a HEAD would be answered, and what it would do to what is stored; and that explaining does none of it.
#[test]
fn a_head_is_explained_as_a_head() {
    let origin = Origin::start();
    let changed = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let tag = std::sync::Arc::clone(&changed);
    origin.on("/x", move |x| {
        let tag =
            if tag.load(std::sync::atomic::Ordering::Relaxed) { "ETag: \"new\"" } else { "ETag: \"old\"" };
        x.reply("200 OK", &["Cache-Control: max-age=60", "Age: 50", tag], "x");
    });
    origin.serve("/none", "200 OK", &["Cache-Control: max-age=60"], b"");
    let proxy = Proxy::open();
    let url = origin.url("/x");
    let judged = |url: &str, fields: &[&str]| {
        let fields = fields.iter().flat_map(|field| ["-H", field]);
        let arguments: Vec<_> = ["explain", "-I", url, "--json"].into_iter().chain(fields).collect();
        let told: Value = serde_json::from_slice(&proxy.run(&arguments).stdout).unwrap();
        assert_eq!(told["decision"]["request"]["method"], "HEAD", "{told:#}");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&told["decision"]["plan"]), text(&told["answer"]["judgement"]["verdict"]))
    };
    let is = |plan: &str, verdict: &str| (plan.to_owned(), verdict.to_owned());
    assert_eq!(judged(&origin.url("/none"), &[]), is("fetch", "pass-through"));
    assert_eq!(origin.last("/none").method, "HEAD");
    proxy.get(&url).assert_status(200);
    assert_eq!(judged(&url, &[]), is("serve", ""));
    let anew = &["Cache-Control: max-age=0"][..];
    assert_eq!(judged(&url, anew), is("revalidate", "freshen"));
    assert_eq!(origin.last("/x").field("if-none-match"), None, "it goes as the proxy sends it");
    changed.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(judged(&url, anew), is("revalidate", "mark-stale"));
    proxy.get(&url).assert_hit();
    proxy.client().request("HEAD", &url, anew, "").assert_status(200);
    assert_eq!(judged(&url, &["Cache-Control: only-if-cached"]), is("unsatisfiable", ""), "now it is marked");
}

#[test]
fn an_explanation_from_what_is_stored_asks_no_origin_and_says_so() {
    const NOT_ASKED: &str = "\norigin: not asked\n";
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"x");
    let proxy = Proxy::open();
    let url = origin.url("/x");
    let told = |more: &[&str]| {
        let arguments = [&["explain", &url, "--offline"], more].concat();
        String::from_utf8(proxy.run(&arguments).stdout).unwrap()
    };
    let text = told(&[]);
    assert!(text.contains("plan: fetch (fwd=uri-miss)") && text.ends_with(NOT_ASKED), "{text}");
    assert_eq!(origin.hits("/x"), 0);
    proxy.get(&url).assert_status(200);
    let text = told(&[]);
    assert!(text.contains("plan: serve") && !text.contains(NOT_ASKED), "nothing to ask for: {text}");
    let text = told(&["-H", "Cache-Control: no-cache"]);
    assert!(text.contains("plan: revalidate") && text.ends_with(NOT_ASKED), "{text}");
    assert_eq!(origin.hits("/x"), 1);
    let held = nobody();
    let alone = command()
        .args(["--allow-private", "--admin-listen", &held.to_string(), "explain", "--offline", &url])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&alone.stdout).ends_with(NOT_ASKED), "{alone:?}");
    assert_eq!(origin.hits("/x"), 1);
}

#[test]
fn explain_alone_makes_the_request_itself_and_tells_it_in_json_too() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"x");
    let held = nobody();
    let nobody = held.to_string();
    let told = command()
        .args(["--allow-private", "--admin-listen", &nobody, "explain", "--json", &origin.url("/x")])
        .output()
        .unwrap();
    assert!(told.status.success(), "{told:?}");
    let value: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(
        (&value["decision"]["plan"], &value["answer"]["judgement"]["verdict"]),
        (&"fetch".into(), &"store".into())
    );
    assert_eq!(origin.hits("/x"), 1);
    assert!(String::from_utf8_lossy(&told.stderr).contains("with an empty cache"), "{told:?}");
}
