//! One fetch: the request towards the origin, the verdict on what comes back, and the body into the store.
//!
//! ```text
//!  Order --send--> head --verdict--> Arrived    it had come whole, and is stored
//!                                    Filling    stored while it is read
//!                                    Validated  304: the stored response is current
//!                                    Completing 206: the rest of a stored partial response comes, and the whole is stored
//!                                    Stale      the origin failed, the stored response may answer
//!                                    Direct     not stored: straight to the one who asked
//! ```
//!
//! [`obtain`] is one future. Whoever leads polls it himself; if he leaves before the head is there, it goes on
//! as a task of its own while others wait for it ([`Adopted`]): a client that leaves never ends their fetch, and
//! leaves none behind that nobody waits for.

use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::Cache;
use super::background::Running;
use super::failure::Failure;
use super::fill::{self, Place};
use super::flight::{Followers, Landing, Leader};
use crate::access::Grant;
use crate::body::{Body, SharedBody};
use crate::clock::Moment;
use crate::field::via::Pseudonym;
use crate::policy::{
    self, Asked, Candidate as _, Head, Plan, Reason, Reply, RequestFacts, StoredHead, Terms, Verdict,
};
use crate::store::{Candidates, StoredResponse};
use crate::upstream::{Call, OnInterim, Received, UpstreamError};

/// Fields that are added to a request on its way.
const ADDED: usize = 6;

/// What is added to a request on its way through.
#[derive(Clone, Debug)]
pub struct Hop {
    /// The version in which the request was received.
    pub version: Version,
    /// Our name in Via.
    pub pseudonym: Arc<Pseudonym>,
}

impl Hop {
    /// The fields of a request as they go to the origin.
    pub(crate) fn outgoing(&self, received: &HeaderMap) -> HeaderMap {
        let mut headers = received.clone();
        // Via, a condition or two, and what belongs to the connection: at once, since a clone has no room.
        drop(headers.try_reserve(ADDED));
        self.pseudonym.append(&mut headers, self.version);
        headers
    }
}

/// What the origin is asked beyond the client's own words.
#[derive(Clone, Debug)]
pub(crate) enum Asking {
    /// Nothing.
    Plain,
    /// Whether this stored response is still the one.
    Validation(StoredResponse),
    /// Whether one of these variants is the one: their entity tags.
    Variants(Candidates, HeaderValue),
    /// The rest of this partial stored response: Range and If-Range.
    Rest(StoredResponse, HeaderValue, Option<HeaderValue>),
}

impl Asking {
    /// What `plan` asks.
    pub(crate) fn of(plan: &Plan, candidates: &Candidates) -> Self {
        match plan {
            Plan::Fetch { etags: Some(etags), .. } => Self::Variants(candidates.clone(), etags.clone()),
            Plan::Revalidate { index, .. } => Self::Validation(candidates[*index].clone()),
            Plan::Complete { index, range, if_range } => {
                Self::Rest(candidates[*index].clone(), range.clone(), if_range.clone())
            }
            Plan::Fetch { etags: None, .. }
            | Plan::Bypass { .. }
            | Plan::Serve { .. }
            | Plan::ServeAndRefresh { .. }
            | Plan::Unsatisfiable { .. } => Self::Plain,
        }
    }

    /// The stored response that may answer where the origin fails.
    pub(crate) fn fallback(&self) -> Option<&StoredResponse> {
        match self {
            Self::Validation(stored) => Some(stored),
            Self::Plain | Self::Variants(..) | Self::Rest(..) => None,
        }
    }

    /// Which stored response the answer speaks of.
    pub(crate) fn subject(&self, reply: &Reply<'_>) -> Option<StoredResponse> {
        match self {
            Self::Validation(stored) | Self::Rest(stored, ..) => Some(stored.clone()),
            Self::Variants(variants, _) if reply.status == StatusCode::NOT_MODIFIED => {
                policy::variant_by_etag(variants, reply.headers).map(|index| variants[index].clone())
            }
            Self::Plain | Self::Variants(..) => None,
        }
    }

