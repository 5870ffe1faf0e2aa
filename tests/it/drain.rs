//! SIGTERM finishes what runs and takes nothing new; a second signal ends at once.

use crate::support::proxy::Signal;
use crate::support::wire::Wire;
use crate::support::{Client, Gate, Origin, Proxy, eventually};
use larder::clock::Stopwatch;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

#[test]
fn sigterm_finishes_running_exchanges_and_exits_0() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/x", move |x| {
        x.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbo");
        held.pass();
        x.write("dy");
    });
    let mut proxy = Proxy::open();
    let mut clients: Vec<_> = (0..10).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.begin("POST", &origin.url("/x"), &[], "");
    }
    origin.wait("/x", 10);
    let idle = proxy.client();
    proxy.signal(Signal::TERM);
    eventually("readiness to end", || (proxy.admin("GET", "/readyz", &[], "").status == 503).then_some(()));
    proxy.admin("GET", "/healthz", &[], "").assert_status(200);
    let check = proxy.run(&["healthcheck"]);
    let told = String::from_utf8(check.stderr).unwrap();
    assert_eq!(
        (check.status.code(), told.as_str()),
        (Some(1), "larder: not ready: 503 Service Unavailable: draining\n")
    );
    eventually("no new connections", || TcpStream::connect(proxy.address).is_err().then_some(()));
    assert!(proxy.running());
    gate.open();
    for client in &mut clients {
        let response = client.response("POST");
        response.assert_status(200).assert_body("body");
    }
    assert_eq!(proxy.ended().code(), Some(0));
    drop(idle);
}

/// Downloads of their own, of one that all share, and uploads, all with five seconds before them still.
#[test]
fn two_hundred_exchanges_that_take_a_while_are_all_finished() {
    const EACH: usize = 50;
    let origin = Origin::start();
    let gate = Gate::new();
    for (path, fields) in [
        ("/stored", "Cache-Control: max-age=60"),
        ("/shared", "Cache-Control: max-age=60"),
        ("/passed", "Cache-Control: no-store"),
        ("/upload", "Cache-Control: no-store"),
    ] {
        let held = gate.clone();
        origin.on(path, move |x| {
            x.write(format!("HTTP/1.1 200 OK\r\n{fields}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbeg\r\n"));
            held.pass();
            let sent = x.body();
            for part in ["3\r\ninn", "\r\n3\r\ning", "\r\n0\r\n"] {
                std::thread::sleep(Duration::from_millis(1_700));
                x.write(part);
            }
            assert!(x.request.method == "GET" || sent.len() == 100_000, "{} bytes", sent.len());
            x.write("\r\n");
        });
    }
    let mut proxy = Proxy::with("server.drain = '60s'\nproxy.via = 'me'");
    let mut clients: Vec<(Client, bool)> = Vec::new();
    for number in 0..EACH {
        for path in ["/stored", "/shared", "/passed", "/upload"] {
            let query = if path == "/shared" { String::new() } else { format!("?{number}") };
            let url = origin.url(&format!("{path}{query}"));
            let mut client = proxy.client();
            let uploads = path == "/upload";
            if uploads {
                client.send(format!("PUT {url} HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n"));
                client.send(vec![b'x'; 40_000]);
            } else {
                client.begin("GET", &url, &[], "");
            }
            clients.push((client, uploads));
        }
    }
    origin.wait("/passed", EACH);
    origin.wait("/stored", EACH);
    origin.wait("/upload", EACH);
    let mut heads: Vec<_> = clients.iter_mut().map(|(client, _)| client.head("GET")).collect();
    proxy.signal(Signal::TERM);
    proxy.diagnostics.wait("the drain", |line| line.contains("draining: "));
    gate.open();
    for (client, _) in clients.iter_mut().filter(|(_, uploads)| *uploads) {
        client.send(vec![b'x'; 60_000]);
    }
    for ((client, _), head) in clients.iter_mut().zip(heads.drain(..)) {
        client.finish(head).assert_status(200).assert_body("beginning");
        assert!(client.wire.ends());
    }
    assert_eq!(proxy.ended().code(), Some(0));
    assert_eq!(origin.hits("/shared"), 1);
    let lines = proxy.log.all();
    assert_eq!(lines.len(), 4 * EACH, "each leaves its record");
    assert!(lines.iter().all(|line| !line.contains("\"complete\":false")), "{lines:#?}");
}

#[test]
fn sigint_ends_an_idle_proxy_at_once() {
    let mut proxy = Proxy::open();
    let _idle: Vec<Client> = (0..3).map(|_| proxy.client()).collect();
    proxy.signal(Signal::INT);
    assert_eq!(proxy.ended().code(), Some(0));
}

/// Both ends of a tunnel to `peer`.
fn tunnel(proxy: &Proxy, peer: &TcpListener) -> (Client, Wire) {
    let authority = peer.local_addr().unwrap();
    let mut client = proxy.client();
    client.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"));
    client.head("CONNECT").assert_status(200);
    (client, Wire::plain(peer.accept().unwrap().0))
}

