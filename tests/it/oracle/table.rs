//! The differences from `http-cache-semantics` that are known, and why each is one.

use super::cases::{Case, Lines, START};
use super::{Decision, Outcome, Says, same};
use http::HeaderValue;
use larder::field::cache_control::{Delta, MaxStale, NoCache, RequestDirectives, ResponseDirectives};
use larder::field::date;
use larder::policy::{Expires, Reason, StoredHead};
use std::collections::HashMap;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Aspect {
    /// Whether the response may be stored.
    Storable,
    /// Its freshness lifetime.
    Lifetime,
    /// Its age at the second request.
    Age,
    /// Whether it answers the second request.
    Decision,
    /// The conditions that go to the origin.
    Conditions,
    /// What the origin's answer makes of it.
    Outcome,
    /// A field of the updated response.
    Field,
    /// The updated response's age.
    NewAge,
}

/// Who is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Right {
    /// Larder: the other side breaks a rule, or does not know it.
    Ours,
    /// The rules leave it open.
    Either,
}

/// A case, and what both sides say.
pub(super) struct Pair<'a> {
    pub(super) case: &'a Case,
    pub(super) ours: &'a Says,
    pub(super) theirs: &'a Says,
    /// What we store.
    pub(super) head: Option<&'a StoredHead>,
    /// Which field differs.
    pub(super) field: &'a str,
}

/// A known difference.
pub(super) struct Explained {
    pub(super) aspect: Aspect,
    pub(super) right: Right,
    pub(super) section: &'static str,
    pub(super) says: &'static str,
    pub(super) applies: fn(&Pair<'_>) -> bool,
}

/// The lines of a name.
fn lines<'a>(fields: &'a Lines, name: &'static str) -> impl Iterator<Item = &'a str> {
    fields.iter().filter(move |(known, _)| *known == name).map(|(_, value)| value.as_str())
}

fn has(fields: &Lines, name: &'static str) -> bool {
    lines(fields, name).next().is_some()
}

/// Cache-Control as they read it: split at each comma, in this letter case, the last of several. No argument is `None`.
fn read(fields: &Lines) -> HashMap<&str, Option<&str>> {
    let members = lines(fields, "cache-control").flat_map(|line| line.split(','));
    members
        .map(|member| match member.split_once('=') {
            None => (member.trim(), None),
            Some((name, value)) => (name.trim(), Some(value.split('=').next().unwrap_or_default().trim())),
        })
        .collect()
}

/// Whether they take a directive for said: an empty argument is none to them.
fn they_see(fields: &Lines, name: &str) -> bool {
    match read(fields).get(name) {
        Some(None) => true,
        Some(Some(value)) => !value.trim_matches('"').is_empty(),
        None => false,
    }
}

/// Cache-Control as we read it.
fn directives(fields: &Lines) -> ResponseDirectives {
    ResponseDirectives::parse(lines(fields, "cache-control").map(str::as_bytes))
}

impl Pair<'_> {
    /// We store it and they don't.
    fn only_we_store(&self) -> bool {
        self.ours.storable && !self.theirs.storable
    }

    /// They store it, and we don't for this reason.
    fn they_store(&self, reason: Reason) -> bool {
        self.theirs.storable && !self.ours.storable && self.ours.why == Some(reason)
    }

    /// Whether it is fresh at the second request, for both.
    fn fresh(&self) -> bool {
        self.ours.lifetime > self.ours.age
    }

    /// We answer with it, they ask.
    fn only_we_answer(&self) -> bool {
        self.ours.decision != Decision::Ask && self.theirs.decision == Decision::Ask
    }

    /// They answer with it, we ask.
    fn only_they_answer(&self) -> bool {
        self.theirs.decision != Decision::Ask && self.ours.decision == Decision::Ask
    }

