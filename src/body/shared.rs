//! A body with one writer and many readers, who read while it is written.
//!
//! ```text
//!              pass_through          finish
//!   Filling ──────────────► PassThrough ──► Ended (the readers drain what is left)
//!      │ seal, publish           │
//!      ▼                         │ fail, or the writer is dropped
//!   Complete ── a StoredBody     ▼
//!      (fail, from Filling too) Failed (after what came before)
//! ```
//!
//! **Filling.** Everything is kept, and a reader that comes late reads from the beginning. With a known
//! length the writer never waits: all of the body's memory is reserved. Without one it stays at most
//! `unknown_length_ahead` before its fastest reader, so that an endless body which nobody reads fills
//! nothing; a slower reader neither grows what is kept, nor may it hold up the others.
//!
//! **`PassThrough`.** The body can't be kept. Nobody joins any more, what all have read is dropped, and the
//! writer stays a window before its slowest reader. A reader that holds others up for `lagging_reader`
//! without taking more than a few windows is cut off; a reader alone may be as slow as it likes.
//!
//! **The last bytes** of a body of known length, and the end of any other, become visible only when the
//! writer finishes. So a client that has seen the end finds the response stored.
//!
//! The lock is held for a few pointer moves: copying happens before it is taken, waking after it is left.
//! A waker is registered under the same lock that guards what it waits for, so no wake-up is lost.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;

use super::budget::Reservation;
use super::builder::{Builder, Step};
use super::stored::{Stored, StoredBody};
use super::{Error, Options};
use crate::field::status::ProxyError;

/// A reader that holds others up has to take this many windows within `lagging_reader`: with the defaults,
/// 1 MiB in 10 s. Less is no reading but a way to slow others down.
const LEAST_WINDOWS: u64 = 16;
/// Into how many steps `lagging_reader` is divided when the time that a writer waits is added up.
const TICKS: u32 = 16;

/// A shared body and its writer. `length` is the body's length, where it is known; `purse` is what its
/// memory is counted against (for a body that is not to be kept: none).
pub fn shared(options: &Options, length: Option<u64>, purse: Option<Reservation>) -> (Writer, SharedBody) {
    let state = State {
        phase: Phase::Filling,
        pieces: VecDeque::new(),
        written: 0,
        published: 0,
        trailers: None,
        seats: Vec::new(),
        seated: 0,
        pace: 0,
        writer: None,
    };
    let shared = Arc::new(Shared {
        state: Mutex::new(state),
        length,
        window: options.window.max(1) as u64,
        ahead: options.unknown_length_ahead.max(1),
    });
    let writer = Writer {
        shared: Arc::clone(&shared),
        builder: Builder::new(length, purse),
        steps: Vec::new(),
        woken: Vec::new(),
        passes: false,
        sealed: None,
        done: false,
        tick: Duration::from_millis(options.lagging_reader).max(Duration::from_millis(1)) / TICKS,
        held_up: 0,
        mark: 0,
    };
    (writer, SharedBody(shared))
}

struct Shared {
    state: Mutex<State>,
    length: Option<u64>,
    window: u64,
    ahead: u64,
}

enum Phase {
    Filling,
    PassThrough,
    // A pass-through that was written to its end.
    Ended,
    Complete(StoredBody),
    Failed(Error),
}

struct State {
    phase: Phase,
    // What is kept, in order. When passing through, what some reader has not read yet.
    pieces: VecDeque<Piece>,
    // Bytes written, and bytes that readers may see.
    written: u64,
    published: u64,
    trailers: Option<HeaderMap>,
    seats: Vec<Option<Seat>>,
    seated: usize,
    // The position that decides how far the writer may go: Filling, the fastest reader's; PassThrough, the
    // slowest one's.
    pace: u64,
    writer: Option<(Waker, Awaits)>,
}

struct Piece {
    start: u64,
    bytes: Bytes,
}

struct Seat {
    position: u64,
    waker: Option<Waker>,
    cut: bool,
}

// What the writer waits for.
#[derive(Clone, Copy, PartialEq)]
enum Awaits {
    Room,
    NoReaders,
}

/// Every reader has left a body that nobody can join any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("every reader has left")]
pub struct Gone;

// ---------------------------------------------------------------------------------------------- writing

