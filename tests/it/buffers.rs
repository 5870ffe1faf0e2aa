//! What is buffered between clients and origins has one bound: who finds nothing left waits, and is told so when
//! that takes too long; what needs no buffer goes on.

use crate::forwarding::settled;
use crate::support::{Client, Gate, Origin, Proxy, eventually};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What one direction of an exchange takes: four windows of 64 KiB.
const DIRECTION: f64 = 262_144.0;

/// An origin whose `/held` begins a response and ends it when the gate opens.
fn origin() -> (Origin, Gate) {
    let (origin, gate) = (Origin::start(), Gate::new());
    let held = gate.clone();
    origin.on("/held", move |x| {
        x.write("HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 2\r\n\r\na");
        held.pass();
        x.write("b");
    });
    origin.serve("/stored", "200 OK", &["Cache-Control: max-age=60"], b"stored");
    origin.serve("/next", "200 OK", &["Cache-Control: no-store"], b"next");
    (origin, gate)
}

/// A client that has begun to read `/held`.
fn holder(proxy: &Proxy, origin: &Origin) -> (Client, crate::support::Response) {
    let mut client = proxy.client();
    client.begin("GET", &origin.url("/held"), &[], "");
    let response = client.head("GET");
    response.assert_status(200);
    (client, response)
}

#[track_caller]
fn used(proxy: &Proxy, expected: f64) {
    eventually(&format!("{expected} bytes in use"), || {
        ((proxy.metric("larder_buffer_bytes", &[]) - expected).abs() < 0.5).then_some(())
    });
}

#[test]
fn a_request_that_finds_no_buffer_waits_for_one_and_a_hit_needs_none() {
    let (origin, gate) = origin();
    let proxy = Proxy::with("limits.buffers = '512KiB'\nupstream.connect_timeout = '10min'");
    proxy.get(&origin.url("/stored")).assert_body("stored");
    let held = [holder(&proxy, &origin), holder(&proxy, &origin)];
    used(&proxy, 2.0 * DIRECTION);
    assert!((proxy.metric("larder_buffer_capacity_bytes", &[]) - 2.0 * DIRECTION).abs() < 0.5);
    let mut third = proxy.client();
    third.begin("GET", &origin.url("/next"), &[], "");
    eventually("somebody that waits", || {
        (proxy.metric("larder_buffer_waits_total", &[]) > 0.5).then_some(())
    });
    proxy.get(&origin.url("/stored")).assert_hit();
    assert_eq!(origin.hits("/next"), 0);
    gate.open();
    third.response("GET").assert_body("next");
    for (mut client, head) in held {
        client.finish(head).assert_body("ab");
    }
    used(&proxy, 0.0);
}

#[test]
fn a_request_that_waits_too_long_for_a_buffer_is_told_so() {
    let (origin, gate) = origin();
    let proxy = Proxy::with("limits.buffers = '512KiB'\nupstream.connect_timeout = '100ms'");
    let _held = [holder(&proxy, &origin), holder(&proxy, &origin)];
    let response = proxy.get(&origin.url("/next"));
    response.assert_error(503, "connection_limit_reached");
    assert!(response.text().contains("limits.buffers"), "{response}");
    assert_eq!(origin.hits("/next"), 0);
    gate.open();
    used(&proxy, 0.0);
    proxy.get(&origin.url("/next")).assert_body("next");
}

#[test]
fn an_upload_takes_a_buffer_for_each_direction_and_a_broken_one_gives_them_back() {
    let (origin, gate) = origin();
    let proxy = Proxy::open();
    let held = gate.clone();
    origin.on("/up", move |x| {
        held.pass();
        x.body();
        x.reply("200 OK", &[], "x");
    });
    let mut client = proxy.client();
    client.send(format!("PUT {} HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhel", origin.url("/up")));
    origin.wait("/up", 1);
    used(&proxy, 2.0 * DIRECTION);
    client.wire.reset();
    gate.open();
    used(&proxy, 0.0);
}

#[test]
fn a_fill_without_a_client_holds_its_buffer_to_its_end() {
    let (origin, gate) = origin();
    let proxy = Proxy::open();
    let held = gate.clone();
    origin.on("/fill", move |x| {
        x.write("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 2\r\n\r\na");
        held.pass();
        x.write("b");
    });
    let mut client = proxy.client();
    client.begin("GET", &origin.url("/fill"), &[], "");
    client.head("GET").assert_status(200);
    used(&proxy, DIRECTION);
    client.wire.reset();
    proxy.log.wait("the end of the exchange", |l| l.contains("/fill"));
    used(&proxy, DIRECTION);
    gate.open();
    used(&proxy, 0.0);
    proxy.get(&origin.url("/fill")).assert_hit();
}

#[test]
fn a_tunnel_holds_a_buffer_only_while_bytes_are_in_it() {
    let (origin, gate) = origin();
    let proxy = Proxy::with("limits.buffers = '512KiB'");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    let mut client = proxy.client();
    client.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"));
    client.head("CONNECT").assert_status(200);
    let mut peer = crate::support::wire::Wire::plain(listener.accept().unwrap().0);
    client.send("ping");
    assert_eq!(peer.exactly(4).unwrap(), b"ping");
    used(&proxy, 0.0);
    let _held = [holder(&proxy, &origin), holder(&proxy, &origin)];
    client.send("again");
    eventually("a tunnel that waits", || {
        (proxy.metric("larder_buffer_waits_total", &[]) > 0.5).then_some(())
    });
    gate.open();
    assert_eq!(peer.exactly(5).unwrap(), b"again");
    peer.write("pong").unwrap();
    assert_eq!(client.wire.exactly(4).unwrap(), b"pong");
    used(&proxy, 0.0);
}

/// What its client has not taken is still there when the origin has long been done with it. How long a response
/// must be for that depends on the kernel: one that fits into its buffers is gone, of a longer one the origin still
/// has something to send.
#[test]
fn a_response_holds_its_buffer_until_its_client_has_taken_it() {
    const PIECE: usize = 16 * 1024;
    let origin = Origin::start();
    let written = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&written);
    origin.on("/x", move |x| {
        let length: usize = x.request.target.split_once('?').unwrap().1.parse().unwrap();
        x.write(format!("HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: {length}\r\n\r\n"));
        for _ in 0..length / PIECE {
            if !x.written([b'x'; PIECE]) {
                return;
            }
            counter.fetch_add(PIECE, Ordering::SeqCst);
        }
    });
    let proxy = Proxy::open();
    let (mut gone, mut unsent) = (0_usize, (64 << 20) / PIECE);
    let (length, mut client, head) = loop {
        let length = gone.midpoint(unsent) * PIECE;
        assert!(unsent - gone > 1, "of no response, around {length} bytes, something waits in the proxy");
        let mut client = proxy.client();
        client.begin("GET", &origin.url(&format!("/x?{length}")), &[], "");
        let head = client.head("GET");
        settled(&written);
        if proxy.metric("larder_upstream_connections", &["state=\"active\""]) > 0.5 {
            unsent = length / PIECE;
        } else if proxy.metric("larder_buffer_bytes", &[]) < 0.5 {
            gone = length / PIECE;
        } else {
            break (length, client, head);
        }
        client.wire.reset();
        used(&proxy, 0.0);
    };
    let response = client.finish(head);
    assert_eq!((response.body.len(), response.broken), (length, None));
    used(&proxy, 0.0);
}
