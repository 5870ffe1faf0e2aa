//! Through a parent proxy.

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

fn through(urls: &[String]) -> Upstream {
    upstream(|o| o.parents = urls.iter().map(|url| Parent::parse(url).unwrap()).collect())
}

#[tokio::test]
async fn plain_requests_go_to_the_parent_in_absolute_form() {
    let (listener, address) = listen().await;
    let parent = tokio::spawn(async move {
        let (mut stream, first) = say(&listener, OK).await;
        (first, answer(&mut stream, OK).await)
    });
    let upstream = through(&[format!("http://user:secret@{address}")]);
    let first = send(&upstream, get("http://origin.test/a?b")).await.unwrap();
    assert_eq!(first.address, address);
    text(first.body).await.unwrap();
    // Another origin, the same parent: the connection serves again.
    let second = send(&upstream, get("http://other.test:81/")).await.unwrap();
    assert!(second.reused);
    text(second.body).await.unwrap();
    let (first, second) = parent.await.unwrap();
    assert!(first.starts_with("GET http://origin.test/a?b HTTP/1.1\r\n"));
    assert!(first.contains("host: origin.test\r\n"));
    assert!(first.contains("proxy-authorization: Basic dXNlcjpzZWNyZXQ=\r\n"));
    assert!(second.starts_with("GET http://other.test:81/ HTTP/1.1\r\n"));
}

#[tokio::test]
async fn a_tunnel_goes_through_the_parent_and_early_bytes_come_first() {
    let (listener, address) = listen().await;
    let parent = tokio::spawn(async move {
        let (mut stream, head) = say(&listener, "HTTP/1.1 200 Connected\r\n\r\nearly").await;
        let mut word = [0; 4];
        stream.read_exact(&mut word).await.unwrap();
        (head, word)
    });
    let upstream = through(&[format!("http://user:secret@{address}")]);
    let mut dialed = upstream.dial(&Host::Name("origin.test".into()), 443, &[], &anywhere()).await.unwrap();
    assert_eq!(dialed.address, address);
    let mut early = dialed.early.to_vec();
    while early.len() < 5 {
        early.push(dialed.stream.read_u8().await.unwrap());
    }
    assert_eq!(early, b"early");
    dialed.stream.write_all(b"word").await.unwrap();
    let (head, word) = parent.await.unwrap();
    assert!(head.starts_with("CONNECT origin.test:443 HTTP/1.1\r\n"));
    assert!(head.contains("host: origin.test:443\r\n"));
    assert!(head.contains("proxy-authorization: Basic dXNlcjpzZWNyZXQ=\r\n"));
    assert_eq!(&word, b"word");
}

/// What a parent's answer to a CONNECT comes to.
async fn refused(wire: &'static str) -> UpstreamError {
    let (listener, address) = listen().await;
    let parent = tokio::spawn(async move { drop(say(&listener, wire).await) });
    let upstream = through(&[format!("http://{address}")]);
    let error = upstream.dial(&Host::Name("origin.test".into()), 443, &[], &anywhere()).await.err().unwrap();
    parent.await.unwrap();
    error
}

#[tokio::test]
async fn a_parents_refusal_is_told_with_its_reason() {
    let wants = "HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n";
    let error = refused(wants).await;
    assert_eq!(error.kind, ProxyError::HttpProtocolError);
    assert!(error.what.contains("407") && error.what.contains("upstream.parents"), "{error}");
    for (answer, kind, status) in [
        ("403 No", ProxyError::HttpRequestDenied, 403),
        ("503 No", ProxyError::DestinationUnavailable, 503),
        ("504 Late", ProxyError::ConnectionTimeout, 504),
        ("508 Loop", ProxyError::ProxyLoopDetected, 508),
        ("502 No", ProxyError::DestinationNotFound, 502),
        ("404 No", ProxyError::DestinationNotFound, 502),
        ("302 There", ProxyError::DestinationNotFound, 502),
        ("500 No", ProxyError::DestinationNotFound, 502),
    ] {
        let wire = format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n");
        let error = refused(wire.leak()).await;
        assert_eq!((error.kind, error.kind.status().as_u16()), (kind, status), "{answer}");
        assert!(error.what.contains(&answer[..3]), "{error}");
    }
    // An answer like any other to hyper, though it is a 2xx.
    assert_eq!(refused("HTTP/1.1 204 No\r\n\r\n").await.kind, ProxyError::DestinationNotFound);
    assert_eq!(refused("HTTP/1.1 200 O").await.kind, ProxyError::HttpResponseIncomplete);
    assert_eq!(refused("").await.kind, ProxyError::ConnectionTerminated);
}

