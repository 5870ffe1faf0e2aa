//! Concurrent requests for one response become one request to the origin, and nobody waits for what can't be shared.

use crate::support::proxy::Signal;
use crate::support::{Client, Gate, Origin, Proxy, eventually, pattern};

const STORED: &str =
    "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nETag: \"v\"\r\nContent-Length: 10\r\n\r\n";

/// Sends the head and half of the body, then holds the rest until the gate opens.
fn held_midway(origin: &Origin, path: &str) -> Gate {
    let gate = Gate::new();
    let held = gate.clone();
    origin.on(path, move |x| {
        x.write(STORED);
        x.write("01234");
        held.pass();
        x.write("56789");
    });
    gate
}

/// A client that has read the head and the first half.
fn joined(proxy: &Proxy, url: &str) -> (Client, crate::support::Response) {
    let mut client = proxy.client();
    client.begin("GET", url, &[], "");
    let head = client.head("GET");
    assert_eq!(client.wire.exactly(5).unwrap(), b"01234");
    (client, head)
}

/// Lets what was sent before it be taken up: requests that come later are answered.
fn fence(proxy: &Proxy, origin: &Origin) {
    for at in 0..20 {
        proxy.get(&origin.url(&format!("/fence?{at}"))).assert_status(404);
    }
}

#[test]
fn five_hundred_simultaneous_requests_reach_the_origin_once() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    let body = pattern(100_000);
    origin.on("/x", {
        let body = body.clone();
        move |x| {
            held.pass();
            x.reply("200 OK", &["Cache-Control: max-age=60"], &body);
        }
    });
    let proxy = Proxy::with("cache.collapse_wait = '60s'");
    let mut clients: Vec<_> = (0..500).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.begin("GET", &origin.url("/x"), &[], "");
    }
    origin.wait("/x", 1);
    gate.open();
    let mut leaders = 0;
    for client in &mut clients {
        let response = client.response("GET");
        response.assert_status(200).assert_body(&body);
        let cache = response.cache();
        if !cache.has("hit") && !cache.has("collapsed") {
            leaders += 1;
        }
    }
    assert_eq!((leaders, origin.hits("/x")), (1, 1));
}

#[test]
fn followers_get_bytes_as_they_arrive_and_late_ones_from_the_beginning() {
    let origin = Origin::start();
    let gate = held_midway(&origin, "/x");
    let proxy = Proxy::open();
    let url = origin.url("/x");
    let mut readers: Vec<_> = (0..5).map(|_| joined(&proxy, &url)).collect();
    assert!(readers[1..].iter().all(|(_, head)| head.cache().has("collapsed")), "{}", readers[1].1);
    gate.open();
    for (client, _) in &mut readers {
        assert_eq!(client.wire.exactly(5).unwrap(), b"56789");
    }
    proxy.get(&url).assert_hit().assert_body("0123456789");
    assert_eq!(origin.hits("/x"), 1);
}

#[test]
fn a_follower_survives_the_leaders_disconnect() {
    let origin = Origin::start();
    let gate = held_midway(&origin, "/x");
    let proxy = Proxy::open();
    let (leader, _) = joined(&proxy, &origin.url("/x"));
    let (mut follower, _) = joined(&proxy, &origin.url("/x"));
    leader.wire.reset();
    gate.open();
    assert_eq!(follower.wire.exactly(5).unwrap(), b"56789");
    proxy.get(&origin.url("/x")).assert_hit();
    assert_eq!(origin.hits("/x"), 1);
}

#[test]
fn a_leader_that_leaves_before_the_head_leaves_the_fetch_to_its_followers() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/x", move |x| {
        held.pass();
        x.reply("200 OK", &["Cache-Control: max-age=60"], "body");
    });
    let proxy = Proxy::with("cache.collapse_wait = '60s'");
    let mut leader = proxy.client();
    leader.begin("GET", &origin.url("/x"), &[], "");
    origin.wait("/x", 1);
    let mut follower = proxy.client();
    follower.begin("GET", &origin.url("/x"), &[], "");
    fence(&proxy, &origin);
    leader.wire.reset();
    proxy.log.wait("the leader's end", |l| l.contains("/x"));
    gate.open();
    follower.response("GET").assert_status(200).assert_body("body");
    assert_eq!(origin.hits("/x"), 1);
}

