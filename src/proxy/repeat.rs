//! Requests that come again, to the byte, while their answer lasts.
//!
//! What clients ask for often, they ask for in the same words. An answer from the store is a function of the request's
//! bytes, the client's address, the settings, what is stored, and the second; so while none of them changes, neither
//! does a byte of it. Then the head that hyper wrote goes out once more, with what is stored behind it: nothing is
//! parsed, judged, planned or rendered again. Whether the store has changed is asked each time, so that a purge shows;
//! short content is kept with its head, and then looked up only now and then, for an eviction policy that counts what
//! is used. Each exchange has its record.
//!
//! There is no second parser in this, and nothing that writes a head: a request is known by all its bytes, and an
//! answer by those that hyper wrote a moment ago. What may not be answered so is never kept: other methods than GET
//! and HEAD, what waits for an address or a password, what has limits of its own, what carries a secret, and what tells
//! of content ([`UNKEPT`]).
//!
//! ```text
//!  read -> kept, and lasts? -> written again
//!            | no, asked for before in this second: its bytes are kept
//!            v
//!          hyper -> ... -> Exchange::finish offers how long it lasts -> written: its head is kept
//! ```

use ahash::RandomState;
use bytes::{Buf, Bytes};
use http::request::Parts;
use parking_lot::Mutex;
use std::hash::{BuildHasher as _, Hash as _, Hasher as _};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

use super::link::Link;
use super::{Proxy, Settings};
use crate::body::{Stored, StoredBody};
use crate::cache::{Cache, Lasting};
use crate::clock::Stopwatch;
use crate::telemetry::Record;
use crate::worker::Each;

/// Requests that each thread keeps: together with their answers one megabyte, as they mostly are, and some 6 where all of it
/// is as long as it may be. Each until another one needs its place, or the settings change.
const KEPT: usize = 512;
/// Bytes of a head, a request's or a response's, that is kept.
pub(super) const LONGEST: usize = 2048;
/// Bytes of content that is kept with its head.
const SHORT: u64 = 4096;
/// How often in a row the store is not asked for what is kept. The counts of its eviction policy end at 15.
const UNASKED: u8 = 7;
/// Fields of requests that are not kept. What may let somebody in should not lie about longer than it must; and of equal
/// Content-Length fields hyper leaves one, while all have to be counted ([`Words`]).
const UNKEPT: [&[u8]; 4] = [b"authorization:", b"proxy-authorization:", b"cookie:", b"content-length:"];
/// Pieces of a body that leave in one call.
const PIECES: usize = 16;

/// What is kept, by each of the threads that serve.
#[derive(Debug)]
pub(super) struct Repeats {
    hasher: RandomState,
    tables: Each<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    /// By which all of it was answered.
    settings: Option<Arc<Settings>>,
    /// None of them, until a request is looked up.
    places: Vec<Place>,
}

#[derive(Debug, Default)]
struct Place {
    /// The hash of a request, and the second in which it was seen.
    seen: (u64, i64),
    kept: Option<Box<Kept>>,
}

#[derive(Debug)]
struct Kept {
    hash: u64,
    request: Box<[u8]>,
    /// The head, and its content where that is short and the store has been asked for it.
    answer: Bytes,
    is_whole: bool,
    /// The connection ends with it, as the client asked.
    closes: bool,
    lasting: Lasting,
    /// How often the store need not be asked for it, unless it has changed.
    unasked: u8,
    /// That of the last exchange like it.
    record: Record,
}

/// What an exchange tells of its answer: that it lasts.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(super) words: Words,
    pub(super) settings: Arc<Settings>,
    pub(super) lasting: Box<Lasting>,
    pub(super) record: Box<Record>,
}

/// What hyper read of a request, to be compared with what it was given: its first line, and how many fields there were.
#[derive(Debug)]
pub(crate) struct Words {
    line: String,
    fields: usize,
}

impl Words {
    pub(super) fn of(parts: &Parts) -> Self {
        let line = format!("{} {} {:?}", parts.method, parts.uri, parts.version);
        Self { line, fields: parts.headers.len() }
    }

    /// Whether this may be the head that hyper read, the whole of it: any more in front of it had more fields.
    fn are_of(&self, request: &[u8]) -> bool {
        let rest = request.strip_prefix(self.line.as_bytes());
        // The line's end, one for each field, and the empty line.
        rest.is_some_and(|rest| {
            rest.starts_with(b"\r\n") && memchr::memchr_iter(b'\n', rest).count() == self.fields + 2
        })
    }
}

