//! Bytes that are kept: the body of a stored response, ranges of it, and several of them in a row.
//!
//! A [`StoredBody`] is a window on shared pieces. Slicing and concatenating copy nothing. The pieces carry
//! their own reservations (see `builder`), so the ledger counts them until the last slice anywhere is gone,
//! be it in the write queue of a slow connection.

use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf, Bytes};

/// A stored body, or a range of one. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StoredBody(Pieces);

// Most bodies are one piece: these need no list, and no allocation for it.
#[derive(Clone, Debug)]
enum Pieces {
    One(Bytes),
    Many(Box<Window>),
}

/// The bytes from `start` to `end` of several pieces.
#[derive(Clone, Debug)]
struct Window {
    pieces: Arc<[Bytes]>,
    start: u64,
    end: u64,
}

impl Default for StoredBody {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl StoredBody {
    /// No bytes.
    pub const EMPTY: Self = Self(Pieces::One(Bytes::new()));

    /// The body made of `pieces` in order.
    pub fn new(mut pieces: Vec<Bytes>) -> Self {
        pieces.retain(|piece| !piece.is_empty());
        if pieces.len() < 2 {
            return Self(Pieces::One(pieces.pop().unwrap_or_default()));
        }
        let end = pieces.iter().map(|piece| piece.len() as u64).sum();
        Self(Pieces::Many(Box::new(Window { pieces: pieces.into(), start: 0, end })))
    }

    /// Bytes in it.
    pub fn len(&self) -> u64 {
        match &self.0 {
            Pieces::One(bytes) => bytes.len() as u64,
            Pieces::Many(window) => window.end - window.start,
        }
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// In how many pieces its memory lies.
    pub fn pieces(&self) -> usize {
        match &self.0 {
            Pieces::One(bytes) => usize::from(!bytes.is_empty()),
            Pieces::Many(window) => window.pieces.len(),
        }
    }

    /// The bytes at `range`, which is cut to what there is. Copies nothing.
    #[must_use]
    pub fn slice(&self, range: Range<u64>) -> Self {
        let from = range.start.min(self.len());
        let to = range.end.clamp(from, self.len());
        if from == to {
            return Self::EMPTY;
        }
        match &self.0 {
            Pieces::One(bytes) => Self(Pieces::One(bytes.slice(from as usize..to as usize))),
            Pieces::Many(window) => {
                let Window { pieces, start, .. } = &**window;
                let slice = Window { pieces: Arc::clone(pieces), start: start + from, end: start + to };
                Self(Pieces::Many(Box::new(slice)))
            }
        }
    }

    /// All of `parts` in a row. Copies nothing.
    pub fn concat(parts: &[Self]) -> Self {
        match parts {
            [only] => only.clone(),
            _ => Self::new(parts.iter().flat_map(Self::read).collect()),
        }
    }

    /// Reads it from the beginning.
    pub fn read(&self) -> Stored {
        self.clone().into_read()
    }

    /// The same, which gives up this hold on it.
    pub(crate) fn into_read(self) -> Stored {
        match self.0 {
            Pieces::One(bytes) => {
                Stored { left: bytes.len() as u64, rest: Rest::One(bytes), index: 0, offset: 0 }
            }
            Pieces::Many(window) => {
                let Window { pieces, start, end } = *window;
                let mut stored = Stored { left: end - start, rest: Rest::Many(pieces), index: 0, offset: 0 };
                stored.seek(start);
                stored
            }
        }
    }

    /// All bytes in one piece; copies when there are several.
    pub fn to_bytes(&self) -> Bytes {
        match &self.0 {
            Pieces::One(bytes) => bytes.clone(),
            Pieces::Many(_) => {
                let mut all = Vec::with_capacity(self.len() as usize);
                self.read().for_each(|piece| all.extend_from_slice(&piece));
                all.into()
            }
        }
    }

    /// Its only piece, or itself when there are several.
    pub(super) fn into_one(self) -> Result<Bytes, Self> {
        match self.0 {
            Pieces::One(bytes) => Ok(bytes),
            many @ Pieces::Many(_) => Err(Self(many)),
        }
    }
}

impl From<Bytes> for StoredBody {
    fn from(bytes: Bytes) -> Self {
        Self(Pieces::One(bytes))
    }
}

/// A place in a [`StoredBody`]: yields what follows, piece by piece, none of them empty.
#[derive(Clone, Debug)]
pub struct Stored {
    rest: Rest,
    // Where the next byte is: in which piece, and where in it.
    index: usize,
    offset: usize,
    left: u64,
}

#[derive(Clone, Debug)]
enum Rest {
    One(Bytes),
    Many(Arc<[Bytes]>),
}

impl Stored {
    /// Bytes still to come.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The same place, `bytes` further on.
    #[must_use]
    pub fn advanced(mut self, bytes: u64) -> Self {
        self.pass(bytes);
        self
    }

    fn pass(&mut self, bytes: u64) {
        let bytes = bytes.min(self.left);
        self.seek(bytes);
        self.left -= bytes;
        if self.left == 0 {
            // What is read keeps nothing from being freed.
            *self = Self { rest: Rest::One(Bytes::new()), index: 0, offset: 0, left: 0 };
        }
    }

