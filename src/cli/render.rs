//! Answers of the API as text for people.

use std::fmt::Write as _;

use http::StatusCode;
use serde_json::Value;

use super::Command;

/// The answer to a command.
pub(super) fn answer(command: &Command, answer: &Value) -> String {
    match command {
        Command::Purge { .. } => purged(answer),
        Command::Reload { .. } => reloaded(answer),
        Command::Explain { .. } => super::explanation::explanation(answer),
        Command::Stats { .. }
        | Command::Serve
        | Command::Check { .. }
        | Command::Healthcheck
        | Command::Completions { .. } => {
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

/// Any value, indented by two columns a level; the plain values of one object stand below each other.
pub(super) fn tree(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(fields) => {
            let longest =
                |(name, value): (&String, &Value)| if inline(value).is_some() { name.len() } else { 0 };
            let width = fields.iter().map(longest).max().unwrap_or_default();
            for (name, value) in fields {
                named(text, &format!("{name:width$}"), value, depth);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| tree(text, item, depth)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            line(text, depth, &plain(value));
        }
    }
}

fn named(text: &mut String, name: &str, value: &Value, depth: usize) {
    if let Some(value) = inline(value) {
        line(text, depth, &format!("{name}  {value}"));
    } else {
        line(text, depth, name.trim_end());
        tree(text, value, depth + 1);
    }
}

/// A value that fits on its name's line: a plain one, or a list of plain ones.
fn inline(value: &Value) -> Option<String> {
    match value {
        Value::Object(fields) if fields.is_empty() => Some("none".to_owned()),
        Value::Object(_) => None,
        Value::Array(items) if items.is_empty() => Some("none".to_owned()),
        Value::Array(items) if items.iter().all(|item| !item.is_object() && !item.is_array()) => {
            Some(items.iter().map(plain).collect::<Vec<_>>().join(", "))
        }
        Value::Array(_) => None,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Some(plain(value)),
    }
}

/// A plain value in words. Control characters are escaped: the text may come from an origin.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => {
            let mut shown = String::with_capacity(text.len());
            for letter in text.chars() {
                if letter.is_control() {
                    shown.extend(letter.escape_default());
                } else {
                    shown.push(letter);
                }
            }
            shown
        }
        Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// A line, indented.
pub(super) fn line(text: &mut String, depth: usize, words: &str) {
    let line = format!("{:indent$}{words}", "", indent = depth * 2);
    text.push_str(line.trim_end());
    text.push('\n');
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
