//! TLS towards origins, against one with a certificate of the test's own authority.

use std::io::Write;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tempfile::NamedTempFile;
use tokio_rustls::TlsAcceptor;

use super::*;

/// An authority in a file, and what a server for `names` presents.
pub(super) fn authority(names: &[&str]) -> (NamedTempFile, TlsAcceptor) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(issuer.pem().as_bytes()).unwrap();

    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (file, TlsAcceptor::from(Arc::new(config)))
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

#[tokio::test]
async fn https_is_verified_against_the_roots_given_and_speaks_http_1_1() {
    let (ca, acceptor) = authority(&["localhost"]);
    let (listener, address) = listen().await;
    let origin = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut tls = acceptor.accept(stream).await.unwrap();
        let alpn = tls.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        let name = tls.get_ref().1.server_name().map(str::to_owned);
        for _ in 0..2 {
            head(&mut tls).await;
            tls.write_all(OK.as_bytes()).await.unwrap();
        }
        (alpn, name)
    });
    let upstream = upstream(|o| o.ca_file = Some(ca.path().to_owned()));
    let url = format!("https://localhost:{}/", address.port());
    let first = send(&upstream, get(&url)).await.unwrap();
    assert_eq!(text(first.body).await.unwrap(), "hi");
    // An http target that a rule fetches over TLS shares the connection.
    let over = Call { fetch_over_https: true, ..get(&url.replace("https", "http")) };
    let second = send(&upstream, over).await.unwrap();
    assert!(second.reused);
    assert_eq!(text(second.body).await.unwrap(), "hi");
    let (alpn, name) = origin.await.unwrap();
    assert_eq!((alpn.as_deref(), name.as_deref()), (Some(&b"http/1.1"[..]), Some("localhost")));
}

#[tokio::test]
async fn https_goes_through_a_parents_tunnel() {
    let (ca, acceptor) = authority(&["origin.test"]);
    let (listener, address) = listen().await;
    let parent = tokio::spawn(async move {
        let (stream, head_) = say(&listener, "HTTP/1.1 200 Connected\r\n\r\n").await;
        let mut tls = acceptor.accept(stream).await.unwrap();
        let inner = head(&mut tls).await;
        tls.write_all(OK.as_bytes()).await.unwrap();
        (head_, inner)
    });
    let upstream = upstream(|o| {
        o.ca_file = Some(ca.path().to_owned());
        o.parents = vec![Parent::parse(&format!("http://{address}")).unwrap()];
    });
    let received = send(&upstream, get("https://origin.test/")).await.unwrap();
    assert_eq!(text(received.body).await.unwrap(), "hi");
    let (outer, inner) = parent.await.unwrap();
    assert!(outer.starts_with("CONNECT origin.test:443 "));
    assert!(inner.starts_with("GET / HTTP/1.1\r\n"));
    assert!(!inner.contains("proxy-authorization"));
}

#[tokio::test]
async fn a_parent_may_itself_be_spoken_to_over_tls() {
    let (ca, acceptor) = authority(&["localhost"]);
    let (listener, address) = listen().await;
    let parent = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut tls = acceptor.accept(stream).await.unwrap();
        let head = head(&mut tls).await;
        tls.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await.unwrap();
        tls.write_all(b"word").await.unwrap();
        tls.flush().await.unwrap();
        (head, tls)
    });
    let upstream = upstream(|o| {
        o.ca_file = Some(ca.path().to_owned());
        o.parents = vec![Parent::parse(&format!("https://localhost:{}", address.port())).unwrap()];
    });
    let mut dialed = upstream.dial(&Host::Name("origin.test".into()), 443, &[], &anywhere()).await.unwrap();
    let mut word = dialed.early.to_vec();
    while word.len() < 4 {
        word.push(dialed.stream.read_u8().await.unwrap());
    }
    assert_eq!(word, b"word");
    assert!(matches!(dialed.stream, Stream::Tls(_)));
    assert!(parent.await.unwrap().0.starts_with("CONNECT origin.test:443 "));
}

/// What a server with a certificate for `name`, trusted or not, comes to.
async fn handshake(name: &str, trusted: bool) -> Option<ProxyError> {
    let (ca, acceptor) = authority(&[name]);
    let (listener, address) = listen().await;
    let origin = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        if let Ok(mut tls) = acceptor.accept(stream).await {
            head(&mut tls).await;
        }
    });
    let upstream = upstream(|o| o.ca_file = trusted.then(|| ca.path().to_owned()));
    let sent = send(&upstream, get(&format!("https://localhost:{}/", address.port()))).await;
    origin.await.unwrap();
    sent.err().map(|error| error.kind)
}

#[tokio::test]
async fn a_certificate_that_does_not_hold_is_told_as_such() {
    assert_eq!(handshake("localhost", false).await, Some(ProxyError::TlsCertificateError));
    assert_eq!(handshake("other.test", true).await, Some(ProxyError::TlsCertificateError));
}

/// What an origin that says `wire` to a `ClientHello` comes to; with `None` it says nothing.
async fn garbage(wire: Option<&'static [u8]>) -> ProxyError {
    let (listener, address) = listen().await;
    let origin = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        match wire {
            Some(wire) => {
                // The whole ClientHello, so that the close is no reset.
                let _ = stream.read(&mut [0; 4096]).await.unwrap();
                stream.write_all(wire).await.unwrap();
            }
            None => {
                closed(stream).await;
            }
        }
    });
    let upstream = upstream(|o| o.connect_timeout = if wire.is_some() { HANG } else { SOON });
    let error = send(&upstream, get(&format!("https://{address}/"))).await.err().unwrap();
    origin.await.unwrap();
    assert_eq!(error.address, Some(address));
    error.kind
}

#[tokio::test]
async fn what_is_no_tls_is_told_as_such() {
    assert_eq!(garbage(Some(b"HTTP/1.1 400 Bad Request\r\n\r\n")).await, ProxyError::TlsProtocolError);
    assert_eq!(garbage(Some(b"")).await, ProxyError::TlsProtocolError);
    // Alert, fatal, handshake_failure.
    assert_eq!(garbage(Some(b"\x15\x03\x03\x00\x02\x02\x28")).await, ProxyError::TlsAlertReceived);
    assert_eq!(garbage(None).await, ProxyError::ConnectionTimeout);
}
