//! The store as its users see it.

use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use http_body_util::BodyExt;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::body::{Gone, Reader, StoredBody};
use crate::field::target::Target;
use crate::policy::testing::World;
use crate::policy::{Asked, Candidate, Verdict};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

fn store(capacity: u64) -> Store {
    Store::new(&Options::of_capacity(capacity), &body::Options::default())
}

fn key(path: &str) -> CacheKey {
    CacheKey::of(&Target::absolute(&format!("http://example.com/{path}").parse().unwrap()).unwrap(), None)
}

/// The head of a variant.
fn head(variant: &str) -> StoredHead {
    World::default().stored(
        &[("accept", variant)],
        200,
        &[("cache-control", "max-age=60"), ("vary", "accept")],
    )
}

fn content(length: u64) -> Bytes {
    vec![b'x'; length as usize].into()
}

/// Pushes; waits for nobody.
fn push(fill: &mut Fill, frame: Bytes) -> Result<(), Gone> {
    let push = std::pin::pin!(fill.push(frame));
    match push.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(pushed) => pushed,
        std::task::Poll::Pending => Ok(()),
    }
}

/// Stores a body of that length in one frame.
fn put(store: &Store, path: &str, variant: &str, length: u64) -> Result<StoredResponse, Reason> {
    let key = key(path);
    let mut fill = store.fill(&key, store.generation(), head(variant), Some(length))?;
    push(&mut fill, content(length)).unwrap();
    fill.finish(None)
}

fn read(reader: Reader) -> Result<Bytes, body::Error> {
    let collect = std::pin::pin!(reader.collect());
    match collect.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(body) => body.map(http_body_util::Collected::to_bytes),
        std::task::Poll::Pending => panic!("the body has no end"),
    }
}

#[test]
fn what_was_filled_is_found_under_its_key() {
    let store = store(MIB);
    assert!(store.candidates(&key("a")).is_empty());
    let stored = put(&store, "a", "text/html", 1000).unwrap();
    assert!(store.candidates(&key("b")).is_empty());
    let candidates = store.candidates(&key("a"));
    assert_eq!(candidates.len(), 1);
    assert!(candidates[0].is(&stored));
    assert_eq!(candidates[0].body().to_bytes(), content(1000));
    assert_eq!(candidates[0].head(), head("text/html").view());
    let stats = store.stats();
    assert_eq!((stats.entries, stats.stored, stats.filling), (1, 1, 0));
    assert_eq!((stats.bytes, stats.stored_bytes), (stored.weight(), stored.weight()));
}

#[test]
fn a_response_is_stored_before_its_reader_sees_the_end() {
    let store = store(MIB);
    let key = key("a");
    for length in [Some(5), None] {
        let mut fill = store.fill(&key, store.generation(), head("*/*"), length).unwrap();
        let mut reader = fill.reader().unwrap();
        push(&mut fill, content(5)).unwrap();
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let mut read = || http_body::Body::poll_frame(std::pin::Pin::new(&mut reader), &mut cx);
        if length.is_none() {
            assert!(read().is_ready());
        }
        assert!(read().is_pending());
        let stored = fill.finish(None).unwrap();
        assert!(read().is_ready());
        assert!(store.candidates(&key)[0].is(&stored));
    }
}

#[test]
fn variants_lie_side_by_side_and_replace_their_equals() {
    let store = Store::new(&Options { variants: 3, ..Options::of_capacity(MIB) }, &body::Options::default());
    let lengths = || store.candidates(&key("a")).iter().map(Candidate::length).collect::<Vec<_>>();
    for (variant, length) in [("a", 1), ("b", 2), ("c", 3)] {
        put(&store, "a", variant, length).unwrap();
    }
    assert_eq!(lengths(), [3, 2, 1]);
    put(&store, "a", "b", 20).unwrap();
    assert_eq!(lengths(), [20, 3, 1]);
    put(&store, "a", "d", 4).unwrap();
    assert_eq!(lengths(), [4, 20, 3], "the oldest goes");
    assert_eq!(store.stats().entries, 3);
    let second = store.candidates(&key("a"))[1].clone();
    assert!(store.remove(&key("a"), &second));
    assert!(!store.remove(&key("a"), &second));
    assert_eq!(lengths(), [4, 3]);
    for response in store.candidates(&key("a")).iter() {
        assert!(store.remove(&key("a"), response));
    }
    assert!(lengths().is_empty());
    drop(second);
    assert_eq!((store.stats().entries, store.stats().bytes), (0, 0));
}