/// Also where a fill that nobody reads would be ended at once: between its head and its readers nothing comes.
#[test]
fn followers_whose_leader_left_are_all_answered_by_the_one_fetch() {
    let origin = Origin::start();
    let gates = [Gate::new(), Gate::new()];
    let [head, rest] = gates.clone();
    origin.on("/x", move |x| {
        head.pass();
        x.write(STORED);
        x.write("01234");
        rest.pass();
        x.write("56789");
    });
    let config =
        "cache = { collapse_wait = '60s', finish_bytes = '0B', finish_time = '0s' }\nlimits.background = 0";
    let proxy = Proxy::with(config);
    let mut leader = proxy.client();
    leader.begin("GET", &origin.url("/x"), &[], "");
    origin.wait("/x", 1);
    let mut followers: Vec<_> = (0..50).map(|_| proxy.client()).collect();
    for client in &mut followers {
        client.begin("GET", &origin.url("/x"), &[], "");
    }
    fence(&proxy, &origin);
    leader.wire.reset();
    proxy.log.wait("the leader's end", |l| l.contains("/x"));
    gates[0].open();
    for client in &mut followers {
        client.head("GET").assert_status(200);
    }
    gates[1].open();
    for client in &mut followers {
        assert_eq!(client.wire.exactly(10).unwrap(), b"0123456789");
    }
    assert_eq!(origin.hits("/x"), 1);
}

#[test]
fn a_fetch_whose_leader_and_followers_have_left_ends() {
    let origin = Origin::start();
    let (ended, was_ended) = std::sync::mpsc::channel();
    origin.on("/x", move |x| {
        ended.send(x.wire().ends()).unwrap();
        x.done();
    });
    let proxy = Proxy::with("upstream.first_byte_timeout = '10min'\ncache.collapse_wait = '10min'");
    let begin = || {
        let mut client = proxy.client();
        client.begin("GET", &origin.url("/x"), &[], "");
        client
    };
    let leader = begin();
    origin.wait("/x", 1);
    let followers = [begin(), begin()];
    fence(&proxy, &origin);
    leader.wire.reset();
    proxy.log.wait("the leader's end", |l| l.contains("/x"));
    fence(&proxy, &origin);
    assert!(was_ended.try_recv().is_err(), "others still wait for it");
    for follower in followers {
        follower.wire.reset();
    }
    assert!(was_ended.recv_timeout(crate::support::DEADLINE).unwrap(), "the origin's connection ends");
    assert_eq!(origin.hits("/x"), 1);
}

#[test]
fn a_fetch_whose_followers_wait_no_longer_ends() {
    let origin = Origin::start();
    let (ended, was_ended) = std::sync::mpsc::channel();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/x", move |x| {
        if x.number == 1 {
            ended.send(x.wire().ends()).unwrap();
            return x.done();
        }
        held.pass();
        x.reply("200 OK", &["Cache-Control: max-age=60"], "x");
    });
    let proxy = Proxy::with("upstream.first_byte_timeout = '10min'\ncache.collapse_wait = '200ms'");
    let mut leader = proxy.client();
    leader.begin("GET", &origin.url("/x"), &[], "");
    origin.wait("/x", 1);
    let mut follower = proxy.client();
    follower.begin("GET", &origin.url("/x"), &[], "");
    fence(&proxy, &origin);
    leader.wire.reset();
    assert!(was_ended.recv_timeout(crate::support::DEADLINE).unwrap(), "the origin's connection ends");
    gate.open();
    follower.response("GET").assert_status(200).assert_body("x");
    assert_eq!(origin.hits("/x"), 2, "the follower went alone");
}

#[test]
fn a_fill_that_nobody_reads_is_finished_when_that_is_cheap() {
    let origin = Origin::start();
    let gate = held_midway(&origin, "/x");
    let proxy = Proxy::with("cache = { finish_bytes = '1MiB', finish_time = '60s' }");
    let (leader, _) = joined(&proxy, &origin.url("/x"));
    leader.wire.reset();
    gate.open();
    let only = ["Cache-Control: only-if-cached"];
    eventually("the finished fill", || {
        (proxy.get_with(&origin.url("/x"), &only).status == 200).then_some(())
    });
    assert_eq!(origin.hits("/x"), 1);
}

#[test]
fn a_fill_that_nobody_reads_is_stopped_when_it_is_not_cheap() {
    let origin = Origin::start();
    let (stopped, was_stopped) = std::sync::mpsc::channel();
    origin.on("/x", move |x| {
        x.write("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 10000000\r\n\r\n01234");
        stopped.send(x.wire().ends()).unwrap();
        x.done();
    });
    let proxy = Proxy::with("cache = { finish_bytes = '0B', finish_time = '0s' }");
    let (leader, _) = joined(&proxy, &origin.url("/x"));
    leader.wire.reset();
    assert!(was_stopped.recv_timeout(crate::support::DEADLINE).unwrap(), "the origin's connection ends");
    proxy.get_with(&origin.url("/x"), &["Cache-Control: only-if-cached"]).assert_status(504);
}

