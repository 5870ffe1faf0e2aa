//! Answers that last: for a while, nothing but a change of what is stored makes another one of them.

use http::StatusCode;

use super::{Ask, Cache, Served};
use crate::body::{Body, StoredBody, metered};
use crate::clock::Moment;
use crate::policy::{self, Freshness, RequestFacts};
use crate::store::{CacheKey, Candidates, Sight};

/// Bytes of a body that are handed to the connection at once, before anything of the answer is written.
const MOST: u64 = metered::LAST;

/// Until when an answer is the same, to the byte, for whoever asks the same, by the same settings.
#[derive(Clone, Debug)]
pub struct Lasting {
    sight: Sight,
    from: Moment,
    until: Moment,
    has_content: bool,
}

impl Lasting {
    /// How long `served` lasts, which is what the only one of `candidates` answers as it is; `None` where it is that of
    /// this request alone.
    pub(super) fn of(
        ask: &Ask,
        facts: &RequestFacts<'_>,
        (key, candidates): (&CacheKey, &Candidates),
        freshness: &Freshness,
        served: &Served,
    ) -> Option<Box<Self>> {
        let has_content = match &served.body {
            Body::Empty => false,
            // The whole, and no part of it.
            body if served.status != StatusCode::PARTIAL_CONTENT => {
                let length = candidates.first().map(policy::Candidate::length)?;
                if body.exact_length() != Some(length) || length > MOST {
                    return None;
                }
                true
            }
            _ => return None,
        };
        // Not into another second of the wall clock: rules of access may have hours, and a response of ours a Date.
        let mut until = ask.now.plus(policy::unchanged_for(facts, freshness));
        until.wall = until.wall.min((ask.now.unix() + 1) * 1000);
        let lasting = Self { sight: candidates.sight(key)?, from: ask.now, until, has_content };
        lasting.lasts(ask.now).then(|| Box::new(lasting))
    }

    /// Whether time has not changed it: on neither clock, whichever of them was set.
    pub fn lasts(&self, now: Moment) -> bool {
        let Self { from, until, .. } = self;
        (from.wall..until.wall).contains(&now.wall) && (from.mono..until.mono).contains(&now.mono)
    }
}

impl Cache {
    /// The content of an answer that lasts still, where what is stored has not changed it either.
    pub fn again(&self, lasting: &mut Lasting) -> Option<StoredBody> {
        let stored = self.store.still(&mut lasting.sight)?;
        Some(if lasting.has_content { stored.body() } else { StoredBody::EMPTY })
    }

    /// Whether [`Self::again`] would give what it gave before. To the eviction policy this is no use of what is stored.
    pub fn is_unchanged(&self, lasting: &Lasting) -> bool {
        self.store.is_unchanged(&lasting.sight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body;
    use crate::field::target::Target;
    use crate::policy::testing::World;
    use crate::store::{self, Store};

    #[test]
    fn an_answer_lasts_while_neither_clock_says_otherwise() {
        let store = Store::new(&store::Options::of_capacity(1 << 20), &body::Options::default());
        let key = CacheKey::of(&Target::absolute(&"http://a/".parse().unwrap()).unwrap(), None);
        let head = World::default().stored(&[], 200, &[("cache-control", "max-age=60")]);
        let _kept = store.insert(&key, store.generation(), head, StoredBody::EMPTY);
        let sight = store.candidates(&key).sight(&key).unwrap();
        let at = |wall, mono| Moment { wall, mono };
        let lasting = Lasting { sight, from: at(5000, 100), until: at(5400, 500), has_content: false };
        for (wall, mono, expected) in [
            (5000, 100, true),
            (5399, 499, true),
            (5000, 499, true),
            (4999, 100, false),
            (5000, 99, false),
            (5400, 100, false),
            (5000, 500, false),
        ] {
            assert_eq!(lasting.lasts(at(wall, mono)), expected, "{wall} {mono}");
        }
    }
}
