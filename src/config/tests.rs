//! The whole way from text to settings, the sample file, and the open profile.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{AdminListen, Changes, Overrides, Settings, diff, keys, resolve, sample};
use crate::access::rules::Action;
use crate::access::{Access, Allowed, Denied, Ports};
use crate::field::target::{self, Scheme};
use crate::policy::SetCookie;
use crate::policy::rules::{Override, Rule};

fn read(text: &str, overrides: &Overrides) -> Result<Settings, String> {
    read_with(text, overrides, &[])
}

fn read_with(text: &str, overrides: &Overrides, variables: &[(&str, &str)]) -> Result<Settings, String> {
    let environment =
        |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    resolve::resolve(text, Path::new("l.toml"), overrides, &environment).map_err(|errors| errors.to_string())
}

/// `text` is refused with these lines, in this order.
#[track_caller]
fn refused(text: &str, lines: &[&str]) {
    let found = read(text, &Overrides::default()).expect_err(text);
    assert_eq!(found.lines().collect::<Vec<_>>(), lines, "{text}");
}

/// `text` changes the defaults as `change` does.
#[track_caller]
fn sets(text: &str, change: impl FnOnce(&mut Settings)) {
    let mut expected = Settings::default();
    change(&mut expected);
    assert_eq!(read(text, &Overrides::default()).as_ref(), Ok(&expected), "{text}");
}

fn tree(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// The sample file with every key in it, `keys` of the rules too.
fn uncommented(rules: bool) -> String {
    let uncomment = |line: &str| {
        let key = |text: &str| text.starts_with(|first: char| first.is_ascii_lowercase() || first == '[');
        match (line.strip_prefix('#').filter(|line| key(line)), line.strip_prefix("#   ")) {
            (Some(line), _) => line.to_owned(),
            (None, Some(line)) if rules && key(line) => line.to_owned(),
            _ => line.to_owned(),
        }
    };
    sample::text().lines().map(uncomment).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_sample_file_is_the_table_of_keys() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/larder.toml");
    if std::env::var_os("UPDATE_SAMPLE").is_some() {
        std::fs::write(&path, sample::text()).unwrap();
    }
    let file = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        file == sample::text(),
        "config/larder.toml is not what the table of keys makes: UPDATE_SAMPLE=1 writes it"
    );
}

#[test]
fn the_sample_file_uncommented_is_the_defaults() {
    for text in [sample::text(), uncommented(false)] {
        sets(&text, |_| {});
    }
    for setting in keys::settings() {
        let (section, name) = setting.key.name.split_once('.').unwrap();
        assert!(
            setting.key.name == "access.rules"
                || uncommented(false).contains(&format!("\n{name} = {} # ", setting.key.default)),
            "{section}.{name}"
        );
        sets(&format!("{section}.{name} = {}", setting.key.default), |_| {});
    }
}

#[test]
fn the_rules_of_the_sample_file_uncommented_are_rules() {
    let settings = read(&uncommented(true), &Overrides::default()).unwrap();
    assert_eq!(settings.rules.len(), 1);
    assert_eq!(settings.rules[0].name, "static");
    assert!(settings.rules[0].fetch_over_https);
    assert_eq!(settings.rules[0].freshness[0].max, Some(7 * 24 * 3_600_000));
    let [rule] = &settings.access.rules[..] else { panic!("{:?}", settings.access.rules) };
    assert_eq!((&*rule.name, rule.action), ("no-uploads", Some(Action::Deny)));
    assert_eq!(rule.schemes, [Scheme::Http]);
    assert_eq!(rule.ports, Ports::List(vec![443..=443, 8000..=8999]));
}

#[test]
fn the_open_profile_loads_and_opens() {
    let settings = read(&tree("config/open.toml"), &Overrides::default()).unwrap();
    assert!(settings.access.allow_private);
    assert_eq!(settings.access.connect_ports, Ports::Any);
    assert!(settings.server.max_connections_per_client > 10_000);
}

