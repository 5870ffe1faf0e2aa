//! Which rule a target gets, and what it costs to find it among many.
use super::*;
use proptest::prelude::*;

fn target(url: &str) -> Target {
    Target::absolute(&url.parse().unwrap()).unwrap()
}

fn rule(name: &str, hosts: &[&str], urls: &[&str]) -> Rule {
    let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
    Rule { name: name.to_owned(), hosts: owned(hosts), urls: owned(urls), ..Rule::default() }
}

#[track_caller]
fn check(rules: &Rules, url: &str, expected: Option<&str>) {
    assert_eq!(rules.find(&target(url)).map(|rule| rule.name.as_str()), expected, "{url}");
}

#[test]
fn the_first_rule_that_matches_both_host_and_url_counts() {
    let rules = Rules::new(vec![
        rule("exact", &["One.example"], &[]),
        rule("below", &[".example", "other.test"], &["*.js", "http://*/x/*"]),
        rule("address", &["10.0.0.1", "[2001:db8::1]"], &[]),
        rule("suffix", &[".example"], &[]),
        rule("glob", &[], &["http://CDN.test/*.deb", "*?utm=*"]),
        rule("short glob", &["*"], &["*/z"]),
        rule("exact again", &["one.example", "two.test"], &[]),
        rule("rest", &[], &["https://*"]),
    ])
    .unwrap();
    check(&rules, "http://one.example/a.js", Some("exact"));
    check(&rules, "http://one.example./", Some("exact"));
    check(&rules, "http://two.example/a.js", Some("below"));
    check(&rules, "http://other.test/x/y", Some("below"));
    check(&rules, "http://example/", Some("suffix"));
    check(&rules, "http://a.b.example/y", Some("suffix"));
    check(&rules, "http://badexample/", None);
    check(&rules, "http://10.0.0.1/", Some("address"));
    check(&rules, "http://[2001:DB8:0::1]:8080/", Some("address"));
    check(&rules, "http://cdn.test/pool/a.deb", Some("glob"));
    check(&rules, "http://cdn.test/pool/a.rpm", None);
    check(&rules, "http://any.test/?utm=1", Some("glob"));
    check(&rules, "http://any.test/z", Some("short glob"));
    check(&rules, "http://two.test/y", Some("exact again"));
    check(&rules, "https://two.test/y", Some("exact again"));
    check(&rules, "https://three.test/y", Some("rest"));
    check(&rules, "http://three.test/y", None);
    check(&Rules::default(), "http://three.test/y", None);
}

#[test]
fn a_rule_without_conditions_is_for_all() {
    let rules =
        Rules::new(vec![rule("a", &["x.test"], &[]), rule("all", &[], &[]), rule("never", &["y.test"], &[])])
            .unwrap();
    check(&rules, "http://x.test/", Some("a"));
    check(&rules, "http://y.test/", Some("all"));
}

#[track_caller]
fn check_glob(glob: &str, text: &str, expected: bool) {
    assert_eq!(matches(glob.as_bytes(), text.as_bytes()), expected, "{glob} {text}");
}

#[test]
fn globs_match_the_whole_text() {
    check_glob("", "", true);
    check_glob("", "a", false);
    check_glob("*", "", true);
    check_glob("*", "abc", true);
    check_glob("a?c", "abc", true);
    check_glob("a?c", "ac", false);
    check_glob("a*c", "abbc", true);
    check_glob("a*c", "abcb", false);
    check_glob("*b*b*", "abcb", true);
    check_glob("*ab", "aab", true);
    check_glob("*?", "", false);
    check_glob("a**", "a", true);
    check_glob("http://h/[x]", "http://h/[x]", true);
}

#[test]
fn parameters_are_ignored_by_name_or_prefix() {
    let rule = Rule { ignore_query: vec!["utm_*".into(), "_".into()], ..Rule::default() };
    for (parameter, expected) in [
        ("utm_source", true),
        ("utm_", true),
        ("utm", false),
        ("_", true),
        ("_x", false),
        ("UTM_a", false),
        ("", false),
    ] {
        assert_eq!(rule.ignores(parameter), expected, "{parameter}");
    }
}

#[track_caller]
fn check_applies(freshness: &Override, status: u16, content_type: Option<&str>, expected: bool) {
    let status = StatusCode::from_u16(status).unwrap();
    assert_eq!(
        freshness.applies(status, content_type.map(str::as_bytes)),
        expected,
        "{status} {content_type:?}"
    );
}

