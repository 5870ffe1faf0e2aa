//! What goes on without a client is bounded, however many clients ask and leave: the others are served.

use crate::support::{Gate, Origin, Proxy, eventually};

/// Nothing ends by itself while a test looks.
const PATIENT: &str = "upstream.first_byte_timeout = '10min'\nupstream.between_bytes_timeout = '10min'\n";
const STALE: &str = "Cache-Control: max-age=50, stale-while-revalidate=500";

/// An origin whose `/silent` is only ended by the other side, and whose `/x` answers.
fn origin() -> Origin {
    let origin = Origin::start();
    origin.on("/silent", |x| {
        x.wire().ends();
        x.done();
    });
    origin.serve("/x", "200 OK", &["Cache-Control: no-store"], b"x");
    origin
}

#[track_caller]
fn becomes(proxy: &Proxy, metric: &str, labels: &[&str], expected: f64) {
    let mut found = f64::NAN;
    eventually(&format!("{metric} = {expected}"), || {
        found = proxy.metric(metric, labels);
        ((found - expected).abs() < 0.5).then_some(())
    });
}

const ACTIVE: (&str, &[&str]) = ("larder_upstream_connections", &["state=\"active\""]);

#[test]
fn clients_that_leave_before_an_answer_leave_no_fetch_behind() {
    const AT_ONCE: usize = 60;
    let origin = origin();
    // One half of the buffers is for 64 requests.
    let proxy = Proxy::with(&format!("{PATIENT}limits.buffers = '2MiB'"));
    for round in 1..=10 {
        let mut clients: Vec<_> = (0..AT_ONCE).map(|_| proxy.client()).collect();
        for (at, client) in clients.iter_mut().enumerate() {
            client.begin("GET", &origin.url(&format!("/silent?{round}-{at}")), &[], "");
        }
        origin.wait("/silent", round * AT_ONCE);
        proxy.get(&origin.url("/x")).assert_body("x");
        for client in clients {
            client.wire.reset();
        }
        becomes(&proxy, ACTIVE.0, ACTIVE.1, 0.0);
        becomes(&proxy, "larder_flights", &[], 0.0);
        becomes(&proxy, "larder_buffer_bytes", &[], 0.0);
    }
    proxy.get(&origin.url("/x")).assert_body("x");
}

#[test]
fn refreshes_have_a_limit_and_above_it_what_is_stale_is_served() {
    const KEYS: usize = 300;
    const LIMIT: usize = 10;
    /// One origin's.
    const SHARE: usize = LIMIT / 2;
    let origin = origin();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/stale", move |x| {
        if x.number > KEYS {
            held.pass();
        }
        x.reply("200 OK", &[STALE, "Age: 100"], "stale");
    });
    let proxy = Proxy::with(&format!("{PATIENT}limits.background = {LIMIT}"));
    let url = |at: usize| origin.url(&format!("/stale?{at}"));
    let mut client = proxy.client();
    for _ in 0..2 {
        for at in 0..KEYS {
            client.get(&url(at)).assert_body("stale");
        }
    }
    origin.wait("/stale", KEYS + SHARE);
    becomes(&proxy, "larder_background", &[], SHARE as f64);
    becomes(&proxy, "larder_background_refusals_total", &[], (KEYS - SHARE) as f64);
    becomes(&proxy, ACTIVE.0, ACTIVE.1, SHARE as f64);
    // Nobody waits for another refresh of the same key.
    client.get(&url(0)).assert_hit();
    becomes(&proxy, "larder_background_refusals_total", &[], (KEYS - SHARE) as f64);
    proxy.get(&origin.url("/x")).assert_body("x");
    assert_eq!(origin.hits("/stale"), KEYS + SHARE);
    gate.open();
    becomes(&proxy, "larder_background", &[], 0.0);
    // There is room again for one that was put off.
    client.get(&url(KEYS - 1)).assert_hit();
    origin.wait("/stale", KEYS + SHARE + 1);
}

/// Half of what may run, and of each other's half: whoever answers is refreshed all the same.
#[test]
fn origins_that_answer_no_refresh_leave_places_to_others() {
    let silent: Vec<_> = (0..3).map(|_| origin()).collect();
    let good = origin();
    let gate = Gate::new();
    for origin in &silent {
        let held = gate.clone();
        origin.on("/stale", move |x| {
            if x.request.field("if-none-match").is_some() {
                held.pass();
            }
            x.reply("200 OK", &[STALE, "Age: 100", "ETag: \"a\""], "stale");
        });
    }
    good.serve("/stale", "200 OK", &[STALE, "Age: 100"], b"stale");
    let proxy = Proxy::with(&format!("{PATIENT}limits.background = 16"));
    let mut client = proxy.client();
    for (origin, share) in silent.iter().zip([8, 4, 2]) {
        for at in (0..10).chain(0..10) {
            client.get(&origin.url(&format!("/stale?{at}"))).assert_body("stale");
        }
        origin.wait("/stale", 10 + share);
    }
    becomes(&proxy, "larder_background", &[], 14.0);
    proxy.wait_rejections("background", 2 + 6 + 8);
    for refreshed in 1..5 {
        client.get(&good.url("/stale")).assert_body("stale");
        good.wait("/stale", refreshed);
        becomes(&proxy, "larder_background", &[], 14.0);
    }
    gate.open();
    becomes(&proxy, "larder_background", &[], 0.0);
}

