//! `multipart/byteranges`: several ranges of a stored body in one response. RFC 9110 sections 14.6 and 15.3.7.2.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderValue;

use super::stored::{Stored, StoredBody};

/// A part: which bytes of the representation, and the bytes.
#[derive(Clone, Debug)]
pub struct Part {
    /// Where the bytes lie in the representation.
    pub range: Range<u64>,
    /// The bytes; as many as the range is long.
    pub body: StoredBody,
}

/// The body, whose length is known before it is sent.
#[derive(Clone, Debug)]
pub struct Multipart {
    segments: VecDeque<Segment>,
    left: u64,
    content_type: HeaderValue,
}

#[derive(Clone, Debug)]
enum Segment {
    Head(Bytes),
    Body(Stored),
}

impl Multipart {
    /// The parts in order. `content_type` is the representation's, `complete_length` its length, where known.
    pub fn new(parts: Vec<Part>, content_type: Option<&HeaderValue>, complete_length: Option<u64>) -> Self {
        // 120 bits: no representation contains it by accident, nor can an origin guess it.
        let boundary = format!("{:030x}", rand::random::<u128>() >> 8);
        Self::with_boundary(&boundary, parts, content_type, complete_length)
    }

    fn with_boundary(
        boundary: &str,
        parts: Vec<Part>,
        content_type: Option<&HeaderValue>,
        complete_length: Option<u64>,
    ) -> Self {
        let complete = complete_length.map_or_else(|| "*".to_owned(), |length| length.to_string());
        let mut segments = VecDeque::with_capacity(2 * parts.len() + 1);
        for (n, part) in parts.into_iter().enumerate() {
            let mut head = BytesMut::with_capacity(160);
            // The first boundary needs no line before it.
            head.put_slice(if n == 0 { b"--" } else { b"\r\n--" });
            head.put_slice(boundary.as_bytes());
            if let Some(content_type) = content_type {
                head.put_slice(b"\r\nContent-Type: ");
                head.put_slice(content_type.as_bytes());
            }
            let last = part.range.end.saturating_sub(1);
            head.put_slice(
                format!("\r\nContent-Range: bytes {}-{last}/{complete}\r\n\r\n", part.range.start).as_bytes(),
            );
            segments.push_back(Segment::Head(head.freeze()));
            segments.push_back(Segment::Body(part.body.read()));
        }
        segments.push_back(Segment::Head(format!("\r\n--{boundary}--\r\n").into()));
        let left = segments.iter().map(Segment::left).sum();
        let content_type = HeaderValue::from_str(&format!("multipart/byteranges; boundary={boundary}"))
            .unwrap_or_else(|_| HeaderValue::from_static("multipart/byteranges"));
        Self { segments, left, content_type }
    }

    /// The response's Content-Type.
    pub fn content_type(&self) -> HeaderValue {
        self.content_type.clone()
    }

    /// Bytes still to come; at the beginning, the response's Content-Length.
    pub fn left(&self) -> u64 {
        self.left
    }
}

impl Segment {
    fn left(&self) -> u64 {
        match self {
            Self::Head(bytes) => bytes.len() as u64,
            Self::Body(stored) => stored.left(),
        }
    }
}

impl Iterator for Multipart {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        loop {
            let bytes = match self.segments.front_mut()? {
                Segment::Head(bytes) => std::mem::take(bytes),
                Segment::Body(stored) => stored.next().unwrap_or_default(),
            };
            if bytes.is_empty() {
                self.segments.pop_front();
                continue;
            }
            self.left -= bytes.len() as u64;
            return Some(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(
        content_type: Option<&'static str>,
        complete: Option<u64>,
        ranges: &[Range<u64>],
        expected: &str,
    ) {
        let body = StoredBody::new(vec![Bytes::from_static(b"01234"), Bytes::from_static(b"56789")]);
        let parts = ranges.iter().map(|r| Part { range: r.clone(), body: body.slice(r.clone()) }).collect();
        let content_type = content_type.map(HeaderValue::from_static);
        let multipart = Multipart::with_boundary("B", parts, content_type.as_ref(), complete);
        assert_eq!(multipart.content_type(), "multipart/byteranges; boundary=B");
        assert_eq!(multipart.left(), expected.len() as u64);
        let sent: Vec<u8> = multipart.flatten().collect();
        assert_eq!(String::from_utf8(sent).unwrap(), expected);
    }

    #[test]
    fn parts_are_separated_as_the_rfc_writes_them() {
        check(
            Some("text/plain"),
            Some(10),
            &[0..2, 3..8],
            "--B\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n01\
             \r\n--B\r\nContent-Type: text/plain\r\nContent-Range: bytes 3-7/10\r\n\r\n34567\
             \r\n--B--\r\n",
        );
        check(
            None,
            None,
            std::slice::from_ref(&(9..10)),
            "--B\r\nContent-Range: bytes 9-9/*\r\n\r\n9\r\n--B--\r\n",
        );
    }

    #[test]
    fn every_response_has_a_boundary_of_its_own() {
        let content_type = || Multipart::new(Vec::new(), None, None).content_type();
        assert_ne!(content_type(), content_type());
    }
}
