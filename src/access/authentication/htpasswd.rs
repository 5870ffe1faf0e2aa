//! Users with hashes of their passwords, as `htpasswd` writes them: bcrypt, SHA-crypt, and Apache's MD5.

use super::apr1;
use super::file::{self, LoadError};
use ahash::AHashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use subtle::ConstantTimeEq as _;

/// A bcrypt hash of cost 16 takes seconds to verify.
const MOST_COST: u32 = 16;
/// SHA-crypt's own bound is a thousand times as high; this many rounds take about a second.
const MOST_ROUNDS: u32 = 1_000_000;
const LEAST_ROUNDS: u32 = sha_crypt::Params::ROUNDS_MIN;

/// The users of one file.
#[derive(Clone, PartialEq, Eq)]
pub struct BasicUsers {
    hashes: AHashMap<Arc<str>, Hash>,
    /// In the order of the file.
    names: Vec<Arc<str>>,
}

/// No hash is shown.
impl fmt::Debug for BasicUsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BasicUsers({})", self.names.len())
    }
}

#[derive(Clone, PartialEq, Eq)]
enum Hash {
    /// `$2a$`, `$2b$`, `$2y$`.
    Bcrypt(Box<str>),
    /// `$5$`, `$6$`.
    Sha(Box<str>),
    /// `$apr1$`.
    Apr1 { salt: Box<str>, hash: Box<str> },
}

const HASH: &str = "a hash of bcrypt ($2y$), SHA-crypt ($5$, $6$) or $apr1$: htpasswd -B makes one";

impl BasicUsers {
    /// Reads a file. The error is everything that is wrong with it.
    pub fn load(path: &Path) -> Result<Self, Vec<LoadError>> {
        let text = file::read(path).map_err(|error| vec![error])?;
        Self::parse(&text)
    }

    /// The same from text.
    pub fn parse(text: &str) -> Result<Self, Vec<LoadError>> {
        let mut users = Self { hashes: AHashMap::new(), names: Vec::new() };
        let mut wrongs = Vec::new();
        for (line, content) in file::lines(text) {
            let mut wrong =
                |found: String, expected: String| wrongs.push(LoadError { line, found, expected });
            let Some((user, hash)) = content.split_once(':') else {
                wrong("a line without a colon".to_owned(), "user:hash".to_owned());
                continue;
            };
            if let Some(found) = file::wrong_user(user) {
                wrong(found, file::USER.to_owned());
                continue;
            }
            if users.hashes.contains_key(user) {
                wrong(format!("user {user:?} a second time"), "each user once".to_owned());
                continue;
            }
            match Hash::parse(hash) {
                Ok(hash) => {
                    let user: Arc<str> = user.into();
                    users.hashes.insert(Arc::clone(&user), hash);
                    users.names.push(user);
                }
                Err((found, expected)) => wrong(format!("{found} for user {user:?}"), expected),
            }
        }
        if wrongs.is_empty() { Ok(users) } else { Err(wrongs) }
    }

    /// Whether the password is the user's. Of one who does not exist the hash of another is computed, chosen by
    /// `instead`, so that it takes as long.
    pub(super) fn verify(&self, user: &str, password: &[u8], instead: u64) -> bool {
        if let Some(hash) = self.hashes.get(user) {
            return hash.verify(password);
        }
        let count = self.names.len() as u64;
        let other = instead.checked_rem(count).and_then(|at| self.names.get(at as usize));
        if let Some(hash) = other.and_then(|other| self.hashes.get(other)) {
            // It may even be the other's password.
            std::hint::black_box(hash.verify(password));
        }
        false
    }
}

impl Hash {
    /// The error: what it is, and what is expected.
    fn parse(text: &str) -> Result<Self, (String, String)> {
        let whole = || ("a hash that is cut or has other characters".to_owned(), HASH.to_owned());
        let fits = |text: &str, length: usize| text.len() == length && text.bytes().all(is_crypt_base64);
        if let Some(rest) = ["$2a$", "$2b$", "$2y$"].iter().find_map(|prefix| text.strip_prefix(prefix)) {
            let (cost, hash) = rest.split_once('$').ok_or_else(whole)?;
            let cost = cost.parse::<u32>().ok().filter(|_| cost.len() == 2).ok_or_else(whole)?;
            if !(4..=MOST_COST).contains(&cost) {
                return Err((
                    format!("a bcrypt hash of cost {cost}"),
                    format!("a cost from 4 to {MOST_COST}"),
                ));
            }
            return if fits(hash, 53) { Ok(Self::Bcrypt(text.into())) } else { Err(whole()) };
        }
        if let Some((rest, length)) =
            [("$5$", 43), ("$6$", 86)].iter().find_map(|(p, length)| Some((text.strip_prefix(p)?, *length)))
        {
            let mut rest = rest;
            if let Some(behind) = rest.strip_prefix("rounds=") {
                let (rounds, salted) = behind.split_once('$').ok_or_else(whole)?;
                let rounds: u32 = rounds.parse().map_err(|_| whole())?;
                if !(LEAST_ROUNDS..=MOST_ROUNDS).contains(&rounds) {
                    return Err((
                        format!("a SHA-crypt hash of {rounds} rounds"),
                        format!("{LEAST_ROUNDS} to {MOST_ROUNDS} rounds"),
                    ));
                }
                rest = salted;
            }
            let (salt, hash) = rest.split_once('$').ok_or_else(whole)?;
            let is_salt = (1..=16).contains(&salt.len()) && salt.bytes().all(is_crypt_base64);
            return if is_salt && fits(hash, length) { Ok(Self::Sha(text.into())) } else { Err(whole()) };
        }
        if let Some(rest) = text.strip_prefix(apr1::MAGIC) {
            let (salt, hash) = rest.split_once('$').ok_or_else(whole)?;
            let is_salt = (1..=8).contains(&salt.len()) && salt.bytes().all(is_crypt_base64);
            return if is_salt && fits(hash, apr1::LENGTH) {
                Ok(Self::Apr1 { salt: salt.into(), hash: hash.into() })
            } else {
                Err(whole())
            };
        }
        Err((unsupported(text).to_owned(), HASH.to_owned()))
    }

    fn verify(&self, password: &[u8]) -> bool {
        use sha_crypt::PasswordVerifier as _;
        match self {
            // An error is a hash that can't be read, and `parse` lets none through.
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Self::Sha(hash) => sha_crypt::ShaCrypt::default().verify_password(password, &**hash).is_ok(),
            Self::Apr1 { salt, hash } => {
                apr1::hash(password, salt.as_bytes()).as_bytes().ct_eq(hash.as_bytes()).into()
            }
        }
    }
}

/// What else a hash may be, by its looks alone.
fn unsupported(text: &str) -> &'static str {
    for (prefix, what) in [
        ("{SHA}", "an unsalted SHA-1 hash ({SHA})"),
        ("{SSHA}", "a SHA-1 hash ({SSHA})"),
        ("$1$", "an MD5-crypt hash ($1$)"),
        ("$2x$", "a bcrypt hash of a broken kind ($2x$)"),
        ("$2$", "a bcrypt hash of a broken kind ($2$)"),
        ("$y$", "a yescrypt hash ($y$)"),
        ("$argon2", "an Argon2 hash"),
        ("$", "a hash of an unknown kind"),
    ] {
        if text.starts_with(prefix) {
            return what;
        }
    }
    match text.len() {
        0 => "nothing",
        13 if text.bytes().all(is_crypt_base64) => "a DES crypt hash",
        _ => "what looks like a plain password",
    }
}

fn is_crypt_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/')
}
