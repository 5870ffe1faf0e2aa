//! Requests that come again, to the byte, within the second: they have the same answer and a record each, and what
//! changes the answer changes it at once.

use crate::authentication::{BOB, Users};
use crate::support::proxy::Signal;
use crate::support::wire::Wire;
use crate::support::{Client, Gate, Origin, Proxy, Response, eventually};
use larder::clock::Stopwatch;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

static LARGER: &[u8; (64 << 10) + 1] = &[b'x'; (64 << 10) + 1];
/// The longest that is repeated.
static LARGE: &[u8] = LARGER.split_at(64 << 10).0;

fn origin() -> Origin {
    let origin = Origin::start();
    let fields = &["Cache-Control: max-age=600", "ETag: \"a\"", "X-Any: any"];
    origin.serve("/x", "200 OK", fields, b"0123456789");
    origin.serve("/empty", "200 OK", fields, b"");
    origin.serve("/short", "200 OK", fields, &LARGE[..4096]);
    origin.serve("/longer", "200 OK", fields, &LARGE[..4097]);
    origin.serve("/large", "200 OK", fields, LARGE);
    origin.serve("/larger", "200 OK", fields, LARGER);
    origin
}

/// All clients on one thread, which knows what any of them asked.
fn alone() -> Proxy {
    Proxy::with("server.workers = 1")
}

fn repeats(proxy: &Proxy) -> f64 {
    proxy.metric("larder_repeats_total", &[])
}

/// Asks until it has been answered as the same one before. A second that ends meanwhile makes it one more try.
#[track_caller]
fn until_repeated(proxy: &Proxy, mut ask: impl FnMut()) {
    eventually("a request that is answered as the one before", || {
        let before = repeats(proxy);
        (0..4).for_each(|_| ask());
        (repeats(proxy) > before).then_some(())
    });
}

/// All fields but those that time changes.
fn lasting(response: &Response) -> Vec<(String, String)> {
    let mut fields = response.head.fields.clone();
    fields.retain(|(name, _)| !matches!(name.to_lowercase().as_str(), "age" | "cache-status" | "date"));
    fields
}

/// Both tell of the same moment: of one that has passed, at most one of them would.
#[track_caller]
fn assert_age_and_ttl(response: &Response, lifetime: i64) {
    let Some(age) = response.field("age") else { return };
    let sum = age.parse::<i64>().unwrap() + response.cache().ttl().unwrap();
    assert!(sum == lifetime || sum == lifetime - 1, "{response}");
}

#[test]
fn it_has_the_same_answer_and_each_a_record() {
    let origin = origin();
    let proxy = Proxy::open();
    let mut client = proxy.client();
    let get = |method: &str, path: &str, client: &mut Client, fields: &[&str]| {
        client.request(method, &origin.url(path), fields, "")
    };
    let mut asked = 0;
    for (method, path, fields, status) in [
        ("GET", "/x", &[][..], 200),
        ("GET", "/empty", &[], 200),
        ("GET", "/short", &[], 200),
        ("GET", "/longer", &[], 200),
        ("GET", "/large", &["Accept: any"], 200),
        ("HEAD", "/x", &[], 200),
        ("GET", "/x", &["If-None-Match: \"a\""], 304),
        ("GET", "/x", &["If-Match: \"b\""], 412),
        ("GET", "/x", &["Range: bytes=99-"], 416),
    ] {
        get("GET", path, &mut client, &["Accept: something else"]);
        let first = get(method, path, &mut client, fields);
        first.assert_status(status).assert_hit();
        asked += 2;
        let mut ask = || {
            let again = get(method, path, &mut client, fields);
            again.assert_status(status).assert_hit().assert_body(&first.body);
            assert_eq!(lasting(&again), lasting(&first), "{method} {path}");
            assert_age_and_ttl(&again, 600);
            asked += 1;
        };
        until_repeated(&proxy, &mut ask);
        // The store is asked for some of these.
        (0..20).for_each(|_| ask());
    }
    assert_eq!(["/x", "/empty", "/short", "/longer", "/large"].map(|path| origin.hits(path)), [1; 5]);
    let counted = |result: &str| proxy.metric("larder_requests_total", &[&format!("result=\"{result}\"")]);
    assert!((counted("hit") + counted("miss") - f64::from(asked)).abs() < 0.1, "each is counted");
    let lines = || proxy.log.all().iter().filter(|line| line.contains("\"url\"")).count();
    eventually("a line each", || (lines() == asked as usize).then_some(()));
    let lines = proxy.log.all();
    let ids: std::collections::HashSet<String> = lines
        .iter()
        .filter_map(|line| {
            serde_json::from_str::<serde_json::Value>(line).ok()?["id"].as_str().map(str::to_owned)
        })
        .collect();
    assert_eq!(ids.len(), asked as usize, "each has an id of its own");
}

