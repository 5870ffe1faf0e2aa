//! The stored responses of one key.

use std::ops::Deref;
use std::sync::Arc;

use super::key::CacheKey;
use super::response::StoredResponse;
use crate::policy::Candidate;

/// That a response was the only one under its key, without a hold on it.
#[derive(Clone, Debug)]
pub struct Sight {
    key: CacheKey,
    number: u32,
    /// The count of changes of its key's part of the store, from before the last look that found it still.
    pub(super) changes: Option<u32>,
}

impl Sight {
    pub(super) fn key(&self) -> &CacheKey {
        &self.key
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
    One(StoredResponse),
    Many(Arc<Vec<StoredResponse>>),
}

impl Deref for Candidates {
    type Target = [StoredResponse];

    fn deref(&self) -> &Self::Target {
        match &self.0 {
            List::None => &[],
            List::One(only) => std::slice::from_ref(only),
            List::Many(many) => many.as_slice(),
        }
    }
}

impl FromIterator<StoredResponse> for Candidates {
    fn from_iter<T: IntoIterator<Item = StoredResponse>>(responses: T) -> Self {
        let mut responses: Vec<_> = responses.into_iter().collect();
        Self(match responses.len() {
            0 => List::None,
            1 => responses.pop().map_or(List::None, List::One),
            _ => List::Many(Arc::new(responses)),
        })
    }
}

impl Candidates {
    /// The text of their key, if there are any.
    pub fn url(&self) -> Option<&str> {
        self.first().map(StoredResponse::url)
    }

    /// The only one of them, if it is: to be recognised when it is looked up again.
    pub fn sight(&self, key: &CacheKey) -> Option<Sight> {
        let [only] = &**self else { return None };
        Some(Sight { key: key.clone(), number: only.number(), changes: None })
    }

    /// The response that was seen, if it is the only one still, and is not marked as changed.
    pub(super) fn still(self, sight: &Sight) -> Option<StoredResponse> {
        match self.0 {
            List::One(only) => (only.number() == sight.number && !only.marked_stale()).then_some(only),
            List::None | List::Many(_) => None,
        }
    }

    /// Notes that they are used in this tick. One stands for all: they go together.
    pub(super) fn touch(&self, tick: u32) {
        if let Some(first) = self.first() {
            first.touch(tick);
        }
    }

    /// How many ticks ago they were last used.
    pub(super) fn unused_for(&self, tick: u32) -> u32 {
        self.first().map_or(0, |first| first.unused_for(tick))
    }

    /// Whether these are the very same ones as `others`.
    pub fn are(&self, others: &Self) -> bool {
        self.len() == others.len() && self.iter().zip(others.iter()).all(|(a, b)| a.is(b))
    }

    /// These and `response`, which takes the place of `replaces` and of those with equal selecting fields.
    /// The oldest go when there are more than `variants`, or when all weigh more than `most`.
    pub(super) fn with(
        &self,
        response: &StoredResponse,
        replaces: Option<&StoredResponse>,
        variants: usize,
        most: u64,
    ) -> Self {
        if self.is_empty() {
            return Self(List::One(response.clone()));
        }
        let mut weight = response.weight();
        let others = self.iter().filter(|other| {
            other.head().selecting != response.head().selecting
                && !replaces.is_some_and(|replaced| replaced.is(other))
        });
        let others = others.take(variants.saturating_sub(1)).take_while(|other| {
            weight += other.weight();
            weight <= most
        });
        std::iter::once(response).chain(others).cloned().collect()
    }

    /// Whether one of these, with equal selecting fields, is newer than `response`. An update of `replaces` is as
    /// old as that: anything else that lies in its place came later. Of others, what was asked for after
    /// `response` had come is newer, however long the body of `response` has taken since.
    pub(super) fn overtake(&self, response: &StoredResponse, replaces: Option<&StoredResponse>) -> bool {
        let head = response.head();
        self.iter().filter(|other| other.head().selecting == head.selecting).any(|other| {
            if let Some(updated) = replaces {
                return !updated.is(other);
            }
            let other = other.head();
            let asked = other.response_time.mono.saturating_sub(i64::from(other.response_delay));
            other.is_complete() && asked > head.response_time.mono
        })
    }

    /// These but `response`.
    pub(super) fn without(&self, response: &StoredResponse) -> Self {
        self.iter().filter(|other| !other.is(response)).cloned().collect()
    }

    /// The weight of all.
    pub(super) fn weight(&self) -> u64 {
        self.iter().map(StoredResponse::weight).sum()
    }
}
