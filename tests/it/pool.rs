//! Connections to origins: reused, bounded, and what happens when one turns out to be dead.

use crate::support::authority::Authority;
use crate::support::proxy::Signal;
use crate::support::{Gate, Origin, Proxy, eventually};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn a_connection_is_used_again() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        let body = x.body();
        x.reply("200 OK", &[], body);
    });
    let proxy = Proxy::open();
    for method in ["GET", "POST", "GET", "PUT"] {
        proxy
            .request(method, &origin.url("/x"), &[], if method == "GET" { "" } else { "content" })
            .assert_status(200);
    }
    assert_eq!(origin.connections(), 1);
    assert!((proxy.metric("larder_upstream_connections_opened_total", &[]) - 1.0).abs() < 0.1);
    assert!((proxy.metric("larder_upstream_connections_reused_total", &[]) - 3.0).abs() < 0.1);
}

#[test]
fn a_connection_that_the_origin_closes_is_not_used_again() {
    let origin = Origin::start();
    for (path, field) in [("/close", "Connection: close"), ("/spent", "Keep-Alive: timeout=0")] {
        origin.serve(
            path,
            "200 OK",
            if field.starts_with('C') { &["Connection: close"] } else { &["Keep-Alive: timeout=0"] },
            b"x",
        );
        let before = origin.connections();
        let proxy = Proxy::open();
        for _ in 0..3 {
            proxy.get(&origin.url(path)).assert_body("x");
        }
        assert_eq!(origin.connections() - before, 3, "{field}");
    }
}

/// Answers one request on a connection and then ends it in that way before it answers the next.
fn dies_on_reuse(origin: &Origin, path: &'static str, when: fn(&mut crate::support::Exchange)) {
    let last = Arc::new(AtomicUsize::new(usize::MAX));
    origin.on(path, move |x| {
        let connection = x.request.connection;
        if last.swap(connection, Ordering::SeqCst) == connection {
            x.body();
            when(x);
        } else {
            x.reply("200 OK", &[], "x");
        }
    });
}

#[test]
fn an_idempotent_request_without_a_body_is_tried_once_more() {
    let origin = Origin::start();
    dies_on_reuse(&origin, "/x", crate::support::Exchange::close);
    let proxy = Proxy::open();
    proxy.get(&origin.url("/x")).assert_status(200);
    proxy.get(&origin.url("/x")).assert_status(200);
    assert_eq!((origin.hits("/x"), origin.connections()), (3, 2));
}

#[test]
fn what_was_written_and_may_not_be_repeated_is_not() {
    let origin = Origin::start();
    let proxy = Proxy::open();
    for (method, path, body) in
        [("POST", "/post", ""), ("PUT", "/put", "content"), ("PATCH", "/patch", "content")]
    {
        dies_on_reuse(&origin, path, crate::support::Exchange::close);
        proxy.request(method, &origin.url(path), &[], body).assert_status(200);
        proxy.request(method, &origin.url(path), &[], body).assert_status(502);
        assert_eq!(origin.hits(path), 2, "{method}");
    }
}

#[test]
fn a_request_that_fails_on_a_new_connection_is_not_repeated() {
    let origin = Origin::start();
    origin.on("/x", super::support::origin::Exchange::close);
    let proxy = Proxy::open();
    proxy.get(&origin.url("/x")).assert_status(502);
    assert_eq!(origin.hits("/x"), 1);
}

#[test]
fn what_was_never_written_goes_out_on_a_new_connection_whatever_the_method() {
    let origin = Origin::start();
    let (closed, was_closed) = std::sync::mpsc::channel();
    origin.on("/first", move |x| {
        x.reply("200 OK", &[], "x");
        x.close();
        closed.send(()).unwrap();
    });
    origin.on("/second", |x| {
        let body = x.body();
        x.reply("200 OK", &[], body);
    });
    let proxy = Proxy::open();
    for _ in 0..5 {
        proxy.get(&origin.url("/first")).assert_status(200);
        was_closed.recv().unwrap();
        origin.wait_closed();
        proxy.request("POST", &origin.url("/second"), &[], "content").assert_body("content");
    }
    assert_eq!(origin.hits("/second"), 5, "and once only");
}

#[test]
fn connections_to_one_origin_are_bounded() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    let (active, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counter, high) = (Arc::clone(&active), Arc::clone(&most));
    origin.on("/x", move |x| {
        high.fetch_max(counter.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        held.pass();
        counter.fetch_sub(1, Ordering::SeqCst);
        x.reply("200 OK", &["Cache-Control: no-store"], "x");
    });
    let proxy = Proxy::with("upstream = { connections_per_origin = 2, idle_per_origin = 2 }");
    let mut clients: Vec<_> = (0..6).map(|_| proxy.client()).collect();
    for (at, client) in clients.iter_mut().enumerate() {
        client.begin("GET", &origin.url(&format!("/x?{at}")), &[], "");
    }
    origin.wait("/x", 2);
    gate.open();
    for client in &mut clients {
        client.response("GET").assert_status(200);
    }
    assert!(most.load(Ordering::SeqCst) <= 2 && origin.connections() <= 2);
}

