//! Which requests a stored response may answer, by the fields that its Vary names. RFC 9111 section 4.1.

use std::cell::OnceCell;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{FieldLines, Options};
use crate::field::cache_control::ALLOCATOR;
use crate::field::vary::{self, Vary};

/// The selecting fields of the request that a response was stored for, in normal form. Two stored responses
/// of one key with equal ones are one variant: the newer replaces the older.
#[derive(Clone, Debug, Default)]
#[allow(
    clippy::box_collection,
    reason = "a thin pointer: every stored response has one, and few have any names"
)]
pub struct Selecting(Option<Box<Vec<Selector>>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Selector {
    name: HeaderName,
    /// The normal form; `None` where the request had no such field.
    normal: Option<Box<[u8]>>,
    /// The one line as it was sent, where that differs from its normal form: a request that says the same
    /// again is recognised without normalising it.
    sent: Option<Box<[u8]>>,
}

impl PartialEq for Selecting {
    fn eq(&self, other: &Self) -> bool {
        let same = |a: &Selector, b: &Selector| a.name == b.name && a.normal == b.normal;
        let (ours, theirs) = (self.selectors(), other.selectors());
        ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| same(a, b))
    }
}

impl Eq for Selecting {}

impl Selecting {
    /// What selects a response with these fields, from the request it answers. `None` if Vary has a member
    /// `*`: "A stored response with a Vary header field value containing a member "*" always fails to match."
    pub fn of(response: FieldLines<'_>, request: &HeaderMap, options: &Options) -> Option<Self> {
        let lines: Vec<HeaderValue> = response.get_all(&header::VARY).collect();
        match vary::parse(lines.iter()) {
            Vary::Any => None,
            Vary::Names(mut names) => {
                // The order of names does not tell variants apart.
                names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
                let selectors: Vec<_> =
                    names.into_iter().map(|name| Selector::of(name, request, options)).collect();
                Some(Self((!selectors.is_empty()).then(|| Box::new(selectors))))
            }
        }
    }

    /// Whether the request may be answered by the response, whose fields are needed for its Content-Language.
    pub fn matches(&self, response: FieldLines<'_>, request: &mut Selected<'_>) -> bool {
        self.selectors().iter().all(|selector| {
            selector.matches(request)
                || (selector.name == header::ACCEPT_LANGUAGE && request.prefers_language_of(response))
        })
    }

    /// Whether every request of the key selects it.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The names of the selecting fields, sorted, each with the normal form of the request's value.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, Option<&[u8]>)> {
        self.selectors().iter().map(|selector| (&selector.name, selector.normal.as_deref()))
    }

    fn selectors(&self) -> &[Selector] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }

    /// Bytes on the heap, with those that an allocator adds.
    pub fn weight(&self) -> usize {
        let allocated = |length| length + ALLOCATOR;
        let value = |value: &Option<Box<[u8]>>| value.as_ref().map_or(0, |value| allocated(value.len()));
        let one = |one: &Selector| size_of::<Selector>() + value(&one.normal) + value(&one.sent);
        let Some(selectors) = &self.0 else { return 0 };
        allocated(size_of_val(&**selectors)) + allocated(selectors.iter().map(one).sum())
    }
}

impl Selector {
    fn of(name: HeaderName, request: &HeaderMap, options: &Options) -> Self {
        let normal =
            vary::normal(request, &name, options.normalize_accept_language).map(Vec::into_boxed_slice);
        let sent = only_line(request, &name).filter(|sent| Some(*sent) != normal.as_deref()).map(Box::from);
        Self { name, normal, sent }
    }

    fn matches(&self, request: &mut Selected<'_>) -> bool {
        // "If (after any normalization that might take place) a header field is absent from a request, it can
        // only match another request if it is also absent there."
        let Some(normal) = self.normal.as_deref() else { return !request.headers.contains_key(&self.name) };
        match only_line(request.headers, &self.name) {
            Some(line) if line == normal || Some(line) == self.sent.as_deref() => true,
            _ => request.normal(&self.name) == Some(normal),
        }
    }
}

/// The fields of a request that stored responses are compared with. What their normal forms are is found out once,
/// however many responses there are: a field may be as long as a head.
pub struct Selected<'a> {
    headers: &'a HeaderMap,
    options: &'a Options,
    normal: Vec<(HeaderName, Option<Vec<u8>>)>,
    language: OnceCell<Option<&'a [u8]>>,
}

impl<'a> Selected<'a> {
    /// Of a request with these fields.
    pub fn by(headers: &'a HeaderMap, options: &'a Options) -> Self {
        Self { headers, options, normal: Vec::new(), language: OnceCell::new() }
    }

