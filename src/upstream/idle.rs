//! An origin's idle connections, by the thread that serves them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::pool::Link;
use super::stats::Idling;
use crate::worker::{self, Each};

/// A connection between two requests.
pub(super) struct Idle {
    pub(super) link: Link,
    /// Rises with each connection that becomes idle: the clock does not tell apart those of one tick.
    pub(super) number: u64,
    /// Not to be used from then on.
    pub(super) until: i64,
    pub(super) _counted: Idling,
}

impl Idle {
    /// Whether it may stay: its time has not passed, and its origin has neither closed it nor spoken unasked.
    pub(super) fn may_stay(&mut self, now: i64) -> bool {
        self.link.driver.look();
        // It is to wake nobody any more, and to hold nobody's task.
        self.link.timer = None;
        self.until > now && self.link.sender.is_ready()
    }
}

/// One list for each of the threads that serve ([`crate::worker`]), with the connections whose sockets its runtime knows:
/// they wake no other thread, and threads seldom meet at a lock. In each, the one used last is last.
pub(super) struct Lists {
    lists: Each<Mutex<VecDeque<Idle>>>,
    /// In all of them.
    len: AtomicUsize,
}

impl Lists {
    pub(super) fn new() -> Self {
        Self { lists: Each::default(), len: AtomicUsize::new(0) }
    }

    /// Adds one. Gives the oldest one where there are more than `most` by then.
    pub(super) fn push(&self, idle: Idle, most: usize) -> Option<Idle> {
        let mut list = self.lists.of(idle.link.worker).lock();
        list.push_back(idle);
        let len = self.len.fetch_add(1, Ordering::Relaxed) + 1;
        drop(list);
        if len > most { self.oldest() } else { None }
    }

    /// The one used last of this thread's, else of another's: that one is this thread's from now on.
    pub(super) fn pop(&self) -> Option<Idle> {
        let (own, lists) = (worker::current(), self.lists.len());
        let taken = |at: usize| self.take(self.lists.of(at), VecDeque::pop_back);
        let mut idle = (own..own + lists).find_map(taken)?;
        idle.link.move_to(own);
        Some(idle)
    }

    /// The one that has been idle for longest.
    pub(super) fn oldest(&self) -> Option<Idle> {
        let number =
            self.lists.iter().filter_map(|list| list.lock().front().map(|idle| idle.number)).min()?;
        // Where it has gone meanwhile, there is one less.
        self.up_to(number)
    }

    /// One of those that became idle no later than the one of this number.
    pub(super) fn up_to(&self, number: u64) -> Option<Idle> {
        let old = |list: &mut VecDeque<Idle>| {
            if list.front()?.number <= number { list.pop_front() } else { None }
        };
        self.lists.iter().find_map(|list| self.take(list, old))
    }

    pub(super) fn numbers(&self) -> Vec<u64> {
        let numbers =
            |list: &Mutex<VecDeque<Idle>>| list.lock().iter().map(|idle| idle.number).collect::<Vec<_>>();
        self.lists.iter().flat_map(numbers).collect()
    }

    /// Takes out those that may not stay, into `gone`.
    pub(super) fn retain(&self, mut stays: impl FnMut(&mut Idle) -> bool, gone: &mut Vec<Idle>) {
        for list in self.lists.iter() {
            let mut list = list.lock();
            let before = list.len();
            for mut idle in std::mem::take(&mut *list) {
                if stays(&mut idle) { list.push_back(idle) } else { gone.push(idle) }
            }
            self.len.fetch_sub(before - list.len(), Ordering::Relaxed);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len.load(Ordering::Relaxed) == 0
    }

    /// Takes one out of a list. Under its lock it is counted, too: never are there fewer than are taken.
    fn take(
        &self,
        list: &Mutex<VecDeque<Idle>>,
        pop: impl FnOnce(&mut VecDeque<Idle>) -> Option<Idle>,
    ) -> Option<Idle> {
        let mut list = list.lock();
        let idle = pop(&mut list)?;
        self.len.fetch_sub(1, Ordering::Relaxed);
        Some(idle)
    }
}
