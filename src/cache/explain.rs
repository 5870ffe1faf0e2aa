//! `larder explain`: the decision on a request, told from what is stored, or from an answer that is asked for.
//! Nothing is stored by asking.

use http::{HeaderMap, HeaderName, Method, Uri};
use serde_json::{Value, json};
use std::net::Ipv6Addr;

use super::failure::Failure;
use super::fetch::{self, Asking};
use super::{Cache, Hop, Settings};
use crate::access::Grant;
use crate::body::Body;
use crate::field::tags;
use crate::field::target::{self, Host, Target, TargetError};
use crate::policy::explain::{self, Judgement};
use crate::policy::{self, Candidate as _, HeadEffect, Plan, Reply, RequestFacts, Terms, Verdict};
use crate::store::{CacheKey, Candidates, StoredResponse};
use crate::upstream::{Call, Received};

/// The fields whose tags can be purged.
pub(super) const TAG_FIELDS: [HeaderName; 3] = [tags::SURROGATE_KEY, tags::CACHE_TAG, tags::CACHE_GROUPS];

/// A request to explain.
#[derive(Debug)]
pub struct Rehearsal {
    /// GET or HEAD.
    pub method: Method,
    /// Where it goes.
    pub target: Target,
    /// Its end-to-end fields.
    pub headers: HeaderMap,
    /// What is added on the way.
    pub hop: Hop,
    /// Whether the origin is not to be asked: the decision alone.
    pub offline: bool,
}

/// What would be done with a request.
#[derive(Debug)]
pub struct Explained {
    /// The request, the decision with its inputs, and the origin's answer where it was asked.
    pub told: Value,
    /// Why the client would get no response.
    pub failure: Option<Failure>,
}

impl Cache {
    /// Tells what would be done with a request. Where nothing stored answers, the origin is asked what the proxy
    /// would ask (unless that is not wished), and its answer is judged; nothing that is stored changes.
    pub async fn explain(&self, asked: Rehearsal, grant: &Grant, settings: &Settings) -> Explained {
        let Rehearsal { method, target, headers, hop, offline } = asked;
        let rule = settings.rules.find(&target);
        let key = CacheKey::of(&target, rule);
        let candidates = self.store().candidates_again(&key);
        let facts = RequestFacts::of(&method, &headers, false);
        let terms = Terms { options: &settings.policy, rule, now: self.clock.now() };
        let mut told = json!({
            "url": target.url(),
            "key": key.as_str(),
            "rule": rule.map(|rule| rule.name.as_str()),
            "decision": explain::decision(&facts, &candidates, &terms),
        });
        let plan = policy::plan(&facts, &candidates, &terms);
        match plan {
            Plan::Serve { .. } | Plan::ServeAndRefresh { .. } => return Explained { told, failure: None },
            Plan::Unsatisfiable { reason } => {
                return Explained { told, failure: Some(Failure::OnlyIfCached(reason)) };
            }
            Plan::Bypass { .. } | Plan::Fetch { .. } | Plan::Revalidate { .. } | Plan::Complete { .. } => {}
        }
        if offline {
            told["offline"] = true.into();
            return Explained { told, failure: None };
        }
        let asking = Asking::of(&plan, &candidates);
        let outgoing = || {
            let mut outgoing = hop.outgoing(&headers);
            // A HEAD goes on as it is.
            if method != Method::HEAD {
                asking.put(&mut outgoing);
            }
            outgoing
        };
        let request_time = self.clock.now();
        let sent = self
            .upstream
            .send(&mut Call {
                target: &target,
                method: method.clone(),
                headers: &outgoing,
                body: Body::Empty,
                grant: grant.clone(),
                on_interim: None,
                fetch_over_https: rule.is_some_and(|rule| rule.fetch_over_https),
                upgrade: None,
            })
            .await;
        let terms = Terms { now: self.clock.now(), ..terms };
        let mut failure = None;
        told["answer"] = match sent {
            Ok(received) => {
                let reply = fetch::reply(&received, request_time, terms.now);
                let subject = asking.subject(&reply);
                let judgement = if let Plan::Bypass { reason, .. } = plan {
                    explain::judgement(Verdict::PassThrough(reason), None, &terms)
                } else if facts.is_head() {
                    head(&facts, &candidates, asking.fallback(), &reply, &terms)
                } else {
                    let asked = asking.asked(subject.as_ref());
                    let verdict =
                        self.at_the_store(&key, policy::verdict(&facts, asked, &reply, &terms), &reply);
                    if let Verdict::Refuse(reason) = verdict {
                        failure = Some(Failure::Refused { reason, address: received.address });
                    }
                    let length = match (&verdict, subject) {
                        // The body is the one that is stored.
                        (Verdict::Freshen { .. } | Verdict::FreshenOnce { .. }, Some(old)) => {
                            Some(old.length())
                        }
                        _ => reply.content_length,
                    };
                    explain::judgement(verdict, length, &terms)
                };
                answer(&received, &judgement)
            }
            Err(error) => {
                let mut answer = json!({ "error": error.kind.token(), "says": error.to_string() });
                match fetch::failed(&asking, &facts, &terms, error) {
                    Ok((_, reason)) => {
                        answer["judgement"] =
                            json!(explain::judgement(Verdict::ServeStale(reason), None, &terms));
                    }
                    Err(none) => failure = Some(none),
                }
                answer
            }
        };
        Explained { told, failure }
    }