    /// The same in the terms of policy.
    pub(crate) fn asked<'a>(&self, subject: Option<&'a StoredResponse>) -> Asked<'a> {
        match (self, subject) {
            (Self::Rest(..), Some(stored)) => Asked::Rest(stored.head()),
            (_, Some(stored)) => Asked::Validation(stored.head()),
            (Self::Variants(..), None) => Asked::Variants,
            (_, None) => Asked::Plain,
        }
    }

    /// Adds what is asked to the outgoing fields.
    pub(crate) fn put(&self, headers: &mut HeaderMap) {
        match self {
            Self::Plain => {}
            Self::Validation(stored) => policy::conditional(headers, stored.head()),
            Self::Variants(_, etags) => {
                headers.insert(header::IF_NONE_MATCH, etags.clone());
            }
            Self::Rest(_, range, if_range) => {
                headers.insert(header::RANGE, range.clone());
                headers.remove(header::IF_RANGE);
                if let Some(if_range) = if_range {
                    headers.insert(header::IF_RANGE, if_range.clone());
                }
            }
        }
    }
}

/// Everything that a fetch needs to know.
pub(crate) struct Order {
    pub(crate) place: Place,
    pub(crate) method: Method,
    /// The client's end-to-end fields.
    pub(crate) headers: Arc<HeaderMap>,
    pub(crate) has_content: bool,
    pub(crate) body: Body,
    pub(crate) hop: Hop,
    pub(crate) grant: Grant,
    pub(crate) interim: Option<OnInterim>,
    pub(crate) asking: Asking,
    /// Whether the answer may be stored.
    pub(crate) store: bool,
    /// In which flight, if others may join.
    pub(crate) leader: Option<Leader>,
    /// Its place in the background, where it is for no client, but to keep what is stored fresh.
    pub(crate) background: Option<Running>,
}

impl Order {
    /// Removes what was validated, where an answer that is not stored for `reason` says that it is no longer the one.
    fn outdated(&self, cache: &Cache, facts: &RequestFacts<'_>, status: StatusCode, reason: Reason) {
        if let Asking::Validation(old) = &self.asking
            && policy::outdates(facts, status, reason)
        {
            cache.store.remove(&self.place.key, old);
        }
    }
}

/// A response on its way into the store.
#[derive(Clone, Debug)]
pub(crate) struct Filling {
    pub(crate) head: Arc<StoredHead>,
    pub(crate) body: SharedBody,
    /// Bytes of the body, where the head tells.
    pub(crate) length: Option<u64>,
    pub(crate) address: SocketAddr,
    /// The version in which the origin answered, for Via.
    pub(crate) version: Version,
}

/// What a fetch brought. `received`: what the client who asked gets, it as it was received.
pub(crate) enum Brought {
    /// It is being stored; its client reads it from the beginning.
    Filling { filling: Filling, received: Box<Received> },
    /// It had come whole, and is stored.
    Arrived { stored: StoredResponse, received: Box<Received> },
    /// The origin says that the stored response is current. `only_here`: fields of the 304 for this requester.
    Validated {
        stored: StoredResponse,
        only_here: HeaderMap,
        address: SocketAddr,
        reason: Option<Reason>,
        is_kept: bool,
    },
    /// What is missing of a partial stored response comes: a reader of the whole.
    Completing { filling: Filling, reader: Body },
    /// The stored response answers, though stale, since the origin failed.
    Stale { stored: StoredResponse, reason: Reason, status: Option<StatusCode>, address: Option<SocketAddr> },
    /// Not stored.
    Direct { received: Box<Received>, reason: Reason },
}

