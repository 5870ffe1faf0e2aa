//! A client's conditions and ranges, answered from the store. RFC 9110 sections 13 and 14, RFC 9111 section 3.3.

use crate::support::{Gate, Origin, Proxy, Response, date, eventually, pattern};

const LENGTH: usize = 1_000;

struct Stored {
    proxy: Proxy,
    origin: Origin,
    modified: String,
}

/// A stored response of [`LENGTH`] bytes with an `ETag` and a Last-Modified.
fn stored() -> Stored {
    let origin = Origin::start();
    let modified = date(-10_000);
    let field = format!("Last-Modified: {modified}");
    origin.on("/x", move |x| {
        x.reply(
            "200 OK",
            &[
                "Cache-Control: max-age=60",
                "ETag: \"v\"",
                &field,
                "Content-Type: text/plain",
                "Vary: X-Select",
                "Content-Location: /y",
            ],
            pattern(LENGTH),
        );
    });
    let proxy = Proxy::open();
    proxy.get(&origin.url("/x"));
    Stored { proxy, origin, modified }
}

impl Stored {
    #[track_caller]
    fn get(&self, fields: &[&str]) -> Response {
        let response = self.proxy.get_with(&self.origin.url("/x"), fields);
        response.assert_hit();
        assert_eq!(self.origin.hits("/x"), 1);
        response
    }
}

#[test]
fn conditions_are_answered_in_their_order() {
    let stored = stored();
    let earlier = date(-20_000);
    let later = date(-5_000);
    let same = stored.modified.clone();
    for (fields, status) in [
        (vec!["If-None-Match: \"v\"".to_owned()], 304),
        (vec!["If-None-Match: W/\"v\"".to_owned()], 304),
        (vec!["If-None-Match: \"a\", \"v\" , \"b\"".to_owned()], 304),
        (vec!["If-None-Match: \"a\"".to_owned(), "If-None-Match: \"v\"".to_owned()], 304),
        (vec!["If-None-Match: *".to_owned()], 304),
        (vec!["If-None-Match: \"a\"".to_owned()], 200),
        (vec!["If-None-Match: v".to_owned()], 200),
        (vec![format!("If-Modified-Since: {same}")], 304),
        (vec![format!("If-Modified-Since: {later}")], 304),
        (vec![format!("If-Modified-Since: {earlier}")], 200),
        (vec!["If-Modified-Since: yesterday".to_owned()], 200),
        (vec!["If-None-Match: \"a\"".to_owned(), format!("If-Modified-Since: {same}")], 200),
        (vec!["If-Match: \"v\"".to_owned()], 200),
        (vec!["If-Match: *".to_owned()], 200),
        (vec!["If-Match: \"a\"".to_owned()], 412),
        (vec!["If-Match: W/\"v\"".to_owned()], 412),
        (vec![format!("If-Unmodified-Since: {same}")], 200),
        (vec![format!("If-Unmodified-Since: {earlier}")], 412),
        (vec!["If-Match: \"v\"".to_owned(), format!("If-Unmodified-Since: {earlier}")], 200),
    ] {
        let fields: Vec<_> = fields.iter().map(String::as_str).collect();
        let response = stored.get(&fields);
        assert_eq!(response.status, status, "{fields:?}");
        if status == 200 {
            response.assert_body(pattern(LENGTH));
        }
    }
}

#[test]
fn a_304_from_the_store_has_what_the_client_needs_to_update_its_own() {
    let stored = stored();
    let response = stored.get(&["If-None-Match: \"v\""]);
    response.assert_status(304).assert_body("");
    for name in ["etag", "date", "vary", "cache-control", "age", "content-location"] {
        assert!(response.field(name).is_some(), "{name}: {response}");
    }
}

#[test]
fn ranges_are_cut_from_a_stored_response() {
    let stored = stored();
    let whole = pattern(LENGTH);
    for (range, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=0-", 0, 999),
        ("bytes=10-19", 10, 19),
        ("bytes=990-5000", 990, 999),
        ("bytes=-1", 999, 999),
        ("bytes=-5000", 0, 999),
        ("Bytes=5-6", 5, 6),
    ] {
        let response = stored.get(&[&format!("Range: {range}")]);
        response.assert_status(206).assert_body(&whole[first..=last]);
        assert_eq!(
            response.field("content-range"),
            Some(format!("bytes {first}-{last}/{LENGTH}")),
            "{range}"
        );
        assert_eq!(response.field("content-length"), Some((last - first + 1).to_string()), "{range}");
        assert_eq!(response.field("etag").as_deref(), Some("\"v\""));
    }
}

