//! Updating a stored response by a 304 or by a HEAD response: RFC 9111 sections 3.2, 4.3.4 and 4.3.5.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::stored::{Received, received_date};
use super::{FieldLines, Fields, Head, HeadEffect, Reason, Reply, RequestFacts, StoredHead, Terms, Verdict};
use super::{storable, validation};
use crate::field::etag::weak_match;
use crate::field::{list::digits, treatment};

/// A 304 that names `stored`: the head it makes of it, and whether that may be kept.
pub(crate) fn not_modified(
    facts: &RequestFacts<'_>,
    stored: Head<'_>,
    reply: &Reply<'_>,
    terms: &Terms<'_>,
) -> Verdict {
    let mut updated = update(facts, stored, reply, terms, true);
    let shares = storable::allows_set_cookie(&updated.head.facts.directives, terms);
    // Cookies that were stored may be shared no longer: from here on nobody gets them.
    let exposes = !shares && stored.fields().contains(&header::SET_COOKIE);
    let mut only_here = HeaderMap::new();
    if !shares {
        for cookie in reply.headers.get_all(header::SET_COOKIE) {
            only_here.append(header::SET_COOKIE, cookie.clone());
        }
    }
    if exposes {
        let mut fields =
            updated.head.fields().to_map_where(only_here.len(), |name| *name != header::SET_COOKIE);
        fields.extend(only_here.clone());
        updated.head.fields = Fields::from_map(&fields, |_| true);
    }
    let once =
        |head: StoredHead, reason, remove| Verdict::FreshenOnce { head: Box::new(head), reason, remove };
    let forbidden = updated.selectable.and_then(|()| storable::forbidden(updated.head.view(), terms));
    if let Err(reason) = forbidden {
        return once(updated.head, reason, true);
    }
    if facts.authorization && !storable::allows_authorization(&updated.head.facts.directives) {
        return once(updated.head, Reason::Authorization, exposes);
    }
    if exposes {
        return once(updated.head, Reason::SetCookie, true);
    }
    if only_here.is_empty() {
        return Verdict::Freshen { head: Box::new(updated.head), only_here };
    }
    Verdict::Freshen { head: Box::new(update(facts, stored, reply, terms, false).head), only_here }
}

/// What a response to HEAD does to the stored response that the request selects
/// ([`selected`](super::selected)). `stored_length` is the length of its body in bytes.
pub fn head_effect(
    facts: &RequestFacts<'_>,
    stored: Head<'_>,
    stored_length: u64,
    reply: &Reply<'_>,
    terms: &Terms<'_>,
) -> HeadEffect {
    if !facts.is_head() || !reply.framing_ok {
        return HeadEffect::None;
    }
    match reply.status {
        StatusCode::GONE => return HeadEffect::MarkStale,
        StatusCode::OK => {}
        _ => return HeadEffect::None,
    }
    if stored.status != StatusCode::OK || !agrees(stored, stored_length, reply.headers) {
        return HeadEffect::MarkStale;
    }
    // Its cookies are its requester's, unless what it says now lets all have them.
    let mut updated = update(facts, stored, reply, terms, true);
    let shares = storable::allows_set_cookie(&updated.head.facts.directives, terms);
    if !shares {
        updated = update(facts, stored, reply, terms, false);
    }
    let exposes = !shares && updated.head.fields().contains(&header::SET_COOKIE);
    if exposes || updated.selectable.is_err() || storable::forbidden(updated.head.view(), terms).is_err() {
        return HeadEffect::MarkStale;
    }
    if facts.authorization && !storable::allows_authorization(&updated.head.facts.directives) {
        return HeadEffect::None;
    }
    HeadEffect::Freshen(Box::new(updated.head))
}