/// Fetches, tells the followers, and starts the copy into the store.
pub(crate) async fn obtain(cache: Arc<Cache>, mut order: Box<Order>) -> Result<Brought, Failure> {
    let mut leader = order.leader.take();
    let result = attempt(&cache, &mut order, &mut leader).await;
    // Still here: nothing is being filled, so this is all that the followers will hear.
    if let Some(leader) = leader {
        match &result {
            Ok(Brought::Validated { stored, reason: None, .. }) => {
                if order.place.asks_each_time(stored.head(), cache.clock.now()) {
                    remember(&cache, &order.place);
                }
                leader.close(Landing::Stored(stored.clone()));
            }
            Ok(Brought::Stale { stored, .. }) => leader.close(Landing::Stale(stored.clone())),
            Ok(Brought::Direct { .. } | Brought::Validated { reason: Some(_), .. }) => {
                remember(&cache, &order.place);
                leader.close(Landing::Unshareable);
            }
            Ok(Brought::Filling { .. } | Brought::Arrived { .. } | Brought::Completing { .. }) => {
                leader.close(Landing::Unshareable);
            }
            Err(failure) => leader.close(Landing::Failed(Arc::new(failure.clone()))),
        }
    }
    result
}

/// Lets nobody wait for a while for what others fetch under this key: it would not answer him.
fn remember(cache: &Cache, place: &Place) {
    cache.uncacheable.remember(&place.key, cache.clock.now(), &place.settings.options);
}

async fn attempt(
    cache: &Arc<Cache>,
    order: &mut Order,
    leader: &mut Option<Leader>,
) -> Result<Brought, Failure> {
    let mut body = std::mem::replace(&mut order.body, Body::Empty);
    loop {
        let (hop, received, asking) = (&order.hop, &order.headers, &order.asking);
        let headers = || {
            let mut headers = hop.outgoing(received);
            asking.put(&mut headers);
            headers
        };
        let request_time = cache.clock.now();
        let rule = order.place.settings.rules.find(&order.place.target);
        let sent = cache
            .upstream
            .send(&mut Call {
                target: &order.place.target,
                method: order.method.clone(),
                headers: &headers,
                body: std::mem::replace(&mut body, Body::Empty),
                grant: order.grant.clone(),
                on_interim: order.interim.clone(),
                fetch_over_https: rule.is_some_and(|r| r.fetch_over_https),
                upgrade: None,
            })
            .await;
        let response_time = cache.clock.now();
        let terms = Terms { options: &order.place.settings.policy, rule, now: response_time };
        let facts = if order.background.is_some() {
            RequestFacts::refreshing(&order.method, &order.headers)
        } else {
            RequestFacts::of(&order.method, &order.headers, order.has_content)
        };
        let received = match sent {
            Ok(received) => received,
            Err(error) => {
                let address = error.address;
                let (stored, reason) = failed(&order.asking, &facts, &terms, error)?;
                return Ok(Brought::Stale { stored, reason, status: None, address });
            }
        };
        let reply = reply(&received, request_time, response_time);
        let subject = order.asking.subject(&reply);
        let asked = order.asking.asked(subject.as_ref());
        let verdict = policy::verdict(&facts, asked, &reply, &terms);
        let address = received.address;
        match (verdict, subject) {
            (Verdict::Store(head), _) if order.store => {
                let running = order.background.take();
                let begun = fill::store(cache, &order.place, leader, running, *head, received);
                return Ok(begun.unwrap_or_else(|(received, reason)| {
                    order.outdated(cache, &facts, received.status, reason);
                    Brought::Direct { received, reason }
                }));
            }
            (Verdict::Store(_), _) => {
                return Ok(Brought::Direct { received, reason: Reason::UncacheableKey });
            }
            (Verdict::Combine(combined), Some(old)) => {
                if let Some(completing) =
                    fill::complete(cache, &order.place, leader, &old, combined, received)
                {
                    return Ok(completing);
                }
                order.asking = Asking::Plain;
            }
            (Verdict::Freshen { head, only_here }, Some(old)) => {
                let (key, generation) = (&order.place.key, order.place.generation);
                // Gone meanwhile, or superseded, it still answers this request.
                let (stored, is_kept) = if head.selecting == old.head().selecting {
                    cache.store.freshen(key, generation, &old, *head)
                } else {
                    // It answers this request too: a variant beside the one that it was validated as.
                    let (beside, kept) = cache.store.insert(key, generation, *head, old.body());
                    (beside, kept.is_ok())
                };
                return Ok(Brought::Validated { stored, only_here, address, reason: None, is_kept });
            }
            (Verdict::FreshenOnce { head, reason, remove }, Some(old)) => {
                if remove {
                    cache.store.remove(&order.place.key, &old);
                }
                let stored = cache.store.apart(&order.place.key, *head, old.body());
                return Ok(Brought::Validated {
                    stored,
                    only_here: HeaderMap::new(),
                    address,
                    reason: Some(reason),
                    is_kept: false,
                });
            }
            (Verdict::ServeStale(reason), Some(stored)) => {
                let status = Some(received.status);
                return Ok(Brought::Stale { stored, reason, status, address: Some(address) });
            }
            // Without a condition or a range of ours there can be no second one.
            (
                Verdict::Refetch
                | Verdict::Combine(_)
                | Verdict::Freshen { .. }
                | Verdict::FreshenOnce { .. }
                | Verdict::ServeStale(_),
                _,
            ) => {
                if matches!(order.asking, Asking::Plain) {
                    return Err(Failure::Refused { reason: Reason::NotModified, address });
                }
                order.asking = Asking::Plain;
            }
            (Verdict::PassThrough(reason), _) => {
                order.outdated(cache, &facts, received.status, reason);
                return Ok(Brought::Direct { received, reason });
            }
            (Verdict::Refuse(reason), _) => return Err(Failure::Refused { reason, address }),
        }
    }
}

