//! Whoever is slow at the admin listener, or asks it for much, costs the clients of the proxy nothing.

use crate::limits::outward;
use crate::support::{Client, Origin, Proxy, eventually, skip};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Connections at once to the admin listener: more than it serves.
const CROWD: usize = 100;

#[test]
fn slow_clients_of_the_admin_listener_hold_no_client_of_the_proxy_up() {
    let origin = Origin::start();
    origin.serve("/hit", "200 OK", &["Cache-Control: max-age=600"], b"hit");
    origin.serve("/miss", "200 OK", &["Cache-Control: no-store"], b"miss");
    // One thread serves both: what waits in the wrong place stops everything.
    let proxy = Proxy::with("server.workers = 1");
    proxy.get(&origin.url("/hit")).assert_body("hit");
    for (what, sent) in [
        ("nothing", String::new()),
        ("half a head", format!("GET /metrics HTTP/1.1\r\nHost: {}\r\nX: ", proxy.admin)),
        (
            "half a body",
            format!(
                "POST /api/v1/purge HTTP/1.1\r\nHost: {}\r\nContent-Length: 1000\r\n\r\n{{\"all\"",
                proxy.admin
            ),
        ),
        // And reads none of it.
        ("much", format!("GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n", proxy.admin).repeat(50)),
    ] {
        let crowd: Vec<_> = (0..CROWD)
            .map(|_| {
                let mut client = Client::connect(proxy.admin);
                client.wire.socket().set_write_timeout(Some(std::time::Duration::from_millis(1))).unwrap();
                // What is not taken is not sent.
                drop(client.wire.write(&sent));
                client
            })
            .collect();
        let mut kept = proxy.client();
        for _ in 0..20 {
            kept.get(&origin.url("/hit")).assert_hit().assert_body("hit");
            kept.get(&origin.url("/miss")).assert_status(200).assert_body("miss");
            proxy.get(&origin.url("/hit")).assert_hit();
        }
        let peer = origin.address;
        let mut tunnel = proxy.client();
        tunnel.send(format!("CONNECT {peer} HTTP/1.1\r\nHost: {peer}\r\n\r\n"));
        tunnel.head("CONNECT").assert_status(200);
        tunnel.send("GET /hit HTTP/1.1\r\nHost: h\r\n\r\n");
        tunnel.response("GET").assert_body("hit");
        drop(crowd);
        assert!(proxy.metric("larder_panics_total", &[]) < 0.5, "{what}: the listener answers again");
    }
}

/// One address elsewhere takes no more than its share, so that it keeps nobody's health check out.
#[test]
fn a_crowd_from_one_address_leaves_room_at_the_admin_listener() {
    let Some(outward) = outward() else {
        return skip("a crowd at the admin listener", "no network");
    };
    let proxy = Proxy::builder().admin_listen("0.0.0.0:0").start();
    let there = SocketAddr::new(outward, proxy.admin.port());
    let mut crowd: Vec<_> = (0..CROWD).map(|_| Client::connect(there)).collect();
    let host = format!("Host: 127.0.0.1:{}", proxy.admin.port());
    // It has come to the end of the crowd when it answers who came after it.
    proxy.admin("GET", "/readyz", &[&host], "").assert_status(200);
    for client in &mut crowd {
        // A place is a place until its time is over; whoever found none was closed.
        drop(client.wire.write(format!("GET /readyz HTTP/1.1\r\n{host}\r\n\r\n")));
    }
    let answered = crowd.iter_mut().filter_map(|client| client.try_response("GET").ok()).count();
    assert_eq!(answered, 16);
    drop(crowd);
    eventually("places that are free again", || {
        let mut client = Client::connect(there);
        drop(client.wire.write(format!("GET /readyz HTTP/1.1\r\n{host}\r\n\r\n")));
        client.try_response("GET").ok()
    })
    .assert_status(200);
}

/// Purges of all, listings and explanations, one behind the other from several clients.
#[test]
fn busy_clients_of_the_admin_listener_fail_nobody() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        let body = x.request.target.clone();
        x.reply("200 OK", &["Cache-Control: max-age=600", "Surrogate-Key: all"], body);
    });
    let proxy = Proxy::with("server.workers = 1");
    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|threads| {
        for (method, path, body) in [
            ("GET", "/metrics", ""),
            ("GET", "/api/v1/stored?search=x", ""),
            ("GET", "/api/v1/exchanges", ""),
            ("POST", "/api/v1/purge", "{\"tag\":\"all\"}"),
            ("POST", "/api/v1/reload", ""),
        ] {
            let (proxy, stop, asked) = (&proxy, &stop, &asked);
            threads.spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    let answer = proxy.admin(method, path, &[], body);
                    assert!(matches!(answer.status, 200 | 429 | 503), "{path}: {answer}");
                    asked.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let stopping = Stop(&stop);
        let mut client = proxy.client();
        let mut number = 0;
        while number < 100 || asked.load(Ordering::SeqCst) < 30 {
            let path = format!("/x?{}", number % 40);
            client.get(&origin.url(&path)).assert_status(200).assert_body(&path);
            number += 1;
        }
        drop(stopping);
    });
    assert!(proxy.metric("larder_panics_total", &[]) < 0.5);
}

/// Sets the flag when dropped.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
