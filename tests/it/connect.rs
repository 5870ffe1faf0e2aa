//! Tunnels: dialled first, answered after, then bytes both ways. RFC 9110 section 9.3.6.

use crate::support::wire::Wire;
use crate::support::{Client, DEADLINE, Gate, Origin, Proxy, Response, eventually, pattern};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;

/// A TCP server whose connections the test drives itself.
struct Peer {
    listener: TcpListener,
    address: SocketAddr,
}

impl Peer {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self { address: listener.local_addr().unwrap(), listener }
    }

    fn accept(&self) -> Wire {
        Wire::plain(self.listener.accept().unwrap().0)
    }
}

#[track_caller]
fn connect(client: &mut Client, authority: &str) -> Response {
    client.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"));
    client.head("CONNECT")
}

/// A tunnel: the client's end and the peer's.
fn tunnel(proxy: &Proxy) -> (Client, Wire) {
    let peer = Peer::new();
    let mut client = proxy.client();
    let response = connect(&mut client, &peer.address.to_string());
    response.assert_status(200);
    for name in ["content-length", "transfer-encoding", "cache-status"] {
        assert_eq!(response.field(name), None, "{name}");
    }
    (client, peer.accept())
}

#[test]
fn bytes_pass_both_ways_and_each_side_may_end_first() {
    let proxy = Proxy::open();
    let (mut client, mut peer) = tunnel(&proxy);
    client.send("\0\u{1}ping\r\n\r\n");
    assert_eq!(peer.exactly(10).unwrap(), b"\0\x01ping\r\n\r\n");
    peer.write("pong").unwrap();
    assert_eq!(client.wire.exactly(4).unwrap(), b"pong");
    client.wire.half_close();
    assert_eq!(peer.rest().unwrap(), b"");
    peer.write("after the client's end").unwrap();
    peer.half_close();
    assert_eq!(client.wire.rest().unwrap(), b"after the client's end");

    let (mut client, mut peer) = tunnel(&proxy);
    peer.write("all").unwrap();
    peer.half_close();
    assert_eq!(client.wire.rest().unwrap(), b"all");
    client.send("after the server's end");
    client.wire.half_close();
    assert_eq!(peer.rest().unwrap(), b"after the server's end");
}

#[test]
fn a_direction_gets_a_pipe_when_much_comes_at_once() {
    let proxy = Proxy::open();
    let (mut client, mut peer) = tunnel(&proxy);
    let mut echo = || {
        client.send("ping");
        assert_eq!(peer.exactly(4).unwrap(), b"ping");
        peer.write("pong").unwrap();
        assert_eq!(client.wire.exactly(4).unwrap(), b"pong");
    };
    echo();
    let before = proxy.descriptors();
    (0..50).for_each(|_| echo());
    assert_eq!(proxy.descriptors(), before);
    let much = pattern(100_000);
    peer.write(much.clone()).unwrap();
    assert!(client.wire.exactly(much.len()).unwrap() == much);
    assert_eq!(proxy.descriptors(), before + 2, "its two ends");
}

#[test]
fn large_transfers_arrive_whole_in_both_directions_at_once() {
    let proxy = Proxy::open();
    let (client, peer) = tunnel(&proxy);
    let up = pattern(8_000_000);
    let down: Vec<u8> = up.iter().rev().copied().collect();
    let exchange = |mut wire: Wire, sent: Vec<u8>| {
        let mut writer = Wire::plain(wire.socket().try_clone().unwrap());
        let sender = std::thread::spawn(move || {
            writer.write(sent).unwrap();
            writer.half_close();
        });
        let received = wire.rest().unwrap();
        sender.join().unwrap();
        received
    };
    let sent = up.clone();
    let ours = std::thread::spawn(move || exchange(client.wire, sent));
    let theirs = exchange(peer, down.clone());
    assert!(theirs == up, "{} bytes of {} arrived", theirs.len(), up.len());
    assert!(ours.join().unwrap() == down);
}

#[test]
fn bytes_sent_early_go_first() {
    let peer = Peer::new();
    let proxy = Proxy::open();
    let mut client = proxy.client();
    client.send(format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n\u{16}\u{3}early", peer.address));
    client.head("CONNECT").assert_status(200);
    let mut wire = peer.accept();
    client.send("later");
    assert_eq!(wire.exactly(12).unwrap(), b"\x16\x03earlylater");
}

#[test]
fn a_reset_on_one_side_ends_the_other() {
    let proxy = Proxy::open();
    let (mut client, peer) = tunnel(&proxy);
    peer.reset();
    assert!(client.wire.ends());
    let (client, mut peer) = tunnel(&proxy);
    client.wire.reset();
    assert!(peer.ends());
}

#[test]
fn an_idle_tunnel_is_closed() {
    let proxy = Proxy::with("proxy.tunnel_idle = '100ms'");
    let (mut client, mut peer) = tunnel(&proxy);
    assert!(client.wire.ends());
    assert!(peer.ends());
}

#[test]
fn a_tunnel_is_idle_from_its_last_byte_on() {
    let proxy = Proxy::with("proxy.tunnel_idle = '2s'");
    let (mut client, mut peer) = tunnel(&proxy);
    let since = larder::clock::Stopwatch::start();
    client.send("x");
    assert_eq!(peer.exactly(1).unwrap(), b"x");
    assert!(client.wire.ends());
    let passed = since.elapsed().as_millis();
    assert!((1900..3900).contains(&passed), "{passed} ms");
}

#[test]
fn a_failure_leaves_the_clients_connection_usable() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"x");
    let closed = Peer::new().address;
    let proxy = Proxy::open();
    let mut client = proxy.client();
    client.send(format!("CONNECT {closed} HTTP/1.1\r\nHost: {closed}\r\n\r\n"));
    client.response("GET").assert_error(502, "connection_refused");
    client.get(&origin.url("/x")).assert_body("x");
    let peer = Peer::new();
    connect(&mut client, &peer.address.to_string()).assert_status(200);
}

