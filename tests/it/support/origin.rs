//! A scripted origin: per path a closure that gets the raw request and writes raw bytes.
//!
//! A thread a connection, keep-alive by default. Every request's head is recorded when it arrives, its body when
//! the script reads it. A path without a script is answered 404.

use super::DEADLINE;
use super::wire::{Content, Framing, Head, Wire};
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

type Script = Arc<dyn Fn(&mut Exchange) + Send + Sync>;

/// A listening origin; it stops accepting when dropped.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    scripts: Mutex<HashMap<String, Script>>,
    seen: Mutex<Vec<Request>>,
    /// How often each path was asked for.
    counts: Mutex<HashMap<String, usize>>,
    /// What arrived on each connection, as bytes.
    connections: Mutex<Vec<Arc<Mutex<Vec<u8>>>>>,
    changed: Condvar,
    stopped: AtomicBool,
}

/// A request as the origin received it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) version: String,
    pub(crate) head: Head,
    /// Decoded; empty until the script has read it.
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    /// Whether the body ended as its framing says; `None` until it was read.
    pub(crate) whole: Option<bool>,
    /// Which connection it came on, counted from 0.
    pub(crate) connection: usize,
    /// Who sent it.
    pub(crate) peer: Option<std::net::IpAddr>,
}

impl Request {
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        self.head.field(name)
    }

    fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    fn framing(&self) -> Framing {
        if self.field("transfer-encoding").is_some() {
            return Framing::Chunked;
        }
        self.field("content-length").and_then(|l| l.parse().ok()).map_or(Framing::None, Framing::Length)
    }
}

/// One request that a script answers.
pub(crate) struct Exchange {
    pub(crate) request: Request,
    /// The how-manieth request for this path it is, from 1.
    pub(crate) number: usize,
    wire: Option<Wire>,
    index: usize,
    shared: Arc<Shared>,
    /// Whether the connection is kept for a next request.
    keep: bool,
}

impl Exchange {
    /// Reads the request's body, if that was not done yet.
    pub(crate) fn body(&mut self) -> Vec<u8> {
        if self.request.whole.is_none() {
            let framing = self.request.framing();
            let content = self.wire().content(framing);
            self.record(content);
        }
        self.request.body.clone()
    }

    fn record(&mut self, content: Content) {
        self.request.whole = Some(content.broken.is_none());
        self.request.body = content.body;
        self.request.trailers = content.trailers;
        self.keep &= content.broken.is_none();
        self.shared.seen.lock().unwrap()[self.index] = self.request.clone();
        self.shared.changed.notify_all();
    }

    pub(crate) fn wire(&mut self) -> &mut Wire {
        self.wire.as_mut().expect("the connection was reset")
    }

    /// Writes a whole response with Content-Length; `fields` are lines without their line end. To HEAD and on
    /// 204 and 304 the body is left out.
    pub(crate) fn reply(&mut self, status: &str, fields: &[&str], body: impl AsRef<[u8]>) {
        self.body();
        let body = body.as_ref();
        let mut head = format!("HTTP/1.1 {status}\r\n");
        for line in fields {
            head += &format!("{line}\r\n");
        }
        let bodiless = status.starts_with("204") || status.starts_with("304");
        if !bodiless {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        let mut bytes = (head + "\r\n").chars().map(|c| c as u8).collect::<Vec<_>>();
        if !bodiless && self.request.method != "HEAD" {
            bytes.extend_from_slice(body);
        }
        self.write(bytes);
    }

    /// Writes bytes as they are. A peer that has gone is no error of the script's.
    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.written(bytes);
    }

    /// Writes bytes as they are; false when the peer has gone.
    pub(crate) fn written(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let written = self.wire().write(bytes).is_ok();
        self.keep &= written;
        written
    }

    /// Ends the connection after what was written.
    pub(crate) fn close(&mut self) {
        self.body_if_there();
        self.wire().close();
        self.keep = false;
    }