#[test]
fn keys_are_read_in_their_units() {
    sets("[cache]\nmemory = \"64MiB\"", |s| {
        s.store.capacity = 64 << 20;
        s.store.max_object = 8 << 20;
        s.store.max_object_unknown_length = 6 << 20;
    });
    sets("[cache]\nmemory = \"64MiB\"\nmax_object = \"10MiB\"", |s| {
        s.store.capacity = 64 << 20;
        s.store.max_object = 10 << 20;
        s.store.max_object_unknown_length = 15 << 19;
    });
    sets("[cache]\nheuristic_max = \"1h 30min\"", |s| s.policy.heuristic_max = 5_400_000);
    sets("[cache]\nheuristic_fraction = \"5%\"", |s| s.policy.heuristic_fraction = 0.05);
    sets("[cache]\nset_cookie = \"rfc9111\"", |s| s.policy.set_cookie = SetCookie::Rfc9111);
    sets("[cache]\ntargeted_fields = [\"CDN-Cache-Control\"]", |s| {
        s.policy.targeted_fields = vec![http::HeaderName::from_static("cdn-cache-control")];
    });
    sets("[proxy]\ntunnel_idle = \"250ms\"", |s| s.proxy.tunnel_idle = Duration::from_millis(250));
    sets("[access]\nconnect_ports = [443, \"8000-8999\"]", |s| {
        s.access.connect_ports = Ports::List(vec![443..=443, 8000..=8999]);
    });
    sets("[access]\nclients = [\"10.0.0.0/8\", \"192.0.2.1\"]", |s| {
        let networks = vec!["10.0.0.0/8".parse().unwrap(), "192.0.2.1/32".parse().unwrap()];
        s.access.clients = Allowed::only(networks);
    });
    sets("[access]\nports = [22, \"auto\"]\nclients = [\"auto\"]", |s| {
        s.access.ports = Allowed { auto: true, listed: Ports::List(vec![22..=22]) };
    });
    sets("admin = { listen = \"off\", token = \"s3cret\" }", |s| {
        s.admin.listen = None;
        s.admin.token = Some("s3cret".to_owned());
    });
    sets("[server]\nlisten = [\"0.0.0.0:3128\"]\nworkers = 3", |s| {
        s.server.listen = vec!["0.0.0.0:3128".parse().unwrap()];
        s.server.listen_is_default = false;
        s.server.workers = 3;
    });
    sets("[upstream]\nnameservers = [\"9.9.9.9\", \"[2620:fe::fe]:5353\"]", |s| {
        s.upstream.nameservers = vec!["9.9.9.9:53".parse().unwrap(), "[2620:fe::fe]:5353".parse().unwrap()];
    });
}

#[test]
fn rules_keep_their_order_and_their_overrides() {
    let text = r#"
        [[rules]]
        hosts = [".Example.com"]
        ignore_query = ["utm_*"]
        [[rules.freshness]]
        status = [404]
        max = "1min"
        [[rules.freshness]]
        content_type = ["image/*"]
        force = "1d"

        [[rules]]
        name = "direct"
        urls = ["http://*/live/*"]
        set_cookie = "rfc9111"

        [[rules]]
        cache = false
    "#;
    sets(text, |s| {
        s.rules = vec![
            Rule {
                name: "rule-1".to_owned(),
                hosts: vec![".example.com".to_owned()],
                ignore_query: vec!["utm_*".to_owned()],
                freshness: vec![
                    Override { status: vec![404], max: Some(60_000), ..Override::default() },
                    Override {
                        content_type: vec!["image/*".to_owned()],
                        force: Some(86_400_000),
                        ..Override::default()
                    },
                ],
                ..Rule::default()
            },
            Rule {
                name: "direct".to_owned(),
                urls: vec!["http://*/live/*".to_owned()],
                set_cookie: Some(SetCookie::Rfc9111),
                ..Rule::default()
            },
            Rule { name: "rule-3".to_owned(), cache: Some(false), ..Rule::default() },
        ];
    });
}

#[test]
fn every_error_is_told_at_once_with_its_place() {
    refused(
        "[server]\nlisten = [\"127.0.0.1:3128\", \"localhost\"]\n\n[cache]\nmemroy = \"1GiB\"\nvariants = 0\n\
         policy = \"fifo\"\n\n[upsteam]\nx = 1\n\n[proxy]\nhead_timeout = 10\nidle_timeout = \"0s\"\n",
        &[
            "l.toml:2:29: server.listen[1]: found the string \"localhost\", expected an IP address and a port, such as \"127.0.0.1:3128\" or \"[::1]:3128\"",
            "l.toml:5:1: cache.memroy: found an unknown key, expected perhaps cache.memory",
            "l.toml:6:12: cache.variants: found the integer 0, expected a whole number of at least 1",
            "l.toml:7:10: cache.policy: found the string \"fifo\", expected \"lru\" or \"tiny-lfu\"",
            "l.toml:9:2: upsteam: found an unknown section, expected perhaps upstream",
            "l.toml:13:16: proxy.head_timeout: found the integer 10, expected a duration such as \"30s\", \"15min\" or \"1h\", at least 1ms",
            "l.toml:14:16: proxy.idle_timeout: found the string \"0s\", expected at least 1ms",
        ],
    );
}

