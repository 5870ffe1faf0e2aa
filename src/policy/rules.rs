//! Per-host and per-pattern rules, first match wins.
//!
//! [`Rules`] finds the first rule for a target without trying them all: exact hosts and suffixes through maps, URL globs
//! through the rarest three bytes that a matching URL must contain. Each index lists rules in their order, so the
//! smallest match of each list is enough.
use crate::field::target::{Host, Target, without_dot};
use crate::policy::SetCookie;
use http::StatusCode;
use std::cell::{Cell, OnceCell};
use std::collections::HashMap;
use std::net::IpAddr;

/// Which targets a rule is for. Both must match; an empty list matches all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// `name`: shown in logs, Cache-Status and `explain`.
    pub name: String,
    /// `hosts`: `example.com` exactly, `.example.com` for it and all below it, `*` for all.
    pub hosts: Vec<String>,
    /// `urls`: globs over the whole URL (`*` any bytes, `?` one byte).
    pub urls: Vec<String>,
    /// `cache = false`: go straight through.
    pub cache: Option<bool>,
    /// `freshness`: first that fits wins.
    pub freshness: Vec<Override>,
    /// `ignore_query`: names of query parameters (a trailing `*` matches a prefix) left out of the key.
    pub ignore_query: Vec<String>,
    /// `fetch_over = "https"`: fetch an http target over verified TLS.
    pub fetch_over_https: bool,
    /// `stale_if_error`. Milliseconds.
    pub stale_if_error: Option<i64>,
    /// `stale_while_revalidate`, where the response has no such directive. Milliseconds.
    pub stale_while_revalidate: Option<i64>,
    /// `set_cookie`.
    pub set_cookie: Option<SetCookie>,
}

impl Rule {
    /// Whether a query parameter of this name (as received, undecoded) is left out of the key.
    pub fn ignores(&self, parameter: &str) -> bool {
        self.ignore_query.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => parameter.starts_with(prefix),
            None => parameter == pattern,
        })
    }
}

/// A breach of the origin's freshness that the operator asked for. All in milliseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Override {
    /// `status`: codes it is for; empty: every code that would be stored.
    pub status: Vec<u16>,
    /// `content_type`: globs over the media type; empty: all.
    pub content_type: Vec<String>,
    /// `min`: the lifetime is at least this.
    pub min: Option<i64>,
    /// `max`: the lifetime is at most this.
    pub max: Option<i64>,
    /// `force`: the lifetime is this, even against no-store, private and no-cache.
    pub force: Option<i64>,
}

impl Override {
    /// Whether it is for a response with this status and Content-Type (its value; parameters and case don't count).
    pub fn applies(&self, status: StatusCode, content_type: Option<&[u8]>) -> bool {
        if !self.status.is_empty() && !self.status.contains(&status.as_u16()) {
            return false;
        }
        if self.content_type.is_empty() {
            return true;
        }
        let media_type = content_type.and_then(|value| value.split(|&byte| byte == b';').next());
        media_type.is_some_and(|media_type| {
            let media_type = media_type.trim_ascii().to_ascii_lowercase();
            self.content_type.iter().any(|glob| matches(glob.to_ascii_lowercase().as_bytes(), &media_type))
        })
    }
}

/// What is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rule {} ({name:?}): {key} = {found}: {expected}", index + 1)]
pub struct RuleError {
    /// Which one, from 0.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// The key.
    pub key: &'static str,
    /// What stands there.
    pub found: String,
    /// What should.
    pub expected: &'static str,
}

/// Rules, made ready to be asked for each request.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    all: Vec<Rule>,
    /// The rules' globs, in the form that is compared.
    globs: Vec<Vec<Box<[u8]>>>,
    /// Names without a trailing dot.
    exact: HashMap<Box<str>, Vec<u32>, ahash::RandomState>,
    /// Suffixes without the leading dot.
    suffix: HashMap<Box<str>, Vec<u32>, ahash::RandomState>,
    addresses: HashMap<IpAddr, Vec<u32>, ahash::RandomState>,
    /// Rules by three bytes that their URLs contain.
    grams: HashMap<[u8; 3], Vec<u32>, ahash::RandomState>,
    /// Rules for all hosts whose globs have no three bytes in a row, and those without globs.
    others: Vec<u32>,
}

impl Rules {
    /// Checks the rules and builds the indexes. The first fault found is the error; [`check`] finds all.
    pub fn new(rules: Vec<Rule>) -> Result<Self, RuleError> {
        if let Some(error) = check(&rules).into_iter().next() {
            return Err(error);
        }
        let globs: Vec<Vec<_>> =
            rules.iter().map(|rule| rule.urls.iter().map(|url| normalized(url)).collect()).collect();
        let mut built = Self { globs, ..Self::default() };
        let counts = Counts::of(&rules, &built.globs);
        for (index, rule) in rules.iter().enumerate() {
            built.add(index as u32, rule, &counts);
        }
        built.all = rules;
        Ok(built)
    }

