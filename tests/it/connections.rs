//! A client's connection: its limits of time and number, and what it is dialled from towards origins.

use crate::support::{Client, Origin, Proxy, Response, eventually};

/// Asks on a new connection; `None` when that did not work out.
fn served(proxy: &Proxy, url: &str) -> Option<Response> {
    let mut client = proxy.client();
    client.wire.write(format!("GET {url} HTTP/1.1\r\nHost: h\r\n\r\n")).ok()?;
    client.try_response("GET").ok().filter(|r| r.status == 200)
}

#[test]
fn a_head_that_does_not_come_ends_the_connection() {
    let proxy = Proxy::with("proxy.head_timeout = '150ms'");
    for begun in ["GET http://127.0.0.1/", "GET http://127.0.0.1/ HTTP/1.1\r\nHost: h\r\nX-Slow: "] {
        let mut client = proxy.client();
        client.send(begun);
        if let Ok(answer) = client.try_response("GET") {
            assert_eq!(answer.status, 408, "{begun:?}");
        }
        assert!(client.wire.ends(), "{begun:?}");
    }
}

#[test]
fn an_idle_connection_ends() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"x");
    let proxy = Proxy::with("proxy.idle_timeout = '150ms'");
    let mut client = proxy.client();
    client.get(&origin.url("/x")).assert_body("x");
    assert!(client.wire.ends());
}

#[test]
fn an_upload_that_stalls_ends_for_both_sides() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        x.body();
        x.reply("200 OK", &[], "done");
    });
    let proxy = Proxy::with("proxy.between_bytes_timeout = '150ms'");
    let mut client = proxy.client();
    client.send(format!("PUT {} HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n01234", origin.url("/x")));
    if let Ok(answer) = client.try_response("PUT") {
        assert!(answer.status >= 400, "{answer}");
    }
    assert!(client.wire.ends());
    assert_eq!(origin.wait_body("/x").whole, Some(false));
}

#[test]
fn a_client_that_takes_nothing_is_cut_off() {
    let origin = Origin::start();
    let (ended, was_ended) = std::sync::mpsc::channel();
    origin.on("/x", move |x| {
        x.write("HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 1000000000\r\n\r\n");
        let part = vec![b'x'; 64 * 1024];
        while x.written(&part) {}
        ended.send(()).unwrap();
    });
    let proxy = Proxy::with("proxy.between_bytes_timeout = '300ms'");
    let mut client = proxy.client();
    client.begin("GET", &origin.url("/x"), &[], "");
    client.head("GET");
    was_ended.recv_timeout(crate::support::DEADLINE).expect("the origin's connection ends");
}

#[test]
fn room_comes_back_when_connections_at_the_limit_end() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"x");
    let proxy = Proxy::with("limits.connections = 4");
    let mut held: Vec<_> = (0..4).map(|_| proxy.client()).collect();
    for client in &mut held {
        client.get(&origin.url("/x")).assert_body("x");
    }
    let beyond = proxy.client();
    drop(held);
    eventually("room for another", || served(&proxy, &origin.url("/x")));
    drop(beyond);
}

#[test]
fn accepting_recovers_from_a_shortage_of_descriptors() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"x");
    let proxy = Proxy::builder().descriptors(100).start();
    proxy.get(&origin.url("/x")).assert_body("x");
    let many: Vec<Client> = (0..150).map(|_| proxy.client()).collect();
    eventually("the shortage", || (proxy.descriptors() >= 95).then_some(()));
    drop(many);
    eventually("an answer", || served(&proxy, &origin.url("/x")));
}

#[test]
fn origins_are_dialled_from_the_source_address() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"x");
    let proxy = Proxy::with("upstream.source_address = ['127.0.0.5']");
    proxy.get(&origin.url("/x")).assert_body("x");
    assert_eq!(origin.last("/x").peer, Some([127, 0, 0, 5].into()));
}

#[test]
fn one_worker_serves_many_at_once() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"x");
    let proxy = Proxy::with("server.workers = 1");
    let mut clients: Vec<_> = (0..50).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.begin("GET", &origin.url("/x"), &[], "");
    }
    for client in &mut clients {
        client.response("GET").assert_body("x");
    }
}
