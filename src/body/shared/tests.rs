//! Readers and a writer, moved by hand: a task is polled only after its waker was called, so that a wake-up
//! that is lost is a test that fails.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;

use http::HeaderValue;
use http_body::Body as _;
use http_body_util::BodyExt;
use proptest::prelude::*;

use super::*;
use crate::body::Budget;

const OPTIONS: Options = Options { window: 1000, unknown_length_ahead: 3000, lagging_reader: 32 };

/// Byte `position` of every origin's body.
fn byte(position: usize) -> u8 {
    (position % 251) as u8
}

fn origin(from: usize, length: usize) -> Bytes {
    (from..from + length).map(byte).collect()
}

/// Whether a task was woken since it was last polled.
struct Flag(AtomicBool);

impl Flag {
    fn raised() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(true)))
    }

    fn take(&self) -> bool {
        self.0.swap(false, Ordering::SeqCst)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A reader as a task.
struct Tasked {
    reader: Reader,
    flag: Arc<Flag>,
    seen: Vec<u8>,
    trailers: bool,
    end: Option<Result<(), Error>>,
}

impl Tasked {
    fn new(reader: Reader) -> Self {
        Self { reader, flag: Flag::raised(), seen: Vec::new(), trailers: false, end: None }
    }

    /// Polls once if it was woken; whether it was.
    fn turn(&mut self) -> bool {
        if self.end.is_some() || !self.flag.take() {
            return false;
        }
        if self.reader.is_end_stream() {
            self.end = Some(Ok(()));
            return true;
        }
        let waker = Arc::clone(&self.flag).into();
        match Pin::new(&mut self.reader).poll_frame(&mut Context::from_waker(&waker)) {
            Poll::Pending => return true,
            Poll::Ready(None) => self.end = Some(Ok(())),
            Poll::Ready(Some(Err(error))) => self.end = Some(Err(error)),
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(bytes) => {
                    assert!(!bytes.is_empty(), "no frame is empty");
                    self.seen.extend_from_slice(&bytes);
                }
                Err(_trailers) => self.trailers = true,
            },
        }
        self.flag.0.store(true, Ordering::SeqCst);
        true
    }

    fn drain(&mut self) -> &[u8] {
        while self.turn() {}
        &self.seen
    }
}

/// Polls a push once.
fn poll_once<F: Future>(push: Pin<&mut F>) -> Poll<F::Output> {
    push.poll(&mut Context::from_waker(Waker::noop()))
}

/// Pushes, and says whether the writer could go on at once.
fn push(writer: &mut Writer, from: usize, length: usize) -> bool {
    let push = std::pin::pin!(writer.push(origin(from, length)));
    poll_once(push).is_ready()
}

fn timers() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

#[test]
fn readers_share_the_bytes_that_were_written_and_copy_nothing() {
    let (mut writer, body) = shared(&OPTIONS, None, None);
    let (mut one, mut two) = (body.reader().unwrap(), body.reader().unwrap());
    writer.append(origin(0, 500));
    let next = |reader: &mut Reader| {
        let mut cx = Context::from_waker(Waker::noop());
        match Pin::new(reader).poll_frame(&mut cx) {
            Poll::Ready(Some(Ok(frame))) => frame.into_data().unwrap(),
            other => panic!("{other:?}"),
        }
    };
    let (a, b) = (next(&mut one), next(&mut two));
    assert_eq!(a, origin(0, 500));
    assert_eq!(a.as_ptr(), b.as_ptr());
    let kept = writer.finish(None).unwrap();
    assert_eq!(kept.to_bytes().as_ptr(), a.as_ptr());
}

#[test]
fn a_reader_that_comes_late_reads_from_the_beginning() {
    let (mut writer, body) = shared(&OPTIONS, Some(300_000), None);
    let mut early = Tasked::new(body.reader().unwrap());
    for n in 0..29 {
        assert!(push(&mut writer, n * 10_000, 10_000), "a body of known length never waits");
    }
    assert_eq!(early.drain(), origin(0, 290_000));
    let mut late = Tasked::new(body.reader().unwrap());
    assert_eq!(late.reader.size_hint().exact(), Some(300_000));
    assert_eq!(late.drain(), origin(0, 290_000));
    assert_eq!(late.reader.size_hint().exact(), Some(10_000));
    writer.append(origin(290_000, 10_000));
    let kept = writer.finish(None).unwrap();
    assert_eq!(kept.pieces(), 5, "in chunks of 64 KiB");
    let mut last = Tasked::new(body.reader().unwrap());
    for reader in [&mut early, &mut late, &mut last] {
        assert_eq!(reader.drain(), origin(0, 300_000));
        assert!(matches!(reader.end, Some(Ok(()))));
    }
}

