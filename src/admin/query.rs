//! What is asked of the API: queries, and the content of purge.

use super::{ControlError, Explain, Purge, PurgeWhat, Stored};
use crate::cache::{Listing, MAX_LIMIT, MAX_OFFSET, Sort};
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use serde::Deserialize;

/// The parameters of a query, decoded.
fn parameters(query: &str) -> impl Iterator<Item = (&str, Vec<u8>)> {
    query.split('&').filter(|part| !part.is_empty()).map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (name, decode(value))
    })
}

fn number<T: std::str::FromStr>(name: &str, value: &[u8]) -> Result<T, ControlError> {
    // A sign is none.
    let digits = value.iter().all(u8::is_ascii_digit);
    let read = std::str::from_utf8(value).ok().filter(|_| digits).and_then(|text| text.parse().ok());
    read.ok_or_else(|| invalid(&format!("`{name}` is no number: expected digits")))
}

fn boolean(name: &str, value: &[u8]) -> Result<bool, ControlError> {
    match value {
        b"true" => Ok(true),
        b"false" => Ok(false),
        _ => Err(invalid(&format!("`{name}`: expected `true` or `false`"))),
    }
}

fn text(name: &str, value: Vec<u8>) -> Result<String, ControlError> {
    String::from_utf8(value).map_err(|_| invalid(&format!("`{name}` is not UTF-8")))
}

fn unknown(name: &str, expected: &str) -> ControlError {
    invalid(&format!("`{name}` is not known here: expected {expected}"))
}

/// `after=N`: the number of the last exchange that is known.
pub(super) fn exchanges(query: &str) -> Result<u64, ControlError> {
    let mut after = 0;
    for (name, value) in parameters(query) {
        match name {
            "after" => after = number(name, &value)?,
            other => return Err(unknown(other, "`after`")),
        }
    }
    Ok(after)
}

/// `search=...&sort=site|size|age&reverse=true&offset=N&limit=N`, each at most once.
pub(super) fn stored(query: &str) -> Result<Stored, ControlError> {
    let mut asked = Listing::default();
    for (name, value) in parameters(query) {
        match name {
            "search" => asked.search = text(name, value)?,
            "sort" => {
                asked.sort = match value.as_slice() {
                    b"site" => Sort::Site,
                    b"size" => Sort::Size,
                    b"age" => Sort::Age,
                    _ => return Err(invalid("`sort`: expected `site`, `size` or `age`")),
                };
            }
            "reverse" => asked.reverse = boolean(name, &value)?,
            "offset" => asked.offset = number(name, &value)?,
            "limit" => asked.limit = number(name, &value)?,
            other => return Err(unknown(other, "`search`, `sort`, `reverse`, `offset` and `limit`")),
        }
    }
    if asked.offset > MAX_OFFSET || asked.limit > MAX_LIMIT {
        return Err(invalid(&format!(
            "`offset` goes to {MAX_OFFSET} and `limit` to {MAX_LIMIT}: search for less, or sort the other way"
        )));
    }
    Ok(Stored::Responses(asked))
}

/// `search=...&limit=N`, each at most once.
pub(super) fn sites(query: &str) -> Result<Stored, ControlError> {
    let (mut search, mut limit) = (String::new(), 100);
    for (name, value) in parameters(query) {
        match name {
            "search" => search = text(name, value)?,
            "limit" => limit = number::<usize>(name, &value)?.min(MAX_LIMIT),
            other => return Err(unknown(other, "`search` and `limit`")),
        }
    }
    Ok(Stored::Sites { search, limit })
}

/// `url=...&method=GET|HEAD&header=Name:%20value&offline=true`, `header` any number of times; or `exchange=N` in place
/// of `url`, whose method and URL `remembered` knows.
pub(super) fn explain(
    query: &str,
    remembered: impl Fn(u64) -> Option<(Method, String)>,
) -> Result<Explain, ControlError> {
    let (mut url, mut method, mut headers, mut offline) = (None, None, HeaderMap::new(), false);
    for (name, value) in parameters(query) {
        match name {
            "exchange" | "url" if url.is_some() => {
                return Err(invalid("expected one `url` or one `exchange`, and found two"));
            }
            "exchange" => {
                let (asked, known) = remembered(number(name, &value)?).ok_or_else(|| {
                    invalid(
                        "this exchange can't be explained: expected one of the last, a GET or HEAD that was read",
                    )
                })?;
                url = Some(known);
                method = method.or(Some(asked));
            }
            "url" => url = Some(String::from_utf8(value).map_err(|_| invalid("`url` is not UTF-8"))?),
            "method" => {
                method = Some(match value.as_slice() {
                    b"GET" => Method::GET,
                    b"HEAD" => Method::HEAD,
                    _ => return Err(invalid("`method`: expected `GET` or `HEAD`, which the cache answers")),
                });
            }
            "offline" => offline = boolean(name, &value)?,
            "header" => {
                let (name, value) = field(&value).ok_or_else(|| {
                    invalid("`header` is not a field: expected `Name: value`, percent-encoded")
                })?;
                headers.append(name, value);
            }
            other => {
                return Err(unknown(other, "`url` or `exchange`, `method`, `header` and `offline`"));
            }
        }
    }
    let url = url
        .filter(|url| !url.is_empty())
        .ok_or_else(|| invalid("`url` is missing: expected ?url=http%3A//..."))?;
    Ok(Explain { method: method.unwrap_or(Method::GET), url, headers, offline })
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
    path: Option<String>,
    host: Option<String>,
    glob: Option<String>,
    tag: Option<String>,
    #[serde(default)]
    all: bool,
    #[serde(default)]
    dry_run: bool,
}

