//! Validation at the origin: the condition that goes out, and what comes back. RFC 9111 sections 4.3.1 and
//! 4.3.3.

use http::{HeaderMap, StatusCode, header};

use super::request::MethodKind;
use super::{Asked, Candidate, Head, Reason, Reply, RequestFacts, Terms, Verdict};
use super::{freshen, partial, precondition, stale, storable};
use crate::field::etag::{is_strong, strong_match, weak_match};

/// The entity tag of a stored response, as it was received.
pub(crate) fn entity_tag(head: Head<'_>) -> Option<&[u8]> {
    head.fields().bytes(&header::ETAG).filter(|tag| !tag.is_empty())
}

/// Whether a stored response can be validated: with an entity tag or Last-Modified that is not empty, and a 2xx.
/// Of another status a 304 would say nothing: "a server MUST ignore all received preconditions if its response ... would
/// have been a status code other than a 2xx", so a 304 would be about what has taken its place since.
pub fn has_validator(head: Head<'_>) -> bool {
    let modified = || head.fields().bytes(&header::LAST_MODIFIED).is_some_and(|value| !value.is_empty());
    head.status.is_success() && (entity_tag(head).is_some() || modified())
}

/// Makes outgoing fields ask whether `stored` is still the one: the client's conditions are replaced by ours,
/// "using the entity tag(s) and/or Last-Modified" as they were received. A range goes too, unless only a part
/// is stored: the answer to it is made from the validated response. Without a validator nothing is asked.
pub fn conditional(headers: &mut HeaderMap, stored: Head<'_>) {
    if stored.is_complete() {
        ask_for_the_whole(headers);
    } else {
        remove_conditions(headers);
    }
    if !has_validator(stored) {
        return;
    }
    for (condition, validator) in
        [(header::IF_NONE_MATCH, header::ETAG), (header::IF_MODIFIED_SINCE, header::LAST_MODIFIED)]
    {
        if let Some(value) = stored.fields().get(&validator).filter(|value| !value.is_empty()) {
            // A map that takes no more holds more fields than any origin reads.
            drop(headers.try_insert(condition, value));
        }
    }
}

fn remove_conditions(headers: &mut HeaderMap) {
    for name in
        [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE, header::IF_MATCH, header::IF_UNMODIFIED_SINCE]
    {
        headers.remove(name);
    }
}

/// Leaves a client's fields without its conditions and its range: what a fetch in the background asks is not for
/// that client, and its answer is judged by [`RequestFacts::refreshing`].
pub fn ask_for_the_whole(headers: &mut HeaderMap) {
    remove_conditions(headers);
    headers.remove(header::RANGE);
    headers.remove(header::IF_RANGE);
}

/// Which of the candidates a 304 to [`Plan::Fetch`](super::Plan::Fetch)'s `etags` names. RFC 9111 section
/// 4.3.4. Without an entity tag in it, the only one that was offered.
pub fn variant_by_etag<C: Candidate>(candidates: &[C], reply: &HeaderMap) -> Option<usize> {
    let offered = || {
        candidates.iter().enumerate().filter_map(|(index, candidate)| {
            let head = candidate.head();
            let tag = entity_tag(head).filter(|_| head.is_complete() && head.status.is_success())?;
            (!candidate.marked_stale()).then_some((index, tag))
        })
    };
    let Some(named) = reply.get(header::ETAG) else {
        let mut all = offered();
        return match (all.next(), all.next()) {
            (Some((only, _)), None) => Some(only),
            _ => None,
        };
    };
    let named = named.as_bytes();
    let exact = offered().find(|(_, tag)| strong_match(tag, named));
    exact.or_else(|| offered().find(|(_, tag)| weak_match(tag, named))).map(|(index, _)| index)
}

/// What to do with a response head from the origin. `facts` are the client's request.
pub fn verdict(facts: &RequestFacts<'_>, asked: Asked<'_>, reply: &Reply<'_>, terms: &Terms<'_>) -> Verdict {
    match (reply.status, asked) {
        (StatusCode::NOT_MODIFIED, asked) => not_modified(facts, asked, reply, terms),
        (StatusCode::PARTIAL_CONTENT, asked) => part(facts, asked, reply, terms),
        // The rest can't be had; the whole perhaps can.
        (StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::PRECONDITION_FAILED, Asked::Rest(_)) => {
            Verdict::Refetch
        }
        (status, Asked::Validation(stored)) => match stale::stale_on_status(facts, stored, status, terms) {
            Some(reason) => Verdict::ServeStale(reason),
            None => full(facts, reply, terms),
        },
        (_, Asked::Plain | Asked::Variants | Asked::Rest(_)) => full(facts, reply, terms),
    }
}