#[test]
fn errors_in_rules_name_the_rule_and_the_key() {
    refused(
        "[[rules]]\nhosts = [\"a b\"]\n[[rules]]\nignore_querry = []\nfetch_over = \"http\"\n\
         freshness = [{ min = \"1h\", force = \"1h\" }, { status = [99] }, { min = \"2h\", max = \"1h\" }, 5]\n",
        &[
            "l.toml:2:10: rules[0].hosts[0]: found the string \"a b\", expected a host such as \"example.com\", \".example.com\" for it and all below it, or \"*\"",
            "l.toml:4:1: rules[1].ignore_querry: found an unknown key, expected perhaps ignore_query",
            "l.toml:5:14: rules[1].fetch_over: found the string \"http\", expected \"https\"",
            "l.toml:6:14: rules[1].freshness[0]: found force beside min or max, expected either force, or min and max",
            "l.toml:6:56: rules[1].freshness[1].status[0]: found the integer 99, expected a status code from 200 to 599",
            "l.toml:6:63: rules[1].freshness[2]: found min above max, expected min at most max",
            "l.toml:6:91: rules[1].freshness[3]: found the integer 5, expected a table such as { status = [200], min = \"1h\" }",
        ],
    );
    refused(
        "rules = 1\nserver = 2\n",
        &[
            "l.toml:1:9: rules: found the integer 1, expected a list, each a table, written as [[rules]]",
            "l.toml:2:10: server: found the integer 2, expected a section, written as [server]",
        ],
    );
}

#[test]
fn what_only_the_rules_know_to_be_wrong_is_told_at_the_rule() {
    refused(
        "[[rules]]\n[[rules]]\nignore_query = [\"a*b\"]\n",
        &[
            "l.toml:2:1: rules[1].ignore_query: found \"a*b\", expected a parameter's name, with * only at its end",
        ],
    );
}

#[test]
fn a_rule_that_cannot_be_read_hides_nothing_of_the_others() {
    refused(
        "[[rules]]\nignore_query = [\"a*b\"]\n[[rules]]\nurls = 1\ncache = false\nset_cookie = \"strict\"\n[[rules]]\n\
         cache = false\nignore_query = [\"_\"]\nstale_if_error = \"1d\"\n[[rules]]\nurls = [2]\n",
        &[
            "l.toml:4:8: rules[1].urls: found the integer 1, expected a list, each a pattern with * and ?, such as \"http://*.example.com/*.js\"",
            "l.toml:12:9: rules[3].urls[0]: found the integer 2, expected a pattern with * and ?, such as \"http://*.example.com/*.js\"",
            "l.toml:7:1: rules[2].cache: found false beside ignore_query, stale_if_error, of which nothing comes then, expected either caching, or none of these",
            "l.toml:1:1: rules[0].ignore_query: found \"a*b\", expected a parameter's name, with * only at its end",
        ],
    );
}

#[test]
fn a_rule_that_forbids_caching_says_nothing_of_how_to_cache() {
    for key in [
        "ignore_query = [\"a\"]",
        "stale_if_error = \"1s\"",
        "stale_while_revalidate = \"1s\"",
        "set_cookie = \"strict\"",
        "freshness = [{ min = \"1s\" }]",
    ] {
        let read = |cache: bool| read(&format!("[[rules]]\ncache = {cache}\n{key}\n"), &Overrides::default());
        assert!(read(true).is_ok(), "{key}");
        let found = read(false).expect_err(key);
        assert!(found.starts_with("l.toml:1:1: rules[0].cache: found false beside "), "{found}");
    }
}

#[test]
fn what_is_not_toml_is_told_with_its_place() {
    let found = read("[server]\ndrain = 30s\n[cache\n", &Overrides::default()).unwrap_err();
    let places: Vec<_> = found.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["l.toml:2:9", "l.toml:3:7"], "{found}");
}

