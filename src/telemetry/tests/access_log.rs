//! Every format, whatever comes in; the queue, whatever the output does.

use super::*;
use crate::telemetry::Url;
use crate::telemetry::write::Civil;
use parking_lot::Condvar;

// Formats.

#[test]
fn each_format_writes_a_hit_as_it_is_documented() {
    for (format, expected) in [
        (
            Format::Text,
            "2026-11-23T18:37:00.123Z 192.0.2.7:4711 GET http://example.com/a/b.js?... 200 1024B 1.234ms hit first-byte=0.056ms id=000000000000beef",
        ),
        (
            Format::Json,
            r#"{"time":"2026-11-23T18:37:00.123Z","id":"000000000000beef","client":"192.0.2.7:4711","method":"GET","url":"http://example.com/a/b.js?...","version":"HTTP/1.1","status":200,"bytes_in":0,"bytes_out":1024,"duration_ms":1.234,"first_byte_ms":0.056,"result":"hit","reason":null,"upstream":null,"ttl":59}"#,
        ),
        (
            Format::Squid,
            "1795459020.124      1 192.0.2.7 TCP_MEM_HIT/200 1024 GET http://example.com/a/b.js?... - HIER_NONE/- text/javascript",
        ),
        (
            Format::Combined,
            r#"192.0.2.7 - - [23/Nov/2026:18:37:00 +0000] "GET http://example.com/a/b.js?... HTTP/1.1" 200 1024 "-" "curl/8""#,
        ),
    ] {
        assert_eq!(one_line(&options(format), &record()), expected);
    }
}

#[test]
fn each_format_writes_a_failure_as_it_is_documented() {
    for (format, expected) in [
        (
            Format::Text,
            "2026-11-23T18:37:00.123Z [2001:db8::1]:80 POST http://example.com/a/b.js?... 502 1024B 1.234ms error reason=method error=http_response_incomplete user=a%20%E2%80%AE%22b%5C% rule=destination-private received=7B upstream=198.51.100.1:8080 incomplete id=000000000000beef",
        ),
        (
            Format::Json,
            r#"{"time":"2026-11-23T18:37:00.123Z","id":"000000000000beef","client":"[2001:db8::1]:80","method":"POST","url":"http://example.com/a/b.js?...","version":"HTTP/1.1","status":502,"bytes_in":7,"bytes_out":1024,"duration_ms":1.234,"first_byte_ms":null,"result":"error","reason":"method","upstream":"198.51.100.1:8080","ttl":-3,"forward":"method","forward_status":200,"error":"http_response_incomplete","user":"a \u202e\"b\\%","rule":"destination-private","complete":false}"#,
        ),
        (
            Format::Squid,
            "1795459020.124      1 2001:db8::1 TCP_MISS_ABORTED/502 1024 POST http://example.com/a/b.js?... a%20%E2%80%AE%22b%5C% HIER_DIRECT/198.51.100.1 text/javascript",
        ),
        (
            Format::Combined,
            r#"2001:db8::1 - a%20%E2%80%AE%22b%5C% [23/Nov/2026:18:37:00 +0000] "POST http://example.com/a/b.js?... HTTP/1.1" 502 1024 "-" "curl/8""#,
        ),
    ] {
        assert_eq!(one_line(&options(format), &failure()), expected);
    }
}

#[test]
fn auto_is_json_where_there_is_no_terminal() {
    assert!(one_line(&options(Format::Auto), &record()).starts_with('{'));
}

#[test]
fn every_result_and_reason_has_its_words_in_every_format() {
    for result in CacheResult::ALL {
        for detail in std::iter::once(None).chain(Reason::ALL.iter().copied().map(Some)) {
            let mut record = record();
            (record.outcome.result, record.outcome.detail) = (result, detail);
            for format in FORMATS {
                one_line(&options(format), &record);
            }
            let json: serde_json::Value =
                serde_json::from_str(&one_line(&options(Format::Json), &record)).unwrap();
            assert_eq!(json["result"], result.token());
            assert_eq!(json["reason"].as_str(), detail.map(Reason::token));
        }
    }
}