/// "matching values for any received validator fields (`ETag` and Last-Modified) and, if the HEAD response has a
/// Content-Length header field, the value of Content-Length matches that of the stored response".
fn agrees(stored: Head<'_>, stored_length: u64, reply: &HeaderMap) -> bool {
    let tag = reply.get(header::ETAG).is_none_or(|tag| {
        validation::entity_tag(stored).is_some_and(|known| weak_match(known, tag.as_bytes()))
    });
    let modified = reply
        .get(header::LAST_MODIFIED)
        .is_none_or(|value| stored.fields().bytes(&header::LAST_MODIFIED) == Some(value.as_bytes()));
    let known = stored.completeness.complete_length(Some(stored_length));
    let length = match (reply.get(header::CONTENT_LENGTH), known) {
        (Some(value), Some(known)) => digits(value.as_bytes()) == Some(known),
        _ => true,
    };
    tag && modified && length
}

struct Updated {
    head: StoredHead,
    /// Whether its Vary still lets requests select it.
    selectable: Result<(), Reason>,
}

fn update(
    facts: &RequestFacts<'_>,
    stored: Head<'_>,
    reply: &Reply<'_>,
    terms: &Terms<'_>,
    cookies: bool,
) -> Updated {
    let date = received_date(reply.headers, reply.response_time);
    // A tag that is ours but for the mark of weakness says nothing new about the stored bytes.
    let keeps_tag = validation::entity_tag(stored).is_some();
    let fields = replaced(stored.fields(), reply.headers, date.as_ref(), |name| {
        treatment::replaced_by_304(name)
            && *name != header::AGE
            && (cookies || *name != header::SET_COOKIE)
            && !(keeps_tag && *name == header::ETAG)
    });
    let received = Received::of(reply, stored.facts.received_status);
    match stored.updated(fields.clone(), &received, facts.headers, terms) {
        Some(head) => Updated { head, selectable: Ok(()) },
        None => {
            Updated { head: stored.with_fields(fields, &received, terms), selectable: Err(Reason::VaryStar) }
        }
    }
}

