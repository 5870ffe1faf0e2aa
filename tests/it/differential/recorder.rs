//! An origin that keeps what it is sent, and answers each request: when the last byte of it has come, or, if it is a
//! hasty one, when its head has.

use super::strict::{Begin, Request, read};
use crate::support::DEADLINE;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

/// What one connection brought.
#[derive(Clone, Debug, Default)]
pub(super) struct Connection {
    pub(super) bytes: Vec<u8>,
    /// The whole requests in it, in order.
    pub(super) requests: Vec<Request>,
    /// Those that were answered, whole or not.
    pub(super) answered: Vec<Request>,
    /// Bytes of one more that never became whole.
    pub(super) tail: usize,
    /// What is no request, or came before an answer.
    pub(super) violation: Option<String>,
    pub(super) ended: bool,
}

/// Answers carry it: a client's bytes tell by it how many of the origin's answers they hold.
pub(super) const MARK: &[u8] = b"x-recorded: ";

const ANSWER: [&[u8]; 3] =
    [b"HTTP/1.1 200 OK\r\n", MARK, b"1\r\nCache-Control: no-store\r\nContent-Length: 2\r\n\r\nok"];

/// An origin for the requests of one client.
pub(super) struct Recorder {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    connections: Mutex<Vec<(Connection, Option<TcpStream>)>>,
    changed: Condvar,
    stopped: AtomicBool,
}

impl Recorder {
    pub(super) fn start(hasty: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let accepted = Arc::clone(&shared);
        std::thread::spawn(move || {
            while let Ok((socket, _)) = listener.accept() {
                if accepted.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let index = {
                    let mut connections = accepted.connections.lock().unwrap();
                    connections.push((Connection::default(), socket.try_clone().ok()));
                    connections.len() - 1
                };
                let shared = Arc::clone(&accepted);
                std::thread::spawn(move || {
                    serve(socket, index, hasty, &shared);
                    let mut connections = shared.connections.lock().unwrap();
                    connections[index].0.ended = true;
                    connections[index].1 = None;
                    shared.changed.notify_all();
                });
            }
        });
        Self { address, shared }
    }

    /// What came, when nothing more comes: connections between two requests are ended here, of others the end is
    /// waited for.
    pub(super) fn finish(self) -> Vec<Connection> {
        self.shared.stopped.store(true, Ordering::SeqCst);
        TcpStream::connect(self.address).ok();
        let connections = self.shared.connections.lock().unwrap();
        for (connection, socket) in &*connections {
            if let Some(socket) = socket.as_ref().filter(|_| connection.tail == 0) {
                socket.shutdown(Shutdown::Both).ok();
            }
        }
        let open = |all: &mut Vec<(Connection, Option<TcpStream>)>| all.iter().any(|(c, _)| !c.ended);
        let (connections, waited) =
            self.shared.changed.wait_timeout_while(connections, DEADLINE, open).unwrap();
        let opened = connections.iter().find(|(connection, _)| !connection.ended);
        assert!(!waited.timed_out(), "a request that has broken off stays open: {opened:?}");
        connections.iter().map(|(connection, _)| connection.clone()).collect()
    }
}

/// What TLS begins with: nothing of it is for this origin to judge.
const HANDSHAKE: u8 = 0x16;

fn serve(mut socket: TcpStream, index: usize, hasty: bool, shared: &Shared) {
    socket.set_nodelay(true).unwrap();
    let mut read = Read { hasty, ..Read::default() };
    let mut chunk = [0; 16 * 1024];
    while let Ok(count @ 1..) = socket.read(&mut chunk) {
        read.stream.extend_from_slice(&chunk[..count]);
        if read.stream[0] == HANDSHAKE {
            return;
        }
        let (answer, goes_on) = {
            let connection = &mut shared.connections.lock().unwrap()[index].0;
            connection.bytes.extend_from_slice(&chunk[..count]);
            let answer = read.answer(connection);
            (answer, connection.violation.is_none())
        };
        let written = socket.write_all(&answer).is_ok();
        // The last piece of what was answered before.
        let over = shared.stopped.load(Ordering::SeqCst) && read.begin == read.stream.len();
        if !goes_on || !written || over {
            return;
        }
    }
}

/// How far a connection was read and answered.
#[derive(Default)]
struct Read {
    stream: Vec<u8>,
    /// Where the request begins that is not whole yet.
    begin: usize,
    /// That one was answered, or its client was told to continue.
    answered: bool,
    continued: bool,
    hasty: bool,
}

impl Read {
    /// What is said to what is there now.
    fn answer(&mut self, connection: &mut Connection) -> Vec<u8> {
        loop {
            connection.tail = self.stream.len() - self.begin;
            let (whole, request) = match read(&self.stream[self.begin..]) {
                Ok(Begin::Less) => return Vec::new(),
                Ok(Begin::Head(request)) => (false, request),
                Ok(Begin::Whole(request)) => (true, request),
                Err(wrong) => {
                    connection.violation = Some(wrong);
                    return Vec::new();
                }
            };
            let mut answer = Vec::new();
            if !self.answered && (whole || self.hasty) {
                self.answered = true;
                connection.answered.push(request.clone());
                answer = ANSWER.concat();
                answer.truncate(answer.len() - if request.method == "HEAD" { 2 } else { 0 });
            } else if !self.answered && !self.continued && continues(&request) {
                self.continued = true;
                answer = b"HTTP/1.1 100 Continue\r\n\r\n".to_vec();
            }
            if !whole {
                return answer;
            }
            self.begin += request.length;
            (self.answered, self.continued) = (false, false);
            connection.tail = self.stream.len() - self.begin;
            connection.requests.push(request);
            if connection.tail > 0 && !answer.is_empty() {
                connection.violation = Some("bytes behind a request that was not answered yet".into());
                return answer;
            }
            if connection.tail == 0 {
                return answer;
            }
        }
    }
}

/// Whether its client may wait for that before it sends the content.
fn continues(request: &Request) -> bool {
    request.all("expect").any(|value| value.to_ascii_lowercase().contains("100-continue"))
}