#[test]
fn whoever_joins_a_fill_that_nobody_read_keeps_it_going() {
    let origin = Origin::start();
    let gate = held_midway(&origin, "/joined");
    let (stopped, was_stopped) = std::sync::mpsc::channel();
    origin.on("/left", move |x| {
        x.write(STORED);
        x.write("01234");
        stopped.send(x.wire().ends()).unwrap();
        x.done();
    });
    let proxy = Proxy::open();
    let leave = |path: &str| {
        let (leader, _) = joined(&proxy, &origin.url(path));
        leader.wire.reset();
        proxy.log.wait("the leader's end", |l| l.contains(path));
    };
    leave("/joined");
    let (mut late, _) = joined(&proxy, &origin.url("/joined"));
    // Left later and given up by now: so the patience with the one before has ended, too.
    leave("/left");
    assert!(was_stopped.recv_timeout(crate::support::DEADLINE).unwrap());
    gate.open();
    assert_eq!(late.wire.exactly(5).unwrap(), b"56789");
    assert_eq!(origin.hits("/joined"), 1);
}

#[test]
fn an_invalidation_midway_keeps_a_fill_from_being_stored_or_joined() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/x", move |x| match (x.request.method.as_str(), x.number) {
        ("GET", 1) => {
            x.write(STORED);
            x.write("01234");
            held.pass();
            x.write("56789");
        }
        ("GET", _) => x.reply("200 OK", &["Cache-Control: max-age=60"], "newer"),
        _ => x.reply("204 No Content", &[], ""),
    });
    let proxy = Proxy::open();
    let url = origin.url("/x");
    let (mut reader, _) = joined(&proxy, &url);
    proxy.request("PUT", &url, &[], "changed").assert_status(204);
    // Asked after the change: what began before it is not joined.
    proxy.get(&url).assert_body("newer");
    gate.open();
    assert_eq!(reader.wire.exactly(5).unwrap(), b"56789", "who read it before reads on");
    proxy.get(&url).assert_body("newer").assert_hit();
}

#[test]
fn a_purge_midway_keeps_a_fill_from_being_stored_or_joined() {
    let origin = Origin::start();
    let gate = held_midway(&origin, "/x");
    let proxy = Proxy::open();
    let url = origin.url("/x");
    let (mut reader, _) = joined(&proxy, &url);
    assert!(proxy.run(&["purge", &url]).status.success());
    let (mut second, head) = joined(&proxy, &url);
    assert!(!head.cache().has("collapsed"), "{head}");
    assert_eq!(origin.hits("/x"), 2);
    gate.open();
    assert_eq!(reader.wire.exactly(5).unwrap(), b"56789");
    assert_eq!(second.wire.exactly(5).unwrap(), b"56789");
}

#[test]
fn a_reload_midway_keeps_a_fill_from_being_stored_or_joined() {
    let origin = Origin::start();
    let gate = held_midway(&origin, "/x");
    let proxy = Proxy::open();
    let url = origin.url("/x");
    let (mut reader, _) = joined(&proxy, &url);
    assert!(proxy.run(&["reload"]).status.success());
    let (mut second, head) = joined(&proxy, &url);
    assert!(!head.cache().has("collapsed"), "{head}");
    gate.open();
    assert_eq!(reader.wire.exactly(5).unwrap(), b"56789");
    assert_eq!(second.wire.exactly(5).unwrap(), b"56789");
    proxy.signal(Signal::HUP);
    proxy.get(&url).assert_status(200);
}

#[test]
fn followers_of_what_cannot_be_shared_go_to_the_origin_in_parallel() {
    const FOLLOWERS: usize = 10;
    let origin = Origin::start();
    let (first, rest) = (Gate::new(), Gate::new());
    let (first_held, rest_held) = (first.clone(), rest.clone());
    origin.on("/x", move |x| {
        let number = x.number;
        if number == 1 {
            first_held.pass();
        } else {
            rest_held.pass();
        }
        x.reply("200 OK", &["Cache-Control: private, max-age=60"], number.to_string());
    });
    let proxy = Proxy::with("cache.collapse_wait = '60s'");
    let url = origin.url("/x");
    let mut clients: Vec<_> = (0..=FOLLOWERS).map(|_| proxy.client()).collect();
    clients[0].begin("GET", &url, &[], "");
    origin.wait("/x", 1);
    for client in &mut clients[1..] {
        client.begin("GET", &url, &[], "");
    }
    first.open();
    // None of them is answered before all of them have asked.
    origin.wait("/x", FOLLOWERS + 1);
    rest.open();
    let mut bodies: Vec<_> = clients.iter_mut().map(|c| c.response("GET").text()).collect();
    bodies.sort_by_key(|b| b.parse::<usize>().unwrap());
    bodies.dedup();
    assert_eq!(bodies.len(), FOLLOWERS + 1, "each got an answer of its own");
}

