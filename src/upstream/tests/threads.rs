//! Connections and the threads that serve: each uses its own first, and takes over those of others.

use std::sync::mpsc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsAcceptor;

use super::tls::authority;
use super::*;
use crate::worker::{Place, Threads, Workers};

/// An origin on a thread of its own, which answers with the number of the connection that it is asked on.
fn numbering(tls: Option<TlsAcceptor>) -> String {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let (listener, address) = listen().await;
            let scheme = if tls.is_some() { "https" } else { "http" };
            tell.send(format!("{scheme}://localhost:{}/", address.port())).unwrap();
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let tls = tls.clone();
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => answer_all(tls.accept(stream).await.unwrap(), number).await,
                        None => answer_all(stream, number).await,
                    }
                });
            }
        });
    });
    told.recv().unwrap()
}

async fn answer_all(mut stream: impl AsyncRead + AsyncWrite + Unpin, number: usize) {
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}");
    while !head(&mut stream).await.is_empty() {
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

async fn fetch(upstream: Upstream, url: String) -> (String, bool) {
    let received = upstream.send(&mut get(&url)).await.unwrap();
    let reused = received.reused;
    (String::from_utf8(received.body.collect().await.unwrap().to_bytes().to_vec()).unwrap(), reused)
}

/// The same on another thread. What is received is to come while this one does nothing: it can't be woken through this
/// one's runtime.
fn begin_there(place: &Place, upstream: &Upstream, url: &str) -> mpsc::Receiver<(String, bool)> {
    let (tell, told) = mpsc::channel();
    let (upstream, url) = (upstream.clone(), url.to_owned());
    place.elsewhere().unwrap().spawn(async move { tell.send(fetch(upstream, url).await) });
    told
}

fn end_there(told: &mpsc::Receiver<(String, bool)>) -> (String, bool) {
    told.recv_timeout(HANG).expect("it waits for the other thread's runtime")
}

async fn one_is_opened(upstream: &Upstream) {
    while upstream.stats().opened == 0 {
        tokio::task::yield_now().await;
    }
}

/// This thread's runtime, and a place on another thread.
struct Two {
    here: Runtime,
    _first: Place,
    second: Place,
    _threads: Threads,
}

fn two() -> Two {
    let here = Workers::runtime(2).unwrap();
    let (workers, threads) = Workers::start(here.handle().clone(), 2).unwrap();
    Two { _first: workers.place(), second: workers.place(), here, _threads: threads }
}

#[test]
fn a_thread_takes_over_connections_and_then_uses_its_own() {
    let Two { here, second, .. } = &two();
    let (ca, acceptor) = authority(&["localhost"]);
    for tls in [None, Some(acceptor)] {
        let url = numbering(tls);
        let upstream = here.block_on(async { upstream(|o| o.ca_file = Some(ca.path().to_owned())) });
        let fetch = || fetch(upstream.clone(), url.clone());
        let fetch_there = || end_there(&begin_there(second, &upstream, &url));

        let ((one, _), (other, _)) = here.block_on(async { tokio::join!(fetch(), fetch()) });
        let mut numbers = [one.as_str(), other.as_str()];
        numbers.sort_unstable();
        assert_eq!(numbers, ["0", "1"]);

        let (theirs, reused) = fetch_there();
        assert!(reused, "one is opened though two are idle");
        let ours = if theirs == "0" { "1" } else { "0" };
        for _ in 0..2 {
            assert_eq!(here.block_on(fetch()), (ours.to_owned(), true), "the other was used last, but there");
            assert_eq!(fetch_there(), (theirs.clone(), true));
            upstream.0.way.load().pool.sweep();
        }
        assert_eq!((upstream.stats().opened, upstream.stats().idle), (2, 2));
    }
}

#[test]
fn a_thread_gets_what_another_one_gives_back() {
    let Two { here, second, .. } = &two();
    let url = numbering(None);
    let upstream = here.block_on(async { upstream(|options| options.connections_per_origin = 1) });
    // The only one that may be open is this thread's until it has its answer.
    let meanwhile = async {
        one_is_opened(&upstream).await;
        let told = begin_there(second, &upstream, &url);
        // The other thread gets to this when that waits.
        let (tell, waits) = mpsc::channel();
        second.elsewhere().unwrap().spawn(async move { tell.send(()) });
        waits.recv_timeout(HANG).unwrap();
        told
    };
    let (_, told) = here.block_on(async { tokio::join!(fetch(upstream.clone(), url.clone()), meanwhile) });
    assert_eq!(end_there(&told), ("0".to_owned(), true));
}

#[test]
fn the_bound_on_an_origins_idle_connections_is_for_all_threads() {
    let Two { here, second, .. } = &two();
    let url = numbering(None);
    let upstream = here.block_on(async { upstream(|options| options.idle_per_origin = 1) });
    // This thread's has asked and not yet got its answer when the other's comes, opens a second one, and gives it back.
    let meanwhile = async {
        one_is_opened(&upstream).await;
        end_there(&begin_there(second, &upstream, &url))
    };
    let (ours, theirs) =
        here.block_on(async { tokio::join!(fetch(upstream.clone(), url.clone()), meanwhile) });
    assert_eq!((ours, theirs), (("0".to_owned(), false), ("1".to_owned(), false)));
    assert_eq!((upstream.stats().opened, upstream.stats().idle), (2, 1));
    let again = end_there(&begin_there(second, &upstream, &url));
    assert_eq!(again, ("0".to_owned(), true), "its own was idle for longer");
}
