//! One HTTP/1.1 connection of the load, as its origin and its clients use it: heads are text, bodies are compared
//! while they arrive and never kept.

use super::bodies::Bodies;
use bytes::{Buf as _, BytesMut};
use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(super) struct Link {
    socket: TcpStream,
    ahead: BytesMut,
    /// Whether the peer said that it closes the connection.
    pub(super) last: bool,
}

/// What came of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The whole body; whether from the store.
    Whole { hit: bool },
    /// A beginning of the body, and it shows that it is no more.
    Broken,
    /// The connection ended before a head came.
    Nothing,
    /// An error of the proxy's own.
    Refused(u16),
    /// What must not be.
    Wrong(String),
}

impl Link {
    pub(super) fn over(socket: TcpStream) -> Self {
        socket.set_nodelay(true).ok();
        Self { socket, ahead: BytesMut::new(), last: false }
    }

    pub(super) async fn to(address: SocketAddr) -> io::Result<Self> {
        Ok(Self::over(TcpStream::connect(address).await?))
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes).await
    }

    async fn fill(&mut self) -> io::Result<()> {
        self.ahead.reserve(64 << 10);
        match self.socket.read_buf(&mut self.ahead).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// What comes up to and with `end`.
    async fn until(&mut self, end: &[u8]) -> io::Result<String> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.ahead[searched..].windows(end.len()).position(|w| w == end) {
                let text = self.ahead.split_to(searched + at + end.len());
                return Ok(String::from_utf8_lossy(&text).into_owned());
            }
            searched = self.ahead.len().saturating_sub(end.len() - 1);
            self.fill().await?;
        }
    }

    pub(super) async fn head(&mut self) -> io::Result<String> {
        self.until(b"\r\n\r\n").await
    }

    /// Takes `count` bytes, which must be those of the path's body from `at` on.
    async fn take(&mut self, bodies: &Bodies, path: &str, at: &mut usize, count: usize) -> io::Result<()> {
        let end = *at + count;
        while *at < end {
            if self.ahead.is_empty() {
                self.fill().await?;
            }
            let part = &self.ahead[..self.ahead.len().min(end - *at)];
            if !bodies.are(path, *at, part) {
                let what = format!("{path}: a byte differs behind {at}");
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            *at += part.len();
            let count = part.len();
            self.ahead.advance(count);
        }
        Ok(())
    }

    async fn body(&mut self, head: &str, bodies: &Bodies, path: &str) -> io::Result<()> {
        let wrong = |what| io::Error::new(io::ErrorKind::InvalidData, format!("{path}: {what} in {head:?}"));
        let mut at = 0;
        if field(head, "transfer-encoding").is_some_and(|coding| coding == "chunked") {
            loop {
                let line = self.until(b"\r\n").await?;
                let size = usize::from_str_radix(line.trim_end(), 16).map_err(|_| wrong("a chunk's size"))?;
                self.take(bodies, path, &mut at, size).await?;
                if self.until(b"\r\n").await? != "\r\n" {
                    return Err(wrong("a chunk's end"));
                }
                if size == 0 {
                    break;
                }
            }
        } else {
            let length = field(head, "content-length").and_then(|l| l.parse().ok());
            self.take(bodies, path, &mut at, length.ok_or_else(|| wrong("no end of the body"))?).await?;
        }
        if at == Bodies::size(path) { Ok(()) } else { Err(wrong("another size")) }
    }

    /// Reads the answer to a request for that path.
    pub(super) async fn answer(&mut self, bodies: &Bodies, path: &str) -> Answer {
        let Ok(head) = self.head().await else { return Answer::Nothing };
        self.last = field(&head, "connection").is_some_and(|c| c.eq_ignore_ascii_case("close"));
        let status = head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
        if status != 200 {
            // Its body is ours and small.
            let length = field(&head, "content-length").and_then(|l| l.parse::<usize>().ok()).unwrap_or(0);
            while self.ahead.len() < length {
                if self.fill().await.is_err() {
                    return Answer::Wrong(format!("{path}: an error's page is cut"));
                }
            }
            self.ahead.advance(length);
            return Answer::Refused(status);
        }
        match self.body(&head, bodies, path).await {
            Ok(()) => {
                Answer::Whole { hit: field(&head, "cache-status").is_some_and(|s| s.contains("; hit")) }
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Answer::Wrong(error.to_string()),
            Err(_) => Answer::Broken,
        }
    }
}

/// A field's value.
pub(super) fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}
