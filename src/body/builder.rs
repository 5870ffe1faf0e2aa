//! Puts the frames of a body, as they arrive, into memory that is worth keeping.
//!
//! hyper's frames are slices of its read buffer: one of 200 bytes pins 8 KiB of it, one of 64 KiB up to
//! 400 KiB. So every frame is copied on arrival into a piece of exactly its size, and pieces that add up to
//! a chunk are copied once more into one (see `chunk` for why). A body under 64 KiB ends as one piece on the
//! heap; where its length is known and it comes in one frame, that is one copy.
//!
//! The memory counts itself: what is stored of a chunk holds a share of the body's reservation, given back
//! when the last slice of it is dropped, wherever that is. What is copied together shares one account;
//! readers that still hold the smaller pieces keep them uncounted for as long as they write them out.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use parking_lot::Mutex;

use super::budget::Reservation;
use super::chunk::{self, Chunk};

/// Pieces of a chunk that are copied together before the chunk is full. An origin that sends one byte a
/// chunk costs 150 bytes of bookkeeping each until then.
const MOST_PIECES: usize = 64;

/// What the shared body has to do: take the last `replaces` pieces away, and add this one.
#[derive(Debug, PartialEq)]
pub(super) struct Step {
    pub(super) replaces: usize,
    pub(super) piece: Bytes,
}

/// The frames of one body, on their way into pieces.
#[derive(Debug)]
pub(super) struct Builder {
    length: Option<u64>,
    written: u64,
    // What is reserved for bytes that have not come yet.
    purse: Option<Reservation>,
    // The pieces of the chunk under construction, their sum, and their account.
    pieces: Vec<Bytes>,
    in_chunk: usize,
    account: Option<Arc<Mutex<Reservation>>>,
}

// Memory, and what accounts for it.
struct Owned {
    bytes: Memory,
    _account: Account,
}

enum Memory {
    Heap(Box<[u8]>),
    Chunk(Chunk),
}

enum Account {
    // Of a piece that is a whole chunk, or a whole body.
    Alone { _reservation: Reservation },
    // Of the pieces that make up a chunk, and of the chunk.
    Chunk { _reservation: Arc<Mutex<Reservation>> },
}

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        match &self.bytes {
            Memory::Heap(bytes) => bytes,
            Memory::Chunk(chunk) => chunk.as_ref(),
        }
    }
}

impl Memory {
    // A copy of `parts`, which are `length` bytes, in a chunk of `reservation`'s if it is one.
    fn of(parts: &[impl AsRef<[u8]>], length: usize, reservation: &Reservation) -> Self {
        if length == chunk::SIZE
            && let Some(mut chunk) = reservation.chunk()
        {
            let mut at = 0;
            for part in parts.iter().map(AsRef::as_ref) {
                chunk.as_mut()[at..at + part.len()].copy_from_slice(part);
                at += part.len();
            }
            return Self::Chunk(chunk);
        }
        Self::Heap(concat(parts, length))
    }
}

fn concat(parts: &[impl AsRef<[u8]>], length: usize) -> Box<[u8]> {
    let mut bytes = Vec::with_capacity(length);
    for part in parts {
        bytes.extend_from_slice(part.as_ref());
    }
    bytes.into_boxed_slice()
}

impl Builder {
    /// For a body of `length` bytes, where that is known; `purse` is what it may take of the ledger.
    pub(super) fn new(length: Option<u64>, purse: Option<Reservation>) -> Self {
        Self { length, written: 0, purse, pieces: Vec::new(), in_chunk: 0, account: None }
    }

    /// Bytes that were appended.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Sees to it that the next `bytes` are paid for; false when the ledger has not that many.
    pub(super) fn provide(&mut self, bytes: u64) -> bool {
        self.purse.as_mut().is_none_or(|purse| purse.grow_to(bytes))
    }

    /// Gives back all of the purse but `bytes`: the body is not to be kept.
    pub(super) fn release(&mut self, bytes: u64) {
        self.close();
        if let Some(purse) = &mut self.purse {
            purse.shrink_to(bytes);
        }
    }

    /// Copies a frame; `steps` receives what is to be done.
    pub(super) fn append(&mut self, mut frame: Bytes, steps: &mut Vec<Step>) {
        while !frame.is_empty() {
            let take = frame.len().min(chunk::SIZE - self.in_chunk);
            self.written += take as u64;
            let alone = self.pieces.is_empty() && (take == chunk::SIZE || self.length == Some(self.written));
            if alone {
                steps.push(Step { replaces: 0, piece: self.alone(&frame[..take]) });
            } else {
                let piece = self.part(&frame[..take]);
                self.pieces.push(piece.clone());
                self.in_chunk += take;
                steps.push(Step { replaces: 0, piece });
                if self.in_chunk == chunk::SIZE {
                    self.join(steps);
                    self.close();
                } else if self.pieces.len() == MOST_PIECES {
                    self.join(steps);
                }
            }
            frame.advance(take);
        }
    }

    /// Copies the last chunk's pieces together.
    pub(super) fn finish(&mut self, steps: &mut Vec<Step>) {
        if self.pieces.len() > 1 {
            self.join(steps);
        }
        self.close();
    }

