//! Bodies on their way into the store: read by their clients while they are stored, finished when nobody reads
//! any more only where that is cheap, and joined to what was stored of the same representation before.

use bytes::Bytes;
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::background::{Background, Running};
use super::fetch::{Brought, Filling};
use super::flight::{Landing, Leader};
use super::{Cache, Options, Settings};
use crate::body::{self, Ahead, Between, Body, Buffered, StoredBody};
use crate::clock::{Moment, Stopwatch};
use crate::field::status::ProxyError;
use crate::field::target::Target;
use crate::policy::{self, Candidate as _, Combined, Head, Reason, StoredHead, Terms};
use crate::store::{self, CacheKey, Candidates, Fill, Generation, StoredResponse};
use crate::upstream::Received;

/// Under which key, as of which generation and by which settings something is stored.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) key: CacheKey,
    pub(crate) generation: Generation,
    pub(crate) target: Arc<Target>,
    pub(crate) settings: Arc<Settings>,
}

impl Cache {
    /// Remembers whether who comes next may wait for what others fetch under this key.
    fn note_stored(&self, place: &Place, head: Head<'_>) {
        let now = self.clock.now();
        if place.asks_each_time(head, now) {
            self.uncacheable.remember(&place.key, now, &place.settings.options);
        } else {
            self.uncacheable.forget(&place.key);
        }
    }
}

impl Place {
    /// Whether every request has to ask the origin, although this is stored.
    pub(crate) fn asks_each_time(&self, head: Head<'_>, now: Moment) -> bool {
        policy::asks_each_time(head, &self.terms(now))
    }

    pub(crate) fn terms(&self, now: Moment) -> Terms<'_> {
        let rule = self.settings.rules.find(&self.target);
        Terms { options: &self.settings.policy, rule, now }
    }
}

/// Stores a response that has come whole with its head, or begins the copy of one that has not; gives it back where there
/// is no room for it. `running`: its place in the background, if no client asked for it.
pub(crate) fn store(
    cache: &Arc<Cache>,
    place: &Place,
    leader: &mut Option<Leader>,
    running: Option<Running>,
    head: StoredHead,
    mut received: Box<Received>,
) -> Result<Brought, (Box<Received>, Reason)> {
    let is_small = received.content_length.is_some_and(|length| store::lies_with_head(&head, length));
    if is_small && let Some(content) = arrived(&mut received) {
        received.body = Body::from(content.clone());
        let (stored, kept) = cache.store.insert(&place.key, place.generation, head, content);
        if let Err(reason) = kept {
            return Err((received, reason));
        }
        cache.note_stored(place, stored.head());
        if let Some(leader) = leader.take() {
            leader.close(Landing::Arrived(stored.clone(), received.address, received.version));
        }
        return Ok(Brought::Arrived { stored, received });
    }
    begin(cache, place, leader, running, head, received)
}

/// The content of a response of known length that has come already, without waiting for it. Whatever else has come of it
/// is put back.
fn arrived(received: &mut Received) -> Option<StoredBody> {
    let mut body = std::mem::take(&mut received.body);
    let mut frames = Vec::new();
    let mut is_whole = body.is_end_stream();
    while !is_whole {
        match Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(frame)) => {
                let is_data = frame.as_ref().is_ok_and(Frame::is_data);
                frames.push(frame);
                if !is_data {
                    break;
                }
                is_whole = body.is_end_stream();
            }
            Poll::Ready(None) => is_whole = true,
            Poll::Pending => break,
        }
    }
    let content: Vec<Bytes> = frames.iter().flatten().filter_map(Frame::data_ref).cloned().collect();
    let content = StoredBody::new(content);
    if is_whole && received.content_length == Some(content.len()) {
        return Some(content);
    }
    received.body = if frames.is_empty() { body } else { Body::boxed(Ahead::new(frames, body)) };
    None
}

/// Begins the copy into the store; gives the response back where there is no room for it. `running`: its place in the
/// background, if no client asked for it.
fn begin(
    cache: &Arc<Cache>,
    place: &Place,
    leader: &mut Option<Leader>,
    running: Option<Running>,
    head: StoredHead,
    mut received: Box<Received>,
) -> Result<Brought, (Box<Received>, Reason)> {
    let fill = match cache.store.fill(&place.key, place.generation, head, received.content_length) {
        Ok(fill) => fill,
        Err(reason) => return Err((received, reason)),
    };
    let Some(reader) = fill.reader() else { return Err((received, Reason::NoRoom)) };
    let filling = Filling {
        head: Arc::new(fill.head().clone()),
        body: fill.shared().clone(),
        length: received.content_length,
        address: received.address,
        version: received.version,
    };
    let fill = if received.body.is_end_stream() {
        // Nothing to copy: the client must not see the end, nor be told that it is stored, before the store has it.
        if let Err(reason) = fill.finish(None) {
            cache.note_given_up(reason);
            return Err((received, reason));
        }
        None
    } else {
        Some(fill)
    };
    if let Some(leader) = leader {
        leader.land(Landing::Filling(filling.clone()));
    }
    cache.note_stored(place, filling.head.view());
    let body = std::mem::replace(&mut received.body, Body::Shared(reader));
    let leader = leader.take();
    if let Some(fill) = fill {
        let patience = Patience::new(Arc::clone(&cache.background), Arc::clone(&place.target), running);
        let mut pumped = Box::pin(pump(
            Arc::clone(cache),
            place.clone(),
            fill,
            body,
            leader,
            patience,
            received.buffered.clone(),
        ));
        // A body that has come with its head: stored before anybody reads it, it needs no task, and leaves for its client in
        // one piece. Whoever waits for what has not come is the task.
        if pumped.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            cache.shutdown.spawn(pumped);
        }
    }
    Ok(Brought::Filling { filling, received })
}