#[test]
fn a_forbidden_port_is_403_naming_the_rule_and_the_flag() {
    let peer = Peer::new();
    let proxy = Proxy::closed().config("access.allow_private = true").start();
    let mut client = proxy.client();
    client.send(format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", peer.address));
    let response = client.response("GET");
    response.assert_error(403, "http_request_denied");
    let text = response.text();
    assert!(text.contains("connect-port") && text.contains("--connect-ports"), "{text}");
    let log = proxy.log.wait("the log", |l| l.contains("CONNECT"));
    assert!(log.contains("connect-port"), "{log}");
    let allowed = Proxy::closed()
        .arguments(&["--allow-private", &format!("--connect-ports={}", peer.address.port())])
        .start();
    connect(&mut allowed.client(), &peer.address.to_string()).assert_status(200);
}

#[test]
fn malformed_targets_are_400() {
    let proxy = Proxy::open();
    for target in [
        "127.0.0.1",
        "/path",
        "http://127.0.0.1:80/",
        "127.0.0.1:",
        "127.0.0.1:0",
        "127.0.0.1:99999",
        "127.0.0.1:+80",
        ":443",
        "*",
    ] {
        let mut client = proxy.client();
        client.send(format!("CONNECT {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
        let response = client.response("GET");
        assert_eq!(response.status, 400, "{target}: {response}");
    }
}

#[test]
fn tunnels_are_counted_and_logged_with_their_bytes() {
    let proxy = Proxy::open();
    let (mut client, mut peer) = tunnel(&proxy);
    eventually("the gauge", || (proxy.metric("larder_tunnels_active", &[]) > 0.5).then_some(()));
    client.send("12345");
    peer.exactly(5).unwrap();
    peer.write("123").unwrap();
    client.wire.exactly(3).unwrap();
    client.wire.half_close();
    peer.half_close();
    let line = proxy.log.wait("the log", |l| l.contains("CONNECT"));
    let log: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&log["result"], &log["bytes_in"], &log["bytes_out"]),
        (&"tunnel".into(), &5.into(), &3.into()),
        "{line}"
    );
    eventually("the count", || (proxy.metric("larder_tunnels_total", &[]) > 0.5).then_some(()));
    assert!((proxy.metric("larder_tunnel_bytes_total", &[]) - 8.0).abs() < 0.1);
}

#[test]
fn https_goes_through_a_tunnel_untouched() {
    let peer = Peer::new();
    let proxy = Proxy::open();
    let mut client = proxy.client();
    let hello = pattern(517);
    client
        .send(format!("CONNECT localhost:{0} HTTP/1.1\r\nHost: localhost:{0}\r\n\r\n", peer.address.port()));
    client.head("CONNECT").assert_status(200);
    client.send(&hello);
    assert_eq!(peer.accept().exactly(517).unwrap(), hello);
}

#[test]
fn a_client_that_is_gone_when_its_tunnel_is_granted_leaves_a_record_and_nothing_open() {
    let parent = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    let (told, ended) = mpsc::channel();
    parent.on("origin.test:443", move |x| {
        held.pass();
        x.write("HTTP/1.1 200 Established\r\n\r\n");
        told.send(x.wire().ends()).unwrap();
        x.done();
    });
    let proxy = Proxy::with(&format!("upstream.parents = ['http://{}']", parent.address));
    let mut client = proxy.client();
    // What is sent early hides the reset until the answer is written.
    client.send("CONNECT origin.test:443 HTTP/1.1\r\nHost: origin.test:443\r\n\r\nearly");
    parent.wait("origin.test:443", 1);
    client.wire.reset();
    gate.open();
    assert!(ended.recv_timeout(DEADLINE).unwrap(), "the far end is closed");
    let line = proxy.log.wait("the record", |l| l.contains("CONNECT"));
    assert!(line.contains("\"complete\":false"), "{line}");
}

/// Windows' own clients say that they send nothing.
#[test]
fn a_connect_may_say_that_it_has_no_content_but_must_not_have_any() {
    let peer = Peer::new();
    let proxy = Proxy::open();
    let asked = |fields: &str| {
        let mut client = proxy.client();
        client.send(format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n{fields}", peer.address));
        (client.head("CONNECT").status, client)
    };
    let (status, mut client) = asked("Content-Length: 0\r\nPragma: no-cache\r\n\r\nearly");
    assert_eq!(status, 200);
    client.send("later");
    assert_eq!(peer.accept().exactly(10).unwrap(), b"earlylater");
    for fields in [
        "Content-Length: 5\r\n\r\nhello",
        "Content-Length: 00\r\n\r\n",
        "Content-Length: 0, 0\r\n\r\n",
        "Content-Length: 0\r\nContent-Length: 5\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ] {
        assert_eq!(asked(fields).0, 400, "{fields:?}");
    }
    peer.listener.set_nonblocking(true).unwrap();
    assert!(peer.listener.accept().is_err(), "nothing is dialled");
}

#[test]
fn an_http_1_0_client_gets_its_tunnel() {
    let peer = Peer::new();
    let proxy = Proxy::open();
    let mut client = proxy.client();
    client.send(format!("CONNECT {} HTTP/1.0\r\n\r\n", peer.address));
    client.head("CONNECT").assert_status(200);
    client.send("ping");
    assert_eq!(peer.accept().exactly(4).unwrap(), b"ping");
}