    /// What becomes of a verdict where the store has no room: the response passes through, and the rest of a
    /// partial one is given up for the whole.
    fn at_the_store(&self, key: &CacheKey, verdict: Verdict, reply: &Reply<'_>) -> Verdict {
        let refused = match &verdict {
            Verdict::Store(head) => self.store.takes(key, head, reply.content_length).err(),
            Verdict::Combine(whole) => {
                let length =
                    whole.pieces.iter().map(|piece| piece.at.end.saturating_sub(piece.at.start)).sum();
                self.store.takes(key, &whole.head, Some(length)).err()
            }
            _ => None,
        };
        match (verdict, refused) {
            (Verdict::Store(_), Some(reason)) => Verdict::PassThrough(reason),
            (Verdict::Combine(_), Some(_)) => Verdict::Refetch,
            (verdict, _) => verdict,
        }
    }

    /// Removes what is stored for `target`, or counts it.
    pub fn purge(&self, target: &Target, settings: &Settings, dry_run: bool) -> usize {
        let key = CacheKey::of(target, settings.rules.find(target));
        if dry_run { self.store().candidates_again(&key).len() } else { self.store().invalidate(&key) }
    }

    /// Removes the stored responses that their origins put under a tag, or counts them. It walks all that is stored:
    /// no list of tags is kept beside it that every fill would have to pay for.
    pub fn purge_tag(&self, tag: &str, dry_run: bool) -> usize {
        let of = |response: &StoredResponse, name: &HeaderName| {
            response
                .head()
                .fields()
                .bytes_all(name)
                .any(|value| tags::tags(name, value).iter().any(|has| has == tag))
        };
        let tagged = |response: &StoredResponse| TAG_FIELDS.iter().any(|name| of(response, name));
        self.store().purge_responses(tagged, dry_run)
    }
}

/// What becomes of the answer to a HEAD, and of what is stored for GET.
fn head(
    facts: &RequestFacts<'_>,
    candidates: &Candidates,
    fallback: Option<&StoredResponse>,
    reply: &Reply<'_>,
    terms: &Terms<'_>,
) -> Judgement {
    let stale =
        fallback.and_then(|stored| policy::stale_on_status(facts, stored.head(), reply.status, terms));
    if let Some(reason) = stale {
        return explain::judgement(Verdict::ServeStale(reason), None, terms);
    }
    let selected = policy::selected(facts, candidates, terms).map(|index| &candidates[index]);
    let effect = selected.map_or(HeadEffect::None, |stored| {
        policy::head_effect(facts, stored.head(), stored.length(), reply, terms)
    });
    explain::head_judgement(effect, selected.map(policy::Candidate::length), terms)
}

