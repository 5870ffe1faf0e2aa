//! What is buffered between clients and origins has one bound: who finds nothing left waits, and is told so when
//! that takes too long; what needs no buffer goes on.

use crate::forwarding::settled;
use crate::support::{Client, Gate, Origin, Proxy, eventually};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Small, so that few exchanges take all: one half of 128 KiB holds the floors of eight, the other one upload of
/// unknown length (84 KiB) or one tunnel with bytes in it (128 KiB).
const SMALL: &str = "limits = { buffers = '256KiB', buffer = '4KiB', request_head = '8KiB', request_line = '4KiB', response_head = '8KiB' }\n";
const FLOOR: f64 = 16_384.0;
/// What one response may take besides, with those limits: three pieces, the queue, and the window.
const RESPONSE: f64 = 40_960.0;
/// And one request.
const REQUEST: f64 = 45_056.0;

fn proxy(more: &str) -> Proxy {
    Proxy::with(&format!("{SMALL}{more}"))
}

/// An origin whose `/held` begins a response and ends it when the gate opens.
fn origin() -> (Origin, Gate) {
    let (origin, gate) = (Origin::start(), Gate::new());
    let held = gate.clone();
    origin.on("/held", move |x| {
        x.write("HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 2\r\n\r\na");
        held.pass();
        x.write("b");
    });
    let held = gate.clone();
    origin.on("/up", move |x| {
        held.pass();
        x.body();
        x.reply("200 OK", &[], "x");
    });
    origin.serve("/stored", "200 OK", &["Cache-Control: max-age=60"], b"stored");
    origin.serve("/next", "200 OK", &["Cache-Control: no-store"], b"next");
    (origin, gate)
}

/// Clients that have begun to read `/held`, as many as have room.
fn holders(proxy: &Proxy, origin: &Origin) -> Vec<(Client, crate::support::Response)> {
    let hold = |_| {
        let mut client = proxy.client();
        client.begin("GET", &origin.url("/held"), &[], "");
        let response = client.head("GET");
        response.assert_status(200);
        (client, response)
    };
    let holders = (0..8).map(hold).collect();
    used(proxy, 8.0 * FLOOR);
    holders
}

#[track_caller]
fn used(proxy: &Proxy, expected: f64) {
    eventually(&format!("{expected} bytes in use"), || {
        ((proxy.metric("larder_buffer_bytes", &[]) - expected).abs() < 0.5).then_some(())
    });
}

#[track_caller]
fn waits(proxy: &Proxy) {
    eventually("somebody that waits", || {
        (proxy.metric("larder_buffer_waits_total", &[]) > 0.5).then_some(())
    });
}

#[test]
fn a_request_that_finds_no_buffer_waits_for_one_and_a_hit_needs_none() {
    let (origin, gate) = origin();
    let proxy = proxy("upstream.connect_timeout = '10min'");
    proxy.get(&origin.url("/stored")).assert_body("stored");
    let held = holders(&proxy, &origin);
    assert!((proxy.metric("larder_buffer_capacity_bytes", &[]) - 262_144.0).abs() < 0.5);
    let mut next = proxy.client();
    next.begin("GET", &origin.url("/next"), &[], "");
    waits(&proxy);
    proxy.get(&origin.url("/stored")).assert_hit();
    assert_eq!(origin.hits("/next"), 0);
    gate.open();
    next.response("GET").assert_body("next");
    for (mut client, head) in held {
        client.finish(head).assert_body("ab");
    }
    used(&proxy, 0.0);
}

#[test]
fn a_request_that_waits_too_long_for_a_buffer_is_told_so() {
    let (origin, gate) = origin();
    let proxy = proxy("upstream.connect_timeout = '100ms'");
    let _held = holders(&proxy, &origin);
    let response = proxy.get(&origin.url("/next"));
    response.assert_error(503, "connection_limit_reached");
    assert!(response.text().contains("limits.buffers"), "{response}");
    proxy.wait_rejections("buffers", 1);
    assert_eq!(origin.hits("/next"), 0);
    gate.open();
    used(&proxy, 0.0);
    proxy.get(&origin.url("/next")).assert_body("next");
}

#[test]
fn an_upload_takes_what_it_may_come_to_and_gives_it_back_when_it_breaks() {
    let (origin, gate) = origin();
    let proxy = proxy("");
    for (framing, takes) in [
        ("Content-Length: 5\r\n\r\nhel", 2.0 * FLOOR),
        ("Transfer-Encoding: chunked\r\n\r\n5\r\nhel", REQUEST + RESPONSE),
    ] {
        let before = origin.hits("/up");
        let mut client = proxy.client();
        client.send(format!("PUT {} HTTP/1.1\r\nHost: h\r\n{framing}", origin.url("/up")));
        origin.wait("/up", before + 1);
        used(&proxy, takes);
        client.wire.reset();
        gate.open();
        used(&proxy, 0.0);
    }
}

