//! What one client may cost: time, connections, memory, descriptors. What is over the limit ends or waits; the
//! others are served. And what the process takes for itself: its threads, and from where it dials.

use crate::forwarding::settled;
use crate::support::dns::{Answer, NameServer};
use crate::support::{Client, Gate, Origin, Proxy, eventually};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn a_client_that_does_not_finish_its_head_is_cut_off() {
    let proxy = Proxy::with("proxy = { head_timeout = '100ms', idle_timeout = '10min' }");
    for begun in ["GET http://127.0.0.1/", "GET http://127.0.0.1/ HTTP/1.1\r\nHost: h\r\nX-Slow: "] {
        let mut client = proxy.client();
        client.send(begun);
        assert!(client.wire.ends(), "{begun:?}");
    }
    proxy.wait_rejections("proxy.head_timeout", 2);
}

#[test]
fn a_head_that_begins_behind_another_request_has_the_same_limit() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"x");
    let proxy = Proxy::with("proxy = { head_timeout = '100ms', idle_timeout = '10min' }");
    let url = origin.url("/x");
    for (method, fields, content) in
        [("GET", "", ""), ("PUT", "Transfer-Encoding: chunked\r\n", "1\r\na\r\n0\r\n\r\n")]
    {
        let mut client = proxy.client();
        client.send(format!(
            "{method} {url} HTTP/1.1\r\nHost: h\r\n{fields}\r\n{content}GET {url} HTTP/1.1\r\nHo"
        ));
        client.response(method).assert_body("x");
        assert!(client.wire.ends(), "{method}");
    }
}

#[test]
fn a_client_that_asks_nothing_more_is_cut_off() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"x");
    let proxy = Proxy::with("proxy = { head_timeout = '10min', idle_timeout = '100ms' }");
    let mut client = proxy.client();
    client.get(&origin.url("/x")).assert_body("x");
    assert!(client.wire.ends());
    proxy.wait_rejections("proxy.idle_timeout", 1);
}

#[test]
fn an_upload_that_stalls_is_told_and_ended_on_both_sides() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        x.body();
        x.reply("200 OK", &[], "x");
    });
    let proxy = Proxy::with(
        "proxy.between_bytes_timeout = '100ms'\nupstream = { between_bytes_timeout = '10min', first_byte_timeout = '10min' }",
    );
    let mut client = proxy.client();
    client.send(format!("PUT {} HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhel", origin.url("/x")));
    let response = client.response("PUT");
    response.assert_error(400, "http_request_error");
    assert!(response.text().contains("100ms"), "{response}");
    assert!(client.wire.ends());
    assert_eq!(origin.wait_body("/x").whole, Some(false), "no end was invented");
    proxy.wait_rejections("proxy.between_bytes_timeout", 1);
}

#[test]
fn a_client_that_reads_nothing_is_cut_off_and_its_origin_let_go() {
    let origin = Origin::start();
    let gone = Gate::new();
    let seen = gone.clone();
    origin.on("/x", move |x| {
        x.write("HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n");
        let part = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        while x.written(&part) {}
        seen.open();
    });
    let proxy =
        Proxy::with("proxy.between_bytes_timeout = '100ms'\nupstream.between_bytes_timeout = '10min'");
    let mut client = proxy.client();
    client.begin("GET", &origin.url("/x"), &[], "");
    client.head("GET").assert_status(200);
    gone.pass();
    let line = proxy.log.wait("the log", |l| l.contains("/x"));
    assert!(line.contains("\"complete\":false"), "{line}");
    proxy.wait_rejections("proxy.between_bytes_timeout", 1);
}