fn answer(received: &Received, judgement: &Judgement) -> Value {
    // A cookie is its requester's own.
    let shown = received.headers.iter().filter(|(name, _)| *name != http::header::SET_COOKIE);
    let fields: Vec<(String, String)> = shown
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
        .collect();
    json!({
        "status": received.status.as_u16(),
        "fields": fields,
        "address": received.address.to_string(),
        "judgement": judgement,
    })
}

/// What clients make of such a name before they ask.
const PUNYCODE: &str = "found letters beyond ASCII in the host, expected its form that begins with xn--";

/// A URL that a person gave, and its target. The error says what was found and what is expected.
pub fn parse_url(url: &str) -> Result<(Uri, Target), String> {
    let authority = url.split_once("://").and_then(|(_, rest)| rest.split(['/', '?', '#']).next());
    if authority.is_some_and(|authority| !authority.is_ascii()) {
        return Err(format!("{url:?}: {PUNYCODE}"));
    }
    let uri: Uri = url.parse().map_err(|error| format!("{url:?}: {error}; expected a URL"))?;
    let target = Target::absolute(&uri).map_err(|error: TargetError| error.to_string())?;
    Ok((uri, target))
}

/// A host that a person gave, as [`host_of`] has that of a key. The error says what was found and what is expected.
pub fn parse_host(host: &str) -> Result<String, String> {
    if !host.is_ascii() {
        return Err(format!("{host:?}: {PUNYCODE}"));
    }
    let bare = host.parse::<Ipv6Addr>().is_ok();
    let text = if bare { format!("[{host}]") } else { host.to_owned() };
    match target::authority(text.as_bytes()) {
        Ok((Host::Name(name), None)) if !host.contains(':') => Ok(name.trim_end_matches('.').to_owned()),
        Ok((Host::Ip(ip), None)) => Ok(ip.to_string()),
        Ok(_) | Err(_) => {
            Err(format!("{host:?}: expected a host without scheme and port, such as example.com or [::1]"))
        }
    }
}

/// Whether a key's text is of this host, as [`parse_host`] has it: a dot at its end and the spelling of its address don't
/// count.
pub fn is_of_host(url: &str, host: &str) -> bool {
    let found = host_of(url);
    found.trim_end_matches('.') == host || found.parse::<Ipv6Addr>().is_ok_and(|ip| ip.to_string() == host)
}

/// The host of a key's text, without port.
pub fn host_of(url: &str) -> &str {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = authority.split('/').next().unwrap_or_default();
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_beyond_ascii_is_asked_for_in_its_other_form() {
        for told in [
            parse_url("http://b\u{fc}cher.example/").unwrap_err(),
            parse_host("b\u{fc}cher.example").unwrap_err(),
        ] {
            assert!(told.ends_with("begins with xn--"), "{told}");
        }
        assert!(parse_url("http://h/b\u{fc}cher").is_ok());
    }

    #[test]
    fn a_host_is_that_of_its_keys_in_any_spelling() {
        for (url, host) in [
            ("http://example.com/", "example.com."),
            ("http://example.com.:8080/", "Example.com"),
            ("http://[2001:0db8::0:1]/", "[2001:db8::1]"),
            ("http://[::ffff:102:304]/", "::ffff:1.2.3.4"),
            ("http://1.2.3.4/", "1.2.3.4"),
        ] {
            assert!(is_of_host(url, &parse_host(host).unwrap()), "{url} {host}");
        }
        assert!(!is_of_host("http://a.example.com/", "example.com"));
        assert!(!is_of_host("http://[2001:db8::2]/", "2001:db8::1"));
    }

    #[test]
    fn the_host_of_a_key_is_without_port_and_brackets() {
        for (url, host) in [
            ("http://example.com/a:b", "example.com"),
            ("https://example.com:8443/", "example.com"),
            ("http://[2001:db8::1]:8080/x", "2001:db8::1"),
        ] {
            assert_eq!(host_of(url), host, "{url}");
        }
    }
}
