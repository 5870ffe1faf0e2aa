//! The access log: one line an exchange on standard output, in four formats.

use crate::support::{Origin, Proxy, nobody};
use serde_json::Value;

#[test]
fn a_json_line_tells_the_exchange() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"body");
    let proxy = Proxy::open();
    proxy.request("GET", &origin.url("/x?secret=1"), &["User-Agent: t"], "");
    proxy.get(&origin.url("/x?secret=1"));
    let lines = proxy.log.wait_count("the log", 2, |l| l.contains("/x"));
    let (miss, hit): (Value, Value) =
        (serde_json::from_str(&lines[0]).unwrap(), serde_json::from_str(&lines[1]).unwrap());
    assert_eq!(miss["url"], format!("{}?...", origin.url("/x")));
    assert_eq!(
        (&miss["method"], &miss["status"], &miss["bytes_out"]),
        (&"GET".into(), &200.into(), &4.into())
    );
    assert_eq!((&miss["result"], &hit["result"]), (&"miss".into(), &"hit".into()));
    assert_eq!(miss["upstream"], origin.address.to_string());
    assert!(miss["client"].as_str().unwrap().starts_with("127.0.0.1"));
    assert!(miss["time"].as_str().unwrap().ends_with('Z'));
    assert_eq!(miss["id"].as_str().unwrap().len(), 16);
    assert_ne!(miss["id"], hit["id"]);
    assert_eq!((&miss["reason"], &hit["upstream"]), (&Value::Null, &Value::Null));
    assert_eq!((&miss["bytes_in"], &miss["version"]), (&0.into(), &"HTTP/1.1".into()));
    origin.serve("/private", "200 OK", &["Cache-Control: private"], b"body");
    proxy.get(&origin.url("/private"));
    proxy.request("PUT", &origin.url("/private"), &[], "content");
    let lines = proxy.log.wait_count("the log", 2, |l| l.contains("/private"));
    let (got, put): (Value, Value) =
        (serde_json::from_str(&lines[0]).unwrap(), serde_json::from_str(&lines[1]).unwrap());
    assert_eq!((&got["reason"], &put["result"]), (&"private".into(), &"bypass".into()));
    assert_eq!((&got["bytes_in"], &put["bytes_in"]), (&0.into(), &7.into()));
    assert!(miss["duration_ms"].is_number() && miss["first_byte_ms"].is_number());
}

#[test]
fn a_failure_tells_who_was_asked() {
    let origin = Origin::start();
    origin.on("/ssh", |x| {
        x.write("SSH-2.0-x\r\n");
        x.close();
    });
    origin.on("/late", |x| {
        x.wire().ends();
    });
    origin.serve("/validated", "304 Not Modified", &[], b"");
    let closed = nobody();
    let proxy = Proxy::with(
        "upstream.first_byte_timeout = '200ms'\naccess.allow_private = false\naccess.allow_destinations = ['127.0.0.1/32']",
    );
    let refused = format!("http://{closed}/refused");
    let denied = format!("http://127.0.0.2:{}/denied", origin.address.port());
    for (url, status, asked) in [
        (origin.url("/ssh"), 502, Some(origin.address)),
        (origin.url("/late"), 504, Some(origin.address)),
        (origin.url("/validated"), 502, Some(origin.address)),
        (refused, 502, Some(closed.address)),
        (denied, 403, None),
    ] {
        proxy.get(&url).assert_status(status);
        let line = proxy.log.wait("the log", |l| l.contains(&url));
        let log: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(log["upstream"].as_str().map(str::to_owned), asked.map(|a| a.to_string()), "{line}");
    }
}

#[test]
fn queries_show_when_asked_for_and_credentials_never() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"x");
    let proxy = Proxy::with("log.query = true");
    let url = origin.url("/x?shown=1").replace("http://", "http://user:geheim@");
    proxy.get_with(
        &url,
        &["Authorization: Basic Z2VoZWlt", "Cookie: geheim", "Proxy-Authorization: Basic Z2VoZWlt"],
    );
    let line = proxy.log.wait("the log", |l| l.contains("/x"));
    assert!(line.contains("?shown=1"), "{line}");
    assert!(!line.contains("geheim") && !line.contains("Z2VoZWlt"), "{line}");
}

#[test]
fn the_other_formats_have_their_shape() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Content-Type: text/plain"], b"body");
    for (format, check) in [
        (
            "text",
            (|l: &str| l.contains(" GET ") && l.contains(" 200 ") && l.contains("4B")) as fn(&str) -> bool,
        ),
        ("squid", |l| {
            l.contains("TCP_MISS/200 4 GET http://") && l.contains("HIER_DIRECT/127.0.0.1 text/plain")
        }),
        ("combined", |l| {
            l.starts_with("127.0.0.1 - - [")
                && l.contains("\"GET http://")
                && l.contains("HTTP/1.1\" 200 4 \"-\" \"t/1\"")
        }),
    ] {
        let proxy = Proxy::with(&format!("log.access = '{format}'"));
        proxy.get_with(&origin.url("/x"), &["User-Agent: t/1"]);
        let line = proxy.log.wait("the log", |l| l.contains("/x"));
        assert!(check(&line), "{format}: {line}");
    }
    let off = Proxy::with("log.access = 'off'");
    off.get(&origin.url("/x"));
    assert_eq!(off.log.all(), Vec::<String>::new());
}

