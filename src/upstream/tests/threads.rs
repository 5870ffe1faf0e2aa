//! Connections and the threads that serve: each uses its own first, and takes over those of others.

use std::sync::mpsc;

use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::worker::{Place, Workers};

/// An origin on a thread of its own, which answers with the number of the connection that it is asked on.
fn numbering() -> SocketAddr {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let (listener, address) = listen().await;
            tell.send(address).unwrap();
            for number in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}");
                    while !head(&mut stream).await.is_empty() {
                        stream.write_all(answer.as_bytes()).await.unwrap();
                    }
                });
            }
        });
    });
    told.recv().unwrap()
}

async fn fetch(upstream: Upstream, address: SocketAddr) -> (String, bool) {
    let received = upstream.send(&mut at(address)).await.unwrap();
    let reused = received.reused;
    (String::from_utf8(received.body.collect().await.unwrap().to_bytes().to_vec()).unwrap(), reused)
}

/// The same on another thread, while this one does nothing: it can't be woken through this one's runtime.
fn fetch_there(place: &Place, upstream: &Upstream, address: SocketAddr) -> (String, bool) {
    let (tell, told) = mpsc::channel();
    let upstream = upstream.clone();
    place.elsewhere().unwrap().spawn(async move { tell.send(fetch(upstream, address).await) });
    told.recv_timeout(HANG).expect("it waits for the other thread's runtime")
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn a_thread_takes_over_connections_and_then_uses_its_own() {
    let here = runtime();
    let (workers, _threads) = Workers::start(here.handle().clone(), 2).unwrap();
    let (_first, second) = (workers.place(), workers.place());
    let address = numbering();
    let upstream = here.block_on(async { upstream(|_| ()) });
    let fetch_here = || here.block_on(fetch(upstream.clone(), address));

    let both = async { tokio::join!(fetch(upstream.clone(), address), fetch(upstream.clone(), address)) };
    let ((one, _), (other, _)) = here.block_on(both);
    let mut numbers = [one.as_str(), other.as_str()];
    numbers.sort_unstable();
    assert_eq!(numbers, ["0", "1"]);

    let (theirs, reused) = fetch_there(&second, &upstream, address);
    assert!(reused, "one is opened though two are idle");
    let ours = if theirs == "0" { "1" } else { "0" };
    for _ in 0..2 {
        assert_eq!(fetch_here(), (ours.to_owned(), true), "the other one was used last, but there");
        assert_eq!(fetch_there(&second, &upstream, address), (theirs.clone(), true));
    }
    assert_eq!((upstream.stats().opened, upstream.stats().idle), (2, 2));
}

#[test]
fn the_bound_on_an_origins_idle_connections_is_for_all_threads() {
    let here = runtime();
    let (workers, _threads) = Workers::start(here.handle().clone(), 2).unwrap();
    let (_first, second) = (workers.place(), workers.place());
    let address = numbering();
    let upstream = here.block_on(async { upstream(|options| options.idle_per_origin = 1) });
    // This thread's has asked and not yet got its answer when the other's comes, opens a second one, and gives it back.
    let meanwhile = async {
        while upstream.stats().opened == 0 {
            tokio::task::yield_now().await;
        }
        fetch_there(&second, &upstream, address)
    };
    let (ours, theirs) = here.block_on(async { tokio::join!(fetch(upstream.clone(), address), meanwhile) });
    assert_eq!((ours, theirs), (("0".to_owned(), false), ("1".to_owned(), false)));
    assert_eq!((upstream.stats().opened, upstream.stats().idle), (2, 1));
    assert_eq!(
        fetch_there(&second, &upstream, address),
        ("0".to_owned(), true),
        "its own was idle for longer"
    );
}