    fn normal(&mut self, name: &HeaderName) -> Option<&[u8]> {
        let index = self.normal.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            let normal = vary::normal(self.headers, name, self.options.normalize_accept_language);
            self.normal.push((name.clone(), normal));
            self.normal.len() - 1
        });
        self.normal[index].1.as_deref()
    }

    /// Whether the response is in the only language that the request weighs highest.
    fn prefers_language_of(&mut self, response: FieldLines<'_>) -> bool {
        let mut languages = response.bytes_all(&header::CONTENT_LANGUAGE);
        let (true, Some(language), None) =
            (self.options.normalize_accept_language, languages.next(), languages.next())
        else {
            return false;
        };
        let headers = self.headers;
        let preferred = self.language.get_or_init(|| {
            let lines = headers.get_all(header::ACCEPT_LANGUAGE).iter().map(HeaderValue::as_bytes);
            vary::preferred_language(lines)
        });
        preferred.is_some_and(|preferred| preferred.eq_ignore_ascii_case(language))
    }
}

/// The line of this name, if there is exactly one.
fn only_line<'a>(request: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut lines = request.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (Some(only), None) => Some(only.as_bytes()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::policy::testing::{World, headers, word};
    use crate::policy::{Reason, Verdict};

    const FRESH: (&str, &str) = ("cache-control", "max-age=5000");

    /// Whether a response with these fields, stored for the first request, answers the second.
    #[track_caller]
    fn check(vary: &[(&str, &str)], stored_for: &[(&str, &str)], asked_with: &[(&str, &str)], answers: bool) {
        let world = World::default();
        let mut response = vary.to_vec();
        response.push(FRESH);
        let head = world.stored(stored_for, 200, &response);
        let expected = if answers { "serve" } else { "fetch vary-mismatch" };
        assert_eq!(
            word(&world.plan(asked_with, &[head], 1)),
            expected,
            "{vary:?} {stored_for:?} {asked_with:?}"
        );
    }

    #[test]
    fn a_star_anywhere_is_never_stored() {
        for lines in [
            &[("vary", "*")][..],
            &[("vary", "*, *")],
            &[("vary", "*"), ("vary", "*")],
            &[("vary", ", *")],
            &[("vary", ""), ("vary", "*")],
            &[("VARY", "*, Foo")],
            &[("vary", "Foo, *")],
        ] {
            let mut response = lines.to_vec();
            response.push(FRESH);
            let found = World::default().judge(&[("foo", "1")], 200, &response);
            assert_eq!(found, Verdict::PassThrough(Reason::VaryStar), "{lines:?}");
        }
    }

    #[test]
    fn the_named_fields_must_match_and_no_others() {
        let vary = [("vary", "Foo")];
        check(&vary, &[("foo", "1")], &[("foo", "1")], true);
        check(&vary, &[("foo", "1")], &[("foo", "2")], false);
        check(&vary, &[("foo", "1"), ("other", "2")], &[("foo", "1"), ("other", "3")], true);
        let three = [("vary", "Foo, Bar"), ("vary", "BAZ")];
        let stored = [("foo", "1"), ("bar", "abc"), ("baz", "789")];
        check(&three, &stored, &[("baz", "789"), ("foo", "1"), ("bar", "abc")], true);
        check(&three, &stored, &[("foo", "1"), ("baz", "789"), ("bar", "abcde")], false);
        check(&three, &stored, &[("foo", "1"), ("bar", "abc")], false);
    }

    #[test]
    fn absent_matches_absent_only() {
        let vary = [("vary", "Foo")];
        check(&vary, &[], &[], true);
        check(&vary, &[], &[("foo", "1")], false);
        check(&vary, &[("foo", "1")], &[], false);
        check(&vary, &[("foo", "")], &[], false);
        check(&vary, &[], &[("foo", "")], false);
        check(&vary, &[("foo", "")], &[("foo", "")], true);
    }

    #[test]
    fn values_are_normalised_before_they_are_compared() {
        let vary = [("vary", "Foo")];
        check(&vary, &[("foo", "1, 2")], &[("foo", "1"), ("foo", "2")], true);
        check(&vary, &[("foo", "1,2")], &[("foo", " 1, 2 ")], true);
        check(&vary, &[("foo", "1,2")], &[("foo", "2,1")], false);
        check(&vary, &[("foo", "a")], &[("foo", "A")], false);
        check(&vary, &[("foo", "\"a,b\"")], &[("foo", "\"a, b\"")], false);
    }

    #[test]
    fn accept_language_is_compared_without_case_and_order() {
        let vary = [("vary", "Accept-Language")];
        let stored = [("accept-language", "en, de")];
        check(&vary, &stored, &[("accept-language", "de, en")], true);
        check(&vary, &stored, &[("accept-language", "eN, De")], true);
        check(&vary, &stored, &[("accept-language", " en ,   de")], true);
        check(&vary, &stored, &[("accept-language", "en")], false);
    }

    #[test]
    fn the_order_of_accept_language_counts_when_the_key_says_so() {
        let mut world = World::default();
        world.options.normalize_accept_language = false;
        let stored = [("accept-language", "en, de")];
        let response = [("vary", "Accept-Language"), FRESH, ("content-language", "de")];
        let head = || vec![world.stored(&stored, 200, &response)];
        assert_eq!(word(&world.plan(&[("accept-language", "EN,DE")], &head(), 1)), "serve");
        assert_eq!(word(&world.plan(&[("accept-language", "de, en")], &head(), 1)), "fetch vary-mismatch");
        assert_eq!(word(&world.plan(&[("accept-language", "de")], &head(), 1)), "fetch vary-mismatch");
    }

    #[test]
    fn a_response_in_the_only_preferred_language_matches() {
        let vary = [("vary", "Accept-Language, Foo"), ("content-language", "de")];
        let stored = [("accept-language", "en, de")];
        check(&vary, &stored, &[("accept-language", "fr;q=0.5, de;q=1.0")], true);
        check(&vary, &stored, &[("accept-language", "fr;q=0.5, DE")], true);
        check(&vary, &stored, &[("accept-language", "fr, de")], false);
        check(&vary, &stored, &[("accept-language", "fr")], false);
        check(&vary, &stored, &[("accept-language", "de"), ("foo", "1")], false);
        check(&[vary[0], ("content-language", "de, en")], &stored, &[("accept-language", "de")], false);
    }

    #[test]
    fn accept_encoding_is_compared_as_a_set_of_codings() {
        let vary = [("vary", "Accept-Encoding")];
        let stored = [("accept-encoding", "gzip, deflate, br")];
        check(&vary, &stored, &[("accept-encoding", "br;q=0.9,gzip , deflate")], true);
        check(&vary, &stored, &[("accept-encoding", "gzip, deflate")], false);
        check(&vary, &stored, &[("accept-encoding", "gzip, deflate, br;q=0")], false);
        check(&vary, &stored, &[], false);
        check(&vary, &[("accept-encoding", "gzip, foo")], &[("accept-encoding", "gzip")], false);
        check(&vary, &[("accept-encoding", "gzip, foo")], &[("accept-encoding", "gzip,foo")], true);
    }

    #[test]
    fn several_variants_of_a_key_answer_each_its_own_request() {
        let world = World::default();
        let response = [("vary", "Foo"), FRESH];
        let variants =
            [world.stored(&[("foo", "1")], 200, &response), world.stored(&[("foo", "2")], 200, &response)];
        for (value, expected) in [("1", Some(0)), ("2", Some(1)), ("3", None)] {
            let found = world.plan(&[("foo", value)], &variants, 1);
            let index = match found {
                crate::policy::Plan::Serve { index, .. } => Some(index),
                _ => None,
            };
            assert_eq!(index, expected, "{value}");
        }
        assert_ne!(variants[0].selecting, variants[1].selecting);
    }

    #[test]
    fn the_order_of_names_makes_no_other_variant() {
        let world = World::default();
        let request = [("a", "1"), ("b", "2")];
        let one = world.stored(&request, 200, &[("vary", "a, b"), FRESH]);
        let other = world.stored(&request, 200, &[("vary", "B"), ("vary", "A"), FRESH]);
        assert_eq!(one.selecting, other.selecting);
        let spelled = world.stored(&[("a", " 1 "), ("b", "2")], 200, &[("vary", "a, b"), FRESH]);
        assert_eq!(one.selecting, spelled.selecting);
        assert!(one.selecting.weight() > 0);
    }

    #[test]
    fn of_several_matching_the_most_recent_by_date_answers() {
        let world = World::default();
        let older = world.stored(&[("a", "1")], 200, &[("date", "@-9"), ("vary", "a"), FRESH]);
        let newer = world.stored(&[("a", "1")], 200, &[("date", "@-5"), FRESH]);
        for candidates in [[older.clone(), newer.clone()], [newer.clone(), older]] {
            let facts_headers = headers(&[("a", "1")]);
            let facts = crate::policy::RequestFacts::of(&http::Method::GET, &facts_headers, false);
            let index = crate::policy::selected(&facts, &candidates, &world.terms(0)).unwrap();
            assert_eq!(candidates[index], newer);
        }
        // Of the same second, the one that was stored last, which comes first.
        let (one, two) =
            (newer.clone(), world.stored(&[("a", "1")], 200, &[("date", "@-5"), FRESH, ("x", "2")]));
        let facts_headers = headers(&[("a", "1")]);
        let facts = crate::policy::RequestFacts::of(&http::Method::GET, &facts_headers, false);
        assert_eq!(crate::policy::selected(&facts, &[two, one], &world.terms(0)), Some(0));
    }
}
