//! Bodies: one enum that hyper sends, and the shared body of one writer and many readers.
//!
//! What a body is made of, from the cheapest up:
//!
//! | variant | whence | copies |
//! |---|---|---|
//! | `Empty`, `Full` | our own answers, and what has come or is stored in one piece | none |
//! | `Stored` | a stored response, whole or a range of it | none: slices of what is stored |
//! | `Multipart` | several ranges of a stored response, RFC 9110 section 14.6 | none but the parts' heads |
//! | `Shared` | a fill that others read too | none: slices of what is being stored |
//! | `Incoming`, `Boxed` | a peer, straight through | none |
//!
//! Nothing here knows HTTP's caching; whether and where bytes are kept is the store's business.

pub mod ahead;
pub mod between;
pub mod budget;
pub mod buffers;
mod builder;
mod chunk;
mod memory;
pub mod metered;
pub mod multipart;
pub mod shared;
pub mod span;
pub(crate) mod stall;
pub mod stored;
pub mod trailers;

use std::error::Error as _;
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use crate::field::status::ProxyError;

pub use ahead::Ahead;
pub use between::Between;
pub use budget::{Budget, Reservation};
pub use buffers::{Buffered, Buffers};
pub use memory::{Strain, resident_memory, usable_memory};
pub use metered::{Done, Ended, Metered, Piece};
pub use multipart::{Multipart, Part};
pub use shared::{Gone, Reader, SharedBody, Writer, shared};
pub use span::Span;
pub use stored::{Stored, StoredBody};

/// Pieces in which a body of `length` bytes is kept.
pub(crate) fn pieces_of(length: u64) -> usize {
    length.div_ceil(chunk::SIZE as u64) as usize
}

/// Why a body broke off. What reads it must break off too.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{what}")]
pub struct Error {
    /// RFC 9209 type, for the log and the metrics.
    pub kind: ProxyError,
    /// What happened, in words.
    pub what: std::borrow::Cow<'static, str>,
    /// The cause, where there is one.
    #[source]
    pub source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error without a cause of its own.
    pub fn new(kind: ProxyError, what: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Self { kind, what: what.into(), source: None }
    }

    /// The same with its cause.
    #[must_use]
    pub fn because(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }
}

impl From<hyper::Error> for Error {
    fn from(error: hyper::Error) -> Self {
        let (kind, what) = if error.is_incomplete_message() || error.is_canceled() {
            (ProxyError::HttpResponseIncomplete, "the connection ended before the message did")
        } else if error.is_timeout() {
            (ProxyError::ConnectionReadTimeout, "the message stalled")
        } else if error.is_parse() {
            (ProxyError::HttpProtocolError, "the message's framing is broken")
        } else {
            // hyper tells a body's faults as errors of I/O.
            match error.source().and_then(|cause| cause.downcast_ref()).map(std::io::Error::kind) {
                Some(ErrorKind::InvalidData | ErrorKind::InvalidInput) => {
                    (ProxyError::HttpProtocolError, "its chunks are malformed")
                }
                Some(ErrorKind::UnexpectedEof) => {
                    (ProxyError::HttpResponseIncomplete, "the connection ended before the message did")
                }
                _ => (ProxyError::ConnectionTerminated, "the connection broke before the message ended"),
            }
        };
        Self::new(kind, what).because(error)
    }
}

/// `body`'s figures.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// `limits.buffer`: bytes buffered per direction for a body that is not stored. Default 64 KiB.
    pub window: usize,
    /// `cache.unknown_length_ahead`: for a body of unknown length, bytes buffered ahead of its readers.
    /// Default 16 MiB.
    pub unknown_length_ahead: u64,
    /// `cache.lagging_reader`: how long a reader may be a whole window behind, after a fill became a pass-through, before it is cut off. Milliseconds. Default 10 s.
    pub lagging_reader: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { window: 64 << 10, unknown_length_ahead: 16 << 20, lagging_reader: 10_000 }
    }
}

/// A body that is on its way somewhere.
#[derive(Default)]
pub enum Body {
    /// No bytes.
    #[default]
    Empty,
    /// These bytes, in one frame; `None` once they are gone.
    Full(Option<Bytes>),
    /// A stored body, or a range of one.
    Stored(Stored),
    /// Several ranges of a stored body.
    Multipart(Multipart),
    /// A body that is being filled.
    Shared(Reader),
    /// What a peer sends, as hyper reads it.
    Incoming(Incoming),
    /// Anything else.
    Boxed(Pin<Box<dyn http_body::Body<Data = Bytes, Error = Error> + Send>>),
}

impl Body {
    /// One frame of `bytes`; [`Body::Empty`] when there are none.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() { Self::Empty } else { Self::Full(Some(bytes)) }
    }

    /// Any other body, boxed.
    pub fn boxed<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes, Error = Error> + Send + 'static,
    {
        Self::Boxed(Box::pin(body))
    }

    /// Bytes still to come, where that is known.
    pub fn exact_length(&self) -> Option<u64> {
        self.size_hint().exact()
    }
}

impl From<StoredBody> for Body {
    fn from(body: StoredBody) -> Self {
        match body.into_one() {
            Ok(bytes) => Self::full(bytes),
            Err(body) => Self::Stored(body.read()),
        }
    }
}

impl From<Reader> for Body {
    fn from(reader: Reader) -> Self {
        Self::Shared(reader)
    }
}

impl From<Multipart> for Body {
    fn from(parts: Multipart) -> Self {
        Self::Multipart(parts)
    }
}

impl From<Incoming> for Body {
    fn from(incoming: Incoming) -> Self {
        if incoming.is_end_stream() { Self::Empty } else { Self::Incoming(incoming) }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self {
            Self::Empty => "Empty",
            Self::Full(_) => "Full",
            Self::Stored(_) => "Stored",
            Self::Multipart(_) => "Multipart",
            Self::Shared(_) => "Shared",
            Self::Incoming(_) => "Incoming",
            Self::Boxed(_) => "Boxed",
        };
        f.debug_struct(name).field("length", &self.exact_length()).finish_non_exhaustive()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stored(stored) => Poll::Ready(stored.next().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Multipart(parts) => Poll::Ready(parts.next().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Shared(reader) => Pin::new(reader).poll_frame(cx),
            Self::Incoming(incoming) => {
                let frame = ready!(Pin::new(incoming).poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map_err(Error::from)))
            }
            Self::Boxed(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_none(),
            Self::Stored(stored) => stored.left() == 0,
            Self::Multipart(parts) => parts.left() == 0,
            Self::Shared(reader) => reader.is_end_stream(),
            Self::Incoming(incoming) => incoming.is_end_stream(),
            Self::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stored(stored) => SizeHint::with_exact(stored.left()),
            Self::Multipart(parts) => SizeHint::with_exact(parts.left()),
            Self::Shared(reader) => reader.size_hint(),
            Self::Incoming(incoming) => incoming.size_hint(),
            Self::Boxed(body) => body.size_hint(),
        }
    }
}
