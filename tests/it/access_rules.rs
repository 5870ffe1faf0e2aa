//! `[[access.rules]]`: who may ask for what, by the first rule that matches.

use crate::support::dns::{Answer, NameServer};
use crate::support::{Origin, Proxy, eventually};
use std::net::Ipv4Addr;

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const THERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn decided(proxy: &Proxy, rule: &str, action: &str, count: f64) {
    let labels = [format!("rule=\"{rule}\""), format!("action=\"{action}\"")];
    eventually(&format!("{count} x {rule} {action}"), || {
        let told = proxy.metric("larder_access_decisions_total", &labels.each_ref().map(String::as_str));
        ((told - count).abs() < 0.1).then_some(())
    });
}

#[test]
fn the_first_rule_decides_and_is_told_in_log_and_metrics() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"x");
    let port = origin.address.port();
    let proxy = Proxy::with(&format!(
        "log.access = 'json'\n\
         [[access.rules]]\nname = 'no-uploads'\naction = 'deny'\nmethods = ['POST', 'PUT']\nports = [{port}]\n\
         [[access.rules]]\nname = 'reads'\naction = 'allow'\nhosts = ['127.0.0.1']\nschemes = ['http']\n\
         [[access.rules]]\nname = 'the-rest'\naction = 'deny'\n"
    ));
    // From the origin, and from the store.
    for _ in 0..2 {
        proxy.get(&origin.url("/x")).assert_status(200).assert_body("x");
    }
    let refused = proxy.request("POST", &origin.url("/x"), &[], "an upload");
    refused.assert_error(403, "http_request_denied");
    assert!(refused.text().contains("rule \"no-uploads\" in access.rules"), "{refused}");
    let mut client = proxy.client();
    client.send(format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: a\r\n\r\n"));
    client.response("CONNECT").assert_error(403, "http_request_denied");
    assert_eq!(origin.hits("/x"), 1);
    decided(&proxy, "reads", "allow", 2.0);
    decided(&proxy, "no-uploads", "deny", 1.0);
    decided(&proxy, "the-rest", "deny", 1.0);
    assert!(proxy.metric("larder_denials_total", &["rule=\"no-uploads\""]) > 0.9);
    for (method, rule) in [("GET", "reads"), ("POST", "no-uploads"), ("CONNECT", "the-rest")] {
        let told = format!("\"rule\":\"{rule}\"");
        proxy
            .log
            .wait(rule, |line| line.contains(&format!("\"method\":\"{method}\"")) && line.contains(&told));
    }
}

#[test]
fn an_address_that_a_rule_denies_is_neither_dialled_nor_answered_from_the_store() {
    let names = NameServer::start();
    let there = Origin::on_address(&format!("{THERE}:0"));
    there.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"there");
    names.set("both.test", Answer::Addresses(vec![THERE], 0));
    let proxy = Proxy::with(&format!(
        "upstream = {{ nameservers = ['{}'], dns_min_ttl = '1ms', dns_max_ttl = '1ms' }}\n\
         [[access.rules]]\nname = 'heads'\naction = 'deny'\nmethods = ['HEAD', 'CONNECT', 'POST']\n\
         addresses = ['{THERE}/32']\n",
        names.address
    ));
    let url = there.url_at("both.test", "/x");
    proxy.get(&url).assert_status(200).assert_body("there");
    // A HEAD could be answered by what is stored, and a POST take the connection that is open.
    proxy.request("HEAD", &url, &[], "").assert_status(403);
    proxy.request("POST", &url, &[], "").assert_error(403, "destination_ip_prohibited");
    let mut client = proxy.client();
    client.send("CONNECT both.test:443 HTTP/1.1\r\nHost: both.test:443\r\n\r\n");
    client.response("CONNECT").assert_error(403, "destination_ip_prohibited");
    assert_eq!((there.hits("/x"), there.connections()), (1, 1));
    decided(&proxy, "heads", "deny", 3.0);
    // Where the name leads elsewhere, the rule is for nobody.
    let here = Origin::on_address(&format!("{HERE}:{}", there.address.port()));
    here.serve("/y", "200 OK", &[], b"here");
    names.set("both.test", Answer::Addresses(vec![HERE], 0));
    let url = here.url_at("both.test", "/y");
    eventually("the new address", || (proxy.request("POST", &url, &[], "").status == 200).then_some(()));
}

