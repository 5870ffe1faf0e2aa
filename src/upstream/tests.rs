//! The way to origins over real sockets, against origins that say exactly what a test lets them say.

mod exchange;
mod names;
mod parents;
mod pooling;
mod threads;
mod tls;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::access::{self, Access, Grant};
use crate::body::{self, Buffers};
use crate::field::status::ProxyError;

/// Long enough that only a hang reaches it.
const HANG: Duration = Duration::from_secs(20);

/// A time limit that a test wants to pass.
const SOON: Duration = Duration::from_millis(60);

fn anywhere() -> Grant {
    let options = access::Options { allow_private: true, ..access::Options::default() };
    Grant::plain(Arc::new(Access::new(options, Vec::new())))
}

fn upstream(change: impl FnOnce(&mut Options)) -> Upstream {
    let mut options = Options::default();
    change(&mut options);
    Upstream::new(options, Buffers::new(&body::buffers::Options::default()), Clock::system()).unwrap()
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn target(url: &str) -> Target {
    Target::absolute(&url.parse().unwrap()).unwrap()
}

fn get(url: &str) -> Call<'static> {
    Call {
        target: Box::leak(Box::new(target(url))),
        method: Method::GET,
        headers: &HeaderMap::new,
        body: Body::Empty,
        grant: anywhere(),
        on_interim: None,
        fetch_over_https: false,
        upgrade: None,
    }
}

fn at(address: SocketAddr) -> Call<'static> {
    get(&format!("http://{address}/"))
}

fn post(address: SocketAddr, body: Body) -> Call<'static> {
    Call { method: Method::POST, body, ..at(address) }
}

/// A body of unknown length, frame by frame; at its end it breaks off, if so wished.
struct Frames {
    frames: VecDeque<Frame<Bytes>>,
    end: End,
}

#[derive(Clone, Copy)]
enum End {
    Well,
    Broken,
}

fn frames<const N: usize>(frames: [&'static str; N], end: End) -> Body {
    let frames = frames.into_iter().map(|text| Frame::data(Bytes::from_static(text.as_bytes()))).collect();
    Body::Boxed(Box::pin(Frames { frames, end }))
}

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = body::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, body::Error>>> {
        match (self.frames.pop_front(), self.end) {
            (Some(frame), _) => Poll::Ready(Some(Ok(frame))),
            (None, End::Well) => Poll::Ready(None),
            (None, End::Broken) => {
                Poll::Ready(Some(Err(body::Error::new(ProxyError::HttpRequestError, "the client left"))))
            }
        }
    }
}

/// Reads a head, as text.
async fn head(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// Accepts, reads one head, says `text`.
async fn say(listener: &TcpListener, text: &str) -> (TcpStream, String) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let head = answer(&mut stream, text).await;
    (stream, head)
}

/// Reads one head, says `text`.
async fn answer(stream: &mut TcpStream, text: &str) -> String {
    let head = head(stream).await;
    stream.write_all(text.as_bytes()).await.unwrap();
    head
}

/// Resolves when the other side has closed.
async fn closed(mut stream: TcpStream) -> bool {
    let mut rest = Vec::new();
    // A reset is a close, too.
    let _ = tokio::time::timeout(HANG, stream.read_to_end(&mut rest)).await.expect("it stays open");
    true
}

async fn send(upstream: &Upstream, mut call: Call<'_>) -> Result<Box<Received>, UpstreamError> {
    tokio::time::timeout(HANG, upstream.send(&mut call)).await.expect("it hangs")
}

async fn text(body: Body) -> Result<String, body::Error> {
    let collected = tokio::time::timeout(HANG, body.collect()).await.expect("it hangs")?;
    Ok(String::from_utf8(collected.to_bytes().to_vec()).unwrap())
}

/// What one answer of an origin, after which it closes, comes to: the body, or the type of the failure.
async fn outcome(wire: &'static str, change: impl FnOnce(&mut Options)) -> Result<String, ProxyError> {
    let (listener, address) = listen().await;
    let origin = tokio::spawn(async move { drop(say(&listener, wire).await) });
    let upstream = upstream(change);
    let outcome = match send(&upstream, at(address)).await {
        Ok(received) => text(received.body).await.map_err(|error| error.kind),
        Err(error) => Err(error.kind),
    };
    origin.await.unwrap();
    outcome
}