#[test]
fn variants_of_one_key_take_half_of_the_room_at_most() {
    let store = store(MIB);
    for n in 0..20 {
        put(&store, "a", &n.to_string(), 100 * KIB).unwrap();
    }
    assert_eq!(store.candidates(&key("a")).len(), 4);
    assert!(store.stats().bytes < MIB / 2);
}

#[track_caller]
fn check_superseded(overtake: impl Fn(&Store) -> usize) {
    let store = store(MIB);
    put(&store, "a", "old", 10).unwrap();
    let generation = store.generation();
    let mut fill = store.fill(&key("a"), generation, head("new"), Some(100)).unwrap();
    let reader = fill.reader().unwrap();
    push(&mut fill, content(60)).unwrap();
    assert!(store.is_current(&key("a"), generation));
    assert_eq!(overtake(&store), 1);
    assert!(!store.is_current(&key("a"), generation));
    push(&mut fill, content(40)).unwrap();
    assert_eq!(fill.finish(None).unwrap_err(), Reason::Superseded);
    assert!(store.candidates(&key("a")).is_empty());
    assert_eq!(read(reader).unwrap(), content(100), "its readers get all of it");
    let old = store.apart(&key("a"), head("old"), StoredBody::EMPTY);
    assert!(!store.freshen(&key("a"), generation, &old, head("old")).1);
    let combined = store.insert(&key("a"), generation, head("old"), StoredBody::EMPTY);
    assert_eq!(combined.1, Err(Reason::Superseded));
    drop(combined);
    assert_eq!(store.fill(&key("a"), generation, head("old"), None).unwrap_err(), Reason::Superseded);
    assert_eq!(store.stats().superseded, 4);
    assert_eq!(store.stats().bytes, 0);
    put(&store, "a", "new", 10).unwrap();
    assert_eq!(store.candidates(&key("a")).len(), 1);
}

#[test]
fn a_fill_that_was_overtaken_by_an_invalidation_is_not_stored() {
    check_superseded(|store| store.invalidate(&key("a")));
}

#[test]
fn a_fill_that_was_overtaken_by_a_purge_is_not_stored() {
    check_superseded(|store| store.purge(|url| url == "http://example.com/a", false));
}

#[test]
fn a_fill_that_was_overtaken_by_a_clear_is_not_stored() {
    check_superseded(Store::clear);
}

#[test]
fn a_purge_removes_what_matches_and_a_dry_run_only_counts() {
    let store = store(MIB);
    for (path, variant) in [("a/1", "x"), ("a/1", "y"), ("a/2", "x"), ("b", "x")] {
        put(&store, path, variant, 10).unwrap();
    }
    let generation = store.generation();
    let below = |url: &str| url.starts_with("http://example.com/a/");
    assert_eq!(store.purge(below, true), 3);
    assert!(store.is_current(&key("b"), generation));
    assert_eq!(store.purge(below, false), 3);
    assert_eq!(store.purge(below, false), 0);
    let mut left: Vec<_> = store.iter().map(|found| (found.url().unwrap().to_owned(), found.len())).collect();
    left.sort();
    assert_eq!(left, [("http://example.com/b".to_owned(), 1)]);
    assert_eq!(store.clear(), 1);
    assert_eq!((store.stats().entries, store.stats().bytes), (0, 0));
}

#[test]
fn a_freshened_response_has_the_new_head_and_the_same_body() {
    let store = store(MIB);
    let old = put(&store, "a", "a", 5000).unwrap();
    put(&store, "a", "b", 10).unwrap();
    old.mark_stale();
    let generation = store.generation();
    let (new, is_kept) = store.freshen(&key("a"), generation, &old, head("c"));
    assert!(is_kept);
    assert_eq!(new.body().to_bytes().as_ptr(), old.body().to_bytes().as_ptr());
    assert!(!new.marked_stale());
    let candidates = store.candidates(&key("a"));
    assert_eq!(candidates.len(), 2, "it takes the old one's place");
    assert!(candidates[0].is(&new));
    drop((candidates, old));
    assert_eq!(store.stats().bytes, store.stats().stored_bytes);
    assert_eq!(store.stats().entries, 2);
}

