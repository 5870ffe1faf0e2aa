//! What is asked of the API: the query of explain, the content of purge.

use super::{ControlError, Explain, Purge, PurgeWhat};
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use serde::Deserialize;

/// `url=...&header=Name:%20value`, the latter any number of times.
pub(super) fn explain(query: &str) -> Result<Explain, ControlError> {
    let (mut url, mut headers) = (None, HeaderMap::new());
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let value = decode(value);
        match name {
            "url" if url.is_some() => return Err(invalid("`url` is given twice")),
            "url" => url = Some(String::from_utf8(value).map_err(|_| invalid("`url` is not UTF-8"))?),
            "header" => {
                let (name, value) = field(&value).ok_or_else(|| {
                    invalid("`header` is not a field: expected `Name: value`, percent-encoded")
                })?;
                headers.append(name, value);
            }
            other => {
                return Err(invalid(&format!("`{other}` is not known here: expected `url` and `header`")));
            }
        }
    }
    let url = url
        .filter(|url| !url.is_empty())
        .ok_or_else(|| invalid("`url` is missing: expected ?url=http%3A//..."))?;
    Ok(Explain { url, headers })
}

fn field(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = HeaderName::from_bytes(&line[..colon]).ok()?;
    // RFC 9110 section 5.5: only spaces and tabs surround a value.
    let mut value = &line[colon + 1..];
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    Some((name, HeaderValue::from_bytes(value).ok()?))
}

/// Percent-decoding as of forms: `+` is a space; a `%` that begins no pair of digits stands for itself.
fn decode(text: &str) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::with_capacity(text.len()), 0);
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match (byte, digit(bytes.get(at)), digit(bytes.get(at + 1))) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 2;
            }
            (b'+', _, _) => out.push(b' '),
            _ => out.push(*byte),
        }
    }
    out
}

/// The content of a purge, as JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PurgeContent {
    url: Option<String>,
    host: Option<String>,
    glob: Option<String>,
    #[serde(default)]
    all: bool,
    #[serde(default)]
    dry_run: bool,
}

/// Exactly one of `url`, `host`, `glob` and `all`, and perhaps `dry_run`.
pub(super) fn purge(content: &[u8]) -> Result<Purge, ControlError> {
    let content: PurgeContent = serde_json::from_slice(content)
        .map_err(|error| invalid(&format!("the content is not as expected: {error}")))?;
    let asked = [
        content.url.map(PurgeWhat::Url),
        content.host.map(PurgeWhat::Host),
        content.glob.map(PurgeWhat::Glob),
        content.all.then_some(PurgeWhat::All),
    ];
    let mut asked = asked.into_iter().flatten();
    match (asked.next(), asked.next()) {
        (Some(what), None) => Ok(Purge { what, dry_run: content.dry_run }),
        (None, _) | (Some(_), Some(_)) => {
            Err(invalid("expected exactly one of `url`, `host`, `glob` (strings) and `all` (true)"))
        }
    }
}

fn invalid(says: &str) -> ControlError {
    ControlError::Invalid(says.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explain_takes_a_url_and_repeated_fields() {
        let asked =
            explain("url=http%3A//h/a%3Fb%3D1%26c&header=Accept:%20text/html&header=X-A:%201&header=x-a:+2")
                .unwrap();
        assert_eq!(asked.url, "http://h/a?b=1&c");
        assert_eq!(asked.headers["accept"], "text/html");
        assert_eq!(asked.headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
    }

    #[test]
    fn explain_says_what_is_wrong() {
        for (query, word) in [
            ("", "missing"),
            ("url=", "missing"),
            ("url=a&url=b", "twice"),
            ("url=%ff", "UTF-8"),
            ("url=a&header=nocolon", "header"),
            ("url=a&header=A:%0d%0aB", "header"),
            ("url=a&what=1", "what"),
        ] {
            let error = explain(query).unwrap_err().to_string();
            assert!(error.contains(word), "{query}: {error}");
        }
    }

    #[test]
    fn a_percent_that_encodes_nothing_stands_for_itself() {
        assert_eq!(decode("a%zz%4%41+%"), b"a%zz%4A %");
    }

    #[test]
    fn purge_wants_exactly_one_thing() {
        assert_eq!(purge(br#"{"all":true}"#).unwrap(), Purge { what: PurgeWhat::All, dry_run: false });
        let host = Purge { what: PurgeWhat::Host("h".into()), dry_run: true };
        assert_eq!(purge(br#"{"host":"h","dry_run":true}"#).unwrap(), host);
        for wrong in [
            "",
            "{}",
            "[]",
            r#"{"all":false}"#,
            r#"{"url":"a","host":"b"}"#,
            r#"{"url":1}"#,
            r#"{"all":true,"x":1}"#,
        ] {
            assert!(purge(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
