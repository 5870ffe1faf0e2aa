//! A stored response in one allocation: what is known of it, its URL, its fields, and its body if that is small.
//!
//! ```text
//!  count | Parts | length | URL | fields | body of at most SMALL bytes
//! ```
//!
//! Most of what is stored is small, and each allocation of its own costs a counted pointer, malloc's header and the
//! rest of its size class, and a cold line of memory whenever it is read. A larger body lies in pieces of its own,
//! and so does a part of one: what it is joined to would keep more of it alive than its bytes.

use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use triomphe::ThinArc;

use super::key::CacheKey;
use crate::body::{Reservation, StoredBody};
use crate::policy::{Candidate, FieldLines, Head, Metadata, StoredHead};

/// Bytes up to which a body lies behind its head. A validation copies it, which takes a tenth of a microsecond.
const SMALL: u64 = 4096;

/// What a stored response costs beyond its body, its URL, its fields and [`Parts`], in bytes: moka's node,
/// its table, the counted references, and malloc's headers. Measured: see `bytes_retained_by_small_responses`.
const OVERHEAD: u64 = 420;
/// What each piece of a larger body costs beyond its bytes: its owner, its account, its place in the list, and
/// malloc's headers.
const OVERHEAD_OF_A_PIECE: u64 = 128;

/// The bit of the mark. Some 68 years of seconds are left for the tick.
const STALE: u32 = 1 << 31;

/// The number of the next response that is made. It comes round after 2^32 of them: it tells apart what was made within
/// seconds, and nothing else asks for it.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// What a thread keeps for putting responses together.
const KEPT: usize = 8192;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A response that is kept, or may be. Immutable, but for the mark; cloning counts a reference.
#[derive(Clone)]
pub struct StoredResponse(ThinArc<Parts, u8>);

struct Parts {
    metadata: Metadata,
    // Pays for all but a body that lies elsewhere, which pays for itself. None of what is not stored.
    account: Option<Reservation>,
    // A body that does not lie behind the head: a larger one, a part, or of what nobody pays for.
    body: Option<Box<StoredBody>>,
    // Bytes of the URL, and of the fields behind it.
    url: u32,
    fields: u32,
    number: u32,
    // The tick in which it was last used, and whether it is marked as changed: see `STALE`.
    used: AtomicU32,
}

impl StoredResponse {
    /// A response under this key. `account` pays for its [`cost`].
    pub(super) fn new(
        key: &CacheKey,
        head: StoredHead,
        body: StoredBody,
        account: Option<Reservation>,
    ) -> Self {
        let StoredHead { fields, metadata } = head;
        let (url, fields) = (key.as_str().as_bytes(), fields.lines().as_bytes());
        // Neither is longer than a head may be, which is far less than 4 GiB.
        let mut parts = Parts {
            metadata,
            account,
            body: None,
            url: url.len() as u32,
            fields: fields.len() as u32,
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            used: AtomicU32::new(0),
        };
        SCRATCH.with_borrow_mut(|bytes| {
            bytes.clear();
            bytes.extend_from_slice(url);
            bytes.extend_from_slice(fields);
            // What nobody pays for holds on to the body that is there.
            if parts.account.is_some() && lies_with_head(&parts.metadata, body.len()) {
                body.read().for_each(|piece| bytes.extend_from_slice(&piece));
            } else {
                parts.body = Some(Box::new(body));
            }
            let response = Self(ThinArc::from_header_and_slice(parts, bytes));
            bytes.clear();
            bytes.shrink_to(KEPT);
            response
        })
    }

    /// The text of its key.
    pub fn url(&self) -> &str {
        let url = self.bytes().get(..self.parts().url as usize);
        // It was a text's.
        url.and_then(|url| std::str::from_utf8(url).ok()).unwrap_or_default()
    }

