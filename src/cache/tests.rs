//! What can't be arranged from outside: who comes between whom.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Version};
use http_body::Frame;
use http_body_util::BodyExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::fetch::Brought;
use super::fill::{self, Place};
use super::flight::Joined;
use super::{Ask, Cache, Hop, Look, Options, Settings};
use crate::access::{Access, Grant};
use crate::body::{self, Body, Buffers, StoredBody};
use crate::clock::Clock;
use crate::field::status::ProxyError;
use crate::field::target::Target;
use crate::field::via::Pseudonym;
use crate::policy::rules::Rules;
use crate::policy::testing::{headers, reply};
use crate::policy::{self, Asked, Reason, RequestFacts, StoredHead, Terms, Verdict};
use crate::shutdown::Shutdown;
use crate::store::{self, CacheKey, Store};
use crate::upstream::{self, Received, Upstream};

/// A cache whose origins can't be reached: their addresses are not allowed.
fn cache() -> Arc<Cache> {
    let (clock, _) = Clock::manual(0);
    let store = Store::new(&store::Options::of_capacity(1 << 20), &body::Options::default());
    let buffers = Buffers::new(&body::buffers::Options::default());
    let upstream = Upstream::new(upstream::Options::default(), buffers, clock.clone()).unwrap();
    Arc::new(Cache::new(store, upstream, clock, Shutdown::new()))
}

fn ask(cache: &Cache) -> Ask {
    let target = Target::absolute(&"http://127.0.0.1:8080/x".parse().unwrap()).unwrap();
    Ask {
        target: Arc::new(target),
        method: Method::GET,
        headers: HeaderMap::new(),
        has_content: false,
        body: Body::Empty,
        hop: Hop { version: Version::HTTP_11, pseudonym: Arc::new(Pseudonym::new("larder").unwrap()) },
        grant: Grant::plain(Arc::new(Access::new(crate::access::Options::default(), Vec::new()))),
        settings: Arc::new(Settings {
            options: Options::default(),
            policy: policy::Options::default(),
            rules: Rules::new(Vec::new()).unwrap(),
        }),
        generation: cache.store.generation(),
        now: cache.clock.now(),
        interim: None,
        wants_lasting: false,
    }
}

/// The head of a fresh response to `ask`, of so many seconds.
fn head(cache: &Cache, ask: &Ask, seconds: i64) -> StoredHead {
    let fields = headers(&[("cache-control", "max-age=60")]);
    let facts = RequestFacts::of(&ask.method, &ask.headers, false);
    let terms = Terms { options: &ask.settings.policy, rule: None, now: cache.clock.now() };
    let Verdict::Store(head) = policy::verdict(&facts, Asked::Plain, &reply(seconds, 200, &fields), &terms)
    else {
        panic!("not stored");
    };
    *head
}

fn place(cache: &Cache, ask: &Ask) -> Place {
    Place {
        key: CacheKey::of(&ask.target, None),
        generation: cache.store.generation(),
        target: Arc::clone(&ask.target),
        settings: Arc::clone(&ask.settings),
    }
}

/// A response with this content, and so many bytes of it announced.
fn received(body: Body, length: Option<u64>) -> Received {
    Received {
        status: StatusCode::OK,
        version: Version::HTTP_11,
        headers: HeaderMap::new(),
        body,
        address: ([127, 0, 0, 1], 80).into(),
        framing_ok: true,
        close_delimited: false,
        content_length: length,
        upgraded: None,
        protocol: None,
        reused: false,
        buffered: None,
    }
}

/// Content that never comes.
struct Silent;

impl http_body::Body for Silent {
    type Data = Bytes;
    type Error = body::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, body::Error>>> {
        Poll::Pending
    }
}

/// Stores a fresh response for what `ask` asks for.
fn put(cache: &Cache, ask: &Ask) {
    let (key, body) = (CacheKey::of(&ask.target, None), StoredBody::from(Bytes::from_static(b"x")));
    cache.store.insert(&key, cache.store.generation(), head(cache, ask, 0), body).1.unwrap();
}

#[tokio::test]
async fn a_follower_whose_leader_found_it_stored_finds_it_too() {
    let cache = cache();
    let mut ask = ask(&cache);
    let Look::Go(planned) = cache.look(&ask) else { panic!("a miss") };
    let key = CacheKey::of(&ask.target, None);
    let joined = cache.flights.join(&key, cache.store.generation(), &cache.store);
    let Joined::Lead(leader) = joined else { panic!("the first leads") };
    put(&cache, &ask);
    let follower = tokio::spawn({
        let cache = Arc::clone(&cache);
        async move { cache.respond(&mut ask, planned).await }
    });
    while leader.followers().count() == 0 {
        tokio::task::yield_now().await;
    }
    drop(leader);
    let served = follower.await.unwrap().unwrap();
    assert!(served.outcome.hit);
}

#[tokio::test]
async fn an_empty_body_is_stored_at_once_or_nobody_is_told_so() {
    let cache = cache();
    let ask = ask(&cache);
    let place = place(&cache, &ask);
    let store = |seconds, length| {
        let received = received(Body::Empty, length);
        fill::store(&cache, &place, &mut None, None, head(&cache, &ask, seconds), Box::new(received))
    };
    assert!(matches!(store(10, None), Ok(Brought::Filling { .. })));
    assert!(matches!(store(20, Some(0)), Ok(Brought::Arrived { .. })));
    for length in [None, Some(0)] {
        // Older than what is stored.
        let Err((_, reason)) = store(0, length) else { panic!("told as stored") };
        assert_eq!(reason, Reason::Superseded);
    }
}

