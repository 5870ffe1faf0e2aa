//! Who a client says it is, and whether that is so: Basic (RFC 7617) and Digest (RFC 7616) for a proxy (RFC 9110
//! section 11.7).
//!
//! ```text
//!  Proxy-Authorization -> judge -> Known (Basic that was verified before; Digest)
//!                            |---> Unknown: none, malformed, wrong, aged, too many wrong ones
//!                            `---> Verify: Basic, slow on purpose: for a thread that may block
//! ```
//!
//! Nothing here waits. What took long once is remembered by a keyed hash, never by the password, so that the next
//! request costs a hash. A new [`Authenticator`] is made for each configuration that is read, and remembers nothing of
//! the one before; what belongs to the process is in [`Memory`].

mod apr1;
mod credentials;
pub mod digest;
mod failures;
mod file;
pub mod htpasswd;
mod nonce;

use crate::clock::Moment;
use credentials::{Credentials, DigestResponse};
use digest::Algorithm;
use failures::Failures;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::header::{HeaderMap, HeaderValue};
use http::{Method, Uri};
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use nonce::{Nonces, Seen};
use sha2::Sha256;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

pub use digest::DigestUsers;
pub use file::LoadError;
pub use htpasswd::BasicUsers;

/// The rule that refuses who does not say who it is.
pub const RULE: &str = "authentication";
/// The rule that refuses who was wrong too often.
pub const LIMIT_RULE: &str = "authentication-limit";

/// Verified credentials that are remembered. Each takes about 100 bytes.
const VERIFIED: u64 = 10_000;

/// Who may use the proxy. With neither file, everybody may, unasked.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// `access.basic_file`: users with hashes of their passwords, as htpasswd writes them.
    pub basic_file: Option<PathBuf>,
    /// `access.digest_file`: `user:realm:HA1`.
    pub digest_file: Option<PathBuf>,
    /// `access.realm`: what a client is told that it is to authenticate for. Default `larder`.
    pub realm: String,
    /// What is in `basic_file`.
    pub basic: Option<Arc<BasicUsers>>,
    /// What is in `digest_file` for the realm.
    pub digest: Option<Arc<DigestUsers>>,
}

impl Default for Options {
    fn default() -> Self {
        Self { basic_file: None, digest_file: None, realm: "larder".to_owned(), basic: None, digest: None }
    }
}

/// What is remembered for the life of the process, over reloads: a secret, nonces in use, failures.
#[derive(Debug)]
pub struct Memory {
    nonces: Nonces,
    failures: Failures,
    key: [u8; 32],
}

impl Memory {
    /// Nothing yet, and a fresh secret.
    pub fn new() -> Self {
        let key: [u8; 32] = rand::random();
        Self { nonces: Nonces::new(&key), failures: Failures::new(), key }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

/// Who a client is, as far as it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// Nobody has to say who it is.
    NotAsked,
    /// This user.
    Known(Arc<str>),
    /// It would have to say so, and has not.
    Unknown(Unknown),
}

impl Principal {
    /// The user's name, where it is known.
    pub fn name(&self) -> Option<&Arc<str>> {
        match self {
            Self::Known(name) => Some(name),
            Self::NotAsked | Self::Unknown(_) => None,
        }
    }
}

/// That it is not known who a client is, and what it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Why not.
    pub why: Why,
    /// What `Proxy-Authenticate` says, a line each. None for who has to wait.
    pub challenges: Vec<HeaderValue>,
}

/// Why it is not known who a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It does not say.
    Silent,
    /// What it says can't be understood, or is not what it was asked for.
    Malformed(&'static str),
    /// The user or the password is wrong.
    Wrong,
    /// It is right, but for a nonce that is not good any more.
    Stale,
    /// Too many wrong ones came from its address.
    TooMany,
}

/// What [`Authenticator::judge`] finds.
#[derive(Debug)]
pub enum Judged {
    /// It is found out.
    Done(Principal),
    /// It takes long to find out: by [`Authenticator::verify`].
    Verify(Check),
}

/// A password that is to be compared with a hash.
pub struct Check {
    user: Arc<str>,
    password: Vec<u8>,
    /// By which the result is remembered.
    key: [u8; 32],
    client: IpAddr,
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Check")
    }
}

/// The users of one configuration, and who of them has been verified.
#[derive(Debug)]
pub struct Authenticator {
    realm: String,
    basic: Option<Arc<BasicUsers>>,
    digest: Option<Arc<DigestUsers>>,
    /// By a keyed hash of user and password.
    verified: Cache<[u8; 32], Arc<str>>,
    memory: Arc<Memory>,
}

impl Authenticator {
    /// `None` where nobody has to say who it is.
    pub fn new(options: &Options, memory: &Arc<Memory>) -> Option<Self> {
        if options.basic.is_none() && options.digest.is_none() {
            return None;
        }
        Some(Self {
            realm: options.realm.clone(),
            basic: options.basic.clone(),
            digest: options.digest.clone(),
            verified: Cache::builder().max_capacity(VERIFIED).eviction_policy(EvictionPolicy::lru()).build(),
            memory: Arc::clone(memory),
        })
    }