/// Each by one exchange alone, so that each counts what it says and nothing else.
#[test]
fn limits_that_an_origin_is_over_are_counted_each_by_its_key() {
    let origin = Origin::start();
    let fields = |count: usize| (0..count).map(|n| format!("X-{n}: a\r\n")).collect::<String>();
    let trailers = format!("0\r\nX-Long: {}\r\n\r\n", "a".repeat(17 << 10));
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n";
    let head = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n");
    let told = [
        ("response_head", head(&format!("X-Long: {}\r\n", "a".repeat(80 << 10)))),
        // More than hyper looks at, and one more than allowed.
        ("response_fields", head(&fields(300))),
        ("response_fields", head(&fields(200))),
        ("response_trailers", format!("{chunked}{trailers}")),
        ("interim", "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(11)),
        ("upstream.first_byte_timeout", String::new()),
        ("upstream.between_bytes_timeout", chunked.to_owned()),
    ];
    for (number, (_, bytes)) in told.iter().enumerate() {
        let bytes = bytes.clone();
        origin.on(&format!("/{number}"), move |x| {
            x.written(&bytes);
            x.wire().ends();
        });
    }
    let proxy = Proxy::with("upstream = { first_byte_timeout = '300ms', between_bytes_timeout = '300ms' }");
    let mut counts = std::collections::BTreeMap::new();
    for (number, (limit, _)) in told.iter().enumerate() {
        let mut client = proxy.client();
        client.begin("GET", &origin.url(&format!("/{number}")), &[], "");
        client.try_response("GET").ok();
        let count = counts.entry(limit).or_insert(0);
        *count += 1;
        proxy.wait_rejections(limit, *count);
    }
    let all = proxy.metric("larder_limit_rejections_total", &["limit=\""]);
    assert!((all - told.len() as f64).abs() < 0.1, "{all}");
}

#[test]
fn limits_on_connecting_are_counted_each_by_its_key() {
    let (address, _held) = crate::errors::black_hole("127.0.0.1:0".parse().unwrap());
    let names = NameServer::start();
    names.set("silent.test", Answer::Silence);
    let origin = Origin::start();
    origin.on("/x", |x| {
        x.wire().ends();
    });
    let limits = [
        "connect_timeout = '300ms'",
        "dns_timeout = '300ms'",
        "connections_per_origin = 1",
        "idle_per_origin = 1",
    ];
    let limits = limits.map(|limit| format!("upstream.{limit}\n")).concat();
    let proxy = Proxy::with(&(limits + &names.config()));
    proxy.get(&format!("http://{address}/")).assert_status(504);
    proxy.wait_rejections("upstream.connect_timeout", 1);
    proxy.get("http://silent.test/").assert_status(504);
    proxy.wait_rejections("upstream.dns_timeout", 1);
    let mut client = proxy.client();
    client.begin("GET", &origin.url("/x"), &[], "");
    origin.wait("/x", 1);
    proxy.get(&origin.url("/y")).assert_status(503);
    proxy.wait_rejections("upstream.connections_per_origin", 1);
}

/// The tenth origin's connection takes the place of the one used longest ago, whoever's that is.
#[test]
fn idle_connections_of_all_origins_have_a_limit() {
    let origins: Vec<_> = (0..10).map(|_| Origin::start()).collect();
    let proxy = Proxy::with("upstream.idle_connections = 4");
    for origin in &origins {
        origin.serve("/x", "200 OK", &["Cache-Control: no-store"], b"x");
        proxy.get(&origin.url("/x")).assert_body("x");
    }
    proxy.wait_rejections("upstream.idle_connections", 6);
    for (number, origin) in origins.iter().enumerate().rev() {
        proxy.get(&origin.url("/x")).assert_body("x");
        assert_eq!(origin.connections(), if number < 6 { 2 } else { 1 }, "the origin {number}");
    }
    wait_idle(&proxy, 4);
}

#[test]
fn idle_connections_of_one_origin_have_a_limit() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/x", move |x| {
        held.pass();
        x.reply("200 OK", &["Cache-Control: no-store"], "x");
    });
    let proxy = Proxy::with("upstream.idle_per_origin = 2");
    let mut clients: Vec<_> = (0..5).map(|_| proxy.client()).collect();
    for (at, client) in clients.iter_mut().enumerate() {
        client.begin("GET", &origin.url(&format!("/x?{at}")), &[], "");
    }
    origin.wait("/x", 5);
    gate.open();
    for client in &mut clients {
        client.response("GET").assert_body("x");
    }
    proxy.wait_rejections("upstream.idle_per_origin", 3);
    wait_idle(&proxy, 2);
}

