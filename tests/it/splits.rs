//! A request means the same however its bytes arrive: split in two at each place.

use crate::support::{Client, Origin, Proxy};

/// What came of a request: the answers' statuses, and what the origin saw as whole requests.
#[derive(Debug, PartialEq)]
struct Verdict {
    statuses: Vec<u16>,
    seen: Vec<Seen>,
}

/// The head's bytes, the body, and the trailers.
type Seen = (Vec<u8>, Vec<u8>, Vec<(String, String)>);

/// The status or statuses, and the request with `@` for a URL of the origin.
const CLASSES: [(&str, &[u16], &str); 31] = [
    ("a GET", &[200], "GET @ HTTP/1.1\r\nHost: h\r\n\r\n"),
    ("1.0", &[200], "GET @ HTTP/1.0\r\n\r\n"),
    ("a HEAD", &[200], "HEAD @ HTTP/1.1\r\nHost: h\r\n\r\n"),
    ("empty lines before", &[200], "\r\n\r\nGET @ HTTP/1.1\r\nHost: h\r\n\r\n"),
    ("bare LFs", &[200], "GET @ HTTP/1.1\nHost: h\nX-A: b\n\n"),
    ("fields", &[200], "GET @ HTTP/1.1\r\nHost: h\r\nX-A: b\r\nx-a:\t c d \r\nX-E:\r\n\r\n"),
    ("obs-text", &[200], "GET @ HTTP/1.1\r\nHost: h\r\nX-A: \u{e9}\r\n\r\n"),
    ("a length", &[200], "PUT @ HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"),
    ("no content", &[200], "POST @ HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"),
    (
        "chunks",
        &[200],
        "PUT @ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n002;a=\"b\"\r\nde\r\n0\r\n\r\n",
    ),
    (
        "trailers",
        &[200],
        "PUT @ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-A: b\r\nX-C: d\r\n\r\n",
    ),
    (
        "a pipeline",
        &[200, 200],
        "PUT @ HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\naGET @ HTTP/1.1\r\nHost: h\r\n\r\n",
    ),
    ("garbage behind", &[200, 400], "GET @ HTTP/1.1\r\nHost: h\r\n\r\n\0garbage\r\n\r\n"),
    ("a close", &[200], "GET @ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\nGET @ HTTP/1.1\r\n\r\n"),
    (
        "two lengths",
        &[400],
        "PUT @ HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    ),
    ("a signed length", &[400], "PUT @ HTTP/1.1\r\nHost: h\r\nContent-Length: +5\r\n\r\nhello"),
    (
        "both",
        &[200],
        "PUT @ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n",
    ),
    (
        "another coding",
        &[400],
        "PUT @ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ),
    ("a coding on 1.0", &[400], "PUT @ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("a space before the colon", &[400], "GET @ HTTP/1.1\r\nHost: h\r\nX-A : b\r\n\r\n"),
    ("a folded line", &[400], "GET @ HTTP/1.1\r\nHost: h\r\nX-A: b\r\n c\r\n\r\n"),
    ("a NUL", &[400], "GET @ HTTP/1.1\r\nHost: h\r\nX-A: \0\r\n\r\n"),
    ("a bare CR", &[400], "GET @ HTTP/1.1\r\nHost: h\r\nX-A: b\rc\r\n\r\n"),
    ("no Host", &[400], "GET @ HTTP/1.1\r\n\r\n"),
    ("two Hosts", &[400], "GET @ HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n"),
    ("another version", &[400], "GET @ HTTP/2.0\r\nHost: h\r\n\r\n"),
    ("another scheme", &[400], "GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n"),
    (
        "a size that is none",
        &[400],
        "PUT @ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
    ),
    (
        "a chunk's wrong end",
        &[400],
        "PUT @ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\naX\r\n0\r\n\r\n",
    ),
    (
        "a bare LF after a chunk",
        &[400],
        "PUT @ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\n0\r\n\r\n",
    ),
    (
        "a bare LF in the trailers",
        &[400],
        "PUT @ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-A: 1\n\r\nX-B: 2\r\n\r\n",
    ),
];

/// Sends these parts, each when the one before it was read.
fn verdict(proxy: &Proxy, origin: &Origin, other: &mut Client, method: &str, parts: [&[u8]; 2]) -> Verdict {
    let before = origin.all().len();
    let mut client = proxy.client();
    client.send(parts[0]);
    // The one thread that serves has seen it, when it has answered somebody who came after it.
    other
        .request("OPTIONS", &format!("http://{}/", proxy.address), &["Max-Forwards: 0"], "")
        .assert_status(200);
    // It may have been refused by now.
    drop(client.wire.write(parts[1]));
    reached(client, origin, before, method)
}

/// Sends one byte at a time, as fast as that goes.
fn dripped(proxy: &Proxy, origin: &Origin, method: &str, request: &[u8]) -> Verdict {
    let before = origin.all().len();
    let mut client = proxy.client();
    for byte in request {
        drop(client.wire.write([*byte]));
    }
    reached(client, origin, before, method)
}

/// What came of it, when nothing more is sent.
fn reached(mut client: Client, origin: &Origin, before: usize, method: &str) -> Verdict {
    client.wire.half_close();
    let mut statuses = Vec::new();
    let mut asked = method;
    while let Ok(response) = client.try_response(asked) {
        statuses.push(response.status);
        asked = "GET";
    }
    let whole = |r: &crate::support::origin::Request| r.whole == Some(true) || r.method == "GET";
    let seen = origin.all().split_off(before);
    let seen = seen.into_iter().filter(whole).map(|r| (r.head.bytes, r.body, r.trailers)).collect();
    Verdict { statuses, seen }
}

#[test]
fn a_request_split_at_any_byte_is_the_same_request() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        x.body();
        x.reply("200 OK", &["Cache-Control: no-store"], "x");
    });
    let proxy = Proxy::with("server.workers = 1");
    let mut other = proxy.client();
    for (what, statuses, request) in CLASSES {
        let request: Vec<u8> = request.replace('@', &origin.url("/x")).chars().map(|c| c as u8).collect();
        let method = if what == "a HEAD" { "HEAD" } else { "GET" };
        let whole = verdict(&proxy, &origin, &mut other, method, [&request, b""]);
        assert_eq!(whole.statuses, statuses, "{what}");
        assert_eq!(whole.seen.len(), statuses.iter().filter(|status| **status == 200).count(), "{what}");
        for at in 1..request.len() {
            let (first, second) = request.split_at(at);
            let split = verdict(&proxy, &origin, &mut other, method, [first, second]);
            assert_eq!(split, whole, "{what}, split before {:?}", String::from_utf8_lossy(second));
        }
    }
}