/// Exactly one of `url`, `path`, `host`, `glob`, `tag` and `all`, and perhaps `dry_run`.
pub(super) fn purge(content: &[u8]) -> Result<Purge, ControlError> {
    if !content.trim_ascii_start().starts_with(b"{") {
        return Err(invalid("the content is no JSON object: expected one such as {\"url\": \"http://h/x\"}"));
    }
    let content: PurgeContent = serde_json::from_slice(content)
        .map_err(|error| invalid(&format!("the content is not as expected: {error}")))?;
    let asked = [
        content.url.map(PurgeWhat::Url),
        content.path.map(PurgeWhat::Path),
        content.host.map(PurgeWhat::Host),
        content.glob.map(PurgeWhat::Glob),
        content.tag.map(PurgeWhat::Tag),
        content.all.then_some(PurgeWhat::All),
    ];
    let mut asked = asked.into_iter().flatten();
    match (asked.next(), asked.next()) {
        (Some(what), None) => Ok(Purge { what, dry_run: content.dry_run }),
        (None, _) | (Some(_), Some(_)) => Err(invalid(
            "expected exactly one of `url`, `path`, `host`, `glob`, `tag` (strings) and `all` (true)",
        )),
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
        let asked = explain(
            "url=http%3A//h/a%3Fb%3D1%26c&header=Accept:%20text/html&header=X-A:%201&header=x-a:+2",
            |_| None,
        )
        .unwrap();
        assert_eq!(asked.url, "http://h/a?b=1&c");
        assert_eq!((asked.method, asked.offline), (Method::GET, false));
        assert_eq!(asked.headers["accept"], "text/html");
        assert_eq!(asked.headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
    }

    #[test]
    fn explain_says_what_is_wrong() {
        for (query, word) in [
            ("", "missing"),
            ("url=", "missing"),
            ("url=a&url=b", "found two"),
            ("exchange=7&url=b", "found two"),
            ("url=%ff", "UTF-8"),
            ("url=a&header=nocolon", "header"),
            ("url=a&header=A:%0d%0aB", "header"),
            ("url=a&what=1", "what"),
            ("url=a&exchange=1", "found two"),
            ("exchange=x", "number"),
            ("exchange=2", "GET or HEAD"),
            ("url=a&method=POST", "HEAD"),
            ("url=a&offline=1", "offline"),
        ] {
            let known = |seq| (seq == 7).then(|| (Method::GET, "http://h/".into()));
            let error = explain(query, known).unwrap_err().to_string();
            assert!(error.contains(word), "{query}: {error}");
        }
    }

    #[test]
    fn an_exchange_stands_for_its_url() {
        let known = |seq| (seq == 7).then(|| (Method::HEAD, "http://h/?q".into()));
        let asked = explain("exchange=7&header=X-A:%201&offline=true", known).unwrap();
        assert_eq!((asked.method, asked.url.as_str()), (Method::HEAD, "http://h/?q"));
        assert!(asked.headers.len() == 1 && asked.offline);
        assert_eq!(explain("method=GET&exchange=7", known).unwrap().method, Method::GET);
    }

    #[test]
    fn listings_are_bounded_and_say_what_is_wrong() {
        let asked = stored("search=a%26b&sort=size&reverse=true&offset=10&limit=5").unwrap();
        let expected =
            Listing { search: "a&b".into(), sort: Sort::Size, reverse: true, offset: 10, limit: 5 };
        assert_eq!(asked, Stored::Responses(expected));
        assert_eq!(stored("").unwrap(), Stored::Responses(Listing::default()));
        assert_eq!(sites("limit=9999").unwrap(), Stored::Sites { search: String::new(), limit: MAX_LIMIT });
        assert_eq!((exchanges("after=12").unwrap(), exchanges("").unwrap()), (12, 0));
        for (query, word) in [
            ("sort=name", "site"),
            ("limit=501", "500"),
            ("offset=5001", "5000"),
            ("limit=-1", "number"),
            ("limit=%2B1", "number"),
            ("x", "`x`"),
        ] {
            let error = stored(query).unwrap_err().to_string();
            assert!(error.contains(word), "{query}: {error}");
        }
        for query in ["after=x", "after=%2B1", "after="] {
            assert!(exchanges(query).is_err(), "{query}");
        }
        assert!(sites("sort=size").is_err());
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
            "[null, null, null, null, null, true, true]",
            r#"{"all":false}"#,
            r#"{"url":"a","host":"b"}"#,
            r#"{"tag":"a","all":true}"#,
            r#"{"url":1}"#,
            r#"{"all":true,"x":1}"#,
        ] {
            assert!(purge(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
