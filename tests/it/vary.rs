//! Several stored responses for one URL, told apart by the fields that Vary names. RFC 9111 section 4.1.

use crate::support::{Origin, Proxy};

/// Answers with what the fields named in Vary were.
fn varying(origin: &Origin, path: &str, vary: &'static str) {
    origin.on(path, move |x| {
        let seen: Vec<_> =
            vary.split(',').map(|n| x.request.field(n.trim()).unwrap_or_else(|| "-".to_owned())).collect();
        let etag = format!("ETag: \"{}\"", seen.join("+"));
        x.reply("200 OK", &["Cache-Control: max-age=60", &format!("Vary: {vary}"), &etag], seen.join("|"));
    });
}

#[test]
fn each_variant_is_stored_and_selected() {
    let origin = Origin::start();
    varying(&origin, "/x", "X-A, x-b");
    let proxy = Proxy::open();
    let url = origin.url("/x");
    let variants: [&[&str]; 4] = [&["X-A: 1"], &["X-A: 2"], &["X-A: 1", "X-B: 3"], &[]];
    for (turn, why) in [(0, None), (1, Some(()))] {
        for (at, fields) in variants.iter().enumerate() {
            let response = proxy.get_with(&url, fields);
            match why {
                Some(()) => response.assert_hit(),
                None => response.assert_forwarded(if at == 0 { "uri-miss" } else { "vary-miss" }),
            };
            assert_eq!(response.body, proxy.get_with(&url, fields).body, "turn {turn}, variant {at}");
        }
    }
    assert_eq!(origin.hits("/x"), 4);
}

#[test]
fn selecting_fields_are_compared_after_normalising() {
    let origin = Origin::start();
    varying(&origin, "/list", "X-List");
    varying(&origin, "/language", "Accept-Language");
    varying(&origin, "/coding", "Accept-Encoding");
    let proxy = Proxy::open();
    for (path, first, second, shared) in [
        ("/list", vec!["X-List: a, b"], vec!["X-List: a ,b"], true),
        ("/list", vec!["X-List: c,d"], vec!["X-List: c", "X-List: d"], true),
        ("/list", vec!["X-List: \"e, f\""], vec!["X-List: \"e,f\""], false),
        ("/list", vec!["X-List: g, h"], vec!["X-List: h, g"], false),
        ("/language", vec!["Accept-Language: de, EN"], vec!["Accept-Language: DE,en"], true),
        ("/coding", vec!["Accept-Encoding: gzip, br"], vec!["Accept-Encoding: br;q=1.0, gzip;q=0.5"], true),
        ("/coding", vec!["Accept-Encoding: zstd"], vec!["Accept-Encoding: identity"], false),
    ] {
        proxy.get_with(&origin.url(path), &first);
        let response = proxy.get_with(&origin.url(path), &second);
        assert_eq!(response.cache().has("hit"), shared, "{first:?} and {second:?}: {response}");
    }
}

#[test]
fn a_stored_content_language_answers_who_prefers_it() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        x.reply(
            "200 OK",
            &["Cache-Control: max-age=60", "Vary: Accept-Language", "Content-Language: de"],
            "de",
        );
    });
    let proxy = Proxy::open();
    proxy.get_with(&origin.url("/x"), &["Accept-Language: de"]);
    proxy.get_with(&origin.url("/x"), &["Accept-Language: fr;q=0.5, de"]).assert_hit();
    proxy.get_with(&origin.url("/x"), &["Accept-Language: fr, de;q=0.5"]).assert_forwarded("vary-miss");
}

#[test]
fn a_vary_miss_offers_the_other_variants_etags() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        if x.request.field("if-none-match").is_some_and(|tags| tags.contains("\"one\"")) {
            return x.reply(
                "304 Not Modified",
                &["ETag: \"one\"", "Cache-Control: max-age=60", "Vary: X-A"],
                "",
            );
        }
        x.reply("200 OK", &["Cache-Control: max-age=60", "Vary: X-A", "ETag: \"one\""], "the same for all");
    });
    let proxy = Proxy::open();
    proxy.get_with(&origin.url("/x"), &["X-A: 1"]);
    let response = proxy.get_with(&origin.url("/x"), &["X-A: 2"]);
    response.assert_status(200).assert_body("the same for all").assert_forwarded("vary-miss");
    assert_eq!(origin.last("/x").field("if-none-match").as_deref(), Some("\"one\""));
}

#[test]
fn a_star_in_vary_is_never_reused() {
    let origin = Origin::start();
    let proxy = Proxy::open();
    for (at, fields) in
        [&["Vary: *"][..], &["Vary: X-A, *"], &["Vary: X-A", "Vary: *"]].into_iter().enumerate()
    {
        let path = format!("/{at}");
        origin.on(&path, move |x| {
            let all: Vec<_> = fields.iter().copied().chain(["Cache-Control: max-age=60"]).collect();
            x.reply("200 OK", &all, "x");
        });
        for _ in 0..2 {
            assert!(!proxy.get(&origin.url(&path)).cache().has("hit"), "{fields:?}");
        }
    }
}

#[test]
fn variants_of_a_key_are_bounded() {
    let origin = Origin::start();
    varying(&origin, "/x", "X-A");
    let proxy = Proxy::with("cache.variants = 4");
    let mut client = proxy.client();
    for i in 0..50 {
        client.get_with(&origin.url("/x"), &[&format!("X-A: {i}")]).assert_status(200);
    }
    client.get_with(&origin.url("/x"), &["X-A: 49"]).assert_hit();
    assert!(proxy.metric("larder_store_entries", &[]) <= 4.0);
}

#[test]
fn a_304_to_a_vary_miss_makes_a_variant_beside_the_one_it_names() {
    let origin = Origin::start();
    let fields = ["Cache-Control: max-age=60", "Vary: Foo", "ETag: \"v\""];
    origin.on("/x", move |x| match x.request.field("if-none-match") {
        Some(_) => x.reply("304 Not Modified", &fields, ""),
        None => x.reply("200 OK", &fields, "one"),
    });
    let proxy = Proxy::open();
    let url = origin.url("/x");
    proxy.get_with(&url, &["Foo: 1"]).assert_status(200);
    proxy.get_with(&url, &["Foo: 2"]).assert_status(200).assert_body("one");
    for foo in ["Foo: 1", "Foo: 2"] {
        proxy.get_with(&url, &[foo]).assert_hit().assert_body("one");
    }
    assert_eq!(origin.hits("/x"), 2);
}

#[test]
fn a_304_to_a_vary_miss_that_names_no_variant_is_asked_again_without_tags() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        if x.request.field("if-none-match").is_some() {
            return x.reply("304 Not Modified", &["ETag: \"other\""], "");
        }
        let body = x.number.to_string();
        x.reply("200 OK", &["Cache-Control: max-age=60", "Vary: Foo", "ETag: \"v\""], body);
    });
    let proxy = Proxy::open();
    let url = origin.url("/x");
    proxy.get_with(&url, &["Foo: 1"]).assert_body("1");
    proxy.get_with(&url, &["Foo: 2"]).assert_status(200).assert_body("3");
    proxy.get_with(&url, &["Foo: 2"]).assert_hit().assert_body("3");
}