/// Asked all the time, it is as old as it is, and no longer fresh in time.
#[test]
fn time_goes_on_for_who_asks_without_a_pause() {
    let origin = Origin::start();
    origin.serve("/short", "200 OK", &["Cache-Control: max-age=2", "ETag: \"a\""], b"x");
    let proxy = Proxy::open();
    let mut client = proxy.client();
    let url = origin.url("/short");
    client.get(&url).assert_forwarded("uri-miss");
    let since = Stopwatch::start();
    let (mut ages, mut count) = (Vec::new(), 0);
    loop {
        let earliest = since.elapsed();
        let response = client.get(&url);
        if !response.is_hit() {
            response.assert_forwarded("stale");
            break;
        }
        // Less than a tick of the kernel's clock behind.
        assert!(earliest < Duration::from_millis(2020), "{earliest:?}");
        assert_age_and_ttl(&response, 2);
        ages.push(response.field("age").unwrap());
        count += 1;
    }
    ages.dedup();
    assert_eq!(ages, ["0", "1"]);
    assert!(repeats(&proxy) > 0.0 && count > 9);
}

fn gets(origin: &Origin) -> usize {
    origin.requests("/x").iter().filter(|request| request.method == "GET").count()
}

#[test]
fn what_changes_what_is_stored_changes_the_answer() {
    let origin = origin();
    let proxy = Proxy::open();
    let mut client = proxy.client();
    let url = origin.url("/x");
    origin.on("/x", |x| match x.request.method.as_str() {
        "POST" => x.reply("204 No Content", &[], b""),
        _ => x.reply("200 OK", &["Cache-Control: max-age=600", "ETag: \"a\""], b"0123456789"),
    });
    for fetched in 1..9 {
        until_repeated(&proxy, || {
            client.get(&url).assert_body("0123456789");
        });
        assert_eq!(gets(&origin), 2 * fetched - 1);
        if fetched % 2 == 0 {
            assert!(proxy.run(&["purge", &url]).status.success());
        } else {
            // On a connection of its own: after content, hyper has what comes next.
            proxy.request("POST", &url, &[], "x").assert_status(204);
        }
        client.get(&url).assert_forwarded("uri-miss");
        assert!(proxy.run(&["purge", &url]).status.success());
    }
}

#[test]
fn a_newer_response_takes_the_place_of_the_one_that_was_repeated() {
    let origin = Origin::start();
    let proxy = alone();
    let mut client = proxy.client();
    let url = origin.url("/x");
    for version in 0..6 {
        let (tag, body) = (format!("ETag: \"{version}\""), "v".repeat(version + 1));
        let newer = body.clone();
        origin.on("/x", move |x| x.reply("200 OK", &["Cache-Control: max-age=600", &tag], &newer));
        client.get_with(&url, &["Cache-Control: no-cache"]).assert_body(&body);
        until_repeated(&proxy, || {
            let response = client.get(&url);
            response.assert_hit().assert_body(&body);
            assert_eq!(response.field("etag"), Some(format!("\"{version}\"")));
        });
    }
    // What is told of it by a HEAD, that it has changed: it is validated.
    origin.on("/x", |x| x.reply("200 OK", &["Cache-Control: max-age=600", "ETag: \"new\""], b"new"));
    until_repeated(&proxy, || {
        client.get(&url).assert_hit();
    });
    client.request("HEAD", &url, &["Cache-Control: no-cache"], "").assert_status(200);
    client.get(&url).assert_forwarded("stale").assert_body("new");
    // Another variant beside it: which one answers is to be decided each time.
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=600", "Vary: Accept"], b"varies");
    client.get_with(&url, &["Cache-Control: no-cache", "Accept: a"]).assert_body("varies");
    let before = repeats(&proxy);
    for _ in 0..9 {
        client.get_with(&url, &["Accept: a"]).assert_hit().assert_body("varies");
        client.get_with(&url, &["Accept: b"]).assert_status(200);
    }
    assert!((repeats(&proxy) - before).abs() < 0.1);
}