    /// What follows, at most so many bytes of it, and goes on behind that. Copies nothing.
    #[must_use]
    pub fn cut(&mut self, most: u64) -> Self {
        let taken = Self { left: self.left.min(most), ..self.clone() };
        self.pass(taken.left);
        taken
    }

    fn seek(&mut self, mut bytes: u64) {
        while let Some(piece) = self.pieces().get(self.index) {
            let rest = (piece.len() - self.offset) as u64;
            if bytes < rest {
                self.offset += bytes as usize;
                return;
            }
            bytes -= rest;
            self.index += 1;
            self.offset = 0;
        }
    }

    fn pieces(&self) -> &[Bytes] {
        match &self.rest {
            Rest::One(bytes) => std::slice::from_ref(bytes),
            Rest::Many(pieces) => pieces,
        }
    }
}

impl Iterator for Stored {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.left == 0 {
            return None;
        }
        let piece = self.pieces().get(self.index)?;
        let rest = piece.len() - self.offset;
        let take = rest.min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let bytes =
            if take == piece.len() { piece.clone() } else { piece.slice(self.offset..self.offset + take) };
        self.left -= take as u64;
        self.index += 1;
        self.offset = 0;
        if self.left == 0 {
            self.rest = Rest::One(Bytes::new());
        }
        Some(bytes)
    }
}

/// As one buffer: several pieces leave in one write.
impl Buf for Stored {
    fn remaining(&self) -> usize {
        usize::try_from(self.left).unwrap_or(usize::MAX)
    }

    fn chunk(&self) -> &[u8] {
        let piece = self.pieces().get(self.index).map_or(&[][..], |piece| &piece[self.offset..]);
        &piece[..piece.len().min(self.remaining())]
    }

    fn advance(&mut self, bytes: usize) {
        self.pass(bytes as u64);
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let (mut left, mut offset) = (self.remaining(), self.offset);
        let pieces = self.pieces().get(self.index..).unwrap_or_default();
        let mut filled = 0;
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            let piece = &piece[offset..];
            offset = 0;
            let piece = &piece[..piece.len().min(left)];
            if piece.is_empty() {
                break;
            }
            left -= piece.len();
            *slice = IoSlice::new(piece);
            filled += 1;
        }
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn body(pieces: &[&'static [u8]]) -> StoredBody {
        StoredBody::new(pieces.iter().map(|piece| Bytes::from_static(piece)).collect())
    }

    #[track_caller]
    fn check(body: &StoredBody, expected: &[u8]) {
        assert_eq!(body.len(), expected.len() as u64);
        assert_eq!(body.to_bytes(), expected);
        assert!(body.read().all(|piece| !piece.is_empty()), "no piece is empty");
    }

    #[test]
    fn a_slice_is_the_bytes_of_its_range() {
        let whole = body(&[b"abc", b"", b"defg", b"h"]);
        check(&whole, b"abcdefgh");
        check(&whole.slice(0..3), b"abc");
        check(&whole.slice(2..5), b"cde");
        check(&whole.slice(7..8), b"h");
        check(&whole.slice(3..u64::MAX), b"defgh");
        check(&whole.slice(8..9), b"");
        check(&whole.slice(5..5), b"");
        check(&whole.slice(1..8).slice(1..4).slice(1..2), b"d");
        check(&body(&[b"abcdef"]).slice(2..4), b"cd");
        check(&StoredBody::EMPTY.slice(0..4), b"");
    }

    #[test]
    fn a_concatenation_is_its_parts_in_a_row() {
        let (one, two) = (body(&[b"abc", b"def"]), body(&[b"ghi"]));
        check(&StoredBody::concat(&[]), b"");
        check(
            &StoredBody::concat(&[one.slice(1..5), two.slice(1..2), StoredBody::EMPTY, one]),
            b"bcdehabcdef",
        );
    }

    proptest! {
        #[test]
        fn any_slice_of_any_pieces_reads_as_the_same_bytes(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..8),
            from in 0u64..100, length in 0u64..100, skip in 0u64..100, most in 1u64..50, wrote in 1u64..20,
        ) {
            let all = pieces.concat();
            let body = StoredBody::new(pieces.into_iter().map(Bytes::from).collect());
            let start = (from as usize).min(all.len());
            let end = ((from + length) as usize).min(all.len());
            let slice = body.slice(from..from + length);
            prop_assert_eq!(&slice.to_bytes()[..], &all[start..end]);
            let rest: Vec<u8> = slice.read().advanced(skip).flatten().collect();
            let expected = &all[(start + skip as usize).min(end)..end];
            prop_assert_eq!(&rest[..], expected);
            // As buffers, written in parts.
            let mut reader = slice.read().advanced(skip);
            let mut written = Vec::new();
            loop {
                let mut buffer = reader.cut(most);
                if buffer.left() == 0 {
                    break;
                }
                while buffer.has_remaining() {
                    let mut slices = [IoSlice::new(&[]); 3];
                    let filled = buffer.chunks_vectored(&mut slices);
                    prop_assert!(filled > 0);
                    let all: Vec<u8> = slices.iter().take(filled).flat_map(|slice| slice.to_vec()).collect();
                    prop_assert_eq!(buffer.chunk(), &slices[0][..]);
                    let now = (wrote as usize).min(all.len());
                    written.extend_from_slice(&all[..now]);
                    buffer.advance(now);
                }
            }
            prop_assert_eq!(&written[..], expected);
        }
    }
}