/// The part of one connection in it.
#[derive(Debug)]
pub(super) struct Repeating {
    proxy: Arc<Proxy>,
    peer: SocketAddr,
    /// The request that hyper has, where it is to be kept.
    asked: Option<Asked>,
    /// What is on its way out.
    repeat: Option<Repeat>,
    /// The connection ended with an answer that hyper did not see.
    ended: bool,
}

#[derive(Debug)]
struct Asked {
    hash: u64,
    request: Box<[u8]>,
}

/// An answer that goes out again: first the head, with all the content or none of it, then what is left.
#[derive(Debug)]
struct Repeat {
    first: Bytes,
    body: Stored,
    closes: bool,
}

impl Default for Repeats {
    fn default() -> Self {
        Self { hasher: RandomState::new(), tables: Each::default() }
    }
}

impl Repeats {
    fn hash(&self, peer: SocketAddr, request: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        peer.ip().hash(&mut hasher);
        hasher.write(request);
        hasher.finish()
    }
}

impl Table {
    /// Where a request of this hash belongs, by these settings.
    fn place(&mut self, settings: &Arc<Settings>, hash: u64) -> &mut Place {
        if !self.settings.as_ref().is_some_and(|known| Arc::ptr_eq(known, settings)) {
            self.settings = Some(Arc::clone(settings));
            self.places.clear();
            self.places.resize_with(KEPT, Place::default);
        }
        &mut self.places[hash as usize % KEPT]
    }
}

impl Kept {
    /// The answer, while what is stored has not changed it: what is kept of it, and content that is not.
    fn again(&mut self, cache: &Cache) -> Option<(Bytes, StoredBody)> {
        if self.unasked > 0 && cache.is_unchanged(&self.lasting) {
            self.unasked -= 1;
            return Some((self.answer.clone(), StoredBody::EMPTY));
        }
        let content = cache.again(&mut self.lasting)?;
        if !self.is_whole {
            if content.len() > SHORT {
                return Some((self.answer.clone(), content));
            }
            self.answer = [&self.answer[..], &content.to_bytes()].concat().into();
            self.is_whole = true;
        }
        self.unasked = UNASKED;
        Some((self.answer.clone(), StoredBody::EMPTY))
    }
}

impl Settings {
    /// Whether clients are answered without being asked who they are, however often they ask.
    fn allow_repeats(&self) -> bool {
        self.authentication.is_none() && self.options.requests_per_client.is_none()
    }
}

impl Repeating {
    pub(super) fn new(proxy: Arc<Proxy>, peer: SocketAddr) -> Self {
        Self { proxy, peer, asked: None, repeat: None, ended: false }
    }

    /// Whether `read`, all that came since the last exchange, is answered, as it was before: what is written by
    /// [`Self::poll_write`]. Its exchange is told of with that. Else hyper has to answer, and where the same has been asked
    /// before in this second, the link says that its answer is wanted.
    pub(super) fn answers(&mut self, read: &[u8], link: &Link) -> bool {
        self.asked = None;
        link.want_offer(false);
        if read.len() > LONGEST || !(read.starts_with(b"GET ") || read.starts_with(b"HEAD ")) {
            return false;
        }
        let proxy = &self.proxy;
        let settings = proxy.settings.load();
        if !settings.allow_repeats() {
            return false;
        }
        let (hash, now) = (proxy.repeats.hash(self.peer, read), proxy.clock.now());
        let mut table = proxy.repeats.tables.own().lock();
        let place = table.place(&settings, hash);
        if let Some(kept) = &mut place.kept
            && kept.lasting.lasts(now)
        {
            if kept.hash != hash {
                // It stays while it may be asked for again.
                return false;
            }
            let started = Stopwatch::start();
            if *kept.request == *read
                && kept.record.client.ip() == self.peer.ip()
                && !proxy.shutdown.is_draining()
                && let Some((first, content)) = kept.again(&proxy.cache)
            {
                let record = &mut kept.record;
                record.id = proxy.next_id();
                record.at = now;
                record.client = self.peer;
                record.duration = started.elapsed();
                record.first_byte = Some(record.duration);
                proxy.telemetry.record(record);
                self.repeat = Some(Repeat { first, body: content.into_read(), closes: kept.closes });
                link.repeat_begins();
                return true;
            }
        }
        let seen = (hash, now.unix());
        let has_been = place.seen == seen || place.kept.as_ref().is_some_and(|kept| kept.hash == hash);
        place.seen = seen;
        if has_been && may_be_kept(read) {
            self.asked = Some(Asked { hash, request: read.into() });
            link.want_offer(true);
        }
        false
    }