/// Writes the body. Dropped before it finished, it fails.
pub struct Writer {
    shared: Arc<Shared>,
    builder: Builder,
    // Kept for their memory.
    steps: Vec<Step>,
    woken: Vec<Waker>,
    passes: bool,
    sealed: Option<StoredBody>,
    done: bool,
    // How many ticks the writer has waited for laggards since it had written `mark` bytes.
    tick: Duration,
    held_up: u32,
    mark: u64,
}

impl Writer {
    /// Hands `frame` to the readers, then waits until the writer may go on: at once in most cases, see the
    /// module's text. Dropping the future loses no bytes, only the wait. Without readers it does not wait.
    pub async fn push(&mut self, frame: Bytes) -> Result<(), Gone> {
        self.append(frame);
        if !self.passes {
            if self.shared.length.is_none() {
                poll_fn(|cx| self.shared.poll_room(cx)).await?;
            }
            return Ok(());
        }
        loop {
            let room = poll_fn(|cx| self.shared.poll_room(cx));
            if self.shared.state.lock().seated < 2 {
                return room.await;
            }
            match tokio::time::timeout(self.tick, room).await {
                Ok(room) => return room,
                Err(_elapsed) => self.count_tick(),
            }
        }
    }

    /// Hands `frame` to the readers without waiting for them.
    pub fn append(&mut self, frame: Bytes) {
        if frame.is_empty() {
            return;
        }
        if self.passes {
            let mut state = self.shared.state.lock();
            state.add(frame);
            state.published = state.written;
            state.trim();
            state.take_wakers(&mut self.woken);
        } else {
            self.builder.append(frame, &mut self.steps);
            let mut state = self.shared.state.lock();
            state.apply(&mut self.steps);
            if self.shared.length.is_some_and(|length| state.written >= length) {
                return;
            }
            state.published = state.written;
            state.take_wakers(&mut self.woken);
        }
        self.wake();
    }

    /// Sees to it that the next `bytes` are paid for; false when the ledger has not that many.
    pub fn provide(&mut self, bytes: u64) -> bool {
        self.builder.provide(bytes)
    }

    /// Gives up keeping the body: from here on it flows past its readers, and nobody joins.
    pub fn pass_through(&mut self) {
        if self.passes {
            return;
        }
        self.passes = true;
        self.sealed = None;
        // What stays reserved pays for the window.
        self.builder.release(self.shared.window);
        let mut state = self.shared.state.lock();
        state.phase = Phase::PassThrough;
        state.published = state.written;
        state.find_pace();
        state.trim();
        state.take_wakers(&mut self.woken);
        drop(state);
        self.mark = self.written();
        self.wake();
    }

    /// Whether the body flows past its readers and is not kept.
    pub fn passes(&self) -> bool {
        self.passes
    }

    /// Bytes written.
    pub fn written(&self) -> u64 {
        if self.passes { self.shared.state.lock().written } else { self.builder.written() }
    }

    /// Bytes still to be written, where the length is known.
    pub fn remaining(&self) -> Option<u64> {
        self.shared.length.map(|length| length.saturating_sub(self.written()))
    }

    /// Readers that are there.
    pub fn readers(&self) -> usize {
        self.shared.state.lock().seated
    }

    /// Resolves when there is no reader (left). To be awaited beside the origin's next frame.
    pub async fn unread(&self) {
        poll_fn(|cx| {
            let mut state = self.shared.state.lock();
            if state.seated == 0 {
                return Poll::Ready(());
            }
            state.await_by(cx, Awaits::NoReaders);
            Poll::Pending
        })
        .await;
    }

    /// All that was written, to be kept; readers do not see the end yet. `None` when the body passed
    /// through. Nothing may be written after it.
    pub fn seal(&mut self) -> Option<StoredBody> {
        if self.passes {
            return None;
        }
        if self.sealed.is_none() {
            self.builder.finish(&mut self.steps);
            let mut state = self.shared.state.lock();
            state.apply(&mut self.steps);
            let pieces = state.pieces.iter().map(|piece| piece.bytes.clone()).collect();
            drop(state);
            self.sealed = Some(StoredBody::new(pieces));
        }
        self.sealed.clone()
    }

