//! The only place where policy, store and upstream meet.
//!
//! [`Cache::look`] classifies a request, looks its key up and lets policy decide; what can be answered from the
//! store is answered there and then, without an await. [`Cache::respond`] does the rest. Both return what is to
//! be sent, or why there is nothing to send; neither knows how that is rendered.

mod background;
mod explain;
mod failure;
mod fetch;
mod fill;
mod flight;
mod invalidate;
mod lasting;
mod listing;
pub mod outcome;
mod serve;
#[cfg(test)]
mod tests;
mod uncacheable;

pub use explain::{Explained, Rehearsal, host_of, is_of_host, parse_host, parse_url};
pub use failure::Failure;
pub use fetch::Hop;
pub use lasting::Lasting;
pub use listing::{Listing, MAX_LIMIT, MAX_OFFSET, Sort, shown_url};
pub use outcome::{CacheResult, Outcome};

use http::{HeaderMap, Method, StatusCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::access::Grant;
use crate::body::{Body, Buffered};
use crate::clock::{Clock, Moment};
use crate::field::status::Forward;
use crate::field::target::Target;
use crate::policy::rules::Rules;
use crate::policy::{self, Candidate as _, Head, LifetimeSource, Plan, Reason, RequestFacts, Terms};
use crate::shutdown::Shutdown;
use crate::store::{CacheKey, Candidates, Generation, Store, StoredResponse};
use crate::upstream::{OnInterim, Received, Upstream};
use background::Background;
use fetch::{Adopted, Asking, Brought, Order, obtain};
use fill::Place;
use flight::{Flights, Follower, Joined, Landing, Leader};
use uncacheable::Uncacheable;

/// The figures of collapsing and filling.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// `cache.collapse_wait`: how long a follower waits for the leader's head. Default 5 s.
    pub collapse_wait: Duration,
    /// `cache.uncacheable_memory`: how long a key is remembered as not shareable. Default 30 s.
    pub uncacheable_memory: Duration,
    /// `cache.finish_bytes`: a fill nobody reads goes on if no more than this remains. Default 1 MiB.
    pub finish_bytes: u64,
    /// `cache.finish_time`: or if it is likely to take no longer than this. Default 2 s.
    pub finish_time: Duration,
    /// `limits.background`: how much may run at one time for no client. Default 256.
    pub background: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            collapse_wait: Duration::from_secs(5),
            uncacheable_memory: Duration::from_secs(30),
            finish_bytes: 1024 * 1024,
            finish_time: Duration::from_secs(2),
            background: 256,
        }
    }
}

/// What configuration says of caching: one snapshot for a whole exchange.
#[derive(Debug)]
pub struct Settings {
    /// Collapsing and filling.
    pub options: Options,
    /// Policy's figures.
    pub policy: policy::Options,
    /// Per-host and per-pattern rules.
    pub rules: Rules,
}

/// A request, as the cache sees it.
pub struct Ask {
    /// What is asked for.
    pub target: Arc<Target>,
    /// The method.
    pub method: Method,
    /// Its end-to-end fields, as the origin will see them: what is hop-by-hop must not select a variant.
    pub headers: HeaderMap,
    /// Whether there is content.
    pub has_content: bool,
    /// The content.
    pub body: Body,
    /// What is added on the way through.
    pub hop: Hop,
    /// Which destinations may be dialled.
    pub grant: Grant,
    /// The snapshot.
    pub settings: Arc<Settings>,
    /// That of before `settings` were taken: what is fetched by settings that a reload replaces meanwhile must not
    /// be stored.
    pub generation: Generation,
    /// When it arrived.
    pub now: Moment,
    /// Where interim responses go.
    pub interim: Option<OnInterim>,
    /// Whether it is to be told how long the answer lasts.
    pub wants_lasting: bool,
}

/// A response to be sent.
#[derive(Debug)]
pub struct Served {
    /// Its status.
    pub status: StatusCode,
    /// Its fields, without hop-by-hop ones, Via and Cache-Status.
    pub headers: HeaderMap,
    /// Its content.
    pub body: Body,
    /// The version in which it came, for Via.
    pub received: http::Version,
    /// What happened.
    pub outcome: Outcome,
    /// What is buffered on the way to the client, where it comes straight from the origin.
    pub buffered: Option<Buffered>,
}

/// What a look at the store brought. An answer is not boxed although it is large: an allocation costs more than its move.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Look {
    /// The answer, and how long it lasts, where that was asked and it does.
    Served(Served, Option<Box<Lasting>>),
    /// There is none, and none may be fetched.
    Failed(Failure),
    /// The origin must be asked.
    Go(Box<Planned>),
}

