//! What the built-in defaults refuse, and how a refusal says what would allow it.

use crate::support::dns::{Answer, NameServer};
use crate::support::{Origin, Proxy};

#[test]
fn destinations_on_this_machine_and_its_networks_are_refused_by_any_spelling() {
    let origin = Origin::start();
    let port = origin.address.port();
    let proxy = Proxy::closed().start();
    for host in [
        "127.0.0.1",
        "127.1.2.3",
        "localhost",
        "LOCALHOST",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "0.0.0.0",
        "[::]",
        "169.254.169.254",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "[fd00::1]",
        "[fe80::1]",
        "240.0.0.1",
        "255.255.255.255",
        "224.0.0.1",
        "[ff02::1]",
        "[2002:7f00:1::]",
        "[fec0::1]",
    ] {
        let response = proxy.get(&format!("http://{host}:{port}/x"));
        assert_eq!(response.status, 403, "{host}: {response}");
        let text = response.text();
        assert!(text.contains("--allow-private"), "{host}: {text}");
        assert!(text.contains("destination-"), "{host} names its rule: {text}");
        assert!(response.proxy_status().contains("destination_ip_prohibited"), "{host}");
    }
    // What resolvers of old took for an address is a name, and is nowhere, or refused.
    for host in ["127.1", "0x7f.0.0.1", "2130706433", "0177.0.0.1"] {
        let response = proxy.get(&format!("http://{host}:{port}/x"));
        assert!(matches!(response.status, 400 | 403 | 502 | 504), "{host}: {response}");
    }
    assert_eq!(origin.connections(), 0);
}

#[test]
fn names_are_judged_by_the_addresses_that_they_resolve_to() {
    let origin = Origin::start();
    let names = NameServer::start();
    names.address_of("inside.test", [127, 0, 0, 1]);
    names.set("mixed.test", Answer::Addresses(vec![[127, 0, 0, 1].into(), [10, 0, 0, 1].into()], 0));
    let proxy = Proxy::closed().config(&names.config()).start();
    for name in ["inside.test", "mixed.test"] {
        let response = proxy.get(&origin.url_at(name, "/x"));
        response.assert_error(403, "destination_ip_prohibited");
    }
    let mut client = proxy.client();
    client.send("CONNECT inside.test:443 HTTP/1.1\r\nHost: inside.test:443\r\n\r\n");
    client.response("GET").assert_error(403, "destination_ip_prohibited");
    assert_eq!(origin.connections(), 0);
}

#[test]
fn networks_hosts_and_the_flag_allow_what_they_name() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"x");
    for start in [
        Proxy::closed().arguments(&["--allow-private"]),
        Proxy::closed().environment("LARDER_ALLOW_PRIVATE", "true"),
        Proxy::closed().config("access.allow_private = true"),
        Proxy::closed().config("access.allow_destinations = ['127.0.0.0/8']"),
        Proxy::closed().config("access.allow_hosts = ['127.0.0.1']"),
    ] {
        start.start().get(&origin.url("/x")).assert_body("x");
    }
    let narrow = Proxy::closed().config("access.allow_destinations = ['127.0.0.2/32']").start();
    narrow.get(&origin.url("/x")).assert_status(403);
}

#[test]
fn ports_that_browsers_refuse_are_refused() {
    let proxy = Proxy::closed().arguments(&["--allow-private"]).start();
    for port in [22, 25, 110, 143, 6000, 6667] {
        let response = proxy.get(&format!("http://127.0.0.1:{port}/"));
        response.assert_error(403, "http_request_denied");
        assert!(response.text().contains("access.ports"), "{port}: {response}");
    }
}

#[test]
fn the_proxy_leads_to_none_of_its_own_listeners() {
    let proxy = Proxy::open();
    for target in [proxy.address, proxy.admin] {
        for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "127.0.0.2"] {
            let response = proxy.get(&format!("http://{host}:{}/metrics", target.port()));
            // On this one nobody listens.
            let expected = if host == "127.0.0.2" { 502 } else { 403 };
            assert_eq!(response.status, expected, "{host}:{} {response}", target.port());
            assert!(!response.text().contains("larder_build_info"), "{host}");
        }
    }
    let mut client = proxy.client();
    client.send(format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", proxy.admin));
    client.response("GET").assert_status(403);
}

#[test]
fn a_refusal_is_logged_with_its_rule_and_counted_as_denied() {
    let proxy = Proxy::closed().start();
    proxy.get("http://127.0.0.1:8080/x");
    let line = proxy.log.wait("the log", |l| l.contains("/x"));
    let log: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&log["result"], &log["rule"]), (&"denied".into(), &"destination-loopback".into()), "{line}");
    assert!((proxy.metric("larder_requests_total", &["denied"]) - 1.0).abs() < 0.1);
}
