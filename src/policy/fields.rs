//! The fields of a stored response in one allocation, in their order, repeats kept. RFC 9111 section 3.1.
//!
//! A `HeaderMap` that is kept costs 600 bytes and more beyond its values, and values kept as they arrived pin
//! the whole read buffer they came in. Here every field is one run of bytes in one blob:
//! `code, [name length, name], value length, value`. The code stands for a common name, 0 for a spelled one.
//! Reading slices the blob. What is sent holds a copy of it, and not the memory that what is stored lies in.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::field::places;

/// Names with a code of one byte: the code is the index plus 1.
static KNOWN: [HeaderName; 47] = [
    header::ACCEPT_RANGES,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
    header::AGE,
    header::ALLOW,
    header::ALT_SVC,
    header::CACHE_CONTROL,
    header::CACHE_STATUS,
    header::CDN_CACHE_CONTROL,
    header::CONTENT_DISPOSITION,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LENGTH,
    header::CONTENT_LOCATION,
    header::CONTENT_RANGE,
    header::CONTENT_SECURITY_POLICY,
    header::CONTENT_SECURITY_POLICY_REPORT_ONLY,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::DATE,
    header::ETAG,
    header::EXPIRES,
    header::LAST_MODIFIED,
    header::LINK,
    header::LOCATION,
    header::PRAGMA,
    header::PUBLIC_KEY_PINS,
    header::REFERRER_POLICY,
    header::REFRESH,
    header::RETRY_AFTER,
    header::SERVER,
    header::SET_COOKIE,
    header::STRICT_TRANSPORT_SECURITY,
    header::TRAILER,
    header::VARY,
    header::VIA,
    header::WARNING,
    header::WWW_AUTHENTICATE,
    header::X_CONTENT_TYPE_OPTIONS,
    header::X_DNS_PREFETCH_CONTROL,
    header::X_FRAME_OPTIONS,
    header::X_XSS_PROTECTION,
    header::TE,
];

static CODES: LazyLock<HashMap<&HeaderName, u8, ahash::RandomState>> =
    LazyLock::new(|| KNOWN.iter().zip(1..).collect());

/// From this length on, a length takes five bytes instead of one.
const LONG: u8 = u8::MAX;

/// Fields that are added to a response from the store: Age, Via, Cache-Status, Content-Range, Connection, Date.
pub(crate) const ADDED: usize = 6;

/// Maps that a thread keeps, and the longest head of which it does: some 100 KiB a thread.
const PLACES: usize = 64;
const KEPT_BLOB: usize = 1024;

thread_local! {
    /// Where heads are put together.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static MADE: RefCell<[Option<Made>; PLACES]> = const { RefCell::new([const { None }; PLACES]) };
}

/// A head that was asked for as a map, and the map once it was asked for again.
struct Made {
    /// Where its bytes lie. Others may lie there since.
    address: usize,
    of: Of,
    /// A copy of the bytes, and the map, whose values are slices of it.
    map: Option<(Bytes, HeaderMap)>,
}

/// The response that a map is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    /// The stored one: all its fields.
    Stored,
    /// The 304 that stands for it: some of them.
    NotModified,
}

/// The fields of a head: compact and immutable; cloning counts a reference.
#[derive(Clone, PartialEq, Eq)]
pub struct Fields(Arc<[u8]>);

impl Default for Fields {
    fn default() -> Self {
        Self(Arc::new([]))
    }
}

impl Fields {
    /// Keeps those fields of `headers` whose name `keep` takes, in order.
    pub fn from_map(headers: &HeaderMap, keep: impl Fn(&HeaderName) -> bool) -> Self {
        Self::collect(
            headers.iter().filter(|(name, _)| keep(name)).map(|(name, value)| (name, value.as_bytes())),
        )
    }

    /// Those of `lines`.
    pub(crate) fn collect<'a>(lines: impl Iterator<Item = (&'a HeaderName, &'a [u8])>) -> Self {
        Self::put_together(|blob| lines.for_each(|(name, value)| put_line(blob, name, value)))
    }

    fn put_together(put: impl FnOnce(&mut Vec<u8>)) -> Self {
        SCRATCH.with_borrow_mut(|blob| {
            blob.clear();
            put(blob);
            let fields = Self(blob.as_slice().into());
            blob.clear();
            blob.shrink_to(KEPT_BLOB);
            fields
        })
    }

    /// To read them.
    pub fn lines(&self) -> FieldLines<'_> {
        FieldLines(&self.0)
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines().fmt(f)
    }
}

/// Fields to be read, wherever they lie.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FieldLines<'a>(&'a [u8]);