    /// Keeps the answer whose first bytes hyper writes, where its request is to be kept and it lasts.
    pub(super) fn answered(&mut self, bytes: &[u8], link: &Link) {
        let Some(Asked { hash, request }) = self.asked.take() else { return };
        let offer = link.take_offer();
        link.want_offer(false);
        let Some(Offer { words, settings, lasting, record }) = offer else { return };
        let Some((head, closes)) = head_to_keep(bytes).filter(|_| words.are_of(&request)) else { return };
        let kept = Kept {
            hash,
            request,
            answer: Bytes::copy_from_slice(head),
            is_whole: false,
            closes,
            lasting: *lasting,
            unasked: 0,
            record: Record { repeated: true, ..record.apart() },
        };
        // Where these settings are no longer in force, who looks next clears the table.
        self.proxy.repeats.tables.own().lock().place(&settings, hash).kept = Some(Box::new(kept));
    }

    /// hyper has got more than the request that is to be kept.
    pub(super) fn forget(&mut self, link: &Link) {
        if self.asked.take().is_some() {
            link.want_offer(false);
        }
    }

    /// Writes what is left of the answer that goes out again, if one does.
    pub(super) fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        to: &mut W,
        link: &Link,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(repeat) = &mut self.repeat else { return Poll::Ready(Ok(())) };
        while !repeat.is_out() {
            let result = repeat.poll_write(to, cx);
            link.note_write(&result);
            if ready!(result)? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        self.ended = repeat.closes;
        self.repeat = None;
        link.repeat_ends();
        Poll::Ready(Ok(()))
    }

    /// Whether the connection ended with an answer that hyper did not see.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }
}

impl Repeat {
    fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        to: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if !self.body.has_remaining() {
            let written = ready!(Pin::new(to).poll_write(cx, &self.first))?;
            self.first.advance(written);
            return Poll::Ready(Ok(written));
        }
        let mut slices = [IoSlice::new(&[]); PIECES + 1];
        slices[0] = IoSlice::new(&self.first);
        let filled = 1 + self.body.chunks_vectored(&mut slices[1..]);
        let written = ready!(Pin::new(to).poll_write_vectored(cx, &slices[..filled]))?;
        let of_first = written.min(self.first.len());
        self.first.advance(of_first);
        self.body.advance(written - of_first);
        Poll::Ready(Ok(written))
    }

    fn is_out(&self) -> bool {
        self.first.is_empty() && !self.body.has_remaining()
    }
}

/// Whether these are the bytes of one request's head, from its begin to its end, with none of [`UNKEPT`]. An empty line
/// ends a head: to hyper, whatever the line before ends in.
fn may_be_kept(request: &[u8]) -> bool {
    if names_user(request) {
        return false;
    }
    let mut rest = request;
    while let Some(at) = memchr::memchr(b'\n', rest) {
        rest = &rest[at + 1..];
        if rest.starts_with(b"\r\n") || rest.starts_with(b"\n") {
            return rest == b"\r\n";
        }
        if UNKEPT.iter().any(|name| begins(rest, name)) {
            return false;
        }
    }
    false
}

/// Whether the URL of a request's first line has a user before its host.
fn names_user(request: &[u8]) -> bool {
    let Some(at) = memchr::memmem::find(request, b"://") else { return false };
    let authority = request[at + 3..].split(|byte| b"/?#\r\n ".contains(byte)).next();
    authority.is_some_and(|authority| authority.contains(&b'@'))
}

/// Whether a line begins with this, in whatever case.
fn begins(line: &[u8], with: &[u8]) -> bool {
    line.get(..with.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(with))
}