#[test]
fn several_ranges_make_a_multipart_body() {
    let stored = stored();
    let whole = pattern(LENGTH);
    let response = stored.get(&["Range: bytes=0-1, 500-509 ,-3"]);
    response.assert_status(206);
    let content_type = response.field("content-type").unwrap();
    let boundary = content_type
        .strip_prefix("multipart/byteranges; boundary=")
        .expect("a multipart type")
        .trim_matches('"');
    let mut expected = Vec::new();
    for (first, last) in [(0, 1), (500, 509), (997, 999)] {
        expected.push((format!("bytes {first}-{last}/{LENGTH}"), whole[first..=last].to_vec()));
    }
    assert_eq!(parts(&response.body, boundary), expected);
    assert_eq!(response.field("content-length"), Some(response.body.len().to_string()));
    assert_eq!(response.field("content-range"), None);
}

/// Content-Range and body of each part.
fn parts(body: &[u8], boundary: &str) -> Vec<(String, Vec<u8>)> {
    let delimiter = format!("--{boundary}");
    let find = |from: usize, what: &[u8]| {
        body[from..].windows(what.len()).position(|w| w == what).map(|at| from + at)
    };
    let mut parts = Vec::new();
    let mut at = find(0, delimiter.as_bytes()).expect("a first delimiter") + delimiter.len();
    while !body[at..].starts_with(b"--") {
        let head_end = find(at, b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&body[at..head_end]).into_owned();
        let range = head
            .lines()
            .find_map(|l| l.to_lowercase().strip_prefix("content-range: ").map(str::to_owned))
            .unwrap();
        let end = find(head_end, format!("\r\n{delimiter}").as_bytes()).unwrap();
        parts.push((range, body[head_end + 4..end].to_vec()));
        at = end + 2 + delimiter.len();
    }
    parts
}

#[test]
fn a_range_beyond_the_end_is_416_and_a_malformed_one_is_ignored() {
    let stored = stored();
    let response = stored.get(&["Range: bytes=1000-"]);
    response.assert_status(416);
    assert_eq!(response.field("content-range"), Some(format!("bytes */{LENGTH}")));
    for range in ["bytes=5-2", "bytes=a-b", "lines=1-2", "bytes=+1-2", "bytes 0-1"] {
        stored.get(&[&format!("Range: {range}")]).assert_status(200).assert_body(pattern(LENGTH));
    }
}

#[test]
fn if_range_decides_whether_the_range_counts() {
    let stored = stored();
    let same = format!("If-Range: {}", stored.modified);
    let other = format!("If-Range: {}", date(-20_000));
    for (condition, status) in [
        ("If-Range: \"v\"", 206),
        ("If-Range: W/\"v\"", 200),
        ("If-Range: \"a\"", 200),
        (&same, 206),
        (&other, 200),
    ] {
        stored.get(&["Range: bytes=0-1", condition]).assert_status(status);
    }
}

#[test]
fn ranges_mean_nothing_to_head_and_a_304_comes_before_them() {
    let stored = stored();
    let url = stored.origin.url("/x");
    let response = stored.proxy.request("HEAD", &url, &["Range: bytes=0-1"], "");
    response.assert_status(200);
    stored.get(&["Range: bytes=0-1", "If-None-Match: \"v\""]).assert_status(304);
}

#[test]
fn too_many_ranges_never_cost_more_than_the_whole() {
    let stored = stored();
    let many: Vec<_> = (0..1_500).map(|_| "0-999").collect();
    let response = stored.get(&[&format!("Range: bytes={}", many.join(","))]);
    assert!(response.body.len() <= 2 * LENGTH + 500, "{} bytes out", response.body.len());
}

/// An origin that answers ranges of a resource with a strong validator.
fn ranged() -> Origin {
    let origin = Origin::start();
    origin.on("/x", |x| {
        let whole = pattern(LENGTH);
        let fields = ["Cache-Control: max-age=60", "ETag: \"v\""];
        let Some(range) = x.request.field("range") else { return x.reply("200 OK", &fields, whole) };
        let (first, last) = range.trim_start_matches("bytes=").split_once('-').unwrap();
        let first: usize = first.parse().unwrap();
        let last: usize = if last.is_empty() { LENGTH - 1 } else { last.parse().unwrap() };
        let content_range = format!("Content-Range: bytes {first}-{last}/{LENGTH}");
        x.reply("206 Partial Content", &[fields[0], fields[1], &content_range], &whole[first..=last]);
    });
    origin
}