    /// Looks at the `Proxy-Authorization` of a request as it was received, without waiting.
    pub fn judge(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        client: IpAddr,
        now: Moment,
    ) -> Judged {
        let done = match Credentials::of(headers) {
            Ok(None) => Err(Why::Silent),
            Err(what) => Err(Why::Malformed(what)),
            Ok(Some(Credentials::Basic { .. })) if self.basic.is_none() => {
                Err(Why::Malformed("the scheme is Basic, which is not offered"))
            }
            Ok(Some(Credentials::Basic { user, password })) => {
                let key = self.key(&user, &password);
                match self.verified.get(&key) {
                    Some(name) => Ok(name),
                    // Who has been wrong too often does not even stand in line.
                    None if self.memory.failures.is_limited(client, now) => Err(Why::TooMany),
                    None => return Judged::Verify(Check { user: user.into(), password, key, client }),
                }
            }
            Ok(Some(Credentials::Digest(response))) => self.digest(&response, method, uri, client, now),
        };
        Judged::Done(self.principal(done, now))
    }

    /// Compares a password with its hash: blocks for as long as that takes, 100 ms and more. One that was found right
    /// meanwhile is not compared again; one from an address that was wrong too often is not compared at all.
    pub fn verify(&self, check: Check, now: Moment) -> Principal {
        self.principal(self.compare(check, now), now)
    }

    /// The answer to who would have to wait for too many others.
    pub fn too_many(&self, now: Moment) -> Principal {
        self.principal(Err(Why::TooMany), now)
    }

    fn principal(&self, done: Result<Arc<str>, Why>, now: Moment) -> Principal {
        match done {
            Ok(name) => Principal::Known(name),
            Err(why) => {
                let challenges = match why {
                    Why::TooMany => Vec::new(),
                    Why::Silent | Why::Malformed(_) | Why::Wrong => self.challenges(false, now),
                    Why::Stale => self.challenges(true, now),
                };
                Principal::Unknown(Unknown { why, challenges })
            }
        }
    }

    fn compare(&self, check: Check, now: Moment) -> Result<Arc<str>, Why> {
        let Check { user, password, key, client } = check;
        if let Some(name) = self.verified.get(&key) {
            return Ok(name);
        }
        let users = self.basic.as_ref().ok_or(Why::Wrong)?;
        if !self.memory.failures.may_try(client, now) {
            return Err(Why::TooMany);
        }
        if users.verify(&user, &password, u64::from_le_bytes(first(&key))) {
            self.verified.insert(key, Arc::clone(&user));
            return Ok(user);
        }
        self.memory.failures.failed(client, now);
        Err(Why::Wrong)
    }

    fn digest(
        &self,
        given: &DigestResponse,
        method: &Method,
        uri: &Uri,
        client: IpAddr,
        now: Moment,
    ) -> Result<Arc<str>, Why> {
        let users =
            self.digest.as_ref().ok_or(Why::Malformed("the scheme is Digest, which is not offered"))?;
        if given.realm != self.realm {
            return Err(Why::Malformed("the realm is another one"));
        }
        if !given.is_for(uri) {
            return Err(Why::Malformed("its uri is not the request's target"));
        }
        let Memory { failures, nonces, .. } = &*self.memory;
        // Whoever has been right with a nonce is not slowed by others behind its address: they do not know the nonce.
        if !nonces.is_known(&given.nonce, &given.user) && !failures.may_try(client, now) {
            return Err(Why::TooMany);
        }
        // Of a user that does not exist a response is computed all the same, from what nobody can know.
        let (user, first) = match users.find(&given.user, given.algorithm) {
            Some((user, first)) => (Some(user), first),
            None => (None, hex::lower(&self.key(&given.user, b"no such user"))),
        };
        let right = given.is_right(&first, method);
        let (Some(user), true) = (user, right) else {
            failures.failed(client, now);
            return Err(Why::Wrong);
        };
        match nonces.see(&given.nonce, &given.user, given.count, now) {
            Seen::New => Ok(user),
            Seen::Again | Seen::Old | Seen::Foreign => Err(Why::Stale),
        }
    }

    /// What `Proxy-Authenticate` says, a line each, the strongest first: a client takes the first that it knows.
    /// RFC 7616 section 3.7, RFC 7617 section 2.1.
    fn challenges(&self, stale: bool, now: Moment) -> Vec<HeaderValue> {
        let realm = &self.realm;
        let mut lines = Vec::new();
        if let Some(users) = &self.digest {
            let nonce = self.memory.nonces.fresh(now);
            let stale = if stale { ", stale=true" } else { "" };
            for algorithm in Algorithm::ALL.into_iter().filter(|algorithm| users.offers(*algorithm)) {
                let name = algorithm.name();
                lines.push(format!(
                    "Digest realm=\"{realm}\", qop=\"auth\", algorithm={name}, nonce=\"{nonce}\"{stale}"
                ));
            }
        }
        if self.basic.is_some() {
            lines.push(format!("Basic realm=\"{realm}\", charset=\"UTF-8\""));
        }
        lines.into_iter().filter_map(|line| HeaderValue::try_from(line).ok()).collect()
    }

    /// A name for a user and a secret that says nothing of either outside this process.
    fn key(&self, user: &str, secret: &[u8]) -> [u8; 32] {
        // No user's name holds a NUL.
        mac(&self.memory.key, &[user.as_bytes(), b"\0", secret])
    }
}

/// HMAC-SHA-256 of the parts one behind the other.
fn mac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    // HMAC takes a key of any length: this one is never refused.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return [0; 32] };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn first(key: &[u8; 32]) -> [u8; 8] {
    let mut first = [0; 8];
    first.copy_from_slice(&key[..8]);
    first
}

/// Hexadecimal digits.
mod hex {
    /// In lower case.
    pub(super) fn lower(bytes: &[u8]) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
        bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }
}

#[cfg(test)]
mod tests;
