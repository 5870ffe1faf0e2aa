//! A response on its way into the store, read by its clients meanwhile.
//!
//! ```text
//!            no room, too large            finish: Err(why)
//!   storing ────────────────────► passing ──────────────────►
//!      │ finish: Ok(the stored response), or Err(Superseded)
//!      ▼
//! ```
//!
//! Either way the readers get all bytes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::HeaderMap;

use super::Inner;
use super::generation::Generation;
use super::key::CacheKey;
use super::response::{StoredResponse, cost};
use crate::body::{self, Gone, Reader, Reservation, SharedBody, Writer};
use crate::field::status::ProxyError;
use crate::policy::{Reason, StoredHead};

/// Receives a response's body. Dropped before it is finished, its readers see an error.
pub struct Fill {
    key: CacheKey,
    generation: Generation,
    head: StoredHead,
    writer: Writer,
    shared: SharedBody,
    // Pays for all but the body.
    account: Reservation,
    // Bytes that the body may have.
    length: Option<u64>,
    limit: u64,
    refused: Option<Reason>,
    store: InFlight,
}

// Counts among the fills under way.
struct InFlight(Arc<Inner>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.filling.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Fill {
    pub(super) fn begin(
        store: &Arc<Inner>,
        key: &CacheKey,
        generation: Generation,
        head: StoredHead,
        length: Option<u64>,
    ) -> Result<Self, Reason> {
        if !store.generations.holds(key, generation) {
            return Err(Reason::Superseded);
        }
        let (mut account, limit) = store.room(key, &head, length)?;
        let purse = account.split(length.unwrap_or(0));
        let (writer, shared) = body::shared(&store.figures.load().body, length, Some(purse));
        store.filling.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            key: key.clone(),
            generation,
            head,
            writer,
            shared,
            account,
            length,
            limit,
            refused: None,
            store: InFlight(Arc::clone(store)),
        })
    }

    /// The head under which it will be stored.
    pub fn head(&self) -> &StoredHead {
        &self.head
    }

    /// One more reader, from the beginning; `None` when the body passes through.
    pub fn reader(&self) -> Option<Reader> {
        self.shared.reader()
    }

    /// Where further readers come from.
    pub fn shared(&self) -> &SharedBody {
        &self.shared
    }

    /// Readers that are there.
    pub fn readers(&self) -> usize {
        self.writer.readers()
    }

    /// Resolves when there is no reader (left). To be awaited beside the origin's next frame.
    pub async fn unread(&self) {
        self.writer.unread().await;
    }

    /// Bytes still to come, where the length is known.
    pub fn remaining(&self) -> Option<u64> {
        self.writer.remaining()
    }

    /// Bytes that have come.
    pub fn written(&self) -> u64 {
        self.writer.written()
    }

    /// Why it is no longer going to be stored, if it is not.
    pub fn refused(&self) -> Option<Reason> {
        self.refused
    }

    /// Hands a frame to the readers and keeps it, and waits where the readers' pace demands it. [`Gone`]: it
    /// is not being stored, and nobody reads it.
    pub async fn push(&mut self, frame: Bytes) -> Result<(), Gone> {
        if self.refused.is_none()
            && let Err(reason) = self.admit(frame.len() as u64)
        {
            self.refused = Some(self.store.0.refused(reason));
            self.writer.pass_through();
        }
        self.writer.push(frame).await
    }

    fn admit(&mut self, bytes: u64) -> Result<(), Reason> {
        if self.writer.written().saturating_add(bytes) > self.limit {
            // More than Content-Length said: whatever it is, it is not to be kept.
            return Err(if self.length.is_some() { Reason::Framing } else { Reason::TooLarge });
        }
        let writer = &mut self.writer;
        self.store.0.retry(|| writer.provide(bytes).then_some(())).ok_or(Reason::NoRoom)
    }

    /// The body is whole: it is stored, and after that its readers see its end. The errors say why it was not
    /// stored; the readers get all of it even so, unless it is shorter than was announced.
    pub fn finish(self, trailers: Option<HeaderMap>) -> Result<StoredResponse, Reason> {
        let Self { key, generation, head, mut writer, mut account, length, refused, store, .. } = self;
        let inner = &store.0;
        if length.is_some_and(|length| writer.written() < length) {
            writer.fail(body::Error::new(
                ProxyError::HttpResponseIncomplete,
                "the response is shorter than its Content-Length",
            ));
            return Err(Reason::Incomplete);
        }
        let stored = match (refused, writer.seal()) {
            (None, Some(body)) => {
                let cost = cost(&head, &key, body.len(), body.pieces());
                let paid = inner.retry(|| account.grow_to(cost).then_some(()));
                paid.ok_or(Reason::NoRoom)
                    .and_then(|()| {
                        account.shrink_to(cost);
                        let response = StoredResponse::new(&key, head, body, Some(account));
                        inner.commit(&key, generation, &response, None).map(|()| response)
                    })
                    .map_err(|reason| inner.refused(reason))
            }
            (refused, _) => Err(refused.unwrap_or(Reason::NoRoom)),
        };
        writer.finish(trailers);
        stored
    }

    /// The body is whole, but not what its head promised: the readers get all of it, and nothing is stored.
    pub fn discard(self, trailers: Option<HeaderMap>) {
        drop(self.writer.finish(trailers));
    }

    /// The body broke off: readers see `error` after what has come, and nothing is stored.
    pub fn fail(self, error: body::Error) {
        self.writer.fail(error);
    }

    /// Gives the body up unless somebody reads it. After true, nothing may be pushed any more.
    pub fn fail_unread(&mut self, error: body::Error) -> bool {
        self.writer.fail_unread(error)
    }
}

impl std::fmt::Debug for Fill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fill")
            .field("key", &self.key)
            .field("body", &self.shared)
            .field("refused", &self.refused)
            .finish_non_exhaustive()
    }
}
