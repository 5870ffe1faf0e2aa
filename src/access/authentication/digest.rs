//! Users of Digest: lines `user:realm:HA1`, and what is computed from them. RFC 7616 section 3.4.
//!
//! HA1 is what a password is worth here: who knows it can answer every challenge of its realm.

use super::file::{self, LoadError};
use super::hex;
use ahash::AHashMap;
use md5::Md5;
use sha2::Sha256;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A hash that Digest is done with. Without `-sess`: it saves a server nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// SHA-256.
    Sha256,
    /// MD5: for clients that know nothing else.
    Md5,
}

impl Algorithm {
    /// All of them, the strongest first.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Md5];

    /// As fields have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "SHA-256",
            Self::Md5 => "MD5",
        }
    }

    /// Digits of a hash.
    pub const fn digits(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Md5 => 32,
        }
    }

    /// The hash of the parts with colons between them, in lower-case hexadecimal digits.
    pub fn hash(self, parts: &[&[u8]]) -> String {
        match self {
            Self::Sha256 => joined::<Sha256>(parts),
            Self::Md5 => joined::<Md5>(parts),
        }
    }
}

fn joined<D: md5::Digest>(parts: &[&[u8]]) -> String {
    let mut digest = D::new();
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            digest.update(b":");
        }
        digest.update(part);
    }
    hex::lower(&digest.finalize())
}

/// The line of a user: `user:realm:HA1`.
pub fn line(user: &str, realm: &str, password: &[u8], algorithm: Algorithm) -> String {
    format!("{user}:{realm}:{}", algorithm.hash(&[user.as_bytes(), realm.as_bytes(), password]))
}

/// Why this can't be a user's name in a line, where it can't.
pub fn wrong_user(user: &str) -> Option<String> {
    file::wrong_user(user).or_else(|| user.contains(':').then(|| "a user with a colon".to_owned()))
}

/// The users of one file in one realm.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct DigestUsers {
    users: AHashMap<Arc<str>, Firsts>,
    sha256: bool,
    md5: bool,
}

/// The HA1s of a user, in lower-case digits.
#[derive(Clone, Default, PartialEq, Eq)]
struct Firsts {
    sha256: Option<Box<str>>,
    md5: Option<Box<str>>,
}

/// No hash is shown.
impl fmt::Debug for DigestUsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DigestUsers({})", self.users.len())
    }
}

const LINE: &str = "user:realm:HA1, which larder htdigest writes";

impl DigestUsers {
    /// Reads a file. The error is everything that is wrong with it.
    pub fn load(path: &Path, realm: &str) -> Result<Self, Vec<LoadError>> {
        let text = file::read(path).map_err(|error| vec![error])?;
        Self::parse(&text, realm)
    }

    /// The same from text. Lines of other realms are checked, and left out.
    pub fn parse(text: &str, realm: &str) -> Result<Self, Vec<LoadError>> {
        let mut all = Self::default();
        let mut wrongs = Vec::new();
        let mut other = None;
        for (line, content) in file::lines(text) {
            let mut wrong = |found: String, expected: &str| {
                wrongs.push(LoadError { line, found, expected: expected.into() });
            };
            let mut parts = content.splitn(3, ':');
            let (Some(user), Some(in_realm), Some(first)) = (parts.next(), parts.next(), parts.next()) else {
                wrong("a line with fewer than two colons".to_owned(), LINE);
                continue;
            };
            if let Some(found) = file::wrong_user(user) {
                wrong(found, file::USER);
                continue;
            }
            let digits = first.bytes().all(|byte| byte.is_ascii_hexdigit());
            let algorithm = Algorithm::ALL.into_iter().find(|algorithm| algorithm.digits() == first.len());
            let Some(algorithm) = algorithm.filter(|_| digits) else {
                let what = if digits { "digits" } else { "characters" };
                wrong(
                    format!("{} {what} for user {user:?}", first.chars().count()),
                    "HA1: 32 hexadecimal digits (MD5) or 64 (SHA-256), which larder htdigest writes",
                );
                continue;
            };
            if in_realm != realm {
                other.get_or_insert_with(|| (line, in_realm.to_owned()));
                continue;
            }
            let firsts = all.users.entry(user.into()).or_default();
            let (place, offered) = match algorithm {
                Algorithm::Sha256 => (&mut firsts.sha256, &mut all.sha256),
                Algorithm::Md5 => (&mut firsts.md5, &mut all.md5),
            };
            if place.is_some() {
                let name = algorithm.name();
                wrong(format!("{name} of user {user:?} a second time"), "each algorithm of a user once");
                continue;
            }
            *place = Some(first.to_ascii_lowercase().into());
            *offered = true;
        }
        if let (Some((line, found)), true, true) = (other, all.users.is_empty(), wrongs.is_empty()) {
            wrongs.push(LoadError {
                line,
                found: format!("realm {found:?}, and no line of another one"),
                expected: format!("lines of access.realm, which is {realm:?}"),
            });
        }
        if wrongs.is_empty() { Ok(all) } else { Err(wrongs) }
    }

    /// Whether a challenge is made for it: somebody can answer it, or nobody any.
    pub(super) fn offers(&self, algorithm: Algorithm) -> bool {
        match algorithm {
            Algorithm::Sha256 => self.sha256 || !self.md5,
            Algorithm::Md5 => self.md5,
        }
    }

    /// The name and the HA1 of a user.
    pub(super) fn find(&self, user: &str, algorithm: Algorithm) -> Option<(Arc<str>, String)> {
        let (name, firsts) = self.users.get_key_value(user)?;
        let first = match algorithm {
            Algorithm::Sha256 => firsts.sha256.as_deref(),
            Algorithm::Md5 => firsts.md5.as_deref(),
        };
        Some((Arc::clone(name), first?.to_owned()))
    }
}