#[test]
fn a_body_of_any_size_is_found_as_it_was_stored_and_paid_for_until_its_last_reader_is_gone() {
    let store = store(MIB);
    for length in [0, 1, 4095, 4096, 4097, 70_000] {
        let stored = put(&store, "a", "a", length).unwrap();
        assert_eq!((stored.length(), stored.body().to_bytes()), (length, content(length)));
        assert_eq!((stored.url(), stored.head()), (key("a").as_str(), head("a").view()));
        let (freshened, _) = store.freshen(&key("a"), store.generation(), &stored, head("a"));
        drop(stored);
        assert_eq!(freshened.body().to_bytes(), content(length));
        let one = store.stats().bytes;
        assert_eq!((one, store.stats().stored_bytes), (freshened.weight(), freshened.weight()));
        let part = freshened.body().slice(length / 2..length);
        drop(freshened);
        assert_eq!(store.invalidate(&key("a")), 1);
        assert_eq!(part.to_bytes(), content(length).slice(length as usize / 2..));
        assert_eq!(store.stats().bytes > 0, length > 0, "{length}");
        drop(part);
        assert_eq!(store.stats().bytes, 0, "{length}");
    }
}

#[test]
fn keys_of_one_hash_are_told_apart() {
    let store = store(MIB);
    put(&store, "a", "a", 10).unwrap();
    let other = CacheKey::of_hash("http://example.com/b", key("a").hash64());
    assert!(store.candidates(&other).is_empty() && store.candidates_again(&other).is_empty());
    store.insert(&other, store.generation(), head("a"), content(20).into()).1.unwrap();
    assert!(store.candidates(&key("a")).is_empty(), "one of them at a time");
    assert_eq!(store.candidates(&other)[0].length(), 20);
    store.settle();
    assert_eq!((store.stats().entries, store.stats().bytes), (1, store.candidates(&other).weight()));
    let others = store.candidates(&other)[0].clone();
    assert!(!store.remove(&key("a"), &others));
    let mine = store.apart(&key("a"), head("a"), StoredBody::EMPTY);
    assert!(store.freshen(&key("a"), store.generation(), &mine, head("a")).1);
    assert!(store.candidates(&other).is_empty() && store.candidates(&key("a")).len() == 1);
}

/// Each part that is joined may come from another response: none of them is kept alive by what it was joined to.
#[test]
fn what_is_joined_of_many_parts_keeps_no_more_alive_than_it_weighs() {
    let store = store(8 * MIB);
    let options = crate::policy::Options::default();
    let terms = crate::policy::Terms { options: &options, rule: None, now: crate::clock::Moment::at(0) };
    let (key, generation) = (key("a"), store.generation());
    let part = |at: u64| {
        let range = format!("bytes {}-{}/1000000", at * 100, at * 100 + 99);
        let fields = [("cache-control", "max-age=60"), ("etag", "\"a\""), ("content-range", &range)];
        let head = World::default().stored(&[("range", "bytes=0-99")], 206, &fields);
        let mut fill = store.fill(&key, generation, head, Some(100)).unwrap();
        push(&mut fill, content(100)).unwrap();
        fill.finish(None).unwrap()
    };
    let mut all = part(0);
    for at in 1..100 {
        let new = part(at);
        let combined = crate::policy::combine(all.head(), new.head(), &terms).unwrap();
        let body = StoredBody::concat(&[all.body(), new.body()]);
        (all, _) = store.insert(&key, generation, *combined.head, body);
    }
    assert_eq!(all.length(), 10_000);
    assert_eq!(store.stats().bytes, store.stats().stored_bytes);
    assert_eq!(all.weight(), store.stats().bytes);
}

