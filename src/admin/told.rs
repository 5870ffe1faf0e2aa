//! Answers as text for people, the same on the command line and on the page: `larder explain` as an indented tree with
//! request, key, plan, what is stored with its freshness, and the origin's answer with what would become of it.

use serde_json::Value;

use crate::field::date;

/// The tree of an explanation.
pub fn explanation(told: &Value) -> String {
    let mut text = String::new();
    let decision = &told["decision"];
    if !decision.is_object() && told["refused"].is_object() {
        line(&mut text, 0, &format!("request: {} {}", plain(&told["method"]), plain(&told["url"])));
        refused(&mut text, &told["refused"]);
        return text;
    }
    if !decision.is_object() {
        // Another version's: as it is.
        tree(&mut text, told, 0);
        return text;
    }
    let request = &decision["request"];
    line(&mut text, 0, &format!("request: {} {}", plain(&request["method"]), plain(&told["url"])));
    list(&mut text, 1, "directives", &request["directives"]);
    list(&mut text, 1, "also has", &request["notable"]);
    line(&mut text, 0, &format!("key: {}", plain(&told["key"])));
    if told["rule"].is_string() {
        line(&mut text, 1, &format!("rule: {}", plain(&told["rule"])));
    }
    plan(&mut text, decision);
    let stored = items(&decision["stored"]);
    line(&mut text, 0, &format!("stored for this key: {}", stored.len()));
    for (index, response) in stored.iter().enumerate() {
        let chosen = if decision["chosen"] == index { ", the one chosen" } else { "" };
        line(&mut text, 1, &format!("response {}: {}{chosen}", index + 1, headline(response)));
        one_stored(&mut text, 2, response);
    }
    if told["answer"].is_object() {
        answer(&mut text, &told["answer"]);
    }
    if told["refused"].is_object() {
        refused(&mut text, &told["refused"]);
    }
    if told["offline"] == true {
        line(&mut text, 0, "origin: not asked");
    }
    text
}

/// What the client would be answered in place of a response.
fn refused(text: &mut String, refused: &Value) {
    line(text, 0, &format!("instead: {}", plain(&refused["status"])));
    because(text, 1, &refused["reason"]);
    line(text, 1, &plain(&refused["says"]));
    line(text, 1, &plain(&refused["todo"]));
}

fn plan(text: &mut String, decision: &Value) {
    let forward = match &decision["forward"] {
        Value::String(forward) => format!(" (fwd={forward})"),
        _ => String::new(),
    };
    line(text, 0, &format!("plan: {}{forward}", plain(&decision["plan"])));
    because(text, 1, &decision["reason"]);
    list(text, 1, "by", &decision["sections"]);
}

/// What the origin said, and what would become of it.
fn answer(text: &mut String, answer: &Value) {
    if answer["error"].is_string() {
        line(text, 0, &format!("response: none, {}: {}", plain(&answer["error"]), plain(&answer["says"])));
    } else {
        line(text, 0, &format!("response: {} from {}", plain(&answer["status"]), plain(&answer["address"])));
        for field in items(&answer["fields"]) {
            line(text, 1, &format!("{}: {}", plain(&field[0]), plain(&field[1])));
        }
    }
    let judgement = &answer["judgement"];
    if !judgement.is_object() {
        return;
    }
    line(text, 0, &format!("verdict: {}", plain(&judgement["verdict"])));
    because(text, 1, &judgement["reason"]);
    let stored = &judgement["stored"];
    if stored.is_object() {
        line(text, 1, &format!("to be stored: {}", headline(stored)));
        one_stored(text, 2, stored);
    }
}

/// A reason: its sentence, its token, and the section that says so.
fn because(text: &mut String, depth: usize, why: &Value) {
    if why.is_object() {
        let (says, token, section) = (plain(&why["says"]), plain(&why["token"]), plain(&why["section"]));
        line(text, depth, &format!("because: {says} ({token}) [{section}]"));
    }
}