    /// The body is whole: readers see its end. Gives what is to be kept, unless it passed through.
    pub fn finish(mut self, trailers: Option<HeaderMap>) -> Option<StoredBody> {
        let body = self.seal();
        let phase = body.clone().map_or(Phase::Ended, Phase::Complete);
        self.end(phase, trailers);
        body
    }

    /// The body broke off: readers see `error` after what was written.
    pub fn fail(mut self, error: Error) {
        self.end(Phase::Failed(error), None);
    }

    /// Gives the body up unless somebody reads it: whether that was so is found under the lock that readers take
    /// to join, so that whoever comes next is refused, and nobody who has joined is cut. After true, nothing may
    /// be written any more.
    pub fn fail_unread(&mut self, error: Error) -> bool {
        let mut state = self.shared.state.lock();
        if state.seated > 0 {
            return false;
        }
        state.phase = Phase::Failed(error);
        state.published = state.written;
        self.done = true;
        true
    }

    fn end(&mut self, phase: Phase, trailers: Option<HeaderMap>) {
        self.done = true;
        let mut state = self.shared.state.lock();
        state.published = state.written;
        state.trailers = trailers.filter(|trailers| !trailers.is_empty());
        let kept = matches!(phase, Phase::Complete(_)).then(|| std::mem::take(&mut state.pieces));
        state.phase = phase;
        state.take_wakers(&mut self.woken);
        drop(state);
        drop(kept);
        self.wake();
    }

    fn count_tick(&mut self) {
        self.held_up += 1;
        if self.held_up < TICKS {
            return;
        }
        self.held_up = 0;
        let mut state = self.shared.state.lock();
        if state.written - self.mark < LEAST_WINDOWS * self.shared.window {
            state.cut_laggards(self.shared.window);
            state.take_wakers(&mut self.woken);
        }
        self.mark = state.written;
        drop(state);
        self.wake();
    }

    fn wake(&mut self) {
        self.woken.drain(..).for_each(Waker::wake);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.done {
            let error =
                Error::new(ProxyError::HttpResponseIncomplete, "the fetch ended before the response did");
            self.end(Phase::Failed(error), None);
        }
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer")
            .field("builder", &self.builder)
            .field("passes", &self.passes)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        let mut state = self.state.lock();
        let room = self.room(&state);
        if room.is_none() {
            state.await_by(cx, Awaits::Room);
        }
        room.map_or(Poll::Pending, Poll::Ready)
    }

    // Whether the writer may go on; `None` if it has to wait.
    fn room(&self, state: &State) -> Option<Result<(), Gone>> {
        let ahead = match state.phase {
            Phase::PassThrough if state.seated == 0 => return Some(Err(Gone)),
            Phase::PassThrough => self.window,
            _ if state.seated == 0 || self.length.is_some() => return Some(Ok(())),
            _ => self.ahead,
        };
        (state.written - state.pace < ahead).then_some(Ok(()))
    }

    // The writer's waker, if what it waits for has come.
    fn writer_to_wake(&self, state: &mut State) -> Option<Waker> {
        let ready = match state.writer.as_ref()?.1 {
            Awaits::NoReaders => state.seated == 0,
            Awaits::Room => self.room(state).is_some(),
        };
        if ready { state.writer.take().map(|(waker, _)| waker) } else { None }
    }
}

impl State {
    fn add(&mut self, bytes: Bytes) {
        let start = self.written;
        self.written += bytes.len() as u64;
        self.pieces.push_back(Piece { start, bytes });
    }

    fn apply(&mut self, steps: &mut Vec<Step>) {
        for step in steps.drain(..) {
            let kept = self.pieces.len() - step.replaces;
            if let Some(first) = self.pieces.get(kept) {
                self.written = first.start;
            }
            self.pieces.truncate(kept);
            self.add(step.piece);
        }
    }

    // Drops what every reader has read, when passing through.
    fn trim(&mut self) {
        let read = if self.seated == 0 { self.written } else { self.pace };
        while self.pieces.front().is_some_and(|piece| piece.start + piece.bytes.len() as u64 <= read) {
            self.pieces.pop_front();
        }
    }

    fn find_pace(&mut self) {
        let positions = self.seats.iter().flatten().filter(|seat| !seat.cut).map(|seat| seat.position);
        let pace = match self.phase {
            Phase::Filling => positions.max(),
            _ => positions.min(),
        };
        self.pace = pace.unwrap_or(0);
    }