/// What is to be done, and on which ground.
#[derive(Debug)]
pub struct Planned {
    key: CacheKey,
    generation: Generation,
    candidates: Candidates,
    plan: Plan,
    now: Moment,
    may_lead: bool,
    may_join: bool,
}

impl Planned {
    /// How the exchange counts if nothing comes of it.
    pub fn result(&self) -> CacheResult {
        match self.plan {
            Plan::Bypass { .. } => CacheResult::Bypass,
            Plan::Fetch { .. }
            | Plan::Serve { .. }
            | Plan::ServeAndRefresh { .. }
            | Plan::Revalidate { .. }
            | Plan::Complete { .. }
            | Plan::Unsatisfiable { .. } => CacheResult::Miss,
        }
    }
}

/// The cache: shared by all connections.
#[derive(Debug)]
pub struct Cache {
    store: Store,
    flights: Arc<Flights>,
    uncacheable: Uncacheable,
    upstream: Upstream,
    clock: Clock,
    shutdown: Shutdown,
    background: Arc<Background>,
    collapse_timeouts: AtomicU64,
    given_up: [AtomicU64; Reason::ALL.len()],
}

impl Cache {
    /// A cache over `store` that fetches by `upstream`.
    pub fn new(store: Store, upstream: Upstream, clock: Clock, shutdown: Shutdown) -> Self {
        Self {
            store,
            flights: Arc::new(Flights::new()),
            uncacheable: Uncacheable::new(),
            upstream,
            clock,
            shutdown,
            background: Arc::default(),
            collapse_timeouts: AtomicU64::new(0),
            given_up: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// The store, for purges and figures.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Fetches that others may join, under way now.
    pub fn flights(&self) -> usize {
        self.flights.len()
    }

    /// Refreshes, and fills that nobody reads, under way now.
    pub fn background(&self) -> usize {
        self.background.running()
    }

    /// How many of these were not begun, or ended, since there were as many as may be. Since the start.
    pub fn background_refused(&self) -> u64 {
        self.background.refused()
    }

    /// How often a request waited as long as `cache.collapse_wait` for another's. Since the start.
    pub fn collapse_timeouts(&self) -> u64 {
        self.collapse_timeouts.load(Ordering::Relaxed)
    }

    /// How many fills were given up for a reason that is not the store's own (of those it keeps count itself).
    pub fn given_up(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        let count = |reason: &Reason| (*reason, self.given_up[*reason as usize].load(Ordering::Relaxed));
        Reason::ALL.iter().map(count).filter(|(_, count)| *count > 0)
    }

    pub(crate) fn note_given_up(&self, reason: Reason) {
        if !matches!(reason, Reason::TooLarge | Reason::NoRoom | Reason::Superseded) {
            self.given_up[reason as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Looks the request up, and answers it from the store where policy lets it.
    pub fn look(self: &Arc<Self>, ask: &Ask) -> Look {
        self.look_by(ask, Store::candidates)
    }

    fn look_by(self: &Arc<Self>, ask: &Ask, candidates: fn(&Store, &CacheKey) -> Candidates) -> Look {
        let now = ask.now;
        let rule = ask.settings.rules.find(&ask.target);
        let key = CacheKey::of(&ask.target, rule);
        let generation = ask.generation;
        let candidates = candidates(&self.store, &key);
        let facts = RequestFacts::of(&ask.method, &ask.headers, ask.has_content);
        let terms = Terms { options: &ask.settings.policy, rule, now };
        let plan = policy::plan(&facts, &candidates, &terms);
        match &plan {
            Plan::Serve { index, freshness, reason, .. } => {
                let outcome = outcome::hit(freshness, *reason);
                let stored = &candidates[*index];
                let served = serve::stored(&facts, stored, freshness, false, &ask.settings, outcome);
                let lasting = || Lasting::of(ask, &facts, (&key, &candidates), freshness, &served);
                let lasting = ask.wants_lasting.then(lasting).flatten();
                Look::Served(served, lasting)
            }
            Plan::ServeAndRefresh { index, freshness } => {
                let stored = &candidates[*index];
                self.refresh(ask, &key, generation, stored);
                let outcome = outcome::hit(freshness, Some(Reason::StaleWhileRevalidate));
                Look::Served(serve::stored(&facts, stored, freshness, false, &ask.settings, outcome), None)
            }
            Plan::Unsatisfiable { reason } => Look::Failed(Failure::OnlyIfCached(*reason)),
            Plan::Bypass { .. } | Plan::Fetch { .. } | Plan::Revalidate { .. } | Plan::Complete { .. } => {
                let (may_lead, may_join) = (facts.may_lead(), facts.may_join());
                Look::Go(Box::new(Planned { key, generation, candidates, plan, now, may_lead, may_join }))
            }
        }
    }

    /// Asks the origin, as `planned` says; takes what goes there out of `ask`. What is not asked on most ways is boxed by
    /// itself: a future is moved as large as its largest way.
    pub async fn respond(self: &Arc<Self>, ask: &mut Ask, planned: Box<Planned>) -> Result<Served, Failure> {
        let Planned { key, generation, candidates, plan, now, may_lead, may_join } = *planned;
        let errand = match Errand::of(&plan, &candidates) {
            Ok(errand) => errand,
            Err((forward, reason)) => return Box::pin(self.bypass(ask, forward, reason)).await,
        };
        if ask.method == Method::HEAD {
            return Box::pin(self.head(ask, key, generation, &candidates, errand)).await;
        }
        if !errand.store || !may_lead || self.uncacheable.remembers(&key, now) {
            if errand.store
                && may_join
                && let Some(landing) = self.flights.landed(&key, &self.store)
                && let Ok(result) = self.follow(ask, landing, &errand)
            {
                return result;
            }
            return self.alone(ask, key, generation, errand, None).await;
        }
        match self.flights.join(&key, generation, &self.store) {
            Joined::Lead(leader) => {
                // Between the look and the join, another flight may have landed.
                if !self.store.candidates_again(&key).are(&candidates) {
                    ask.now = self.clock.now();
                    if let Look::Served(served, _) = self.look_by(ask, Store::candidates_again) {
                        return Ok(served);
                    }
                }
                self.alone(ask, key, generation, errand, Some(leader)).await
            }
            // Nothing that is under way would answer it.
            Joined::Follow(_) if !may_join => self.alone(ask, key, generation, errand, None).await,
            Joined::Follow(follower) => Box::pin(self.behind(follower, ask, key, generation, errand)).await,
        }
    }

    /// Waits for what a leader gets, and answers by that, or goes alone.
    async fn behind(
        self: &Arc<Self>,
        mut follower: Follower,
        ask: &mut Ask,
        key: CacheKey,
        generation: Generation,
        errand: Errand,
    ) -> Result<Served, Failure> {
        let wait = ask.settings.options.collapse_wait;
        let reason = match tokio::time::timeout(wait, follower.landing()).await {
            Ok(landing) => match self.follow(ask, landing, &errand) {
                Ok(result) => return result,
                Err(reason) => reason,
            },
            Err(_elapsed) => {
                self.collapse_timeouts.fetch_add(1, Ordering::Relaxed);
                Reason::CollapseTimeout
            }
        };
        drop(follower);
        // What was waited for may lie in the store now: to be served, or to be validated.
        ask.now = self.clock.now();
        let errand = match self.look_by(ask, Store::candidates_again) {
            Look::Served(served, _) => return Ok(served),
            Look::Failed(failure) => return Err(failure),
            Look::Go(planned) => Errand::of(&planned.plan, &planned.candidates).unwrap_or(errand),
        };
        let errand = Errand { reason: errand.reason.or(Some(reason)), ..errand };
        self.alone(ask, key, generation, errand, None).await
    }

    /// What a follower makes of the head it waited for: an answer, or the reason why it must go alone.
    fn follow(
        self: &Arc<Self>,
        ask: &Ask,
        landing: Landing,
        errand: &Errand,
    ) -> Result<Result<Served, Failure>, Reason> {
        let rule = ask.settings.rules.find(&ask.target);
        let facts = RequestFacts::of(&ask.method, &ask.headers, ask.has_content);
        let terms = Terms { options: &ask.settings.policy, rule, now: self.clock.now() };
        let outcome = Outcome {
            result: CacheResult::Collapsed,
            forward: Some(errand.forward),
            collapsed: true,
            ..Outcome::default()
        };
        match landing {
            Landing::Filling(filling) => {
                let plan = policy::plan(&facts, std::slice::from_ref(&filling), &terms);
                let Plan::Serve { freshness, .. } = plan else { return Err(Reason::CollapseMismatch) };
                let outcome =
                    Outcome { ttl: Some(freshness.ttl()), upstream: Some(filling.address), ..outcome };
                serve::filling(&facts, &filling, &freshness, outcome).map(Ok).ok_or(Reason::CollapseMismatch)
            }
            Landing::Arrived(stored, address, version) => {
                let plan = policy::plan(&facts, std::slice::from_ref(&stored), &terms);
                let Plan::Serve { freshness, .. } = plan else { return Err(Reason::CollapseMismatch) };
                let outcome = Outcome { ttl: Some(freshness.ttl()), upstream: Some(address), ..outcome };
                let served = serve::stored(&facts, &stored, &freshness, false, &ask.settings, outcome);
                Ok(Ok(Served { received: version, ..served }))
            }
            Landing::Stored(stored) => {
                let plan = policy::plan(&facts, std::slice::from_ref(&stored), &terms);
                let (Plan::Serve { freshness, .. } | Plan::ServeAndRefresh { freshness, .. }) = plan else {
                    return Err(Reason::CollapseMismatch);
                };
                let outcome = Outcome { ttl: Some(freshness.ttl()), ..outcome };
                Ok(Ok(serve::stored(&facts, &stored, &freshness, false, &ask.settings, outcome)))
            }
            Landing::Stale(stored) => {
                let reason = policy::stale_on_failure(&facts, stored.head(), &terms)
                    .ok_or(Reason::CollapseMismatch)?;
                Ok(Ok(serve::stale(&facts, &stored, reason, &terms, &ask.settings, outcome)))
            }
            Landing::Unshareable => Err(Reason::CollapseMismatch),
            Landing::Failed(failure) => {
                // What the leader's own words forbade may be this one's answer.
                let stored = errand.asking.fallback().filter(|_| failure.is_upstreams());
                let stale = stored.and_then(|stored| {
                    Some((stored, policy::stale_on_failure(&facts, stored.head(), &terms)?))
                });
                Ok(match stale {
                    Some((stored, reason)) => {
                        Ok(serve::stale(&facts, stored, reason, &terms, &ask.settings, outcome))
                    }
                    None => Err(failure.as_ref().clone()),
                })
            }
        }
    }

    /// Fetches for this request: as the leader of a flight, or for itself alone.
    async fn alone(
        self: &Arc<Self>,
        ask: &mut Ask,
        key: CacheKey,
        generation: Generation,
        errand: Errand,
        leader: Option<Leader>,
    ) -> Result<Served, Failure> {
        let followers = leader.as_ref().map(Leader::followers);
        let headers = Arc::new(std::mem::take(&mut ask.headers));
        let order = Self::order(ask, Arc::clone(&headers), key, generation, &errand, leader);
        let work = Box::pin(obtain(Arc::clone(self), order));
        let brought = match followers {
            Some(followers) => Adopted::new(Arc::clone(self), work, followers).await?,
            None => work.await?,
        };
        Ok(self.brought(ask, &headers, brought, &errand))
    }

    fn order(
        ask: &mut Ask,
        headers: Arc<HeaderMap>,
        key: CacheKey,
        generation: Generation,
        errand: &Errand,
        leader: Option<Leader>,
    ) -> Box<Order> {
        Box::new(Order {
            place: Place {
                key,
                generation,
                target: Arc::clone(&ask.target),
                settings: Arc::clone(&ask.settings),
            },
            method: ask.method.clone(),
            headers,
            has_content: ask.has_content,
            body: std::mem::replace(&mut ask.body, Body::Empty),
            hop: ask.hop.clone(),
            grant: ask.grant.clone(),
            interim: ask.interim.take(),
            asking: errand.asking.clone(),
            store: errand.store,
            leader,
            background: None,
        })
    }

    /// Makes an answer to this request, with these fields, of what a fetch brought.
    fn brought(&self, ask: &Ask, headers: &HeaderMap, brought: Brought, errand: &Errand) -> Served {
        // Most of what comes needs neither.
        let facts = || RequestFacts::of(&ask.method, headers, ask.has_content);
        let terms = || {
            let rule = ask.settings.rules.find(&ask.target);
            Terms { options: &ask.settings.policy, rule, now: self.clock.now() }
        };
        let outcome = Outcome {
            result: CacheResult::Miss,
            forward: Some(errand.forward),
            detail: errand.reason,
            ..Outcome::default()
        };
        let as_received = |head: Head<'_>, length, received: Box<Received>, outcome: Outcome| {
            let freshness = policy::freshness(head, &terms());
            // A breach is told when it is stored, not only when it is served.
            let breach = (freshness.source == LifetimeSource::Override).then_some(Reason::Override);
            let outcome = Outcome {
                forward_status: Some(received.status),
                stored: true,
                ttl: Some(freshness.ttl()),
                detail: breach.or(outcome.detail),
                upstream: Some(received.address),
                ..outcome
            };
            let Received { status, headers, body, version, buffered, .. } = *received;
            let served = Served { status, headers, body, received: version, outcome, buffered };
            // Its own conditions did not go to the origin, so they are answered here.
            let ours = matches!(errand.asking, Asking::Validation(_));
            if ours { serve::replacing(&facts(), head, length, &freshness, served) } else { served }
        };
        match brought {
            Brought::Filling { filling, received } => {
                as_received(filling.head.view(), filling.length, received, outcome)
            }
            Brought::Arrived { stored, received } => {
                as_received(stored.head(), Some(stored.length()), received, outcome)
            }
            Brought::Validated { stored, only_here, address, reason, is_kept } => {
                let freshness = policy::freshness(stored.head(), &terms());
                let outcome = Outcome {
                    result: CacheResult::Revalidated,
                    forward_status: Some(StatusCode::NOT_MODIFIED),
                    stored: is_kept,
                    ttl: Some(freshness.ttl()),
                    detail: reason.or(outcome.detail),
                    upstream: Some(address),
                    ..outcome
                };
                let mut served = serve::stored(&facts(), &stored, &freshness, true, &ask.settings, outcome);
                served.headers.extend(only_here);
                served
            }
            Brought::Completing { filling, reader } => {
                let freshness = policy::freshness(filling.head.view(), &terms());
                let outcome = Outcome {
                    forward_status: Some(StatusCode::PARTIAL_CONTENT),
                    stored: true,
                    ttl: Some(freshness.ttl()),
                    upstream: Some(filling.address),
                    ..outcome
                };
                serve::whole(&filling, &freshness, reader, outcome)
            }
            Brought::Stale { stored, reason, status, address } => {
                let result = CacheResult::Stale;
                let outcome = Outcome { result, forward_status: status, upstream: address, ..outcome };
                serve::stale(&facts(), &stored, reason, &terms(), &ask.settings, outcome)
            }
            Brought::Direct { received, reason } => {
                let outcome = Outcome {
                    forward_status: Some(received.status),
                    detail: Some(reason),
                    upstream: Some(received.address),
                    ..outcome
                };
                invalidate::through(received, outcome)
            }
        }
    }

    /// A background validation of a response that is being served stale.
    fn refresh(self: &Arc<Self>, ask: &Ask, key: &CacheKey, generation: Generation, stored: &StoredResponse) {
        let Joined::Lead(leader) = self.flights.join(key, generation, &self.store) else { return };
        let limit = ask.settings.options.background;
        let Some(running) = self.background.begin(&ask.target, limit) else { return };
        // Also where only a part is stored: a 304 freshens it, anything else is worth more as a whole.
        let mut headers = ask.headers.clone();
        policy::ask_for_the_whole(&mut headers);
        // What is asked in the name of one client is not what others would have got: it only keeps the place, so
        // that there is one validation at a time.
        let (leader, placeholder) = if RequestFacts::refreshing(&Method::GET, &headers).may_lead() {
            (Some(leader), None)
        } else {
            leader.land(Landing::Unshareable);
            (None, Some(leader))
        };
        let order = Box::new(Order {
            place: Place {
                key: key.clone(),
                generation,
                target: Arc::clone(&ask.target),
                settings: Arc::clone(&ask.settings),
            },
            method: Method::GET,
            headers: Arc::new(headers),
            has_content: false,
            body: Body::Empty,
            hop: ask.hop.clone(),
            grant: ask.grant.clone(),
            interim: None,
            asking: Asking::Validation(stored.clone()),
            store: true,
            leader,
            background: Some(running),
        });
        let work = Box::pin(obtain(Arc::clone(self), order));
        self.shutdown.spawn(async move {
            if let Err(failure) = work.await {
                tracing::debug!(%failure, "a background validation failed");
            }
            drop(placeholder);
        });
    }
}

/// Why the origin is asked, and what for.
#[derive(Debug)]
struct Errand {
    forward: Forward,
    reason: Option<Reason>,
    store: bool,
    asking: Asking,
}

impl Errand {
    /// What a plan asks of the origin. `Err`: the request goes straight through, as it came.
    fn of(plan: &Plan, candidates: &Candidates) -> Result<Self, (Forward, Reason)> {
        let asking = Asking::of(plan, candidates);
        match *plan {
            Plan::Fetch { forward, reason, store, .. } => Ok(Self { forward, reason, store, asking }),
            Plan::Revalidate { forward, reason, .. } => {
                Ok(Self { forward, reason: Some(reason), store: true, asking })
            }
            Plan::Complete { .. } => {
                Ok(Self { forward: Forward::Partial, reason: None, store: true, asking })
            }
            Plan::Bypass { forward, reason } => Err((forward, reason)),
            // `look` has answered these.
            Plan::Serve { .. } | Plan::ServeAndRefresh { .. } | Plan::Unsatisfiable { .. } => {
                Err((Forward::Bypass, Reason::Rule))
            }
        }
    }
}