#[test]
fn contradictions_are_told_at_the_key_that_was_given() {
    refused(
        "[cache]\nmemory = \"1MiB\"\nmax_object = \"2MiB\"\n[upstream]\ndns_max_ttl = \"1s\"\nresolver = \"system\"\n\
         nameservers = [\"9.9.9.9\"]\nsource_address = [\"192.0.2.1\", \"192.0.2.2\"]\n[proxy]\nupgrades = [\"H2C\"]\n\
         [admin]\nlisten = \"127.0.0.1:3128\"\n[limits]\nrequest_line = \"1MiB\"\nbuffers = \"100KiB\"\n",
        &[
            "l.toml:3:14: cache.max_object: found 2.0 MiB, and cache.memory is 1.0 MiB, expected at most cache.memory",
            "l.toml:15:11: limits.buffers: found 100.0 KiB, and one upload may take 4.6 MiB, expected limits.buffers at least twice what one upload may take",
            "l.toml:5:15: upstream.dns_max_ttl: found a minimum above the maximum, expected dns_min_ttl at most dns_max_ttl",
            "l.toml:8:18: upstream.source_address: found two addresses of one family, expected at most one IPv4 and one IPv6 address",
            "l.toml:7:15: upstream.nameservers: found name servers, and upstream.resolver is \"system\", which knows its own, expected resolver = \"hickory\", or no nameservers",
            "l.toml:10:12: proxy.upgrades: found \"h2c\", whose requests would pass unseen, expected other protocols, such as \"websocket\"",
            "l.toml:14:16: limits.request_line: found a request line longer than a whole head, expected request_line at most request_head",
            "l.toml:12:10: admin.listen: found 127.0.0.1:3128 for the proxy and the admin listener, expected another port for the admin listener",
        ],
    );
    refused(
        "metrics = { sites = [\"a\"], first_sites = 1000 }",
        &[
            "l.toml:1:42: metrics.first_sites: found 1001 sites in all, expected at most 1000, listed ones and first ones together",
        ],
    );
    // A value that could not be read contradicts nothing.
    refused(
        "[cache]\nmemory = \"much\"\nmax_object = \"1000GiB\"\n",
        &[
            "l.toml:2:10: cache.memory: found the string \"much\", expected a size such as \"512MiB\", or a share of the memory such as \"25%\"",
        ],
    );
}

#[test]
fn a_flag_beats_the_file_and_is_named_when_it_contradicts() {
    let overrides = Overrides {
        listen: vec!["127.0.0.1:9128".parse().unwrap()],
        memory: Some(1 << 20),
        connect_ports: Some(Ports::Any),
        allow_private: Some(false),
        ..Overrides::default()
    };
    let text = "[access]\nallow_private = true\nconnect_ports = [22]\n[cache]\nmemory = \"1GiB\"\n[admin]\nlisten = \"off\"";
    let settings = read(text, &overrides).unwrap();
    assert_eq!(settings.access.connect_ports, Ports::Any);
    assert!(!settings.access.allow_private);
    assert_eq!(settings.store.capacity, 1 << 20);
    assert_eq!(settings.store.max_object, 1 << 17);
    assert_eq!(settings.server.listen, overrides.listen);
    assert!(!settings.server.listen_is_default);

    let admin = AdminListen::At("127.0.0.1:9129".parse().unwrap());
    let moved = Overrides { admin_listen: Some(admin), ..overrides.clone() };
    assert!(read("", &moved).is_ok());
    assert_eq!(
        read("", &overrides).unwrap_err(),
        "--listen: server.listen: found 127.0.0.1:9128 for the proxy and the admin listener, expected another port \
         for the admin listener"
    );
}

#[test]
fn port_0_and_different_families_do_not_collide() {
    sets("[server]\nlisten = [\"127.0.0.1:0\", \"127.0.0.1:0\"]\n[admin]\nlisten = \"127.0.0.1:0\"", |s| {
        s.server.listen = vec!["127.0.0.1:0".parse().unwrap(); 2];
        s.server.listen_is_default = false;
        s.admin.listen = Some("127.0.0.1:0".parse().unwrap());
    });
    assert!(read("server.listen = [\"0.0.0.0:1\", \"[::]:1\"]", &Overrides::default()).is_ok());
    assert!(read("server.listen = [\"0.0.0.0:1\", \"127.0.0.1:1\"]", &Overrides::default()).is_err());
    assert!(read("server.listen = []", &Overrides::default()).is_err());
}

