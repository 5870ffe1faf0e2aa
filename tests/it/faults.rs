//! An origin that breaks off, drips, half-closes or is slow to accept: what came is right, and what is not whole
//! does not look so.

use crate::support::faults::{Step, crowd, drip, play, send};
use crate::support::proxy::Signal;
use crate::support::{Client, DEADLINE, Gate, Origin, Proxy, Response, eventually, pattern};
use std::sync::mpsc;
use std::time::Duration;

const BODY: &str = "0123456789abcdefghijklmnopqrstuvwxyz";

/// One whole response with [`BODY`], by its length and in chunks (of 10 and of 26 bytes).
fn responses() -> [(&'static str, Vec<u8>); 2] {
    const HEAD: &str = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n";
    let (first, second) = BODY.split_at(10);
    [
        ("length", format!("{HEAD}Content-Length: {}\r\n\r\n{BODY}", BODY.len()).into()),
        (
            "chunks",
            format!("{HEAD}Transfer-Encoding: chunked\r\n\r\nA\r\n{first}\r\n1a\r\n{second}\r\n0\r\n\r\n")
                .into(),
        ),
    ]
}

/// Asserts that it is not stored.
#[track_caller]
fn assert_unstored(client: &mut Client, url: &str) {
    client.get_with(url, &["Cache-Control: only-if-cached"]).assert_status(504);
}

/// Asserts that an answer which broke off at some byte looks so: our 502, or a part of the body and no end.
#[track_caller]
fn assert_broken(what: &str, answer: std::io::Result<Response>) {
    let answer = answer.unwrap_or_else(|error| panic!("{what}: no answer at all: {error}"));
    if answer.status == 502 {
        assert!(answer.broken.is_none() && !answer.text().contains("0123"), "{what}: {answer}");
        assert!(answer.field("proxy-status").is_some_and(|s| s.contains("larder")), "{what}: {answer}");
        return;
    }
    assert_eq!(answer.status, 200, "{what}: {answer}");
    assert!(answer.broken.is_some(), "{what} looks whole: {answer}");
    assert!(BODY.as_bytes().starts_with(&answer.body), "{what}: {answer}");
}

#[test]
fn a_response_that_ends_at_any_byte_of_it_is_never_taken_for_whole() {
    let origin = Origin::start();
    let proxy = Proxy::open();
    let mut asking = proxy.client();
    for (framing, bytes) in responses() {
        let head = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        for count in 0..bytes.len() {
            for reset in [false, true] {
                let what = format!("/{framing}/{count}/{reset}");
                let bytes = bytes.clone();
                origin.on(&what, move |x| {
                    if reset {
                        play(x, [Step::ResetAfter { bytes: bytes.clone(), count }]);
                    } else {
                        play(x, [send(&bytes[..count]), Step::Cut]);
                    }
                });
                let mut client = proxy.client();
                client.begin("GET", &origin.url(&what), &[], "");
                let answer = client.try_response("GET");
                // A head that arrived whole goes on, however soon its body breaks off.
                let status = answer.as_ref().map(|answer| answer.status).ok();
                assert_eq!(status, Some(if count < head { 502 } else { 200 }), "{what}");
                assert_broken(&what, answer);
                assert_unstored(&mut asking, &origin.url(&what));
                assert_eq!(origin.hits(&what), 1, "{what}: on a new connection nothing is asked for twice");
            }
        }
    }
    assert!(proxy.metric("larder_panics_total", &[]) < 0.5);
}

/// The proxy finds head, part and break all at once, as where it is slow: what came before the break goes on.
#[test]
fn a_head_goes_on_though_its_body_breaks_off_in_the_same_moment() {
    let origin = Origin::start();
    let proxy = Proxy::open();
    for (framing, bytes) in responses() {
        let start = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        for (count, storing) in
            [(start, "max-age=60"), (start + 16, "max-age=60"), (start, "no-store"), (start + 16, "no-store")]
        {
            for reset in [false, true] {
                let path = format!("/{framing}/{count}/{storing}/{reset}");
                let part = String::from_utf8_lossy(&bytes[..count]).replace("max-age=60", storing);
                let (gate, (sent, was_sent)) = (Gate::new(), mpsc::channel());
                let held = gate.clone();
                origin.on(&path, move |x| {
                    let end = if reset { Step::Reset } else { Step::Cut };
                    play(x, [Step::Until(held.clone()), send(&part), end]);
                    sent.send(()).unwrap();
                });
                let mut client = proxy.client();
                client.begin("GET", &origin.url(&path), &[], "");
                origin.wait(&path, 1);
                proxy.signal(Signal::STOP);
                eventually("the stop", || (proxy.state() == 'T').then_some(()));
                gate.open();
                was_sent.recv_timeout(DEADLINE).unwrap();
                proxy.signal(Signal::CONT);
                let answer = client.try_response("GET").unwrap_or_else(|e| panic!("{path}: no answer: {e}"));
                answer.assert_status(200);
                assert_broken(&path, Ok(answer));
                assert_unstored(&mut proxy.client(), &origin.url(&path));
            }
        }
    }
}

#[test]
fn what_came_before_a_break_has_passed_and_nothing_follows_it() {
    let origin = Origin::start();
    let proxy = Proxy::open();
    for (place, tail) in [
        ("between chunks", ""),
        ("within a size", "1"),
        ("after a size", "1a"),
        ("within a size's line end", "1a\r"),
        ("before a chunk's data", "1a\r\n"),
        ("after a chunk's data", "1a\r\nabcdefghijklmnopqrstuvwxyz"),
        ("before the last line end", "1a\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n"),
    ] {
        for end in [Step::Cut, Step::Reset] {
            let gate = Gate::new();
            let steps = [
                send("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n"),
                send("A\r\n0123456789\r\n"),
                Step::Until(gate.clone()),
                send(tail),
                end,
            ];
            origin.on("/x", move |x| play(x, steps.clone()));
            let mut client = proxy.client();
            client.begin("GET", &origin.url("/x"), &[], "");
            let head = client.head("GET");
            head.assert_status(200);
            assert_eq!(client.wire.chunk().unwrap().unwrap(), b"0123456789", "{place}");
            gate.open();
            let rest = client.finish(head);
            assert!(rest.broken.is_some(), "{place}: it looks whole: {rest}");
            assert!(BODY.as_bytes()[10..].starts_with(&rest.body), "{place}: {rest}");
            assert_unstored(&mut proxy.client(), &origin.url("/x"));
        }
    }
}

#[test]
fn a_response_that_drips_passes_whole_and_is_stored() {
    let origin = Origin::start();
    let proxy = Proxy::open();
    for (framing, bytes) in responses() {
        let path = format!("/{framing}");
        let interim = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
        origin.on(&path, move |x| {
            play(x, [drip(interim), Step::Stall(Duration::from_millis(50)), drip(&bytes)])
        });
        let mut client = proxy.client();
        for count in 0..2 {
            let response = client.get(&origin.url(&path));
            response.assert_status(200).assert_body(BODY);
            assert_eq!(response.is_hit(), count > 0, "{response}");
        }
        assert_eq!(origin.hits(&path), 1);
    }
    assert_eq!(origin.connections(), 1, "after such a response the connection is as good as any");
}

#[test]
fn an_origin_that_only_ends_what_it_sends_is_let_go() {
    let origin = Origin::start();
    let proxy = Proxy::open();
    let [(_, bytes), _] = responses();
    let part = &bytes[..bytes.len() - 20];
    let (closed, was_closed) = mpsc::channel();
    for (path, said) in [("/silent", &b""[..]), ("/part", part), ("/whole", &bytes)] {
        let (said, closed) = (said.to_vec(), closed.clone());
        origin.on(path, move |x| {
            play(x, [send(&said), Step::HalfClose, Step::Drain]);
            closed.send(()).ok();
        });
        let mut client = proxy.client();
        client.begin("GET", &origin.url(path), &[], "");
        let answer = client.try_response("GET");
        match path {
            "/silent" => drop(answer.unwrap().assert_error(502, "connection_terminated")),
            "/part" => assert_broken(path, answer),
            _ => drop(answer.unwrap().assert_status(200).assert_body(BODY)),
        }
        // It is closed from the proxy's side too.
        was_closed.recv_timeout(DEADLINE).unwrap();
    }
    // And nobody is sent to it.
    proxy.request("POST", &origin.url("/whole"), &[], "upload").assert_status(200).assert_body(BODY);
    assert_eq!((origin.hits("/whole"), origin.last("/whole").connection), (2, 3));
}

#[test]
fn an_origin_that_is_slow_to_accept_is_waited_for_and_asked_once() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::reluctant(move || held.pass());
    let body = pattern(300_000);
    origin.on("/x", {
        let body = body.clone();
        move |x| x.reply("200 OK", &["Cache-Control: max-age=60"], &body)
    });
    let _crowd = crowd(origin.address);
    let proxy = Proxy::with("upstream.connect_timeout = '60s'");
    let mut client = proxy.client();
    client.begin("POST", &origin.url("/x"), &[], "upload");
    // It knocks, and nobody answers: 02 is the state of a connection that is asked for.
    let knocks = format!(":{:04X} 02 ", origin.address.port());
    eventually("a connection that is not answered", || {
        std::fs::read_to_string("/proc/net/tcp").unwrap().contains(&knocks).then_some(())
    });
    assert_eq!(origin.hits("/x"), 0);
    gate.open();
    client.response("POST").assert_status(200).assert_body(&body);
    assert_eq!((origin.hits("/x"), origin.wait_body("/x").body.as_slice()), (1, &b"upload"[..]));
}