/// Bytes that have broken logs before.
fn nasty() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = (0..=255).map(|byte| vec![b'a', byte, b'z']).collect();
    for text in [
        "\r\n{\"forged\":1}",
        "\u{1b}[2J",
        "\0",
        "\"",
        "\\",
        "\\\"",
        "%00%0a",
        "\u{2028}\u{2029}",
        "\u{202e}gpj",
        "\u{85}",
        "\u{feff}",
        "\u{1f98a}",
        "é",
        "</script><b>",
        "' OR 1=1 --",
        "${jndi:ldap://h}",
        "\t",
        " ",
        "",
    ] {
        all.push(text.as_bytes().to_vec());
    }
    for bytes in [&b"\xff\xfe"[..], b"\xc3", b"\xed\xa0\x80", b"\xf0\x9f\x98", b"\xc0\xaf", b"a\x80b\xc3\x28"]
    {
        all.push(bytes.to_vec());
    }
    all.push(vec![b'"'; 100_000]);
    all
}

#[track_caller]
fn check_one_line_each(record: &Record) {
    for query in [false, true] {
        let line = |format| one_line(&Options { query, ..options(format) }, record);
        let json: serde_json::Value = serde_json::from_str(&line(Format::Json)).unwrap();
        assert_eq!(json["id"], "000000000000beef");
        assert!(line(Format::Text).ends_with(" id=000000000000beef"));
        assert!(line(Format::Text).split(' ').count() >= 8);
        assert_eq!(line(Format::Squid).split_ascii_whitespace().count(), 10, "{}", line(Format::Squid));
        let combined = line(Format::Combined);
        let without_escapes = combined.replace(r"\\", "").replace("\\\"", "");
        assert_eq!(without_escapes.matches('"').count(), 6, "{combined}");
        assert!(combined.len() < 70_000 && line(Format::Json).len() < 70_000, "a line has a bound");
    }
}

#[test]
fn whatever_a_field_holds_every_format_writes_one_line() {
    for bytes in nasty() {
        let mut record = record();
        record.url = String::from_utf8_lossy(&bytes).into_owned().into();
        check_one_line_each(&record);
        if let Ok(uri) = http::Uri::try_from([b"http://example.com/", &bytes[..]].concat()) {
            record.url = Target::absolute(&uri).unwrap().into();
            check_one_line_each(&record);
        }
        // Field values and methods are what http lets through: no controls, but any byte from 0x80.
        if let Ok(value) = HeaderValue::from_bytes(&bytes) {
            record.user_agent = Some(value.clone());
            record.referer = Some(value.clone());
            record.content_type = Some(value);
            check_one_line_each(&record);
        }
        if let Ok(method) = Method::from_bytes(&bytes) {
            record.method = method;
            check_one_line_each(&record);
        }
    }
}

#[test]
fn json_gives_back_what_was_put_in() {
    for text in ["/a\"b\\c", "/\u{1f98a}é", "/\r\n\t\0\u{1b}", "/\u{2028}\u{202e}\u{85}\u{7f}"] {
        let record = Record { url: text.into(), ..record() };
        let json: serde_json::Value =
            serde_json::from_str(&one_line(&options(Format::Json), &record)).unwrap();
        assert_eq!(json["url"], text);
    }
}

// What is hidden.

#[track_caller]
fn check_shown(url: impl Into<Url>, hidden: &str, with_query: &str) {
    let record = Record { url: url.into(), ..record() };
    for (query, expected) in [(false, hidden), (true, with_query)] {
        let line = one_line(&Options { query, ..options(Format::Json) }, &record);
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(json["url"], expected);
    }
}

#[test]
fn queries_show_as_dots_unless_they_are_wanted() {
    check_shown(target("/p?a=1&b?c"), "http://example.com/p?...", "http://example.com/p?a=1&b?c");
    check_shown(target("/p?"), "http://example.com/p?...", "http://example.com/p?");
    check_shown(Arc::new(target("/p")), "http://example.com/p", "http://example.com/p");
    check_shown("/p?secret", "/p?...", "/p?secret");
    check_shown("/p#secret", "/p#...", "/p#secret");
    check_shown("*", "*", "*");
    check_shown("", "-", "-");
}

