//! A new configuration is checked first, then taken over at once, or refused as a whole.

use crate::support::proxy::Signal;
use crate::support::{Client, Gate, Origin, Proxy, eventually};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the proxy adds X-Forwarded-For: a setting that changes live.
fn adds(proxy: &Proxy, origin: &Origin) -> bool {
    proxy.get(&origin.url("/x")).assert_body("x");
    origin.last("/x").field("x-forwarded-for").is_some()
}

#[test]
fn reload_changes_what_may_change_live_and_tells_the_rest() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"x");
    let proxy = Proxy::with("cache.memory = '16MiB'\nproxy.forwarded_for = 'delete'");
    assert!(!adds(&proxy, &origin));
    proxy.write_config("cache.memory = '32MiB'\nproxy.forwarded_for = 'add'");
    let told = proxy.run(&["reload", "--json"]);
    assert!(told.status.success(), "{told:?}");
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(told["live"], serde_json::json!(["proxy.forwarded_for"]));
    assert!(told["restart"].as_array().unwrap().contains(&"cache.memory".into()), "{told}");
    assert!(adds(&proxy, &origin));
}

#[test]
fn sighup_reloads_too() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"x");
    let proxy = Proxy::with("proxy.forwarded_for = 'delete'");
    proxy.write_config("proxy.forwarded_for = 'add'");
    proxy.signal(Signal::HUP);
    eventually("the new setting", || adds(&proxy, &origin).then_some(()));
}

#[test]
fn a_wrong_configuration_is_refused_as_a_whole_and_the_running_one_stays() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"x");
    let mut proxy = Proxy::with("proxy.forwarded_for = 'delete'");
    proxy.write_config_raw("[proxy]\nforwarded_for = 'add'\n[cache]\nmemroy = '1GiB'\nvariants = 0\n");
    let told = proxy.run(&["reload"]);
    assert_eq!(told.status.code(), Some(2), "{told:?}");
    let text = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(text.contains("memroy") && text.contains("cache.variants"), "{text}");
    // In JSON whether the proxy refuses the file, or the command that is given it.
    let file = proxy.config_file().display().to_string();
    for arguments in [&["reload", "--json"][..], &["reload", "--json", "--config", &file]] {
        let told = proxy.run(arguments);
        assert_eq!(told.status.code(), Some(2), "{told:?}");
        let json: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
        assert_eq!(json["errors"].as_array().map(Vec::len), Some(2), "{json}");
    }
    proxy.signal(Signal::HUP);
    proxy.diagnostics.wait("the refusal", |l| l.contains("memroy"));
    assert!(proxy.running());
    assert!(!adds(&proxy, &origin));
}

#[test]
fn flags_survive_a_reload() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"x");
    let proxy = Proxy::closed().arguments(&["--allow-private"]).start();
    proxy.write_config_raw("access.allow_private = false\nlog.query = true");
    assert!(proxy.run(&["reload"]).status.success());
    proxy.get(&origin.url("/x")).assert_body("x");
}

#[test]
fn what_is_stored_and_what_runs_survives_a_reload() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"x");
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/held", move |x| {
        held.pass();
        x.reply("200 OK", &[], "held");
    });
    let proxy = Proxy::open();
    proxy.get(&origin.url("/x"));
    let mut client = proxy.client();
    client.begin("GET", &origin.url("/held"), &[], "");
    origin.wait("/held", 1);
    for i in 0..20 {
        proxy.write_config(&format!("cache.collapse_wait = '{}s'", i + 1));
        assert!(proxy.run(&["reload"]).status.success());
    }
    gate.open();
    client.response("GET").assert_body("held");
    proxy.get(&origin.url("/x")).assert_hit();
}

/// Requests until told to stop: what may be stored and what may not, on one connection as long as it is kept.
/// The number of exchanges is returned, or what went wrong.
fn keep_requesting(proxy: SocketAddr, urls: &[String], stop: &AtomicBool) -> Result<usize, String> {
    let mut client = Client::connect(proxy);
    let mut count = 0;
    while !stop.load(Ordering::SeqCst) {
        let url = &urls[count % urls.len()];
        client.begin("GET", url, &[], "");
        let response = client.try_response("GET").map_err(|e| format!("{url}, exchange {count}: {e}"))?;
        if response.status != 200 || response.text() != "body" || response.broken.is_some() {
            return Err(format!("{url}, exchange {count}: {response}"));
        }
        if response.field("connection").is_some_and(|c| c == "close") {
            client = Client::connect(proxy);
        }
        count += 1;
        // So many at full speed would leave nothing for the reloads.
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    Ok(count)
}

#[test]
fn a_hundred_reloads_fail_nobody_and_refused_ones_among_them_change_nothing() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"x");
    origin.serve("/stored", "200 OK", &["Cache-Control: max-age=60"], b"body");
    origin.serve("/checked", "200 OK", &["Cache-Control: no-cache", "ETag: \"1\""], b"body");
    origin.serve("/private", "200 OK", &["Cache-Control: no-store"], b"body");
    let urls = ["/stored", "/checked", "/private"].map(|path| origin.url(path));
    let proxy = Proxy::with("proxy.forwarded_for = 'delete'");
    let stop = AtomicBool::new(false);
    let counts: Vec<_> = std::thread::scope(|scope| {
        let clients: Vec<_> =
            (0..200).map(|_| scope.spawn(|| keep_requesting(proxy.address, &urls, &stop))).collect();
        // Ends the clients where an assertion fails, too.
        let stopping = Stop(&stop);
        let (mut refused, mut hung_up) = (0, 0);
        for round in 0..100 {
            let added = round % 2 == 0;
            let setting = if added { "add" } else { "delete" };
            proxy.write_config(&format!(
                "proxy.forwarded_for = '{setting}'\ncache.collapse_wait = '{}s'",
                1 + round % 7
            ));
            if round % 4 == 1 {
                proxy.signal(Signal::HUP);
                hung_up += 1;
                let told = |line: &str| line.starts_with("larder: reloaded: ");
                proxy.diagnostics.wait_count("the reload", hung_up, told);
            } else {
                proxy.admin("POST", "/api/v1/reload", &[], "").assert_status(200);
            }
            assert_eq!(adds(&proxy, &origin), added, "round {round}");
            if round % 5 == 0 {
                let other = if added { "delete" } else { "add" };
                proxy.write_config_raw(&format!(
                    "access.allow_private = false\nproxy.forwarded_for = '{other}'\nserver.drian = '1s'"
                ));
                if round % 2 == 0 {
                    proxy.admin("POST", "/api/v1/reload", &[], "").assert_status(422);
                } else {
                    proxy.signal(Signal::HUP);
                    refused += 1;
                    let told = |line: &str| line.contains("drian");
                    proxy.diagnostics.wait_count("the refusal", refused, told);
                }
                assert_eq!(adds(&proxy, &origin), added, "refused in round {round}");
            }
        }
        drop(stopping);
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    for count in counts {
        assert!(count.unwrap() > 0);
    }
    assert!(proxy.metric("larder_panics_total", &[]) < 0.5);
}

/// Sets the flag when dropped.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