fn full(facts: &RequestFacts<'_>, reply: &Reply<'_>, terms: &Terms<'_>) -> Verdict {
    match storable::head_to_store(facts, reply, terms) {
        Ok(head) => Verdict::Store(head),
        Err(reason) => Verdict::PassThrough(reason),
    }
}

fn not_modified(facts: &RequestFacts<'_>, asked: Asked<'_>, reply: &Reply<'_>, terms: &Terms<'_>) -> Verdict {
    match asked {
        Asked::Validation(stored) if reply.framing_ok && names(stored, reply.headers) => {
            freshen::not_modified(facts, stored, reply, terms)
        }
        Asked::Validation(_) | Asked::Variants | Asked::Rest(_) => Verdict::Refetch,
        Asked::Plain if facts.has_conditions() => Verdict::PassThrough(Reason::NotModified),
        Asked::Plain => Verdict::Refuse(Reason::Unasked),
    }
}

/// Whether a 304 is about this stored response. "If the new response contains one or more strong validators
/// ... none of the stored responses contains at least one of the same strong validators, then the cache MUST
/// NOT use the new response to update any stored responses." A weak one has to be the same too; one that does not come
/// is the one that was sent.
fn names(stored: Head<'_>, reply: &HeaderMap) -> bool {
    if !has_validator(stored) {
        return false;
    }
    let last_modified = |same: bool| match reply.get(header::LAST_MODIFIED) {
        Some(named) => stored.fields().bytes(&header::LAST_MODIFIED) == Some(named.as_bytes()),
        None => same,
    };
    match (entity_tag(stored), reply.get(header::ETAG)) {
        // Marked as weak on one side only (a compressing origin does so), it is still the one that we named.
        (Some(stored), Some(named)) => weak_match(stored, named.as_bytes()),
        (Some(_), None) => last_modified(true),
        // Beside a strong tag that is not ours, a date of the second in which the response was made says nothing.
        (None, Some(named)) => {
            let is_weak = is_strong(named.as_bytes()) && !precondition::is_last_modified_strong(stored);
            !is_weak && last_modified(false)
        }
        (None, None) => last_modified(true),
    }
}

/// Whether an answer to the validation of a stored response, not stored itself for this reason, says that the stored
/// one is no longer what the origin has: "A full response ... indicates that none of the stored responses
/// nominated in the conditional request are suitable." Not where only this requester is told something else, nor
/// where the origin fails. RFC 9111 section 4.3.3.
pub fn outdates(facts: &RequestFacts<'_>, status: StatusCode, reason: Reason) -> bool {
    let full = status.is_success() && status != StatusCode::PARTIAL_CONTENT
        || status.is_redirection() && status != StatusCode::NOT_MODIFIED
        || matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE);
    let for_all = matches!(
        reason,
        Reason::NoStore
            | Reason::Private
            | Reason::NoCache
            | Reason::NoFreshness
            | Reason::Status
            | Reason::MustUnderstand
            | Reason::VaryStar
            | Reason::TooLarge
            | Reason::NoRoom
    );
    // Who shows who he is may be told what is his alone.
    full && for_all && !facts.authorization && !facts.cookie
}