#[test]
fn secrets_are_not_shown_in_errors() {
    let text = "[admin]\ntoken = 12345\n[upstream]\nparents = [\"socks5://joe:hunter2@proxy\", 5, { a = 1 }]";
    let found = read(text, &Overrides::default()).unwrap_err();
    assert_eq!(found.lines().count(), 4, "{found}");
    assert!(!found.contains("12345") && !found.contains("hunter2"), "{found}");
    let variables = [("HTTP_PROXY", "ftp://joe:hunter2@proxy")];
    let found = read_with("upstream.from_environment = true", &Overrides::default(), &variables).unwrap_err();
    assert!(found.starts_with("HTTP_PROXY, HTTPS_PROXY: ") && !found.contains("hunter2"), "{found}");
}

#[test]
fn parents_come_from_the_environment_when_told_to() {
    let variables = [
        ("HTTP_PROXY", "proxy.example:3128"),
        ("https_proxy", "http://proxy.example:3128"),
        // What others take and we can't read is left out.
        ("NO_PROXY", "a.example, 169.254/16, .b, 192.168.*"),
    ];
    let none = read_with("", &Overrides::default(), &variables).unwrap();
    assert_eq!(none, Settings::default());
    // A command's own proxy takes the place of the one that is there, unless the file knows better.
    let run = Overrides { parents_from_environment: true, ..Overrides::default() };
    assert_eq!(read_with("", &run, &variables).unwrap().upstream.parents.len(), 1);
    for says in ["parents = []", "from_environment = false"] {
        let settings = read_with(&format!("upstream.{says}"), &run, &variables).unwrap();
        assert_eq!(settings.upstream.parents, []);
    }
    // One that nobody asked us to take does not keep a command from running.
    let other = [("http_proxy", "socks5://proxy.example:1080")];
    assert_eq!(read_with("", &run, &other).unwrap().upstream.parents, []);
    let text = "[upstream]\nfrom_environment = true\nno_proxy = [\"c\"]";
    let settings = read_with(text, &Overrides::default(), &variables).unwrap();
    let parents: Vec<_> = settings.upstream.parents.iter().map(|parent| format!("{parent:?}")).collect();
    assert_eq!(parents, ["http://proxy.example:3128"]);
    assert_eq!(settings.upstream.no_proxy, ["c", "a.example", ".b"]);
    let variables = [("HTTP_PROXY", "http://proxy.example:3128/path")];
    assert!(read_with("upstream.from_environment = true", &Overrides::default(), &variables).is_err());
    assert!(read("[upstream]\nfrom_environment = true\nparents = []", &Overrides::default()).is_err());
}

#[test]
fn what_upstream_would_not_start_with_is_no_member_of_no_proxy() {
    for wrong in ["*a.example", "a.example:0", "a.example:+80", "a:80:90"] {
        assert!(read(&format!("upstream.no_proxy = [{wrong:?}]"), &Overrides::default()).is_err(), "{wrong}");
        let variables = [("http_proxy", "http://proxy.example:3128"), ("no_proxy", wrong)];
        let settings =
            read_with("upstream.from_environment = true", &Overrides::default(), &variables).unwrap();
        assert_eq!(settings.upstream.no_proxy, [""; 0], "{wrong}");
    }
}

#[test]
fn a_file_of_authorities_that_cannot_be_read_is_an_error() {
    let broken = tempfile::NamedTempFile::new().unwrap();
    let begun = authority().replace("-----END CERTIFICATE-----", "");
    std::fs::write(broken.path(), begun).unwrap();
    for path in ["/nowhere.pem", "/", "Cargo.toml", "/dev/null", broken.path().to_str().unwrap()] {
        let found = read(&format!("[upstream]\nca_file = \"{path}\""), &Overrides::default()).unwrap_err();
        let told =
            format!("l.toml:2:11: upstream.ca_file: found {path}, of which no authority can be read (");
        assert!(
            found.starts_with(&told) && found.ends_with("expected a PEM file with certificates"),
            "{found}"
        );
    }
}

