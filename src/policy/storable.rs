//! Whether a response may be stored: RFC 9111 sections 3, 3.5 and 5.2.2, RFC 9110 section 9.3.3.

use http::{Method, StatusCode, header};

use super::freshness::{has_basis, has_explicit, is_forced, lifetime, override_of};
use super::request::MethodKind;
use super::{Completeness, Head, Reason, Reply, RequestFacts, SetCookie, StoredHead, Terms};
use super::{freshness, stored, targeted, validation};
use crate::field::cache_control::{Delta, ResponseDirectives};
use crate::field::target::Target;

/// The head to store a response to GET under, or why not.
pub(crate) fn head_to_store(
    facts: &RequestFacts<'_>,
    reply: &Reply<'_>,
    terms: &Terms<'_>,
) -> Result<Box<StoredHead>, Reason> {
    request_allows(facts, terms)?;
    let head = checked(facts, reply, terms)?;
    is_useful(head.view(), terms)?;
    Ok(Box::new(head))
}

/// What the request forbids.
fn request_allows(facts: &RequestFacts<'_>, terms: &Terms<'_>) -> Result<(), Reason> {
    if facts.kind != MethodKind::Get {
        Err(Reason::Method)
    } else if facts.upgrade {
        Err(Reason::Upgrade)
    } else if facts.has_content {
        Err(Reason::RequestContent)
    } else if facts.cache_control.no_store {
        Err(Reason::RequestNoStore)
    } else if terms.rule.and_then(|rule| rule.cache) == Some(false) {
        Err(Reason::Rule)
    } else {
        Ok(())
    }
}

/// What the response forbids, whichever method it answers.
fn checked(facts: &RequestFacts<'_>, reply: &Reply<'_>, terms: &Terms<'_>) -> Result<StoredHead, Reason> {
    if !reply.framing_ok || (reply.close_delimited && !terms.options.store_close_delimited) {
        return Err(Reason::Framing);
    }
    if !is_final(facts, reply.status) {
        return Err(Reason::Status);
    }
    let effective = targeted::effective(reply.headers, &terms.options.targeted_fields);
    if terms.rule.is_none_or(|rule| rule.freshness.is_empty()) {
        // Before a head is made in vain of what most often is not stored. No rule can force it.
        forbidden_by(&effective.0, reply.status, false)?;
    }
    let head = StoredHead::new(facts.headers, reply, effective, terms).ok_or(Reason::VaryStar)?;
    forbidden(head.view(), terms)?;
    if facts.authorization && !allows_authorization(&head.facts.directives) {
        return Err(Reason::Authorization);
    }
    if reply.headers.contains_key(header::SET_COOKIE) && !allows_set_cookie(&head.facts.directives, terms) {
        return Err(Reason::SetCookie);
    }
    if reply.status == StatusCode::PARTIAL_CONTENT && !is_whole_part(head.view(), reply) {
        return Err(Reason::Partial);
    }
    if !has_basis(&head.facts) && override_of(head.view(), terms).is_none() {
        return Err(Reason::Status);
    }
    Ok(head)
}

/// Whether it is a final response that stands for the resource: not one that this request's own condition or
/// range brought about.
fn is_final(facts: &RequestFacts<'_>, status: StatusCode) -> bool {
    match status {
        StatusCode::NOT_MODIFIED => false,
        StatusCode::PRECONDITION_FAILED => !facts.has_conditions(),
        StatusCode::RANGE_NOT_SATISFIABLE => facts.range.is_none(),
        StatusCode::EXPECTATION_FAILED => !facts.headers.contains_key(header::EXPECT),
        other => !other.is_informational(),
    }
}

/// no-store, private and must-understand; a rule's `force` overrides the first two.
pub(crate) fn forbidden(head: Head<'_>, terms: &Terms<'_>) -> Result<(), Reason> {
    forbidden_by(&head.facts.directives, head.facts.received_status, is_forced(head, terms))
}

fn forbidden_by(directives: &ResponseDirectives, status: StatusCode, forced: bool) -> Result<(), Reason> {
    if directives.must_understand && !is_understood(status.as_u16()) {
        return Err(Reason::MustUnderstand);
    }
    // "A cache that implements must-understand ... SHOULD ignore no-store" where it understands the status.
    if directives.no_store && !directives.must_understand && !forced {
        return Err(Reason::NoStore);
    }
    if directives.private && !forced {
        return Err(Reason::Private);
    }
    Ok(())
}