#[test]
fn a_partial_response_answers_the_ranges_that_it_holds() {
    let origin = ranged();
    let proxy = Proxy::open();
    let url = origin.url("/x");
    let whole = pattern(LENGTH);
    proxy.get_with(&url, &["Range: bytes=100-199"]).assert_status(206).assert_body(&whole[100..200]);
    let hit = proxy.get_with(&url, &["Range: bytes=110-119"]);
    hit.assert_hit().assert_status(206).assert_body(&whole[110..120]);
    assert_eq!(hit.field("content-range").as_deref(), Some("bytes 110-119/1000"));
    assert_eq!(origin.hits("/x"), 1);
    let beyond = proxy.get_with(&url, &["Range: bytes=190-210"]);
    beyond.assert_status(206).assert_body(&whole[190..=210]);
    assert!(!beyond.cache().has("hit"));
    proxy.get(&url).assert_status(200).assert_body(whole);
}

/// The rest of `/x` comes half by half when the gate opens.
fn rest_held_midway(origin: &Origin) -> Gate {
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/x", move |x| {
        let whole = pattern(LENGTH);
        let fields = "Cache-Control: max-age=60\r\nETag: \"v\"\r\nContent-Length: 500";
        if x.request.field("range").as_deref() == Some("bytes=0-499") {
            x.write(format!(
                "HTTP/1.1 206 Partial Content\r\n{fields}\r\nContent-Range: bytes 0-499/1000\r\n\r\n"
            ));
            x.write(&whole[..500]);
        } else {
            x.write(format!(
                "HTTP/1.1 206 Partial Content\r\n{fields}\r\nContent-Range: bytes 500-999/1000\r\n\r\n"
            ));
            x.write(&whole[500..750]);
            held.pass();
            x.write(&whole[750..]);
        }
    });
    gate
}

#[test]
fn what_is_completed_is_read_while_the_rest_comes_and_others_join() {
    let origin = Origin::start();
    let gate = rest_held_midway(&origin);
    let proxy = Proxy::open();
    let url = origin.url("/x");
    let whole = pattern(LENGTH);
    proxy.get_with(&url, &["Range: bytes=0-499"]).assert_status(206);
    let mut readers: Vec<_> = (0..3).map(|_| proxy.client()).collect();
    let heads: Vec<_> = readers
        .iter_mut()
        .map(|client| {
            client.begin("GET", &url, &[], "");
            let head = client.head("GET");
            assert_eq!(client.wire.exactly(750).unwrap(), whole[..750]);
            head
        })
        .collect();
    heads[0].assert_status(200).assert_forwarded("partial");
    assert!(heads[1..].iter().all(|head| head.cache().has("collapsed")), "{}", heads[1]);
    let asked = origin.last("/x");
    assert_eq!(
        (asked.field("range").as_deref(), asked.field("if-range").as_deref()),
        (Some("bytes=500-"), Some("\"v\""))
    );
    gate.open();
    for client in &mut readers {
        assert_eq!(client.wire.exactly(250).unwrap(), whole[750..]);
    }
    proxy.get(&url).assert_hit().assert_body(&whole);
    assert_eq!(origin.hits("/x"), 2);
}

#[test]
fn a_completion_that_nobody_reads_ends_as_any_fill() {
    let origin = Origin::start();
    let gate = rest_held_midway(&origin);
    let proxy = Proxy::with("cache = { finish_bytes = '0B', finish_time = '0s' }");
    let url = origin.url("/x");
    proxy.get_with(&url, &["Range: bytes=0-499"]).assert_status(206);
    let mut client = proxy.client();
    client.begin("GET", &url, &[], "");
    client.head("GET").assert_status(200);
    client.wire.reset();
    eventually("the abandoned fill", || {
        let count = proxy.metric("larder_store_refusals_total", &["reason=\"abandoned\""]);
        (count > 0.5).then_some(())
    });
    gate.open();
    // The part is still there.
    proxy.get_with(&url, &["Range: bytes=100-199"]).assert_hit();
}

