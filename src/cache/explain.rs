//! `larder explain`: the decision on a request, told from what is stored, or from an answer that is asked for.
//! Nothing is stored by asking.

use http::{HeaderMap, Method};
use serde_json::{Value, json};
use std::sync::Arc;

use super::{Cache, Hop, Settings};
use crate::access::Access;
use crate::body::Body;
use crate::field::target::{Target, TargetError};
use crate::policy::{self, Asked, RequestFacts, Terms, explain};
use crate::store::CacheKey;
use crate::upstream::Call;

impl Cache {
    /// Tells what would be done with a GET of `target`. Where nothing stored answers, the origin is asked, and
    /// its answer is judged without being stored.
    pub async fn explain(
        &self,
        target: Target,
        headers: HeaderMap,
        hop: Hop,
        access: &Arc<Access>,
        settings: &Settings,
    ) -> Value {
        let rule = settings.rules.find(&target);
        let key = CacheKey::of(&target, rule);
        let candidates = self.store().candidates(&key);
        let method = Method::GET;
        let facts = RequestFacts::of(&method, &headers, false);
        let terms = Terms { options: &settings.policy, rule, now: self.clock.now() };
        let decision = explain::decision(&facts, &candidates, &terms);
        let mut told = json!({
            "url": target.url(),
            "key": key.as_str(),
            "rule": rule.map(|rule| rule.name.as_str()),
            "decision": &decision,
        });
        if matches!(decision.plan, "serve" | "serve-and-refresh" | "unsatisfiable") {
            return told;
        }
        let validated = if decision.plan == "revalidate" { decision.chosen } else { None };
        let validated = validated.map(|index| &candidates[index].head);
        let mut outgoing = hop.outgoing(&headers);
        if let Some(stored) = validated {
            policy::conditional(&mut outgoing, stored);
        }
        let request_time = self.clock.now();
        let sent = self
            .upstream
            .send(Call {
                target: target.clone(),
                method: method.clone(),
                headers: outgoing,
                body: Body::Empty,
                access: Arc::clone(access),
                on_interim: None,
                fetch_over_https: rule.is_some_and(|rule| rule.fetch_over_https),
                upgrade: None,
            })
            .await;
        let answer = match sent {
            Ok(received) => {
                let now = self.clock.now();
                let terms = Terms { now, ..terms };
                let asked = validated.map_or(Asked::Plain, Asked::Validation);
                let reply = super::fetch::reply(&received, request_time, now);
                let fields: Vec<(String, String)> = received
                    .headers
                    .iter()
                    .filter(|(name, _)| *name != http::header::SET_COOKIE)
                    .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
                    .collect();
                json!({
                    "status": received.status.as_u16(),
                    "fields": fields,
                    "address": received.address.to_string(),
                    "judgement": explain::reply(&facts, asked, &reply, &terms),
                })
            }
            Err(error) => json!({ "error": error.kind.token(), "says": error.to_string() }),
        };
        told["answer"] = answer;
        told
    }

    /// Removes what is stored for `target`, or counts it.
    pub fn purge(&self, target: &Target, settings: &Settings, dry_run: bool) -> usize {
        let key = CacheKey::of(target, settings.rules.find(target));
        if dry_run { self.store().candidates(&key).len() } else { self.store().invalidate(&key) }
    }
}

/// The target of a URL that a person gave. The error says what was found and what is expected.
pub fn parse_url(url: &str) -> Result<Target, String> {
    let uri: http::Uri = url.parse().map_err(|error| format!("{url:?}: {error}; expected a URL"))?;
    Target::absolute(&uri).map_err(|error: TargetError| error.to_string())
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