#[test]
fn a_key_that_could_not_be_shared_is_remembered() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/x", move |x| {
        if x.number > 1 {
            held.pass();
        }
        x.reply("200 OK", &["Cache-Control: private"], "x");
    });
    let proxy = Proxy::with("cache.collapse_wait = '60s'");
    let url = origin.url("/x");
    proxy.get(&url);
    let mut clients: Vec<_> = (0..5).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.begin("GET", &url, &[], "");
    }
    // Not one of the five is answered yet, and all have reached the origin.
    origin.wait("/x", 6);
    gate.open();
    for client in &mut clients {
        client.response("GET").assert_status(200);
    }
}

#[test]
fn another_variant_does_not_wait_for_the_body() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/x", move |x| {
        let language = x.request.field("accept-language").unwrap();
        x.write("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nVary: Accept-Language\r\nContent-Length: 2\r\n\r\n");
        if language == "de" {
            held.pass();
        }
        x.write(language);
    });
    let proxy = Proxy::open();
    let url = origin.url("/x");
    let mut german = proxy.client();
    german.begin("GET", &url, &["Accept-Language: de"], "");
    origin.wait("/x", 1);
    proxy.get_with(&url, &["Accept-Language: fr"]).assert_body("fr");
    gate.open();
    german.response("GET").assert_body("de");
    proxy.get_with(&url, &["Accept-Language: de"]).assert_hit().assert_body("de");
}

#[test]
fn a_follower_waits_for_a_head_no_longer_than_the_limit() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/x", move |x| {
        held.pass();
        x.reply("200 OK", &["Cache-Control: max-age=60"], "x");
    });
    let proxy = Proxy::with("cache.collapse_wait = '50ms'");
    let mut clients = [proxy.client(), proxy.client()];
    for client in &mut clients {
        client.begin("GET", &origin.url("/x"), &[], "");
    }
    origin.wait("/x", 2);
    proxy.wait_rejections("cache.collapse_wait", 1);
    gate.open();
    for client in &mut clients {
        client.response("GET").assert_status(200).assert_body("x");
    }
}

#[test]
fn requests_that_insist_on_the_origin_never_queue() {
    for insisting in [
        &["Cache-Control: no-cache"][..],
        &["Cache-Control: max-age=0"],
        &["Pragma: no-cache"],
        &["Authorization: Basic YQ==", "Cache-Control: no-cache"],
    ] {
        let origin = Origin::start();
        let gate = Gate::new();
        let held = gate.clone();
        origin.on("/x", move |x| {
            if x.number > 1 {
                held.pass();
            }
            x.reply("200 OK", &["Cache-Control: max-age=60"], "x");
        });
        let proxy = Proxy::with("cache.collapse_wait = '60s'");
        let url = origin.url("/x");
        proxy.get(&url);
        let mut clients: Vec<_> = (0..4).map(|_| proxy.client()).collect();
        for client in &mut clients {
            client.begin("GET", &url, insisting, "");
        }
        origin.wait("/x", 5);
        gate.open();
        for client in &mut clients {
            client.response("GET").assert_status(200);
        }
    }
}

#[test]
fn responses_that_must_be_validated_each_time_make_nobody_wait() {
    for directives in ["Cache-Control: no-cache", "Cache-Control: max-age=0"] {
        let origin = Origin::start();
        let gate = Gate::new();
        let held = gate.clone();
        origin.on("/x", move |x| {
            if x.number > 2 {
                held.pass();
            }
            let validates = x.request.field("if-none-match").is_some();
            x.reply(if validates { "304 Not Modified" } else { "200 OK" }, &[directives, "ETag: \"v\""], "x");
        });
        let proxy = Proxy::with("cache.collapse_wait = '60s'");
        let url = origin.url("/x");
        // Known as such from the first response, and still after it was validated.
        for _ in 0..2 {
            proxy.get(&url).assert_body("x");
        }
        let mut clients: Vec<_> = (0..4).map(|_| proxy.client()).collect();
        for client in &mut clients {
            client.begin("GET", &url, &[], "");
        }
        origin.wait("/x", 6);
        gate.open();
        for client in &mut clients {
            client.response("GET").assert_status(200).assert_body("x");
        }
    }
}