/// Copies the body into the store while its readers read it.
async fn pump(
    cache: Arc<Cache>,
    place: Place,
    mut fill: Fill,
    mut body: Body,
    leader: Option<Leader>,
    mut patience: Patience,
    _buffered: Option<Buffered>,
) {
    let mut trailers = None;
    loop {
        let frame = if patience.is_alone() {
            tokio::time::timeout(place.settings.options.finish_time.max(ALONE), body.frame()).await
        } else {
            tokio::select! {
                frame = body.frame() => Ok(frame),
                () = fill.unread() => {
                    if patience.goes_on(&fill, &place.settings.options) || !abandon(&cache, &mut fill) {
                        continue;
                    }
                    return;
                }
            }
        };
        let Ok(frame) = frame else {
            // Somebody may have joined while the origin was silent: then its limits are those of any reader.
            if fill.readers() > 0 && patience.goes_on(&fill, &place.settings.options)
                || !abandon(&cache, &mut fill)
            {
                continue;
            }
            return;
        };
        match frame {
            None => break,
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    if fill.push(data).await.is_err() {
                        // It had become a pass-through, and its last reader has left.
                        return;
                    }
                    if !patience.goes_on(&fill, &place.settings.options) && abandon(&cache, &mut fill) {
                        return;
                    }
                }
                Err(frame) => trailers = frame.into_trailers().ok(),
            },
            Some(Err(error)) => {
                cache.note_given_up(Reason::Incomplete);
                fill.fail(error);
                return;
            }
        }
    }
    let head = fill.head();
    let partial = !head.is_complete();
    if partial && head.view().expected_length().is_some_and(|expected| expected != fill.written()) {
        cache.note_given_up(Reason::Partial);
        fill.discard(trailers);
        return;
    }
    let before = if partial { cache.store.candidates_again(&place.key) } else { Candidates::default() };
    match fill.finish(trailers) {
        Ok(stored) if partial => {
            let terms = place.terms(cache.clock.now());
            // One part alone may be all there is.
            let whole = policy::completed(stored.head()).and_then(|head| {
                let (whole, kept) = cache.store.insert(&place.key, place.generation, head, stored.body());
                kept.ok().map(|()| whole)
            });
            drop(whole.or_else(|| before.iter().find_map(|old| join(&cache, &place, old, &stored, &terms))));
        }
        Ok(_) => {}
        Err(reason) => cache.note_given_up(reason),
    }
    // The flight ends only now that the store has the response: whoever comes next finds one or the other.
    drop(leader);
}

/// A fill that nobody reads and whose origin stalls, or does not keep what its rate promised, is given up after
/// this, or `cache.finish_time` if longer.
const ALONE: Duration = Duration::from_secs(2);
/// So is one with little left, whose bytes drip in at whatever rate, after this, or `cache.finish_time` if longer.
/// Generous: 1 MiB takes 30 s at 280 kbit/s.
const ALONE_IN_ALL: Duration = Duration::from_secs(30);

/// Nobody reads it any more, and to finish it would not be cheap, or too much is in the background. False where
/// somebody has joined meanwhile.
fn abandon(cache: &Cache, fill: &mut Fill) -> bool {
    let abandoned = fill.fail_unread(body::Error::new(ProxyError::ConnectionTerminated, "every reader left"));
    if abandoned {
        cache.note_given_up(Reason::Abandoned);
    }
    abandoned
}

/// Whether a fill that nobody reads is worth finishing.
struct Patience {
    began: Stopwatch,
    /// Since when nobody reads, and how much had come by then.
    alone: Option<(Stopwatch, u64)>,
    /// Its place in the background while nobody reads.
    running: Option<Running>,
    background: Arc<Background>,
    target: Arc<Target>,
}

impl Patience {
    fn new(background: Arc<Background>, target: Arc<Target>, running: Option<Running>) -> Self {
        Self { began: Stopwatch::start(), alone: None, running, background, target }
    }

    /// Whether nobody read when it was last looked at.
    fn is_alone(&self) -> bool {
        self.alone.is_some()
    }

    fn goes_on(&mut self, fill: &Fill, options: &Options) -> bool {
        if fill.readers() > 0 {
            self.alone = None;
            self.running = None;
            return true;
        }
        let received = fill.written();
        let (since, then) = *self.alone.get_or_insert_with(|| (Stopwatch::start(), received));
        let progress = Progress {
            left: fill.remaining(),
            received,
            took: self.began.elapsed(),
            alone_received: received - then,
            alone: since.elapsed(),
        };
        progress.is_cheap_to_finish(options) && self.in_background(options)
    }