/// The head at the begin of what hyper writes, if the same may be written again, and whether the connection ends with it.
fn head_to_keep(bytes: &[u8]) -> Option<(&[u8], bool)> {
    let head = &bytes[..memchr::memmem::find(bytes, b"\r\n\r\n")? + 4];
    if head.len() > LONGEST || !head.starts_with(b"HTTP/1.1 ") {
        return None;
    }
    let mut closes = false;
    for line in head.split(|byte| *byte == b'\n') {
        if begins(line, b"connection: close\r") {
            closes = true;
        } else if begins(line, b"connection:") || begins(line, b"transfer-encoding:") {
            return None;
        }
    }
    Some((head, closes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_kept_that_is_one_head_without_secret_or_content() {
        for (request, expected) in [
            ("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", true),
            ("GET http://a/ HTTP/1.1\r\n\r\n", true),
            // What would be the end to a strict reader is not what hyper takes for it.
            ("GET http://a/ HTTP/1.1\nHost: a\r\n\r\n", true),
            ("GET http://a/ HTTP/1.1\r\nHost: a\r\n", false),
            ("GET http://a/ HTTP/1.1\r\nHost: a\n\n", false),
            ("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\nx", false),
            ("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n\r\n", false),
            ("GET http://a/ HTTP/1.1\r\n\r\nGET http://b/ HTTP/1.1\r\n\r\n", false),
            ("GET http://a/ HTTP/1.1\n\nGET http://b/ HTTP/1.1\r\n\r\n", false),
            ("GET http://a/ HTTP/1.1\n\r\nGET http://b/ HTTP/1.1\r\n\r\n", false),
            ("GET http://a/ HTTP/1.1\r\n\nGET http://b/ HTTP/1.1\r\n\r\n", false),
            ("GET http://a/ HTTP/1.1\r\nCookie: a\r\n\r\n", false),
            ("GET http://a/ HTTP/1.1\r\nHost: a\nauthorization: a\r\n\r\n", false),
            ("GET http://a/ HTTP/1.1\r\nPROXY-AUTHORIZATION: a\r\nHost: a\r\n\r\n", false),
            ("GET http://a/ HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", false),
            ("GET http://a:b@c/ HTTP/1.1\r\n\r\n", false),
            ("GET http://a@c HTTP/1.1\r\n\r\n", false),
            ("GET http://c/@a/b HTTP/1.1\r\n\r\n", true),
            ("", false),
        ] {
            assert_eq!(may_be_kept(request.as_bytes()), expected, "{request:?}");
        }
    }

    #[test]
    fn what_hyper_read_is_all_of_what_it_was_given_or_it_is_not_kept() {
        let read = |uri: &str, fields: &[(&str, &str)]| {
            let mut request = http::Request::get(uri).version(http::Version::HTTP_11);
            for (name, value) in fields {
                request = request.header(*name, *value);
            }
            Words::of(&request.body(()).unwrap().into_parts().0)
        };
        let given = b"GET http://a/x HTTP/1.1\r\nHost: a\r\nAccept: b\r\n\r\n";
        assert!(read("http://a/x", &[("host", "a"), ("accept", "b")]).are_of(given));
        for (uri, fields) in [
            ("http://a/y", &[("host", "a"), ("accept", "b")][..]),
            ("http://a/", &[("host", "a"), ("accept", "b")]),
            // As behind `GET http://a/x HTTP/1.1` and a field whose end was still to come.
            ("http://a/x", &[("x", "GET http://a/x HTTP/1.1"), ("host", "a"), ("accept", "b")]),
            ("http://a/x", &[("host", "a")]),
        ] {
            assert!(!read(uri, fields).are_of(given), "{uri} {fields:?}");
        }
    }

    #[test]
    fn a_head_is_kept_that_says_nothing_of_its_connection_but_that_it_ends() {
        for (written, expected) in [
            (
                "HTTP/1.1 200 OK\r\nage: 1\r\n\r\nbody\r\n\r\n",
                Some(("HTTP/1.1 200 OK\r\nage: 1\r\n\r\n", false)),
            ),
            ("HTTP/1.1 200 OK\r\n\r\n", Some(("HTTP/1.1 200 OK\r\n\r\n", false))),
            (
                "HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n",
                Some(("HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n", true)),
            ),
            ("HTTP/1.1 200 OK\r\nconnection: keep-alive\r\n\r\n", None),
            ("HTTP/1.1 200 OK\r\nconnection: close, x\r\n\r\n", None),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", None),
            ("HTTP/1.0 200 OK\r\n\r\n", None),
            ("HTTP/1.1 200 OK\r\nage: 1\r\n", None),
        ] {
            let found = head_to_keep(written.as_bytes());
            let expected = expected.map(|(head, closes)| (head.as_bytes(), closes));
            assert_eq!(found, expected, "{written:?}");
        }
        let long = format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "a".repeat(LONGEST));
        assert_eq!(head_to_keep(long.as_bytes()), None);
    }

    /// Takes so many bytes at once, and then nothing for a look.
    struct Narrow {
        most: usize,
        taken: Vec<u8>,
        is_full: bool,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.is_full = !self.is_full;
            if !self.is_full {
                return Poll::Pending;
            }
            let taken = bytes.len().min(self.most);
            self.taken.extend_from_slice(&bytes[..taken]);
            Poll::Ready(Ok(taken))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            self.poll_write(cx, &all)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn an_answer_goes_on_where_it_stopped() {
        let body =
            crate::body::StoredBody::new(vec![Bytes::from_static(b"abc"), Bytes::from_static(b"defg")]);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for most in 1..12 {
            let mut repeat = Repeat { first: Bytes::from_static(b"head"), body: body.read(), closes: false };
            let mut to = Narrow { most, taken: Vec::new(), is_full: false };
            for _ in 0..30 {
                if !repeat.is_out() {
                    let _moved = repeat.poll_write(&mut to, &mut cx);
                }
            }
            assert!(repeat.is_out());
            assert_eq!(to.taken, b"headabcdefg", "{most}");
        }
    }
}