#[test]
fn userinfo_is_never_shown() {
    check_shown("http://user:pw@h/p@q?r@s", "http://h/p@q?...", "http://h/p@q?r@s");
    check_shown("http://a@b@h/", "http://h/", "http://h/");
    check_shown("ftp://user:pw@h", "ftp://h", "ftp://h");
    check_shown("user:pw@h:443", "h:443", "h:443");
    check_shown("http:/user:pw@h/", "http:/h/", "http:/h/");
    check_shown("http:\\\\user:pw@h\\p", "http:\\\\h\\p", "http:\\\\h\\p");
    check_shown("//user:pw@h/", "//h/", "//h/");
    check_shown("http://user:pw@", "http://", "http://");
    check_shown("/@scope/name", "/@scope/name", "/@scope/name");
    check_shown("http://h/@scope", "http://h/@scope", "http://h/@scope");
}

#[test]
fn a_tunnel_shows_host_and_port() {
    for authority in ["example.com:443", "[2001:db8::2]:8443"] {
        let url = Target::connect(&authority.parse().unwrap()).unwrap().into();
        let line = one_line(&options(Format::Text), &Record { method: Method::CONNECT, url, ..record() });
        assert!(line.contains(&format!(" CONNECT {authority} ")), "{line}");
    }
}

