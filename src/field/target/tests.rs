//! What becomes of a target, row by row, and what holds for all of them.
use super::*;
use proptest::prelude::*;

#[track_caller]
fn absolute(url: &str) -> Target {
    Target::absolute(&url.parse().expect(url)).expect(url)
}

/// What is sent to the origin, and where it goes.
#[track_caller]
fn check(url: &str, authority: &str, port: u16, path: &str) {
    let target = absolute(url);
    assert_eq!(target.authority, authority, "{url}");
    assert_eq!(target.port, port, "{url}");
    assert_eq!(target.path.as_str(), path, "{url}");
    assert_eq!(target.origin_form().to_string(), path, "{url}");
    assert_eq!(target.url(), format!("{}://{authority}{path}", target.scheme.as_str()), "{url}");
}

#[test]
fn the_key_is_what_is_sent() {
    check("http://example.com/", "example.com", 80, "/");
    check("HTTP://EXAMPLE.com/A%2fb", "example.com", 80, "/A%2fb");
    check("http://example.com", "example.com", 80, "/");
    check("http://example.com#f", "example.com", 80, "/");
    check("http://example.com/#f", "example.com", 80, "/");
    check("http://example.com?#f", "example.com", 80, "/?");
    check("http://example.com?x=1", "example.com", 80, "/?x=1");
    check("http://example.com?x=1#f", "example.com", 80, "/?x=1");
    check("http://example.com/?", "example.com", 80, "/?");
    check("http://example.com:80/", "example.com", 80, "/");
    check("http://example.com:/", "example.com", 80, "/");
    check("http://example.com:0080/", "example.com", 80, "/");
    check("http://example.com:443/", "example.com:443", 443, "/");
    check("https://example.com:443/", "example.com", 443, "/");
    check("https://example.com:80/", "example.com:80", 80, "/");
    check("http://example.com:08080/", "example.com:8080", 8080, "/");
    check("http://example.com:65535/", "example.com:65535", 65535, "/");
    check("http://example.com./", "example.com.", 80, "/");
    check("http://ex_ample.com/", "ex_ample.com", 80, "/");
    check("http://xn--bcher-kva.example/", "xn--bcher-kva.example", 80, "/");
    check("http://h//a/./b/../c", "h", 80, "//a/./b/../c");
    check("http://h/%zz", "h", 80, "/%zz");
    check("http://h/%41%61?%3F?", "h", 80, "/%41%61?%3F?");
    check("http://h/;a=b,c'(d)", "h", 80, "/;a=b,c'(d)");
    check("http://h/b\u{fc}cher?\u{20ac}", "h", 80, "/b%C3%BCcher?%E2%82%AC");
    check("http://h?\u{fc}", "h", 80, "/?%C3%BC");
}

#[test]
fn user_information_goes_no_further() {
    check("http://user:secret@example.com:8080/x", "example.com:8080", 8080, "/x");
    check("http://user@EXAMPLE.com/", "example.com", 80, "/");
    check("http://us%40er@example.com/", "example.com", 80, "/");
    let target = absolute("http://user:secret@example.com/?q=secret");
    assert_eq!(target.to_string(), "http://example.com/?...");
    assert_eq!(target.without_query(), "http://example.com/?...");
}

#[test]
fn addresses_are_addresses_and_odd_spellings_of_them_are_names() {
    let host = |url: &str| absolute(url).host;
    assert_eq!(host("http://127.0.0.1/"), Host::Ip("127.0.0.1".parse().unwrap()));
    assert_eq!(host("http://[::1]/"), Host::Ip("::1".parse().unwrap()));
    assert_eq!(host("http://[::FFFF:1.2.3.4]:81/"), Host::Ip("::ffff:1.2.3.4".parse().unwrap()));
    for name in ["127.1", "0x7f.1", "2130706433", "0177.0.0.1", "127.0.0.1.", "1.2.3.4.5", "0127.0.0.1"] {
        assert_eq!(host(&format!("http://{name}/")), Host::Name(name.into()));
    }
    check("http://[2001:DB8::1]/", "[2001:db8::1]", 80, "/");
    check("http://[2001:DB8::1]:8080/", "[2001:db8::1]:8080", 8080, "/");
    check("http://[0:0::1]/", "[0:0::1]", 80, "/");
}

/// Some of these `http` refuses already; what matters is that nothing comes of them.
#[track_caller]
fn refused(url: &str) {
    let target = url.parse::<Uri>().ok().map(|uri| Target::absolute(&uri));
    assert!(!matches!(target, Some(Ok(_))), "{url}: {target:?}");
}