/// Other settings than what a connection was opened by close it, and it takes no other's place.
#[test]
fn idle_connections_from_before_a_reload_are_closed_and_not_counted() {
    let origins: Vec<_> = (0..3).map(|_| Origin::start()).collect();
    let config = |timeout: &str| format!("upstream = {{ idle_connections = 3, idle_timeout = '{timeout}' }}");
    let proxy = Proxy::with(&config("60s"));
    let ask = || {
        for origin in &origins {
            origin.serve("/x", "200 OK", &["Cache-Control: no-store"], b"x");
            proxy.get(&origin.url("/x")).assert_body("x");
        }
        wait_idle(&proxy, 3);
    };
    ask();
    proxy.write_config(&config("50s"));
    assert!(proxy.run(&["reload"]).status.success());
    wait_idle(&proxy, 0);
    for _ in 0..3 {
        ask();
    }
    assert!(origins.iter().all(|origin| origin.connections() == 2));
    proxy.wait_rejections("upstream.idle_connections", 0);
}

#[track_caller]
fn wait_idle(proxy: &Proxy, count: usize) {
    eventually(&format!("{count} idle connections"), || {
        let found = proxy.metric("larder_upstream_connections", &["state=\"idle\""]);
        ((found - count as f64).abs() < 0.1).then_some(())
    });
}

/// It is remembered of each that it can't be shared, but not by its text, which clients may make long.
#[test]
fn long_urls_that_are_never_stored_leave_no_memory_behind() {
    const ONCE: usize = 250;
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: no-store"], b"x");
    let proxy =
        Proxy::with("cache.memory = '64MiB'\nlimits = { request_line = '60KiB', request_head = '64KiB' }");
    let mut client = proxy.client();
    let long = "a".repeat(55_000);
    let mut ask = |from: usize| {
        for number in from..from + ONCE / 10 {
            client.get(&origin.url(&format!("/x?{number}{long}"))).assert_status(200);
        }
    };
    ask(0);
    let before = proxy.memory("VmRSS");
    (1..=10).for_each(|round| ask(round * ONCE / 10));
    let grown = proxy.memory("VmRSS").saturating_sub(before);
    assert!(grown < (ONCE * long.len() / 2) as u64, "{grown} bytes for {ONCE} URLs");
}

#[test]
fn a_tunnel_that_ends_since_nothing_moves_is_counted() {
    let origin = Origin::start();
    let proxy = Proxy::with("proxy.tunnel_idle = '200ms'");
    let mut client = proxy.client();
    let at = origin.address;
    client.send(format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n"));
    client.head("CONNECT").assert_status(200);
    assert!(client.wire.ends());
    proxy.wait_rejections("proxy.tunnel_idle", 1);
}

#[test]
fn connections_have_a_limit_and_the_others_are_served() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"x");
    let proxy = Proxy::with("limits.connections = 2");
    let mut held = [proxy.client(), proxy.client()];
    for client in &mut held {
        drop(client.get(&origin.url("/x")));
    }
    assert!(proxy.client().wire.ends());
    assert!((proxy.metric("larder_limit_rejections_total", &["limit=\"connections\""]) - 1.0).abs() < 0.1);
    let [mut first, second] = held;
    second.wire.close();
    first.get(&origin.url("/x")).assert_body("x");
    eventually("a free place", || {
        let mut client = proxy.client();
        client.begin("GET", &origin.url("/x"), &[], "");
        client.try_response("GET").ok()
    })
    .assert_body("x");
}

/// An address of this machine that is not loopback, where it has one.
pub(crate) fn outward() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Sends nothing: it only asks for the route.
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback())
}

