//! The cache key: the target's URL, less what a rule leaves out of it. RFC 9111 section 2.

use std::cell::RefCell;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use crate::field::target::Target;
use crate::policy::rules::Rule;

/// Under which stored responses lie. Cheap to clone and to compare; its hash is computed once.
#[derive(Clone)]
pub struct CacheKey {
    text: Arc<str>,
    hash: u64,
}

/// What a thread keeps for putting keys together, so that a key is one allocation.
const KEPT: usize = 1024;

thread_local! {
    static SCRATCH: RefCell<String> = const { RefCell::new(String::new()) };
}

impl CacheKey {
    /// The key of a target. Parameters of the query that `rule` ignores are left out; the others keep their
    /// order and bytes, and so does everything else.
    pub fn of(target: &Target, rule: Option<&Rule>) -> Self {
        SCRATCH.with_borrow_mut(|text| {
            text.clear();
            text.push_str(target.scheme.as_str());
            text.push_str("://");
            text.push_str(&target.authority);
            match rule.filter(|rule| !rule.ignore_query.is_empty()) {
                None => text.push_str(target.path.as_str()),
                Some(rule) => Self::put_kept(text, target.path.as_str(), rule),
            }
            let key = Self::from_text(text);
            text.shrink_to(KEPT);
            key
        })
    }

    /// The path, and those parameters of the query that `rule` does not ignore.
    fn put_kept(text: &mut String, path: &str, rule: &Rule) {
        let Some((path, query)) = path.split_once('?') else { return text.push_str(path) };
        text.push_str(path);
        let mut before = '?';
        for parameter in query.split('&') {
            let name = parameter.split_once('=').map_or(parameter, |(name, _)| name);
            if !rule.ignores(name) {
                text.push(before);
                text.push_str(parameter);
                before = '&';
            }
        }
    }

    /// The key of this text.
    pub(super) fn from_text(text: &str) -> Self {
        let text: Arc<str> = text.into();
        // Seeded once a process: clients choose targets, and must not choose which of them collide.
        let hash = ahash::RandomState::with_seed(0).hash_one(&*text);
        Self { text, hash }
    }

    /// A key that collides with others, as two of some billions of targets do.
    #[cfg(test)]
    pub(super) fn of_hash(text: &str, hash: u64) -> Self {
        Self { hash, ..Self::from_text(text) }
    }

    /// The URL.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn hash64(&self) -> u64 {
        self.hash
    }
}

impl PartialEq for CacheKey {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && (Arc::ptr_eq(&self.text, &other.text) || self.text == other.text)
    }
}

impl Eq for CacheKey {}

impl Hash for CacheKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl fmt::Display for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

/// Hands on the hash that a key brings.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Prehashed(u64);

impl Hasher for Prehashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Keys write one u64; anything else still gets some hash.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl BuildHasher for Prehashed {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        *self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(url: &str, ignored: &[&str]) -> CacheKey {
        let rule =
            Rule { ignore_query: ignored.iter().map(ToString::to_string).collect(), ..Rule::default() };
        CacheKey::of(&Target::absolute(&url.parse().unwrap()).unwrap(), Some(&rule))
    }

    #[track_caller]
    fn check(url: &str, ignored: &[&str], expected: &str) {
        assert_eq!(key(url, ignored).as_str(), expected);
    }

    #[test]
    fn a_key_is_the_url_as_it_is_sent() {
        check("http://Example.com:80", &[], "http://example.com/");
        check("https://example.com:8443/A%20b?x=1&y", &[], "https://example.com:8443/A%20b?x=1&y");
        check("http://example.com/?", &["x"], "http://example.com/?");
        let long = format!("http://example.com/{}", "a".repeat(2000));
        check(&long, &[], &long);
    }

    #[test]
    fn ignored_parameters_leave_the_others_as_they_are() {
        check("http://h/?utm_a=1&b=2&utm_c=3&d", &["utm_*"], "http://h/?b=2&d");
        check("http://h/?_=1&callback=x", &["callback", "_"], "http://h/");
        check("http://h/?a=1&&b=%41&a=2", &["b"], "http://h/?a=1&&a=2");
        check("http://h/?ab=1&A=2", &["a"], "http://h/?ab=1&A=2");
        check("http://h/?a?b=1&c=/?", &["c"], "http://h/?a?b=1");
    }

    #[test]
    fn equal_text_is_an_equal_key_with_an_equal_hash() {
        let (one, two) = (key("http://h/?a=1&b=2", &["b"]), key("http://h/?a=1", &[]));
        assert_eq!((&one, one.hash64()), (&two, two.hash64()));
        assert_ne!(one, key("http://h/?a=2", &[]));
    }
}
