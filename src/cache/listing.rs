//! What is stored, for people who ask: a page of responses, or all sites with their sums. It walks the whole store and
//! keeps no more than a page of it; the path of a hit knows nothing of it.

use std::cmp::Ordering;
use std::collections::HashMap;

use http::header::{self, HeaderName};
use serde_json::{Value, json};

use super::explain::{TAG_FIELDS, host_of, parse_url};
use super::{Cache, Settings};
use crate::clock::Moment;
use crate::field::tags;
use crate::policy::{self, Candidate as _, Completeness, Terms};
use crate::store::StoredResponse;

/// The longest page, and how far pages go: both bound what a listing keeps alive while it is made.
pub const MAX_LIMIT: usize = 500;
/// See [`MAX_LIMIT`].
pub const MAX_OFFSET: usize = 5_000;
/// Sites whose sums are kept apart; any further ones are summed up together.
const MAX_SITES: usize = 10_000;
/// Tags of a response that are told.
const MAX_TAGS: usize = 20;

/// Which stored responses are listed, in which order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Only those whose URL, as it is shown, contains this in any case.
    pub search: String,
    /// The order.
    pub sort: Sort,
    /// The other way round.
    pub reverse: bool,
    /// So many are left out at the beginning; at most [`MAX_OFFSET`].
    pub offset: usize,
    /// So many are told; at most [`MAX_LIMIT`].
    pub limit: usize,
}

/// An order of stored responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// By host, then URL.
    Site,
    /// The largest first.
    Size,
    /// What was stored or validated last comes first.
    Age,
}

impl Default for Listing {
    fn default() -> Self {
        Self { search: String::new(), sort: Sort::Age, reverse: false, offset: 0, limit: 100 }
    }
}

struct Row(StoredResponse);

#[derive(Default)]
struct Sums {
    responses: u64,
    bytes: u64,
}

impl Cache {
    /// A page of the stored responses. Queries are told only with `query`.
    pub fn list(&self, asked: &Listing, settings: &Settings, query: bool) -> Value {
        let (offset, limit) = (asked.offset.min(MAX_OFFSET), asked.limit.min(MAX_LIMIT));
        let wanted = offset + limit;
        let search = asked.search.to_lowercase();
        let order = |a: &Row, b: &Row| {
            let ordering = asked.sort.compare(a, b);
            if asked.reverse { ordering.reverse() } else { ordering }
        };
        let (mut rows, mut found) = (Vec::new(), Sums::default());
        for candidates in self.store().iter() {
            let url = candidates.url().unwrap_or_default();
            if !search.is_empty() && !shown(url, query).0.to_lowercase().contains(&search) {
                continue;
            }
            for response in candidates.iter() {
                found.responses += 1;
                found.bytes += response.weight();
                rows.push(Row(response.clone()));
            }
            if rows.len() > 2 * wanted.max(MAX_LIMIT) {
                rows.select_nth_unstable_by(wanted, order);
                rows.truncate(wanted);
            }
        }
        rows.sort_by(order);
        let now = self.clock.now();
        let told = rows.iter().skip(offset).take(limit).map(|row| row.told(settings, now, query));
        json!({
            "found": found.responses,
            "bytes": found.bytes,
            "offset": offset,
            "responses": told.collect::<Vec<_>>(),
        })
    }

    /// All sites with the sums of what is stored of them, the largest first; at most `limit` of them.
    pub fn sites(&self, search: &str, limit: usize) -> Value {
        let search = search.to_lowercase();
        let (mut sites, mut others) = (HashMap::<String, Sums>::new(), Sums::default());
        for candidates in self.store().iter() {
            let host = host_of(candidates.url().unwrap_or_default());
            if !host.contains(&search) {
                continue;
            }
            let known = sites.contains_key(host);
            let sums = match sites.len() {
                MAX_SITES.. if !known => &mut others,
                _ => sites.entry(host.to_owned()).or_default(),
            };
            sums.responses += candidates.len() as u64;
            sums.bytes += candidates.iter().map(StoredResponse::weight).sum::<u64>();
        }
        let found = sites.len();
        let mut sites: Vec<_> = sites.into_iter().collect();
        sites.sort_by(|(a, one), (b, two)| two.bytes.cmp(&one.bytes).then_with(|| a.cmp(b)));
        for (_, sums) in sites.iter().skip(limit) {
            others.responses += sums.responses;
            others.bytes += sums.bytes;
        }
        let told: Vec<_> = sites
            .iter()
            .take(limit)
            .map(|(host, sums)| json!({ "host": host, "responses": sums.responses, "bytes": sums.bytes }))
            .collect();
        let others = json!({ "responses": others.responses, "bytes": others.bytes });
        json!({ "found": found, "sites": told, "others": others })
    }
}

impl Sort {
    fn compare(self, a: &Row, b: &Row) -> Ordering {
        let by_url = || {
            let (one, two) = (a.0.url(), b.0.url());
            host_of(one).cmp(host_of(two)).then_with(|| one.cmp(two))
        };
        let received = |row: &Row| row.0.head().response_time.mono;
        match self {
            Self::Site => by_url(),
            Self::Size => b.0.weight().cmp(&a.0.weight()).then_with(by_url),
            Self::Age => received(b).cmp(&received(a)).then_with(by_url),
        }
    }
}

impl Row {
    fn told(&self, settings: &Settings, now: Moment, query: bool) -> Value {
        let head = self.0.head();
        let target = parse_url(self.0.url()).ok();
        let rule = target.as_ref().and_then(|(_, target)| settings.rules.find(target));
        let terms = Terms { options: &settings.policy, rule, now };
        let freshness = policy::freshness(head, &terms);
        let (url, query_hidden) = shown(self.0.url(), query);
        let of = |name: &HeaderName| {
            head.fields().bytes(name).map(|value| String::from_utf8_lossy(value).into_owned())
        };
        let names = TAG_FIELDS;
        let lines =
            names.iter().flat_map(|name| head.fields().bytes_all(name).map(move |value| (name, value)));
        let tags = lines.flat_map(|(name, value)| tags::tags(name, value)).take(MAX_TAGS);
        json!({
            "url": url,
            "query_hidden": query_hidden,
            "status": head.status.as_u16(),
            "content_type": of(&header::CONTENT_TYPE),
            "body_bytes": self.0.length(),
            "bytes": self.0.weight(),
            "complete": head.completeness == Completeness::Complete,
            "stored_ago_s": now.since(head.response_time).div_euclid(1000),
            "age_s": freshness.age_seconds(),
            "ttl_s": freshness.ttl(),
            "fresh": freshness.fresh() && !self.0.marked_stale(),
            "tags": tags.collect::<Vec<_>>(),
        })
    }
}

/// A key as it is shown, and whether its query was left out of that.
fn shown(key: &str, query: bool) -> (String, bool) {
    match key.split_once('?') {
        Some((path, _)) if !query => (format!("{path}?..."), true),
        _ => (key.to_owned(), false),
    }
}

/// A URL that a person gets to see: its query is left out unless `query`.
pub fn shown_url(url: &str, query: bool) -> String {
    shown(url, query).0
}