/// Status and size.
fn headline(response: &Value) -> String {
    let status = plain(&response["status"]);
    let size = match response["length"].as_u64() {
        Some(length) => format!("{status}, {length} bytes"),
        None => format!("{status}, of unknown length"),
    };
    let ranges: Vec<_> = items(&response["ranges"])
        .iter()
        .map(|range| format!("{}-{}", plain(&range[0]), plain(&range[1])))
        .collect();
    let ranges = if ranges.is_empty() { String::new() } else { format!(", only {}", ranges.join(", ")) };
    let marked = if response["marked_stale"] == true { ", marked stale by a HEAD" } else { "" };
    format!("{size}{ranges}{marked}")
}

fn one_stored(text: &mut String, depth: usize, response: &Value) {
    line(text, depth, &format!("selected by this request: {}", plain(&response["selected"])));
    for field in items(&response["selecting"]) {
        let value = if field[1].is_null() { "absent".to_owned() } else { plain(&field[1]) };
        line(text, depth + 1, &format!("{}: {value}", plain(&field[0])));
    }
    list(text, depth, "directives", &response["directives"]);
    list(text, depth, "validators", &response["validators"]);
    freshness(text, depth, &response["freshness"]);
}

/// The freshness with its inputs. RFC 9111 section 4.2.
fn freshness(text: &mut String, depth: usize, freshness: &Value) {
    let left = freshness["ttl_s"].as_i64().unwrap_or_default();
    let left = if left >= 0 { format!("{left} s left") } else { format!("{} s past", left.saturating_neg()) };
    line(text, depth, &format!("fresh: {}, {left} [RFC 9111 section 4.2]", plain(&freshness["fresh"])));
    let figure = |name: &str| seconds(&freshness[name]);
    let source = plain(&freshness["source"]);
    line(text, depth + 1, &format!("lifetime: {} from {source} [section 4.2.1]", figure("lifetime_ms")));
    moment(text, depth + 2, "Date", &freshness["date_unix"]);
    moment(text, depth + 2, "Last-Modified", &freshness["last_modified_unix"]);
    line(text, depth + 1, &format!("current age: {} [section 4.2.3]", figure("current_age_ms")));
    let initial = figure("initial_age_ms");
    line(text, depth + 2, &format!("initial age: {initial}"));
    if !freshness["age_value_s"].is_null() {
        line(text, depth + 3, &format!("Age: {} s", plain(&freshness["age_value_s"])));
    }
    line(text, depth + 3, &format!("response delay: {}", figure("response_delay_ms")));
    line(text, depth + 2, &format!("resident time: {}", figure("resident_ms")));
}

fn moment(text: &mut String, depth: usize, name: &str, unix: &Value) {
    if let Some(unix) = unix.as_i64() {
        let date = date::format(unix);
        line(text, depth, &format!("{name}: {}", date.to_str().unwrap_or_default()));
    }
}

/// Milliseconds as seconds.
fn seconds(milliseconds: &Value) -> String {
    match milliseconds.as_i64() {
        Some(whole) if whole % 1000 == 0 => format!("{} s", whole / 1000),
        Some(milliseconds) => format!("{:.3} s", milliseconds as f64 / 1000.0),
        None => plain(milliseconds),
    }
}

/// A line of a list, if there is anything in it.
fn list(text: &mut String, depth: usize, name: &str, list: &Value) {
    let list: Vec<_> = items(list).iter().map(plain).collect();
    if !list.is_empty() {
        line(text, depth, &format!("{name}: {}", list.join(", ")));
    }
}

