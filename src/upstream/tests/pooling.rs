//! Connections between requests: reuse, ends of life, bounds, and what is sent again.

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

async fn fetch(upstream: &Upstream, call: Call<'_>) -> (String, bool) {
    let received = send(upstream, call).await.unwrap();
    let reused = received.reused;
    (text(received.body).await.unwrap(), reused)
}

#[tokio::test]
async fn a_connection_serves_again() {
    let (listener, address) = listen().await;
    let origin = tokio::spawn(async move {
        let (mut stream, _) = say(&listener, OK).await;
        answer(&mut stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")
            .await;
        answer(&mut stream, OK).await;
    });
    let upstream = upstream(|_| ());
    assert_eq!(fetch(&upstream, at(address)).await, ("hi".to_owned(), false));
    assert_eq!(fetch(&upstream, at(address)).await, ("hi".to_owned(), true));
    assert_eq!(fetch(&upstream, at(address)).await, ("hi".to_owned(), true));
    origin.await.unwrap();
    let stats = upstream.stats();
    assert_eq!((stats.opened, stats.reused, stats.retried), (1, 2, 0));
}

/// Whether a connection is used again after `wire`, which the client reads whole.
async fn reused_after(wire: &'static str) -> bool {
    let (listener, address) = listen().await;
    let origin = tokio::spawn(async move {
        let (mut first, _) = say(&listener, wire).await;
        tokio::select! {
            accepted = listener.accept() => { answer(&mut accepted.unwrap().0, OK).await; }
            _ = answer(&mut first, OK) => {
                // A closed connection reads as an empty head.
                if let Ok(Ok((mut second, _))) = tokio::time::timeout(SOON, listener.accept()).await {
                    answer(&mut second, OK).await;
                }
            }
        }
    });
    let upstream = upstream(|_| ());
    fetch(&upstream, at(address)).await;
    let (_, reused) = fetch(&upstream, at(address)).await;
    origin.await.unwrap();
    reused
}

#[tokio::test]
async fn only_a_clean_http_1_1_connection_serves_again() {
    assert!(reused_after(OK).await);
    assert!(reused_after("HTTP/1.1 204 No Content\r\n\r\n").await);
    assert!(reused_after("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=2\r\nContent-Length: 2\r\n\r\nhi").await);
    assert!(!reused_after("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\nContent-Length: 2\r\n\r\nhi").await);
    assert!(!reused_after("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi").await);
    assert!(!reused_after("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi").await);
    assert!(!reused_after("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi and more").await);
}

#[tokio::test]
async fn a_body_that_is_not_read_closes_its_connection() {
    let (listener, address) = listen().await;
    let origin = tokio::spawn(async move {
        let (stream, _) = say(&listener, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi").await;
        closed(stream).await
    });
    let upstream = upstream(|_| ());
    drop(send(&upstream, at(address)).await.unwrap());
    assert!(origin.await.unwrap());
}

#[tokio::test]
async fn a_request_that_is_given_up_closes_its_connection() {
    let (listener, address) = listen().await;
    let (asked, was_asked) = tokio::sync::oneshot::channel();
    let origin = tokio::spawn(async move {
        let (stream, _) = say(&listener, "").await;
        asked.send(()).unwrap();
        closed(stream).await
    });
    let upstream = upstream(|_| ());
    let mut call = at(address);
    tokio::select! {
        _ = upstream.send(&mut call) => panic!("it was answered"),
        _ = was_asked => {}
    }
    assert!(origin.await.unwrap());
}

#[tokio::test]
async fn any_request_survives_a_pooled_connection_that_its_origin_closed() {
    let (listener, address) = listen().await;
    let (gone, is_gone) = tokio::sync::oneshot::channel();
    let origin = tokio::spawn(async move {
        drop(say(&listener, OK).await);
        gone.send(()).unwrap();
        let (mut stream, _) = say(&listener, "").await;
        let mut body = [0; 5];
        stream.read_exact(&mut body).await.unwrap();
        stream.write_all(OK.as_bytes()).await.unwrap();
        body
    });
    let upstream = upstream(|_| ());
    fetch(&upstream, at(address)).await;
    is_gone.await.unwrap();
    assert_eq!(fetch(&upstream, post(address, Body::full("hello"))).await, ("hi".to_owned(), false));
    assert_eq!(&origin.await.unwrap(), b"hello");
}

#[tokio::test]
async fn a_request_that_never_left_goes_out_on_a_new_connection() {
    let (listener, address) = listen().await;
    let upstream = upstream(|_| ());
    let (stream, _) = tokio::join!(async { say(&listener, OK).await.0 }, fetch(&upstream, at(address)));
    // Nothing is awaited between the close and the next request: nobody has looked at the connection since.
    drop(stream);
    let origin = async {
        let (mut stream, _) = say(&listener, "").await;
        let mut body = [0; 5];
        stream.read_exact(&mut body).await.unwrap();
        stream.write_all(OK.as_bytes()).await.unwrap();
        body
    };
    let again = fetch(&upstream, post(address, Body::full("hello")));
    let ((answer, reused), body) = tokio::join!(again, origin);
    assert_eq!((answer.as_str(), reused, &body), ("hi", false, b"hello"));
    assert_eq!(upstream.stats().retried, 1);
}

/// Content that is asked for when hyper has taken the request, and nothing is written yet. Then the origin speaks.
struct Meanwhile(Option<TcpStream>);

impl http_body::Body for Meanwhile {
    type Data = Bytes;
    type Error = body::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, body::Error>>> {
        let Some(far) = self.0.take() else { return Poll::Ready(None) };
        far.try_write(OK.as_bytes()).unwrap();
        // It is not ended: that would be told as well.
        std::mem::forget(far);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"hello")))))
    }
}