    /// The field after the update, of one side (0 is ours).
    fn after(&self, side: usize) -> Option<&String> {
        let says = if side == 0 { self.ours } else { self.theirs };
        says.after.as_ref()?.fields.get(self.field)
    }

    /// Whether only we have the field after the update.
    fn added(&self) -> bool {
        self.after(0).is_some() && self.after(1).is_none()
    }

    /// What the second request says.
    fn asked(&self) -> RequestDirectives {
        let values = |name| -> Vec<HeaderValue> {
            lines(&self.case.asking, name).map(|line| HeaderValue::from_str(line).unwrap()).collect()
        };
        RequestDirectives::parse(values("cache-control").iter(), values("pragma").iter())
    }

    /// Whether their lifetime is the longer one.
    fn they_hold_longer(&self) -> bool {
        self.theirs.lifetime > self.ours.lifetime
    }

    /// Whether it is fresh for us, and never for them.
    fn only_we_hold(&self) -> bool {
        self.ours.lifetime > 0.0 && self.theirs.lifetime <= 0.0
    }

    /// What the lifetime is read from is a directive that is said, but no number or several ones.
    fn invalid(&self) -> bool {
        let said = self.said();
        said.s_maxage.or(said.max_age) == Some(Delta::INVALID)
    }

    /// Whether max-age or s-maxage is said so many times.
    fn times(&self, name: &str) -> usize {
        let members = lines(&self.case.response, "cache-control").flat_map(|line| line.split(','));
        members.filter(|member| member.split('=').next().is_some_and(|known| known.trim() == name)).count()
    }

    fn said(&self) -> ResponseDirectives {
        directives(&self.case.response)
    }
}

const OURS: Right = Right::Ours;
const EITHER: Right = Right::Either;

/// Statuses that they take.
const TAKEN: [u16; 14] = [200, 203, 204, 300, 301, 302, 303, 307, 308, 404, 405, 410, 414, 501];