#[test]
fn a_reload_holds_from_the_next_request_on() {
    let origin = origin();
    let proxy = Proxy::open();
    let reload = |config: &str| {
        proxy.write_config(config);
        proxy.admin("POST", "/api/v1/reload", &[], "").assert_status(200);
    };
    let url = origin.url("/x");
    for _ in 0..4 {
        let mut client = proxy.client();
        until_repeated(&proxy, || {
            client.get(&url).assert_status(200);
        });
        reload("[[access.rules]]\nname = 'closed'\nhosts = ['127.0.0.1']\naction = 'deny'");
        client.get(&url).assert_status(403);
        reload("");
    }
    // Of what is allowed, much depends on what is not known of the request.
    for (config, more) in [
        ("limits.bytes_per_client = '1GiB'", 200),
        ("[[access.rules]]\nname = 'there'\naddresses = ['127.0.0.0/8']\naction = 'allow'", 200),
        ("[[access.rules]]\nname = 'short'\ntime_limit = '1h'\naction = 'allow'", 200),
        ("limits.requests_per_client = 3", 429),
    ] {
        reload(config);
        let (mut client, before) = (proxy.client(), repeats(&proxy));
        let told: Vec<u16> = (0..20).map(|_| client.get(&url).status).collect();
        assert!(told.contains(&more), "{config}: {told:?}");
        assert!((repeats(&proxy) - before).abs() < 0.1, "{config}");
    }
}

#[test]
fn what_one_client_may_have_another_may_not() {
    let origin = origin();
    let rule = "[[access.rules]]\nname = 'other'\nclients = ['127.0.0.2/32']\naction = 'deny'";
    let proxy = Proxy::with(&format!("server.workers = 1\n{rule}"));
    let url = origin.url("/x");
    let mut client = proxy.client();
    for _ in 0..4 {
        until_repeated(&proxy, || {
            client.get(&url).assert_status(200);
        });
        client_from("127.0.0.2", proxy.address).get(&url).assert_status(403);
    }
}

fn client_from(address: &str, proxy: SocketAddr) -> Client {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(address.parse().unwrap(), 0).into()).unwrap();
    socket.connect(&proxy.into()).unwrap();
    Client { wire: Wire::plain(TcpStream::from(socket)) }
}