impl<'a> FieldLines<'a> {
    /// What [`Self::as_bytes`] gave: anything else has no fields, or others.
    pub fn from_bytes(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Their bytes, in this module's form: to be kept together with other things.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// A copy that owns them.
    pub fn to_fields(self) -> Fields {
        Fields(self.0.into())
    }

    /// Those of these whose name `keep` takes, and `more` after them.
    pub(crate) fn replaced<'b>(
        self,
        keep: impl Fn(&HeaderName) -> bool,
        more: impl Iterator<Item = (&'b HeaderName, &'b [u8])>,
    ) -> Fields {
        Fields::put_together(|blob| {
            let mut lines = self.each();
            loop {
                let before = lines.rest;
                let Some((name, _)) = lines.next() else { break };
                if name.to_name().is_some_and(|name| keep(&name)) {
                    blob.extend_from_slice(&before[..before.len() - lines.rest.len()]);
                }
            }
            more.for_each(|(name, value)| put_line(blob, name, value));
        })
    }

    /// Number of field lines.
    pub fn len(self) -> usize {
        self.each().count()
    }

    /// Whether there is no field.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Bytes that they take.
    pub fn weight(self) -> usize {
        self.0.len()
    }

    /// All field lines in order. Values are slices of one copy.
    pub fn iter(self) -> impl Iterator<Item = (HeaderName, HeaderValue)> + 'a {
        let blob = self.to_blob();
        self.each().filter_map(move |(name, line)| Some((name.to_name()?, self.value(&blob, line)?)))
    }

    /// The first line of this name.
    pub fn get(self, name: &HeaderName) -> Option<HeaderValue> {
        self.bytes(name).and_then(|line| HeaderValue::from_bytes(line).ok())
    }

    /// All lines of this name.
    pub fn get_all(self, name: &'a HeaderName) -> impl Iterator<Item = HeaderValue> + 'a {
        self.bytes_all(name).filter_map(|line| HeaderValue::from_bytes(line).ok())
    }

    /// Whether there is a line of this name.
    pub fn contains(self, name: &HeaderName) -> bool {
        self.bytes(name).is_some()
    }

    /// Bytes of the first line of this name.
    pub fn bytes(self, name: &HeaderName) -> Option<&'a [u8]> {
        let code = code(name);
        self.each().find(|(found, _)| found.is(name, code)).map(|(_, value)| value)
    }

    /// Bytes of all lines of this name.
    pub fn bytes_all<'b>(self, name: &'b HeaderName) -> impl Iterator<Item = &'a [u8]> + use<'a, 'b> {
        let code = code(name);
        self.each().filter(move |(found, _)| found.is(name, code)).map(|(_, value)| value)
    }

    /// As a map, with room for `spare` more fields.
    pub fn to_map(self, spare: usize) -> HeaderMap {
        self.to_map_where(spare, |_| true)
    }

    /// As a map for a response, which has the fields whose name `keep` takes (always the same of these, for `of`), and
    /// [`crate::field::places`] for what is added to each.
    ///
    /// A thread keeps the maps of heads that it made more than once lately: to clone one costs a third of
    /// making it.
    pub(crate) fn to_served(self, of: Of, keep: impl Fn(&HeaderName) -> bool) -> HeaderMap {
        let make = |blob: &Bytes| {
            let mut map = self.to_map_of(blob, ADDED, keep);
            places::keep(&mut map);
            map
        };
        if self.0.len() > KEPT_BLOB {
            return make(&self.to_blob());
        }
        let address = self.0.as_ptr() as usize;
        MADE.with_borrow_mut(|made| {
            // Some hundred bytes lie between the fields of two heads.
            let place = &mut made[(address / 64 + of as usize) % PLACES];
            match place {
                Some(Made { address: at, of: known, map }) if (*at, *known) == (address, of) => match map {
                    Some((fields, map)) if **fields == *self.0 => map.clone(),
                    _ => {
                        let blob = self.to_blob();
                        let new = make(&blob);
                        *map = Some((blob, new.clone()));
                        new
                    }
                },
                _ => {
                    *place = Some(Made { address, of, map: None });
                    make(&self.to_blob())
                }
            }
        })
    }

    /// As a map of the fields whose name `keep` takes, with room for `spare` more.
    pub(crate) fn to_map_where(self, spare: usize, keep: impl Fn(&HeaderName) -> bool) -> HeaderMap {
        self.to_map_of(&self.to_blob(), spare, keep)
    }

    /// The same, of slices of `blob`, which is a copy of these.
    fn to_map_of(self, blob: &Bytes, spare: usize, keep: impl Fn(&HeaderName) -> bool) -> HeaderMap {
        let mut map = HeaderMap::try_with_capacity(self.len().saturating_add(spare)).unwrap_or_default();
        for (name, line) in self.each() {
            let (Some(name), Some(value)) = (name.to_name(), self.value(blob, line)) else { continue };
            // What does not fit did not come out of a map: there is no such field.
            if keep(&name) && map.try_append(name, value).is_err() {
                break;
            }
        }
        map
    }

    fn to_blob(self) -> Bytes {
        Bytes::copy_from_slice(self.0)
    }

    /// A line as a slice of `blob`, which is a copy of these.
    fn value(self, blob: &Bytes, line: &[u8]) -> Option<HeaderValue> {
        let at = line.as_ptr() as usize - self.0.as_ptr() as usize;
        HeaderValue::from_maybe_shared(blob.slice(at..at + line.len())).ok()
    }

    fn each(self) -> Lines<'a> {
        Lines { rest: self.0 }
    }
}