pub(super) const EXPLAINED: &[Explained] = &[
    Explained {
        aspect: Aspect::Storable,
        right: EITHER,
        section: "RFC 9111 section 3",
        says: "responses to HEAD: we only update what is stored by them",
        applies: |pair| pair.case.method == "HEAD" && pair.they_store(Reason::Method),
    },
    Explained {
        aspect: Aspect::Storable,
        right: OURS,
        section: "RFC 9110 section 9.3.3",
        says: "a response to POST is one to GET if it is a 2xx, fresh, shared, can be selected, and its Content-Location is the target",
        applies: |pair| {
            let (case, said) = (pair.case, pair.said());
            let named = lines(&case.response, "content-location").any(|value| value == "/x");
            let selectable = !lines(&case.response, "vary").any(|line| line.contains('*'));
            let fresh = pair.theirs.lifetime > 0.0 && !pair.invalid() && !said.immutable;
            let expires: Vec<_> = lines(&case.response, "expires").collect();
            let dated = expires
                .iter()
                .all(|line| *line == expires[0] && date::parse(line.as_bytes(), START).is_some());
            let shared = !said.private
                && !said.no_store
                && (case.shares_cookies || !has(&case.response, "set-cookie"));
            let all = named && selectable && fresh && dated && shared && (200..300).contains(&case.status);
            case.method == "POST" && pair.they_store(Reason::Method) && !all
        },
    },
    Explained {
        aspect: Aspect::Storable,
        right: OURS,
        section: "RFC 9111 section 3",
        says: "any final status may be stored, unless must-understand asks for more",
        applies: |pair| pair.only_we_store() && !TAKEN.contains(&pair.case.status),
    },
    Explained {
        aspect: Aspect::Storable,
        right: OURS,
        section: "RFC 9111 section 5.2",
        says: "no-store in any letter case, and with an argument",
        applies: |pair| {
            pair.they_store(Reason::NoStore)
                && pair.said().no_store
                && !they_see(&pair.case.response, "no-store")
        },
    },
    Explained {
        aspect: Aspect::Storable,
        right: OURS,
        section: "RFC 9111 section 5.2",
        says: "private in any letter case",
        applies: |pair| {
            pair.they_store(Reason::Private)
                && pair.said().private
                && !they_see(&pair.case.response, "private")
        },
    },
    Explained {
        aspect: Aspect::Storable,
        right: OURS,
        section: "RFC 9111 section 5.2",
        says: "a request's no-store in any letter case, and with an argument",
        applies: |pair| {
            // Of a POST we say that it is none of a GET.
            let why = if pair.case.method == "POST" { Reason::Method } else { Reason::RequestNoStore };
            pair.they_store(why)
                && directives(&pair.case.request).no_store
                && !they_see(&pair.case.request, "no-store")
        },
    },
    Explained {
        aspect: Aspect::Storable,
        right: OURS,
        section: "RFC 9110 section 5.6.4",
        says: "what stands in a quoted string is no directive",
        applies: |pair| {
            let quoted = |fields, said: &ResponseDirectives| !said.no_store && they_see(fields, "no-store");
            pair.only_we_store()
                && (quoted(&pair.case.response, &pair.said())
                    || quoted(&pair.case.request, &directives(&pair.case.request)))
        },
    },
    Explained {
        aspect: Aspect::Storable,
        right: OURS,
        section: "RFC 9111 section 5.2.2.3",
        says: "must-understand overrides no-store where the status is understood",
        applies: |pair| pair.only_we_store() && pair.said().must_understand && pair.said().no_store,
    },
    Explained {
        aspect: Aspect::Storable,
        right: EITHER,
        section: "`cache.set_cookie`",
        says: "cookies are not shared without public or s-maxage",
        applies: |pair| {
            pair.they_store(Reason::SetCookie)
                && !pair.case.shares_cookies
                && has(&pair.case.response, "set-cookie")
        },
    },
    Explained {
        aspect: Aspect::Storable,
        right: EITHER,
        section: "RFC 9111 section 4.1",
        says: "what no request can select is not stored",
        applies: |pair| {
            pair.they_store(Reason::VaryStar)
                && lines(&pair.case.response, "vary").any(|line| line.contains('*'))
        },
    },
    Explained {
        aspect: Aspect::Storable,
        right: EITHER,
        section: "RFC 9111 section 3",
        says: "what could never answer is not stored: neither fresh nor validated, nor served stale",
        applies: |pair| {
            let validated = ["etag", "last-modified"]
                .into_iter()
                .any(|name| lines(&pair.case.response, name).any(|line| !line.is_empty()));
            pair.they_store(Reason::NoFreshness) && !(validated && (200..300).contains(&pair.case.status))
        },
    },
    Explained {
        aspect: Aspect::Storable,
        right: EITHER,
        section: "RFC 9111 section 5.2.2.4",
        says: "what must be validated and can't be is not stored",
        applies: |pair| pair.they_store(Reason::NoCache) && pair.said().no_cache.is_whole(),
    },
    Explained {
        aspect: Aspect::Storable,
        right: OURS,
        section: "RFC 9111 section 3.5",
        says: "must-revalidate allows Authorization in any letter case",
        applies: |pair| {
            pair.only_we_store()
                && has(&pair.case.request, "authorization")
                && pair.said().must_revalidate
                && !they_see(&pair.case.response, "must-revalidate")
        },
    },
    Explained {
        aspect: Aspect::Storable,
        right: OURS,
        section: "RFC 9111 section 5.2",
        says: "max-age in any letter case is a ground for storing",
        applies: |pair| {
            pair.only_we_store() && pair.said().max_age.is_some() && !they_see(&pair.case.response, "max-age")
        },
    },
    Explained {
        aspect: Aspect::Storable,
        right: OURS,
        section: "RFC 9111 section 3.5",
        says: "Authorization needs an s-maxage that is valid",
        applies: |pair| {
            pair.they_store(Reason::Authorization)
                && has(&pair.case.request, "authorization")
                && pair.said().s_maxage == Some(Delta::INVALID)
        },
    },
    Explained {
        aspect: Aspect::Storable,
        right: OURS,
        section: "RFC 9111 section 5.3",
        says: "an Expires that is empty is there all the same, and in the past",
        applies: |pair| pair.only_we_store() && lines(&pair.case.response, "expires").next() == Some(""),
    },
    Explained {
        aspect: Aspect::Lifetime,
        right: OURS,
        section: "RFC 9111 section 5.2",
        says: "max-age, s-maxage and no-cache in any letter case",
        applies: |pair| {
            let said = pair.said();
            let unseen = |name: &str| !read(&pair.case.response).contains_key(name);
            said.max_age.is_some() && unseen("max-age")
                || said.max_age.is_some()
                    && pair.times("max-age") > 0
                    && lines(&pair.case.response, "cache-control").any(|line| line.contains("Max-Age"))
                || said.no_cache != NoCache::ABSENT && unseen("no-cache") && pair.ours.lifetime <= 0.0
        },
    },
    Explained {
        aspect: Aspect::Lifetime,
        right: OURS,
        section: "RFC 9111 section 4.2.1",
        says: "a directive with differing values is invalid, and the response stale",
        applies: |pair| {
            pair.invalid()
                && pair.ours.lifetime <= 0.0
                && (pair.times("max-age") > 1 || pair.times("s-maxage") > 1)
        },
    },
    Explained {
        aspect: Aspect::Lifetime,
        right: OURS,
        section: "RFC 9111 section 1.2.2",
        says: "seconds are digits and nothing else; what is not is invalid, and the response stale",
        applies: |pair| pair.invalid() && pair.ours.lifetime <= 0.0,
    },
    Explained {
        aspect: Aspect::Lifetime,
        right: OURS,
        section: "RFC 9111 section 1.2.2",
        says: "seconds end at 2^31",
        applies: |pair| same(pair.ours.lifetime, 2_147_483_648.0) && pair.they_hold_longer(),
    },
    Explained {
        aspect: Aspect::Lifetime,
        right: OURS,
        section: "RFC 9111 section 5.2.2.4",
        says: "a qualified no-cache is about the fields that it names",
        applies: |pair| pair.only_we_hold() && pair.said().no_cache.fields().is_some(),
    },
    Explained {
        aspect: Aspect::Lifetime,
        right: OURS,
        section: "RFC 9111 section 5.2.2.8",
        says: "proxy-revalidate counts once the response is stale",
        applies: |pair| pair.only_we_hold() && pair.said().proxy_revalidate,
    },
    Explained {
        aspect: Aspect::Lifetime,
        right: EITHER,
        section: "RFC 9111 section 7.3",
        says: "cookies: fresh where they may be shared at all",
        applies: |pair| {
            let shared = pair.case.shares_cookies || pair.said().s_maxage.is_some();
            pair.only_we_hold() && shared && has(&pair.case.response, "set-cookie") && !pair.said().public
        },
    },
    Explained {
        aspect: Aspect::Lifetime,
        right: OURS,
        section: "RFC 9111 section 5.4",
        says: "Pragma in a response says nothing against what is explicit",
        applies: |pair| {
            pair.only_we_hold() && has(&pair.case.response, "pragma") && has(&pair.case.response, "expires")
        },
    },
    Explained {
        aspect: Aspect::Lifetime,
        right: EITHER,
        section: "RFC 9111 section 5.4",
        says: "a Cache-Control without members leaves Pragma to forbid a heuristic",
        applies: |pair| pair.they_hold_longer() && has(&pair.case.response, "pragma") && !pair.said().present,
    },
    Explained {
        aspect: Aspect::Lifetime,
        right: OURS,
        section: "RFC 8246 section 2",
        says: "immutable makes nothing fresh",
        applies: |pair| {
            pair.they_hold_longer() && pair.said().immutable && same(pair.theirs.lifetime, 86_400_000.0)
        },
    },
    Explained {
        aspect: Aspect::Lifetime,
        right: OURS,
        section: "RFC 9111 section 5.3",
        says: "an invalid Expires, and several that differ, are in the past",
        applies: |pair| {
            pair.ours.lifetime <= 0.0
                && pair.head.is_some_and(|head| head.facts.expires() == Expires::Invalid)
        },
    },
    Explained {
        aspect: Aspect::Lifetime,
        right: OURS,
        section: "RFC 9110 section 5.6.7",
        says: "a Last-Modified that is no HTTP-date is none",
        applies: |pair| {
            pair.they_hold_longer()
                && has(&pair.case.response, "last-modified")
                && pair.head.is_some_and(|head| head.facts.last_modified().is_none())
        },
    },
    Explained {
        aspect: Aspect::Decision,
        right: OURS,
        section: "RFC 9110 section 9.3.2",
        says: "HEAD is answered from a stored response to GET",
        applies: |pair| pair.case.asking_method == "HEAD" && pair.only_we_answer(),
    },
    Explained {
        aspect: Aspect::Decision,
        right: OURS,
        section: "RFC 9111 section 5.2.2.2",
        says: "must-revalidate counts once the response is stale",
        applies: |pair| {
            pair.ours.decision == Decision::Serve
                && pair.theirs.decision == Decision::Ask
                && they_see(&pair.case.response, "must-revalidate")
                && pair.fresh()
        },
    },
    Explained {
        aspect: Aspect::Decision,
        right: OURS,
        section: "RFC 9111 section 5.2",
        says: "must-revalidate in any letter case",
        applies: |pair| {
            pair.only_they_answer()
                && pair.said().must_revalidate
                && !they_see(&pair.case.response, "must-revalidate")
                && !pair.fresh()
        },
    },
    Explained {
        aspect: Aspect::Decision,
        right: EITHER,
        section: "RFC 9111 section 5.2.1.5",
        says: "a request with no-store goes to the origin, and leaves alone what is stored",
        applies: |pair| pair.only_they_answer() && pair.asked().no_store,
    },
    Explained {
        aspect: Aspect::Decision,
        right: OURS,
        section: "RFC 9111 section 5.4",
        says: "Pragma counts only without Cache-Control",
        applies: |pair| {
            pair.only_we_answer() && has(&pair.case.asking, "pragma") && !pair.asked().pragma_no_cache
        },
    },
    Explained {
        aspect: Aspect::Decision,
        right: OURS,
        section: "RFC 9111 section 4.2.4",
        says: "no-cache, s-maxage and proxy-revalidate forbid what is stale",
        applies: |pair| {
            let said = pair.said();
            pair.only_they_answer()
                && !pair.fresh()
                && (said.no_cache.is_whole() || said.s_maxage.is_some() || said.proxy_revalidate)
        },
    },
    Explained {
        aspect: Aspect::Decision,
        right: OURS,
        section: "RFC 8246 section 2",
        says: "what is fresh and immutable is not asked for again by max-age=0",
        applies: |pair| {
            pair.ours.decision == Decision::Serve
                && pair.theirs.decision == Decision::Ask
                && pair.said().immutable
                && pair.asked().max_age == Some(0)
        },
    },
    Explained {
        aspect: Aspect::Decision,
        right: EITHER,
        section: "RFC 9111 section 5.2.1.1",
        says: "max-age=0 asks for validation, however young the response is",
        applies: |pair| pair.only_they_answer() && pair.asked().max_age == Some(0) && pair.ours.age == 0.0,
    },
    Explained {
        aspect: Aspect::Decision,
        right: OURS,
        section: "RFC 9111 section 1.2.2",
        says: "a request's max-age that is not digits only is taken for 0",
        applies: |pair| {
            pair.only_they_answer()
                && pair.asked().max_age == Some(0)
                && lines(&pair.case.asking, "cache-control")
                    .flat_map(|line| line.split(',').map(str::trim))
                    .any(|one| one.starts_with("max-age") && one != "max-age=0")
        },
    },
    Explained {
        aspect: Aspect::Decision,
        right: OURS,
        section: "RFC 9111 section 5.2",
        says: "a request's directives in any letter case",
        applies: |pair| {
            let line = |name| lines(&pair.case.asking, "cache-control").any(|line: &str| line.contains(name));
            pair.only_they_answer()
                && (line("Max-Age") && pair.asked().max_age.is_some()
                    || line("No-Cache") && pair.asked().no_cache)
        },
    },
    Explained {
        aspect: Aspect::Decision,
        right: EITHER,
        section: "RFC 9111 section 5.2.1",
        says: "of a request's differing max-age, min-fresh or max-stale, the strictest counts",
        applies: |pair| {
            let times = |name: &str| {
                lines(&pair.case.asking, "cache-control")
                    .flat_map(|line| line.split(','))
                    .filter(|one| one.trim().starts_with(name))
                    .count()
            };
            ["max-age", "min-fresh", "max-stale"].into_iter().any(|name| times(name) > 1)
        },
    },
    Explained {
        aspect: Aspect::Decision,
        right: OURS,
        section: "RFC 9111 section 5.2.1.2",
        says: "max-stale takes what is stale by no more than that",
        applies: |pair| {
            let staleness = pair.ours.age - pair.ours.lifetime;
            pair.ours.decision == Decision::Serve
                && matches!(pair.asked().max_stale, Some(MaxStale::Seconds(seconds)) if same(seconds as f64, staleness))
        },
    },
    Explained {
        aspect: Aspect::Decision,
        right: OURS,
        section: "RFC 9111 section 4.1",
        says: "selecting fields are compared in their normal form",
        applies: |pair| {
            pair.only_we_answer() && has(&pair.case.response, "vary") && pair.case.request != pair.case.asking
        },
    },
    Explained {
        aspect: Aspect::Decision,
        right: EITHER,
        section: "RFC 9111 section 5.2.1.1",
        says: "who asks for an age or a time left gets nothing stale by stale-while-revalidate",
        applies: |pair| {
            pair.ours.decision == Decision::Ask
                && pair.theirs.decision == Decision::Refresh
                && (pair.asked().max_age.is_some() || pair.asked().min_fresh.is_some())
        },
    },
    Explained {
        aspect: Aspect::Decision,
        right: OURS,
        section: "RFC 9111 section 4.2.1",
        says: "stale-while-revalidate with differing values is invalid",
        applies: |pair| {
            pair.ours.decision == Decision::Ask
                && pair.theirs.decision == Decision::Refresh
                && pair.said().stale_while_revalidate == Some(Delta::INVALID)
        },
    },
    Explained {
        aspect: Aspect::Decision,
        right: OURS,
        section: "RFC 9110 section 9.3.3",
        says: "what a POST stored answers a GET",
        applies: |pair| {
            pair.case.method == "POST" && pair.case.asking_method == "GET" && pair.only_we_answer()
        },
    },
    Explained {
        aspect: Aspect::Decision,
        right: OURS,
        section: "RFC 9110 section 9.3.3",
        says: "a POST is never answered with what is stored",
        applies: |pair| pair.case.asking_method == "POST" && pair.only_they_answer(),
    },
    Explained {
        aspect: Aspect::Age,
        right: OURS,
        section: "RFC 9111 section 4.2.3",
        says: "a Date that lies in the past counts as age",
        applies: |pair| {
            let apparent = pair.head.map_or(0, |head| START - head.facts.date) as f64;
            apparent > 0.0
                && same(pair.ours.age, apparent + pair.case.passed as f64 / 1000.0)
                && pair.ours.age > pair.theirs.age
        },
    },
    Explained {
        aspect: Aspect::Age,
        right: OURS,
        section: "RFC 9111 section 5.1",
        says: "an Age that is not digits only is ignored",
        applies: |pair| {
            let value = lines(&pair.case.response, "age").next().and_then(|value| value.split(',').next());
            value.is_some_and(|value| !value.bytes().all(|byte| byte.is_ascii_digit()))
        },
    },
    Explained {
        aspect: Aspect::Age,
        right: OURS,
        section: "RFC 9111 section 1.2.2",
        says: "seconds of Age end at 2^31",
        applies: |pair| pair.ours.age >= 2_147_483_648.0 && pair.theirs.age > pair.ours.age,
    },
    Explained {
        aspect: Aspect::Conditions,
        right: OURS,
        section: "RFC 9110 section 13.2.1",
        says: "what is no 2xx is not asked for with conditions: a 304 would be about something else",
        applies: |pair| pair.ours.conditions == Some([None, None]) && !(200..300).contains(&pair.case.status),
    },
    Explained {
        aspect: Aspect::Conditions,
        right: EITHER,
        section: "RFC 9111 section 4.3.1",
        says: "a client's conditions are not sent beside ours: they are answered from what is validated",
        applies: |pair| {
            ["if-none-match", "if-modified-since", "if-match"]
                .into_iter()
                .any(|name| has(&pair.case.asking, name))
        },
    },
    Explained {
        aspect: Aspect::Conditions,
        right: OURS,
        section: "RFC 9110 section 9.3.3",
        says: "what a POST stored is validated like any response to GET",
        applies: |pair| pair.case.method == "POST" && pair.theirs.conditions == Some([None, None]),
    },
    Explained {
        aspect: Aspect::Conditions,
        right: OURS,
        section: "RFC 9111 section 4.1",
        says: "what is selected in its normal form is validated too",
        applies: |pair| {
            pair.theirs.conditions == Some([None, None])
                && has(&pair.case.response, "vary")
                && pair.case.request != pair.case.asking
        },
    },
    Explained {
        aspect: Aspect::Outcome,
        right: OURS,
        section: "RFC 9110 section 15.4.5",
        says: "a 304 need not repeat a validator to answer the condition that was sent",
        applies: |pair| {
            pair.ours.outcome == Some(Outcome::Freshened)
                && pair.theirs.outcome == Some(Outcome::Other)
                && !has(&pair.case.answer, "etag")
                && lines(&pair.case.answer, "last-modified").all(str::is_empty)
        },
    },
    Explained {
        aspect: Aspect::Outcome,
        right: OURS,
        section: "RFC 9111 section 4.3.4",
        says: "a 304 updates a response that was asked about, which without a validator it was not",
        applies: |pair| {
            pair.theirs.outcome == Some(Outcome::Freshened)
                && pair.ours.outcome == Some(Outcome::Other)
                && pair.ours.conditions == Some([None, None])
        },
    },
    Explained {
        aspect: Aspect::Outcome,
        right: OURS,
        section: "RFC 9111 section 4.2.4",
        says: "must-revalidate, proxy-revalidate, s-maxage and no-cache forbid to answer stale when the origin fails",
        applies: |pair| {
            let said = pair.said();
            let forbidden = said.must_revalidate
                || said.proxy_revalidate
                || said.s_maxage.is_some()
                || said.no_cache.is_whole();
            pair.theirs.outcome == Some(Outcome::Stale)
                && pair.ours.outcome == Some(Outcome::Other)
                && forbidden
        },
    },
    Explained {
        aspect: Aspect::Outcome,
        right: EITHER,
        section: "RFC 5861 section 4",
        says: "without stale-if-error an origin's own 5xx goes to who asked, also where what is stored is fresh",
        applies: |pair| {
            pair.theirs.outcome == Some(Outcome::Stale)
                && pair.ours.outcome == Some(Outcome::Other)
                && pair.said().stale_if_error.is_none()
                && pair.fresh()
        },
    },
    Explained {
        aspect: Aspect::Outcome,
        right: OURS,
        section: "RFC 9111 section 5.2.1.4",
        says: "who asked for validation by no-cache gets no answer without it",
        applies: |pair| {
            pair.theirs.outcome == Some(Outcome::Stale)
                && pair.ours.outcome == Some(Outcome::Other)
                && (pair.asked().no_cache || pair.asked().pragma_no_cache)
        },
    },
    Explained {
        aspect: Aspect::Outcome,
        right: OURS,
        section: "RFC 9111 section 4.3.4",
        says: "the same Last-Modified will do, where an entity tag was never stored",
        applies: |pair| {
            pair.ours.outcome == Some(Outcome::Freshened)
                && pair.theirs.outcome == Some(Outcome::Other)
                && !has(&pair.case.response, "etag")
                && has(&pair.case.answer, "last-modified")
        },
    },
    Explained {
        aspect: Aspect::Outcome,
        right: EITHER,
        section: "RFC 5861 section 4",
        says: "stale-if-error takes what is stale by no more than that",
        applies: |pair| {
            let window = pair.said().stale_if_error.map(|delta| delta.millis() as f64 / 1000.0);
            pair.ours.outcome == Some(Outcome::Stale)
                && window.is_some_and(|window| same(window, pair.ours.age - pair.ours.lifetime))
        },
    },
    Explained {
        aspect: Aspect::Outcome,
        right: OURS,
        section: "RFC 9111 section 4.2.1",
        says: "stale-if-error with differing values is invalid",
        applies: |pair| {
            pair.theirs.outcome == Some(Outcome::Stale)
                && pair.ours.outcome == Some(Outcome::Other)
                && pair.said().stale_if_error == Some(Delta::INVALID)
        },
    },
    Explained {
        aspect: Aspect::Field,
        right: OURS,
        section: "RFC 9111 section 3.2",
        says: "a 304 adds what was not stored before",
        applies: |pair| pair.added() && pair.case.answer.iter().any(|(name, _)| *name == pair.field),
    },
    Explained {
        aspect: Aspect::Field,
        right: OURS,
        section: "RFC 9110 section 6.6.1",
        says: "what comes without Date is dated when it is received",
        applies: |pair| {
            pair.field == "date" && !(has(&pair.case.answer, "date") && has(&pair.case.response, "date"))
        },
    },
    Explained {
        aspect: Aspect::Field,
        right: EITHER,
        section: "RFC 9111 section 4.3.4",
        says: "the entity tag stays as it was stored, if the other one is the same but for its weakness",
        applies: |pair| {
            let strong = |tag: Option<&String>| tag.map(|tag| tag.trim_start_matches("W/").to_owned());
            pair.field == "etag" && strong(pair.after(0)) == strong(pair.after(1))
        },
    },
    Explained {
        aspect: Aspect::Field,
        right: EITHER,
        section: "`cache.set_cookie`",
        says: "a cookie of the 304 goes to its requester alone",
        applies: |pair| pair.field == "set-cookie" && !pair.case.shares_cookies,
    },
    Explained {
        aspect: Aspect::NewAge,
        right: OURS,
        section: "RFC 9111 section 4.3.4",
        says: "the age of the 304 is that of the response from then on",
        applies: |pair| has(&pair.case.answer, "age") || has(&pair.case.response, "age"),
    },
    Explained {
        aspect: Aspect::NewAge,
        right: OURS,
        section: "RFC 9111 section 4.2.3",
        says: "the age that a 304's Date shows counts",
        applies: |pair| {
            pair.ours
                .after
                .as_ref()
                .zip(pair.theirs.after.as_ref())
                .is_some_and(|(ours, theirs)| ours.age > theirs.age)
        },
    },
];
