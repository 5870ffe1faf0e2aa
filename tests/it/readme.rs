//! README.md names only what there is: flags, variables, keys, commands, metrics, endpoints, clients and examples.

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
    let sample = std::fs::read_to_string(root().join("config/larder.toml")).unwrap();
    for key in words(&text, "rules.", "_.") {
        let table = sample.contains(&format!("#   [[{key}]]\n"));
        assert!(table || sample.contains(&format!("\n#   {} = ", &key["rules.".len()..])), "{key}");
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

/// The rows of the table of clients: who, and what can be cached.
fn clients(text: &str) -> Vec<(&str, &str)> {
    let table = text.split("\n| client |").nth(1).unwrap().split("\n\n").next().unwrap();
    // After the line of hyphens.
    let rows = table.lines().skip(2).map(|row| row.trim_matches(['|', ' ']).split_once(" | ").unwrap());
    rows.collect()
}

#[test]
fn its_table_has_a_row_for_each_client_that_is_tested() {
    let text = readme();
    let rows = clients(&text);
    for client in ["curl", "wget", "apt", "pip", "npm", "cargo", "git", "httpx", "Node", "Go"] {
        let names = |who: &str| who.split(|c: char| !c.is_alphanumeric()).any(|word| word == client);
        let own: Vec<_> = rows.iter().filter(|(who, _)| names(who)).collect();
        assert_eq!(own.len(), 1, "{client}: {own:?}");
        let (_, what) = own[0];
        // What their tests hold them to.
        let tunnelled = what.starts_with("nothing: ") && what.contains("all of it is tunnelled");
        assert_eq!(tunnelled, ["pip", "cargo"].contains(&client), "{client}: {what}");
    }
}

#[test]
fn its_table_names_every_example_and_no_other() {
    const FOLDER: &str = "config/examples/";
    let text = readme();
    let named = clients(&text).into_iter().flat_map(|(_, what)| words(what, FOLDER, "/.-_"));
    let named: BTreeSet<_> = named.map(|path| path[FOLDER.len()..].to_owned()).collect();
    let files = std::fs::read_dir(root().join(FOLDER)).unwrap();
    let files = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    assert_eq!(named, files.collect::<BTreeSet<_>>());
}