#[tokio::test]
async fn what_comes_between_two_looks_is_no_answer() {
    let (listener, address) = listen().await;
    let upstream = upstream(|_| ());
    let (far, _) = tokio::join!(async { say(&listener, OK).await.0 }, fetch(&upstream, at(address)));
    let sent = send(&upstream, post(address, Body::boxed(Meanwhile(Some(far))))).await;
    // Its content has begun, so it can't be sent again.
    assert_eq!(sent.err().map(|error| error.kind), Some(ProxyError::ConnectionTerminated));
    assert_eq!((upstream.stats().opened, upstream.stats().retried), (1, 0));
}

#[tokio::test]
async fn what_is_sent_again_never_meets_a_second_dead_connection() {
    let (listener, address) = listen().await;
    let upstream = upstream(|_| ());
    let origin = tokio::spawn(async move {
        let (mut first, _) = say(&listener, "").await;
        let (mut second, _) = say(&listener, "").await;
        first.write_all(OK.as_bytes()).await.unwrap();
        second.write_all(OK.as_bytes()).await.unwrap();
        // Whichever is used again is closed after the request. The other would do the same.
        let dies = |mut stream: TcpStream| async move {
            head(&mut stream).await;
        };
        tokio::select! {
            () = async { tokio::join!(dies(first), dies(second)); } => panic!("both were tried"),
            third = say(&listener, OK) => third.0,
        }
    });
    tokio::join!(fetch(&upstream, at(address)), fetch(&upstream, at(address)));
    assert_eq!(fetch(&upstream, at(address)).await, ("hi".to_owned(), false));
    drop(origin.await.unwrap());
    assert_eq!(upstream.stats().retried, 1);
}

/// The origin answers once, then reads the second request on the same connection and closes; all further
/// connections are closed after the request, except that the last of `more` answers. Returns the outcome of the
/// second request, and how many connections the origin saw.
async fn closed_on_reuse(
    call: impl FnOnce(SocketAddr) -> Call<'static>,
    more: usize,
) -> (Option<ProxyError>, usize) {
    let (listener, address) = listen().await;
    let origin = tokio::spawn(async move {
        let (mut first, _) = say(&listener, OK).await;
        head(&mut first).await;
        drop(first);
        let mut seen = 1;
        for left in (0..more).rev() {
            let (mut stream, _) = listener.accept().await.unwrap();
            seen += 1;
            head(&mut stream).await;
            if left == 0 {
                stream.write_all(OK.as_bytes()).await.unwrap();
            }
        }
        seen
    });
    let upstream = upstream(|_| ());
    fetch(&upstream, at(address)).await;
    let failure = send(&upstream, call(address)).await.err().map(|error| error.kind);
    if failure.is_some() {
        origin.abort();
    }
    (failure, origin.await.unwrap_or(0))
}

