//! What the steps of one exchange cost by themselves: the decisions, the key, the head and the store.
//!
//! `cargo bench --bench paths`, or `cargo bench --bench paths -- policy/plan` for those of one name. The figures
//! are to be compared with those of another commit on the same machine; criterion does that by itself. What a
//! whole exchange costs, beside other proxies, is told by `tests/compare/run`.
//!
//! `cargo test --bench paths` runs each once, to see that it does.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a bench ends there")]

use std::future::Future;
use std::hint::black_box;
use std::task::{Context, Waker};

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use larder::body;
use larder::clock::Moment;
use larder::field::target::Target;
use larder::policy::{self, Asked, Fields, Plan, Reply, RequestFacts, StoredHead, Terms, Verdict};
use larder::store::{self, CacheKey, Store};

/// When everything is received: 2026-11-23 00:00:00 UTC.
const START: i64 = 1_795_392_000;

fn fields(lines: &[(&str, &str)]) -> HeaderMap {
    let line = |(name, value): &(&str, &str)| {
        (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap())
    };
    lines.iter().map(line).collect()
}

/// What a browser sends.
fn request(language: &str) -> HeaderMap {
    fields(&[
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        ("accept-language", language),
        ("accept-encoding", "gzip, deflate, br"),
    ])
}

/// What an origin answers.
fn response(cache_control: &str) -> HeaderMap {
    fields(&[
        ("date", "Mon, 23 Nov 2026 00:00:00 GMT"),
        ("content-type", "text/html; charset=utf-8"),
        ("content-length", "1024"),
        ("cache-control", cache_control),
        ("etag", "\"5f3c-61a8\""),
        ("last-modified", "Sun, 22 Nov 2026 00:00:00 GMT"),
        ("server", "origin"),
    ])
}

fn terms(options: &policy::Options, seconds: i64) -> Terms<'_> {
    Terms { options, rule: None, now: Moment::at(START + seconds) }
}

fn verdict(request: &HeaderMap, response: &HeaderMap, options: &policy::Options) -> Verdict {
    let facts = RequestFacts::of(&Method::GET, request, false);
    let reply = Reply {
        status: StatusCode::OK,
        headers: response,
        request_time: Moment::at(START),
        response_time: Moment::at(START),
        framing_ok: true,
        close_delimited: false,
        content_length: Some(1024),
    };
    policy::verdict(&facts, Asked::Plain, &reply, &terms(options, 0))
}

fn stored(request: &HeaderMap, response: &HeaderMap) -> StoredHead {
    match verdict(request, response, &policy::Options::default()) {
        Verdict::Store(head) => *head,
        other => panic!("not stored: {other:?}"),
    }
}

fn plans(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("policy/plan");
    let options = policy::Options::default();
    let request_fields = request("de");
    let mut plan = |id: BenchmarkId, candidates: &[StoredHead], seconds, is: fn(&Plan) -> bool| {
        let plan = || {
            let facts = RequestFacts::of(&Method::GET, black_box(&request_fields), false);
            policy::plan(&facts, black_box(candidates), &terms(&options, seconds))
        };
        assert!(is(&plan()), "{:?}", plan());
        group.bench_function(id, |bencher| bencher.iter(plan));
    };
    let one = [stored(&request_fields, &response("max-age=60"))];
    plan(BenchmarkId::from_parameter("fresh"), &one, 10, |plan| matches!(plan, Plan::Serve { .. }));
    plan(BenchmarkId::from_parameter("stale"), &one, 100, |plan| matches!(plan, Plan::Revalidate { .. }));
    for count in [1, 10, 100] {
        let mut varying = response("max-age=60");
        varying.insert("vary", HeaderValue::from_static("accept-language"));
        // The one that is asked for comes last.
        let others = (1..count).map(|n| stored(&request(&format!("x-{n}")), &varying));
        let variants: Vec<_> = others.chain([stored(&request_fields, &varying)]).collect();
        let last = |plan: &Plan| matches!(plan, Plan::Serve { .. });
        plan(BenchmarkId::new("variants", count), &variants, 10, last);
    }
    group.finish();
}