#[test]
fn a_reload_changes_how_many_refreshes_there_may_be() {
    let origin = origin();
    origin.serve("/stale", "200 OK", &[STALE, "Age: 100"], b"stale");
    let proxy = Proxy::with("limits.background = 0");
    let url = origin.url("/stale");
    proxy.get(&url).assert_body("stale");
    proxy.get(&url).assert_hit();
    becomes(&proxy, "larder_background_refusals_total", &[], 1.0);
    proxy.write_config("limits.background = 1");
    assert!(proxy.run(&["reload"]).status.success());
    proxy.get(&url).assert_hit();
    origin.wait("/stale", 2);
    becomes(&proxy, "larder_background", &[], 0.0);
}

/// One refresh at a time is enough for one with a body that takes its time.
#[test]
fn a_refresh_keeps_its_place_until_its_body_is_stored() {
    let origin = origin();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/stale", move |x| {
        if x.number == 1 {
            return x.reply("200 OK", &[STALE, "Age: 100"], "stale");
        }
        x.write("HTTP/1.1 200 OK\r\nCache-Control: max-age=50\r\nContent-Length: 5\r\n\r\nfr");
        held.pass();
        x.write("esh");
    });
    let proxy = Proxy::with(&format!("{PATIENT}cache.finish_time = '10min'\nlimits.background = 1"));
    let url = origin.url("/stale");
    proxy.get(&url).assert_body("stale");
    proxy.get(&url).assert_hit().assert_body("stale");
    becomes(&proxy, "larder_store_fills", &[], 1.0);
    becomes(&proxy, "larder_background", &[], 1.0);
    gate.open();
    becomes(&proxy, "larder_background", &[], 0.0);
    proxy.get(&url).assert_hit().assert_body("fresh");
    becomes(&proxy, "larder_background_refusals_total", &[], 0.0);
}

#[test]
fn fills_that_nobody_reads_have_the_same_limit() {
    const CLIENTS: usize = 100;
    const LIMIT: usize = 7;
    /// One origin's.
    const SHARE: usize = 4;
    let origin = origin();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/fill", move |x| {
        x.write("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 2\r\n\r\na");
        held.pass();
        x.write("b");
    });
    let proxy = Proxy::with(&format!("{PATIENT}cache.finish_time = '10min'\nlimits.background = {LIMIT}"));
    let url = |at: usize| origin.url(&format!("/fill?{at}"));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|at| {
            let mut client = proxy.client();
            client.begin("GET", &url(at), &[], "");
            client.head("GET").assert_status(200);
            client
        })
        .collect();
    becomes(&proxy, "larder_background", &[], 0.0);
    for client in clients {
        client.wire.reset();
    }
    becomes(&proxy, "larder_background_refusals_total", &[], (CLIENTS - SHARE) as f64);
    becomes(&proxy, "larder_background", &[], SHARE as f64);
    becomes(&proxy, ACTIVE.0, ACTIVE.1, SHARE as f64);
    proxy.get(&origin.url("/x")).assert_body("x");
    gate.open();
    becomes(&proxy, "larder_background", &[], 0.0);
    let stored = |at: &usize| proxy.get_with(&url(*at), &["Cache-Control: only-if-cached"]).status == 200;
    assert_eq!((0..CLIENTS).filter(stored).count(), SHARE);
}

#[test]
fn who_joins_a_fill_in_the_background_takes_it_out_of_there() {
    let origin = origin();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/fill", move |x| {
        x.write("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 3\r\n\r\na");
        held.pass();
        x.write("b");
        x.wire().ends();
    });
    let proxy = Proxy::with(&format!("{PATIENT}cache.finish_time = '10min'\nlimits.background = 1"));
    let url = origin.url("/fill");
    let mut client = proxy.client();
    client.begin("GET", &url, &[], "");
    client.head("GET").assert_status(200);
    client.wire.reset();
    becomes(&proxy, "larder_background", &[], 1.0);
    let mut joined = proxy.client();
    joined.begin("GET", &url, &[], "");
    joined.head("GET").assert_status(200);
    // With the next bytes it sees that somebody reads.
    gate.open();
    assert_eq!(joined.wire.exactly(2).unwrap(), b"ab");
    becomes(&proxy, "larder_background", &[], 0.0);
    joined.wire.reset();
    becomes(&proxy, "larder_background", &[], 1.0);
}
