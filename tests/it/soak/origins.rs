//! The soak's origins: one that does all right, fast, and one that does all wrong, by a script for each path.

use super::bodies::Bodies;
use super::link::Link;
use crate::support::Origin;
use crate::support::faults::{Step, drip, play, send};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;

/// How often each path was asked for.
pub(super) type Asked = Arc<Mutex<HashMap<String, usize>>>;

/// An origin of whole answers, until the runtime ends. `/hot/` and `/kept/` may be stored, others not; each second
/// path's body has no length.
pub(super) async fn right(bodies: Arc<Bodies>) -> (SocketAddr, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Asked::default();
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (bodies, asked) = (Arc::clone(&bodies), Arc::clone(&count));
            tokio::spawn(async move { serve(Link::over(socket), &bodies, &asked).await });
        }
    });
    (address, asked)
}

async fn serve(mut link: Link, bodies: &Bodies, asked: &Asked) -> io::Result<()> {
    loop {
        let head = link.head().await?;
        let path = head.split(' ').nth(1).unwrap_or_default();
        *asked.lock().unwrap().entry(path.to_owned()).or_default() += 1;
        let size = Bodies::size(path);
        let control = if path.starts_with("/hot/") || path.starts_with("/kept/") {
            "max-age=86400"
        } else {
            "no-store"
        };
        let chunked = path.len() % 2 == 0;
        let framing =
            if chunked { "Transfer-Encoding: chunked".to_owned() } else { format!("Content-Length: {size}") };
        let mut out =
            format!("HTTP/1.1 200 OK\r\nCache-Control: {control}\r\n{framing}\r\n\r\n").into_bytes();
        let mut at = 0;
        while at < size {
            let part = bodies.part(path, at, 50_000);
            at += part.len();
            if chunked {
                out.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
                out.extend_from_slice(part);
                out.extend_from_slice(b"\r\n");
            } else {
                out.extend_from_slice(part);
            }
            link.send(&out).await?;
            out.clear();
        }
        if chunked {
            out.extend_from_slice(b"0\r\n\r\n");
        }
        link.send(&out).await?;
    }
}

/// What a client may get of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Whole,
    /// A beginning that shows that it is no more; 502, or nothing at all, if the break was faster.
    Broken,
    /// 502.
    Refused,
}

/// The paths of the faults.
pub(super) const FAULTS: [(&str, Fate); 16] = [
    ("/stall", Fate::Whole),
    ("/drip", Fate::Whole),
    ("/longer", Fate::Whole),
    ("/closed-behind", Fate::Whole),
    ("/half-closed-behind", Fate::Whole),
    ("/slow-accept", Fate::Whole),
    ("/cut", Fate::Broken),
    ("/reset", Fate::Broken),
    ("/half-closed", Fate::Broken),
    ("/cut-between-chunks", Fate::Broken),
    ("/reset-in-size", Fate::Broken),
    ("/garbage-as-size", Fate::Broken),
    ("/nothing", Fate::Refused),
    ("/reset-in-head", Fate::Refused),
    ("/two-lengths", Fate::Refused),
    ("/garbage", Fate::Refused),
];

/// An origin that does to each path what its name says. Paths have a query, at whose end stands the size, at least 2.
pub(super) fn wrong(bodies: &Arc<Bodies>) -> Origin {
    let origin = Origin::start();
    for (path, _) in FAULTS {
        let bodies = Arc::clone(bodies);
        origin.on(path, move |x| {
            let body = bodies.whole(&x.request.target);
            play(x, script(path, &body));
        });
    }
    origin
}

/// One that accepts a connection each 20 ms.
pub(super) fn reluctant(bodies: &Arc<Bodies>) -> Origin {
    let origin = Origin::reluctant(|| std::thread::sleep(Duration::from_millis(20)));
    let bodies = Arc::clone(bodies);
    origin.on("/slow-accept", move |x| {
        let body = bodies.whole(&x.request.target);
        play(x, script("/closed-behind", &body));
    });
    origin
}

fn script(path: &str, body: &[u8]) -> Vec<Step> {
    let size = body.len();
    let (first, second) = body.split_at(size / 2);
    let said = |length: usize| {
        format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: {length}\r\n\r\n")
    };
    let head = send(said(size));
    let chunk = |part: &[u8]| [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat();
    let chunks = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n";
    let whole = [said(size).as_bytes(), body].concat();
    match path {
        "/stall" => vec![head, send(first), Step::Stall(Duration::from_millis(200)), send(second)],
        "/drip" => {
            let slowly = size.min(50);
            vec![drip(said(size)), drip(&body[..slowly]), send(&body[slowly..])]
        }
        "/longer" => {
            // Else the rest could be taken for the answer to another request, sent just before it arrives.
            let close = said(size).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
            vec![send([close.as_bytes(), body, b"and more"].concat()), Step::Cut]
        }
        "/closed-behind" => vec![send(whole), Step::Cut],
        "/half-closed-behind" => vec![send(whole), Step::HalfClose, Step::Drain],
        "/cut" => vec![head, send(first), Step::Cut],
        "/reset" => {
            let count = whole.len() - second.len();
            vec![Step::ResetAfter { bytes: whole, count }]
        }
        "/half-closed" => vec![head, send(first), Step::HalfClose, Step::Drain],
        "/cut-between-chunks" => vec![send(chunks), send(chunk(first)), Step::Cut],
        "/reset-in-size" => vec![send(chunks), send(chunk(first)), send("1"), Step::Reset],
        "/garbage-as-size" => vec![send(chunks), send(chunk(first)), send("xyz\r\n"), Step::Cut],
        "/nothing" => vec![Step::Cut],
        "/reset-in-head" => vec![Step::ResetAfter { bytes: whole, count: 30 }],
        "/two-lengths" => {
            vec![send(said(size).replace("\r\n\r\n", "\r\nContent-Length: 1\r\n\r\n")), send(body), Step::Cut]
        }
        "/garbage" => vec![send(body), send("\r\n\r\n"), Step::Cut],
        other => unreachable!("{other} is no fault"),
    }
}