/// "the response ... contains ... must-revalidate, public, s-maxage". RFC 9111 section 3.5.
pub(crate) fn allows_authorization(directives: &ResponseDirectives) -> bool {
    directives.public || directives.must_revalidate || directives.s_maxage.is_some_and(Delta::is_valid)
}

/// Whether a response with Set-Cookie may be shared.
pub(crate) fn allows_set_cookie(directives: &ResponseDirectives, terms: &Terms<'_>) -> bool {
    match terms.set_cookie() {
        SetCookie::Rfc9111 => true,
        SetCookie::Strict => directives.public || directives.s_maxage.is_some_and(Delta::is_valid),
    }
}

/// Status codes whose caching requirements are known here: those of RFC 9110, and 308, 425, 428, 429, 431,
/// 451, 511 of their own RFCs. The 1xx are never final; 304 is never stored.
const fn is_understood(status: u16) -> bool {
    matches!(status, 200..=206 | 300..=303 | 305..=308 | 400..=417 | 421 | 422 | 425 | 426 | 428 | 429 | 431 | 451 | 500..=505 | 511)
}

/// Whether a 206 is one part, as long as it says.
fn is_whole_part(head: Head<'_>, reply: &Reply<'_>) -> bool {
    head.completeness != Completeness::Complete
        && (reply.content_length.is_none() || reply.content_length == head.expected_length())
        && stored::content_range(reply).is_some()
}

/// Whether the stored response could ever answer anything: by being fresh, by being validated, or by being
/// served stale.
fn is_useful(head: Head<'_>, terms: &Terms<'_>) -> Result<(), Reason> {
    if validation::has_validator(head) {
        return Ok(());
    }
    let directives = &head.facts.directives;
    if directives.no_cache.is_whole() && !is_forced(head, terms) {
        return Err(Reason::NoCache);
    }
    let window = |delta: Option<Delta>| delta.is_some_and(|delta| delta.millis() > 0);
    let stale = window(directives.stale_while_revalidate) || window(directives.stale_if_error);
    if freshness(head, terms).lifetime > 0 || stale { Ok(()) } else { Err(Reason::NoFreshness) }
}