    /// Reads what is left of the body, so that closing does not reset.
    fn body_if_there(&mut self) {
        if self.request.framing() != Framing::None {
            self.body();
        }
    }

    pub(crate) fn reset(&mut self) {
        if let Some(wire) = self.wire.take() {
            wire.reset();
        }
        self.keep = false;
    }

    /// Keeps the connection from being read for another request: the script did that itself.
    pub(crate) fn done(&mut self) {
        self.keep = false;
    }
}

impl Origin {
    pub(crate) fn start() -> Self {
        Self::on_address("127.0.0.1:0")
    }

    pub(crate) fn on_address(address: &str) -> Self {
        Self::listen(address, "http", |socket| Some(Wire::plain(socket)))
    }

    /// An origin that speaks TLS with that configuration.
    pub(crate) fn tls(config: Arc<rustls::ServerConfig>) -> Self {
        Self::listen("127.0.0.1:0", "https", move |socket| {
            let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let stream = rustls::StreamOwned::new(session, socket.try_clone().unwrap());
            Some(Wire::over(socket, Box::new(stream)))
        })
    }

    fn listen(
        address: &str,
        scheme: &'static str,
        open: impl Fn(TcpStream) -> Option<Wire> + Send + 'static,
    ) -> Self {
        Self::accept(TcpListener::bind(address).unwrap(), scheme, || (), open)
    }

    /// On a listener of the test's, with what is done before each accept.
    pub(super) fn accepting(listener: TcpListener, before: impl Fn() + Send + 'static) -> Self {
        Self::accept(listener, "http", before, |socket| Some(Wire::plain(socket)))
    }

    fn accept(
        listener: TcpListener,
        scheme: &'static str,
        before: impl Fn() + Send + 'static,
        open: impl Fn(TcpStream) -> Option<Wire> + Send + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let accepted = Arc::clone(&shared);
        std::thread::spawn(move || {
            loop {
                before();
                let socket = listener.accept().map(|(socket, _)| socket);
                if accepted.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Some(wire) = socket.ok().and_then(&open) else { continue };
                let record = Arc::new(Mutex::new(Vec::new()));
                let connection = {
                    let mut connections = accepted.connections.lock().unwrap();
                    connections.push(Arc::clone(&record));
                    connections.len() - 1
                };
                accepted.changed.notify_all();
                let shared = Arc::clone(&accepted);
                std::thread::spawn(move || serve(wire.recording(record), connection, &shared));
            }
        });
        Self { address, scheme, shared }
    }

    /// Scripts a path (with its query where it is to be told apart); the last word for a path counts.
    pub(crate) fn on(&self, path: &str, script: impl Fn(&mut Exchange) + Send + Sync + 'static) -> &Self {
        self.shared.scripts.lock().unwrap().insert(path.to_owned(), Arc::new(script));
        self
    }