/// A certificate as a file of authorities has it.
fn authority() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem()
}

#[test]
fn a_missing_file_is_an_error_that_names_it() {
    let overrides = Overrides { config: Some(PathBuf::from("/nowhere/l.toml")), ..Overrides::default() };
    let found = Settings::load(&overrides).unwrap_err().to_string();
    assert!(found.starts_with("/nowhere/l.toml: found no such file, expected a TOML file: "), "{found}");
}

#[test]
fn a_reload_tells_what_is_live_and_what_needs_a_restart() {
    let old = Settings::default();
    assert!(diff::diff(&old, &old).is_empty());
    let text = "[server]\ndrain = \"1s\"\nworkers = 99\n[admin]\nlisten = \"off\"\n[log]\nquery = true\n[[rules]]\ncache = false";
    let new = read(text, &Overrides::default()).unwrap();
    assert_eq!(
        diff::diff(&old, &new),
        Changes {
            live: vec!["server.drain", "log.query", "rules"],
            restart: vec!["server.workers", "admin.listen"]
        }
    );
    let running = diff::running(&old, &new);
    assert_eq!(running.server.workers, old.server.workers);
    assert_eq!(running.admin, old.admin);
    assert_eq!(
        diff::diff(&old, &running),
        Changes { live: vec!["server.drain", "log.query", "rules"], restart: vec![] }
    );
}

#[test]
fn sizes_wait_for_the_memory_that_they_need() {
    let memory = |text: &str| read(&format!("cache = {{ {text} }}"), &Overrides::default()).unwrap();
    let small = memory("memory = \"64MiB\"");
    // What the two configurations change live, what at the next start, and the largest response meanwhile, in MiB.
    for (new, live, restart, largest) in [
        ("memory = \"1GiB\"", &[][..], &["cache.memory"][..], 8),
        (
            "memory = \"1GiB\", max_object = \"32MiB\"",
            &["cache.max_object", "cache.max_object_unknown_length"],
            &["cache.memory"],
            32,
        ),
        (
            "memory = \"1GiB\", max_object = \"128MiB\"",
            &[],
            &["cache.memory", "cache.max_object", "cache.max_object_unknown_length"],
            8,
        ),
    ] {
        let new = memory(new);
        let expected = Changes { live: live.to_vec(), restart: restart.to_vec() };
        assert_eq!(diff::diff(&small, &new), expected);
        let running = diff::running(&small, &new);
        assert_eq!((running.store.capacity, running.store.max_object), (64 << 20, largest << 20));
        let left = Changes { live: vec![], restart: restart.to_vec() };
        assert_eq!(diff::diff(&running, &new), left, "a second reload of the same tells what still waits");
    }
}