    /// Lists a rule where the fewest others are: under each of its hosts, or once for each of its globs under the gram
    /// that the fewest globs have. Either way every target that it matches comes by one of its lists.
    fn add(&mut self, index: u32, rule: &Rule, counts: &Counts) {
        let all_hosts = rule.hosts.is_empty() || rule.hosts.iter().any(|host| host == "*");
        let grams: Option<Vec<_>> =
            self.globs[index as usize].iter().map(|glob| counts.rarest_gram(glob)).collect();
        let grams = grams.filter(|grams| !grams.is_empty());
        match grams {
            Some(grams) if all_hosts || counts.fewer_by_grams(rule, &grams) => {
                for gram in grams {
                    push(self.grams.entry(gram).or_default(), index);
                }
            }
            _ if all_hosts => push(&mut self.others, index),
            _ => self.add_by_hosts(index, rule),
        }
    }

    fn add_by_hosts(&mut self, index: u32, rule: &Rule) {
        for host in &rule.hosts {
            let list = if let Some(suffix) = host.strip_prefix('.') {
                self.suffix.entry(lower_name(suffix)).or_default()
            } else if let Some(ip) = address(host) {
                self.addresses.entry(ip).or_default()
            } else {
                self.exact.entry(lower_name(host)).or_default()
            };
            push(list, index);
        }
    }

    /// The first rule for this target.
    pub fn find(&self, target: &Target) -> Option<&Rule> {
        if self.all.is_empty() {
            return None;
        }
        let search =
            Search { rules: self, target, url: OnceCell::new(), best: Cell::new(None), tried: Cell::new(0) };
        search.run();
        self.all.get(search.best.get()? as usize)
    }

    /// The rules, in their order.
    pub fn rules(&self) -> &[Rule] {
        &self.all
    }
}

/// Equal rules in equal order find the same: the indexes follow from them.
impl PartialEq for Rules {
    fn eq(&self, other: &Self) -> bool {
        self.all == other.all
    }
}

/// How often each host and each gram comes up in the rules.
#[derive(Default)]
struct Counts {
    hosts: HashMap<Box<str>, u32, ahash::RandomState>,
    grams: HashMap<[u8; 3], u32, ahash::RandomState>,
}

impl Counts {
    fn of(rules: &[Rule], globs: &[Vec<Box<[u8]>>]) -> Self {
        let mut counts = Self::default();
        for host in rules.iter().flat_map(|rule| &rule.hosts) {
            *counts.hosts.entry(lower_name(host)).or_default() += 1;
        }
        for gram in globs.iter().flatten().flat_map(|glob| grams_of(glob)) {
            *counts.grams.entry(gram).or_default() += 1;
        }
        counts
    }

    fn gram(&self, gram: [u8; 3]) -> u32 {
        self.grams.get(&gram).copied().unwrap_or(0)
    }

    /// `None` if the glob has no three bytes in a row.
    fn rarest_gram(&self, glob: &[u8]) -> Option<[u8; 3]> {
        grams_of(glob).min_by_key(|gram| self.gram(*gram))
    }

    /// Whether the lists under these grams are shorter than those under the rule's hosts. A rule with many hosts stays
    /// with them: found by a gram, it would have to compare each.
    fn fewer_by_grams(&self, rule: &Rule, grams: &[[u8; 3]]) -> bool {
        const HOSTS_TO_COMPARE: usize = 8;
        let by_hosts = rule.hosts.iter().filter_map(|host| self.hosts.get(&lower_name(host))).max();
        let by_grams = grams.iter().map(|gram| self.gram(*gram)).max();
        rule.hosts.len() <= HOSTS_TO_COMPARE && by_grams < by_hosts.copied()
    }
}

/// One lookup.
struct Search<'a> {
    rules: &'a Rules,
    target: &'a Target,
    url: OnceCell<String>,
    /// The first rule that matched so far.
    best: Cell<Option<u32>>,
    /// Rules whose globs were compared: the cost, for the test.
    tried: Cell<usize>,
}

impl Search<'_> {
    fn run(&self) {
        let rules = self.rules;
        match &self.target.host {
            Host::Ip(ip) => self.try_list(rules.addresses.get(ip)),
            Host::Name(name) => {
                let mut name = without_dot(name);
                self.try_list(rules.exact.get(name));
                while !rules.suffix.is_empty() {
                    self.try_list(rules.suffix.get(name));
                    match name.split_once('.') {
                        Some((_, above)) => name = above,
                        None => break,
                    }
                }
            }
        }
        self.try_list(Some(&rules.others));
        if !rules.grams.is_empty() {
            for gram in self.url().as_bytes().windows(3) {
                if let [a, b, c] = *gram {
                    self.try_list(rules.grams.get(&[a, b, c]));
                }
            }
        }
    }

    /// The list is in the rules' order: what is behind the best or the first match can't be better.
    fn try_list(&self, list: Option<&Vec<u32>>) {
        for &index in list.into_iter().flatten() {
            if self.best.get().is_some_and(|best| best <= index) {
                return;
            }
            self.tried.set(self.tried.get() + 1);
            if self.matches(index as usize) {
                self.best.set(Some(index));
                return;
            }
        }
    }

    fn matches(&self, index: usize) -> bool {
        let (hosts, globs) = (&self.rules.all[index].hosts, &self.rules.globs[index]);
        (globs.is_empty() || globs.iter().any(|glob| matches(glob, self.url().as_bytes())))
            && (hosts.is_empty() || hosts.iter().any(|host| self.target.host.matches(host)))
    }

    /// Built at most once a lookup, and only for globs.
    fn url(&self) -> &str {
        self.url.get_or_init(|| self.target.url())
    }
}