/// Neither are those whose answer may be another one the next time.
#[test]
fn what_is_no_plain_request_is_never_repeated() {
    let origin = origin();
    let proxy = Proxy::open();
    let url = origin.url("/x");
    let authority = origin.address;
    for path in ["/x", "/larger"] {
        proxy.get(&origin.url(path));
    }
    let plain = format!("GET {url} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    let with = |field: &str| format!("GET {url} HTTP/1.1\r\nHost: {authority}\r\n{field}\r\n\r\n");
    for request in [
        with("Authorization: Basic eDp5"),
        with("Cookie: a=b"),
        with("Range: bytes=1-2"),
        with("Range: bytes=1-2, 4-5"),
        with("Cache-Control: max-age=60"),
        with("Cache-Control: min-fresh=60"),
        format!("GET {} HTTP/1.1\r\nHost: {authority}\r\n\r\n", origin.url("/larger")),
        with(&format!("X-Long: {}", "x".repeat(2048))),
        format!("GET {url} HTTP/1.0\r\nHost: {authority}\r\nConnection: keep-alive\r\n\r\n"),
    ] {
        let mut client = proxy.client();
        for _ in 0..9 {
            client.send(&request);
            client.response("GET").assert_hit();
        }
    }
    // Two at once: the end of the first lies within, as hyper sees it.
    for two in [plain.repeat(2), format!("{}{plain}", plain.replace('\r', ""))] {
        let mut client = proxy.client();
        for _ in 0..9 {
            client.send(&two);
            client.response("GET").assert_hit().assert_body("0123456789");
            client.response("GET").assert_hit().assert_body("0123456789");
        }
    }
    // What comes in two parts is read as it comes.
    let mut client = proxy.client();
    for _ in 0..9 {
        client.begin("GET", &url, &["Content-Length: 3"], "");
        client.send("abc");
        client.response("GET").assert_status(200);
    }
    assert!(repeats(&proxy).abs() < 0.1);
}

/// Whatever content looks like, and a field, and whatever lies behind content that nobody waited for.
#[test]
fn what_is_no_request_is_not_answered_as_one() {
    let origin = origin();
    origin.on("/up", |x| {
        let sent = x.body();
        x.reply("200 OK", &[], sent);
    });
    // Answers before it reads.
    origin.on("/early", |x| {
        x.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        x.body();
    });
    let (evil, authority) = ("e".repeat(99), origin.address);
    let newer = evil.clone();
    origin.on("/evil", move |x| x.reply("200 OK", &["Cache-Control: max-age=600"], &newer));
    let proxy = alone();
    let url = origin.url("/x");
    let plain = format!("GET {url} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    let head = |path: &str, more: &str| {
        format!("POST {} HTTP/1.1\r\nHost: {authority}\r\n{more}\r\n\r\n", origin.url(path))
    };
    // No two of them are the same.
    let begun = |round: usize| format!("GET {} HTTP/1.1\r\nRound: {round}\r\nX: ", origin.url("/evil"));
    proxy.get(&origin.url("/evil"));
    let mut client = proxy.client();
    for round in 0..4 {
        until_repeated(&proxy, || {
            client.send(&plain);
            client.response("GET").assert_body("0123456789");
        });
        let before = repeats(&proxy);
        let (count, mut other) = (origin.hits("/up"), proxy.client());
        other.send(head("/up", &format!("Content-Length: {}", plain.len())));
        origin.wait("/up", count + 1);
        other.send(&plain);
        other.response("POST").assert_status(200).assert_body(&plain);
        let mut other = proxy.client();
        other.send(begun(round));
        other.send(&plain);
        other.response("GET").assert_body(&evil);
        // The next head begins behind content that outlasts its response, where only hyper sees it.
        let (count, mut other) = (origin.hits("/early"), proxy.client());
        other.send(head("/early", "Transfer-Encoding: chunked"));
        origin.wait("/early", count + 1);
        other.response("POST").assert_status(200);
        other.send(format!("1\r\na\r\n0\r\n\r\n{}", begun(round)));
        eventually("the end of the upload", || origin.requests("/early")[count].whole);
        for _ in 0..2 {
            other.send(&plain);
            other.response("GET").assert_body(&evil);
            other.send(begun(round));
        }
        assert!((repeats(&proxy) - before).abs() < 0.1);
        client.send(&plain);
        client.response("GET").assert_body("0123456789");
    }
}

/// Parts of a representation may be as long as the whole, and are another answer.
#[test]
fn parts_that_are_as_long_as_the_whole_are_not_it() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=600"], LARGE.split_at(1000).0);
    let proxy = Proxy::open();
    let mut client = proxy.client();
    let url = origin.url("/x");
    client.get(&url);
    let mut last = 329;
    for tries in 0.. {
        let range = format!("Range: bytes=0-9, 20-{last}");
        let length = client.get_with(&url, &[&range]).assert_status(206).body.len();
        if length == 1000 {
            for _ in 0..9 {
                let parts = client.get_with(&url, &[&range]);
                assert_eq!((parts.status, parts.body.len()), (206, 1000));
                assert!(parts.text().to_lowercase().contains("content-range"));
            }
            break;
        }
        assert!(tries < 9, "{length}");
        last = last + 1000 - length;
    }
}

#[test]
fn a_user_is_asked_each_time() {
    let origin = origin();
    let proxy = Proxy::open();
    let url = origin.url("/x");
    let mut client = proxy.client();
    until_repeated(&proxy, || {
        client.get(&url).assert_status(200);
    });
    let users = Users::new();
    proxy.write_config(&format!("access.basic_file = '{}'", users.basic().display()));
    assert!(proxy.run(&["reload"]).status.success());
    let before = repeats(&proxy);
    for _ in 0..9 {
        client.get(&url).assert_status(407);
        client.get_with(&url, &[BOB]).assert_status(200);
    }
    assert!((repeats(&proxy) - before).abs() < 0.1);
}

