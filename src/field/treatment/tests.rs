//! The table, and what is left of a head after stripping.
use super::*;
use proptest::prelude::*;

fn head(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers
}

fn names(headers: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

#[test]
fn the_table_is_ordered_and_finds_each_of_its_names() {
    assert!(TABLE.is_sorted_by_key(|(name, _)| name.len()));
    for (name, treatment) in TABLE {
        assert_eq!(of_name(name), *treatment, "{name}");
        assert_eq!(TABLE.iter().filter(|(other, _)| other == name).count(), 1, "{name}");
        assert_eq!(*name, name.to_ascii_lowercase());
    }
    assert_eq!(of_name("x-anything"), END_TO_END);
    assert_eq!(of_name(""), END_TO_END);
    assert_eq!(of_name(&"x".repeat(300)), END_TO_END);
}

#[test]
fn hop_by_hop_fields_go_and_repeated_fields_stay() {
    let lines = [
        ("accept", "a"),
        ("accept", "b"),
        ("connection", "close"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authorization", "Basic x"),
        ("proxy-authenticate", "Basic"),
        ("proxy-authenticate", "Digest"),
        ("proxy-authentication-info", "x"),
        ("proxy", "http://evil"),
        ("te", "trailers"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABkAAQAAP"),
        ("expect", "100-continue"),
        ("trailer", "x-sum"),
        ("cache-status", "a; hit"),
        ("proxy-status", "a"),
        ("proxy-features", "not ours to judge"),
        ("set-cookie", "a=b"),
        ("set-cookie", ""),
        ("x-empty", ""),
    ];
    for strip in [strip_request, strip_response] {
        let mut headers = head(&lines);
        strip(&mut headers);
        assert_eq!(
            names(&headers),
            [
                "accept",
                "cache-status",
                "expect",
                "proxy-features",
                "proxy-status",
                "set-cookie",
                "trailer",
                "x-empty"
            ]
        );
        assert_eq!(headers.get_all("accept").iter().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(headers.get_all("set-cookie").iter().collect::<Vec<_>>(), ["a=b", ""]);
    }
}

#[test]
fn what_connection_names_goes() {
    let mut headers = head(&[
        ("connection", "X-A, keep-alive,, x-b"),
        ("connection", "\tX-C , bad name, close"),
        ("x-a", "1"),
        ("x-a", "2"),
        ("x-b", "1"),
        ("x-c", "1"),
        ("x-d", "1"),
        ("cookie", "a=b"),
        ("close", "is the name of a field too"),
    ]);
    strip_request(&mut headers);
    assert_eq!(names(&headers), ["close", "cookie", "x-d"]);
}

#[test]
fn connection_cannot_name_what_caching_and_framing_need() {
    let protected = [
        "cache-control",
        "expires",
        "pragma",
        "vary",
        "etag",
        "date",
        "age",
        "authorization",
        "set-cookie",
        "host",
        "content-length",
        "content-type",
        "content-encoding",
        "content-range",
        "content-location",
        "content-anything",
        "last-modified",
        "via",
        "max-forwards",
        "cache-status",
        "cdn-cache-control",
    ];
    for name in protected {
        let mut headers = HeaderMap::new();
        headers.append(CONNECTION, HeaderValue::from_str(&name.to_ascii_uppercase()).unwrap());
        headers.append(HeaderName::from_static(name), HeaderValue::from_static("x"));
        strip_response(&mut headers);
        assert_eq!(names(&headers), [name]);
    }
}

#[track_caller]
fn check_stored(name: &'static str, stored: bool, replaced: bool) {
    let name = HeaderName::from_static(name);
    assert_eq!((is_stored(&name), replaced_by_304(&name)), (stored, replaced), "{name}");
}

#[test]
fn everything_is_stored_but_what_is_about_the_connection() {
    for name in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
    ] {
        check_stored(name, false, false);
    }
    for name in ["content-length", "content-encoding", "content-range"] {
        check_stored(name, true, false);
    }
    for name in [
        "content-type",
        "content-location",
        "content-md5",
        "content-security-policy",
        "x-frame-options",
        "expires",
        "cache-control",
        "clear-site-data",
        "set-cookie",
        "etag",
        "date",
        "x-anything",
        "trailer",
        "cache-status",
    ] {
        check_stored(name, true, true);
    }
}

#[test]
fn forbidden_trailers_are_dropped() {
    let mut trailers = head(&[
        ("x-checksum", "1"),
        ("x-checksum", "2"),
        ("server-timing", "a"),
        ("proxy-status", "a"),
        ("content-length", "5"),
        ("content-md5", "x"),
        ("transfer-encoding", "chunked"),
        ("host", "evil"),
        ("cache-control", "max-age=99"),
        ("set-cookie", "a=b"),
        ("cookie", "a=b"),
        ("authorization", "x"),
        ("proxy-authorization", "x"),
        ("www-authenticate", "x"),
        ("connection", "x"),
        ("trailer", "x"),
        ("te", "x"),
        ("range", "bytes=0-"),
        ("if-match", "x"),
        ("location", "/"),
        ("vary", "*"),
        ("age", "0"),
        ("expires", "0"),
        ("etag", "x"),
        ("max-forwards", "1"),
        ("expect", "100-continue"),
    ]);
    strip_trailers(&mut trailers, &[]);
    assert_eq!(names(&trailers), ["proxy-status", "server-timing", "x-checksum"]);
    assert_eq!(trailers.get_all("x-checksum").iter().count(), 2);
}

#[test]
fn trailers_that_connection_names_go() {
    let headers = head(&[
        ("connection", "TE, X-Sum, keep-alive, close, content-md5"),
        ("connection", "x-sum, Proxy-Status, bad name"),
    ]);
    let named = named_trailers(&headers);
    assert_eq!(named, ["x-sum"]);
    let mut trailers = head(&[("x-sum", "1"), ("x-sum", "2"), ("x-kept", "3"), ("proxy-status", "a")]);
    strip_trailers(&mut trailers, &named);
    assert_eq!(names(&trailers), ["proxy-status", "x-kept"]);
}

#[test]
fn where_connection_names_far_too_many_no_trailer_goes_on() {
    for (count, kept) in [(64, 1), (65, 0), (9_000, 0)] {
        let list = (0..count).map(|at| format!("x-{at}")).collect::<Vec<_>>().join(",");
        let headers = HeaderMap::from_iter([(CONNECTION, HeaderValue::try_from(list).unwrap())]);
        let named = named_trailers(&headers);
        assert!(named.len() <= 65, "{}", named.len());
        let mut trailers = head(&[("x-kept", "1"), ("x-63", "2")]);
        strip_trailers(&mut trailers, &named);
        assert_eq!(trailers.len(), kept, "{count}");
    }
}

#[test]
fn protocols_count_only_with_the_option_upgrade() {
    let headers =
        head(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket, h2c"), ("upgrade", " x/1 ,")]);
    assert_eq!(upgrade_protocols(&headers), ["websocket", "h2c", "x/1"]);
    let headers = head(&[("connection", "keep-alive"), ("upgrade", "websocket")]);
    assert_eq!(upgrade_protocols(&headers), [""; 0]);
    assert_eq!(upgrade_protocols(&head(&[("connection", "upgrade")])), [""; 0]);
}

proptest! {
    /// Whatever is in a head: no hop-by-hop field and nothing that Connection names leaves, all else does, each line.
    #[test]
    fn no_hop_by_hop_field_leaves(
        lines in proptest::collection::vec(("[a-c]|te|age|vary|keep-alive|proxy-[a-c]|upgrade|connection", "[a-c]|te|age|, |close"), 0..20),
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in &lines {
            headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
        }
        let before = headers.clone();
        strip_request(&mut headers);
        for name in before.keys() {
            let named = has_option(&before, name.as_str()) && !of(name).protected;
            if of(name).hop_by_hop || named {
                prop_assert!(!headers.contains_key(name));
            } else {
                prop_assert!(headers.get_all(name).iter().eq(before.get_all(name).iter()));
            }
        }
    }
}
