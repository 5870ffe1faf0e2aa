//! What may happen to the process itself: descriptors that are closed, being stopped for a while.

use crate::support::proxy::{Signal, command, root};
use crate::support::{Client, Origin, Proxy, eventually};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

/// Ends a process that a test started by itself.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn origin() -> Origin {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"x");
    origin
}

/// Asks on new connections, and for what breaks off in the middle.
#[track_caller]
fn assert_serves(proxy: SocketAddr, origin: &Origin) {
    for _ in 0..20 {
        drop(TcpStream::connect(proxy).unwrap());
        Client::connect(proxy).send("GET http://[ HTTP/9.9\r\n\r\n");
        Client::connect(proxy).get(&origin.url("/x")).assert_body("x");
    }
}

#[test]
fn it_serves_with_its_standard_descriptors_closed_from_the_start() {
    let origin = origin();
    // Nobody can be told which port it took, so it is given a free one.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let binary = command();
    let mut child = Ended(
        Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" <&- >&- 2>&-"])
            .arg(binary.get_program())
            .arg("--config")
            .arg(root().join("config/open.toml"))
            .args(["--listen", &address.to_string(), "--admin-listen", "off"])
            .env("RUST_LOG", "debug")
            .spawn()
            .unwrap(),
    );
    eventually("a listener", || TcpStream::connect(address).ok());
    assert_serves(address, &origin);
    assert!(child.0.try_wait().unwrap().is_none());
}

#[test]
fn it_goes_on_when_the_readers_of_its_output_leave() {
    let origin = origin();
    let mut child = Ended(
        command()
            .arg("--config")
            .arg(root().join("config/open.toml"))
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .env("RUST_LOG", "debug")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    drop(child.0.stdout.take());
    let mut told = BufReader::new(child.0.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut address_of = |what: &str| -> SocketAddr {
        told.find_map(|line| line.strip_prefix(what)?.parse().ok()).unwrap_or_else(|| panic!("no {what}"))
    };
    let proxy = address_of("larder: proxy listening on ");
    let admin = address_of("larder: admin listening on ");
    drop(told);
    assert_serves(proxy, &origin);
    let metrics = || {
        let mut client = Client::connect(admin);
        client.send(format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\n\r\n"));
        client.response("GET").text()
    };
    eventually("lost lines to be counted", || {
        (!metrics().contains("larder_access_log_dropped_lines_total 0\n")).then_some(())
    });
    let panics = metrics().lines().find(|l| l.starts_with("larder_panics_total")).map(str::to_owned);
    assert_eq!(panics.as_deref(), Some("larder_panics_total 0"));
    assert!(child.0.try_wait().unwrap().is_none());
}

#[test]
fn it_goes_on_after_it_was_stopped_for_a_while() {
    let origin = origin();
    let mut proxy = Proxy::open();
    let mut kept = proxy.client();
    kept.get(&origin.url("/x")).assert_body("x");
    proxy.signal(Signal::STOP);
    eventually("the stop", || (proxy.state() == 'T').then_some(()));
    // The kernel takes them; nobody answers yet.
    let mut waiting: Vec<_> = (0..20).map(|_| proxy.client()).collect();
    for client in waiting.iter_mut().chain([&mut kept]) {
        client.begin("GET", &origin.url("/x"), &[], "");
    }
    proxy.signal(Signal::CONT);
    for client in waiting.iter_mut().chain([&mut kept]) {
        client.response("GET").assert_body("x").assert_hit();
    }
    assert!(proxy.running());
}
