//! The body of a request on its way out: held back for the origin's 100 where the client expects one. How long
//! a client may stall is the client's side's business; how long the origin may, that of the exchange.
//!
//! ```text
//! Waiting --origin's 100, or the limit--> Open      (polling the client's body makes its 100 go out)
//! Waiting --final response-------------> Shut       (never polled: the client learns it from the response)
//! ```

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use pin_project_lite::pin_project;

use crate::body::stall::Stall;
use crate::body::{self, Body};

/// Whether a body may go out. RFC 9110 section 10.1.1.
#[derive(Debug)]
pub(super) struct Gate(Mutex<Position>);

#[derive(Debug)]
enum Position {
    Waiting(Option<Waker>),
    Open,
    Shut,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Position::Waiting(None)))
    }

    /// Lets the body out.
    pub(super) fn open(&self) {
        let mut position = self.0.lock();
        if let Position::Waiting(waker) = &mut *position {
            let waker = waker.take();
            *position = Position::Open;
            drop(position);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Keeps the body in for good, unless it is out already; true if it is kept in.
    pub(super) fn shut(&self) -> bool {
        let mut position = self.0.lock();
        if matches!(*position, Position::Waiting(_)) {
            *position = Position::Shut;
        }
        matches!(*position, Position::Shut)
    }

    fn poll_open(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut *self.0.lock() {
            Position::Open => Poll::Ready(()),
            Position::Waiting(waker) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Position::Shut => Poll::Pending,
        }
    }

    fn is_waiting(&self) -> bool {
        matches!(*self.0.lock(), Position::Waiting(_))
    }
}

/// How far a request's body has come, for those who wait for the response.
#[derive(Debug, Default)]
pub(super) struct Progress(AtomicU8);

/// The steps of [`Progress`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The connection has not taken what it was given.
    Origin,
    /// The client has not sent more.
    Client,
    /// All of it is out.
    Done,
}

impl Progress {
    pub(super) fn step(&self) -> Step {
        match self.0.load(Relaxed) {
            0 => Step::Origin,
            1 => Step::Client,
            _ => Step::Done,
        }
    }

    fn set(&self, step: Step) {
        let step = match step {
            Step::Origin => 0,
            Step::Client => 1,
            Step::Done => 2,
        };
        self.0.store(step, Relaxed);
    }
}

pin_project! {
    /// What hyper is given as a request's body.
    pub(super) struct Upload {
        #[pin]
        body: Body,
        // `None`: nothing to send. Boxed, since a request is moved a dozen times on its way, and most have no body.
        course: Option<Box<Course>>,
    }
}

struct Course {
    /// Bytes still to come, where that is known: hyper asks for no more than were announced.
    left: Option<u64>,
    progress: Arc<Progress>,
    gate: Option<(Arc<Gate>, Stall)>,
}

impl Upload {
    /// Wraps `body`. The gate, if any, opens by itself after `expect_timeout`.
    pub(super) fn new(
        body: Body,
        gate: Option<Arc<Gate>>,
        expect_timeout: Duration,
    ) -> (Self, Option<Arc<Progress>>) {
        if http_body::Body::is_end_stream(&body) {
            return (Self { body, course: None }, None);
        }
        let progress = Arc::new(Progress::default());
        let course = Course {
            left: http_body::Body::size_hint(&body).exact(),
            progress: Arc::clone(&progress),
            gate: gate.map(|gate| (gate, Stall::new(expect_timeout))),
        };
        (Self { body, course: Some(Box::new(course)) }, Some(progress))
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = body::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, body::Error>>> {
        let this = self.project();
        let Some(course) = this.course else { return Poll::Ready(None) };
        if let Some((gate, limit)) = &mut course.gate {
            course.progress.set(Step::Client);
            if gate.poll_open(cx).is_pending() {
                if !gate.is_waiting() || limit.poll_passed(cx).is_pending() {
                    return Poll::Pending;
                }
                gate.open();
                if gate.poll_open(cx).is_pending() {
                    return Poll::Pending;
                }
            }
            course.gate = None;
        }
        match this.body.poll_frame(cx) {
            Poll::Pending => {
                course.progress.set(Step::Client);
                Poll::Pending
            }
            Poll::Ready(Some(Ok(frame))) => {
                course.progress.set(Step::Origin);
                if let (Some(left), Some(data)) = (&mut course.left, frame.data_ref()) {
                    *left = left.saturating_sub(data.len() as u64);
                }
                if course.left == Some(0) {
                    course.progress.set(Step::Done);
                }
                // The last frame.
                if frame.is_trailers() {
                    course.progress.set(Step::Done);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error))),
            Poll::Ready(None) => {
                course.progress.set(Step::Done);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let ended = self.body.is_end_stream();
        if ended && let Some(course) = &self.course {
            course.progress.set(Step::Done);
        }
        ended
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