    /// Its body, which keeps a small one's whole response alive. Copies no byte.
    pub fn body(&self) -> StoredBody {
        match &self.parts().body {
            Some(body) => (**body).clone(),
            None if self.small().is_empty() => StoredBody::EMPTY,
            None => Bytes::from_owner(Small(self.clone())).into(),
        }
    }

    /// Whether it lies under this key.
    pub(super) fn is_of(&self, key: &CacheKey) -> bool {
        self.bytes().get(..self.parts().url as usize) == Some(key.as_str().as_bytes())
    }

    /// Whether it is the very same as `other`.
    pub fn is(&self, other: &Self) -> bool {
        std::ptr::eq(self.parts(), other.parts())
    }

    /// A number that no other of 2^32 responses in a row has.
    pub(super) fn number(&self) -> u32 {
        self.parts().number
    }

    /// Marks it as changed at the origin: it is validated before it is used again.
    pub(super) fn mark_stale(&self) {
        self.parts().used.fetch_or(STALE, Ordering::Relaxed);
    }

    /// Notes that it is used in this tick.
    pub(super) fn touch(&self, tick: u32) {
        let used = &self.parts().used;
        let before = used.load(Ordering::Relaxed);
        // Written seldom: others read the same line. Between its mark and the tick, the mark counts.
        if before & !STALE != tick & !STALE {
            let _raced = used.compare_exchange(
                before,
                before & STALE | tick & !STALE,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
        }
    }

    /// How many ticks ago it was last used.
    pub(super) fn unused_for(&self, tick: u32) -> u32 {
        tick.wrapping_sub(self.parts().used.load(Ordering::Relaxed)) & !STALE
    }

    /// Bytes that it takes, all counted. Of what is not stored, those of a body that others may have stored.
    pub fn weight(&self) -> u64 {
        let elsewhere = self.parts().body.as_ref().map_or(0, |body| body.len());
        self.parts().account.as_ref().map_or(0, Reservation::bytes) + elsewhere
    }

    fn parts(&self) -> &Parts {
        &self.0.header.header
    }

    fn bytes(&self) -> &[u8] {
        &self.0.slice
    }

    fn small(&self) -> &[u8] {
        let parts = self.parts();
        self.bytes().get(parts.url as usize + parts.fields as usize..).unwrap_or_default()
    }
}

impl Candidate for StoredResponse {
    fn head(&self) -> Head<'_> {
        let parts = self.parts();
        let fields =
            self.bytes().get(parts.url as usize..).and_then(|rest| rest.get(..parts.fields as usize));
        Head::new(FieldLines::from_bytes(fields.unwrap_or_default()), &parts.metadata)
    }

    fn marked_stale(&self) -> bool {
        self.parts().used.load(Ordering::Relaxed) & STALE != 0
    }

    fn length(&self) -> u64 {
        self.parts().body.as_ref().map_or(self.small().len() as u64, |body| body.len())
    }
}

impl fmt::Debug for StoredResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredResponse")
            .field("url", &self.url())
            .field("head", &self.head())
            .field("length", &self.length())
            .field("stale", &self.marked_stale())
            .finish_non_exhaustive()
    }
}

/// A response, as what owns the bytes of its small body.
struct Small(StoredResponse);

impl AsRef<[u8]> for Small {
    fn as_ref(&self) -> &[u8] {
        self.0.small()
    }
}

/// Whether a body of this length is kept with its head: a small one, and no part.
pub fn lies_with_head(metadata: &Metadata, length: u64) -> bool {
    length <= SMALL && metadata.is_complete()
}

/// Bytes that a stored response is to pay for, a small body among them, and one of `pieces` pieces of its own not: that
/// has paid for its bytes.
pub(super) fn cost(head: &StoredHead, key: &CacheKey, length: u64, pieces: usize) -> u64 {
    let body = if lies_with_head(head, length) { length } else { OVERHEAD_OF_A_PIECE * pieces as u64 };
    let head = size_of::<Parts>() + head.fields().weight() + head.metadata.weight();
    OVERHEAD + head as u64 + key.as_str().len() as u64 + body
}