/// The same for all that is refused: in single bytes, and in two at some places, which are others for each.
#[test]
fn what_is_refused_is_refused_however_its_bytes_come() {
    const PLACES: usize = 6;
    let origin = Origin::start();
    for path in ["/x", "/"] {
        origin.on(path, |x| {
            x.body();
            x.reply("200 OK", &["Cache-Control: no-store"], "x");
        });
    }
    let proxy = Proxy::with("server.workers = 1");
    let mut other = proxy.client();
    let refused = Verdict { statuses: vec![400], seen: Vec::new() };
    let cases = crate::bad_input::refused();
    assert!(cases.len() > 60, "{}", cases.len());
    for (number, (what, request)) in cases.into_iter().enumerate() {
        let request = request.replace("URL", &origin.url("/x")).replace("HOST", &origin.address.to_string());
        let request: Vec<u8> = request.chars().map(|c| c as u8).collect();
        let method = "GET";
        assert_eq!(verdict(&proxy, &origin, &mut other, method, [&request, b""]), refused, "{what}");
        assert_eq!(dripped(&proxy, &origin, method, &request), refused, "{what}, in single bytes");
        for place in 0..PLACES {
            let at = 1 + (place * request.len() / PLACES + 7 * number) % (request.len() - 1);
            let (first, second) = request.split_at(at);
            let split = verdict(&proxy, &origin, &mut other, method, [first, second]);
            assert_eq!(split, refused, "{what}, split before {:?}", String::from_utf8_lossy(second));
        }
    }
    assert!(proxy.metric("larder_panics_total", &[]) < 0.5);
}
