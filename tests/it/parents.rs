//! Parent proxies: plain requests, tunnels, credentials, exceptions, and their own refusals.

use crate::support::{Client, Origin, Proxy, Response, nobody};

/// A parent that answers whatever it is asked, and tells what that was.
fn parent() -> Origin {
    let parent = Origin::start();
    parent.on("http://origin.test/x", |x| {
        let target = x.request.target.clone();
        x.reply("200 OK", &["Cache-Control: max-age=60"], target);
    });
    parent
}

fn config(parent: &Origin) -> String {
    format!("upstream.parents = ['http://user:pass@{}']\n", parent.address)
}

#[test]
fn requests_go_to_the_parent_in_absolute_form_with_its_credentials() {
    let parent = parent();
    let proxy = Proxy::with(&config(&parent));
    let url = "http://origin.test/x";
    proxy.get_with(url, &["Proxy-Authorization: Basic bWluZQ=="]).assert_status(200).assert_body(url);
    proxy.get(url).assert_hit();
    let seen = parent.last(url);
    assert_eq!(seen.field("host").as_deref(), Some("origin.test"));
    assert_eq!(seen.field("proxy-authorization").as_deref(), Some("Basic dXNlcjpwYXNz"));
    assert!(seen.field("via").is_some());
}

#[test]
fn tunnels_go_through_the_parent() {
    let parent = parent();
    parent.on("origin.test:443", |x| {
        x.write("HTTP/1.1 200 Established\r\nContent-Length: 7\r\n\r\n");
        let bytes = x.wire().exactly(4).unwrap();
        x.write(bytes);
        x.done();
    });
    let proxy = Proxy::with(&config(&parent));
    let mut client = proxy.client();
    client.send("CONNECT origin.test:443 HTTP/1.1\r\nHost: origin.test:443\r\n\r\n");
    client.head("CONNECT").assert_status(200);
    client.send("ping");
    assert_eq!(client.wire.exactly(4).unwrap(), b"ping");
    let seen = parent.last("origin.test:443");
    assert_eq!(seen.method, "CONNECT");
    assert_eq!(seen.field("proxy-authorization").as_deref(), Some("Basic dXNlcjpwYXNz"));
}

fn connect(client: &mut Client, fields: &str) -> Response {
    client.send(format!("CONNECT origin.test:443 HTTP/1.1\r\nHost: origin.test:443\r\n{fields}\r\n"));
    client.response("GET")
}

#[test]
fn a_connect_to_the_parent_carries_via() {
    let parent = parent();
    parent.serve("origin.test:443", "502 No", &[], b"");
    let proxy = Proxy::with(&format!("{}proxy.via = 'tested'", config(&parent)));
    connect(&mut proxy.client(), "Via: 1.0 first\r\nVia: 1.1 second\r\n")
        .assert_error(502, "destination_not_found");
    assert_eq!(parent.last("origin.test:443").head.all("via"), ["1.0 first", "1.1 second", "1.1 tested"]);
    // So does the one for a request that is fetched over TLS.
    proxy.get_with("https://origin.test/x", &["Via: 1.0 first"]).assert_error(502, "destination_not_found");
    assert_eq!(parent.last("origin.test:443").head.all("via"), ["1.0 first", "1.1 tested"]);
    assert_eq!(parent.all().len(), 2);
}

#[test]
fn a_tunnel_that_comes_back_is_refused_at_once() {
    let far = Proxy::open();
    let near = Proxy::with(&format!("upstream.parents = ['http://{}']", far.address));
    far.write_config(&format!("upstream.parents = ['http://{}']", near.address));
    assert!(far.run(&["reload"]).status.success());
    connect(&mut near.client(), "").assert_error(508, "proxy_loop_detected");
    far.log.wait("the log", |l| l.contains("CONNECT"));
    near.log.wait_count("both visits", 2, |l| l.contains("CONNECT"));
    let visits = |proxy: &Proxy| proxy.log.all().iter().filter(|l| l.contains("CONNECT")).count();
    assert_eq!((visits(&near), visits(&far)), (2, 1), "it went round once");
    let own = Proxy::open();
    own.write_config(&format!("upstream.parents = ['http://{}']", own.address));
    assert!(own.run(&["reload"]).status.success());
    for _ in 0..2 {
        connect(&mut own.client(), "").assert_error(508, "proxy_loop_detected");
        own.get("https://origin.test/x").assert_error(508, "proxy_loop_detected");
    }
}

