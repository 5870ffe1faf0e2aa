//! Requests that the cache lets through, and what their answers do to what is stored: invalidation by unsafe
//! methods (RFC 9111 section 4.4), POST stored as GET (RFC 9110 section 9.3.3), HEAD that freshens or marks
//! (RFC 9111 section 4.3.5). They stream in the client's own future: nobody else waits for them.

use std::sync::Arc;

use http::Method;

use super::fetch::{Asking, Brought, reply};
use super::fill::{self, Place};
use super::{Ask, Cache, CacheResult, Errand, Failure, Outcome, Served, serve};
use crate::body::Body;
use crate::field::status::Forward;
use crate::policy::{self, Candidate as _, HeadEffect, Reason, RequestFacts, Terms};
use crate::store::{CacheKey, Candidates, Generation};
use crate::upstream::{Call, Received, UpstreamError};

impl Cache {
    /// Straight through. An unsafe method's answer invalidates what it names.
    pub(super) async fn bypass(
        self: &Arc<Self>,
        ask: &mut Ask,
        forward: Forward,
        reason: Reason,
    ) -> Result<Served, Failure> {
        let request_time = self.clock.now();
        let begun = ask.generation;
        let received = self.send(ask).await.map_err(|e| Failure::Upstream(Arc::new(e)))?;
        let outcome = Outcome {
            result: CacheResult::Bypass,
            forward: Some(forward),
            forward_status: Some(received.status),
            detail: Some(reason),
            upstream: Some(received.address),
            ..Outcome::default()
        };
        let rule = ask.settings.rules.find(&ask.target);
        // What another request has invalidated meanwhile, this answer must not bring back.
        let posted = (ask.method == Method::POST)
            .then(|| CacheKey::of(&ask.target, rule))
            .filter(|key| self.store.is_current(key, begun));
        self.invalidate_by(ask, &received);
        if let Some(key) = posted {
            let now = self.clock.now();
            let terms = Terms { options: &ask.settings.policy, rule, now };
            let facts = RequestFacts::of(&ask.method, &ask.headers, ask.has_content);
            let reply = reply(&received, request_time, now);
            if let Some(head) = policy::post_stores(&facts, &ask.target, &reply, &terms) {
                // After the invalidation: of the generation that it began, but of the settings that it was asked by.
                let place = Place {
                    generation: begun.past_invalidations(self.store.generation()),
                    key,
                    target: Arc::clone(&ask.target),
                    settings: Arc::clone(&ask.settings),
                };
                let begun = fill::store(self, &place, &mut None, None, *head, received);
                let brought = begun.unwrap_or_else(|(received, reason)| Brought::Direct { received, reason });
                let errand = Errand { forward, reason: None, store: true, asking: Asking::Plain };
                let mut served = self.brought(ask, &ask.headers, brought, &errand);
                // The first class that applies: no GET has missed.
                served.outcome.result = CacheResult::Bypass;
                return Ok(served);
            }
        }
        Ok(through(received, outcome))
    }

    /// HEAD goes on as it is, and tells what is stored for GET whether it still holds.
    pub(super) async fn head(
        self: &Arc<Self>,
        ask: &mut Ask,
        key: CacheKey,
        generation: Generation,
        candidates: &Candidates,
        errand: Errand,
    ) -> Result<Served, Failure> {
        let request_time = self.clock.now();
        let sent = self.send(ask).await;
        let rule = ask.settings.rules.find(&ask.target);
        let now = self.clock.now();
        let terms = Terms { options: &ask.settings.policy, rule, now };
        let facts = RequestFacts::of(&ask.method, &ask.headers, false);
        let outcome = Outcome {
            result: CacheResult::Miss,
            forward: Some(errand.forward),
            detail: errand.reason,
            ..Outcome::default()
        };
        let received = match sent {
            Ok(received) => received,
            Err(error) => {
                let Some(stored) = errand.asking.fallback() else {
                    return Err(Failure::Upstream(Arc::new(error)));
                };
                let Some(reason) = policy::stale_on_failure(&facts, stored.head(), &terms) else {
                    return Err(Failure::of(error, stored.head()));
                };
                let outcome = Outcome { result: CacheResult::Stale, upstream: error.address, ..outcome };
                return Ok(serve::stale(&facts, stored, reason, &terms, &ask.settings, outcome));
            }
        };
        let outcome =
            Outcome { forward_status: Some(received.status), upstream: Some(received.address), ..outcome };
        if let Some(stored) = errand.asking.fallback()
            && let Some(reason) = policy::stale_on_status(&facts, stored.head(), received.status, &terms)
        {
            let outcome = Outcome { result: CacheResult::Stale, ..outcome };
            return Ok(serve::stale(&facts, stored, reason, &terms, &ask.settings, outcome));
        }
        if let Some(index) = policy::selected(&facts, candidates, &terms) {
            let stored = &candidates[index];
            let reply = reply(&received, request_time, now);
            match policy::head_effect(&facts, stored.head(), stored.length(), &reply, &terms) {
                HeadEffect::None => {}
                HeadEffect::Freshen(head) => {
                    // Whether it was still there to be freshened makes no difference to this answer.
                    drop(self.store.freshen(&key, generation, stored, *head));
                }
                HeadEffect::MarkStale => self.store.mark_stale(&key, stored),
            }
        }
        Ok(through(received, outcome))
    }

    async fn send(&self, ask: &mut Ask) -> Result<Box<Received>, UpstreamError> {
        let rule = ask.settings.rules.find(&ask.target);
        let (hop, received) = (&ask.hop, &ask.headers);
        let headers = || hop.outgoing(received);
        let mut call = Call {
            target: &ask.target,
            method: ask.method.clone(),
            headers: &headers,
            body: std::mem::replace(&mut ask.body, Body::Empty),
            grant: ask.grant.clone(),
            on_interim: ask.interim.take(),
            fetch_over_https: rule.is_some_and(|rule| rule.fetch_over_https),
            upgrade: None,
        };
        self.upstream.send(&mut call).await
    }

    /// RFC 9111 section 4.4: what an unsafe method's answer names is no longer what is stored.
    fn invalidate_by(&self, ask: &Ask, received: &Received) {
        for target in policy::invalidates(&ask.method, received.status, &ask.target, &received.headers) {
            let rule = ask.settings.rules.find(&target);
            self.store.invalidate(&CacheKey::of(&target, rule));
        }
    }
}

/// What an origin sent, as it is.
pub(super) fn through(received: Box<Received>, outcome: Outcome) -> Served {
    Served {
        status: received.status,
        headers: received.headers,
        body: received.body,
        received: received.version,
        outcome,
        buffered: received.buffered,
    }
}
