//! A connection that brings given bytes in given pieces, then ends.

use hyper::rt::{Read, ReadBufCursor, Write};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Our end of it.
pub struct Wire<'a> {
    pieces: Vec<&'a [u8]>,
    /// Nothing comes before something was written.
    waits: bool,
}

impl<'a> Wire<'a> {
    /// In pieces of these lengths, and one of what is left.
    pub fn new(bytes: &'a [u8], cuts: &[usize], waits: bool) -> Self {
        let mut pieces = Vec::new();
        let mut left = bytes;
        for cut in cuts {
            let (piece, rest) = left.split_at((*cut).min(left.len()));
            pieces.push(piece);
            left = rest;
        }
        pieces.push(left);
        pieces.retain(|piece| !piece.is_empty());
        pieces.reverse();
        Self { pieces, waits }
    }
}

impl Read for Wire<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.waits {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(piece) = self.pieces.pop() {
            let (now, later) = piece.split_at(buffer.remaining().min(piece.len()));
            buffer.put_slice(now);
            if !later.is_empty() {
                self.pieces.push(later);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Write for Wire<'_> {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.waits = false;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Polls a future, which waits for nothing but itself, to its end.
pub fn run<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..10_000 {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
    }
    panic!("it never ends");
}