pub(crate) fn reply(received: &Received, request_time: Moment, response_time: Moment) -> Reply<'_> {
    Reply {
        status: received.status,
        headers: &received.headers,
        request_time,
        response_time,
        framing_ok: received.framing_ok,
        close_delimited: received.close_delimited,
        content_length: received.content_length,
    }
}

/// The origin could not be asked: the stored response answers where it may, by that leave.
pub(crate) fn failed(
    asking: &Asking,
    facts: &RequestFacts<'_>,
    terms: &Terms<'_>,
    error: UpstreamError,
) -> Result<(StoredResponse, Reason), Failure> {
    let Some(stored) = asking.fallback() else { return Err(Failure::Upstream(Arc::new(error))) };
    match policy::stale_on_failure(facts, stored.head(), terms) {
        Some(reason) => Ok((stored.clone(), reason)),
        None => Err(Failure::of(error, stored.head())),
    }
}

/// A fetch that goes on as a task when the one who polls it leaves, for as long as somebody follows.
pub(crate) struct Adopted {
    work: Option<Work>,
    cache: Arc<Cache>,
    followers: Option<Followers>,
}

type Work = Pin<Box<dyn Future<Output = Result<Brought, Failure>> + Send>>;

impl Adopted {
    pub(crate) fn new(cache: Arc<Cache>, work: Work, followers: Followers) -> Self {
        Self { work: Some(work), cache, followers: Some(followers) }
    }
}

impl Future for Adopted {
    type Output = Result<Brought, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = self.work.as_mut() else { return Poll::Pending };
        let result = std::task::ready!(work.as_mut().poll(cx));
        self.work = None;
        Poll::Ready(result)
    }
}

impl Drop for Adopted {
    fn drop(&mut self) {
        let (Some(work), Some(followers)) = (self.work.take(), self.followers.take()) else { return };
        if followers.end_if_none() {
            return;
        }
        self.cache.shutdown.spawn(async move {
            tokio::select! {
                biased;
                brought = work => {
                    // A fill that nobody reads may end: they take their readers before this one goes.
                    followers.told().await;
                    drop(brought);
                }
                () = followers.gone() => {}
            }
        });
    }
}

impl policy::Candidate for Filling {
    fn head(&self) -> Head<'_> {
        self.head.view()
    }

    fn marked_stale(&self) -> bool {
        false
    }

    fn length(&self) -> u64 {
        self.length.unwrap_or(0)
    }
}
