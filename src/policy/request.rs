//! What a request is for caching: read once, when it arrives. RFC 9111 sections 4 and 5.2.1.

use http::{HeaderMap, HeaderValue, Method, header};

use crate::field::cache_control::RequestDirectives;

/// How the cache treats a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MethodKind {
    Get,
    Head,
    /// Goes straight through. `get` in lower case is one of these: methods are case-sensitive.
    Other,
}

/// A request's facts. Cheap to make when it has no field that caching looks at.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct RequestFacts<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its end-to-end fields as received.
    pub headers: &'a HeaderMap,
    /// Cache-Control, and Pragma where that counts.
    pub cache_control: RequestDirectives,
    /// Whether it has content.
    pub has_content: bool,
    /// Whether it has Authorization.
    pub authorization: bool,
    /// Whether it has Cookie.
    pub cookie: bool,
    /// Whether it asks for another protocol (Upgrade).
    pub upgrade: bool,
    /// Range of a GET; of other methods it means nothing.
    pub range: Option<&'a HeaderValue>,
    /// Whether it has If-Match or If-Unmodified-Since.
    pub(crate) guarded: bool,
    /// Whether it has If-None-Match or If-Modified-Since.
    pub(crate) conditional: bool,
    pub(crate) kind: MethodKind,
}

impl<'a> RequestFacts<'a> {
    /// Reads the request. `headers` are its end-to-end fields, hop-by-hop ones already dropped: an Upgrade
    /// that is still among them is one that goes on to the origin. `has_content` says whether a body is
    /// announced.
    pub fn of(method: &'a Method, headers: &'a HeaderMap, has_content: bool) -> Self {
        let kind = match *method {
            Method::GET => MethodKind::Get,
            Method::HEAD => MethodKind::Head,
            _ => MethodKind::Other,
        };
        let mut facts = Self {
            method,
            headers,
            cache_control: RequestDirectives::default(),
            has_content,
            authorization: false,
            cookie: false,
            upgrade: false,
            range: None,
            guarded: false,
            conditional: false,
            kind,
        };
        let mut spoken = false;
        // One walk over the few names that there are costs less than a look-up of each that matters.
        for name in headers.keys() {
            match name.as_str() {
                "cache-control" | "pragma" => spoken = true,
                "authorization" => facts.authorization = true,
                "cookie" => facts.cookie = true,
                "upgrade" => facts.upgrade = true,
                "range" if kind == MethodKind::Get => facts.range = headers.get(header::RANGE),
                "if-match" | "if-unmodified-since" => facts.guarded = true,
                "if-none-match" | "if-modified-since" => facts.conditional = true,
                _ => {}
            }
        }
        if spoken {
            let lines = headers.get_all(header::CACHE_CONTROL);
            let pragma = headers.get_all(header::PRAGMA);
            facts.cache_control = RequestDirectives::parse(lines.iter(), pragma.iter());
        }
        facts
    }

    /// Whether the method is HEAD.
    pub fn is_head(&self) -> bool {
        self.kind == MethodKind::Head
    }

    /// Whether the client set a condition (other than If-Range).
    pub fn has_conditions(&self) -> bool {
        self.guarded || self.conditional
    }

    /// May this request lead a fetch that others join? Its response must be what any of them would have got:
    /// a GET without Range, conditions, Authorization, Cookie, content, no-store or only-if-cached.
    pub fn may_lead(&self) -> bool {
        self.kind == MethodKind::Get
            && self.range.is_none()
            && !(self.has_conditions()
                || self.headers.contains_key(header::IF_RANGE)
                || self.authorization
                || self.cookie
                || self.has_content
                || self.upgrade
                || self.cache_control.no_store
                || self.cache_control.only_if_cached)
    }

    /// May this request wait for another's response? Not where its own words already rule that out: no-cache,
    /// max-age=0, no-store, content. Whether the response then answers it is [`plan`](super::plan)'s decision
    /// over that one head.
    pub fn may_join(&self) -> bool {
        let directives = &self.cache_control;
        self.kind != MethodKind::Other
            && !(self.has_content
                || self.upgrade
                || directives.no_store
                || directives.no_cache
                || directives.pragma_no_cache
                || directives.only_if_cached
                || directives.max_age == Some(0))
    }

    /// The facts of the GET that validates in the background what this request was served
    /// ([`Plan::ServeAndRefresh`](super::Plan::ServeAndRefresh)), or that a flight led by it makes: no range,
    /// conditions or directives. `method` is `&Method::GET`, `headers` those that are sent.
    pub fn refreshing(method: &'a Method, headers: &'a HeaderMap) -> Self {
        Self {
            cache_control: RequestDirectives::default(),
            range: None,
            guarded: false,
            conditional: false,
            ..Self::of(method, headers, false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testing::headers;

    #[track_caller]
    fn check(method: &Method, lines: &[(&str, &str)], may_lead: bool, may_join: bool) {
        let headers = headers(lines);
        let facts = RequestFacts::of(method, &headers, false);
        assert_eq!((facts.may_lead(), facts.may_join()), (may_lead, may_join), "{method} {lines:?}");
    }

    #[test]
    fn only_a_plain_get_leads_a_fetch_that_others_join() {
        check(&Method::GET, &[], true, true);
        check(&Method::GET, &[("accept-encoding", "gzip")], true, true);
        check(&Method::GET, &[("range", "bytes=0-1")], false, true);
        check(&Method::GET, &[("if-none-match", "\"a\"")], false, true);
        check(&Method::GET, &[("if-modified-since", "x")], false, true);
        check(&Method::GET, &[("if-match", "\"a\"")], false, true);
        check(&Method::GET, &[("authorization", "x")], false, true);
        check(&Method::GET, &[("cookie", "a=b")], false, true);
        check(&Method::GET, &[("cache-control", "no-store")], false, false);
        check(&Method::GET, &[("cache-control", "only-if-cached")], false, false);
        check(&Method::GET, &[("cache-control", "max-age=0")], true, false);
        check(&Method::GET, &[("pragma", "no-cache")], true, false);
        check(&Method::HEAD, &[], false, true);
        check(&Method::POST, &[], false, false);
        check(&Method::from_bytes(b"get").unwrap(), &[], false, false);
    }

    #[test]
    fn content_neither_leads_nor_joins() {
        let headers = headers(&[]);
        let facts = RequestFacts::of(&Method::GET, &headers, true);
        assert!(!facts.may_lead() && !facts.may_join());
    }
}