/// hyper takes them; but what was meant to be in them can't be told. RFC 9112 section 7.1.2.
#[test]
fn a_response_with_a_bare_lf_in_its_trailers_breaks_off_and_is_not_stored() {
    const HEAD: &str =
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let origin = Origin::start();
    let proxy = Proxy::open();
    let long = "a".repeat(10_000);
    for (number, (end, whole)) in [
        ("0\r\nX-A: 1\r\n\r\n".to_owned(), true),
        (format!("0;a=b\r\nX-A: {long}\r\nX-B: 2\r\n\r\n"), true),
        ("0\r\n\nX-A: 1\r\n\r\n".to_owned(), false),
        ("0\r\nX-A: 1\n\r\nX-B: 2\r\n\r\n".to_owned(), false),
        ("0\r\nX-A: 1\n\nX-B: 2\r\n\r\n".to_owned(), false),
        ("0\r\nX-A: 1\nX-B: 2\r\n\r\n".to_owned(), false),
        (format!("0\r\nX-A: 1\n\r\nP: {long}\r\n0\r\nX-B: 1\r\n\r\n"), false),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/{number}");
        let bytes = format!("{HEAD}{end}");
        origin.on(&path, move |x| x.write(&bytes));
        let mut client = proxy.client();
        client.begin("GET", &origin.url(&path), &[], "");
        let answer = client.try_response("GET");
        let came_whole =
            answer.as_ref().is_ok_and(|a| a.status == 200 && a.broken.is_none() && a.text() == "hello");
        assert_eq!(came_whole, whole, "{end:?}");
        let mut asking = proxy.client();
        let stored = asking.get_with(&origin.url(&path), &["Cache-Control: only-if-cached"]).status;
        assert_eq!(stored, if whole { 200 } else { 504 }, "{end:?}");
    }
}