#[test]
fn faulty_targets_are_refused() {
    for url in [
        "http://h:0/",
        "http://h:65536/",
        "http://h:99999999999999999999/",
        "http://h:+80/",
        "http://h:-1/",
        "http://h:8a/",
        "http://h:80:80/",
        "http:///x",
        "http://:80/",
        "http://user@/",
        "http://user@:80/",
        "http://a@b@c/",
        "http://[fe80::1%25eth0]/",
        "http://[fe80::1%eth0]/",
        "http://[v1.x]/",
        "http://[]/",
        "http://[::1/",
        "http://[::1]x/",
        "http://[1.2.3.4]/",
        "http://::1/",
        "http://2001:db8::1/",
        "http://ex%61mple.com/",
        "http://%65xample.com/",
        "http://a..b/",
        "http://.a/",
        "http://./",
        "http://a,b/",
        "http://a!b/",
        "http://a*b/",
        "http://b\u{fc}cher.example/",
        "ftp://h/",
        "ws://h/",
        "file:///etc/passwd",
        "h:80",
        "foo",
        "/path",
        "*",
        "http:/h/",
        "http:h",
    ] {
        refused(url);
    }
    refused(&format!("http://{}/", "a".repeat(255)));
}

#[test]
fn errors_say_what_was_found_and_expected() {
    let error = |url: &str| Target::absolute(&url.parse().unwrap()).unwrap_err().to_string();
    assert_eq!(error("ftp://h/"), r#"the scheme "ftp" is not supported; expected http or https"#);
    assert_eq!(
        error("http://u:p@h:99999/"),
        r#"the port "99999" is none; expected a number from 1 to 65535"#
    );
    assert!(error("/x").contains("expected one such as http://example.com/"));
}

#[test]
fn no_error_repeats_user_information() {
    for received in [
        "user:secret@h:443",
        "user:secret@h",
        "user:secret@",
        "secret@[::1",
        "[secret@::1]x",
        "us%20er:secret@h:99999",
        "a:b:secret@h",
        "@secret",
    ] {
        let of_host = authority(received.as_bytes()).unwrap_err();
        assert_eq!(of_host, TargetError::UserInfo, "{received}");
        if let Ok(uri) = received.parse::<Uri>() {
            let of_connect = Target::connect(&uri).unwrap_err().to_string();
            assert!(!of_connect.contains("secret"), "{of_connect}");
        }
        if let Ok(uri) = format!("http://{received}/").parse::<Uri>()
            && let Err(error) = Target::absolute(&uri)
        {
            assert!(!error.to_string().contains("secret"), "{received}: {error}");
        }
    }
}

#[test]
fn connect_takes_host_and_port_and_nothing_else() {
    let connect = |target: &str| target.parse::<Uri>().ok().and_then(|uri| Target::connect(&uri).ok());
    let target = connect("Example.COM:443").unwrap();
    assert_eq!((target.authority.as_str(), target.port), ("example.com:443", 443));
    assert_eq!((target.url().as_str(), target.path.len()), ("example.com:443", 0));
    assert_eq!(target.origin_form().to_string(), "example.com:443");
    assert_eq!(target.host, Host::Name("example.com".into()));
    assert_eq!(connect("[::1]:0443").unwrap().authority, "[::1]:443");
    for faulty in [
        "example.com",
        "example.com:",
        "example.com:0",
        "example.com:65536",
        "example.com:+1",
        ":443",
        "u@h:443",
        "::1:443",
        "[::1]",
        "http://h:443/",
        "http://h:443",
        "/path",
        "*",
        "h:443/x",
        "h%61:443",
        "[fe80::1%251]:443",
    ] {
        assert_eq!(connect(faulty), None, "{faulty}");
    }
}

#[test]
fn a_host_field_is_an_authority_without_user() {
    let host = |value: &str| authority(value.as_bytes()).ok();
    assert_eq!(host("Example.com"), Some((Host::Name("example.com".into()), None)));
    assert_eq!(host("example.com:8080"), Some((Host::Name("example.com".into()), Some(8080))));
    assert_eq!(host("example.com:"), Some((Host::Name("example.com".into()), None)));
    assert_eq!(host("[::1]:80"), Some((Host::Ip("::1".parse().unwrap()), Some(80))));
    for faulty in [
        "",
        ":80",
        "a b",
        "a, b",
        "a/b",
        "a?b",
        "a#b",
        "u@h",
        "h:x",
        "h:0",
        "::1",
        "[::1",
        "a\tb",
        "http://h",
        "h%00",
        "h\\x",
        "b\u{fc}cher",
        "<b>",
        "[::1]]",
        "[[::1]]",
        "h:80:80",
    ] {
        assert_eq!(host(faulty), None, "{faulty}");
    }
    assert!(authority(b"h\xff").is_err());
    assert!(authority(b"h\0").is_err());
}

#[track_caller]
fn resolves(reference: &[u8], expected: Option<&str>) {
    let base = absolute("http://example.com:8080/a/b?q");
    let resolved = base.resolve(reference).map(|target| target.url());
    assert_eq!(resolved.as_deref(), expected, "{}", String::from_utf8_lossy(reference));
}

#[test]
fn references_become_targets() {
    resolves(b"c", Some("http://example.com:8080/a/c"));
    resolves(b"/c?x", Some("http://example.com:8080/c?x"));
    resolves(b"?x#y", Some("http://example.com:8080/a/b?x"));
    resolves(b"", Some("http://example.com:8080/a/b?q"));
    resolves(b"//Other:80/x", Some("http://other/x"));
    resolves(b"HTTPS://u:p@Other:443", Some("https://other/"));
    resolves(b"http://other?x", Some("http://other/?x"));
    resolves(b"/\xc3\xbc", Some("http://example.com:8080/%C3%BC"));
    resolves(b"/\xff", Some("http://example.com:8080/%FF"));
    resolves(b"mailto:a@b", None);
    resolves(b"http:c", None);
    resolves(b"http://", None);
    resolves(b"//h:0/", None);
    resolves(b"/a b", None);
    resolves(b"/\0", None);
    let connect = Target::connect(&"h:443".parse().unwrap()).unwrap();
    assert_eq!(connect.resolve(b"/x"), None);
}

#[test]
fn same_origin_is_scheme_host_and_port() {
    let base = absolute("http://example.com/a");
    assert!(base.same_origin(&absolute("http://EXAMPLE.com:80/b?c")));
    assert!(!base.same_origin(&absolute("https://example.com/a")));
    assert!(!base.same_origin(&absolute("http://example.com:8080/a")));
    assert!(!base.same_origin(&absolute("http://www.example.com/a")));
}

#[track_caller]
fn host_matches(host: &str, pattern: &str, expected: bool) {
    let host = authority(host.as_bytes()).unwrap().0;
    assert_eq!(host.matches(pattern), expected, "{host} {pattern}");
}

#[test]
fn host_patterns_are_exact_or_suffixes() {
    host_matches("example.com", "example.com", true);
    host_matches("example.com", "Example.COM", true);
    host_matches("example.com.", "example.com", true);
    host_matches("example.com", "example.com.", true);
    host_matches("www.example.com", "example.com", false);
    host_matches("example.com", ".example.com", true);
    host_matches("www.example.com", ".example.com", true);
    host_matches("www.example.com.", ".example.com", true);
    host_matches("badexample.com", ".example.com", false);
    host_matches("com", ".example.com", false);
    host_matches("example.com", ".", false);
    host_matches("example.com", "", false);
    host_matches("example.com", "*", true);
    host_matches("127.0.0.1", "127.0.0.1", true);
    host_matches("127.0.0.1", ".0.0.1", false);
    host_matches("[::1]", "[0:0::1]", true);
    host_matches("[::1]", "::1", true);
}

/// URLs of a small alphabet, so that different spellings of one target come up.
fn url() -> impl Strategy<Value = String> {
    let scheme = prop_oneof!["http", "https", "HTTP"];
    let host = prop_oneof!["[aA]", "[aA]\\.[bB]", "[aA]\\.", "1\\.2\\.3\\.4", "\\[::1\\]", "\\[0::1\\]"];
    let port = prop_oneof!["", ":", ":80", ":443", ":0?8080", ":0*80"];
    let path = prop_oneof!["", "/", "/[abA%/.\u{fc}]{0,3}", "\\?[a=]{0,2}", "/[aA]?\\?[aA\u{fc}]{0,2}"];
    (scheme, host, port, path).prop_map(|(scheme, host, port, path)| format!("{scheme}://{host}{port}{path}"))
}

/// Everything that the origin, and the way to it, sees of a target.
fn sent(target: &Target) -> (Scheme, u16, String, String) {
    (target.scheme, target.port, target.authority.to_string(), target.origin_form().to_string())
}

proptest! {
    #[test]
    fn keys_are_equal_if_and_only_if_the_same_bytes_are_sent(a in url(), b in url()) {
        let (a, b) = (absolute(&a), absolute(&b));
        prop_assert_eq!(a.url() == b.url(), sent(&a) == sent(&b));
        prop_assert_eq!(a.url() == b.url(), a == b);
    }

    #[test]
    fn a_key_is_a_target_that_stays_as_it_is(url in url()) {
        let target = absolute(&url);
        prop_assert_eq!(&absolute(&target.url()), &target);
        prop_assert_eq!(target.resolve(target.url().as_bytes()).map(|t| t.authority), Some(target.authority));
    }

    #[test]
    fn ascii_paths_are_sent_as_received(path in "/[!-\"$-;=@-\\[\\]-z|~]{0,20}") {
        if let Ok(uri) = format!("http://h{path}").parse::<Uri>() {
            let target = Target::absolute(&uri).unwrap();
            prop_assert_eq!(target.path.as_str(), path);
        }
    }

    #[test]
    fn no_bytes_make_the_parsers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        let _ = authority(&bytes);
        if let Some(target) = absolute("http://h/a?b").resolve(&bytes) {
            prop_assert!(target.path.starts_with(b"/"));
            prop_assert!(target.url().is_ascii());
        }
    }

    #[test]
    fn accepted_authorities_hold_no_byte_that_separates(host in "[ -~]{0,12}") {
        if let Ok((host, _)) = authority(host.as_bytes()) {
            let text = host.to_string();
            prop_assert!(!text.contains(['/', '?', '#', '@', '%', ' ', '\\', ',', '<', '"']), "{}", text);
        }
    }
}