#[test]
fn an_allowed_address_is_the_only_one_that_a_rule_opens() {
    let names = NameServer::start();
    let there = Origin::on_address(&format!("{THERE}:0"));
    let here = Origin::on_address(&format!("{HERE}:{}", there.address.port()));
    there.serve("/x", "200 OK", &["Cache-Control: no-store"], b"there");
    names.set("there.test", Answer::Addresses(vec![THERE], 0));
    names.set("here.test", Answer::Addresses(vec![HERE], 0));
    let config = format!(
        "log.access = 'json'\nupstream.nameservers = ['{}']\n\
         [[access.rules]]\nname = 'inside'\naction = 'allow'\naddresses = ['{THERE}/32']\n",
        names.address
    );
    let proxy = Proxy::closed().config(&config).start();
    proxy.get(&there.url_at("there.test", "/x")).assert_status(200).assert_body("there");
    proxy.get(&there.url("/x")).assert_status(200);
    proxy.get(&here.url_at("here.test", "/x")).assert_error(403, "destination_ip_prohibited");
    proxy.get(&here.url("/x")).assert_error(403, "destination_ip_prohibited");
    assert_eq!(here.connections(), 0);
    proxy.log.wait_count("the rule", 2, |line| line.contains("\"rule\":\"inside\""));
}

/// Neither ends by itself.
#[test]
fn an_exchange_ends_with_the_time_that_its_rule_gives_it() {
    let origin = Origin::start();
    origin.on("/drips", |x| {
        x.write("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
        while x.written("x") {
            std::thread::yield_now();
            if !x.written("y") {
                break;
            }
            std::thread::park_timeout(std::time::Duration::from_millis(5));
        }
    });
    let proxy = Proxy::with(
        "[[access.rules]]\nname = 'short'\naction = 'allow'\nmethods = ['GET', 'CONNECT']\ntime_limit = '300ms'\n",
    );
    let mut client = proxy.client();
    client.begin("GET", &origin.url("/drips"), &[], "");
    let response = client.try_response("GET").unwrap();
    assert!(response.status == 200 && response.broken.is_some(), "{response}");
    let mut client = proxy.client();
    client.send(format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", origin.address));
    client.response("CONNECT").assert_status(200);
    assert!(client.wire.ends());
    // The next exchange on a connection has its own time.
    origin.serve("/x", "200 OK", &[], b"x");
    let mut client = proxy.client();
    let began = larder::clock::Stopwatch::start();
    while began.elapsed().as_millis() < 500 {
        client.get(&origin.url("/x")).assert_body("x");
    }
}

#[test]
fn rules_are_reloaded_and_wrong_ones_refused() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"x");
    let proxy = Proxy::open();
    proxy.get(&origin.url("/x")).assert_status(200);
    let rule = "[[access.rules]]\nname = 'closed'\naction = 'deny'\nhosts = ['127.0.0.1']\n";
    proxy.write_config(rule);
    assert!(proxy.run(&["reload"]).status.success());
    proxy.get(&origin.url("/x")).assert_error(403, "http_request_denied");
    proxy.write_config("[[access.rules]]\naction = 'permit'\n");
    let told = proxy.run(&["reload"]);
    assert_eq!(told.status.code(), Some(2), "{told:?}");
    let says = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(says.contains("access.rules[0].action: found the string \"permit\""), "{says}");
    proxy.get(&origin.url("/x")).assert_error(403, "http_request_denied");
    // What is refused is told by explain as a client would be.
    let told = proxy.run(&["explain", "--json", "--offline", &origin.url("/x")]);
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(told["refused"]["status"], 403, "{told}");
}