#[test]
fn every_key_makes_a_difference() {
    // One value for each key that is not its default: a row that writes to another's place is found here.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), authority()).unwrap();
    let ca_file = format!("{:?}", file.path());
    let (basic, digest) = (tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
    let (basic_file, digest_file) = (format!("{:?}", basic.path()), format!("{:?}", digest.path()));
    let values = [
        ("access.basic_file", basic_file.as_str()),
        ("access.digest_file", digest_file.as_str()),
        ("access.realm", "\"a\""),
        ("server.listen", "[\"127.0.0.1:1\"]"),
        ("server.workers", "99"),
        ("server.drain", "\"1s\""),
        ("access.clients", "[]"),
        ("limits.request_line", "\"9KiB\""),
        ("access.connect_ports", "\"any\""),
        ("access.ports", "\"any\""),
        ("access.allow_private", "true"),
        ("access.allow_destinations", "[\"10.0.0.0/8\"]"),
        ("access.allow_hosts", "[\"a\"]"),
        ("access.trace", "true"),
        ("access.rules", "[{ action = \"deny\" }]"),
        ("proxy.via", "\"a\""),
        ("proxy.forwarded_for", "\"keep\""),
        ("proxy.upgrades", "[]"),
        ("cache.memory", "\"9%\""),
        ("cache.policy", "\"lru\""),
        ("limits.buffers", "\"9%\""),
        ("limits.requests_per_client", "7"),
        ("limits.bytes_per_client", "\"7KiB\""),
        ("cache.heuristic_fraction", "0.2"),
        ("cache.targeted_fields", "[\"a\"]"),
        ("cache.set_cookie", "\"rfc9111\""),
        ("cache.s_maxage_allows_stale_while_revalidate", "true"),
        ("cache.close_delimited", "false"),
        ("cache.normalize_accept_language", "false"),
        ("pac.direct", "[\"a\"]"),
        ("upstream.source_address", "[\"192.0.2.1\"]"),
        ("upstream.resolver", "\"system\""),
        ("upstream.nameservers", "[\"192.0.2.1\"]"),
        ("upstream.parents", "[\"http://a\"]"),
        ("upstream.no_proxy", "[\"a\"]"),
        ("upstream.ca_file", ca_file.as_str()),
        ("log.access", "\"json\""),
        ("log.query", "true"),
        ("metrics.sites", "[\"a\"]"),
        ("admin.listen", "\"off\""),
        ("admin.hosts", "[\"a\"]"),
        ("admin.token", "\"a\""),
    ];
    for setting in keys::settings() {
        let name = setting.key.name;
        if name == "upstream.from_environment" {
            continue;
        }
        let value = values.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let default = setting.key.default.trim_matches('"');
        let value = value.unwrap_or_else(|| match default {
            "auto" => "\"7KiB\"".to_owned(),
            count if count.bytes().all(|byte| byte.is_ascii_digit()) => "33".to_owned(),
            size if size.ends_with('B') => "\"65KiB\"".to_owned(),
            _ => "\"7s\"".to_owned(),
        });
        let text = format!("{name} = {value}");
        let old = Settings::default();
        let new = match read(&text, &Overrides::default()) {
            Ok(new) => new,
            Err(found) => panic!("{found}"),
        };
        let changes = diff::diff(&old, &new);
        let names: Vec<_> = changes.live.iter().chain(&changes.restart).copied().collect();
        assert!(names.contains(&name), "{text} changes {names:?}");
        let derived = |name: &&str| !matches!(name, &"cache.max_object" | &"cache.max_object_unknown_length");
        assert!(
            names.iter().filter(|other| **other != name).all(|other| !derived(other)),
            "{text}: {names:?}"
        );
    }
}

type Question = fn(&Access) -> Result<(), Denied>;

/// What somebody may ask of access, each far from the others.
const QUESTIONS: &[Question] = &[
    |access| access.client([192, 0, 2, 7].into(), true),
    |access| access.client([203, 0, 113, 9].into(), true),
    |access| access.client([192, 168, 0, 1].into(), true),
    |access| access.connect_port(443),
    |access| access.connect_port(8443),
    |access| access.connect_port(25),
    |access| access.port(Scheme::Http, 80),
    |access| access.port(Scheme::Http, 22),
    |access| access.port(Scheme::Http, 25),
    |access| access.port(Scheme::Http, 6667),
    |access| access.port(Scheme::Http, 8080),
    |access| access.port(Scheme::Https, 443),
    |access| destination(access, "a.example", "10.0.0.1:80"),
    |access| destination(access, "b.example", "10.0.0.2:80"),
    |access| destination(access, "c.example", "127.0.0.2:80"),
    |access| destination(access, "d.example", "192.168.1.1:80"),
    |access| destination(access, "e.example", "192.0.2.7:80"),
    |access| destination(access, "[64:ff9b::10.0.0.3]", "[64:ff9b::10.0.0.3]:80"),
    // Teredo, whose server and client are both inside.
    |access| destination(access, "f.example", "[2001:0:a08:808::f5f6:f6f6]:80"),
];

fn destination(access: &Access, host: &str, address: &str) -> Result<(), Denied> {
    access.destination(&target::authority(host.as_bytes()).unwrap().0, address.parse().unwrap())
}

#[test]
fn the_line_that_a_refusal_suggests_allows_it_and_nothing_else_changes() {
    let answers = |lines: &[(String, String)]| {
        let text = lines.iter().map(|(key, value)| format!("{key} = {value}")).collect::<Vec<_>>().join("\n");
        let settings = read(&text, &Overrides::default()).unwrap_or_else(|found| panic!("{text}: {found}"));
        let access = Access::new(settings.access, Vec::new());
        QUESTIONS.iter().map(|ask| ask(&access).err()).collect::<Vec<_>>()
    };
    let mut applied = 0;
    for base in [
        &[][..],
        &[("access.ports", "[80, \"8000-8999\"]"), ("access.connect_ports", "[443, \"8000-8400\"]")],
        &[
            ("access.clients", "[\"192.0.2.0/25\"]"),
            ("access.allow_hosts", "[\"a.example\", \".b.example\"]"),
        ],
        &[
            ("access.clients", "[\"192.0.2.7\", \"auto\"]"),
            ("access.allow_destinations", "[\"10.0.0.0/30\"]"),
        ],
    ] {
        let base: Vec<_> = base.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        let before = answers(&base);
        for (index, denied) in before.iter().enumerate() {
            let allow = denied.as_ref().map(|denied| denied.allow.as_str()).unwrap_or_default();
            for suggested in allow.split("access.").skip(1) {
                let line = suggested.split(", or ").next().unwrap();
                let (key, value) = line.split_once(" = ").unwrap();
                let key = format!("access.{key}");
                let mut lines = base.clone();
                lines.retain(|(known, _)| *known != key);
                lines.push((key, value.to_owned()));
                for (other, (before, after)) in before.iter().zip(answers(&lines)).enumerate() {
                    let expected = before.is_some() && other != index;
                    assert_eq!(after.is_some(), expected, "question {other} under {lines:?}: {after:?}");
                }
                applied += 1;
            }
        }
    }
    assert!(applied > 40, "{applied}");
}

proptest::proptest! {
    /// Lines of the sample file with values of other kinds: settings or errors with a place inside the text.
    #[test]
    fn any_values_give_settings_or_errors_with_a_place(
        rows in proptest::collection::vec((0..keys::settings().count(), 0..VALUES.len()), 0..12),
        rest in "[ -~\n]{0,20}",
    ) {
        let mut text = String::new();
        for (key, value) in rows {
            let name = keys::settings().nth(key).unwrap().key.name;
            text.extend([name, " = ", VALUES[value], "\n"]);
        }
        text.push_str(&rest);
        if let Err(found) = read(&text, &Overrides::default()) {
            for line in found.lines() {
                let mut place = line.split(':').skip(1).map(str::parse::<usize>);
                let row = place.next().unwrap().unwrap();
                proptest::prop_assert!(row >= 1 && row <= text.lines().count().max(1) + 1, "{line} in {text}");
                proptest::prop_assert!(line.contains("found ") && line.contains("expected "), "{line}");
            }
        }
    }
}

/// A value of each kind, and some at the edges.
const VALUES: &[&str] = &[
    "true",
    "0",
    "1",
    "-1",
    "18446744073709551616",
    "0x10",
    "0.5",
    "nan",
    "inf",
    "\"\"",
    "\"auto\"",
    "\"off\"",
    "\"any\"",
    "\"1s\"",
    "\"1000000000000h\"",
    "\"1KiB\"",
    "\"99999999EiB\"",
    "\"100%\"",
    "\"[::1]:0\"",
    "[]",
    "[1, \"2-3\"]",
    "[[1]]",
    "{ a = 1 }",
    "1979-05-27",
    "[\"*\", \".\", \"a\"]",
    "\"http://u:p@h:1\"",
    "[\"http://u:p@h:1\"]",
];

#[test]
fn wrong_access_rules_are_told_with_their_keys() {
    for (text, expected) in [
        (
            "[[access.rules]]\nhosts = ['a']",
            "l.toml:1:1: access.rules[0].action: found none, expected \"allow\" or \"deny\"",
        ),
        (
            "[[access.rules]]\naction = 'permit'",
            "l.toml:2:10: access.rules[0].action: found the string \"permit\", expected \"allow\" or \"deny\"",
        ),
        (
            "[[access.rules]]\naction = 'deny'\nhost = 'a'",
            "l.toml:3:1: access.rules[0].host: found an unknown key, expected perhaps hosts",
        ),
        (
            "[[access.rules]]\naction = 'deny'\nname = 'a b'",
            "l.toml:3:8: access.rules[0].name: found the string \"a b\", expected a token: letters, digits and any of \
             !#$%&'*+-.^_`|~",
        ),
        (
            "access.rules = [{ action = 'deny' }, { name = 'client', action = 'deny' }]",
            "l.toml:1:16: access.rules[1].name: found \"client\", expected a name that no built-in rule has",
        ),
    ] {
        assert_eq!(read(text, &Overrides::default()).err().as_deref(), Some(expected), "{text}");
    }
}