    // A reader went from `before` to `after`.
    fn advance_pace(&mut self, before: u64, after: u64) {
        match self.phase {
            Phase::Filling => self.pace = self.pace.max(after),
            Phase::PassThrough | Phase::Ended if before == self.pace => {
                self.find_pace();
                self.trim();
            }
            _ => {}
        }
    }

    // What is at `position`, up to the end of a piece and of what may be seen.
    fn at(&self, position: u64) -> Option<Bytes> {
        let left = self.published.checked_sub(position).filter(|left| *left > 0)?;
        // Most read what was written last.
        let piece = self.pieces.back().filter(|last| last.start <= position).or_else(|| {
            let after = self.pieces.partition_point(|piece| piece.start <= position);
            self.pieces.get(after.checked_sub(1)?)
        })?;
        let from = (position - piece.start) as usize;
        let to = piece.bytes.len().min(from.saturating_add(usize::try_from(left).unwrap_or(usize::MAX)));
        if from == 0 && to == piece.bytes.len() {
            return Some(piece.bytes.clone());
        }
        Some(piece.bytes.slice(from..to))
    }

    fn sit(&mut self) -> usize {
        let seat = Some(Seat { position: 0, waker: None, cut: false });
        self.seated += 1;
        if let Some(free) = self.seats.iter().position(Option::is_none) {
            self.seats[free] = seat;
            return free;
        }
        self.seats.push(seat);
        self.seats.len() - 1
    }

    fn leave(&mut self, index: usize) {
        let Some(seat) = self.seats.get_mut(index).and_then(Option::take) else { return };
        if seat.cut {
            return;
        }
        self.seated -= 1;
        if seat.position == self.pace || self.seated == 0 {
            self.find_pace();
        }
        if matches!(self.phase, Phase::PassThrough | Phase::Ended) {
            self.trim();
        }
    }

    // Cuts off who is a whole window behind, if somebody is not.
    fn cut_laggards(&mut self, window: u64) {
        let written = self.written;
        let lags = |seat: &Seat| !seat.cut && written - seat.position >= window;
        if self.seats.iter().flatten().all(lags) {
            return;
        }
        for seat in self.seats.iter_mut().flatten() {
            if lags(seat) {
                seat.cut = true;
                self.seated -= 1;
            }
        }
        self.find_pace();
        self.trim();
    }

    fn await_by(&mut self, cx: &Context<'_>, awaits: Awaits) {
        match &mut self.writer {
            Some((waker, what)) if waker.will_wake(cx.waker()) => *what = awaits,
            writer => *writer = Some((cx.waker().clone(), awaits)),
        }
    }

    fn take_wakers(&mut self, woken: &mut Vec<Waker>) {
        woken.extend(self.seats.iter_mut().flatten().filter_map(|seat| seat.waker.take()));
    }
}

// ---------------------------------------------------------------------------------------------- reading

/// A body that is being written: where readers come from.
#[derive(Clone)]
pub struct SharedBody(Arc<Shared>);

impl SharedBody {
    /// One more reader, from the beginning; `None` when that is gone, or the body has failed.
    pub fn reader(&self) -> Option<Reader> {
        let mut state = self.0.state.lock();
        let place = match &state.phase {
            Phase::Filling => Place::Seat { shared: Arc::clone(&self.0), index: state.sit(), position: 0 },
            Phase::Complete(body) => {
                Place::Kept { rest: body.read(), trailers: state.trailers.clone().map(Box::new) }
            }
            Phase::PassThrough | Phase::Ended | Phase::Failed(_) => return None,
        };
        Some(Reader { place, length: self.0.length })
    }

    /// Readers that are there, less those that read a complete body.
    pub fn readers(&self) -> usize {
        self.0.state.lock().seated
    }

    /// Whether somebody may still join.
    pub fn is_open(&self) -> bool {
        matches!(self.0.state.lock().phase, Phase::Filling | Phase::Complete(_))
    }
}

impl std::fmt::Debug for SharedBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.0.state.lock();
        f.debug_struct("SharedBody")
            .field("written", &state.written)
            .field("length", &self.0.length)
            .field("readers", &state.seated)
            .finish_non_exhaustive()
    }
}

/// Reads a shared body from its beginning. What it sees is a prefix of what was written: all of it, or an
/// error after it.
pub struct Reader {
    place: Place,
    length: Option<u64>,
}

