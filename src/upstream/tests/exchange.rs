//! One exchange: framing, faults of the origin, time limits, interim responses, bodies both ways.

use std::sync::Mutex;

use http::header::{CONTENT_LENGTH, EXPECT, HeaderName, TRAILER};
use http::{HeaderValue, StatusCode};
use hyper_util::rt::TokioIo;

use super::*;

#[track_caller]
fn check(wire: &'static str, expected: Result<&str, ProxyError>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let limits = |o: &mut Options| (o.max_fields, o.max_interim, o.max_head) = (20, 3, 8 * 1024);
    let found = runtime.block_on(outcome(wire, limits));
    assert_eq!(found.as_ref().map(String::as_str), expected.as_ref().map(|text| *text));
}

#[test]
fn each_framing_delivers_its_body() {
    check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", Ok("hi"));
    check("HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nhi", Ok("hi"));
    check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi and more", Ok("hi"));
    check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", Ok("hi"));
    check("HTTP/1.1 200 OK\r\n\r\nhi", Ok("hi"));
    check("HTTP/1.0 200 OK\r\n\r\nhi", Ok("hi"));
    check("HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n2\r\nhi", Ok("2\r\nhi"));
    let both =
        "HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    check(both, Ok("hi"));
    check("HTTP/1.1 204 No Content\r\n\r\nhi", Ok(""));
    check("HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nhi", Ok(""));
    check("HTTP/1.1 599 Odd\r\nContent-Length: 2\r\n\r\nhi", Ok("hi"));
}

#[test]
fn a_body_that_breaks_off_is_an_error() {
    check("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi", Err(ProxyError::HttpResponseIncomplete));
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n";
    check(chunked, Err(ProxyError::HttpResponseIncomplete));
    let malformed = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhi\r\n0\r\n\r\n";
    check(malformed, Err(ProxyError::HttpResponseTransferCoding));
}

#[test]
fn a_head_that_is_no_response_is_an_error() {
    check("", Err(ProxyError::ConnectionTerminated));
    check("HTTP/1.1 200 OK\r\nA: b\r\n", Err(ProxyError::HttpResponseIncomplete));
    check("SSH-2.0-OpenSSH_9.6\r\n", Err(ProxyError::HttpProtocolError));
    check("<html></html>\r\n\r\n", Err(ProxyError::HttpProtocolError));
    check("HTTP/1.1 099 Odd\r\n\r\n", Err(ProxyError::HttpProtocolError));
    check("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", Err(ProxyError::HttpProtocolError));
    let differing = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nhi";
    check(differing, Err(ProxyError::HttpProtocolError));
    let coded = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    check(coded, Err(ProxyError::HttpProtocolError));
    check("HTTP/1.1 407 Proxy\r\nContent-Length: 0\r\n\r\n", Err(ProxyError::HttpProtocolError));
    check(
        "HTTP/1.1 101 Switch\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        Err(ProxyError::HttpProtocolError),
    );
}

#[test]
fn a_head_beyond_the_limits_is_an_error() {
    let fields =
        |n: usize| format!("HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n", "a: b\r\n".repeat(n - 1));
    check(fields(20).leak(), Ok(""));
    check(fields(21).leak(), Err(ProxyError::HttpResponseHeaderSectionSize));
    check(fields(22).leak(), Err(ProxyError::HttpResponseHeaderSectionSize));
    let long = format!("HTTP/1.1 200 OK\r\na: {}\r\nContent-Length: 0\r\n\r\n", "b".repeat(9_000));
    check(long.leak(), Err(ProxyError::HttpResponseHeaderSectionSize));
    let interim = |n: usize| {
        format!(
            "{}HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(n)
        )
    };
    check(interim(3).leak(), Ok(""));
    check(
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n",
        Err(ProxyError::HttpResponseIncomplete),
    );
    let trailers = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\na: {}\r\n\r\n",
        "b".repeat(20_000)
    );
    check(trailers.leak(), Err(ProxyError::HttpResponseTransferCoding));
}

#[tokio::test]
async fn a_flood_of_interim_responses_ends_the_exchange() {
    let (listener, address) = listen().await;
    let origin = tokio::spawn(async move {
        let flood = "HTTP/1.1 102 Processing\r\n\r\n".repeat(11);
        closed(say(&listener, &flood).await.0).await
    });
    let error = send(&upstream(|_| ()), at(address)).await.err().unwrap();
    assert_eq!(error.kind, ProxyError::HttpProtocolError);
    assert!(origin.await.unwrap());
}