/// Everything that is wrong with these rules.
pub fn check(rules: &[Rule]) -> Vec<RuleError> {
    let mut errors = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let mut add = |key, found: String, expected| {
            errors.push(RuleError { index, name: rule.name.clone(), key, found, expected });
        };
        for host in rule.hosts.iter().filter(|host| !is_host_pattern(host)) {
            add(
                "hosts",
                format!("{host:?}"),
                "expected a host, \".example.com\" for all below one, or \"*\"; no port",
            );
        }
        for url in rule.urls.iter().filter(|url| url.is_empty()) {
            add(
                "urls",
                format!("{url:?}"),
                "expected a glob over the whole URL, such as \"http://example.com/*.deb\"",
            );
        }
        for name in rule.ignore_query.iter().filter(|name| !is_parameter_pattern(name)) {
            add("ignore_query", format!("{name:?}"), "expected a parameter's name, with * only at its end");
        }
        for freshness in &rule.freshness {
            for status in freshness.status.iter().filter(|status| !(200..=599).contains(*status)) {
                add("freshness.status", status.to_string(), "expected status codes from 200 to 599");
            }
            if let (Some(min), Some(max)) = (freshness.min, freshness.max)
                && min > max
            {
                add("freshness.min", format!("{min} ms"), "expected no more than freshness.max");
            }
            if freshness.force.is_some() && (freshness.min.is_some() || freshness.max.is_some()) {
                add("freshness.force", "with min or max".to_owned(), "expected force, or min and max");
            }
            if (freshness.force, freshness.min, freshness.max) == (None, None, None) {
                add("freshness", "without min, max and force".to_owned(), "expected one of them");
            }
        }
    }
    errors
}

fn is_host_pattern(pattern: &str) -> bool {
    if pattern == "*" || address(pattern).is_some() {
        return true;
    }
    let name = without_dot(pattern.strip_prefix('.').unwrap_or(pattern));
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    !name.is_empty() && name.bytes().all(valid) && !name.starts_with('.') && !name.contains("..")
}

fn is_parameter_pattern(pattern: &str) -> bool {
    !pattern.is_empty()
        && !pattern[..pattern.len() - 1].contains('*')
        && !pattern.contains(['&', '=', '?', '#'])
}

/// An address in any spelling, IPv6 with or without brackets.
fn address(pattern: &str) -> Option<IpAddr> {
    pattern.strip_prefix('[').and_then(|p| p.strip_suffix(']')).unwrap_or(pattern).parse().ok()
}

/// As names of hosts are looked up.
fn lower_name(name: &str) -> Box<str> {
    without_dot(name).to_ascii_lowercase().into()
}

/// A rule may name a host twice; its place in the list is one.
fn push(list: &mut Vec<u32>, index: u32) {
    if list.last() != Some(&index) {
        list.push(index);
    }
}

/// Scheme and host of a glob in lower case, as they are in a target's URL.
fn normalized(glob: &str) -> Box<[u8]> {
    let host = glob.find("://").map_or(0, |at| at + 3);
    let end = if host == 0 { 0 } else { glob[host..].find('/').map_or(glob.len(), |at| host + at) };
    let mut bytes = glob.as_bytes().to_vec();
    bytes[..end].make_ascii_lowercase();
    // `**` is `*`.
    bytes.dedup_by(|b, a| *a == b'*' && *b == b'*');
    bytes.into()
}

/// All three bytes in a row that every match of the glob contains.
fn grams_of(glob: &[u8]) -> impl Iterator<Item = [u8; 3]> + '_ {
    glob.split(|byte| matches!(byte, b'*' | b'?'))
        .flat_map(|literal| literal.windows(3).filter_map(|gram| <[u8; 3]>::try_from(gram).ok()))
}

/// Whether a glob over URLs matches this one: `*` any bytes, `?` one byte.
pub fn glob_matches(glob: &str, url: &str) -> bool {
    matches(&normalized(glob), url.as_bytes())
}

/// Whether the glob matches all of the text: `*` any bytes, `?` one byte. Time is at most the product of both lengths.
fn matches(glob: &[u8], text: &[u8]) -> bool {
    let (mut g, mut t) = (0, 0);
    // Where to go on when what follows the last `*` doesn't fit: the `*` takes one byte more.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match glob.get(g) {
            Some(b'*') => {
                g += 1;
                star = Some((g, t));
            }
            Some(&byte) if byte == b'?' || byte == text[t] => {
                g += 1;
                t += 1;
            }
            _ => match star {
                Some((after, taken)) => {
                    star = Some((after, taken + 1));
                    g = after;
                    t = taken + 1;
                }
                None => return false,
            },
        }
    }
    glob[g..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests;
