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

#[test]
fn a_rule_fetches_an_http_target_over_tls() {
    let authority = Authority::new();
    let origin = authority.origin(&["localhost"]);
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"secure");
    let rule = "[[rules]]\nhosts = ['localhost']\nfetch_over = 'https'\n";
    let proxy = Proxy::with(&format!("{}{rule}", authority.config()));
    let url = origin.url_at("localhost", "/x").replace("https:", "http:");
    proxy.get(&url).assert_status(200).assert_body("secure");
    proxy.get(&url).assert_hit();
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