#[test]
fn a_mark_outlives_what_is_used_and_the_ticks_go_round() {
    let marked = store(MIB).apart(&key("a"), head("a"), StoredBody::EMPTY);
    for tick in [1, 2, i32::MAX as u32, 1 << 31, (1 << 31) + 1, u32::MAX, 0] {
        marked.touch(tick);
        assert_eq!((marked.unused_for(tick), marked.unused_for(tick.wrapping_add(5))), (0, 5), "{tick}");
        assert_eq!(marked.marked_stale(), tick > 2 || tick == 0);
        if tick == 2 {
            marked.mark_stale();
        }
    }
}

/// The head of a response that came that many seconds after the start.
fn head_at(seconds: i64) -> StoredHead {
    let fields = [("cache-control", "max-age=60")];
    match World::default().judge_asked(&[], Asked::Plain, seconds, 200, &fields) {
        Verdict::Store(head) => *head,
        other => panic!("{other:?}"),
    }
}

fn put_at(store: &Store, seconds: i64) -> StoredResponse {
    let mut fill = store.fill(&key("a"), store.generation(), head_at(seconds), Some(1)).unwrap();
    push(&mut fill, content(1)).unwrap();
    fill.finish(None).unwrap()
}

#[test]
fn a_body_that_took_long_does_not_replace_a_newer_response() {
    let store = store(MIB);
    let mut slow = store.fill(&key("a"), store.generation(), head_at(0), Some(2)).unwrap();
    let newer = put_at(&store, 5);
    push(&mut slow, content(2)).unwrap();
    assert_eq!(slow.finish(None).unwrap_err(), Reason::Superseded);
    assert!(store.candidates(&key("a"))[0].is(&newer));
    put_at(&store, 6);
    assert_eq!(store.candidates(&key("a"))[0].head(), head_at(6).view());
}

/// Which of two is newer tells when they were asked for, by the clock that does not jump.
#[test]
fn what_was_asked_for_later_is_newer_however_long_it_took_and_whatever_the_clock_was_set_to() {
    let asked = |from: i64, until: i64, jump: i64| {
        let fields = crate::policy::testing::headers(&[("cache-control", "max-age=60")]);
        let mut reply = crate::policy::testing::reply(until, 200, &fields);
        reply.request_time = crate::policy::testing::moment(from);
        reply.response_time.wall += jump * 1000;
        let world = World::default();
        let none = http::HeaderMap::new();
        let facts = crate::policy::RequestFacts::of(&http::Method::GET, &none, false);
        match crate::policy::verdict(&facts, Asked::Plain, &reply, &world.terms(until)) {
            Verdict::Store(head) => *head,
            other => panic!("{other:?}"),
        }
    };
    for (older, newer, replaced) in [
        // Asked for after the other had come; before; and while the clock was set forward by a day.
        (asked(0, 1, 0), asked(2, 9, 0), false),
        (asked(0, 3, 0), asked(2, 9, 0), true),
        (asked(0, 1, 0), asked(2, 9, 86_400), false),
    ] {
        let store = store(MIB);
        let generation = store.generation();
        store.insert(&key("a"), generation, newer, content(2).into()).1.unwrap();
        let late = store.insert(&key("a"), generation, older, content(1).into()).1;
        assert_eq!(late.is_ok(), replaced);
    }
}

#[test]
fn a_late_304_does_not_bring_back_what_was_replaced() {
    let store = store(MIB);
    let (key, generation) = (key("a"), store.generation());
    let old = put_at(&store, 0);
    let newer = put_at(&store, 5);
    assert!(!store.freshen(&key, generation, &old, head_at(6)).1);
    assert!(store.candidates(&key)[0].is(&newer));
    // What had to go only for want of room comes back.
    assert!(store.remove(&key, &newer));
    assert!(store.freshen(&key, generation, &old, head_at(7)).1);
    assert_eq!(store.candidates(&key).len(), 1);
}

