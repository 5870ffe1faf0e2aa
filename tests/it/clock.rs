//! The machine's clock is set while the real binary runs: forward and back by days, and by an hour in the middle of
//! something. What is stale is never taken for fresh, no age is negative, and no limit of time knows of it.

use crate::support::{Client, Gate, Origin, Proxy, Response, skip};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// The clock of a process, which libfaketime sets for it. The monotonic one stays as it is.
struct Hand(TempDir);

impl Hand {
    fn library() -> Option<PathBuf> {
        let machines = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
        machines.map(|at| at.join("faketime/libfaketimeMT.so.1")).find(|file| file.exists())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("clock")
    }

    /// So far from the machine's, as `+40d` or `-1h`. What is asked from here on is judged by it: each of the proxy's
    /// threads looks at the wall clock once in a tick of the kernel's, at most 10 ms, and that is over then.
    fn set(&self, offset: &str) {
        let new = self.0.path().join("new");
        std::fs::write(&new, offset).unwrap();
        std::fs::rename(new, self.file()).unwrap();
        std::thread::sleep(Duration::from_millis(12));
    }
}

fn with(library: &Path, config: &str) -> (Proxy, Hand) {
    let hand = Hand(TempDir::new().unwrap());
    hand.set("+0");
    let proxy = Proxy::builder()
        .config(config)
        .environment("LD_PRELOAD", library.to_str().unwrap())
        .environment("FAKETIME_TIMESTAMP_FILE", hand.file().to_str().unwrap())
        .environment("FAKETIME_NO_CACHE", "1")
        .environment("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .start();
    (proxy, hand)
}

/// The day of the proxy's own lines.
fn year_and_day(proxy: &Proxy, path: &str) -> String {
    let line = proxy.log.wait("a line", |line| line.contains(path));
    let time = &line[line.find("\"time\":\"").expect("a time") + 8..];
    time[..10].to_owned()
}

fn age(response: &Response) -> i64 {
    response.field("age").expect("an Age").parse().unwrap()
}

#[track_caller]
fn assert_new_hit(response: &Response) {
    response.assert_hit();
    // This long the test does not take.
    assert!((0..600).contains(&age(response)), "{response}");
    assert!(response.cache().ttl().is_some_and(|ttl| (3000..=3600).contains(&ttl)), "{response}");
}

#[test]
fn nothing_stale_is_served_as_fresh_whatever_the_clock_is_set_to() {
    let Some(library) = Hand::library() else {
        return skip("a clock that is set", "libfaketime is not installed");
    };
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=3600"], b"x");
    let (proxy, hand) = with(&library, "");
    let mut client = proxy.client();
    let mut get = || client.get(&origin.url("/x"));
    get().assert_forwarded("uri-miss");
    assert_new_hit(&get());
    let today = year_and_day(&proxy, "/x");
    // What was stored before the clock was set forward may be that old.
    for (fetched, offset) in ["+40d", "+80d"].into_iter().enumerate() {
        hand.set(offset);
        get().assert_forwarded("stale");
        assert_eq!(origin.hits("/x"), fetched + 2, "{offset}");
        assert_new_hit(&get());
    }
    // And what was stored before it was set back is as old as it is.
    for offset in ["+0", "-40d", "-80d"] {
        hand.set(offset);
        assert_new_hit(&get());
    }
    hand.set("-10000d");
    assert_new_hit(&get());
    // That the clock was set at all.
    proxy.get(&origin.url("/then"));
    assert_ne!(year_and_day(&proxy, "/then"), today);
}

#[test]
fn an_hour_more_makes_stale_what_may_last_an_hour_and_an_hour_less_nothing_fresh_that_was_stale() {
    let Some(library) = Hand::library() else { return skip("an hour more", "libfaketime is not installed") };
    let origin = Origin::start();
    origin.serve("/hour", "200 OK", &["Cache-Control: max-age=3600"], b"x");
    origin.serve("/old", "200 OK", &["Cache-Control: max-age=3600", "Age: 3600", "ETag: \"a\""], b"x");
    let (proxy, hand) = with(&library, "");
    let get = |path: &str| proxy.get(&origin.url(path));
    for path in ["/hour", "/old"] {
        get(path).assert_forwarded("uri-miss");
    }
    hand.set("-1h");
    assert_new_hit(&get("/hour"));
    get("/old").assert_forwarded("stale");
    hand.set("+1h");
    get("/hour").assert_forwarded("stale");
    get("/old").assert_forwarded("stale");
}

/// Set while the body is on its way: the age counts from the head, by the clock that does not jump.
#[test]
fn a_clock_that_is_set_in_the_middle_of_a_response_leaves_it_as_it_is() {
    let Some(library) = Hand::library() else {
        return skip("a clock set midway", "libfaketime is not installed");
    };
    for (offset, fresh) in [("-1h", true), ("-40d", true), ("+1h", false), ("+40d", false)] {
        let origin = Origin::start();
        let gate = Gate::new();
        let held = gate.clone();
        origin.on("/x", move |x| {
            x.write("HTTP/1.1 200 OK\r\nCache-Control: max-age=3600\r\nContent-Length: 2\r\n\r\na");
            held.pass();
            x.write("b");
        });
        let (proxy, hand) = with(&library, "");
        let mut client = proxy.client();
        client.begin("GET", &origin.url("/x"), &[], "");
        let answer = client.head("GET");
        hand.set(offset);
        gate.open();
        client.finish(answer).assert_body("ab");
        let response = client.get(&origin.url("/x"));
        if fresh {
            assert_new_hit(&response);
        } else {
            response.assert_forwarded("stale");
            assert_eq!(origin.hits("/x"), 2, "{offset}");
        }
        assert!(response.field("age").is_none_or(|age| age.parse::<u64>().is_ok()), "{response}");
    }
}

#[test]
fn limits_of_time_do_not_know_what_the_clock_is_set_to() {
    let Some(library) = Hand::library() else {
        return skip("limits and the clock", "libfaketime is not installed");
    };
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/slow", move |x| {
        held.pass();
        x.reply("200 OK", &[], "slow");
    });
    origin.on("/silent", |x| {
        x.wire().ends();
    });
    let (proxy, hand) = with(&library, "");
    let at = origin.address;
    let mut tunnel = proxy.client();
    tunnel.send(format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n"));
    tunnel.head("CONNECT").assert_status(200);
    let mut idle = proxy.client();
    idle.get(&origin.url("/else")).assert_status(404);
    let mut waiting = proxy.client();
    waiting.begin("GET", &origin.url("/slow"), &[], "");
    origin.wait("/slow", 1);
    let mut begun = proxy.client();
    begun.send(format!("GET {} HTTP/1.1\r\nHo", origin.url("/else")));
    for offset in ["+40d", "-40d", "+0"] {
        hand.set(offset);
        // Something has to happen for it to be noticed.
        proxy.get(&origin.url("/else")).assert_status(404);
    }
    // None has ended, although each limit is far below forty days.
    gate.open();
    waiting.response("GET").assert_body("slow");
    begun.send("st: h\r\n\r\n");
    begun.response("GET").assert_status(404);
    idle.get(&origin.url("/else")).assert_status(404);
    let inside = |client: &mut Client| {
        client.send("GET /else HTTP/1.1\r\nHost: h\r\n\r\n");
        client.response("GET").assert_status(404);
    };
    inside(&mut tunnel);

    // And the others end when their time has come.
    let (proxy, hand) = with(&library, "upstream.first_byte_timeout = '500ms'\nproxy.head_timeout = '500ms'");
    let mut waiting = proxy.client();
    waiting.begin("GET", &origin.url("/silent"), &[], "");
    origin.wait("/silent", 1);
    let mut begun = proxy.client();
    begun.send("GET http://h/ HTTP/1.1\r\nHo");
    hand.set("-40d");
    waiting.response("GET").assert_error(504, "http_response_timeout");
    assert!(begun.wire.ends());
}