    fn join(&mut self, steps: &mut Vec<Step>) {
        let piece = self.owned(&self.pieces, self.in_chunk);
        steps.push(Step { replaces: self.pieces.len(), piece: piece.clone() });
        self.pieces.clear();
        self.pieces.push(piece);
    }

    fn close(&mut self) {
        self.pieces.clear();
        self.in_chunk = 0;
        self.account = None;
    }

    // A piece that has an account of its own.
    fn alone(&mut self, bytes: &[u8]) -> Bytes {
        match &mut self.purse {
            None => Bytes::copy_from_slice(bytes),
            Some(purse) => {
                let reservation = purse.split(bytes.len() as u64);
                let (bytes, reservation) = match Memory::of(&[bytes], bytes.len(), &reservation) {
                    Memory::Heap(bytes) => match reservation.pay_for(bytes) {
                        Ok(paid) => return Bytes::from_owner(paid),
                        Err((reservation, bytes)) => (Memory::Heap(bytes), reservation),
                    },
                    chunk @ Memory::Chunk(_) => (chunk, reservation),
                };
                Bytes::from_owner(Owned { bytes, _account: Account::Alone { _reservation: reservation } })
            }
        }
    }

    // A piece that enters its bytes into the chunk's account.
    fn part(&mut self, bytes: &[u8]) -> Bytes {
        if let Some(purse) = &mut self.purse {
            let share = purse.split(bytes.len() as u64);
            match &self.account {
                None => self.account = Some(Arc::new(Mutex::new(share))),
                Some(account) => account.lock().merge(share),
            }
        }
        self.owned(&[bytes], bytes.len())
    }

    // A copy of `parts`, which are `length` bytes, on the chunk's account.
    fn owned(&self, parts: &[impl AsRef<[u8]>], length: usize) -> Bytes {
        match &self.account {
            None => Bytes::from(concat(parts, length)),
            Some(account) => {
                let bytes = Memory::of(parts, length, &account.lock());
                let account = Account::Chunk { _reservation: Arc::clone(account) };
                Bytes::from_owner(Owned { bytes, _account: account })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::Budget;
    use proptest::prelude::*;

    // What a shared body makes of the steps.
    fn apply(pieces: &mut Vec<Bytes>, steps: &mut Vec<Step>) {
        for step in steps.drain(..) {
            pieces.truncate(pieces.len() - step.replaces);
            pieces.push(step.piece);
        }
    }

    #[track_caller]
    fn check(length: Option<u64>, frames: &[usize], expected: &[usize]) {
        let budget = Budget::new(1 << 30);
        let total: usize = frames.iter().sum();
        let mut builder = Builder::new(length, budget.reserve(total as u64));
        let (mut pieces, mut steps, mut sent) = (Vec::new(), Vec::new(), Vec::new());
        for (n, frame) in frames.iter().enumerate() {
            let frame = vec![n as u8; *frame];
            sent.extend_from_slice(&frame);
            builder.append(frame.into(), &mut steps);
            apply(&mut pieces, &mut steps);
            assert_eq!(pieces.concat(), sent, "what was written can be read at once");
            assert!(pieces.len() <= sent.len() / chunk::SIZE + MOST_PIECES);
        }
        builder.finish(&mut steps);
        apply(&mut pieces, &mut steps);
        assert_eq!(pieces.concat(), sent);
        assert_eq!(pieces.iter().map(Bytes::len).collect::<Vec<_>>(), expected);
        assert_eq!(budget.used(), total as u64);
        drop(builder);
        assert_eq!(budget.used(), total as u64, "the pieces hold what they take");
        let last = pieces.pop().map(|piece| piece.slice(..1));
        drop(pieces);
        assert_eq!(budget.used(), expected.last().map_or(0, |last| *last as u64));
        drop(last);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn frames_end_in_chunks_of_a_fixed_size() {
        check(Some(0), &[], &[]);
        check(Some(1000), &[1000], &[1000]);
        check(None, &[1000], &[1000]);
        check(None, &[1000, 10, 1], &[1011]);
        check(Some(chunk::SIZE as u64), &[chunk::SIZE], &[chunk::SIZE]);
        check(None, &[chunk::SIZE + 1], &[chunk::SIZE, 1]);
        check(
            Some(300_000),
            &[300_000],
            &[chunk::SIZE, chunk::SIZE, chunk::SIZE, chunk::SIZE, 300_000 - 4 * chunk::SIZE],
        );
        check(None, &[100_000, 100_000], &[chunk::SIZE, chunk::SIZE, chunk::SIZE, 200_000 - 3 * chunk::SIZE]);
        check(Some(200), &[1; 200], &[200]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_frames_end_in_full_chunks_and_a_rest(frames in prop::collection::vec(1usize..40_000, 1..20), known: bool) {
            let total: usize = frames.iter().sum();
            let mut expected = vec![chunk::SIZE; total / chunk::SIZE];
            expected.extend(Some(total % chunk::SIZE).filter(|rest| *rest > 0));
            check(known.then_some(total as u64), &frames, &expected);
        }
    }
}