#[test]
fn a_body_that_turns_out_too_large_passes_through() {
    let store = store(8 * MIB);
    assert_eq!(put(&store, "a", "x", MIB + 1).unwrap_err(), Reason::TooLarge);
    let mut fill = store.fill(&key("a"), store.generation(), head("x"), None).unwrap();
    let reader = fill.reader().unwrap();
    push(&mut fill, content(700 * KIB)).unwrap();
    assert_eq!(fill.refused(), None);
    push(&mut fill, content(100 * KIB)).unwrap();
    assert_eq!(fill.refused(), Some(Reason::TooLarge));
    assert!(fill.reader().is_none());
    assert_eq!(fill.finish(None).unwrap_err(), Reason::TooLarge);
    assert_eq!(read(reader).unwrap(), content(800 * KIB));
    assert_eq!((store.stats().too_large, store.stats().bytes, store.stats().entries), (2, 0, 0));
}

#[test]
fn a_body_that_does_not_have_its_announced_length_is_not_stored() {
    let store = store(MIB);
    let fill = || store.fill(&key("a"), store.generation(), head("x"), Some(10)).unwrap();
    let mut short = fill();
    let reader = short.reader().unwrap();
    push(&mut short, content(9)).unwrap();
    assert_eq!(short.finish(None).unwrap_err(), Reason::Incomplete);
    assert_eq!(read(reader).unwrap_err().kind, crate::field::status::ProxyError::HttpResponseIncomplete);
    let mut long = fill();
    let _reader = long.reader().unwrap();
    push(&mut long, content(11)).unwrap();
    assert_eq!(long.finish(None).unwrap_err(), Reason::Framing);
    let mut failed = fill();
    push(&mut failed, content(5)).unwrap();
    failed.fail(body::Error::new(crate::field::status::ProxyError::ConnectionReadTimeout, "stalled"));
    drop(fill());
    assert_eq!((store.stats().entries, store.stats().filling), (0, 0));
}

#[test]
fn what_is_evicted_but_still_read_leaves_no_room_for_fills() {
    for policy in [Eviction::Lru, Eviction::TinyLfu] {
        let options = Options { policy, ..Options::of_capacity(MIB) };
        let store = Store::new(&options, &body::Options::default());
        let mut held = Vec::new();
        let refused = (0..100).find_map(|n| match put(&store, &n.to_string(), "x", 100 * KIB) {
            Ok(stored) => {
                held.push(stored.body());
                None
            }
            Err(reason) => Some(reason),
        });
        assert_eq!(refused, Some(Reason::NoRoom));
        assert!(store.stats().bytes > MIB / 10 * 9, "{:?}", store.stats());
        assert!(store.0.budget.peak() <= MIB);
        let slices: Vec<_> = held.iter().map(|body| body.slice(0..1)).collect();
        drop(held);
        assert_eq!(
            put(&store, "b", "x", 100 * KIB).unwrap_err(),
            Reason::NoRoom,
            "a slice holds it all the same"
        );
        drop(slices);
        put(&store, "b", "x", 100 * KIB).unwrap();
    }
}

#[test]
fn a_full_store_takes_newcomers_and_finds_them_again() {
    for policy in [Eviction::Lru, Eviction::TinyLfu] {
        let options = Options { policy, ..Options::of_capacity(4 * MIB) };
        let store = Store::new(&options, &body::Options::default());
        for n in 0..2000 {
            let path = n.to_string();
            put(&store, &path, "x", 4 * KIB).unwrap();
            assert_eq!(store.candidates(&key(&path)).len(), 1, "{policy:?} {n}");
        }
        put(&store, "large", "x", 512 * KIB).unwrap();
        assert_eq!(store.candidates(&key("large")).len(), 1);
        store.settle();
        let stats = store.stats();
        assert!(stats.evicted > 1000 && stats.entries > 500, "{stats:?}");
        assert!(stats.stored_bytes <= stats.capacity / 8 * 7 + KIB);
        assert_eq!(stats.bytes, stats.stored_bytes);
        assert_eq!(store.iter().map(|candidates| candidates.len() as u64).sum::<u64>(), stats.entries);
        assert_eq!(store.clear() as u64, stats.entries);
        assert_eq!(store.stats().bytes, 0);
    }
}