/// The head to store a response to POST under, as the response to GET of the same target: "if it includes
/// explicit freshness information ... and a Content-Location header field that has the same value as the
/// POST's target URI". RFC 9110 section 9.3.3. To be stored after the POST has invalidated the target.
pub fn post_stores(
    facts: &RequestFacts<'_>,
    target: &Target,
    reply: &Reply<'_>,
    terms: &Terms<'_>,
) -> Option<Box<StoredHead>> {
    let successful = reply.status.is_success() && reply.status != StatusCode::PARTIAL_CONTENT;
    if *facts.method != Method::POST || !successful || facts.cache_control.no_store || facts.upgrade {
        return None;
    }
    if terms.rule.and_then(|rule| rule.cache) == Some(false) {
        return None;
    }
    let mut locations = reply.headers.get_all(header::CONTENT_LOCATION).iter();
    let (Some(location), None) = (locations.next(), locations.next()) else { return None };
    if target.resolve(location.as_bytes()).as_ref() != Some(target) {
        return None;
    }
    let head = checked(facts, reply, terms).ok()?;
    let explicit = has_explicit(&head.facts) && lifetime(&head.facts, terms).0 > 0;
    explicit.then(|| Box::new(head))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::policy::rules::{Override, Rule};
    use crate::policy::testing::{World, headers, reply};
    use crate::policy::{Asked, Verdict, verdict};

    /// Why a response is not stored; `None` if it is.
    #[track_caller]
    fn check(request: &[(&str, &str)], status: u16, response: &[(&str, &str)], expected: Option<Reason>) {
        check_in(&World::default(), request, status, response, expected);
    }

    #[track_caller]
    fn check_in(
        world: &World,
        request: &[(&str, &str)],
        status: u16,
        response: &[(&str, &str)],
        expected: Option<Reason>,
    ) {
        let found = match world.judge(request, status, response) {
            Verdict::Store(_) => None,
            Verdict::PassThrough(reason) => Some(reason),
            other => panic!("{other:?}"),
        };
        assert_eq!(found, expected, "{request:?} {status} {response:?}");
    }

    const FRESH: (&str, &str) = ("cache-control", "max-age=100000");

    #[test]
    fn any_final_status_is_stored_with_explicit_freshness() {
        for status in [
            200, 203, 204, 299, 301, 302, 303, 307, 308, 400, 404, 410, 412, 416, 417, 499, 500, 502, 503,
            504, 599,
        ] {
            check(&[], status, &[FRESH], None);
            check(&[], status, &[("expires", "@60"), ("date", "@0")], None);
        }
    }

    #[test]
    fn without_freshness_a_status_must_be_heuristically_cacheable() {
        let fields = [("date", "@0"), ("last-modified", "@-86400")];
        for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 451, 501] {
            check(&[], status, &fields, None);
        }
        for status in [201, 202, 302, 303, 307, 400, 401, 403, 429, 500, 502, 503, 504, 599] {
            check(&[], status, &fields, Some(Reason::Status));
            check(&[], status, &[fields[0], fields[1], ("cache-control", "public")], None);
        }
    }

    #[test]
    fn what_could_never_answer_anything_is_not_stored() {
        check(&[], 200, &[], Some(Reason::NoFreshness));
        check(&[], 200, &[("cache-control", "max-age=0")], Some(Reason::NoFreshness));
        check(&[], 200, &[("etag", "\"a\"")], None);
        check(&[], 200, &[("last-modified", "@-9"), ("cache-control", "max-age=0")], None);
        check(&[], 404, &[("etag", "\"a\"")], Some(Reason::NoFreshness));
        check(&[], 200, &[("cache-control", "max-age=0, stale-while-revalidate=60")], None);
        check(&[], 200, &[("cache-control", "max-age=1500"), ("age", "2000")], None);
    }

    #[test]
    fn no_store_and_private_forbid_in_any_letter_case_and_form() {
        for (value, reason) in [
            ("no-store", Reason::NoStore),
            ("No-StOrE", Reason::NoStore),
            ("max-age=10000, no-store", Reason::NoStore),
            ("private, max-age=3600", Reason::Private),
            ("PRIVATE, max-age=3600", Reason::Private),
            ("private=\"x\", max-age=3600", Reason::Private),
        ] {
            check(&[], 200, &[("cache-control", value), ("expires", "@10000"), ("date", "@0")], Some(reason));
        }
        check(&[], 200, &[FRESH, ("cache-control", "no-store")], Some(Reason::NoStore));
        let unclosed = [("cache-control", "max-age=3600, ext=\"abc, no-store")];
        check(&[], 200, &unclosed, Some(Reason::NoStore));
        check(&[], 200, &[("cache-control", "max-age=3600, ext=\"abc, no-store\"")], None);
    }

    #[test]
    fn no_cache_is_stored_to_be_validated() {
        check(&[], 200, &[("cache-control", "no-cache"), ("etag", "\"a\"")], None);
        check(&[], 200, &[("cache-control", "no-cache, max-age=9")], Some(Reason::NoCache));
        check(&[], 200, &[("cache-control", "no-cache=\"a\", max-age=9")], None);
    }

    #[test]
    fn must_understand_overrides_no_store_where_the_status_is_understood() {
        let fields = [("cache-control", "max-age=3600, no-store, must-understand")];
        check(&[], 200, &fields, None);
        check(&[], 404, &fields, None);
        check(&[], 599, &fields, Some(Reason::MustUnderstand));
        check(&[], 299, &fields, Some(Reason::MustUnderstand));
        check(&[], 599, &[("cache-control", "max-age=3600, must-understand")], Some(Reason::MustUnderstand));
        check(
            &[],
            200,
            &[("cache-control", "max-age=3600, no-store, must-understand, private")],
            Some(Reason::Private),
        );
    }

    #[test]
    fn authorization_needs_public_must_revalidate_or_s_maxage() {
        let request = [("authorization", "FOO")];
        check(&request, 200, &[FRESH], Some(Reason::Authorization));
        for value in ["max-age=3600, public", "max-age=3600, must-revalidate", "s-maxage=3600"] {
            check(&request, 200, &[("cache-control", value)], None);
        }
        check(
            &request,
            200,
            &[("cache-control", "s-maxage=x"), ("etag", "\"a\"")],
            Some(Reason::Authorization),
        );
        check(&request, 200, &[("cache-control", "private, public, max-age=9")], Some(Reason::Private));
    }

    #[test]
    fn set_cookie_needs_public_or_s_maxage_unless_told_otherwise() {
        let cookie = ("set-cookie", "a=b");
        check(&[], 200, &[FRESH, cookie], Some(Reason::SetCookie));
        check(&[], 200, &[("cache-control", "max-age=9, public"), cookie], None);
        check(&[], 200, &[("cache-control", "s-maxage=9"), cookie], None);
        check_in(&World::rfc9111(), &[], 200, &[FRESH, cookie], None);
        let ruled = World::ruled(Rule { set_cookie: Some(SetCookie::Rfc9111), ..Rule::default() });
        check_in(&ruled, &[], 200, &[FRESH, cookie], None);
        check(&[("cookie", "a=b")], 200, &[FRESH], None);
    }

    #[test]
    fn what_the_request_forbids_is_not_stored() {
        check(&[("cache-control", "no-store")], 200, &[FRESH], Some(Reason::RequestNoStore));
        check(&[("upgrade", "x")], 200, &[FRESH], Some(Reason::Upgrade));
        let (none, fields) = (HeaderMap::new(), headers(&[FRESH]));
        let world = World::default();
        let ask = |method: &Method, content| {
            let facts = RequestFacts::of(method, &none, content);
            verdict(&facts, Asked::Plain, &reply(0, 200, &fields), &world.terms(0))
        };
        assert_eq!(ask(&Method::GET, true), Verdict::PassThrough(Reason::RequestContent));
        for method in ["HEAD", "POST", "PUT", "OPTIONS", "get", "FOO"] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(ask(&method, false), Verdict::PassThrough(Reason::Method), "{method}");
        }
        let ruled = World::ruled(Rule { cache: Some(false), ..Rule::default() });
        check_in(&ruled, &[], 200, &[FRESH], Some(Reason::Rule));
    }

    #[test]
    fn what_a_condition_or_range_brought_about_does_not_stand_for_the_resource() {
        check(&[("if-match", "\"a\"")], 412, &[FRESH], Some(Reason::Status));
        check(&[("range", "bytes=9-")], 416, &[FRESH], Some(Reason::Status));
        check(&[("expect", "x")], 417, &[FRESH], Some(Reason::Status));
        check(&[("if-none-match", "\"a\"")], 304, &[FRESH], Some(Reason::NotModified));
        check(&[("if-none-match", "\"a\"")], 200, &[FRESH], None);
    }

    #[test]
    fn ambiguous_framing_is_never_stored_and_close_delimited_by_choice() {
        let (none, fields) = (HeaderMap::new(), headers(&[FRESH]));
        let facts = RequestFacts::of(&Method::GET, &none, false);
        let mut world = World::default();
        let ambiguous = Reply { framing_ok: false, ..reply(0, 200, &fields) };
        let found = verdict(&facts, Asked::Plain, &ambiguous, &world.terms(0));
        assert_eq!(found, Verdict::PassThrough(Reason::Framing));
        let closing = Reply { close_delimited: true, ..reply(0, 200, &fields) };
        assert!(matches!(verdict(&facts, Asked::Plain, &closing, &world.terms(0)), Verdict::Store(_)));
        world.options.store_close_delimited = false;
        let found = verdict(&facts, Asked::Plain, &closing, &world.terms(0));
        assert_eq!(found, Verdict::PassThrough(Reason::Framing));
    }

    #[test]
    fn everything_is_stored_verbatim_but_hop_by_hop_fields() {
        let kept = [
            FRESH,
            ("date", "@0"),
            ("content-encoding", "unknown"),
            ("content-range", "ananananananana"),
            ("content-security-policy", "default-src 'self'"),
            ("content-md5", "x=="),
            ("set-cookie", "a=b"),
            ("set-cookie", "c=d"),
            ("set-cookie2", "a=c"),
            ("x-test", ""),
            ("clear-site-data", "cookies"),
            ("warning", "110 - x"),
            ("via", "1.1 a"),
        ];
        let mut all = kept.to_vec();
        for name in [
            "connection",
            "keep-alive",
            "proxy-connection",
            "te",
            "transfer-encoding",
            "upgrade",
            "proxy-authenticate",
            "proxy-authentication-info",
            "proxy-authorization",
        ] {
            all.push((name, "x"));
        }
        assert_eq!(World::rfc9111().stored(&[], 200, &all).fields().to_map(0), headers(&kept));
    }

    #[test]
    fn a_missing_date_is_that_of_receipt() {
        let head = World::default().stored(&[], 200, &[FRESH]);
        assert_eq!(head.fields().to_map(0), headers(&[FRESH, ("date", "@0")]));
        let head = World::default().stored(&[], 200, &[FRESH, ("date", "foo")]);
        assert_eq!(head.fields().to_map(0), headers(&[FRESH, ("date", "foo")]));
    }

    #[test]
    fn a_rule_may_force_storing_but_not_past_authorization_cookies_or_vary() {
        let wanted = Override { force: Some(60_000), ..Override::default() };
        let world = World::ruled(Rule { freshness: vec![wanted], ..Rule::default() });
        for value in ["no-store", "private", "no-cache", "no-store, private, no-cache, max-age=0"] {
            check_in(&world, &[], 200, &[("cache-control", value)], None);
        }
        check_in(&world, &[], 200, &[], None);
        check_in(&world, &[], 302, &[], Some(Reason::Status));
        check_in(&world, &[("authorization", "x")], 200, &[], Some(Reason::Authorization));
        check_in(&world, &[], 200, &[("set-cookie", "a=b")], Some(Reason::SetCookie));
        check_in(&world, &[], 200, &[("vary", "*")], Some(Reason::VaryStar));
        let wanted = Override { min: Some(60_000), status: vec![302], ..Override::default() };
        let world = World::ruled(Rule { freshness: vec![wanted], ..Rule::default() });
        check_in(&world, &[], 302, &[], None);
        check_in(&world, &[], 302, &[("cache-control", "no-store")], Some(Reason::NoStore));
    }

    #[track_caller]
    fn check_post(request: &[(&str, &str)], status: u16, response: &[(&str, &str)], stored: bool) {
        let target = Target::absolute(&"http://example.com/a/b?c".parse().unwrap()).unwrap();
        let (request, response) = (headers(request), headers(response));
        let facts = RequestFacts::of(&Method::POST, &request, true);
        let world = World::default();
        let found = post_stores(&facts, &target, &reply(0, status, &response), &world.terms(0));
        assert_eq!(found.is_some(), stored, "{request:?} {status} {response:?}");
    }

    #[test]
    fn post_is_stored_as_get_when_content_location_is_its_target() {
        let here = ("content-location", "/a/b?c");
        check_post(&[], 200, &[FRESH, here], true);
        check_post(&[], 201, &[FRESH, here], true);
        check_post(&[], 200, &[FRESH, ("content-location", "http://EXAMPLE.com:80/a/b?c")], true);
        check_post(&[], 200, &[FRESH, ("content-location", "b?c")], true);
        for elsewhere in
            ["/a/b", "/a/b?d", "http://example.org/a/b?c", "https://example.com/a/b?c", "//x/a/b?c"]
        {
            check_post(&[], 200, &[FRESH, ("content-location", elsewhere)], false);
        }
        check_post(&[], 200, &[FRESH], false);
        check_post(&[], 200, &[FRESH, here, here], false);
        check_post(&[], 200, &[here, ("date", "@0"), ("last-modified", "@-1000")], false);
        check_post(&[], 200, &[here, ("cache-control", "max-age=0"), ("etag", "\"a\"")], false);
        check_post(&[], 200, &[here, ("cache-control", "no-store, max-age=9")], false);
        check_post(&[], 206, &[FRESH, here, ("content-range", "bytes 0-1/2")], false);
        check_post(&[], 303, &[FRESH, here], false);
        check_post(&[], 500, &[FRESH, here], false);
        check_post(&[("cache-control", "no-store")], 200, &[FRESH, here], false);
        check_post(&[("authorization", "x")], 200, &[FRESH, here], false);
    }

    #[test]
    fn only_post_is() {
        let target = Target::absolute(&"http://example.com/".parse().unwrap()).unwrap();
        let (none, response) = (HeaderMap::new(), headers(&[FRESH, ("content-location", "/")]));
        for method in [Method::PUT, Method::GET, Method::PATCH] {
            let facts = RequestFacts::of(&method, &none, true);
            assert!(
                post_stores(&facts, &target, &reply(0, 200, &response), &World::default().terms(0)).is_none()
            );
        }
    }
}