#[test]
fn parts_without_a_strong_validator_are_not_completed() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        let fields = ["Cache-Control: max-age=60", "ETag: W/\"v\"", "Content-Range: bytes 0-4/10"];
        if x.request.field("range").is_some() {
            x.reply("206 Partial Content", &fields, "01234")
        } else {
            x.reply("200 OK", &fields[..2], "0123456789")
        }
    });
    let proxy = Proxy::open();
    let url = origin.url("/x");
    proxy.get_with(&url, &["Range: bytes=0-4"]).assert_status(206);
    proxy.get(&url).assert_status(200).assert_body("0123456789");
    assert_eq!(origin.last("/x").field("range"), None);
    assert_eq!(origin.hits("/x"), 2);
}

#[test]
fn a_part_that_is_the_whole_answers_for_it() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        let fields = ["Cache-Control: max-age=60", "Content-Range: bytes 0-9/10"];
        x.reply("206 Partial Content", &fields, "0123456789");
    });
    let proxy = Proxy::open();
    let url = origin.url("/x");
    proxy.get_with(&url, &["Range: bytes=0-"]).assert_status(206);
    let whole = proxy.get(&url);
    whole.assert_hit().assert_status(200).assert_body("0123456789");
    assert_eq!(whole.field("content-range"), None);
    assert_eq!(origin.hits("/x"), 1);
}

#[test]
fn a_range_of_a_body_whose_length_nobody_knows_yet_goes_alone() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/x", move |x| {
        if x.request.field("range").is_some() {
            return x.reply("416 Range Not Satisfiable", &["Content-Range: bytes */20"], "");
        }
        x.write("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n");
        held.pass();
        x.write("a\r\n0123456789\r\n0\r\n\r\n");
    });
    let proxy = Proxy::open();
    let url = origin.url("/x");
    let mut client = proxy.client();
    client.begin("GET", &url, &[], "");
    let whole = client.head("GET");
    proxy.get_with(&url, &["Range: bytes=100-200"]).assert_status(416);
    gate.open();
    client.finish(whole).assert_body("01234567890123456789");
    let range = proxy.get_with(&url, &["Range: bytes=15-100000"]);
    range.assert_hit().assert_status(206).assert_body("56789");
}

#[test]
fn partial_responses_are_combined_on_a_strong_validator() {
    let origin = ranged();
    let proxy = Proxy::open();
    let url = origin.url("/x");
    let whole = pattern(LENGTH);
    proxy.get_with(&url, &["Range: bytes=0-499"]);
    proxy.get_with(&url, &["Range: bytes=500-999"]);
    let combined = proxy.get_with(&url, &["Range: bytes=400-599"]);
    combined.assert_hit().assert_status(206).assert_body(&whole[400..600]);
    let complete = proxy.get(&url);
    complete.assert_hit().assert_status(200).assert_body(whole);
    assert_eq!(origin.hits("/x"), 2);
}

#[test]
fn partial_responses_of_different_representations_are_not_combined() {
    let origin = Origin::start();
    for (path, etags) in [("/changed", ["\"v\"", "\"w\""]), ("/weak", ["W/\"v\"", "W/\"v\""])] {
        origin.on(path, move |x| {
            let whole = pattern(LENGTH);
            let (first, last) = if x.number == 1 { (0, 499) } else { (500, 999) };
            let fields = [
                "Cache-Control: max-age=60",
                &format!("ETag: {}", etags[usize::from(x.number > 1)]),
                &format!("Content-Range: bytes {first}-{last}/{LENGTH}"),
            ];
            x.reply("206 Partial Content", &fields, &whole[first..=last]);
        });
    }
    let proxy = Proxy::open();
    for path in ["/changed", "/weak"] {
        let url = origin.url(path);
        proxy.get_with(&url, &["Range: bytes=0-499"]);
        proxy.get_with(&url, &["Range: bytes=500-999"]);
        let across = proxy.get_with(&url, &["Range: bytes=400-599"]);
        assert!(!across.cache().has("hit"), "{path}: {across}");
        let count = origin.hits(path);
        proxy.get_with(&url, &[]);
        assert!(origin.hits(path) > count, "{path} is not complete");
    }
}