/// Stored fields with all lines of each name that `new` has (and `takes` takes) replaced by the new ones, `date` among
/// them where there is one. What `new` does not have stays.
pub(crate) fn replaced(
    stored: FieldLines<'_>,
    new: &HeaderMap,
    date: Option<&HeaderValue>,
    takes: impl Fn(&HeaderName) -> bool,
) -> Fields {
    let new_lines = new.iter().chain(date.map(|date| (&header::DATE, date)));
    let replaces = |name: &HeaderName| {
        (new.contains_key(name) || (date.is_some() && *name == header::DATE)) && takes(name)
    };
    let added = new_lines.filter(|(name, _)| takes(name)).map(|(name, value)| (name, value.as_bytes()));
    stored.replaced(|name| !replaces(name), added)
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::policy::rules::{Override, Rule};
    use crate::policy::testing::{World, headers, reply};
    use crate::policy::{Asked, Selected, freshness};

    const BASE: &[(&str, &str)] = &[("date", "@0"), ("cache-control", "max-age=2"), ("etag", "\"a\"")];

    fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let mut all = BASE.to_vec();
        all.extend(more);
        all
    }

    /// The fields after a 304 with `new` for a stored response with `old`, both besides the basic ones.
    #[track_caller]
    fn check(world: &World, old: &[(&str, &str)], new: &[(&str, &str)], expected: &[(&str, &str)]) {
        let stored = world.stored(&[], 200, &with(old));
        let mut reply = vec![("date", "@3")];
        reply.extend(new);
        let found = world.judge_asked(&[], Asked::Validation(stored.view()), 3, 304, &reply);
        let Verdict::Freshen { head, .. } = found else { panic!("{found:?}") };
        let mut sought = vec![("date", "@3"), ("etag", "\"a\"")];
        if !new.iter().any(|(name, _)| *name == "cache-control") {
            sought.push(("cache-control", "max-age=2"));
        }
        sought.extend(expected);
        assert_eq!(head.fields().to_map(0), headers(&sought), "{old:?} {new:?}");
        assert_eq!((head.status, head.response_delay, head.response_time.unix()), {
            let at = crate::policy::testing::moment(3);
            (stored.status, 0, at.unix())
        });
    }

    #[test]
    fn what_a_304_has_replaces_all_lines_and_what_it_omits_stays() {
        let world = World::rfc9111();
        check(&world, &[("x-a", "1")], &[], &[("x-a", "1")]);
        check(&world, &[("x-a", "1"), ("x-b", "2")], &[("x-a", "3")], &[("x-b", "2"), ("x-a", "3")]);
        check(&world, &[("x-a", "1"), ("x-a", "2")], &[("x-a", "3")], &[("x-a", "3")]);
        check(&world, &[("x-a", "1")], &[("x-a", "3"), ("x-a", "4")], &[("x-a", "3"), ("x-a", "4")]);
        check(&world, &[], &[("x-new", "1")], &[("x-new", "1")]);
        for name in [
            "content-foo",
            "content-type",
            "content-location",
            "content-md5",
            "set-cookie",
            "expires",
            "x-frame-options",
        ] {
            check(&world, &[(name, "1")], &[(name, "2")], &[(name, "2")]);
        }
        let longer = ("cache-control", "max-age=3600");
        check(&world, &[], &[longer], &[longer]);
    }

    #[test]
    fn what_describes_the_stored_bytes_is_never_replaced() {
        let world = World::default();
        for name in ["content-length", "content-encoding", "content-range"] {
            check(&world, &[(name, "36")], &[(name, "10")], &[(name, "36")]);
            check(&world, &[], &[(name, "10")], &[]);
        }
        check(&world, &[], &[("etag", "W/\"a\"")], &[]);
        check(&world, &[], &[("etag", "\"a\""), ("connection", "x"), ("keep-alive", "x"), ("te", "x")], &[]);
    }

    #[test]
    fn age_starts_anew_from_the_304() {
        let world = World::default();
        let stored = world.stored(&[], 200, &with(&[("age", "1000")]));
        for (fields, expected) in [
            (&[("date", "@3")][..], 0),
            (&[], 0),
            (&[("date", "@3"), ("age", "7")], 7_000),
            (&[("date", "@-2")], 5_000),
        ] {
            let found = world.judge_asked(&[], Asked::Validation(stored.view()), 3, 304, fields);
            let Verdict::Freshen { head, .. } = found else { panic!("{found:?}") };
            assert_eq!(freshness(head.view(), &world.terms(3)).current_age, expected, "{fields:?}");
            assert!(head.fields().contains(&header::DATE) && !head.fields().contains(&header::AGE));
        }
    }

    #[test]
    fn a_304_that_forbids_goes_to_its_requester_and_takes_the_stored_response_along() {
        let world = World::default();
        let stored = world.stored(&[], 200, &with(&[]));
        let ask = |world: &World, request: &[(&str, &str)], fields: &[(&str, &str)]| {
            world.judge_asked(request, Asked::Validation(stored.view()), 3, 304, fields)
        };
        for (fields, expected) in [
            (("cache-control", "private"), Reason::Private),
            (("cache-control", "max-age=9, No-Store"), Reason::NoStore),
            (("vary", "*"), Reason::VaryStar),
        ] {
            let found = ask(&world, &[], &[fields, ("set-cookie", "a=b")]);
            let Verdict::FreshenOnce { head, reason, remove } = found else { panic!("{found:?}") };
            assert_eq!((reason, remove), (expected, true));
            assert!(head.fields().contains(&header::SET_COOKIE), "its requester gets all of it");
        }
        let found = ask(&world, &[("authorization", "x")], &[]);
        assert!(matches!(found, Verdict::FreshenOnce { reason: Reason::Authorization, remove: false, .. }));
        let found = ask(&world, &[("authorization", "x")], &[("cache-control", "max-age=9, public")]);
        assert!(matches!(found, Verdict::Freshen { .. }));
        let wanted = Override { force: Some(60_000), ..Override::default() };
        let forced = World::ruled(Rule { freshness: vec![wanted], ..Rule::default() });
        assert!(matches!(ask(&forced, &[], &[("cache-control", "private")]), Verdict::Freshen { .. }));
    }

    #[test]
    fn set_cookie_in_a_304_is_for_its_requester_alone() {
        let kept = with(&[("x-a", "1")]);
        let cookie = ("set-cookie", "a=b");
        let ask = |world: &World, fields: &[(&str, &str)]| {
            let stored = world.stored(&[], 200, &kept);
            match world.judge_asked(&[], Asked::Validation(stored.view()), 3, 304, fields) {
                Verdict::Freshen { head, only_here } => {
                    (head.fields().contains(&header::SET_COOKIE), only_here)
                }
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(ask(&World::default(), &[cookie]), (false, headers(&[cookie])));
        assert_eq!(ask(&World::default(), &[cookie, ("cache-control", "public")]), (true, HeaderMap::new()));
        assert_eq!(ask(&World::rfc9111(), &[cookie]), (true, HeaderMap::new()));
    }

    #[test]
    fn stored_cookies_are_shared_only_as_long_as_the_origin_lets_them_be() {
        let world = World::default();
        let cookie = ("set-cookie", "a=b");
        let stored =
            world.stored(&[], 200, &[BASE[0], ("cache-control", "max-age=2, public"), BASE[2], cookie]);
        let ask = |fields: &[(&str, &str)]| {
            world.judge_asked(&[], Asked::Validation(stored.view()), 3, 304, fields)
        };
        assert!(matches!(ask(&[]), Verdict::Freshen { .. }));
        for (fields, cookies) in [
            (&[("cache-control", "max-age=2")][..], vec![]),
            (&[("cache-control", "max-age=2"), ("set-cookie", "c=d")], vec!["c=d"]),
        ] {
            let Verdict::FreshenOnce { head, reason, remove } = ask(fields) else { panic!("{fields:?}") };
            assert_eq!((reason, remove), (Reason::SetCookie, true));
            assert_eq!(head.fields().get_all(&header::SET_COOKIE).collect::<Vec<_>>(), cookies);
        }
        // Whatever else keeps the answer to its requester, he gets no one else's cookie.
        for (request, control, expected) in [
            (&[][..], "private", Reason::Private),
            (&[("authorization", "x")], "max-age=2", Reason::Authorization),
        ] {
            let asked = Asked::Validation(stored.view());
            let found = world.judge_asked(request, asked, 3, 304, &[("cache-control", control)]);
            let Verdict::FreshenOnce { head, reason, remove } = found else { panic!("{found:?}") };
            assert_eq!((reason, remove), (expected, true));
            assert!(!head.fields().contains(&header::SET_COOKIE), "{control}");
        }
    }

    #[test]
    fn the_cookies_of_a_head_response_are_its_requesters() {
        let public = [BASE[0], ("cache-control", "max-age=2, public"), BASE[2]];
        let cookie = ("set-cookie", "user=alice");
        let cookies = |effect| match effect {
            HeadEffect::Freshen(head) => head.fields().contains(&header::SET_COOKIE),
            other => panic!("{other:?}"),
        };
        // Judged by what it says itself, not by what the stored response said.
        assert!(!cookies(check_head(&public, 200, &[("cache-control", "max-age=9"), cookie], "freshen")));
        assert!(!cookies(check_head(BASE, 200, &[cookie], "freshen")));
        assert!(cookies(check_head(BASE, 200, &[("cache-control", "max-age=9, public"), cookie], "freshen")));
        let with_cookie = [public[0], public[1], public[2], ("set-cookie", "a=b")];
        check_head(&with_cookie, 200, &[("cache-control", "max-age=9")], "mark");
    }

    #[test]
    fn a_304_that_changes_vary_is_selected_by_the_request_it_answers() {
        let world = World::default();
        let stored = world.stored(&[("foo", "1")], 200, &with(&[]));
        let found =
            world.judge_asked(&[("foo", "1")], Asked::Validation(stored.view()), 3, 304, &[("vary", "foo")]);
        let Verdict::Freshen { head, .. } = found else { panic!("{found:?}") };
        assert!(
            head.selecting
                .matches(head.fields(), &mut Selected::by(&headers(&[("foo", "1")]), &world.options))
        );
        assert!(
            !head
                .selecting
                .matches(head.fields(), &mut Selected::by(&headers(&[("foo", "2")]), &world.options))
        );
    }

    /// What a HEAD response does to a stored response of 36 bytes.
    #[track_caller]
    fn check_head(old: &[(&str, &str)], status: u16, new: &[(&str, &str)], expected: &str) -> HeadEffect {
        let world = World::default();
        let stored = world.stored(&[], 200, old);
        let (request, new) = (headers(&[]), headers(new));
        let facts = RequestFacts::of(&Method::HEAD, &request, false);
        let found = head_effect(&facts, stored.view(), 36, &reply(3, status, &new), &world.terms(3));
        let effect = match found {
            HeadEffect::None => "none",
            HeadEffect::Freshen(_) => "freshen",
            HeadEffect::MarkStale => "mark",
        };
        assert_eq!(effect, expected, "{old:?} {status} {new:?}");
        found
    }

    #[test]
    fn a_head_response_freshens_where_validators_and_length_agree() {
        let old = with(&[("last-modified", "@-9"), ("x-a", "1")]);
        let fresh = ("cache-control", "max-age=1000");
        check_head(&old, 200, &[fresh], "freshen");
        check_head(
            &old,
            200,
            &[fresh, ("etag", "\"a\""), ("last-modified", "@-9"), ("content-length", "36")],
            "freshen",
        );
        let HeadEffect::Freshen(head) =
            check_head(&old, 200, &[fresh, ("x-a", "2"), ("content-length", "36")], "freshen")
        else {
            panic!()
        };
        assert_eq!(head.fields().get_all(&http::HeaderName::from_static("x-a")).collect::<Vec<_>>(), ["2"]);
        assert_eq!(freshness(head.view(), &World::default().terms(3)).lifetime, 1_000_000);
        assert!(!head.fields().contains(&header::CONTENT_LENGTH));
    }

    #[test]
    fn a_head_response_that_differs_marks_the_stored_response_stale() {
        let old = with(&[("last-modified", "@-9")]);
        check_head(&old, 200, &[("etag", "\"b\"")], "mark");
        check_head(&old, 200, &[("last-modified", "@-8")], "mark");
        check_head(&old, 200, &[("content-length", "37")], "mark");
        check_head(&BASE[..2], 200, &[("etag", "\"a\"")], "mark");
        check_head(&old, 200, &[("cache-control", "no-store")], "mark");
        check_head(&old, 410, &[], "mark");
    }

    #[test]
    fn other_answers_to_head_do_nothing() {
        for status in [204, 206, 301, 304, 404, 500] {
            check_head(BASE, status, &[("etag", "\"b\"")], "none");
        }
        let world = World::default();
        let stored = world.stored(&[], 200, BASE);
        let (request, new) = (headers(&[("authorization", "x")]), headers(&[]));
        let facts = RequestFacts::of(&Method::HEAD, &request, false);
        let found = head_effect(&facts, stored.view(), 36, &reply(3, 200, &new), &world.terms(3));
        assert_eq!(found, HeadEffect::None);
        let facts = RequestFacts::of(&Method::GET, &new, false);
        assert_eq!(
            head_effect(&facts, stored.view(), 36, &reply(3, 410, &new), &world.terms(3)),
            HeadEffect::None
        );
    }
}