#[test]
fn a_407_from_the_parent_is_our_502_with_the_reason() {
    let parent = parent();
    for target in ["http://origin.test/closed", "origin.test:443"] {
        parent.serve(target, "407 Who Are You", &["Proxy-Authenticate: Basic realm=parent"], b"");
    }
    let proxy = Proxy::with(&config(&parent));
    let response = proxy.get("http://origin.test/closed");
    response.assert_status(502);
    assert!(response.text().contains("407"), "{response}");
    assert_eq!(response.field("proxy-authenticate"), None);
    let mut client = proxy.client();
    client.send("CONNECT origin.test:443 HTTP/1.1\r\nHost: origin.test:443\r\n\r\n");
    let refused = client.response("GET");
    refused.assert_status(502);
    assert!(refused.text().contains("407"), "{refused}");
}

#[test]
fn hosts_on_the_exception_list_are_reached_directly() {
    let parent = parent();
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"direct");
    let proxy = Proxy::with(
        &format!("{}upstream.no_proxy = ['127.0.0.0/8']", config(&parent)).replace("parents", "parents"),
    );
    proxy.get(&origin.url("/x")).assert_body("direct");
    assert_eq!(parent.all().len(), 0);
}

#[test]
fn a_parent_that_is_down_is_passed_over() {
    let parent = parent();
    let down = nobody();
    let proxy = Proxy::with(&format!("upstream.parents = ['http://{down}', 'http://{}']", parent.address));
    proxy.get("http://origin.test/x").assert_status(200);
    let alone = Proxy::with(&format!("upstream.parents = ['http://{down}']"));
    alone.get("http://origin.test/x").assert_error(502, "connection_refused");
}

#[test]
fn the_environment_names_the_parent_only_when_told_to() {
    let parent = parent();
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"direct");
    let start = |told: bool| {
        Proxy::builder()
            .config(&format!("upstream.from_environment = {told}"))
            .environment("HTTP_PROXY", &format!("http://{}", parent.address))
            .environment("HTTPS_PROXY", &format!("http://{}", parent.address))
            .environment("NO_PROXY", "127.0.0.1")
            .start()
    };
    let told = start(true);
    told.get("http://origin.test/x").assert_status(200);
    told.get(&origin.url("/x")).assert_body("direct");
    assert_eq!(parent.all().len(), 1);
    let untold = start(false);
    untold.get(&origin.url("/x")).assert_body("direct");
    assert_eq!(parent.all().len(), 1);
}

#[test]
fn two_of_ours_in_a_row_work_and_a_circle_ends() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"x");
    let far = Proxy::open();
    let near = Proxy::with(&format!("upstream.parents = ['http://{}']", far.address));
    let response = near.get(&origin.url("/x"));
    response.assert_body("x");
    let all = response.field("cache-status").unwrap();
    assert_eq!(all.matches("larder;").count(), 2, "{all}");
    assert_eq!(origin.last("/x").head.field("via").unwrap().split(", ").count(), 2);
    far.write_config(&format!("upstream.parents = ['http://{}']", near.address));
    assert!(far.run(&["reload"]).status.success());
    let before = origin.all().len();
    // What came back to the first is told by the second as what it is: its parent's answer.
    near.get(&origin.url("/y")).assert_error(508, "proxy_loop_detected");
    assert_eq!(origin.all().len(), before);
    far.log.wait("the log", |l| l.contains("/y"));
    near.log.wait_count("both visits", 2, |l| l.contains("/y"));
    assert_eq!(near.log.all().iter().filter(|l| l.contains("/y")).count(), 2, "it went round once");
}