    /// Whether it has a place in the background, or gets one now.
    fn in_background(&mut self, options: &Options) -> bool {
        let begin = || self.background.begin(&self.target, options.background);
        self.running = self.running.take().or_else(begin);
        self.running.is_some()
    }
}

/// How far a fill is that nobody reads.
struct Progress {
    /// Bytes still to come, where that is known.
    left: Option<u64>,
    received: u64,
    took: Duration,
    /// Bytes that have come since nobody reads, and how long that is.
    alone_received: u64,
    alone: Duration,
}

impl Progress {
    fn is_cheap_to_finish(&self, options: &Options) -> bool {
        let few = match self.left {
            Some(left) => left <= options.finish_bytes,
            None => self.alone_received <= options.finish_bytes,
        };
        if few && self.alone <= options.finish_time.max(ALONE_IN_ALL) {
            return true;
        }
        match self.left {
            Some(left) => {
                let rate = self.received as f64 / self.took.as_secs_f64().max(0.001);
                left as f64 / rate <= options.finish_time.as_secs_f64()
                    && self.alone <= options.finish_time.max(ALONE)
            }
            None => self.alone <= options.finish_time,
        }
    }
}

/// Begins to store the whole that a partial stored response and the rest of it make, read meanwhile like any other
/// fill. `None` where there is no room for it.
pub(crate) fn complete(
    cache: &Arc<Cache>,
    place: &Place,
    leader: &mut Option<Leader>,
    old: &StoredResponse,
    combined: Combined,
    mut received: Box<Received>,
) -> Option<Brought> {
    let at = combined.pieces.iter().position(|piece| piece.source == policy::Source::New)?;
    let body = old.body();
    let stored = |pieces: &[policy::Piece]| {
        let slices: Vec<StoredBody> = pieces.iter().map(|piece| body.slice(piece.at.clone())).collect();
        StoredBody::concat(&slices)
    };
    let (before, rest) = combined.pieces.split_at(at);
    let (new, after) = rest.split_first()?;
    let length = new.at.end.saturating_sub(new.at.start);
    if received.content_length.is_none() {
        // The rest may not be what it says. Then the part must not be built on a second time.
        cache.store.remove(&place.key, old);
    }
    let rest = std::mem::take(&mut received.body);
    let body = Between::new(&stored(before), rest, length, &stored(after));
    received.content_length = body.size_hint().exact();
    received.body = Body::boxed(body);
    match begin(cache, place, leader, None, *combined.head, received) {
        Ok(Brought::Filling { filling, received }) => {
            Some(Brought::Completing { filling, reader: received.body })
        }
        _ => None,
    }
}

/// Joins two parts of one representation. RFC 9111 section 3.4.
fn join(
    cache: &Arc<Cache>,
    place: &Place,
    old: &StoredResponse,
    new: &StoredResponse,
    terms: &Terms<'_>,
) -> Option<StoredResponse> {
    let combined = policy::combine(old.head(), new.head(), terms)?;
    let (before, added) = (old.body(), new.body());
    let pieces: Vec<StoredBody> = combined
        .pieces
        .iter()
        .map(|piece| match piece.source {
            policy::Source::Existing => before.slice(piece.at.clone()),
            policy::Source::New => added.slice(piece.at.clone()),
        })
        .collect();
    let body = StoredBody::concat(&pieces);
    let (whole, kept) = cache.store.insert(&place.key, place.generation, *combined.head, body);
    kept.ok().map(|()| whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a fill goes on with so many bytes left, after so many in so many seconds, and so many seconds alone.
    #[track_caller]
    fn check(left: Option<u64>, received: u64, took: u64, alone: u64, expected: bool) {
        let progress = Progress {
            left,
            received,
            took: Duration::from_secs(took),
            alone_received: received,
            alone: Duration::from_secs(alone),
        };
        let found = progress.is_cheap_to_finish(&Options::default());
        assert_eq!(found, expected, "{left:?} {received} {took} {alone}");
    }

    #[test]
    fn a_fill_that_nobody_reads_ends_however_the_origin_drips() {
        const MIB: u64 = 1 << 20;
        // Little is left: a generous time in all.
        check(Some(1), 100, 0, 0, true);
        check(Some(1), 100, 30, 30, true);
        check(Some(1), 100, 31, 31, false);
        check(Some(MIB), 100, 1000, 30, true);
        // Much is left, but likely to come soon: as long as that holds.
        check(Some(2 * MIB), 10 * MIB, 1, 0, true);
        check(Some(2 * MIB), 10 * MIB, 3, 2, true);
        check(Some(2 * MIB), 100 * MIB, 4, 3, false);
        check(Some(2 * MIB), MIB, 4, 0, false);
        check(Some(2 * MIB), 0, 1, 0, false);
        // Nobody knows how much is left.
        check(None, MIB, 30, 30, true);
        check(None, MIB, 31, 31, false);
        check(None, 2 * MIB, 2, 2, true);
        check(None, 2 * MIB, 3, 3, false);
    }
}