#[test]
fn hostile_bytes_stay_on_one_parseable_line() {
    let origin = Origin::start();
    let proxy = Proxy::open();
    let mut bytes = format!("GET {}", origin.url("/q\"<\u{7f}>\\\u{e9}")).into_bytes();
    bytes.extend_from_slice(b"\xff\x9b HTTP/1.1\r\nHost: h\r\nUser-Agent: \"\x1b[2J\\\r\n\r\n");
    let mut client = proxy.client();
    client.send(bytes);
    client.response("GET");
    let line = proxy.log.wait("the log", |_| true);
    serde_json::from_str::<Value>(&line).unwrap();
    assert!(
        line.bytes().all(|b| (0x20..0x7f).contains(&b) || b >= 0x80) && !line.contains('\u{1b}'),
        "{line:?}"
    );
}

/// Every byte that our gate lets into a URL, a request field and a response field.
#[test]
fn bytes_that_may_pass_stay_on_one_parseable_line_in_every_format() {
    let origin = Origin::start();
    let visible: String = (b'!'..=b'~').chain(0x80..=0xff).map(char::from).collect();
    let kind = format!("Content-Type: a/b{visible}\tc");
    origin.on("/agent", move |x| x.reply("200 OK", &[&kind], "x"));
    let proxy = Proxy::open();
    let lets_in = |byte: &u8| {
        let mut client = proxy.client();
        let mut request = format!("GET {}", origin.url("/a")).into_bytes();
        request.push(*byte);
        request.extend_from_slice(b"b HTTP/1.1\r\nHost: h\r\n\r\n");
        client.send(request);
        client.response("GET").status == 404
    };
    let taken: Vec<u8> = (0..=255).filter(|byte| !b" #?\r\n\0".contains(byte)).filter(lets_in).collect();
    assert!(taken.len() > 70, "{taken:?}");
    for format in ["text", "json", "squid", "combined"] {
        let proxy = Proxy::with(&format!("log = {{ access = '{format}', query = true }}"));
        let mut client = proxy.client();
        for (path, rest) in [("/agent", &[][..]), ("/path", &taken)] {
            let mut request = format!("GET {}", origin.url(path)).into_bytes();
            request.extend_from_slice(rest);
            request.extend_from_slice(b" HTTP/1.1\r\nHost: h\r\nUser-Agent: ");
            request.extend(visible.chars().map(|c| c as u8));
            request.extend_from_slice(b"\t\"\\\r\nReferer: http://h/\"\\");
            request.extend(visible.chars().map(|c| c as u8));
            request.extend_from_slice(b"\r\n\r\n");
            client.send(request);
            let response = client.response("GET");
            assert!(matches!(response.status, 200 | 404), "{format}: {response}");
        }
        let begin = origin.url("/path");
        proxy.log.wait("the second line", |line| line.contains(&begin));
        let lines = proxy.log.all();
        assert_eq!(lines.len(), 2, "{format}: {lines:#?}");
        for line in lines {
            assert!(!line.chars().any(char::is_control), "{format}: {line:?}");
            assert!(parses(format, &line), "{format}: {line}");
        }
    }
}

/// Whether a reader of that format finds every part where it belongs.
fn parses(format: &str, line: &str) -> bool {
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    match format {
        "json" => {
            let value: Value = serde_json::from_str(line).unwrap();
            value["url"].as_str().is_some_and(|url| url.starts_with("http://"))
        }
        "text" => {
            let words: Vec<_> = line.split(' ').collect();
            words[2] == "GET"
                && is_number(words[4])
                && words[6].ends_with("ms")
                && words.last().unwrap().starts_with("id=")
        }
        "squid" => {
            let words: Vec<_> = line.split_ascii_whitespace().collect();
            words.len() == 10
                && words[5] == "GET"
                && is_number(words[4])
                && words[8].starts_with("HIER_DIRECT/")
        }
        _ => {
            // Quoted parts, in which a backslash takes the next letter's meaning away.
            let (mut parts, mut quoted, mut letters) = (vec![String::new()], false, line.chars());
            while let Some(letter) = letters.next() {
                match letter {
                    '\\' if quoted => drop(letters.next()),
                    '"' => {
                        quoted = !quoted;
                        parts.push(String::new());
                    }
                    other => parts.last_mut().unwrap().push(other),
                }
            }
            let request: Vec<_> = parts[1].split(' ').collect();
            parts.len() == 7
                && request.len() == 3
                && request[2] == "HTTP/1.1"
                && is_number(parts[2].split(' ').nth(1).unwrap())
        }
    }
}

#[test]
fn a_response_that_was_not_wholly_sent_is_told() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        x.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234");
        x.close();
    });
    let proxy = Proxy::open();
    let mut client = proxy.client();
    client.begin("GET", &origin.url("/x"), &[], "");
    client.try_response("GET").ok();
    let line = proxy.log.wait("the log", |l| l.contains("/x"));
    let log: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(log["complete"], false, "{line}");
}

#[test]
fn a_reader_that_never_reads_costs_lines_and_not_service() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"x");
    let proxy = Proxy::builder().deaf().config("log.queue = 16").start();
    let mut client = proxy.client();
    for _ in 0..2_000 {
        client.get(&origin.url("/x")).assert_status(200);
    }
    assert!(proxy.metric("larder_access_log_dropped_lines_total", &[]) > 0.0);
}

#[test]
fn an_answer_to_head_is_complete_without_its_content() {
    let proxy = Proxy::open();
    let nobody = nobody();
    let mut client = proxy.client();
    let refused = client.request("HEAD", &format!("http://{nobody}/x"), &[], "");
    refused.assert_status(502).assert_body("");
    assert!(refused.field("content-length").is_some_and(|length| length != "0"), "{refused}");
    client.send(format!("HEAD / HTTP/1.1\r\nHost: {}\r\n\r\n", proxy.address));
    client.response("HEAD").assert_status(200).assert_body("");
    for line in proxy.log.wait_count("the log", 2, |l| l.contains("HEAD")) {
        assert!(!line.contains("\"complete\":false"), "{line}");
    }
}