#[test]
fn descriptors_return_to_where_they_were() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Connection: close"], b"x");
    let proxy = Proxy::open();
    proxy.get(&origin.url("/x"));
    let before = proxy.descriptors();
    for _ in 0..200 {
        proxy.get(&origin.url("/x")).assert_body("x");
    }
    crate::support::eventually("the descriptors", || (proxy.descriptors() <= before + 2).then_some(()));
}

#[test]
fn different_origins_never_share_a_connection() {
    let (one, two) = (Origin::start(), Origin::start());
    one.serve("/x", "200 OK", &[], b"one");
    two.serve("/x", "200 OK", &[], b"two");
    let proxy = Proxy::open();
    for _ in 0..3 {
        proxy.get(&one.url("/x")).assert_body("one");
        proxy.get(&two.url("/x")).assert_body("two");
        proxy.get(&one.url_at("localhost", "/x")).assert_body("one");
    }
    assert_eq!(two.connections(), 1);
}

#[test]
fn a_second_response_in_one_write_reaches_nobody() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        x.write("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\noneHTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled");
    });
    origin.serve("/y", "200 OK", &[], b"mine");
    let proxy = Proxy::open();
    for _ in 0..3 {
        proxy.get(&origin.url("/x")).assert_body("one");
        proxy.get(&origin.url("/y")).assert_body("mine");
    }
}

/// It is no answer to the next request, whoever asks it.
#[test]
fn a_second_response_that_comes_later_ends_the_connection() {
    let authority = Authority::new();
    let proxy = Proxy::with(&authority.config());
    for origin in [Origin::start(), authority.origin(&["127.0.0.1"])] {
        for length in [8, 64] {
            let gate = Gate::new();
            let held = gate.clone();
            let (ended, was_ended) = std::sync::mpsc::channel();
            origin.on("/x", move |x| {
                x.reply("200 OK", &["Cache-Control: no-store"], "one");
                held.pass();
                // A whole one, or one that waits for more.
                x.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nsmuggled"));
                ended.send(x.wire().ends()).unwrap();
                x.done();
            });
            origin.serve("/y", "200 OK", &["Cache-Control: no-store"], b"mine");
            let mut client = proxy.client();
            client.get(&origin.url("/x")).assert_body("one");
            gate.open();
            assert!(was_ended.recv().unwrap(), "{}: such a connection is closed", origin.url("/x"));
            client.get(&origin.url("/y")).assert_body("mine");
            proxy.get(&origin.url("/y")).assert_body("mine");
            assert!(origin.last("/y").connection > origin.last("/x").connection);
        }
    }
}

/// What nobody asked for lies in the socket when the next request is about to be written, as where the proxy is slow.
#[test]
fn an_answer_that_was_there_before_its_request_is_none() {
    let authority = Authority::new();
    let mut proxy = Proxy::with(&authority.config());
    for origin in [Origin::start(), authority.origin(&["127.0.0.1"])] {
        origin.on("/y", |x| {
            let body = x.body();
            x.reply("200 OK", &["Cache-Control: no-store"], [&b"mine "[..], &body].concat());
        });
        for unasked in [
            "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled",
            "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "H",
        ] {
            for (method, content) in [("GET", ""), ("POST", ""), ("POST", "content"), ("PUT", "content")] {
                let case = format!("{}, {unasked:?}, {method} {content}", origin.url("/y"));
                let gate = Gate::new();
                let held = gate.clone();
                let (sent, was_sent) = std::sync::mpsc::channel();
                origin.on("/x", move |x| {
                    x.reply("200 OK", &["Cache-Control: no-store"], "one");
                    held.pass();
                    x.write(unasked);
                    sent.send(()).unwrap();
                    x.wire().ends();
                    x.done();
                });
                let before = origin.hits("/y");
                let mut client = proxy.client();
                client.get(&origin.url("/x")).assert_body("one");
                proxy.signal(Signal::STOP);
                eventually("the stop", || (proxy.state() == 'T').then_some(()));
                gate.open();
                was_sent.recv().unwrap();
                client.begin(method, &origin.url("/y"), &[], content);
                proxy.signal(Signal::CONT);
                let response = client.response(method);
                assert_eq!((response.status, response.text()), (200, format!("mine {content}")), "{case}");
                assert!(response.interim.is_empty(), "{case}");
                assert_eq!(origin.hits("/y"), before + 1, "{case}");
                assert!(origin.last("/y").connection > origin.last("/x").connection, "{case}");
            }
        }
    }
    assert!(proxy.running());
}

#[test]
fn a_second_response_in_one_write_over_tls_reaches_nobody() {
    let authority = Authority::new();
    let proxy = Proxy::with(&authority.config());
    let origin = authority.origin(&["127.0.0.1"]);
    origin.on("/x", |x| {
        x.write("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\noneHTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled");
    });
    origin.serve("/y", "200 OK", &[], b"mine");
    let mut client = proxy.client();
    for _ in 0..3 {
        client.get(&origin.url("/x")).assert_body("one");
        client.get(&origin.url("/y")).assert_body("mine");
    }
}