#[tokio::test]
async fn what_was_written_is_sent_again_once_and_only_if_that_is_safe() {
    let deleting = |address| Call { method: Method::DELETE, ..at(address) };
    let putting = |address| Call { method: Method::PUT, body: Body::full("x"), ..at(address) };
    let closed = Some(ProxyError::ConnectionTerminated);
    assert_eq!(closed_on_reuse(at, 1).await, (None, 2));
    assert_eq!(closed_on_reuse(deleting, 1).await, (None, 2));
    assert_eq!(closed_on_reuse(|address| post(address, Body::Empty), 0).await.0, closed);
    assert_eq!(closed_on_reuse(putting, 0).await.0, closed);
    // The new connection is no reused one: no third attempt.
    assert_eq!(closed_on_reuse(at, 2).await.0, closed);
}

#[tokio::test]
async fn a_cut_answer_is_never_asked_for_again() {
    let (listener, address) = listen().await;
    let origin = tokio::spawn(async move {
        let (mut stream, _) = say(&listener, OK).await;
        answer(&mut stream, "HTTP/1.1 2").await;
        drop(stream);
        listener
    });
    let upstream = upstream(|_| ());
    fetch(&upstream, at(address)).await;
    let error = send(&upstream, at(address)).await.err().unwrap();
    assert_eq!((error.kind, error.address), (ProxyError::HttpResponseIncomplete, Some(address)));
    origin.await.unwrap();
    assert_eq!(upstream.stats().opened, 1);
}

#[tokio::test]
async fn an_idle_connection_is_dropped_a_second_before_its_origin_would_close_it() {
    let (clock, hand) = Clock::manual(1_000_000);
    let upstream =
        Upstream::new(Options::default(), Buffers::new(&body::buffers::Options::default()), clock).unwrap();
    let (listener, address) = listen().await;
    let origin = tokio::spawn(async move {
        let limited = "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nContent-Length: 2\r\n\r\nhi";
        let (mut first, _) = say(&listener, limited).await;
        answer(&mut first, limited).await;
        let (second, _) = say(&listener, OK).await;
        (closed(first).await, second)
    });
    assert!(!fetch(&upstream, at(address)).await.1);
    hand.advance(Duration::from_millis(3_999));
    assert!(fetch(&upstream, at(address)).await.1);
    hand.advance(Duration::from_secs(4));
    assert!(!fetch(&upstream, at(address)).await.1);
    let (first_closed, second) = origin.await.unwrap();
    assert!(first_closed);
    // The idle limit of our own: the sweep closes it with nobody asking.
    hand.advance(Duration::from_secs(60));
    assert!(closed(second).await);
}