#[test]
fn large_bodies_find_room_among_thousands_of_small_ones() {
    for policy in [Eviction::Lru, Eviction::TinyLfu] {
        let options = Options { policy, ..Options::of_capacity(16 * MIB) };
        let store = Store::new(&options, &body::Options::default());
        for n in 0..12_000 {
            put(&store, &n.to_string(), "x", 1).unwrap();
        }
        for n in 0..20 {
            put(&store, &format!("large/{n}"), "x", 2 * MIB).unwrap();
            assert_eq!(store.candidates(&key(&format!("large/{n}"))).len(), 1);
        }
        store.settle();
        assert!(store.stats().stored_bytes <= store.stats().capacity / 8 * 7);
    }
}

#[test]
fn a_hot_set_survives_a_scan() {
    let store = store(4 * MIB);
    let (mut hits, mut all) = (0, 0);
    for n in 0..20_000 {
        let path = if n % 4 == 0 { format!("hot/{}", n / 4 % 100) } else { format!("scan/{n}") };
        let found = !store.candidates(&key(&path)).is_empty();
        if !found {
            put(&store, &path, "x", 4 * KIB).unwrap();
        }
        if n % 4 == 0 && n > 5000 {
            all += 1;
            hits += u32::from(found);
        }
    }
    assert!(hits * 10 >= all * 9, "{hits} of {all}");
}

/// Fills without end from several threads, readers held; `rounds` for each. Gives the store.
fn storm(capacity: u64, threads: u64, rounds: u64, policy: Eviction) -> Store {
    let options = Options { policy, ..Options::of_capacity(capacity) };
    let store = Store::new(&options, &body::Options::default());
    let frame = content(options.max_object);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                let (store, frame) = (&store, &frame);
                scope.spawn(move || {
                    let mut random = StdRng::seed_from_u64(thread);
                    let mut held = std::collections::VecDeque::new();
                    for round in 0..rounds {
                        let key = key(&random.random_range(0..rounds).to_string());
                        // As many of each order of magnitude.
                        let exponent: f64 = random.random_range(10.0..(options.max_object as f64).log2());
                        let length = f64::powf(2.0, exponent) as u64;
                        let known = random.random_bool(0.5).then_some(length);
                        let Ok(mut fill) = store.fill(&key, store.generation(), head("x"), known) else {
                            held.pop_front();
                            continue;
                        };
                        let reader = fill.reader();
                        let mut left = length;
                        while left > 0 {
                            let take = random.random_range(1..=left.min(100_000));
                            let frame = frame.slice(..take as usize);
                            if push(&mut fill, frame).is_err() {
                                break;
                            }
                            left -= take;
                        }
                        if round % 10 == 0 {
                            drop(fill);
                        } else {
                            let _refused = fill.finish(None);
                        }
                        if round % 4 == 0 {
                            held.extend(reader);
                        }
                        if held.len() > 3 {
                            held.pop_front();
                        }
                        if round % 50 == 7 {
                            store.invalidate(&key);
                        }
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert!(store.stats().bytes <= capacity);
                std::thread::yield_now();
            }
        });
        for worker in workers {
            worker.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    store
}

#[test]
fn the_ledger_never_passes_the_capacity() {
    for policy in [Eviction::Lru, Eviction::TinyLfu] {
        let store = storm(8 * MIB, 4, 400, policy);
        assert!(store.0.budget.peak() <= 8 * MIB);
        store.settle();
        let stats = store.stats();
        assert!(stats.stored > 100 && stats.evicted > 50, "{stats:?}");
        assert_eq!((stats.bytes, stats.filling), (stats.stored_bytes, 0), "nothing leaks");
        store.clear();
        assert_eq!((store.stats().bytes, store.stats().entries), (0, 0));
    }
}

#[test]
fn writers_of_one_key_lose_none_of_each_others_variants() {
    let store = store(64 * MIB);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for n in 0..16 {
                    put(store, "a", &format!("{thread}/{n}"), 10).unwrap();
                }
            });
        }
    });
    assert_eq!(store.candidates(&key("a")).len(), 64);
    assert_eq!(store.stats().entries, 64);
}

/// Bytes of memory that the process has.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

