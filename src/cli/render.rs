//! Answers of the API as text for people.

use std::fmt::Write as _;

use http::StatusCode;
use serde_json::Value;

use super::Command;
use crate::admin::told::{explanation, plain, tree};

/// The answer to a command.
pub(super) fn answer(command: &Command, answer: &Value) -> String {
    match command {
        Command::Purge { .. } => purged(answer),
        Command::Reload { .. } => reloaded(answer),
        Command::Explain { .. } => explanation(answer),
        Command::Ls { .. } => listed(answer),
        Command::Stats { .. }
        | Command::Top { .. }
        | Command::Serve
        | Command::Check { .. }
        | Command::Healthcheck
        | Command::Env { .. }
        | Command::Run { .. }
        | Command::Completions { .. }
        | Command::Man
        | Command::Htdigest { .. } => {
            let mut text = String::new();
            tree(&mut text, answer, 0);
            text
        }
    }
}

/// An answer that is an error: RFC 9457's detail, and each error of a refused configuration.
pub(super) fn refusal(status: StatusCode, answer: &Value) -> String {
    let errors: Vec<_> = answer["errors"].as_array().into_iter().flatten().map(plain).collect();
    match (&answer["detail"], errors.is_empty()) {
        (_, false) => {
            format!("the running configuration stays, the new one is refused:\n{}", errors.join("\n"))
        }
        (Value::String(detail), true) => format!("{status}: {detail}"),
        (_, true) => format!("{status}: {}", plain(answer)),
    }
}

fn purged(answer: &Value) -> String {
    let count = answer["purged"].as_u64().unwrap_or_default();
    let responses = if count == 1 { "stored response" } else { "stored responses" };
    let would = if answer["dry_run"] == true { "would be purged" } else { "purged" };
    format!("{count} {responses} {would}\n")
}

/// Stored responses, or sites, one a line, with a last line of how many there are.
fn listed(answer: &Value) -> String {
    let mut text = String::new();
    let of = |one: &Value, name: &str| one[name].as_u64().unwrap_or_default();
    // Writing to a String does not fail; here and below.
    for site in answer["sites"].as_array().into_iter().flatten() {
        let _ = writeln!(
            text,
            "{:>10} {:>8}  {}",
            bytes(of(site, "bytes")),
            of(site, "responses"),
            plain(&site["host"])
        );
    }
    for one in answer["responses"].as_array().into_iter().flatten() {
        let ttl = one["ttl_s"].as_i64().unwrap_or_default();
        let fresh = if one["fresh"] == true { format!("{ttl} s left") } else { format!("{} s past", -ttl) };
        let _ = writeln!(
            text,
            "{:>10} {:>10} {:>14}  {}  {}",
            bytes(of(one, "bytes")),
            format!("{} s ago", of(one, "stored_ago_s")),
            fresh,
            plain(&one["status"]),
            plain(&one["url"])
        );
    }
    let found = of(answer, "found");
    let what = match (answer["sites"].is_array(), found) {
        (true, 1) => "site",
        (true, _) => "sites",
        (false, 1) => "stored response",
        (false, _) => "stored responses",
    };
    let sum = answer["bytes"].as_u64().map(|sum| format!(", {}", bytes(sum))).unwrap_or_default();
    let lines = text.lines().count() as u64;
    let more = if lines < found {
        format!("; the first {lines} of them are shown (--limit)")
    } else {
        String::new()
    };
    let _ = writeln!(text, "{found} {what}{sum}{more}");
    text
}

/// Bytes in the largest fitting unit.
pub(super) fn bytes(count: u64) -> String {
    bytesize::ByteSize(count).display().iec().to_string()
}

fn reloaded(answer: &Value) -> String {
    let names =
        |list: &Value| list.as_array().into_iter().flatten().map(plain).collect::<Vec<_>>().join(", ");
    let (live, restart) = (names(&answer["live"]), names(&answer["restart"]));
    let mut text = String::new();
    if live.is_empty() && restart.is_empty() {
        text.push_str("nothing changed\n");
    }
    for (what, names) in [("changed", live), ("at the next start", restart)] {
        if !names.is_empty() {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{what}: {names}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(value: &Value, lines: &[&str]) {
        let mut text = String::new();
        tree(&mut text, value, 0);
        assert_eq!(text.lines().collect::<Vec<_>>(), lines);
    }

    #[test]
    fn figures_stand_below_each_other() {
        check(
            &json!({"store": {"bytes": 5, "entries": 10, "names": ["a", "b"]}, "ready": true, "x": []}),
            &["ready  yes", "store", "  bytes    5", "  entries  10", "  names    a, b", "x      none"],
        );
    }

    #[test]
    fn text_from_elsewhere_cannot_steer_the_terminal() {
        check(&json!({"etag": "a\u{1b}[2J\r\nb"}), &["etag  a\\u{1b}[2J\\r\\nb"]);
    }

    #[test]
    fn what_is_stored_is_a_line_each_and_a_sum() {
        let one = json!({"url": "http://h/\u{1b}", "bytes": 2048, "stored_ago_s": 5, "ttl_s": -3, "fresh": false, "status": 200});
        let answer = json!({"found": 1, "bytes": 2048, "responses": [one]});
        assert_eq!(
            listed(&answer),
            "   2.0 KiB    5 s ago       3 s past  200  http://h/\\u{1b}\n1 stored response, 2.0 KiB\n"
        );
        let sites = json!({"found": 1, "sites": [{"host": "h", "responses": 3, "bytes": 10}]});
        assert_eq!(listed(&sites), "      10 B        3  h\n1 site\n");
        let more = json!({"found": 2, "sites": [{"host": "h", "responses": 3, "bytes": 10}]});
        assert!(listed(&more).ends_with("\n2 sites; the first 1 of them are shown (--limit)\n"));
    }

    #[test]
    fn changes_are_told_in_a_sentence() {
        assert_eq!(purged(&json!({"purged": 1, "dry_run": false})), "1 stored response purged\n");
        assert_eq!(purged(&json!({"purged": 0, "dry_run": true})), "0 stored responses would be purged\n");
        assert_eq!(reloaded(&json!({"live": [], "restart": []})), "nothing changed\n");
        assert_eq!(
            reloaded(&json!({"live": ["log.query", "rules"], "restart": ["server.listen"]})),
            "changed: log.query, rules\nat the next start: server.listen\n"
        );
        let refused = json!({"detail": "no", "errors": ["l.toml:1:1: a", "l.toml:2:1: b"]});
        assert!(
            refusal(StatusCode::UNPROCESSABLE_ENTITY, &refused).ends_with(":\nl.toml:1:1: a\nl.toml:2:1: b")
        );
        assert_eq!(refusal(StatusCode::FORBIDDEN, &json!({"detail": "no token"})), "403 Forbidden: no token");
    }
}