#[tokio::test]
async fn followers_of_what_came_whole_are_told_from_where_and_how() {
    let cache = cache();
    let (asked, mut follows) = (ask(&cache), ask(&cache));
    let Look::Go(planned) = cache.look(&follows) else { panic!("a miss") };
    let place = place(&cache, &asked);
    let Joined::Lead(leader) = cache.flights.join(&place.key, place.generation, &cache.store) else {
        panic!("the first leads")
    };
    let followers = leader.followers();
    let follower = tokio::spawn({
        let cache = Arc::clone(&cache);
        async move { cache.respond(&mut follows, planned).await }
    });
    while followers.count() == 0 {
        tokio::task::yield_now().await;
    }
    let came = Body::full(Bytes::from_static(b"abcd"));
    let received = Received { version: Version::HTTP_10, ..received(came, Some(4)) };
    let address = received.address;
    let head = head(&cache, &asked, 0);
    let brought = fill::store(&cache, &place, &mut Some(leader), None, head, Box::new(received));
    assert!(matches!(brought, Ok(Brought::Arrived { .. })));
    assert_eq!(cache.flights(), 0);
    let served = follower.await.unwrap().unwrap();
    assert!(served.outcome.collapsed && !served.outcome.hit);
    assert_eq!((served.outcome.upstream, served.received), (Some(address), Version::HTTP_10));
    assert_eq!(served.body.collect().await.unwrap().to_bytes(), "abcd");
}

/// Content of which some comes later.
struct Late(Vec<Option<&'static str>>);

impl http_body::Body for Late {
    type Data = Bytes;
    type Error = body::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, body::Error>>> {
        if self.0.is_empty() {
            return Poll::Ready(None);
        }
        match self.0.remove(0) {
            Some("broken") => {
                let broken = body::Error::new(ProxyError::ConnectionTerminated, "broken");
                Poll::Ready(Some(Err(broken)))
            }
            Some(text) => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(text.as_bytes()))))),
            None => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

#[tokio::test]
async fn a_small_body_that_has_come_with_its_head_is_stored_at_once_and_any_other_as_it_comes() {
    for (frames, at_once, whole) in [
        (&[Some("abcd")][..], true, true),
        (&[Some("ab"), Some("cd")], true, true),
        (&[None, Some("abcd")], false, true),
        (&[Some("abcd"), None], false, true),
        (&[Some("a"), None, Some("bc"), None, Some("d")], false, true),
        (&[], false, false),
        (&[Some("ab")], false, false),
        (&[Some("ab"), Some("broken")], false, false),
        (&[Some("ab"), None, Some("broken")], false, false),
    ] {
        let cache = cache();
        let ask = ask(&cache);
        let place = place(&cache, &ask);
        let received = received(Body::boxed(Late(frames.to_vec())), Some(4));
        let brought = fill::store(&cache, &place, &mut None, None, head(&cache, &ask, 0), Box::new(received));
        let (stored, received) = match brought {
            Ok(Brought::Arrived { received, .. }) => (true, received),
            Ok(Brought::Filling { received, .. }) => (false, received),
            _ => panic!("{frames:?}"),
        };
        assert_eq!(stored, at_once, "{frames:?}");
        let content = received.body.collect().await.map(http_body_util::Collected::to_bytes);
        assert_eq!(content.ok().as_deref(), whole.then_some(&b"abcd"[..]), "{frames:?}");
        let found = cache.store.candidates(&place.key);
        let bodies: Vec<_> = found.iter().map(|stored| stored.body().to_bytes()).collect();
        assert_eq!(bodies, if whole { vec![&b"abcd"[..]] } else { Vec::new() }, "{frames:?}");
    }
}

#[tokio::test]
async fn what_was_asked_by_settings_from_before_a_reload_is_not_stored() {
    let cache = cache();
    let ask = ask(&cache);
    cache.store.supersede();
    let Look::Go(planned) = cache.look(&ask) else { panic!("a miss") };
    assert!(!cache.store.is_current(&planned.key, planned.generation));
}

/// With nobody in between, who else looks for a place can't take it.
#[tokio::test]
async fn what_a_refresh_brings_is_stored_in_its_place() {
    let cache = cache();
    let ask = ask(&cache);
    let running = cache.background.begin(&ask.target, 1).unwrap();
    let (head, received) = (head(&cache, &ask, 0), received(Body::boxed(Silent), Some(5)));
    let begun = fill::store(&cache, &place(&cache, &ask), &mut None, Some(running), head, Box::new(received));
    assert!(begun.is_ok());
    assert!(cache.background.begin(&ask.target, 1).is_none());
    // Nobody reads it any more.
    drop(begun);
    tokio::task::yield_now().await;
    assert!(cache.background.begin(&ask.target, 1).is_none());
    cache.shutdown.abort();
    cache.shutdown.finished().await;
    assert!(cache.background.begin(&ask.target, 1).is_some());
}

#[test]
fn a_flight_ends_without_followers_and_not_with_one() {
    let cache = cache();
    let key = CacheKey::of(&ask(&cache).target, None);
    let join = || cache.flights.join(&key, cache.store.generation(), &cache.store);
    let Joined::Lead(leader) = join() else { panic!("the first leads") };
    let followers = leader.followers();
    let Joined::Follow(follower) = join() else { panic!("the second follows") };
    assert!(!followers.end_if_none());
    drop(follower);
    assert!(followers.end_if_none());
    // From now on whoever comes leads one of his own, which the old one's end leaves alone.
    let Joined::Lead(_other) = join() else { panic!("nobody follows what has ended") };
    assert!(followers.end_if_none());
    drop(leader);
    assert_eq!(cache.flights(), 1);
}