// Those below measure the whole process, so each runs in one of its own:
// for t in lru tinylfu; do cargo test --lib -- --ignored --nocapture store::tests::memory_stays_within_the_capacity_with_$t; done

#[track_caller]
fn check_resident(policy: Eviction) {
    let before = resident();
    let store = storm(256 * MIB, 4, 3000, policy);
    let grown = resident() - before;
    let stats = store.stats();
    println!("{policy:?}: {} MiB of {} MiB, {stats:?}", grown / MIB, stats.capacity / MIB);
    // The frames that were pushed are slices of 32 MiB.
    assert!(grown < stats.capacity + 32 * MIB + 24 * MIB);
}

#[test]
#[ignore = "measures the process, which must do nothing else"]
fn memory_stays_within_the_capacity_with_lru() {
    check_resident(Eviction::Lru);
}

#[test]
#[ignore = "measures the process, which must do nothing else"]
fn memory_stays_within_the_capacity_with_tinylfu() {
    check_resident(Eviction::TinyLfu);
}

#[track_caller]
fn check_overhead(policy: Eviction) {
    const COUNT: u64 = 200_000;
    let before = resident();
    let store =
        Store::new(&Options { policy, ..Options::of_capacity(1024 * MIB) }, &body::Options::default());
    for n in 0..COUNT {
        put(&store, &n.to_string(), "text/html", KIB).unwrap();
    }
    store.settle();
    assert_eq!(store.stats().entries, COUNT);
    let (grown, counted) = ((resident() - before) / COUNT, store.stats().bytes / COUNT);
    println!("{policy:?}: {grown} bytes each, {counted} counted");
    assert!(
        (counted * 19 / 20..=counted * 21 / 20).contains(&grown),
        "{grown} bytes each, {counted} counted"
    );
}

#[test]
#[ignore = "measures the process, which must do nothing else"]
fn bytes_retained_by_small_responses_with_lru() {
    check_overhead(Eviction::Lru);
}

#[test]
#[ignore = "measures the process, which must do nothing else"]
fn bytes_retained_by_small_responses_with_tinylfu() {
    check_overhead(Eviction::TinyLfu);
}

#[test]
fn a_store_that_has_to_give_way_loses_what_was_not_used_for_the_longest_time() {
    let store = store(8 * MIB);
    let paths: Vec<_> = (0..100).map(|n| format!("{n}")).collect();
    store.allow(8 * MIB);
    for path in &paths[..50] {
        put(&store, path, "a", 64 * KIB).unwrap();
    }
    for _ in 0..4 {
        store.allow(8 * MIB);
    }
    for path in &paths[50..] {
        put(&store, path, "a", 64 * KIB).unwrap();
    }
    store.allow(8 * MIB);
    let there = |path: &String| !store.candidates(&key(path)).is_empty();
    assert!(paths[..10].iter().all(there));
    let evicted = store.stats().evicted;

    store.allow(MIB);
    assert!(paths[..10].iter().all(there), "used last");
    assert!(!paths[10..50].iter().any(there), "used longest ago");
    let stats = store.stats();
    assert!(stats.bytes <= MIB, "{stats:?}");
    assert_eq!((stats.capacity, store.capacity()), (MIB, 8 * MIB));
    assert!(stats.evicted > evicted + 80, "{stats:?}");

    // It goes on as a smaller one.
    for n in 0..100 {
        store.allow(MIB);
        put(&store, &format!("new-{n}"), "a", 64 * KIB).unwrap();
        assert!(there(&format!("new-{n}")));
        assert!(store.stats().bytes <= MIB);
    }
    store.allow(100 * MIB);
    assert_eq!(store.stats().capacity, 8 * MIB);
    for path in &paths {
        put(&store, path, "a", 64 * KIB).unwrap();
    }
    // Some of them may have had to go: the newcomers have a part of their own.
    let count = paths.iter().filter(|path| there(path)).count();
    assert!(count > 50, "{count}");
}