#[tokio::test]
async fn content_that_was_taken_goes_out_although_its_answer_is_over() {
    // More than waits in sockets, and taken at once.
    const LENGTH: usize = 32 << 20;
    for wire in [OK, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi"] {
        let (listener, address) = listen().await;
        let upstream = upstream(|_| ());
        let (over, is_over) = tokio::sync::oneshot::channel();
        let origin = tokio::spawn(async move {
            let (mut stream, _) = say(&listener, wire).await;
            is_over.await.unwrap();
            let mut came = 0;
            let mut piece = vec![0; 1 << 16];
            while came < LENGTH {
                let read = stream.read(&mut piece).await.unwrap();
                assert_ne!(read, 0, "{came} bytes came");
                came += read;
            }
        });
        fetch(&upstream, post(address, Body::full(vec![b'x'; LENGTH]))).await;
        over.send(()).unwrap();
        tokio::time::timeout(HANG, origin).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn an_idle_connection_that_its_origin_closes_is_closed_here_too() {
    let (listener, address) = listen().await;
    let upstream = upstream(|_| ());
    let (far, _) = tokio::join!(async { say(&listener, OK).await.0 }, fetch(&upstream, at(address)));
    assert_eq!((upstream.stats().open, upstream.stats().idle), (1, 1));
    drop(far);
    let closed = async {
        while (upstream.stats().open, upstream.stats().idle) != (0, 0) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(HANG, closed).await.expect("nobody asked for it again");
}

#[tokio::test]
async fn an_origin_has_no_more_connections_than_allowed() {
    let (listener, address) = listen().await;
    let upstream = upstream(|o| o.connections_per_origin = 1);
    let release = Arc::new(tokio::sync::Notify::new());
    let freed = Arc::clone(&release);
    let origin = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        head(&mut stream).await;
        freed.notified().await;
        stream.write_all(OK.as_bytes()).await.unwrap();
        answer(&mut stream, OK).await;
    });
    let both = async { tokio::join!(fetch(&upstream, at(address)), fetch(&upstream, at(address))) };
    let (answers, ()) = tokio::join!(both, async {
        // Both have asked by the time that one of them has been polled twice.
        tokio::task::yield_now().await;
        release.notify_one();
    });
    let reused = [answers.0.1, answers.1.1];
    assert!(reused.contains(&true) && reused.contains(&false));
    origin.await.unwrap();
    assert_eq!(upstream.stats().opened, 1);
}

#[tokio::test]
async fn waiting_for_a_free_connection_has_a_limit() {
    let (listener, address) = listen().await;
    let upstream = upstream(|o| (o.connections_per_origin, o.connect_timeout) = (1, SOON));
    let origin =
        tokio::spawn(async move { say(&listener, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi").await });
    let first = send(&upstream, at(address)).await.unwrap();
    let error = send(&upstream, at(address)).await.err().unwrap();
    assert_eq!(error.kind, ProxyError::ConnectionLimitReached);
    drop((first, origin.await.unwrap()));
}

#[tokio::test]
async fn no_more_idle_connections_are_kept_than_allowed() {
    let (listener, address) = listen().await;
    let upstream = upstream(|o| o.idle_per_origin = 1);
    let origin = tokio::spawn(async move {
        let (mut first, _) = say(&listener, "").await;
        let (mut second, _) = say(&listener, "").await;
        first.write_all(OK.as_bytes()).await.unwrap();
        second.write_all(OK.as_bytes()).await.unwrap();
        tokio::select! { gone = closed(first) => gone, gone = closed(second) => gone }
    });
    tokio::join!(fetch(&upstream, at(address)), fetch(&upstream, at(address)));
    assert!(origin.await.unwrap());
    assert_eq!(upstream.stats().idle, 1);
}

#[tokio::test]
async fn nothing_is_left_when_all_is_over() {
    let (listener, address) = listen().await;
    let upstream = upstream(|o| o.idle_timeout = Duration::ZERO);
    let origin = tokio::spawn(async move { closed(say(&listener, OK).await.0).await });
    fetch(&upstream, at(address)).await;
    assert!(origin.await.unwrap());
    let ended = async {
        while upstream.stats().open > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(HANG, ended).await.unwrap();
    let way = upstream.0.way.load_full();
    assert_eq!(way.pool.sweep(), 0);
}

#[tokio::test]
async fn a_reload_keeps_connections_that_it_does_not_concern() {
    let (listener, address) = listen().await;
    let upstream = upstream(|_| ());
    let origin = tokio::spawn(async move {
        let (mut stream, _) = say(&listener, OK).await;
        answer(&mut stream, OK).await;
        say(&listener, OK).await
    });
    fetch(&upstream, at(address)).await;
    let patient = Options { first_byte_timeout: HANG, ..Options::default() };
    upstream.reconfigure(patient.clone()).unwrap();
    assert!(fetch(&upstream, at(address)).await.1);
    upstream.reconfigure(Options { idle_per_origin: 1, ..patient }).unwrap();
    assert!(!fetch(&upstream, at(address)).await.1);
    origin.await.unwrap();
    let wrong = Options { ca_file: Some("/nonexistent/ca.pem".into()), ..Options::default() };
    assert!(upstream.reconfigure(wrong).unwrap_err().to_string().contains("/nonexistent/ca.pem"));
}
