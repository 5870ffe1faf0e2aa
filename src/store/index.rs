//! The stored responses of one key.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::key::CacheKey;
use crate::body::{Reservation, StoredBody};
use crate::policy::{Candidate, StoredHead};

/// What a stored response costs beyond its body, its head's weight and its key's text, in bytes: moka's node,
/// its table, the counted references, and malloc's headers. Measured: see `bytes_retained_by_small_responses`.
pub(super) const OVERHEAD: u64 = 740;
/// What each piece of a body costs beyond its bytes: its owner, its account, its place in the list, and
/// malloc's headers. The first is in [`OVERHEAD`].
const OVERHEAD_OF_A_PIECE: u64 = 128;

/// A response that is kept. Immutable, but for the mark.
#[derive(Debug)]
pub struct StoredResponse {
    /// Its head.
    pub head: StoredHead,
    /// Its body.
    pub body: StoredBody,
    stale: AtomicBool,
    // Pays for all but the body, which pays for itself.
    pub(super) account: Option<Reservation>,
}

impl StoredResponse {
    /// A response that is to be stored.
    pub fn new(head: StoredHead, body: StoredBody) -> Self {
        Self { head, body, stale: AtomicBool::new(false), account: None }
    }

    /// Marks it as changed at the origin: it is validated before it is used again. RFC 9111 section 4.3.5.
    pub fn mark_stale(&self) {
        self.stale.store(true, Ordering::Relaxed);
    }

    /// Bytes that it takes under this key, all counted.
    pub fn weight(&self, key: &CacheKey) -> u64 {
        overhead(&self.head, key, self.body.pieces()) + self.body.len()
    }
}

/// Bytes of a stored response besides its body.
pub(super) fn overhead(head: &StoredHead, key: &CacheKey, pieces: usize) -> u64 {
    let pieces = OVERHEAD_OF_A_PIECE * pieces.saturating_sub(1) as u64;
    OVERHEAD + pieces + head.weight() as u64 + key.as_str().len() as u64
}

impl Candidate for StoredResponse {
    fn head(&self) -> &StoredHead {
        &self.head
    }

    fn marked_stale(&self) -> bool {
        self.stale.load(Ordering::Relaxed)
    }

    fn length(&self) -> u64 {
        self.body.len()
    }
}

/// The stored responses of a key, the newest first.
#[derive(Clone, Debug, Default)]
pub struct Candidates(List);

// Most keys have one stored response: it needs no list, and no room for a wide pointer to one.
#[derive(Clone, Debug, Default)]
enum List {
    #[default]
    None,
    One(Arc<StoredResponse>),
    Many(Arc<Vec<Arc<StoredResponse>>>),
}

impl Deref for Candidates {
    type Target = [Arc<StoredResponse>];

    fn deref(&self) -> &Self::Target {
        match &self.0 {
            List::None => &[],
            List::One(only) => std::slice::from_ref(only),
            List::Many(many) => many.as_slice(),
        }
    }
}

impl FromIterator<Arc<StoredResponse>> for Candidates {
    fn from_iter<T: IntoIterator<Item = Arc<StoredResponse>>>(responses: T) -> Self {
        let mut responses: Vec<_> = responses.into_iter().collect();
        Self(match responses.len() {
            0 => List::None,
            1 => responses.pop().map_or(List::None, List::One),
            _ => List::Many(Arc::new(responses)),
        })
    }
}

impl Candidates {
    /// Whether these are the very same ones as `others`.
    pub fn are(&self, others: &Self) -> bool {
        self.len() == others.len() && self.iter().zip(others.iter()).all(|(a, b)| Arc::ptr_eq(a, b))
    }

    /// These and `response`, which takes the place of `replaces` and of those with equal selecting fields.
    /// The oldest go when there are more than `variants`, or when all weigh more than `most`. Gives the weight.
    pub(super) fn with(
        &self,
        key: &CacheKey,
        response: Arc<StoredResponse>,
        replaces: Option<&Arc<StoredResponse>>,
        variants: usize,
        most: u64,
    ) -> (Self, u64) {
        let mut weight = response.weight(key);
        if self.is_empty() {
            return (Self(List::One(response)), weight);
        }
        let others = self.iter().filter(|other| {
            other.head.selecting != response.head.selecting
                && !replaces.is_some_and(|replaced| Arc::ptr_eq(replaced, other))
        });
        let mut kept = vec![Arc::clone(&response)];
        for other in others.take(variants.saturating_sub(1)) {
            let sum = weight + other.weight(key);
            if sum > most {
                break;
            }
            weight = sum;
            kept.push(Arc::clone(other));
        }
        (kept.into_iter().collect(), weight)
    }

    /// Whether one of these, with equal selecting fields, is newer than `response`. An update of `replaces` is as
    /// old as that: anything else that lies in its place came later. Of others, what was asked for after
    /// `response` had come is newer, however long the body of `response` has taken since.
    pub(super) fn overtake(&self, response: &StoredResponse, replaces: Option<&Arc<StoredResponse>>) -> bool {
        let head = &response.head;
        self.iter().filter(|other| other.head.selecting == head.selecting).any(|other| match replaces {
            Some(updated) => !Arc::ptr_eq(updated, other),
            None => other.head.is_complete() && other.head.request_time.mono > head.response_time.mono,
        })
    }

    /// These but `response`.
    pub(super) fn without(&self, response: &Arc<StoredResponse>) -> Self {
        self.iter().filter(|other| !Arc::ptr_eq(other, response)).cloned().collect()
    }

    /// The weight of all.
    pub(super) fn weight(&self, key: &CacheKey) -> u64 {
        self.iter().map(|response| response.weight(key)).sum()
    }
}
