//! Keys whose last response could not be shared: remembered for a while, so that requests for them don't queue.

use moka::sync::Cache as Table;

use super::Options;
use crate::clock::Moment;
use crate::store::CacheKey;

/// Keys remembered at most: beyond it the least recently used is forgotten, which costs one short queue.
const KEYS: u64 = 16_384;

/// Until when each key is remembered.
#[derive(Debug)]
pub(crate) struct Uncacheable(Table<CacheKey, i64, ahash::RandomState>);

impl Uncacheable {
    pub(crate) fn new() -> Self {
        Self(Table::builder().max_capacity(KEYS).build_with_hasher(ahash::RandomState::new()))
    }

    pub(crate) fn remember(&self, key: &CacheKey, now: Moment, options: &Options) {
        let memory = options.uncacheable_memory.as_millis() as i64;
        if memory > 0 {
            self.0.insert(key.clone(), now.mono.saturating_add(memory));
        }
    }

    pub(crate) fn remembers(&self, key: &CacheKey, now: Moment) -> bool {
        self.0.get(key).is_some_and(|until| now.mono < until)
    }

    pub(crate) fn forget(&self, key: &CacheKey) {
        if self.0.contains_key(key) {
            self.0.invalidate(key);
        }
    }
}
