//! HTTP/1 messages on a stream as bytes: what both the scripted origin and the raw client read with.

use super::DEADLINE;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::Mutex;

/// A head as it came: the first line, the field lines in order, and the bytes themselves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    pub(crate) line: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) bytes: Vec<u8>,
}

impl Head {
    fn parse(bytes: Vec<u8>) -> Self {
        let text = latin1(&bytes);
        let mut lines = text.trim_end_matches("\r\n").split("\r\n").map(str::to_owned);
        let line = lines.next().unwrap_or_default();
        let fields = lines.map(|l| split_field(&l)).collect();
        Self { line, fields, bytes }
    }

    /// The field's values on all lines, joined by `, `; `None` when there is no such line.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let all = self.all(name);
        if all.is_empty() { None } else { Some(all.join(", ")) }
    }

    /// The value on each line of that name.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let named = |(n, _): &&(String, String)| n.eq_ignore_ascii_case(name);
        self.fields.iter().filter(named).map(|(_, v)| v.as_str()).collect()
    }
}

/// Bytes as characters, one for one.
pub(crate) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn split_field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    (name.to_owned(), value.trim_matches([' ', '\t']).to_owned())
}

/// How a body's end is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    None,
    Length(u64),
    Chunked,
    Close,
}

/// A body as far as it came, its trailers, and whether it ended as its framing says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    /// Why it is not whole.
    pub(crate) broken: Option<String>,
}

trait Io: Read + Write + Send {}
impl<T: Read + Write + Send> Io for T {}

/// So that TLS can be spoken through it.
impl Read for Wire {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.ahead.is_empty() {
            self.fill()?;
        }
        let count = buf.len().min(self.ahead.len());
        buf[..count].copy_from_slice(&self.ahead[..count]);
        self.ahead.drain(..count);
        Ok(count)
    }
}

impl Write for Wire {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.io.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.io.flush()
    }
}

/// A connection with what was read ahead of need.
pub(crate) struct Wire {
    io: Box<dyn Io>,
    socket: TcpStream,
    ahead: Vec<u8>,
    /// Everything received, up to a mebibyte.
    record: Option<Arc<Mutex<Vec<u8>>>>,
}

impl Wire {
    pub(crate) fn plain(socket: TcpStream) -> Self {
        let io = Box::new(socket.try_clone().unwrap());
        Self::over(socket, io)
    }

    pub(crate) fn over(socket: TcpStream, io: Box<impl Read + Write + Send + 'static>) -> Self {
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.set_write_timeout(Some(DEADLINE)).unwrap();
        socket.set_nodelay(true).unwrap();
        Self { io, socket, ahead: Vec::new(), record: None }
    }

    pub(crate) fn recording(mut self, record: Arc<Mutex<Vec<u8>>>) -> Self {
        self.record = Some(record);
        self
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.io.write_all(bytes.as_ref())?;
        self.io.flush()
    }

    /// One read; 0 at the end of the stream.
    fn fill(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 16 * 1024];
        let count = self.io.read(&mut chunk)?;
        if let Some(record) = &self.record {
            let mut record = record.lock().unwrap();
            if record.len() < 1 << 20 {
                record.extend_from_slice(&chunk[..count]);
            }
        }
        self.ahead.extend_from_slice(&chunk[..count]);
        Ok(count)
    }

    /// Bytes up to and with `end`; `None` when the stream ends before the first byte.
    fn until(&mut self, end: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.ahead[searched..].windows(end.len()).position(|w| w == end) {
                let rest = self.ahead.split_off(searched + at + end.len());
                return Ok(Some(std::mem::replace(&mut self.ahead, rest)));
            }
            searched = self.ahead.len().saturating_sub(end.len() - 1);
            if self.fill()? == 0 {
                if self.ahead.is_empty() {
                    return Ok(None);
                }
                let text = latin1(&self.ahead);
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("ended within {text:?}")));
            }
        }
    }

    /// The next head; `None` when the stream ended between messages.
    pub(crate) fn head(&mut self) -> io::Result<Option<Head>> {
        Ok(self.until(b"\r\n\r\n")?.map(Head::parse))
    }

    pub(crate) fn exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.ahead.len() < count {
            if self.fill()? == 0 {
                let got = std::mem::take(&mut self.ahead);
                let what = format!(
                    "ended after {} of {count} bytes: {:?}",
                    got.len(),
                    latin1(&got[..got.len().min(200)])
                );
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
            }
        }
        let rest = self.ahead.split_off(count);
        Ok(std::mem::replace(&mut self.ahead, rest))
    }

    /// What is there, or the next bytes that come; empty at the end of the stream.
    pub(crate) fn some(&mut self) -> io::Result<Vec<u8>> {
        if self.ahead.is_empty() {
            self.fill()?;
        }
        Ok(std::mem::take(&mut self.ahead))
    }

    /// Everything until the stream ends.
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        while self.fill()? > 0 {}
        Ok(std::mem::take(&mut self.ahead))
    }

    /// Whether the peer ends the stream, in whatever way, without another byte.
    pub(crate) fn ends(&mut self) -> bool {
        if !self.ahead.is_empty() {
            return false;
        }
        match self.fill() {
            Ok(count) => count == 0,
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        }
    }

    /// One chunk of chunked framing; `None` is the last one, its trailers are not read yet.
    pub(crate) fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let line = self.until(b"\r\n")?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let text = latin1(&line);
        let size = text.trim_end().split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size, 16)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("chunk size {text:?}")))?;
        if size == 0 {
            return Ok(None);
        }
        let data = self.exactly(size)?;
        let end = self.exactly(2)?;
        if end == b"\r\n" {
            Ok(Some(data))
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "no CRLF after a chunk"))
        }
    }

    fn trailers(&mut self) -> io::Result<Vec<(String, String)>> {
        let mut trailers = Vec::new();
        loop {
            let line = self.until(b"\r\n")?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if line == b"\r\n" {
                return Ok(trailers);
            }
            trailers.push(split_field(latin1(&line).trim_end_matches("\r\n")));
        }
    }

    pub(crate) fn content(&mut self, framing: Framing) -> Content {
        let mut content = Content::default();
        let result = match framing {
            Framing::None => Ok(()),
            Framing::Length(length) => self.length(length, &mut content.body),
            Framing::Close => self.close_delimited(&mut content.body),
            Framing::Chunked => self.chunked(&mut content),
        };
        content.broken = result.err().map(|e| e.to_string());
        content
    }

    fn length(&mut self, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
        while (body.len() as u64) < length {
            if self.ahead.is_empty() && self.fill()? == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!("{} of {length} bytes", body.len()),
                ));
            }
            let take = self.ahead.len().min((length - body.len() as u64) as usize);
            body.extend(self.ahead.drain(..take));
        }
        Ok(())
    }

    fn close_delimited(&mut self, body: &mut Vec<u8>) -> io::Result<()> {
        loop {
            body.append(&mut self.ahead);
            if self.fill()? == 0 {
                return Ok(());
            }
        }
    }

    fn chunked(&mut self, content: &mut Content) -> io::Result<()> {
        while let Some(chunk) = self.chunk()? {
            content.body.extend(chunk);
        }
        content.trailers = self.trailers()?;
        Ok(())
    }

    pub(crate) fn half_close(&self) {
        self.socket.shutdown(Shutdown::Write).ok();
    }

    /// Ends the connection both ways.
    pub(crate) fn close(&self) {
        self.socket.shutdown(Shutdown::Both).ok();
    }

    /// Ends the connection with a reset instead of an orderly close.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.socket).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }
}
