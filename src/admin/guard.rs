//! Who may ask what of the admin listener.
//!
//! A web page in the user's browser can reach it: by a name of its own that resolves to this machine (DNS
//! rebinding: the Host field gives it away), or by a request across sites (Origin and Sec-Fetch-Site do). Where
//! it listens beyond loopback, changes and explanations need the token.

use super::Options;
use crate::clock::Stopwatch;
use ahash::RandomState;
use http::header::{AUTHORIZATION, HOST, HeaderValue, ORIGIN};
use http::{HeaderMap, Uri, Version};
use parking_lot::Mutex;
use std::net::{IpAddr, Ipv6Addr};
use subtle::{Choice, ConstantTimeEq};

/// Wrong tokens allowed at once from a client, and how many more a second. A client beyond that is not even
/// compared: guessing goes at this rate.
const TRIES: f64 = 10.0;
const TRIES_A_SECOND: f64 = 0.2;

/// Clients are told apart by a seeded hash into this many buckets: bounded, whoever asks.
const BUCKETS: usize = 256;

/// Why a request is turned away.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Denied {
    /// 421: a Host that is not ours.
    Host,
    /// 403: sent by a page of another site.
    CrossSite,
    /// 403: no token is configured, so nobody may act from elsewhere.
    NoToken,
    /// 401: none given, or a wrong one.
    Token,
    /// 429: too many wrong ones.
    TooManyTries,
}

/// The checks that need to remember something.
#[derive(Debug)]
pub(super) struct Guard {
    /// Whether the listener is on loopback: what reaches it is from this machine.
    loopback: bool,
    since_start: Stopwatch,
    hasher: RandomState,
    failures: Mutex<Vec<Bucket>>,
}

/// Wrong tokens of the clients that share it: a level that leaks away.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    level: f64,
    /// Seconds since the start.
    at: f64,
}

impl Guard {
    pub(super) fn new(loopback: bool) -> Self {
        Self {
            loopback,
            since_start: Stopwatch::start(),
            hasher: RandomState::new(),
            failures: Mutex::new(vec![Bucket::default(); BUCKETS]),
        }
    }

    /// Whether `client` may change something, or have a request made.
    pub(super) fn act(&self, options: &Options, headers: &HeaderMap, client: IpAddr) -> Result<(), Denied> {
        if self.loopback {
            return Ok(());
        }
        let Some(token) = options.token.as_deref().filter(|token| !token.is_empty()) else {
            return Err(Denied::NoToken);
        };
        let now = self.since_start.elapsed().as_secs_f64();
        let index = self.hasher.hash_one(client.to_canonical()) as usize % BUCKETS;
        let mut failures = self.failures.lock();
        let bucket = &mut failures[index];
        bucket.level = (bucket.level - (now - bucket.at) * TRIES_A_SECOND).max(0.0);
        bucket.at = now;
        if bucket.level > TRIES - 1.0 {
            return Err(Denied::TooManyTries);
        }
        if bearer(headers).is_some_and(|given| equal(given, token.as_bytes())) {
            return Ok(());
        }
        bucket.level += 1.0;
        Err(Denied::Token)
    }
}

/// The request must have been sent to a name of ours: an IP literal, `localhost`, or one of `admin.hosts`.
pub(super) fn host(
    options: &Options,
    version: Version,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<(), Denied> {
    let mut lines = headers.get_all(HOST).iter();
    let ours = match (lines.next(), lines.next()) {
        (Some(host), None) => host.to_str().is_ok_and(|host| is_ours(options, host)),
        // A browser always sends Host; simple health checks speak 1.0 without it.
        (None, _) => version < Version::HTTP_11,
        (Some(_), Some(_)) => false,
    };
    let target_ours = uri.authority().is_none_or(|authority| is_ours(options, authority.as_str()));
    if ours && target_ours { Ok(()) } else { Err(Denied::Host) }
}

fn is_ours(options: &Options, authority: &str) -> bool {
    let Some(host) = without_port(authority) else { return false };
    if let Some(literal) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return literal.parse::<Ipv6Addr>().is_ok();
    }
    host.parse::<std::net::Ipv4Addr>().is_ok()
        || host.eq_ignore_ascii_case("localhost")
        || options.hosts.iter().any(|name| host.eq_ignore_ascii_case(name))
}

/// The host of `host[:port]`; `None` if what follows is no port.
fn without_port(authority: &str) -> Option<&str> {
    let end = match authority.strip_prefix('[') {
        Some(literal) => literal.find(']')? + 2,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(end);
    match port.strip_prefix(':') {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(host),
        None => port.is_empty().then_some(host),
    }
}

/// A page of another site may not make us do anything: a browser says where a request comes from.
pub(super) fn same_site(headers: &HeaderMap) -> Result<(), Denied> {
    let site_ok = headers
        .get_all("sec-fetch-site")
        .iter()
        .all(|site| matches!(site.as_bytes(), b"same-origin" | b"none"));
    let host = headers.get(HOST).map(HeaderValue::as_bytes);
    let origin_ok = headers.get_all(ORIGIN).iter().all(|origin| {
        let authority =
            origin.as_bytes().strip_prefix(b"http://").or(origin.as_bytes().strip_prefix(b"https://"));
        authority.zip(host).is_some_and(|(authority, host)| authority.eq_ignore_ascii_case(host))
    });
    if site_ok && origin_ok { Ok(()) } else { Err(Denied::CrossSite) }
}

/// The token of `Authorization: Bearer`. RFC 6750 section 2.1.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token.trim_ascii())
}

