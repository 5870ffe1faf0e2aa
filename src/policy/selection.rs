//! Which requests a stored response may answer, by the fields that its Vary names. RFC 9111 section 4.1.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{Fields, Options};
use crate::field::vary::{self, Vary};

/// The selecting fields of the request that a response was stored for, in normal form. Two stored responses
/// of one key with equal ones are one variant: the newer replaces the older.
#[derive(Clone, Debug, Default)]
pub struct Selecting(Box<[Selector]>);

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
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(a, b)| same(a, b))
    }
}

impl Eq for Selecting {}

impl Selecting {
    /// What selects a response with these fields, from the request it answers. `None` if Vary has a member
    /// `*`: "A stored response with a Vary header field value containing a member "*" always fails to match."
    pub fn of(response: &Fields, request: &HeaderMap, options: &Options) -> Option<Self> {
        let lines: Vec<HeaderValue> = response.get_all(&header::VARY).collect();
        match vary::parse(lines.iter()) {
            Vary::Any => None,
            Vary::Names(mut names) => {
                // The order of names does not tell variants apart.
                names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
                Some(Self(names.into_iter().map(|name| Selector::of(name, request, options)).collect()))
            }
        }
    }

    /// Whether a request with these fields may be answered by the response, whose fields are needed for its
    /// Content-Language.
    pub fn matches(&self, response: &Fields, request: &HeaderMap, options: &Options) -> bool {
        self.0.iter().all(|selector| {
            selector.matches(request, options)
                || (options.normalize_accept_language
                    && selector.name == header::ACCEPT_LANGUAGE
                    && is_preferred(response, request))
        })
    }

    /// Whether every request of the key selects it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names of the selecting fields, sorted, each with the normal form of the request's value.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, Option<&[u8]>)> {
        self.0.iter().map(|selector| (&selector.name, selector.normal.as_deref()))
    }

    /// Bytes on the heap.
    pub fn weight(&self) -> usize {
        let length = |value: &Option<Box<[u8]>>| value.as_ref().map_or(0, |value| value.len());
        self.0.iter().map(|one| size_of::<Selector>() + length(&one.normal) + length(&one.sent)).sum()
    }
}

impl Selector {
    fn of(name: HeaderName, request: &HeaderMap, options: &Options) -> Self {
        let normal = vary::normal(request, &name, options.normalize_accept_language).map(Vec::into_boxed_slice);
        let sent = only_line(request, &name).filter(|sent| Some(*sent) != normal.as_deref()).map(Box::from);
        Self { name, normal, sent }
    }

    fn matches(&self, request: &HeaderMap, options: &Options) -> bool {
        // "If (after any normalization that might take place) a header field is absent from a request, it can
        // only match another request if it is also absent there."
        let Some(normal) = self.normal.as_deref() else { return !request.contains_key(&self.name) };
        match only_line(request, &self.name) {
            Some(line) if line == normal || Some(line) == self.sent.as_deref() => true,
            _ => {
                let found = vary::normal(request, &self.name, options.normalize_accept_language);
                found.as_deref() == Some(normal)
            }
        }
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

/// Whether the response is in the only language that the request weighs highest.
fn is_preferred(response: &Fields, request: &HeaderMap) -> bool {
    let mut languages = response.bytes_all(&header::CONTENT_LANGUAGE);
    let (Some(language), None) = (languages.next(), languages.next()) else { return false };
    let lines = request.get_all(header::ACCEPT_LANGUAGE).iter().map(HeaderValue::as_bytes);
    vary::preferred_language(lines).is_some_and(|preferred| preferred.eq_ignore_ascii_case(language))
}
