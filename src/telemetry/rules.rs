//! Counts by rule of `access.rules`: as many names as a configuration has, and a bound on those of all reloads together.

use crate::access::Decision;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::metrics::{add, load};

/// The most rules that have series of their own; a scraper pays for all of them.
const MAX_RULES: usize = 1_000;

/// What is counted under none of them.
const OTHER: &str = "other";

/// By name: allowed, denied.
#[derive(Debug, Default)]
pub(super) struct RuleCounts(RwLock<BTreeMap<Arc<str>, [AtomicU64; 2]>>);

impl RuleCounts {
    pub(super) fn observe(&self, decision: &Decision) {
        let action = match decision {
            Decision::Allowed(_) => 0,
            Decision::Denied(_) => 1,
        };
        let name: &str = decision.rule();
        if let Some(counts) = self.0.read().get(name) {
            return add(&counts[action], 1);
        }
        let mut known = self.0.write();
        let name = if known.len() < MAX_RULES { name } else { OTHER };
        add(&known.entry(name.into()).or_default()[action], 1);
    }

    pub(super) fn sums(&self) -> Vec<(Arc<str>, [u64; 2])> {
        let known = self.0.read();
        known.iter().map(|(name, counts)| (Arc::clone(name), counts.each_ref().map(load))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::RuleName;

    #[test]
    fn many_names_make_a_bounded_number_of_series_and_lose_no_count() {
        let counts = RuleCounts::default();
        let total = MAX_RULES + 500;
        for number in 0..total {
            counts.observe(&Decision::Denied(RuleName::Given(format!("rule-{number}").into())));
        }
        let sums = counts.sums();
        assert_eq!(sums.len(), MAX_RULES + 1);
        assert_eq!(sums.iter().map(|(_, [_, denied])| denied).sum::<u64>(), total as u64);
        let other = sums.iter().find(|(name, _)| &**name == OTHER).map(|(_, counts)| *counts);
        assert_eq!(other, Some([0, 500]));
    }
}