#[test]
fn connections_of_one_address_have_a_limit_and_loopback_is_exempt() {
    let Some(outward) = outward() else {
        return crate::support::skip("connections per client", "no network");
    };
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"x");
    let config = format!("limits.connections_per_client = 2\naccess.clients = ['{outward}']");
    let proxy = Proxy::builder().config(&config).listen(&["0.0.0.0:0"]).start();
    let connect = |ip| Client::connect(SocketAddr::new(ip, proxy.address.port()));
    let mut held = [connect(outward), connect(outward)];
    for client in &mut held {
        client.get(&origin.url("/x")).assert_body("x");
    }
    assert!(connect(outward).wire.ends());
    let refused = proxy.metric("larder_limit_rejections_total", &["limit=\"connections_per_client\""]);
    assert!((refused - 1.0).abs() < 0.1, "{refused}");
    let loopback = IpAddr::from([127, 0, 0, 1]);
    let mut many: Vec<_> = (0..5).map(|_| connect(loopback)).collect();
    for client in &mut many {
        client.get(&origin.url("/x")).assert_body("x");
    }
}

#[test]
fn a_client_that_asks_too_often_is_told_when_to_come_back() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"x");
    let proxy = Proxy::with("limits.requests_per_client = 2");
    let mut client = proxy.client();
    let answers: Vec<_> = (0..6).map(|_| client.get(&origin.url("/x"))).collect();
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    // On a slow machine one or two more may have been earned meanwhile.
    assert!((1..=4).contains(&refused.len()), "{answers:?}");
    assert!(answers[..2].iter().all(|answer| answer.status == 200), "{answers:?}");
    for answer in &refused {
        answer.assert_error(429, "http_request_denied");
        assert_eq!(answer.field("retry-after").as_deref(), Some("1"), "{answer}");
    }
    let told = proxy.metric("larder_limit_rejections_total", &["limit=\"requests_per_client\""]);
    assert!((told - refused.len() as f64).abs() < 0.1, "{told}");
    // Whatever it asks for.
    let mut other = proxy.client();
    let all: Vec<_> = (0..6)
        .map(|_| {
            other.send("CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: a\r\n\r\n");
            other.response("GET").status
        })
        .collect();
    assert!(all.contains(&429), "{all:?}");
    // A reload takes the limit away.
    proxy.write_config("");
    assert!(proxy.run(&["reload"]).status.success());
    for _ in 0..6 {
        client.get(&origin.url("/x")).assert_status(200);
    }
}

/// No faster than the rate allows; how much slower is not asked.
#[test]
fn a_client_gets_no_more_bytes_in_a_second_than_it_may() {
    const BODY: &[u8] = &[b'x'; 300_000];
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], BODY);
    // A second's worth may come at once. Who gets what he may is not idle, however long the rest takes.
    let proxy = Proxy::with("limits.bytes_per_client = '97KiB'\nproxy.idle_timeout = '600ms'");
    let mut client = proxy.client();
    for tunnelled in [false, false, true] {
        let began = larder::clock::Stopwatch::start();
        if tunnelled {
            client.send(format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", origin.address));
            client.response("CONNECT").assert_status(200);
            client.send(format!("GET /x HTTP/1.1\r\nHost: {}\r\n\r\n", origin.address));
            assert_eq!(client.response("GET").body.len(), BODY.len());
        } else {
            assert_eq!(client.get(&origin.url("/x")).body.len(), BODY.len());
        }
        // Less what may come at once, and the last piece, which nothing waits for.
        let least = (BODY.len() as f64 - 64.0 * 1024.0) / (97.0 * 1024.0) - 1.0;
        assert!(began.elapsed().as_secs_f64() > least, "{:?}, {tunnelled}", began.elapsed());
    }
}

#[test]
fn the_soft_limit_of_open_files_is_raised() {
    let proxy = Proxy::builder().ulimit("-S -n 64").start();
    assert!(proxy.metric("process_max_fds", &[]) > 64.0);
}

/// Who finds no place waits for one; who has one finds a way to the origin.
#[test]
fn a_thousand_clients_are_served_with_256_descriptors() {
    let origin = Origin::start();
    origin.on("/x", |x| x.reply("200 OK", &["Cache-Control: max-age=60"], "x"));
    for workers in ["'auto'", "16"] {
        let proxy = Proxy::builder().ulimit("-n 256").config(&format!("server.workers = {workers}")).start();
        assert_a_thousand_are_served(&proxy, &origin);
    }
}