#[test]
fn a_referer_is_cut_as_a_url_is() {
    let referer = Some(HeaderValue::from_static("https://user:pw@h/p?token=secret"));
    let line = one_line(&options(Format::Combined), &Record { referer, ..record() });
    assert!(line.contains(r#" "https://h/p?..." "#), "{line}");
}

#[test]
fn a_client_that_left_before_the_head_has_no_status() {
    let record = Record { status: None, first_byte: None, complete: false, ..record() };
    assert!(one_line(&options(Format::Json), &record).contains(r#""status":null,"#));
    assert!(one_line(&options(Format::Squid), &record).contains(" TCP_MEM_HIT_ABORTED/000 "));
    assert!(one_line(&options(Format::Combined), &record).contains(r#"" 000 "#));
}

// Dates.

#[test]
fn dates_agree_with_httpdate_on_all_days() {
    // 41 days and a bit a step meets every month and time of day, and the ends of leap years' Februaries below.
    let leap_days = [951_782_400, 951_868_800, 4_107_456_000, 4_107_542_400, 253_402_300_799, 0];
    for unix in (0..253_402_300_799).step_by(41 * 86_400 + 3_607).chain(leap_days) {
        let date = httpdate::fmt_http_date(std::time::UNIX_EPOCH + Duration::from_secs(unix as u64));
        let words: Vec<&str> = date.split([' ', ':']).collect();
        let time = Civil::of(unix);
        let ours = [time.day, time.year, time.hour, time.minute, time.second];
        assert_eq!(ours, [1, 3, 4, 5, 6].map(|at| words[at].parse::<u64>().unwrap()), "{date}");
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        assert_eq!(months[time.month as usize - 1], words[2], "{date}");
    }
}

#[test]
fn times_out_of_range_still_make_a_line() {
    for wall in [i64::MIN, -1, i64::MAX] {
        let record = Record { at: Moment { wall, mono: 0 }, ..record() };
        for format in FORMATS {
            one_line(&options(format), &record);
        }
    }
}

// The queue.

#[test]
fn lines_of_many_threads_come_out_whole_and_each_threads_in_order() {
    let written = Written::default();
    let log = AccessLog::new(&options(Format::Json), Box::new(written.clone())).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let log = &log;
            scope.spawn(move || {
                for count in 0..500 {
                    log.write(&Record { id: thread << 32 | count, ..record() });
                }
            });
        }
    });
    assert!(log.flush());
    let mut next = [0; 4];
    for line in written.text().lines() {
        let json: serde_json::Value = serde_json::from_str(line).unwrap();
        let id = u64::from_str_radix(json["id"].as_str().unwrap(), 16).unwrap();
        assert_eq!(id & 0xffff_ffff, next[(id >> 32) as usize]);
        next[(id >> 32) as usize] += 1;
    }
    assert_eq!(next, [500; 4]);
}

/// An output that takes nothing until it is opened.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>, Written);

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (open, opened) = &*self.0;
        opened.wait_while(&mut open.lock(), |open| !*open);
        self.1.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_blocked_reader_costs_lines_and_no_time_and_every_line_is_written_or_counted() {
    let gate = Gate::default();
    let log =
        AccessLog::new(&Options { queue: 10, ..options(Format::Json) }, Box::new(gate.clone())).unwrap();
    for _ in 0..1_000 {
        log.write(&record());
    }
    assert_eq!(log.dropped(), 990);
    *gate.0.0.lock() = true;
    gate.0.1.notify_all();
    assert!(log.flush());
    assert_eq!(gate.1.text().lines().count(), 10);
    log.write(&record());
    assert!(log.flush());
    assert_eq!(gate.1.text().lines().count(), 11);
}

#[test]
fn long_lines_are_bounded_by_bytes_too() {
    let gate = Gate::default();
    let log =
        AccessLog::new(&Options { queue: 100, ..options(Format::Text) }, Box::new(gate.clone())).unwrap();
    let large = Record { url: "x".repeat(8_000).into(), ..record() };
    for _ in 0..100 {
        log.write(&large);
    }
    assert_eq!(log.dropped(), 94, "50 KiB hold six lines of 8 KiB");
    *gate.0.0.lock() = true;
    gate.0.1.notify_all();
}

#[test]
fn a_single_line_longer_than_the_queue_is_written() {
    let large = Record { url: "x".repeat(8_000).into(), ..record() };
    assert!(log_all(&Options { queue: 1, ..options(Format::Text) }, &[large]).len() > 8_000);
}

/// An output that answers by a list, then takes everything.
struct Scripted(Vec<io::Result<usize>>, Written);

impl Write for Scripted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.pop() {
            Some(Ok(taken)) => self.1.write(&bytes[..taken.min(bytes.len())]),
            Some(Err(error)) => Err(error),
            None => self.1.write(bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[track_caller]
fn check_scripted(mut answers: Vec<io::Result<usize>>, lines: &[usize], dropped: u64) {
    answers.reverse();
    let written = Written::default();
    let log = AccessLog::new(&options(Format::Text), Box::new(Scripted(answers, written.clone()))).unwrap();
    for _ in 0..2 {
        log.write(&record());
        assert!(log.flush());
    }
    assert_eq!(written.text().lines().map(str::len).collect::<Vec<_>>(), lines);
    assert_eq!(log.dropped(), dropped);
}

#[test]
fn a_failing_output_loses_the_line_and_the_next_one_is_whole() {
    let whole = one_line(&options(Format::Text), &record()).len();
    let error = |kind: io::ErrorKind| Err(io::Error::from(kind));
    check_scripted(vec![], &[whole, whole], 0);
    check_scripted(vec![error(io::ErrorKind::BrokenPipe)], &[whole], 1);
    check_scripted(vec![Ok(0)], &[whole], 1);
    check_scripted(vec![Ok(20), error(io::ErrorKind::StorageFull)], &[20, whole], 1);
    check_scripted(
        vec![Ok(20), error(io::ErrorKind::BrokenPipe), error(io::ErrorKind::BrokenPipe)],
        &[20],
        2,
    );
    check_scripted(vec![Ok(20), error(io::ErrorKind::WouldBlock), Ok(5)], &[whole, whole], 0);
    check_scripted(
        vec![error(io::ErrorKind::Interrupted), error(io::ErrorKind::WouldBlock)],
        &[whole, whole],
        0,
    );
}

#[test]
fn settings_change_live() {
    let written = Written::default();
    let log = AccessLog::new(&options(Format::Off), Box::new(written.clone())).unwrap();
    log.write(&record());
    log.reconfigure(&Options { query: true, ..options(Format::Text) });
    log.write(&record());
    assert!(log.flush());
    assert_eq!(written.text().lines().count(), 1);
    assert!(written.text().contains("b.js?v=1 "));
}
