//! Text of a target that is shared, not copied, when it is cloned.
//!
//! [`Text`] owns what it holds: kept for long (a pool's key, a table of names) it pins nothing but itself.
//! [`Path`] shares the buffer that the request was read into, so it is for the time of one exchange: who keeps a
//! path for longer copies it, as the cache key does.
use http::uri::PathAndQuery;
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

/// Shared text: an authority, or the host at its start. Reads as a `str`.
#[derive(Clone)]
pub struct Text {
    whole: Arc<str>,
    length: usize,
}

impl Text {
    /// The first `length` bytes of the same text. Where that is no boundary of a character, all of it.
    pub(crate) fn prefix(&self, length: usize) -> Self {
        let length = if self.whole.is_char_boundary(length) { length.min(self.length) } else { self.length };
        Self { whole: Arc::clone(&self.whole), length }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.whole[..self.length]
    }
}

impl Deref for Text {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self { whole: Arc::from(text), length: text.len() }
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<Box<str>> for Text {
    fn from(text: Box<str>) -> Self {
        Self { length: text.len(), whole: Arc::from(text) }
    }
}

impl From<Text> for Box<str> {
    fn from(text: Text) -> Self {
        Self::from(text.as_str())
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        Self::from(text.as_str())
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Text {}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for Text {
    /// As `str` does, so that a map with this key can be asked with a `&str`.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A path and query as it is sent to the origin: begins with `/`, ASCII only; or empty, for CONNECT. Reads as bytes.
#[derive(Clone)]
pub struct Path(Option<PathAndQuery>);

impl Path {
    /// The path of an authority-form target: none.
    pub const EMPTY: Self = Self(None);

    /// `path` as received, with `/` for an empty path and bytes from 0x80 up percent-encoded; nothing else is touched.
    /// `None` if that makes it longer than a target can be.
    pub(crate) fn of(path: &PathAndQuery) -> Option<Self> {
        let text = path.as_str();
        if text == "/" {
            // An empty one (of `http://host#f`) reads as this too, but would be written as it is: empty.
            return Some(Self(Some(PathAndQuery::from_static("/"))));
        }
        if text.starts_with('/') && text.is_ascii() {
            return Some(Self(Some(path.clone())));
        }
        Self::encoded(text.as_bytes())
    }

    /// The same from bytes. `None` if a byte is none of a URL's, or it is too long.
    pub(crate) fn encoded(path: &[u8]) -> Option<Self> {
        const HEX: &[u8; 16] = b"0123456789ABCDEF";
        let mut out = Vec::with_capacity(path.len() + 1);
        if path.first() != Some(&b'/') {
            out.push(b'/');
        }
        for &byte in path {
            if byte < 0x80 {
                out.push(byte);
            } else {
                out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
        PathAndQuery::from_maybe_shared(bytes::Bytes::from(out)).ok().map(|path| Self(Some(path)))
    }

    /// A copy, which shares nothing.
    pub(crate) fn apart(&self) -> Self {
        // What may be sent may be sent again.
        self.0.as_ref().map_or(Self::EMPTY, |_| Self::encoded(self).unwrap_or(Self::EMPTY))
    }

    /// The path and query.
    pub fn as_str(&self) -> &str {
        self.0.as_ref().map_or("", PathAndQuery::as_str)
    }

    /// The same as `http` knows it; `None` for CONNECT.
    pub fn path_and_query(&self) -> Option<&PathAndQuery> {
        self.0.as_ref()
    }

    /// Without the query.
    pub fn path(&self) -> &str {
        self.as_str().split_once('?').map_or(self.as_str(), |(path, _)| path)
    }

    /// What is behind the first `?`.
    pub fn query(&self) -> Option<&str> {
        self.as_str().split_once('?').map(|(_, query)| query)
    }
}

impl Deref for Path {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.as_str().as_bytes()
    }
}

impl AsRef<[u8]> for Path {
    fn as_ref(&self) -> &[u8] {
        self.as_str().as_bytes()
    }
}

impl PartialEq for Path {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Path {}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