#[tokio::test]
async fn any_other_success_opens_the_tunnel() {
    let (listener, address) = listen().await;
    let parent = tokio::spawn(async move { say(&listener, "HTTP/1.1 299 Fine\r\n\r\nearly").await });
    let upstream = through(&[format!("http://{address}")]);
    upstream.dial(&Host::Name("origin.test".into()), 443, &[], &anywhere()).await.unwrap();
    drop(parent.await.unwrap());
}

#[tokio::test]
async fn a_407_to_a_plain_request_is_between_us_and_the_parent() {
    let (listener, address) = listen().await;
    let wants = "HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n";
    let parent = tokio::spawn(async move { say(&listener, wants).await });
    let error =
        send(&through(&[format!("http://{address}")]), get("http://origin.test/")).await.err().unwrap();
    assert_eq!(error.kind, ProxyError::HttpProtocolError);
    assert!(error.what.contains("upstream.parents"), "{error}");
    drop(parent.await.unwrap());
}

#[tokio::test]
async fn a_parent_that_cannot_be_reached_gives_way_to_the_next() {
    let (dead, nowhere) = listen().await;
    drop(dead);
    let (listener, address) = listen().await;
    let parent = tokio::spawn(async move {
        let (stream, _) = say(&listener, OK).await;
        let (tunnel, _) = say(&listener, "HTTP/1.1 200 Connected\r\n\r\n").await;
        drop((stream, tunnel));
    });
    let upstream = through(&[format!("http://{nowhere}"), format!("http://{address}")]);
    assert_eq!(send(&upstream, get("http://origin.test/")).await.unwrap().address, address);
    let dialed = upstream.dial(&Host::Name("origin.test".into()), 443, &[], &anywhere()).await.unwrap();
    assert_eq!(dialed.address, address);
    parent.await.unwrap();
}

#[tokio::test]
async fn what_the_list_names_goes_without() {
    let (dead, nowhere) = listen().await;
    drop(dead);
    let (listener, address) = listen().await;
    let origin = tokio::spawn(async move { say(&listener, OK).await.1 });
    let upstream = upstream(|o| {
        o.parents = vec![Parent::parse(&format!("http://{nowhere}")).unwrap()];
        o.no_proxy = vec!["127.0.0.0/8".to_owned()];
    });
    send(&upstream, at(address)).await.unwrap();
    assert!(origin.await.unwrap().starts_with("GET / HTTP/1.1\r\n"));
}

#[tokio::test]
async fn addresses_inside_are_refused_on_the_way_to_a_parent_too() {
    let (listener, address) = listen().await;
    let upstream = through(&[format!("http://{address}")]);
    let guarded = Grant::plain(Arc::new(Access::new(access::Options::default(), Vec::new())));
    for host in ["127.0.0.1", "localhost", "169.254.169.254"] {
        let call = Call { grant: guarded.clone(), ..get(&format!("http://{host}/")) };
        assert_eq!(send(&upstream, call).await.err().unwrap().kind, ProxyError::DestinationIpProhibited);
        let host = host.parse().map_or_else(|_| Host::Name(host.into()), Host::Ip);
        let error = upstream.dial(&host, 443, &[], &guarded).await.err().unwrap();
        assert_eq!(error.kind, ProxyError::DestinationIpProhibited);
    }
    assert_eq!(upstream.stats().opened, 0);
    drop(listener);
}
