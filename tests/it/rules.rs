//! Rules for hosts and URLs: the first that matches decides.

use crate::support::{Origin, Proxy};

#[test]
fn the_first_rule_that_matches_decides() {
    let origin = Origin::start();
    for path in ["/a/x", "/b/x"] {
        origin.serve(path, "200 OK", &["Cache-Control: max-age=60"], b"x");
    }
    let proxy = Proxy::with(
        "[[rules]]\nname = 'not a'\nurls = ['*/a/*']\ncache = false\n[[rules]]\nhosts = ['*']\ncache = true\n",
    );
    for _ in 0..2 {
        let response = proxy.get(&origin.url("/a/x"));
        response.assert_forwarded("bypass");
        assert_eq!(response.cache().value("detail").as_deref(), Some("rule"));
    }
    proxy.get(&origin.url("/b/x"));
    proxy.get(&origin.url("/b/x")).assert_hit();
}

#[test]
fn ignored_query_parameters_share_a_response_and_still_reach_the_origin() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"x");
    let proxy = Proxy::with("[[rules]]\nignore_query = ['utm_*', '_', 'callback']\n");
    proxy.get(&origin.url("/x?a=1&utm_source=mail&b=2&_=99")).assert_forwarded("uri-miss");
    assert_eq!(origin.all()[0].target, "/x?a=1&utm_source=mail&b=2&_=99");
    for query in ["a=1&b=2", "a=1&b=2&callback=f", "_=1&a=1&b=2&utm_x=y"] {
        proxy.get(&origin.url(&format!("/x?{query}"))).assert_hit();
    }
    for query in ["b=2&a=1", "a=1&b=2&c=3", "a=1&b=2&UTM_x=y"] {
        proxy.get(&origin.url(&format!("/x?{query}"))).assert_forwarded("uri-miss");
    }
}

#[test]
fn overrides_of_freshness_are_told_as_breaches() {
    let origin = Origin::start();
    origin.serve("/force", "200 OK", &["Cache-Control: no-store, private", "Content-Type: image/png"], b"x");
    origin.serve("/text", "200 OK", &["Cache-Control: no-store", "Content-Type: text/plain"], b"x");
    origin.serve("/min", "200 OK", &["Cache-Control: max-age=1", "Age: 100", "Content-Type: text/css"], b"x");
    origin.serve("/max", "200 OK", &["Cache-Control: max-age=1000", "Content-Type: text/html"], b"x");
    let proxy = Proxy::with(
        "[[rules]]\nfreshness = [{ content_type = ['image/*'], force = '1h' }, { content_type = ['text/css'], min = '1h' },\
         { content_type = ['text/html'], status = [200], max = '10s' }]\n",
    );
    for path in ["/force", "/min", "/max"] {
        let stored = proxy.get(&origin.url(path)).cache();
        assert!(stored.has("stored"), "{path}");
        assert_eq!(stored.value("detail").as_deref(), Some("freshness-override"), "{path}");
        let line = proxy.log.wait("the log", |l| l.contains(path));
        assert!(line.contains("\"reason\":\"freshness-override\""), "{line}");
    }
    proxy.get(&origin.url("/text"));
    for path in ["/force", "/min"] {
        let hit = proxy.get(&origin.url(path));
        hit.assert_hit();
        assert_eq!(hit.cache().value("detail").as_deref(), Some("freshness-override"), "{hit}");
    }
    assert!(proxy.get(&origin.url("/max")).cache().ttl().unwrap() <= 10);
    proxy.get(&origin.url("/text")).assert_forwarded("uri-miss");
}

#[test]
fn a_rule_has_its_own_limits_of_staleness() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=50", "Age: 100", "ETag: \"v\""], b"x");
    let proxy = Proxy::with("[[rules]]\nstale_while_revalidate = '10min'\n");
    proxy.get(&origin.url("/x"));
    let stale = proxy.get(&origin.url("/x"));
    stale.assert_hit();
    assert_eq!(stale.cache().value("detail").as_deref(), Some("stale-while-revalidate"));
}

#[test]
fn a_rule_bounds_for_how_long_an_origin_that_is_gone_is_answered_for() {
    let proxy = Proxy::with(
        "cache.stale_if_error = '1min'\n[[rules]]\nurls = ['*/long/*']\nstale_if_error = '1h'\n[[rules]]\nurls = ['*/never/*']\nstale_if_error = '0s'\n",
    );
    let origin = Origin::start();
    for path in ["/long/x", "/never/x", "/x"] {
        origin.on(path, |x| {
            if x.number == 1 {
                x.reply("200 OK", &["Cache-Control: max-age=50", "Age: 80", "ETag: \"v\""], "x");
            } else {
                x.close();
            }
        });
        proxy.get(&origin.url(path)).assert_body("x");
    }
    for path in ["/long/x", "/x"] {
        let stale = proxy.get(&origin.url(path));
        stale.assert_body("x");
        assert_eq!(stale.cache().value("detail").as_deref(), Some("stale-if-error"), "{path}: {stale}");
    }
    proxy.get(&origin.url("/never/x")).assert_status(502);
}

#[test]
fn set_cookie_may_be_judged_by_rule() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60", "Set-Cookie: a=b"], b"x");
    let proxy = Proxy::with("[[rules]]\nhosts = ['127.0.0.1']\nset_cookie = 'rfc9111'\n");
    proxy.get(&origin.url("/x"));
    proxy.get(&origin.url("/x")).assert_hit();
    proxy.get(&origin.url_at("localhost", "/x"));
    proxy.get(&origin.url_at("localhost", "/x")).assert_forwarded("uri-miss");
}