/// Takes a time that depends on the length of what was given alone. `token` is not empty.
fn equal(given: &[u8], token: &[u8]) -> bool {
    let mut same: Choice = given.len().ct_eq(&token.len());
    for (byte, expected) in given.iter().zip(token.iter().cycle()) {
        same &= byte.ct_eq(expected);
    }
    same.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_host(host: &str, ours: bool) {
        let options = Options { hosts: vec!["cache.lan".into()], ..Options::default() };
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        assert_eq!(
            super::host(&options, Version::HTTP_11, &Uri::from_static("/"), &headers).is_ok(),
            ours,
            "{host}"
        );
    }

    #[test]
    fn only_literals_localhost_and_listed_names_are_ours() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:9128",
            "[::1]",
            "[::1]:9128",
            "10.0.0.7:1",
            "localhost",
            "LOCALHOST:9128",
            "Cache.LAN:80",
        ] {
            check_host(host, true);
        }
        for host in [
            "",
            "evil.example",
            "evil.example:9128",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "localhost@evil.example",
            "[::1",
            "[evil]:1",
            "127.0.0.1:x",
            "127.0.0.1 ",
            "cache.lan.",
            "0x7f.1",
            "2130706433",
            "[::1]x",
        ] {
            check_host(host, false);
        }
    }

    #[test]
    fn a_missing_host_passes_in_http_1_0_alone_and_two_never() {
        let (options, mut headers) = (Options::default(), HeaderMap::new());
        let uri = Uri::from_static("/");
        assert!(host(&options, Version::HTTP_10, &uri, &headers).is_ok());
        assert!(host(&options, Version::HTTP_11, &uri, &headers).is_err());
        headers.append(HOST, "localhost".parse().unwrap());
        headers.append(HOST, "localhost".parse().unwrap());
        assert!(host(&options, Version::HTTP_11, &uri, &headers).is_err());
    }

    #[test]
    fn a_foreign_target_is_not_ours_whatever_host_says() {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, "localhost".parse().unwrap());
        let target = Uri::from_static("http://evil.example/metrics");
        assert_eq!(host(&Options::default(), Version::HTTP_11, &target, &headers), Err(Denied::Host));
    }

    #[track_caller]
    fn check_site(fields: &[(&'static str, &str)], allowed: bool) {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, "127.0.0.1:9128".parse().unwrap());
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        assert_eq!(same_site(&headers).is_ok(), allowed, "{fields:?}");
    }

    #[test]
    fn requests_of_other_sites_are_known_by_origin_and_fetch_metadata() {
        check_site(&[], true);
        check_site(&[("origin", "http://127.0.0.1:9128")], true);
        check_site(&[("origin", "http://127.0.0.1:9128"), ("sec-fetch-site", "same-origin")], true);
        check_site(&[("sec-fetch-site", "none")], true);
        check_site(&[("origin", "null")], false);
        check_site(&[("origin", "http://evil.example")], false);
        check_site(&[("origin", "http://127.0.0.1:3000")], false);
        check_site(&[("sec-fetch-site", "cross-site")], false);
        check_site(&[("sec-fetch-site", "same-site")], false);
        check_site(&[("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")], false);
    }

    #[test]
    fn tokens_are_equal_only_as_a_whole() {
        assert!(equal(b"secret", b"secret"));
        for wrong in [&b""[..], b"s", b"secre", b"secrets", b"Secret", b"secretsecret"] {
            assert!(!equal(wrong, b"secret"));
        }
    }

    /// By how long it takes, nobody learns how much of a guess is right: were it to end at the first byte that is
    /// wrong, one guess would take a thousand times as long as the other.
    #[test]
    fn a_guess_takes_as_long_wherever_it_is_wrong() {
        let token = vec![b'x'; 1 << 18];
        let wrong_at = |at: usize| {
            let mut guess = token.clone();
            guess[at] = b'y';
            let took = || {
                let since = Stopwatch::start();
                assert!(!equal(&guess, &token));
                since.elapsed()
            };
            // The least of many: what else runs here only adds to it.
            (0..20).map(|_| took()).min()
        };
        let (first, last) = (wrong_at(0), wrong_at(token.len() - 1));
        assert!(first > last.map(|last| last / 10), "{first:?} and {last:?}");
    }

    #[test]
    fn guesses_are_limited_and_do_not_lock_others_out() {
        let guard = Guard::new(false);
        let options = Options { token: Some("secret".into()), ..Options::default() };
        let with =
            |token: &str| HeaderMap::from_iter([(AUTHORIZATION, format!("Bearer {token}").parse().unwrap())]);
        let guesser = IpAddr::from([192, 0, 2, 1]);
        let verdicts: Vec<_> = (0..20).map(|n| guard.act(&options, &with(&n.to_string()), guesser)).collect();
        assert!(verdicts[..10].iter().all(|verdict| *verdict == Err(Denied::Token)), "{verdicts:?}");
        assert!(verdicts[10..].iter().all(|verdict| *verdict == Err(Denied::TooManyTries)), "{verdicts:?}");
        assert_eq!(guard.act(&options, &with("secret"), guesser), Err(Denied::TooManyTries));
        let others =
            (2..=9).filter(|last| guard.act(&options, &with("secret"), [192, 0, 2, *last].into()).is_ok());
        assert!(others.count() >= 6);
    }

    #[test]
    fn elsewhere_than_on_loopback_nothing_changes_without_a_token() {
        let client = IpAddr::from([192, 0, 2, 1]);
        let (none, empty) =
            (Options::default(), Options { token: Some(String::new()), ..Options::default() });
        assert_eq!(Guard::new(false).act(&none, &HeaderMap::new(), client), Err(Denied::NoToken));
        assert_eq!(Guard::new(false).act(&empty, &HeaderMap::new(), client), Err(Denied::NoToken));
        assert_eq!(Guard::new(true).act(&none, &HeaderMap::new(), client), Ok(()));
    }
}