/// hyper drops what it has not flushed when a body fails. To a client on a connection that it used before, an end without
/// a byte says that nobody took the request: browsers send it again, whatever the method.
#[test]
fn an_answer_that_breaks_at_once_is_an_answer_all_the_same() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\n";
    let origin = Origin::start();
    let proxy = Proxy::open();
    for (name, rest) in [
        ("/cut", "Content-Length: 5\r\n\r\n"),
        ("/short", "Content-Length: 5\r\n\r\n012"),
        ("/size", "Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
        ("/second", "Transfer-Encoding: chunked\r\n\r\n3\r\n012\r\nzz\r\n"),
        ("/trailer", "Transfer-Encoding: chunked\r\n\r\n3\r\n012\r\n0\r\nX y\r\n\r\n"),
    ] {
        let bytes = format!("{HEAD}{rest}");
        origin.on(name, move |x| play(x, [send(&bytes), Step::Cut]));
        for method in ["GET", "POST"].repeat(10) {
            let mut client = proxy.client();
            client.begin(method, &origin.url(name), &[], "");
            let answer = client.try_response(method).unwrap_or_else(|e| panic!("{method} {name}: {e}"));
            // Chunks that are none from the first byte on are no answer, where that is seen before the head goes out.
            if name != "/size" {
                answer.assert_status(200);
            }
            assert_broken(name, Ok(answer));
        }
        assert_eq!(origin.hits(name), 20, "{name}");
    }
}