/// Its first bytes are answered before there is anything else for this connection.
#[test]
fn who_asks_for_one_only_has_the_end_of_the_connection() {
    let origin = origin();
    let proxy = Proxy::with("server.workers = 1\nproxy.idle_timeout = '10min'");
    let url = origin.url("/large");
    until_repeated(&proxy, || {
        let mut client = proxy.client();
        let response = client.get_with(&url, &["Connection: close"]);
        response.assert_status(200).assert_body(LARGE);
        assert_eq!(response.field("connection").as_deref(), Some("close"));
        assert!(client.wire.ends());
    });
    // Also where it goes on with a connection that has served others.
    until_repeated(&proxy, || {
        let mut client = proxy.client();
        client.get_with(&origin.url("/x"), &["Cookie: never=repeated"]).assert_status(200);
        client.get_with(&url, &["Connection: close"]).assert_body(LARGE);
        assert!(client.wire.ends());
    });
}

/// What is left of an answer goes on when the client reads, at a drain too, and the next request waits for it.
#[test]
fn a_client_that_reads_late_gets_all_of_it_and_one_that_never_does_is_cut_off() {
    let origin = origin();
    let url = origin.url("/large");
    let request = format!("GET {url} HTTP/1.1\r\nHost: {}\r\n\r\n", origin.address);
    let hits = |proxy: &Proxy| proxy.log.all().iter().filter(|line| line.contains("\"hit\"")).count();
    // Asks until no more is answered, since the sockets are full, or so often. How often was it?
    let fill = |proxy: &Proxy, client: &mut Client, most: usize| {
        socket2::SockRef::from(client.wire.socket()).set_recv_buffer_size(16 << 10).unwrap();
        for answered in 0..most {
            let before = hits(proxy);
            client.send(&request);
            let since = Stopwatch::start();
            while hits(proxy) == before {
                if since.elapsed() > Duration::from_secs(1) {
                    return answered;
                }
                std::thread::yield_now();
            }
        }
        most
    };
    for (timeout, then) in [("60s", "reads"), ("60s", "drains"), ("3s", "waits")] {
        let config = format!("server.workers = 1\nproxy.between_bytes_timeout = '{timeout}'");
        let mut proxy = Proxy::with(&config);
        until_repeated(&proxy, || {
            proxy.client().get(&url).assert_status(200);
        });
        let mut client = proxy.client();
        let before = repeats(&proxy);
        let mut answered = fill(&proxy, &mut client, usize::MAX);
        assert!(repeats(&proxy) > before && answered > 1, "{answered}");
        if then == "waits" {
            proxy.wait_rejections("proxy.between_bytes_timeout", 1);
            continue;
        }
        if then == "drains" {
            // One with nothing unread, since what is closed with that is reset.
            loop {
                client = proxy.client();
                let again = fill(&proxy, &mut client, answered);
                if again == answered {
                    break;
                }
                // The kernel took less this time.
                answered = again;
            }
            proxy.signal(Signal::TERM);
            proxy.diagnostics.wait("the drain", |line| line.contains("draining: "));
        }
        for _ in 0..answered {
            client.response("GET").assert_hit().assert_body(LARGE);
        }
        if then == "drains" {
            assert_eq!(proxy.ended().code(), Some(0));
        } else {
            client.response("GET").assert_hit().assert_body(LARGE);
            client.get(&origin.url("/x")).assert_body("0123456789");
        }
    }
}

/// The next request is told that the connection ends, though it was repeated a moment before.
#[test]
fn a_drain_is_told_to_who_asks_again() {
    let origin = origin();
    let held = Gate::new();
    let gate = held.clone();
    origin.on("/held", move |x| {
        gate.pass();
        x.reply("200 OK", &[], b"");
    });
    let mut proxy = Proxy::open();
    let url = origin.url("/x");
    let mut client = proxy.client();
    let mut holds = proxy.client();
    holds.begin("GET", &origin.url("/held"), &[], "");
    origin.wait("/held", 1);
    until_repeated(&proxy, || {
        client.get(&url).assert_status(200);
    });
    // Idle connections are closed then, but not at once.
    let request = format!("GET {url} HTTP/1.1\r\nHost: {}\r\n\r\n", origin.address);
    proxy.signal(Signal::TERM);
    proxy.diagnostics.wait("the drain", |line| line.contains("draining: "));
    let before = repeats(&proxy);
    while client.wire.write(&request).is_ok() {
        let Ok(response) = client.try_response("GET") else { break };
        assert_eq!(response.field("connection").as_deref(), Some("close"));
    }
    assert!((repeats(&proxy) - before).abs() < 0.1);
    held.open();
    holds.response("GET").assert_status(200);
    assert_eq!(proxy.ended().code(), Some(0));
}