fn verdicts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("policy/verdict");
    let (options, request) = (policy::Options::default(), request("de"));
    for (name, cache_control) in [("storable", "max-age=60"), ("no-store", "no-store")] {
        let response = response(cache_control);
        let judge = || verdict(black_box(&request), black_box(&response), &options);
        assert_eq!(matches!(judge(), Verdict::Store(_)), name == "storable");
        group.bench_function(name, |bencher| bencher.iter(judge));
    }
    group.finish();
}

fn target(path: &str) -> Target {
    Target::absolute(&format!("http://static.example.com/{path}").parse().unwrap()).unwrap()
}

fn keys(criterion: &mut Criterion) {
    let target = target("assets/2026/11/app-5f3c61a8.js?v=3&lang=de");
    criterion.bench_function("key/of", |bencher| bencher.iter(|| CacheKey::of(black_box(&target), None)));
}

/// So many field lines: the usual ones, and then some that have no short form.
fn many(lines: usize) -> HeaderMap {
    let mut map = response("max-age=60");
    for n in map.len()..lines {
        map.append(
            HeaderName::try_from(format!("x-field-{n}")).unwrap(),
            HeaderValue::from_static("a value"),
        );
    }
    map.into_iter().take(lines).map(|(name, value)| (name.unwrap(), value)).collect()
}

fn heads(criterion: &mut Criterion) {
    for lines in [5, 50] {
        let map = many(lines);
        assert_eq!(map.len(), lines);
        criterion.bench_function(&format!("head/collect/{lines}"), |bencher| {
            bencher.iter(|| Fields::from_map(black_box(&map), |_| true));
        });
        let fields = Fields::from_map(&map, |_| true);
        criterion.bench_function(&format!("head/to_map/{lines}"), |bencher| {
            bencher.iter(|| black_box(&fields).lines().to_map(6));
        });
    }
}

fn key(n: u64) -> CacheKey {
    CacheKey::of(&target(&format!("objects/{n}")), None)
}

/// As a fetch does it: room first, then the body, then it is stored.
fn put(store: &Store, key: &CacheKey, head: StoredHead, content: Bytes) {
    let mut fill = store.fill(key, store.generation(), head, Some(content.len() as u64)).unwrap();
    {
        let push = std::pin::pin!(fill.push(content));
        assert!(push.poll(&mut Context::from_waker(Waker::noop())).is_ready(), "nobody reads it");
    }
    fill.finish(None).unwrap();
}

fn filled(capacity: u64, count: u64, head: &StoredHead, content: &Bytes) -> Store {
    let store = Store::new(&store::Options::of_capacity(capacity), &body::Options::default());
    (0..count).for_each(|n| put(&store, &key(n), head.clone(), content.clone()));
    store.settle();
    store
}

fn stores(criterion: &mut Criterion) {
    const GIB: u64 = 1 << 30;
    let head = stored(&request("de"), &response("max-age=60"));
    let content = Bytes::from(vec![b'x'; 1024]);
    for count in [1_000, 100_000] {
        let store = filled(GIB, count, &head, &content);
        assert_eq!(store.stats().entries, count);
        let keys: Vec<_> = (0..count).map(key).collect();
        let mut next = 0;
        criterion.bench_function(&format!("store/get/{count}"), |bencher| {
            bencher.iter(|| {
                // A prime: all of them, in an order that no cache line foresees.
                next = (next + 7_919) % keys.len();
                store.candidates(black_box(&keys[next]))
            });
        });
    }
    let mut next = 40_000;
    let store = filled(GIB / 32, next, &head, &content);
    assert!(store.stats().evicted > 0);
    criterion.bench_function("store/put/full", |bencher| {
        let prepare = || {
            next += 1;
            (key(next), head.clone())
        };
        let put = |(key, head)| put(&store, &key, head, content.clone());
        bencher.iter_batched(prepare, put, BatchSize::SmallInput);
    });
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    plans(&mut criterion);
    verdicts(&mut criterion);
    keys(&mut criterion);
    heads(&mut criterion);
    stores(&mut criterion);
    criterion.final_summary();
}