fn assert_a_thousand_are_served(proxy: &Proxy, origin: &Origin) {
    let mut clients: Vec<_> = (0..1000).map(|_| proxy.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.begin("GET", &origin.url(&format!("/x?{number}")), &[], "");
    }
    for mut client in clients {
        client.response("GET").assert_status(200).assert_body("x");
    }
    assert!(proxy.metric("larder_accept_pauses_total", &[]) > 0.5, "there were too few places");
    proxy.get(&origin.url("/x?0")).assert_hit();
}

#[test]
fn clients_that_ask_nothing_give_way_where_descriptors_are_short() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"x");
    for workers in [1, 2] {
        let proxy = Proxy::builder().ulimit("-n 64").config(&format!("server.workers = {workers}")).start();
        let mut clients = Vec::new();
        // None of them leaves by itself, and there are more than places.
        for _ in 0..80 {
            let mut client = proxy.client();
            client.get(&origin.url("/x")).assert_body("x");
            clients.push(client);
        }
        // The one that was idle for longest: it was closed, and does not only say nothing.
        let Err(gone) = clients[0].try_response("GET") else { panic!("it was asked nothing") };
        assert!(matches!(gone.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{gone}");
        clients.last_mut().unwrap().get(&origin.url("/x")).assert_hit();
    }
}

#[test]
fn without_descriptors_accepting_pauses_and_recovers() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"x");
    let proxy = Proxy::builder().ulimit("-n 40").start();
    let mut early = proxy.client();
    early.get(&origin.url("/x")).assert_body("x");
    let crowd: Vec<_> = (0..60).map(|_| proxy.client()).collect();
    proxy.diagnostics.wait("the pause", |l| l.contains("accepting pauses"));
    early.get(&origin.url("/x")).assert_hit();
    drop(crowd);
    proxy.get(&origin.url("/x")).assert_hit();
    proxy.get(&origin.url("/x?new")).assert_body("x");
    assert!(proxy.metric("larder_accept_pauses_total", &[]) > 0.5);
}

#[test]
fn five_hundred_slow_clients_on_storable_responses_do_not_grow_the_process() {
    const LENGTH: usize = 1 << 20;
    const CLIENTS: usize = 500;
    let origin = Origin::start();
    let written = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&written);
    origin.on("/x", move |x| {
        let part = vec![b'x'; 64 * 1024];
        let chunked = x.request.target.ends_with('1');
        let framing =
            if chunked { "Transfer-Encoding: chunked".into() } else { format!("Content-Length: {LENGTH}") };
        x.write(format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n{framing}\r\n\r\n"));
        for _ in 0..LENGTH / part.len() {
            if chunked && !x.written("10000\r\n") || !x.written(&part) || chunked && !x.written("\r\n") {
                return;
            }
            counter.fetch_add(part.len(), Ordering::SeqCst);
        }
        if chunked {
            x.write("0\r\n\r\n");
        }
    });
    let proxy = Proxy::with("cache.memory = '16MiB'");
    let before = proxy.memory("VmRSS");
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| proxy.client()).collect();
    for (i, client) in clients.iter_mut().enumerate() {
        client.begin("GET", &origin.url(&format!("/x?{i}")), &[], "");
    }
    settled(&written);
    let grown = proxy.memory("VmHWM").saturating_sub(before);
    // What the store may hold, and each client's share; all bodies together are 500 MiB.
    let most = (16 << 20) + CLIENTS as u64 * (256 << 10);
    assert!(grown < most, "the process grew by {grown} bytes");
    for client in clients.iter_mut().rev().take(20) {
        let response = client.response("GET");
        assert_eq!((response.body.len(), response.broken), (LENGTH, None));
    }
}

#[test]
fn as_many_threads_serve_as_are_asked_for() {
    let threads = |workers: usize| Proxy::with(&format!("server.workers = {workers}")).threads();
    assert_eq!(threads(6) - threads(2), 4);
}

#[test]
fn origins_are_dialled_from_the_source_address() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"x");
    let proxy = Proxy::with("upstream.source_address = ['127.0.0.5']");
    proxy.get(&origin.url("/x")).assert_body("x");
    assert_eq!(origin.last("/x").peer, Some([127, 0, 0, 5].into()));
}