#[test]
fn a_206_that_contradicts_itself_is_not_stored() {
    let origin = Origin::start();
    for (path, range) in [
        ("/short", "bytes 0-5/10"),
        ("/beyond", "bytes 8-12/10"),
        ("/junk", "bytes x-y/z"),
        ("/other", "bytes 3-7/10"),
    ] {
        origin.on(path, move |x| {
            x.reply(
                "206 Partial Content",
                &["Cache-Control: max-age=60", "ETag: \"v\"", &format!("Content-Range: {range}")],
                "01234",
            );
        });
    }
    let proxy = Proxy::open();
    for path in ["/short", "/beyond", "/junk"] {
        for _ in 0..2 {
            proxy.get_with(&origin.url(path), &["Range: bytes=0-4"]);
        }
        assert_eq!(origin.hits(path), 2, "{path}");
    }
    // Another range than was asked for is what it says it is.
    proxy.get_with(&origin.url("/other"), &["Range: bytes=0-4"]);
    proxy.get_with(&origin.url("/other"), &["Range: bytes=0-4"]);
    assert_eq!(origin.hits("/other"), 2);
}

#[test]
fn a_partial_response_that_breaks_off_is_not_stored() {
    let origin = Origin::start();
    for (path, framing, body) in [
        ("/length", "Content-Length: 5", "01"),
        ("/chunked", "Transfer-Encoding: chunked", "2\r\n01\r\n"),
        ("/short", "Transfer-Encoding: chunked", "2\r\n01\r\n0\r\n\r\n"),
    ] {
        origin.on(path, move |x| {
            let fields = "Cache-Control: max-age=60\r\nETag: \"v\"\r\nContent-Range: bytes 0-4/10";
            x.write(format!("HTTP/1.1 206 Partial Content\r\n{fields}\r\n{framing}\r\n\r\n{body}"));
            x.close();
        });
    }
    let proxy = Proxy::open();
    for path in ["/length", "/chunked", "/short"] {
        for _ in 0..2 {
            let mut client = proxy.client();
            client.begin("GET", &origin.url(path), &["Range: bytes=0-4"], "");
            // How the break looks to this client is told elsewhere.
            drop(client.try_response("GET"));
        }
        assert_eq!(origin.hits(path), 2, "{path}");
    }
}

#[test]
fn a_rest_that_is_not_as_long_as_it_says_breaks_off_once_and_completes_nothing() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        let (whole, fields) = (pattern(LENGTH), ["Cache-Control: max-age=60", "ETag: \"v\""]);
        match x.request.field("range").as_deref() {
            None => x.reply("200 OK", &fields, whole),
            Some("bytes=0-499") => {
                let fields = [fields[0], fields[1], "Content-Range: bytes 0-499/1000"];
                x.reply("206 Partial Content", &fields, &whole[..500]);
            }
            Some(_) => {
                let fields = [fields[0], fields[1], "Content-Range: bytes 500-999/1000"].join("\r\n");
                let framing = "Transfer-Encoding: chunked\r\n\r\n2\r\n01\r\n0\r\n\r\n";
                x.write(format!("HTTP/1.1 206 Partial Content\r\n{fields}\r\n{framing}"));
            }
        }
    });
    let proxy = Proxy::open();
    let url = origin.url("/x");
    proxy.get_with(&url, &["Range: bytes=0-499"]);
    let broken = proxy.get(&url);
    assert!(broken.broken.is_some() && broken.body.len() < LENGTH, "{broken}");
    proxy.get(&url).assert_forwarded("uri-miss").assert_body(pattern(LENGTH));
    proxy.get(&url).assert_hit().assert_body(pattern(LENGTH));
    assert_eq!(origin.hits("/x"), 3);
}

#[test]
fn a_206_unasked_is_not_taken_for_the_whole() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        x.reply(
            "206 Partial Content",
            &["Cache-Control: max-age=60", "ETag: \"v\"", "Content-Range: bytes 0-4/10"],
            "01234",
        );
    });
    let proxy = Proxy::open();
    proxy.get(&origin.url("/x"));
    let again = proxy.get(&origin.url("/x"));
    assert_ne!(again.status, 200, "{again}");
    assert_eq!(origin.hits("/x"), 2);
}

#[test]
fn a_206_may_be_fresh_by_heuristics() {
    let origin = Origin::start();
    let modified = format!("Last-Modified: {}", date(-1_000_000));
    origin.on("/x", move |x| {
        x.reply("206 Partial Content", &["ETag: \"v\"", &modified, "Content-Range: bytes 0-4/10"], "01234");
    });
    let proxy = Proxy::open();
    proxy.get_with(&origin.url("/x"), &["Range: bytes=0-4"]);
    proxy.get_with(&origin.url("/x"), &["Range: bytes=1-2"]).assert_hit().assert_body("12");
}
