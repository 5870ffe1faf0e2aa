//! The pages that the proxy makes itself: errors, the set-up page, the PAC file.
//!
//! Everything that comes from outside is escaped, nothing is fetched, and no page is kept by anyone. A Host goes into
//! a page only if it is an authority of ours.
mod accept;
mod environment;
mod pac;
mod programs;
mod setup;

use crate::access::Denied;
use crate::field::status::ProxyError;
use crate::pages::accept::Form;
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{Response, StatusCode};
use std::borrow::Cow;
use std::fmt::Write;

pub use crate::pages::environment::{left_out, variables};
pub use crate::pages::pac::{Options, is_pac, pac};
pub use crate::pages::programs::trial;
pub use crate::pages::setup::{Here, landing};

const STYLE: &str = include_str!("style.css");

/// Nothing but the style that is in the page, by its hash (a test keeps it true).
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'sha256-UWuFiJ9PLTmummRUgyKGOnNhzR8XAJKgygQn80Ee7A4='; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// What an error page tells.
#[derive(Clone, Debug)]
pub struct ErrorPage<'a> {
    /// The status of the response.
    pub status: StatusCode,
    /// What failed, in a few words: the heading.
    pub title: Cow<'a, str>,
    /// What failed: a sentence or two.
    pub says: Cow<'a, str>,
    /// What to do about it.
    pub todo: Cow<'a, str>,
    /// The exchange, as in the access log.
    pub id: u64,
    /// What was asked for, without user information and query.
    pub target: Option<Cow<'a, str>>,
    /// RFC 9209's type of error.
    pub error: Option<ProxyError>,
    /// The rule of access that refused.
    pub rule: Option<&'a str>,
}

impl<'a> ErrorPage<'a> {
    /// The page of a type of error, in its own words.
    pub fn of(error: ProxyError, id: u64) -> Self {
        Self { error: Some(error), ..Self::new(error.status(), error.says(), error.todo(), id) }
    }

    /// The page of a refusal by access: it names the rule and what would allow it.
    pub fn denied(denied: &'a Denied, error: ProxyError, id: u64) -> Self {
        Self {
            says: format!("This proxy's rules refuse it: {}.", denied.what).into(),
            todo: format!("To allow it: {}.", denied.allow).into(),
            rule: Some(&denied.rule),
            ..Self::of(error, id)
        }
    }

    /// A page with the status's own phrase as its heading.
    pub fn new(
        status: StatusCode,
        says: impl Into<Cow<'a, str>>,
        todo: impl Into<Cow<'a, str>>,
        id: u64,
    ) -> Self {
        let title = status.canonical_reason().unwrap_or("Error").into();
        Self {
            status,
            title,
            says: says.into(),
            todo: todo.into(),
            id,
            target: None,
            error: None,
            rule: None,
        }
    }

    /// Label and text of what is told besides.
    fn details(&self) -> impl Iterator<Item = (&'static str, Cow<'_, str>)> {
        [
            ("target", self.target.as_deref().map(Cow::from)),
            ("error", self.error.map(|error| error.token().into())),
            ("rule", self.rule.map(Cow::from)),
            ("id", Some(format!("{:016x}", self.id).into())),
        ]
        .into_iter()
        .filter_map(|(label, text)| Some((label, text?)))
    }

    fn text(&self) -> String {
        let mut out =
            format!("{} {}\n\n{}\n", self.status.as_u16(), one_line(&self.title), one_line(&self.says));
        if !self.todo.is_empty() {
            // Writing to a String doesn't fail; here and below.
            let _ = writeln!(out, "{}", one_line(&self.todo));
        }
        out.push('\n');
        for (label, text) in self.details() {
            let _ = writeln!(out, "{label}: {}", one_line(&text));
        }
        out
    }

    fn html(&self) -> String {
        let mut body = format!(
            "<h1>{} {}</h1>\n<p>{}</p>\n",
            self.status.as_u16(),
            Escaped(&self.title),
            Escaped(&self.says)
        );
        if !self.todo.is_empty() {
            let _ = writeln!(body, "<p>{}</p>", Escaped(&self.todo));
        }
        body.push_str("<dl>\n");
        for (label, text) in self.details() {
            let _ = writeln!(body, "<dt>{label}</dt><dd>{}</dd>", Escaped(&text));
        }
        body.push_str("</dl>");
        document(&format!("{} {}", self.status.as_u16(), self.title), &body)
    }

    /// RFC 9457, with the details as further members.
    fn problem(&self) -> String {
        let detail =
            if self.todo.is_empty() { self.says.to_string() } else { format!("{} {}", self.says, self.todo) };
        let mut problem = serde_json::Map::new();
        problem.insert("type".to_owned(), "about:blank".into());
        problem.insert("title".to_owned(), self.title.as_ref().into());
        problem.insert("status".to_owned(), self.status.as_u16().into());
        problem.insert("detail".to_owned(), detail.into());
        for (label, text) in self.details() {
            problem.insert(label.to_owned(), text.into());
        }
        serde_json::Value::Object(problem).to_string() + "\n"
    }
}

/// An error page in the form that suits the client; plain text where it has no wish.
pub fn error(page: &ErrorPage<'_>, accept: Option<&HeaderValue>) -> Response<Bytes> {
    let form = accept::choose(accept, &[Form::Text, Form::Html, Form::Problem]);
    let body = match form {
        Form::Text => page.text(),
        Form::Html => page.html(),
        Form::Problem => page.problem(),
    };
    response(page.status, form.content_type(), body)
}

/// A whole response with the fields that every page of ours has.
fn response(status: StatusCode, content_type: HeaderValue, body: String) -> Response<Bytes> {
    let length = HeaderValue::from(body.len());
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CONTENT_LENGTH, length);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// `body` is markup; `title` is text.
fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{}</title>\n<style>{STYLE}</style>\n</head>\n\
         <body>\n<p class=\"brand\">Larder</p>\n{body}\n</body>\n</html>\n",
        Escaped(title)
    )
}

/// Text within markup: as an element's content or in a quoted attribute.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                control if control.is_control() => f.write_char('\u{fffd}')?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// Terminals obey control characters.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests;
