//! What can't be arranged from outside: who comes between whom.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Version};
use std::sync::Arc;

use super::fetch::Brought;
use super::fill::{self, Place};
use super::flight::Joined;
use super::{Ask, Cache, Hop, Look, Options, Settings};
use crate::access::Access;
use crate::body::{self, Body, Buffers, StoredBody};
use crate::clock::Clock;
use crate::field::target::Target;
use crate::field::via::Pseudonym;
use crate::policy::rules::Rules;
use crate::policy::testing::{headers, reply};
use crate::policy::{self, Asked, Reason, RequestFacts, StoredHead, Terms, Verdict};
use crate::shutdown::Shutdown;
use crate::store::{self, CacheKey, Store, StoredResponse};
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
        access: Arc::new(Access::new(crate::access::Options::default(), Vec::new())),
        settings: Arc::new(Settings {
            options: Options::default(),
            policy: policy::Options::default(),
            rules: Rules::new(Vec::new()).unwrap(),
        }),
        generation: cache.store.generation(),
        now: cache.clock.now(),
        interim: None,
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

/// Stores a fresh response for what `ask` asks for.
fn put(cache: &Cache, ask: &Ask) {
    let response = StoredResponse::new(head(cache, ask, 0), StoredBody::new(vec![Bytes::from_static(b"x")]));
    cache.store.insert(&CacheKey::of(&ask.target, None), cache.store.generation(), response).unwrap();
}

#[tokio::test]
async fn a_follower_whose_leader_found_it_stored_finds_it_too() {
    let cache = cache();
    let ask = ask(&cache);
    let Look::Go(planned) = cache.look(&ask) else { panic!("a miss") };
    let key = CacheKey::of(&ask.target, None);
    let joined = cache.flights.join(&key, cache.store.generation(), &cache.store);
    let Joined::Lead(leader) = joined else { panic!("the first leads") };
    put(&cache, &ask);
    let follower = tokio::spawn({
        let cache = Arc::clone(&cache);
        async move { cache.respond(ask, planned).await }
    });
    while leader.followers() == 0 {
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
    let place = Place {
        key: CacheKey::of(&ask.target, None),
        generation: cache.store.generation(),
        target: Arc::clone(&ask.target),
        settings: Arc::clone(&ask.settings),
    };
    let begin = |seconds| {
        let received = Received {
            status: StatusCode::OK,
            version: Version::HTTP_11,
            headers: HeaderMap::new(),
            body: Body::Empty,
            address: ([127, 0, 0, 1], 80).into(),
            framing_ok: true,
            close_delimited: false,
            content_length: Some(0),
            upgraded: None,
            protocol: None,
            reused: false,
            buffered: None,
        };
        fill::begin(&cache, &place, &mut None, head(&cache, &ask, seconds), received)
    };
    assert!(matches!(begin(10), Ok(Brought::Filling { .. })));
    // Older than what is stored.
    let Err((_, reason)) = begin(0) else { panic!("told as stored") };
    assert_eq!(reason, Reason::Superseded);
}

#[tokio::test]
async fn what_was_asked_by_settings_from_before_a_reload_is_not_stored() {
    let cache = cache();
    let ask = ask(&cache);
    cache.store.supersede();
    let Look::Go(planned) = cache.look(&ask) else { panic!("a miss") };
    assert!(!cache.store.is_current(&planned.key, planned.generation));
}
