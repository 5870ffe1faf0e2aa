//! A raw client: sends the bytes it is given and tells exactly what came back.

use super::wire::{Content, Framing, Head, Wire};
use std::fmt::Write as _;
use std::io;
use std::net::{SocketAddr, TcpStream};

/// One connection to a proxy (or to anything else).
pub(crate) struct Client {
    pub(crate) wire: Wire,
}

/// A final response with what came before it and after it.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    /// Heads of interim responses, in order.
    pub(crate) interim: Vec<Head>,
    pub(crate) status: u16,
    pub(crate) head: Head,
    pub(crate) framing: Framing,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    /// Why the body is not whole; `None` when it ended as its framing says.
    pub(crate) broken: Option<String>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self { wire: Wire::plain(TcpStream::connect(address).unwrap()) }
    }

    /// Bytes as they are.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.wire.write(bytes).unwrap();
    }

    #[track_caller]
    pub(crate) fn get(&mut self, url: &str) -> Response {
        self.request("GET", url, &[], "")
    }

    #[track_caller]
    pub(crate) fn get_with(&mut self, url: &str, fields: &[&str]) -> Response {
        self.request("GET", url, fields, "")
    }

    /// Sends a request in absolute-form with its Host, Content-Length where there is a body, and `fields` as lines.
    #[track_caller]
    pub(crate) fn request(
        &mut self,
        method: &str,
        url: &str,
        fields: &[&str],
        body: impl AsRef<[u8]>,
    ) -> Response {
        self.begin(method, url, fields, body);
        self.response(method)
    }

    /// The same without waiting for the response.
    #[track_caller]
    pub(crate) fn begin(&mut self, method: &str, url: &str, fields: &[&str], body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let authority =
            url.split_once("://").map_or(url, |(_, rest)| rest).split(['/', '?', '#']).next().unwrap();
        let authority = authority.rsplit('@').next().unwrap();
        let mut head = format!("{method} {url} HTTP/1.1\r\nHost: {authority}\r\n");
        for line in fields {
            write!(head, "{line}\r\n").unwrap();
        }
        if !body.is_empty() {
            write!(head, "Content-Length: {}\r\n", body.len()).unwrap();
        }
        let mut bytes = (head + "\r\n").into_bytes();
        bytes.extend_from_slice(body);
        self.send(bytes);
    }

    /// The next final response; the method tells whether a body can follow.
    #[track_caller]
    pub(crate) fn response(&mut self, method: &str) -> Response {
        self.try_response(method).unwrap_or_else(|e| panic!("no response to {method}: {e}"))
    }

    pub(crate) fn try_response(&mut self, method: &str) -> io::Result<Response> {
        let mut response = self.try_head(method)?;
        let content = self.wire.content(response.framing);
        response.take(content);
        Ok(response)
    }

    /// The next final response's head with the interim ones before it; its body is still to be read.
    #[track_caller]
    pub(crate) fn head(&mut self, method: &str) -> Response {
        self.try_head(method).unwrap_or_else(|e| panic!("no response to {method}: {e}"))
    }

    /// The next head, interim or final.
    #[track_caller]
    pub(crate) fn any_head(&mut self) -> (u16, Head) {
        let head = self.wire.head().unwrap().expect("a head, not the end of the stream");
        (status(&head).unwrap(), head)
    }

    fn try_head(&mut self, method: &str) -> io::Result<Response> {
        let mut interim = Vec::new();
        loop {
            let head = self.wire.head()?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let status = status(&head)?;
            if (100..200).contains(&status) && status != 101 {
                interim.push(head);
                continue;
            }
            let framing = framing(&head, status, method);
            return Ok(Response {
                interim,
                status,
                head,
                framing,
                body: Vec::new(),
                trailers: Vec::new(),
                broken: None,
            });
        }
    }

    /// Reads the body that belongs to a head from [`Client::head`].
    pub(crate) fn finish(&mut self, mut response: Response) -> Response {
        let content = self.wire.content(response.framing);
        response.take(content);
        response
    }
}

fn status(head: &Head) -> io::Result<u16> {
    let bad = || io::Error::new(io::ErrorKind::InvalidData, format!("status line {:?}", head.line));
    let mut words = head.line.split(' ');
    if !matches!(words.next(), Some("HTTP/1.1" | "HTTP/1.0")) {
        return Err(bad());
    }
    words.next().filter(|w| w.len() == 3).and_then(|w| w.parse().ok()).ok_or_else(bad)
}

