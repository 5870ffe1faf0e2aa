//! The memory of large bodies: chunks of a fixed size, mapped apart from malloc's heaps.
//!
//! glibc's malloc gives every thread a heap of its own, and memory freed in one is not used by another: with
//! four threads storing bodies of all sizes, a ledger of 256 MiB had 536 MiB resident. Chunks that are mapped
//! by themselves go back to the system when they are freed; some are kept for the next body, since mapping
//! one costs its page faults. With them it is 270 MiB.

use std::sync::Arc;

use memmap2::MmapMut;
use parking_lot::Mutex;

/// Bytes in a chunk: large enough for one write to fill a socket's buffer, small enough that the rest of a
/// body, which lies on the heap in its exact size, and what a slice keeps alive are little.
pub(crate) const SIZE: usize = 64 << 10;

/// Idle chunks, kept at most: 32 MiB.
const MOST_IDLE: u64 = 512;
/// Of the bytes that a ledger allows, one part of so many may be idle on top.
const IDLE_SHARE: u64 = 32;

/// Chunks that nobody uses.
pub(super) struct Pool {
    idle: Mutex<Vec<MmapMut>>,
    most: usize,
}

impl Pool {
    /// For a ledger of `limit` bytes.
    pub(super) fn new(limit: u64) -> Self {
        let most = (limit / IDLE_SHARE / SIZE as u64).min(MOST_IDLE) as usize;
        Self { idle: Mutex::new(Vec::new()), most }
    }

    /// A chunk, its bytes whatever they were. `None` if the system gives none: the heap may still.
    pub(super) fn take(self: &Arc<Self>) -> Option<Chunk> {
        let idle = self.idle.lock().pop();
        let map = idle.or_else(|| MmapMut::map_anon(SIZE).ok())?;
        Some(Chunk { map: Some(map), pool: Arc::clone(self) })
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("idle", &self.idle.lock().len()).field("most", &self.most).finish()
    }
}

/// A chunk in use; back to its pool on drop.
pub(super) struct Chunk {
    // There until it is dropped.
    map: Option<MmapMut>,
    pool: Arc<Pool>,
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }
}

impl AsMut<[u8]> for Chunk {
    fn as_mut(&mut self) -> &mut [u8] {
        self.map.as_deref_mut().unwrap_or_default()
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let Some(map) = self.map.take() else { return };
        let mut idle = self.pool.idle.lock();
        if idle.len() < self.pool.most {
            idle.push(map);
        } else {
            // Unmapping is a call to the system: not under the lock.
            drop(idle);
            drop(map);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_used_again_as_far_as_the_pool_keeps_them() {
        let pool = Arc::new(Pool::new(SIZE as u64 * IDLE_SHARE * 2));
        let mut chunks: Vec<_> = (0..4).filter_map(|_| pool.take()).collect();
        assert_eq!(chunks.len(), 4);
        for chunk in &mut chunks {
            assert_eq!(chunk.as_ref().len(), SIZE);
            chunk.as_mut().fill(7);
        }
        drop(chunks);
        assert_eq!(pool.idle.lock().len(), 2);
        assert_eq!(pool.take().unwrap().as_ref()[..2], [7, 7]);
        assert_eq!(Pool::new(SIZE as u64).most, 0);
    }
}
