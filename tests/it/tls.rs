//! `https` targets in absolute-form, and what is fetched over TLS by a rule: verified, or not at all.

use crate::support::authority::Authority;
use crate::support::{Origin, Proxy};

#[test]
fn an_https_target_is_fetched_over_verified_tls_and_cached() {
    let authority = Authority::new();
    let origin = authority.origin(&["localhost", "127.0.0.1"]);
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"secure");
    let proxy = Proxy::with(&authority.config());
    for url in [origin.url_at("localhost", "/x"), origin.url("/x")] {
        proxy.get(&url).assert_status(200).assert_body("secure").assert_forwarded("uri-miss");
        proxy.get(&url).assert_hit();
    }
    assert_eq!(origin.last("/x").field("host"), Some(origin.address.to_string()));
}

#[test]
fn a_certificate_that_does_not_verify_is_502() {
    let authority = Authority::new();
    let unknown = Proxy::open();
    let named = authority.origin(&["localhost"]);
    unknown.get(&named.url_at("localhost", "/x")).assert_error(502, "tls_certificate_error");
    let known = Proxy::with(&authority.config());
    let other = authority.origin(&["other.example"]);
    known.get(&other.url_at("localhost", "/x")).assert_error(502, "tls_certificate_error");
    assert_eq!(named.all().len() + other.all().len(), 0, "no request was sent");
}

#[test]
fn an_https_target_never_goes_out_in_plaintext() {
    let plain = Origin::start();
    plain.serve("/x", "200 OK", &[], b"plain");
    let proxy = Proxy::open();
    let response = proxy.get(&plain.url("/x").replace("http:", "https:"));
    assert!(matches!(response.status, 502..=504), "{response}");
    assert_eq!(plain.all().len(), 0);
    assert!(!plain.received().starts_with(b"GET"));
}

#[test]
fn schemes_never_share_a_stored_response() {
    let authority = Authority::new();
    let secure = authority.origin(&["localhost"]);
    secure.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"secure");
    let proxy = Proxy::with(&authority.config());
    proxy.get(&secure.url_at("localhost", "/x")).assert_body("secure");
    let plain = proxy.get(&secure.url_at("localhost", "/x").replace("https:", "http:"));
    assert!(!plain.is_hit(), "{plain}");
}

const OVER: &str = "[[rules]]\nhosts = ['localhost']\nfetch_over = 'https'\n";

#[test]
fn a_rule_fetches_an_http_target_over_tls_and_stores_it_under_its_http_url() {
    let authority = Authority::new();
    let origin = authority.origin(&["localhost"]);
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"secure");
    let proxy = Proxy::with(&format!("{}{OVER}", authority.config()));
    let secure = origin.url_at("localhost", "/x");
    let plain = secure.replace("https:", "http:");
    proxy.get(&plain).assert_status(200).assert_body("secure").assert_forwarded("uri-miss");
    proxy.get(&plain).assert_hit();
    assert_eq!(origin.all().len(), 1);
    // The key is the URL that was asked for, not the way it was fetched.
    proxy.get(&secure).assert_body("secure").assert_forwarded("uri-miss");
}

#[test]
fn a_rule_that_fetches_over_tls_never_falls_back_to_plaintext() {
    let authority = Authority::new();
    let untrusted = authority.origin(&["localhost"]);
    let other_name = authority.origin(&["other.example"]);
    let plaintext = Origin::start();
    for origin in [&untrusted, &other_name, &plaintext] {
        origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"x");
    }
    let unknown = Proxy::with(OVER);
    let known = Proxy::with(&format!("{}{OVER}", authority.config()));
    // An origin that speaks no TLS does not answer the first words of it at all.
    let impatient = Proxy::with(&format!("upstream.connect_timeout = '500ms'\n{OVER}"));
    for method in ["GET", "POST"] {
        for (proxy, origin) in [(&unknown, &untrusted), (&known, &other_name)] {
            let url = origin.url_at("localhost", "/x").replace("https:", "http:");
            proxy.request(method, &url, &[], "").assert_error(502, "tls_certificate_error");
        }
        let response = impatient.request(method, &plaintext.url_at("localhost", "/x"), &[], "");
        assert!(matches!(response.status, 502..=504), "{response}");
    }
    for origin in [&untrusted, &other_name, &plaintext] {
        assert_eq!(origin.all().len(), 0, "no request was sent");
        assert!(!origin.received().starts_with(b"GET") && !origin.received().starts_with(b"POST"));
    }
}

#[test]
fn a_connection_over_tls_is_used_again() {
    let authority = Authority::new();
    let origin = authority.origin(&["localhost"]);
    origin.serve("/x", "200 OK", &["Cache-Control: no-store"], b"secure");
    let proxy = Proxy::with(&authority.config());
    for _ in 0..3 {
        proxy.get(&origin.url_at("localhost", "/x")).assert_body("secure");
    }
    assert_eq!(origin.connections(), 1);
}
