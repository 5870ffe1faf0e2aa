//! README.md names only what there is: flags, variables, keys, commands, metrics and endpoints.

use crate::support::Proxy;
use crate::support::proxy::{self, command, root};
use std::collections::BTreeSet;

fn readme() -> String {
    std::fs::read_to_string(root().join("README.md")).unwrap()
}

/// The words in `text`, of letters, digits and `also`, that begin with `start`.
fn words<'a>(text: &'a str, start: &str, also: &str) -> BTreeSet<&'a str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && !also.contains(c));
    words.filter(|word| word.starts_with(start) && word.len() > start.len()).collect()
}

fn help(arguments: &[&str]) -> String {
    String::from_utf8(command().args(arguments).arg("--help").output().unwrap().stdout).unwrap()
}

#[test]
fn its_flags_variables_and_commands_are_those_of_the_help() {
    let text = readme();
    let commands = text.split("## Commands").nth(1).unwrap().split("## Watching").next().unwrap();
    let all: String = proxy::commands().iter().map(|name| help(&[name])).collect();
    let help = help(&[]) + &all;
    let known = words(&help, "--", "-");
    // A table has a line of hyphens alone.
    for flag in words(commands, "--", "-").into_iter().filter(|w| !w.starts_with("---")) {
        assert!(known.contains(flag), "{flag}");
    }
    for variable in words(&text, "LARDER_", "_") {
        assert!(words(&help, "LARDER_", "_").contains(variable), "{variable}");
    }
    for (at, _) in text.match_indices("`larder ") {
        let word = text[at + 8..].split([' ', '`']).next().unwrap();
        assert!(word.starts_with('-') || help.contains(&format!("\n  {word} ")), "larder {word}");
    }
}

#[test]
fn its_keys_are_in_the_sample() {
    let keys: BTreeSet<_> = larder::config::keys::settings().map(|setting| setting.key.name).collect();
    let text = readme();
    for section in larder::config::keys::SECTIONS {
        for key in words(&text, &format!("{}.", section.name), "_.") {
            let key = key.trim_end_matches('.');
            assert!(keys.contains(key) || ["toml", "pac"].iter().any(|e| key.ends_with(e)), "{key}");
        }
    }
}

#[test]
fn its_metrics_and_endpoints_answer() {
    let proxy = Proxy::open();
    let metrics = proxy.admin("GET", "/metrics", &[], "").text();
    let text = readme();
    for metric in words(&text, "larder_", "_") {
        assert!(metrics.contains(&format!("# TYPE {metric} ")), "{metric}");
    }
    let paths = words(&text, "/api/", "/.").into_iter().chain(["/metrics", "/healthz", "/readyz"]);
    for path in paths {
        assert!(text.contains(&format!("{path}`")) || text.contains(&format!("{path}?")), "{path}");
        assert_ne!(proxy.admin("GET", path, &[], "").status, 404, "{path}");
    }
}