#[tokio::test]
async fn interim_responses_are_told_at_once_and_in_order() {
    let (listener, address) = listen().await;
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let origin = tokio::spawn(async move {
        let hints =
            "HTTP/1.1 103 Early Hints\r\nLink: <a>\r\nConnection: x\r\nX: 1\r\n\r\nHTTP/1.1 142 Odd\r\n\r\n";
        let (mut stream, _) = say(&listener, hints).await;
        // The final response comes only after both were told.
        let first: (StatusCode, HeaderMap) = heard.recv().await.unwrap();
        let second = heard.recv().await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        (first, second)
    });
    let on_interim: OnInterim = Arc::new(move |status, _, headers| {
        told.send((status, headers)).unwrap();
    });
    let received =
        send(&upstream(|_| ()), Call { on_interim: Some(on_interim), ..at(address) }).await.unwrap();
    let ((first, fields), (second, _)) = origin.await.unwrap();
    assert_eq!((first.as_u16(), second.as_u16(), received.status.as_u16()), (103, 142, 200));
    assert_eq!(fields.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["link"]);
    assert!(received.headers.get("link").is_none());
}

#[tokio::test]
async fn an_origin_with_two_framings_is_trusted_no_further() {
    let (listener, address) = listen().await;
    let origin = tokio::spawn(async move {
        let both =
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
        closed(say(&listener, both).await.0).await
    });
    let received = send(&upstream(|_| ()), at(address)).await.unwrap();
    assert!(!received.framing_ok);
    assert!(!received.headers.contains_key(CONTENT_LENGTH));
    assert_eq!(text(received.body).await.unwrap(), "hi");
    assert!(origin.await.unwrap());
}

#[tokio::test]
async fn a_request_goes_out_whole_and_framed() {
    #[track_caller]
    fn has(head: &str, line: &str) {
        assert!(head.lines().any(|found| found.eq_ignore_ascii_case(line)), "{line} in {head}");
    }
    let (listener, address) = listen().await;
    let origin = tokio::spawn(async move {
        let ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let (mut stream, first) = say(&listener, ok).await;
        let mut heads = vec![first];
        for body in ["2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", "hello", ""] {
            let head = head(&mut stream).await;
            let mut read = vec![0; body.len()];
            stream.read_exact(&mut read).await.unwrap();
            assert_eq!(std::str::from_utf8(&read).unwrap(), body);
            stream.write_all(ok.as_bytes()).await.unwrap();
            heads.push(head);
        }
        heads
    });
    let upstream = upstream(|_| ());
    send(&upstream, get(&format!("http://{address}/a?b=%zz"))).await.unwrap();
    let seven = &|| HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from_static("7"))]);
    let unknown = Call { headers: seven, body: frames(["ab", "c"], End::Well), ..at(address) };
    send(&upstream, unknown).await.unwrap();
    send(&upstream, post(address, Body::full("hello"))).await.unwrap();
    let none = &|| HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from_static("0"))]);
    let empty = Call { headers: none, ..post(address, Body::Empty) };
    let last = send(&upstream, empty).await.unwrap();
    assert!(last.reused);
    let heads = origin.await.unwrap();
    assert!(heads[0].starts_with("GET /a?b=%zz HTTP/1.1\r\n"));
    has(&heads[0], &format!("host: {address}"));
    has(&heads[0], "te: trailers");
    has(&heads[0], "connection: te");
    has(&heads[1], "transfer-encoding: chunked");
    assert!(!heads[1].contains("content-length"));
    has(&heads[2], "content-length: 5");
    has(&heads[3], "content-length: 0");
}

#[tokio::test]
async fn a_request_whose_body_breaks_off_never_looks_complete() {
    let (listener, address) = listen().await;
    let origin = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut all = Vec::new();
        // Reset or closed.
        let _ = stream.read_to_end(&mut all).await;
        String::from_utf8(all).unwrap()
    });
    let error = send(&upstream(|_| ()), post(address, frames(["ab"], End::Broken))).await.err().unwrap();
    assert_eq!(error.kind, ProxyError::HttpRequestError);
    assert!(!origin.await.unwrap().contains("0\r\n\r\n"));
}

fn expecting(address: SocketAddr, body: Body) -> Call<'static> {
    let headers = &|| HeaderMap::from_iter([(EXPECT, HeaderValue::from_static("100-continue"))]);
    Call { headers, ..post(address, body) }
}