#[test]
fn a_follower_whose_leader_brought_what_must_be_validated_validates_that() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/x", move |x| {
        held.pass();
        let validates = x.request.field("if-none-match").is_some();
        x.reply(
            if validates { "304 Not Modified" } else { "200 OK" },
            &["Cache-Control: no-cache", "ETag: \"v\""],
            "",
        );
    });
    let proxy = Proxy::with("cache.collapse_wait = '60s'");
    let url = origin.url("/x");
    let mut clients = [proxy.client(), proxy.client()];
    clients[0].begin("GET", &url, &[], "");
    origin.wait("/x", 1);
    clients[1].begin("GET", &url, &[], "");
    fence(&proxy, &origin);
    gate.open();
    for client in &mut clients {
        client.response("GET").assert_status(200);
    }
    assert_eq!(origin.last("/x").field("if-none-match").as_deref(), Some("\"v\""));
}

#[test]
fn a_follower_gets_the_stale_answer_that_its_leader_refused() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/x", move |x| {
        if x.number == 1 {
            return x.reply("200 OK", &["Cache-Control: max-age=50", "Age: 100", "ETag: \"v\""], "stored");
        }
        held.pass();
        x.close();
    });
    let proxy = Proxy::with("cache.collapse_wait = '60s'");
    let url = origin.url("/x");
    proxy.get(&url);
    let mut leader = proxy.client();
    leader.begin("GET", &url, &["Cache-Control: no-cache"], "");
    origin.wait("/x", 2);
    let mut follower = proxy.client();
    follower.begin("GET", &url, &[], "");
    fence(&proxy, &origin);
    gate.open();
    leader.response("GET").assert_status(502);
    let stale = follower.response("GET");
    stale.assert_status(200).assert_body("stored");
    assert!(stale.cache().has("collapsed"), "{stale}");
    assert_eq!(stale.cache().value("detail").as_deref(), Some("stale-if-error"));
}

#[test]
fn nobody_joins_a_refresh_in_the_name_of_one_client() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/x", move |x| {
        if x.number == 2 {
            held.pass();
        }
        let fields = ["Cache-Control: public, max-age=50, stale-while-revalidate=500", "Age: 100"];
        x.reply("200 OK", &fields, if x.number == 2 { "hers" } else { "all" });
    });
    let proxy = Proxy::with("cache.collapse_wait = '60s'");
    let url = origin.url("/x");
    proxy.get(&url);
    proxy.get_with(&url, &["Cookie: user=alice"]).assert_hit();
    origin.wait("/x", 2);
    // Another one of hers starts no second refresh.
    proxy.get_with(&url, &["Cookie: user=alice"]).assert_hit();
    let other = proxy.get_with(&url, &["Cache-Control: max-age=1"]);
    other.assert_status(200).assert_body("all");
    assert_eq!(origin.hits("/x"), 3);
    gate.open();
}

#[test]
fn a_leaders_failure_leaves_no_follower_hanging() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/x", move |x| {
        held.pass();
        x.close();
    });
    let proxy = Proxy::with("cache.collapse_wait = '60s'");
    let mut clients: Vec<_> = (0..10).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.begin("GET", &origin.url("/x"), &[], "");
    }
    origin.wait("/x", 1);
    gate.open();
    for client in &mut clients {
        client.response("GET").assert_status(502);
    }
}

#[test]
fn a_private_answer_reaches_only_who_asked_for_it() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/x", move |x| {
        if x.number == 1 {
            held.pass();
        }
        let cookie = x.request.field("cookie").unwrap_or_default();
        x.reply("200 OK", &["Cache-Control: private"], cookie);
    });
    let proxy = Proxy::with("cache.collapse_wait = '60s'");
    let url = origin.url("/x");
    let mut clients: Vec<_> = (0..6).map(|_| proxy.client()).collect();
    for (at, client) in clients.iter_mut().enumerate() {
        client.begin("GET", &url, &[&format!("Cookie: id={at}")], "");
    }
    origin.wait("/x", 1);
    gate.open();
    for (at, client) in clients.iter_mut().enumerate() {
        client.response("GET").assert_body(format!("id={at}"));
    }
}