#[test]
fn a_body_is_given_up_only_while_nobody_reads_it() {
    let gone = || Error::new(ProxyError::ConnectionTerminated, "every reader left");
    let (mut writer, body) = shared(&OPTIONS, Some(10), None);
    writer.append(origin(0, 5));
    drop(body.reader().unwrap());
    // Between the last reader's leave and the end, another one joins.
    let mut joined = Tasked::new(body.reader().unwrap());
    assert!(!writer.fail_unread(gone()));
    assert_eq!(joined.drain(), origin(0, 5));
    writer.append(origin(5, 5));
    writer.finish(None).unwrap();
    assert_eq!(joined.drain(), origin(0, 10));
    assert!(matches!(joined.end, Some(Ok(()))));

    let (mut writer, body) = shared(&OPTIONS, Some(10), None);
    drop(body.reader().unwrap());
    assert!(writer.fail_unread(gone()));
    assert!(body.reader().is_none(), "who comes later is refused");
}

#[test]
fn the_last_bytes_of_a_known_length_are_seen_only_when_the_writer_finishes() {
    let (mut writer, body) = shared(&OPTIONS, Some(10), None);
    let mut reader = Tasked::new(body.reader().unwrap());
    writer.append(origin(0, 6));
    assert_eq!(reader.drain(), origin(0, 6));
    writer.append(origin(6, 4));
    assert_eq!(reader.drain(), origin(0, 6));
    assert_eq!(writer.seal().unwrap().to_bytes(), origin(0, 10));
    assert_eq!(reader.drain(), origin(0, 6));
    writer.finish(None);
    assert_eq!(reader.drain(), origin(0, 10));
    assert!(reader.reader.is_end_stream(), "hyper need not ask again");
}

#[test]
fn a_writer_of_unknown_length_stays_so_far_before_its_fastest_reader() {
    let (mut writer, body) = shared(&OPTIONS, None, None);
    let mut fast = Tasked::new(body.reader().unwrap());
    let mut slow = Tasked::new(body.reader().unwrap());
    assert!(push(&mut writer, 0, 2999));
    assert!(!push(&mut writer, 2999, 1));
    fast.drain();
    assert!(push(&mut writer, 3000, 2000), "the slow one holds nobody up");
    drop(fast);
    assert!(!push(&mut writer, 5000, 1), "now it is the fastest");
    assert_eq!(slow.drain().len(), 5001);
    assert!(push(&mut writer, 5001, 100));
    drop(slow);
    assert!(push(&mut writer, 5101, 100_000), "without readers the writer does not wait");
}

