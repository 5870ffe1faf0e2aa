//! A new configuration is checked first, then taken over at once, or refused as a whole.

use crate::support::proxy::Signal;
use crate::support::{Gate, Origin, Proxy, eventually};

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