    /// Scripts a path with the same whole response each time.
    pub(crate) fn serve(
        &self,
        path: &str,
        status: &'static str,
        fields: &'static [&'static str],
        body: &'static [u8],
    ) -> &Self {
        self.on(path, move |x| x.reply(status, fields, body))
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// The same origin by another name for its address.
    pub(crate) fn url_at(&self, host: &str, path: &str) -> String {
        format!("{}://{host}:{}{path}", self.scheme, self.address.port())
    }

    /// The requests for a path so far.
    pub(crate) fn requests(&self, path: &str) -> Vec<Request> {
        self.shared
            .seen
            .lock()
            .unwrap()
            .iter()
            .filter(|r| r.target == path || r.path() == path)
            .cloned()
            .collect()
    }

    pub(crate) fn hits(&self, path: &str) -> usize {
        self.requests(path).len()
    }

    /// All requests of whatever path.
    pub(crate) fn all(&self) -> Vec<Request> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// The last request for a path.
    #[track_caller]
    pub(crate) fn last(&self, path: &str) -> Request {
        self.requests(path).pop().expect("the origin was asked")
    }

    /// How many connections were accepted.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.lock().unwrap().len()
    }

    /// Waits until no end of a connection to this origin is open any more as its kernel sees it: what was closed here
    /// has arrived there, which on a busy machine takes a moment. (Where the system does not tell, it is believed.)
    pub(crate) fn wait_closed(&self) {
        let remote = format!(":{:04X} 01 ", self.address.port());
        super::eventually("all connections closed", || {
            let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
            // The remote end's address, then the state: 01 is an open one.
            (!sockets.contains(&remote)).then_some(())
        });
    }

    /// Everything that was received, connection after connection.
    pub(crate) fn received(&self) -> Vec<u8> {
        self.shared.connections.lock().unwrap().iter().flat_map(|c| c.lock().unwrap().clone()).collect()
    }

    /// Waits until `count` requests for the path have arrived.
    #[track_caller]
    pub(crate) fn wait(&self, path: &str, count: usize) {
        self.wait_until(path, count, |r| r.target == path || r.path() == path);
    }

    /// Waits until the body of a request for the path was read to its end, or broke off.
    #[track_caller]
    pub(crate) fn wait_body(&self, path: &str) -> Request {
        self.wait_until(path, 1, |r| (r.target == path || r.path() == path) && r.whole.is_some());
        self.last(path)
    }

    #[track_caller]
    fn wait_until(&self, path: &str, count: usize, fits: impl Fn(&Request) -> bool) {
        let seen = self.shared.seen.lock().unwrap();
        let few = |seen: &mut Vec<Request>| seen.iter().filter(|r| fits(r)).count() < count;
        let (seen, waited) = self.shared.changed.wait_timeout_while(seen, DEADLINE, few).unwrap();
        assert!(!waited.timed_out(), "{path}: fewer than {count} requests came; seen: {:?}", targets(&seen));
    }
}

fn targets(seen: &[Request]) -> Vec<&str> {
    seen.iter().map(|r| r.target.as_str()).collect()
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        TcpStream::connect(self.address).ok();
    }
}

fn serve(mut wire: Wire, connection: usize, shared: &Arc<Shared>) {
    loop {
        let Ok(Some(head)) = wire.head() else { return };
        let peer = wire.socket().peer_addr().ok().map(|peer| peer.ip());
        let Ok(request) = parse(head, connection, peer) else {
            wire.write("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").ok();
            return;
        };
        let (index, number) = {
            let mut seen = shared.seen.lock().unwrap();
            seen.push(request.clone());
            let mut counts = shared.counts.lock().unwrap();
            let count = counts.entry(request.path().to_owned()).or_default();
            *count += 1;
            (seen.len() - 1, *count)
        };
        shared.changed.notify_all();
        let script = {
            let scripts = shared.scripts.lock().unwrap();
            scripts.get(&request.target).or_else(|| scripts.get(request.path())).cloned()
        };
        let keep = request.version == "HTTP/1.1";
        let mut exchange =
            Exchange { request, number, wire: Some(wire), index, shared: Arc::clone(shared), keep };
        match script {
            Some(script) => script(&mut exchange),
            None => exchange.reply("404 Not Found", &["Cache-Control: no-store"], "no script"),
        }
        if !exchange.keep || exchange.wire.is_none() {
            return;
        }
        exchange.body();
        match exchange.wire {
            Some(next) if exchange.keep => wire = next,
            _ => return,
        }
    }
}

fn parse(head: Head, connection: usize, peer: Option<std::net::IpAddr>) -> io::Result<Request> {
    let line = head.line.clone();
    let mut words = line.split(' ').map(str::to_owned);
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    Ok(Request {
        method,
        target,
        version,
        head,
        body: Vec::new(),
        trailers: Vec::new(),
        whole: None,
        connection,
        peer,
    })
}