fn framing(head: &Head, status: u16, method: &str) -> Framing {
    if method == "HEAD" || matches!(status, 101 | 204 | 304) || (method == "CONNECT" && status / 100 == 2) {
        return Framing::None;
    }
    if head.field("transfer-encoding").is_some_and(|t| t.eq_ignore_ascii_case("chunked")) {
        return Framing::Chunked;
    }
    head.field("content-length").and_then(|l| l.parse().ok()).map_or(Framing::Close, Framing::Length)
}

impl Response {
    fn take(&mut self, content: Content) {
        self.body = content.body;
        self.trailers = content.trailers;
        self.broken = content.broken;
    }

    pub(crate) fn field(&self, name: &str) -> Option<String> {
        self.head.field(name)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Our member of Cache-Status: the last one.
    #[track_caller]
    pub(crate) fn cache(&self) -> CacheStatus {
        let all = self.field("cache-status").unwrap_or_else(|| panic!("no Cache-Status in {:?}", self.head));
        let own = all.rsplit(", ").next().unwrap_or_default();
        let mut items = own.split(';').map(|i| i.trim().to_owned());
        assert_eq!(items.next().as_deref(), Some("larder"), "in {all}");
        CacheStatus { items: items.collect() }
    }

    /// Our member of Proxy-Status: the last one, as text.
    #[track_caller]
    pub(crate) fn proxy_status(&self) -> String {
        let all = self.field("proxy-status").unwrap_or_else(|| panic!("no Proxy-Status in {:?}", self.head));
        all.rsplit(", larder").next().unwrap_or_default().to_owned()
    }

    /// Whether it came from the store. Our own refusals have no Cache-Status at all.
    #[track_caller]
    pub(crate) fn is_hit(&self) -> bool {
        self.field("cache-status").is_some() && self.cache().has("hit")
    }

    #[track_caller]
    pub(crate) fn assert_hit(&self) -> &Self {
        assert!(self.cache().has("hit"), "not a hit: {self}");
        self
    }

    /// Asserts that it was forwarded for that reason, e.g. `uri-miss`.
    #[track_caller]
    pub(crate) fn assert_forwarded(&self, why: &str) -> &Self {
        assert!(
            !self.cache().has("hit") && self.cache().value("fwd").as_deref() == Some(why),
            "not fwd={why}: {self}"
        );
        self
    }

    #[track_caller]
    pub(crate) fn assert_status(&self, status: u16) -> &Self {
        assert_eq!(self.status, status, "{self}");
        self
    }

    #[track_caller]
    pub(crate) fn assert_body(&self, body: impl AsRef<[u8]>) -> &Self {
        assert_eq!(self.broken, None, "{self}");
        let body = body.as_ref();
        assert!(
            self.body == body,
            "{} bytes that differ from the {} expected: {self}",
            self.body.len(),
            body.len()
        );
        self
    }

    /// Asserts that our Proxy-Status names that error of RFC 9209, and that the body is not empty.
    #[track_caller]
    pub(crate) fn assert_error(&self, status: u16, error: &str) -> &Self {
        assert_eq!(self.status, status, "{self}");
        let found = self.proxy_status();
        let named = found.split(';').any(|p| p.trim() == format!("error={error}"));
        assert!(named, "not error={error}: {found}");
        assert!(!self.body.is_empty() && self.broken.is_none(), "an error says what to do: {self}");
        self
    }
}

impl std::fmt::Display for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(300)]);
        write!(f, "{}\n{:?}\n{body}\nbroken: {:?}", self.head.line, self.head.fields, self.broken)
    }
}

/// The parameters of our member of Cache-Status.
pub(crate) struct CacheStatus {
    items: Vec<String>,
}

impl CacheStatus {
    pub(crate) fn has(&self, flag: &str) -> bool {
        self.items.iter().any(|i| i == flag)
    }

    pub(crate) fn value(&self, name: &str) -> Option<String> {
        self.items
            .iter()
            .find_map(|i| i.strip_prefix(name)?.strip_prefix('='))
            .map(|v| v.trim_matches('"').to_owned())
    }

    pub(crate) fn ttl(&self) -> Option<i64> {
        self.value("ttl").and_then(|v| v.parse().ok())
    }
}