#[test]
fn tunnels_that_are_silent_end_with_the_drain_and_those_that_are_not_go_on() {
    let peer = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut proxy = Proxy::with("server.drain = '10min'");
    let tunnel = || tunnel(&proxy, &peer);
    let (mut silent, _far) = tunnel();
    let (mut busy, mut far) = tunnel();
    proxy.signal(Signal::TERM);
    // Bytes pass until the silent one has been ended.
    let ended = std::thread::spawn(move || silent.wire.ends());
    while !ended.is_finished() {
        busy.send("ping");
        assert_eq!(far.exactly(4).unwrap(), b"ping");
        std::thread::yield_now();
    }
    assert!(ended.join().unwrap());
    busy.send("last");
    assert_eq!(far.exactly(4).unwrap(), b"last");
    busy.wire.half_close();
    far.half_close();
    assert_eq!(proxy.ended().code(), Some(0));
}

/// Those that have been silent for two seconds when the drain begins are closed there and then; those that never are
/// end with the drain's time.
#[test]
fn tunnels_that_were_silent_before_end_at_once_and_busy_ones_at_the_limit() {
    let peer = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut proxy = Proxy::with("server.drain = '3s'");
    let tunnel = || tunnel(&proxy, &peer);
    let silent: Vec<_> = (0..10).map(|_| tunnel()).collect();
    let silence = Stopwatch::start();
    let (mut busy, mut far) = tunnel();
    let mut pass = || {
        let passed = busy.wire.write("ping").is_ok() && far.exactly(4).is_ok_and(|bytes| bytes == b"ping");
        std::thread::sleep(Duration::from_millis(10));
        passed
    };
    while silence.elapsed() < Duration::from_millis(2_100) {
        assert!(pass());
    }
    proxy.signal(Signal::TERM);
    let drain = Stopwatch::start();
    for (mut client, mut far) in silent {
        assert!(client.wire.ends() && far.ends());
    }
    let (at_once, mut passed) = (drain.elapsed(), 0);
    while pass() {
        passed += 1;
    }
    // The limit is far off when they end, and not when this one does.
    assert!(at_once < Duration::from_millis(1_500), "{at_once:?}");
    assert!(passed > 0 && drain.elapsed() > Duration::from_millis(2_500), "{:?}", drain.elapsed());
    assert_eq!(proxy.ended().code(), Some(0));
    proxy.log.wait_count("the records", 11, |line| line.contains("\"tunnel\""));
}

#[test]
fn a_second_signal_ends_at_once() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/x", move |x| {
        held.pass();
        x.reply("200 OK", &[], "late");
    });
    let mut proxy = Proxy::with("server.drain = '10min'");
    let mut client = proxy.client();
    client.begin("GET", &origin.url("/x"), &[], "");
    origin.wait("/x", 1);
    proxy.signal(Signal::TERM);
    eventually("the drain", || (proxy.admin("GET", "/readyz", &[], "").status == 503).then_some(()));
    assert!(proxy.running());
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.ended().code(), Some(1), "cut off by hand is not drained");
    gate.open();
}

#[test]
fn the_drain_has_a_limit() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/x", move |x| held_forever(x, &held));
    let mut proxy = Proxy::with("server.drain = '200ms'");
    let mut client = proxy.client();
    client.begin("GET", &origin.url("/x"), &[], "");
    origin.wait("/x", 1);
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.ended().code(), Some(0), "the drain did what it promises");
    let told = proxy.diagnostics.wait("who is cut off", |l| l.contains("cut off"));
    assert!(told.contains("server.drain: 200ms"), "{told}");
    gate.open();
}

#[test]
fn what_a_drain_cuts_off_leaves_its_records() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/x", move |x| held_forever(x, &held));
    for (limit, signals) in [("100ms", 1), ("10min", 2)] {
        let mut proxy = Proxy::with(&format!("server.drain = '{limit}'"));
        let before = origin.hits("/x");
        let mut clients: Vec<_> = (0..20).map(|_| proxy.client()).collect();
        for client in &mut clients {
            client.begin("POST", &origin.url("/x"), &[], "");
        }
        origin.wait("/x", before + 20);
        let mut tunnel = proxy.client();
        tunnel.send(format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", origin.address));
        tunnel.head("CONNECT").assert_status(200);
        proxy.signal(Signal::TERM);
        if signals == 2 {
            proxy.diagnostics.wait("the drain", |l| l.contains("draining"));
            proxy.signal(Signal::TERM);
        }
        proxy.ended();
        proxy.log.wait_count("the records", 21, |l| l.contains("POST") || l.contains("CONNECT"));
    }
    gate.open();
}

fn held_forever(x: &mut crate::support::Exchange, gate: &Gate) {
    gate.pass();
    x.reply("200 OK", &[], "too late");
}

#[test]
fn the_last_answer_on_a_kept_connection_says_close() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/x", move |x| {
        held.pass();
        x.reply("200 OK", &[], "x");
    });
    let mut proxy = Proxy::open();
    let mut client = proxy.client();
    client.begin("GET", &origin.url("/x"), &[], "");
    origin.wait("/x", 1);
    proxy.signal(Signal::TERM);
    eventually("the drain", || (proxy.admin("GET", "/readyz", &[], "").status == 503).then_some(()));
    gate.open();
    let response = client.response("GET");
    response.assert_body("x");
    assert_eq!(response.field("connection").as_deref(), Some("close"));
    assert!(client.wire.ends());
    assert_eq!(proxy.ended().code(), Some(0));
}
