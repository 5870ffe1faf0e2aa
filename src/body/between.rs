//! A body whose middle comes from elsewhere than its ends: what is stored of a representation, and the rest of it as
//! the origin sends it. RFC 9111 section 3.4.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::stored::Stored;
use super::{Body, Error, StoredBody};
use crate::field::status::ProxyError;

/// `before`, then exactly `left` bytes of `middle`, then `after`. A middle of any other length is an error: what
/// followed would stand at the wrong place. Its trailers are left out, being of a part alone.
pub struct Between {
    before: Stored,
    middle: Option<Body>,
    left: u64,
    after: Stored,
}

impl Between {
    /// With a middle of `length` bytes.
    pub fn new(before: &StoredBody, middle: Body, length: u64, after: &StoredBody) -> Self {
        Self { before: before.read(), middle: Some(middle), left: length, after: after.read() }
    }

    fn broken(&mut self, what: &'static str) -> Result<Frame<Bytes>, Error> {
        self.middle = None;
        self.left = 0;
        self.after = StoredBody::EMPTY.read();
        Err(Error::new(ProxyError::HttpResponseIncomplete, what))
    }
}

impl http_body::Body for Between {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(bytes) = self.before.next() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        while let Some(middle) = &mut self.middle {
            match std::task::ready!(Pin::new(middle).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    let Ok(bytes) = frame.into_data() else { continue };
                    let Some(left) = self.left.checked_sub(bytes.len() as u64) else {
                        return Poll::Ready(Some(
                            self.broken("the origin sent more than the part that it announced"),
                        ));
                    };
                    self.left = left;
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Some(Err(error)) => {
                    self.middle = None;
                    self.after = StoredBody::EMPTY.read();
                    return Poll::Ready(Some(Err(error)));
                }
                None if self.left > 0 => {
                    return Poll::Ready(Some(
                        self.broken("the origin sent less than the part that it announced"),
                    ));
                }
                None => self.middle = None,
            }
        }
        Poll::Ready(self.after.next().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.before.left() == 0 && self.middle.is_none() && self.after.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.before.left() + self.left + self.after.left())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::{Options, shared};
    use http_body_util::BodyExt;

    fn stored(text: &'static str) -> StoredBody {
        StoredBody::new(vec![Bytes::from_static(text.as_bytes())])
    }

    /// What comes of a middle of these pieces where `length` bytes were announced, and whether it broke off.
    async fn read(pieces: &[&'static str], length: u64) -> (String, bool) {
        let (mut writer, middle) = shared(&Options::default(), None, None);
        let middle = Body::from(middle.reader().unwrap());
        for piece in pieces {
            writer.append(Bytes::from_static(piece.as_bytes()));
        }
        writer.finish(None);
        let mut body = Between::new(&stored("ab"), middle, length, &stored("yz"));
        let mut text = String::new();
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap()),
                Err(_) => return (text, true),
            }
        }
        (text, false)
    }

    #[tokio::test]
    async fn the_middle_must_be_as_long_as_announced() {
        for (pieces, length, text, broken) in [
            (&["cd", "e"][..], 3, "abcdeyz", false),
            (&[], 0, "abyz", false),
            (&["cd"], 3, "abcd", true),
            (&["cd", "ef"], 3, "ab", true),
            (&["c"], 0, "ab", true),
        ] {
            assert_eq!(read(pieces, length).await, (text.to_owned(), broken), "{pieces:?} {length}");
        }
    }
}