#[test]
fn an_override_is_for_its_statuses_and_types() {
    let all = Override::default();
    check_applies(&all, 404, None, true);
    let images =
        Override { status: vec![200], content_type: vec!["image/*".into(), "Font/woff2".into()], ..all };
    check_applies(&images, 200, Some("image/png"), true);
    check_applies(&images, 200, Some("IMAGE/PNG; q=x"), true);
    check_applies(&images, 200, Some(" font/WOFF2"), true);
    check_applies(&images, 200, Some("text/html; x=image/png"), false);
    check_applies(&images, 404, Some("image/png"), false);
    check_applies(&images, 200, None, false);
}

#[test]
fn all_faults_of_rules_are_told() {
    let mut faulty = rule("x", &["*.example.com", "a:80", "", ".", "http://h"], &[""]);
    faulty.ignore_query = vec!["a*b".into(), String::new(), "a=b".into()];
    faulty.freshness = vec![
        Override { status: vec![99, 304, 700], min: Some(2), max: Some(1), ..Override::default() },
        Override { force: Some(1), min: Some(1), ..Override::default() },
        Override::default(),
    ];
    let errors = super::check(&[Rule::default(), faulty.clone()]);
    let keys: Vec<_> = errors.iter().map(|error| error.key).collect();
    assert_eq!(keys.iter().filter(|key| **key == "hosts").count(), 5);
    assert_eq!(keys.iter().filter(|key| **key == "urls").count(), 1);
    assert_eq!(keys.iter().filter(|key| **key == "ignore_query").count(), 3);
    assert_eq!(keys.iter().filter(|key| key.starts_with("freshness")).count(), 5);
    assert!(
        Rules::new(vec![Rule::default(), faulty])
            .unwrap_err()
            .to_string()
            .starts_with("rule 2 (\"x\"): hosts = ")
    );
}

/// How many rules are compared for one URL.
fn cost(rules: &Rules, url: &str) -> usize {
    let target = target(url);
    let search =
        Search { rules, target: &target, url: OnceCell::new(), best: Cell::new(None), tried: Cell::new(0) };
    search.run();
    search.tried.get()
}

#[test]
fn ten_thousand_rules_of_any_kind_cost_a_handful_of_comparisons() {
    let kinds: [fn(usize) -> Rule; 7] = [
        |i| rule("exact", &[&format!("host{i}.test")], &[]),
        |i| rule("suffix", &[&format!(".zone{i}.test")], &["*.js"]),
        |i| rule("prefix", &[], &[&format!("http://cdn{i}.test/*")]),
        |i| rule("ending", &[], &[&format!("*/file{i}.iso")]),
        |i| rule("middle", &[], &[&format!("http://*.test/*/{i:05}/*?v=*")]),
        |i| rule("one host", &["h.test"], &[&format!("*/file{i}.iso")]),
        |i| rule("same glob", &[&format!("host{i}.test")], &["*/a"]),
    ];
    for kind in kinds {
        let rules = Rules::new((0..10_000).map(kind).collect()).unwrap();
        for url in [
            "http://host9999.test/a",
            "http://a.b.c.zone9999.test/x.js",
            "http://cdn9999.test/a/b",
            "http://h.test/dir/file9999.iso",
            "http://h.test/a/09999/b?v=1",
            "http://nothing.example/at/all?q=1",
        ] {
            let cost = cost(&rules, url);
            // A glob comparison takes about 50 ns: 1,000 of them are far within the millisecond.
            assert!(cost <= 1_000, "{}: {cost} comparisons for {url}", rules.rules()[0].name);
        }
    }
}

/// What [`Rules`] must find, without any index.
fn first<'a>(rules: &'a [Rule], target: &Target) -> Option<&'a Rule> {
    rules.iter().find(|rule| {
        (rule.hosts.is_empty() || rule.hosts.iter().any(|host| target.host.matches(host)))
            && (rule.urls.is_empty()
                || rule.urls.iter().any(|url| matches(&normalized(url), target.url().as_bytes())))
    })
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let host = prop_oneof!["[ab]", "\\.[ab]", "[ab]\\.[ab]", "\\.[ab]\\.[ab]", Just("*".to_owned())];
    let url = prop_oneof!["http://[ab*]/[ab*]{0,3}", "[ab*?]{1,4}", "\\*[ab]{3,4}\\*"];
    (proptest::collection::vec(host, 0..3), proptest::collection::vec(url, 0..3))
        .prop_map(|(hosts, urls)| Rule { hosts, urls, ..Rule::default() })
}

proptest! {
    #[test]
    fn the_indexes_find_what_trying_all_rules_finds(
        rules in proptest::collection::vec(any_rule(), 0..8),
        url in "http://[ab](\\.[ab]){0,2}/[ab]{0,5}",
    ) {
        let named: Vec<_> =
            rules.into_iter().enumerate().map(|(i, rule)| Rule { name: i.to_string(), ..rule }).collect();
        let rules = Rules::new(named.clone()).unwrap();
        prop_assert_eq!(rules.find(&target(&url)), first(&named, &target(&url)));
    }
}