#[test]
fn what_is_as_heavy_takes_the_place_of_what_lies_there() {
    let store = store(MIB);
    let first = put(&store, "a", "a", 1000).unwrap();
    let one = store.stats();
    for _ in 0..100 {
        let newest = put(&store, "a", "a", 1000).unwrap();
        let candidates = store.candidates(&key("a"));
        assert!(candidates.len() == 1 && candidates[0].is(&newest));
    }
    drop(first);
    store.settle();
    let now = store.stats();
    assert_eq!((now.entries, now.bytes, now.stored_bytes), (1, one.bytes, one.stored_bytes));
    assert_eq!((now.stored, now.evicted), (101, 0));
    assert_eq!(store.invalidate(&key("a")), 1);
    assert_eq!((store.stats().entries, store.stats().bytes, store.stats().stored_bytes), (0, 0, 0));
}

#[test]
fn what_was_seen_is_told_from_whatever_took_its_place() {
    let store = store(MIB);
    let seen = |path: &str| store.candidates(&key(path)).sight(&key(path));
    assert!(seen("a").is_none(), "there is nothing");
    put(&store, "a", "x", 10).unwrap();
    let mut first = seen("a").unwrap();
    assert!(store.still(&mut first).is_some_and(|found| found.is(&store.candidates(&key("a"))[0])));
    put(&store, "a", "x", 10).unwrap();
    assert!(store.still(&mut first).is_none(), "a newer one of equal length");
    let mut second = seen("a").unwrap();
    put(&store, "a", "y", 10).unwrap();
    assert!(store.still(&mut second).is_none() && seen("a").is_none(), "two variants");
    store.invalidate(&key("a"));
    assert!(store.still(&mut second).is_none(), "gone");
    put(&store, "b", "x", 10).unwrap().mark_stale();
    assert!(store.still(&mut seen("b").unwrap()).is_none(), "marked");
}

#[test]
fn whatever_changes_under_a_key_shows_without_a_look_at_it() {
    type Change = fn(&Store, &StoredResponse);
    let changes: [(&str, Change); 12] = [
        ("a newer one", |store, _| drop(put(store, "a", "x", 10).unwrap())),
        ("a longer one", |store, _| drop(put(store, "a", "x", 1000).unwrap())),
        ("a variant", |store, _| drop(put(store, "a", "y", 10).unwrap())),
        ("freshened", |store, old| {
            assert!(store.freshen(&key("a"), store.generation(), old, head("x")).1);
        }),
        ("marked", |store, old| store.mark_stale(&key("a"), old)),
        ("removed", |store, old| assert!(store.remove(&key("a"), old))),
        ("invalidated", |store, _| assert_eq!(store.invalidate(&key("a")), 1)),
        ("purged", |store, _| assert_eq!(store.purge(|url| url.ends_with("/a"), false), 1)),
        ("one of them purged", |store, old| assert_eq!(store.purge_responses(|one| one.is(old), false), 1)),
        ("another of its hash", |store, _| {
            let other = CacheKey::of_hash("http://example.com/b", key("a").hash64());
            store.insert(&other, store.generation(), head("x"), content(10).into()).1.unwrap();
        }),
        ("shed", |store, _| store.allow(1)),
        ("evicted", |store, _| {
            // Asked for more often.
            for path in (0..300).map(|n| format!("b/{n}")) {
                (0..20).for_each(|_| drop(store.candidates(&key(&path))));
                put(store, &path, "x", 100_000).unwrap();
                store.settle();
            }
        }),
    ];
    for policy in [Eviction::Lru, Eviction::TinyLfu] {
        for (name, change) in changes {
            let store =
                Store::new(&Options { policy, ..Options::of_capacity(8 * MIB) }, &body::Options::default());
            let old = put(&store, "a", "x", 10).unwrap();
            let mut sight = store.candidates(&key("a")).sight(&key("a")).unwrap();
            assert!(!store.is_unchanged(&sight), "never looked at");
            assert!(store.still(&mut sight).is_some());
            store.settle();
            for n in 0..10 {
                assert!(store.candidates(&key(&format!("c/{n}"))).is_empty() && store.is_unchanged(&sight));
            }
            change(&store, &old);
            assert!(!store.is_unchanged(&sight), "{name}");
            let seen = sight.changes;
            assert!(store.still(&mut sight).is_none() && sight.changes == seen, "{name}");
        }
    }
}