fn items(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

/// Any value, indented by two columns a level; the plain values of one object stand below each other.
pub fn tree(text: &mut String, value: &Value, depth: usize) {
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
pub fn plain(value: &Value) -> String {
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
fn line(text: &mut String, depth: usize, words: &str) {
    let line = format!("{:indent$}{words}", "", indent = depth * 2);
    text.push_str(line.trim_end());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(told: &Value, expected: &str) {
        assert_eq!(explanation(told), expected.trim_start());
    }

    const HEAD: &str =
        "request: GET http://h/\nkey: http://h/\nplan: fetch (fwd=uri-miss)\nstored for this key: 0\n";

    fn stored() -> Value {
        json!({
            "status": 200, "length": 1234, "selected": true, "ranges": null, "marked_stale": false,
            "selecting": [["accept-language", "de"], ["x-a", null]],
            "directives": ["max-age=60"], "validators": ["etag: \"a\""],
            "freshness": {
                "fresh": false, "lifetime_ms": 60_000, "source": "max-age", "current_age_ms": 75_250, "ttl_s": -16,
                "date_unix": 784_111_777, "last_modified_unix": null, "age_value_s": 5, "response_delay_ms": 250,
                "initial_age_ms": 5_250, "resident_ms": 70_000,
            },
        })
    }

    #[test]
    fn a_stored_response_is_told_with_all_that_its_freshness_was_computed_from() {
        check(
            &json!({
                "url": "http://h/a", "key": "http://h/a", "rule": "static",
                "decision": {
                    "request": {"method": "GET", "directives": ["max-stale=5"], "notable": ["cookie"]},
                    "plan": "revalidate", "forward": "stale", "chosen": 0, "sections": ["RFC 9111 section 4.3"],
                    "reason": {"token": "stale", "says": "It is stale.", "section": "RFC 9111 section 4.2"},
                    "stored": [stored()],
                },
            }),
            r#"
request: GET http://h/a
  directives: max-stale=5
  also has: cookie
key: http://h/a
  rule: static
plan: revalidate (fwd=stale)
  because: It is stale. (stale) [RFC 9111 section 4.2]
  by: RFC 9111 section 4.3
stored for this key: 1
  response 1: 200, 1234 bytes, the one chosen
    selected by this request: yes
      accept-language: de
      x-a: absent
    directives: max-age=60
    validators: etag: "a"
    fresh: no, 16 s past [RFC 9111 section 4.2]
      lifetime: 60 s from max-age [section 4.2.1]
        Date: Sun, 06 Nov 1994 08:49:37 GMT
      current age: 75.250 s [section 4.2.3]
        initial age: 5.250 s
          Age: 5 s
          response delay: 0.250 s
        resident time: 70 s
"#,
        );
    }

    #[test]
    fn an_answer_of_the_origin_is_told_with_its_verdict() {
        let told = |answer: Value| {
            json!({
                "url": "http://h/", "key": "http://h/", "rule": null, "answer": answer,
                "decision": {
                    "request": {"method": "GET", "directives": [], "notable": []}, "plan": "fetch",
                    "forward": "uri-miss", "reason": null, "chosen": null, "stored": [], "sections": [],
                },
            })
        };
        check(
            &told(json!({
                "status": 200, "address": "192.0.2.1:80", "fields": [["cache-control", "no-store\u{1b}"]],
                "judgement": {
                    "verdict": "pass-through", "stored": null,
                    "reason": {"token": "no-store", "says": "The response forbids it.", "section": "RFC 9111 section 3"},
                },
            })),
            &format!(
                "{HEAD}response: 200 from 192.0.2.1:80\n  cache-control: no-store\\u{{1b}}\nverdict: pass-through\n  \
                 because: The response forbids it. (no-store) [RFC 9111 section 3]\n"
            ),
        );
        check(
            &told(json!({"error": "dns_error", "says": "no such name"})),
            &format!("{HEAD}response: none, dns_error: no such name\n"),
        );
        let reason =
            json!({"token": "stale-if-error", "says": "The origin failed.", "section": "RFC 5861 section 4"});
        let judgement = json!({"verdict": "serve-stale", "reason": reason, "stored": null});
        check(
            &told(json!({"error": "dns_error", "says": "no such name", "judgement": judgement})),
            &format!(
                "{HEAD}response: none, dns_error: no such name\nverdict: serve-stale\n  \
                 because: The origin failed. (stale-if-error) [RFC 5861 section 4]\n"
            ),
        );
    }

    #[test]
    fn a_refusal_is_told_behind_the_decision_or_alone() {
        let refused =
            json!({"status": 414, "error": null, "reason": null, "says": "Too long.", "todo": "Shorten it."});
        check(
            &json!({"method": "GET", "url": "http://h/", "refused": refused}),
            "request: GET http://h/\ninstead: 414\n  Too long.\n  Shorten it.\n",
        );
    }
}