#[tokio::test]
async fn an_expected_body_waits_for_the_origins_100() {
    let (listener, address) = listen().await;
    let origin = tokio::spawn(async move {
        let (mut stream, head) = say(&listener, "").await;
        assert!(head.to_ascii_lowercase().contains("expect: 100-continue\r\n"));
        // Nothing of the body has been sent: the next bytes come only after the 100.
        assert!(stream.try_read(&mut [0; 1]).is_err());
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        let mut body = [0; 5];
        stream.read_exact(&mut body).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        body
    });
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let mut call = expecting(address, Body::full("hello"));
    call.on_interim = Some(Arc::new(move |status, _, _| noted.lock().unwrap().push(status)));
    let upstream = upstream(|o| o.expect_timeout = HANG);
    assert_eq!(send(&upstream, call).await.unwrap().status, 200);
    assert_eq!(&origin.await.unwrap(), b"hello");
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_expected_body_goes_out_when_the_100_does_not_come() {
    let (listener, address) = listen().await;
    let origin = tokio::spawn(async move {
        let (mut stream, _) = say(&listener, "").await;
        let mut body = [0; 5];
        stream.read_exact(&mut body).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    });
    let upstream = upstream(|o| o.expect_timeout = SOON);
    assert_eq!(send(&upstream, expecting(address, Body::full("hello"))).await.unwrap().status, 200);
    origin.await.unwrap();
}

#[tokio::test]
async fn a_refused_expectation_keeps_the_body_in_and_ends_the_connection() {
    let (listener, address) = listen().await;
    let origin = tokio::spawn(async move {
        let (mut stream, _) = say(&listener, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno").await;
        let mut rest = Vec::new();
        tokio::time::timeout(HANG, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
        rest
    });
    let upstream = upstream(|o| o.expect_timeout = SOON);
    let received = send(&upstream, expecting(address, frames(["hello"], End::Well))).await.unwrap();
    assert_eq!((received.status.as_u16(), text(received.body).await.unwrap().as_str()), (413, "no"));
    assert_eq!(origin.await.unwrap(), b"");
}

/// An origin that takes the request's head, says `wire`, and then neither speaks, reads nor closes.
async fn silent(
    wire: &'static str,
    call: impl FnOnce(SocketAddr) -> Call<'static>,
) -> Result<String, ProxyError> {
    let (listener, address) = listen().await;
    let origin = tokio::spawn(async move {
        let (stream, _) = say(&listener, wire).await;
        std::future::pending::<()>().await;
        drop(stream);
    });
    let upstream = upstream(|o| (o.first_byte_timeout, o.between_bytes_timeout) = (SOON, SOON));
    let outcome = match send(&upstream, call(address)).await {
        Ok(received) => text(received.body).await.map_err(|error| error.kind),
        Err(error) => Err(error.kind),
    };
    origin.abort();
    outcome
}

#[tokio::test]
async fn what_stalls_ends_at_its_limit() {
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi";
    let endless = || Body::Boxed(Box::pin(Endless));
    assert_eq!(silent("", at).await, Err(ProxyError::HttpResponseTimeout));
    assert_eq!(silent("HTTP/1.1 200 OK\r\n", at).await, Err(ProxyError::HttpResponseTimeout));
    assert_eq!(silent(half, at).await, Err(ProxyError::ConnectionReadTimeout));
    assert_eq!(silent("", |address| post(address, endless())).await, Err(ProxyError::ConnectionWriteTimeout));
}

/// A body without end.
struct Endless;

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = body::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, body::Error>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; 16 * 1024])))))
    }
}

#[tokio::test]
async fn trailers_pass_both_ways_and_those_of_a_response_less_the_forbidden_ones() {
    let (listener, address) = listen().await;
    let origin = tokio::spawn(async move {
        let (mut stream, _) = say(&listener, "").await;
        let mut body = Vec::new();
        while !body.ends_with(b"\r\n\r\n") {
            body.push(stream.read_u8().await.unwrap());
        }
        let response = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\nConnection: y\r\n\r\n\
                        2\r\nhi\r\n0\r\nX: 1\r\nY: 1\r\nContent-Length: 7\r\n\r\n";
        stream.write_all(response.as_bytes()).await.unwrap();
        String::from_utf8(body).unwrap()
    });
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("1"));
    let sent = [Frame::data(Bytes::from_static(b"a")), Frame::trailers(trailers)];
    let headers = &|| HeaderMap::from_iter([(TRAILER, HeaderValue::from_static("x-sum"))]);
    let body = Body::Boxed(Box::pin(Frames { frames: sent.into(), end: End::Well }));
    let call = Call { headers, ..post(address, body) };
    let received = send(&upstream(|_| ()), call).await.unwrap();
    let collected = received.body.collect().await.unwrap();
    let names: Vec<_> = collected.trailers().unwrap().keys().map(HeaderName::as_str).collect();
    assert_eq!(names, ["x"]);
    assert_eq!(origin.await.unwrap(), "1\r\na\r\n0\r\nx-sum: 1\r\n\r\n");
}

#[tokio::test]
async fn an_upgrade_hands_over_the_connection() {
    let (listener, address) = listen().await;
    let origin = tokio::spawn(async move {
        let switch = "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nfirst";
        let (mut stream, head) = say(&listener, switch).await;
        assert!(head.contains("upgrade: websocket\r\n") && head.contains("connection: upgrade\r\n"));
        let mut word = [0; 4];
        stream.read_exact(&mut word).await.unwrap();
        word
    });
    let call = Call { upgrade: Some(HeaderValue::from_static("websocket")), ..at(address) };
    let received = send(&upstream(|_| ()), call).await.unwrap();
    assert_eq!((received.status.as_u16(), received.protocol.unwrap().to_str().unwrap()), (101, "websocket"));
    let upgraded = tokio::time::timeout(HANG, received.upgraded.unwrap()).await.unwrap().unwrap();
    let parts = upgraded.downcast::<TokioIo<Wire>>().unwrap();
    assert_eq!(&parts.read_buf[..], b"first");
    let Stream::Tcp(mut tcp) = parts.io.into_inner().into_stream() else { panic!("not in the clear") };
    tcp.write_all(b"word").await.unwrap();
    assert_eq!(&origin.await.unwrap(), b"word");
}