#[test]
fn a_body_that_passes_through_keeps_a_window_and_lets_nobody_join() {
    let timers = timers();
    let _entered = timers.enter();
    let budget = Budget::new(100_000);
    let (mut writer, body) = shared(&OPTIONS, None, budget.reserve(50_000));
    let mut one = Tasked::new(body.reader().unwrap());
    let mut two = Tasked::new(body.reader().unwrap());
    writer.append(origin(0, 2000));
    one.turn();
    writer.pass_through();
    assert!(body.reader().is_none());
    assert!(!body.is_open());
    assert_eq!(budget.used(), 2000 + 1000, "what one has not read yet, and the window");
    assert!(!push(&mut writer, 2000, 10), "two is a window behind");
    assert_eq!(two.drain().len(), 2010);
    assert_eq!(budget.used(), 1000);
    assert!(push(&mut writer, 2010, 980), "one is 990 behind");
    assert!(!push(&mut writer, 2990, 10));
    assert_eq!(one.drain().len(), 3000);
    assert_eq!(two.drain().len(), 3000);
    assert!(push(&mut writer, 3000, 5));
    assert!(writer.finish(None).is_none(), "nothing is kept");
    for reader in [&mut one, &mut two] {
        assert_eq!(reader.drain(), origin(0, 3005));
        assert!(matches!(reader.end, Some(Ok(()))));
    }
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn a_reader_that_holds_others_up_is_cut_off() {
    let (mut writer, body) = shared(&OPTIONS, None, None);
    let (fast, slow) = (body.reader().unwrap(), body.reader().unwrap());
    writer.pass_through();
    let fast = tokio::spawn(fast.collect());
    writer.push(origin(0, 5000)).await.unwrap();
    writer.push(origin(5000, 5000)).await.unwrap();
    writer.finish(None);
    assert_eq!(fast.await.unwrap().unwrap().to_bytes(), origin(0, 10_000));
    let error = slow.collect().await.unwrap_err();
    assert_eq!(error.kind, ProxyError::ConnectionWriteTimeout);
}

#[tokio::test]
async fn a_reader_alone_may_be_as_slow_as_it_likes() {
    let (mut writer, body) = shared(&OPTIONS, None, None);
    let (reader, other) = (body.reader().unwrap(), body.reader().unwrap());
    writer.pass_through();
    // Both lag, so neither holds the other up.
    let mut push = Box::pin(writer.push(origin(0, 5000)));
    let limit = Duration::from_millis(OPTIONS.lagging_reader * 3);
    assert!(tokio::time::timeout(limit, &mut push).await.is_err());
    drop(push);
    drop(other);
    let mut push = Box::pin(writer.push(origin(5000, 5000)));
    assert!(tokio::time::timeout(limit, &mut push).await.is_err());
    drop(push);
    writer.finish(None);
    assert_eq!(reader.collect().await.unwrap().to_bytes(), origin(0, 10_000));
}

#[test]
fn a_writer_learns_that_its_readers_have_left() {
    let (mut writer, body) = shared(&OPTIONS, None, None);
    let reader = body.reader().unwrap();
    assert!(poll_once(std::pin::pin!(writer.unread())).is_pending());
    let flag = Flag::raised();
    {
        flag.take();
        let mut unread = std::pin::pin!(writer.unread());
        let waker = Arc::clone(&flag).into();
        assert!(unread.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop(reader);
        assert!(flag.take(), "the last reader wakes the writer");
        assert!(unread.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
    }
    assert!(push(&mut writer, 0, 100), "it may go on, to be stored");
    writer.pass_through();
    let gone = std::pin::pin!(writer.push(origin(100, 1)));
    assert_eq!(poll_once(gone), Poll::Ready(Err(Gone)));
}

#[test]
fn a_body_that_breaks_off_is_an_error_after_what_came() {
    let end = |end: fn(Writer)| {
        let (mut writer, body) = shared(&OPTIONS, Some(100), None);
        let mut reader = Tasked::new(body.reader().unwrap());
        writer.append(origin(0, 10));
        assert!(reader.turn());
        writer.append(origin(10, 10));
        end(writer);
        assert_eq!(reader.drain(), origin(0, 20));
        assert!(body.reader().is_none());
        reader.end.unwrap().unwrap_err().kind
    };
    assert_eq!(end(drop), ProxyError::HttpResponseIncomplete);
    let fail = |writer: Writer| writer.fail(Error::new(ProxyError::ConnectionReadTimeout, "stalled"));
    assert_eq!(end(fail), ProxyError::ConnectionReadTimeout);
}

#[test]
fn trailers_come_after_the_last_byte() {
    let trailers = || Some(HeaderMap::from_iter([(http::header::ETAG, HeaderValue::from_static("\"a\""))]));
    for passes in [false, true] {
        let (mut writer, body) = shared(&OPTIONS, None, None);
        let mut reader = Tasked::new(body.reader().unwrap());
        writer.append(origin(0, 10));
        if passes {
            writer.pass_through();
        }
        writer.finish(trailers());
        assert_eq!(reader.reader.size_hint().exact(), None, "a length would leave no room for them");
        assert_eq!(reader.drain(), origin(0, 10));
        assert!(reader.trailers && matches!(reader.end, Some(Ok(()))));
    }
}

#[test]
fn an_empty_body_ends_at_once() {
    for length in [Some(0), None] {
        let (writer, body) = shared(&OPTIONS, length, None);
        let mut reader = Tasked::new(body.reader().unwrap());
        assert_eq!(reader.reader.is_end_stream(), length.is_some());
        assert!(writer.finish(None).unwrap().is_empty());
        assert_eq!(reader.drain(), b"");
        assert!(matches!(reader.end, Some(Ok(()))));
    }
}

/// What happens besides the writer's going on.
#[derive(Clone, Debug)]
enum Event {
    Write,
    Join,
    Read(usize),
    Leave(usize),
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    Finish,
    Fail,
    Drop,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => Just(Event::Write),
        1 => Just(Event::Join),
        6 => (0usize..6).prop_map(Event::Read),
        1 => (0usize..6).prop_map(Event::Leave),
    ];
    prop::collection::vec(event, 0..80)
}

/// Writes all frames as a task; what is kept.
async fn write(
    mut writer: Writer,
    frames: Vec<usize>,
    passes_at: usize,
    ending: Ending,
) -> Option<StoredBody> {
    let mut at = 0;
    for (n, length) in frames.into_iter().enumerate() {
        if n == passes_at {
            writer.pass_through();
        }
        if writer.push(origin(at, length)).await == Err(Gone) {
            return None;
        }
        at += length;
    }
    match ending {
        Ending::Finish => writer.finish(None),
        Ending::Fail => {
            writer.fail(Error::new(ProxyError::HttpResponseIncomplete, "cut"));
            None
        }
        Ending::Drop => None,
    }
}

type Writing = Pin<Box<dyn Future<Output = Option<StoredBody>>>>;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_reader_sees_a_prefix_of_the_origins_bytes(
        frames in prop::collection::vec(1usize..2500, 0..12),
        known: bool,
        passes_at in 0usize..24,
        ending in prop_oneof![Just(Ending::Finish), Just(Ending::Fail), Just(Ending::Drop)],
        events in events(),
    ) {
        let timers = timers();
        let _entered = timers.enter();
        let total: usize = frames.iter().sum();
        let passes = passes_at < frames.len();
        let budget = Budget::new(1 << 20);
        let options = Options { lagging_reader: 600_000, ..OPTIONS };
        let (writer, body) = shared(&options, known.then_some(total as u64), budget.reserve(total as u64));
        let mut write: Option<Writing> = Some(Box::pin(write(writer, frames, passes_at, ending)));
        let flag = Flag::raised();
        let waker = Arc::clone(&flag).into();
        let mut kept = None;
        let mut turn = |write: &mut Option<Writing>| {
            let Some(writing) = write.as_mut().filter(|_| flag.take()) else { return false };
            if let Poll::Ready(body) = Future::poll(writing.as_mut(), &mut Context::from_waker(&waker)) {
                kept = body;
                *write = None;
            }
            true
        };
        let mut readers: Vec<_> = body.reader().into_iter().map(Tasked::new).collect();
        for event in events {
            match event {
                Event::Write => { turn(&mut write); }
                Event::Join => readers.extend(body.reader().map(Tasked::new)),
                Event::Read(n) => { readers.get_mut(n).map(Tasked::turn); }
                Event::Leave(n) => if n < readers.len() { readers.remove(n); },
            }
            for reader in &readers {
                prop_assert_eq!(&reader.seen[..], &origin(0, reader.seen.len())[..]);
            }
        }
        // Let everybody who was woken go on, until nobody is.
        while turn(&mut write) | readers.iter_mut().any(Tasked::turn) {}
        prop_assert!(write.is_none(), "the writer was never woken");
        for reader in &readers {
            prop_assert_eq!(&reader.seen[..], &origin(0, reader.seen.len())[..]);
            match &reader.end {
                None => prop_assert!(false, "a reader was never woken"),
                Some(Ok(())) => {
                    prop_assert!(matches!(ending, Ending::Finish) || total == 0);
                    prop_assert_eq!(reader.seen.len(), total);
                }
                Some(Err(_)) => prop_assert!(!matches!(ending, Ending::Finish)),
            }
        }
        match &kept {
            Some(kept) => prop_assert_eq!(kept.to_bytes(), origin(0, total)),
            None => prop_assert!(passes || !matches!(ending, Ending::Finish)),
        }
        if kept.is_some() {
            prop_assert_eq!(budget.used(), total as u64);
        }
        drop((kept, readers, body));
        prop_assert_eq!(budget.used(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_readers_on_many_threads_all_see_everything() {
    for (length, passes) in [(Some(1_000_000), false), (None, false), (None, true)] {
        let options = Options { window: 20_000, unknown_length_ahead: 50_000, lagging_reader: 60_000 };
        let (mut writer, body) = shared(&options, length, None);
        let read = |reader: Reader| tokio::spawn(async move { reader.collect().await.unwrap().to_bytes() });
        let mut readers: Vec<_> = (0..20).map(|_| read(body.reader().unwrap())).collect();
        let write = tokio::spawn(async move {
            for n in 0..1000 {
                if passes && n == 100 {
                    writer.pass_through();
                }
                writer.push(origin(n * 1000, 1000)).await.unwrap();
                if n % 64 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            writer.finish(None)
        });
        for _ in 0..20 {
            readers.extend(body.reader().map(read));
            tokio::task::yield_now().await;
        }
        let kept = write.await.unwrap();
        assert_eq!(kept.is_some(), !passes);
        for reader in readers {
            assert_eq!(reader.await.unwrap(), origin(0, 1_000_000));
        }
    }
}