impl fmt::Debug for FieldLines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

fn code(name: &HeaderName) -> Option<u8> {
    CODES.get(name).copied()
}

fn put_line(blob: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    if let Some(code) = code(name) {
        blob.push(code);
    } else {
        blob.push(0);
        put(blob, name.as_str().as_bytes());
    }
    put(blob, value);
}

/// A field line is far shorter than 4 GiB: the limit of a head is in kilobytes.
fn put(blob: &mut Vec<u8>, bytes: &[u8]) {
    match u8::try_from(bytes.len()) {
        Ok(length) if length < LONG => blob.push(length),
        _ => {
            blob.push(LONG);
            blob.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        }
    }
    blob.extend_from_slice(bytes);
}

/// A name as it stands in the blob.
#[derive(Clone, Copy)]
enum Name<'a> {
    Known(u8),
    Spelled(&'a [u8]),
}

impl Name<'_> {
    fn to_name(self) -> Option<HeaderName> {
        match self {
            Self::Known(code) => KNOWN.get(usize::from(code).checked_sub(1)?).cloned(),
            Self::Spelled(name) => HeaderName::from_lowercase(name).ok(),
        }
    }

    fn is(self, name: &HeaderName, sought: Option<u8>) -> bool {
        match self {
            Self::Known(code) => sought == Some(code),
            Self::Spelled(spelled) => sought.is_none() && spelled == name.as_str().as_bytes(),
        }
    }
}

struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Lines<'a> {
    fn take(&mut self) -> Option<&'a [u8]> {
        let (&first, rest) = self.rest.split_first()?;
        let (length, rest) = if first == LONG {
            let (bytes, rest) = rest.split_first_chunk::<4>()?;
            (u32::from_le_bytes(*bytes) as usize, rest)
        } else {
            (usize::from(first), rest)
        };
        let (taken, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = (Name<'a>, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&code, rest) = self.rest.split_first()?;
        self.rest = rest;
        let name = if code == 0 { Name::Spelled(self.take()?) } else { Name::Known(code) };
        Some((name, self.take()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testing::headers;

    #[test]
    fn fields_come_back_in_order_with_repeats_and_empty_values() {
        let long = "x".repeat(70_000);
        let map = headers(&[
            ("cache-control", "max-age=1"),
            ("set-cookie", "a=b"),
            ("x-empty", ""),
            ("set-cookie", "c=d"),
            ("x-long", &long),
            (&"y".repeat(300), "z"),
        ]);
        let fields = Fields::from_map(&map, |_| true);
        let fields = fields.lines();
        assert_eq!(fields.to_map(0), map);
        assert_eq!(fields.len(), 6);
        assert!(fields.weight() < 70_000 + 400);
        let cookies: Vec<_> = fields.get_all(&header::SET_COOKIE).collect();
        assert_eq!(cookies, ["a=b", "c=d"]);
        assert_eq!(fields.get(&HeaderName::from_static("x-empty")).unwrap(), "");
        assert_eq!(fields.get(&HeaderName::from_static("x-none")), None);
        assert_eq!(fields.get(&header::ETAG), None);
    }

    #[test]
    fn a_filter_keeps_what_it_takes() {
        let map = headers(&[("etag", "\"a\""), ("x-a", "1"), ("x-b", "2")]);
        let fields = Fields::from_map(&map, |name| name != "x-a");
        let fields = fields.lines();
        assert_eq!(fields.to_map(4), headers(&[("etag", "\"a\""), ("x-b", "2")]));
        assert!(!fields.contains(&HeaderName::from_static("x-a")));
    }

    #[test]
    fn a_small_head_weighs_little_more_than_its_values() {
        let map = headers(&[
            ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("etag", "\"abc\""),
            ("vary", "accept-encoding"),
        ]);
        let values: usize = map.values().map(HeaderValue::len).sum();
        assert_eq!(Fields::from_map(&map, |_| true).lines().weight(), values + 3 * 2);
    }

    #[test]
    fn a_map_is_kept_of_the_bytes_and_not_of_their_place() {
        let of = |value| Fields::from_map(&headers(&[("etag", value)]), |_| true);
        let mut bytes = of("\"a\"").lines().as_bytes().to_vec();
        let mut check = |value| {
            bytes.copy_from_slice(of(value).lines().as_bytes());
            for _ in 0..3 {
                let map = FieldLines::from_bytes(&bytes).to_served(Of::Stored, |_| true);
                assert_eq!(map.get(header::ETAG).unwrap(), value);
            }
        };
        check("\"a\"");
        check("\"b\"");
        check("\"a\"");
    }

    #[test]
    fn no_known_name_stands_twice() {
        for (index, name) in KNOWN.iter().enumerate() {
            assert_eq!(code(name), Some(index as u8 + 1), "{name}");
        }
    }
}
