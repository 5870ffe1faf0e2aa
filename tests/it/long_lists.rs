//! Lists in fields that are as long as a head may be: neither side gets much work for so little.

use crate::support::{Client, Origin, Proxy};

/// Names of three letters, as many as a field may have within the limits.
const NAMES: usize = 15_000;

/// Milliseconds of a processor that a request may take: fifty, and ten times that for a slow machine and a build for
/// tests. Work that grows with the square of a list takes seconds.
const MOST: u64 = 500;

fn names() -> Vec<String> {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz";
    let letter = |at: usize| char::from(LETTERS[at % LETTERS.len()]);
    (0..NAMES).map(|at| [letter(at / 676), letter(at / 26), letter(at)].iter().collect()).collect()
}

/// Milliseconds that the proxy has used of a processor so far.
fn used(proxy: &Proxy) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", proxy.pid())).unwrap();
    let times = stat.rsplit(") ").next().unwrap().split(' ').skip(11).take(2);
    // In hundredths of a second.
    times.map(|time| time.parse::<u64>().unwrap() * 10).sum()
}

/// How much of it one of three equal requests takes, by which time there may be something stored.
fn cost(proxy: &Proxy, ask: impl Fn(&mut Client)) -> u64 {
    let mut client = proxy.client();
    let before = used(proxy);
    for _ in 0..3 {
        ask(&mut client);
    }
    (used(proxy) - before) / 3
}

#[test]
fn long_lists_of_an_origin_cost_little() {
    let origin = Origin::start();
    let proxy = Proxy::closed().arguments(&["--allow-private"]).start();
    let commas = names().join(",");
    let chunks = "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nabc: 1\r\n\r\n";
    let length = "Content-Length: 2\r\n\r\nhi";
    for (path, field, framing) in [
        ("/vary", format!("Vary: {commas}"), length),
        ("/connection", format!("Connection: {commas}"), chunks),
        ("/no-cache", format!("Cache-Control: no-cache=\"{commas}\""), length),
        ("/directives", format!("Cache-Control: {commas}"), length),
        ("/quotes", format!("Cache-Control: x{}", ",\"".repeat(NAMES)), length),
        ("/trailer", format!("Trailer: {commas}"), chunks),
        ("/tags", format!("Surrogate-Key: {}", names().join(" ")), length),
        ("/via", format!("Via: 1.1 {}", names()[..6_000].join(", 1.1 ")), length),
        ("/status", format!("Cache-Status: {commas}"), length),
        ("/age", format!("Age: {}", "1,".repeat(30_000)), length),
        ("/keep-alive", format!("Keep-Alive: {commas}"), length),
        ("/upgrade", format!("Upgrade: {commas}"), length),
        ("/languages", format!("Vary: Accept-Language\r\nContent-Language: {commas}"), length),
    ] {
        let head = format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n{field}\r\n{framing}");
        origin.on(path, move |x| x.write(&head));
        let cost = cost(&proxy, |client| {
            client.get(&origin.url(path)).assert_status(200).assert_body("hi");
        });
        assert!(cost < MOST, "{path}: {cost} ms");
    }
    assert!(proxy.metric("larder_panics_total", &[]) < 0.5);
}

#[test]
fn long_lists_of_a_client_cost_little() {
    let origin = Origin::start();
    let fresh: &'static [&'static str] =
        &["Cache-Control: max-age=60", "ETag: \"v\"", "Vary: Accept-Language, Accept-Encoding, X"];
    origin.serve("/x", "200 OK", fresh, b"hi");
    let proxy = Proxy::closed().arguments(&["--allow-private"]).start();
    let (commas, url) = (names().join(","), origin.url("/x"));
    let tags = names()[..9_000].iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(",");
    let weights = names()[..6_000].join(";q=0.5,");
    for (what, field) in [
        ("Connection", format!("Connection: {commas}")),
        ("Connection with a field there", format!("Connection: {}\r\nabc: 1", "abc,".repeat(NAMES))),
        ("Cache-Control", format!("Cache-Control: {commas}")),
        ("Range", format!("Range: bytes={}", "0-0,".repeat(14_000))),
        ("If-None-Match", format!("If-None-Match: {tags}")),
        ("If-Match", format!("If-Match: {tags}")),
        ("open quotes", format!("If-None-Match: {}", "\"a,".repeat(NAMES))),
        ("Accept-Language", format!("Accept-Language: {weights}")),
        ("Accept-Encoding", format!("Accept-Encoding: {weights}")),
        ("a selecting field", format!("X: {commas}")),
        ("Accept", format!("Accept: {weights}")),
        ("Via", format!("Via: 1.1 {}", names()[..6_000].join(", 1.1 "))),
        ("TE", format!("TE: {commas}")),
        ("Upgrade", format!("Connection: upgrade\r\nUpgrade: {commas}")),
        ("Expect", format!("Expect: {commas}")),
        ("Digest", format!("Proxy-Authorization: Digest {}", names()[..9_000].join("=1,"))),
    ] {
        let get = cost(&proxy, |client| drop(client.get_with(&url, &[&field])));
        assert!(get < MOST, "GET, {what}: {get} ms");
        let chunked = format!("{field}\r\nTransfer-Encoding: chunked\r\nTrailer: abc");
        let head = format!("PUT {url} HTTP/1.1\r\nHost: h\r\n{chunked}\r\n\r\n");
        let put = cost(&proxy, |client| {
            client.send(format!("{head}2\r\nhi\r\n0\r\nabc: 1\r\n\r\n"));
            client.response("PUT").assert_status(200);
        });
        assert!(put < MOST, "PUT, {what}: {put} ms");
    }
    assert!(proxy.metric("larder_panics_total", &[]) < 0.5);
}