enum Place {
    // Among those whom the writer waits for and wakes.
    Seat { shared: Arc<Shared>, index: usize, position: u64 },
    // The body is complete: no lock any more.
    Kept { rest: Stored, trailers: Option<Box<HeaderMap>> },
    End,
}

type Polled = Poll<Option<Result<Frame<Bytes>, Error>>>;

impl Place {
    // Polls a seat. Besides the frame it gives the place to change to, and the writer's waker.
    fn poll_seat(
        shared: &Shared,
        index: usize,
        position: &mut u64,
        cx: &mut Context<'_>,
    ) -> (Polled, Option<Place>, Option<Waker>) {
        let mut state = shared.state.lock();
        if let Phase::Complete(body) = &state.phase {
            let rest = body.read().advanced(*position);
            let trailers = state.trailers.clone().map(Box::new);
            return (Poll::Pending, Some(Self::Kept { rest, trailers }), None);
        }
        if state.seats[index].as_ref().is_none_or(|seat| seat.cut) {
            let error = Error::new(
                ProxyError::ConnectionWriteTimeout,
                "the client read too slowly, and others waited",
            );
            return (Poll::Ready(Some(Err(error))), Some(Self::End), None);
        }
        if let Some(bytes) = state.at(*position) {
            let before = *position;
            *position += bytes.len() as u64;
            if let Some(seat) = &mut state.seats[index] {
                seat.position = *position;
            }
            state.advance_pace(before, *position);
            let ended =
                matches!(state.phase, Phase::Ended) && *position == state.written && state.trailers.is_none();
            let writer = shared.writer_to_wake(&mut state);
            return (Poll::Ready(Some(Ok(Frame::data(bytes)))), ended.then_some(Self::End), writer);
        }
        match &state.phase {
            Phase::Filling | Phase::PassThrough => {
                if let Some(seat) = &mut state.seats[index]
                    && !seat.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()))
                {
                    seat.waker = Some(cx.waker().clone());
                }
                (Poll::Pending, None, None)
            }
            Phase::Failed(error) => (Poll::Ready(Some(Err(error.clone()))), Some(Self::End), None),
            Phase::Ended | Phase::Complete(_) => {
                let trailers = state.trailers.clone();
                (Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers)))), Some(Self::End), None)
            }
        }
    }

    fn leave(&self) {
        if let Self::Seat { shared, index, .. } = self {
            let mut state = shared.state.lock();
            state.leave(*index);
            let writer = shared.writer_to_wake(&mut state);
            drop(state);
            if let Some(waker) = writer {
                waker.wake();
            }
        }
    }
}

impl http_body::Body for Reader {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        if let Place::Seat { shared, index, position } = &mut self.place {
            let (polled, place, writer) = Place::poll_seat(shared, *index, position, cx);
            if let Some(waker) = writer {
                waker.wake();
            }
            let Some(place) = place else { return polled };
            self.place.leave();
            self.place = place;
            if !matches!(self.place, Place::Kept { .. }) {
                return polled;
            }
        }
        match &mut self.place {
            Place::Kept { rest, trailers } => {
                if let Some(bytes) = rest.next() {
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                let trailers = trailers.take();
                self.place = Place::End;
                Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(*trailers))))
            }
            Place::Seat { .. } | Place::End => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.place {
            Place::Seat { .. } => self.length == Some(0),
            Place::Kept { rest, trailers } => rest.left() == 0 && trailers.is_none(),
            Place::End => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.place {
            Place::Seat { shared, position, .. } => {
                let state = shared.state.lock();
                let length = match (self.length, &state.phase) {
                    (Some(length), _) => Some(length),
                    // Where trailers follow, framing must have room for them.
                    (None, Phase::Complete(body)) if state.trailers.is_none() => Some(body.len()),
                    (None, _) => None,
                };
                length.map_or_else(SizeHint::new, |length| {
                    SizeHint::with_exact(length.saturating_sub(*position))
                })
            }
            Place::Kept { trailers: Some(_), .. } => SizeHint::new(),
            Place::Kept { rest, trailers: None } => SizeHint::with_exact(rest.left()),
            Place::End => SizeHint::with_exact(0),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.place.leave();
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("length", &self.length).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
