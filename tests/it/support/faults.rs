//! What an origin does wrong, as a script of steps on its raw connection.
//!
//! [`play`] runs one within a scripted origin's answer; [`Origin::reluctant`] is slow before that, at accepting.

use super::{Exchange, Gate, Origin};
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// One thing that an origin does with a connection on which a request has arrived.
#[derive(Clone)]
pub(crate) enum Step {
    Send(Vec<u8>),
    /// One byte at a time, each in a write of its own, with a pause after it.
    Drip {
        bytes: Vec<u8>,
        pause: Duration,
    },
    /// Says nothing for so long.
    Stall(Duration),
    /// Says nothing until the test opens the gate.
    Until(Gate),
    /// Ends what it sends, and still reads.
    HalfClose,
    /// Reads until the peer ends the connection too, which it has to do in time.
    Drain,
    /// Ends the connection both ways, in order.
    Cut,
    /// Ends it with a reset.
    Reset,
    /// Sends that many of the bytes, then resets.
    ResetAfter {
        bytes: Vec<u8>,
        count: usize,
    },
}

/// Bytes that are sent as they are.
pub(crate) fn send(bytes: impl AsRef<[u8]>) -> Step {
    Step::Send(bytes.as_ref().to_vec())
}

/// One byte at a time, a millisecond apart.
pub(crate) fn drip(bytes: impl AsRef<[u8]>) -> Step {
    Step::Drip { bytes: bytes.as_ref().to_vec(), pause: Duration::from_millis(1) }
}

/// Does these steps, one after the other, until one of them ends the connection or the peer has gone. After a script
/// that ends nothing, the connection takes another request.
pub(crate) fn play(x: &mut Exchange, steps: impl IntoIterator<Item = Step>) {
    // What was sent is read: a close with bytes unread would be a reset.
    x.body();
    for step in steps {
        let goes_on = match step {
            Step::Send(bytes) => x.written(bytes),
            Step::Drip { bytes, pause } => bytes.iter().all(|byte| {
                std::thread::sleep(pause);
                x.written([*byte])
            }),
            Step::Stall(pause) => {
                std::thread::sleep(pause);
                true
            }
            Step::Until(gate) => {
                gate.pass();
                true
            }
            Step::HalfClose => {
                x.wire().half_close();
                x.done();
                true
            }
            Step::Drain => {
                drain(x);
                true
            }
            Step::Cut => {
                x.close();
                false
            }
            Step::Reset => {
                x.reset();
                false
            }
            Step::ResetAfter { bytes, count } => {
                x.written(&bytes[..count]);
                x.reset();
                false
            }
        };
        if !goes_on {
            return;
        }
    }
}

fn drain(x: &mut Exchange) {
    loop {
        match x.wire().some() {
            Ok(bytes) if bytes.is_empty() => return,
            Ok(_) => {}
            Err(error) => {
                let waits = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
                assert!(!waits, "the peer does not end the connection");
                return;
            }
        }
    }
}

impl Origin {
    /// An origin that does something before it accepts each connection. No more than two wait for that meanwhile: to
    /// others it is as if nobody were there, until they knock again.
    pub(crate) fn reluctant(before: impl Fn() + Send + 'static) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(1).unwrap();
        Self::accepting(socket.into(), before)
    }
}

/// Connections that wait to be accepted, as many as the system lets wait: the next one is not answered.
pub(crate) fn crowd(address: SocketAddr) -> Vec<TcpStream> {
    let mut held = Vec::new();
    while let Ok(one) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        held.push(one);
        assert!(held.len() < 16, "the backlog has no bound");
    }
    held
}
