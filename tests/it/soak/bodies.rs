//! Bodies that follow from their URLs alone, so that whoever gets one can tell every byte of it.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A prime, so that a body's place in the block tells one URL from another.
const BLOCK: usize = 1_048_583;

/// How often a size is drawn (in hundredths), and below what.
const SIZES: [(u32, usize); 6] =
    [(5, 1), (40, 1 << 10), (35, 16 << 10), (15, 128 << 10), (4, 1 << 20), (1, 3 << 20)];

/// A block of random bytes. A body is what stands from some place on, over its end to its beginning.
pub(super) struct Bodies(Vec<u8>);

impl Bodies {
    pub(super) fn new() -> Self {
        let mut random = StdRng::seed_from_u64(1);
        Self((0..BLOCK).map(|_| random.random()).collect())
    }

    /// The size that a URL names: it stands behind the last slash.
    pub(super) fn size(path: &str) -> usize {
        path.rsplit('/').next().and_then(|size| size.parse().ok()).expect("a path of ours")
    }

    /// At most `most` bytes of a path's body from `at` on, as they lie in the block.
    pub(super) fn part(&self, path: &str, at: usize, most: usize) -> &[u8] {
        let start = (place(path) + at) % BLOCK;
        let length = most.min(Self::size(path) - at).min(BLOCK - start);
        &self.0[start..start + length]
    }

    /// Whether these are the bytes of a path's body from `at` on.
    pub(super) fn are(&self, path: &str, mut at: usize, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            if at >= Self::size(path) {
                return false;
            }
            let part = self.part(path, at, bytes.len());
            let Some(rest) = bytes.strip_prefix(part) else { return false };
            (at, bytes) = (at + part.len(), rest);
        }
        true
    }

    /// All of a path's body.
    pub(super) fn whole(&self, path: &str) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < Self::size(path) {
            all.extend_from_slice(self.part(path, all.len(), usize::MAX));
        }
        all
    }
}

/// FNV-1a.
fn place(path: &str) -> usize {
    let hash = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    (path.bytes().fold(0xcbf2_9ce4_8422_2325, hash) % BLOCK as u64) as usize
}

/// Mostly small, seldom a few MiB, now and then nothing.
pub(super) fn draw_size(random: &mut StdRng) -> usize {
    let mut share = random.random_range(0..100);
    for (hundredths, below) in SIZES {
        if share < hundredths {
            return random.random_range(below / 4..below);
        }
        share -= hundredths;
    }
    unreachable!("the shares are a hundred")
}