#[test]
fn a_fill_without_a_client_holds_its_buffers_to_its_end() {
    let (origin, gate) = origin();
    let proxy = proxy("");
    let held = gate.clone();
    origin.on("/fill", move |x| {
        x.write("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 20000\r\n\r\n");
        x.write(vec![b'a'; 19_000]);
        held.pass();
        x.write(vec![b'b'; 1_000]);
    });
    let mut client = proxy.client();
    client.begin("GET", &origin.url("/fill"), &[], "");
    client.head("GET").assert_status(200);
    // Of a body that is more than a little, all is taken that may come.
    used(&proxy, FLOOR + RESPONSE);
    client.wire.reset();
    proxy.log.wait("the end of the exchange", |l| l.contains("/fill"));
    used(&proxy, FLOOR + RESPONSE);
    gate.open();
    used(&proxy, 0.0);
    proxy.get(&origin.url("/fill")).assert_hit();
}

#[test]
fn a_tunnel_holds_buffers_only_while_bytes_are_in_it() {
    let (origin, gate) = origin();
    let proxy = proxy("");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    let mut client = proxy.client();
    client.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"));
    client.head("CONNECT").assert_status(200);
    let mut peer = crate::support::wire::Wire::plain(listener.accept().unwrap().0);
    client.send("ping");
    assert_eq!(peer.exactly(4).unwrap(), b"ping");
    used(&proxy, 0.0);
    let mut upload = proxy.client();
    let url = origin.url("/up");
    upload.send(format!("PUT {url} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"));
    used(&proxy, REQUEST + RESPONSE);
    client.send("again");
    waits(&proxy);
    upload.send("0\r\n\r\n");
    gate.open();
    assert_eq!(peer.exactly(5).unwrap(), b"again");
    peer.write("pong").unwrap();
    assert_eq!(client.wire.exactly(4).unwrap(), b"pong");
    used(&proxy, 0.0);
}

/// A server that reads on only when what it has written was read: both directions must move.
#[test]
fn an_echo_in_bulk_passes_with_buffers_for_one_tunnel() {
    const LENGTH: usize = 8 << 20;
    let proxy = proxy("");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    let tunnels: Vec<_> = (0..3)
        .map(|_| {
            let mut client = proxy.client();
            client.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"));
            client.head("CONNECT").assert_status(200);
            let mut socket = listener.accept().unwrap().0;
            std::thread::spawn(move || {
                let mut piece = vec![0; 64 * 1024];
                while let Ok(read @ 1..) = std::io::Read::read(&mut socket, &mut piece) {
                    std::io::Write::write_all(&mut socket, &piece[..read]).unwrap();
                }
            });
            client
        })
        .collect();
    let threads: Vec<_> = tunnels
        .into_iter()
        .map(|mut client| {
            std::thread::spawn(move || {
                let mut socket = client.wire.socket().try_clone().unwrap();
                let writer = std::thread::spawn(move || {
                    std::io::Write::write_all(&mut socket, &crate::support::pattern(LENGTH)).unwrap();
                });
                let back = client.wire.exactly(LENGTH).unwrap();
                writer.join().unwrap();
                back == crate::support::pattern(LENGTH)
            })
        })
        .collect();
    assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
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
        // What the kernel holds for this end should not depend on how fast it thinks that we are.
        socket2::SockRef::from(client.wire.socket()).set_recv_buffer_size(PIECE).unwrap();
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

/// Who takes nothing of a long body holds what others wait for. The others get it, after a while.
#[test]
fn clients_that_take_nothing_give_way_to_those_that_wait() {
    let (origin, _gate) = origin();
    origin.on("/endless", |x| {
        x.write("HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n");
        let part = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        while x.written(&part) {}
    });
    let body = |size: usize| vec![b'y'; size];
    origin.on("/short", move |x| x.reply("200 OK", &["Cache-Control: no-store"], body(8 << 10)));
    origin.on("/long", move |x| x.reply("200 OK", &["Cache-Control: no-store"], body(200 << 10)));
    let proxy = proxy("");
    let mut idle: Vec<_> = (0..3)
        .map(|_| {
            let mut client = proxy.client();
            client.begin("GET", &origin.url("/endless"), &[], "");
            client.head("GET").assert_status(200);
            client
        })
        .collect();
    used(&proxy, 3.0 * (FLOOR + RESPONSE));
    // What is short waits for nothing.
    proxy.get(&origin.url("/short")).assert_body(body(8 << 10));
    assert!(proxy.metric("larder_buffer_waits_total", &[]) < 0.5);
    proxy.get(&origin.url("/long")).assert_body(body(200 << 10));
    waits(&proxy);
    eventually("a client that was cut off", || {
        (proxy.metric("larder_limit_rejections_total", &["limit=\"buffers\""]) > 0.5).then_some(())
    });
    // Nobody waits any more: whoever is left may take its time.
    assert!(idle.iter_mut().any(|client| client.wire.some().is_ok()));
}
