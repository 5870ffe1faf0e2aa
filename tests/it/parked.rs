//! Connections that are idle for a while wait with little more than their socket, and nobody notices. (That they do is
//! told by the memory that they take: `loads`.)

use crate::support::proxy::Signal;
use crate::support::{Client, Origin, Proxy};
use std::time::Duration;

/// Longer than a connection stays engaged without a request.
fn think() {
    std::thread::sleep(Duration::from_millis(100));
}

fn origin() -> Origin {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=600"], b"x");
    origin.on("/upload", |x| {
        let sent = x.body();
        x.reply("200 OK", &["Cache-Control: no-store"], sent);
    });
    origin
}

#[test]
fn a_client_that_thinks_between_its_requests_keeps_its_connection() {
    let origin = origin();
    let proxy = Proxy::open();
    let mut client = proxy.client();
    for _ in 0..4 {
        client.get(&origin.url("/x")).assert_body("x");
        think();
        client.begin("POST", &origin.url("/upload"), &["Content-Length: 3"], "abc");
        client.response("POST").assert_status(200).assert_body("abc");
        think();
    }
    assert!((proxy.metric("larder_connections_accepted_total", &[]) - 1.0).abs() < 0.5);
}

/// One that says nothing at first too.
#[test]
fn what_comes_in_pieces_or_at_once_after_a_while_is_one_request_after_the_other() {
    let origin = origin();
    let proxy = Proxy::open();
    let url = origin.url("/x");
    let request = format!("GET {url} HTTP/1.1\r\nHost: h\r\n\r\n");
    let mut client = proxy.client();
    for _ in 0..2 {
        think();
        let (first, rest) = request.split_at(7);
        client.send(first);
        think();
        client.send(rest);
        client.response("GET").assert_status(200).assert_body("x");
        think();
        client.send(request.repeat(3));
        for _ in 0..3 {
            client.response("GET").assert_status(200).assert_body("x");
        }
    }
    think();
    // An empty line in front of a request is none.
    client.send(format!("{request}\r\n"));
    client.response("GET").assert_body("x");
    think();
    client.send(&request);
    client.response("GET").assert_body("x");
    think();
    client.send("nonsense\r\n\r\n");
    client.response("GET").assert_status(400);
    assert!(client.wire.ends());
}

/// Where only hyper sees that it has begun.
#[test]
fn who_begins_the_next_request_behind_content_that_outlasts_its_response_may_think_too() {
    let origin = origin();
    origin.on("/early", |x| {
        x.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        x.body();
    });
    let (proxy, url) = (Proxy::open(), origin.url("/early"));
    let mut client = proxy.client();
    client.send(format!("POST {url} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"));
    client.response("POST").assert_status(200);
    client.send(format!("1\r\na\r\n0\r\n\r\nGET {} HTTP/1.1\r\n", origin.url("/x")));
    crate::support::eventually("the end of the upload", || origin.requests("/early")[0].whole);
    think();
    client.send("Host: h\r\n\r\n");
    client.response("GET").assert_body("x");
}

#[test]
fn a_tunnel_may_follow_a_long_thought() {
    let peer = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = origin();
    let proxy = Proxy::open();
    let mut client = proxy.client();
    client.get(&origin.url("/x")).assert_body("x");
    think();
    let authority = peer.local_addr().unwrap();
    client.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"));
    client.head("CONNECT").assert_status(200);
    let mut far = crate::support::wire::Wire::plain(peer.accept().unwrap().0);
    far.write("hello").unwrap();
    assert_eq!(client.wire.exactly(5).unwrap(), b"hello");
}

#[test]
fn the_limits_of_an_idle_connection_and_of_a_head_hold() {
    let origin = origin();
    let proxy = Proxy::with("proxy.idle_timeout = '300ms'\nproxy.head_timeout = '300ms'");
    for (sent, limit) in [("", "proxy.idle_timeout"), ("GET", "proxy.head_timeout")] {
        let mut client = proxy.client();
        client.get(&origin.url("/x")).assert_body("x");
        think();
        client.send(sent);
        assert!(client.wire.ends(), "{limit}");
        proxy.wait_rejections(limit, 1);
    }
}

/// Its response has been handed over, but is not out.
#[test]
fn a_client_that_reads_slowly_keeps_its_connection() {
    const BODY: &[u8] = &[b'x'; 1 << 20];
    let origin = Origin::start();
    origin.serve("/large", "200 OK", &["Cache-Control: max-age=600"], BODY);
    for config in ["", "limits.bytes_per_client = '600KiB'"] {
        let proxy = Proxy::with(config);
        let mut client = proxy.client();
        socket2::SockRef::from(client.wire.socket()).set_recv_buffer_size(16 << 10).unwrap();
        for _ in 0..3 {
            client.begin("GET", &origin.url("/large"), &[], "");
            let head = client.head("GET");
            think();
            let response = client.finish(head);
            assert_eq!((response.body.len(), response.broken), (BODY.len(), None), "{config}");
        }
    }
}

#[test]
fn a_drain_closes_them_at_once() {
    let origin = origin();
    let mut proxy = Proxy::with("server.drain = '10min'");
    let mut clients: Vec<Client> = (0..3).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.get(&origin.url("/x")).assert_body("x");
    }
    think();
    proxy.signal(Signal::TERM);
    for client in &mut clients {
        assert!(client.wire.ends());
    }
    assert_eq!(proxy.ended().code(), Some(0));
}
