//! SIGTERM finishes what runs and takes nothing new; a second signal ends at once.

use crate::support::proxy::Signal;
use crate::support::{Client, Gate, Origin, Proxy, eventually};
use std::net::TcpStream;

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

#[test]
fn sigint_ends_an_idle_proxy_at_once() {
    let mut proxy = Proxy::open();
    let _idle: Vec<Client> = (0..3).map(|_| proxy.client()).collect();
    proxy.signal(Signal::INT);
    assert_eq!(proxy.ended().code(), Some(0));
}

#[test]
fn tunnels_that_are_silent_end_with_the_drain_and_those_that_are_not_go_on() {
    let peer = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let authority = peer.local_addr().unwrap();
    let mut proxy = Proxy::with("server.drain = '10min'");
    let tunnel = || {
        let mut client = proxy.client();
        client.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"));
        client.head("CONNECT").assert_status(200);
        let far = crate::support::wire::Wire::plain(peer.accept().unwrap().0);
        (client, far)
    };
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