fn part(facts: &RequestFacts<'_>, asked: Asked<'_>, reply: &Reply<'_>, terms: &Terms<'_>) -> Verdict {
    let sent_range = match asked {
        Asked::Plain => facts.range.is_some(),
        Asked::Validation(stored) => facts.range.is_some() && !stored.is_complete(),
        Asked::Rest(_) => true,
        Asked::Variants => false,
    };
    // HEAD and unknown methods: whatever it means, it goes to who asked.
    if !sent_range && facts.kind == MethodKind::Get {
        return Verdict::Refuse(Reason::Unasked);
    }
    let judged = storable::head_to_store(facts, reply, terms);
    match (asked, judged) {
        (Asked::Rest(stored), Ok(head)) => partial::combine(stored, head.view(), terms)
            .filter(|both| both.head.is_complete())
            .map_or(Verdict::Refetch, Verdict::Combine),
        (Asked::Rest(_), Err(_)) => Verdict::Refetch,
        (_, Ok(head)) => Verdict::Store(head),
        (_, Err(reason)) => Verdict::PassThrough(reason),
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::policy::testing::{World, headers};

    const FRESH: (&str, &str) = ("cache-control", "max-age=2");

    /// What of the client's fields goes out to validate such a stored response.
    #[track_caller]
    fn check(stored: &[(&str, &str)], status: u16, request: &[(&str, &str)], expected: &[(&str, &str)]) {
        let mut fields = stored.to_vec();
        fields.extend([("cache-control", "max-age=2"), ("vary", "abc")]);
        let head = World::default().stored(&[], status, &fields);
        let mut outgoing = headers(request);
        conditional(&mut outgoing, head.view());
        assert_eq!(outgoing, headers(expected), "{stored:?} {status} {request:?}");
    }

    #[test]
    fn validators_go_out_as_the_bytes_that_came() {
        check(&[("etag", "\"a\"")], 200, &[], &[("if-none-match", "\"a\"")]);
        check(&[("etag", "W/\"a\"")], 200, &[], &[("if-none-match", "W/\"a\"")]);
        check(&[("etag", "abcdef")], 200, &[], &[("if-none-match", "abcdef")]);
        let odd = "tue, 03 nov 2026 00:00:00 gmt";
        check(&[("last-modified", odd)], 200, &[], &[("if-modified-since", odd)]);
        check(
            &[("etag", "\"a\""), ("last-modified", "@-9")],
            200,
            &[],
            &[("if-none-match", "\"a\""), ("if-modified-since", "@-9")],
        );
        check(&[], 200, &[], &[]);
    }

    #[test]
    fn the_clients_conditions_and_range_make_way_and_its_other_fields_stay() {
        let conditions = [
            ("if-none-match", "\"x\""),
            ("if-modified-since", "@-9"),
            ("if-match", "\"x\""),
            ("if-unmodified-since", "@-9"),
            ("range", "bytes=0-1"),
            ("if-range", "\"x\""),
        ];
        let mut request = conditions.to_vec();
        request.extend([("abc", "123"), ("authorization", "FOO"), ("cookie", "a=b")]);
        let stay = [("abc", "123"), ("authorization", "FOO"), ("cookie", "a=b")];
        check(&[], 200, &request, &stay);
        let mut expected = stay.to_vec();
        expected.push(("if-none-match", "\"a\""));
        check(&[("etag", "\"a\"")], 200, &request, &expected);
    }

    #[test]
    fn the_range_stays_when_only_a_part_is_stored() {
        let world = World::default();
        let range = ("range", "bytes=0-4");
        let fields = [("content-range", "bytes 0-4/10"), ("etag", "\"a\""), FRESH];
        let head = world.stored(&[range], 206, &fields);
        let mut outgoing = headers(&[range]);
        conditional(&mut outgoing, head.view());
        assert_eq!(outgoing, headers(&[range, ("if-none-match", "\"a\"")]));
    }

    #[test]
    fn only_a_successful_response_is_validated() {
        for status in [301, 404, 410, 500] {
            check(&[("etag", "\"a\""), ("last-modified", "@-9")], status, &[("if-none-match", "\"x\"")], &[]);
        }
    }

    #[test]
    fn a_304_or_206_that_nothing_asked_for_reaches_nobody() {
        let world = World::default();
        assert_eq!(world.judge(&[], 304, &[("etag", "\"a\"")]), Verdict::Refuse(Reason::Unasked));
        let part = [("content-range", "bytes 0-4/10"), FRESH];
        assert_eq!(world.judge(&[], 206, &part), Verdict::Refuse(Reason::Unasked));
        let whole = world.stored(&[], 200, &[FRESH, ("etag", "\"a\"")]);
        let found =
            world.judge_asked(&[("range", "bytes=0-4")], Asked::Validation(whole.view()), 3, 206, &part);
        assert_eq!(found, Verdict::Refuse(Reason::Unasked));
        let asked = [("if-modified-since", "@0")];
        assert_eq!(world.judge(&asked, 304, &[]), Verdict::PassThrough(Reason::NotModified));
    }

    #[test]
    fn a_304_for_something_else_is_asked_again_without_conditions() {
        let world = World::default();
        let tagged = world.stored(&[], 200, &[FRESH, ("etag", "\"a\"")]);
        let dated = world.stored(&[], 200, &[FRESH, ("last-modified", "@-9")]);
        let young = world.stored(&[], 200, &[FRESH, ("last-modified", "@0")]);
        let bare = world.stored(&[], 200, &[FRESH]);
        let empty = world.stored(&[], 200, &[FRESH, ("last-modified", ""), ("etag", "")]);
        for (stored, fields, freshens) in [
            (&tagged, &[("etag", "\"a\"")][..], true),
            (&tagged, &[("etag", "W/\"a\"")], true),
            (&tagged, &[], true),
            (&tagged, &[("etag", "\"b\"")], false),
            (&tagged, &[("etag", "W/\"b\"")], false),
            (&tagged, &[("last-modified", "@-9")], false),
            (&dated, &[], true),
            (&dated, &[("last-modified", "@-9")], true),
            (&dated, &[("last-modified", "@-5")], false),
            (&dated, &[("etag", "\"b\"")], false),
            (&dated, &[("etag", "W/\"b\"")], false),
            (&dated, &[("etag", "b")], false),
            (&dated, &[("etag", "\"b\""), ("last-modified", "@-9")], true),
            (&young, &[("last-modified", "@0")], true),
            (&young, &[("etag", "W/\"b\""), ("last-modified", "@0")], true),
            (&young, &[("etag", "\"b\""), ("last-modified", "@0")], false),
            (&bare, &[], false),
            (&empty, &[], false),
            (&empty, &[("last-modified", "")], false),
        ] {
            let found = world.judge_asked(&[], Asked::Validation(stored.view()), 3, 304, fields);
            if freshens {
                assert!(matches!(found, Verdict::Freshen { .. }), "{stored:?} {fields:?} {found:?}");
            } else {
                assert_eq!(found, Verdict::Refetch, "{stored:?} {fields:?}");
            }
        }
        assert_eq!(world.judge_asked(&[], Asked::Variants, 3, 304, &[]), Verdict::Refetch);
    }

    #[test]
    fn a_304_on_a_mismatch_of_vary_names_one_of_the_variants() {
        let world = World::default();
        let variant =
            |foo, etag| world.stored(&[("foo", foo)], 200, &[("vary", "foo"), ("etag", etag), FRESH]);
        let variants = [variant("1", "\"a\""), variant("2", "\"b\"")];
        let named = |lines| variant_by_etag(&variants, &headers(lines));
        assert_eq!(named(&[("etag", "\"b\"")]), Some(1));
        assert_eq!(named(&[("etag", "W/\"b\"")]), Some(1));
        assert_eq!(named(&[("etag", "\"c\"")]), None);
        assert_eq!(named(&[]), None);
        assert_eq!(variant_by_etag(&variants[..1], &headers(&[])), Some(0));
        let found = world.judge_asked(
            &[("foo", "3")],
            Asked::Validation(variants[1].view()),
            3,
            304,
            &[("etag", "\"b\"")],
        );
        let Verdict::Freshen { head, .. } = found else { panic!("{found:?}") };
        assert_ne!(
            head.selecting, variants[1].selecting,
            "it answers the new request, as a variant of its own"
        );
    }

    #[test]
    fn a_full_answer_that_is_not_stored_outdates_what_was_validated() {
        for (status, reason, expected) in [
            (200, Reason::NoStore, true),
            (200, Reason::Private, true),
            (200, Reason::NoFreshness, true),
            (302, Reason::Status, true),
            (404, Reason::NoFreshness, true),
            (410, Reason::NoStore, true),
            (200, Reason::TooLarge, true),
            // Its requester alone is told something else.
            (200, Reason::Authorization, false),
            (200, Reason::SetCookie, false),
            (401, Reason::Status, false),
            (403, Reason::NoStore, false),
            (429, Reason::Status, false),
            // No full answer, or a failure.
            (206, Reason::NoStore, false),
            (304, Reason::NotModified, false),
            (500, Reason::NoStore, false),
            (503, Reason::Status, false),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let (nobody, somebody) = (headers(&[]), headers(&[("cookie", "a=b")]));
            let outdates =
                |headers| outdates(&RequestFacts::of(&Method::GET, headers, false), status, reason);
            assert_eq!(outdates(&nobody), expected, "{status} {reason:?}");
            assert!(!outdates(&somebody));
        }
    }

    #[test]
    fn another_answer_to_a_validation_is_judged_by_itself() {
        let world = World::default();
        let stored = world.stored(&[], 200, &[FRESH, ("etag", "\"a\"")]);
        let ask = |status, fields: &[(&str, &str)]| {
            world.judge_asked(&[], Asked::Validation(stored.view()), 3, status, fields)
        };
        assert!(matches!(ask(200, &[FRESH, ("etag", "\"b\"")]), Verdict::Store(_)));
        assert_eq!(ask(200, &[("cache-control", "no-store")]), Verdict::PassThrough(Reason::NoStore));
        assert_eq!(ask(403, &[]), Verdict::PassThrough(Reason::Status));
        assert!(matches!(ask(404, &[FRESH]), Verdict::Store(_)));
        let facts_headers = headers(&[]);
        assert_eq!(RequestFacts::of(&Method::GET, &facts_headers, false).kind, MethodKind::Get);
    }
}
